"""The experiment platform: A/B tests in a world, and two policies compared from their logs.

All intervals take users as what was sampled. `mlsd.sequential` has those that may be looked at every day.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass, replace

import numpy as np
import pandas as pd
from scipy import stats

from mlsd.estimates import Estimate, Z
from mlsd.worlds.base import OnlineMetric, Policy, World, scores_of


def in_treatment(user_id: np.ndarray, share: float, name: str) -> np.ndarray:
    """Assign users to treatment by hash: same user and name of the experiment, same arm, in any process. Bool, shape (n,).

    Splits of different names are independent. Under one name they are nested: who is treated at 5% is treated at 50%.
    Source: Kohavi, Tang, Xu (2020), "Trustworthy Online Controlled Experiments", section 4 (a hash of experiment and user);
    the finaliser of splitmix64 (Steele, Lea, Flood 2014) spreads neighbouring ids evenly.
    """
    salt = int.from_bytes(hashlib.blake2b(name.encode(), digest_size=8).digest())
    x = np.asarray(user_id).astype(np.uint64) + np.uint64(salt)
    x = (x ^ (x >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    x = (x ^ (x >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    x ^= x >> np.uint64(31)
    return (x >> np.uint64(11)) / 2**53 < share


class SplitPolicy:
    """Serves `control` to some users and `treatment` to the others, in one shared product.

    Both arms learn from the whole log, as they do in most companies: treatment's data trains control.
    """

    def __init__(self, control: Policy, treatment: Policy, share: float, name: str):
        self.control, self.treatment, self.share, self.name = control, treatment, share, name

    def __call__(self, candidates: pd.DataFrame) -> np.ndarray:
        treated = in_treatment(candidates.user_id, self.share, self.name)
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
    """The logs of two policies and what they say. `paired`: both served the same users.

    Whatever gives an interval raises ValueError if an arm has fewer than two users.

    Every interval speaks of users: of what as many others would have done on the same days, with the same items
    and the same two policies. It does not cover another season, a second training of the model, or another world.
    """

    log_control: pd.DataFrame
    log_treatment: pd.DataFrame
    metrics: dict[str, OnlineMetric]
    share: float
    paired: bool

    def _compare(self, name: str, relative: bool) -> tuple[float, float]:
        arms = [_by_user(log, self.metrics[name]) for log in (self.log_control, self.log_treatment)]
        if min(map(len, arms)) < 2:
            found = f"{len(arms[0])} in control, {len(arms[1])} in treatment"
            raise ValueError(f"an interval needs two or more users in each arm, found {found}")
        (control, of_control), (treatment, of_treatment) = map(_influence, arms)
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

    def lift_by_day(self, name: str) -> pd.Series:
        """The lift on all data up to each day, as somebody sees it who looks every evening. Index: day; values: Estimate.

        Each interval holds on a day named beforehand, not on the first day on which it looks good: for that, pass the
        Series to `sequential.group_sequential` or `sequential.always_valid`.
        """
        control, treatment = self.log_control, self.log_treatment
        until = {
            day: replace(self, log_control=control[control.day <= day], log_treatment=treatment[treatment.day <= day]).lift(name)
            for day in np.union1d(control.day, treatment.day)
        }
        return pd.Series(until, name=name).rename_axis("day")

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
    world: World, control: Policy, treatment: Policy, days: int, *, name: str, share: float = 0.5, start: int | None = None
) -> Experiment:
    """Split users by hash and serve both policies for `days` days in one product.

    name: of the experiment; it decides who is in treatment. Two experiments at one time need two names: then of each
    one's users the same share is in the other's treatment, in both arms, so that the other shifts both alike. A canary
    that grows into its own A/B test keeps its name, so that nobody who was treated changes back.

    The arms share budgets, capacities and the training log, so interference between them is as real
    as in production. Raises ValueError unless 0 < share < 1, or without a name.
    """
    if not 0 < share < 1:
        raise ValueError(f"share: expected a number between 0 and 1, found {share}")
    if not name:
        raise ValueError("name: expected a name of its own for the experiment, found none; it decides how users are split")
    log = world.deploy(SplitPolicy(control, treatment, share, name), days, start)
    treated = in_treatment(log.user_id, share, name)
    return Experiment(log[~treated], log[treated], world.metrics, share, paired=False)


def paired(world: World, control: pd.DataFrame, treatment: pd.DataFrame) -> Experiment:
    """Compare two deployed logs of one world: the same users met both policies, in two copies of the same days.

    control, treatment: what `world.deploy` returned, or outcomes in expectation in the same columns. Each user is
    compared with themselves, so intervals are far narrower than an A/B test's; they speak of users alone (see Experiment).
    Raises ValueError for logs of different days, or without a user in common.
    """
    days = [sorted(log.day.unique()) if "day" in log else None for log in (control, treatment)]
    if None not in days and days[0] != days[1]:
        found = " and ".join(f"{len(d)} days from {d[0]} to {d[-1]}" for d in days)
        raise ValueError(f"expected two logs of the same days, found {found}; deploy both from the same `start`, for as many days")
    if not control.user_id.isin(treatment.user_id).any():
        raise ValueError("expected two logs of the same users, found none in common; for the arms of a split build an Experiment")
    return Experiment(control, treatment, world.metrics, share=0.5, paired=True)


def both_worlds(world: World, control: Policy, treatment: Policy, days: int, start: int | None = None) -> Experiment:
    """Serve each policy to all users, in two copies of the world that meet the same requests, and compare them, `paired`.

    No company can run this. It tells what launching would do, without interference.
    """
    return paired(world, world.deploy(control, days, start), world.deploy(treatment, days, start))
