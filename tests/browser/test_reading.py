"""The reader's side of the page: folds, predictions, sliders, definitions, ticks. Needs `make book`."""

import html
import json
import re
import shutil

import pytest
from playwright.sync_api import expect
from reading import cards, definitions, design_in_sight, folding, openness, secrecy, sliders
from views import PHONE, SITE, accessibility, opened, served, silence

from press import ROOT

CHAPTERS = sorted(path.stem for path in (SITE / "chapters").glob("*.html"))


def faults(view, *checks):
    return [fault for check in checks for fault in check(view)]


# ---------- the built site ----------


def test_a_page_that_was_opened_has_no_barrier(browser, site):
    with opened(browser, f"{site}/chapters/{CHAPTERS[0]}.html", size=PHONE) as view:
        buttons = view.page.get_by_role("button", name="I don’t know, show me")
        while buttons.count():
            buttons.first.click()
        view.page.get_by_label("all", exact=True).check()
        assert faults(view, accessibility) == []
        view.seen("dark", PHONE)
        assert faults(view, accessibility, silence) == []


def test_the_glossary_leads_back_to_the_chapters(browser, site):
    with opened(browser, f"{site}/pages/glossary.html") as view:
        links = view.page.locator(".term-uses a")
        assert links.count() > 10
        links.first.click()
        view.page.wait_for_url(re.compile(r"/chapters/\w+\.html#.+"))


# ---------- a page made for the purpose ----------

STEPS = [
    dict(
        value=f"{x} ms",
        x=x,
        text=str(x),
        now=x == 30,
        flip=x == 20,
        chosen="online" if x > 20 else "batch",
        rows=[["online", "1"], ["batch", f"{x}"]],
    )
    for x in (10, 20, 30, 40)
]
SWEEP = f"""<details class="mlsd-sweep" data-what="latency" data-unit="ms" data-steps="{html.escape(json.dumps(STEPS))}">
<summary>Move</summary></details>"""
CARD = f"""<div class="mlsd-decision" role="note"><table class="mlsd-options">
<thead><tr><td></td><th scope="col" class="number">cost</th></tr></thead>
<tbody><tr class="chosen"><th scope="row">online</th><td class="number">1</td></tr>
<tr><th scope="row">batch</th><td class="number">30</td></tr></tbody></table><p>We choose online.</p>{SWEEP}</div>"""
CLAIM = """<div class="mlsd-claim"><strong>✓ Claim held.</strong> It falls. <span>Measured: 3%.</span>
<details class="mlsd-break"><summary>Break it</summary><p>So.</p></details></div>"""
FOLDED = """<div class="cell tag_hide-input container"><details class="hide above-input"><summary>Code of this claim</summary>{}</details>
{}</div>"""
CODE = '<div class="cell_input container"><pre>claim("It falls")</pre></div>'
OUTPUT = '<div class="cell_output container">{}</div>'
TABLE = """<table class="mlsd-table"><thead><tr><td></td><th scope="col" class="number">cost</th></tr></thead>
<tbody><tr><th scope="row">one</th><td class="number">1% [0, 2]</td></tr></tbody></table>"""
PAGE = f"""<!DOCTYPE html><html lang="en" data-content_root="../"><head><meta charset="utf-8"><title>Good</title>
<link rel="icon" href="data:,"><script src="../_static/page.js"></script>
<link rel="stylesheet" href="../_static/book.css"><link rel="stylesheet" href="../_static/page.css"></head><body>
<nav class="bd-sidebar-primary" aria-label="Book"><div class="bd-links"><a class="internal" href="#">Good</a></div></nav>
<nav class="bd-sidebar-secondary" aria-label="Contents"><ul><li><a href="#one">One</a>
<ul><li><a href="#below">It falls, below</a></li></ul></li><li><a href="#two">Two</a></li></ul></nav>
<main><article class="bd-article"><section id="good"><h1>Good</h1><p id="before">A <a class="term" href="../pages/glossary.html#term-x"
data-definition="What it is.">term</a>.</p>
<div class="cell container"><div class="cell_input container"><pre>def features(rows): ...</pre></div></div>
<section id="one"><h2>One</h2>
<div class="admonition predict"><p class="admonition-title">Predict</p><p>Does it rise?</p></div>
{FOLDED.format(CODE, OUTPUT.format(CLAIM + TABLE))}
<p id="why">Why it falls.</p>
<section id="below"><h3>It falls, below</h3><p id="deep">Deep.</p></section></section>
<section id="two"><h2>Two</h2><div class="admonition predict"><p class="admonition-title">Predict</p><p>Which one?</p>
<ul><li><p>the first</p></li><li><p>the second</p></li></ul></div><p id="it">The second.</p>
{FOLDED.format(CODE, OUTPUT.format(CARD))}</section></section></article></main></body></html>"""
ADDRESS = "chapters/page.html"


@pytest.fixture
def write(tmp_path):
    (tmp_path / "chapters").mkdir()
    shutil.copytree(ROOT / "_static", tmp_path / "_static")
    with served(tmp_path) as url:

        def page(change=lambda text: text):
            (tmp_path / ADDRESS).write_text(change(PAGE))
            return f"{url}/{ADDRESS}"

        yield page


@pytest.fixture
def good(browser, write):
    with opened(browser, write()) as view:
        yield view


CHECKS = [folding, design_in_sight, secrecy, sliders, cards, definitions, silence, accessibility]


def test_a_good_page_has_no_fault(good):
    assert faults(good, *CHECKS) == []


def replaced(before, after):
    def change(text):
        assert before in text
        return text.replace(before, after)

    return change


NO_SCRIPT = replaced('<script src="../_static/page.js"></script>', "")
STAYS_OPEN = '<script>addEventListener("load", () => document.querySelectorAll("details").forEach((d) => (d.open = true)))</script></head>'
UNCOVERED = "<script>addEventListener('load', () => document.querySelector('.covered').removeAttribute('hidden'))</script></head>"
FAULTS = {
    "code that is open": (folding, replaced("</head>", STAYS_OPEN)),
    "code that is not folded": (folding, replaced('<details class="hide above-input"><summary>Code of this claim</summary>', "<details>")),
    "a page without end": (folding, replaced('<p id="before">', '<p style="height: 18000px">')),
    "the design folded": (design_in_sight, replaced("</head>", "<style>.design { display: none }</style></head>")),
    "an answer in sight": (secrecy, NO_SCRIPT),
    "an answer that is uncovered": (secrecy, replaced("</head>", UNCOVERED)),
    "a box that covers nothing": (
        secrecy,
        replaced(
            '<section id="two">', '<section id="x"><h2>X</h2><div class="admonition predict"><p>Up?</p></div></section><section id="two">'
        ),
    ),
    "a claim told before": (secrecy, replaced("A <a", "It falls. A <a")),
    "a heading told before": (secrecy, replaced('<section id="one">', '<section id="one"><p>It falls, below</p>')),
    "a heading told in the contents": (secrecy, replaced('<a href="#below">', '<a href="#elsewhere">')),
    "a picture in sight": (
        secrecy,
        replaced('<section id="two"><h2>', '<img alt="It falls" width="9" height="9" src="data:,"><section id="two"><h2>'),
    ),
    "a sweep without a slider": (sliders, replaced(html.escape(json.dumps(STEPS)), "no")),
    "a sweep that never flips": (sliders, replaced(html.escape('"chosen": "batch"'), html.escape('"chosen": "online"'))),
    "a second header row": (
        cards,
        replaced('</tr></thead>\n<tbody><tr><th scope="row">one', "</tr><tr><th>x</th></tr></thead><tbody><tr><th>one"),
    ),
    "a text cut off": (cards, replaced("1% [0, 2]", "a long text that en...")),
    "a type name": (cards, replaced(TABLE, TABLE + "<pre>Name: x, dtype: float64</pre>")),
    "a header elsewhere": (cards, replaced('<th scope="col" class="number">cost', '<th scope="col">cost')),
    "an interval that wraps": (cards, replaced('<td class="number">1%', '<td style="text-align: right">1%')),
    "a claim that nothing breaks": (cards, replaced('class="mlsd-break"', "")),
    "raw markup": (cards, replaced("It falls. <span>", "It falls *more*. <span>")),
    "a term without definition": (definitions, replaced('data-definition="What it is."', "")),
    "a term that leads nowhere": (definitions, replaced("#term-x", "")),
}


@pytest.mark.parametrize("fault", FAULTS)
def test_a_fault_is_noticed(browser, write, fault):
    check, change = FAULTS[fault]
    with opened(browser, write(change)) as view:
        assert list(check(view))


def test_what_no_script_hides_is_noticed(scriptless, write):
    scriptless.page.goto(write())
    assert faults(scriptless, openness) == []
    scriptless.page.goto(write(replaced('<p id="why">', '<p hidden id="why">')) + "?again")
    assert faults(scriptless, openness)


# ---------- what it does ----------


def test_the_answer_comes_when_the_reader_has_said_theirs(good):
    page = good.page
    why, box = page.locator("#why"), page.locator(".predict").first
    assert why.is_hidden() and page.get_by_role("link", name="It falls, below").is_hidden()
    box.get_by_role("button", name="Show what happens").click()
    assert why.is_hidden() and "Say something first" in box.get_by_role("status").inner_text()
    box.get_by_label("Your prediction").fill("It rises <b>by</b> 3%.")
    box.get_by_role("button", name="Show what happens").press("Enter")
    assert why.is_visible() and page.get_by_role("link", name="It falls, below").is_visible()
    assert page.locator(".said:visible").inner_text() == "You said: It rises <b>by</b> 3%."
    assert page.evaluate("document.activeElement.className") == "said"
    page.reload()
    assert why.is_visible() and "by</b> 3%" in page.locator(".said:visible").inner_text()
    assert page.locator("#it").is_hidden()
    page.get_by_role("button", name="Predict anew").click()
    assert why.is_hidden() and box.get_by_label("Your prediction").input_value() == ""


def test_a_list_is_picked_from_and_not_knowing_is_an_answer(good):
    page = good.page
    box, it = page.locator(".predict").last, page.locator("#it")
    box.get_by_label("the second").check()
    box.get_by_role("button", name="Show what happens").click()
    assert it.is_visible() and "You said: the second" in page.locator(".said:visible").inner_text()
    page.locator(".predict").first.get_by_role("button", name="I don’t know, show me").click()
    assert page.locator("#why").is_visible()


def test_a_box_at_the_end_of_its_section_covers_what_the_next_one_shows(browser, write):
    box = '<div class="admonition predict"><p class="admonition-title">Predict</p><p>Does it rise?</p></div>'
    moved = replaced(box, "<p>Before.</p>")
    with opened(
        browser,
        write(lambda text: moved(text).replace('<section id="one">', f'<section id="zero"><h2>Zero</h2>{box}</section><section id="one">')),
    ) as view:
        assert view.page.locator("#why").is_hidden() and view.page.get_by_role("heading", name="One").is_visible()
        assert faults(view, secrecy) == []
        view.page.locator(".predict").first.get_by_role("button", name="I don’t know, show me").click()
        assert view.page.locator("#why").is_visible()


def test_one_switch_uncovers_all_and_is_remembered(good):
    page = good.page
    switch = page.get_by_role("switch")
    switch.uncheck()
    assert page.locator("#why").is_visible() and page.locator("#it").is_visible() and page.locator(".commit:visible").count() == 0
    page.reload()
    assert page.locator("#why").is_visible() and not switch.is_checked()
    switch.check()
    assert page.locator("#why").is_hidden()


@pytest.mark.parametrize("address", ["#deep", "#below"])
def test_a_link_leads_into_a_covered_place(browser, write, address):
    with opened(browser, write() + address) as view:
        assert view.page.locator(address).is_visible() and view.page.locator("#it").is_hidden()
        view.page.evaluate("location.hash = 'it'")
        view.page.locator("#it").wait_for(state="visible")


def test_what_a_search_marks_or_finds_is_shown(browser, write):
    with opened(browser, write(replaced("Why it falls", 'Why <span class="highlighted">it</span> falls'))) as view:
        assert view.page.locator("#why").is_visible()
        it = view.page.locator(".covered[hidden]").last
        assert it.get_attribute("hidden") == "until-found"  # the browser's own search looks into it, and says so before it shows
        it.dispatch_event("beforematch")
        assert view.page.locator("#it").is_visible()


def test_the_code_switch_folds_and_shows_all_and_is_remembered(good):
    page = good.page
    design, claim = page.locator("pre", has_text="def features"), page.locator("#it ~ .cell .cell_input")
    page.get_by_role("switch").uncheck()
    assert design.is_visible() and claim.is_hidden()
    page.get_by_label("none").check()
    assert design.is_hidden() and claim.is_hidden()
    page.reload()
    assert design.is_hidden() and page.get_by_label("none").is_checked()
    page.get_by_text("Code of the design").press("Enter")  # one click away, by keyboard too
    assert design.is_visible()
    page.get_by_label("all", exact=True).check()
    assert design.is_visible() and claim.is_visible()
    page.get_by_label("the design").check()
    assert design.is_visible() and claim.is_hidden()


def test_a_number_moves_the_slider_to_the_nearest_that_was_computed(good):
    page = good.page
    page.get_by_role("switch").uncheck()
    field = page.get_by_role("textbox", name="latency, ms")
    field.fill("11.5")
    field.press("Enter")
    assert field.input_value() == "10" and page.get_by_role("slider").get_attribute("aria-valuetext") == "10 ms: batch"
    assert page.locator(".mlsd-options tr.chosen").inner_text().split() == ["batch", "10"]
    page.get_by_role("button", name="as it is now").click()
    assert page.locator(".mlsd-options tr.chosen").inner_text().split() == ["online", "1"]


def test_sections_and_pages_are_ticked_when_they_were_read(good):
    page = good.page
    ticks = page.locator(".bd-sidebar-secondary .tick")
    page.locator("#two").scroll_into_view_if_needed()
    page.wait_for_timeout(1300)
    assert ticks.count() == 0  # what is covered was not read
    page.get_by_role("switch").uncheck()
    for k, name in enumerate(("#deep", ".read")):
        page.locator(name).scroll_into_view_if_needed()
        page.mouse.wheel(0, 1)
        expect(ticks.nth(k)).to_be_attached(timeout=30_000)
    expect(ticks).to_have_count(2)
    expect(page.get_by_label("I have read this page")).to_be_checked()
    page.reload()
    tick = page.locator(".bd-sidebar-primary .tick")
    assert tick.get_attribute("aria-label") == "read"
    page.get_by_label("I have read this page").uncheck()
    assert tick.count() == 0


REFUSALS = [
    "get: () => { throw new DOMException('no', 'SecurityError'); }",
    "value: { getItem: () => null, setItem: () => { throw new Error('full'); } }",
]


@pytest.mark.parametrize("refusal", REFUSALS, ids=["forbidden", "full"])
def test_storage_that_is_forbidden_or_full_breaks_nothing(browser, write, refusal):
    with opened(browser, write()) as view:
        page = view.page
        page.add_init_script(f"Object.defineProperty(window, 'localStorage', {{ {refusal} }})")
        page.reload()
        page.locator(".predict").first.get_by_role("button", name="I don’t know, show me").click()
        assert page.locator("#why").is_visible() and page.locator("#it").is_hidden()
        page.get_by_label("none").check()
        assert page.locator("pre", has_text="def features").is_hidden()
        assert faults(view, silence) == []


def test_a_finger_shows_the_definition_first_and_follows_the_link_then(browser, write):
    with browser.new_context(has_touch=True, viewport=PHONE) as context:
        page = context.new_page()
        page.goto(write())
        page.locator("a.term").tap()
        assert page.get_by_role("tooltip").inner_text() == "What it is." and page.url.endswith(ADDRESS)
        page.locator("a.term").tap()
        page.wait_for_url("**/glossary.html**")


def test_the_script_is_small():
    assert len((ROOT / "_static" / "page.js").read_bytes()) < 25_000
