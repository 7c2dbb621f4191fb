"""The front of a page, read: what its card on the landing page, its description and the search are made from.

The first cell of a chapter has, in this order: a title, the prompt, the core question, this table with one row,

    | to read | prerequisites | techniques | level |
    |---|---|---|---|
    | 60 min | pandas, logistic regression | two-tower retrieval, logQ correction, ranking | senior |

and, after a line `**After this chapter you can say**`, three to five bullets. Section 9 ends with `**What to remember**` and three
to five bullets. `faults` says what of it is missing; `front_of` reads what there is.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import NamedTuple

from nbformat import NotebookNode

from press.notebooks import markdown

COLUMNS = ("to read", "prerequisites", "techniques", "level")
CAN_SAY = "After this chapter you can say"
REMEMBER = "What to remember"
HEADER = f"| {' | '.join(COLUMNS)} |"
BULLETS = range(3, 6)
TECHNIQUES = range(3, 9)


class Front(NamedTuple):
    """What a page says of itself, as plain text. What it does not say is empty, and minutes None."""

    title: str
    question: str
    minutes: int | None
    prerequisites: str
    techniques: tuple[str, ...]
    level: str
    can_say: tuple[str, ...]


def plain(text: str) -> str:
    """Markdown as plain text on one line: links and marks off."""
    text = re.sub(r"!?\[([^\]]*)\]\([^)]*\)", r"\1", text)
    return " ".join(re.sub(r"\*\*|`|(?<!\w)[*_]|[*_](?!\w)", "", text).split())


def row_of(line: str) -> list[str]:
    """The cells of a line of a Markdown table."""
    return [cell.strip() for cell in line.strip().strip("|").split("|")]


def tables(text: str) -> list[tuple[list[str], list[list[str]]]]:
    """(header, rows) of each table in Markdown."""
    found = []
    for block in re.findall(r"(?:^\|.*\|[ \t]*(?:\n|$))+", text, re.M):
        lines = [row_of(line) for line in block.strip().splitlines()]
        if len(lines) > 1 and all(re.fullmatch(r":?-+:?", cell) for cell in lines[1]):
            found.append((lines[0], lines[2:]))
    return found


def bullets(text: str, title: str) -> tuple[str, ...]:
    """The bullets under a line in bold; none if there is no such line."""
    block = re.search(rf"^\*\*{re.escape(title)}[.:]?\*\*[.:]?[ \t]*\n+((?:[-*] .+\n?(?:[ \t]+\S.*\n?)*)+)", text, re.M)
    return tuple(plain(item) for item in re.split(r"^[-*] ", block[1], flags=re.M)[1:]) if block else ()


def front_of(notebook: NotebookNode) -> Front:
    """Whatever of the front is there."""
    text = notebook.cells[0].source
    title = re.search(r"^# (.+)$", text, re.M)
    question = re.search(r"^:class: core-question\b[^\n]*\n(.+?)\n:::", text, re.M | re.S)
    rows = [dict(zip(COLUMNS, rows[0], strict=True)) for header, rows in tables(text) if tuple(header) == COLUMNS and rows]
    row = rows[0] if rows else dict.fromkeys(COLUMNS, "")
    minutes = re.fullmatch(r"(\d+) min", row["to read"])
    return Front(
        title=plain(title[1]) if title else "",
        question=plain(question[1]) if question else "",
        minutes=int(minutes[1]) if minutes else None,
        prerequisites=plain(row["prerequisites"]),
        techniques=tuple(plain(name) for name in re.split("[,;]", row["techniques"]) if name.strip()),
        level=plain(row["level"]),
        can_say=bullets(text, CAN_SAY),
    )


def to_remember(notebook: NotebookNode) -> tuple[str, ...]:
    """What section 9 ends with."""
    section = re.search(r"^## 9\. .*?(?=^## |\Z)", markdown(notebook), re.M | re.S)
    return bullets(section[0], REMEMBER) if section else ()


def faults(notebook: NotebookNode) -> Iterator[str]:
    """What keeps the front of a chapter from being read, and what it lacks."""
    text = notebook.cells[0].source
    wanted = {
        "a title": r"^# \S",
        "the prompt": r"^:class: prompt\b",
        "the core question": r"^:class: core-question\b",
        f"the table {HEADER}": f"^{re.escape(HEADER)}$",
        f"**{CAN_SAY}**": rf"^\*\*{CAN_SAY}",
    }
    places = {what: re.search(pattern, text, re.M) for what, pattern in wanted.items()}
    yield from (f"the first cell lacks {what}" for what, place in places.items() if place is None)
    order = [place.start() for place in places.values() if place]
    if order != sorted(order):
        yield f"the first cell: expected {', '.join(wanted)} in this order"
    front, rows = front_of(notebook), [rows for header, rows in tables(text) if tuple(header) == COLUMNS]
    if rows:
        if len(rows[0]) != 1 or len(rows[0][0]) != len(COLUMNS):
            yield f"the front table: expected one row of {len(COLUMNS)} cells"
        elif front.minutes is None:
            yield f"the front table: expected minutes such as '60 min', found {rows[0][0][0]!r}"
        elif len(front.techniques) not in TECHNIQUES:
            yield f"the front table: expected {TECHNIQUES[0]} to {TECHNIQUES[-1]} techniques with commas between, found {front.techniques}"
        elif not front.prerequisites or not front.level:
            yield "the front table: expected prerequisites and a level"
    for what, found in {f"**{CAN_SAY}**": front.can_say, f"section 9: **{REMEMBER}**": to_remember(notebook)}.items():
        if len(found) not in BULLETS:
            yield f"{what}: expected {BULLETS[0]} to {BULLETS[-1]} bullets below it, found {len(found)}"
