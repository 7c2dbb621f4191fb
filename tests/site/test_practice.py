"""The mock interview and the question bank say what the chapters say, and lead to where it stands. Needs `make book`."""

import json
from types import SimpleNamespace

import nbformat
import pytest
from bs4 import BeautifulSoup
from nbformat.v4 import new_code_cell, new_markdown_cell, new_notebook, new_output
from sphinx.errors import SphinxError
from tiny_chapter import tiny_chapter

from press import ROOT, practice
from press.records import MIME

SITE = ROOT / "_build" / "html"
SECTIONS = """## 1. Clarify

> **You:** What is it for?
>
> **Interviewer:** For people
> who return.
>
> **You:** How late are the *labels*?
>
> **Interviewer:** A week.

| requirement | value |
|---|---|
| latency | 200 ms |

## 10. How it is graded

| level | does |
|---|---|
| mid | asks why; splits in time |
| staff | says what would flip it |

The usual failures: no baseline.

## 11. Follow-ups

**"Why not a bigger model?"** *(senior, model)* It gained $x^2$ nothing,
in [a lab](labs/x.ipynb).

**Is it fair?** Say who bears which error.

**Not a question of its own**

## 12. Exercises

:::{exercise}
:label: x-one
What is it?
:::

:::{solution} x-one
:class: dropdown
A product.
:::
"""


@pytest.fixture(scope="module")
def notebook():
    return new_notebook(cells=[new_markdown_cell("# X\n\n" + SECTIONS)])


def test_the_interviewer_knows_the_dialogue_and_the_table(notebook):
    assert practice.dialogue(notebook) == [("What is it for?", "For people who return."), ("How late are the labels?", "A week.")]
    assert practice.requirements(notebook) == ["latency: 200 ms"]


def test_follow_ups_have_a_question_an_answer_a_level_and_a_step(notebook):
    first, second = practice.follow_ups(notebook)
    assert (first.question, first.level, first.step) == ("Why not a bigger model?", "senior", "model")
    assert practice.to_html(first.answer) == '<p>It gained <span class="math inline">\\(x^2\\)</span> nothing,\nin a lab.</p>'
    assert (second.question, second.level, second.step) == ("Is it fair?", "", "")


def test_exercises_come_with_their_solutions_and_signals_one_by_one(notebook):
    assert list(practice.exercises(notebook)) == [("x-one", "What is it?", "A product.")]
    assert practice.signals(notebook) == [("mid", "", "asks why"), ("mid", "", "splits in time"), ("staff", "", "says what would flip it")]
    assert practice.failures(notebook) == "no baseline."


def test_a_change_says_on_which_side_the_decision_flips():
    points = [dict(at=2.0, then="small", above=False), dict(at=8.0, then="large", above=True)]
    options = dict(index=["small_one", "large"], columns={"net_reads": [[1.0, 0.5, 1.5], 2.0], "a word": ["x", "y"]})
    sweep = [
        dict(value=v, chosen=c, options=options)
        for v, c in ((0.0, "small"), (1.0, "small"), (2.0, "small"), (5.0, "middle"), (8.0, "large"), (9.0, "large"))
    ]
    flip = dict(what="traffic_a_day,", now=5.0, unit="visits", points=points)
    card = dict(kind="decision", question="Which?", chosen="middle", rule="the least cost", flip=flip, sweep=sweep)
    cell = new_code_cell(outputs=[new_output("display_data", {MIME: card})])
    below, above = practice.changes(new_notebook(cells=[cell]), SimpleNamespace(url="", of=lambda title: title))
    assert (below["side"], below["new"], below["after"]) == ("below", "1 visits", "small")
    assert (above["side"], above["new"], above["after"]) == ("above", "9 visits", "large")
    assert (above["kind"], above["what"]) == ("requirement", "Traffic a day")
    assert above["table"] == dict(columns=["net reads", "a word"], rows=[["small one", "1.00 [0.50, 1.50]", "x"], ["large", "2", "y"]])


def test_an_interview_changes_a_requirement_and_a_result_only_where_it_has_none():
    requirement, result = dict(kind="requirement"), dict(kind="result")
    assert practice.of_interview([result, requirement]) == [requirement]
    assert practice.of_interview([result]) == [result]


def claiming(sentence):
    record = dict(kind="claim", sentence=sentence, value=0.3, low=0.2, high=0.4, unit="")
    return new_code_cell(outputs=[new_output("display_data", {MIME: record})])


def test_a_prediction_is_answered_by_what_is_said_next_and_by_no_claim_of_another_section():
    box = ":::{admonition} Predict\n:class: predict attention\nIs six days enough to see it in clicks?\n:::"
    printed = new_code_cell(outputs=[new_output("display_data", {"text/markdown": "This test sees a lift of 39%."})])
    says, elsewhere = new_markdown_cell("No. Size a test first."), claiming("An index is as large as its formula says")
    places = SimpleNamespace(url="", of=lambda title: title)

    def answer(*cells):
        page = new_notebook(cells=[new_markdown_cell(f"# X\n\n## Online\n\n{box}"), *cells])
        return next(practice.questions("x", page, places, ""))["answer"]

    found = answer(printed, says, new_markdown_cell("## Serve"), elsewhere)
    assert "39%" in found and "Size a test first" in found and "index" not in found
    assert "index" in answer(printed, says, elsewhere), "the section goes on"
    assert "index" in answer(new_markdown_cell("## What happens?"), elsewhere), "a box ends its section"
    assert "see clicks" in answer(printed, says, new_markdown_cell("## Later"), claiming("In six days enough is there to see clicks"))


def test_a_numbered_heading_is_a_step_by_its_name():
    assert practice.step_of("3. Data", "frame") == "data" and practice.step_of("The split", "data") == "data"
    assert practice.step_of("5. Monitors with a reason each", "data") == "" == practice.step_of("8. Trade-offs", "monitor")


def test_a_signal_leads_to_the_section_that_measures_it():
    passages = [
        ("", "Tiny", "all of it: queue"),
        ("model", "4. Model", "a network learns"),
        ("order", "In which order?", "a queue by harm"),
    ]
    passages += [("whiteboard", "9. The whiteboard", "harm orders the queue, the queue")]
    places = practice.Places(passages, "../x.html")
    assert places.of(places.about("orders the queue by harm")) == "../x.html#order"
    assert places.about("says nothing that is there") == practice.RUBRIC


def test_a_rubric_by_step_gives_a_signal_a_cell():
    table = "## 10. How it is graded\n\n| step | mid | senior | staff |\n|---|---|---|---|\n| data | splits | gap | asks who wrote it |\n"
    found = practice.signals(new_notebook(cells=[new_markdown_cell(table)]))
    assert found == [("mid", "data", "splits"), ("senior", "data", "gap"), ("staff", "data", "asks who wrote it")]


def test_a_chapter_without_a_dialogue_stops_the_build():
    with pytest.raises(SphinxError, match="chapters/tiny.ipynb: expected a dialogue in section 1 for the mock interview, found none"):
        practice.case("tiny", tiny_chapter(), SimpleNamespace(url="", of=lambda title: ""))


def test_a_book_without_a_clock_stops_the_build(tmp_path):
    with pytest.raises(SphinxError, match="expected a cell with the clock"):
        practice.minutes_of_steps(tmp_path)


@pytest.fixture(scope="module")
def data():
    text = (SITE / "_static" / "practice.js").read_text()
    return json.loads(text.removeprefix("window.PRACTICE = ").rstrip(";\n"))


def test_every_chapter_can_be_played(data):
    chapters = {path.stem for path in (ROOT / "chapters").glob("*.ipynb")}
    assert {case["name"] for case in data["cases"]} == chapters
    for case in data["cases"]:
        assert case["prompt"] and len(case["talk"]) >= 3 and len(case["pinned"]) >= 3, case["name"]
        assert case["changes"] and len({change["kind"] for change in case["changes"]}) == 1, case["name"]
        assert [c["what"] for c in case["changes"] if "_" in json.dumps({**c, "url": ""}) or c["what"][-1] in ",:"] == []
        assert [c["what"] for c in case["changes"] if (c["table"] is None) != (c["kind"] == "result")] == []
        assert len(case["followups"]) >= 8, case["name"]
        assert {signal["level"] for signal in case["signals"]} == set(practice.LEVELS), case["name"]
    assert sum(minutes for _, minutes in data["minutes"]) == 45


def links(data):
    for case in data["cases"]:
        yield from [case["url"], case["rubric"], case["sheet"], *case["steps"].values()]
        yield from (entry["url"] for entry in [*case["changes"], *case["followups"], *case["signals"]])
    yield from (entry["url"] for entry in data["bank"])


def lost(urls):
    """Links that lead to no page, or to no place in it."""
    ids: dict[str, set] = {}
    for url in sorted(set(urls)):
        page, _, anchor = url.removeprefix("../").partition("#")
        if not (SITE / page).exists():
            yield url
            continue
        if page not in ids:
            ids[page] = {element["id"] for element in BeautifulSoup((SITE / page).read_text(), "html.parser").select("[id]")}
        if anchor and anchor not in ids[page]:
            yield url


def test_every_link_leads_to_a_place_that_exists(data):
    assert list(lost(links(data))) == []
    assert list(lost(["../chapters/framework.html#nowhere", "../chapters/none.html"])) == [
        "../chapters/framework.html#nowhere",
        "../chapters/none.html",
    ]


def test_the_bank_has_every_follow_up_exercise_and_prediction(data):
    kinds = [entry["kind"] for entry in data["bank"]]
    pages = sorted((ROOT / "chapters").rglob("*.ipynb"))
    texts = [practice.markdown(nbformat.read(path, 4)) for path in pages]
    assert kinds.count("exercise") == sum(text.count("{exercise}") for text in texts)
    assert kinds.count("predict") == sum(text.count(":class: predict") for text in texts)
    assert kinds.count("lab") == sum("labs" in path.parts for path in pages)
    assert all(entry["question"] and entry["answer"] for entry in data["bank"])
    raw = [e["question"][:80] for e in data["bank"] for part in (":::", "{math}", "```") if part in e["question"] + e["answer"]]
    assert raw == []
