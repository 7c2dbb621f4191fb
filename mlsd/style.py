"""Figure style: colour-blind safe colours (Okabe and Ito), on a light card that both site themes can show."""

from __future__ import annotations

import matplotlib.pyplot as plt
from cycler import cycler

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
