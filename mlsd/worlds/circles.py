"""A personalised feed among people who follow each other: readers are authors, and authors write when they are answered.

A visit sees ten posts of the last three days: by the people the reader follows, and some by strangers. What
is looked at may be dwelled on, liked, commented, shared or hidden; most readers stay silent. A few are asked next
day whether a post was worth their time. Who is answered writes more, so a ranking decides what there is to
rank next week. Time runs in steps of four hours: counters and what was seen are as of the step's beginning.
"""

from __future__ import annotations

import dataclasses
from collections import deque

import numpy as np
import pandas as pd
from scipy.special import expit, ndtri

from mlsd.worlds.base import (
    OnlineMetric,
    Policy,
    Rules,
    WorldError,
    decisive,
    effect,
    generator,
    gumbel,
    happens,
    ranking,
    scores_of,
    times,
)
from mlsd.worlds.engine import SimulatedWorld, examined, shown

TOPICS = ("family", "work", "sport", "politics", "music", "food", "travel", "science", "games", "fashion")
MEDIA = ("text", "photo", "video")
TASTE_DIM = 6  # dimensions of tastes and topics
LIFE_DAYS = 3  # how long a post is shown
STEPS, STEP_HOURS = 6, 4  # of a day
USUAL_ANSWERS = 0.3  # log of 1 + answers a day at which an author publishes every second draft
MEMORY = 0.15  # weight of today in what an author remembers of being answered

# Independent random streams.
_PEOPLE, _FOLLOWS, _POSTS, _VISITS, _RETRIEVAL, _LUCK = range(6)


@dataclasses.dataclass(frozen=True)
class CircleRules(Rules):
    """Planted effects and sizes of the world of circles."""

    taste: float = effect(
        0.8,
        off=0.0,
        unit="log-odds per standard deviation",
        mechanism="People react to topics that match their taste, and are glad of them.",
    )
    closeness: float = effect(
        0.8,
        off=0.0,
        unit="log-odds per standard deviation",
        mechanism="Some of those whom one follows are close: their posts are worth more, liked and above all commented.",
    )
    quality_spread: float = effect(
        0.6, off=0.0, unit="log-odds", mechanism="Some posts are better than others, and some authors write better ones."
    )
    bait: float = effect(
        0.8, off=0.0, unit="log-odds", mechanism="Provocation draws comments and dwell, gets posts hidden, and leaves readers less glad."
    )
    medium_taste: float = effect(0.5, off=0.0, unit="log-odds", mechanism="Each reader prefers some media to others.")
    silence: float = effect(
        1.3,
        off=0.0,
        unit="log-odds",
        mechanism="Readers differ in how readily they react in public; most hardly ever do, whatever they think.",
    )
    length_dwell: float = effect(0.7, off=0.0, unit="power", mechanism="A longer post takes longer, at the same interest.")
    freshness: float = effect(0.5, off=0.0, unit="log-odds per day", mechanism="Posts lose interest with age.")
    social_proof: float = effect(
        0.25,
        off=0.0,
        unit="log-odds per doubling of 1 + likes",
        mechanism="The number of likes is on the post, and likes attract likes.",
    )
    position_bias: float = effect(
        0.5, off=0.0, unit="power", mechanism="A post at position k comes into view and is looked at with probability k^-bias."
    )
    boredom: float = effect(1.5, off=0.0, unit="log-odds", mechanism="A post that was seen before is worth less, and is reacted to less.")
    satiation: float = effect(
        0.5,
        off=0.0,
        unit="log-odds per post above",
        mechanism="Each post by the same author higher on the page makes the next one less welcome; one of the same topic half as much.",
    )
    feedback: float = effect(
        2.0,
        off=0.0,
        unit="log-odds per unit of log(1 + answers a day)",
        mechanism="Authors who are answered publish more of their drafts, those who are not fewer.",
    )
    homophily: float = effect(3.0, off=0.0, unit="log-weight", mechanism="People follow people of their own town.")
    celebrity: float = effect(
        0.6, off=0.0, unit="power", mechanism="Fame is heavy-tailed: a few people are followed by a large part of all."
    )
    exploration: float = effect(0.08, off=0.0, unit="share of visits", mechanism="These visits see their candidates in random order.")

    n_users: int = 800
    n_towns: int = 20
    drafts_a_day: float = 0.6  # of a person, on average
    follows: float = 24.0  # of a person, at the median
    visits_a_day: float = 0.6
    in_network: int = 40  # candidates: the latest posts of those whom the reader follows
    out_of_network: int = 12  # candidates: posts of strangers
    slots: int = 10
    survey_rate: float = 0.03  # share of seen posts whose reader is asked next day
    horizon_days: int = 98  # days for which drafts are drawn


class CircleWorld(SimulatedWorld):
    """People open the feed, the service shows ten posts, people react, and write. See `base.World`.

    users: user_id, town.
    items: item_id, author_id, topic (code into TOPICS), medium (code into MEDIA), length (seconds that it takes), tone (how
    provocative a text classifier finds it), created_at. They are drafts: one that its author does not publish is never a candidate.
    follows: user_id, author_id.

    Counters (views, likes, comments so far) and served_before, seen_before are as of the beginning of the step, four hours
    each. A policy with an attribute `counter_lag_hours` (0, 4, ... 24) is served, and its log shows, counters that are so much older.
    Truth needs user_id, item_id, time, likes_so_far, seen_before, and of a page same_author_above, same_topic_above.
    """

    RULES = CircleRules
    OUTCOMES = ("like", "comment", "share", "hide")
    AFTERWARDS = (
        *("same_author_above", "same_topic_above", "seen", "dwell_seconds", "like", "comment", "share", "hide"),
        *("survey", "survey_known_at"),
    )
    KNOWN_LATER = {"survey_known_at": ("survey",)}
    SMALL = dict(n_users=150, n_towns=5, follows=15.0, horizon_days=20, survey_rate=0.2)

    # ---------- what exists ----------

    def _draw(self) -> None:
        if self.rules.slots > self.rules.out_of_network:
            raise WorldError(
                f"expected slots <= out_of_network, as some follow nobody; found {self.rules.slots} and {self.rules.out_of_network}"
            )
        self._draw_people()
        self._draw_follows()
        self._draw_drafts()
        per_visit = dict.fromkeys(("like", "comment", "share", "dwell_seconds"), True) | dict(hide=False)
        self.metrics = {f"{name}s_per_request": OnlineMetric(name, per="request", higher_is_better=up) for name, up in per_visit.items()}
        self.metrics["dwell_per_request"] = self.metrics.pop("dwell_secondss_per_request")
        self.metrics["worth_per_request"] = OnlineMetric("survey", per="request", scale=1 / self.rules.survey_rate)

    def _draw_people(self) -> None:
        r, rng = self.rules, generator(self.seed, _PEOPLE)
        n = r.n_users
        town = rng.integers(0, r.n_towns, n)
        self._taste = 0.5 * rng.normal(size=(r.n_towns, TASTE_DIM))[town] + np.sqrt(0.75) * rng.normal(size=(n, TASTE_DIM))
        self._media = rng.normal(size=(n, len(MEDIA)))
        self._open = -0.5 + r.silence * rng.normal(size=n)  # readiness to react in public
        self._visit_rate = np.minimum(r.visits_a_day * rng.lognormal(-0.3, 0.8, n), 2.0)
        self._fame = rng.exponential(size=n)
        self._skill, self._provokes = rng.normal(size=(2, n))
        self.users = pd.DataFrame(dict(user_id=np.arange(n, dtype=np.int32), town=town.astype(np.int16)))

    def _draw_follows(self) -> None:
        r, rng = self.rules, generator(self.seed, _FOLLOWS)
        n, town = r.n_users, self.users.town.to_numpy()
        weight = r.celebrity * self._fame + r.homophily * (town[:, None] == town) + rng.gumbel(size=(n, n))
        np.fill_diagonal(weight, -np.inf)
        wanted = np.clip(np.rint(decisive(r.follows * rng.lognormal(0, 0.5, n))), 3, n // 3).astype(int)
        wanted[rng.random(n) < 0.03] = 0  # newcomers, who follow nobody
        order = ranking(weight)
        self._follows = np.zeros((n, n), bool)
        row = np.repeat(np.arange(n), wanted)
        self._follows[row, order[row, np.arange(len(row)) - np.repeat(np.cumsum(wanted) - wanted, wanted)]] = True
        mutual = self._follows & self._follows.T
        # Those who follow each other are closer; a star is far away from most.
        near = 0.8 * rng.normal(size=(n, n)) + 0.8 * mutual - 0.3 * self._fame
        self._near = np.where(self._follows, near, -1.3)
        user, author = np.nonzero(self._follows)
        self.follows = pd.DataFrame(dict(user_id=user.astype(np.int32), author_id=author.astype(np.int32)))

    def _draw_drafts(self) -> None:
        r, rng = self.rules, generator(self.seed, _POSTS)
        rate = rng.lognormal(0, 0.7, r.n_users) * np.exp(0.2 * self._fame)
        rate *= r.drafts_a_day / rate.mean()
        days = r.horizon_days + LIFE_DAYS
        day, author = np.nonzero(happens(rng.random((days, r.n_users)), np.minimum(rate, 1)))
        n = len(day)
        usual_topic, usual_medium = rng.integers(0, len(TOPICS), r.n_users), rng.integers(0, len(MEDIA), r.n_users)
        topic = np.where(rng.random(n) < 0.6, usual_topic[author], rng.integers(0, len(TOPICS), n))
        medium = np.where(rng.random(n) < 0.6, usual_medium[author], rng.integers(0, len(MEDIA), n))
        self._quality = np.sqrt(0.4) * self._skill[author] + np.sqrt(0.6) * rng.normal(size=n)
        self._bait = np.sqrt(0.5) * self._provokes[author] + np.sqrt(0.5) * rng.normal(size=n)
        length = np.array([10, 5, 25])[medium] * rng.lognormal(0, 0.6, n)
        second = (86_400 * (np.sort(rng.beta(2.2, 1.6, n)))).astype(np.int64)
        second = second[rng.permutation(n)]
        order = np.lexsort((second, day))
        author, topic, medium, day, second, length = (x[order] for x in (author, topic, medium, day, second, length))
        self._quality, self._bait = self._quality[order], self._bait[order]
        self._topic_match = self._taste @ rng.normal(size=(len(TOPICS), TASTE_DIM)).T / np.sqrt(TASTE_DIM)
        self._author, self._topic, self._medium, self._length, self._day = author, topic, medium, length, day - LIFE_DAYS
        self._publish_luck = rng.random(n)
        self.items = pd.DataFrame(
            dict(
                item_id=np.arange(n, dtype=np.int32),
                author_id=author.astype(np.int32),
                topic=topic.astype(np.int8),
                medium=medium.astype(np.int8),
                length=np.rint(decisive(np.clip(length, 2, 120))).astype(np.int16),
                tone=np.round(decisive(0.7 * self._bait + np.sqrt(0.51) * rng.normal(size=n)), 2),
                created_at=times(self._day, second),
            )
        )
        self._created_at = self.items.created_at.to_numpy()

    # ---------- what people do ----------

    def _beliefs(self, rows: pd.DataFrame) -> dict[str, np.ndarray]:
        """Chances behind every outcome of each row; candidates have no position and nothing above them."""
        r, user, item = self.rules, rows.user_id.to_numpy(), rows.item_id.to_numpy()
        match, near = self._topic_match[user, self._topic[item]], self._near[user, self._author[item]]
        quality, bait = r.quality_spread * self._quality[item], r.bait * self._bait[item]
        age_days = (rows.time.to_numpy() - self._created_at[item]) / np.timedelta64(1, "D")
        above = rows.same_author_above.to_numpy() + 0.5 * rows.same_topic_above.to_numpy() if "same_author_above" in rows else 0.0
        interest = (
            r.taste * match
            + r.closeness * near
            + quality
            + r.medium_taste * self._media[user, self._medium[item]]
            - r.freshness * age_days
            - r.boredom * (rows.seen_before.to_numpy() > 0)
            - r.satiation * above
        )
        looks, ready = examined(rows, r.position_bias), self._open[user]
        proof = r.social_proof * np.log2(1 + rows.likes_so_far.to_numpy(np.float64))
        return dict(
            seen=looks * np.ones(len(rows)),
            like=looks * expit(-2.4 + ready + interest + 0.2 * bait + proof),
            comment=looks * expit(-4.0 + ready + 0.4 * interest + 0.6 * r.closeness * near + bait),
            share=looks * expit(-5.0 + ready + 0.6 * interest + quality),
            hide=looks * expit(-5.5 - 0.6 * interest + 0.8 * bait),
            worth=looks * expit(-0.3 + interest - 0.8 * bait),
            attention=0.5 * interest + 0.4 * bait,
        )

    def _probability(self, rows: pd.DataFrame, outcome: str) -> np.ndarray:
        return self._beliefs(rows)[outcome]

    def value(self, impressions: pd.DataFrame) -> np.ndarray:
        """P(seen, and worth the reader's time | everything) of each row, shape (n,): what the service is for."""
        return self._beliefs(impressions)["worth"]

    oracle = value

    # ---------- state ----------

    def _new_state(self) -> _State:
        n, m = len(self.users), len(self.items)
        state = _State(
            served=np.zeros((n, m), np.uint8),
            seen=np.zeros((n, m), np.uint8),
            published=np.zeros(m, bool),
            counters=deque([np.zeros((3, m), np.int32)], maxlen=24 // STEP_HOURS + 1),
            heard=np.full(n, USUAL_ANSWERS),
            answers=np.zeros(n),
            day=-LIFE_DAYS - 1,
            step=-1,
        )
        self._turn_to(-1, 0, state)
        return state

    def _turn_to(self, day: int, step: int, state: _State) -> None:
        """Begin the days and steps up to this one: authors publish in the morning, counters are noted every four hours."""
        while state.day < day:
            if state.day >= 0:
                live = (
                    np.bincount(
                        self._author[state.published & (self._day > state.day - LIFE_DAYS) & (self._day <= state.day)],
                        minlength=len(self.users),
                    )
                    > 0
                )
                heard = np.log1p(state.answers)
                state.heard += np.where(live, MEMORY * (heard - state.heard), MEMORY / 3 * (USUAL_ANSWERS - state.heard))
            state.answers[:] = 0
            state.day += 1
            today = slice(*np.searchsorted(self._day, [state.day, state.day + 1]))
            p = expit(self.rules.feedback * (state.heard[self._author[today]] - USUAL_ANSWERS))
            state.published[today] = happens(self._publish_luck[today], p)
        now = day * STEPS + step
        for _ in range(min(now - state.step, state.counters.maxlen) if now > state.step >= 0 else 0):
            state.counters.append(state.counters[-1].copy())
        state.step = max(now, state.step)

    def _record(self, served: pd.DataFrame, state: _State) -> None:
        step = served.time.dt.hour.to_numpy() // STEP_HOURS
        day, user, item = (served[c].to_numpy() for c in ("day", "user_id", "item_id"))
        seen, like, comment = (served[c].to_numpy() for c in ("seen", "like", "comment"))
        edges = np.flatnonzero(np.diff(day * STEPS + step)) + 1
        for rows in np.split(np.arange(len(day)), edges):
            self._turn_to(int(day[rows[0]]), int(step[rows[0]]), state)
            u, i = user[rows], item[rows]
            state.served[u, i] += state.served[u, i] < 255
            state.seen[u, i] += (seen[rows] == 1) & (state.seen[u, i] < 255)
            for counter, happened in enumerate((seen, like, comment)):
                np.add.at(state.counters[-1][counter], i, happened[rows])
            np.add.at(state.answers, self._author[i], like[rows] + 2.0 * comment[rows])

    def published(self, log: pd.DataFrame) -> pd.DataFrame:
        """The posts that authors published on the days of a log, which `log` or `deploy` returned: the rows of `items`, with their day."""
        days = np.unique(log.day)
        state = self._serve_past(int(days[0]))
        self._record(log, state)
        mine = np.flatnonzero(state.published & np.isin(self._day, days))
        return self.items.iloc[mine].assign(day=self._day[mine].astype(np.int32))

    # ---------- serving ----------

    def _serve_day(self, policy: Policy, day: int, state: _State) -> pd.DataFrame:
        lag = getattr(policy, "counter_lag_hours", 0)
        if lag not in range(0, 25, STEP_HOURS):
            raise WorldError(f"counter_lag_hours: expected 0, {STEP_HOURS}, ... 24, found {lag!r}")
        r, rng = self.rules, generator(self.seed, _VISITS, day)
        share = np.array([0.04, 0.12, 0.2, 0.2, 0.26, 0.18])  # of a day's visits, by step
        comes = happens(rng.random((STEPS, r.n_users)), self._visit_rate * share[:, None])
        second = rng.integers(0, STEP_HOURS * 3600, comes.shape)
        explored = happens(rng.random(comes.shape), r.exploration)
        served = []
        for step in range(STEPS):
            self._turn_to(day, step, state)
            user = np.flatnonzero(comes[step])
            if len(user) == 0:
                continue
            requests = dict(
                request_id=(day * np.int64(STEPS) + step) * r.n_users + user,
                time=times(day, step * STEP_HOURS * 3600 + second[step, user]),
                day=np.full(len(user), day, np.int32),
                user_id=user.astype(np.int32),
            )
            served.append(self._serve_step(policy, requests, explored[step, user], day, step, lag, state))
            self._record(served[-1], state)
        return pd.concat(served, ignore_index=True)

    def _serve_step(
        self, policy: Policy, requests: dict[str, np.ndarray], explored: np.ndarray, day: int, step: int, lag: int, state: _State
    ) -> pd.DataFrame:
        r, user, n = self.rules, requests["user_id"], len(explored)
        counters = state.counters[max(-1 - lag // STEP_HOURS, -len(state.counters))]
        live = np.arange(*np.searchsorted(self._day, [day - LIFE_DAYS, day + 1]))
        now = times(day, step * STEP_HOURS * 3600)
        age = (now - self._created_at[live]) / np.timedelta64(1, "D")
        there = state.published[live] & (age >= 0) & (age < LIFE_DAYS)
        live, age = live[there], age[there]
        # The same visits meet the same drafts under any policy, so what is drawn for a pair does not hang on what was published.
        luck = generator(self.seed, _RETRIEVAL, day, step).random((2, n, len(there)), dtype=np.float32)[:, :, there]
        followed = self._follows[user][:, self._author[live]]
        stranger = ~followed & (user[:, None] != self._author[live])
        popular = 0.7 * np.log1p(state.counters[-1][1, live]) + gumbel(luck[0])
        parts = [(np.where(followed, -age, -np.inf), r.in_network), (np.where(stranger, popular, -np.inf), r.out_of_network)]
        column = np.hstack([ranking(weight, k) for weight, k in parts])
        width = min(r.in_network, len(live))
        retrieved = np.hstack(
            [np.take_along_axis(w, c, 1) > -np.inf for (w, _), c in zip(parts, (column[:, :width], column[:, width:]), strict=True)]
        )
        row = np.repeat(np.arange(n), retrieved.sum(axis=1))
        candidates = self._rows(requests, row, live[column[retrieved]], counters, state)
        scores = np.full(retrieved.shape, -np.inf)
        scores[retrieved] = scores_of(policy, candidates)
        lottery = np.where(retrieved, np.take_along_axis(luck[1], column, 1), -np.inf)
        ranked, at_random = ranking(scores, r.slots), ranking(lottery, r.slots)
        order = np.where(explored[:, None], at_random, ranked)
        listed = np.take_along_axis(retrieved, order, 1)
        row = np.repeat(np.arange(n), listed.sum(axis=1))
        item = live[np.take_along_axis(column, order, 1)[listed]]
        by_rank = (1 - r.exploration) * (order == ranked)[listed]
        page = shown(
            self._rows(requests, row, item, counters, state),
            position=np.cumsum(listed, axis=1)[listed],
            propensity=by_rank + r.exploration / np.repeat(retrieved.sum(axis=1), listed.sum(axis=1)),
            randomised=explored[row],
        )
        return self._outcomes(page, day * STEPS + step)

    def _rows(
        self, requests: dict[str, np.ndarray], row: np.ndarray, item: np.ndarray, counters: np.ndarray, state: _State
    ) -> pd.DataFrame:
        """One row a candidate, in the columns that a policy sees: the requests `row`, each with its item."""
        user = requests["user_id"][row]
        return pd.DataFrame(
            {name: values[row] for name, values in requests.items()}
            | dict(
                item_id=item.astype(np.int32),
                in_network=self._follows[user, self._author[item]],
                views_so_far=counters[0, item],
                likes_so_far=counters[1, item],
                comments_so_far=counters[2, item],
                served_before=state.served[user, item],
                seen_before=state.seen[user, item],
            )
        )

    def _outcomes(self, page: pd.DataFrame, step: int) -> pd.DataFrame:
        """What people do with each row. Luck is tied to reader, post and step, so that two policies meet the same people."""
        item = page.item_id.to_numpy()
        request = page.request_id.to_numpy()
        page["same_author_above"], page["same_topic_above"] = _above(request, self._author[item]), _above(request, self._topic[item])
        p = self._beliefs(page)
        look, like, comment, share, hide, dwell, asked, glad = _uniform(generator(self.seed, _LUCK, step), page.user_id.to_numpy(), item, 8)
        seen = happens(look, p["seen"])
        # One draw decides the look, another the act given the look, so that the marginal is what `truth` says.
        acts = {
            name: seen & happens(u, p[name] / p["seen"]) for name, u in dict(like=like, comment=comment, share=share, hide=hide).items()
        }
        seconds = (
            2.0
            * (self._length[item] / 2.0) ** self.rules.length_dwell
            * np.exp(p["attention"] - 0.5 + 0.8 * ndtri(np.clip(dwell, 1e-6, 1 - 1e-6)))
        )
        is_asked = seen & happens(asked, self.rules.survey_rate)
        return page.assign(
            seen=seen.astype(np.int8),
            dwell_seconds=np.where(seen, np.rint(decisive(np.clip(seconds, 1, 600))), 0).astype(np.int16),
            **{name: happened.astype(np.int8) for name, happened in acts.items()},
            survey=np.where(is_asked, happens(glad, p["worth"] / p["seen"]), np.nan).astype(np.float32),
            survey_known_at=(page.time + pd.Timedelta(1, "D")).where(is_asked),
        )

    def _incumbent(self, candidates: pd.DataFrame) -> np.ndarray:
        """A rule of thumb: the latest first, liked ones a little higher, what was seen last."""
        age_days = (candidates.time.to_numpy() - self._created_at[candidates.item_id]) / np.timedelta64(1, "D")
        liked = np.log1p(candidates.likes_so_far.to_numpy(np.float64))
        return 0.4 * liked - age_days + 0.5 * candidates.in_network.to_numpy() - 5.0 * (candidates.seen_before.to_numpy() > 0)


@dataclasses.dataclass
class _State:
    """What the past leaves behind: who was served and saw what, what is published, counters of late, what authors heard."""

    served: np.ndarray  # (n_users, n_items) times
    seen: np.ndarray
    published: np.ndarray  # (n_items,) bool
    counters: deque  # of (3, n_items): views, likes, comments at the begin of each step; the last one is running
    heard: np.ndarray  # (n_users,) what each author remembers of being answered
    answers: np.ndarray  # (n_users,) today
    day: int
    step: int


def _above(request: np.ndarray, kind: np.ndarray) -> np.ndarray:
    """For each row how many earlier rows of its request are of its kind."""
    pair = request * np.int64(2**20) + kind
    order = np.argsort(pair, kind="stable")
    begins = np.flatnonzero(np.diff(pair[order], prepend=-1))
    above = np.empty(len(pair), np.int8)
    above[order] = np.arange(len(pair)) - np.repeat(begins, np.diff(np.append(begins, len(pair))))
    return above


def _uniform(rng: np.random.Generator, user: np.ndarray, item: np.ndarray, n: int) -> np.ndarray:
    """n uniform draws for each pair, shape (n, len(user)); the same for a pair whatever other pairs are asked for.

    Source: the finaliser of splitmix64 (Steele, Lea, Flood 2014) on a salted key.
    """
    salt = rng.integers(0, 2**63, n, dtype=np.uint64)[:, None]
    x = (user.astype(np.uint64) << np.uint64(32)) + item.astype(np.uint64) + salt
    for shift, factor in ((30, 0xBF58476D1CE4E5B9), (27, 0x94D049BB133111EB)):
        x = (x ^ (x >> np.uint64(shift))) * np.uint64(factor)
    x ^= x >> np.uint64(31)
    return (x >> np.uint64(11)) / 2**53
