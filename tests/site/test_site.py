"""The built site: every page against every rule, and every chapter's records against its budget. Needs `make book`."""

from pathlib import Path

import pytest
import yaml

import pages
from press import ROOT, alone, cache
from press.depends import is_current
from press.front import front_of
from press.notebooks import read
from press.records import read_report, records

SITE = ROOT / "_build" / "html"
CHAPTERS = sorted((ROOT / "chapters").glob("*.ipynb"))
# Binder lends 1 GiB, which is 1,048 thousand of the kernel's kilobytes. The status page marks a chapter from 1,000 on.
MEMORY_LIMIT_MB = 1048


def name(path: Path) -> str:
    return path.relative_to(SITE).with_suffix("").as_posix()


def test_the_site_has_every_listed_page():
    toc = yaml.safe_load((ROOT / "_toc.yml").read_text())
    entries = [entry for part in toc["parts"] for chapter in part["chapters"] for entry in (chapter, *chapter.get("sections", []))]
    listed = {entry["file"] for entry in entries} | {toc["root"]}
    assert SITE.exists(), "the book is not built; run `make book`"
    sheets = {f"sheets/{path.stem}" for path in CHAPTERS}  # made from the chapters: tests/site/test_sheets.py
    assert {name(path) for path in pages.pages(SITE)} == listed | sheets


@pytest.mark.parametrize("rule", pages.RULES, ids=lambda rule: rule.__name__)
@pytest.mark.parametrize("page", pages.pages(SITE), ids=name)
def test_page(page, rule):
    faults = list(rule(SITE, page))
    assert not faults, "\n".join([name(page), *faults])


@pytest.fixture(scope="session")
def executed():
    """Each chapter as the site shows it, with the outputs that the execution cache holds."""
    opened = cache.open_cache(ROOT)
    return {path.stem: cache.executed(path, opened) for path in CHAPTERS}


@pytest.mark.parametrize("chapter", [path.stem for path in CHAPTERS])
class TestChapter:
    def test_it_was_executed_from_what_is_here_now(self, executed, chapter):
        assert executed[chapter] is not None, "the cache has nothing for this chapter, code, package, data and lock; run `make book`"

    def test_its_page_shows_every_output(self, executed, chapter):
        """Every cell that has an output has one on the page."""
        page = pages.soup(SITE / "chapters" / f"{chapter}.html")
        cells = [cell for cell in executed[chapter].cells if cell.cell_type == "code" and cell.outputs]
        assert len(page.select(".cell_output")) == len(cells)
        assert len(page.select("article .mlsd-colophon")) == 1

    def test_it_has_six_to_twelve_claims_and_all_hold(self, executed, chapter):
        claims = records(executed[chapter], "claim")
        assert 6 <= len(claims) <= 12
        assert [claim["sentence"] for claim in claims if not claim["held"]] == []

    def test_it_stays_in_its_budget(self, executed, chapter):
        """What it took when it was last measured alone, if that was this version; a build tells memory alone."""
        (colophon,) = records(executed[chapter], "colophon")
        assert colophon["peak_memory_mb"] <= MEMORY_LIMIT_MB
        assert colophon["effects_off"] == []
        entry = read_report(ROOT, "alone").get(chapter)
        if is_current(entry, ROOT / "chapters" / f"{chapter}.ipynb"):
            assert alone.faults(chapter, entry) == []

    def test_no_cell_writes_to_stderr(self, executed, chapter):
        streams = [output for cell in executed[chapter].cells for output in cell.get("outputs", []) if output.get("name") == "stderr"]
        assert [output["text"][:300] for output in streams] == []

    def test_the_landing_page_has_its_card_with_a_picture(self, chapter):
        (card,) = [c for c in pages.soup(SITE / "index.html").select(".chapter-card") if c.select(f'a[href="chapters/{chapter}.html"]')]
        assert card.img["alt"]
        assert card.select_one(".chapter-question").get_text(strip=True), "the card has no core question"
        facts, front = card.get_text(" "), front_of(read(ROOT / "chapters" / f"{chapter}.ipynb"))
        said = [f"{front.minutes} min" if front.minutes else "", front.level, *front.techniques]  # what is missing, the contract says
        assert [text for text in said if text not in facts] == [], "the card says what its chapter's front does"

    def test_the_status_page_lists_it(self, chapter):
        assert pages.soup(SITE / "pages" / "status.html").select(f'table a[href="../chapters/{chapter}.html"]')
