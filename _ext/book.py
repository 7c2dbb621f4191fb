"""The site's own extension: cards and status from executed chapters, local assets, mends of the theme's pages."""

from __future__ import annotations

import base64
import html
import json
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path

import nbformat
import yaml
from docutils import nodes
from sphinx.application import Sphinx
from sphinx.util.docutils import SphinxDirective

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT / "book"))
import robust  # noqa: E402
from cache import MAX_BOOK_SECONDS, MAX_MEMORY_MB, MAX_SECONDS, executed, fingerprint, open_cache, records  # noqa: E402

MADE_FROM_CHAPTERS = ["index", "pages/status"]


def parts(root: Path) -> dict[str, str]:
    """The part of the book that each chapter belongs to, by document name, in the order of the table of contents."""
    toc = yaml.safe_load((root / "_toc.yml").read_text())
    return {c["file"]: part["caption"] for part in toc["parts"] for c in part["chapters"] if c["file"].startswith("chapters/")}


def chapters(root: Path) -> list[tuple[str, nbformat.NotebookNode]]:
    """(name, executed notebook) of each chapter that the cache holds."""
    cache = open_cache(root)
    found = [(name.removeprefix("chapters/"), executed(root / f"{name}.ipynb", cache)) for name in parts(root)]
    return [(name, notebook) for name, notebook in found if notebook is not None]


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
        found, part_of = chapters(root), parts(root)
        cards = [self.card(name, part_of[f"chapters/{name}"], notebook) for name, notebook in found]
        text = f'{self.numbers([notebook for _, notebook in found])}<div class="chapter-cards">{"".join(cards)}</div>'
        return [nodes.raw("", text, format="html")]

    def numbers(self, notebooks: list[nbformat.NotebookNode]) -> str:
        colophons = [colophon for notebook in notebooks for colophon in records(notebook, "colophon")]
        shown = {
            "chapters, executed": f"{len(notebooks)}",
            "claims held": f"{sum(c['held'] for c in colophons)} of {sum(c['claims'] for c in colophons)}",
            "decisions with a measured flip point": f"{sum(c['decisions'] for c in colophons)}",
            "to run them all, one after another": f"{sum(c['seconds'] for c in colophons) / 60:.0f} min",
        }
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
        core = re.search(r":class: core-question\s*\n(.+?)\n:::", notebook.cells[0].source, re.S)
        question = html.escape(" ".join(core.group(1).split())) if core else ""
        heading = f'<p class="chapter-title"><a href="chapters/{name}.html">{html.escape(title_of(notebook))}</a></p>'
        return f'<div class="chapter-card">{picture}<p class="chapter-part">{html.escape(part)}</p>{heading}<p>{question}</p></div>'


class Status(SphinxDirective):
    """Run time, memory and claims of each chapter in this build, and the last robust and falsify runs."""

    def run(self) -> list[nodes.Node]:
        root = Path(self.env.srcdir)
        found = chapters(root)
        reports = {}
        for name in ("robust", "falsify"):
            path = root / "reports" / f"{name}.json"
            reports[name] = json.loads(path.read_text()) if path.exists() else {}
        summary = [self.summary(name, notebook, reports) for name, notebook in found]
        seconds = sum(c["seconds"] for _, n in found for c in records(n, "colophon"))
        summary.append(self.row("the whole book, one chapter after another", self.measured(seconds, MAX_BOOK_SECONDS, "s"), *[""] * 4))
        columns = ("chapter", "run time", "peak memory", "claims held", "over five seeds", "without their effects")
        parts = [table("Chapters", columns, summary)]
        parts.append(
            f"<p>The budget is {MAX_SECONDS} s and {MAX_MEMORY_MB} MB a chapter, and {MAX_BOOK_SECONDS // 60} minutes for the book, on two "
            "quiet cores; what is above its budget is marked. A build runs as many chapters at once as there are cores, "
            "so run times include waiting for each other.</p>"
        )
        versions = next((c["versions"] for _, n in found for c in records(n, "colophon")), {})
        parts.append("<p>Built with " + ", ".join(f"{package} {version}" for package, version in versions.items()) + ".</p>")
        parts += [self.claims(name, notebook, reports) for name, notebook in found]
        return [nodes.raw("", "\n".join(parts), format="html")]

    @staticmethod
    def row(*cells: str) -> str:
        return "<tr>" + "".join(f"<td>{cell}</td>" for cell in cells) + "</tr>"

    @staticmethod
    def measured(value: float, budget: float, unit: str) -> str:
        return f"{value:.0f} {unit}" + (f' <strong class="over-budget">above {budget}</strong>' if value > budget else "")

    def summary(self, name: str, notebook: nbformat.NotebookNode, reports: dict) -> str:
        (colophon,) = records(notebook, "colophon")
        cells = [
            f'<a href="../chapters/{name}.html">{html.escape(title_of(notebook))}</a>',
            self.measured(colophon["seconds"], MAX_SECONDS, "s"),
            self.measured(colophon["peak_memory_mb"], MAX_MEMORY_MB, "MB"),
            f"{colophon['held']} of {colophon['claims']}",
        ]
        for report, outcome in (("robust", "held"), ("falsify", "red")):
            entry = reports[report].get(name)
            if entry is None:
                cells.append("not run yet")
                continue
            values = [value for claim in entry["claims"] for value in claim[outcome].values()]
            stale = "" if robust.is_current(entry, name) else " (of an earlier version)"
            words = "hold" if report == "robust" else "go red"
            cells.append(f"{sum(values)} of {len(values)} {words}{stale}")
        return self.row(*cells)

    def claims(self, name: str, notebook: nbformat.NotebookNode, reports: dict) -> str:
        over_seeds = {c["sentence"]: c["held"] for c in reports["robust"].get(name, {}).get("claims", [])}
        without = {c["sentence"]: c["red"] for c in reports["falsify"].get(name, {}).get("claims", [])}
        rows = []
        for claim in records(notebook, "claim"):
            seeds = ", ".join(f"{seed} {'✓' if held else '✗'}" for seed, held in over_seeds.get(claim["sentence"], {}).items())
            red = ", ".join(f"{effect}: {'red' if gone else 'green'}" for effect, gone in without.get(claim["sentence"], {}).items())
            rows.append(self.row(html.escape(claim["sentence"]), seeds, html.escape(red)))
        label = html.escape(title_of(notebook))
        region = table(f"Claims of {label}", ("claim", "seed: held?", "without the effect"), rows)
        return f'<details class="claims"><summary>{label}: every claim</summary>{region}</details>'


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


def outdated(app: Sphinx, env, added: set[str], changed: set[str], removed: set[str]) -> list[str]:
    """Chapters whose inputs changed are read again although their text did not; so are the pages made from them."""
    now = fingerprint(Path(app.srcdir))
    touched = added | changed | removed
    if getattr(env, "mlsd_fingerprint", None) != now:
        env.mlsd_fingerprint = now
        touched |= {name for name in env.all_docs if name.startswith("chapters/")}
    reports = [p.read_text() for p in sorted(Path(app.srcdir, "reports").glob("*.json"))]
    if any(name.startswith("chapters/") for name in touched) or getattr(env, "mlsd_reports", None) != reports:
        env.mlsd_reports = reports
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
    open_cache(Path(app.srcdir))
    app.add_directive("chapter-cards", ChapterCards)
    app.add_directive("status", Status)
    app.add_directive("mermaid", Mermaid)
    app.connect("config-inited", know_the_repository)
    app.connect("env-get-outdated", outdated)
    app.connect("env-before-read-docs", chapters_first)
    app.connect("build-finished", copy_assets)
    app.connect("build-finished", mend_pages)
    app.connect("build-finished", forget_a_failed_build)
    return dict(version="1", parallel_read_safe=False, parallel_write_safe=True)
