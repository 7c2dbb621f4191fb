"""What an executed page says of itself: the records that mlsd.claims leaves in the outputs of its cells.

The reports in reports/ (`make robust`, `make falsify`) are read and written here too.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator
from pathlib import Path

from nbformat import NotebookNode

MIME = "application/vnd.mlsd+json"  # that of mlsd.claims, which a test compares: importing it here would cost pandas
# A claim in one of these units was measured with a clock or a scale, as was one whose cell has the tag CLOCK:
# it holds on every run, with other digits.
CLOCK = "clock"
CLOCK_UNITS = {"ns", "us", "µs", "ms", "s", "min", "/s", "requests/s", "rows/s", "kB", "MB", "GB", "KiB", "MiB", "GiB", "bytes"}


def cards(cell: NotebookNode) -> list[NotebookNode]:
    """The outputs of a cell that hold a record, in order."""
    return [output for output in cell.get("outputs", []) if MIME in output.get("data", {})]


def of_cell(cell: NotebookNode) -> list[dict]:
    """The records in a cell's outputs, in order."""
    return [output["data"][MIME] for output in cards(cell)]


def records(notebook: NotebookNode, kind: str) -> list[dict]:
    """The records of one kind (claim, decision, colophon) in an executed notebook."""
    return [record for cell in notebook.cells for record in of_cell(cell) if record["kind"] == kind]


def key_of(record: dict) -> str:
    """By what a claim or a decision is known from run to run."""
    return record.get("key") or record.get("sentence") or record["question"]


def by_clock(record: dict, cell: NotebookNode) -> bool:
    """May this claim have other digits each time?"""
    return record.get("unit") in CLOCK_UNITS or CLOCK in cell.metadata.get("tags", [])


def same_numbers(a: dict, b: dict) -> bool:
    """Did two runs measure the same? Twelve digits: sums of threads may differ in the last ones."""
    return all(f"{a[k]:.12g}" == f"{b[k]:.12g}" for k in ("value", "low", "high"))


def disagreements(first: NotebookNode, second: NotebookNode) -> Iterator[str]:
    """What two executions of one page measured differently: claims and choices, by what they say of themselves.

    A card that says it is open, or stands in a cell with the tag `clock`, may choose otherwise.
    """
    for kind in ("claim", "decision"):
        one, two = ([key_of(r) for r in records(notebook, kind)] for notebook in (first, second))
        if one != two:
            yield f"{kind}s: first {one}, then {two}"
            return
    for cell, again in zip(first.cells, second.cells, strict=True):
        for a, b in zip(of_cell(cell), of_cell(again), strict=True):
            if a["kind"] == "claim" and a["held"] != b["held"]:
                yield f"{key_of(a)}: held {a['held']}, then {b['held']}"
            elif a["kind"] == "claim" and not by_clock(a, cell) and not same_numbers(a, b):
                shown = [f"{r['value']} [{r['low']}, {r['high']}]" for r in (a, b)]
                yield f"{key_of(a)}: {shown[0]}, then {shown[1]}; a number by the clock has a unit of it, or the cell's tag `{CLOCK}`"
            elif (
                a["kind"] == "decision" and a["chosen"] != b["chosen"] and not a.get("open") and CLOCK not in cell.metadata.get("tags", [])
            ):
                yield f"{key_of(a)}: chose {a['chosen']!r}, then {b['chosen']!r}"


def read_report(root: Path, name: str) -> dict:
    """A report, by page; empty if it was never written."""
    path = root / "reports" / f"{name}.json"
    return json.loads(path.read_text()) if path.exists() else {}


def update_report(root: Path, name: str, entries: dict[str, dict], keep: Iterable[str]) -> dict:
    """Write new entries into a report, without those of pages that are gone. Returns the whole report.

    It is read again just before: another page may have been measured meanwhile.
    """
    keep = set(keep)
    report = {page: entry for page, entry in sorted((read_report(root, name) | entries).items()) if page in keep}
    path = root / "reports" / f"{name}.json"
    path.parent.mkdir(exist_ok=True)
    path.write_text(json.dumps(report, indent=1, ensure_ascii=False) + "\n")
    return report
