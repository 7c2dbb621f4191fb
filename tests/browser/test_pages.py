"""Every page of the built site, as readers see it: wide and on a phone, light and dark. Needs `make book`."""

import pytest
from views import PHONE, SITE, accessibility, drawings, opened, overflow, silence, third_parties

from press import ROOT

HTML = (path.relative_to(SITE) for path in SITE.rglob("*.html"))
PAGES = sorted(path.as_posix() for path in HTML if {"_static", "slides"}.isdisjoint(path.parts))
CHAPTERS = sorted(path.stem for path in (ROOT / "chapters").glob("*.ipynb"))


def faults(view, *checks):
    return [fault for check in checks for fault in check(view)]


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("page", PAGES)
def test_page(browser, site, page, scheme):
    with opened(browser, f"{site}/{page}", scheme) as view:
        assert view.page.get_attribute("html", "data-theme") == scheme
        assert view.page.locator("h1:visible").count() == 1
        assert faults(view, silence, third_parties, drawings, accessibility) == []


@pytest.mark.parametrize("page", PAGES)
def test_page_on_a_phone(browser, site, page):
    with opened(browser, f"{site}/{page}", size=PHONE) as view:
        assert faults(view, silence, overflow, accessibility) == []


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


@pytest.mark.parametrize("chapter", CHAPTERS)
def test_code_can_be_copied(browser, site, chapter):
    with opened(browser, f"{site}/chapters/{chapter}.html") as view:
        cell = view.page.locator(".cell_input:visible").first
        cell.hover()
        cell.locator(".copybtn").click()
        copied = view.page.evaluate("navigator.clipboard.readText()")
        assert copied.strip() == cell.locator("pre").inner_text().strip()


@pytest.mark.parametrize("chapter", CHAPTERS)
def test_solutions_are_folded_and_open(browser, site, chapter):
    with opened(browser, f"{site}/chapters/{chapter}.html") as view:
        solution = view.page.locator("div.solution.dropdown").first
        content = solution.locator("section")
        assert not content.is_visible()
        solution.locator("button.toggle-button").click()
        content.wait_for(state="visible")
