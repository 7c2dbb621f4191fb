"""Pictures and paper: diagrams and figures at each width and in both themes, and what is printed. Needs `make book`."""

import re

import pytest
from paper import light_without_code, printed
from reading import uncover
from views import PHONE, SITE, WIDE, opened, served

from press import ROOT
from press.diagrams import LEAST_TEXT

CHAPTERS = sorted(path.stem for path in (ROOT / "chapters").glob("*.ipynb"))
MOST_PAGES = 15
LEAST_FULL = 0.5
LEAST_LABEL = 8  # CSS pixels, of a figure on a phone


def diagrams(view, least_text=LEAST_TEXT):
    """What is wrong with the diagrams in sight: not drawn, beyond their box, too small to read."""
    yield from view.page.evaluate(
        """(least) => {
        const found = [...document.querySelectorAll("pre.mermaid")].map(() => "not drawn");
        for (const svg of document.querySelectorAll(".diagram svg")) {
            if (!svg.checkVisibility()) continue;
            const box = svg.getBoundingClientRect(), room = svg.closest(".diagram").getBoundingClientRect();
            if (box.left < room.left - 1 || box.right > room.right + 1) found.push(`${box.width} wide in ${room.width}`);
            const scale = box.width / svg.viewBox.baseVal.width;
            const sizes = [...svg.querySelectorAll("text")].map((t) => parseFloat(getComputedStyle(t).fontSize) * scale);
            if (Math.min(...sizes) < least - 0.2) found.push(`text of ${Math.min(...sizes).toFixed(1)} pixels`);
            const names = (svg.getAttribute("aria-labelledby") || "none").split(" ").map((id) => document.getElementById(id));
            if (names.some((name) => !name || !name.textContent.trim())) found.push("no title or description");
        }
        return found;
    }""",
        least_text,
    )


def figures(view, least_label=0):
    """What is wrong with the figures: none or two variants in sight, the wrong theme, labels too small (those in an SVG)."""
    uncover(view)
    cells = view.page.evaluate("""() => [...document.querySelectorAll(".cell_output:has(img)")].map((cell) =>
        [...cell.querySelectorAll("img")].filter((i) => i.checkVisibility()).map((i) => ({
            url: i.src, classes: i.className, alt: i.alt, width: i.getBoundingClientRect().width, room: cell.getBoundingClientRect().width,
            scrolls: !!i.closest(".scroll-figure"),
        })))""")
    theme = view.page.get_attribute("html", "data-theme")
    for shown in cells:
        if len(shown) != 1:
            yield f"{len(shown)} pictures in sight"
            continue
        (image,) = shown
        if not image["alt"]:
            yield "no alternative text"
        if {"light": "only-dark", "dark": "only-light"}[theme] in image["classes"]:
            yield f"{image['classes']} in {theme}"
        if image["width"] > image["room"] + 1 and not image["scrolls"]:
            yield f"{image['width']} wide in {image['room']}"
        if image["url"].endswith(".svg"):
            svg = view.page.request.get(image["url"]).text()
            box = float(re.search(r'viewBox="\S+ \S+ (\S+)', svg)[1])
            sizes = [float(size) * image["width"] / box for size in re.findall(r"<text[^>]*font-size: ([\d.]+)px", svg)]
            if sizes and min(sizes) < least_label:
                yield f"labels of {min(sizes):.1f} pixels: {image['url'][-20:]}"


@pytest.mark.parametrize("chapter", CHAPTERS)
def test_pictures_and_print_of_a_chapter(browser, site, chapter):
    with opened(browser, f"{site}/chapters/{chapter}.html", "dark") as view:
        assert [*diagrams(view), *figures(view)] == []
        assert list(light_without_code(view)) == []
        assert list(printed(view, MOST_PAGES, LEAST_FULL)) == []


@pytest.mark.parametrize("chapter", CHAPTERS)
def test_pictures_on_a_phone(browser, site, chapter):
    with opened(browser, f"{site}/chapters/{chapter}.html", size=PHONE) as view:
        assert [*diagrams(view, least_text=0), *figures(view, LEAST_LABEL)] == []


@pytest.mark.parametrize("name", CHAPTERS)
def test_a_cheat_sheet_is_one_page(browser, site, name):
    with opened(browser, f"{site}/sheets/{name}.html", "dark") as view:
        assert list(light_without_code(view)) == []
        assert list(printed(view, 1)) == []


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


def test_diagrams_are_in_the_page_without_javascript(browser, site):
    context = browser.new_context(java_script_enabled=False, viewport=WIDE)
    page = context.new_page()
    page.goto(f"{site}/chapters/{CHAPTERS[0]}.html")
    assert page.locator(".diagram svg text").first.is_visible()
    context.close()


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
