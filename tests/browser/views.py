"""What can be said of a page only by looking at it in a browser. Each check yields what is wrong."""

from __future__ import annotations

import contextlib
import functools
import gzip
import http.server
import threading
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import urlsplit

from playwright.sync_api import Browser, Page, expect

from press import ROOT

SITE = ROOT / "_build" / "html"
AXE = ROOT / "data" / "external" / "axe" / "axe.min.js"
TEXT = {".css", ".html", ".js", ".json", ".svg", ".txt"}  # what a static host compresses
WIDE, PHONE = dict(width=1440, height=900), dict(width=390, height=844)


@contextlib.contextmanager
def served(folder: Path) -> Iterator[str]:
    """The address under which a folder is served on this machine, on a free port."""

    class Quiet(http.server.SimpleHTTPRequestHandler):
        def log_message(self, *arguments):
            pass

    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), functools.partial(Quiet, directory=folder)) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{server.server_port}"
        server.shutdown()


class View:
    """A page as opened, with what it said and asked for on the way."""

    def __init__(self, page: Page) -> None:
        self.page = page
        self.console: list[str] = []
        self.foreign: list[str] = []
        self.missing: list[str] = []
        self.asked: set[str] = set()
        self._resized = False
        page.on("console", lambda m: self.console.append(f"{m.type}: {m.text}") if m.type in ("error", "warning") else None)
        page.on("pageerror", lambda error: self.console.append(f"exception: {error}"))
        page.on("requestfinished", lambda r: self.asked.add(r.url))
        page.on("response", lambda r: self.missing.append(f"{r.status} {r.url}") if r.status >= 400 else None)
        page.on("request", self._note)

    def _note(self, request) -> None:
        if urlsplit(request.url).hostname != "127.0.0.1" and not request.url.startswith(("data:", "blob:", "file:")):
            self.foreign.append(request.url)  # it gets no answer: `ALONE` of conftest.py

    def seen(self, scheme: str = "light", size: dict = WIDE, media: str = "screen") -> None:
        """Look at the same page in this theme, at this size, on this medium, without loading it anew."""
        if size != self.page.viewport_size:
            self.page.set_viewport_size(size)
            self._resized = True
        self.page.emulate_media(color_scheme=scheme, media=media)
        self.page.wait_for_function("(scheme) => (document.documentElement.dataset.theme ?? scheme) === scheme", arg=scheme)
        self.page.wait_for_function("document.getAnimations().every((a) => a.playState !== 'running')")

    def settle(self) -> None:
        """Wait until the theme has marked what scrolls at this size, 0.3 s after it changed. Timers of one page go off in their order."""
        if self._resized:
            self.page.evaluate("new Promise((done) => requestAnimationFrame(() => requestAnimationFrame(() => setTimeout(done, 400))))")
        self._resized = False


@contextlib.contextmanager
def opened(browser: Browser, url: str, scheme: str = "light", size: dict = WIDE) -> Iterator[View]:
    """Open an address in a browser that has been nowhere yet, and wait until its formulas are drawn."""
    with browser.new_context(color_scheme=scheme, viewport=size, permissions=["clipboard-read", "clipboard-write"]) as context:
        view = View(context.new_page())
        view.page.goto(url, wait_until="load")
        view.page.evaluate("window.MathJax?.startup?.promise")
        yield view


@contextlib.contextmanager
def without_scripts(browser: Browser) -> Iterator[View]:
    """A browser that runs no scripts, for as many pages as there are."""
    with browser.new_context(java_script_enabled=False, viewport=WIDE) as context:
        yield View(context.new_page())


def to_the_top(page: Page) -> None:
    """Scroll up and wait until the theme's button for it has faded, however long that takes here."""
    page.evaluate("scrollTo({ top: 0, behavior: 'instant' })")
    page.evaluate("() => new Promise((done) => requestAnimationFrame(() => requestAnimationFrame(done)))")
    expect(page.locator("#pst-back-to-top")).to_be_hidden()
    page.wait_for_function("document.getAnimations().every((a) => a.playState !== 'running')")


def silence(view: View) -> Iterator[str]:
    yield from view.console
    yield from view.missing


def third_parties(view: View) -> Iterator[str]:
    yield from (f"asks another host: {url}" for url in view.foreign)


def one_heading(view: View) -> Iterator[str]:
    if (n := view.page.locator("h1:visible").count()) != 1:
        yield f"expected one first-level heading in sight, found {n}"


def drawings(view: View) -> Iterator[str]:
    """Formulas and diagrams that are still text, pictures that did not load."""
    yield from view.page.evaluate("""() => {
        const undrawn = {
            "formula": (e) => e.matches(".math") && !e.querySelector("mjx-container"),
            "part of a formula": (e) => e.matches("mjx-merror"),
            "diagram": (e) => e.matches("pre.mermaid"),
            "picture": (e) => e.matches("img:not([loading=lazy])") && e.checkVisibility() && !e.naturalWidth,
        };
        const found = [];
        for (const element of document.querySelectorAll(".math, mjx-merror, pre.mermaid, img"))
            for (const [what, is] of Object.entries(undrawn))
                if (is(element)) found.push(`${what} not drawn: ${element.outerHTML.slice(0, 100)}`);
        return found;
    }""")


def overflow(view: View) -> Iterator[str]:
    """Whatever a phone would have to scroll sideways or cannot show at all; tables and code scroll in their own boxes."""
    yield from view.page.evaluate("""() => {
        const available = document.documentElement.clientWidth;
        const scrolls = (e) => e && (["auto", "scroll"].includes(getComputedStyle(e).overflowX) || scrolls(e.parentElement));
        const wide = [...document.querySelectorAll("main :is(article, footer) *")].filter((e) => {
            const box = e.getBoundingClientRect();
            const spoken = e.closest("mjx-assistive-mml"); // a formula in words, for screen readers alone
            return box.width && box.right > available + 1 && e.checkVisibility() && !scrolls(e.parentElement) && !spoken;
        });
        const found = wide.slice(0, 5).map((e) => `beyond the right edge: ${e.outerHTML.slice(0, 120)}`);
        if (document.documentElement.scrollWidth > available) found.push(`the page is ${document.documentElement.scrollWidth} pixels wide`);
        return found;
    }""")


def accessibility(view: View, contrast: bool = True, code: bool = True) -> Iterator[str]:
    """Every violation that axe finds, of whatever impact.

    Contrast takes most of its time, and most of that goes into the words of code, each with a colour of its own.
    """
    view.settle()
    if not view.page.evaluate("window.axe !== undefined"):
        view.page.add_script_tag(path=AXE)
    where = {"exclude": [] if code else [[".highlight pre"]]}
    how = {"resultTypes": ["violations"], "rules": {"color-contrast": {"enabled": contrast}}}
    found = view.page.evaluate("([where, how]) => axe.run(where, how)", [where, how])
    for violation in found["violations"]:
        nodes = "; ".join(node["html"][:150] for node in violation["nodes"][:3])
        yield f"{violation['impact']} {violation['id']}: {violation['help']} ({len(violation['nodes'])}: {nodes})"


def first_screen(view: View) -> Iterator[str]:
    """What a reader who does not scroll sees of the landing page: the promise, where to begin, how long, one surprise with its number."""
    wanted = {"h1": 1, ".lead": 1, "a.start-button": 3, ".start-length": 1, ".surprise-question": 1, ".surprise-answer strong": 1}
    height = view.page.viewport_size["height"]
    for selector, n in wanted.items():
        boxes = [found.bounding_box() for found in view.page.locator(selector).all() if found.is_visible()]
        seen = [box for box in boxes if box and box["y"] >= 0 and box["y"] + box["height"] <= height]
        if len(seen) != n:
            yield f"{selector}: expected {n} on the first screen of {height} pixels, found {len(seen)}"


def transferred(view: View, folder: Path) -> int:
    """The bytes that the page took over the network, as a static host compresses them."""
    files = {folder / urlsplit(url).path.lstrip("/") for url in view.asked if not url.startswith(("data:", "blob:"))}
    total = 0
    for file in {file / "index.html" if file.is_dir() else file for file in files}:
        content = file.read_bytes()
        total += len(gzip.compress(content, 6)) if file.suffix in TEXT else len(content)
    return total


def weight(view: View, folder: Path, at_most: int = 1_000_000) -> Iterator[str]:
    if (total := transferred(view, folder)) > at_most:
        yield f"a first visit takes {total:,} bytes, expected at most {at_most:,}"


def arrived(view: View) -> Iterator[str]:
    """Coming from the search: what was sought is marked, and one of the marks is on the screen."""
    yield from view.page.evaluate("""() => {
        const marks = [...document.querySelectorAll("article mark.found")];
        const seen = marks.filter((m) => ((b) => b.height && b.top >= 0 && b.bottom <= innerHeight)(m.getBoundingClientRect()));
        return [...(marks.length ? [] : ["nothing is marked"]), ...(seen.length ? [] : ["no mark is on the screen"])];
    }""")


def first_paint(browser: Browser, url: str) -> float:
    """Milliseconds until the first text is painted, in a visit with an empty cache."""
    with browser.new_context(viewport=WIDE) as context:
        page = context.new_page()
        page.goto(url, wait_until="load")
        page.wait_for_function("performance.getEntriesByName('first-contentful-paint').length")
        return page.evaluate("performance.getEntriesByName('first-contentful-paint')[0].startTime")


def shows_late(browser: Browser, url: str, bare: str, times: int = 6) -> Iterator[str]:
    """A page whose first text takes a second and half as long again as a bare page's: the best of some visits to the two in turn,
    so that what else the machine does falls on both."""
    own, plain = [], []
    for _ in range(times):
        own.append(first_paint(browser, url))
        plain.append(first_paint(browser, bare))
        if min(own) < max(1000, 1.5 * min(plain)):
            return
    yield f"the first text shows after {min(own):.0f} ms, on a bare page after {min(plain):.0f}"
