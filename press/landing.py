"""The landing page: where to begin, one worked surprise, a card for each chapter, and what stands behind it. All from executed chapters."""

from __future__ import annotations

import base64
import html
from pathlib import Path

from docutils import nodes
from docutils.parsers.rst import directives
from nbformat import NotebookNode
from sphinx.util import logging
from sphinx.util.docutils import SphinxDirective

from press import pictures
from press.evidence import Evidence, executed_pages, is_lab, parts, title_of, unanimous
from press.front import front_of
from press.records import key_of, of_cell, records

LOGGER = logging.getLogger(__name__)
KINDS = {"image/svg+xml": "svg", "image/png": "png"}  # of figures, the better first


def picture_of(cell: NotebookNode) -> tuple[str, bytes] | None:
    """(ending, content) of the figure that a cell shows, or None."""
    for kind, ending in KINDS.items():
        for output in cell.get("outputs", []):
            if found := output.get("data", {}).get(kind):
                return ending, found.encode() if ending == "svg" else base64.b64decode(found)
    return None


def cover_of(notebook: NotebookNode) -> NotebookNode | None:
    return next((cell for cell in notebook.cells if "cover" in cell.metadata.get("tags", []) and picture_of(cell)), None)


def duration(minutes: int) -> str:
    """Minutes as a reader says them; hours are rounded to halves."""
    if minutes < 90:
        return f"{minutes} minutes"
    halves = round(minutes / 30)
    return f"{halves // 2}{'½' if halves % 2 else ''} hours"


class Directive(SphinxDirective):
    """What the directives of this page share."""

    @property
    def root(self) -> Path:
        return Path(self.env.srcdir)

    def raw(self, *parts: str) -> nodes.raw:
        return nodes.raw("", "".join(parts), format="html")

    def image(self, name: str, cell: NotebookNode, lazy: bool = True) -> str:
        """The figure of a cell, written into the site, as an image."""
        return pictures.image(cell, name, Path(self.env.app.outdir, "_images"), lazy)


class Start(Directive):
    """Where to begin, and how long all of it takes: the argument names the chapter to begin with."""

    required_arguments = 1

    def run(self) -> list[nodes.Node]:
        found = executed_pages(self.root)
        fronts = {name: front_of(notebook) for name, notebook in found.items() if not is_lab(name)}
        first = self.arguments[0]
        if first not in fronts:
            LOGGER.warning("start: no chapter %r; there are %s", first, ", ".join(fronts), location=self.get_location())
            return []
        title = fronts[first].title
        title = title[0].lower() + title[1:]  # "The seven-step framework", in the middle of a line
        time = f", {fronts[first].minutes} min" if fronts[first].minutes else ""
        buttons = [
            f'<a class="start-button first" href="chapters/{first}.html">Start: {html.escape(title)}{time}</a>',
            '<a class="start-button" href="#pick-a-case">Pick a case</a>',
            '<a class="start-button" href="pages/how_to_use.html#read-run-change">Run it</a>',
        ]
        known = [front.minutes for front in fronts.values() if front.minutes]
        length = f"{len(fronts)} chapter{'s'[: len(fronts) > 1]}"
        if len(known) == len(fronts):
            each = f"{duration(round(sum(known) / len(known)))} each, " if len(known) > 1 else ""
            length += f", {each}{duration(sum(known))}{' in all' if each else ''}"
        return [
            self.raw(f'<p class="start-buttons">{"".join(buttons)}</p><p class="start-length">{length}. Nothing to install to read.</p>')
        ]


class Surprise(Directive):
    """A question, and what a chapter measured: `{surprise} CHAPTER`, the claim by its key, the question as content.

    The figure is the last one before the claim, or with `:figure: cover` the chapter's cover. Sentence, number and picture
    are those of the executed chapter; a claim that is not there is a warning, which stops the build.
    """

    required_arguments = 1
    has_content = True
    option_spec = {"claim": directives.unchanged_required, "figure": lambda text: directives.choice(text, ("before", "cover"))}

    def run(self) -> list[nodes.Node]:
        name, key = self.arguments[0], self.options["claim"]
        notebook = executed_pages(self.root).get(name)
        cells = notebook.cells if notebook else []
        at = next((i for i, cell in enumerate(cells) for r in of_cell(cell) if r["kind"] == "claim" and key_of(r) == key), None)
        if at is None:
            known = ", ".join(key_of(claim) for claim in records(notebook, "claim")) if notebook else "no such chapter"
            LOGGER.warning("surprise: %s has no claim %r; there are: %s", name, key, known, location=self.get_location())
            return []
        claim = next(r for r in of_cell(cells[at]) if r["kind"] == "claim" and key_of(r) == key)
        before = next((cell for cell in reversed(cells[: at + 1]) if picture_of(cell)), None)
        figure = cover_of(notebook) if self.options.get("figure") == "cover" or before is None else before
        question = nodes.container(classes=["surprise-question"])
        self.state.nested_parse(self.content, self.content_offset, question)
        link = f"chapters/{name}.html{self.anchor(cells[:at])}"
        answer = (
            f'<p class="surprise-answer">{html.escape(claim["sentence"])}. Measured: <strong>{html.escape(shown(claim))}</strong>.</p>'
            f'<p class="surprise-link"><a href="{link}">See it measured, and why: {html.escape(title_of(notebook))}</a></p>'
        )
        picture = f'<div class="surprise-figure">{self.image(f"surprise-{key}", figure, lazy=False)}</div>' if figure else ""
        box = nodes.container(classes=["surprise"])
        words = nodes.container(classes=["surprise-words"])
        words += [self.raw('<p class="surprise-label">One surprise, worked out</p>'), question, self.raw(answer)]
        box += [words, self.raw(picture)]
        return [box]

    @staticmethod
    def anchor(cells: list[NotebookNode]) -> str:
        """The place of the last heading in these cells."""
        headings = [line for cell in cells if cell.cell_type == "markdown" for line in cell.source.splitlines() if line.startswith("##")]
        return f"#{nodes.make_id(headings[-1].lstrip('# '))}" if headings else ""


def shown(claim: dict) -> str:
    """The number of a claim, as the chapter shows it."""
    from mlsd.estimates import Estimate  # costs the import of pandas, here alone
    from mlsd.tables import number

    return number(Estimate(claim["value"], claim["low"], claim["high"]), claim["unit"])


class ChapterCards(Directive):
    """A card for each chapter, by part: its picture, title, minutes, level, core question and techniques."""

    def run(self) -> list[nodes.Node]:
        found, part_of = executed_pages(self.root), parts(self.root)
        by_part: dict[str, list[str]] = {}
        for name, notebook in found.items():
            if not is_lab(name):
                labs = [lab for lab in found if lab.startswith(f"labs/{name}_")]
                by_part.setdefault(part_of[f"chapters/{name}"], []).append(self.card(name, notebook, len(labs)))
        groups = [
            f'<h3 class="cards-part">{html.escape(part)}</h3><div class="chapter-cards">{"".join(cards)}</div>'
            for part, cards in by_part.items()
        ]
        return [self.raw(*groups)]

    def card(self, name: str, notebook: NotebookNode, n_labs: int) -> str:
        front, cover = front_of(notebook), cover_of(notebook)
        facts = [f"{front.minutes} min" if front.minutes else "", front.level, f"{n_labs} lab{'s'[: n_labs > 1]}" if n_labs else ""]
        facts = "".join(f"<span>{html.escape(fact)}</span>" for fact in facts if fact)
        techniques = "".join(f"<li>{html.escape(technique)}</li>" for technique in front.techniques)
        return (
            f'<div class="chapter-card">{self.image(f"cover-{name}", cover) if cover else ""}<div class="chapter-words">'
            f'<p class="chapter-title"><a href="chapters/{name}.html">{html.escape(front.title)}</a></p>'
            + (f'<p class="chapter-facts">{facts}</p>' if facts else "")
            + f'<p class="chapter-question">{html.escape(front.question)}</p>'
            + (f'<ul class="chapter-techniques" aria-label="Techniques">{techniques}</ul>' if techniques else "")
            + "</div></div>"
        )


class Numbers(Directive):
    """What this build and the reports say of all chapters together, in a reader's words."""

    def run(self) -> list[nodes.Node]:
        found = executed_pages(self.root)
        evidence = Evidence(self.root, found)
        n_held, n_claims = evidence.claims()
        cards = evidence.cards(found)
        shown = [(f"{n_held} of {n_claims}", "conclusions held when this site was built from its own code")]
        for report, which in (("robust", "draws of chance that were fixed beforehand"), ("robust_fresh", "freshly drawn ones")):
            held, tried = evidence.held(report, evidence.current[report])
            if tried:
                seeds = evidence.seeds(report, evidence.current[report])
                shown.append((f"{held} of {tried}", f"tries held: conclusions on {seeds} {which}"))
        falsified = evidence.falsified(evidence.current["falsify"])
        shown.append((f"{falsified} of {n_claims}", "conclusions turned red when their cause was taken away: they can fail"))
        same, n_open = sum(map(unanimous, cards)), sum(bool(card["open"]) for card in cards)
        shown.append((f"{len(cards)}", f"design decisions, computed; {same} come out the same on every draw tried, {n_open} are left open"))
        items = "".join(f"<li><strong>{number}</strong> {words}</li>" for number, words in shown)
        return [self.raw(f'<ul class="numbers">{items}</ul>')]


def setup(app) -> None:
    app.add_directive("start", Start)
    app.add_directive("surprise", Surprise)
    app.add_directive("chapter-cards", ChapterCards)
    app.add_directive("numbers", Numbers)
