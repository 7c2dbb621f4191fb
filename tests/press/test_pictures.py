"""The variants of a figure: what is replaced, what is kept, which belong together."""

import hashlib
import io

import numpy as np
import pytest
from nbformat.v4 import new_code_cell, new_notebook, new_output
from PIL import Image

from mlsd import figures
from press import pictures

SVG = """<?xml version="1.0"?>
<!DOCTYPE svg PUBLIC "x"
  "y">
<svg width="10pt">
 <metadata><a/>
 </metadata>
 <path style="fill: #ffffff; stroke: #0072B2" clip-path="url(#p123456ab)"/>
 <text style="font-size: 10px; font-family: 'DejaVu Sans', 'Bitstream Vera Sans', sans-serif">#000000</text>
</svg>
"""


def test_inks_are_replaced_and_nothing_else():
    dark = pictures.dark(SVG)
    assert f"fill: {pictures.PAPER}; stroke: {pictures.DARK['#0072b2']}" in dark
    assert "url(#p123456ab)" in dark and ">#000000<" in dark
    assert f'<svg fill="{pictures.INK}"' in dark, "black is not written down"


@pytest.mark.parametrize(("grey", "expected"), [("#000000", pictures.INK), ("#ffffff", pictures.PAPER)])
def test_greys_lie_between_ink_and_paper(grey, expected):
    assert f'"{expected}"' in pictures.dark(f'<path fill="{grey}"/>')


def luminance(colour):
    parts = [int(colour[i : i + 2], 16) / 255 for i in (1, 3, 5)]
    linear = [p / 12.92 if p <= 0.03928 else ((p + 0.055) / 1.055) ** 2.4 for p in parts]
    return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]


@pytest.mark.parametrize("ink", ["BLUE", "ORANGE", "GREEN", "RED", "PURPLE", "SKY", "GREY"])
def test_every_ink_of_the_style_can_be_seen_on_dark_paper(ink):
    """The contrast that WCAG asks of graphics is 3."""
    dark = pictures.DARK[getattr(figures, ink).lower()]
    assert (luminance(dark) + 0.05) / (luminance(pictures.PAPER) + 0.05) > 4.5


def test_compact_keeps_what_is_drawn():
    svg = pictures.compact(SVG)
    assert svg.startswith("<svg width") and "metadata" not in svg and "\n" not in svg
    assert "font-family: 'DejaVu Sans', Verdana, sans-serif" in svg and svg.count("<path") == 1


def test_the_narrow_drawing_is_found_by_the_wide_one():
    assert pictures.NARROW == figures.NARROW
    data = {"image/svg+xml": SVG, figures.NARROW: "<svg/>"}
    notebook = new_notebook(cells=[new_code_cell("", outputs=[new_output("display_data", data)])])
    assert pictures.narrow_drawings(notebook) == {hashlib.sha256("\n".join(SVG.splitlines()).encode()).hexdigest(): "<svg/>"}


def test_a_cover_is_the_narrow_drawing_in_both_themes(tmp_path):
    cell = new_code_cell("", metadata=dict(tags=["cover"], mystnb=dict(image=dict(alt="A > B"))))
    cell.outputs = [new_output("display_data", {"image/svg+xml": SVG, figures.NARROW: "<svg narrow/>"})]
    text = pictures.cover("feed", new_notebook(cells=[cell]), tmp_path)
    assert text.count("<img") == 2 and 'alt="A &gt; B"' in text and "only-dark" in text
    assert (tmp_path / "cover-feed-light.svg").read_text() == "<svg narrow/>"
    assert pictures.cover("feed", new_notebook(cells=[]), tmp_path) == ""


def test_a_picture_of_many_colours_is_made_light_once():
    noise = np.random.default_rng(0).integers(0, 255, (300, 300, 3), np.uint8)
    heavy = io.BytesIO()
    Image.fromarray(noise).save(heavy, "PNG")
    light = pictures.light(heavy.getvalue())
    assert len(light) < len(heavy.getvalue()) / 2 and Image.open(io.BytesIO(light)).size == (300, 300)
    assert pictures.light(light) == light
    dot = io.BytesIO()
    Image.new("RGB", (1, 1)).save(dot, "PNG")
    assert pictures.light(dot.getvalue()) == dot.getvalue()
