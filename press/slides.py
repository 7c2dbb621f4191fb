"""Slides: one file of HTML for each chapter, made from the executed chapter when the site is built. Nothing is typed twice.

Prompt and core question, then what the chapter shows in its order: predictions (the answer comes with the next key), figures, claims,
decisions; the whiteboard, what to remember. The prose behind a figure or a claim is the presenter's note. A file has its styles, script
and figures in it, so it opens from a stick; formulas alone, where a deck has any, want the site's MathJax beside it.
"""

from __future__ import annotations

import base64
import html
import re
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

from docutils import nodes
from nbformat import NotebookNode
from sphinx.application import Sphinx
from sphinx.util.docutils import SphinxDirective

from press import ROOT, pictures
from press.diagrams import WHITEBOARD
from press.evidence import executed_pages, is_lab, parts, title_of
from press.front import REMEMBER, front_of, plain, to_remember
from press.landing import picture_of, shown
from press.notebooks import read
from press.practice import NO_PROSE, PREDICT, Places, dialogue, predictions, prose_after, to_html, with_heading
from press.records import MIME, cards, of_cell
from press.sheets import box, section, whiteboard

ASSETS = ROOT / "press" / "assets"
FOLDER = "slides"
ON_A_CARD = ("We choose", "Open", "It costs", "We would switch", "Refuted")  # how the lines of a decision begin


class Slide(NamedTuple):
    """What one slide shows; all but the heading is HTML, and empty where there is none."""

    kind: str
    heading: str
    body: str
    answer: str = ""  # comes with the next key
    notes: str = ""
    url: str = ""  # where it stands in the chapter
    section: str = ""  # the section of the chapter that it is of, without its number


def number_of(claim: dict) -> str:
    return f'<p class="sentence">{html.escape(claim["sentence"].rstrip("."))}.</p><p class="number">{html.escape(shown(claim))}</p>'


def _data(kind: str, content: bytes) -> str:
    return f"data:image/{kind};base64,{base64.b64encode(content).decode()}"


def figure(cell: NotebookNode) -> str:
    """The figure of a cell with its bytes, drawn narrow too where the chapter has that; empty if the cell shows none."""
    found = picture_of(cell)
    if found is None:
        return ""
    ending, content = found
    wide = _data("svg+xml", pictures.compact(content.decode()).encode()) if ending == "svg" else _data("png", pictures.light(content))
    drawn = [o["data"][pictures.NARROW] for o in cell.outputs if pictures.NARROW in o.get("data", {})]
    narrow = "".join(
        f'<source media="(max-width: 700px)" srcset="{_data("svg+xml", pictures.compact(svg).encode())}">' for svg in drawn[:1]
    )
    alt = cell.metadata.get("mystnb", {}).get("image", {}).get("alt", "")
    return f'<picture>{narrow}<img src="{wide}" alt="{html.escape(alt)}"></picture>'


def decision(card: NotebookNode) -> str:
    """A decision in the words of its card: what the output says line by line, "We choose", "It costs", "We would switch"."""
    lines = re.findall(rf"^({'|'.join(ON_A_CARD)}) (.+)\.$", card["data"]["text/plain"], re.M)
    return "<dl>" + "".join(f"<dt>{what}</dt><dd>{html.escape(text)}</dd>" for what, text in lines) + "</dl>"


def _opening(notebook: NotebookNode, places: Places) -> Iterator[Slide]:
    front = front_of(notebook)
    facts = " · ".join(filter(None, [f"{front.minutes} minutes to read" if front.minutes else "", front.level]))
    keys = "<p>→ or space: on. ←: back. N: the presenter’s notes. A prediction’s answer comes with the next key.</p>"
    yield Slide("title", front.title, f"<p>{html.escape(facts)}</p>{keys}", url=places.url)
    asked = "".join(f"<li><b>{html.escape(a)}</b> {html.escape(b)}</li>" for a, b in dialogue(notebook))
    notes = f"<p>If they ask:</p><ul>{asked}</ul>" if asked else ""
    yield Slide("prompt", "The prompt", to_html(box(notebook, "prompt")), notes=notes, url=places.of("Clarify"), section="Clarify")
    can_say = "".join(f"<li>{html.escape(text)}</li>" for text in front.can_say)
    notes = f"<p>Afterwards they can say</p><ul>{can_say}</ul>" if can_say else ""
    yield Slide("core", "The core question", to_html(box(notebook, "core-question")), notes=notes, url=places.url)


def _shown(notebook: NotebookNode, places: Places) -> Iterator[Slide]:
    """Predictions, figures, claims and decisions in the chapter's order. A claim that answers a prediction has no slide of its own."""
    answers = {asked.text: asked for asked in predictions(notebook)}
    answering = [asked.claim["sentence"] for asked in answers.values() if asked.claim]
    of_claim = {r["sentence"]: i for i, cell in enumerate(notebook.cells) for r in of_cell(cell) if r["kind"] == "claim"}
    now = ""
    for i, (heading, cell) in enumerate(with_heading(notebook)):
        title, url = re.sub(r"^\d+\. ", "", heading), places.of(heading)
        opened = re.findall(r"^## (?:\d+\. )?(.+)$", cell.source, re.M) if cell.cell_type == "markdown" else []
        now = plain(opened[-1]) if opened else now
        if cell.cell_type == "markdown":
            for _, text in PREDICT.findall(cell.source):
                claim, said = answers[text.strip()].claim, answers[text.strip()].said
                if claim is None:
                    yield Slide("predict", "Predict", to_html(text), said or "<p>The chapter has it.</p>", url=url, section=now)
                    continue
                # What the page says before it comes to the claim answers more of the question than the claim does.
                at = of_claim[claim["sentence"]]
                sooner = said if any(between.cell_type == "markdown" for between in notebook.cells[i + 1 : at]) else ""
                yield Slide("predict", "Predict", to_html(text), sooner + number_of(claim), prose_after(notebook.cells, at), url, now)
            continue
        if picture := figure(cell):
            yield Slide("figure", title, picture, notes=prose_after(notebook.cells, i), url=url, section=now)
        for output in cards(cell):
            record = output["data"][MIME]
            if record["kind"] == "claim" and record["sentence"] not in answering:
                yield Slide("claim", title, number_of(record), notes=prose_after(notebook.cells, i), url=url, section=now)
            elif record["kind"] == "decision":
                yield Slide("decision", record["question"], decision(output), notes=prose_after(notebook.cells, i), url=url, section=now)


def answer_aloud(notebook: NotebookNode) -> str:
    """The paragraphs beside the whiteboard, as Markdown: the answer in two minutes. Neither the drawing nor what is to be remembered."""
    said = section(notebook, WHITEBOARD).partition(f"**{REMEMBER}")[0]
    blocks = (block.strip() for block in re.split(r"\n\s*\n", re.sub(r"^```.*?^```", "", said, flags=re.M | re.S)))
    return "\n\n".join(block for block in blocks if block and not block.startswith("#") and not NO_PROSE.match(block))


def slides(notebook: NotebookNode, places: Places, root: Path) -> Iterator[Slide]:
    """All slides of an executed chapter."""
    yield from _opening(notebook, places)
    yield from _shown(notebook, places)
    if drawn := whiteboard(notebook, root, on_a_slide=True):
        yield Slide("whiteboard", WHITEBOARD, drawn, notes=to_html(answer_aloud(notebook)), url=places.of(WHITEBOARD), section=WHITEBOARD)
    if bullets := to_remember(notebook):
        kept = "".join(f"<li>{html.escape(text)}</li>" for text in bullets)
        yield Slide("remember", "What to remember", f"<ul>{kept}</ul>", url=places.of(WHITEBOARD), section=WHITEBOARD)


def numbers_of(deck: list[Slide], section: str) -> list[int]:
    """The numbers of a section's slides, from 1; empty where it has none."""
    return [n for n, slide in enumerate(deck, 1) if slide.section == section]


def _html(n: int, slide: Slide) -> str:
    parts = [
        f'<h2>{html.escape(slide.heading)}</h2><div class="body">{slide.body}</div>',
        f'<div class="answer">{slide.answer}</div>' if slide.answer else "",
        f'<div class="notes" role="note" aria-label="Presenter’s notes">{slide.notes}</div>' if slide.notes else "",
        f'<p class="from"><a href="{html.escape(slide.url)}">In the chapter</a></p>' if slide.url else "",
    ]
    return f'<section class="slide {slide.kind}" id="slide-{n}">{"".join(parts)}</section>'


def deck(notebook: NotebookNode, places: Places, root: Path) -> str:
    """The file of a chapter's slides."""
    title = html.escape(front_of(notebook).title)
    body = "\n".join(_html(n, slide) for n, slide in enumerate(slides(notebook, places, root), 1))
    math = '<script defer src="../_static/mathjax/tex-mml-chtml.js"></script>' if 'class="math' in body else ""
    return (
        '<!DOCTYPE html>\n<html lang="en"><head><meta charset="utf-8"><meta name="viewport" content="width=device-width, initial-scale=1">'
        f'<title>{title}: slides</title><meta name="robots" content="noindex"><link rel="icon" href="data:,">'
        f"<style>\n{(ASSETS / 'slides.css').read_text()}</style>{math}</head>\n"
        f'<body><header><h1>{title}</h1><a href="../index.html">The book</a></header>\n<main>\n{body}\n</main>\n'
        f'<footer><nav aria-label="Slides"></nav></footer>\n<script>\n{(ASSETS / "slides.js").read_text()}</script></body></html>\n'
    )


def write(app: Sphinx, error: Exception | None) -> None:
    if error is not None or app.builder.format != "html":
        return
    folder, root = Path(app.outdir, FOLDER), Path(app.srcdir)
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir()
    for name, notebook in executed_pages(root).items():
        docname = f"chapters/{name}"
        if not is_lab(name) and docname in app.env.all_docs:
            places = Places(app.env.press_passages.get(docname, []), f"../{app.builder.get_target_uri(docname)}")
            (folder / f"{name}.html").write_text(deck(notebook, places, root))


class Slides(SphinxDirective):
    """A list of all slides."""

    def run(self) -> list[nodes.Node]:
        chapters = (name for name in (entry.removeprefix("chapters/") for entry in parts(Path(self.env.srcdir))) if not is_lab(name))
        titles = {name: title_of(read(Path(self.env.srcdir, "chapters", f"{name}.ipynb"))) for name in chapters}
        items = "".join(f'<li><a href="../{FOLDER}/{name}.html">{html.escape(title)}</a></li>' for name, title in titles.items())
        return [nodes.raw("", f"<ul>{items}</ul>", format="html")]


def setup(app: Sphinx) -> None:
    app.add_directive("slides", Slides)
    app.connect("build-finished", write)
