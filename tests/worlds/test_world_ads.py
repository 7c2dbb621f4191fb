"""The ad world: the auction's rules, counters as of the window, each effect in the log and gone when off."""

import dataclasses
import time

import numpy as np
import pandas as pd
import pytest
from scipy import stats

from mlsd.experiments import both_worlds
from mlsd.worlds.ads import AdRules, AdWorld
from mlsd.worlds.base import START, WorldError

SMALL = AdRules(n_users=1500, visits_per_day=2500, horizon_days=50)
DAYS = 18
COLUMNS = "request_id time day user_id item_id position propensity randomised ad_impressions ad_clicks topic_impressions topic_clicks"
COLUMNS += " times_seen price click hide revenue conversion conversion_known_at"


@pytest.fixture(scope="module")
def world() -> AdWorld:
    return AdWorld(SMALL, seed=3)


@pytest.fixture(scope="module")
def log(world) -> pd.DataFrame:
    return world.log(DAYS)


def without(name: str, days: int = DAYS) -> tuple[AdWorld, pd.DataFrame]:
    world = AdWorld(SMALL.without(name), seed=3)
    return world, world.log(days)


# ---------- the log ----------


def test_a_visit_shows_distinct_ads_that_run_that_day_from_the_first_slot_on(world, log):
    assert not log.duplicated(["request_id", "item_id"]).any()
    by_request = log.groupby("request_id").position.agg(["min", "max", "size"])
    assert (by_request["min"] == 1).all() and (by_request["max"] == by_request["size"]).all()
    assert log.request_id.nunique() == DAYS * SMALL.visits_per_day
    item = world.items.iloc[log.item_id]
    assert (item.created_at.to_numpy() <= log.time.to_numpy()).all() and (log.time.to_numpy() < item.expires_at.to_numpy()).all()


def test_counters_are_as_of_the_window(world, log):
    """Recomputed from the log: what happened before the three-hour window of the visit, and nothing else."""
    window = log.time.dt.floor("3h")
    topic = world.items.topic.to_numpy()[log.item_id]
    keys = {"ad": [log.item_id], "topic": [log.user_id, pd.Series(topic)], "seen": [log.user_id, log.item_id]}
    counted = {"ad": ("ad_impressions", "ad_clicks"), "topic": ("topic_impressions", "topic_clicks"), "seen": ("times_seen", None)}
    for name, by in keys.items():
        key = pd.factorize(pd.MultiIndex.from_arrays([*by, np.zeros(len(log))]))[0]
        per_window = pd.DataFrame(dict(key=key, window=window, n=1, click=log.click)).groupby(["key", "window"])[["n", "click"]].sum()
        before = per_window.groupby("key").cumsum() - per_window
        expected = before.loc[pd.MultiIndex.from_arrays([key, window])]
        impressions, clicks = counted[name]
        np.testing.assert_array_equal(log[impressions], expected.n)
        if clicks:
            np.testing.assert_array_equal(log[clicks], expected.click)


# ---------- the auction ----------


def served(world, scores, **changes):
    """One day under a policy without exploration: (log, score of each row)."""
    quiet = AdWorld(dataclasses.replace(world.rules, exploration=0.0, **changes), seed=3)
    log = quiet.deploy(scores, days=1, start=0)
    return quiet, log, scores(log)


def by_item(candidates):
    """A score that depends on the ad alone, so that a test can recompute it from the log."""
    return 0.004 * (1 + candidates.item_id.to_numpy() % 11)


def test_a_click_costs_the_least_that_would_have_kept_the_slot(world):
    quiet, log, score = served(world, by_item, reserve=0.02)
    bid = quiet.items.bid.to_numpy()[log.item_id]
    next_score = pd.Series(score).groupby(log.request_id).shift(-1)
    same_request = next_score.notna()
    assert (next_score[same_request] <= score[same_request]).all()
    np.testing.assert_allclose(log.price[same_request], (bid * next_score / score)[same_request], rtol=1e-5)
    assert (log.price <= bid + 1e-6).all()
    np.testing.assert_allclose(log.revenue, log.price * log.click)
    # Nothing that clears the reserve is left to show below: the reserve sets the price.
    alone = ~same_request & (log.position < 3) & (score >= 0.02)
    assert alone.any()
    np.testing.assert_allclose(log.price[alone], (bid * 0.02 / score)[alone], rtol=1e-5)


def test_under_the_reserve_only_the_first_slot_is_filled(world):
    _, log, score = served(world, by_item, reserve=0.02)
    assert (score[log.position > 1] >= 0.02).all()
    _, nothing, _ = served(world, by_item, reserve=1.0)
    assert (nothing.position == 1).all() and len(nothing) == SMALL.visits_per_day


def test_a_uniform_inflation_changes_nothing_without_a_reserve_and_something_with_one(world):
    def inflated(candidates):
        return 1.5 * by_item(candidates)

    _, plain, _ = served(world, by_item, reserve=0.0)
    _, more, _ = served(world, inflated, reserve=0.0)
    pd.testing.assert_frame_equal(plain, more)
    _, plain, _ = served(world, by_item, reserve=0.02)
    _, more, _ = served(world, inflated, reserve=0.02)
    assert len(more) > len(plain)


def test_spent_budgets_leave_the_auction():
    free, _ = without("budget", days=1)
    tight = AdWorld(dataclasses.replace(SMALL, budget=2.0), seed=3)
    spend = free.log(1).groupby("item_id").revenue.sum()
    limited = tight.log(1).groupby("item_id").revenue.sum()
    over = limited > tight._budget[limited.index]
    assert spend.max() > 2 * limited.max()
    last = tight.log(1)[tight.log(1).item_id.isin(limited.index[over])].groupby("item_id").time.max()
    assert over.any() and (last < START + pd.Timedelta(24, "h")).all()


def test_arms_with_own_budgets_take_nothing_from_each_other():
    """What one arm shows and pays no longer depends on what the other spends; with one purse it does."""
    rules = dataclasses.replace(SMALL.without("fatigue", "annoyance"), budget=2.0)
    world = AdWorld(rules, seed=5)
    world.log(7)
    arm = world.users.user_id.to_numpy() % 2 == 1

    def generous_to_arm(candidates):
        return world.oracle(candidates) * np.where(arm[candidates.user_id], 1.0, 1e-6)  # the other arm fills one slot, at the reserve

    def of_the_arm(world, policy):
        served = world.deploy(policy, 1, 7)
        return served[arm[served.user_id]].drop(columns=["ad_impressions", "ad_clicks", "topic_impressions", "topic_clicks", "times_seen"])

    split = world.split(arm, counters=False)
    both, alone = (of_the_arm(split, policy).reset_index(drop=True) for policy in (split.oracle, generous_to_arm))
    pd.testing.assert_frame_equal(both, alone)
    assert not of_the_arm(world, world.oracle).reset_index(drop=True).equals(of_the_arm(world, generous_to_arm).reset_index(drop=True))
    spent = split.deploy(split.oracle, 1, 7).groupby("item_id").revenue.sum()
    whole = world.deploy(world.oracle, 1, 7).groupby("item_id").revenue.sum()
    assert split.log(7).equals(world.log(7)) and spent.sum() <= 1.3 * whole.sum()
    with pytest.raises(WorldError, match="one bool for each"):
        world.split(np.zeros(rules.n_users, bool))


def test_arms_with_own_counters_count_own_clicks(world):
    arm = world.users.user_id.to_numpy() % 2 == 1
    world.log(7)
    served = world.split(arm, budgets=False).deploy(world.incumbent, 2, 7)
    past = world.log(7).groupby("item_id").size()
    last = served[served.day == 8].groupby(["item_id", arm[served[served.day == 8].user_id]]).ad_impressions.max().unstack()
    before = served[served.day == 7].groupby(["item_id", arm[served[served.day == 7].user_id]]).size().unstack(fill_value=0)
    both = last.dropna().index.intersection(past.index).intersection(before.index)
    assert len(both) > 10
    for k in (False, True):  # at least all of the past and of the own arm's first day
        assert (last.loc[both, k] >= (past + before[k]).loc[both]).all()
    assert (last[False] != last[True])[both].any()
    shared = world.split(arm, budgets=False, counters=False).deploy(world.incumbent, 2, 7)
    whole = world.deploy(world.incumbent, 2, 7)
    keys = ["request_id", "position"]
    pd.testing.assert_frame_equal(shared.sort_values(keys, ignore_index=True), whole.sort_values(keys, ignore_index=True))


def test_scores_must_be_positive(world):
    with pytest.raises(WorldError, match="expected expected values above 0"):
        world.deploy(lambda candidates: -np.ones(len(candidates)), days=1, start=0)
    with pytest.raises(WorldError, match="slots <= candidates"):
        AdWorld(dataclasses.replace(SMALL, slots=13))


# ---------- truth and policies ----------


@pytest.mark.parametrize("outcome", ["click", "conversion", "hide"])
def test_truth_is_calibrated(world, log, outcome):
    p, y = world.truth(log, outcome), log[outcome]
    for rows in (slice(None), log.position == 1, log.position == 3, p > np.quantile(p, 0.9)):
        expected, spread = p[rows].sum(), np.sqrt((p[rows] * (1 - p[rows])).sum())
        assert abs(y[rows].sum() - expected) < 4 * spread


def test_the_oracle_earns_most(world):
    def by_bid(candidates):
        return 0.02 * world.items.bid.to_numpy()[candidates.item_id]

    lift = both_worlds(world, world.incumbent, world.oracle, days=5, start=10).lift("revenue_per_1000_visits")
    assert lift.low > 0.02
    assert both_worlds(world, by_bid, world.incumbent, days=5, start=10).lift("revenue_per_1000_visits").low > 0.02


def test_a_million_impressions_take_seconds(yardstick):
    """Measured on a tenth of them, with three times the slack: a million take about 25 yardsticks."""
    world, started = AdWorld(AdRules(visits_per_day=15_000)), time.process_time()
    impressions = len(world.log(3))
    assert impressions > 100_000 and time.process_time() - started < 75 * yardstick * impressions / 1e6


# ---------- planted effects: in the log, and gone when off ----------


def gap(log, world, more, less):
    """Log of the ratio of click rates of two sets of rows of the randomised slice, with its standard error."""
    a, b = log.click[more], log.click[less]
    se = np.sqrt(1 / max(a.sum(), 1) + 1 / max(b.sum(), 1))
    return np.log(a.mean() / b.mean()), se


def rows_by_effect(name, world, log):
    """(rows where the effect should lift clicks, rows where it should not), as the log alone can tell them."""
    topic = world.items.topic.to_numpy()[log.item_id]
    if name == "interest":
        return world._interest[log.user_id, topic] > 0.9, world._interest[log.user_id, topic] < 0.1
    if name == "format_fit":
        video = world.items.format.to_numpy()[log.item_id] == 1
        device = world.users.device.to_numpy()[log.user_id]
        return video & (device == 0), video & (device == 2)
    if name == "ad_quality_spread":
        return world._quality[log.item_id] > 0.5, world._quality[log.item_id] < -0.5
    if name == "position_bias":
        chance = log.randomised
        return chance & (log.position == 1), chance & (log.position == 3)
    if name == "appeal_spread":
        appeal = dataclasses.replace(world.rules, appeal_spread=0.5)
        told = AdWorld(appeal, seed=3)._appeal[log.day, world.users.segment.to_numpy()[log.user_id], topic]
        return told > 0.3, told < -0.3
    raise KeyError(name)


BY_ROWS = {
    "interest": dict(visits_per_day=2500),
    "format_fit": {},
    "ad_quality_spread": {},
    "position_bias": dict(exploration=0.6),
    "appeal_spread": {},
}


@pytest.mark.parametrize("name", BY_ROWS)
def test_effect_is_in_the_log_and_vanishes(name):
    """Ads drawn at random within a visit, so that what the incumbent prefers does not hide the effect."""
    rules = dataclasses.replace(SMALL, **{"exploration": 1.0, "budget": 1e9, "fatigue": 0.0, **BY_ROWS[name]})
    on = AdWorld(rules, seed=3)
    off = AdWorld(rules.without(name), seed=3)
    for world, there in ((on, True), (off, False)):
        log = world.log(8)
        value, se = gap(log, world, *rows_by_effect(name, world, log))
        assert value > 4 * se if there else abs(value) < 3.5 * se


def test_fatigue_and_annoyance_grow_with_showings(world, log):
    """Within the ads and users that met often: fewer clicks than the same rows would get if nobody tired."""
    often = log.times_seen >= 4
    for name, outcome, sign in (("fatigue", "click", -1), ("annoyance", "hide", 1)):
        off, quiet = without(name)
        fresh = off.truth(log, outcome)  # the truth of a world without the effect, on the same rows
        z = (log[outcome][often].sum() - fresh[often].sum()) / np.sqrt(fresh[often].sum())
        assert sign * z > 4
        calm = quiet.times_seen >= 4
        p = off.truth(quiet, outcome)
        assert abs(quiet[outcome][calm].sum() - p[calm].sum()) < 4 * np.sqrt(p[calm].sum())


def appeal_correlation(world, one, other):
    return stats.pearsonr(world._appeal[one].ravel(), world._appeal[other].ravel())[0]


def test_tastes_wander_slowly_and_turn_at_the_season(world):
    still = AdWorld(SMALL.without("slow_drift", "sudden_drift"), seed=3)
    assert appeal_correlation(still, 0, 49) == pytest.approx(1)
    season = AdWorld(SMALL.without("slow_drift"), seed=3)
    assert appeal_correlation(season, 0, 34) == pytest.approx(1) and appeal_correlation(season, 34, 35) < 0.8
    assert appeal_correlation(world, 0, 1) > appeal_correlation(world, 0, 20)
    calm = AdWorld(SMALL.without("sudden_drift"), seed=3)
    assert appeal_correlation(calm, 34, 35) > 0.9


def test_conversions_arrive_late_and_later_for_dear_products(world, log):
    bought = log[log.conversion == 1]
    days = (bought.conversion_known_at - bought.time) / pd.Timedelta(1, "D")
    price = world.items.product_price.to_numpy()[bought.item_id]
    assert 1.5 < days.mean() < 5 and days.max() <= 14
    assert stats.spearmanr(price, days).statistic > 0.2
    even, quiet = without("slow_buyers")
    bought = quiet[quiet.conversion == 1]
    days = (bought.conversion_known_at - bought.time) / pd.Timedelta(1, "D")
    assert stats.spearmanr(even.items.product_price.to_numpy()[bought.item_id], days).pvalue > 0.001
    _, at_once = without("conversion_delay", days=3)
    assert (at_once.conversion_known_at == at_once.time).all()


def test_no_reserve_fills_every_slot(world):
    free, log = without("reserve", days=2)
    assert (log.groupby("request_id").size() == SMALL.slots).all()
    with_reserve = world.deploy(world.oracle, days=2, start=2)
    assert len(with_reserve) < len(free.deploy(free.oracle, days=2, start=2))


def test_exploration_decides_a_share_of_the_visits_by_chance_and_none_when_off(log):
    visits, share = log.groupby("request_id").randomised.mean(), SMALL.exploration
    assert abs(visits.mean() - share) < 4 * np.sqrt(share * (1 - share) / len(visits))
    _, ranked = without("exploration", days=1)
    assert not ranked.randomised.any() and (ranked.propensity == 1).all()


TESTS = dict.fromkeys(BY_ROWS, test_effect_is_in_the_log_and_vanishes) | {
    "fatigue": test_fatigue_and_annoyance_grow_with_showings,
    "annoyance": test_fatigue_and_annoyance_grow_with_showings,
    "slow_drift": test_tastes_wander_slowly_and_turn_at_the_season,
    "sudden_drift": test_tastes_wander_slowly_and_turn_at_the_season,
    "conversion_delay": test_conversions_arrive_late_and_later_for_dear_products,
    "slow_buyers": test_conversions_arrive_late_and_later_for_dear_products,
    "reserve": test_no_reserve_fills_every_slot,
    "budget": test_spent_budgets_leave_the_auction,
    "exploration": test_exploration_decides_a_share_of_the_visits_by_chance_and_none_when_off,
}


def test_every_effect_has_a_test():
    assert set(TESTS) == set(AdRules.effects())
