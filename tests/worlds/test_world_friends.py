"""The network: the graph as of a morning, who may be suggested, each effect in what is recorded and gone when off."""

import dataclasses
import functools

import numpy as np
import pandas as pd
import pytest

from mlsd.worlds.base import START, WorldError, times
from mlsd.worlds.friends import ANSWER_DAYS, USED_DAYS, FriendRules, FriendWorld, _Graph

SMALL = FriendRules(n_users=1200, organic_per_day=80, n_schools=30, n_jobs=60, ring=12, horizon_days=30)
SMALLER = dataclasses.replace(SMALL, n_users=500, organic_per_day=30, n_schools=12, n_jobs=25)


@pytest.fixture(scope="module")
def world() -> FriendWorld:
    return FriendWorld(SMALLER, seed=3)


@pytest.fixture(scope="module")
def log(world) -> pd.DataFrame:
    return world.log(20)


# ---------- the graph ----------


@pytest.mark.parametrize("day", [0, 1, 9, 20])
def test_edges_are_the_graph_that_the_visits_saw(world, log, day):
    known = world.edges(day)
    graph = world._serve_past(day).graph
    rebuilt = _Graph.of(500, known.user_id.to_numpy(), known.friend_id.to_numpy())
    for part in ("tied", "mutual", "degree"):
        np.testing.assert_array_equal(getattr(rebuilt, part), getattr(graph, part))
    if day in set(log.day):
        rows = log[log.day == day]
        np.testing.assert_array_equal(rows.mutual, rebuilt.mutual[rows.user_id, rows.item_id])
        np.testing.assert_array_equal(rows.item_degree, rebuilt.degree[rows.item_id])


def test_edges_hold_nothing_that_comes_later(world, log):
    morning = START + pd.Timedelta(9, "D")
    known = world.edges(9)
    assert (known.since <= morning).all() and (known.user_id < known.friend_id).all()
    assert not known.duplicated(["user_id", "friend_id"]).any()
    pd.testing.assert_frame_equal(known, world.edges(9, log))
    pd.testing.assert_frame_equal(known, world.edges(9, world.as_known(log, 9)))
    assert set(known.source) == {"organic", "suggested"} and len(world.edges(9, log.iloc[:0])) >= (known.source == "organic").sum()


def test_a_self_edge_and_a_tie_that_is_there_change_nothing():
    graph = _Graph.empty(4)
    assert graph.tie(np.array([0, 1, 1, 2, 0]), np.array([1, 0, 2, 2, 1])).tolist() == [True, False, True, False, False]
    assert graph.degree.tolist() == [1, 2, 1, 0] and graph.mutual[0, 2] == graph.mutual[2, 0] == 1 and graph.mutual.sum() == 2
    assert not np.diag(graph.tied).any()


def test_an_invitation_sent_twice_makes_one_tie(world, log):
    """Both may invite each other on one day, before either is known: the pair is tied once, since the first answer."""
    yes = log[(log.accepted == 1) & (log.accepted_known_at < START + pd.Timedelta(10, "D"))].head(5)
    other_way = yes.rename(columns={"user_id": "item_id", "item_id": "user_id"})
    twice = pd.concat([yes, other_way, yes], ignore_index=True)
    pd.testing.assert_frame_equal(world.edges(10, twice), world.edges(10, yes))


def test_tie_rate_tells_who_ties_outside_the_module(world):
    a, b = np.triu_indices(500, 1)
    p = world.tie_rate(pd.DataFrame(dict(user_id=a, item_id=b)), 10)
    assert abs(p.sum() - 30) < 1
    made = world.edges(13).query("source == 'organic'")
    made = made[made.since >= START + pd.Timedelta(10, "D")]
    rate = pd.Series(p, pd.MultiIndex.from_arrays([a, b]))
    of_made = rate.loc[list(zip(made.user_id, made.friend_id, strict=True))]
    assert len(made) > 60 and (of_made > rate.quantile(0.9)).mean() > 0.6


# ---------- who is suggested ----------


def test_nobody_is_suggested_to_a_friend_to_somebody_invited_or_to_oneself(world, log):
    assert (log.user_id != log.item_id).all()
    for day in (3, 12):
        rows, known = log[log.day == day], world.edges(day)
        tied = set(zip(known.user_id, known.friend_id, strict=True))
        shown = set(zip(rows[["user_id", "item_id"]].min(axis=1), rows[["user_id", "item_id"]].max(axis=1), strict=True))
        asked = log[(log.day < day) & (log.invite == 1)][["user_id", "item_id"]]
        assert not shown & tied and not shown & set(zip(asked.min(axis=1), asked.max(axis=1), strict=True))


def test_a_block_holds_in_both_directions_from_the_second_it_is_set():
    """Somebody who was just shown would not be, had either blocked the other a second before the visit."""
    world = FriendWorld(SMALLER, seed=3)
    day = world.log(3).query("day == 2")
    row = day.iloc[10]
    for pair in ((row.user_id, row.item_id), (row.item_id, row.user_id)):
        for second, is_shown in ((1, True), (0, False), (-1, False)):
            again = FriendWorld(SMALLER, seed=3)
            mine = pd.DataFrame(dict(user_id=[pair[0]], blocked_id=[pair[1]], since=[row.time + pd.Timedelta(second, "s")]))
            again.blocks = pd.concat([again.blocks, mine.astype(again.blocks.dtypes.to_dict())], ignore_index=True)
            rows = again.deploy(again.incumbent, 1, start=2)
            assert ((rows.user_id == row.user_id) & (rows.item_id == row.item_id)).any() == is_shown


def test_a_member_without_ties_gets_a_full_list(world, log):
    alone = log[log.user_degree == 0]
    assert len(alone) and (alone.groupby("request_id").size() == world.rules.slots).all() and (alone.mutual == 0).all()


def test_answers_come_within_two_weeks_and_use_is_known_a_week_later(log):
    wait = (log.accepted_known_at - log.time) / pd.Timedelta(1, "D")
    answered = (log.accepted == 1) | (log.reported == 1)
    assert (wait[log.invite == 0] == 0).all() and wait[answered].between(0, ANSWER_DAYS).all()
    assert (wait[(log.invite == 1) & ~answered] == ANSWER_DAYS).all()
    assert ((log.active_known_at - log.accepted_known_at) == pd.Timedelta(USED_DAYS, "D") * log.accepted.astype(int)).all()
    assert (log.active <= log.accepted).all() and (log.accepted <= log.invite).all() and not (log.accepted * log.reported).any()


def test_the_inbox_counts_a_week_of_invitations_without_an_answer(log):
    for day in (5, 15):
        morning = START + pd.Timedelta(day, "D")
        waits = log[(log.invite == 1) & log.day.between(day - 7, day - 1) & (log.accepted_known_at > morning)]
        rows = log[log.day == day]
        np.testing.assert_array_equal(rows.pending, waits.groupby("item_id").size().reindex(rows.item_id, fill_value=0))


def test_bad_rules_are_refused():
    for bad in (dict(slots=0), dict(slots=50), dict(ring=200)):
        with pytest.raises(WorldError, match="ring <= n_users"):
            FriendWorld(dataclasses.replace(SMALLER, **bad))


# ---------- each effect ----------


def rates_apart(happened, a, b) -> float:
    """How many standard deviations the rate of the rows `a` is above that of `b`."""
    happened, a, b = (np.asarray(x) for x in (happened, a, b))
    p, n, m = happened[a | b].mean(), a.sum(), b.sum()
    return float((happened[a].mean() - happened[b].mean()) / np.sqrt(p * (1 - p) * (1 / n + 1 / m)))


def ties(w: FriendWorld) -> tuple[np.ndarray, np.ndarray]:
    return tuple(w.edges(0)[["user_id", "friend_id"]].to_numpy().T)


def within(w: FriendWorld, same: np.ndarray) -> float:
    """Ties among pairs of which `same` holds, against their share of all pairs."""
    a, b = ties(w)
    share = same[np.triu_indices(len(same), 1)].mean()
    return float((same[a, b].mean() - share) / np.sqrt(share * (1 - share) / len(a)))


def equal(w: FriendWorld, *columns: str) -> np.ndarray:
    value = w.users[list(columns)].to_numpy()
    return (value[:, None] == value[None]).all(axis=2) & (value[:, :1] >= 0)


def shared_topics(w: FriendWorld) -> np.ndarray:
    has = w.users.interests.str.get_dummies(" ").to_numpy()
    return has @ has.T >= 2


def beyond_the_profile(w: FriendWorld) -> float:
    """How alike in taste tied members are, less what their profiles say of it."""
    rest = w._alike - (1 - w.rules.hidden_side) * w.without("hidden_side")._alike
    of_ties = rest[ties(w)]
    return float((of_ties.mean() - rest.mean()) / max(rest.std() / np.sqrt(len(of_ties)), 1e-9))


def over_fresh_paths(w: FriendWorld) -> float:
    """Ties of each day that close a path over a tie of the two days before, against ties of the same members to others."""
    known, rng = w.edges(25, w._no_rows()), np.random.default_rng(0)
    closes, placebo = [], []
    for day in range(2, 25):
        of = known[known.since < times(day)]
        fresh = of[of.since >= times(day - 2)][["user_id", "friend_id"]].to_numpy()
        graph = _Graph.of(w.rules.n_users, of.user_id.to_numpy(), of.friend_id.to_numpy())
        new = known[(known.since >= times(day)) & (known.since < times(day + 1))]
        user, friend = new.user_id.to_numpy(), new.friend_id.to_numpy()
        over = graph.paths_over([fresh], user) > 0
        closes.append(over[np.arange(len(user)), friend])
        placebo.append(over[np.repeat(np.arange(len(user)), 20), rng.integers(0, w.rules.n_users, 20 * len(user))])
    both = np.concatenate([*closes, *placebo])
    is_tie = np.arange(len(both)) < sum(map(len, closes))
    return rates_apart(both, is_tie, ~is_tie)


def degrees_spread(w: FriendWorld) -> float:
    """Variance of the degree over its mean, against that of counts."""
    degree = w.log(1).pipe(lambda _: w._start.degree)
    return float((degree.var() / degree.mean() - 1) * np.sqrt((len(degree) - 1) / 2))


def asked(w: FriendWorld) -> pd.DataFrame:
    return w.log(28).query("invite == 1")


def careless_ones(w: FriendWorld) -> float:
    careless = FriendWorld(dataclasses.replace(w.rules, carelessness=1.0), w.seed)._careless[asked(w).item_id] > 0
    return rates_apart(asked(w).accepted, careless, ~careless)


def source_by_mutual(w: FriendWorld) -> float:
    """Common ties of candidates with any, against those of all pairs with any."""
    mutual, graph = w.log(1).mutual, w._start
    shown, all_pairs = mutual[mutual > 0], graph.mutual[(graph.mutual > 0) & ~graph.tied & (w._source == 0)]
    return float((shown.mean() - all_pairs.mean()) / (all_pairs.std() / np.sqrt(len(shown))))


def source_by_list(w: FriendWorld) -> float:
    """Candidates of one confidential list, against its share of all pairs."""
    listed, lg = w._together("patients"), w.log(7)
    share = listed[np.triu_indices(len(listed), 1)].mean()
    return float((listed[lg.user_id, lg.item_id].mean() - share) / np.sqrt(share / len(lg)))


def tireless(w: FriendWorld) -> float:
    """Members who invited a quarter of whom they were shown, in hundredths of a percent."""
    sent = w.log(14).groupby("user_id").invite.agg(["mean", "size"]).query("size >= 40")
    return 1e4 * float((sent["mean"] > 0.25).mean())


STATISTICS = {
    "school_tie": lambda w: within(w, equal(w, "school") & (np.abs(np.subtract.outer(*[w.users.school_year.to_numpy()] * 2)) <= 2)),
    "work_tie": lambda w: within(w, equal(w, "work")),
    "place_tie": lambda w: within(w, equal(w, "place")),
    "team_tie": lambda w: within(w, w._together("team")),
    "interests": lambda w: within(w, shared_topics(w)),
    "hidden_side": beyond_the_profile,
    "closure": lambda w: rates_apart((lg := w.log(14)).invite, lg.mutual >= 2, lg.mutual == 0),
    "fresh_closure": over_fresh_paths,
    "hub_pull": degrees_spread,
    "sociability": degrees_spread,
    "overload": lambda w: rates_apart((lg := asked(w)).accepted, lg.pending == 0, lg.pending >= 2),
    "carelessness": careless_ones,
    "hub_silence": lambda w: rates_apart((lg := asked(w).query("accepted == 1")).active, lg.item_degree < 18, lg.item_degree > 36),
    "repetition": lambda w: rates_apart((lg := w.log(28)).invite, lg.times_shown == 0, lg.times_shown > 0),
    "late_answers": lambda w: (
        100 * float(((lg := asked(w).query("accepted == 1")).accepted_known_at > lg.time + pd.Timedelta(1, "h")).mean())
    ),
    "ring": tireless,
    "newcomers": lambda w: 100 * float((w.users.created_at > times(-60)).mean()),
    "source_closure": source_by_mutual,
    "source_groups": source_by_list,
    "position_bias": lambda w: rates_apart((lg := w.log(7)).invite, lg.position <= 2, lg.position > 6),
    "exploration": lambda w: 100 * float(w.log(3).randomised.mean()),
}
TO_HUBS = {"hub_pull", "sociability", "source_closure"}  # so that some members get many of the invitations
NEEDS = dict(hidden_side={"interests"}, overload=TO_HUBS, hub_silence=TO_HUBS)


def test_every_effect_has_a_statistic():
    assert set(STATISTICS) == set(FriendRules.effects())


@functools.cache  # without its effect, a quiet world is the same for most of them
def world_of(rules: FriendRules) -> FriendWorld:
    return FriendWorld(rules, seed=2)


@pytest.mark.parametrize("name", STATISTICS)
def test_effect_is_recorded_and_gone_when_off(name):
    """Alone among the effects, in a product that lists in random order: what follows tells the rule."""
    quiet = SMALL.without(*(set(FriendRules.effects()) - {name} - NEEDS.get(name, set())))
    if name != "exploration":
        quiet = dataclasses.replace(quiet, exploration=1.0)
    assert STATISTICS[name](FriendWorld(quiet, seed=2)) > 4
    assert abs(STATISTICS[name](world_of(quiet.without(name)))) < 3.5
