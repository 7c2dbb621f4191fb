"""Every chapter keeps the contract; and the contract notices when one does not."""

import re
from pathlib import Path

import contract
import nbformat
import pytest
import yaml
from tiny_chapter import TRAP, cell_holding, claim_cell, tiny_chapter

ROOT = Path(__file__).resolve().parents[2]
CHAPTERS = sorted((ROOT / "chapters").glob("*.ipynb"))


@pytest.mark.parametrize("rule", contract.RULES, ids=lambda rule: rule.__name__)
@pytest.mark.parametrize("path", CHAPTERS, ids=lambda path: path.stem)
def test_chapter(path, rule):
    notebook = nbformat.read(path, as_version=4)
    faults = list(rule(notebook))
    assert not faults, "\n".join([path.name, *faults])


def test_every_chapter_and_page_is_listed_and_every_listed_file_exists():
    toc = yaml.safe_load((ROOT / "_toc.yml").read_text())
    listed = {entry["file"] for part in toc["parts"] for entry in part["chapters"]}
    there = {path.relative_to(ROOT).with_suffix("").as_posix() for path in [*CHAPTERS, *(ROOT / "pages").glob("*.md")]}
    assert CHAPTERS, "chapters/ holds no notebook"
    assert listed == there


def test_labels_of_exercises_are_unique_in_the_book():
    notebooks = [nbformat.read(path, as_version=4) for path in CHAPTERS]
    labels = [line for n in notebooks for line in contract.markdown(n).splitlines() if line.startswith(":label:")]
    assert len(set(labels)) == len(labels)


@pytest.mark.parametrize("path", CHAPTERS, ids=lambda path: path.stem)
def test_its_further_reading_is_in_the_bibliography(path):
    bibliography = (ROOT / "pages" / "references.bib").read_text()
    reading = contract.markdown(nbformat.read(path, as_version=4)).partition("## 14. Further reading")[2]
    links = re.findall(r"\]\(https?://(?:doi\.org/)?([^)\s]+)\)", reading)
    assert [link for link in links if link not in bibliography] == []


@pytest.mark.parametrize("rule", contract.RULES, ids=lambda rule: rule.__name__)
def test_a_good_chapter_passes(rule):
    assert not list(rule(tiny_chapter()))


def edit(before, after):
    def broken(notebook):
        cell = cell_holding(notebook, before)
        cell.source = cell.source.replace(before, after)

    return broken


def metadata(text, **changes):
    return lambda notebook: cell_holding(notebook, text).metadata.update(changes)


FAULTS = {
    "no prompt": (contract.front, edit(":class: prompt", "")),
    "no section 7": (contract.sections, edit("## 7. Monitor", "## 7. Observe")),
    "sections swapped": (contract.sections, lambda n: n.cells.insert(1, n.cells.pop(2))),
    "old format": (contract.notebook_format, lambda n: n.update(nbformat_minor=4)),
    "an execution count": (contract.stripped, lambda n: n.cells[-1].update(execution_count=3)),
    "a cell of 31 lines": (contract.cell_sizes, edit("colophon()", "colophon()\n" * 31)),
    "a line of 101 characters": (contract.cell_sizes, edit("colophon()", "colophon()" + "#" * 91)),
    "too few words": (contract.words, lambda n: n.update(cells=n.cells[:5])),
    "a magic": (contract.plain_code, edit("colophon()", "%time colophon()")),
    "warnings silenced": (contract.plain_code, edit("import pandas as pd", 'import warnings\nwarnings.filterwarnings("ignore")')),
    "five claims": (contract.evidence, edit(claim_cell(3), "pass")),
    "no colophon": (contract.evidence, edit("colophon()", "pass")),
    "one trap": (contract.boxes, edit(f"{TRAP}\n\n{TRAP}", TRAP)),
    "an exercise without solution": (contract.exercises, edit(":::{solution} tiny-ex2", ":::{solution} tiny-ex3")),
    "a figure without alternative text": (contract.figures, metadata("plt.show", mystnb={})),
    "no cover": (contract.figures, metadata("plt.show", tags=[])),
    "a role": (contract.directives, edit("Design something", "As in {cite}`he2014`, design something")),
    "a foreign directive": (contract.directives, edit(":::{exercise}", ":::{grid} 2\n:::\n:::{exercise}")),
    "a directive left open": (contract.directives, edit("It looks like success.\n:::", "It looks like success.")),
    "a typed percentage": (contract.typed_results, edit("## 5. Evaluate\n\n", "## 5. Evaluate\n\nRecall rose by 12%. ")),
    "a typed decimal": (contract.typed_results, edit("## 9. The whiteboard\n\n", "## 9. The whiteboard\n\nNDCG is 0.41 now.\n\n")),
}


@pytest.mark.parametrize("fault", FAULTS)
def test_a_broken_chapter_is_noticed(fault):
    rule, break_it = FAULTS[fault]
    notebook = tiny_chapter()
    break_it(notebook)
    assert list(rule(notebook))


def test_a_number_with_its_source_is_no_typed_result():
    notebook = tiny_chapter()
    edit("## 5. Evaluate\n\n", "## 5. Evaluate\n\nThey report 3.4% in [the paper](https://doi.org/10.1145/2648584).\n\n")(notebook)
    assert not list(contract.typed_results(notebook))
