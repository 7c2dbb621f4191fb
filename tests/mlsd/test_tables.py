"""Numbers as they are shown: units, decimals, signs, intervals; tables with one header row; figures of Estimates."""

import numpy as np
import pandas as pd
import pytest
from IPython.core.interactiveshell import InteractiveShell
from IPython.utils.capture import capture_output

from mlsd.estimates import Estimate
from mlsd.policies import Retrained
from mlsd.tables import frame_to_html, number, show_frames_as_tables, table, to_html, to_text
from mlsd.timing import Stopwatch, time_each


@pytest.mark.parametrize(
    "value, unit, shown",
    [
        (Estimate(0.07, 0.061, 0.079), "%", "7.00% [6.10, 7.90]"),
        (Estimate(0.7, 0.6, 0.81), "", "0.700 [0.600, 0.810]"),
        (Estimate(14.24, 13, 15.1), "ms", "14.2 [13.0, 15.1] ms"),
        (Estimate(-0.012, -0.02, -0.004), "points", "−1.20 [−2.00, −0.40] points"),
        (1234.0, "$", "$1,234"),
        (-1234.5, "$", "−$1,234"),
        (Estimate.exact(3), "lost RSVPs", "3 lost RSVPs"),
        (0.0, "%", "0%"),
        (-1e-9, "", "0.0000"),
        (float("inf"), "days", "∞ days"),
        (float("nan"), "days", "none days"),
    ],
)
def test_a_number_has_unit_decimals_and_interval(value, unit, shown):
    assert number(value, unit) == shown


def test_a_column_shares_its_decimals_and_its_unit_stands_once():
    frame = pd.DataFrame({"share": [Estimate(0.5, 0.4, 0.6), 0.255], "wait": [1.0, 120.0], "needs": ["a <b>", "nothing"]}, index=["x", "y"])
    page = to_html(frame, {"share": "%", "wait": "ms"}, chosen="y")
    assert page.count("<tr") == 3 and '<th scope="col" class="number">wait (ms)</th>' in page
    assert "50.0% [40.0, 60.0]" in page and "25.5%" in page and ">1<" in page and ">120<" in page
    assert "a &lt;b&gt;" in page and '<tr class="chosen"><th scope="row">y' in page and "dtype" not in to_text(frame)


def test_a_mapping_is_a_table_of_one_column_and_a_wrong_unit_is_refused():
    InteractiveShell.instance()
    with capture_output() as captured:
        table(pd.Series({"now": 0.5}, name="share"), "%")
    assert "50%" in captured.outputs[0].data["text/html"]
    with pytest.raises(ValueError, match="expected columns of the table"):
        table(pd.DataFrame({"a": [1]}), {"b": "ms"})


def test_a_frame_at_the_end_of_a_cell_has_one_header_row_and_nothing_is_cut():
    """As pandas shows it, the name of the index is a second header row, long texts end in dots, and a series says its type."""
    shell = InteractiveShell.instance()
    show_frames_as_tables()
    frame = pd.DataFrame({"time": pd.date_range("2025-01-01", periods=2, freq="7h"), "user_id": [12345, 7], "why": ["word " * 30, ""]})
    page = shell.display_formatter.format(frame.rename_axis("week"))[0]["text/html"]
    assert page.count("<tr>") == 3 and page.count("word") == 30 and "12345" in page and "07:00:00" in page and "00:00:00" not in page
    series = pd.Series([0.25, 0.5], pd.MultiIndex.from_tuples([("ads", 1), ("ads", 2)], names=["product", "week"]), name="share")
    page = shell.display_formatter.format(series)[0]["text/html"]
    assert "dtype" not in page and ">product, week<" in page and ">ads, 2<" in page and ">0.250<" in page
    page = shell.display_formatter.format(pd.DataFrame({"x": range(1000)}))[0]["text/html"]
    assert page.count("<tr>") == 6 and "995 more rows" in page
    assert '<td class="number">+1.5% [1.0, 2.0]</td>' in frame_to_html(pd.DataFrame({"lift": ["+1.5% [1.0, 2.0]", "none"]}))


def test_a_policy_is_retrained_on_schedule():
    built = []

    def build(log):
        built.append(len(log))
        return lambda candidates: np.full(len(candidates), len(log))

    policy = Retrained(build, every=2, refresh_hours=6, list_length=40, candidates=1000)
    for day in range(5):
        policy.learn(pd.DataFrame(index=range(day)))
    assert built == [0, 2, 4] and policy.refresh_hours == 6 and policy(pd.DataFrame(index=range(3))).tolist() == [4, 4, 4]
    assert policy.list_length == 40 and policy.candidates == 1000
    assert not any(hasattr(Retrained(build), name) for name in ("refresh_hours", "list_length", "candidates"))
    with pytest.raises(ValueError, match="at least 1 day"):
        Retrained(build, every=0)


def test_a_stopwatch_tells_waiting_from_working():
    with Stopwatch() as watch:
        sum(range(300_000))
    assert 0 < watch.cpu and 0 < watch.wall
    assert len(time_each(lambda i: i, 5)) == 5 and (time_each(lambda i: i, 5) >= 0).all()
