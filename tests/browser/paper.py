"""What Chromium prints, read from the PDF itself: how many pages, and how full each is."""

from __future__ import annotations

import re
import zlib
from collections.abc import Iterator

A4_POINTS, MARGIN_MM = 841.92, 13  # as _static/print.css has it


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
