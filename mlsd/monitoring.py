"""The company's drift dashboard: shifts of distributions, performance on matured labels, alarms, and the on-call page.

What scipy and river have is used as it is (`scipy.stats.ks_2samp`, `river.drift`). A monitor here is
a number a day and the range it keeps when nothing is wrong. Whatever a day is compared with (a
reference sample, a usual level, its weekday) is made of other days: a day that is part of its own
baseline looks calmer than a new one, and limits set from such days ring too often.
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

# ---------- distributions ----------


def _values(values: Iterable, name: str) -> np.ndarray:
    values = np.asarray(values)
    if values.ndim != 1 or len(values) == 0:
        raise ValueError(f"{name}: expected a non-empty one-dimensional array, found shape {values.shape}")
    if pd.isna(values).any():
        raise ValueError(f"{name}: {int(pd.isna(values).sum())} of {len(values)} values are missing; watch their share with missing_by_day")
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


# ---------- numbers a day ----------


def requests_by_day(log: pd.DataFrame, days: Iterable[int]) -> pd.Series:
    """The number of requests on each of `days`; 0 on a day without rows, which is the day to know about. Index: day."""
    return log.groupby("day").request_id.nunique().reindex(list(days), fill_value=0).rename("requests").rename_axis("day")


def baseline(daily: pd.Series | pd.DataFrame, reference_days: Iterable[int]) -> pd.Series | pd.DataFrame:
    """What is usual: the mean over the reference days, for a reference day over the others. Shape and index of `daily`.

    Divide by it, or subtract it, to put a day's numbers in relation to the usual ones.
    Raises ValueError for fewer than two reference days, or if one of them is missing.
    """
    inside = daily.index.isin(list(reference_days))
    reference = daily[inside]
    if len(reference) < 2 or reference.isna().to_numpy().any():
        raise ValueError(f"reference_days: expected at least two days without missing values, found {len(reference)}")
    usual = daily * np.nan
    usual[~inside] = reference.mean().to_numpy() if daily.ndim == 2 else reference.mean()
    usual[inside] = (reference.sum() - reference) / (len(reference) - 1)
    return usual


def deseasonalised(daily: pd.Series, reference_days: Iterable[int]) -> pd.Series:
    """A daily series with its weekly rhythm taken out, at its own level and in its own unit. Index: day.

    From each day goes what its weekday was above or below the mean in the reference weeks, the day itself left out.
    Day 0 is a Monday, as in every world. Raises ValueError unless each weekday is in the reference days twice or more.
    """
    reference_days = [day for day in reference_days if day in daily.index]
    weekday = daily.index.to_numpy() % 7
    seen = np.bincount(np.array(reference_days, int) % 7, minlength=7)
    if seen[np.unique(weekday)].min() < 2:
        raise ValueError(f"reference_days: expected each weekday at least twice, found {seen.tolist()} of Monday to Sunday")
    usual = pd.concat([baseline(part, reference_days) for _, part in daily.groupby(weekday)]).reindex(daily.index)
    return (daily - usual + daily.loc[reference_days].mean()).rename(daily.name)


# ---------- outcomes that arrive late ----------


def matured(log: pd.DataFrame, today: int, window_days: int) -> pd.DataFrame:
    """The rows whose label window has closed on the morning of `today`: all of their outcomes are known, good or bad.

    Keeping every row whose label happens to be known already would keep the early positives and drop the rest.
    """
    if window_days < 0:
        raise ValueError(f"window_days: expected at least 0, found {window_days}")
    return log[log.day < today - window_days]


# ---------- alarms ----------


@dataclass(frozen=True)
class Monitor:
    """A number a day and the range it keeps when all is well.

    values: Series by day (whole numbers, rising). Before its first value a monitor has not started; a day that is
    missing after that, as NaN or as no row at all, is an incident. low, high: the range, in the unit of the values
    (infinite where only one side matters). patience: an alarm needs this many days in a row outside.
    known_after: mornings from a day until its value is there: 1 for what is logged at once, 1 + window for a cohort whose
    label window must close. look_at: what the on-call engineer opens next.
    """

    name: str
    values: pd.Series
    low: float = -np.inf
    high: float = np.inf
    patience: int = 1
    known_after: int = 1
    look_at: str = ""

    def __post_init__(self) -> None:
        if not self.low < self.high:
            raise ValueError(f"monitor {self.name!r}: expected low < high, found {self.low} and {self.high}")
        if min(self.patience, self.known_after) < 1:
            found = f"{self.patience} and {self.known_after}"
            raise ValueError(f"monitor {self.name!r}: expected patience and known_after of at least 1 day, found {found}")
        days = self.values.index
        if not pd.api.types.is_integer_dtype(days) or not (days.is_monotonic_increasing and days.is_unique):
            raise ValueError(f"monitor {self.name!r}: expected values by day, whole numbers that rise, found index {list(days[:3])}")

    @classmethod
    def from_quiet_days(
        cls,
        name: str,
        values: pd.Series,
        quiet_days: Iterable[int],
        alpha: float = 0.005,
        side: str = "both",
        log_scale: bool = False,
        **more: object,
    ) -> Monitor:
        """A range that a new day leaves with probability alpha if days are independent, normal and nothing changes.

        It is Student's prediction interval, wider than "three sigma" because the sigma of a few days is a guess.
        side: "both", or the one side that is bad, "high" or "low". A distance has one: nobody is woken because today is
        too similar. log_scale: the logarithm is what is normal: for what is never negative and spreads as it grows, like
        PSI. The range is in the unit of the values all the same. more: patience, known_after, look_at.
        Raises ValueError for fewer than three quiet days, days that do not differ, or none above 0 on a log scale.
        """
        if side not in ("both", "high", "low"):
            raise ValueError(f"monitor {name!r}: side: expected 'both', 'high' or 'low', found {side!r}")
        quiet = values[values.index.isin(list(quiet_days))].dropna()
        if log_scale and not (quiet > 0).all():
            raise ValueError(f"monitor {name!r}: expected values above 0 for a log scale, found {quiet.min():.3g}")
        if log_scale:
            quiet = np.log(quiet)
        n = len(quiet)
        if n < 3 or quiet.std() == 0:
            raise ValueError(f"monitor {name!r}: expected at least 3 quiet days that differ, found {n} with values {quiet.unique()[:3]}")
        tail = alpha / 2 if side == "both" else alpha
        half = stats.t.ppf(1 - tail, n - 1) * quiet.std() * np.sqrt(1 + 1 / n)
        low = -np.inf if side == "high" else quiet.mean() - half
        high = np.inf if side == "low" else quiet.mean() + half
        if log_scale:
            low, high = -np.inf if side == "high" else np.exp(low), np.exp(high)
        return cls(name, values, low, high, **more)

    @property
    def by_day(self) -> pd.Series:
        """The values from the first one on, with a row for every day; NaN where there is none."""
        first, last = self.values.first_valid_index(), self.values.index.max()
        return self.values.reindex(pd.RangeIndex(first, last + 1) if first is not None else []).rename_axis("day")

    @property
    def outside(self) -> pd.Series:
        """Days outside the range. A missing value counts as outside: a monitor that went silent is an incident too."""
        return ~self.by_day.between(self.low, self.high)

    @property
    def alarms(self) -> pd.Series:
        """Days on which the value has been outside for `patience` days in a row. Index of `by_day`."""
        return self.outside.astype(int).rolling(self.patience).sum().ge(self.patience)

    def first_alarm(self, since: int) -> int | None:
        """The first day of alarm on or after day `since`; None if there is none."""
        days = self.alarms.index[self.alarms & (self.alarms.index >= since)]
        return int(days[0]) if len(days) else None

    def ringing_since(self, day: int, gap_days: int = 3) -> int | None:
        """The first day of the run of alarms that `day` belongs to; None if there is no alarm on `day`.

        A run goes on over at most `gap_days` quiet days between two alarms: one good day does not end an incident.
        """
        days = self.alarms.index[self.alarms & (self.alarms.index <= day)].to_numpy()
        if not len(days) or days[-1] != day:
            return None
        new_run = np.diff(days, prepend=-np.inf) > gap_days + 1
        return int(days[new_run][-1])


def detection_delay(monitor: Monitor, onset: int, earliest: int | None = None, quiet: Monitor | None = None) -> int | None:
    """Mornings from the onset of an incident until the first alarm that it can have caused; None if there is none.

    The value of the first day of an incident is read on the morning after, a delay of 1, or `known_after`.
    earliest: the shortest delay that is possible, where that is longer: what an incident cannot have touched yet has
    rung by chance. quiet: the same monitor where nothing happened (a world's quiet twin); what rings on the same
    day there was no detection. Without it, an alarm that was going on before the onset counts.
    Raises ValueError for an `earliest` before the value of the first day is known.
    """
    earliest = monitor.known_after if earliest is None else earliest
    if earliest < monitor.known_after:
        raise ValueError(
            f"earliest: expected at least {monitor.known_after}, when monitor {monitor.name!r} has its first value of the incident, "
            f"found {earliest}"
        )
    days = monitor.alarms.index[monitor.alarms]
    if quiet is not None:
        days = days.difference(quiet.alarms.index[quiet.alarms])
    delays = days - onset + monitor.known_after
    possible = delays[delays >= earliest]
    return int(possible[0]) if len(possible) else None


def stream_alarms(detector: object, values: Iterable[float]) -> np.ndarray:
    """Positions in the stream at which a river detector reports drift.

    detector: an object with update(x) and drift_detected, as in river.drift; it keeps its own memory. Missing values are
    not shown to it, since one NaN would silence it for good: watch their share in a monitor of its own (missing_by_day).
    Raises ValueError for infinite values.
    """
    values = np.asarray(values, float)
    if np.isinf(values).any():
        raise ValueError(f"values: expected finite or missing ones, found {int(np.isinf(values).sum())} infinite; detectors sum them up")
    alarms = []
    for position in np.flatnonzero(~np.isnan(values)):
        detector.update(values[position])
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


def report(monitors: list[Monitor], today: int, title: str, days: int = 28, gap_days: int = 3) -> Report:
    """The state of all monitors on the morning of `today`, which has seen the days before it.

    state: "ALARM"; "SILENT" where the day that should be known by now (`known_after`) has no value; or "ok".
    since: the first day of the present alarm, which goes on over at most `gap_days` quiet days, or of silence.
    Draws one panel a monitor over the last `days` days: its range as a band, days of alarm as crosses.
    Raises ValueError for no monitors, or for two with the same name.
    """
    names = [monitor.name for monitor in monitors]
    if not monitors or len(set(names)) < len(names):
        raise ValueError(f"monitors: expected at least one, each with its own name, found {names}")
    rows = [_row(monitor, today, gap_days) for monitor in monitors]
    table = pd.DataFrame(rows, index=pd.Index(names, name="monitor")).sort_values("state", kind="stable")
    n_columns = min(3, len(monitors))
    n_rows = -(-len(monitors) // n_columns)
    figure, axes = plt.subplots(n_rows, n_columns, figsize=(3.4 * n_columns, 2.1 * n_rows + 0.4), sharex=True, squeeze=False)
    for axis, monitor in zip(axes.flat, monitors, strict=False):
        _panel(axis, monitor, today, days, ok=table.state[monitor.name] == "ok")
    for axis in axes.flat[len(monitors) :]:
        axis.set_visible(False)
    for axis in axes[-1]:
        axis.set_xlabel("day")
    figure.suptitle(title, x=0.01, ha="left", fontweight="bold", fontsize=11.5)
    return Report(table, figure)


def _row(monitor: Monitor, today: int, gap_days: int) -> dict:
    due = today - monitor.known_after  # the last day whose value should be there
    seen = monitor.values[monitor.values.index <= due].dropna()
    last_day = int(seen.index[-1]) if len(seen) else None
    if last_day != due:
        state, since = "SILENT", None if last_day is None else last_day + 1
    else:
        since = monitor.ringing_since(due, gap_days)
        state = "ok" if since is None else "ALARM"
    return dict(
        state=state,
        latest=f"{seen.iloc[-1]:.3g}" if len(seen) else "none",
        last_day="never" if last_day is None else f"day {last_day}",
        usual=f"{monitor.low:.3g} to {monitor.high:.3g}".replace("-inf to", "up to").replace("to inf", "and more"),
        since="" if since is None else f"day {since}",
        look_at="" if state == "ok" else monitor.look_at,
    )


def _panel(axis: plt.Axes, monitor: Monitor, today: int, days: int, ok: bool) -> None:
    by_day, window = monitor.by_day, pd.RangeIndex(today - days, today - monitor.known_after + 1)
    values, alarms = by_day[by_day.index.isin(window)], monitor.alarms[monitor.alarms.index.isin(window)]
    axis.plot(values.index, values, color=figures.BLUE, linewidth=1.4)
    axis.plot(values.index[alarms], values[alarms], "x", color=figures.RED, markersize=6, markeredgewidth=2)
    axis.set_title(monitor.name, fontsize=9.5, fontweight="normal", color="black" if ok else figures.RED)
    axis.set_xlim(today - days - 0.5, today - 0.5)
    heights = [*values.dropna(), *(limit for limit in (monitor.low, monitor.high) if np.isfinite(limit))]
    if not heights:
        return
    bottom, top = min(heights), max(heights)
    low, high = max(monitor.low, bottom - (top - bottom)), min(monitor.high, top + (top - bottom))
    axis.axhspan(low, high, color=figures.GREY, alpha=0.15, linewidth=0)
    if bottom < top:
        axis.set_ylim(bottom - 0.15 * (top - bottom), top + 0.15 * (top - bottom))
