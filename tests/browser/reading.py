"""What a reader of a chapter must find, as checks of a page in a browser. Each yields what is wrong."""

from __future__ import annotations

from collections.abc import Iterator

from playwright.sync_api import TimeoutError, expect
from views import View

SCREEN, SCREENS = 900, 20  # pixels of a screen's height, and how many of them a chapter may take with its code folded


def folding(view: View) -> Iterator[str]:
    """What reports is one closed fold, and the page is short."""
    yield from view.page.evaluate("""() => {
        const found = [];
        for (const cell of document.querySelectorAll(".cell.tag_hide-input")) {
            const fold = cell.querySelector(":scope > details.above-input");
            if (!fold) found.push(`not folded: ${cell.textContent.slice(0, 80)}`);
            else if (fold.open) found.push(`open: ${cell.textContent.slice(0, 80)}`);
            else if (!fold.querySelector("summary").textContent.trim()) found.push("a fold without words");
        }
        return found;
    }""")
    height = view.page.evaluate("document.querySelector('article').offsetHeight")
    if height > SCREENS * SCREEN:
        yield f"expected at most {SCREENS} screens of {SCREEN} pixels, found {height / SCREEN:.1f}"


def design_in_sight(view: View) -> Iterator[str]:
    """The code of the design is shown, where no answer covers it."""
    yield from view.page.evaluate("""() => [...document.querySelectorAll(".cell:not(.tag_hide-input, .tag_hide-cell) .cell_input")]
        .filter((input) => !input.closest(".covered[hidden]") && !input.checkVisibility())
        .map((input) => `not shown: ${input.textContent.trim().slice(0, 80)}`)""")


def secrecy(view: View) -> Iterator[str]:
    """What can be seen between a Predict box and the next heading, and what elsewhere says a covered claim or heading.

    It looks at what is visible and knows nothing of how it was hidden.
    """
    yield from view.page.evaluate("""() => {
        const article = document.querySelector("article");
        const seen = (e) => e.checkVisibility({ opacityProperty: true, visibilityProperty: true, contentVisibilityAuto: true });
        const words = (text) => text.replace(/[\\s#.]+/g, " ").trim();
        const found = [];
        const all = [...article.querySelectorAll("*")];
        for (const box of article.querySelectorAll(".admonition.predict")) {
            const secrets = [];
            let before = true;
            let computed = false; // a box may be the last of its section: then its answer stands in the next one
            for (const element of all) {
                if (element === box) before = false;
                if (before || box.contains(element) || element.closest(".read")) continue;
                const heading = element.matches("h1, h2, h3, h4") && seen(element);
                if (element.matches(".predict") || (heading && computed)) break;
                if (heading || (seen(element) && element.closest("h1, h2, h3, h4"))) continue;
                computed ||= element.matches(".cell_input, .cell_output");
                if (element.matches(".mlsd-claim, h2, h3, h4") && !seen(element)) secrets.push(element);
                const own = [...element.childNodes].some((n) => n.nodeType === Node.TEXT_NODE && n.data.trim());
                const what = `${words(box.textContent).slice(8, 50)}: ${words(element.textContent || element.alt || element.tagName)}`;
                if ((own || element.matches("img, svg, canvas")) && seen(element)) found.push(`in sight after ${what.slice(0, 120)}`);
            }
            if (!computed) found.push(`nothing is covered: ${words(box.textContent).slice(8, 60)}`);
            const earlier = (e) => e.closest(".bd-sidebar-secondary") || e.compareDocumentPosition(box) & Node.DOCUMENT_POSITION_FOLLOWING;
            const visible = [...document.querySelectorAll("article :is(p, li, h1, h2, h3, h4, pre), .bd-sidebar-secondary a")]
                .filter((e) => seen(e) && earlier(e));
            for (const secret of secrets) {
                const claim = secret.matches(".mlsd-claim");
                const sentence = words(claim ? secret.textContent.replace(/^.*?Claim \\w+\\.|Measured:[^]*$/g, "") : secret.textContent);
                for (const e of visible)
                    if (claim ? words(e.innerText).includes(sentence) : words(e.innerText.replace("✓", "")) === sentence)
                        found.push(`told before it is asked: ${sentence.slice(0, 80)}`);
            }
        }
        return found.slice(0, 10);
    }""")


def openness(view: View) -> Iterator[str]:
    """Without scripts and on paper: nothing of a chapter is out of reach."""
    yield from view.page.evaluate("""() => [...document.querySelectorAll("article :is(p, h2, h3, img, table, .mlsd-claim)")]
        .filter((e) => !e.closest("details, .toggle, .dropdown, .onlyprint, .noprint, .reading, .commit, .mlsd-move, .read, .said"))
        .filter((e) => !e.closest(".to-the-sheet"))
        .filter((e) => !e.matches(".only-light, .only-dark, .narrow")) // variants of a picture, of which one is shown: test_paper
        .filter((e) => !e.checkVisibility({ visibilityProperty: true }))
        .slice(0, 5).map((e) => `hidden: ${e.outerHTML.slice(0, 100)}`)""")


def nothing_to_press(view: View) -> Iterator[str]:
    """On paper: no box asks, no switch can be set."""
    if n := view.page.locator(".commit:visible, .reading:visible").count():
        yield f"expected nothing to press on paper, found {n}"


def uncover(view: View) -> None:
    switch = view.page.get_by_role("switch")
    if switch.count() and switch.is_checked():
        switch.uncheck()


def sliders(view: View) -> Iterator[str]:
    """Each sweep moves: by keyboard, with words for a screen reader, and the marked option of the table follows."""
    uncover(view)
    for details in view.page.locator("details.mlsd-sweep").all():
        card = details.locator("xpath=ancestor::*[contains(@class, 'mlsd-decision')]")
        slider = card.get_by_role("slider")
        if slider.count() != 1:
            yield f"expected a slider, found {slider.count()}"
            continue
        chosen = [row.inner_text() for row in card.locator("tr.chosen th").all()]  # as it is now: both ends may differ from it alone
        slider.focus()
        for key, towards in (("Home", "ArrowRight"), ("End", "ArrowLeft")):
            slider.press(key)
            for _ in range(3):
                said = slider.get_attribute("aria-valuetext") or ""
                row = card.locator("tr.chosen th")
                now = row.inner_text() if row.count() else "none of these"
                chosen.append(now)
                if not said.endswith(f": {now}") or now not in card.locator(".verdict").inner_text().replace(
                    "nothing meets", "none of these"
                ):
                    yield f"the slider says {said!r}, the table {now!r}"
                slider.press(towards)
        if len(set(chosen)) < 2:
            yield f"now and from end to end the choice is {chosen[0]}"
        if not card.locator(".mlsd-move .flip").count():
            yield "no flip is marked"
        back = card.get_by_role("button", name="as it is now")
        if back.is_enabled():  # it is not where the slider stands there already
            back.click()
        if not card.get_by_role("textbox").count():
            yield "there is no field for the number"


def copying(view: View) -> Iterator[str]:
    """The button of a cell copies its code."""
    cell = view.page.locator(".cell_input:visible").first
    cell.hover()
    cell.locator(".copybtn").click()
    copied = view.page.evaluate("navigator.clipboard.readText()").strip()
    if copied != cell.locator("pre").inner_text().strip():
        yield f"copied was {copied[:80]!r}"


def solutions(view: View) -> Iterator[str]:
    """A solution is folded, and its button opens it."""
    solution = view.page.locator("div.solution.dropdown").first
    content = solution.locator("section")
    if content.is_visible():
        yield "a solution is open"
    solution.locator("button.toggle-button").click()
    try:
        content.wait_for(state="visible", timeout=5000)
    except TimeoutError:
        yield "a solution does not open"


def cards(view: View) -> Iterator[str]:
    """Tables have one header row, numbers under their headers, intervals on one line, nothing cut; each claim says how to break it."""
    yield from view.page.evaluate("""() => {
        const found = [];
        const outputs = [...document.querySelectorAll(".cell_output")];
        for (const table of document.querySelectorAll(".cell_output table")) {
            const name = table.textContent.slice(0, 60).replace(/\\s+/g, " ");
            if (table.tHead?.rows.length > 1) found.push(`a second header row: ${name}`);
            const header = [...(table.tHead?.rows[0]?.cells ?? [])];
            for (const row of table.tBodies[0]?.rows ?? [])
                for (const [k, cell] of [...row.cells].entries()) {
                    const text = cell.textContent.trim(); // of a covered one too
                    if (/(\\.\\.\\.|…)$/.test(text)) found.push(`cut off: ${text.slice(-60)}`);
                    if (!/^[$€−+-]?[\\d.,]+[%×]?( \\[.*\\])?$/.test(text)) continue;
                    const style = getComputedStyle(cell);
                    const over = header[k] ? getComputedStyle(header[k]).textAlign : style.textAlign;
                    if (over !== style.textAlign) found.push(`a header is not over its numbers: ${name}`);
                    if (text.includes("[") && style.whiteSpace !== "nowrap") found.push(`an interval may wrap: ${text}`);
                }
        }
        for (const { textContent } of outputs)
            if (/dtype: \\w+/.test(textContent)) found.push(`a type name: ${textContent.slice(-60)}`);
        for (const claim of document.querySelectorAll(".mlsd-claim")) {
            const words = claim.textContent.slice(0, 80);
            if (!claim.querySelector("details.mlsd-break")) found.push(`does not say how to break it: ${words}`);
            if (/\\*\\w|\\w\\*/.test(claim.textContent.split("Measured")[0]))
                found.push(`raw markup: ${words}`);
        }
        return [...new Set(found)].slice(0, 10);
    }""")


def definitions(view: View) -> Iterator[str]:
    """A term shows its definition on focus and on hover, Escape closes it, and the link leads to the glossary."""
    for i in range(min(view.page.locator("a.term:visible").count(), 3)):
        term = view.page.locator("a.term:visible").nth(i)
        tip = view.page.get_by_role("tooltip")
        definition = term.get_attribute("data-definition") or "?"
        for what, act in (("focus", term.focus), ("hover", term.hover)):
            act()
            if not tip.is_visible() or tip.inner_text().strip() != definition:
                yield f"{term.inner_text()} shows nothing on {what}"
                continue
            if what == "focus" and term.get_attribute("aria-describedby") != tip.get_attribute("id"):
                yield f"{term.inner_text()} does not say what describes it"
            view.page.keyboard.press("Escape")
            expect(tip).to_be_hidden()
            view.page.mouse.move(0, 0)
        if "glossary.html#term-" not in (term.get_attribute("href") or ""):
            yield f"{term.inner_text()} does not lead to the glossary"
