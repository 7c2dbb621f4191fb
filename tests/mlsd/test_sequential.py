"""Looking every day: false alarms as often as promised, measured; what naive looking costs; what the cures cost in power.

Simulated is the case that chapters have: users with levels of their own, seen on many days, two arms, an estimate on
all data so far each evening.
"""

import numpy as np
import pandas as pd
import pytest
from scipy import stats

from mlsd.estimates import Estimate, Z, mean
from mlsd.sequential import always_valid, group_sequential, mixture_bounds, spending_bounds

DAYS, RUNS = 14, 4000


def evenings(effect, days=DAYS, runs=RUNS, n_users=120, level=0.5, seed=0):
    """Difference of two arms and its standard error on all data so far, shapes (runs, days), the effect in its last standard errors.

    A user's day is their own level plus noise of standard deviation 1, skewed, as counts are.
    """
    rng = np.random.default_rng(seed)
    difference, variance = np.zeros((runs, days)), np.zeros((runs, days))
    for arm in (0, 1):
        sums = np.zeros((runs, n_users))
        own = rng.normal(0, level, (runs, n_users))
        for day in range(days):
            sums += own + rng.exponential(1, (runs, n_users)) - 1
            by_user = sums / (day + 1)
            difference[:, day] += (2 * arm - 1) * by_user.mean(axis=1)
            variance[:, day] += by_user.var(axis=1, ddof=1) / n_users
    se = np.sqrt(variance)
    return difference + effect * np.sqrt(2 * (level**2 + 1 / days) / n_users), se


def found(z, bounds):
    """Share of runs in which any look exceeds its bound."""
    return (np.abs(z) > bounds).any(axis=1).mean()


def margin(rate, runs=RUNS):
    return 3 * np.sqrt(rate * (1 - rate) / runs)


@pytest.fixture(scope="module")
def quiet():
    return evenings(effect=0)


def test_bounds_are_the_published_ones():
    # O'Brien-Fleming-like spending, two-sided 5%, five looks: R's ldbounds, gsDesign and the tables of Reboussin et al. (2000)
    assert spending_bounds(np.arange(1, 6) / 5) == pytest.approx([4.8769, 3.3569, 2.6803, 2.2898, 2.0310], abs=2e-4)
    assert spending_bounds([1.0]) == pytest.approx([Z])


@pytest.mark.parametrize("fractions", [np.arange(1, 31) / 30, [0.1, 0.12, 0.5, 0.51, 1.0], [1 / 365, 2 / 365, 0.25, 0.5, 1.0]])
def test_bounds_spend_alpha_on_a_random_walk(fractions):
    steps = np.sqrt(np.diff(fractions, prepend=0))
    walk = np.cumsum(np.random.default_rng(1).normal(size=(40_000, len(steps))) * steps, axis=1)
    assert abs(found(walk / np.sqrt(fractions), spending_bounds(fractions)) - 0.05) < margin(0.05, 40_000)


def test_naive_peeking_is_wrong_far_more_often_than_it_says(quiet):
    z = quiet[0] / quiet[1]
    assert abs((np.abs(z[:, -1]) > Z).mean() - 0.05) < margin(0.05) + 0.005  # one look: as promised
    independent_days, se = evenings(effect=0, level=0.0)
    assert found(independent_days / se, Z) > 0.2  # a look every evening of two weeks


@pytest.mark.parametrize("level", [0.0, 0.5, 2.0])
def test_daily_looks_are_wrong_at_most_as_often_as_promised(level):
    value, se = evenings(effect=0, level=level)
    assert found(value / se, spending_bounds(np.arange(1, DAYS + 1) / DAYS)) < 0.05 + margin(0.05)
    assert found(value / se, mixture_bounds(se, effect=3 * se[:, -1].mean())) < 0.05 + margin(0.05)


def test_always_valid_holds_long_after_the_plan():
    value, se = evenings(effect=0, days=200, runs=1500, n_users=60, level=0.0, seed=2)
    assert found(value / se, Z) > 0.35
    assert found(value / se, mixture_bounds(se, effect=3 * se[:, 13].mean())) < 0.05 + margin(0.05, 1500)


def test_what_looking_costs_in_power(quiet):
    value, se = evenings(effect=Z + stats.norm.ppf(0.8), level=0.0, seed=3)
    z = value / se
    once = (np.abs(z[:, -1]) > Z).mean()
    spent, valid = found(z, spending_bounds(np.arange(1, DAYS + 1) / DAYS)), found(z, mixture_bounds(se, effect=3 * se[:, -1].mean()))
    assert abs(once - 0.8) < 0.03
    assert once - 0.06 < spent and 0.45 < valid < spent
    large = evenings(effect=2 * (Z + stats.norm.ppf(0.8)), level=0.0, seed=4)
    crossed = np.abs(large[0] / large[1]) > spending_bounds(np.arange(1, DAYS + 1) / DAYS)
    assert crossed.any(axis=1).mean() > 0.99 and np.median(crossed.argmax(axis=1) + 1) < 0.7 * DAYS  # and it ends early


def test_looks_are_widened_to_the_bounds():
    looks = pd.Series([Estimate.from_se(0.1, 0.05), Estimate.from_se(0.12, 0.04)], index=[28, 29], name="lift")
    at_first, at_second = group_sequential(looks, planned=5)
    assert at_first.value == 0.1 and at_first.high - 0.1 == pytest.approx(0.05 * 4.8769, abs=1e-4)
    assert at_second.high - 0.12 == pytest.approx(0.04 * 3.3569, abs=1e-4)
    valid = always_valid(looks, effect=0.12)
    assert valid.index.tolist() == [28, 29] and valid.name == "lift"
    assert valid[29].high - 0.12 == pytest.approx(0.04 * mixture_bounds(0.04, 0.12))


def test_bounds_are_tightest_where_the_effect_is_three_standard_errors():
    se = 1 / np.linspace(0.5, 20, 200)
    assert 1 / se[mixture_bounds(se, 1.0).argmin()] == pytest.approx(2.9, abs=0.2)
    assert 3.0 < mixture_bounds(1 / 2.9, 1.0) < 3.1


def test_a_gate_that_looks_every_day_takes_means_by_user():
    rng = np.random.default_rng(5)
    rows = pd.DataFrame(dict(day=np.repeat(np.arange(6), 500), user_id=rng.integers(0, 200, 3000)))
    rows["saved"] = 0.05 + rng.normal(0, 0.3, 3000)
    looks = pd.Series({day: mean(*rows.loc[rows.day <= day, ["saved", "user_id"]].to_numpy().T) for day in range(6)})
    assert (always_valid(looks, effect=0.02).iloc[-1].low > 0) and group_sequential(looks, planned=6).iloc[-1].low > 0


LOOKS = pd.Series([Estimate(0.1, 0.0, 0.2)] * 3)


@pytest.mark.parametrize(
    "call, message",
    [
        (lambda: spending_bounds([0.5, 0.4]), "rise within"),
        (lambda: spending_bounds([0.5, 1.1]), "rise within"),
        (lambda: spending_bounds([]), "rise within"),
        (lambda: group_sequential(LOOKS, planned=2), "expected 1 to 2, as planned, found 3; a test that is prolonged needs `always_valid`"),
        (lambda: always_valid(LOOKS, effect=0), "effect: expected the smallest effect that matters, above 0"),
        (lambda: always_valid(pd.Series([Estimate.exact(1)]), effect=1), "found 1 that are exact"),
        (lambda: group_sequential(pd.Series([Estimate.exact(1)]), planned=2), "found 1 that are exact"),
    ],
)
def test_bad_input_gives_clear_errors(call, message):
    with pytest.raises(ValueError, match=message):
        call()
