"""Practice: the mock interview and the question bank, made from the executed chapters when the site is built. Nothing is typed twice.

An interview has a chapter's prompt, what its interviewer knows (the dialogue and the table of section 1), requirements that change
(where a decision's flip lies, and what the chapter measured beyond it), follow-ups and the rubric. The bank has the follow-ups and
exercises of chapters, and the predictions and questions of chapters and labs. Each leads to the heading under which it stands.

In a chapter, a follow-up is a paragraph of section 11 that begins with its question in bold; after it may stand, in italics and
brackets, the level that asks it and the step that it belongs to: `**"Why not Redis?"** *(senior, serve)* Because ...`.
"""

from __future__ import annotations

import ast
import html
import itertools
import math
import re
import shutil
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

from docutils import nodes
from markdown_it import MarkdownIt
from mdit_py_plugins.dollarmath import dollarmath_plugin
from nbformat import NotebookNode
from sphinx.application import Sphinx
from sphinx.errors import SphinxError
from sphinx.util.docutils import SphinxDirective

from press import ROOT
from press.evidence import executed_pages, is_lab, title_of
from press.finding import assigned
from press.front import front_of, plain, tables
from press.landing import shown
from press.notebooks import markdown, read
from press.records import of_cell, records
from press.sheets import RUBRIC, box, section

ASSETS = ROOT / "press" / "assets"
LEVELS = ("mid", "senior", "staff")
STEPS = ("clarify", "frame", "data", "model", "evaluate", "serve", "monitor")
SCRIPTS = ("practice.js", "interview.js", "bank.js")  # the data, written at the end of a build; and what shows them
MEASURED_BEFORE = 9  # the number of the first section that measures nothing: the whiteboard
SAYS_LITTLE = {
    "with",
    "that",
    "from",
    "what",
    "which",
    "when",
    "them",
    "than",
    "into",
    "each",
    "does",
    "name",
    "say",
    "before",
    "after",
    "the",
    "and",
    "for",
    "not",
    "how",
    "one",
    "their",
}
AKIN = 0.8  # from which on a claim speaks of what was asked, as `akin` counts
NO_PROSE = re.compile(r":::|\||```|<|\(.*\)=$|!\[")  # how a block of Markdown begins that is no paragraph
PREDICT = re.compile(r"^(:::+)\{admonition\}[^\n]*\n:class: predict\b[^\n]*\n(.*?)^\1\s*$", re.M | re.S)  # (fence, text) of a box
NO_SCRIPT = "<noscript><p>This page runs in your browser, and needs JavaScript. All that it asks stands in the chapters.</p></noscript>"


class FollowUp(NamedTuple):
    """A question of section 11, with its answer in Markdown; level and step are empty where the chapter does not say."""

    question: str
    answer: str
    level: str
    step: str


def _formula(text: str, options: dict) -> str:
    left, right = ("\\[", "\\]") if options["display_mode"] else ("\\(", "\\)")
    return left + html.escape(text) + right


def to_html(text: str) -> str:
    """Markdown as HTML, formulas as MathJax reads them; without links, which are written for another folder."""
    markdown_it = MarkdownIt("commonmark").enable("table").use(dollarmath_plugin, renderer=_formula)
    return re.sub(r"</?a\b[^>]*>", "", markdown_it.render(text)).strip()


def dialogue(notebook: NotebookNode) -> list[tuple[str, str]]:
    """(what the candidate asks, what the interviewer answers) of section 1."""
    quoted = "\n".join(line.lstrip("> ") for line in section(notebook, "Clarify").splitlines() if line.startswith(">"))
    turns = re.findall(r"\*\*(You|Interviewer):\*\*\s*(.+?)(?=\n\s*\*\*(?:You|Interviewer):\*\*|\Z)", quoted, re.S)
    spoken = [(who, plain(text)) for who, text in turns]
    return [(a, b) for (who, a), (other, b) in zip(spoken, spoken[1:], strict=False) if (who, other) == ("You", "Interviewer")]


def requirements(notebook: NotebookNode) -> list[str]:
    """What the table of section 1 pins down, a line each."""
    found = next(iter(tables(section(notebook, "Clarify"))), None)
    if found is None:
        return []
    header, rows = found
    if header[0] == "requirement":
        return [f"{plain(row[0])}: {plain(row[1])}" for row in rows]
    return [plain(cell) for row in rows for cell in row if cell]


def follow_ups(notebook: NotebookNode) -> list[FollowUp]:
    """The questions of section 11."""
    parts = re.split(r"^(?=\*\*)", section(notebook, "Follow-ups"), flags=re.M)
    pattern = rf'\*\*["“]?(.+?)["”]?\*\*[ \t]*(?:\*\(({"|".join(LEVELS)})(?:, ({"|".join(STEPS)}))?\)\*)?\s*(.*)'
    matches = [re.match(pattern, part.strip(), re.S) for part in parts]
    return [FollowUp(plain(m[1]), m[4].strip(), m[2] or "", m[3] or "") for m in matches if m and m[4].strip()]


def exercises(notebook: NotebookNode) -> Iterator[tuple[str, str, str]]:
    """(label, question, solution) of each exercise, in Markdown."""
    text = markdown(notebook)
    solved = dict(re.findall(r"^:::+\{solution\} (\S+)\n(?::[^\n]*\n)*(.*?)^:::+\s*$", text, re.M | re.S))
    for label, question in re.findall(r"^:::+\{exercise\}[^\n]*\n:label: (\S+)\n(?::[^\n]*\n)*(.*?)^:::+\s*$", text, re.M | re.S):
        yield label, question.strip(), solved.get(label, "").strip()


def signals(notebook: NotebookNode) -> list[tuple[str, str, str]]:
    """(level, step or empty, signal) of the rubric in section 10."""
    found = next(iter(tables(section(notebook, RUBRIC))), None)
    if found is None:
        return []
    header, rows = found
    if set(LEVELS) <= set(header):
        at = {level: header.index(level) for level in LEVELS}
        return [(level, plain(row[0]), plain(row[at[level]])) for level in LEVELS for row in rows if row[at[level]]]
    of_level = {plain(row[0]).lower(): plain(row[1]) for row in rows}
    return [(level, "", part.strip()) for level in LEVELS for part in of_level.get(level, "").split(";") if part.strip()]


def failures(notebook: NotebookNode) -> str:
    """The usual failures, as section 10 names them."""
    found = re.search(r"(?:\*\*)?The usual failures[.:]?(?:\*\*)?[.:]?\s*(.+)", section(notebook, RUBRIC))
    return plain(found[1]) if found else ""


def minutes_of_steps(root: Path) -> list[tuple[str, int]]:
    """The clock of the interview, as the framework chapter has it: (step, minutes). Raises SphinxError where that has none."""
    page = root / "chapters" / "framework.ipynb"
    found: dict[str, int] = {}
    for cell in read(page).cells if page.exists() else []:
        if cell.cell_type == "code" and "minutes = {" in cell.source:
            for node in ast.parse(cell.source).body:
                target = node.targets[0] if isinstance(node, ast.Assign) else getattr(node, "target", None)
                if getattr(target, "id", "") == "minutes" and isinstance(node.value, ast.Dict):
                    found |= ast.literal_eval(node.value)
    if not found:
        raise SphinxError("chapters/framework.ipynb: expected a cell with the clock, `minutes = {'1 Clarify': 6, ...}`, found none")
    return list(found.items())


def words_of(text: str) -> list[str]:
    """The words of a text that tell what it is about, without their endings."""
    found = (re.sub(r"(?:ies|es|s|ed|ing)$", "", word) for word in re.findall(r"[^\W\d_]{3,}", text.lower()))
    return [word for word in found if word not in SAYS_LITTLE]


class Places:
    """Where the headings of a page are, by title, as Sphinx has read it."""

    def __init__(self, passages: list[tuple[str, str, str]], url: str) -> None:
        self.url = url
        self.anchors = {title: anchor for anchor, title, _ in reversed(passages)}
        numbered = [int(found[1]) if (found := re.match(r"(\d+)\. ", title)) else 0 for _, title, _ in passages]
        measuring = itertools.takewhile(lambda place: place[0] < MEASURED_BEFORE, zip(numbered, passages, strict=True))
        self.measured = [(title, Counter(words_of(f"{title} {title} {title} {text}"))) for _, (anchor, title, text) in measuring if anchor]

    def about(self, text: str) -> str:
        """The title of the section that measures what a text names, by the words they share: often there, and in few others (BM25)."""
        spread = Counter(word for _, said in self.measured for word in said)
        mean = sum(said.total() for _, said in self.measured) / max(len(self.measured), 1)

        def shared(said: Counter) -> float:
            long = 1.2 * (0.25 + 0.75 * said.total() / mean)
            rare = {word: math.log(1 + (len(self.measured) - spread[word] + 0.5) / (spread[word] + 0.5)) for word in words_of(text)}
            return sum(weight * said[word] * 2.2 / (said[word] + long) for word, weight in rare.items())

        best = max(self.measured, key=lambda place: shared(place[1]), default=None)
        return best[0] if best and shared(best[1]) else RUBRIC

    def of(self, title: str) -> str:
        anchor = next((a for t, a in self.anchors.items() if t == title or re.sub(r"^\d+\. ", "", t) == title), "")
        return f"{self.url}#{anchor}" if anchor else self.url


def with_heading(notebook: NotebookNode) -> Iterator[tuple[str, NotebookNode]]:
    """(the heading above it, cell) for each cell; a cell that opens a section stands under its last heading."""
    heading = ""
    for cell in notebook.cells:
        if cell.cell_type == "markdown":
            for line in re.findall(r"^#{2,3} (.+)$", cell.source, re.M):
                heading = plain(line)
        yield heading, cell


def step_of(heading: str, now: str) -> str:
    """The step of the interview that a numbered heading is; other numbered headings, as production chapters have, are of no step."""
    number, _, title = heading.partition(". ")
    if not number.isdigit():
        return now
    return title.lower() if title.lower() in STEPS else ""


def beyond(sweep: list[dict], point: dict) -> dict | None:
    """The first step of a sweep beyond the point where a decision flips; None where there is none that chooses so."""
    steps = [s for s in sweep if s["value"] > point["at"]] if point["above"] else [s for s in sweep[::-1] if s["value"] < point["at"]]
    return next((s for s in steps if s["chosen"] == point["then"]), None)


def spoken(name: str) -> str:
    """The name of a column or an option as an interviewer says it: no underscores, no comma at its end."""
    return name.replace("_", " ").strip(" ,:")


def options_of(options: dict, units: dict) -> dict:
    """A card's table as it is shown: the names of its columns, and a row an option with its name first."""
    from mlsd.estimates import Estimate  # here: they bring pandas, which the commands that read this file do not need
    from mlsd.tables import number

    def cell(value: object, unit: str) -> str:
        value = Estimate(*value) if isinstance(value, list) else value
        return value if isinstance(value, str) else number(value, unit)

    columns = options["columns"]
    rows = [[spoken(option), *(cell(columns[c][i], units.get(c, "")) for c in columns)] for i, option in enumerate(options["index"])]
    return dict(columns=[spoken(c) for c in columns], rows=rows)


def changes(notebook: NotebookNode, places: Places) -> list[dict]:
    """What may change: of each decision what would flip it, a value beyond, the option that the run chose there, and its table there.

    A card that moves an assumption has a requirement that changes; one that moves a measured number has a result that comes out otherwise.
    """
    from mlsd.tables import number  # here, as above

    found = []
    for heading, cell in with_heading(notebook):
        for card in of_cell(cell):
            flip = card.get("flip") if card["kind"] == "decision" else None
            sweep = card.get("sweep") or []
            for point in flip["points"] if flip else []:
                at, there = number(point["at"], flip["unit"]), beyond(sweep, point)
                step = there or next((s for s in sweep if s["value"] == point["at"]), None)
                what = spoken(flip["what"])
                found.append(
                    dict(
                        kind="requirement" if sweep else "result",
                        what=what[:1].upper() + what[1:],
                        now=number(flip["now"], flip["unit"]),
                        new=number(there["value"], flip["unit"]) if there else f"{'more' if point['above'] else 'less'} than {at}",
                        at=at,
                        question=card["question"],
                        side="above" if point["above"] else "below",
                        before=spoken(card["chosen"]),
                        after=spoken(point["then"]) if point["then"] else "none of the options, as none meets the requirements",
                        rule=spoken(card["rule"]),
                        open=card.get("open", ""),
                        table=options_of(step["options"], card.get("units", {})) if step else None,
                        url=places.of(heading),
                    )
                )
    return found


def of_interview(found: list[dict]) -> list[dict]:
    """What an interviewer can change without having read the chapter: requirements; where there are none, results."""
    return [change for change in found if change["kind"] == "requirement"] or found


def prose_after(cells: list[NotebookNode], at: int) -> str:
    """What the page says next, as HTML: what cells print as text, then a paragraph; nothing where a heading comes first."""
    found = []
    for cell in cells[at + 1 :]:
        if cell.cell_type == "markdown":
            blocks = [block.strip() for block in re.split(r"\n\s*\n", cell.source) if block.strip()]
            if blocks and not blocks[0].startswith("#") and not NO_PROSE.match(blocks[0]):
                found.append(blocks[0])
            break
        found += [o["data"]["text/markdown"] for o in cell.get("outputs", []) if "text/markdown" in o.get("data", {})]
    return to_html("\n\n".join(found))


def akin(asked: str, spread: Counter, sentence: str) -> float:
    """How much a claim speaks of what is asked: the words that they share, rare ones of the page's claims more."""
    said, sought = set(words_of(sentence)), set(words_of(asked))
    return sum(1 / math.sqrt(spread[word]) for word in said & sought) / math.sqrt(max(len(said), 1))


class Prediction(NamedTuple):
    """A Predict box, and what settles it: a claim, or nothing but what the page says next."""

    heading: str
    text: str
    claim: dict | None
    said: str  # what the page says after the box, as HTML


def predictions(notebook: NotebookNode) -> Iterator[Prediction]:
    """Each Predict box. What settles it comes before any later box: in the section whose code is next, or in the words of the question."""
    cells = list(with_heading(notebook))
    claims = [(i, r) for i, (_, cell) in enumerate(cells) for r in of_cell(cell) if r["kind"] == "claim"]
    spread = Counter(word for _, claim in claims for word in set(words_of(claim["sentence"])))
    texts = [i for i, (_, cell) in enumerate(cells) if cell.cell_type == "markdown"]
    boxes = [(i, text) for i in texts for text in PREDICT.findall(cells[i][1].source)]
    for k, (i, (_, text)) in enumerate(boxes):
        heading, cell = cells[i]
        headings = re.findall(r"^#{2,3} (.+)$", cell.source[: cell.source.index(text)], re.M)
        last = boxes[k + 1][0] if k + 1 < len(boxes) else len(cells)
        run = next((j for j in range(i + 1, last) if cells[j][1].cell_type == "code"), last)
        ends = next((j for j in range(run, last) if cells[j][0] != cells[run][0]), last)
        settling = (claim for j, claim in claims if i < j < last and (j < ends or akin(text, spread, claim["sentence"]) >= AKIN))
        yield Prediction(plain(headings[-1]) if headings else heading, text.strip(), next(settling, None), prose_after(notebook.cells, i))


# ---------- what the browser gets ----------


def case(name: str, notebook: NotebookNode, places: Places) -> dict:
    """Everything of one interview. Raises SphinxError where a chapter lacks what an interview needs."""
    front, talk = front_of(notebook), dialogue(notebook)
    lacking = {
        "a dialogue in section 1": talk,
        "a rubric in section 10": signals(notebook),
        "follow-ups in section 11": follow_ups(notebook),
    }
    for what, found in lacking.items():
        if not found:
            raise SphinxError(f"chapters/{name}.ipynb: expected {what} for the mock interview, found none")
    return dict(
        name=name,
        title=front.title,
        level=front.level,
        prompt=to_html(box(notebook, "prompt")),
        talk=talk,
        pinned=requirements(notebook),
        changes=changes(notebook, places),
        followups=[
            dict(question=f.question, answer=to_html(f.answer), level=f.level, step=f.step, url=places.of("Follow-ups"))
            for f in follow_ups(notebook)
        ],
        signals=[
            dict(level=level, step=step, text=text, where=(where := step.capitalize() or places.about(text)), url=places.of(where))
            for level, step, text in signals(notebook)
        ],
        failures=failures(notebook),
        url=places.url,
        steps={step: places.of(step.capitalize()) for step in STEPS},
        rubric=places.of(RUBRIC),
        sheet=f"../sheets/{name}.html",
    )


def measured(claim: dict) -> str:
    """A claim as HTML: its sentence and number."""
    return f"{html.escape(claim['sentence'].rstrip('.'))}: <strong>{html.escape(shown(claim))}</strong>."


def questions(name: str, notebook: NotebookNode, places: Places, page_url: str) -> Iterator[dict]:
    """The entries of the bank that a page gives, in its order: question and answer as HTML, where it is settled."""
    topic = dict(topic=name.removeprefix("labs/"), title=title_of(notebook))
    step = ""
    for heading, text, claim, said in predictions(notebook):
        step = step_of(heading, step)
        answer = said + (f"<p>Measured there: {measured(claim)}</p>" if claim else "") or "Run it, or read on from there."
        yield topic | dict(kind="predict", level="", step=step, question=to_html(text), answer=answer, url=places.of(heading))
    if is_lab(name):
        question, answer = to_html(box(notebook, "core-question")), "<br>".join(map(measured, records(notebook, "claim")))
        yield topic | dict(kind="lab", level="", step="", question=question, answer=answer, url=places.url)
    for f in follow_ups(notebook):
        shown = dict(question=f"<p>{html.escape(f.question)}</p>", answer=to_html(f.answer), url=places.of("Follow-ups"))
        yield topic | dict(kind="follow-up", level=f.level, step=f.step) | shown
    for label, question, solution in exercises(notebook):
        shown = dict(question=to_html(question), answer=to_html(solution), url=f"{page_url}#{label}")
        yield topic | dict(kind="exercise", level="", step="") | shown


def collected(app: Sphinx) -> dict:
    """The data of both pages."""
    root, cases, bank = Path(app.srcdir), [], []
    for name, notebook in executed_pages(root).items():
        docname = f"chapters/{name}"
        if docname not in app.env.all_docs:
            continue
        url = f"../{app.builder.get_target_uri(docname)}"
        places = Places(app.env.press_passages.get(docname, []), url)
        if is_lab(name):  # what a chapter's labs decide may change in its interview
            cases[-1]["changes"] += changes(notebook, places)
        else:
            cases.append(case(name, notebook, places))
        bank += questions(name, notebook, places, url)
    for one in cases:
        one["changes"] = of_interview(one["changes"])
    return dict(cases=cases, bank=bank, minutes=minutes_of_steps(root), steps=STEPS, levels=LEVELS)


def write(app: Sphinx, error: Exception | None) -> None:
    if error is None and app.builder.format == "html" and app.env.press_practice:
        static = Path(app.outdir, "_static")
        (static / "practice.js").write_text(assigned("PRACTICE", collected(app)))
        for script in SCRIPTS[1:]:
            shutil.copy(ASSETS / script, static / script)


class Room(SphinxDirective):
    """The place in a page that a script of the practice fills: `interview` or `bank`."""

    required_arguments = 1

    def run(self) -> list[nodes.Node]:
        what = self.arguments[0]
        if f"{what}.js" not in SCRIPTS:
            raise self.error(f"practice: expected interview or bank, found {what!r}")
        self.env.press_practice.add(self.env.docname)
        scripts = f'<script defer src="../_static/practice.js"></script><script defer src="../_static/{what}.js"></script>'
        return [nodes.raw("", f'<div id="{what}" class="math-inside practice">{NO_SCRIPT}</div>{scripts}', format="html")]


def forget(app: Sphinx, env, name: str) -> None:
    env.press_practice.discard(name)


def with_formulas(app: Sphinx, env) -> None:
    """The answers have formulas, which no document holds: these pages load MathJax."""
    env.get_domain("math").data["has_equations"].update(dict.fromkeys(env.press_practice, True))


def start(app: Sphinx) -> None:
    if not hasattr(app.env, "press_practice"):
        app.env.press_practice = set()


def setup(app: Sphinx) -> None:
    app.add_directive("practice", Room)
    app.connect("builder-inited", start)
    app.connect("env-purge-doc", forget)
    app.connect("env-updated", with_formulas)
    app.connect("build-finished", write)
