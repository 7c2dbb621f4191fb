"""The site's own extension: executes what is stale, and mends what the theme's pages lack. Its other parts have modules of their own."""

from __future__ import annotations

import copy
import hashlib
import os
import re
import shutil
from collections.abc import Mapping
from pathlib import Path

from sphinx.application import Sphinx
from sphinx.errors import SphinxError

from press import (
    ROOT,
    diagrams,
    finding,
    folding,
    heads,
    landing,
    pages,
    pictures,
    practice,
    sheets,
    slides,
    status,
    terms,
    weight,
    workshop,
)
from press.cache import is_stale, open_cache
from press.depends import fingerprint
from press.execute import execute_stale

MAKES_PAGES = {".css", ".js", ".py", ".svg"}
MADE_FROM_CHAPTERS = ["index", "pages/status", "pages/workshop", "pages/plan"]


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
    return heads.git(root, "remote", "get-url", "origin")


def know_the_repository(app: Sphinx, config) -> None:
    """Launch, repository, issue and edit buttons only where the repository is known: never a dead link."""
    if url := repository_url(os.environ, git_remote(ROOT)):
        options = dict(repository_url=url, repository_branch="main", use_repository_button=True, use_issues_button=True)
        config.html_theme_options.update(options, use_edit_page_button=True)
        config.html_theme_options["launch_buttons"] = dict(notebook_interface="jupyterlab", binderhub_url="https://mybinder.org")
    else:
        config.html_theme_options.pop("launch_buttons", None)


def execute_what_is_stale(app: Sphinx) -> None:
    """Here too, for those who build without make: in parallel, and by the one notion of stale. A page that fails stops the build."""
    root = Path(app.srcdir)
    cache = open_cache(root)
    if any(is_stale(page, cache, root) for page in pages(root)) and (failed := execute_stale(root)):
        raise SphinxError(f"these pages failed: {', '.join(failed)}")


def outdated(app: Sphinx, env, added: set[str], changed: set[str], removed: set[str]) -> list[str]:
    """Pages that were executed anew are read again although their text is as it was; so are the pages made from them."""
    root = Path(app.srcdir)
    before = getattr(env, "press_fingerprints", {})
    env.press_fingerprints = {page.relative_to(root).with_suffix("").as_posix(): fingerprint(page, root) for page in pages(root)}
    touched = added | changed | removed
    # What makes a page is more than its text; and Sphinx copies styles and scripts only when it writes a page.
    made_by = hashlib.sha256()
    for path in sorted(path for folder in ("press", "_static") for path in (root / folder).rglob("*") if path.suffix in MAKES_PAGES):
        made_by.update(path.relative_to(root).as_posix().encode() + path.read_bytes())
    if getattr(env, "press_made_by", None) != made_by.hexdigest():
        env.press_made_by = made_by.hexdigest()
        touched |= set(env.all_docs)
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
    """Serve MathJax from the site: no request leaves it."""
    external, static = ROOT / "data" / "external", Path(app.outdir, "_static")
    if error is None and app.builder.format == "html":
        if not (external / "mathjax").exists():
            raise FileNotFoundError("data/external/mathjax: expected the site's assets, found none; run `make data`")
        shutil.copytree(external / "mathjax", static / "mathjax", dirs_exist_ok=True)
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
    # What unfolds the pages below a chapter in the sidebar has no name.
    (re.compile(r'<summary>(?=<span class="toctree-toggle")'), '<summary aria-label="Its pages">'),
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
    # Sphinx says how wide the page is; so do docutils (in `heads`) and the theme.
    (re.compile(r'<meta name="viewport" content="width=device-width, initial-scale=1"/>'), ""),
    (weight.UNUSED, ""),
    (weight.WAITING, r"<script defer \1"),
]
FOOT = re.compile(r'(<p class="book-version">).*?(</p>)')  # in _config.yml; filled here, or each commit would be a change of all pages


def mend_pages(app: Sphinx, error: Exception | None) -> None:
    if error is None and app.builder.format == "html":
        foot = heads.colophon(ROOT)
        for path in Path(app.outdir).rglob("*.html"):
            if "_static" not in path.parts:
                before = after = path.read_text()
                for pattern, replacement in MENDS:
                    after = pattern.sub(replacement, after)
                after = FOOT.sub(rf"\1{foot}\2", after)
                after = weight.without_unused_math(after)
                if after != before:
                    path.write_text(after)


def number_within_chapters(app: Sphinx, builder) -> None:
    """Exercises count from 1 in each chapter, as JupyterLab counts them; sphinx-exercise counts through the book.

    The numbers of the book are put aside and not changed: by them Sphinx knows which pages to write anew.
    """
    numbers = copy.deepcopy(app.env.toc_fignumbers)
    for kinds in numbers.values():
        if "exercise" in kinds:
            in_order = sorted(kinds["exercise"], key=kinds["exercise"].get)
            kinds["exercise"] = {label: (n,) for n, label in enumerate(in_order, 1)}
    app.env.toc_fignumbers = numbers


def forget_a_failed_build(app: Sphinx, error: Exception | None) -> None:
    """Sphinx warns of a page only when it reads it: without this, the build after a red one would be green."""
    if app._warncount:  # the exit code is set after this event
        Path(app.doctreedir, "environment.pickle").unlink(missing_ok=True)


def setup(app: Sphinx) -> dict:
    folding.setup(app)
    terms.setup(app)
    app.connect("config-inited", know_the_repository)
    app.connect("builder-inited", execute_what_is_stale)
    app.connect("env-get-outdated", outdated)
    app.connect("env-before-read-docs", chapters_first)
    app.connect("write-started", number_within_chapters)
    app.connect("build-finished", copy_assets)
    app.connect("build-finished", mend_pages)
    app.connect("build-finished", weight.lighten)
    app.connect("build-finished", forget_a_failed_build)
    diagrams.setup(app)
    pictures.setup(app)
    sheets.setup(app)
    landing.setup(app)
    status.setup(app)
    finding.setup(app)
    practice.setup(app)
    slides.setup(app)
    workshop.setup(app)
    heads.setup(app)
    return dict(version="2", parallel_read_safe=False, parallel_write_safe=True)
