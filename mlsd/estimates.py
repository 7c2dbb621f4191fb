"""A number with its interval, and the ways to get one from rows.

Users bring many rows each, and rows of one user resemble each other. So every function that gives
an interval takes `groups` (user ids, say) and treats the group as the unit that was sampled: the
interval speaks of other groups, not of other weeks, trainings or worlds.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import pandas as pd
from scipy import stats

Z = stats.norm.ppf(0.975)  # all intervals are 95%


@dataclass(frozen=True)
class Estimate:
    """A number and its 95% interval. Raises ValueError unless low <= value <= high, all finite."""

    value: float
    low: float
    high: float

    def __post_init__(self) -> None:
        for name in ("value", "low", "high"):  # no numpy types: they do not go into a record
            object.__setattr__(self, name, float(getattr(self, name)))
        if not (np.isfinite([self.value, self.low, self.high]).all() and self.low <= self.value <= self.high):
            raise ValueError(f"expected finite low <= value <= high, found {self.low}, {self.value}, {self.high}")

    @classmethod
    def exact(cls, value: float) -> Estimate:
        """A quantity without sampling error: bytes, counts, arithmetic on given numbers."""
        return cls(float(value), float(value), float(value))

    @classmethod
    def from_se(cls, value: float, se: float, df: float = np.inf) -> Estimate:
        """Normal (or, with few groups, Student) interval around `value` with standard error `se`."""
        half = float(stats.t.ppf(0.975, df) * se)
        return cls(float(value), float(value) - half, float(value) + half)

    def __neg__(self) -> Estimate:
        return Estimate(-self.value, -self.high, -self.low)

    def __add__(self, number: float) -> Estimate:
        _check_number(number)
        return Estimate(self.value + number, self.low + number, self.high + number)

    __radd__ = __add__

    def __sub__(self, number: float) -> Estimate:
        _check_number(number)
        return self + -float(number)

    def __rsub__(self, number: float) -> Estimate:
        return -self + number

    def __mul__(self, number: float) -> Estimate:
        _check_number(number)
        ends = sorted((self.low * number, self.high * number))
        return Estimate(self.value * number, *ends)

    __rmul__ = __mul__

    def __truediv__(self, number: float) -> Estimate:
        _check_number(number)
        return self * (1 / number)

    def __abs__(self) -> Estimate:
        if self.low >= 0:
            return self
        if self.high <= 0:
            return -self
        return Estimate(abs(self.value), 0.0, max(-self.low, self.high))

    def __format__(self, spec: str) -> str:
        spec = spec or ".3g"
        if self.low == self.high:
            return format(self.value, spec)
        return f"{self.value:{spec}} [{self.low:{spec}}, {self.high:{spec}}]"

    def __str__(self) -> str:
        return format(self, "")


def _check_number(other: object) -> None:
    if isinstance(other, Estimate):
        raise TypeError(
            "arithmetic takes a number beside an Estimate: two estimates from the same rows are compared by `compare` or `ratio`, "
            "two that share no rows by `independent_difference`"
        )


def independent_difference(a: Estimate, b: Estimate) -> Estimate:
    """a - b for two estimates that share no rows; for others it is too wide or too narrow.

    Half-widths add in quadrature, each side for itself. Source: Newcombe (1998), "Interval estimation for
    the difference between independent proportions", method 10.
    """
    value = a.value - b.value
    return Estimate(value, value - np.hypot(a.value - a.low, b.high - b.value), value + np.hypot(a.high - a.value, b.value - b.low))


# ---------- intervals ----------


def _sums_by_group(groups: np.ndarray | None, *columns: np.ndarray) -> list[np.ndarray]:
    if groups is None:
        return list(columns)
    codes, _ = pd.factorize(np.asarray(groups))
    return [np.bincount(codes, weights=column) for column in columns]


def ratio(numerator: np.ndarray, denominator: np.ndarray, groups: np.ndarray | None = None) -> Estimate:
    """sum(numerator) / sum(denominator) with a group-robust delta-method interval.

    Source: Deng, Knoblich, Lu (2018), "Applying the Delta Method in Metric Analytics", section 2.
    Raises ValueError for fewer than two groups or a denominator that sums to zero.
    """
    top, bottom = _sums_by_group(groups, np.asarray(numerator, float), np.asarray(denominator, float))
    n = len(top)
    if n < 2 or bottom.sum() == 0:
        raise ValueError(f"an interval needs at least two groups and a non-zero denominator, found {n} and {bottom.sum()}")
    value = top.sum() / bottom.sum()
    residual = top - value * bottom
    se = np.sqrt(n / (n - 1) * (residual**2).sum()) / abs(bottom.sum())
    return Estimate.from_se(value, se, df=n - 1)


def mean(values: np.ndarray, groups: np.ndarray | None = None, missing: str = "error") -> Estimate:
    """Mean with a group-robust interval. Shapes (n,), (n,).

    missing="drop" leaves missing values out. Only ask for that where they are missing for a reason that has nothing to do
    with what they would be: labels that are not known yet, for one, are missing more often where they are positive.
    Raises ValueError for missing values otherwise.
    """
    if missing not in ("error", "drop"):
        raise ValueError(f"missing: expected 'error' or 'drop', found {missing!r}")
    values = np.asarray(values, float)
    unknown = np.isnan(values)
    if unknown.any() and missing == "error":
        raise ValueError(
            f"values: {int(unknown.sum())} of {len(values)} are missing; pass rows whose outcome is known (matured ones, say), "
            'or missing="drop" if it does not matter which are missing'
        )
    return ratio(values[~unknown], np.ones((~unknown).sum()), None if groups is None else np.asarray(groups)[~unknown])


def over_trainings(values: np.ndarray) -> Estimate:
    """Mean of one value a training and unit, with an interval for other units and for other trainings. Shape (n_trainings, n_units).

    A model trained anew from another seed scores differently on the same users; `mean` over users leaves that out. Both
    sources add up: SE^2 = var(means of units) / n_units + var(means of trainings) / n_trainings, a little too wide as the
    interaction counts twice; degrees of freedom by Satterthwaite (1946), so three trainings give wide intervals. Pass
    differences of two models for a comparison. Raises ValueError for fewer than two of either, or missing values.
    Source: Owen and Eckles (2012), "Bootstrapping data arrays of arbitrary order".
    """
    values = np.asarray(values, float)
    if values.ndim != 2 or min(values.shape) < 2 or np.isnan(values).any():
        raise ValueError(f"expected values (n_trainings, n_units), two or more of each and none missing, found shape {values.shape}")
    parts, dfs = [], []
    for axis in (0, 1):
        means = values.mean(axis=axis)
        parts.append(means.var(ddof=1) / len(means))
        dfs.append(len(means) - 1)
    variance = sum(parts)
    spread = sum(part**2 / df for part, df in zip(parts, dfs, strict=True))
    return Estimate.from_se(values.mean(), np.sqrt(variance), df=variance**2 / spread if spread else np.inf)


def _bootstrap_weights(n: int, groups: np.ndarray | None, n_boot: int, seed: int):
    rng = np.random.default_rng(seed)
    codes = np.arange(n) if groups is None else pd.factorize(np.asarray(groups))[0]
    n_groups = int(codes.max()) + 1
    if n_groups < 2 or codes.min() < 0:
        raise ValueError(f"an interval needs at least two groups and no missing one, found {n_groups} and {int((codes < 0).sum())} missing")
    for _ in range(n_boot):
        yield np.bincount(rng.integers(0, n_groups, n_groups), minlength=n_groups)[codes].astype(float)


def estimate(
    metric: Callable, y: np.ndarray, p: np.ndarray, groups: np.ndarray | None = None, n_boot: int = 200, seed: int = 0
) -> Estimate:
    """metric(y, p) with a cluster-bootstrap interval (groups resampled with replacement, normal interval).

    metric: a function of (y, p, weight) -> float, such as `auc`.
    """
    y, p = np.asarray(y, float), np.asarray(p, float)
    order = np.argsort(p, kind="stable")  # sorted once, so that sorting inside the metric is nearly free
    y, p, groups = y[order], p[order], None if groups is None else np.asarray(groups)[order]
    values = [metric(y, p, weight) for weight in _bootstrap_weights(len(y), groups, n_boot, seed)]
    return Estimate.from_se(metric(y, p), np.std(values, ddof=1))


def compare(
    metric: Callable,
    y: np.ndarray,
    p_a: np.ndarray,
    p_b: np.ndarray,
    groups: np.ndarray | None = None,
    n_boot: int = 200,
    seed: int = 0,
) -> Estimate:
    """metric(y, p_a) - metric(y, p_b), paired: both are computed on the same resampled groups."""
    y, p_a, p_b = (np.asarray(v, float) for v in (y, p_a, p_b))
    values = [metric(y, p_a, w) - metric(y, p_b, w) for w in _bootstrap_weights(len(y), groups, n_boot, seed)]
    return Estimate.from_se(metric(y, p_a) - metric(y, p_b), np.std(values, ddof=1))


def share_of_achievable(model: np.ndarray, no_skill: np.ndarray, oracle: np.ndarray, groups: np.ndarray | None = None) -> Estimate:
    """(mean(model) - mean(no_skill)) / (mean(oracle) - mean(no_skill)), paired, delta method.

    Each argument holds one value a unit (log loss a row, NDCG a request), shape (n,). 0 is no skill,
    1 is what somebody who knows the truth reaches. Units where any value is missing are left out.
    """
    model, no_skill, oracle = (np.asarray(v, float) for v in (model, no_skill, oracle))
    seen = np.isfinite(model) & np.isfinite(no_skill) & np.isfinite(oracle)
    groups = None if groups is None else np.asarray(groups)[seen]
    return ratio((model - no_skill)[seen], (oracle - no_skill)[seen], groups)
