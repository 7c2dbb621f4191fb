"""Diagrams, drawn once into SVG and kept in `_static/diagrams`: a page loads no Mermaid, and a build needs no browser.

The source stays the ```mermaid fence of a page, which JupyterLab draws by itself. `python -m press.diagrams` draws what
is not drawn yet, with Chromium and the site's own Mermaid, and removes what no page has any more. A drawing is found by
the hash of its source. Its colours are variables of the site, so that one drawing serves light, dark and paper.

A diagram is laid out in both directions and with labels of several widths; the layout that shows the largest text in the
page's column is kept, and another for a phone where that one would be too small there.

A source without a drawing (somebody edits a diagram and has no Chromium) is drawn in the reader's browser by Mermaid,
which the site then brings along: the page is heavier and not wrong. tests/press/test_diagrams.py tells of it.
"""

from __future__ import annotations

import argparse
import hashlib
import html
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
LEAST_TEXT, GOOD_TEXT = 11, 12.5  # CSS pixels


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
    """The diagrams without a drawing."""
    return [d for d in all_diagrams(root) if not (root / FOLDER / f"{name_of(d.source)}.svg").exists()]


def unused(root: Path = ROOT) -> list[Path]:
    """The drawings that no page has."""
    names = {name_of(d.source) for d in all_diagrams(root)}
    return [path for path in sorted((root / FOLDER).glob("*.svg")) if path.stem.removesuffix("-phone") not in names]


# ---------- drawing ----------

# In the browser: lay a source out and give back the picture alone, as compact SVG. Colours are read off the picture as it
# is drawn and written down as what they stand for; a colour that stands for nothing is an error, and not a guess.
_IN_THE_PAGE = r"""
window.ROLES = {
    "#fefefe": "paper", "#f1f2f3": "box", "#0a72b2": "rim", "#212223": "ink", "#616263": "line", "#f8f9fa": "group", "#c1c2c3": "edge",
};
const hex = (colour) => "#" + colour.match(/[\d.]+/g).slice(0, 3).map((n) => (+n).toString(16).padStart(2, "0")).join("");
const none = (colour) => colour === "none" || /^rgba\(.*, 0\)$/.test(colour);
const short = (text) => text.replace(/-?\d+\.\d+(e-?\d+)?/g, (n) => String(Math.round(n * 10) / 10));
const escaped = (text) => text.replace(/&/g, "&amp;").replace(/</g, "&lt;").replace(/>/g, "&gt;");

mermaid.initialize({
    startOnLoad: false, securityLevel: "strict", theme: "base", htmlLabels: false,
    themeVariables: {
        fontFamily: FONT, fontSize: FONT_SIZE + "px", background: "#fefefe", mainBkg: "#f1f2f3", primaryColor: "#f1f2f3",
        primaryTextColor: "#212223", primaryBorderColor: "#0a72b2", nodeBorder: "#0a72b2", secondaryColor: "#f1f2f3",
        tertiaryColor: "#f8f9fa", tertiaryTextColor: "#212223", clusterBkg: "#f8f9fa", clusterBorder: "#c1c2c3", lineColor: "#616263",
        arrowheadColor: "#616263", textColor: "#212223", titleColor: "#212223", nodeTextColor: "#212223", edgeLabelBackground: "#fefefe",
    },
});

function paint(element) {
    const style = getComputedStyle(element), classes = [];
    let attributes = "";
    for (const [kind, prefix] of [["fill", "f"], ["stroke", "s"]]) {
        const colour = style[kind];
        if (none(colour) || (kind === "stroke" && parseFloat(style.strokeWidth) === 0)) { attributes += ` ${kind}="none"`; continue; }
        const role = ROLES[hex(colour)];
        if (!role) throw new Error(`no role for ${kind} ${colour} of ${element.outerHTML.slice(0, 200)}`);
        classes.push(`${prefix}-${role}`);
        attributes += ` ${kind}="${hex(colour)}"`;
    }
    if (style.strokeDasharray !== "none" && !/^(0(px)?|1(px)?, 0(px)?)$/.test(style.strokeDasharray)) {
        attributes += ` stroke-dasharray="${style.strokeDasharray.replace(/px/g, "")}"`;
    }
    const width = parseFloat(style.strokeWidth);
    if (!none(style.stroke) && width !== 1) attributes += ` stroke-width="${Math.min(width, 2)}"`;
    return (classes.length ? ` class="${classes.join(" ")}"` : "") + attributes;
}

const GEOMETRY = ["d", "x", "y", "width", "height", "rx", "ry", "r", "cx", "cy", "points", "x1", "x2", "y1", "y2", "transform"];
function shape(element, used) {
    let text = `<${element.tagName}`;
    for (const name of GEOMETRY) {
        const value = element.getAttribute(name);
        if (value && !(name === "transform" && /^translate\(0(, ?0)?\)$/.test(value))) text += ` ${name}="${short(value)}"`;
    }
    for (const end of ["marker-start", "marker-end"]) {
        const id = /#([^)"']+)/.exec(element.getAttribute(end) || "");
        if (id) { used.add(id[1]); text += ` ${end}="url(#${id[1]})"`; }
    }
    return `${text}${paint(element)}/>`;
}

function label(element) {
    const style = getComputedStyle(element);
    let rows = [...element.querySelectorAll(".text-outer-tspan")];
    if (!rows.length) rows = [element];
    let out = "";
    for (const row of rows) {
        const text = row.textContent.replace(/\s+/g, " ").trim();
        if (!text) continue;
        const box = row.getExtentOfChar(0), number = row.getNumberOfChars();
        const end = row.getEndPositionOfChar(number - 1), start = row.getStartPositionOfChar(0);
        out += `<text x="${Math.round((start.x + end.x) * 5) / 10}" y="${Math.round(start.y * 10) / 10}"`
            + (parseInt(style.fontWeight) > 500 ? ' font-weight="600"' : "") + `>${escaped(text)}</text>`;
    }
    const transform = element.getAttribute("transform");
    return transform && out && !/^translate\(0(, ?0)?\)$/.test(transform) ? `<g transform="${short(transform)}">${out}</g>` : out;
}

function inner(element, used) {
    if (!(element instanceof SVGGraphicsElement) || ["defs", "foreignObject"].includes(element.tagName)) return "";
    if (getComputedStyle(element).display === "none") return "";
    if (element.tagName === "text") return label(element);
    if (element.tagName === "g" || element.tagName === "svg" || element.tagName === "a") {
        const text = [...element.children].map((child) => inner(child, used)).join("");
        if (!text || element.tagName === "svg") return text;
        const transform = element.getAttribute("transform");
        return transform && !/^translate\(0(, ?0)?\)$/.test(transform) ? `<g transform="${short(transform)}">${text}</g>` : text;
    }
    const box = element.getBBox();
    if (!box.width && !box.height) return "";
    return shape(element, used);
}

function compact(svg, name) {
    const used = new Set(), ids = {};
    let text = inner(svg, used), markers = "";
    for (const id of used) {
        const marker = svg.querySelector(`marker[id="${id}"]`);
        ids[id] = ids[id] || `d-${name}-${Object.keys(ids).length + 1}`;
        const attributes = ["viewBox", "refX", "refY", "markerUnits", "markerWidth", "markerHeight", "orient"]
            .filter((a) => marker.getAttribute(a)).map((a) => ` ${a}="${marker.getAttribute(a)}"`).join("");
        markers += `<marker id="${ids[id]}"${attributes}>${[...marker.children].map((c) => shape(c, new Set())).join("")}</marker>`;
    }
    for (const [id, short] of Object.entries(ids)) text = text.replaceAll(`url(#${id})`, `url(#${short})`);
    return (markers ? `<defs>${markers}</defs>` : "") + text;
}

async function layout(source, direction, wrap) {
    const turned = source.replace(/^(\s*(?:flowchart|graph)\s+)(TB|TD|LR|RL|BT)\b/m, (all, start) => start + direction);
    const settings = JSON.stringify({ flowchart: { wrappingWidth: wrap, nodeSpacing: 26, rankSpacing: 34, padding: 10, subGraphTitleMargin: { top: 3, bottom: 14 }, htmlLabels: false } });
    const { svg } = await mermaid.render("drawing", `%%{init: ${settings}}%%\n${turned}`);
    const place = document.getElementById("place");
    place.innerHTML = svg;
    const element = place.querySelector("svg");
    element.style.maxWidth = "none";
    element.removeAttribute("width");
    const box = element.querySelector("g").getBBox();
    return { element, x: box.x - 4, y: box.y - 4, width: box.width + 8, height: box.height + 8 };
}

// How many labels of edges lie on one another, or on a box.
function collisions(svg) {
    const place = (e) => e.getBoundingClientRect();
    const labels = [...svg.querySelectorAll("g.edgeLabel")].filter((e) => e.textContent.trim()).map(place);
    const boxes = [...svg.querySelectorAll("g.node")].map(place);
    const meet = (a, b) => a.left < b.right - 2 && b.left < a.right - 2 && a.top < b.bottom - 2 && b.top < a.bottom - 2;
    let found = 0;
    labels.forEach((label, i) => { found += [...labels.slice(i + 1), ...boxes].filter((other) => meet(label, other)).length; });
    return found;
}

// Every edge as a sentence, for those who cannot see it.
async function words(source) {
    const { db } = await mermaid.mermaidAPI.getDiagramFromText(source);
    if (!db.getVertices || !db.getEdges) return "";
    const clean = (text) => String(text || "").replace(/<br ?\/?>/g, " ").replace(/\s+/g, " ").trim();
    const vertices = db.getVertices(), get = (id) => (vertices.get ? vertices.get(id) : vertices[id]);
    const groups = new Map((db.getSubGraphs ? db.getSubGraphs() : []).map((g) => [g.id, g.title]));
    const named = (id) => clean(get(id)?.text || groups.get(id) || id);
    const from = new Map();
    for (const edge of db.getEdges()) {
        const start = named(edge.start), text = clean(edge.text), end = named(edge.end);
        from.set(start, [...(from.get(start) || []), text ? `${end} (${text})` : end]);
    }
    return [...from].map(([start, ends]) => `${start} → ${ends.join("; ")}`).join(". ") + ".";
}

async function best(source, name, room, wraps) {
    const own = (/^\s*(?:flowchart|graph)\s+(TB|TD|LR|RL|BT)\b/m.exec(source) || [])[1];
    const directions = own ? [own, own === "LR" || own === "RL" ? "TB" : "LR"] : ["TB"];
    let kept = null;
    for (const direction of directions) {
        for (const wrap of wraps) {
            const { element, width, height } = await layout(source, direction, wrap);
            const scale = Math.min(1, room[0] / width, Math.max(room[1] / height, GOOD_TEXT / FONT_SIZE));
            // Larger text, no label on another, not higher than a screen, the author's direction, the smaller picture.
            const tooHigh = Math.max(0, height * scale - room[1]) / (2 * room[1]);
            const score = Math.round(scale * FONT_SIZE) - 4 * tooHigh - 2 * collisions(element)
                - (direction === own ? 0 : 0.9) - (width * height) / 4e6;
            if (!kept || score > kept.score) kept = { score, scale, direction, wrap };
        }
    }
    const { element, x, y, width, height } = await layout(source, kept.direction, kept.wrap);
    return { scale: kept.scale, width, height, body: compact(element, name), x, y };
}

window.drawn = async (source, name) => {
    const wide = await best(source, name, WIDE, [200, 150, 110]);
    const fits = Math.min(1, NARROW[0] / wide.width) * FONT_SIZE >= GOOD_TEXT;
    const phone = fits ? null : await best(source, name + "-phone", NARROW, [160, 120, 90]);
    return { wide, phone, words: await words(source) };
};
"""


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
        constants = (
            f"const FONT = {FONT!r}, FONT_SIZE = {FONT_SIZE}, GOOD_TEXT = {GOOD_TEXT}, WIDE = {list(WIDE)}, NARROW = {list(NARROW)};"
        )
        page.add_script_tag(content=constants + _IN_THE_PAGE)
        for diagram in todo:
            name = name_of(diagram.source)
            try:
                drawn = page.evaluate("([source, name]) => drawn(source, name)", [diagram.source, name])
            except Exception as error:
                complaints.append(f"{diagram.page}, {diagram.heading}: not drawn: {str(error).splitlines()[0]}")
                continue
            title, description = accessible(diagram.source)
            for kind, layout in (("", drawn["wide"]), ("-phone", drawn["phone"])):
                path = root / FOLDER / f"{name}{kind}.svg"
                path.unlink(missing_ok=True)
                if layout:
                    path.write_text(_svg(layout, title or diagram.heading, description or drawn["words"], f"{name}{kind}"))
                    if (shown := FONT_SIZE * layout["scale"]) < LEAST_TEXT:
                        where = "on a phone" if kind else "in the column"
                        complaints.append(f"{diagram.page}, {diagram.heading}: text of {shown:.1f} px {where}; shorten its labels")
    return complaints


# ---------- on the page ----------


def drawing(source: str, root: Path, again: str = "", phone: bool = True) -> str | None:
    """The HTML of a kept drawing, or None. Where there is another for phones, both: the style shows one.

    again: put behind its ids, if the page has it already.
    """
    name = name_of(source)
    wide, narrow = root / FOLDER / f"{name}.svg", root / FOLDER / f"{name}-phone.svg"
    if not wide.exists():
        return None
    text = wide.read_text().strip()
    if phone and narrow.exists():
        for_phones = narrow.read_text().strip().replace('class="drawn-diagram"', 'class="drawn-diagram on-phone"', 1)
        text = text.replace('class="drawn-diagram"', 'class="drawn-diagram on-wide"', 1) + for_phones
    return text.replace(f"-{name}", f"-{name}{again}") if again else text


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
            inner = f'<pre class="mermaid" role="img" aria-label="{html.escape(accessible(source)[0] or "Diagram")}">{html.escape(source)}</pre>'
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
    return bool(complaints)


if __name__ == "__main__":
    sys.exit(main())
