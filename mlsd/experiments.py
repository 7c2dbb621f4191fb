"""The experiment platform: A/B tests in a world, and off-policy estimates from a log."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pandas as pd
from scipy import stats

from mlsd.estimates import Estimate, Z, mean, ratio
from mlsd.worlds.base import OnlineMetric, Policy, World, scores_of


def in_treatment(user_id: np.ndarray, share: float, seed: int) -> np.ndarray:
    """Assign users to treatment by hash: same user and seed, same arm, in any process. Returns bool, shape (n,).

    Source: the finaliser of splitmix64 (Steele, Lea, Flood 2014), which spreads neighbouring ids evenly.
    """
    x = np.asarray(user_id).astype(np.uint64) + np.uint64((seed + 1) * 0x9E3779B97F4A7C15 % 2**64)
    x = (x ^ (x >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    x = (x ^ (x >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    x ^= x >> np.uint64(31)
    return (x >> np.uint64(11)) / 2**53 < share


class SplitPolicy:
    """Serves `control` to some users and `treatment` to the others, in one shared product.

    Both arms learn from the whole log, as they do in most companies: treatment's data trains control.
    """

    def __init__(self, control: Policy, treatment: Policy, share: float, seed: int):
        self.control, self.treatment, self.share, self.seed = control, treatment, share, seed

    def __call__(self, candidates: pd.DataFrame) -> np.ndarray:
        treated = in_treatment(candidates.user_id, self.share, self.seed)
        scores = np.empty(len(candidates))
        for policy, rows in ((self.control, ~treated), (self.treatment, treated)):
            if rows.any():
                scores[rows] = scores_of(policy, candidates[rows])
        return scores

    def learn(self, log: pd.DataFrame) -> None:
        for policy in (self.control, self.treatment):
            if hasattr(policy, "learn"):
                policy.learn(log)


def _by_user(log: pd.DataFrame, metric: OnlineMetric) -> pd.DataFrame:
    """Columns top and bottom: each user's contribution to the metric's numerator and denominator."""
    users = log.groupby("user_id")
    bottoms = dict(impression=users.size, request=lambda: users.request_id.nunique(), user=lambda: users.size().clip(upper=1))
    return pd.DataFrame(dict(top=users[metric.column].sum() * metric.scale, bottom=bottoms[metric.per]()))


def _influence(users: pd.DataFrame) -> tuple[float, pd.Series]:
    """The metric's value and each user's influence on it (delta method); the variance is the sum of squares."""
    value = users.top.sum() / users.bottom.sum()
    return value, (users.top - value * users.bottom) / users.bottom.sum()


@dataclass(frozen=True)
class Experiment:
    """The logs of two policies and what they say. `paired`: both served the same users."""

    log_control: pd.DataFrame
    log_treatment: pd.DataFrame
    metrics: dict[str, OnlineMetric]
    share: float
    paired: bool

    def _compare(self, name: str, relative: bool) -> tuple[float, float]:
        metric = self.metrics[name]
        control, of_control = _influence(_by_user(self.log_control, metric))
        treatment, of_treatment = _influence(_by_user(self.log_treatment, metric))
        if relative and control == 0:
            raise ValueError(f"no lift of {name!r}: it is zero in control; use .difference({name!r})")
        value = treatment / control - 1 if relative else treatment - control
        if relative:
            of_treatment, of_control = of_treatment / control, of_control * treatment / control**2
        if self.paired:
            per_user = of_treatment.sub(of_control, fill_value=0)
            n = len(per_user)
            return value, float(np.sqrt(n / (n - 1) * (per_user**2).sum()))
        variances = [len(i) / (len(i) - 1) * (i**2).sum() for i in (of_control, of_treatment)]
        return value, float(np.sqrt(sum(variances)))

    def lift(self, name: str) -> Estimate:
        """Relative change of a metric, treatment / control - 1. User-level delta method (Deng et al. 2018)."""
        return Estimate.from_se(*self._compare(name, relative=True))

    def difference(self, name: str) -> Estimate:
        """Absolute change of a metric, treatment - control."""
        return Estimate.from_se(*self._compare(name, relative=False))

    def minimum_detectable_lift(self, name: str, power: float = 0.8) -> float:
        """The relative change that a test of this size finds with the given power, two-sided at 5%."""
        return float((Z + stats.norm.ppf(power)) * self._compare(name, relative=True)[1])

    @property
    def sample_ratio_p(self) -> float:
        """p-value of the split of users; below 0.001 the experiment is broken and its results mean nothing."""
        if self.paired:
            return 1.0
        n_treated, n_control = self.log_treatment.user_id.nunique(), self.log_control.user_id.nunique()
        return float(stats.binomtest(n_treated, n_treated + n_control, self.share).pvalue)

    def table(self, names: list[str] | None = None) -> pd.DataFrame:
        """One row a metric: control, treatment, lift in percent with its interval, and what the interval says."""
        rows = {}
        for name in names or list(self.metrics):
            values = [_influence(_by_user(log, self.metrics[name]))[0] for log in (self.log_control, self.log_treatment)]
            lift = self.lift(name)
            better = lift.low > 0 if self.metrics[name].higher_is_better else lift.high < 0
            worse = lift.high < 0 if self.metrics[name].higher_is_better else lift.low > 0
            rows[name] = dict(
                control=round(values[0], 4),
                treatment=round(values[1], 4),
                lift=f"{100 * lift.value:+.1f}% [{100 * lift.low:+.1f}, {100 * lift.high:+.1f}]",
                verdict="better" if better else "worse" if worse else "no difference seen",
            )
        return pd.DataFrame.from_dict(rows, orient="index").rename_axis("metric")


def ab_test(
    world: World, control: Policy, treatment: Policy, days: int, share: float = 0.5, start: int | None = None, seed: int = 0
) -> Experiment:
    """Split users by hash and serve both policies for `days` days in one product.

    The arms share budgets, capacities and the training log, so interference between them is as real
    as in production. Raises ValueError unless 0 < share < 1.
    """
    if not 0 < share < 1:
        raise ValueError(f"share: expected a number between 0 and 1, found {share}")
    log = world.deploy(SplitPolicy(control, treatment, share, seed), days, start)
    treated = in_treatment(log.user_id, share, seed)
    return Experiment(log[~treated], log[treated], world.metrics, share, paired=False)


def both_worlds(world: World, control: Policy, treatment: Policy, days: int, start: int | None = None) -> Experiment:
    """Serve each policy to all users, in two copies of the world that meet the same requests.

    No company can run this. It tells what launching would do, without interference, and with far
    narrower intervals, because each user is compared with themselves.
    """
    return Experiment(world.deploy(control, days, start), world.deploy(treatment, days, start), world.metrics, 0.5, paired=True)


# ---------- off-policy: the value of one policy from another's log ----------


def _weights(target: np.ndarray, logged: np.ndarray) -> np.ndarray:
    target, logged = np.asarray(target, float), np.asarray(logged, float)
    if not (logged > 0).all():
        raise ValueError(
            f"logged: expected propensities above 0, found {int((~(logged > 0)).sum())} that are not; what was never shown cannot be valued"
        )
    return target / logged


def ips(reward: np.ndarray, target: np.ndarray, logged: np.ndarray, groups: np.ndarray | None = None) -> Estimate:
    """Inverse propensity scoring: mean of reward x target / logged. Unbiased; variance grows with the weights.

    reward (n,): outcome; target (n,): probability that the new policy takes the logged action;
    logged (n,): probability with which it was taken. Source: Horvitz and Thompson (1952).
    """
    return mean(_weights(target, logged) * reward, groups)


def snips(reward: np.ndarray, target: np.ndarray, logged: np.ndarray, groups: np.ndarray | None = None) -> Estimate:
    """Self-normalised IPS: weights divided by their sum. Slightly biased, and never outside the range of the rewards.

    Source: Swaminathan and Joachims (2015), "The Self-Normalized Estimator for Counterfactual Learning".
    """
    weights = _weights(target, logged)
    return ratio(weights * reward, weights, groups)


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
    return mean(np.asarray(q_target) + _weights(target, logged) * (np.asarray(reward) - q_logged), groups)


def effective_sample_size(target: np.ndarray, logged: np.ndarray) -> float:
    """How many rows of the target policy's own log the weighted log is worth: (sum w)^2 / sum w^2 (Kish 1965)."""
    weights = _weights(target, logged)
    return float(weights.sum() ** 2 / (weights**2).sum())
