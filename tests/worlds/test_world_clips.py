"""The world of video search: its words, its index, each effect in the log and gone when off."""

import dataclasses
import re

import numpy as np
import pandas as pd
import pytest

from mlsd.worlds.base import WorldError
from mlsd.worlds.clips import INTENTS, RECALLED, ClipRules, ClipWorld, words_of

SMALL = ClipRules(n_users=300, n_videos=600, n_queries=500, n_channels=30, n_products=30, n_events=4, horizon_days=20)
DAYS = 12


@pytest.fixture(scope="module")
def world() -> ClipWorld:
    return ClipWorld(SMALL, seed=3)


@pytest.fixture(scope="module")
def log(world) -> pd.DataFrame:
    return world.log(DAYS)


# ---------- what exists ----------


def test_queries_have_the_planned_kinds_and_no_words_twice(world):
    common = world.queries[world.queries.intent != "fresh"]
    assert common.text.is_unique and set(world.queries.intent) == set(INTENTS)
    assert (world.queries.intent == "fresh").sum() == 2 * SMALL.n_events
    assert world.queries.text.map(words_of).str.len().gt(0).all()


def test_grades_are_whole_and_no_answer_means_none(world):
    grades = world.grades(world.queries.query_id)
    assert grades.dtype == np.int8 and set(np.unique(grades)) == {0, 1, 2, 3}
    assert not grades[world.queries.intent == "no answer"].any()
    np.testing.assert_array_equal(world.grades([3, 5], [1, 4]), grades[[3, 5]][:, [1, 4]])


def test_channels_and_products_are_graded_by_their_name(world):
    for query, intent in enumerate(world.queries.intent):
        text = world.queries.text[query]
        if intent == "navigational":
            named = world.items.channel.map(text.startswith).to_numpy()
        elif intent == "entity":
            number = re.search(r"\w+ \d+", text)[0]
            named = world.items.title.str.contains(number + " |" + number + "$|" + number + ":").to_numpy()
        else:
            continue
        best = world.grades([query])[0] == 3
        assert not (best & ~named).any()


# ---------- production's index ----------


def test_the_index_lags_and_ranks_by_shared_words(world):
    requests = world.requests(2, start=9)
    found = world.recalled(requests)
    assert found.shape == (len(requests), RECALLED)
    midnight = requests.time.dt.floor("D").to_numpy()
    created = world.items.created_at.to_numpy()
    assert (created[found] <= midnight[:, None]).all()
    fresh = world.recalled(requests, lag_hours=0)
    assert (created[fresh] > midnight[:, None]).any() and (created[fresh] <= requests.time.to_numpy()[:, None]).all()
    overlap = np.take_along_axis(world._overlap[requests.query_id], found, axis=1)
    assert (np.diff(overlap, axis=1) <= 0).all()


def test_other_candidates_are_served_and_checked(world):
    some = np.arange(20)
    other = world.with_retrieval(lambda requests: np.tile(some, (len(requests), 1)))
    served = other.deploy(other.oracle, 1, start=3)
    assert set(served.item_id) <= set(some)
    pd.testing.assert_frame_equal(other.log(2), world.log(2))
    wrong = {
        "whole numbers": lambda r: np.zeros((len(r), 5)),
        "at least 3": lambda r: np.tile([1, 2], (len(r), 1)),
        "item ids from 0": lambda r: np.tile([-1, 2, 3], (len(r), 1)),
        "found repeats": lambda r: np.tile([1, 1, 3], (len(r), 1)),
        "uploaded later": lambda r: np.tile([1, 2, len(world.items) - 1], (len(r), 1)),
    }
    for words, retrieve in wrong.items():
        with pytest.raises(WorldError, match=words):
            world.with_retrieval(retrieve).deploy(world.oracle, 1, start=3)


def test_transcripts_end_where_the_job_dies(world):
    dead = world.with_rules(transcripts_until=5)
    late = world.items.created_at >= world.start + pd.Timedelta(5, "D")
    assert (dead.items.transcript[late] == "").all() and (dead.items.transcript[~late] == world.items.transcript[~late]).all()
    pd.testing.assert_series_equal(dead.items.title, world.items.title)


# ---------- truth and policies ----------


def satisfied(world, log):
    """The share of requests that are satisfied, in expectation."""
    return 1 - (1 - pd.Series(world.satisfaction(log))).groupby(log.request_id.to_numpy()).prod().mean()


def test_the_oracle_contents_most(world, log):
    def newest(candidates):
        return -candidates.age_days.to_numpy()

    best, poor = (satisfied(world, world.deploy(policy, 4, start=4)) for policy in (world.oracle, newest))
    assert best > satisfied(world, log[log.day.between(4, 7)]) + 0.05 > poor + 0.1


def test_who_is_not_content_asks_again(world, log):
    again = log.groupby("request_id").reformulated.sum()
    chance = 1 - (1 - pd.Series(world.satisfaction(log))).groupby(log.request_id.to_numpy()).prod()
    expected = 0.04 * chance + 0.45 * (1 - chance)
    assert abs((again - expected).sum()) < 4 * np.sqrt((expected * (1 - expected)).sum())
    assert not log.reformulated[log.position > 1].any()


# ---------- planted effects: in the log, and gone when off ----------


def z_of(a, b):
    """Difference of two means in standard errors."""
    a, b = np.asarray(a, float), np.asarray(b, float)
    if min(len(a), len(b)) < 2:
        return 0.0
    return (a.mean() - b.mean()) / max(np.sqrt(a.var() / len(a) + b.var() / len(b)), 1e-9)


def rows(world, days=DAYS):
    log = world.log(days)
    query, item = log.query_id.to_numpy(), log.item_id.to_numpy()
    return log.assign(
        grade=world._grades[query, item],
        in_title=world._in_title[query, item],
        length=world.items.length_s.to_numpy()[item],
        intent=world.queries.intent.to_numpy()[query],
        quality=world._quality[item],
    )


def position_bias(world):
    log = rows(world)
    return z_of(log.click[log.position == 1], log.click[log.position > 3])


def relevance_pull(world):
    log = rows(world)
    return z_of(log.click[log.grade == 3], log.click[log.grade == 0])


def title_draws(world):
    """Clicks on what is right, with the words in the title and without."""
    log = rows(world)
    log = log[(log.grade == 3) & (log.length > 90)]
    return z_of(log.click[log.in_title > 0.9], log.click[log.in_title < 0.4])


def synonyms(world):
    rare = {"faucet", "eggplant", "zucchini", "sweater", "transmission", "truck", "pants", "bunny", "turtle"}
    return sum(bool(rare & set(words_of(title))) for title in world.items.title)


def title_stuffing(world):
    return world.items.title.str.contains("|", regex=False).sum()


def asr_errors(world):
    """How often the channel's name is missing in the transcript."""
    missing = [name.split()[0] not in text for name, text in zip(world.items.channel, world.items.transcript, strict=True)]
    return np.sum(missing)


def second_language(world):
    return (world.users.language == "de").sum()


def language_gap(world):
    """Of the videos on the very thing and deed, those in the other language have a lower grade."""
    q, v = world._asked, world._about
    match = (q["thing"][:, None] == v["thing"]) & (q["action"][:, None] == v["action"]) & (q["intent"] == 2)[:, None]
    match &= (v["product"] < 0) & (v["event"] < 0)
    other = q["german"][:, None] != world._german
    return z_of(world._grades[match & ~other], world._grades[match & other])


def length_pull(world):
    """Five minutes are watched more often of a video of a quarter of an hour than of one of six minutes."""
    log = rows(world, 19)
    log = log[(log.click == 1) & (log.grade > 1)]
    five = log.watch_s >= 300
    return z_of(five[log.length > 750], five[log.length.between(310, 430)])


def good_abandonment(world):
    """Short videos that are right get fewer clicks than longer ones."""
    log = rows(world, 19)
    log = log[(log.grade == 3) & (log.intent == "how-to") & (log.position <= 3)]
    return z_of(log.click[log.length > 90], log.click[log.length <= 90])


def quality_spread(world):
    log = rows(world, 19)
    log = log[(log.click == 1) & (log.length > 120) & (log.grade <= 2)]
    return z_of(log.long_watch[log.quality > 0.5], log.long_watch[log.quality < -0.5])


def burst(world):
    return (world.queries.intent.to_numpy()[world.requests(DAYS).query_id] == "fresh").sum()


def index_lag(world):
    """Requests before noon that are not shown anything uploaded on their own day."""
    log = rows(world)
    created = world.items.created_at.to_numpy()[log.item_id]
    return 100 * (created < log.time.dt.floor("D").to_numpy()).all()


def zipf(world):
    asked = world.requests(DAYS).query_id.value_counts()
    common = asked[world.queries.intent.to_numpy()[asked.index] != "fresh"]
    mean = common.sum() / (world.queries.intent != "fresh").sum()
    return (common.iloc[:5].mean() - 3.2 * mean) / np.sqrt(mean)


STATISTICS = {f.__name__: f for f in (
    position_bias, relevance_pull, title_draws, synonyms, title_stuffing, asr_errors, second_language, language_gap,
    length_pull, good_abandonment, quality_spread, burst, index_lag, zipf,
)}  # fmt: skip


def test_each_effect_has_a_statistic():
    assert set(STATISTICS) == set(ClipRules.effects())


@pytest.mark.parametrize("name", STATISTICS)
def test_effect_is_in_the_log_and_vanishes(name):
    """All pages in random order, so that what the incumbent prefers does not hide the effect."""
    rules = dataclasses.replace(SMALL, exploration=1.0)
    assert STATISTICS[name](ClipWorld(rules, seed=3)) > 4
    assert STATISTICS[name](ClipWorld(rules.without(name), seed=3)) < 3.5
