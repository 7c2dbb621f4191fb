"""Diagrams, and that the checks of pictures and paper (paper.py) find what is wrong; test_pages.py asks them of every chapter."""

import pytest
from paper import LEAST_FULL, LEAST_LABEL, diagrams, figures, light_without_code, printed
from views import PHONE, SITE, opened, served

from press import ROOT

CHAPTERS = sorted(path.stem for path in (ROOT / "chapters").glob("*.ipynb"))


def test_a_diagram_opens_large_by_keyboard_and_closes(browser, site):
    with opened(browser, f"{site}/chapters/{CHAPTERS[0]}.html", size=PHONE) as view:
        button = view.page.locator(".diagram button").first
        button.focus()
        view.page.keyboard.press("Enter")
        large = view.page.locator("dialog.diagram-large svg")
        large.wait_for(state="visible")
        assert large.bounding_box()["width"] >= large.evaluate("(svg) => svg.viewBox.baseVal.width") - 1
        ids = view.page.evaluate("[...document.querySelectorAll('[id]')].map((e) => e.id)")
        assert len(ids) == len(set(ids))
        view.page.keyboard.press("Escape")
        large.wait_for(state="detached")
        assert button.evaluate("(b) => b === document.activeElement")
        assert view.console == []


def test_diagrams_are_in_the_page_without_javascript(scriptless, site):
    scriptless.page.goto(f"{site}/chapters/{CHAPTERS[0]}.html")
    assert scriptless.page.locator(".diagram svg text").first.is_visible()


def test_the_site_brings_no_mermaid():
    assert not (SITE / "_static" / "mermaid").exists()


# ---------- the checks themselves ----------

PAGE = """<!DOCTYPE html><html lang="en" data-theme="light"><head><title>x</title><link rel="icon" href="data:,">
<style>@page { size: A4; margin: 13mm; } img { width: 300px; } .narrow { display: none; }</style></head><body><article>
<div class="diagram" style="width: 600px"><svg width="500" height="50" viewBox="0 0 500 50" aria-labelledby="t d">
<title id="t">A</title><desc id="d">a to b</desc><text y="20" font-size="14">a</text></svg></div>
<div class="cell_output"><img class="only-light wide" src="figure.svg" alt="A line">
<img class="only-light narrow" src="figure.svg" alt="A line"></div>
<p>Text.</p></article></body></html>"""
FIGURE = """<svg xmlns="http://www.w3.org/2000/svg" width="300" height="100" viewBox="0 0 300 100">
<text style="font-size: 10px" y="20">1</text></svg>"""
FAULTS = {
    "not drawn": ('<svg width="500"', '<pre class="mermaid">flowchart</pre><svg width="500"'),
    "beyond its box": ('style="width: 600px"', 'style="width: 400px"'),
    "small text": ('font-size="14"', 'font-size="7"'),
    "no description": ('<desc id="d">a to b</desc>', ""),
    "two variants": (".narrow { display: none; }", ""),
    "the wrong theme": ("only-light wide", "only-dark wide"),
    "small labels": ("img { width: 300px; }", "img { width: 200px; }"),
    "no alternative text": ('alt="A line"', 'alt=""'),
    "code on paper": ("<p>Text.</p>", '<div class="cell_input"><pre>x = 1</pre></div>'),
    "dark paper": ("<p>Text.</p>", '<p style="background: #14181e">Text.</p>'),
    "pale ink": ("<p>Text.</p>", '<p style="color: #ced6dd">Text.</p>'),
    "a page too many": ("<p>Text.</p>", '<p style="break-before: page">Text.</p><p style="break-before: page">Text.</p>'),
    "an empty page": ("<article>", '<article><p style="break-after: page">Alone.</p>'),
}


def everything(view):
    view.page.emulate_media(media="screen")
    return [*diagrams(view), *figures(view, LEAST_LABEL), *light_without_code(view), *printed(view, 2, LEAST_FULL)]


@pytest.fixture
def write(tmp_path):
    (tmp_path / "figure.svg").write_text(FIGURE)
    with served(tmp_path) as url:

        def page(text):
            (tmp_path / "page.html").write_text(text)
            return f"{url}/page.html"

        yield page


def test_a_good_page_has_no_fault_on_paper(browser, write):
    with opened(browser, write(PAGE)) as view:
        assert everything(view) == []


@pytest.mark.parametrize("fault", FAULTS)
def test_a_fault_of_pictures_or_paper_is_noticed(browser, write, fault):
    before, after = FAULTS[fault]
    assert before in PAGE
    with opened(browser, write(PAGE.replace(before, after))) as view:
        assert everything(view)
