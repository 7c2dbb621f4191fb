"""The status page: what each page costs alone, and what this build and the reports say of its claims and decisions."""

from __future__ import annotations

import html
from pathlib import Path

from docutils import nodes
from nbformat import NotebookNode
from sphinx.util.docutils import SphinxDirective

from press import alone
from press.evidence import Evidence, executed_pages, is_lab, title_of, unanimous
from press.records import key_of, records

EARLIER = '\N{NO-BREAK SPACE}<abbr title="of an earlier version of the page">†</abbr>'


def table(label: str, columns: tuple[str, ...], rows: list[str]) -> str:
    """An HTML table that scrolls in its own box; the box can be reached and named by keyboard and screen reader."""
    header = "".join(f"<th>{column}</th>" for column in columns)
    inner = f"<table><thead><tr>{header}</tr></thead><tbody>{''.join(rows)}</tbody></table>"
    return f'<div class="wide-table" tabindex="0" role="region" aria-label="{label}">{inner}</div>'


def row(*cells: str) -> str:
    return "<tr>" + "".join(f"<td>{cell}</td>" for cell in cells) + "</tr>"


def measured(value: float, budget: float, unit: str) -> str:
    return f"{value:.0f} {unit}" + (f' <strong class="over-budget">above {budget}</strong>' if value > budget else "")


def counted(n: int, word: str) -> str:
    return f"{n} {word}{'' if n == 1 else 's'}"


class Status(SphinxDirective):
    """First in a reader's words, then a row for each page, then its claims and decisions one by one."""

    def run(self) -> list[nodes.Node]:
        root = Path(self.env.srcdir)
        evidence = Evidence(root, executed_pages(root))
        columns = ("page", "time alone", "memory", "claims held", "on fixed seeds", "on drawn seeds", "claims falsified", "decisions")
        parts = [
            f'<p class="status-lead">{self.lead(evidence)}</p>',
            table("Pages", columns, [self.summary(name, evidence) for name in evidence.notebooks]),
            f"<p>Each page was run alone, one after another, by <code>make measure</code>: time is what its processes took of the "
            f"processor, or of the clock if that is less. A chapter may take {alone.CHAPTER_SECONDS} s, a lab {alone.LAB_SECONDS} s, "
            f"both {alone.MEMORY_MB} MB; what is above is marked. While the site is built pages run side by side and take longer. "
            "What has a † is of an earlier version of the page. A claim is falsified if it turns red on two draws of chance (seeds) of "
            "three when it is broken in each way that it names.</p>",
        ]
        versions = next((c["versions"] for n in evidence.notebooks.values() for c in records(n, "colophon")), {})
        parts.append("<p>Built with " + ", ".join(f"{package} {version}" for package, version in versions.items()) + ".</p>")
        parts += [self.details(name, notebook, evidence) for name, notebook in evidence.notebooks.items()]
        return [nodes.raw("", "\n".join(parts), format="html")]

    @staticmethod
    def lead(evidence: Evidence) -> str:
        """The page in two sentences."""
        n_held, n_claims = evidence.claims()
        n_labs = sum(map(is_lab, evidence.notebooks))
        pages = counted(len(evidence.notebooks) - n_labs, "chapter") + (f" and {counted(n_labs, 'lab')}" if n_labs else "")
        whole = "Everything that this book claims held" if n_held == n_claims else f"{n_held} of {n_claims} claims of this book held"
        text = f"{whole} when this site was built: {counted(n_claims, 'conclusion')} in {pages}."
        known = {name: evidence.reports["alone"][name] for name in evidence.notebooks if name in evidence.current["alone"]}
        if known:
            kept = sum(not alone.faults(name, entry) for name, entry in known.items())
            longest = max(alone.seconds_of(entry) for entry in known.values())
            each = "each" if kept == len(known) else str(kept)
            text += f" Of {counted(len(known), 'page')} measured alone, {each} kept its budget; the longest takes {longest:.0f} seconds."
        return text

    def summary(self, name: str, evidence: Evidence) -> str:
        (colophon,) = records(evidence.notebooks[name], "colophon")
        stale = {report: "" if name in current else EARLIER for report, current in evidence.current.items()}
        title = html.escape(title_of(evidence.notebooks[name]))
        cells = [f'{"lab: " if is_lab(name) else ""}<a href="../chapters/{name}.html">{title}</a>']
        entry = evidence.reports["alone"].get(name)
        if entry and name in evidence.current["alone"]:
            cells.append(measured(alone.seconds_of(entry), alone.budget_of(name), "s"))
            cells.append(measured(entry["peak_memory_mb"], alone.MEMORY_MB, "MB"))
        elif entry:  # what an earlier version took says nothing of this one's budget
            cells += [f"{alone.seconds_of(entry):.0f} s{stale['alone']}", f"{entry['peak_memory_mb']} MB{stale['alone']}"]
        else:
            cells += ["not yet", "not yet"]
        cells.append(f"{colophon['held']} of {colophon['claims']}")
        for report in ("robust", "robust_fresh"):
            n_held, n_tried = evidence.held(report, [name])
            cells.append(f"{n_held} of {n_tried}{stale[report]}" if n_tried else "not yet")
        known = evidence.rows("falsify", name)
        cells.append(f"{evidence.falsified([name])} of {len(known)}{stale['falsify']}" if known else "not yet")
        cards = evidence.cards([name])
        n_open = sum(bool(card["open"]) for card in cards)
        told = [f"{sum(map(unanimous, cards))} the same on all seeds" if any(card["by_seed"] for card in cards) else "", f"{n_open} open"]
        told = ", ".join(what for what in told[: 1 + bool(n_open)] if what)
        cells.append(f"{len(cards)}" + (f" ({told})" if told else ""))
        return row(*cells)

    @staticmethod
    def details(name: str, notebook: NotebookNode, evidence: Evidence) -> str:
        fixed, fresh, broken = (evidence.rows(report, name) for report in ("robust", "robust_fresh", "falsify"))
        rows = []
        for key, claim in {key_of(claim): claim for claim in records(notebook, "claim")}.items():
            held = fixed.get(key, {}).get("held", {}) | fresh.get(key, {}).get("held", {})
            ways = []
            for way in broken.get(key, {}).get("ways", []):
                ways.append(f"{html.escape(way['way'])}: red on {sum(way['red'].values())} of {len(way['red'])}")
            seeds = ", ".join(f"{seed} {'✓' if h else '✗'}" for seed, h in held.items())
            rows.append(row(html.escape(claim["sentence"]), seeds, "<br>".join(ways)))
        label = html.escape(title_of(notebook))
        regions = [table(f"Claims of {label}", ("claim", "seed: held?", "broken on purpose"), rows)]
        cards = [
            row(
                html.escape(card["question"]),
                html.escape(str(card["chosen"])),
                html.escape(", ".join(f"{seed} {choice}" for seed, choice in card["by_seed"].items())),
                html.escape(card["open"]),
            )
            for card in evidence.cards([name])
        ]
        if cards:
            regions.append(table(f"Decisions of {label}", ("decision", "chosen", "seed: choice", "open"), cards))
        summary = f"{label}: every claim" + (" and decision" if cards else "")
        return f'<details class="claims"><summary>{summary}</summary>{"".join(regions)}</details>'


def setup(app) -> None:
    app.add_directive("status", Status)
