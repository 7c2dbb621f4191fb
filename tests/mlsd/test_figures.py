"""Figures of Estimates show the intervals that were measured."""

import matplotlib.pyplot as plt
import numpy as np

from mlsd import figures
from mlsd.estimates import Estimate


def test_intervals_and_curves_draw_what_was_measured():
    estimates = {"a": Estimate(0.1, 0.05, 0.2), "b": Estimate(0.3, 0.2, 0.35)}
    _, (left, right) = plt.subplots(1, 2)
    figures.intervals(left, estimates, "%", highlight=["b"])
    bars = [container.lines[2][0].get_segments()[0][:, 0] for container in left.containers]
    np.testing.assert_allclose(bars, [[5, 20], [20, 35]])
    assert [t.get_text() for t in left.get_yticklabels()] == ["a", "b"] and left.get_ylim()[0] > left.get_ylim()[1]
    figures.curve(right, {1: estimates["a"], 2: estimates["b"]})
    np.testing.assert_allclose(right.containers[0].lines[2][0].get_segments()[1][:, 1], [0.2, 0.35])
    plt.close("all")


def test_scatter_draws_points_with_intervals_and_keeps_names_apart():
    points = {
        "first": (0.1, Estimate(0.1, 0.05, 0.2)),
        "second": (0.11, Estimate(0.1, 0.08, 0.12)),
        "third": (0.9, Estimate(0.5, 0.4, 0.6)),
    }
    _, ax = plt.subplots()
    figures.scatter(ax, points, "%", highlight=["second"])
    bars = [container.lines[2][0].get_segments()[0][:, 1] for container in ax.containers]
    np.testing.assert_allclose(bars, [[5, 20], [8, 12], [40, 60]])
    assert [t.get_text() for t in ax.texts] == ["first", "second", "third"]
    assert [t.get_ha() for t in ax.texts] == ["left", "right", "left"]
    plt.close("all")
