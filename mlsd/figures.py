"""Figures: colour-blind safe colours (Okabe and Ito) on a light card, and Estimates drawn with their intervals in one call.

A notebook shows its figures as SVG, sharp at any size and with text that is text, and leaves beside it the same figure drawn
anew for a narrow page (`NARROW`), which the site shows on phones and on its cards. The site also makes the dark variant, by
replacing the inks below.
"""

from __future__ import annotations

import io
import re
import textwrap
from collections.abc import Iterable, Iterator, Mapping, Sequence

import matplotlib.pyplot as plt
import numpy as np
from cycler import cycler
from IPython import get_ipython
from IPython.core.pylabtools import print_figure
from matplotlib.figure import Figure
from matplotlib.text import Text

from mlsd.estimates import Estimate
from mlsd.tables import SCALES

BLUE, ORANGE, GREEN, RED = "#0072B2", "#E69F00", "#009E73", "#D55E00"
PURPLE, SKY, YELLOW, GREY = "#CC79A7", "#56B4E9", "#F0E442", "#6E6E6E"

# What else the style draws with. The site replaces inks of figures by those of its dark theme: press/pictures.py has the pairs.
INK, GRID, PAPER = "#000000", "#E6E6E6", "#FFFFFF"

NARROW = "application/vnd.mlsd.narrow+svg"  # MIME type of the narrow drawing
NARROW_INCHES = 4.4
MAX_SVG = 150_000  # characters; above it a figure is so many dots that a picture of them is lighter

# Reference lines: every figure that has an oracle or a no-skill level draws it with these.
ORACLE = dict(color="black", linestyle="--", linewidth=1.2)
NO_SKILL = dict(color=GREY, linestyle=":", linewidth=1.5)


def use() -> None:
    """Apply the book's style to all figures that follow."""
    plt.rcParams.update(
        {
            "figure.figsize": (7, 3.6),
            "figure.dpi": 110,
            "figure.facecolor": PAPER,
            "figure.constrained_layout.use": True,
            "savefig.facecolor": PAPER,
            "axes.prop_cycle": cycler(color=[BLUE, ORANGE, GREEN, RED, PURPLE, SKY, GREY]),
            "axes.spines.top": False,
            "axes.spines.right": False,
            "axes.titlelocation": "left",
            "axes.titlesize": 11.5,
            "axes.titleweight": "bold",
            "axes.grid": True,
            "axes.axisbelow": True,
            "grid.color": GRID,
            "font.size": 10,
            "legend.frameon": False,
            "lines.linewidth": 1.8,
            "svg.fonttype": "none",  # text stays text
            "svg.hashsalt": "mlsd",  # the same figure, the same bytes
        }
    )
    if shell := get_ipython():
        _show_as_svg(shell)


# ---------- how a notebook shows a figure ----------


def _show_as_svg(shell: object) -> None:
    """Have figures shown by `drawings`, and by nothing that the inline backend would register."""
    from matplotlib_inline.config import InlineBackend

    InlineBackend.instance(parent=shell).figure_formats = set()
    shell.display_formatter.mimebundle_formatter.for_type(Figure, drawings)


def drawings(figure: Figure, include: object = None, exclude: object = None) -> tuple[dict, dict]:
    """(data, metadata) by MIME type: an SVG, or a picture at twice the density where that is lighter; and the narrow drawing."""
    if not figure.axes and not figure.lines:
        return {}, {}
    data, metadata = {"image/svg+xml": _svg(figure)}, {}
    if len(data["image/svg+xml"]) > MAX_SVG:
        png = print_figure(figure, "png", dpi=2 * figure.dpi)
        width, height = (int.from_bytes(png[at : at + 4], "big") // 2 for at in (16, 20))
        data, metadata = {"image/png": png}, {"image/png": dict(width=width, height=height)}
    elif narrow := _narrow(figure):
        data[NARROW] = narrow
    return data, metadata


def _svg(figure: Figure) -> str:
    file = io.StringIO()
    figure.savefig(file, format="svg", bbox_inches="tight", metadata=dict(Date=None, Creator=None))
    # Hundredths of a point are enough, and a third lighter.
    return re.sub(r"-?\d+\.\d{3,}", lambda number: f"{float(number[0]):.2f}".rstrip("0").rstrip("."), file.getvalue())


def _narrow(figure: Figure) -> str | None:
    """The figure drawn anew at the width of a phone, with its text as large as it was; None where panels stand side by side."""
    columns = max((ax.get_gridspec().ncols for ax in figure.axes if ax.get_gridspec()), default=1)
    width, height = figure.get_size_inches()
    if columns > 1 or width <= NARROW_INCHES:
        return None
    titles = {text: text.get_text() for text in _titles(figure)}
    try:
        figure.set_size_inches(NARROW_INCHES, height)
        figure.draw_without_rendering()  # lays it out, so that what is too long can be measured
        for title in titles:
            _wrap(title, figure)
        return _svg(figure)
    finally:
        for title, text in titles.items():
            title.set_text(text)
        figure.set_size_inches(width, height)


def _titles(figure: Figure) -> Iterator[Text]:
    """What is drawn across a figure: the titles of its axes, at each of their three places, and labels of horizontal axes."""
    for ax in figure.axes:
        yield from (text for text in (ax.title, ax._left_title, ax._right_title, ax.xaxis.label) if text.get_text())
    if figure.get_suptitle():
        yield figure._suptitle


def _wrap(text: Text, figure: Figure) -> None:
    """Break a text into lines that end within the figure."""
    extent, words = text.get_window_extent(), text.get_text()
    room = figure.bbox.width - max(extent.x0, 0) - 4
    if extent.x0 < 0:  # centred, and too long to both sides
        room = figure.bbox.width - 8
    longest = max(words.splitlines(), key=len)
    if extent.width > room and "$" not in words:
        text.set_text(textwrap.fill(" ".join(words.split()), max(10, int(len(longest) * room / extent.width))))


# ---------- figures of Estimates ----------


def _halves(estimates: Sequence[Estimate], scale: float) -> tuple[np.ndarray, np.ndarray]:
    value, low, high = scale * np.array([(e.value, e.low, e.high) for e in estimates]).T
    return value, np.array([value - low, high - value])


def intervals(ax: plt.Axes, estimates: Mapping[str, Estimate], unit: str = "", highlight: Iterable[str] = (), **style: object) -> None:
    """One line an Estimate: its name at the left, point and interval at the right, the first on top.

    unit: "%" and "points" show fractions times 100; put it into the axis label. highlight: names drawn in orange.
    style: passed on to `Axes.errorbar`.
    """
    value, half = _halves(list(estimates.values()), SCALES.get(unit, 1.0))
    for k, name in enumerate(estimates):
        colour = ORANGE if name in set(highlight) else BLUE
        ax.errorbar(value[k], k, xerr=half[:, k : k + 1], **{"fmt": "o", "capsize": 3, "color": colour} | style)
    ax.set_yticks(range(len(estimates)), list(estimates))
    ax.set_ylim(len(estimates) - 0.5, -0.5)


def curve(ax: plt.Axes, estimates: Mapping[float, Estimate], unit: str = "", **style: object) -> None:
    """Estimates over a numeric axis: a line with the intervals as bars. unit, style: as in `intervals`."""
    value, half = _halves(list(estimates.values()), SCALES.get(unit, 1.0))
    ax.errorbar(list(estimates), value, yerr=half, **{"marker": "o", "markersize": 4, "capsize": 3} | style)


def scatter(
    ax: plt.Axes, points: Mapping[str, tuple[float, Estimate]], unit: str = "", highlight: Iterable[str] = (), **style: object
) -> None:
    """Named points (x, Estimate), say offline against online: the name beside each, the interval as a bar.

    A name stands where no earlier one is: below right of its point, above left, above right or below left.
    unit, highlight, style: as in `intervals`.
    """
    scale, taken = SCALES.get(unit, 1.0), []
    spans = [np.ptp([x for x, _ in points.values()]), scale * np.ptp([e.value for _, e in points.values()])]
    letter, line = 0.012 * (spans[0] or 1.0), 0.06 * (spans[1] or 1.0)  # about the size of a letter in the units of the axes
    for name, (x, e) in points.items():
        (value,), half = _halves([e], scale)
        colour = ORANGE if name in set(highlight) else BLUE
        ax.errorbar(x, value, yerr=half, **{"fmt": "o", "capsize": 3, "color": colour} | style)
        for right, up in ((True, False), (False, True), (True, True), (False, False)):
            box = (x, x + letter * len(name)) if right else (x - letter * len(name), x)
            middle = value + (0.6 if up else -0.6) * line
            if not any(box[0] < end and begin < box[1] and abs(middle - other) < line for begin, end, other in taken):
                break
        taken.append((*box, middle))
        offset = (6 if right else -6, 4 if up else -11)
        ax.annotate(name, (x, value), offset, textcoords="offset points", fontsize=8.5, ha="left" if right else "right")
