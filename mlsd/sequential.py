"""Evidence that may be looked at every day: for a canary, an A/B test that can end early, a retraining gate.

A 95% interval is wrong one time in twenty at one look that was named beforehand. Somebody who looks every day and stops
at the first interval that excludes zero is wrong far more often. Two cures:

* `group_sequential`: the last day is fixed. Looks share one error rate, most of it kept for the end, so that a test
  that runs to its last day needs hardly more data than one that was looked at once. The choice for an A/B test.
* `always_valid`: no last day, stop or go on whenever you like. Wider at the end. The choice for a monitor or a gate
  that never ends.

Both take the estimates of the successive looks, each on all data so far: `Experiment.lift_by_day`, or
pd.Series({day: mean(saved[rows.day <= day], ...) for day in days}). They rest on many users at the first look already
(the central limit theorem), and on looks whose news is independent of what was known before, which holds for an
estimate that weighs all its users alike, with more days of the same users too.
"""

from __future__ import annotations

import numpy as np
import pandas as pd
from scipy import optimize, stats

from mlsd.estimates import Estimate, Z

ALPHA = 0.05  # all intervals are 95%, here at all looks together


def spending_bounds(fractions: np.ndarray, alpha: float = ALPHA) -> np.ndarray:
    """What |z| must exceed at each look, so that it does so at any look with probability alpha when nothing changed.

    fractions (k,): share of the planned data seen at each look, rising, in (0, 1]. alpha is spent as in a two-sided
    O'Brien-Fleming test: 4 (1 - Phi(z(alpha / 4) / sqrt(fraction))) up to each look.
    Sources: Lan, DeMets (1983), "Discrete Sequential Boundaries for Clinical Trials"; the integral from look to look as
    in Jennison, Turnbull (2000), "Group Sequential Methods", chapter 19.
    Raises ValueError for fractions that do not rise within (0, 1].
    """
    t = np.asarray(fractions, float)
    if t.ndim != 1 or len(t) == 0 or not (np.diff(t, prepend=0) > 0).all() or t[-1] > 1 + 1e-9:
        raise ValueError(f"fractions: expected shares of the planned data that rise within (0, 1], found {fractions}")
    each_side = 2 * stats.norm.sf(stats.norm.isf(alpha / 4) / np.sqrt(t))
    to_spend = np.diff(each_side, prepend=0)
    bounds = [min(stats.norm.isf(to_spend[0]), 40)]  # a first look so early that there is nothing to spend
    # s = z sqrt(t) is a random walk with variance t. `density` is that of the walks no bound has stopped, at Gauss-Legendre `nodes`.
    roots, weights = np.polynomial.legendre.leggauss(401)
    nodes, density = None, None
    for k in range(1, len(t)):
        step, edge = np.sqrt(t[k] - t[k - 1]), bounds[-1] * np.sqrt(t[k - 1])
        inside = edge * roots
        if nodes is None:
            arriving = stats.norm.pdf(inside, scale=np.sqrt(t[0]))
        else:
            arriving = stats.norm.pdf(inside[:, None], nodes, np.sqrt(t[k - 1] - t[k - 2])) @ density
        nodes, density = inside, arriving * weights * edge

        def overspent(s, nodes=nodes, density=density, step=step, k=k):
            return stats.norm.sf(s, nodes, step) @ density - to_spend[k]

        bounds.append(optimize.brentq(overspent, 0, 40 * np.sqrt(t[k])) / np.sqrt(t[k]))
    return np.array(bounds)


def mixture_bounds(se: np.ndarray, effect: float, alpha: float = ALPHA) -> np.ndarray:
    """What |z| must exceed at looks with standard errors `se`, at any of however many, with probability alpha. Shape of se.

    The normal mixture with scale `effect`, fixed beforehand, in the unit of the estimate. It is tightest, 3.0, where `effect` is three
    standard errors: name the smallest effect that matters.
    Sources: Robbins (1970), "Statistical Methods Related to the Law of the Iterated Logarithm"; for estimated standard
    errors Waudby-Smith, Arbour, Sinha, Kennedy, Ramdas (2024), "Time-uniform Central Limit Theory and Asymptotic
    Confidence Sequences", Annals of Statistics 52(6), theorem 2.2.
    """
    if not effect > 0:
        raise ValueError(f"effect: expected the smallest effect that matters, above 0, in the unit of the estimates; found {effect}")
    r = (effect / np.asarray(se, float)) ** 2
    return np.sqrt((1 + 1 / r) * (np.log1p(r) - 2 * np.log(alpha)))


def _widened(looks: pd.Series, bounds: np.ndarray) -> pd.Series:
    wide = [Estimate.from_se(look.value, _se(look) * bound) for look, bound in zip(looks, bounds / Z, strict=True)]
    return pd.Series(wide, looks.index, name=looks.name)


def _se(look: Estimate) -> float:
    return (look.high - look.low) / (2 * Z)


def _standard_errors(looks: pd.Series) -> np.ndarray:
    se = np.array([_se(look) for look in looks])
    if not (se > 0).all():
        raise ValueError(f"looks: expected Estimates with an interval, found {int((se == 0).sum())} that are exact")
    return se


def group_sequential(looks: pd.Series, planned: int) -> pd.Series:
    """The looks with intervals that hold at all of them together, in a test of `planned` looks. Index of `looks`.

    looks: Estimates on all data so far, one a day, in order; fewer than planned while the test runs. `planned` is fixed
    before the first. Stop at the first interval that excludes zero, or at the last look.
    Days count as shares of the planned data. Where users return, the first days bring more than that, and the looks are
    wrong less often than promised; where traffic grows, more often: then pass the shares to `spending_bounds`.
    Raises ValueError for more looks than planned, or a look without an interval.
    """
    if not 0 < len(looks) <= planned:
        raise ValueError(f"looks: expected 1 to {planned}, as planned, found {len(looks)}; a test that is prolonged needs `always_valid`")
    _standard_errors(looks)
    return _widened(looks, spending_bounds(np.arange(1, len(looks) + 1) / planned))


def always_valid(looks: pd.Series, effect: float) -> pd.Series:
    """The looks with intervals that hold at all of them together, however many there will be. Index of `looks`.

    looks: Estimates on all data so far. effect: the smallest that matters, in their unit, fixed before the first look.
    Raises ValueError for an effect that is not above 0, or a look without an interval.
    """
    return _widened(looks, mixture_bounds(_standard_errors(looks), effect))
