"""The site's own extension: cards and status from executed chapters, local assets, mends of the theme's pages."""

from __future__ import annotations

import base64
import html
import os
import re
import shutil
import subprocess
from collections.abc import Iterable, Mapping
from pathlib import Path

import nbformat
import yaml
from docutils import nodes
from sphinx.application import Sphinx
from sphinx.errors import SphinxError
from sphinx.util.docutils import SphinxDirective

from press import ROOT, folding, pages, terms
from press.cache import MAX_BOOK_SECONDS, MAX_MEMORY_MB, MAX_SECONDS, executed, open_cache
from press.depends import fingerprint, is_current
from press.execute import execute_stale
from press.records import key_of, read_report, records

MADE_FROM_CHAPTERS = ["index", "pages/status"]


def parts(root: Path) -> dict[str, str]:
    """The part of the book that each chapter or lab belongs to, by document name, in the order of the table of contents."""
    toc = yaml.safe_load((root / "_toc.yml").read_text())
    listed = [(entry, part["caption"]) for part in toc["parts"] for c in part["chapters"] for entry in (c, *c.get("sections", []))]
    return {entry["file"]: caption for entry, caption in listed if entry["file"].startswith("chapters/")}


def executed_pages(root: Path) -> list[tuple[str, nbformat.NotebookNode]]:
    """(name, executed notebook) of each chapter and lab that the cache holds."""
    cache = open_cache(root)
    found = [(name.removeprefix("chapters/"), executed(root / f"{name}.ipynb", cache, root)) for name in parts(root)]
    return [(name, notebook) for name, notebook in found if notebook is not None]


class Evidence:
    """What the reports say of the claims and decisions of this build, by page and key. What they say of other code does not count."""

    def __init__(self, root: Path, found: list[tuple[str, nbformat.NotebookNode]]) -> None:
        self.notebooks = dict(found)
        names = ("robust", "robust_fresh", "falsify")
        self.reports = {name: read_report(root, name) for name in names}
        self.current = {
            name: {page for page in self.notebooks if is_current(self.reports[name].get(page), root / f"chapters/{page}.ipynb", root)}
            for name in names
        }

    def rows(self, report: str, page: str, kind: str = "claims") -> dict[str, dict]:
        """What a report has of a page's claims or decisions, by key."""
        return {row["key"]: row for row in self.reports[report].get(page, {}).get(kind, [])}

    def held(self, report: str, pages: Iterable[str]) -> tuple[int, int]:
        """Claims x seeds that held, and how many were tried."""
        values = [held for page in pages for row in self.rows(report, page).values() for held in row["held"].values()]
        return sum(values), len(values)

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


def unanimous(card: dict) -> bool:
    """Was a decision tried on other seeds, and each chose the same?"""
    return len(card["by_seed"]) > 1 and len(set(card["by_seed"].values())) == 1


def title_of(notebook: nbformat.NotebookNode) -> str:
    return notebook.cells[0].source.splitlines()[0].lstrip("# ")


def table(label: str, columns: tuple[str, ...], rows: list[str]) -> str:
    """An HTML table that scrolls in its own box; the box can be reached and named by keyboard and screen reader."""
    header = "".join(f"<th>{column}</th>" for column in columns)
    inner = f"<table><thead><tr>{header}</tr></thead><tbody>{''.join(rows)}</tbody></table>"
    return f'<div class="wide-table" tabindex="0" role="region" aria-label="{label}">{inner}</div>'


# ---------- directives ----------


class ChapterCards(SphinxDirective):
    """What this build measured in all, and a card for each chapter: its picture, title and core question."""

    def run(self) -> list[nodes.Node]:
        root = Path(self.env.srcdir)
        found, part_of = executed_pages(root), parts(root)
        chapters = [(name, notebook) for name, notebook in found if not name.startswith("labs/")]
        cards = [self.card(name, part_of[f"chapters/{name}"], notebook) for name, notebook in chapters]
        text = f'{self.numbers(Evidence(root, found), len(chapters))}<div class="chapter-cards">{"".join(cards)}</div>'
        return [nodes.raw("", text, format="html")]

    def numbers(self, evidence: Evidence, n_chapters: int) -> str:
        colophons = [colophon for notebook in evidence.notebooks.values() for colophon in records(notebook, "colophon")]
        n_claims = sum(c["claims"] for c in colophons)
        cards = evidence.cards(evidence.notebooks)
        shown = {
            "chapters, executed": f"{n_chapters}",
            "claims held in this build": f"{sum(c['held'] for c in colophons)} of {n_claims}",
        }
        for report, which in (("robust", "fixed"), ("robust_fresh", "freshly drawn")):
            n_held, n_tried = evidence.held(report, evidence.current[report])
            if n_tried:
                shown[f"claims × {which} seeds held"] = f"{n_held} of {n_tried}"
        shown["claims shown able to fail"] = f"{evidence.falsified(evidence.current['falsify'])} of {n_claims}"
        shown["decisions"] = f"{len(cards)}"
        shown["of them the same on all seeds tried"] = f"{sum(map(unanimous, cards))}"
        shown["left open"] = f"{sum(bool(card['open']) for card in cards)}"
        shown["to run them all, one after another"] = f"{sum(c['seconds'] for c in colophons) / 60:.0f} min"
        return '<ul class="numbers">' + "".join(f"<li><strong>{n}</strong> {what}</li>" for what, n in shown.items()) + "</ul>"

    def card(self, name: str, part: str, notebook: nbformat.NotebookNode) -> str:
        picture = ""
        for cell in notebook.cells:
            images = [o["data"]["image/png"] for o in cell.get("outputs", []) if "image/png" in o.get("data", {})]
            if "cover" in cell.metadata.get("tags", []) and images:
                folder = Path(self.env.app.outdir, "_images")
                folder.mkdir(parents=True, exist_ok=True)
                (folder / f"cover-{name}.png").write_bytes(base64.b64decode(images[0]))
                alt = html.escape(cell.metadata["mystnb"]["image"]["alt"])
                picture = f'<img src="_images/cover-{name}.png" alt="{alt}" loading="lazy">'
        core = re.search(r":class: core-question\b.*\n(.+?)\n:::", notebook.cells[0].source, re.S)
        question = html.escape(" ".join(core.group(1).split())) if core else ""
        heading = f'<p class="chapter-title"><a href="chapters/{name}.html">{html.escape(title_of(notebook))}</a></p>'
        return f'<div class="chapter-card">{picture}<p class="chapter-part">{html.escape(part)}</p>{heading}<p>{question}</p></div>'


class Status(SphinxDirective):
    """Run time, memory and claims of each page in this build, and what the last robust and falsify runs showed."""

    def run(self) -> list[nodes.Node]:
        root = Path(self.env.srcdir)
        found = executed_pages(root)
        evidence = Evidence(root, found)
        summary = [self.summary(name, notebook, evidence) for name, notebook in found]
        seconds = sum(c["seconds"] for _, n in found for c in records(n, "colophon"))
        summary.append(self.row("the whole book, one chapter after another", self.measured(seconds, MAX_BOOK_SECONDS, "s"), *[""] * 6))
        columns = ("chapter", "run time", "peak memory", "claims held", "on five seeds", "on drawn seeds", "claims falsified", "decisions")
        parts = [table("Chapters", columns, summary)]
        parts.append(
            f"<p>The budget is {MAX_SECONDS} s and {MAX_MEMORY_MB} MB a chapter, and {MAX_BOOK_SECONDS // 60} minutes for the book, on two "
            "quiet cores; what is above its budget is marked. A build runs as many chapters at once as there are cores, "
            "so run times include waiting for each other. A claim is falsified if it is red on two seeds of three, "
            "broken in each way that it names.</p>"
        )
        versions = next((c["versions"] for _, n in found for c in records(n, "colophon")), {})
        parts.append("<p>Built with " + ", ".join(f"{package} {version}" for package, version in versions.items()) + ".</p>")
        parts += [self.claims(name, notebook, evidence) for name, notebook in found]
        return [nodes.raw("", "\n".join(parts), format="html")]

    @staticmethod
    def row(*cells: str) -> str:
        return "<tr>" + "".join(f"<td>{cell}</td>" for cell in cells) + "</tr>"

    @staticmethod
    def measured(value: float, budget: float, unit: str) -> str:
        return f"{value:.0f} {unit}" + (f' <strong class="over-budget">above {budget}</strong>' if value > budget else "")

    def summary(self, name: str, notebook: nbformat.NotebookNode, evidence: Evidence) -> str:
        (colophon,) = records(notebook, "colophon")
        stale = {report: "" if name in current else " (of an earlier version)" for report, current in evidence.current.items()}
        cells = [
            f'<a href="../chapters/{name}.html">{html.escape(title_of(notebook))}</a>',
            self.measured(colophon["seconds"], MAX_SECONDS, "s"),
            self.measured(colophon["peak_memory_mb"], MAX_MEMORY_MB, "MB"),
            f"{colophon['held']} of {colophon['claims']}",
        ]
        for report in ("robust", "robust_fresh"):
            n_held, n_tried = evidence.held(report, [name])
            cells.append(f"{n_held} of {n_tried} hold{stale[report]}" if n_tried else "not run yet")
        known = evidence.rows("falsify", name)
        cells.append(f"{evidence.falsified([name])} of {len(known)}{stale['falsify']}" if known else "not run yet")
        cards = evidence.cards([name])
        n_open = sum(bool(card["open"]) for card in cards)
        cells.append(f"{len(cards)}, {sum(map(unanimous, cards))} the same on all seeds" + (f", {n_open} open" if n_open else ""))
        return self.row(*cells)

    def claims(self, name: str, notebook: nbformat.NotebookNode, evidence: Evidence) -> str:
        fixed, fresh, broken = (evidence.rows(report, name) for report in ("robust", "robust_fresh", "falsify"))
        rows = []
        for key, claim in {key_of(claim): claim for claim in records(notebook, "claim")}.items():
            held = fixed.get(key, {}).get("held", {}) | fresh.get(key, {}).get("held", {})
            ways = []
            for way in broken.get(key, {}).get("ways", []):
                ways.append(f"{html.escape(way['way'])}: red on {sum(way['red'].values())} of {len(way['red'])}")
            seeds = ", ".join(f"{seed} {'✓' if h else '✗'}" for seed, h in held.items())
            rows.append(self.row(html.escape(claim["sentence"]), seeds, "<br>".join(ways)))
        label = html.escape(title_of(notebook))
        regions = [table(f"Claims of {label}", ("claim", "seed: held?", "broken on purpose"), rows)]
        cards = [
            self.row(
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


class Mermaid(SphinxDirective):
    """A diagram, drawn in the reader's browser by the Mermaid that the site serves itself."""

    has_content = True

    def run(self) -> list[nodes.Node]:
        source = html.escape("\n".join(self.content))
        return [
            nodes.raw(
                "",
                f'<div class="diagram" tabindex="0" role="group" aria-label="Diagram"><pre class="mermaid">{source}</pre></div>',
                format="html",
            )
        ]


# ---------- build steps ----------


def repository_url(environment: Mapping[str, str], remote: str) -> str | None:
    """Where the site is built from: REPOSITORY_URL, GITHUB_REPOSITORY, or the git remote if it is on a public host."""
    if url := environment.get("REPOSITORY_URL"):
        return url
    if name := environment.get("GITHUB_REPOSITORY"):
        return f"https://github.com/{name}"
    public = re.fullmatch(r"(?:https://(?:[^@/]+@)?|(?:ssh://)?git@)((?:github|gitlab)\.com)[:/](.+?)(?:\.git)?/?", remote)
    return f"https://{public[1]}/{public[2]}" if public else None


def git_remote(root: Path) -> str:
    """The address of the remote `origin`; empty where there is none, or no git."""
    command = ["git", "-C", str(root), "remote", "get-url", "origin"]
    return subprocess.run(command, capture_output=True, text=True).stdout.strip() if shutil.which("git") else ""


def know_the_repository(app: Sphinx, config) -> None:
    """Launch and repository buttons only where the repository is known: never a dead link."""
    if url := repository_url(os.environ, git_remote(ROOT)):
        options = dict(repository_url=url, repository_branch="main", use_repository_button=True, use_issues_button=True)
        config.html_theme_options.update(options)
        config.html_theme_options["launch_buttons"] = dict(notebook_interface="jupyterlab", binderhub_url="https://mybinder.org")
    else:
        config.html_theme_options.pop("launch_buttons", None)


def execute_what_is_stale(app: Sphinx) -> None:
    """Here too, for those who build without make: in parallel, and by the one notion of stale. A page that fails stops the build."""
    root = Path(app.srcdir)
    cache = open_cache(root)
    if any(executed(page, cache, root) is None for page in pages(root)) and (failed := execute_stale(root)):
        raise SphinxError(f"these pages failed: {', '.join(failed)}")


def outdated(app: Sphinx, env, added: set[str], changed: set[str], removed: set[str]) -> list[str]:
    """Pages that were executed anew are read again although their text is as it was; so are the pages made from them."""
    root = Path(app.srcdir)
    before = getattr(env, "press_fingerprints", {})
    env.press_fingerprints = {page.relative_to(root).with_suffix("").as_posix(): fingerprint(page, root) for page in pages(root)}
    touched = added | changed | removed
    touched |= {name for name, now in env.press_fingerprints.items() if name in env.all_docs and before.get(name) != now}
    reports = [p.read_text() for p in sorted(root.glob("reports/*.json"))]
    if any(name.startswith("chapters/") for name in touched) or getattr(env, "press_reports", None) != reports:
        env.press_reports = reports
        touched |= set(MADE_FROM_CHAPTERS) & set(env.all_docs)
    return sorted(touched - added - removed)


def chapters_first(app: Sphinx, env, names: list[str]) -> None:
    """Cards and status need the chapters executed: read them last."""
    names.sort(key=lambda name: name in MADE_FROM_CHAPTERS)


def copy_assets(app: Sphinx, error: Exception | None) -> None:
    """Serve MathJax and Mermaid from the site: no request leaves it."""
    external, static = ROOT / "data" / "external", Path(app.outdir, "_static")
    if error is None and app.builder.format == "html":
        for name in ("mathjax", "mermaid"):
            if not (external / name).exists():
                raise FileNotFoundError(f"data/external/{name}: expected the site's assets, found none; run `make data`")
            shutil.copytree(external / name, static / name, dirs_exist_ok=True)
        # One stylesheet imports another; tools that inline styles look for it in the wrong place.
        theme = static / "styles" / "theme.css"
        basic = (static / "basic.css").read_text().replace("url(", "url(../")
        theme.write_text(theme.read_text().replace('@import "../basic.css";', basic))


# What the theme's pages lack, measured with axe: (pattern, replacement), each safe to apply twice.
MENDS = [
    # The title for print is a second first-level heading.
    (re.compile(r'(<div id="jb-print-docs-body" class="onlyprint">\s*)<h1>(.*?)</h1>', re.S), r'\1<p class="print-title">\2</p>'),
    # The sidebar's logo and search stand outside any landmark.
    (re.compile(r'<div id="pst-primary-sidebar"(?! role)'), '<div id="pst-primary-sidebar" role="complementary" aria-label="Book"'),
    # The empty corner of a table is no header of anything.
    (re.compile(r'<th></th>|<th class="blank[^"]*"\s*>&nbsp;</th>|<th class="head"><p></p></th>'), "<td></td>"),
    # A card whose table is too wide for a phone scrolls; it must be reached by keyboard to do so.
    (re.compile(r'<div class="mlsd-decision" role="note">'), '<div class="mlsd-decision" role="note" tabindex="0">'),
    (re.compile(r'<div class="mlsd-decisions">'), '<div class="mlsd-decisions" role="group" aria-label="Decisions" tabindex="0">'),
    # Each exercise's body has the same id.
    (re.compile(r'<section id="(?:exercise|solution)-content">'), "<section>"),
    # The space before a link is not part of it.
    (re.compile(r"(Solution to)(<a [^>]*>) "), r"\1 \2"),
    # A list of references whose entries are, by role, no list items.
    (re.compile(r'<div role="list" class="citation-list">'), '<div class="citation-list">'),
    (re.compile(r' role="doc-biblioentry"'), ""),
]


def mend_pages(app: Sphinx, error: Exception | None) -> None:
    if error is None and app.builder.format == "html":
        for path in Path(app.outdir).rglob("*.html"):
            if "_static" not in path.parts:
                before = after = path.read_text()
                for pattern, replacement in MENDS:
                    after = pattern.sub(replacement, after)
                if after != before:
                    path.write_text(after)


def forget_a_failed_build(app: Sphinx, error: Exception | None) -> None:
    """Sphinx warns of a page only when it reads it: without this, the build after a red one would be green."""
    if app._warncount:  # the exit code is set after this event
        Path(app.doctreedir, "environment.pickle").unlink(missing_ok=True)


def setup(app: Sphinx) -> dict:
    app.add_directive("chapter-cards", ChapterCards)
    app.add_directive("status", Status)
    app.add_directive("mermaid", Mermaid)
    folding.setup(app)
    terms.setup(app)
    app.connect("config-inited", know_the_repository)
    app.connect("builder-inited", execute_what_is_stale)
    app.connect("env-get-outdated", outdated)
    app.connect("env-before-read-docs", chapters_first)
    app.connect("build-finished", copy_assets)
    app.connect("build-finished", mend_pages)
    app.connect("build-finished", forget_a_failed_build)
    return dict(version="1", parallel_read_safe=False, parallel_write_safe=True)
