"""Figures of Estimates show the intervals that were measured."""

import re

import matplotlib.pyplot as plt
import numpy as np
from IPython.core.interactiveshell import InteractiveShell

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


def test_a_figure_is_shown_as_svg_and_drawn_anew_for_a_narrow_page():
    figures.use()
    figure, ax = plt.subplots(figsize=(7, 3))
    title = "A title so long that on a narrow page it would end somewhere beyond the edge"
    ax.set(title=title, xlabel="day")
    data, _ = figures.drawings(figure)
    assert set(data) == {"image/svg+xml", figures.NARROW}
    assert all(len(re.findall("<text ", svg)) > 5 for svg in data.values()), "text stays text"
    width = {mime: float(re.search(r'width="([\d.]+)pt"', svg)[1]) for mime, svg in data.items()}
    assert 0.9 < width[figures.NARROW] / (72 * figures.NARROW_INCHES) < 1.05
    assert title in data["image/svg+xml"] and title not in data[figures.NARROW]
    assert tuple(figure.get_size_inches()) == (7, 3) and ax.get_title(loc="left") == title, "the figure is as it was"
    assert figures.drawings(figure)[0] == data, "the same figure, the same bytes"
    plt.close("all")


def test_panels_side_by_side_are_not_drawn_narrow():
    figure, _ = plt.subplots(1, 2, figsize=(7, 3))
    assert set(figures.drawings(figure)[0]) == {"image/svg+xml"}
    plt.close("all")


def test_a_figure_of_many_dots_is_a_picture_at_twice_the_density():
    figures.use()
    figure, ax = plt.subplots(figsize=(7, 3))
    ax.scatter(*np.random.default_rng(0).normal(size=(2, 5000)))
    data, metadata = figures.drawings(figure)
    assert set(data) == {"image/png"} and data["image/png"].startswith(b"\x89PNG")
    assert abs(metadata["image/png"]["width"] - 7 * plt.rcParams["figure.dpi"]) < 30, "shown at its size, with twice the dots"
    plt.close("all")


def test_a_notebook_shows_nothing_but_these():
    shell = InteractiveShell()
    figures._show_as_svg(shell)
    figure, ax = plt.subplots()
    ax.plot([0, 1])
    data, _ = shell.display_formatter.format(figure)
    assert set(data) == {"image/svg+xml", figures.NARROW, "text/plain"}
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
