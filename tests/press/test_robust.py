"""Claims and decisions over seeds: by key, and what breaks the rule."""

import pytest
from stub_pages import write_page

from press import robust


def claim(key, held):
    return dict(kind="claim", key=key, sentence=key, value=1.0, low=0.0, high=2.0, held=held)


def card(chosen, open_because=""):
    return dict(kind="decision", key="which", question="Which?", chosen=chosen, open=open_because)


def entry(**by_seed):
    return robust.entry_of({int(seed.strip("s")): (records, None) for seed, records in by_seed.items()})


GOOD = [claim(f"c{i}", True) for i in range(20)]


def test_claims_are_matched_by_key_and_not_by_place():
    found = entry(s7=[claim("a", True), claim("b", False)], s1=[claim("b", True), claim("a", False)])
    assert {row["key"]: row["held"] for row in found["claims"]} == {"a": {"7": True, "1": False}, "b": {"7": False, "1": True}}


def test_a_claim_that_a_run_did_not_reach_did_not_hold():
    found = robust.entry_of({7: ([claim("a", True)], None), 1: ([], "ZeroDivisionError: 1 / 0")})
    assert found["claims"][0]["held"] == {"7": True, "1": False}
    assert robust.faults(found, {})[0] == "seed 1: ZeroDivisionError: 1 / 0"


def test_one_failure_in_twenty_is_allowed_and_two_of_one_claim_are_not():
    once = entry(s7=GOOD, s1=[claim("c0", False), *GOOD[1:]])
    assert robust.faults(once, {}) == []
    twice = entry(s7=GOOD, s1=[claim("c0", False), *GOOD[1:]], s2=[claim("c0", False), *GOOD[1:]])
    assert robust.faults(twice, {}) == ["c0: fails on seeds 1, 2"]


def test_too_many_failures_are_a_fault_wherever_they_are():
    found = entry(s7=GOOD, s1=[*[claim(f"c{i}", False) for i in range(3)], *GOOD[3:]])
    assert robust.faults(found, {}) == ["only 37 of 40 claims x seeds hold"]


@pytest.mark.parametrize(
    ("choices", "open_because", "n_faults"), [("aaaaa", "", 0), ("aaaab", "", 0), ("aaabb", "", 1), ("abbbb", "too close", 0)]
)
def test_a_decision_chooses_the_same_or_says_that_it_is_open(choices, open_because, n_faults):
    runs = {seed: ([card(choice, open_because)], None) for seed, choice in zip(robust.SEEDS, choices, strict=True)}
    found = robust.entry_of(runs)
    published = robust.published_cards(found)
    assert published == {"which": dict(chosen="a", open=open_because)}
    assert len(robust.faults(found, published)) == n_faults


def test_on_drawn_seeds_a_decision_is_held_against_the_published_choice():
    found = entry(s311=[card("b")], s312=[card("b")])
    assert robust.faults(found, {"which": dict(chosen="a", open="too close")}) == []
    assert robust.faults(found, {"which": dict(chosen="a", open="")}) == [
        "which: published a, but b on seed 311, b on seed 312; the card does not say open"
    ]
    assert robust.faults(found, {}) == []


def test_seeds_are_a_list_or_drawn():
    assert robust.seeds_asked("") == robust.SEEDS
    assert robust.seeds_asked("11,12, 13") == (11, 12, 13)
    first, second = robust.seeds_asked("fresh:3"), robust.seeds_asked("fresh:3")
    assert len(set(first)) == 3 and first != second and not set(first) & set(robust.SEEDS)


@pytest.mark.parametrize("text", ["fresh", "fresh:", "fresh:0", "1;2", "-1", "a"])
def test_other_seeds_are_refused(text):
    with pytest.raises(SystemExit, match="SEEDS: expected"):
        robust.seeds_asked(text)


def test_a_page_is_run_on_each_seed(tmp_path):
    page = write_page(tmp_path, 'claim("a", seed, 5, key="a")', 'decision("?", "odd" if seed % 2 else "even", key="d")')
    ((_, found),) = robust.measure([page], seeds=(7, 2), workers=2, known={})
    assert found["claims"][0]["held"] == {"7": True, "2": False}
    assert found["decisions"][0]["chosen"] == {"7": "odd", "2": "even"}
    assert found["errors"] == {}


def test_the_run_of_the_book_counts_and_is_not_repeated(tmp_path):
    page = write_page(tmp_path, 'claim("a", seed, 5, key="a")')
    of_the_book = [claim("a", True)]
    ((_, found),) = robust.measure([page], seeds=(7, 8), workers=1, known={(page, 7): of_the_book})
    assert found["claims"][0]["measured"] == {"7": "1 [0, 2]", "8": "8 [8, 8]"}
