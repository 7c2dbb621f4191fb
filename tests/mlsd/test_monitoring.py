"""Monitoring: against references, and by simulation where a rate is promised."""

import matplotlib

matplotlib.use("Agg")

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import pytest
from river.drift import ADWIN
from scipy import stats

from mlsd.metrics import calibration_ratio, log_loss
from mlsd.monitoring import (
    Monitor,
    RetrainingTrigger,
    drift_by_day,
    matured,
    performance_by_day,
    psi,
    psi_noise,
    report,
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


@pytest.mark.parametrize("n_reference, n_current, bins", [(2000, 500, 10), (20_000, 2000, 10), (5000, 5000, 5)])
def test_psi_noise_is_exceeded_as_often_as_it_says(n_reference, n_current, bins):
    rng = np.random.default_rng(1)
    limit = psi_noise(n_reference, n_current, bins, alpha=0.1)
    above = sum(psi(rng.normal(size=n_reference), rng.normal(size=n_current), bins) > limit for _ in range(600))
    assert stats.binomtest(above, 600, 0.1).pvalue > 0.005


@pytest.mark.parametrize(
    "call, message",
    [
        (lambda: psi([], [1.0]), "reference: expected a non-empty"),
        (lambda: psi([1.0], [[1.0]]), "current: expected a non-empty one-dimensional"),
        (lambda: psi([1.0, np.nan], [1.0]), "reference: 1 of 2 values are missing"),
        (lambda: psi([1.0], [None, "a"]), "current: 1 of 2 values are missing"),
        (lambda: psi([1.0], [1.0], bins=1), "bins: expected at least 2, found 1"),
        (lambda: psi_noise(0, 10), "expected positive sizes"),
        (lambda: Monitor("m", pd.Series([1.0]), 2, 1), "expected low < high"),
        (lambda: Monitor("m", pd.Series([1.0]), patience=0), "patience of at least 1"),
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


def test_performance_by_day_agrees_with_the_metrics(log):
    table = performance_by_day(log, "y", "p")
    day = log[log.day == 3]
    assert table.calibration[3] == calibration_ratio(day.y, day.p) and table.log_loss[3] == log_loss(day.y, day.p)
    assert ((table.low < table.calibration) & (table.calibration < table.high)).all()


def test_calibration_intervals_cover_with_users_who_repeat():
    rng, covered = np.random.default_rng(3), 0
    for _ in range(300):
        user = rng.integers(0, 200, 1500)
        taste = rng.choice([0.0, 0.2], 200)  # the model knows the mean only: rows of a user resemble each other
        log = pd.DataFrame(dict(day=0, user_id=user, p=0.1, y=(rng.random(1500) < taste[user]).astype(float)))
        row = performance_by_day(log, "y", "p").loc[0]
        covered += row.low <= 1 <= row.high
    assert stats.binomtest(covered, 300, 0.95).pvalue > 0.005


def test_performance_refuses_unknown_outcomes_and_survives_a_day_without_positives(log):
    table = performance_by_day(log.assign(y=0.0), "y", "p")
    assert table.calibration.isna().all() and (table.observed == 0).all()
    with pytest.raises(ValueError, match="1 of 6000 outcomes are not known yet; use matured"):
        performance_by_day(log.assign(y=log.y.where(log.index != 5)), "y", "p")


def test_matured_rows_are_those_whose_window_closed(log):
    assert matured(log, today=10, window_days=7).day.max() == 2
    assert matured(log, today=10, window_days=0).day.max() == 9
    assert matured(log, today=3, window_days=7).empty


# ---------- alarms ----------


def test_a_monitor_alarms_as_often_as_promised_when_nothing_changes():
    rng, n_new = np.random.default_rng(4), 0
    for _ in range(1500):
        values = pd.Series(rng.normal(5, 2, 15))
        n_new += Monitor.from_quiet_days("m", values, range(14), alpha=0.05).alarms[14]
    assert stats.binomtest(int(n_new), 1500, 0.05).pvalue > 0.005


def test_patience_waits_and_silence_is_an_alarm():
    values = pd.Series([0, 0, 9, 0, 9, 9, 9, np.nan, 0])
    assert Monitor("m", values, high=1).alarms.tolist() == [False, False, True, False, True, True, True, True, False]
    patient = Monitor("m", values, high=1, patience=2)
    assert patient.alarms.tolist() == [False] * 5 + [True, True, True, False]
    assert patient.first_alarm(since=0) == 5 and patient.first_alarm(since=6) == 6 and patient.first_alarm(since=8) is None


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
        state="ALARM", latest="5", usual="up to 1", since="day 20", look_at="the client's last release"
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
    page.figure.savefig("/dev/null", format="png")
    plt.close("all")
