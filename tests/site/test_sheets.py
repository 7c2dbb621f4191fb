"""Each chapter has a cheat sheet that says what the chapter says. Needs `make book`."""

import re

import pytest
from bs4 import BeautifulSoup

from press import ROOT, cache, sheets
from press.records import records

SITE = ROOT / "_build" / "html"
CHAPTERS = sorted((ROOT / "chapters").glob("*.ipynb"))


def plain(element) -> str:
    return " ".join(element.get_text(" ").split())


def faults(text: str, notebook):
    """What a sheet lacks of its chapter."""
    sheet = BeautifulSoup(text, "html.parser").select_one(".sheet")
    if not sheet or not plain(sheet.select_one(".sheet-prompt")):
        yield "no prompt"
        return
    if not sheet.select("svg.drawn-diagram"):
        yield "the whiteboard is not drawn"
    words = plain(sheet)
    if not sheets.own_table(notebook):
        yield from (f"no claim {c['key']}" for c in records(notebook, "claim") if " ".join(c["sentence"].split()) not in words)
    for card in records(notebook, "decision"):
        yield from (f"not of {card['key']}: {part}" for part in (card["question"], card["chosen"], card["gives_up"]) if part not in words)
    if len(sheet.select(".sheet-how-it-is-graded tr")) < 4:
        yield "no rubric by level"
    if raw := re.search(r":::|```|\{\w+\}`|\*\*|\$[A-Za-z\\]", words):
        yield f"raw markup: {raw[0]}"
    if sheet.select_one(".sheet-by-the-clock, .sheet-key-numbers") is None:
        yield "no numbers"


@pytest.fixture(scope="module")
def executed():
    opened = cache.open_cache(ROOT)
    return {path.stem: cache.executed(path, opened) for path in CHAPTERS}


@pytest.mark.parametrize("name", [path.stem for path in CHAPTERS])
def test_a_sheet_says_what_its_chapter_says(executed, name):
    assert list(faults((SITE / "sheets" / f"{name}.html").read_text(), executed[name])) == []


@pytest.mark.parametrize("name", [path.stem for path in CHAPTERS])
def test_chapter_and_list_lead_to_it(name):
    assert f"../sheets/{name}.html" in (SITE / "chapters" / f"{name}.html").read_text()
    assert f"../sheets/{name}.html" in (SITE / "pages" / "cheat_sheets.html").read_text()


@pytest.mark.parametrize(
    ("before", "after"),
    [
        (r'<blockquote class="sheet-prompt">.*?</blockquote>', '<blockquote class="sheet-prompt"></blockquote>'),
        (r"<svg .*?</svg>", ""),
        (r'(<section class="sheet-key-numbers">.*?)<li>.*?</li>', r"\1"),
        (r'(<section class="sheet-decisions">.*?<tbody>)\s*<tr>.*?</tr>', r"\1"),
        (r'<section class="sheet-how-it-is-graded">.*?</section>', ""),
        (r"<h2>Decisions</h2>", "<h2>**Decisions**</h2>"),
    ],
)
def test_a_fault_of_a_sheet_is_noticed(executed, before, after):
    name = next(name for name, notebook in executed.items() if not sheets.own_table(notebook))
    text, n = re.subn(before, after, (SITE / "sheets" / f"{name}.html").read_text(), flags=re.S)
    assert n and list(faults(text, executed[name]))
