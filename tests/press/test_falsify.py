"""Claims are broken on purpose, and what does not break, or cannot be tried, is found."""

import json

import pytest
from stub_pages import STUB, write_page

from press import falsify, notebooks
from press.kernels import Kernel

CELLS = [
    "data = [1, 2, 3]",
    "total = sum(data)",
    'claim("The total is large", total, 6, key="total", broken_by=("sum(data)", "min(data)"))',
    'claim("The best is large", max(data), 3, key="best", broken_by=("total = sum", "total = max"))',
    'claim("It is near", 0 if off == "near" else 1, 1, key="near", rests_on=["near", "never"])',
    "counts = counts + 1 if 'counts' in globals() else 1\nfactor = 2",
    'claim("It counts", factor * counts, 2, key="counts", broken_by=("factor = 2", "factor = 0"))',
    "ratio = 1 / len(data)",
    'claim("It is reached", ratio, 0, key="reached", broken_by=("1 / len(data)", "1 / 0"))',
    "1 / 0  # behind the last claim: never run",
]


@pytest.fixture(scope="module")
def tried(tmp_path_factory):
    """What falsify finds in a page with every kind of claim, on one seed."""
    page = write_page(tmp_path_factory.mktemp("book"), *CELLS)
    ((_, entry),) = falsify.measure([page], seeds=(7,), workers=2)
    return entry


def row(entry, key):
    return next(row for row in entry["claims"] if row["key"] == key)


def test_a_claim_goes_red_when_its_code_is_broken(tried):
    assert row(tried, "total")["falsified"]
    (way,) = row(tried, "total")["ways"]
    assert way == dict(way="'sum(data)' → 'min(data)'", red={"7": True}, shown={"7": "1 [1, 1], claimed at least 6"})


def test_a_claim_that_stays_green_proves_nothing(tried):
    assert not row(tried, "best")["falsified"]
    assert any(fault.startswith("best: not falsified 'total = sum' → 'total = max'") for fault in tried["faults"])


def test_every_way_must_turn_it_red(tried):
    assert [way["red"] for way in row(tried, "near")["ways"]] == [{"7": True}, {"7": False}]
    assert not row(tried, "near")["falsified"]
    assert any(fault.startswith("near: not falsified without never") for fault in tried["faults"])


def test_cells_that_cannot_be_run_twice_are_named_and_their_claim_is_tried_afresh(tried):
    (fault,) = [fault for fault in tried["faults"] if "twice" in fault]
    assert fault.startswith("code cells 7 to 8 cannot be run twice (seed 7): counts was 2 [2, 2]")
    assert row(tried, "counts")["falsified"]
    assert row(tried, "counts")["ways"][0]["shown"]["7"].startswith("0 [0, 0]")


def test_a_claim_that_is_not_reached_is_not_red(tried):
    assert not row(tried, "reached")["falsified"]
    assert "not reached: ZeroDivisionError" in row(tried, "reached")["ways"][0]["shown"]["7"]


def test_nothing_behind_the_last_claim_is_run(tried):
    assert not any("the page itself" in way for row in tried["claims"] for w in row["ways"] for way in w["shown"].values())


def claims_of(tmp_path, *cells):
    notebook = notebooks.read(write_page(tmp_path, *cells))
    return falsify.planned(notebooks.claims(notebook), [cell.source for cell in notebooks.code(notebook)])


def test_what_cannot_be_tried_is_a_fault(tmp_path):
    _, faults = claims_of(
        tmp_path,
        'claim("a", 1, 1, key="a")',
        'claim("b", 1, 1, key="b", broken_by=("nowhere", ""))',
        'claim("c", 1, 1, key="c", broken_by=("later = 1", ""))',
        "later = 1",
        'claim("d", 1, 1, key="d", broken_by=("import", ""))',
    )
    assert faults[0] == "a: names no way to break it; give it rests_on or broken_by"
    assert faults[1] == "b: expected 'nowhere' once in the code, found it 0 times"
    assert faults[2] == "c: 'later = 1' stands in code cell 5, after the claim in 4"
    assert faults[3] == f"d: expected 'import' once in the code, found it {STUB.count('import')} times"


def test_a_replacement_for_two_claims_is_tried_once(tmp_path):
    same = 'broken_by=("x = 1", "x = 0")'
    (planned,), faults = claims_of(tmp_path, "x = 1", f'claim("a", x, 1, key="a", {same})', f'claim("b", x, 1, key="b", {same})')
    assert (planned.cell, planned.last, planned.keys) == (1, 3, ("a", "b")) and not faults


def outcome(seed, red):
    return falsify.Outcome("a", "without e", seed, red, "")


@pytest.mark.parametrize(("reds", "falsified"), [("RRR", True), ("RR.", True), ("R..", False), ("...", False)])
def test_red_on_two_seeds_of_three_or_it_has_not_been_falsified(reds, falsified):
    claim = notebooks.Claim("a", "A", 0, "%", ("e",), None, True)
    tries = [outcome(seed, red == "R") for seed, red in zip((7, 1, 2), reds, strict=True)]
    entry = falsify.entry_of([claim], tries, (7, 1, 2), [])
    assert entry["claims"][0]["falsified"] == falsified
    assert bool(entry["faults"]) != falsified


def test_red_that_was_red_before_does_not_count(tmp_path):
    page = write_page(tmp_path, "x = 1", 'claim("a", x, 5, key="a", broken_by=("x = 1", "x = 0"))')
    ((_, entry),) = falsify.measure([page], seeds=(7,), workers=1)
    assert "fails as it stands on this seed" in entry["claims"][0]["ways"][0]["shown"]["7"]
    assert not entry["claims"][0]["falsified"]


def test_an_entry_can_be_written(tried):
    json.dumps(tried)


def test_a_kernel_has_the_variables_it_is_given_and_returns_the_records_alone(tmp_path):
    with Kernel(write_page(tmp_path), MLSD_SEED="5") as kernel:
        kernel.run(STUB)
        (record,) = kernel.run('print("x" * 1000)\nshow(dict(kind="claim", key=f"seed {seed}"))')
    assert record == dict(kind="claim", key="seed 5")


def test_the_third_seed_is_tried_only_for_what_two_leave_open(tmp_path):
    page = write_page(
        tmp_path,
        "x, y = 5, 5",
        'claim("a", x, 5, key="a", broken_by=("x, y = 5, 5", "x, y = 0, 5"))',
        'claim("b", y, 5, key="b", broken_by=("y = 5, 5", "y = 5, 5 * (seed == 1)"))',
    )
    ((_, entry),) = falsify.measure([page], seeds=(7, 1, 2), workers=2)
    assert row(entry, "a")["ways"][0]["red"] == {"7": True, "1": True}
    assert row(entry, "b")["ways"][0]["red"] == {"7": True, "1": False, "2": True}
    assert row(entry, "b")["falsified"] and not entry["faults"]
