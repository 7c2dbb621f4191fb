"""The protocol of worlds as checks: each runs over every world, so a new world is held to it without a test of its own.

    make = small(AdWorld)
    for check in CHECKS:
        check(make)

`make(seed=3, **changes)` builds the world at the small size that it declares, with changes of its rules;
what the incumbent has served in one is not served again in the next like it, unless `fresh=True`.
A check raises AssertionError. The idea is river's `checks.yield_checks`: one set of checks for every estimator.
"""

from __future__ import annotations

import dataclasses
from collections import defaultdict
from collections.abc import Callable
from io import BytesIO
from typing import Any

import numpy as np
import pandas as pd
from scipy import stats

from mlsd.worlds.base import START, Policy, PolicyError, WorldError
from mlsd.worlds.engine import SHOWN, SimulatedWorld

Make = Callable[..., SimulatedWorld]

FIRST = ("request_id", "time", "day", "user_id", "item_id")  # every table of candidates begins so


def small(world: type[SimulatedWorld]) -> Make:
    """A `make` for a world: see the module."""

    pasts: defaultdict[tuple, list[pd.DataFrame]] = defaultdict(list)

    def make(seed: int = 3, fresh: bool = False, **changes: Any) -> SimulatedWorld:
        made = world(dataclasses.replace(world.RULES(), **(world.SMALL | changes)), seed)
        if not fresh:
            made.adopt(pasts[seed, *changes.items()])
        return made

    return make


def at_random(candidates: pd.DataFrame) -> np.ndarray:
    """A policy that knows nothing: positive scores, the same for the same number of candidates."""
    return np.random.default_rng(len(candidates)).uniform(0.5, 1.0, len(candidates))


class Spy:
    """A policy that keeps all that it was shown and given to learn from, and scores at random."""

    def __init__(self) -> None:
        self.seen: list[pd.DataFrame] = []
        self.learnt: list[pd.DataFrame] = []

    def learn(self, log: pd.DataFrame) -> None:
        self.learnt.append(log)

    def __call__(self, candidates: pd.DataFrame) -> np.ndarray:
        self.seen.append(candidates)
        return at_random(candidates)


def _refused(error: type[Exception], words: str, action: Callable[[], object]) -> None:
    try:
        action()
    except error as refusal:
        assert words in str(refusal), f"expected a message with {words!r}, found {str(refusal)!r}"
    else:
        raise AssertionError(f"expected {error.__name__} with {words!r}, found that nothing was refused")


# ---------- same bytes ----------


def same_seed_same_bytes_and_another_seed_another_log(make: Make) -> None:
    """However the days are asked for."""
    one, other = make(fresh=True), make(fresh=True)
    shorter = one.log(1)
    longer = one.log(2)
    pd.testing.assert_frame_equal(longer[longer.day < 1], shorter)
    pd.testing.assert_frame_equal(longer, other.log(2))
    assert not shorter.equals(make(seed=4).log(1))


def deploying_the_incumbent_reproduces_the_log(make: Make) -> None:
    world = make()
    log = world.log(4)
    pd.testing.assert_frame_equal(world.deploy(world.incumbent, days=2, start=2), log[log.day >= 2].reset_index(drop=True))
    pd.testing.assert_frame_equal(world.deploy(world.incumbent, days=1, start=0), log[log.day < 1])


def an_adopted_past_is_the_simulated_one(make: Make) -> None:
    """Read from a file instead of served, also where not all that happened was recorded: what follows is the same."""
    world, days = make(), 10
    file = BytesIO()
    world.log(days).to_parquet(file, index=False)
    adopted = make(fresh=True)
    adopted._serve_day = _must_not_serve
    adopted.adopt([], read=lambda: pd.read_parquet(file))
    pd.testing.assert_frame_equal(adopted.log(days), world.log(days))
    del adopted._serve_day
    pd.testing.assert_frame_equal(adopted.deploy(at_random, 1, start=days), world.deploy(at_random, 1, start=days))
    pd.testing.assert_frame_equal(adopted.log(days + 1), world.log(days + 1))


def _must_not_serve(policy: Policy, day: int, state: Any) -> pd.DataFrame:
    raise AssertionError(f"expected that the adopted past is not served again, found that day {day} was")


# ---------- the log ----------


def the_log_is_one_row_an_item_shown(make: Make) -> None:
    world = make()
    log = world.log(3)
    assert tuple(log.columns[: len(FIRST + SHOWN)]) == FIRST + SHOWN, list(log.columns)
    times = ["time", *(column for column in log if column.endswith("_at"))]
    assert set(world.KNOWN_LATER) <= set(times)
    types = dict.fromkeys(times, "datetime64[us]") | dict(day="int32", position="int16", propensity="float64", randomised="bool")
    assert log.dtypes[list(types)].astype(str).to_dict() == types
    assert not log.drop(columns=[*world.AFTERWARDS]).isna().any().any()
    assert (log.time.dt.normalize() == world.start + pd.to_timedelta(log.day, unit="D")).all()
    assert log.day.is_monotonic_increasing and sorted(set(log.day)) == [0, 1, 2]
    assert not log.duplicated(["request_id", "item_id"]).any()
    assert (log.position == log.groupby("request_id").cumcount() + 1).all()
    assert log.groupby("request_id")[["time", "user_id"]].nunique().eq(1).all().all()


def what_is_shown_exists(make: Make) -> None:
    world = make()
    log = world.deploy(at_random, days=1, start=9)
    item = world.items.set_index("item_id").loc[log.item_id]
    assert (item.created_at.to_numpy() <= log.time.to_numpy()).all()
    if "expires_at" in item:
        assert (item.expires_at.to_numpy() > log.time.to_numpy()).all()
    assert log.user_id.isin(world.users.user_id).all()


def propensities_say_how_much_was_chance(make: Make) -> None:
    world = make()
    log = world.log(6)
    share, requests = world.rules.exploration, log.request_id.nunique()
    assert log.propensity.between(0, 1, inclusive="right").all()
    assert log.randomised[log.propensity < 0.5].all()
    assert abs(log.groupby("request_id").randomised.mean().mean() - share) < 4 * np.sqrt(share * (1 - share) / requests)
    never, always = make(exploration=0.0).log(1), make(exploration=1.0).log(1)
    assert not never.randomised.any() and (never.propensity == 1).all()
    assert always.randomised.all() and (always.propensity < 0.5).all()


# ---------- truth ----------


def truth_is_calibrated(make: Make) -> None:
    """In total, by what decided the row, and by decile, under the incumbent and under the policy that seeks the extremes."""
    world = make()
    for log in (world.log(8), world.deploy(world.oracle, days=4, start=4)):
        for outcome in world.OUTCOMES:
            y, p = log[outcome].to_numpy(), world.truth(log, outcome)
            assert p.shape == (len(log),) and p.dtype == np.float64 and ((p >= 0) & (p <= 1)).all()
            for rows in (slice(None), log.position == 1, log.position > 1, log.randomised):
                off = (y[rows] - p[rows]).sum() / np.sqrt((p[rows] * (1 - p[rows])).sum())
                assert abs(off) < 4, f"{outcome}: expected {p[rows].sum():.1f}, found {y[rows].sum()}, {off:.1f} standard deviations off"
            decile = np.argsort(np.argsort(p, kind="stable"), kind="stable") * 10 // len(p)
            expected, spread = np.bincount(decile, p), np.bincount(decile, p * (1 - p))
            z = (np.bincount(decile, y) - expected) / np.sqrt(spread)
            assert stats.chi2.sf((z[expected > 3] ** 2).sum(), max((expected > 3).sum(), 1)) > 1e-4, f"{outcome} by decile: {z.round(1)}"


def truth_refuses_other_outcomes_and_needs_no_position(make: Make) -> None:
    world = make()
    log = world.log(1)
    _refused(WorldError, f"outcome: expected one of {world.OUTCOMES[0]!r}", lambda: world.truth(log, "fame"))
    on_top = world.truth(log.assign(position=1))
    np.testing.assert_allclose(world.truth(log.drop(columns=list(SHOWN))), on_top)
    assert (world.truth(log) <= on_top + 1e-12).all()


def a_policy_sees_no_truth(make: Make) -> None:
    """The columns of the log but what was decided and what came of it; and the raw tables hold what their docstring says."""
    world, spy = make(), Spy()
    log = world.deploy(spy, days=1, start=2)
    seen = [column for column in log if column not in SHOWN + world.AFTERWARDS]
    assert all(list(candidates.columns) == seen for candidates in spy.seen), (list(spy.seen[0].columns), seen)
    for name in ("users", "items"):
        undocumented = [column for column in getattr(world, name) if column not in (type(world).__doc__ or "")]
        assert not undocumented, f"world.{name}: {undocumented} not in the docstring of {type(world).__name__}"


# ---------- learning ----------


def a_policy_learns_each_morning_from_what_is_known(make: Make) -> None:
    world, spy = make(), Spy()
    so_far = pd.concat([world.log(3), world.deploy(spy, days=2, start=3)], ignore_index=True)
    for day, learnt in zip((3, 4), spy.learnt, strict=True):
        pd.testing.assert_frame_equal(learnt, world.as_known(so_far, day))
        assert learnt.day.max() == day - 1 and len(learnt) == (so_far.day < day).sum()
        for known_at, outcomes in world.KNOWN_LATER.items():
            final, morning = so_far[so_far.day < day], START + pd.Timedelta(day, "D")
            assert not (learnt[known_at] > morning).any() and (final[known_at] > morning).any()
            for outcome in outcomes:
                known = final[outcome].where(final[known_at] <= morning)
                np.testing.assert_array_equal(learnt[outcome], known)
    for column in so_far.columns.difference([c for at, outcomes in world.KNOWN_LATER.items() for c in (at, *outcomes)]):
        assert learnt[column].notna().equals(so_far[column][so_far.day < day].notna())


def the_first_morning_has_columns_and_no_rows(make: Make) -> None:
    world, spy = make(), Spy()
    log = world.deploy(spy, days=2, start=0)
    first, second = spy.learnt
    assert len(first) == 0 and first.dtypes.equals(log.dtypes)
    assert sorted(set(second.day)) == [0] and second.dtypes.equals(log.dtypes)


# ---------- refusals ----------


def bad_days_and_starts_are_refused_before_anything_is_served(make: Make) -> None:
    world = make()
    world._serve_day = _must_not_serve
    horizon = world.rules.horizon_days
    for days in (0, -1, 1.5, True, "7", None, horizon + 1, 10**4):
        for action in (world.log, lambda days: world.deploy(at_random, days), lambda days: world.deploy(at_random, days, start=1)):
            _refused(WorldError, f"days: expected a whole number from 1 to {horizon} ", lambda: action(days))  # noqa: B023
    for start in (-1, horizon - 2, 0.5, True, "0", 10**4):
        _refused(WorldError, f"start: expected 0 to {horizon - 3} for 3 days, found {start!r}", lambda: world.deploy(at_random, 3, start))  # noqa: B023


def a_policy_that_cannot_rank_is_refused(make: Make) -> None:
    world = make()
    for scores, words in (
        (lambda candidates: np.full(len(candidates), np.nan), "NaN or infinite"),
        (lambda candidates: np.where(np.arange(len(candidates)) == 0, np.inf, 1.0), "1 of"),
        (lambda candidates: np.ones(3), "expected one score a row"),
        (lambda candidates: np.ones((len(candidates), 2)), "expected one score a row"),
        (lambda candidates: 1.0, "expected one score a row"),
    ):
        _refused(PolicyError, words, lambda: world.deploy(scores, days=1, start=1))  # noqa: B023


# ---------- rules ----------


def every_effect_is_documented_and_can_be_switched_off(make: Make) -> None:
    world = make()
    rows = world.log(1).head(100)
    for name, field in world.RULES.effects().items():
        assert field.metadata["mechanism"].endswith(".") and field.metadata["unit"], f"{name}: needs a sentence and a unit"
        assert field.metadata["off"] != field.default, f"{name}: is off by default"
        off = world.without(name)
        assert getattr(off.rules, name) == field.metadata["off"] and off.seed == world.seed
        assert np.isfinite(off.truth(rows)).all()
    assert world.rules.table().index.tolist() == list(world.RULES.effects())


def siblings_differ_in_what_was_asked_for(make: Make) -> None:
    world = make()
    other = world.with_rules(horizon_days=13)
    assert type(other) is type(world) and other.seed == world.seed
    assert other.rules == dataclasses.replace(world.rules, horizon_days=13)
    assert world.with_rules().rules == world.rules == world.without().rules
    _refused(WorldError, "no rule 'gravity'", lambda: world.with_rules(gravity=1))
    _refused(WorldError, "no planted effect 'gravity'", lambda: world.without("gravity"))


def another_incumbent_serves_from_the_end_of_the_past_on(make: Make) -> None:
    world, other = make(), make()  # of one past
    before = other.log(3)
    world.incumbent = at_random
    days = len(world._past)
    log = world.log(days + 1)
    pd.testing.assert_frame_equal(log[log.day < 3], before)
    assert not log.equals(other.log(days + 1))


CHECKS = (
    same_seed_same_bytes_and_another_seed_another_log,
    deploying_the_incumbent_reproduces_the_log,
    an_adopted_past_is_the_simulated_one,
    the_log_is_one_row_an_item_shown,
    what_is_shown_exists,
    propensities_say_how_much_was_chance,
    truth_is_calibrated,
    truth_refuses_other_outcomes_and_needs_no_position,
    a_policy_sees_no_truth,
    a_policy_learns_each_morning_from_what_is_known,
    the_first_morning_has_columns_and_no_rows,
    bad_days_and_starts_are_refused_before_anything_is_served,
    a_policy_that_cannot_rank_is_refused,
    every_effect_is_documented_and_can_be_switched_off,
    siblings_differ_in_what_was_asked_for,
    another_incumbent_serves_from_the_end_of_the_past_on,
)
