"""Every chapter keeps the contract; and the contract notices when one does not."""

import re

import pytest
import yaml
from nbformat.v4 import new_code_cell, new_markdown_cell
from tiny_chapter import TRAP, cell_holding, claim_cell, tiny_chapter, tiny_lab

from press import ROOT, contract, name_of, pages
from press.falsify import planned
from press.notebooks import claims, code, read

CHAPTERS = sorted((ROOT / "chapters").glob("*.ipynb"))
LABS = [page for page in pages() if page not in CHAPTERS]


def rules():
    for page in pages():
        for rule in contract.RULES.get(contract.kind_of(read(page)), [contract.kind]):
            yield pytest.param(page, rule, id=f"{name_of(page)}-{rule.__name__}")


@pytest.mark.parametrize(("page", "rule"), list(rules()))
def test_page(page, rule):
    faults = list(rule(read(page)))
    assert not faults, "\n".join([name_of(page), *faults])


@pytest.mark.parametrize("page", pages(), ids=name_of)
def test_every_way_to_break_a_claim_is_found_in_its_page(page):
    notebook = read(page)
    assert planned(claims(notebook), [cell.source for cell in code(notebook)])[1] == []


def test_labs_are_labs_and_chapters_are_none():
    assert [name_of(page) for page in pages() if (contract.kind_of(read(page)) == "lab") != (page in LABS)] == []


def test_a_lab_belongs_to_a_chapter_and_quotes_it():  # not parametrised: no labs would be a skip
    chapters = {path.stem: read(path) for path in CHAPTERS}
    for page in LABS:
        assert any(page.stem.startswith(f"{chapter}_") for chapter in chapters), f"{page.name}: expected NAME_topic, NAME that of a chapter"
    drifted = {page.name: list(contract.quoted(read(page), chapters)) for page in LABS}
    assert {name: found for name, found in drifted.items() if found} == {}


def test_every_chapter_and_page_is_listed_and_every_listed_file_exists():
    toc = yaml.safe_load((ROOT / "_toc.yml").read_text())
    entries = [entry for part in toc["parts"] for chapter in part["chapters"] for entry in (chapter, *chapter.get("sections", []))]
    listed = {entry["file"] for entry in entries}
    there = {path.relative_to(ROOT).with_suffix("").as_posix() for path in [*pages(), *(ROOT / "pages").glob("*.md")]}
    assert CHAPTERS, "chapters/ holds no notebook"
    assert listed == there


def test_labels_of_exercises_are_unique_in_the_book():
    notebooks = map(read, pages())
    labels = [line for n in notebooks for line in contract.markdown(n).splitlines() if line.startswith(":label:")]
    assert len(set(labels)) == len(labels)


@pytest.mark.parametrize("path", CHAPTERS, ids=lambda path: path.stem)
def test_its_further_reading_is_in_the_bibliography(path):
    bibliography = (ROOT / "pages" / "references.bib").read_text()
    reading = contract.markdown(read(path)).partition("## 14. Further reading")[2]
    links = re.findall(r"\]\(https?://(?:doi\.org/)?([^)\s]+)\)", reading)
    assert [link for link in links if link not in bibliography] == []


def production_chapter():
    notebook = tiny_chapter()
    notebook.metadata.mlsd.kind = "production"
    for before, after in {"## 3. Data": "## 3. A store", "## 4. Model": "## 4. Two hosts", "## 5. Evaluate": "## 5. A launch"}.items():
        edit(before, after)(notebook)
    for title in ("## 6. Serve", "## 7. Monitor"):
        cell_holding(notebook, title).source = "And so on."
    return notebook


@pytest.mark.parametrize("make", [tiny_chapter, production_chapter, tiny_lab])
def test_a_good_page_passes(make):
    notebook = make()
    assert [fault for rule in contract.RULES[contract.kind_of(notebook)] for fault in rule(notebook)] == []


def edit(before, after):
    def broken(notebook):
        cell = cell_holding(notebook, before)
        cell.source = cell.source.replace(before, after)

    return broken


def metadata(text, **changes):
    return lambda notebook: cell_holding(notebook, text).metadata.update(changes)


def front_upside_down(notebook):
    front = notebook.cells[0]
    title, rest = front.source.split("\n", 1)
    above, below = rest.split("| to read", 1)
    table, lists = ("| to read" + below).split("\n\n", 1)
    front.source = f"{title}\n\n{table}\n{above}\n\n{lists}"


def move(notebook, text, before):
    cell = cell_holding(notebook, text)
    notebook.cells.remove(cell)
    notebook.cells.insert(notebook.cells.index(cell_holding(notebook, before)) + 1, cell)


SOLVED = ":::{solution} tiny-ex2\n:class: dropdown\nRevenue rises by 3.4%."
FAULTS = {
    "no prompt": (contract.front, edit(":class: prompt", "")),
    "no core question": (contract.front, edit(":class: core-question", ":class: note")),
    "a table of its own": (contract.front, edit("| to read | prerequisites |", "| reading time | you should know |")),
    "minutes in words": (contract.front, edit("| 5 min |", "| an hour |")),
    "two rows": (contract.front, edit("| mid |", "| mid |\n| 5 min | x | a, b, c | mid |")),
    "two techniques": (contract.front, edit("counting apples, log of nothing, a", "counting apples, a")),
    "no level": (contract.front, edit("| mid |", "| |")),
    "nothing to say": (contract.front, edit("**After this chapter you can say**", "After")),
    "two things to say": (contract.front, edit("- what rises with time,\n", "")),
    "the table before the question": (contract.front, front_upside_down),
    "nothing to remember": (contract.front, edit("**What to remember**", "Remember")),
    "remembered in section 10": (contract.front, lambda n: move(n, "**What to remember**", "## 10.")),
    "no section 7": (contract.sections, edit("## 7. Monitor", "## 7. Observe")),
    "sections swapped": (contract.sections, lambda n: n.cells.insert(1, n.cells.pop(2))),
    "old format": (contract.notebook_format, lambda n: n.update(nbformat_minor=4)),
    "an execution count": (contract.stripped, lambda n: n.cells[-1].update(execution_count=3)),
    "no kind": (contract.kind, lambda n: n.metadata.pop("mlsd")),
    "a kind of its own": (contract.kind, lambda n: n.metadata.mlsd.update(kind="essay")),
    "a cell of 31 lines": (contract.bounds, edit("colophon()", "colophon()\n" * 31)),
    "an empty cell": (contract.cells, edit("colophon()", "\n")),
    "a line of 101 characters": (contract.cells, edit("colophon()", "colophon()" + "#" * 91)),
    "cells of nine lines": (contract.bounds, lambda n: [c.update(source=c.source + "\n#" * 8) for c in contract.code(n)]),
    "a fifth of the cells long": (contract.bounds, lambda n: [c.update(source=c.source + "\n#" * 24) for c in contract.code(n)[:5]]),
    "401 lines of code": (contract.bounds, lambda n: n.cells.extend([new_code_cell("x = 1")] * 401)),
    "too few words": (contract.bounds, lambda n: [n.cells.remove(c) for c in n.cells[3:] if c.cell_type == "markdown"]),
    "too many words": (contract.bounds, edit("## 5. Evaluate", "## 5. Evaluate\n\n" + "word " * 2000)),
    "a claim without a key": (contract.bounds, edit('key="more_2", ', "")),
    "a claim without a unit": (contract.bounds, edit('key="more_2", unit="apples"', 'key="more_2"')),
    "a claim that nothing breaks": (contract.bounds, edit(', broken_by=("Estimate(2, 1.5", "Estimate(2, -1")', "")),
    "a unit in words": (contract.bounds, edit("2 is more than zero", "2 is more than zero, in percent")),
    "a metric in brackets": (contract.bounds, edit("2 is more than zero", "2 is more than zero (NDCG@10)")),
    "a number typed in a solution": (contract.bounds, edit(":::{solution} tiny-ex2\n:class: dropdown\nA product.", SOLVED)),
    "two claims of one key": (contract.claims_to_read, edit('key="more_2"', 'key="more_3"')),
    "two decisions of one key": (
        contract.claims_to_read,
        lambda n: n.cells.extend([new_code_cell('decision("Which?", t, r, key="which")')] * 2),
    ),
    "a computed key": (contract.claims_to_read, edit('key="more_2"', "key=name")),
    "a magic": (contract.plain_code, edit("colophon()", "%time colophon()")),
    "warnings silenced": (contract.plain_code, edit("import pandas as pd", 'import warnings\nwarnings.filterwarnings("ignore")')),
    "five claims": (contract.evidence, edit(claim_cell(3), "pass")),
    "no colophon": (contract.closing, edit("colophon()", "pass")),
    "one trap": (contract.boxes, edit(f"{TRAP}\n\n{TRAP}", TRAP)),
    "an exercise without solution": (contract.exercises, edit(":::{solution} tiny-ex2", ":::{solution} tiny-ex3")),
    "a figure without alternative text": (contract.figures, metadata("plt.show", mystnb={})),
    "no cover": (contract.figures, metadata("plt.show", tags=["hide-input"])),
    "a claim's code in sight": (contract.folded, metadata(claim_cell(1), tags=[])),
    "folded on the site alone": (contract.folded, metadata(claim_cell(1), jupyter={})),
    "the design folded": (contract.folded, edit(claim_cell(1), "def features(rows): ...")),
    "no word on how to run it": (contract.how_to_run, edit("To run it", "To see it")),
    "a box as all others in JupyterLab": (contract.look, edit(":class: predict attention", ":class: predict")),
    "a role": (contract.directives, edit("Design something", "As in {cite}`he2014`, design something")),
    "a foreign directive": (contract.directives, edit(":::{exercise}", ":::{grid} 2\n:::\n:::{exercise}")),
    "a directive left open": (contract.directives, edit("It looks like success.\n:::", "It looks like success.")),
    "a typed percentage": (contract.typed_results, edit("## 5. Evaluate\n\n", "## 5. Evaluate\n\nRecall rose by 12%. ")),
    "a typed decimal": (contract.typed_results, edit("## 9. The whiteboard\n\n", "## 9. The whiteboard\n\nNDCG is 0.41 now.\n\n")),
}


IN_PRODUCTION = {
    "no section of its own": (contract.production_sections, lambda n: [edit(f"## {t}", "And")(n) for t in ("3. A", "4. T", "5. A")]),
    "a number left out": (contract.production_sections, edit("## 4. Two hosts", "## 6. Two hosts")),
    "a heading without a number": (contract.production_sections, edit("## 4. Two hosts", "## Two hosts")),
    "no exercises": (contract.production_sections, edit("## 12. Exercises", "## 12. Questions")),
}
IN_A_LAB = {
    "no question": (contract.lab_front, edit(":class: core-question", ":class: note")),
    "no way back": (contract.lab_front, edit("(../tiny.ipynb)", "(tiny)")),
    "no discussion": (contract.lab_sections, edit("## Discuss", "## Further")),
    "a change before the prediction": (contract.lab_sections, lambda n: n.cells.insert(1, new_markdown_cell("## Change"))),
    "151 lines": (contract.bounds, lambda n: n.cells.extend([new_code_cell("x = 1")] * 151)),
    "no claim": (contract.lab_evidence, edit(claim_cell(1), "pass")),
    "no colophon": (contract.closing, edit("colophon()", "pass")),
}


@pytest.mark.parametrize(
    ("make", "rule", "break_it"),
    [
        pytest.param(make, *fault, id=f"{make.__name__}-{name}")
        for make, faults in ((tiny_chapter, FAULTS), (production_chapter, IN_PRODUCTION), (tiny_lab, IN_A_LAB))
        for name, fault in faults.items()
    ],
)
def test_a_broken_page_is_noticed(make, rule, break_it):
    notebook = make()
    assert not list(rule(notebook))
    break_it(notebook)
    assert list(rule(notebook))


def test_a_quoted_cell_is_the_cell_of_its_chapter():
    chapters = {"tiny": tiny_chapter()}
    assert list(contract.quoted(tiny_lab(), chapters)) == []
    drifted, lost = tiny_lab(), tiny_lab()
    edit("import pandas as pd", "import pandas")(drifted)
    cell_holding(lost, claim_cell(1)).metadata.mlsd = {"from": "huge"}
    assert "no longer a cell of tiny" in list(contract.quoted(drifted, chapters))[0]
    assert "quoted from 'huge', which is no chapter" in list(contract.quoted(lost, chapters))[0]


def test_a_number_with_its_source_is_no_typed_result():
    notebook = tiny_chapter()
    edit("## 5. Evaluate\n\n", "## 5. Evaluate\n\nThey report 3.4% in [the paper](https://doi.org/10.1145/2648584).\n\n")(notebook)
    assert not list(contract.typed_results(notebook))
