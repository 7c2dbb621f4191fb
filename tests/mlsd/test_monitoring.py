"""Monitoring: against references, and by simulation where a rate is promised."""

import matplotlib

matplotlib.use("Agg")

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import pytest
from river.drift import ADWIN, KSWIN, PageHinkley
from scipy import stats

from mlsd.monitoring import (
    Monitor,
    RetrainingTrigger,
    baseline,
    deseasonalised,
    detection_delay,
    drift_by_day,
    matured,
    psi,
    report,
    requests_by_day,
    stream_alarms,
)

RNG = np.random.default_rng(0)


# ---------- PSI ----------


def test_psi_of_categories_is_the_formula():
    reference, current = np.repeat([0, 1, 2], [5000, 3000, 2000]), np.repeat([0, 1, 2], [4000, 3000, 3000])
    by_hand = (0.4 - 0.5) * np.log(0.4 / 0.5) + (0.3 - 0.2) * np.log(0.3 / 0.2)
    assert psi(reference, current) == pytest.approx(by_hand, rel=2e-3)
    assert psi(current, reference) == pytest.approx(psi(reference, current), rel=1e-6)


def test_psi_of_two_normals_approaches_the_symmetric_divergence():
    # Jeffreys' divergence of N(0, 1) and N(d, 1) is d squared; bins lose a little of it.
    reference, current = RNG.normal(size=200_000), RNG.normal(0.5, size=200_000)
    assert 0.9 * 0.25 < psi(reference, current, bins=50) < 0.25 * 1.01
    assert psi(reference, current, bins=5) < psi(reference, current, bins=50)


def test_psi_stays_finite_with_an_empty_bin_and_a_new_value():
    assert 0 < psi(np.repeat(["a", "b"], 500), np.repeat("a", 500)) < np.inf
    assert psi(np.repeat(["a", "b"], 500), np.repeat(["a", "c"], 500)) > 3
    assert psi(RNG.normal(size=500), np.full(500, 99.0)) > 3


def test_psi_of_a_feature_with_a_heavy_tie():
    reference = np.concatenate([np.zeros(7000), RNG.random(3000)])
    assert psi(reference, reference) == 0
    assert psi(reference, np.concatenate([np.zeros(3000), RNG.random(7000)])) > 0.5


@pytest.mark.parametrize(
    "call, message",
    [
        (lambda: psi([], [1.0]), "reference: expected a non-empty"),
        (lambda: psi([1.0], [[1.0]]), "current: expected a non-empty one-dimensional"),
        (lambda: psi([1.0, np.nan], [1.0]), "reference: 1 of 2 values are missing"),
        (lambda: psi([1.0], [None, "a"]), "current: 1 of 2 values are missing"),
        (lambda: psi([1.0], [1.0], bins=1), "bins: expected at least 2, found 1"),
        (lambda: Monitor("m", pd.Series([1.0]), 2, 1), "expected low < high"),
        (lambda: Monitor("m", pd.Series([1.0]), patience=0), "patience and known_after of at least 1"),
        (lambda: Monitor("m", pd.Series([1.0]), known_after=0), "found 1 and 0"),
        (lambda: Monitor("m", pd.Series([1.0, 2.0], [2, 1])), "whole numbers that rise"),
        (lambda: Monitor("m", pd.Series([1.0, 2.0], [0.5, 1])), "whole numbers that rise"),
        (lambda: Monitor.from_quiet_days("m", pd.Series([1.0, 2, 3]), range(3), side="up"), "expected 'both', 'high' or 'low'"),
        (lambda: Monitor.from_quiet_days("m", pd.Series([1.0, 0, 3]), range(3), log_scale=True), "above 0 for a log scale, found 0"),
        (lambda: detection_delay(Monitor("m", pd.Series([1.0]), known_after=8), 0, earliest=7), "at least 8, when monitor 'm'"),
        (lambda: stream_alarms(ADWIN(), [0, np.inf]), "found 1 infinite"),
        (lambda: baseline(pd.Series([1.0, 2]), [0]), "at least two days"),
        (lambda: baseline(pd.Series([1.0, np.nan]), [0, 1]), "without missing values"),
        (lambda: deseasonalised(pd.Series(range(20)), range(10)), r"found \[2, 2, 2, 1, 1, 1, 1\] of Monday to Sunday"),
        (lambda: Monitor.from_quiet_days("m", pd.Series([1.0, 1, 1, 1]), range(4)), "quiet days that differ"),
        (lambda: Monitor.from_quiet_days("m", pd.Series([1.0, 2]), range(2)), "at least 3 quiet days"),
        (lambda: RetrainingTrigger(), "would never fire"),
        (lambda: RetrainingTrigger(every_days=0), "at least 1, found every_days=0"),
        (lambda: report([], 1, "t"), "at least one"),
        (lambda: report([Monitor("m", pd.Series([1.0]))] * 2, 1, "t"), "its own name"),
        (lambda: matured(pd.DataFrame(dict(day=[0])), 1, -1), "at least 0, found -1"),
        (lambda: drift_by_day(pd.DataFrame(dict(day=[0, 1], x=[1, 2])), "x", [5]), "expected days between 0 and 1"),
    ],
)
def test_bad_input_gives_clear_errors(call, message):
    with pytest.raises(ValueError, match=message):
        call()


# ---------- by day ----------


@pytest.fixture
def log() -> pd.DataFrame:
    rng = np.random.default_rng(2)
    n = 6000
    frame = pd.DataFrame(dict(day=np.repeat(np.arange(12), n // 12), user_id=rng.integers(0, 300, n), p=rng.beta(2, 8, n)))
    frame["y"] = (rng.random(n) < frame.p).astype(float)
    frame["x"] = rng.normal(0, 1, n) + (frame.day >= 10)
    return frame


def test_drift_by_day_is_the_statistic_against_the_reference(log):
    by_day = drift_by_day(log, "x", range(5), lambda a, b: stats.ks_2samp(a, b).statistic)
    expected = stats.ks_2samp(log.x[log.day < 5], log.x[log.day == 11]).statistic
    assert by_day[11] == expected and by_day[10] > 3 * by_day[7]
    leave_one_out = stats.ks_2samp(log.x[(log.day < 5) & (log.day != 2)], log.x[log.day == 2]).statistic
    assert by_day[2] == leave_one_out


def test_matured_rows_are_those_whose_window_closed(log):
    assert matured(log, today=10, window_days=7).day.max() == 2
    assert matured(log, today=10, window_days=0).day.max() == 9
    assert matured(log, today=3, window_days=7).empty


# ---------- alarms ----------


def test_a_monitor_alarms_as_often_as_promised_when_nothing_changes():
    rng, n_new = np.random.default_rng(4), 0
    for _ in range(700):
        values = pd.Series(rng.normal(5, 2, 15))
        n_new += Monitor.from_quiet_days("m", values, range(14), alpha=0.05).alarms[14]
    assert stats.binomtest(int(n_new), 700, 0.05).pvalue > 0.005


def test_patience_waits_and_silence_is_an_alarm():
    values = pd.Series([0, 0, 9, 0, 9, 9, 9, np.nan, 0])
    assert Monitor("m", values, high=1).alarms.tolist() == [False, False, True, False, True, True, True, True, False]
    patient = Monitor("m", values, high=1, patience=2)
    assert patient.alarms.tolist() == [False] * 5 + [True, True, True, False]
    assert patient.first_alarm(since=0) == 5 and patient.first_alarm(since=6) == 6 and patient.first_alarm(since=8) is None


@pytest.mark.parametrize("side, log_scale", [("high", True), ("high", False), ("low", False), ("both", True)])
def test_one_sided_and_log_limits_alarm_as_often_as_promised(side, log_scale):
    rng = np.random.default_rng(5)
    draws = rng.normal(-3, 0.7, (600, 15)) if log_scale else rng.normal(5, 2, (600, 15))
    monitors = [
        Monitor.from_quiet_days("m", pd.Series(np.exp(row) if log_scale else row), range(14), 0.05, side=side, log_scale=log_scale)
        for row in draws
    ]
    assert stats.binomtest(int(sum(m.alarms[14] for m in monitors)), 600, 0.05).pvalue > 0.005
    assert {(np.isinf(m.low), np.isinf(m.high)) for m in monitors} == {(side == "high", side == "low")}


def test_a_distance_that_is_too_small_is_no_alarm_and_its_limit_is_a_distance():
    values = pd.Series([0.01, 0.012, 0.02, 0.015, 0.011, 0.0001, 0.3])
    monitor = Monitor.from_quiet_days("PSI", values, range(5), alpha=0.01, side="high", log_scale=True)
    assert monitor.alarms.tolist() == [False] * 6 + [True] and 0.02 < monitor.high < 0.2
    page = report([monitor], today=7, title="t")
    assert page.table.usual["PSI"] == f"up to {monitor.high:.3g}"
    plt.close("all")


def test_a_monitor_starts_with_its_first_value_and_a_gap_is_an_incident():
    values = pd.Series([np.nan, np.nan, 1, 1, 1, np.nan], [0, 1, 2, 3, 6, 7])  # not started; days 4 and 5 have no row, day 7 no value
    monitor = Monitor("m", values, high=2)
    assert monitor.alarms.to_dict() == {2: False, 3: False, 4: True, 5: True, 6: False, 7: True}
    assert Monitor("m", values, high=2, patience=2).first_alarm(0) == 5
    assert Monitor("m", values.iloc[:2]).first_alarm(0) is None


def test_an_alarm_rings_since_its_first_day_over_short_gaps():
    outside = [50, 56, 57, 59, 62, 63]
    values = pd.Series([9.0 if day in outside else 0.0 for day in range(40, 70)], range(40, 70))
    monitor = Monitor("m", values, high=1)
    assert monitor.ringing_since(63) == 56  # day 50 is six days before: another alarm
    assert monitor.ringing_since(63, gap_days=1) == 62 and monitor.ringing_since(63, gap_days=5) == 50
    assert monitor.ringing_since(57) == 56 and monitor.ringing_since(58) is None
    table = report([monitor], today=64, title="t").table
    assert table.loc["m", ["state", "since"]].tolist() == ["ALARM", "day 56"]
    plt.close("all")


def test_a_delay_counts_from_the_onset_and_not_below_what_is_possible():
    rung = pd.Series(0.0, range(50, 80))
    rung[[52, 57, 66]] = 9
    monitor, quiet = Monitor("m", rung, high=1), Monitor("m", rung.where(rung.index != 66, 0), high=1)
    assert detection_delay(monitor, onset=56) == 2  # read on the morning of day 58
    assert detection_delay(monitor, onset=56, earliest=8) == 11
    assert detection_delay(monitor, onset=56, quiet=quiet) == 11  # day 57 rang where nothing happened, too
    assert detection_delay(monitor, onset=67) is None and detection_delay(quiet, 56, quiet=quiet) is None
    cohort = Monitor("m", rung, high=1, known_after=8)
    assert detection_delay(cohort, onset=56) == 9 and detection_delay(cohort, onset=56, earliest=10) == 18


def test_chance_alarms_are_not_counted_as_detections():
    rng = np.random.default_rng(6)
    noise = rng.normal(size=(60, 40))  # an incident that this monitor cannot see: its twin is the same
    monitors = [Monitor("m", pd.Series(row), high=1) for row in noise]
    naive = [monitor.first_alarm(20) for monitor in monitors]
    assert np.mean([day is not None for day in naive]) > 0.9
    assert all(detection_delay(monitor, 20, quiet=monitor) is None for monitor in monitors)


# ---------- a day is no part of its own baseline ----------


def test_baseline_leaves_the_day_out():
    daily = pd.Series([1.0, 2, 6, 10])
    assert baseline(daily, range(3)).tolist() == [4, 3.5, 1.5, 3]
    table = pd.DataFrame(dict(a=daily, b=2 * daily))
    assert baseline(table, range(3)).equals(pd.DataFrame(dict(a=baseline(daily, range(3)), b=2 * baseline(daily, range(3)))))


def unevenness(observed, expected):
    return ((observed - expected) ** 2 / expected).mean(axis=1)


def test_a_table_of_cells_rings_too_often_when_days_normalise_themselves():
    rng = np.random.default_rng(7)
    rings = {"in sample": 0, "left out": 0}
    for _ in range(100):
        observed = pd.DataFrame(rng.poisson(20, (28, 30)))
        in_sample = observed * 0 + observed.loc[:13].mean()
        for name, expected in {"in sample": in_sample, "left out": baseline(observed, range(14))}.items():
            monitor = Monitor.from_quiet_days(name, unevenness(observed, expected), range(14), 0.01, side="high", log_scale=True)
            rings[name] += monitor.alarms.loc[14:].mean() / 100
    assert rings["in sample"] > 2 * rings["left out"] and rings["left out"] < 0.02


def weekly(rng, weeks, drop=0.0):
    """Requests a day: a third less at the weekend, noise of 3%."""
    days = np.arange(7 * weeks)
    level = 1000 * np.where(days % 7 >= 5, 0.67, 1.0) * np.where(days >= 7 * (weeks - 1), 1 - drop, 1)
    return pd.Series(level * np.exp(rng.normal(0, 0.03, len(days))), days)


def test_deseasonalised_keeps_level_and_unit_and_takes_the_week_out():
    daily = weekly(np.random.default_rng(8), 6)
    flat = deseasonalised(daily, range(28))
    assert flat.loc[28:].mean() == pytest.approx(daily.loc[28:].mean(), rel=0.02) and flat.std() < 0.4 * daily.std()
    no_noise = pd.Series(np.tile([5.0, 5, 5, 5, 5, 2, 2], 4))
    assert np.ptp(deseasonalised(no_noise, range(14))) < 1e-9


@pytest.mark.parametrize("weeks", [2, 4])
def test_limits_on_deseasonalised_days_are_honest_and_see_a_drop_that_raw_days_hide(weeks):
    rng, reference, new = np.random.default_rng(9), range(7 * weeks), slice(7 * weeks, None)

    def monitor(daily, side="low"):
        return Monitor.from_quiet_days("requests", daily, reference, 0.02, side)

    quiet = [monitor(deseasonalised(weekly(rng, weeks + 1), reference), "both").alarms.loc[new].mean() for _ in range(150)]
    assert np.mean(quiet) < 0.02 + 3 * np.std(quiet) / np.sqrt(150)
    fallen = [weekly(rng, weeks + 1, drop=0.12) for _ in range(40)]
    seen = sum(monitor(deseasonalised(daily, reference)).first_alarm(7 * weeks) is not None for daily in fallen)
    seen_raw = sum(monitor(daily).alarms.loc[7 * weeks : 7 * weeks + 4].any() for daily in fallen)  # Monday to Friday
    assert seen >= 36 and seen_raw <= 4


def test_volume_counts_days_without_rows(log):
    rows = log.assign(request_id=log.index // 4)
    rows = rows[rows.day != 11]
    volume = requests_by_day(rows, range(13))
    assert volume[3] == 125 and volume[[11, 12]].tolist() == [0, 0]
    assert Monitor("volume", volume, low=100).first_alarm(0) == 11


# ---------- streams ----------


def test_stream_alarms_follow_river():
    stream = np.concatenate([RNG.normal(0, 1, 1000), RNG.normal(3, 1, 1000)])
    alarms = stream_alarms(ADWIN(), stream)
    assert len(alarms) >= 1 and 1000 < alarms[0] < 1200
    detector = ADWIN()
    expected = []
    for i, x in enumerate(stream):
        detector.update(x)
        expected += [i] * detector.drift_detected
    assert alarms.tolist() == expected


@pytest.mark.parametrize(
    "detector", [ADWIN, lambda: PageHinkley(min_instances=24, delta=0.1, threshold=20), lambda: KSWIN(alpha=0.001, seed=1)]
)
def test_missing_values_do_not_silence_a_detector(detector):
    stream = np.concatenate([RNG.normal(0, 1, 500), RNG.normal(3, 1, 500)])
    with_gap = np.insert(stream, 100, [np.nan, np.nan])
    alarms = stream_alarms(detector(), stream)
    assert len(alarms) and alarms[0] < 600
    assert (stream_alarms(detector(), with_gap) - 2 * (alarms >= 100)).tolist() == alarms.tolist()


def test_triggers():
    scheduled, alarmed = RetrainingTrigger(every_days=7), RetrainingTrigger(on_alarm=True, cooldown_days=3)
    assert [scheduled.due(day, 0, alarm=True) for day in (6, 7)] == [False, True]
    assert [alarmed.due(day, 0, alarm) for day, alarm in ((2, True), (3, True), (99, False))] == [False, True, False]
    assert RetrainingTrigger(every_days=28, on_alarm=True).due(5, 0, alarm=True)


# ---------- the page ----------


def test_report_puts_alarms_first_and_knows_no_future():
    days = np.arange(30)
    calm = Monitor("calm", pd.Series(np.sin(days), days), -2, 2, look_at="nothing")
    broken = Monitor("broken", pd.Series(np.where(days < 20, 0.0, 5.0), days), high=1, look_at="the client's last release")
    page = report([calm, broken], today=25, title="Monday")
    assert page.table.index.tolist() == ["broken", "calm"]
    assert page.table.loc["broken"].to_dict() == dict(
        state="ALARM", latest="5", last_day="day 24", usual="up to 1", since="day 20", look_at="the client's last release"
    )
    assert page.table.loc["calm", ["state", "since", "look_at"]].tolist() == ["ok", "", ""]
    assert report([calm, broken], today=20, title="Sunday").table.state.tolist() == ["ok", "ok"]
    drawn = page.figure.axes[1].lines[0].get_xdata()
    assert drawn.max() == 24
    plt.close("all")


def test_report_draws_seven_panels_of_which_one_is_silent():
    days = np.arange(10)
    monitors = [Monitor(f"m{i}", pd.Series(RNG.normal(size=10), days), -3, 3) for i in range(6)]
    monitors.append(Monitor("silent", pd.Series(np.r_[np.ones(8), np.nan, np.nan], days), 0, 2))
    page = report(monitors, today=10, title="Seven")
    assert page.table.index[0] == "silent" and sum(axis.get_visible() for axis in page.figure.axes) == 7
    assert page.table.loc["silent", ["state", "latest", "last_day", "since"]].tolist() == ["SILENT", "1", "day 7", "day 8"]
    page.figure.savefig("/dev/null", format="png")
    plt.close("all")


def test_a_stream_without_rows_is_an_incident():
    days = np.arange(60)
    stopped = Monitor("stopped", pd.Series(np.sin(days), days), -2, 2, look_at="the event log")  # no row since day 60
    cohort = Monitor("cohort", pd.Series(np.sin(days), days), -2, 2, known_after=8)
    never = Monitor("never", pd.Series(dtype=float, index=pd.RangeIndex(0)), 0, 1)
    table = report([cohort, stopped, never], today=67, title="t").table
    assert table.loc["stopped"].tolist() == ["SILENT", "0.637", "day 59", "-2 to 2", "day 60", "the event log"]
    assert table.loc["cohort", "state"] == "ok"  # day 59 is the last whose window has closed
    assert table.loc["never", ["state", "last_day", "since"]].tolist() == ["SILENT", "never", ""]
    assert report([cohort], today=68, title="t").table.state["cohort"] == "SILENT"
    plt.close("all")
