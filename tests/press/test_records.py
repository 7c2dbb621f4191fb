"""Records, reports, and the comparison of two executions."""

import json
import re

import nbformat
import pytest
from nbformat.v4 import new_code_cell, new_notebook, new_output

import mlsd.claims
from press import again, cache
from press.depends import fingerprint
from press.records import CLOCK, MIME, disagreements, key_of, read_report, update_report

CLAIM = dict(kind="claim", key="so", sentence="It is so", unit="%", value=0.3, low=0.1, high=0.5, held=True)
CARD = dict(kind="decision", key="which", question="Which?", chosen="this")


def executed(*records, tags=()):
    tagged = dict(tags=list(tags)) if tags else {}
    cells = [new_code_cell("x", metadata=tagged, outputs=[new_output("display_data", {MIME: r})]) for r in records]
    return new_notebook(cells=cells)


def test_the_type_of_the_records_is_that_of_the_claims():
    assert MIME == mlsd.claims.MIME


def test_a_record_is_known_by_its_key_or_by_what_it_says():
    assert [key_of(r) for r in (CLAIM, CARD, dict(sentence="It is so"), dict(question="Which?"))] == ["so", "which", "It is so", "Which?"]


def test_two_executions_that_agree():
    assert list(disagreements(executed(CLAIM, CARD), executed(dict(CLAIM, value=0.3 + 1e-15), CARD))) == []


@pytest.mark.parametrize(
    ("second", "said"),
    [
        ([dict(CLAIM, value=0.31), CARD], "so: 0.3 .* then 0.31"),
        ([dict(CLAIM, low=0.11), CARD], "so: 0.3"),
        ([dict(CLAIM, held=False), CARD], "so: held True, then False"),
        ([CLAIM, dict(CARD, chosen="that")], "which: chose 'this', then 'that'"),
        ([CLAIM], "decisions: first"),
    ],
)
def test_what_differs_is_named(second, said):
    (found,) = disagreements(executed(CLAIM, CARD), executed(*second))
    assert re.match(said, found)


@pytest.mark.parametrize(("unit", "tags"), [("ms", ()), ("MB", ()), ("%", (CLOCK,))])
def test_a_number_by_the_clock_may_differ_but_must_hold(unit, tags):
    first = executed(dict(CLAIM, unit=unit), tags=tags)
    assert list(disagreements(first, executed(dict(CLAIM, unit=unit, value=0.4), tags=tags))) == []
    assert list(disagreements(first, executed(dict(CLAIM, unit=unit, held=False), tags=tags)))


def test_the_second_execution_is_compared_with_the_cache(tmp_path):
    (tmp_path / "chapters").mkdir()
    (tmp_path / "requirements.txt").touch()
    page = tmp_path / "chapters" / "tiny.ipynb"
    nbformat.write(new_notebook(cells=[new_code_cell("x")]), page)
    (found,) = again.differences(tmp_path)
    assert "found none" in found
    (tmp_path / ".again").mkdir()
    nbformat.write(executed(CLAIM), tmp_path / ".again" / "tiny.ipynb")
    (found,) = again.differences(tmp_path)
    assert "found one" in found
    cache.store(page, executed(CLAIM), 1.0, fingerprint(page, tmp_path), cache.open_cache(tmp_path))
    assert list(again.differences(tmp_path)) == []
    nbformat.write(executed(dict(CLAIM, value=0.4)), tmp_path / ".again" / "tiny.ipynb")
    (found,) = again.differences(tmp_path)
    assert found.startswith("tiny: so: 0.3")


def test_each_commit_has_its_share_of_the_pages_and_all_have_their_turn(tmp_path, monkeypatch):
    assert again.turn_of(tmp_path) == 0, "not a repository"
    assert again.turn_of() == again.turn_of()
    names = [f"{name}.ipynb" for name in "abcdefgh"]
    (tmp_path / "chapters" / "labs").mkdir(parents=True)
    for name in names:
        nbformat.write(new_notebook(), tmp_path / "chapters" / "labs" / name)
    seen = []
    for turn in range(100, 103):
        monkeypatch.setattr(again, "turn_of", lambda root, turn=turn: turn)
        copies = again.copy(3, tmp_path)
        assert sorted((tmp_path / ".again").rglob("*.ipynb")) == copies, "what another commit left is gone"
        seen += [path.name for path in copies]
    assert sorted(seen) == names
    assert len(again.copy(1, tmp_path)) == len(names)


def test_a_report_keeps_what_others_measured_and_forgets_pages_that_are_gone(tmp_path):
    assert read_report(tmp_path, "robust") == {}
    update_report(tmp_path, "robust", {"b": {"x": 1}, "gone": {}}, keep=["a", "b", "gone"])
    update_report(tmp_path, "robust", {"a": {"x": 2}}, keep=["a", "b"])
    assert read_report(tmp_path, "robust") == {"a": {"x": 2}, "b": {"x": 1}}
    assert list(json.loads((tmp_path / "reports" / "robust.json").read_text())) == ["a", "b"]
