"""The video world: protocol, truth, propensities, and every planted effect there and gone."""

import dataclasses

import numpy as np
import pandas as pd
import pytest
from scipy.special import logit

from mlsd.worlds.base import WorldError
from mlsd.worlds.videos import SLOTS, VideoRules, VideoWorld

SMALL = VideoRules(n_users=600, n_videos=300, uploads_per_day=4, requests_per_day=250)


def small(*off: str, seed: int = 3, **changes) -> VideoWorld:
    return VideoWorld(dataclasses.replace(SMALL, **changes).without(*off), seed=seed)


def at_random(candidates: pd.DataFrame) -> np.ndarray:
    return np.random.default_rng(int(candidates.day.iloc[0])).random(len(candidates))


@pytest.fixture(scope="module")
def world():
    return small()


@pytest.fixture(scope="module")
def random_log(world):
    return world.deploy(at_random, days=30, start=0)


# ---------- the protocol ----------


def test_outcomes_agree_with_each_other(random_log):
    clicked = random_log.click == 1
    assert (random_log.watch_seconds[clicked] >= 1).all() and (random_log.watch_seconds[~clicked] == 0).all()
    assert random_log.like[~clicked].eq(0).all() and random_log.hide[clicked].eq(0).all()
    assert random_log.survey[~clicked].isna().all()
    assert random_log.survey.notna().eq(random_log.survey_known_at.notna()).all()


def test_only_what_exists_is_shown_to_whom_exists_and_nothing_again_after_a_click(world):
    log = world.deploy(world.oracle, days=12, start=4)
    shown = log.merge(world.items[["item_id", "created_at"]]).merge(world.users[["user_id", "created_at"]], on="user_id")
    assert (shown.created_at_x <= shown.time).all() and (shown.created_at_y.dt.normalize() <= shown.time).all()
    both = pd.concat([world.log(4), log]).sort_values("time", kind="stable")
    earlier_clicks = both.groupby(["user_id", "item_id"]).click.cumsum() - both.click
    assert earlier_clicks.max() == 0
    assert both.groupby(["user_id", "item_id"]).size().max() <= SMALL.max_showings


def test_what_is_live_beyond_the_horizon_is_not_drawn(world):
    with pytest.raises(WorldError, match="horizon_days"):
        world.live(60)


def test_candidates_are_all_visitors_with_all_live_videos(world):
    found, served = world.candidates(6), world.deploy(world.incumbent, days=1, start=6)
    assert sorted(found.user_id.unique()) == sorted(served.user_id.unique())
    assert sorted(found.item_id.unique()) == world.live(6).tolist()
    assert len(found) == found.user_id.nunique() * found.item_id.nunique()
    first = served[(served.position == 1) & ~served.randomised].merge(found, on=["user_id", "item_id"])
    np.testing.assert_allclose(first.p_click, world.truth(first))


# ---------- truth ----------


def _within_chance(outcomes: pd.Series, p: np.ndarray) -> bool:
    return abs(outcomes.sum() - p.sum()) < 3.5 * np.sqrt((p * (1 - p)).sum())


@pytest.fixture(scope="module")
def oracle_log(world):
    return world.deploy(world.oracle, days=10, start=0)


@pytest.mark.parametrize("rows", ["position > 0", "position == 1", "position > 6", "randomised", "age_days < 5", "views > 20"])
def test_truth_is_calibrated(world, oracle_log, rows):
    log = oracle_log.query(rows)
    assert _within_chance(log.click, world.truth(log))


def test_value_is_calibrated_against_the_survey():
    world = small(survey_rate=1.0)
    log = world.deploy(world.oracle, days=10, start=0)
    assert _within_chance(log.survey.fillna(0), world.value(log))


def test_who_knows_more_does_better(world):
    by = {name: world.value(world.deploy(p, 3)).sum() for name, p in dict(o=world.oracle, i=world.incumbent, r=at_random).items()}
    by["clicks"] = world.value(world.deploy(world.truth, 3)).sum()
    assert by["o"] > 1.05 * by["clicks"] and by["clicks"] > 2 * by["i"] and by["i"] > 1.5 * by["r"]


# ---------- exploration ----------


def test_propensities_say_how_slots_were_filled(world):
    log = world.log(15)
    n, share = len(log), SMALL.exploration
    assert abs(log.randomised.mean() - share) < 3.5 * np.sqrt(share * (1 - share) / n)
    by_chance = log.propensity < 0.5
    assert log.randomised[by_chance].all()
    assert log.propensity[by_chance].between(share / 400, share / 200).all()
    # Weighting the ranked slots by their propensities recovers how many slots there are.
    assert abs((1 / log.propensity[~by_chance]).sum() / n - 1) < 3.5 * np.sqrt(share / (1 - share) / n)


def test_a_policy_can_set_its_own_exploration(world):
    class Greedy:
        exploration = 0.0

        def __call__(self, candidates):
            return -candidates.item_id.to_numpy(float)

    log = world.deploy(Greedy(), days=1, start=0)
    assert not log.randomised.any() and log.propensity.eq(1).all()
    assert log.item_id.max() == SLOTS - 1


# ---------- planted effects: there, and gone when off ----------


def _rate_difference(log: pd.DataFrame, rows: np.ndarray) -> tuple[float, float]:
    """Difference in click rate between some rows and the others, and its standard error."""
    a, b = log.click[rows], log.click[~rows]
    return a.mean() - b.mean(), np.sqrt(a.var() / len(a) + b.var() / len(b))


def test_taste_users_click_what_they_said_they_like(world, random_log):
    def said(w, log):
        return w.users.favourite_topic.to_numpy()[log.user_id] == w.items.topic.to_numpy()[log.item_id]

    difference, se = _rate_difference(random_log, said(world, random_log))
    assert difference > 5 * se
    plain = small("taste")
    log = plain.deploy(at_random, days=30, start=0)
    difference, se = _rate_difference(log, said(plain, log))
    assert abs(difference) < 3.5 * se


def test_freshness():
    others = ("taste", "appeal_spread", "clickbait", "social_proof", "position_bias")  # noise, or lifts of what is old
    for off, low, high in (((), 3, 99), (("freshness",), -3.5, 3.5)):
        log = small(*others, *off).deploy(at_random, days=30, start=0)
        difference, se = _rate_difference(log, log.age_days.to_numpy() < 4)
        assert low < difference / se < high


def _position_slope(log: pd.DataFrame) -> tuple[float, float]:
    """Slope of log(clicks) in log(position), with its standard error; videos are in random order."""
    clicks = log.groupby("position").click.sum().to_numpy(float)
    x = np.log(np.arange(1, SLOTS + 1))
    x0, y = np.average(x, weights=clicks), np.log(clicks)
    variance = (clicks * (x - x0) ** 2).sum()
    return (clicks * (x - x0) * y).sum() / variance, 1 / np.sqrt(variance)


def test_position_bias(random_log):
    slope, se = _position_slope(random_log)
    assert abs(slope + SMALL.position_bias) < 3.5 * se
    slope, se = _position_slope(small("position_bias").deploy(at_random, days=30, start=0))
    assert abs(slope) < 3.5 * se


def _length_slope(world: VideoWorld, log: pd.DataFrame) -> float:
    clicked = log[log.click == 1]
    return np.polyfit(np.log(world.items.length_seconds.to_numpy()[clicked.item_id]), np.log(clicked.watch_seconds), 1)[0]


def test_length_spread_makes_long_videos_watched_longer(world, random_log):
    assert 0.6 < _length_slope(world, random_log) < 1.0  # less than 1: long videos are finished less often
    plain = small("length_spread")
    assert plain.items.length_seconds.nunique() == 1


def _dispersion(log: pd.DataFrame) -> float:
    """Chi-square of clicks by video over its degrees of freedom: 1 if all videos attract alike."""
    by = log.groupby("item_id").click.agg(["sum", "size"])
    expected = by["size"] * log.click.mean()
    return ((by["sum"] - expected) ** 2 / expected).sum() / (len(by) - 1)


def test_appeal_spread():
    others = ("taste", "clickbait", "freshness", "social_proof", "position_bias")
    there = small(*others).deploy(at_random, days=30, start=0)
    gone = small(*others, "appeal_spread").deploy(at_random, days=30, start=0)
    assert _dispersion(there) > 2 and abs(_dispersion(gone) - 1) < 3.5 * np.sqrt(2 / 300)


@pytest.fixture(scope="module")
def page():
    """Every live video, once, for one user on day 0, with no views and no age: only the video's nature differs."""
    items = np.arange(SMALL.n_videos)
    return pd.DataFrame(dict(user_id=0, item_id=items, day=0, views=0, age_days=1000.0))


def test_clickbait_parts_clicks_from_satisfaction(page):
    def correlation(w):
        return np.corrcoef(logit(w.truth(page)), logit(w.value(page) / w.truth(page)))[0, 1]

    assert correlation(small("taste", "quality_spread")) < -0.4
    assert correlation(small("taste", "clickbait")) > 0.2  # quality raises both


def test_quality_spread(page):
    satisfied = [w.value(page) / w.truth(page) for w in (small("taste", "clickbait"), small("taste", "clickbait", "quality_spread"))]
    assert abs(np.std(logit(satisfied[0])) - SMALL.quality_spread) < 0.15
    assert np.ptp(satisfied[1]) < 1e-9


def test_hidden_style_tells_videos_of_one_creator_and_topic_apart(page):
    others = ("appeal_spread", "clickbait")

    def spread_within(w):
        keys = [w.items.topic[: len(page)], w.items.creator_id[: len(page)]]
        return pd.Series(logit(w.truth(page))).groupby([k.to_numpy() for k in keys]).std().max()

    assert spread_within(small(*others)) > 0.3 and spread_within(small(*others, "hidden_style")) < 1e-9


def test_tastes_drift(page):
    def agreement(w):
        return np.mean(
            [np.corrcoef(logit(w.truth(page.assign(user_id=u))), logit(w.truth(page.assign(user_id=u, day=50))))[0, 1] for u in range(40)]
        )

    others = ("appeal_spread", "clickbait")
    assert agreement(small(*others)) < 0.85 and agreement(small(*others, "taste_drift")) > 1 - 1e-9


def test_views_attract_clicks(world, page):
    def lift(w):
        return logit(w.truth(page.assign(views=99))) - logit(w.truth(page.assign(views=9)))

    np.testing.assert_allclose(lift(world), SMALL.social_proof, atol=1e-9)
    np.testing.assert_allclose(lift(small("social_proof")), 0, atol=1e-9)


TESTS = {
    "taste": test_taste_users_click_what_they_said_they_like,
    "hidden_style": test_hidden_style_tells_videos_of_one_creator_and_topic_apart,
    "taste_drift": test_tastes_drift,
    "appeal_spread": test_appeal_spread,
    "quality_spread": test_quality_spread,
    "clickbait": test_clickbait_parts_clicks_from_satisfaction,
    "length_spread": test_length_spread_makes_long_videos_watched_longer,
    "freshness": test_freshness,
    "social_proof": test_views_attract_clicks,
    "position_bias": test_position_bias,
}


def test_every_effect_has_a_test():
    assert set(TESTS) == set(VideoRules.effects())
