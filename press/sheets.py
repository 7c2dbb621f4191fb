"""Cheat sheets: a page of A4 for each chapter, made from the executed chapter when the site is built. Nothing is typed twice.

A sheet has the prompt, the whiteboard, the key numbers (the chapter's claims), its decisions with what would flip them, and
how it is graded. A chapter may give its own table in the place of the numbers: the output of the cell with the tag `sheet`.
"""

from __future__ import annotations

import html
import re
from collections.abc import Iterator
from pathlib import Path

from docutils import nodes
from markdown_it import MarkdownIt
from nbformat import NotebookNode
from sphinx.application import Sphinx
from sphinx.util.docutils import SphinxDirective

from press import diagrams
from press.contract import kind_of
from press.diagrams import WHITEBOARD
from press.evidence import executed_pages
from press.notebooks import markdown
from press.records import records

TAGS = {"sheet", "print-one-page"}
RUBRIC = "How it is graded"


def section(notebook: NotebookNode, title: str) -> str:
    """The Markdown of a numbered section, without its heading; empty if there is none."""
    found = re.search(rf"^## (?:\d+\. )?{re.escape(title)}\s*$(.*?)(?=^## |\Z)", markdown(notebook), re.M | re.S)
    return found[1] if found else ""


def box(notebook: NotebookNode, css: str) -> str:
    """The Markdown inside the first box of a class (prompt, core-question)."""
    found = re.search(rf"^(:::+)\{{admonition\}}[^\n]*\n:class: {css}\b[^\n]*\n(.*?)^\1\s*$", markdown(notebook), re.M | re.S)
    return found[2].strip() if found else ""


def first_table(text: str) -> str:
    found = re.search(r"(?:^\|.*\n?)+", text, re.M)
    return found[0] if found else ""


def to_html(text: str) -> str:
    """Markdown as HTML, without its links: paper has none."""
    return re.sub(r"</?a\b[^>]*>", "", MarkdownIt("commonmark").enable("table").render(text)).strip()


def title_of(notebook: NotebookNode) -> str:
    return re.search(r"^# (.+)$", notebook.cells[0].source, re.M)[1]


def own_table(notebook: NotebookNode) -> str:
    """The table that a chapter gives for its sheet, or nothing."""
    for cell in notebook.cells:
        if TAGS & {*cell.metadata.get("tags", [])}:
            for output in cell.get("outputs", []):
                if table := re.search(r"<table.*</table>", output.get("data", {}).get("text/html", ""), re.S):
                    return re.sub(r'\s(?:border|style|class)="[^"]*"', "", table[0])
    return ""


def numbers(notebook: NotebookNode) -> str:
    """The claims of this run: sentence and number with its interval and unit."""
    from mlsd.estimates import Estimate  # here: they bring pandas, which the commands that read this file do not need
    from mlsd.tables import number

    rows = []
    for claim in records(notebook, "claim"):
        value = number(Estimate(claim["value"], claim["low"], claim["high"]), claim.get("unit") or "")
        rows.append(f"<li><strong>{html.escape(value)}</strong> {html.escape(claim['sentence'].rstrip('.'))}.</li>")
    return f"<ul>{''.join(rows)}</ul>" if rows else ""


def decided(notebook: NotebookNode) -> str:
    """The table of section 8, as the chapter shows it."""
    for cell in notebook.cells:
        for output in cell.get("outputs", []):
            text = output.get("data", {}).get("text/html", "")
            if "mlsd-decision-list" in text and (table := re.search(r"<table.*</table>", text, re.S)):
                return re.sub(r'\sclass="[^"]*"', "", table[0])
    return ""


def whiteboard(notebook: NotebookNode, root: Path, on_a_slide: bool = False) -> str:
    source = next((source for _, source in diagrams.fences(section(notebook, WHITEBOARD))), None)
    if source is None:
        return ""
    drawn = (diagrams.on_a_slide(source, root) if on_a_slide else None) or diagrams.drawing(source, root)
    return f'<div class="diagram">{drawn}</div>' if drawn else f"<pre>{html.escape(source)}</pre>"


def sheet(name: str, notebook: NotebookNode, root: Path) -> str:
    """The body of a chapter's sheet."""
    title = html.escape(title_of(notebook))
    parts = {
        "Whiteboard": whiteboard(notebook, root),
        "By the clock" if own_table(notebook) else "Key numbers": own_table(notebook) or numbers(notebook),
        "Decisions": decided(notebook),
        RUBRIC: to_html(first_table(section(notebook, RUBRIC))),
    }
    blocks = "".join(
        f'<section class="sheet-{re.sub("[^a-z]+", "-", heading.lower())}"><h2>{heading}</h2>'
        f'<div class="sheet-box" tabindex="0" role="region" aria-label="{heading}">{body}</div></section>'
        for heading, body in parts.items()
        if body
    )
    core = to_html("**The core question.** " + box(notebook, "core-question"))
    words = len(re.sub(r"<[^>]+>", " ", blocks + to_html(box(notebook, "prompt"))).split())
    dense = " dense" if words > 620 else ""
    return (
        f'<div class="sheet{dense}"><h1>{title}</h1>'
        f'<p class="sheet-from"><a href="../chapters/{name}.html">From the chapter</a>: every number was measured there. '
        "Printed, this is one page.</p>"
        f'<blockquote class="sheet-prompt">{to_html(box(notebook, "prompt"))}</blockquote>'
        f'<div class="sheet-core">{core}</div>'
        f"{blocks}</div>"
    )


def chapters(root: Path) -> Iterator[tuple[str, NotebookNode]]:
    """(name, executed notebook) of the chapters that the cache holds."""
    for name, notebook in executed_pages(root).items():
        if kind_of(notebook) in ("case", "production"):
            yield name, notebook


# ---------- on the site ----------


class CheatSheets(SphinxDirective):
    """A list of all sheets."""

    def run(self) -> list[nodes.Node]:
        root, rows = Path(self.env.srcdir), []
        for name, notebook in chapters(root):
            self.env.note_dependency(str(root / f"chapters/{name}.ipynb"))
            rows.append(f'<li><a href="../sheets/{name}.html">{html.escape(title_of(notebook))}</a></li>')
        return [nodes.raw("", f'<ul class="sheets">{"".join(rows)}</ul>', format="html")]


def link_from_the_whiteboard(app: Sphinx, doctree: nodes.document) -> None:
    """Where a chapter draws its whiteboard, it leads to its sheet."""
    name = app.env.docname.removeprefix("chapters/")
    if name == app.env.docname or "/" in name:
        return
    for part in doctree.findall(nodes.section):
        if part and isinstance(part[0], nodes.title) and part[0].astext().endswith(WHITEBOARD):
            text = f'<p class="to-the-sheet"><a href="../sheets/{name}.html">The cheat sheet of this chapter</a>: one page to print.</p>'
            part.append(nodes.raw("", text, format="html"))


def pages_of_sheets(app: Sphinx) -> Iterator[tuple[str, dict, str]]:
    root = Path(app.srcdir)
    for name, notebook in chapters(root):
        title = f"{title_of(notebook)}: cheat sheet"
        about = f"{title_of(notebook)} on one page: prompt, whiteboard, numbers, decisions with what would flip them, rubric."
        yield f"sheets/{name}", dict(title=title, about=about, body=sheet(name, notebook, root), meta={}, sourcename=""), "page.html"


def setup(app: Sphinx) -> None:
    app.add_directive("cheat-sheets", CheatSheets)
    app.connect("doctree-read", link_from_the_whiteboard)
    app.connect("html-collect-pages", pages_of_sheets)
