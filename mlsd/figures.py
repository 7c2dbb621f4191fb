"""Figures: colour-blind safe colours (Okabe and Ito) on a light card, and Estimates drawn with their intervals in one call."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

import matplotlib.pyplot as plt
import numpy as np
from cycler import cycler

from mlsd.estimates import Estimate
from mlsd.tables import SCALES

BLUE, ORANGE, GREEN, RED = "#0072B2", "#E69F00", "#009E73", "#D55E00"
PURPLE, SKY, YELLOW, GREY = "#CC79A7", "#56B4E9", "#F0E442", "#6E6E6E"

# Reference lines: every figure that has an oracle or a no-skill level draws it with these.
ORACLE = dict(color="black", linestyle="--", linewidth=1.2)
NO_SKILL = dict(color=GREY, linestyle=":", linewidth=1.5)


def use() -> None:
    """Apply the book's style to all figures that follow."""
    plt.rcParams.update(
        {
            "figure.figsize": (7, 3.6),
            "figure.dpi": 110,
            "figure.facecolor": "white",
            "figure.constrained_layout.use": True,
            "savefig.facecolor": "white",
            "axes.prop_cycle": cycler(color=[BLUE, ORANGE, GREEN, RED, PURPLE, SKY, GREY]),
            "axes.spines.top": False,
            "axes.spines.right": False,
            "axes.titlelocation": "left",
            "axes.titlesize": 11.5,
            "axes.titleweight": "bold",
            "axes.grid": True,
            "axes.axisbelow": True,
            "grid.color": "#E6E6E6",
            "font.size": 10,
            "legend.frameon": False,
            "lines.linewidth": 1.8,
        }
    )


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
