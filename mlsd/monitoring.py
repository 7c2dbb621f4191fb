"""The company's drift dashboard: shifts of distributions, performance on matured labels, alarms, and the on-call page.

What scipy and river have is used as it is (`scipy.stats.ks_2samp`, `river.drift`). A monitor here is
a number a day and the range it keeps when nothing is wrong.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
from matplotlib.figure import Figure
from scipy import stats

from mlsd import figures
from mlsd.estimates import ratio
from mlsd.metrics import calibration_ratio, log_loss

# ---------- distributions ----------


def _values(values: Iterable, name: str) -> np.ndarray:
    values = np.asarray(values)
    if values.ndim != 1 or len(values) == 0:
        raise ValueError(f"{name}: expected a non-empty one-dimensional array, found shape {values.shape}")
    if pd.isna(values).any():
        raise ValueError(f"{name}: {int(pd.isna(values).sum())} of {len(values)} values are missing; count them in a monitor of their own")
    return values


def _bin_shares(reference: np.ndarray, current: np.ndarray, bins: int) -> tuple[np.ndarray, np.ndarray]:
    """Counts in the reference's quantile bins, or by value where it has at most `bins` distinct ones."""
    distinct = np.unique(reference)
    if len(distinct) <= bins:
        keys = np.union1d(distinct, current)
        counts = [np.bincount(np.searchsorted(keys, values), minlength=len(keys)) for values in (reference, current)]
    else:
        edges = np.unique(np.quantile(reference, np.linspace(0, 1, bins + 1)[1:-1]))
        counts = [np.bincount(np.searchsorted(edges, values, side="right"), minlength=len(edges) + 1) for values in (reference, current)]
    # Half an observation a bin keeps an empty bin finite: the usual continuity correction.
    return tuple((count + 0.5) / (count + 0.5).sum() for count in counts)


def psi(reference: Iterable, current: Iterable, bins: int = 10) -> float:
    """Population stability index, sum((p - q) ln(p / q)) over bins of the reference.

    Bins are the reference's quantiles, or its values where there are at most `bins` of them.
    Source: Siddiqi (2006), "Credit Risk Scorecards"; it is Jeffreys' divergence of the binned samples.
    Raises ValueError for empty or missing values or fewer than two bins.
    """
    if bins < 2:
        raise ValueError(f"bins: expected at least 2, found {bins}")
    p, q = _bin_shares(_values(reference, "reference"), _values(current, "current"), bins)
    return float(((q - p) * np.log(q / p)).sum())


def psi_noise(n_reference: int, n_current: int, bins: int = 10, alpha: float = 0.05) -> float:
    """What PSI exceeds with probability alpha although nothing changed: (1/n + 1/m) times a chi-square quantile, bins - 1 df.

    Holds for independent rows. Source: Yurdakul (2018), "Statistical Properties of Population Stability Index".
    """
    if min(n_reference, n_current) < 1 or bins < 2 or not 0 < alpha < 1:
        raise ValueError(f"expected positive sizes, bins >= 2, 0 < alpha < 1; found {n_reference}, {n_current}, {bins}, {alpha}")
    return float((1 / n_reference + 1 / n_current) * stats.chi2.ppf(1 - alpha, bins - 1))


def drift_by_day(log: pd.DataFrame, column: str, reference_days: Iterable[int], statistic: Callable = psi) -> pd.Series:
    """statistic(reference values, the day's values) for each day of the log. Index: day.

    statistic: `psi`, or any function of two samples, e.g. lambda a, b: ks_2samp(a, b).pvalue.
    A reference day is compared with the other reference days, so that it is as surprising as any other.
    """
    reference = log.day.isin(list(reference_days))
    if not reference.any():
        raise ValueError(f"reference_days: expected days between {log.day.min()} and {log.day.max()}, found none of them in the log")
    values, days = log[column].to_numpy(), log.day.to_numpy()
    by_day = {
        day: statistic(values[reference & (days != day)], values[days == day])  # leave the day itself out
        for day in np.unique(days)
    }
    return pd.Series(by_day, name=column).rename_axis("day")


# ---------- outcomes that arrive late ----------


def matured(log: pd.DataFrame, today: int, window_days: int) -> pd.DataFrame:
    """The rows whose label window has closed on the morning of `today`: all of their outcomes are known, good or bad.

    Keeping every row whose label happens to be known already would keep the early positives and drop the rest.
    """
    if window_days < 0:
        raise ValueError(f"window_days: expected at least 0, found {window_days}")
    return log[log.day < today - window_days]


def performance_by_day(log: pd.DataFrame, outcome: str, prediction: str, groups: str = "user_id") -> pd.DataFrame:
    """How the predictions of each day did. Index: day; columns n, predicted, observed, calibration, low, high, log_loss.

    calibration: expected over observed outcomes (1 is right, above 1 promises too much), with a 95% interval, users being the unit.
    Raises ValueError if an outcome is missing: pass matured rows. Days without any positive have calibration NaN.
    """
    if log[outcome].isna().any():
        raise ValueError(f"{outcome}: {int(log[outcome].isna().sum())} of {len(log)} outcomes are not known yet; use matured() first")
    rows = {}
    for day, part in log.groupby("day"):
        y, p = part[outcome].to_numpy(float), part[prediction].to_numpy(float)
        row = dict(n=len(part), predicted=p.mean(), observed=y.mean(), calibration=np.nan, low=np.nan, high=np.nan, log_loss=log_loss(y, p))
        if y.sum() > 0 and part[groups].nunique() > 1:
            inverse = ratio(y, p, part[groups].to_numpy())  # observed / expected: its interval is the better behaved one
            row |= dict(calibration=calibration_ratio(y, p), low=1 / inverse.high, high=1 / inverse.low if inverse.low > 0 else np.inf)
        rows[day] = row
    return pd.DataFrame.from_dict(rows, orient="index").rename_axis("day")


# ---------- alarms ----------


@dataclass(frozen=True)
class Monitor:
    """A number a day and the range it keeps when all is well.

    values: Series by day. low, high: the range (infinite where only one side matters).
    patience: an alarm needs this many days in a row outside. look_at: what the on-call engineer opens next.
    """

    name: str
    values: pd.Series
    low: float = -np.inf
    high: float = np.inf
    patience: int = 1
    look_at: str = ""

    def __post_init__(self) -> None:
        if not self.low < self.high:
            raise ValueError(f"monitor {self.name!r}: expected low < high, found {self.low} and {self.high}")
        if self.patience < 1:
            raise ValueError(f"monitor {self.name!r}: expected patience of at least 1 day, found {self.patience}")

    @classmethod
    def from_quiet_days(
        cls, name: str, values: pd.Series, quiet_days: Iterable[int], alpha: float = 0.005, patience: int = 1, look_at: str = ""
    ) -> Monitor:
        """A range that a new day leaves with probability alpha if days are independent, normal and nothing changes.

        It is Student's prediction interval, wider than "three sigma" because the sigma of a few days is a guess.
        """
        quiet = values[values.index.isin(list(quiet_days))].dropna()
        n = len(quiet)
        if n < 3 or quiet.std() == 0:
            raise ValueError(f"monitor {name!r}: expected at least 3 quiet days that differ, found {n} with values {quiet.unique()[:3]}")
        half = stats.t.ppf(1 - alpha / 2, n - 1) * quiet.std() * np.sqrt(1 + 1 / n)
        return cls(name, values, quiet.mean() - half, quiet.mean() + half, patience, look_at)

    @property
    def outside(self) -> pd.Series:
        """Days outside the range. A missing value counts as outside: a monitor that went silent is an incident too."""
        return ~self.values.between(self.low, self.high)

    @property
    def alarms(self) -> pd.Series:
        """Days on which the value has been outside for `patience` days in a row. Shape and index of `values`."""
        return self.outside.astype(int).rolling(self.patience).sum().ge(self.patience)

    def first_alarm(self, since: int) -> int | None:
        """The first day of alarm on or after day `since`; None if there is none."""
        days = self.alarms.index[self.alarms & (self.alarms.index >= since)]
        return int(days[0]) if len(days) else None


def stream_alarms(detector: object, values: Iterable[float]) -> np.ndarray:
    """Positions in the stream at which a river detector reports drift.

    detector: an object with update(x) and drift_detected, as in river.drift; it keeps its own memory.
    """
    alarms = []
    for position, value in enumerate(np.asarray(values, float)):
        detector.update(value)
        if detector.drift_detected:
            alarms.append(position)
    return np.array(alarms, int)


@dataclass(frozen=True)
class RetrainingTrigger:
    """When to retrain: at the latest after `every_days`, earlier upon an alarm, never within `cooldown_days` of the last time.

    every_days=None retrains on alarms alone. The cooldown lets new labels arrive before the next decision.
    """

    every_days: int | None = None
    on_alarm: bool = False
    cooldown_days: int = 1

    def __post_init__(self) -> None:
        if self.every_days is None and not self.on_alarm:
            raise ValueError("expected every_days, on_alarm or both; this trigger would never fire")
        if self.cooldown_days < 1 or (self.every_days is not None and self.every_days < 1):
            raise ValueError(f"expected days of at least 1, found every_days={self.every_days}, cooldown_days={self.cooldown_days}")

    def due(self, day: int, last_trained: int, alarm: bool = False) -> bool:
        """Whether to retrain on the morning of `day`."""
        age = day - last_trained
        if age < self.cooldown_days:
            return False
        return (self.on_alarm and alarm) or (self.every_days is not None and age >= self.every_days)


# ---------- the page that on-call opens ----------


@dataclass(frozen=True)
class Report:
    """One page: `table` (one row a monitor, alarms first) and `figure` (the same monitors over time)."""

    table: pd.DataFrame
    figure: Figure


def report(monitors: list[Monitor], today: int, title: str, days: int = 28) -> Report:
    """The state of all monitors on the morning of `today`, which has seen the days before it.

    Draws one panel a monitor over the last `days` days: its range as a band, days of alarm as crosses.
    Raises ValueError for no monitors, or for two with the same name.
    """
    names = [monitor.name for monitor in monitors]
    if not monitors or len(set(names)) < len(names):
        raise ValueError(f"monitors: expected at least one, each with its own name, found {names}")
    rows = [_row(monitor, today) for monitor in monitors]
    table = pd.DataFrame(rows, index=pd.Index(names, name="monitor")).sort_values("state", kind="stable")
    n_columns = min(3, len(monitors))
    n_rows = -(-len(monitors) // n_columns)
    figure, axes = plt.subplots(n_rows, n_columns, figsize=(3.4 * n_columns, 2.1 * n_rows + 0.4), sharex=True, squeeze=False)
    for axis, monitor in zip(axes.flat, monitors, strict=False):
        _panel(axis, monitor, today, days)
    for axis in axes.flat[len(monitors) :]:
        axis.set_visible(False)
    for axis in axes[-1]:
        axis.set_xlabel("day")
    figure.suptitle(title, x=0.01, ha="left", fontweight="bold", fontsize=11.5)
    return Report(table, figure)


def _row(monitor: Monitor, today: int) -> dict:
    seen = monitor.values[monitor.values.index < today]
    alarms = monitor.alarms[monitor.alarms.index < today]
    ringing = len(alarms) > 0 and bool(alarms.iloc[-1])
    quiet = alarms.index[~alarms]
    since = int(alarms.index[alarms.index > (quiet[-1] if len(quiet) else -1)][0]) if ringing else None
    return dict(
        state="ALARM" if ringing else "ok",
        latest=f"{seen.iloc[-1]:.3g}" if len(seen) else "none",
        usual=f"{monitor.low:.3g} to {monitor.high:.3g}".replace("-inf to", "up to").replace("to inf", "and more"),
        since=f"day {since}" if ringing else "",
        look_at=monitor.look_at if ringing else "",
    )


def _panel(axis: plt.Axes, monitor: Monitor, today: int, days: int) -> None:
    window = (monitor.values.index < today) & (monitor.values.index >= today - days)
    values, alarms = monitor.values[window], monitor.alarms[window]
    axis.plot(values.index, values, color=figures.BLUE, linewidth=1.4)
    axis.plot(values.index[alarms], values[alarms], "x", color=figures.RED, markersize=6, markeredgewidth=2)
    finite = [limit for limit in (monitor.low, monitor.high) if np.isfinite(limit)]
    bottom, top = min([*finite, values.min()]), max([*finite, values.max()])
    low, high = max(monitor.low, bottom - (top - bottom)), min(monitor.high, top + (top - bottom))
    axis.axhspan(low, high, color=figures.GREY, alpha=0.15, linewidth=0)
    axis.set_ylim(bottom - 0.15 * (top - bottom), top + 0.15 * (top - bottom))
    axis.set_title(monitor.name, fontsize=9.5, fontweight="normal", color=figures.RED if len(alarms) and alarms.iloc[-1] else "black")
