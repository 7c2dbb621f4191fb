"""Terms of the glossary where chapters use them: the definition at hand there, and in the glossary the way to where it is measured.

Marked is the first use of a term in the prose of each second-level section of a chapter, when the page is written: a link to the
glossary that carries the definition, which `_static/page.js` shows on hover and focus. The glossary stays the one place to write it.
"""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from typing import NamedTuple

from docutils import nodes
from sphinx import addnodes
from sphinx.application import Sphinx

GLOSSARY = "pages/glossary"
CHAPTERS = "chapters/"
MEASURES = {"claim", "decision"}
# Where a term is no running prose, or is a link, a name or a formula already.
_SKIPPED = (
    nodes.reference,
    addnodes.pending_xref,
    nodes.literal,
    nodes.math,
    nodes.title,
    nodes.raw,
    nodes.table,
    nodes.literal_block,
)


class term_use(nodes.inline):
    """A use of a glossary term: `name` as it stands there, `definition` in plain text."""


class Term(NamedTuple):
    name: str
    pattern: re.Pattern
    definition: str
    anchor: str


class Passage(NamedTuple):
    """Where a chapter uses a term."""

    document: str
    section: str  # its anchor
    title: str
    measured: bool  # a claim or decision of that section is about it


def pattern_of(name: str) -> re.Pattern:
    """How a term is written in a text: in the plural, with its number (recall@10); abbreviations as they are, words in any case."""
    word = re.escape(name)
    if name.endswith("@k"):
        word = word.removesuffix("k") + r"(?:k|\d+)"
    elif name.endswith("y"):
        word = word.removesuffix("y") + "(?:y|ies)"
    else:
        word += "s?"
    is_abbreviation = sum(letter.isupper() for letter in name) > 1
    return re.compile(rf"(?<![\w@-]){word}(?![\w@-])", 0 if is_abbreviation else re.I)


def terms_in(glossary: nodes.document) -> list[Term]:
    found = []
    for entry in glossary.findall(nodes.definition_list_item):
        definition = " ".join(" ".join(p.astext() for p in entry.findall(nodes.paragraph)).split())
        found += [Term(t.astext(), pattern_of(t.astext()), definition, t["ids"][0]) for t in entry.findall(nodes.term) if t["ids"]]
    return found


def _cell(node: nodes.Node) -> nodes.Element | None:
    """The code cell (with its outputs) in which a node stands."""
    while node is not None and not (isinstance(node, nodes.container) and node.get("nb_element") == "cell_code"):
        node = node.parent
    return node


def _within(node: nodes.Node, kinds: type | tuple) -> bool:
    while node is not None and not isinstance(node, kinds):
        node = node.parent
    return node is not None


def _has_heading(node: nodes.Node) -> bool:
    return isinstance(node, nodes.section) and bool(node.children) and isinstance(node[0], nodes.title)


def _sections(document: nodes.document) -> list[nodes.section]:
    """Those of the second level."""
    return [s for page in document.children if _has_heading(page) for s in page.children if _has_heading(s)]


def uses(document: nodes.document, terms: list[Term]) -> Iterator[tuple[nodes.Text, re.Match, Term]]:
    """The first use of each term in the prose of each section; of two that overlap, the longer."""
    for section in _sections(document):
        todo = sorted(terms, key=lambda term: -len(term.name))
        texts = [t for t in section.findall(nodes.Text) if _within(t, nodes.paragraph) and not _within(t, _SKIPPED) and not _cell(t)]
        for text in texts:
            taken: list[tuple[int, int]] = []
            for term in list(todo):
                match = term.pattern.search(text.astext())
                if match and not any(start < match.end() and match.start() < end for start, end in taken):
                    taken.append(match.span())
                    todo.remove(term)
                    yield text, match, term


def mark(document: nodes.document, terms: list[Term]) -> None:
    """Turn each first use into a node of its own."""
    by_text: dict[int, tuple[nodes.Text, list[tuple[re.Match, Term]]]] = {}
    for text, match, term in uses(document, terms):
        by_text.setdefault(id(text), (text, []))[1].append((match, term))
    for text, found in by_text.values():
        words, at, parts = text.astext(), 0, []
        for match, term in sorted(found, key=lambda pair: pair[0].start()):
            parts.append(nodes.Text(words[at : match.start()]))
            parts.append(term_use("", match.group(), name=term.name, definition=term.definition, anchor=term.anchor))
            at = match.end()
        parts.append(nodes.Text(words[at:]))
        text.parent.replace(text, [part for part in parts if part.astext()])


def passages(name: str, document: nodes.document, terms: list[Term]) -> dict[str, Passage]:
    """For each term the one passage of a chapter to lead to: where a claim or decision is about it, else where it is first used."""

    def at(node: nodes.Node, measured: bool) -> Passage:
        while not _has_heading(node):  # an exercise is a section without one
            node = node.parent
        return Passage(name, node["ids"][0], node[0].astext(), measured)

    found: dict[str, Passage] = {}
    for text, _, term in uses(document, terms):
        found.setdefault(term.name, at(text, False))
    for block in document.findall(nodes.literal_block):
        if _cell(block) and (words := measured_in(block.astext())):
            for term in terms:
                if term.pattern.search(words) and not (term.name in found and found[term.name].measured):
                    found[term.name] = at(block, True)
    return found


def measured_in(source: str) -> str:
    """What the claims and decisions of a cell are about, in words: their sentences, and the effects that they rest on."""
    try:
        calls = [n for n in ast.walk(ast.parse(source)) if isinstance(n, ast.Call) and ast.unparse(n.func) in MEASURES]
    except SyntaxError:
        return ""
    about = [part for call in calls for part in [*call.args, *(k.value for k in call.keywords if k.arg in ("key", "rests_on"))]]
    texts = [n.value for part in about for n in ast.walk(part) if isinstance(n, ast.Constant) and isinstance(n.value, str)]
    return " . ".join(text.replace("_", " ") for text in texts)


def _titles(app: Sphinx, name: str) -> str:
    return app.env.titles[name].astext()


def lead_back(app: Sphinx, glossary: nodes.document, terms: list[Term]) -> None:
    """Below each entry: where chapters measure or use it."""
    found = [passages(name, app.env.get_doctree(name), terms) for name in sorted(app.env.found_docs) if name.startswith(CHAPTERS)]
    for entry in glossary.findall(nodes.definition_list_item):
        names = [term.astext() for term in entry.findall(nodes.term)]
        there = [by_name[name] for by_name in found for name in names[:1] if name in by_name]
        line = nodes.paragraph(classes=["term-uses"])
        for words, some in (("Measured in ", [p for p in there if p.measured]), ("Used in ", [p for p in there if not p.measured])):
            for passage in some:
                line += nodes.Text(words if passage is some[0] else ", ")
                uri = f"{app.builder.get_relative_uri(GLOSSARY, passage.document)}#{passage.section}"
                line += nodes.reference("", f"{_titles(app, passage.document)}: {passage.title}", internal=True, refuri=uri)
            line += nodes.Text(". " if some else "")
        if there:
            next(iter(entry.findall(nodes.definition))).append(line)


def resolved(app: Sphinx, document: nodes.document, name: str) -> None:
    if app.builder.format != "html" or GLOSSARY not in app.env.found_docs:
        return
    if name == GLOSSARY:
        lead_back(app, document, terms_in(document))
    elif name.startswith(CHAPTERS):
        mark(document, terms_in(app.env.get_doctree(GLOSSARY)))


def written_anew(app: Sphinx, env) -> list[str]:
    """The glossary leads to chapters and they carry its definitions: a change of one side is written on the other."""
    changed = set(getattr(app, "press_read", ()))
    chapters = {name for name in env.found_docs if name.startswith(CHAPTERS)}
    if GLOSSARY in changed:
        return sorted(chapters)
    return [GLOSSARY] if changed & chapters and GLOSSARY in env.found_docs else []


def remember_what_is_read(app: Sphinx, env, names: list[str]) -> None:
    app.press_read = list(names)


def visit_term(translator, node: term_use) -> None:
    target = translator.builder.get_relative_uri(translator.builder.current_docname, GLOSSARY) + "#" + node["anchor"]
    translator.body.append(translator.starttag(node, "a", "", CLASS="term", href=target, **{"data-definition": node["definition"]}))


def depart_term(translator, node: term_use) -> None:
    translator.body.append("</a>")


def setup(app: Sphinx) -> None:
    app.add_node(term_use, html=(visit_term, depart_term))
    app.connect("env-before-read-docs", remember_what_is_read)
    app.connect("env-updated", written_anew)
    app.connect("doctree-resolved", resolved)
