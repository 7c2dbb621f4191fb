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

    A name that would lie on an earlier one moves to the left of its point. unit, highlight, style: as in `intervals`.
    """
    scale, taken = SCALES.get(unit, 1.0), []
    width = (max(x for x, _ in points.values()) - min(x for x, _ in points.values())) or 1.0
    height = scale * (max(e.value for _, e in points.values()) - min(e.value for _, e in points.values())) or 1.0
    for name, (x, e) in points.items():
        (value,), half = _halves([e], scale)
        colour = ORANGE if name in set(highlight) else BLUE
        ax.errorbar(x, value, yerr=half, **{"fmt": "o", "capsize": 3, "color": colour} | style)
        near = any(abs(x - other) < 0.25 * width and abs(value - above) < 0.08 * height for other, above in taken)
        offset, side = ((-6, 4), "right") if near else ((6, -11), "left")
        ax.annotate(name, (x, value), offset, textcoords="offset points", fontsize=8.5, ha=side)
        taken.append((x, value))
