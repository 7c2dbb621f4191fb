"""Ranking, probability and calibration metrics. Intervals around them: `mlsd.estimates`."""

from __future__ import annotations

import numpy as np
import pandas as pd

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


# ---------- rankings: a matrix of scores ----------


def recall_at(scores: np.ndarray, relevance: np.ndarray, k: int, allowed: np.ndarray | None = None) -> np.ndarray:
    """Share of each row's relevance within its first k columns, shape (n,); NaN where nothing is relevant.

    scores, relevance: (n, m), relevance 0 or 1, or a gain such as the probability of a click; allowed: columns that may be
    taken at all, the others come last. Ties at the k-th place fall as numpy's partition leaves them: break them before.
    """
    allowed = np.ones(scores.shape, bool) if allowed is None else allowed
    if not 0 < k < scores.shape[1]:
        raise ValueError(f"k: expected 1 to {scores.shape[1] - 1}, fewer than the columns, found {k}")
    first = np.argpartition(-np.where(allowed, scores, -np.inf), k, axis=1)[:, :k]
    total, found = relevance.sum(axis=1), np.take_along_axis(relevance, first, axis=1).sum(axis=1)
    return np.divide(found, total, out=np.full(len(total), np.nan), where=total > 0)
