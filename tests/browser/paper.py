"""Pictures at each width and in both themes; and what Chromium prints, read from the PDF itself: how many pages, how full each is."""

from __future__ import annotations

import re
import zlib
from collections.abc import Iterator

from reading import uncover

from press.diagrams import LEAST_TEXT

A4_POINTS, MARGIN_MM = 841.92, 13  # as _static/print.css has it
MOST_PAGES, LEAST_FULL = 15, 0.5  # of a printed chapter
LEAST_LABEL = 8  # CSS pixels, of a figure on a phone


def sheets_of(pdf: bytes) -> list[str]:
    """The drawing commands of each page."""
    objects = {int(m[1]): m[2] for m in re.finditer(rb"(\d+) 0 obj\n?(.*?)endobj", pdf, re.S)}
    found = []
    for text in objects.values():
        if re.search(rb"/Type\s*/Page\b(?!s)", text):
            stream = objects[int(re.search(rb"/Contents (\d+) 0 R", text)[1])]
            found.append(zlib.decompressobj().decompress(stream[stream.index(b"stream") + 6 :].lstrip(b"\r\n")).decode("latin1"))
    return found


def fullness(commands: str) -> float:
    """How far down a page its lowest text or picture lies, from 0 to 1."""
    matrix, stack, numbers, lowest = (1, 0, 0, 1, 0, 0), [], [], A4_POINTS
    for token in re.findall(r"\([^)]*\)|<[^>]*>|/\S+|[-+.\d]+|[A-Za-z*'\"]+", commands):
        if re.fullmatch(r"[-+]?[\d.]+", token):
            numbers.append(float(token))
            continue
        if token == "q":
            stack.append(matrix)
        elif token == "Q":
            matrix = stack.pop()
        elif token in ("cm", "Tm"):
            a, b, c, d, e, f = numbers[-6:]
            A, B, C, D, E, F = matrix
            moved = (a * A + b * C, a * B + b * D, c * A + d * C, c * B + d * D, e * A + f * C + E, e * B + f * D + F)
            if token == "cm":
                matrix = moved
            else:
                lowest = min(lowest, moved[5])
        elif token == "Do" and abs(matrix[3]) > 5:  # a picture fills the unit square
            lowest = min(lowest, matrix[5], matrix[5] + matrix[3])
        numbers = [] if not token.startswith("/") else numbers
    margin = MARGIN_MM * 72 / 25.4
    return (A4_POINTS - margin - lowest) / (A4_POINTS - 2 * margin)


def printed(view, most: int, least_full: float = 0.0) -> Iterator[str]:
    """What is wrong with a page on paper: too many pages, or one but the last that is nearly empty."""
    view.page.emulate_media(media="print")
    pages = sheets_of(view.page.pdf(prefer_css_page_size=True, print_background=True))
    if not 1 <= len(pages) <= most:
        yield f"{len(pages)} pages, expected at most {most}"
    yield from (f"page {i} is {full:.0%} full" for i, full in enumerate(map(fullness, pages[:-1]), 1) if full < least_full)
    view.page.emulate_media(media="screen")


def light_without_code(view) -> Iterator[str]:
    """What paper must not show, by the styles that hold there."""
    view.page.emulate_media(media="print")
    yield from view.page.evaluate("""() => {
        const found = [];
        const seen = (selector) => [...document.querySelectorAll(selector)].filter((e) => e.checkVisibility());
        for (const e of seen(".cell_input pre, .toggle-button, .mlsd-sweep, div.solution, dialog[open]"))
            found.push(`is printed: ${e.outerHTML.slice(0, 80)}`);
        for (const e of seen("article .only-dark, article img.narrow, .drawn-diagram.on-phone"))
            found.push(`the wrong variant: ${e.outerHTML.slice(0, 80)}`);
        const shade = (colour) => {
            const [r, g, b, a = 1] = colour.match(/[\\d.]+/g).map(Number);
            const scale = colour.startsWith("color(") ? 255 : 1; // what color-mix computes to
            return a ? (scale * (r + g + b)) / 3 : 255;
        };
        for (const e of seen("body, article, article :is(p, td, div.admonition, .mlsd-claim, .mlsd-decision)")) {
            const style = getComputedStyle(e);
            if (shade(style.backgroundColor) < 200) found.push(`dark paper: ${e.outerHTML.slice(0, 80)}`);
            if (shade(style.color) > 140) found.push(`pale ink ${style.color}: ${e.outerHTML.slice(0, 80)}`);
        }
        return found.slice(0, 5);
    }""")
    view.page.emulate_media(media="screen")


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
