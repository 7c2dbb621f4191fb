"""The figures of executed pages, as the site shows them: light and dark, wide and for a phone; and the covers of its cards.

mlsd.figures leaves in a cell's output an SVG and, where it can be drawn anew for a narrow page, that drawing too. The dark
variants are made here, by replacing the inks of the style. A figure that has too many dots for an SVG is a picture at twice
the density, on its light card in the dark too. Style and print rules show one of them: _static/pictures.css.
"""

from __future__ import annotations

import base64
import hashlib
import html
import io
import os
import re
from pathlib import Path

from docutils import nodes
from nbformat import NotebookNode
from PIL import Image
from sphinx.application import Sphinx

from press.cache import cache_of, executed

NARROW = "application/vnd.mlsd.narrow+svg"  # that of mlsd.figures, which a test compares
MANY_BYTES = 60_000
PAPER, INK = "#121212", "#ced6dd"  # of the dark theme
# The colours of mlsd.figures that are too dark on dark paper, and what stands for them there, as far apart as they were.
DARK = {
    "#0072b2": "#4a9fe0",
    "#e69f00": "#f2b33d",
    "#009e73": "#2fc596",
    "#d55e00": "#ff7f50",
    "#cc79a7": "#de95bf",
    "#56b4e9": "#9bd3f5",
    "#6e6e6e": "#9ca4af",
}


def compact(svg: str) -> str:
    """Without what a browser has no use for: header, metadata, line breaks."""
    svg = re.sub(r"<\?xml.*?\?>|<!DOCTYPE.*?>|<metadata>.*?</metadata>", "", svg, flags=re.S)
    svg = re.sub(r"font-family: 'DejaVu Sans'[^;\"]*", "font-family: 'DejaVu Sans', Verdana, sans-serif", svg)
    return re.sub(r"\s*\n\s*", " ", re.sub(r">\s*\n\s*<", "><", svg)).strip()


def dark(svg: str) -> str:
    """The same drawing on dark paper. Greys keep their place between ink and paper."""

    def ink(found: re.Match) -> str:
        colour = found[0].lower()
        if colour in DARK:
            return DARK[colour]
        red, green, blue = (int(colour[i : i + 2], 16) for i in (1, 3, 5))
        if max(red, green, blue) - min(red, green, blue) > 8:
            return colour
        ends = [[int(end[i : i + 2], 16) for i in (1, 3, 5)] for end in (INK, PAPER)]
        return "#" + "".join(f"{round(a + (b - a) * red / 255):02x}" for a, b in zip(*ends, strict=True))

    svg = re.sub(r"(?<=[ :\"])#[0-9a-fA-F]{6}(?=[;\"])", ink, svg)
    return svg.replace("<svg ", f'<svg fill="{INK}" ', 1)  # black is what is not said


def light(png: bytes) -> bytes:
    """A picture of photographs in 256 colours: a quarter of the bytes, and the eye sees no difference at this density."""
    picture = Image.open(io.BytesIO(png))
    if len(png) < MANY_BYTES or picture.mode == "P":
        return png
    small = io.BytesIO()
    picture.convert("RGB").quantize(256, dither=Image.Dither.NONE).save(small, "PNG", optimize=True)
    return small.getvalue()


def narrow_drawings(notebook: NotebookNode) -> dict[str, str]:
    """The narrow drawing of each figure, by the hash of the wide one (which is what MyST-NB calls its file)."""
    found = {}
    for cell in notebook.cells:
        for output in cell.get("outputs", []):
            data = output.get("data", {})
            if NARROW in data and "image/svg+xml" in data:
                wide = os.linesep.join(data["image/svg+xml"].splitlines())
                found[hashlib.sha256(wide.encode()).hexdigest()] = data[NARROW]
    return found


def vary(app: Sphinx, doctree: nodes.document) -> None:
    """Put the variants of a figure beside it, before Sphinx collects the pictures of a page."""
    images = [image for image in doctree.findall(nodes.image) if "/jupyter_execute/" in image["uri"]]
    if not images:
        return
    root = Path(app.srcdir)
    notebook = executed(root / f"{app.env.docname}.ipynb", cache_of(root), root)
    narrow = narrow_drawings(notebook) if notebook else {}
    for image in images:
        path = Path(app.env.relfn2path(image["uri"], app.env.docname)[1])
        if path.suffix != ".svg":
            path.write_bytes(light(path.read_bytes()))
            _in_a_box_that_scrolls(image, [image])
            continue
        drawn = {"": compact(path.read_text())}
        if path.stem in narrow:
            drawn["-narrow"] = compact(narrow[path.stem])
        variants = []
        for kind, svg in drawn.items():
            width = {"": "wide" if "-narrow" in drawn else "any-width", "-narrow": "narrow"}[kind]
            for theme, text in (("light", svg), ("dark", dark(svg))):
                name = f"{path.stem}{kind}-{theme}.svg"
                path.with_name(name).write_text(text)
                variant = image.deepcopy()
                variant["uri"] = image["uri"].replace(path.name, name)
                variant["classes"] = [*image["classes"], f"only-{theme}", width]
                variants.append(variant)
        if "-narrow" in drawn:
            image.replace_self(variants)
        else:
            _in_a_box_that_scrolls(image, variants)


def _in_a_box_that_scrolls(image: nodes.image, shown: list[nodes.image]) -> None:
    """A figure that cannot be drawn narrow scrolls on a phone rather than that its labels become dots."""
    start = nodes.raw("", '<div class="scroll-figure" tabindex="0" role="group" aria-label="Figure">', format="html")
    image.replace_self([start, *shown, nodes.raw("", "</div>", format="html")])


def load_late(app: Sphinx, page: str, template: str, context: dict, doctree: nodes.document | None) -> None:
    """A browser fetches a picture that it does not show, unless it is told that it may wait. Paper shows the light and wide one."""
    if "body" in context:
        waits = r'<img (?=[^>]*class="[^"]*\b(?:only-dark|narrow)\b)'
        context["body"] = re.sub(waits, '<img loading="lazy" ', context["body"])


def image(cell: NotebookNode, name: str, folder: Path, lazy: bool = True) -> str:
    """The figure of a cell as HTML for a page at the root of the site, drawn narrow and in both themes; empty if it has none.

    Its files are written into `folder` (of the site: _images) under `name`.
    """
    for output in cell.get("outputs", []):
        data = output.get("data", {})
        if svg := data.get(NARROW) or data.get("image/svg+xml"):
            files = {f"{name}-light.svg": compact(svg).encode(), f"{name}-dark.svg": dark(compact(svg)).encode()}
        elif png := data.get("image/png"):
            files = {f"{name}.png": light(base64.b64decode(png))}
        else:
            continue
        folder.mkdir(parents=True, exist_ok=True)
        alt, images = html.escape(cell.metadata["mystnb"]["image"]["alt"]), ""
        for file, content in files.items():
            (folder / file).write_bytes(content)
            theme = re.search(r"-(light|dark)\.svg$", file)
            css = f'class="only-{theme[1]}" ' if theme else ""
            waits = ' loading="lazy"' if lazy or "-dark" in file else ""
            images += f'<img {css}src="_images/{file}" alt="{alt}"{waits}>'
        return images
    return ""


def cover(name: str, notebook: NotebookNode, folder: Path) -> str:
    """The picture for a chapter's card."""
    covers = [cell for cell in notebook.cells if "cover" in cell.metadata.get("tags", [])]
    return "".join(image(cell, f"cover-{name}", folder) for cell in covers[:1])


def setup(app: Sphinx) -> None:
    app.connect("doctree-read", vary, priority=100)  # Sphinx collects pictures at 500
    app.connect("html-page-context", load_late)
