"""The world of circles: counters and memory are as of the step, authors answer to answers, each effect is in the log and gone when off."""

import dataclasses
import functools

import numpy as np
import pandas as pd
import pytest

from mlsd.worlds.base import WorldError
from mlsd.worlds.circles import LIFE_DAYS, STEP_HOURS, TOPICS, CircleRules, CircleWorld

SMALL = CircleRules(n_users=400, n_towns=10, horizon_days=40)


def at_random(candidates: pd.DataFrame) -> np.ndarray:
    return np.random.default_rng(len(candidates)).random(len(candidates))


@pytest.fixture(scope="module")
def world() -> CircleWorld:
    return CircleWorld(SMALL, seed=3)


@pytest.fixture(scope="module")
def log(world) -> pd.DataFrame:
    return world.log(9)


# ---------- the log ----------


def test_what_is_shown_is_published_young_and_by_somebody_else(world, log):
    item = world.items.iloc[log.item_id]
    age_days = (log.time.to_numpy() - item.created_at.to_numpy()) / np.timedelta64(1, "D")
    assert (age_days >= 0).all() and (age_days < LIFE_DAYS + STEP_HOURS / 24).all()
    assert (item.author_id.to_numpy() != log.user_id).all()
    published = pd.concat([world.published(log).item_id, world.items.item_id[world._day < 0]])
    assert log.item_id.isin(published).all()


def test_in_network_is_by_those_whom_the_reader_follows(world, log):
    pairs = log.assign(author_id=world.items.author_id.to_numpy()[log.item_id]).merge(world.follows.assign(follows=True), how="left")
    np.testing.assert_array_equal(pairs.follows.notna(), log.in_network)


def test_who_follows_nobody_sees_strangers(world):
    newcomers = np.setdiff1d(world.users.user_id, world.follows.user_id)
    page = (log := world.log(9))[log.user_id.isin(newcomers)]
    assert len(newcomers) and len(page) and not page.in_network.any() and (page.groupby("request_id").size() == 10).all()


def test_counters_and_memory_are_as_of_the_step(world, log):
    """Recomputed from the log: what happened before the step of the visit began, and nothing later."""
    step = (log.day * 24 + log.time.dt.hour) // STEP_HOURS
    for counter, outcome in (("views_so_far", "seen"), ("likes_so_far", "like"), ("comments_so_far", "comment")):
        by = log.assign(step=step).groupby(["item_id", "step"])[outcome].sum().groupby("item_id").cumsum().rename("so_far").reset_index()
        asked = log[["item_id"]].assign(step=step - 1, row=range(len(log))).sort_values("step")
        found = pd.merge_asof(asked, by.sort_values("step"), on="step", by="item_id").set_index("row").so_far.fillna(0).sort_index()
        np.testing.assert_array_equal(found, log[counter])
    pairs = log.assign(step=step).groupby(["user_id", "item_id"])
    np.testing.assert_array_equal(pairs.cumcount(), log.served_before)
    np.testing.assert_array_equal(pairs.seen.cumsum() - log.seen, log.seen_before)


def test_nothing_is_done_to_what_was_not_seen(log):
    unseen = log[log.seen == 0]
    assert (unseen[["like", "comment", "share", "hide", "dwell_seconds"]] == 0).all().all() and unseen.survey.isna().all()
    assert (log.dwell_seconds[log.seen == 1] >= 1).all()


def test_answers_to_the_survey_are_known_next_day(log):
    asked = log[log.survey.notna()]
    assert abs(len(asked) / log.seen.sum() - SMALL.survey_rate) < 0.01
    assert (asked.survey_known_at == asked.time + pd.Timedelta(1, "D")).all() and log.survey_known_at[log.survey.isna()].isna().all()


# ---------- serving ----------


def test_the_oracle_gives_most(world):
    worth = {name: world.value(d).sum() for name, d in ((p, world.deploy(getattr(world, p), 4, start=5)) for p in ("oracle", "incumbent"))}
    random = world.value(world.deploy(at_random, 4, start=5)).sum()
    assert worth["oracle"] > 1.25 * worth["incumbent"] > 1.25 * random


def test_counters_that_lag_are_the_earlier_ones(world, log):
    class Late:
        counter_lag_hours = 24

        def __call__(self, candidates):
            return world.incumbent(candidates)

    late = world.deploy(Late(), days=1, start=9)
    fresh = world.deploy(world.incumbent, days=1, start=9)
    both = late.merge(fresh, on=["request_id", "item_id"], suffixes=("", "_fresh"))
    assert (both.views_so_far <= both.views_so_far_fresh).mean() > 0.97 and both.views_so_far.mean() < 0.7 * both.views_so_far_fresh.mean()
    with pytest.raises(WorldError, match="counter_lag_hours"):
        Late.counter_lag_hours = 5
        world.deploy(Late(), days=1, start=9)


def test_authors_who_are_answered_write_more(world):
    """Shown first and shown last, the same authors publish more of the same drafts."""
    author, some = world.items.author_id.to_numpy(), np.arange(SMALL.n_users) % 2 == 0

    def first(chosen):
        log = world.deploy(lambda rows: chosen[author[rows.item_id]] + at_random(rows), days=12, start=9)
        posts = world.published(log)
        return chosen[posts.author_id[posts.day >= 15]].sum()

    shown, hidden = (
        first(some),
        (lambda log: some[(p := world.published(log)).author_id[p.day >= 15]].sum())(
            world.deploy(lambda rows: ~some[author[rows.item_id]] + at_random(rows), days=12, start=9)
        ),
    )
    assert shown > hidden + 4 * np.sqrt(hidden / 2)


def test_a_world_that_cannot_fill_a_page_is_refused():
    with pytest.raises(WorldError, match="out_of_network"):
        CircleWorld(CircleRules(out_of_network=9))


# ---------- each effect: a statistic of the log that is large with it and about zero without ----------


def apart(y: pd.Series, rows: np.ndarray, others: np.ndarray) -> float:
    """Difference of two means in standard errors."""
    a, b = np.asarray(y, float)[np.asarray(rows)], np.asarray(y, float)[np.asarray(others)]
    return (a.mean() - b.mean()) / np.sqrt(a.var() / len(a) + b.var() / len(b))


def by_half(y: pd.Series, x: np.ndarray) -> float:
    """The rows with x clearly above its median against those clearly below."""
    low, high = np.quantile(x, [0.35, 0.65])
    return apart(y, x > high, x < low)


def slope(y: pd.Series, x: np.ndarray) -> float:
    """A straight line's slope in standard errors."""
    return float(np.corrcoef(y, x)[0, 1] * np.sqrt(len(x)))


def readers_differ(world: CircleWorld) -> float:
    readers = (seen := (log := world.log(10))[log.seen == 1]).groupby("user_id").like.agg(["sum", "size"])
    readers = readers[readers["size"] * seen.like.mean() >= 2]
    expected = readers["size"] * seen.like.mean()
    chi2 = ((readers["sum"] - expected) ** 2 / expected / (1 - seen.like.mean())).sum()
    return float((chi2 - len(readers)) / np.sqrt(2 * len(readers)))


def answered_write_more(world: CircleWorld) -> float:
    log, author = world.log(14), world.items.author_id.to_numpy()
    early = log[log.day < 9]
    answers = np.bincount(author[early.item_id], early.like + early.comment, minlength=SMALL.n_users)
    drafts = np.flatnonzero((world._day >= 9) & (world._day < 14))
    out = pd.Series(np.isin(drafts, world.published(log[log.day >= 9]).item_id))
    return apart(out, answers[author[drafts]] > np.median(answers), answers[author[drafts]] <= np.median(answers))


def fame_is_uneven(world: CircleWorld) -> float:
    n = np.bincount(world.follows.author_id, minlength=SMALL.n_users)
    return float((n.var() / n.mean() - 1) / np.sqrt(2 / len(n)))


def of_own_town(world: CircleWorld) -> float:
    town = world.users.town.to_numpy()
    same = town[world.follows.user_id] == town[world.follows.author_id]
    expected = ((town[:, None] == town).sum(axis=1) - 1)[world.follows.user_id] / (SMALL.n_users - 1)
    return float((same.sum() - expected.sum()) / np.sqrt((expected * (1 - expected)).sum()))


def age(world: CircleWorld, log: pd.DataFrame) -> np.ndarray:
    return (log.time.to_numpy() - world.items.created_at.to_numpy()[log.item_id]) / np.timedelta64(1, "D")


def on_seen(statistic):
    """Of the posts that were seen in ten days."""
    return lambda world: statistic(world, (log := world.log(10))[log.seen == 1])


STATISTICS = {
    "taste": on_seen(lambda w, log: by_half(log.like, w._topic_match[log.user_id, w._topic[log.item_id]])),
    "closeness": on_seen(lambda w, log: by_half(log.comment, w._near[log.user_id, w._author[log.item_id]])),
    "quality_spread": on_seen(lambda w, log: by_half(log.like, w._quality[log.item_id])),
    "bait": on_seen(lambda w, log: by_half(log.comment, w.items.tone.to_numpy()[log.item_id])),
    "medium_taste": on_seen(lambda w, log: by_half(log.like, w._media[log.user_id, w._medium[log.item_id]])),
    "silence": readers_differ,
    "length_dwell": on_seen(lambda w, log: by_half(log.dwell_seconds, w.items.length.to_numpy()[log.item_id])),
    "freshness": on_seen(lambda w, log: by_half(log.like, -age(w, log))),
    "social_proof": on_seen(lambda w, log: slope(log.like, np.log2(1 + log.likes_so_far.to_numpy(float)))),
    "position_bias": lambda w: apart((log := w.log(10)).like, log.position <= 3, log.position > 7),
    "boredom": on_seen(lambda w, log: apart(log.like, log.seen_before == 0, log.seen_before > 0)),
    "satiation": on_seen(lambda w, log: apart(log.like, log.same_topic_above == 0, log.same_topic_above + log.same_author_above > 1)),
    "feedback": answered_write_more,
    "homophily": of_own_town,
    "celebrity": fame_is_uneven,
    "exploration": lambda w: 100 * float(w.log(3).randomised.mean()),
}


def test_every_effect_has_a_statistic():
    assert set(STATISTICS) == set(CircleRules.effects()) and len(TOPICS) == 10


@functools.cache  # without its effect, a quiet world is the same for most of them
def world_of(rules: CircleRules) -> CircleWorld:
    return CircleWorld(rules, seed=2)


@pytest.mark.parametrize("name", STATISTICS)
def test_effect_is_in_the_log_and_gone_when_off(name):
    """Alone among the effects, in a product that lists in random order: outcomes then tell the rule."""
    quiet = SMALL.without(*(set(CircleRules.effects()) - {name}))
    if name != "exploration":
        quiet = dataclasses.replace(quiet, exploration=1.0)
    assert STATISTICS[name](world_of(quiet)) > 4
    assert abs(STATISTICS[name](world_of(quiet.without(name)))) < 3.5
