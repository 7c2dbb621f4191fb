"""A social network with a module "people you may know": members suggest themselves to each other, and the graph grows.

A visit of the module shows members with whom the visitor has no tie. An invitation is sent or not; whom it reaches
answers within two weeks, or never; and some of the ties that come of it are used a week later. Outside the module ties
form all the time, among members who share a school, a job, a team, a taste or a friend: `edges` has both kinds.
Time runs in days here: a visit sees the graph as of midnight.
"""

from __future__ import annotations

import dataclasses

import numpy as np
import pandas as pd
from scipy import sparse
from scipy.special import expit

from mlsd.worlds.base import START, OnlineMetric, Policy, Rules, WorldError, effect, generator, gumbel, happens, ranking, scores_of, times
from mlsd.worlds.engine import SimulatedWorld, examined, shown

TASTE_DIM = 6
TOPICS = tuple(
    "running chess jazz cooking climbing gardening painting sailing football poetry gaming cycling "
    "theatre astronomy dancing fishing knitting hiking photography robotics yoga birds films travel".split()
)
ANSWER_DAYS = 14  # an invitation without an answer counts as ignored after so many days
USED_DAYS = 7  # whether a tie is used is known so many days after it was made
FRESH_DAYS = 2  # a tie younger than this makes friends of friends meet
INBOX_DAYS = 7  # unanswered invitations of so many days stand in a member's inbox
WINDOWS = 4  # a day of organic growth has so many steps
OLDEST = 800  # days for which the graph of day 0 has grown; members who are no newcomers were there from the start
STRANGER = -2.5  # log-weight in the candidate source of somebody without a common friend, school, job or group
PER_BATCH = 0.1  # the graph of day 0 grew in steps in which so many ties a member were made
DAY = np.timedelta64(1, "D")

# Independent random streams.
_MEMBERS, _GROUPS, _GRAPH, _ORGANIC, _BLOCKS, _RING, _VISITS, _LUCK = range(8)


@dataclasses.dataclass(frozen=True)
class FriendRules(Rules):
    """Planted effects and sizes of the network."""

    school_tie: float = effect(
        2.2, off=0.0, unit="log-odds", mechanism="Members of one school and nearly one year know each other and want the tie."
    )
    work_tie: float = effect(1.8, off=0.0, unit="log-odds", mechanism="Colleagues know each other and want the tie.")
    place_tie: float = effect(1.0, off=0.0, unit="log-odds", mechanism="Members who live in one place meet.")
    team_tie: float = effect(
        1.8, off=0.0, unit="log-odds", mechanism="Members of one small group know each other; of a large one they do not."
    )
    interests: float = effect(0.8, off=0.0, unit="log-odds per standard deviation", mechanism="Members of like taste want the tie.")
    hidden_side: float = effect(0.4, off=0.0, unit="share of variance", mechanism="Part of a member's taste is not in the profile.")
    closure: float = effect(
        0.9, off=0.0, unit="log-weight per doubling of 1 + common ties", mechanism="Who has friends in common meets, trusts, and ties."
    )
    fresh_closure: float = effect(
        1.2,
        off=0.0,
        unit="log-weight per doubling of 1 + fresh paths",
        mechanism="A new tie brings the friends of the one to the other within two days.",
    )
    hub_pull: float = effect(0.5, off=0.0, unit="log-weight per doubling of degree", mechanism="Members with many ties are sought by all.")
    sociability: float = effect(
        0.9, off=0.0, unit="standard deviation of a logarithm", mechanism="Some members make many more ties than others."
    )
    overload: float = effect(
        0.5,
        off=0.0,
        unit="log-odds per doubling of 1 + inbox",
        mechanism="The more invitations wait in an inbox, the fewer of them are accepted.",
    )
    carelessness: float = effect(0.7, off=0.0, unit="log-odds", mechanism="Some members accept more readily than others.")
    hub_silence: float = effect(
        0.5, off=0.0, unit="log-odds per doubling of degree", mechanism="A tie to a member with many ties is seldom used."
    )
    repetition: float = effect(
        0.4, off=0.0, unit="log-odds per doubling of 1 + times shown", mechanism="Who was passed over before is passed over again."
    )
    late_answers: float = effect(
        3.0, off=0.0, unit="days", mechanism="Answers come days later, from some members much later than from others."
    )
    ring: int = effect(
        24,
        off=0,
        unit="accounts",
        mechanism="Fake accounts copy profiles, tie to each other and to careless members, invite many and accept all.",
    )
    newcomers: float = effect(0.15, off=0.0, unit="share of members", mechanism="Members join while we watch, and have no ties at first.")
    source_closure: float = effect(
        1.5, off=0.0, unit="log-weight per doubling of 1 + common ties", mechanism="The candidate source prefers friends of friends."
    )
    source_groups: float = effect(
        1.5, off=0.0, unit="log-weight", mechanism="The candidate source uses shared groups and lists, confidential ones too."
    )
    position_bias: float = effect(0.5, off=0.0, unit="power", mechanism="A card at position k is looked at with probability k^-bias.")
    exploration: float = effect(0.08, off=0.0, unit="share of visits", mechanism="These visits see their candidates in random order.")

    n_users: int = 1600
    ties_made: float = 7.0  # a member has made so many ties by day 0, and received about as many
    organic_per_day: int = 120  # ties tried outside the module
    n_schools: int = 40
    n_jobs: int = 80
    n_places: int = 16
    blocks: int = 80
    candidates: int = 40  # retrieved for a visit
    slots: int = 10
    horizon_days: int = 60


class FriendWorld(SimulatedWorld):
    """Members visit "people you may know", invite, answer, and use the ties or not. See `base.World`.

    users: user_id, school, school_year, work (-1: none), place, interests (three topics), created_at (first seen on that day).
    items: item_id, created_at: the same members as they are suggested.
    groups: group_id, user_id, kind: "team" (small), "fans" (large), "patients" (lists that no profile shows).
    blocks: user_id, blocked_id, since: neither is suggested to the other from then on.
    `edges` gives the ties as of a morning, `tie_rate` the truth of who ties outside the module, `fakes` who is one.

    Members with a tie, an invitation in either direction, or a block are never candidates. A policy is called once a day with the
    candidates of all visits of the day; counters and graph are as of midnight. A policy with an attribute `candidates` is given so
    many. Ties outside the module do not depend on what it shows. Truth needs user_id, item_id, mutual, item_degree, pending, times_shown.
    """

    RULES = FriendRules
    OUTCOMES = ("accepted", "invite", "active", "reported")
    AFTERWARDS = ("invite", "accepted", "reported", "active", "accepted_known_at", "active_known_at")
    KNOWN_LATER = {"accepted_known_at": ("accepted", "reported"), "active_known_at": ("active",)}
    SMALL = dict(n_users=240, organic_per_day=12, n_schools=8, n_jobs=12, n_places=4, ring=6, blocks=12, horizon_days=14)

    # ---------- what exists ----------

    def _draw(self) -> None:
        r = self.rules
        if not 1 <= r.slots <= r.candidates or r.ring > r.n_users // 4:
            raise WorldError(f"expected 1 <= slots <= candidates, ring <= n_users / 4, found {r.slots}, {r.candidates}, {r.ring}")
        self._draw_members()
        self._draw_groups()
        self._draw_start()
        self._draw_organic()
        self.metrics = {
            "invites_per_request": OnlineMetric("invite", per="request"),
            "accepted_per_request": OnlineMetric("accepted", per="request"),
            "active_per_request": OnlineMetric("active", per="request"),
            "reports_per_request": OnlineMetric("reported", per="request", higher_is_better=False),
        }

    def _draw_members(self) -> None:
        r, rng = self.rules, generator(self.seed, _MEMBERS)
        n = r.n_users

        def uneven(k: int) -> np.ndarray:
            weight = rng.lognormal(0, 0.5, k)
            return weight / weight.sum()

        place = rng.choice(r.n_places, n, p=uneven(r.n_places))
        of_school, of_job = (rng.choice(r.n_places, k, p=uneven(r.n_places)) for k in (r.n_schools, r.n_jobs))
        school, work = rng.choice(r.n_schools, n, p=uneven(r.n_schools)), rng.choice(r.n_jobs, n, p=uneven(r.n_jobs))
        moves_to_school, moves_to_job = rng.random((2, n)) < 0.35
        place = np.where(moves_to_school, of_school[school], np.where(moves_to_job, of_job[work], place))
        work[rng.random(n) < 0.2] = -1
        year = rng.integers(2000, 2012, n)
        topics = ranking(np.zeros((n, len(TOPICS))) + gumbel(rng.random((n, len(TOPICS)))), 3)
        self._joined = -rng.integers(OLDEST, 2000, n)
        arrives = rng.random(n) < r.newcomers
        self._joined[arrives] = rng.integers(-60, r.horizon_days, arrives.sum())
        self._activity = np.exp(r.sociability * rng.normal(size=n))
        self._visit_rate = np.minimum(0.15 * np.exp(0.7 * rng.normal(size=n)), 0.9)
        self._eager, self._careless = rng.normal(0, 0.5, n), r.carelessness * rng.normal(size=n)
        self._slow = np.exp(0.8 * rng.normal(size=n))
        topic_vectors, hidden = rng.normal(size=(len(TOPICS), TASTE_DIM)), rng.normal(size=(n, TASTE_DIM))

        # The ring: accounts that copy the profile of somebody, and came lately.
        rng = generator(self.seed, _RING)
        self._fake = np.zeros(n, bool)
        ring, copied = rng.permutation(n)[: r.ring], rng.integers(0, n, r.ring)
        self._fake[ring] = True
        for copy in (school, year, work, place, topics):
            copy[ring] = copy[copied]
        self._joined[ring], self._activity[ring], self._visit_rate[ring] = -20, 0.0, 0.5

        taste = np.sqrt((1 - r.hidden_side) / 3) * topic_vectors[topics].sum(axis=1) + np.sqrt(r.hidden_side) * hidden
        same = {name: column[:, None] == column for name, column in dict(school=school, work=work, place=place).items()}
        same["work"] &= work >= 0
        near_year = np.exp(-np.abs(np.arange(12)) / 2)[np.abs(year[:, None] - year)]
        self._alike = (taste @ taste.T) / np.sqrt(TASTE_DIM)  # about standard normal for two strangers
        self._context = (
            r.school_tie * same["school"] * near_year + r.work_tie * same["work"] + r.place_tie * same["place"] + r.interests * self._alike
        )
        self._source = (1.25 * (same["school"] & (near_year > 0.3)) + 1.25 * same["work"]).astype(np.float32)
        self._place = place
        words = np.array(TOPICS)[topics]
        self.users = pd.DataFrame(
            dict(
                user_id=np.arange(n, dtype=np.int32),
                school=school.astype(np.int16),
                school_year=year.astype(np.int16),
                work=work.astype(np.int16),
                place=place.astype(np.int16),
                interests=[" ".join(sorted(row)) for row in words],
                created_at=times(self._joined),
            )
        )
        self.items = pd.DataFrame(dict(item_id=np.arange(n, dtype=np.int32), created_at=times(self._joined)))

    def _draw_groups(self) -> None:
        r, rng = self.rules, generator(self.seed, _GROUPS)
        n = r.n_users
        n_teams = n // 8
        founder, size = rng.integers(0, n, n_teams), rng.integers(4, 11, n_teams)
        near = 2.0 * (self._place[founder][:, None] == self._place) + self._alike[founder] + gumbel(rng.random((n_teams, n)))
        near[:, self._fake] = -1e9
        members = ranking(near, 10)
        groups = [("team", members[i, : size[i]]) for i in range(n_teams)]
        groups += [("patients", rng.permutation(n)[:25]) for _ in range(6)]
        groups += [("fans", np.flatnonzero(rng.random(n) < share)) for share in (0.1, 0.15, 0.2, 0.3)]
        self.groups = pd.DataFrame(
            dict(
                group_id=np.repeat(np.arange(len(groups), dtype=np.int16), [len(m) for _, m in groups]),
                user_id=np.concatenate([m for _, m in groups]).astype(np.int32),
                kind=np.repeat([kind for kind, _ in groups], [len(m) for _, m in groups]),
            )
        )
        self._context += r.team_tie * self._together("team")
        self._source += np.float32(r.source_groups) * (self._together("team") | self._together("patients"))

    def _together(self, kind: str) -> np.ndarray:
        """Which members share a group of this kind, shape (n, n)."""
        of = self.groups[self.groups.kind == kind]
        member = sparse.csr_matrix((np.ones(len(of)), (of.user_id, of.group_id)), (self.rules.n_users, self.groups.group_id.max() + 1))
        return (member @ member.T).toarray() > 0

    def _draw_start(self) -> None:
        """The graph of day 0, grown step by step from nothing; the ring's ties; blocks among those who nearly know each other."""
        r, rng = self.rules, generator(self.seed, _GRAPH)
        n, graph = r.n_users, _Graph.empty(r.n_users)
        made, since = [], []
        steps = np.linspace(-OLDEST, 0, max(round(r.ties_made / PER_BATCH), 1), endpoint=False).astype(int)
        for day in steps:
            active = self._activity * (self._joined <= day)
            user = rng.choice(n, round(PER_BATCH * n), p=active / active.sum())
            friend = self._choose(user, graph, day, rng.random((len(user), n), dtype=np.float32))
            new = graph.tie(user, friend)
            made.append(np.stack([user, friend], 1)[new])
            since.append(times(day, rng.integers(0, 86400, new.sum())))
        rng = generator(self.seed, _RING)
        ring = np.flatnonzero(self._fake)
        if len(ring):
            never = self._fake | (self._joined > -60)
            mules = np.argsort(-np.where(never, -np.inf, self._careless), kind="stable")[: max(len(ring) // 2, 1)]
            user = np.repeat(ring, 10)
            friend = np.concatenate([rng.choice(ring, (len(ring), 6)), rng.choice(mules, (len(ring), 4))], 1).ravel()
            new = graph.tie(user, friend)
            made.append(np.stack([user, friend], 1)[new])
            since.append(times(rng.integers(-20, 0, new.sum())))
        self._start = graph
        self._organic, self._since = np.concatenate(made), np.concatenate(since)

        rng = generator(self.seed, _BLOCKS)
        a, b = np.nonzero(np.triu((graph.mutual >= 2) & ~graph.tied, 1))
        some = rng.permutation(len(a))[: r.blocks]
        turned = rng.random(len(some)) < 0.5
        self.blocks = pd.DataFrame(
            dict(
                user_id=np.where(turned, b[some], a[some]).astype(np.int32),
                blocked_id=np.where(turned, a[some], b[some]).astype(np.int32),
                since=times(rng.integers(-90, r.horizon_days, len(some)), rng.integers(0, 86400, len(some))),
            )
        )

    def _utility(self, user: np.ndarray, graph: _Graph) -> np.ndarray:
        """How much each of `user` is drawn to each member, shape (len(user), n): log-weights of a choice."""
        r = self.rules
        drawn = self._context[user]  # a copy
        drawn += r.closure * _log2(graph.mutual[user])
        drawn += r.hub_pull * np.log2((1 + graph.degree) / 16)
        drawn[graph.tied[user] | self._fake] = -np.inf
        drawn[np.arange(len(user)), user] = -np.inf
        return drawn

    def _choose(self, user: np.ndarray, graph: _Graph, day: int, uniform: np.ndarray, fresh: np.ndarray | None = None) -> np.ndarray:
        """Whom each of `user` ties to outside the module: one draw of a multinomial choice (Gumbel's trick)."""
        drawn = self._utility(user, graph) + gumbel(uniform)
        if fresh is not None:
            drawn += self.rules.fresh_closure * _log2(fresh)
        drawn[:, self._joined > day] = -np.inf
        return ranking(drawn, 1)[:, 0]

    def _draw_organic(self) -> None:
        """Ties outside the module, window by window; they do not see what the module brings about."""
        r, rng = self.rules, generator(self.seed, _ORGANIC)
        n, graph = r.n_users, self._start.copy()
        blocked = np.zeros((n, n), bool)
        blocked[self.blocks.user_id, self.blocks.blocked_id] = blocked[self.blocks.blocked_id, self.blocks.user_id] = True
        made, since = [], []
        length = 86400 // WINDOWS
        for window in range(r.horizon_days * WINDOWS):
            day, begin = divmod(window, WINDOWS)
            p = self._activity * (self._joined <= day)
            user = rng.choice(n, max(r.organic_per_day // WINDOWS, 1), replace=False, p=p / p.sum())
            recent = made[-FRESH_DAYS * WINDOWS :]
            friend = self._choose(user, graph, day, rng.random((len(user), n), dtype=np.float32), graph.paths_over(recent, user))
            new = ~blocked[user, friend]
            new[new] = graph.tie(user[new], friend[new])
            made.append(np.stack([user, friend], 1)[new])
            since.append(times(day, begin * length + rng.integers(0, length, new.sum())))
        self._organic = np.concatenate([self._organic, *made]).astype(np.int32)
        self._since = np.concatenate([self._since, *since])
        order = np.argsort(self._since, kind="stable")
        self._organic, self._since = self._organic[order], self._since[order]

    # ---------- the graph, as somebody could know it ----------

    def edges(self, day: int, log: pd.DataFrame | None = None) -> pd.DataFrame:
        """The ties as of the morning of `day`: user_id < friend_id, since, source ("organic" or "suggested"); by `since`.

        log: what was served so far (default: this world's own past). An accepted invitation is a tie from the answer on; what
        a log has as not known yet is none. A pair that tied twice stands once, since the first time.
        """
        if log is None:
            log = self.log(day) if day > 0 else self._no_rows()
        morning = np.datetime64(times(day), "us")
        yes = log[(log.accepted == 1) & (log.accepted_known_at <= morning) & (log.day < day)]
        before = self._since < morning
        pairs = np.concatenate([self._organic[before], yes[["user_id", "item_id"]].to_numpy(np.int32)])
        made = pd.DataFrame(
            dict(
                user_id=pairs.min(axis=1),
                friend_id=pairs.max(axis=1),
                since=np.concatenate([self._since[before], yes.accepted_known_at.to_numpy()]),
                source=np.repeat(["organic", "suggested"], [before.sum(), len(yes)]),
            )
        )
        return made.sort_values("since", kind="stable").drop_duplicates(["user_id", "friend_id"]).reset_index(drop=True)

    def tie_rate(self, pairs: pd.DataFrame, day: int, log: pd.DataFrame | None = None) -> np.ndarray:
        """Expected organic ties of each pair (user_id, item_id) in a day, on the graph of that morning. Truth, never a feature."""
        known = self.edges(day, log)
        graph = _Graph.of(self.rules.n_users, known.user_id.to_numpy(), known.friend_id.to_numpy())
        everybody = np.arange(self.rules.n_users)
        recent = known[known.since >= START + pd.Timedelta(day - FRESH_DAYS, "D")]
        drawn = self._utility(everybody, graph)
        drawn += self.rules.fresh_closure * _log2(graph.paths_over([recent[["user_id", "friend_id"]].to_numpy()], everybody))
        drawn[:, self._joined > day] = -np.inf
        drawn -= drawn.max(axis=1, keepdims=True)
        p = np.exp(drawn, out=drawn)
        p *= (self._activity * (self._joined <= day) / p.sum(axis=1))[:, None]
        a, b = pairs.user_id.to_numpy(), pairs.item_id.to_numpy()
        return self.rules.organic_per_day * (p[a, b] + p[b, a]) / self._activity[self._joined <= day].sum()

    @property
    def fakes(self) -> np.ndarray:
        """The user ids of the ring. Truth, never a feature."""
        return np.flatnonzero(self._fake)

    # ---------- what people do ----------

    def _beliefs(self, rows: pd.DataFrame) -> dict[str, np.ndarray]:
        """P(invite), P(accept | invite), P(used | accepted), P(report | not accepted) of each row; without a position, as on top."""
        r, user, item = self.rules, rows.user_id.to_numpy(), rows.item_id.to_numpy()
        mutual, degree, pending, before = (rows[c].to_numpy(np.float64) for c in ("mutual", "item_degree", "pending", "times_shown"))
        context, crowd = self._context[user, item], np.log2((1 + degree) / 16)
        wants = -3.6 + self._eager[user] + 0.5 * context + 0.5 * r.closure * np.log2(1 + mutual)
        wants += r.hub_pull * crowd - r.repetition * np.log2(1 + before)
        wants = np.where(self._fake[user], 0.0, wants)
        says_yes = -0.6 + self._careless[item] + 0.4 * context + 0.3 * r.closure * np.log2(1 + mutual) - r.overload * np.log2(1 + pending)
        says_yes = np.where(self._fake[item], 3.5, says_yes - 0.7 * self._fake[user])
        uses = np.where(self._fake[user] | self._fake[item], -4.0, -1.0 + 0.6 * context - r.hub_silence * crowd)
        complains = -4.0 - 0.5 * context + 2.0 * self._fake[user]
        return dict(invite=examined(rows, r.position_bias) * expit(wants), accept=expit(says_yes), use=expit(uses), report=expit(complains))

    def _probability(self, rows: pd.DataFrame, outcome: str) -> np.ndarray:
        p = self._beliefs(rows)
        return p["invite"] * dict(
            invite=1.0, accepted=p["accept"], active=p["accept"] * p["use"], reported=(1 - p["accept"]) * p["report"]
        ).get(outcome)

    def value(self, impressions: pd.DataFrame) -> np.ndarray:
        """P(invited, accepted and used | everything) of each row, shape (n,): what the module is for, and the oracle's score."""
        return self.truth(impressions, "active")

    oracle = value

    # ---------- serving ----------

    def _new_state(self) -> _State:
        return _State.morning_of_day_0(self._start, self.rules.n_users)

    def _record(self, served: pd.DataFrame, state: _State) -> None:
        user, item = served.user_id.to_numpy(), served.item_id.to_numpy()
        state.times_shown[user, item] += 1
        sent = served.invite.to_numpy() == 1
        user, item, known_at, yes = user[sent], item[sent], served.accepted_known_at.to_numpy()[sent], served.accepted.to_numpy()[sent] == 1
        state.invited[user, item] = state.invited[item, user] = True
        day = np.full(len(user), state.day)
        state.sent = [np.concatenate(both) for both in zip(state.sent, (user, item, day, known_at, yes), strict=True)]
        begin, end = np.datetime64(times(state.day), "us"), np.datetime64(times(state.day + 1), "us")
        user, item, day, known_at, yes = state.sent
        due = yes & (known_at > begin) & (known_at <= end)
        first, last = np.searchsorted(self._since, [begin, end])
        pairs = np.concatenate([self._organic[first:last], np.stack([user[due], item[due]], 1)])
        order = np.argsort(np.concatenate([self._since[first:last], known_at[due]]), kind="stable")
        state.graph.tie(*pairs[order].T)
        state.day += 1
        waits = (known_at > end) | (day > state.day - INBOX_DAYS)
        state.sent = [column[waits] for column in state.sent]

    def _serve_day(self, policy: Policy, day: int, state: _State) -> pd.DataFrame:
        """One day of the product."""
        r, n = self.rules, self.rules.n_users
        rng = generator(self.seed, _VISITS, day)
        visits = (rng.random(n) < self._visit_rate) | (self._joined == day)
        user = rng.permutation(np.flatnonzero(visits & (self._joined <= day)))
        second = np.sort(rng.integers(6 * 3600, 86_400, len(user)))
        requests = dict(
            request_id=day * np.int64(n) + np.arange(len(user)),
            time=times(day, second),
            day=np.full(len(user), day, np.int32),
            user_id=user.astype(np.int32),
        )
        luck = generator(self.seed, _LUCK, day).random((7, len(user), n), dtype=np.float32)
        explored = happens(rng.random(len(user)), r.exploration)
        k = min(getattr(policy, "candidates", r.candidates), n)
        near, mutual = self._source[user], state.graph.mutual[user]
        weight = near + r.source_closure * _log2(mutual) + STRANGER * ((near == 0) & (mutual == 0)) + gumbel(luck[0])
        weight[~self._allowed(requests, state, day)] = -np.inf
        column = ranking(weight, k)  # best first, so equal scores fall in the order of retrieval
        retrieved = np.isfinite(np.take_along_axis(weight, column, 1))
        row = np.repeat(np.arange(len(user)), retrieved.sum(axis=1))
        scores = np.full((len(user), k), -np.inf)
        scores[retrieved] = scores_of(policy, self._rows(requests, row, column[retrieved], state))
        lottery = np.where(retrieved, np.take_along_axis(luck[1], column, 1), -np.inf)
        ranked, at_random = ranking(scores, r.slots), ranking(lottery, r.slots)
        order = np.where(explored[:, None], at_random, ranked)
        column, listed = np.take_along_axis(column, order, 1), np.take_along_axis(retrieved, order, 1)
        row = np.repeat(np.arange(len(user)), listed.sum(axis=1))
        by_rank = (1 - r.exploration) * (order == ranked)[listed]
        log = shown(
            self._rows(requests, row, column[listed], state),
            position=np.cumsum(listed, axis=1)[listed],
            propensity=by_rank + r.exploration / np.repeat(retrieved.sum(axis=1), listed.sum(axis=1)),
            randomised=explored[row],
        )
        served = self._outcomes(log, luck[2:, row, column[listed]])
        self._record(served, state)
        return served

    def _allowed(self, requests: dict[str, np.ndarray], state: _State, day: int) -> np.ndarray:
        """Who may be suggested in each visit, shape (visits, n): joined, no tie, no invitation, no block when the visit begins."""
        user = requests["user_id"]
        allowed = ~(state.graph.tied[user] | state.invited[user]) & (self._joined <= day)
        allowed[np.arange(len(user)), user] = False
        visit_of = np.full(self.rules.n_users, -1)
        visit_of[user] = np.arange(len(user))
        for one, other in (("user_id", "blocked_id"), ("blocked_id", "user_id")):
            visit = visit_of[self.blocks[one]]
            holds = (visit >= 0) & (self.blocks.since.to_numpy() <= requests["time"][visit])
            allowed[visit[holds], self.blocks[other].to_numpy()[holds]] = False
        return allowed

    def _rows(self, requests: dict[str, np.ndarray], row: np.ndarray, item: np.ndarray, state: _State) -> pd.DataFrame:
        """One row a candidate, in the columns that a policy sees: the requests `row`, each with its item."""
        user = requests["user_id"][row]
        return pd.DataFrame(
            {name: values[row] for name, values in requests.items()}
            | dict(
                item_id=item.astype(np.int32),
                mutual=state.graph.mutual[user, item],
                user_degree=state.graph.degree[user],
                item_degree=state.graph.degree[item],
                pending=state.inboxes()[item],
                times_shown=state.times_shown[user, item].astype(np.int16),
            )
        )

    def _outcomes(self, log: pd.DataFrame, luck: np.ndarray) -> pd.DataFrame:
        p = self._beliefs(log)
        invite = happens(luck[0], p["invite"])
        accepted = invite & happens(luck[1], p["accept"])
        active = accepted & happens(luck[2], p["use"])
        reported = invite & ~accepted & happens(luck[3], p["report"])
        # Of answers that come within two weeks, an exponential delay cut off there.
        scale = np.maximum(self.rules.late_answers * self._slow[log.item_id], 1e-9)
        delay = -scale * np.log1p(luck[4].astype(np.float64) * np.expm1(-ANSWER_DAYS / scale))
        answered_at = log.time.to_numpy() + (delay * 86400).astype("timedelta64[s]")
        known_at = np.where(accepted | reported, answered_at, log.time.to_numpy() + ANSWER_DAYS * DAY)
        known_at = np.where(invite, known_at, log.time.to_numpy())
        return log.assign(
            invite=invite.astype(np.int8),
            accepted=accepted.astype(np.float32),
            reported=reported.astype(np.float32),
            active=active.astype(np.float32),
            accepted_known_at=known_at,
            active_known_at=np.where(accepted, known_at + USED_DAYS * DAY, known_at),
        )

    def _incumbent(self, candidates: pd.DataFrame) -> np.ndarray:
        """A rule: most friends in common first, then who has most ties."""
        return candidates.mutual.to_numpy(np.float64) + 0.001 * candidates.item_degree.to_numpy(np.float64)


def _log2(count: np.ndarray) -> np.ndarray:
    """log2(1 + count) by a table: counts are small whole numbers."""
    return np.log2(1 + np.arange(count.max(initial=0) + 1, dtype=np.float64))[count]


@dataclasses.dataclass
class _Graph:
    """Who is tied to whom, how many ties each pair has in common, and each member's degree."""

    tied: np.ndarray  # (n, n) bool
    mutual: np.ndarray  # (n, n) int16
    degree: np.ndarray  # (n,) int16

    @classmethod
    def empty(cls, n: int) -> _Graph:
        return cls(np.zeros((n, n), bool), np.zeros((n, n), np.int16), np.zeros(n, np.int16))

    @classmethod
    def of(cls, n: int, user: np.ndarray, friend: np.ndarray) -> _Graph:
        """Of pairs that are each there once."""
        both = np.concatenate([user, friend]), np.concatenate([friend, user])
        tie = sparse.csr_matrix((np.ones(len(both[0]), np.int16), both), (n, n))
        mutual = (tie @ tie).toarray()
        np.fill_diagonal(mutual, 0)
        return cls(tie.toarray() > 0, mutual, np.bincount(both[0], minlength=n).astype(np.int16))

    def copy(self) -> _Graph:
        return _Graph(self.tied.copy(), self.mutual.copy(), self.degree.copy())

    def tie(self, user: np.ndarray, friend: np.ndarray) -> np.ndarray:
        """Add ties one after the other; returns which are new. A tie to oneself, or one that is there, changes nothing."""
        new = np.zeros(len(user), bool)
        for i, (a, b) in enumerate(zip(user.tolist(), friend.tolist(), strict=True)):
            if a == b or self.tied[a, b]:
                continue
            of_a, of_b = np.flatnonzero(self.tied[a]), np.flatnonzero(self.tied[b])
            self.mutual[b, of_a] += 1
            self.mutual[of_a, b] += 1
            self.mutual[a, of_b] += 1
            self.mutual[of_b, a] += 1
            self.tied[a, b] = self.tied[b, a] = new[i] = True
            self.degree[[a, b]] += 1
        return new

    def paths_over(self, recent: list[np.ndarray], user: np.ndarray) -> np.ndarray:
        """Paths of two steps from each of `user` to each member of which one step is a recent tie, shape (len(user), n)."""
        n = len(self.degree)
        pairs = np.concatenate([np.zeros((0, 2), int), *recent])
        both = np.concatenate([pairs, pairs[:, ::-1]])
        fresh = sparse.csr_matrix((np.ones(len(both), np.int16), both.T), (n, n))
        tied = sparse.csr_matrix(self.tied[user].astype(np.int16))
        first = (fresh[user] @ sparse.csr_matrix(self.tied.astype(np.int16))) if len(user) == n else _rows_over(fresh[user], self.tied)
        return np.asarray((tied @ fresh).todense() + first)


def _rows_over(fresh: sparse.csr_matrix, tied: np.ndarray) -> np.ndarray:
    """fresh @ tied for few rows of few entries, without a sparse copy of `tied`."""
    out = np.zeros((fresh.shape[0], tied.shape[1]), np.int16)
    for row in range(fresh.shape[0]):
        for friend in fresh.indices[fresh.indptr[row] : fresh.indptr[row + 1]]:
            out[row] += tied[friend]
    return out


@dataclasses.dataclass
class _State:
    """The graph of the morning, who was shown and invited, and the invitations of which something is still to come."""

    day: int
    graph: _Graph
    invited: np.ndarray  # (n, n) bool, both ways
    times_shown: np.ndarray  # (n, n) uint8
    sent: list[np.ndarray]  # user, item, day, known_at, yes

    @classmethod
    def morning_of_day_0(cls, graph: _Graph, n: int) -> _State:
        none = [np.zeros(0, int), np.zeros(0, int), np.zeros(0, int), np.zeros(0, "datetime64[us]"), np.zeros(0, bool)]
        return cls(0, graph.copy(), np.zeros((n, n), bool), np.zeros((n, n), np.uint8), none)

    def inboxes(self) -> np.ndarray:
        """Invitations of the last days that wait in each member's inbox, this morning. Shape (n,)."""
        _, item, day, known_at, _ = self.sent
        waits = (known_at > np.datetime64(times(self.day), "us")) & (day >= self.day - INBOX_DAYS)
        return np.bincount(item[waits], minlength=len(self.invited)).astype(np.int16)
