"""The event world: truth is calibrated, counters are as of the hour, each effect is in the log and gone when off."""

import dataclasses
import functools

import numpy as np
import pandas as pd
import pytest
from scipy.special import logit

from mlsd.experiments import both_worlds
from mlsd.worlds.base import START, WorldError
from mlsd.worlds.events import VOCABULARY, EventRules, EventWorld

SMALL = EventRules(n_users=900, n_hosts=120, events_per_day=30, horizon_days=40)


def at_random(candidates: pd.DataFrame) -> np.ndarray:
    return np.random.default_rng(0).random(len(candidates))


class Batch:
    """A policy whose lists are computed every so many hours."""

    def __init__(self, policy, refresh_hours, **more):
        self.policy, self.refresh_hours = policy, refresh_hours
        vars(self).update(more)

    def __call__(self, candidates):
        return self.policy(candidates)


@pytest.fixture(scope="module")
def world() -> EventWorld:
    return EventWorld(SMALL, seed=3)


@pytest.fixture(scope="module")
def log(world) -> pd.DataFrame:
    return world.log(14)


# ---------- the log ----------


def test_a_visit_lists_distinct_events_that_are_announced_coming_and_not_full(world, log):
    assert not log.duplicated(["request_id", "item_id"]).any()
    by_request = log.groupby("request_id").position.agg(["min", "max", "size"])
    assert (by_request["min"] == 1).all() and (by_request["max"] == by_request["size"]).all() and (by_request["size"] <= 20).all()
    item = world.items.iloc[log.item_id]
    assert (item.created_at.to_numpy() <= log.time.to_numpy()).all() and (log.time.to_numpy() < item.start_at.to_numpy()).all()
    assert (log.rsvps_so_far.to_numpy() < item.capacity.to_numpy()).all()
    assert log.groupby(["user_id", "item_id"]).rsvp.sum().max() == 1


def test_who_came_is_known_when_the_event_is_over(world, log):
    yes = log[log.rsvp == 1]
    assert (yes.attended_known_at == world.items.start_at.iloc[yes.item_id].to_numpy() + pd.Timedelta(3, "h")).all()
    assert (log.attended_known_at == log.time)[log.rsvp == 0].all()


def test_counters_are_as_of_the_hour(world, log):
    """Recomputed from the RSVPs in the log: those made before the top of the hour of the visit, and no others."""
    yes = log.loc[log.rsvp == 1, ["user_id", "item_id", "time"]]
    rows = log[["request_id", "user_id", "item_id"]].assign(hour=log.time.dt.floor("h"))
    of_item = rows.merge(yes[["item_id", "time"]], on="item_id")
    rsvps = of_item[of_item.time < of_item.hour].groupby(["request_id", "item_id"]).size()
    told = world.friends.merge(yes.rename(columns=dict(user_id="friend_id")), on="friend_id")[["user_id", "item_id", "time"]]
    of_friends = rows.merge(told, on=["user_id", "item_id"])
    friends = of_friends[of_friends.time < of_friends.hour].groupby(["request_id", "item_id"]).size()
    key = pd.MultiIndex.from_frame(log[["request_id", "item_id"]])
    np.testing.assert_array_equal(rsvps.reindex(key, fill_value=0).to_numpy(), log.rsvps_so_far)
    np.testing.assert_array_equal(friends.reindex(key, fill_value=0).to_numpy(), log.friends_going)
    assert log.friends_going.max() > 1


def test_propensities_say_how_lists_were_ordered(log):
    share = SMALL.exploration
    by_request = log.drop_duplicates("request_id").randomised
    assert abs(by_request.mean() - share) < 3.5 * np.sqrt(share * (1 - share) / len(by_request))
    ranked = log[log.propensity > 0.5]
    assert abs((1 / ranked.propensity).sum() / len(log) - 1) < 0.03
    assert log.randomised[log.propensity < 0.5].all()


# ---------- serving ----------


def test_the_oracle_fills_the_rooms(world):
    came = {name: world.deploy(p, 7, start=7) for name, p in dict(o=world.oracle, i=world.incumbent, r=at_random).items()}
    came = {name: d.attended.sum() / d.request_id.nunique() for name, d in came.items()}
    assert came["o"] > 1.25 * came["i"] and came["i"] > 1.1 * came["r"]


def test_a_batch_system_ranks_by_what_it_knew_when_the_lists_were_made(world):
    seen = []

    def spy(candidates):
        seen.append(candidates)
        return -candidates.item_id.to_numpy(float)

    log = world.deploy(Batch(spy, 6), days=1, start=5)
    assert (log.scored_at == log.time.dt.floor("6h")).all()
    candidates = pd.concat(seen)
    assert set(candidates.time.dt.hour) <= {0, 6, 12, 18}
    assert (world.items.created_at.iloc[candidates.item_id].to_numpy() <= candidates.time.to_numpy()).all()
    assert (world.items.start_at.iloc[log.item_id].to_numpy() > log.time.to_numpy()).all()
    fresh = log.merge(candidates, on=["request_id", "item_id"], suffixes=("", "_when_scored"))
    assert len(fresh) == len(log)
    assert (fresh.rsvps_so_far >= fresh.rsvps_so_far_when_scored).all() and (fresh.rsvps_so_far > fresh.rsvps_so_far_when_scored).any()


def test_older_lists_cost_rsvps(world):
    hourly, daily = (both_worlds(world, world.oracle, Batch(world.oracle, h), days=7, start=7).lift("rsvps_per_request") for h in (1, 24))
    assert daily.high < -0.05 and abs(hourly.value) < 0.01


def test_a_list_longer_than_the_page_fills_its_holes(world):
    short = world.deploy(Batch(world.incumbent, 24), days=1, start=7)
    long = world.deploy(Batch(world.incumbent, 24, list_length=40), days=1, start=7)
    shown = [log[~log.randomised].groupby("request_id").item_id.agg(list) for log in (short, long)]
    assert (shown[1].str.len() <= 20).all() and shown[1].str.len().mean() > shown[0].str.len().mean() + 1
    assert (long.groupby("request_id").position.max() == long.groupby("request_id").size()).all()
    same = [a == b[: len(a)] for a, b in zip(*shown, strict=True)]  # holes close from below: what was on the page stays above
    assert np.mean(same) > 0.8  # not all: what is on the page fills rooms


def test_clear_errors(world):
    with pytest.raises(WorldError, match="list_length"):
        world.deploy(Batch(world.incumbent, 24, list_length=41), days=1, start=0)
    with pytest.raises(WorldError, match="divides 24"):
        world.deploy(Batch(world.incumbent, 5), days=1, start=0)
    with pytest.raises(WorldError, match="slots <= candidates"):
        EventWorld(EventRules(slots=41))


# ---------- truth ----------


@pytest.fixture(scope="module")
def oracle_log(world) -> pd.DataFrame:
    return world.deploy(world.oracle, days=10, start=3)


@pytest.mark.parametrize("outcome", ["rsvp", "attended"])
@pytest.mark.parametrize("rows", ["position > 0", "position == 1", "position > 10", "randomised", "friends_going > 0", "rsvps_so_far > 8"])
def test_truth_is_calibrated(world, oracle_log, rows, outcome):
    log = oracle_log.query(rows)
    p = world.truth(log, outcome)
    assert abs(log[outcome].sum() - p.sum()) < 3.5 * np.sqrt((p * (1 - p)).sum())


# ---------- each effect: a statistic of the log that is large with it and about zero without ----------


def rates_apart(y: pd.Series, rows: np.ndarray, others: np.ndarray) -> float:
    """Difference of two rates in standard errors."""
    a, b = y[rows], y[others]
    return (a.mean() - b.mean()) / np.sqrt(a.var() / len(a) + b.var() / len(b))


def excess_dispersion(y: pd.Series, by: np.ndarray) -> float:
    """Chi-square of outcomes by group over what chance gives, in standard deviations."""
    table = pd.DataFrame(dict(y=y.to_numpy(), by=by)).groupby("by").y.agg(["sum", "size"])
    table = table[table["size"] * y.mean() >= 3]
    expected = table["size"] * y.mean()
    chi2 = ((table["sum"] - expected) ** 2 / expected / (1 - y.mean())).sum()
    return float((chi2 - len(table)) / np.sqrt(2 * len(table)))


def topics(world: EventWorld) -> np.ndarray:
    """Words of each topic in each description, (n_items, n_topics)."""
    return np.array([[len(set(d.split()) & set(v.split())) for v in VOCABULARY.values()] for d in world.items.description])


def same_topic_again(world: EventWorld) -> float:
    log, topic = world.log(16), topics(world).argmax(axis=1)
    liked = np.zeros((world.rules.n_users, len(VOCABULARY)), int)
    early = log[(log.day < 8) & (log.rsvp == 1)]
    np.add.at(liked, (early.user_id, topic[early.item_id]), 1)
    late = log[log.day >= 8]
    before = liked[late.user_id, topic[late.item_id]] > 0
    of_user = late.rsvp - late.groupby("user_id").rsvp.transform("mean")  # eager users have more topics behind them
    return rates_apart(of_user, before, ~before & (liked.sum(axis=1)[late.user_id] > 0))


def differ_within_a_text(world: EventWorld) -> float:
    """Spread of the truth between events whose descriptions are of the same topics, for one user."""
    seen = topics(world)
    key = seen.argmax(axis=1) * 100 + np.argsort(-seen, axis=1)[:, 1]
    page = pd.DataFrame(dict(user_id=5, item_id=world.items.item_id, time=START, friends_going=0))
    return 10 * float(pd.Series(logit(world.truth(page))).groupby(key).std().median())


def friends_are_near(world: EventWorld) -> float:
    home = world.users[["home_x_km", "home_y_km"]].to_numpy()
    stranger = np.random.default_rng(0).permutation(world.friends.friend_id)
    apart = [np.linalg.norm(home[world.friends.user_id] - home[other], axis=1) for other in (stranger, world.friends.friend_id)]
    return float((apart[0].mean() - apart[1].mean()) / np.sqrt(apart[0].var() * 2 / len(stranger)) / 4)  # pairs share users


def friends_events_are_retrieved(world: EventWorld) -> float:
    """Friends going, as of midnight, to the events listed to a user and to events that others are listed."""
    log = world.log(12)
    z = []
    for day in range(6, 12):
        going = np.zeros((world.rules.n_users, len(world.items)), int)
        yes = log[(log.rsvp == 1) & (log.day < day)]
        told = yes.merge(world.friends.rename(columns=dict(user_id="told", friend_id="user_id")), on="user_id")
        np.add.at(going, (told.told, told.item_id), 1)
        today = log[log.day == day]
        listed, other = (going[today.user_id, item] > 0 for item in (today.item_id, np.random.default_rng(0).permutation(today.item_id)))
        z.append((listed.mean() - other.mean()) / np.sqrt(2 * other.mean() / len(today)))
    return float(np.sum(z) / np.sqrt(len(z)))


def km(world: EventWorld, log: pd.DataFrame) -> np.ndarray:
    home = world.users[["home_x_km", "home_y_km"]].to_numpy()[log.user_id]
    return np.linalg.norm(home - world.items[["x_km", "y_km"]].to_numpy()[log.item_id], axis=1)


def price(world, log):
    return world.items.price.to_numpy()[log.item_id]


def hours_ahead(world, log):
    return (world.items.start_at.to_numpy()[log.item_id] - log.time.to_numpy()) / np.timedelta64(1, "h")


def in_habit(world, log):
    start = world.items.start_at.iloc[log.item_id]
    weekend = (start.dt.day_of_week >= 5).to_numpy()
    return np.abs(start.dt.hour.to_numpy() - world._usual_hour[log.user_id]) < 2, weekend == (world._likes_weekends[log.user_id] > 0)


def came(log: pd.DataFrame) -> pd.DataFrame:
    return log[log.rsvp == 1]


STATISTICS = {
    "taste": same_topic_again,
    "hidden_style": differ_within_a_text,
    "appeal_spread": lambda w: excess_dispersion((lg := w.log(7)).rsvp, lg.item_id.to_numpy()),
    "host_quality": lambda w: excess_dispersion((lg := came(w.log(14))).attended, w.items.host_id.to_numpy()[lg.item_id]),
    "social_lift": lambda w: rates_apart((lg := w.log(7)).rsvp, lg.friends_going > 0, lg.friends_going == 0),
    "homophily": friends_are_near,
    "social_retrieval": friends_events_are_retrieved,
    "distance_decay": lambda w: rates_apart((lg := w.log(7)).rsvp, km(w, lg) < 4, km(w, lg) > 8),
    "price_sensitivity": lambda w: rates_apart((lg := w.log(7)).rsvp, price(w, lg) == 0, price(w, lg) > 15),
    "hour_habit": lambda w: rates_apart((lg := w.log(7)).rsvp, in_habit(w, lg)[0], ~in_habit(w, lg)[0]),
    "weekday_habit": lambda w: rates_apart((lg := w.log(7)).rsvp, in_habit(w, lg)[1], ~in_habit(w, lg)[1]),
    "urgency": lambda w: rates_apart((lg := w.log(7)).rsvp, hours_ahead(w, lg) < 24, hours_ahead(w, lg) > 72),
    "free_no_show": lambda w: rates_apart((lg := came(w.log(7))).attended, price(w, lg) > 15, price(w, lg) == 0),
    "far_no_show": lambda w: rates_apart((lg := came(w.log(7))).attended, km(w, lg) < 4, km(w, lg) > 8),
    "capacity": lambda w: 100 * float((w._serve_past(10).rsvps >= w.items.capacity).mean()),
    "position_bias": lambda w: rates_apart((lg := w.log(7)).rsvp, lg.position <= 2, lg.position > 15),
    "exploration": lambda w: 100 * float(w.log(3).randomised.mean()),
}
NEEDS = dict(hidden_style="taste")  # the style of an event matters to those who have a taste


def test_every_effect_has_a_statistic():
    assert set(STATISTICS) == set(EventRules.effects())


@functools.cache  # without its effect, a quiet world is the same for most of them
def world_of(rules: EventRules) -> EventWorld:
    return EventWorld(rules, seed=2)


@pytest.mark.parametrize("name", STATISTICS)
def test_effect_is_in_the_log_and_gone_when_off(name):
    """Alone among the effects, in a product that lists in random order: outcomes then tell the rule."""
    quiet = SMALL.without(*(set(EventRules.effects()) - {name, NEEDS.get(name)}))
    if name != "exploration":
        quiet = dataclasses.replace(quiet, exploration=1.0)
    assert STATISTICS[name](EventWorld(quiet, seed=2)) > 4
    assert abs(STATISTICS[name](world_of(quiet.without(name)))) < 3.5
