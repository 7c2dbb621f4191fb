"""Slides and the plan for readers, in a browser: by keyboard, by finger, from a server and from a folder. Needs `make book`."""

import pytest
from paper import sheets_of
from views import PHONE, SITE, WIDE, accessibility, opened, served, silence, third_parties

from press import ROOT

CHAPTERS = sorted(path.stem for path in (ROOT / "chapters").glob("*.ipynb"))
FILE = SITE.as_uri()


def state(view):
    return view.page.evaluate("""() => {
        const slides = [...document.querySelectorAll(".slide")].filter((s) => s.checkVisibility());
        const answer = slides[0].querySelector(".answer");
        return {
            seen: slides.map((s) => s.id), kind: slides[0].classList[1], answer: answer && answer.checkVisibility(),
            wide: document.documentElement.scrollWidth - document.documentElement.clientWidth,
        };
    }""")


def walked(view):
    """What goes wrong on the way through all slides with the right arrow."""
    n = view.page.locator(".slide").count()
    for i in range(1, n + 1):
        now = state(view)
        if now["seen"] != [f"slide-{i}"]:
            yield f"expected slide {i}, found {now['seen']}"
            return
        if now["wide"] > 0:
            yield f"slide {i} is {now['wide']} pixels too wide"
        if now["kind"] == "predict":
            if now["answer"]:
                yield f"slide {i} shows its answer"
            view.page.keyboard.press("ArrowRight")
            if state(view) | {"answer": True} != state(view) or state(view)["seen"] != now["seen"]:
                yield f"slide {i}: its answer did not come with the next key"
        view.page.keyboard.press("ArrowRight")
    if not view.page.get_by_role("button", name="Next").is_disabled():
        yield "the end is not the end"


def laid_open(view):
    """Show all that the slides hold, at once, so that one look of axe sees it."""
    view.page.evaluate("""() => {
        document.documentElement.classList.remove("scripted");
        document.querySelectorAll(".slide, .answer").forEach((e) => (e.hidden = false));
    }""")


@pytest.mark.parametrize("name", CHAPTERS)
def test_slides_are_walked_by_keyboard_wide_and_on_a_phone_and_print_one_a_page(browser, name):
    with opened(browser, f"{FILE}/slides/{name}.html") as view:
        assert list(accessibility(view)) == []
        view.page.emulate_media(media="print")
        assert len(sheets_of(view.page.pdf(prefer_css_page_size=True))) == view.page.locator(".slide").count()
        view.page.emulate_media(media="screen")
        for size in (WIDE, PHONE):
            view.page.set_viewport_size(size)
            view.page.keyboard.press("Home")
            assert list(walked(view)) == []
        laid_open(view)
        assert list(accessibility(view)) == []
        view.page.set_viewport_size(WIDE)
        assert list(accessibility(view, contrast=False)) == []
        assert [*silence(view), *third_parties(view)] == []
        assert [url for url in view.asked if not url.startswith(("file:", "data:"))] == []


def test_slides_that_are_served_are_walked_too(browser, site):
    with opened(browser, f"{site}/slides/framework.html", size=PHONE) as view:
        assert list(accessibility(view)) == []
        assert [*walked(view), *silence(view), *third_parties(view)] == []


def test_keys_buttons_notes_and_a_reload(browser, site):
    with opened(browser, f"{site}/slides/framework.html") as view:
        page = view.page
        back, on = page.get_by_role("button", name="Back"), page.get_by_role("button", name="Next")
        assert back.is_disabled()
        on.press("Enter")
        assert state(view)["seen"] == ["slide-2"] and page.locator(".prompt .notes").is_hidden()
        page.keyboard.press("n")
        assert page.locator(".prompt .notes").is_visible()
        assert page.get_by_role("button", name="Notes").get_attribute("aria-pressed") == "true"
        page.keyboard.press("n")
        assert page.locator(".prompt .notes").is_hidden()
        page.keyboard.press("Space")  # the button has the focus: it is pressed, once
        assert state(view)["seen"] == ["slide-3"]
        assert "3 of" in page.get_by_role("status").inner_text()
        page.reload()
        assert state(view)["seen"] == ["slide-3"]
        page.keyboard.press("End")
        page.keyboard.press("Home")
        assert state(view)["seen"] == ["slide-1"]
        page.keyboard.press("Tab")
        ring = page.evaluate("getComputedStyle(document.activeElement).outlineStyle")
        assert ring == "solid", "the focus is seen"


def test_back_shows_the_answer_that_was_shown(browser, site):
    with opened(browser, f"{site}/slides/framework.html") as view:
        place = view.page.evaluate("[...document.querySelectorAll('.slide')].findIndex((s) => s.matches('.predict')) + 1")
        view.page.goto(f"{site}/slides/framework.html#slide-{place}")
        for key in ("ArrowRight", "ArrowRight", "ArrowLeft"):
            view.page.keyboard.press(key)
        assert state(view)["seen"] == [f"slide-{place}"] and state(view)["answer"]


def test_a_finger_turns_the_slide(browser, site):
    with browser.new_context(has_touch=True, viewport=PHONE) as context:
        page = context.new_page()
        page.goto(f"{site}/slides/framework.html")
        swipe = """(dx) => {
            const at = (x) => new Touch({ identifier: 1, target: document.body, clientX: x, clientY: 300 });
            document.body.dispatchEvent(new TouchEvent("touchstart", { touches: [at(200)], changedTouches: [at(200)], bubbles: true }));
            document.body.dispatchEvent(new TouchEvent("touchend", { touches: [], changedTouches: [at(200 + dx)], bubbles: true }));
        }"""
        page.evaluate(swipe, -120)
        assert page.locator("#slide-2").is_visible()
        page.evaluate(swipe, -20)  # no swipe
        assert page.locator("#slide-2").is_visible()
        page.evaluate(swipe, 120)
        assert page.locator("#slide-1").is_visible()


def test_without_a_script_all_slides_can_be_read(browser, site):
    with browser.new_context(java_script_enabled=False, viewport=WIDE) as context:
        page = context.new_page()
        page.goto(f"{site}/slides/framework.html")
        assert all(slide.is_visible() for slide in page.locator(".slide").all())
        assert all(answer.is_visible() for answer in page.locator(".answer").all())


def test_the_plan_ticks_what_was_read(browser, site):
    with opened(browser, f"{site}/pages/plan.html") as view:
        ticks = view.page.locator(".reading-plan .tick")
        assert ticks.count() == 0
        view.page.evaluate("localStorage.setItem('mlsd:read', JSON.stringify({'chapters/framework.html': {all: true}}))")
        view.page.reload()
        assert ticks.count() == view.page.locator('.reading-plan a[href="../chapters/framework.html"]').count() > 0
        assert list(silence(view)) == [] and list(accessibility(view)) == []


@pytest.mark.parametrize("page", ["workshop", "plan"])
def test_the_pages_work_from_a_folder(browser, page):
    with opened(browser, f"{FILE}/pages/{page}.html") as view:
        assert [*silence(view), *third_parties(view)] == []


# ---------- the check itself ----------

DECK = """<!DOCTYPE html><html lang="en"><head><title>x</title><link rel="icon" href="data:,"></head><body><main>{}</main>
<footer><nav aria-label="Slides"></nav></footer><script>{}</script></body></html>"""
SLIDES = "".join(
    f'<section class="slide {kind}" id="slide-{i}"><h2>{kind}</h2>{inside}</section>'
    for i, (kind, inside) in enumerate([("title", ""), ("predict", '<div class="answer">It falls.</div>'), ("remember", "")], 1)
)
BREAKS = {
    "an answer in sight": lambda text: text.replace("answer.hidden = !open", "answer.hidden = false"),
    "an answer that never comes": lambda text: text.replace("answerOf(slides[at]).hidden = false;", ""),
    "two slides at once": lambda text: text.replace("slide.hidden = k !== at", "slide.hidden = k > at"),
    "a slide that is too wide": lambda text: text.replace("<h2>remember", '<h2 style="width: 3000px">remember'),
    "a key that does nothing": lambda text: text.replace("ArrowRight: next, ", ""),
}


@pytest.mark.parametrize("broken", [None, *BREAKS], ids=str)
def test_what_goes_wrong_on_the_way_is_noticed(browser, tmp_path, broken):
    text = DECK.format(SLIDES, (ROOT / "press" / "assets" / "slides.js").read_text())
    changed = BREAKS[broken](text) if broken else text
    assert bool(broken) == (changed != text)
    (tmp_path / "deck.html").write_text(changed)
    with served(tmp_path) as url, opened(browser, f"{url}/deck.html") as view:
        assert bool(list(walked(view))) == bool(broken)
