"""Every page of the built site, as readers see it: one visit, looked at wide, on a phone, in the dark and on paper. Needs `make book`."""

import functools
import re

import pytest
from paper import LEAST_FULL, LEAST_LABEL, MOST_PAGES, diagrams, figures, light_without_code, printed
from reading import cards, copying, definitions, design_in_sight, folding, nothing_to_press, openness, secrecy, sliders, solutions, uncover
from views import PHONE, SITE, accessibility, drawings, one_heading, opened, overflow, served, silence, third_parties, weight

from press import ROOT

HTML = (path.relative_to(SITE) for path in SITE.rglob("*.html"))
PAGES = sorted(path.as_posix() for path in HTML if {"_static", "slides"}.isdisjoint(path.parts))
NOTEBOOKS = [page for page in PAGES if page.startswith("chapters/")]
CHAPTERS = sorted(path.stem for path in (ROOT / "chapters").glob("*.ipynb"))


def visit(view, page):
    """All that is wrong with a page, each with how it was seen."""
    notebook, sheet = page in NOTEBOOKS, page.startswith("sheets/")
    chapter = notebook and "/labs/" not in page

    def told(look, *checks):
        return [f"{look}: {fault}" for check in checks for fault in check(view)]

    def plain_words(view):  # the colours of code are the same everywhere: they are looked at on few pages, below
        return accessibility(view, code=False)

    yield from told("wide", one_heading, drawings, plain_words)
    view.page.wait_for_load_state("networkidle")
    yield from told("wide", lambda view: weight(view, SITE))
    if notebook:
        yield from told("wide", folding, design_in_sight, secrecy, cards)
    view.seen("dark")
    yield from told("dark", one_heading, drawings, plain_words)
    view.seen("dark", media="print")
    if notebook:
        yield from told("paper", openness, nothing_to_press)
    if chapter or sheet:
        yield from told("paper", light_without_code)
        yield from told("paper", lambda view: printed(view, 1) if sheet else printed(view, MOST_PAGES, LEAST_FULL))
    view.seen(size=PHONE)
    yield from told("phone", overflow, lambda view: accessibility(view, contrast=False))
    if chapter:
        uncover(view)
        yield from told("phone, answered", overflow, lambda view: diagrams(view, least_text=0), lambda view: figures(view, LEAST_LABEL))
        view.seen("dark")
        yield from told("dark, answered", diagrams, figures)
    view.seen()
    if chapter:
        yield from told("wide, answered", copying, solutions)
    if notebook:
        yield from told("wide, answered", sliders, definitions)
    yield from told("in all", silence, third_parties)


@pytest.mark.parametrize("page", PAGES)
def test_page(browser, site, page):
    with opened(browser, f"{site}/{page}") as view:
        assert list(visit(view, page)) == []


BROKEN = """<h1>Again</h1><p id="lost">Not on paper.</p><p class="pale">Pale.</p><p style="width: 900px">Wide.</p>
<style>@media print { #lost { display: none } } html[data-theme=dark] .pale { color: #333 } #lost { margin-bottom: 20000px }</style>
<script>console.error("broken")</script></article>"""


def test_a_visit_notices_what_is_wrong_wherever_it_shows(browser, tmp_path):
    page = next(page for page in NOTEBOOKS if "/labs/" in page)
    for folder in ("_static", "_images"):
        (tmp_path / folder).symlink_to(SITE / folder)
    (tmp_path / page).parent.mkdir(parents=True)
    (tmp_path / page).write_text((SITE / page).read_text().replace("</article>", BROKEN))
    with served(tmp_path) as url, opened(browser, f"{url}/{page}") as view:
        found = list(visit(view, page))
    for told in (
        "wide: expected one first-level",
        "wide: expected at most",
        "dark: serious color-contrast",
        "paper: hidden",
        "phone: beyond",
    ):
        assert any(fault.startswith(told) for fault in found), (told, found)
    assert "in all: error: broken" in found
    assert not any(fault.startswith("wide: serious color-contrast") for fault in found)


@pytest.mark.parametrize("page", NOTEBOOKS)
def test_without_scripts_everything_can_be_read(scriptless, site, page):
    scriptless.page.goto(f"{site}/{page}")
    assert list(openness(scriptless)) == []


# ---------- pages that between them hold all that there is ----------


@functools.cache
def kinds_of_elements(page):
    """Each tag of a page, with each of its classes. A box has its title among them, which makes no other kind of it."""
    kinds = set()
    for tag, attributes in re.findall(r"<([a-z][\w-]*)([^>]*)>", (SITE / page).read_text()):
        classes = re.search(r'\bclass="([^"]*)"', attributes)
        kinds |= {tag} | {f"{tag}.{name}" for name in (classes[1].split() if classes else []) if not name.startswith("admonition-")}
    return kinds


def few(pages):
    """Pages that between them hold an element of every kind that stands on any, words of code included; about as few as can be."""
    held = {page: kinds_of_elements(page) for page in pages}
    left, chosen = set().union(*held.values()), []
    while left:
        chosen.append(max(held, key=lambda page: len(held[page] & left)))
        left -= held[chosen[-1]]
    return chosen


@pytest.mark.parametrize("page", few(PAGES))
def test_a_page_is_as_it_is_looked_at_from_the_start(browser, site, page):
    """A visit changes theme and width on the way. Here a page begins dark on a phone, and all of it is held to every rule in both."""
    with opened(browser, f"{site}/{page}", "dark", PHONE) as view:
        assert view.page.get_attribute("html", "data-theme") == "dark"
        assert [*overflow(view), *accessibility(view)] == []
        view.seen(size=PHONE)
        assert [*accessibility(view), *silence(view)] == []


def test_few_pages_hold_what_all_hold():
    held = {page: kinds_of_elements(page) for page in PAGES}
    assert set().union(*held.values()) == set().union(*(held[page] for page in few(PAGES)))
    assert {"article.bd-article", "div.mlsd-claim", "section.sheet-decisions", "span.nb"} <= set().union(*held.values())


def test_the_landing_page_has_a_card_with_a_picture_for_each_chapter(browser, site):
    with opened(browser, f"{site}/index.html") as view:
        cards = view.page.locator(".chapter-card")
        assert cards.count() == len(CHAPTERS)
        for card in cards.all():
            card.scroll_into_view_if_needed()
            picture = card.locator("img:visible").element_handle()
            view.page.wait_for_function("(i) => i.complete && i.naturalWidth > 0", arg=picture)
        name = cards.first.locator("a").get_attribute("href")
        cards.first.click()  # anywhere on it
        view.page.wait_for_url(f"**/{name}")
