"""Off-policy evaluation: the value of one policy, estimated from the log of another that drew its actions at random.

A row is an action that was taken. `logged` is the probability with which it was taken, `target` the probability with
which the new policy takes it. What the logging policy never does cannot be valued: every estimator refuses such a log.
"""

from __future__ import annotations

import numpy as np

from mlsd.estimates import Estimate, mean, ratio


def _column(values: np.ndarray, name: str, n: int) -> np.ndarray:
    values = np.asarray(values, float)
    if values.shape != (n,):
        raise ValueError(f"{name}: expected one value for each of the {n} logged actions, found shape {values.shape}")
    if not np.isfinite(values).all():
        bad = int((~np.isfinite(values)).sum())
        raise ValueError(f"{name}: {bad} of {n} values are missing or infinite; leave out rows that are not known yet, on both sides")
    return values


def _weights(target: np.ndarray, logged: np.ndarray) -> np.ndarray:
    """target / logged, shape (n,), checked."""
    n = len(np.asarray(logged))
    target, logged = _column(target, "target", n), _column(logged, "logged", n)
    if n == 0:
        raise ValueError("logged: expected at least one action, found none")
    if (logged <= 0).any():
        raise ValueError(
            f"logged: expected propensities above 0, found {int((logged <= 0).sum())} that are not; "
            "what was never shown cannot be valued, and what was shown had a probability: log it when serving"
        )
    for name, values in (("target", target), ("logged", logged)):
        if not ((values >= 0) & (values <= 1 + 1e-9)).all():  # room for rounding
            raise ValueError(f"{name}: expected probabilities, found values from {values.min():.3g} to {values.max():.3g}")
    if not target.any():
        raise ValueError("no overlap: the new policy takes none of the logged actions, so this log says nothing about it")
    return target / logged


def ips(reward: np.ndarray, target: np.ndarray, logged: np.ndarray, groups: np.ndarray | None = None) -> Estimate:
    """Inverse propensity scoring: mean of reward x target / logged. Unbiased; variance grows with the weights.

    reward (n,): outcome; target (n,): probability that the new policy takes the logged action;
    logged (n,): probability with which it was taken; groups (n,): users, the sampled unit.
    Raises ValueError for missing values, propensities outside (0, 1], or no overlap (as all functions here).
    Source: Horvitz and Thompson (1952).
    """
    weights = _weights(target, logged)
    return mean(weights * _column(reward, "reward", len(weights)), groups)


def snips(reward: np.ndarray, target: np.ndarray, logged: np.ndarray, groups: np.ndarray | None = None) -> Estimate:
    """Self-normalised IPS: weights divided by their sum. Slightly biased, and never outside the range of the rewards.

    Source: Swaminathan and Joachims (2015), "The Self-Normalized Estimator for Counterfactual Learning".
    """
    weights = _weights(target, logged)
    return ratio(weights * _column(reward, "reward", len(weights)), weights, groups)


def doubly_robust(
    reward: np.ndarray,
    target: np.ndarray,
    logged: np.ndarray,
    q_logged: np.ndarray,
    q_target: np.ndarray,
    groups: np.ndarray | None = None,
) -> Estimate:
    """A reward model corrected by IPS on its residuals; unbiased if either the model or the propensities are right.

    q_logged (n,): predicted reward of the logged action; q_target (n,): predicted reward averaged over
    the new policy's actions. Source: Dudík, Langford, Li (2011), "Doubly Robust Policy Evaluation and Learning".
    """
    weights = _weights(target, logged)
    columns = dict(reward=reward, q_logged=q_logged, q_target=q_target)
    reward, q_logged, q_target = (_column(values, name, len(weights)) for name, values in columns.items())
    return mean(q_target + weights * (reward - q_logged), groups)


def effective_sample_size(target: np.ndarray, logged: np.ndarray) -> float:
    """How many rows of the target policy's own log the weighted log is worth: (sum w)^2 / sum w^2 (Kish 1965)."""
    weights = _weights(target, logged)
    return float(weights.sum() ** 2 / (weights**2).sum())
