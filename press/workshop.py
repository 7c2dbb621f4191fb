"""The workshop and the plans for readers: timetables from the minutes of chapters and labs, which fail where they do not fit.

A run sheet is a plan in the page, a line an item, which an instructor edits; its argument is the length, in minutes, of each day:

    ```{run-sheet} 210
    talk 10 Welcome
    chapter 25 framework: Clarify; Frame
    lab framework_market
    break 15
    ```

`chapter NAME` takes the minutes of the chapter's front; a part of it (`NAME: section; section`), or a talk, says its own. A lab takes
what it declares, twenty minutes where it says nothing; a sheet may give it more. `lunch` counts to no length. `day` begins the next day.
`{lab-guide} NAME` makes an instructor's notes of a lab; `{reading-plan}` a plan by level for one who reads alone.
"""

from __future__ import annotations

import html
import itertools
import re
from collections.abc import Mapping
from pathlib import Path
from typing import NamedTuple

from docutils import nodes
from docutils.parsers.rst import directives
from docutils.statemachine import StringList
from nbformat import NotebookNode
from sphinx.application import Sphinx
from sphinx.errors import SphinxError
from sphinx.util.docutils import SphinxDirective

from press import name_of, pages
from press.contract import headings, kind_of
from press.evidence import executed_pages, is_lab, parts, title_of
from press.front import front_of, plain
from press.landing import shown
from press.notebooks import read
from press.practice import LEVELS, Places, exercises
from press.records import records
from press.sheets import box, section
from press.slides import numbers_of, slides

KINDS = ("talk", "chapter", "lab", "break", "lunch", "day")
LINE = re.compile(rf"({'|'.join(KINDS)})(?: +(\d+))?(?: +(.+))?")
MOST_WITHOUT_BREAK = 90
LAB_MINUTES = 20
IN_WORDS = {"ten": 10, "fifteen": 15, "twenty": 20, "thirty": 30, "forty": 40}
FIRST = "framework"  # the chapter that every plan begins with
INTERVIEW = 45
LABS_A_CHAPTER = 2


class Item(NamedTuple):
    """A line of a run sheet. `what` is Markdown, for a chapter or lab its name."""

    kind: str
    minutes: int
    what: str
    sections: tuple[str, ...] = ()


class Slot(NamedTuple):
    day: int  # from 0
    starts: int  # minutes after the day's start
    item: Item


def minutes_of(notebook: NotebookNode) -> int | None:
    """What a page declares: in its front table, or a lab in words in its first cell. None for a chapter that says nothing."""
    declared = front_of(notebook).minutes
    if declared is None and kind_of(notebook) == "lab":
        found = re.search(rf"\b(\d+|{'|'.join(IN_WORDS)})[ -]minutes\b", notebook.cells[0].source, re.I)
        declared = (IN_WORDS.get(found[1].lower()) or int(found[1])) if found else LAB_MINUTES
    return declared


def sections_of(notebook: NotebookNode) -> list[str]:
    return [re.sub(r"^\d+\. ", "", heading) for heading in headings(notebook)]


def _item(line: str, known: Mapping[str, NotebookNode]) -> Item:
    """A line, read. Raises SphinxError that says what was expected."""
    match = LINE.fullmatch(line)
    if not match:
        raise SphinxError(f"run sheet: expected one of {', '.join(KINDS)}, its minutes, and what it is, found {line!r}")
    kind, minutes, what = match[1], int(match[2]) if match[2] else None, match[3] or ""
    if kind == "day":
        return Item(kind, 0, "")
    part: tuple[str, ...] = ()
    if kind in ("lab", "chapter"):
        what, _, named = what.partition(":")
        page, part = f"labs/{what}" if kind == "lab" else what, tuple(name.strip() for name in named.split(";") if name.strip())
        if page not in known:
            there = [name.removeprefix("labs/") for name in known if is_lab(name) == (kind == "lab")]
            raise SphinxError(f"run sheet: no {kind} named {what!r}; there are {', '.join(there)}")
        for name in part:
            if name not in sections_of(known[page]):
                raise SphinxError(f"run sheet: {what} has no section {name!r}; there are {', '.join(sections_of(known[page]))}")
        declared = minutes_of(known[page])
        if kind == "lab" and minutes is not None and minutes < declared:
            raise SphinxError(f"run sheet: the lab {what} declares {declared} minutes, and the sheet gives it {minutes}")
        minutes = declared if minutes is None and not part else minutes
    elif kind == "talk" and not what:
        raise SphinxError(f"run sheet: expected what the talk is about, found {line!r}")
    if minutes is None:
        raise SphinxError(f"run sheet: expected minutes, as in {kind + ' 15 ' + what!r}, found {line!r}")
    return Item(kind, minutes, what, part)


def items_of(text: str, known: Mapping[str, NotebookNode]) -> list[Item]:
    """The lines of a run sheet. `known`: pages by name. Raises SphinxError for a line that cannot be read or names what is not there."""
    return [_item(line.strip(), known) for line in text.splitlines() if line.strip()]


def timetable(items: list[Item], lengths: list[int]) -> list[Slot]:
    """When each item starts. Raises SphinxError where a day is longer than it may be, or people sit too long."""
    days = [[]]
    for item in items:
        if item.kind == "day":
            days.append([])
        else:
            days[-1].append(item)
    if len(days) != len(lengths):
        raise SphinxError(f"run sheet: expected {len(lengths)} days, one for each length, found {len(days)}")
    slots = []
    for day, (todo, length) in enumerate(zip(days, lengths, strict=True)):
        net = sum(item.minutes for item in todo if item.kind != "lunch")
        of_day = f"day {day + 1} of the run sheet" if len(days) > 1 else "the run sheet"
        if net > length:
            raise SphinxError(f"{of_day} takes {net} minutes, and {length} are there: {net - length} too long")
        now = seated = 0
        for item in todo:
            seated = 0 if item.kind in ("break", "lunch") else seated + item.minutes
            if seated > MOST_WITHOUT_BREAK:
                said = f"{seated} minutes without a break up to the end of {item.what!r}"
                raise SphinxError(f"{of_day} has {said}: expected at most {MOST_WITHOUT_BREAK}")
            slots.append(Slot(day, now, item))
            now += item.minutes
    return slots


def clock(start: int, minutes: int) -> str:
    return f"{(start + minutes) // 60}:{(start + minutes) % 60:02d}"


def start_of_day(text: str) -> int:
    """`9:30` as minutes after midnight. Raises ValueError for what is no such time."""
    match = re.fullmatch(r"(\d{1,2}):([0-5]\d)", text.strip())
    if not match or int(match[1]) > 23:
        raise ValueError(f"expected a time such as 9:30, found {text!r}")
    return 60 * int(match[1]) + int(match[2])


def known_pages(root: Path) -> dict[str, NotebookNode]:
    """Every chapter and lab of the table of contents, as written, by name, in its order."""
    found = {name_of(page): page for page in pages(root)}
    return {name: read(found[name]) for name in (entry.removeprefix("chapters/") for entry in parts(root)) if name in found}


# ---------- a lab, for the instructor ----------


def without_links(text: str) -> str:
    """Markdown with the words of its links alone: they were written for another folder."""
    return re.sub(r"(?<!!)\[([^\]]*)\]\([^)]*\)", r"\1", text)


def to_change(notebook: NotebookNode) -> str:
    """What a lab asks to be changed, as Markdown: the headings of that section, an exercise, or its first paragraph."""
    text = section(notebook, "Change")
    if titles := re.findall(r"^### (.+)$", text, re.M):
        return " ".join(title.strip() if title.strip()[-1] in ".?!" else f"{title.strip()}." for title in titles)
    asked = [question for _, question, _ in exercises(notebook)]
    if asked:
        return asked[0]
    blocks = [block.strip() for block in re.split(r"\n\s*\n", text)]
    return next((block for block in blocks if block and not block.startswith((":::", "|", "```"))), "")


def to_close(notebook: NotebookNode) -> str:
    """The first question of a lab's discussion, as Markdown."""
    bullet = re.search(r"^[*-] +(.+?)(?=^[*-] |\n\s*\n|\Z)", section(notebook, "Discuss"), re.M | re.S)
    return " ".join(bullet[1].split()) if bullet else ""


class Directive(SphinxDirective):
    """What the directives of these pages share."""

    @property
    def root(self) -> Path:
        return Path(self.env.srcdir)

    def known(self) -> dict[str, NotebookNode]:
        """The pages as written, read once for each page that asks."""
        if "press_known" not in self.env.temp_data:
            self.env.temp_data["press_known"] = known_pages(self.root)
        return self.env.temp_data["press_known"]

    def executed(self) -> dict[str, NotebookNode]:
        """The pages as they ran."""
        return executed_pages(self.root)

    def url(self, name: str) -> str:
        return f"../{self.env.app.builder.get_target_uri(f'chapters/{name}')}"

    def link(self, name: str) -> str:
        return f'<a href="{self.url(name)}">{html.escape(plain(title_of(self.known()[name])))}</a>'

    def located(self, error: SphinxError) -> SphinxError:
        return SphinxError(f"{self.get_location()}: {error}")

    def parsed(self, text: str, node: nodes.Element) -> nodes.Element:
        self.state.nested_parse(StringList(text.splitlines(), source=self.env.docname), self.content_offset, node)
        return node


class RunSheet(Directive):
    """`{run-sheet} MINUTES` (of each day), option `:start:`; the plan as content."""

    required_arguments = 1
    final_argument_whitespace = True
    has_content = True
    option_spec = {"start": start_of_day}

    def run(self) -> list[nodes.Node]:
        lengths = [int(length) for length in re.findall(r"\d+", self.arguments[0])]
        start = self.options.get("start", start_of_day("9:00"))
        try:
            items = items_of("\n".join(self.content), self.known())
            slots = timetable(items, lengths)
            self.guided(items)
        except SphinxError as error:
            raise self.located(error) from None
        found: list[nodes.Node] = []
        for day, length in enumerate(lengths):
            today = [slot for slot in slots if slot.day == day]
            title = f"**Day {day + 1}**\n\n" if len(lengths) > 1 else ""
            rows = [f"| {clock(start, slot.starts)} | {slot.item.minutes} | {self.words(slot.item)} |" for slot in today]
            end = today[-1].starts + today[-1].item.minutes
            spare = length - sum(slot.item.minutes for slot in today if slot.item.kind != "lunch")
            said = f"Ends at {clock(start, end)}" + (f", with {spare} minutes to spare." if spare else ".")
            table = "\n".join(["| at | min | what |", "|---|---|---|", *rows])
            box = nodes.container(classes=["run-sheet"])
            found.append(self.parsed(f"{title}{table}\n\n{said}", box))
        return [*found, nodes.raw("", f'<p class="to-bring">{self.to_bring(items)}</p>', format="html")]

    def guided(self, items: list[Item]) -> None:
        """Raises SphinxError if a lab has no guide in this page."""
        guides = re.findall(r"^`{3,}\{lab-guide\} (\S+)", Path(self.env.doc2path(self.env.docname)).read_text(), re.M)
        for item in items:
            if item.kind == "lab" and item.what not in guides:
                raise SphinxError(f"run sheet: expected a guide to the lab in this page, ```{{lab-guide}} {item.what}, found none")

    def words(self, item: Item) -> str:
        """An item in the table, as Markdown."""
        if item.kind == "lab":
            title = html.escape(plain(title_of(self.known()[f"labs/{item.what}"])))
            return f'**Lab**: <a href="#lab-{item.what}">{title}</a>'.replace("|", "\\|")
        if item.kind == "chapter":
            passages = getattr(self.env, "press_passages", {}).get(f"chapters/{item.what}", [])
            places = Places(passages, self.url(item.what))
            deck = list(slides(self.executed()[item.what], places, self.root))
            named = "; ".join(self.part(item.what, name, numbers_of(deck, name), places) for name in item.sections)
            link = f'<a href="../slides/{item.what}.html">{html.escape(title_of(self.known()[item.what]))}</a>'
            return f"**Slides**: {link}{f': {named}' if named else ''}".replace("|", "\\|")
        if item.kind in ("break", "lunch"):
            return f"*{item.kind.capitalize()}*" + (f": {item.what}" if item.what else "")
        return item.what.replace("|", "\\|")

    def part(self, chapter: str, name: str, numbers: list[int], places: Places) -> str:
        """A section of a chapter in the table: its name, which leads to the page, and its slides, where it has any."""
        ends = [f'<a href="../slides/{chapter}.html#slide-{n}">{n}</a>' for n in dict.fromkeys([*numbers[:1], *numbers[-1:]])]
        shown = f" (slide{'s' if len(ends) > 1 else ''} {' to '.join(ends)})" if ends else " (on the page)"
        return f'<a href="{places.of(name)}">{name}</a>{shown}'

    def to_bring(self, items: list[Item]) -> str:
        names = dict.fromkeys(item.what for item in items if item.kind == "chapter")
        sheets = ", ".join(f'<a href="../sheets/{name}.html">{html.escape(title_of(self.known()[name]))}</a>' for name in names)
        return f"To hand out: {sheets}." if names else "Nothing to hand out."


class LabGuide(Directive):
    """A lab for its instructor: what to ask, what to change, how to close, the answer folded. The content is where people get stuck
    and what to drop; `:change:` is for a lab whose section of that name asks for nothing."""

    required_arguments = 1
    has_content = True
    option_spec = {"change": directives.unchanged_required}

    def run(self) -> list[nodes.Node]:
        name = f"labs/{self.arguments[0]}"
        if name not in self.known():
            there = ", ".join(other.removeprefix("labs/") for other in self.known() if is_lab(other))
            raise self.located(SphinxError(f"lab guide: no lab named {self.arguments[0]!r}; there are {there}"))
        notebook = self.known()[name]
        made = nodes.section(ids=[f"lab-{self.arguments[0]}"])
        made += nodes.title("", plain(title_of(notebook)))
        built = f'<a href="{self.url(name)}">built, with its results</a>, for a laptop that fails'
        made += nodes.raw("", f"<p>{minutes_of(notebook)} minutes. <code>chapters/{name}.ipynb</code>; {built}.</p>", format="html")
        change = self.options.get("change") or to_change(notebook)
        steps = {"Ask before": box(notebook, "predict"), "Change": change}
        for what, text in steps.items():
            if text:
                self.parsed(f"**{what}.** {without_links(text)}", made)
        self.state.nested_parse(self.content, self.content_offset, made)
        self.parsed(f"**Close with.** {without_links(to_close(notebook))}", made)
        made += nodes.raw("", self.answer(name), format="html")
        return [made]

    def answer(self, name: str) -> str:
        """The claims of the executed lab, folded."""
        found = records(self.executed()[name], "claim")
        said = "".join(f"<li>{html.escape(c['sentence'].rstrip('.'))}: <strong>{html.escape(shown(c))}</strong>.</li>" for c in found)
        return f"<details><summary>What it measures, for you</summary><ul>{said}</ul></details>"


# ---------- a plan for one who reads alone ----------


class Reading(NamedTuple):
    """A chapter or lab of a plan; an interview has no page."""

    page: str
    minutes: int


def least_level(level: str) -> int:
    """The place in LEVELS of the first level that a chapter's front names; 0 where it names none."""
    named = [i for i, name in enumerate(LEVELS) if re.search(rf"\b{name}\b", level)]
    return min(named, default=0)


def order(known: Mapping[str, NotebookNode], level: str) -> list[str]:
    """The chapters for a level: mid cases first, senior case and production by turns, staff production first; always FIRST at first.

    Of cases, and of production chapters, those that begin above the level come last.
    """
    above = {n: max(0, least_level(front_of(nb).level) - LEVELS.index(level)) for n, nb in known.items() if not is_lab(n)}
    suited = sorted(above, key=above.get)
    cases = [n for n in suited if n != FIRST and kind_of(known[n]) != "production"]
    production = [n for n in suited if n != FIRST and kind_of(known[n]) == "production"]
    by_turns = [n for pair in itertools.zip_longest(cases, production) for n in pair if n]
    first = [FIRST] if FIRST in suited else []
    return first + {"mid": cases + production, "senior": by_turns, "staff": production + cases}[level]


def reading_plan(known: Mapping[str, NotebookNode], level: str, days: int, minutes: int) -> tuple[list[list[Reading]], list[str]]:
    """What to read on each day, and the chapters for which there is no time.

    A chapter comes with up to two of its labs; every second day, and the last, ends with a mock interview. Labs that are left fill
    a day without a chapter. Raises SphinxError where a day is too short for the first chapter.
    """
    waiting, left_labs, plan = order(known, level), [], []
    for day in range(1, days + 1):
        today: list[Reading] = []
        room = minutes - (INTERVIEW if day % 2 == 0 or day == days else 0)
        while waiting:
            name = waiting[0]
            labs = [Reading(lab, minutes_of(known[lab])) for lab in known if lab.startswith(f"labs/{name}_")]
            chapter = Reading(name, minutes_of(known[name]) or 60)
            left = room - chapter.minutes
            if left < 0 or (today and left < sum(lab.minutes for lab in labs[:LABS_A_CHAPTER])):
                break
            taken = []
            for lab in labs[:LABS_A_CHAPTER]:
                if lab.minutes <= left:
                    taken.append(lab)
                    left -= lab.minutes
            today += [chapter, *taken]
            left_labs += [lab for lab in labs if lab not in taken]
            room = left
            waiting.pop(0)
        if day == 1 and not today and waiting:
            raise SphinxError(f"reading plan: a day of {minutes} minutes is too short for {waiting[0]}")
        if not today:
            for lab in list(left_labs):
                if lab.minutes <= room:
                    today.append(lab)
                    left_labs.remove(lab)
                    room -= lab.minutes
        if day % 2 == 0 or day == days:
            today.append(Reading("", INTERVIEW))
        plan.append(today)
    return plan, waiting


class ReadingPlan(Directive):
    """`{reading-plan} LEVEL`, options `:days:` and `:minutes:` a day."""

    required_arguments = 1
    option_spec = {"days": directives.positive_int, "minutes": directives.positive_int}

    def run(self) -> list[nodes.Node]:
        level = self.arguments[0]
        try:
            if level not in LEVELS:
                raise SphinxError(f"reading plan: expected one of {', '.join(LEVELS)}, found {level!r}")
            plan, left = reading_plan(self.known(), level, self.options["days"], self.options["minutes"])
        except SphinxError as error:
            raise self.located(error) from None
        rows = [
            f'<tr><th scope="row">{day}</th><td><ul>{"".join(self.entry(reading) for reading in today)}</ul></td>'
            f'<td class="number">{sum(reading.minutes for reading in today)}</td></tr>'
            for day, today in enumerate(plan, 1)
        ]
        head = '<thead><tr><th scope="col">day</th><th scope="col">what</th><th scope="col" class="number">min</th></tr></thead>'
        later = f"<p>For another day: {', '.join(map(self.link, left))}.</p>" if left else ""
        return [nodes.raw("", f'<div class="reading-plan"><table>{head}<tbody>{"".join(rows)}</tbody></table>{later}</div>', format="html")]

    def entry(self, reading: Reading) -> str:
        if not reading.page:
            return f'<li><a href="mock_interview.html">A mock interview</a>, {reading.minutes} min</li>'
        return f"<li>{'Lab: ' if is_lab(reading.page) else ''}{self.link(reading.page)}, {reading.minutes} min</li>"


def setup(app: Sphinx) -> None:
    app.add_directive("run-sheet", RunSheet)
    app.add_directive("lab-guide", LabGuide)
    app.add_directive("reading-plan", ReadingPlan)
