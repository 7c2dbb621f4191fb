"""Diagrams, drawn once into SVG and kept in `_static/diagrams`: a page loads no Mermaid, and a build needs no browser.

The source stays the ```mermaid fence of a page, which JupyterLab draws by itself. `python -m press.diagrams` draws what
is not drawn yet, with Chromium and the site's own Mermaid, and removes what no page has any more. A drawing is found by
the hash of its source. Its colours are variables of the site, so that one drawing serves light, dark and paper.

A diagram is laid out in both directions and with labels of several widths; the layout that shows the largest text in the
page's column is kept, and another for a phone where that one would be too small there. A whiteboard is laid out once more for
a slide, which is wide and low.

A source without a drawing (somebody edits a diagram and has no Chromium) is drawn in the reader's browser by Mermaid,
which the site then brings along: the page is heavier and not wrong. tests/press/test_diagrams.py tells of it.
"""

from __future__ import annotations

import argparse
import hashlib
import html
import json
import re
import shutil
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import nbformat
from docutils import nodes
from sphinx.application import Sphinx
from sphinx.util.docutils import SphinxDirective

from press import ROOT

FOLDER = Path("_static", "diagrams")
MERMAID = Path("data", "external", "mermaid")
FONT = "Arial, Liberation Sans, Helvetica, DejaVu Sans Condensed, sans-serif"
FONT_SIZE = 15
# What a drawing may take on the page, in CSS pixels: the width of the column at 1440 (on a phone of 390), and a height that it
# keeps to as long as its text stays readable.
WIDE, NARROW = (780, 640), (350, 1000)
SLIDE = (1228, 535)  # what a slide leaves at 1280 x 720, of which a diagram may fill all
WHITEBOARD = "The whiteboard"  # the heading of a chapter's
LEAST_TEXT, GOOD_TEXT = 11, 12.5  # CSS pixels
LEAST_ON_A_SLIDE = 13.3  # 20 on a projector of 1920 x 1080, for the back row
ON_A_PHONE = "on a phone"
PLACES = {"": "in the column", "-phone": f"{ON_A_PHONE}, where it is to be opened large", "-slide": "on a slide"}  # by the end of a name


class Diagram(NamedTuple):
    page: str  # document name
    heading: str  # the nearest heading above it, without its number
    source: str


def name_of(source: str) -> str:
    """The name of a source's drawing. Indentation at the ends of lines and empty lines do not change it."""
    lines = [line.rstrip() for line in source.strip().splitlines() if line.strip()]
    return hashlib.sha256("\n".join(lines).encode()).hexdigest()[:12]


def fences(text: str, heading: str = "") -> Iterator[tuple[str, str]]:
    """(nearest heading, source) of each Mermaid fence in Markdown."""
    source: list[str] | None = None
    inside = ""  # the fence of something else
    for line in text.splitlines():
        bare = line.strip()
        if source is not None:
            if bare.startswith("```"):
                yield heading, "\n".join(source)
                source = None
            else:
                source.append(line)
        elif inside:
            inside = "" if bare == inside else inside
        elif bare.startswith("```mermaid"):
            source = []
        elif fence := re.match(r"`{3,}", bare):
            inside = fence[0]
        elif title := re.match(r"#+ (?:\d+\. )?(.+)", bare):
            heading = title[1].strip()


def all_diagrams(root: Path = ROOT) -> list[Diagram]:
    """Every diagram of the book, in the order of its files."""
    found = []
    for path in sorted([*root.glob("chapters/**/*.ipynb"), *root.glob("pages/*.md"), *root.glob("*.md")]):
        if path.suffix == ".ipynb":
            cells = nbformat.read(path, as_version=4).cells
            text = "\n\n".join(cell.source for cell in cells if cell.cell_type == "markdown")
        else:
            text = path.read_text()
        page = path.relative_to(root).with_suffix("").as_posix()
        found += [Diagram(page, heading, source) for heading, source in fences(text)]
    return found


def missing(root: Path = ROOT) -> list[Diagram]:
    """The diagrams without a drawing, and the whiteboards without one for a slide."""
    found = all_diagrams(root)
    return [d for d in found if drawing(d.source, root) is None or (d.heading == WHITEBOARD and on_a_slide(d.source, root) is None)]


def unused(root: Path = ROOT) -> list[Path]:
    """The drawings that no page has."""
    names = {name_of(d.source) for d in all_diagrams(root)}
    return [path for path in sorted((root / FOLDER).glob("*.svg")) if path.stem.partition("-")[0] not in names]


# ---------- drawing ----------


def _svg(layout: dict, title: str, description: str, name: str) -> str:
    """A drawing as a file. `width` is how large it is shown where there is room."""
    x, y, width, height = (round(layout[k], 1) for k in ("x", "y", "width", "height"))
    about = f'<title id="t-{name}">{html.escape(title)}</title><desc id="e-{name}">{html.escape(description)}</desc>'
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" class="drawn-diagram" role="img" aria-labelledby="t-{name} e-{name}" '
        f'width="{width * layout["scale"]:.0f}" height="{height * layout["scale"]:.0f}" viewBox="{x} {y} {width} {height}" '
        f'font-family="{FONT}" font-size="{FONT_SIZE}" text-anchor="middle">{about}{layout["body"]}</svg>\n'
    )


def accessible(source: str) -> tuple[str, str]:
    """What a source says of itself: accTitle and accDescr, empty where it does not."""
    title = re.search(r"^\s*accTitle\s*:\s*(.+)$", source, re.M)
    description = re.search(r"^\s*accDescr\s*(?::\s*(.+)$|\{([^}]*)\})", source, re.M)
    words = " ".join((description[1] or description[2]).split()) if description else ""
    return title[1].strip() if title else "", words


def draw(todo: list[Diagram], root: Path = ROOT) -> list[str]:
    """Draw these diagrams. Returns what could not be read well or not at all."""
    from playwright.sync_api import sync_playwright

    chromium = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
    if not chromium:
        raise FileNotFoundError("expected Chromium to draw diagrams, found none: apt-get install chromium")
    (root / FOLDER).mkdir(parents=True, exist_ok=True)
    complaints = []
    with sync_playwright() as playwright, playwright.chromium.launch(executable_path=chromium, args=["--no-sandbox"]) as browser:
        page = browser.new_page()
        page.set_content('<!DOCTYPE html><body style="margin: 0"><div id="place"></div></body>')
        page.add_script_tag(path=ROOT / MERMAID / "mermaid.min.js")
        constants = dict(FONT=FONT, FONT_SIZE=FONT_SIZE, GOOD_TEXT=GOOD_TEXT, WIDE=WIDE, NARROW=NARROW, SLIDE=SLIDE)
        given = "".join(f"const {name} = {json.dumps(value)};" for name, value in constants.items())
        page.add_script_tag(content=given + (ROOT / "press" / "draw_diagrams.js").read_text())
        for diagram in todo:
            name = name_of(diagram.source)
            try:
                drawn = page.evaluate("(asked) => drawn(...asked)", [diagram.source, name, diagram.heading == WHITEBOARD])
            except Exception as error:
                complaints.append(f"{diagram.page}, {diagram.heading}: not drawn: {str(error).splitlines()[0]}")
                continue
            title, description = accessible(diagram.source)
            for kind, layout in (("", drawn["wide"]), ("-phone", drawn["phone"]), ("-slide", drawn["slide"])):
                path = root / FOLDER / f"{name}{kind}.svg"
                path.unlink(missing_ok=True)
                if layout:
                    path.write_text(_svg(layout, title or diagram.heading, description or drawn["words"], f"{name}{kind}"))
                    if (shown := FONT_SIZE * layout["scale"]) < (LEAST_ON_A_SLIDE if kind == "-slide" else LEAST_TEXT):
                        complaints.append(f"{diagram.page}, {diagram.heading}: text of {shown:.1f} px {PLACES[kind]}; shorten its labels")
    return complaints


# ---------- on the page ----------


def drawing(source: str, root: Path, again: str = "") -> str | None:
    """The HTML of a kept drawing, or None. Where there is another for phones, both: the style shows one.

    again: put behind its ids, if the page has it already.
    """
    column, phone, _ = _files(source, root)
    if not column.exists():
        return None
    text = _wide_or_narrow(column, phone) if phone.exists() else column.read_text().strip()
    name = name_of(source)
    return text.replace(f"-{name}", f"-{name}{again}") if again else text


def on_a_slide(source: str, root: Path) -> str | None:
    """The HTML of a whiteboard's drawing for a slide, or None; with the page's for those who open the slides on a phone."""
    column, phone, slide = _files(source, root)
    return _wide_or_narrow(slide, phone if phone.exists() else column) if slide.exists() else None


def _files(source: str, root: Path) -> list[Path]:
    return [root / FOLDER / f"{name_of(source)}{kind}.svg" for kind in PLACES]


def _wide_or_narrow(wide: Path, narrow: Path) -> str:
    drawn = ((wide, "on-wide"), (narrow, "on-phone"))
    return "".join(file.read_text().strip().replace('class="drawn-diagram"', f'class="drawn-diagram {on}"', 1) for file, on in drawn)


class MermaidDirective(SphinxDirective):
    """A diagram: its kept drawing, or its source for Mermaid in the reader's browser."""

    has_content = True

    def run(self) -> list[nodes.Node]:
        source, root = "\n".join(self.content), Path(self.env.srcdir)
        name = name_of(source)
        self.env.note_dependency(str(root / FOLDER / f"{name}.svg"))
        seen = self.env.temp_data.setdefault("press_diagrams", [])
        again = f"-{seen.count(name) + 1}" if name in seen else ""
        seen.append(name)
        undrawn = self.env.__dict__.setdefault("press_undrawn", {})
        undrawn.setdefault(self.env.docname, set()).discard(name)
        if svg := drawing(source, root, again=again):
            inner = svg
        else:
            undrawn[self.env.docname].add(name)
            title = html.escape(accessible(source)[0] or "Diagram")
            inner = f'<pre class="mermaid" role="img" aria-label="{title}">{html.escape(source)}</pre>'
        return [nodes.raw("", f'<div class="diagram">{inner}</div>', format="html")]


def bring_mermaid_where_needed(app: Sphinx, error: Exception | None) -> None:
    """The site has Mermaid only while a page has a diagram that is not drawn."""
    if error is None and app.builder.format == "html":
        target = Path(app.outdir, "_static", "mermaid")
        if any(getattr(app.env, "press_undrawn", {}).values()):
            shutil.copytree(ROOT / MERMAID, target, dirs_exist_ok=True)
        else:
            shutil.rmtree(target, ignore_errors=True)
        # The drawings stand in the pages.
        shutil.rmtree(Path(app.outdir, FOLDER), ignore_errors=True)


def setup(app: Sphinx) -> None:
    app.add_directive("mermaid", MermaidDirective)
    app.connect("env-purge-doc", lambda app, env, name: getattr(env, "press_undrawn", {}).pop(name, None))
    app.connect("build-finished", bring_mermaid_where_needed)


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m press.diagrams", description="Draw the diagrams that are not drawn yet.")
    parser.add_argument("--all", action="store_true", help="draw all of them anew")
    arguments = parser.parse_args()
    todo = all_diagrams() if arguments.all else missing()
    complaints = draw(todo) if todo else []
    gone = unused()
    for path in gone:
        path.unlink()
    print(f"{len(todo)} drawn, {len(gone)} files that no page has removed")
    for complaint in complaints:
        print(complaint, file=sys.stderr)
    return any(ON_A_PHONE not in complaint for complaint in complaints)


if __name__ == "__main__":
    sys.exit(main())
