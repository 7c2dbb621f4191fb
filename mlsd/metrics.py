"""Ranking, probability and calibration metrics, each with an interval.

Users bring many rows each, and rows of one user resemble each other. So every function that gives
an interval takes `groups` (user ids, say) and treats the group as the unit that was sampled.
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

    def __sub__(self, number: float) -> Estimate:
        return Estimate(self.value - number, self.low - number, self.high - number)

    def __mul__(self, number: float) -> Estimate:
        ends = sorted((self.low * number, self.high * number))
        return Estimate(self.value * number, *ends)

    __rmul__ = __mul__

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


def _bootstrap_weights(n: int, groups: np.ndarray | None, n_boot: int, seed: int):
    rng = np.random.default_rng(seed)
    codes = np.arange(n) if groups is None else pd.factorize(np.asarray(groups))[0]
    n_groups = int(codes.max()) + 1
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


# ---------- probabilities ----------


def log_loss_rows(y: np.ndarray, p: np.ndarray) -> np.ndarray:
    """Log loss of each row in nats, shape (n,). Probabilities are clipped to [1e-12, 1 - 1e-12]."""
    y, p = np.asarray(y, float), np.clip(np.asarray(p, float), 1e-12, 1 - 1e-12)
    return -(y * np.log(p) + (1 - y) * np.log1p(-p))


def log_loss(y: np.ndarray, p: np.ndarray, weight: np.ndarray | None = None) -> float:
    """Mean log loss in nats."""
    return float(np.average(log_loss_rows(y, p), weights=weight))


def normalized_entropy(y: np.ndarray, p: np.ndarray, weight: np.ndarray | None = None) -> float:
    """Log loss divided by that of always predicting the mean outcome; below 1 is skill.

    Source: He et al. (2014), "Practical Lessons from Predicting Clicks on Ads at Facebook", section 3.
    """
    base_rate = np.average(np.asarray(y, float), weights=weight)
    return log_loss(y, p, weight) / log_loss(y, np.full(len(y), base_rate), weight)


def calibration_ratio(y: np.ndarray, p: np.ndarray, weight: np.ndarray | None = None) -> float:
    """Expected over observed outcomes, sum(p) / sum(y): 1 is calibrated on average, 1.3 promises 30% too much."""
    weight = np.ones(len(y)) if weight is None else weight
    return float(np.dot(weight, p) / np.dot(weight, y))


def auc(y: np.ndarray, score: np.ndarray, weight: np.ndarray | None = None) -> float:
    """Probability that a positive scores above a negative, ties counting half."""
    y, score = np.asarray(y, float), np.asarray(score, float)
    weight = np.ones(len(y)) if weight is None else weight
    order = np.argsort(score, kind="stable")
    ties = np.flatnonzero(np.diff(score[order], prepend=-np.inf))
    positive = np.add.reduceat((weight * y)[order], ties)
    negative = np.add.reduceat((weight * (1 - y))[order], ties)
    below = np.cumsum(negative) - negative
    return float((positive * (below + negative / 2)).sum() / (positive.sum() * negative.sum()))


def calibration_table(y: np.ndarray, p: np.ndarray, bins: int = 10, by: np.ndarray | None = None) -> pd.DataFrame:
    """Predicted against observed rate in bins. Columns: predicted, observed, low, high, n.

    Bins are quantiles of p, or the values of `by` where given. Interval: Wilson score.
    """
    key = pd.qcut(p, bins, labels=False, duplicates="drop") if by is None else np.asarray(by)
    table = (
        pd.DataFrame(dict(key=key, y=np.asarray(y, float), p=np.asarray(p, float)))
        .groupby("key")
        .agg(predicted=("p", "mean"), observed=("y", "mean"), n=("y", "size"))
    )
    centre = (table.observed + Z**2 / (2 * table.n)) / (1 + Z**2 / table.n)
    half = Z / (1 + Z**2 / table.n) * np.sqrt(table.observed * (1 - table.observed) / table.n + Z**2 / (4 * table.n**2))
    table["low"], table["high"] = centre - half, centre + half
    return table[["predicted", "observed", "low", "high", "n"]].rename_axis("bin" if by is None else getattr(by, "name", "group"))


# ---------- rankings: one value a request ----------


def _ranked(request_id: np.ndarray, relevance: np.ndarray, score: np.ndarray) -> pd.DataFrame:
    """Rows sorted by request and score, with rank (0-based) and relevance averaged over tied scores.

    Averaging is the expectation over a random order of the tied rows. Keeping the order of the rows
    instead would let a constant score inherit the ranking of whoever wrote the log.
    """
    frame = pd.DataFrame(dict(request=np.asarray(request_id), relevance=np.asarray(relevance, float), score=np.asarray(score, float)))
    if frame.score.isna().any():
        raise ValueError(f"expected a score for every row, found {frame.score.isna().sum()} missing")
    frame = frame.sort_values(["request", "score"], ascending=[True, False], kind="stable", ignore_index=True)
    new_request = frame.request.ne(frame.request.shift()).to_numpy()
    start = np.flatnonzero(new_request)
    frame["rank"] = np.arange(len(frame)) - np.repeat(start, np.diff(np.append(start, len(frame))))
    tie = (new_request | frame.score.ne(frame.score.shift()).to_numpy()).cumsum() - 1
    frame["expected"] = (np.bincount(tie, weights=frame.relevance) / np.bincount(tie))[tie]
    return frame


def _per_request(values: np.ndarray, request: np.ndarray) -> pd.Series:
    return pd.Series(np.asarray(values)).groupby(np.asarray(request)).sum().rename_axis("request_id")


def dcg(request_id: np.ndarray, relevance: np.ndarray, score: np.ndarray, k: int = 10) -> pd.Series:
    """Discounted cumulative gain of each request: relevance / log2(rank + 1), gain linear in relevance."""
    frame = _ranked(request_id, relevance, score)
    discount = np.where(frame["rank"] < k, 1 / np.log2(frame["rank"] + 2), 0.0)
    return _per_request(frame.expected * discount, frame.request)


def ndcg(request_id: np.ndarray, relevance: np.ndarray, score: np.ndarray, k: int = 10) -> pd.Series:
    """DCG over the best possible DCG, one value a request; NaN where nothing is relevant.

    Source: Järvelin and Kekäläinen (2002); ties in expectation as in McSherry and Najork (2008).
    """
    best = dcg(request_id, relevance, relevance, k)
    return dcg(request_id, relevance, score, k) / best.where(best > 0)


def precision(request_id: np.ndarray, relevance: np.ndarray, score: np.ndarray, k: int = 10) -> pd.Series:
    """Relevant rows among the first k, divided by k; relevance counts as 0 or 1. NaN where nothing is relevant."""
    frame = _ranked(request_id, np.asarray(relevance) > 0, score)
    total = _per_request(frame.relevance, frame.request)
    return (_per_request(np.where(frame["rank"] < k, frame.expected, 0.0), frame.request) / k).where(total > 0)


def recall(request_id: np.ndarray, relevance: np.ndarray, score: np.ndarray, k: int = 10) -> pd.Series:
    """Share of a request's relevant rows that are among the first k. NaN where nothing is relevant."""
    frame = _ranked(request_id, np.asarray(relevance) > 0, score)
    total = _per_request(frame.relevance, frame.request)
    return _per_request(np.where(frame["rank"] < k, frame.expected, 0.0), frame.request) / total.where(total > 0)


def _ranked_at_random(request_id: np.ndarray, relevance: np.ndarray, score: np.ndarray) -> pd.DataFrame:
    """As `_ranked`, with tied scores put in a fixed random order: for metrics not linear in relevance."""
    shuffled = np.random.default_rng(0).permutation(len(score))
    return _ranked(np.asarray(request_id)[shuffled], np.asarray(relevance)[shuffled] > 0, np.asarray(score)[shuffled])


def reciprocal_rank(request_id: np.ndarray, relevance: np.ndarray, score: np.ndarray, k: int = 10) -> pd.Series:
    """1 / rank of the first relevant row if within k, else 0. NaN where nothing is relevant."""
    frame = _ranked_at_random(request_id, relevance, score)
    total = _per_request(frame.relevance, frame.request)
    value = np.where((frame.relevance > 0) & (frame["rank"] < k), 1 / (frame["rank"] + 1), 0.0)
    return pd.Series(value).groupby(frame.request).max().rename_axis("request_id").where(total > 0)


def average_precision(request_id: np.ndarray, relevance: np.ndarray, score: np.ndarray, k: int = 10) -> pd.Series:
    """Mean, over a request's relevant rows, of the precision at their rank (0 beyond k). NaN where nothing is relevant."""
    frame = _ranked_at_random(request_id, relevance, score)
    total = _per_request(frame.relevance, frame.request)
    hits = frame.relevance.groupby(frame.request).cumsum()
    value = np.where((frame.relevance > 0) & (frame["rank"] < k), hits / (frame["rank"] + 1), 0.0)
    return _per_request(value, frame.request) / total.where(total > 0)
