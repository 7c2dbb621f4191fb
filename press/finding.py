"""Search that leads to the passage: every section, and every term of the glossary, is an entry of its own.

Sphinx's index knows pages, and its results lead to their tops. This one is made from what was read: the text of each section without
code, tables and formulas, in one script that only the search page loads. `press/assets/search.js` ranks and shows it;
`_static/found.js` marks on the page what was sought. A page with `nosearch: true` in its front matter is left out.
"""

from __future__ import annotations

import json
import re
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

from docutils import nodes
from sphinx.application import Sphinx

from press import ROOT, pages
from press.front import front_of
from press.notebooks import read

ASSETS = ROOT / "press" / "assets"
SEARCH_PAGE = """<h1>Search</h1>
<noscript><p>The search runs in your browser, and needs JavaScript.</p></noscript>
<form class="bd-search book-search" action="search.html" role="search">
<input type="search" class="form-control" name="q" aria-label="Search the book" placeholder="Search the book"
 autocomplete="off" spellcheck="false">
<button type="submit" class="start-button first">Search</button></form>
<div id="search-results" aria-live="polite"></div>
<script src="_static/passages.js"></script><script src="_static/search.js"></script>"""
# What is no prose: code, what code printed, formulas, comments, and what only some formats show.
SKIPPED = (nodes.literal_block, nodes.math, nodes.math_block, nodes.comment, nodes.table, nodes.image)


class Passage(NamedTuple):
    """A place that a search can lead to."""

    anchor: str  # empty for the top of the page
    title: str
    text: str


def of_html(markup: str) -> str:
    """The words of a piece of HTML: not its tables, code, pictures, scripts, nor what a fold of a claim says about code."""
    markup = re.sub(r"<(table|pre|style|script|svg|details)\b.*?</\1>", " ", markup, flags=re.S | re.I)
    return re.sub(r"<[^>]+>", " ", markup).replace("&amp;", "&").replace("&lt;", "<").replace("&gt;", ">").replace("&#x27;", "'")


def words(node: nodes.Node) -> Iterator[str]:
    """The text of a node but for what is skipped, and for sections and glossary terms within, which are passages of their own."""
    if isinstance(node, nodes.Text):
        yield str(node)
    elif isinstance(node, nodes.raw):
        if "html" in node.get("format", ""):
            yield of_html(node.astext())
    elif not isinstance(node, (*SKIPPED, nodes.section, nodes.title)) and not _is_term(node):
        # An output has several forms; one of them is enough.
        children = node.children
        if node.get("nb_element") == "mime_bundle":
            forms = {child.get("mime_type"): child for child in children}
            children = [forms[kind] for kind in ("text/html", "text/markdown") if kind in forms][:1]
        for child in children:
            yield from words(child)
        if isinstance(node, nodes.TextElement):
            yield " "


def _is_term(node: nodes.Node) -> bool:
    return isinstance(node, nodes.definition_list_item) and "glossary" in node.parent.get("classes", [])


def _plain(parts: Iterator[str]) -> str:
    return " ".join("".join(parts).split())


def passages(document: nodes.document) -> list[Passage]:
    """Every section and glossary term of a document that was read."""
    found = []
    for section in document.findall(nodes.section):
        title = section.next_node(nodes.title)
        top = not isinstance(section.parent, nodes.section)
        text = _plain(part for child in section.children for part in words(child))
        found.append(Passage("" if top else section["ids"][0], title.astext() if title else "", text))
    for item in filter(_is_term, document.findall(nodes.definition_list_item)):
        term = item.next_node(nodes.term)
        definition = _plain(part for child in item.next_node(nodes.definition).children for part in words(child))
        found.append(Passage(term["ids"][0], _plain(iter([term.astext()])), definition))
    return [passage for passage in found if passage.title]


def collect(app: Sphinx, document: nodes.document) -> None:
    app.env.press_passages[app.env.docname] = [tuple(passage) for passage in passages(document)]


def forget(app: Sphinx, env, name: str) -> None:
    env.press_passages.pop(name, None)


def start(app: Sphinx) -> None:
    if not hasattr(app.env, "press_passages"):
        app.env.press_passages = {}
    if app.builder.format == "html":
        app.builder.search = False  # Sphinx's own index, and its page


def search_page(app: Sphinx) -> Iterator[tuple[str, dict, str]]:
    yield "search", {"title": "Search", "body": SEARCH_PAGE, "noindex": True}, "page.html"


def assigned(name: str, value: object) -> str:
    """A line of a script that gives the page this value, as `window.NAME`: a folder without a server can be read so."""
    return f"window.{name} = {json.dumps(value, ensure_ascii=False, separators=(',', ':'))};\n"


def write(app: Sphinx, error: Exception | None) -> None:
    if error is None and app.builder.format == "html":
        static = Path(app.outdir, "_static")
        entries = [
            [app.builder.get_target_uri(name), app.env.titles[name].astext(), *passage]
            for name, found in sorted(app.env.press_passages.items())
            if name in app.env.all_docs and "nosearch" not in app.env.metadata.get(name, {})
            for passage in found
        ]
        root = Path(app.srcdir)
        named = {
            app.builder.get_target_uri(page.relative_to(root).with_suffix("").as_posix()): front_of(read(page)).techniques
            for page in pages(root)
        }
        (static / "passages.js").write_text(assigned("PASSAGES", entries) + assigned("TECHNIQUES", named))
        shutil.copy(ASSETS / "search.js", static / "search.js")


def setup(app: Sphinx) -> None:
    app.connect("builder-inited", start)
    app.connect("doctree-read", collect)
    app.connect("env-purge-doc", forget)
    app.connect("html-collect-pages", search_page)
    app.connect("build-finished", write)
