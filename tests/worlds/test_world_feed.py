"""The feed world: truth is calibrated, each effect can be seen in a log and is gone when switched off."""

import dataclasses

import numpy as np
import pandas as pd
import pytest

from mlsd.estimates import mean
from mlsd.worlds.base import WorldError
from mlsd.worlds.feed import INCIDENTS, N_TOPICS, FeedRules, FeedWorld, _draw_distinct

# Everything is shown at random: outcomes then tell the rules without the ranker in between.
AT_RANDOM = FeedRules(n_users=4000, exploration=1.0, onset_day=14).without(*INCIDENTS)


def any_order(candidates: pd.DataFrame) -> np.ndarray:
    return np.random.default_rng(0).random(len(candidates))


@pytest.fixture(scope="module")
def world() -> FeedWorld:
    return FeedWorld(FeedRules(n_users=3000, onset_day=14), seed=3)


@pytest.fixture(scope="module")
def log(world) -> pd.DataFrame:
    return world.log(28)


def test_a_request_shows_distinct_live_posts(world, log):
    assert not log.duplicated(["request_id", "item_id"]).any()
    assert (log.groupby("request_id").position.agg(["min", "max", "size"]) == [1, 4, 4]).all().all()
    item = world.items.set_index("item_id").loc[log.item_id]
    assert (item.created_at.to_numpy() <= log.time.to_numpy()).all() and (log.time.to_numpy() < item.expires_at.to_numpy()).all()


def test_the_oracle_satisfies_most(world):
    def satisfied(policy):
        log = world.deploy(policy, days=7, start=7)
        return log.satisfied.sum() / log.request_id.nunique()

    assert satisfied(world.oracle) > 1.1 * satisfied(world.incumbent) > 1.1 * 1.2 * satisfied(any_order)


def test_propensities_reweight_the_log_to_random_serving():
    world = FeedWorld(FeedRules(n_users=4000, exploration=0.3).without(*INCIDENTS), seed=1)
    log = world.log(10)
    n_live = world.rules.new_items_a_day * world.rules.item_life_days
    weighted = log.click / n_live / log.propensity
    at_random = log.click[log.randomised]
    se = np.hypot(weighted.std() / np.sqrt(len(log)), at_random.std() / np.sqrt(len(at_random)))
    assert abs(weighted.mean() - at_random.mean()) < 4 * se


def test_incidents_change_nothing_before_their_onset(world, log):
    quiet = FeedWorld(world.rules.without(*INCIDENTS), seed=3).log(28)
    pd.testing.assert_frame_equal(quiet[quiet.day < 14], log[log.day < 14])
    assert not quiet[quiet.day == 14].equals(log[log.day == 14])


def test_readers_do_not_notice_that_a_client_loses_clicks():
    """With a policy and a retrieval that count no clicks, they see the same posts, are as satisfied, and come as often."""
    rules = FeedRules(n_users=1000, onset_day=2, habit=3.0).without(*INCIDENTS, "popularity_feedback")
    whole, lossy = (FeedWorld(dataclasses.replace(rules, click_loss=loss), seed=5).deploy(any_order, 8, start=0) for loss in (0.0, 0.9))
    assert lossy.click.sum() < 0.8 * whole.click.sum()
    pd.testing.assert_frame_equal(*(log.drop(columns=["click", "item_clicks"]) for log in (whole, lossy)))


def test_a_branch_is_the_world_simulated_from_the_start():
    rules = FeedRules(n_users=1000, onset_day=6)
    quiet = FeedWorld(rules.without(*INCIDENTS), seed=5)
    broken = rules.without(*(name for name in INCIDENTS if name != "click_loss"))
    pd.testing.assert_frame_equal(quiet.branch(broken).log(9), FeedWorld(broken, seed=5).log(9))
    pd.testing.assert_frame_equal(quiet.branch(quiet.rules).log(9), quiet.log(9))
    with pytest.raises(WorldError, match="differ from this world's in incidents alone"):
        quiet.branch(broken.without("habit"))


# ---------- each effect: a statistic of the log that is large with it and about zero without ----------


def cell_rates(log: pd.DataFrame) -> tuple[pd.Series, pd.Series]:
    cells = log.groupby(["segment", "topic"]).click
    return cells.mean(), cells.mean() * (1 - cells.mean()) / cells.size()


def z_difference(a: pd.Series, b: pd.Series) -> float:
    return float((a.mean() - b.mean()) / np.sqrt(a.var() / len(a) + b.var() / len(b)))


def z_by_item(log: pd.DataFrame, early: pd.Series, late: pd.Series) -> float:
    """Late minus early click rate in standard errors, posts being the sampled unit: good posts come and go."""
    a, b = (mean(log.click[rows], groups=log.item_id[rows]) for rows in (early, late))
    return (b.value - a.value) / np.hypot((a.high - a.low) / 3.92, (b.high - b.low) / 3.92)


def taste_moved(log: pd.DataFrame, early: pd.Series, late: pd.Series) -> float:
    """Excess of the chi-square over its mean, in standard deviations: do rates by segment and topic differ?"""
    (rate_a, var_a), (rate_b, var_b) = cell_rates(log[early]), cell_rates(log[late])
    chi2 = ((rate_a - rate_b) ** 2 / (var_a + var_b)).sum()
    df = 3 * N_TOPICS
    return float((chi2 - df) / np.sqrt(2 * df))


def requests_gained(world: FeedWorld) -> float:
    logs = (world.deploy(policy, 42, start=1) for policy in (world.oracle, any_order))
    good, bad = (log.request_id[log.day > 21].nunique() for log in logs)
    return (good - bad) / np.sqrt(good + bad)


def rich_get_richer(world: FeedWorld) -> float:
    log = world.deploy(any_order, 6, start=6)
    log = log[~log.randomised & (log.day == 11)]
    return float(z_difference(np.log1p(log.item_clicks), pd.Series(np.log1p(log.drop_duplicates("item_id").item_clicks))))


STATISTICS = {
    "clickbait_pull": lambda w: z_difference(*((lg := w.log(14)).click[lg.headline > 0.6], lg.click[lg.headline < 0.3])),
    "clickbait_regret": lambda w: (
        -z_difference(*((lg := w.log(14)[lambda x: x.click == 1]).satisfied[lg.headline > 0.6], lg.satisfied[lg.headline < 0.3]))
    ),
    "habit": requests_gained,
    "position_bias": lambda w: z_difference(*((lg := w.log(14)).click[lg.position == 1], lg.click[lg.position == 4])),
    "popularity_feedback": rich_get_richer,
    "exploration": lambda w: 100 * float(w.log(7).randomised.mean()),
    "taste_drift": lambda w: taste_moved(lg := w.log(70), lg.day < 14, lg.day >= 56),
    "weekly_rhythm": lambda w: -z_difference(*((lg := w.log(28)).click[lg.day % 7 >= 5], lg.click[lg.day % 7 < 5])),
    "label_delay": lambda w: 10 * float(((lg := w.log(3)).satisfied_known_at - lg.time).dt.total_seconds().max() > 0),
    "mix_shift": lambda w: z_difference(*((lg := w.log(28)).campaign[lg.day >= 14], lg.campaign[lg.day < 14])),
    "base_rate_shift": lambda w: -z_by_item(lg := w.log(28), lg.day < 14, lg.day >= 14),
    "taste_change": lambda w: taste_moved(lg := w.log(28), lg.day < 14, lg.day >= 14),
    "click_loss": lambda w: 100 * float(1 - (lg := w.log(28)).click[(lg.satisfied == 1) & (lg.android == 1)].mean()),
    "feature_outage": lambda w: 100 * float((w.log(28).interest_match == 0).mean()),
}
# What must be off so that the statistic of one effect is not moved by another.
QUIET = {name: ("taste_drift",) for name in ("taste_change", "base_rate_shift")} | {"popularity_feedback": ("exploration",)}


def test_every_effect_has_a_statistic():
    assert set(STATISTICS) == set(FeedRules.effects())


@pytest.mark.parametrize("name", STATISTICS)
def test_effect_is_in_the_log_and_gone_when_off(name):
    default = FeedRules()
    rules = dataclasses.replace(AT_RANDOM.without(*QUIET.get(name, ())), **{name: getattr(default, name)})
    if name == "habit":
        rules = dataclasses.replace(rules, exploration=0.0)
    if name == "exploration":
        rules = dataclasses.replace(rules, exploration=0.05)
    if name == "base_rate_shift":
        rules = dataclasses.replace(rules, base_rate_shift=5 * rules.base_rate_shift)  # turnover of posts hides a tenth of a log-odd
    on, off = FeedWorld(rules, seed=2), FeedWorld(rules.without(name), seed=2)
    assert STATISTICS[name](on) > 4
    assert abs(STATISTICS[name](off)) < 3.5


def test_taste_change_keeps_the_spread_of_appeal():
    spread = [FeedWorld(FeedRules(n_users=50, onset_day=30), seed)._appeal.std(axis=(1, 2)) for seed in range(40)]
    before, after = np.mean(spread, axis=0)[[10, 50]]
    assert after == pytest.approx(before, rel=0.08)


def test_draws_are_distinct_and_follow_the_weights():
    rng = np.random.default_rng(0)
    weight = rng.gamma(2.0, size=60)
    drawn = _draw_distinct(rng.random((40000, 5)), weight)
    assert (np.diff(np.sort(drawn, axis=1)) > 0).all() and drawn.min() >= 0 and drawn.max() < 60
    share = np.bincount(drawn.ravel(), minlength=60) / drawn.size
    np.testing.assert_allclose(share, weight / weight.sum(), atol=0.006)


def test_clear_errors():
    with pytest.raises(WorldError, match="slots <= candidates"):
        FeedWorld(FeedRules(slots=13))
