"""What is known of the book: its executed pages in order, and what the reports say of their claims and decisions."""

from __future__ import annotations

import functools
import re
from collections.abc import Iterable
from pathlib import Path

import nbformat
import yaml

from press.cache import cache_of, executed
from press.depends import is_current
from press.records import key_of, read_report, records


def parts(root: Path) -> dict[str, str]:
    """The part of the book that each chapter or lab belongs to, by document name, in the order of the table of contents."""
    toc = yaml.safe_load((root / "_toc.yml").read_text())
    listed = [(entry, part["caption"]) for part in toc["parts"] for c in part["chapters"] for entry in (c, *c.get("sections", []))]
    return {entry["file"]: caption for entry, caption in listed if entry["file"].startswith("chapters/")}


@functools.cache
def executed_pages(root: Path) -> dict[str, nbformat.NotebookNode]:
    """Each chapter and lab that the cache holds, executed, by name, in the order of the table of contents.

    A build asks often, and executes nothing any more when it does: they are read once. They are not to be changed.
    """
    cache = cache_of(root)
    found = {name.removeprefix("chapters/"): executed(root / f"{name}.ipynb", cache, root) for name in parts(root)}
    return {name: notebook for name, notebook in found.items() if notebook is not None}


def is_lab(name: str) -> bool:
    return name.startswith("labs/")


class Evidence:
    """What the reports say of the pages of this build. What they say of other code does not count, unless it is asked for."""

    REPORTS = ("robust", "robust_fresh", "falsify", "alone")

    def __init__(self, root: Path, notebooks: dict[str, nbformat.NotebookNode]) -> None:
        self.notebooks = notebooks
        self.reports = {name: read_report(root, name) for name in self.REPORTS}
        self.current = {
            name: {page for page in notebooks if is_current(self.reports[name].get(page), root / f"chapters/{page}.ipynb", root)}
            for name in self.REPORTS
        }

    def rows(self, report: str, page: str, kind: str = "claims") -> dict[str, dict]:
        """What a report has of a page's claims or decisions, by key."""
        return {row["key"]: row for row in self.reports[report].get(page, {}).get(kind, [])}

    def held(self, report: str, pages: Iterable[str]) -> tuple[int, int]:
        """Claims x seeds that held, and how many were tried."""
        values = [held for page in pages for row in self.rows(report, page).values() for held in row["held"].values()]
        return sum(values), len(values)

    def seeds(self, report: str, pages: Iterable[str]) -> int:
        """How many seeds a report tried at the most."""
        return max((len(row["held"]) for page in pages for row in self.rows(report, page).values()), default=0)

    def falsified(self, pages: Iterable[str]) -> int:
        return sum(row["falsified"] for page in pages for row in self.rows("falsify", page).values())

    def cards(self, pages: Iterable[str]) -> list[dict]:
        """The decisions of this build, each once, with `chosen` by seed as the robust report has it."""
        shown = []
        for page in pages:
            known = self.rows("robust", page, "decisions") if page in self.current["robust"] else {}
            for card in records(self.notebooks[page], "decision"):
                shown.append(dict(card, by_seed=known.get(key_of(card), {}).get("chosen", {}), open=card.get("open", "")))
        return shown

    def claims(self) -> tuple[int, int]:
        """Claims that held in this build, and how many there are."""
        colophons = [colophon for notebook in self.notebooks.values() for colophon in records(notebook, "colophon")]
        return sum(c["held"] for c in colophons), sum(c["claims"] for c in colophons)


def unanimous(card: dict) -> bool:
    """Was a decision tried on other seeds, and each chose the same?"""
    return len(card["by_seed"]) > 1 and len(set(card["by_seed"].values())) == 1


def title_of(notebook: nbformat.NotebookNode) -> str:
    return re.search(r"^# (.+)$", notebook.cells[0].source, re.M)[1].strip()
