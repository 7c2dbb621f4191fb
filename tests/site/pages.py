"""What can be said of a built site from its files alone. Each rule yields what is wrong with one page."""

from __future__ import annotations

import functools
import gzip
import os
import re
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import unquote

from bs4 import BeautifulSoup, NavigableString, Tag

MAKES_NO_PAGE = {"404.html", "genindex.html", "search.html"}
MAX_BYTES = 1_500_000
MAX_FIRST_VISIT = 1_000_000
TEXT = {".css", ".html", ".js", ".json", ".svg", ".txt", ".xml"}  # what a static host compresses
RAW = re.compile(r":::|```|^\s*:(?:class|label|tags):|\{(?:\w+:)?\w+\}`", re.M)
FOREIGN = re.compile(r"^(?:https?:)?//")


def pages(site: Path) -> list[Path]:
    """The pages that a reader reads. Slides are none: tests/site/test_workshop.py."""
    found = (path for path in sorted(site.rglob("*.html")) if {"_static", "slides"}.isdisjoint(path.parts))
    return [path for path in found if path.name not in MAKES_NO_PAGE]


@functools.cache
def soup(path: Path) -> BeautifulSoup:
    return BeautifulSoup(path.read_text(), "html.parser")


def target(site: Path, page: Path, url: str) -> tuple[Path, str]:
    """The file and the anchor that a local address points at."""
    path, _, anchor = url.partition("#")
    path = unquote(path.partition("?")[0])
    file = page if not path else site / path.lstrip("/") if path.startswith("/") else page.parent / path
    file = Path(os.path.normpath(file))
    return (file / "index.html" if file.is_dir() else file), unquote(anchor)


def is_local(url: str) -> bool:
    return not re.match(r"[a-z][a-z0-9+.-]*:|//", url, re.I)


def links(site: Path, page: Path) -> Iterator[str]:
    for link in soup(page).select("a[href]"):
        if is_local(link["href"]):
            file, anchor = target(site, page, link["href"])
            if not file.is_relative_to(site) or not file.exists():
                yield f"dead link: {link['href']}"
            elif (
                anchor
                and file.suffix == ".html"
                and not soup(file).find(attrs={"id": anchor})
                and not soup(file).find("a", {"name": anchor})
            ):
                yield f"no such place on the page: {link['href']}"


def images(site: Path, page: Path) -> Iterator[str]:
    for image in soup(page).find_all("img"):
        if is_local(image["src"]) and not target(site, page, image["src"])[0].exists():
            yield f"missing image: {image['src']}"
        alt = image.get("alt", "").strip()
        if image.find_parent(class_="navbar-brand"):  # the logo, with the title beside it
            continue
        if not alt or re.search(r"\.(png|svg|jpe?g)$", alt):
            yield f"no alternative text ({alt!r}): {image['src']}"


def prose(element: Tag) -> Iterator[str]:
    """The texts of an element, without code."""
    for child in element.children:
        if isinstance(child, Tag):
            yield from prose(child) if child.name not in ("pre", "code", "script", "style") else ()
        elif type(child) is NavigableString:  # a comment is a kind of it
            yield child


def raw_text(site: Path, page: Path) -> Iterator[str]:
    for line in "".join(prose(soup(page).select_one("article"))).splitlines():
        if RAW.search(line):
            yield f"raw markup: {line.strip()[:100]}"


def third_parties(site: Path, page: Path) -> Iterator[str]:
    """Whatever the browser would load by itself from another host; links that a reader follows are not that."""
    selectors = {"[src]": "src", "[srcset]": "srcset", "object[data]": "data", "link[href]": "href"}
    for selector, attribute in selectors.items():
        for element in soup(page).select(selector):
            if FOREIGN.match(element[attribute]) and element.get("rel") not in (["canonical"], ["alternate"]):
                yield f"loaded from another host: <{element.name} {attribute}={element[attribute]}>"
    for style in soup(page).select("link[rel=stylesheet][href]"):
        file, _ = target(site, page, style["href"])
        found = re.findall(r"""(?:@import\s+|url\(\s*)["']?((?:https?:)?//[^"')\s]+)""", file.read_text() if file.exists() else "")
        yield from (f"{file.name} loads {url}" for url in found)


def weight(site: Path, page: Path) -> Iterator[str]:
    """The page and its pictures; scripts and styles are shared by all pages and cached."""
    pictures = {target(site, page, image["src"])[0] for image in soup(page).find_all("img") if is_local(image["src"])}
    total = page.stat().st_size + sum(picture.stat().st_size for picture in pictures if picture.exists())
    if total > MAX_BYTES:
        yield f"expected at most {MAX_BYTES / 1e6} MB, found {total / 1e6:.2f} MB"


@functools.cache
def transferred(path: Path) -> int:
    """The bytes of a file as a static host sends it."""
    content = path.read_bytes()
    return len(gzip.compress(content, 6)) if path.suffix in TEXT else len(content)


def loaded(site: Path, page: Path) -> set[Path]:
    """The page and all that it names: scripts, styles, their fonts of icons, and pictures down to the end, in light on a wide screen."""
    selectors = {"script[src]": "src", "link[rel=stylesheet][href]": "href", "img[src]:not(.only-dark, .narrow)": "src"}
    urls = [element[attribute] for selector, attribute in selectors.items() for element in soup(page).select(selector)]
    files = {page, *(target(site, page, url)[0] for url in urls if is_local(url))}
    for style in [file for file in files if file.suffix == ".css" and file.exists()]:
        files |= {target(site, style, url)[0] for url in re.findall(r"url\(([^)\"']+\.woff2?)\)", style.read_text())}
    return {file for file in files if file.exists()}


def first_visit(site: Path, page: Path) -> Iterator[str]:
    """What a reader's first page takes over the network. What scripts load by themselves is weighed in tests/browser."""
    sizes = {file.name: transferred(file) for file in loaded(site, page)}
    if sum(sizes.values()) > MAX_FIRST_VISIT:
        heaviest = sorted(sizes, key=sizes.get)[-4:]
        yield f"a first visit takes {sum(sizes.values()):,} bytes, expected at most {MAX_FIRST_VISIT:,}; heaviest: {', '.join(heaviest)}"


def unused(site: Path, page: Path) -> Iterator[str]:
    """Scripts that this page has no use for, and such that hold up its text."""
    for script in soup(page).select("script[src]"):
        name = Path(script["src"].partition("?")[0]).name
        if name in ("fontawesome.js", "searchtools.js", "searchindex.js", "mermaid.min.js"):
            yield f"loads {name}"
        if "mathjax" in script["src"] and not soup(page).select(".math, .math-inside"):
            yield "loads MathJax, and has no formula"
        if script.find_parent("head") and not (script.has_attr("defer") or script.has_attr("async")) and name != "documentation_options.js":
            yield f"{name} holds up the text"


def head(site: Path, page: Path) -> Iterator[str]:
    """What the page says of itself: to a browser's tab, a search engine, somebody who shares it."""
    top = soup(page).head
    name, *rest = re.split(r" [—-] ", top.title.get_text())
    if name in rest or (page.name == "index.html" and rest):
        yield f"the title repeats itself: {top.title.get_text()!r}"
    if len(top.select("meta[name=viewport]")) != 1:
        yield f"expected one meta viewport, found {len(top.select('meta[name=viewport]'))}"
    for selector in ('meta[name="description"]', 'meta[property="og:title"]', 'meta[property="og:description"]'):
        found = [meta.get("content", "") for meta in top.select(selector)]
        least, most = (5, 120) if "title" in selector else (40, 160)
        if len(found) != 1 or not least <= len(found[0]) <= most:
            yield f"{selector}: expected one of {least} to {most} characters, found {found}"


def exercises(site: Path, page: Path) -> Iterator[str]:
    """They count from 1 on each page, as in JupyterLab."""
    titles = [title.get_text() for title in soup(page).select(".exercise > .admonition-title")]
    numbers = [int(match[1]) for title in titles if (match := re.match(r"Exercise (\d+)", title))]
    if numbers != list(range(1, len(titles) + 1)):
        yield f"exercises are numbered {numbers}"
    for solution in soup(page).select(".solution > .admonition-title a[href^='#']"):
        exercise = soup(page).find(id=solution["href"][1:])
        said = re.search(r"\d+", solution.get_text())
        if exercise is None or said is None or f"Exercise {said[0]}" not in exercise.get_text():
            yield f"{solution.get_text()!r} is a solution of another exercise"


def colophon(site: Path, page: Path) -> Iterator[str]:
    """Which version this is, and of when."""
    foot = soup(page).select_one("footer .book-version")
    if foot is None or not foot.select("time[datetime]"):
        yield "the foot of the page has no date"


def outputs(site: Path, page: Path) -> Iterator[str]:
    for element in soup(page).select(".output.stderr, .output.traceback, .output.error"):
        yield f"a warning or an error among the outputs: {element.get_text().strip()[:200]}"


def structure(site: Path, page: Path) -> Iterator[str]:
    if not soup(page).html.get("lang"):
        yield "the page does not state its language"
    if len(soup(page).find_all("h1")) != 1:
        yield f"expected one first-level heading, found {len(soup(page).find_all('h1'))}"
    ids = [element["id"] for element in soup(page).select("[id]")]
    yield from (f"the id {i!r} is there more than once" for i in sorted({i for i in ids if ids.count(i) > 1}))


RULES = [links, images, raw_text, third_parties, weight, first_visit, unused, head, exercises, colophon, outputs, structure]
