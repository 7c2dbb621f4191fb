"""The way in, as a reader takes it: the first screen, the search, how heavy a page is and how soon it shows. Each check is seen to fail."""

import re
from contextlib import suppress
from urllib.parse import quote_plus

import pytest
from playwright.sync_api import TimeoutError
from views import PHONE, SITE, WIDE, accessibility, arrived, first_screen, opened, served, shows_late, silence, transferred, weight

from press import name_of, pages
from press.front import front_of
from press.notebooks import read

CHAPTERS = [page for page in pages() if page.parent.name != "labs"]


@pytest.mark.parametrize("size", [WIDE, PHONE], ids=["wide", "phone"])
def test_the_first_screen_says_what_this_is_and_where_to_begin(browser, site, size):
    with opened(browser, f"{site}/index.html", size=size) as view:
        assert list(first_screen(view)) == []
        view.page.add_style_tag(content=".lead { margin-top: 60vh !important; }")
        assert list(first_screen(view)), "the check notices what has slipped below"


def test_the_buttons_lead_on(browser, site):
    with opened(browser, f"{site}/index.html") as view:
        for i, place in enumerate(("chapters/framework.html", "#pick-a-case", "how_to_use.html#read-run-change")):
            view.page.goto(f"{site}/index.html")
            view.page.locator("a.start-button").nth(i).click()
            view.page.wait_for_url(f"**{place}")
            if "#" in place:
                assert view.page.locator(f"#{place.partition('#')[2]}").bounding_box()["y"] < WIDE["height"]
        assert list(silence(view)) == []


@pytest.mark.parametrize("size", [(1440, 900), (820, 1180), (390, 844)], ids=str)
def test_cards_leave_no_hole_and_no_card_alone(browser, site, size):
    with opened(browser, f"{site}/index.html", size=dict(width=size[0], height=size[1])) as view:
        for group in view.page.locator(".chapter-cards").all():
            right = max(card.bounding_box()["x"] + card.bounding_box()["width"] for card in group.locator(".chapter-card").all())
            last = group.locator(".chapter-card").last.bounding_box()
            assert abs(last["x"] + last["width"] - right) < 2


QUERIES = {
    "logQ correction": "video_recommendation",
    "second-price auction": "ad_click_prediction",
    "coordinated omission": "batch_and_online_serving",
}


IN_SIGHT = """[...document.querySelectorAll("article mark.found")]
    .some((mark) => ((box) => box.height && box.top >= 0 && box.bottom <= innerHeight)(mark.getBoundingClientRect()))"""


@pytest.mark.parametrize("query", QUERIES)
def test_the_search_leads_to_the_passage_and_marks_it(browser, site, query):
    with opened(browser, f"{site}/search.html?q={quote_plus(query)}") as view:
        first = view.page.locator(f"ol.passages li:nth-child(-n+4) a[href*='chapters/'][href*='{QUERIES[query]}']").first
        assert "#" in first.get_attribute("href"), "the passage, not the page"
        first.click()
        view.page.wait_for_load_state("load")
        with suppress(TimeoutError):  # what is missing is told by `arrived`
            view.page.wait_for_function(IN_SIGHT, timeout=10_000)
        assert list(arrived(view)) == []
        assert "highlight" not in view.page.url
        assert list(silence(view)) == [] and list(accessibility(view, code=False)) == []
        view.page.keyboard.press("Escape")
        assert view.page.locator("mark.found").count() == 0
        assert list(arrived(view)), "the check notices that nothing is marked"


def test_a_word_is_found_from_its_beginning_and_what_is_not_there_is_said(browser, site):
    with opened(browser, f"{site}/search.html?q=rag") as view:
        assert [text for text in view.page.locator("ol.passages mark").all_inner_texts() if not text.lower().startswith("rag")] == []
        view.page.goto(f"{site}/search.html?q=xylophone")
        assert "Nothing in the book" in view.page.locator("#search-results").inner_text()
        view.page.goto(f"{site}/search.html?q=import+numpy")
        assert not [text for text in view.page.locator("ol.passages p").all_inner_texts() if re.search(r"import (numpy|pandas)", text)]
        assert view.page.locator("ol.passages a[href*='status']").count() == 0
        assert list(silence(view)) == []


@pytest.mark.parametrize("chapter", CHAPTERS, ids=name_of)
def test_each_technique_of_a_chapter_is_found_in_it(browser, site, chapter):
    lost = []
    with opened(browser, f"{site}/search.html") as view:
        for technique in front_of(read(chapter)).techniques:
            view.page.goto(f"{site}/search.html?q={quote_plus(technique)}")
            found = [link.get_attribute("href") for link in view.page.locator("ol.passages li:nth-child(-n+8) > a").all()]
            if not any(f"chapters/{chapter.stem}.html" in url or f"chapters/labs/{chapter.stem}_" in url for url in found):
                lost.append(f"{technique}: {found}")
    assert lost == [], "name the technique in the chapter as its front does, best in a heading"


def test_a_heavy_visit_is_noticed(browser, tmp_path):
    (tmp_path / "index.html").write_text('<!DOCTYPE html><title>x</title><link rel="icon" href="data:,"><img src="a.png" alt="x">')
    (tmp_path / "a.png").write_bytes(bytes(5000))
    with served(tmp_path) as url, opened(browser, f"{url}/index.html") as view:
        assert 5000 < transferred(view, tmp_path) < 5500
        assert list(weight(view, tmp_path, at_most=5000)) and not list(weight(view, tmp_path, at_most=5500))


@pytest.fixture(scope="module")
def bare(browser, tmp_path_factory):
    """The address of a page of the theme as it comes: its styles and scripts, one sentence, and nothing of the book's."""
    folder = tmp_path_factory.mktemp("bare") / "html"
    folder.mkdir()
    (folder / "_static").symlink_to(SITE / "_static")
    page = (SITE / "404.html").read_text()
    ours = r"<(?:link|script)[^>]*_static/(?:book|found|page|pictures|print)\.(?:css|js)[^>]*>(?:</script>)?"
    page = re.sub(f"<base [^>]*>|{ours}", "", page).replace("<script defer", "<script")
    page = page.replace("</head>", '<script defer src="_static/scripts/fontawesome.js"></script></head>')
    (folder / "index.html").write_text(page)
    with served(folder) as url:
        yield f"{url}/index.html"


@pytest.mark.parametrize("page", ["index.html", *(f"chapters/{name_of(chapter)}.html" for chapter in CHAPTERS)])
def test_the_first_text_shows_within_a_second_or_as_soon_as_the_bare_theme_does(browser, site, bare, page):
    """A machine that takes a second for the bare theme says nothing about the book."""
    assert list(shows_late(browser, f"{site}/{page}", bare)) == []


def test_a_page_that_waits_for_a_script_is_noticed(browser, tmp_path, bare):
    slow = "<script>const end = performance.now() + 10_000; while (performance.now() < end);</script>"
    (tmp_path / "index.html").write_text(f"<!DOCTYPE html><title>x</title><link rel='icon' href='data:,'>{slow}<p>Late.</p>")
    with served(tmp_path) as url:
        assert list(shows_late(browser, f"{url}/index.html", bare, times=1))
