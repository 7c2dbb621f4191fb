"""The picture that goes with a shared link: logo, title and promise. `python -m press.card` draws it anew when one of them changes."""

from __future__ import annotations

import re
import textwrap
from pathlib import Path

import yaml
from PIL import Image, ImageDraw, ImageFont

from press import ROOT
from press.heads import CARD

SCALE = 2  # drawn at twice the size, for smooth edges
PAPER, BLUE, ORANGE, PALE = "#0f2b3d", "#0072b2", "#e69f00", "#9fd0ee"


def font(size: int, bold: bool) -> ImageFont.FreeTypeFont:
    """DejaVu Sans, as matplotlib brings it."""
    import matplotlib

    name = "DejaVuSans-Bold.ttf" if bold else "DejaVuSans.ttf"
    return ImageFont.truetype(str(Path(matplotlib.get_data_path(), "fonts", "ttf", name)), size * SCALE)


def draw(title: str, promise: str) -> Image.Image:
    """1200 x 630 pixels, as social networks crop them."""
    image = Image.new("RGB", (1200 * SCALE, 630 * SCALE), PAPER)
    pen = ImageDraw.Draw(image)

    def logo(*points: float) -> list[float]:  # from the coordinates of _static/logo.svg
        return [(80 + 2.6 * x) * SCALE for x in points]

    pen.rounded_rectangle(logo(0, 0, 64, 64), radius=36 * SCALE, fill=BLUE)
    pen.line(logo(12, 47, 52, 47), fill=PALE, width=6 * SCALE)
    curve = [(13, 29), (24, 41), (29, 38.6), (34, 34.6), (38, 30.4), (42, 25.5), (45, 21), (47, 17)]
    pen.line([(*logo(x), *logo(y)) for x, y in curve], fill="white", width=15 * SCALE, joint="curve")
    pen.ellipse(logo(40.5, 10.5, 53.5, 23.5), fill=ORANGE)
    top = 285
    for line in textwrap.wrap(title, 26):
        pen.text((80 * SCALE, top * SCALE), line, font=font(66, bold=True), fill="white")
        top += 82
    top += 22
    for line in textwrap.wrap(promise, 56):
        pen.text((80 * SCALE, top * SCALE), line, font=font(32, bold=False), fill=PALE)
        top += 44
    return image.resize((1200, 630), Image.Resampling.LANCZOS)


def main() -> None:
    title = yaml.safe_load((ROOT / "_config.yml").read_text())["title"]
    promise = re.search(r":::\{div\} lead\n(.+?)\n:::", (ROOT / "index.md").read_text(), re.S)[1]
    picture = draw(title, " ".join(promise.split())).quantize(64)
    picture.save(ROOT / "_static" / CARD, optimize=True)


if __name__ == "__main__":
    main()
