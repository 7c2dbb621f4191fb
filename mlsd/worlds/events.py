"""A city's event service: a list of coming events, RSVPs now, and who turns up later.

Every event is new, short-lived and in the future. A visit sees events drawn from those within
reach, ranked by a policy. People RSVP to what fits their taste, purse, habits and way, the more so
when friends are going; some of them do not come. Time runs in hours: what happened before the top of
the hour is in the counters that the next visits see, and new events appear all day.
"""

from __future__ import annotations

import dataclasses

import numpy as np
import pandas as pd
from scipy.special import expit

from mlsd.worlds.base import OnlineMetric, Policy, Rules, WorldError, effect, generator, gumbel, happens, ranking, scores_of, times
from mlsd.worlds.engine import SimulatedWorld, examined, shown

TASTE_DIM = 8  # dimensions of tastes and of what events offer
CITY_KM = 7.0  # standard deviation of where people live
DURATION = np.timedelta64(3, "h")  # who came is known when the event ends
HOUR = np.timedelta64(1, "h")

VOCABULARY = {
    "jazz": "jazz saxophone quartet improvisation swing trumpet standards bebop vinyl club",
    "techno": "techno dj warehouse dancefloor synth bass rave club vinyl strobe",
    "running": "run trail marathon pace intervals warmup stretching outdoor park sunrise",
    "climbing": "climbing bouldering rope wall grip route belay outdoor beginners chalk",
    "cooking": "cooking pasta sourdough knife spices kitchen recipe tasting dinner fermentation",
    "wine": "wine tasting vineyard cellar grapes sommelier cheese dinner glass pairing",
    "painting": "painting watercolour canvas sketching brush studio portrait gallery acrylic easel",
    "theatre": "theatre improv stage monologue comedy drama audience rehearsal satire premiere",
    "startups": "startup founders pitch investors networking product growth demo panel funding",
    "coding": "coding python hackathon workshop data software laptop demo compiler robotics",
    "gaming": "boardgames strategy dice cards tournament puzzle chess roleplay players campaign",
    "books": "book reading author novel poetry discussion library essay translation circle",
}
TOPICS = tuple(VOCABULARY)
COMMON_WORDS = "evening together city friends new welcome small open night neighbourhood season meet".split()

# Independent random streams.
_USERS, _HOSTS, _EVENTS, _FRIENDS, _VISITS, _LUCK = range(6)


@dataclasses.dataclass(frozen=True)
class EventRules(Rules):
    """Planted effects and sizes of the event world."""

    taste: float = effect(
        1.1,
        off=0.0,
        unit="log-odds per standard deviation",
        mechanism="People RSVP to what matches their taste, and turn up for it.",
    )
    hidden_style: float = effect(
        0.35, off=0.0, unit="share of variance", mechanism="Part of what an event offers is not in its description, only in who goes."
    )
    appeal_spread: float = effect(0.5, off=0.0, unit="log-odds", mechanism="Some events attract everybody more than others do.")
    host_quality: float = effect(
        0.5, off=0.0, unit="log-odds", mechanism="Guests of a good host turn up, and half as strongly come back to the host's next event."
    )
    social_lift: float = effect(
        0.6,
        off=0.0,
        unit="log-odds per doubling of 1 + friends",
        mechanism="The card says how many friends are going, and people go where friends go.",
    )
    homophily: float = effect(
        1.5, off=0.0, unit="log-weight", mechanism="Friends are alike: a tie is likelier between similar tastes and near homes."
    )
    social_retrieval: float = effect(
        3.0,
        off=0.0,
        unit="log-weight per doubling of 1 + friends",
        mechanism="Retrieval favours events to which friends are going, so an RSVP spreads through the graph.",
    )
    distance_decay: float = effect(0.16, off=0.0, unit="log-odds per km", mechanism="The further an event from home, the fewer RSVP.")
    price_sensitivity: float = effect(
        1.2,
        off=0.0,
        unit="log-odds per unit of log price",
        mechanism="A price above what the user usually pays puts them off; one below does not attract them.",
    )
    hour_habit: float = effect(1.2, off=0.0, unit="log-odds", mechanism="Each user goes out at a certain time of day.")
    weekday_habit: float = effect(0.6, off=0.0, unit="log-odds", mechanism="Some users go out at weekends, others on weekdays.")
    urgency: float = effect(
        0.9, off=0.0, unit="log-odds when about to start", mechanism="People commit late: the lift fades as the start is further off."
    )
    free_no_show: float = effect(
        1.6, off=0.0, unit="log-odds for a free event", mechanism="Who has paid comes: the cheaper the event, the more RSVPs stay at home."
    )
    far_no_show: float = effect(
        0.12, off=0.0, unit="log-odds per km", mechanism="The further an event from home, the more of those who said yes stay at home."
    )
    capacity: float = effect(
        26.0, off=1e6, unit="seats at the median event", mechanism="A full event leaves the lists and takes no further RSVPs."
    )
    position_bias: float = effect(0.4, off=0.0, unit="power", mechanism="A card at position k is looked at with probability k^-bias.")
    exploration: float = effect(0.08, off=0.0, unit="share of visits", mechanism="These visits see their candidates in random order.")

    n_users: int = 2000
    friends_named: int = 10  # each user names so many; most have more friends than that
    n_hosts: int = 300
    events_per_day: int = 50
    candidates: int = 40  # retrieved for a visit
    slots: int = 20  # cards in the list
    horizon_days: int = 60  # days for which events are drawn


class EventWorld(SimulatedWorld):
    """Users open the app, the service lists coming events, users RSVP and some of them come. See `base.World`.

    users: user_id, home_x_km, home_y_km, created_at.
    items: item_id, host_id, x_km, y_km, start_at, price, capacity, description, created_at, expires_at (= start_at).
    friends: user_id, friend_id; each pair stands in both orders.

    Counters are as of the top of the hour. A policy is called each hour with the candidates of that
    hour's visits, features as of that hour. If it has an attribute `refresh_hours`, it is a batch
    system: lists are computed every so many hours from midnight on, from what was known then, and
    served until the next refresh; events that have meanwhile begun or filled up are left out. Lists are
    as long as the page, or `list_length` events if the policy has that attribute too: then the next ones
    of the list move up into the holes.
    Truth needs user_id, item_id, time, friends_going.
    """

    RULES = EventRules
    OUTCOMES = ("rsvp", "attended")
    AFTERWARDS = ("scored_at", "rsvp", "attended", "no_show", "attended_known_at")
    KNOWN_LATER = {"attended_known_at": ("attended", "no_show")}
    SMALL = dict(n_users=250, n_hosts=40, events_per_day=12, horizon_days=14)

    # ---------- what exists ----------

    def _draw(self) -> None:
        if not 1 <= self.rules.slots <= self.rules.candidates:
            raise WorldError(f"expected 1 <= slots <= candidates, found {self.rules.slots} and {self.rules.candidates}")
        self._draw_users()
        self._draw_hosts_and_events()
        self._draw_friends()
        self.metrics = {
            "rsvps_per_request": OnlineMetric("rsvp", per="request"),
            "attended_per_request": OnlineMetric("attended", per="request"),
            "no_shows_per_request": OnlineMetric("no_show", per="request", higher_is_better=False),
        }

    def _draw_users(self) -> None:
        rng, n = generator(self.seed, _USERS), self.rules.n_users
        self._taste = rng.normal(size=(n, TASTE_DIM))
        self._usual_price = 12 * np.exp(0.8 * rng.normal(size=n))
        self._usual_hour = rng.choice([10.0, 14.0, 19.5], n, p=[0.2, 0.3, 0.5]) + rng.normal(0, 0.7, n)
        self._likes_weekends = rng.choice([-1.0, 1.0], n, p=[0.45, 0.55])
        self._visit_rate = np.minimum(0.3 * np.exp(0.8 * rng.normal(size=n)), 0.95)
        self._eager = rng.normal(0, 0.4, n)
        home = rng.normal(0, CITY_KM, (n, 2)).round(2)
        joined = -rng.integers(1, 900, n)
        self.users = pd.DataFrame(
            dict(
                user_id=np.arange(n, dtype=np.int32),
                home_x_km=home[:, 0],
                home_y_km=home[:, 1],
                created_at=times(joined),
            )
        )
        self._home = home

    def _draw_hosts_and_events(self) -> None:
        r = self.rules
        rng = generator(self.seed, _HOSTS)
        topic_vectors = rng.normal(size=(len(TOPICS), TASTE_DIM))
        host_topic = rng.integers(0, len(TOPICS), r.n_hosts)
        host_place = rng.normal(0, CITY_KM * 0.7, (r.n_hosts, 2))
        host_price = rng.normal(0, 0.6, r.n_hosts)
        self._host_quality = rng.normal(size=r.n_hosts)
        productivity = rng.lognormal(0, 0.8, r.n_hosts)

        rng = generator(self.seed, _EVENTS)
        first_day, days = -8, r.horizon_days + 8
        n = days * r.events_per_day
        host = rng.choice(r.n_hosts, n, p=productivity / productivity.sum())
        topic = np.where(rng.random(n) < 0.8, host_topic[host], rng.integers(0, len(TOPICS), n))
        second = rng.integers(0, len(TOPICS), n)
        created = np.sort(first_day * 24 + np.repeat(np.arange(days), r.events_per_day) * 24 + rng.uniform(8, 21, n))  # hours since START
        # Starts: some hours to a week ahead, at a usual hour; weekends have daytime events, weekdays mostly evenings.
        day = np.floor((created + 6 + np.clip(rng.exponential(66, n), 0, 180)) / 24)
        weekend = day % 7 >= 5
        hour = np.where(
            rng.random(n) < np.where(weekend, 0.4, 0.6), rng.choice([18, 19, 20, 21], n), rng.choice([9, 10, 11, 13, 14, 15, 16], n)
        )
        start = day * 24 + hour
        start += 24 * (start < created + 3)
        free = happens(rng.random(n), expit(-0.5 - host_price[host]))
        price = np.where(free, 0, np.ceil(15 * np.exp(host_price[host] + 0.4 * rng.normal(size=n))))
        place = host_place[host] + rng.normal(0, 1.5, (n, 2))
        visible = 0.85 * topic_vectors[topic] + np.sqrt(1 - 0.85**2) * topic_vectors[second]
        style = rng.normal(size=(n, TASTE_DIM))
        self._offer = (np.sqrt(1 - r.hidden_style) * visible + np.sqrt(r.hidden_style) * style) / np.sqrt(TASTE_DIM)
        self._appeal = r.appeal_spread * rng.normal(size=n)
        self._host = host
        self._place = place.round(2)
        capacity = np.maximum(np.rint(r.capacity * np.exp(0.7 * rng.normal(size=n))), 5)
        self.items = pd.DataFrame(
            dict(
                item_id=np.arange(n, dtype=np.int32),
                host_id=host.astype(np.int32),
                x_km=self._place[:, 0],
                y_km=self._place[:, 1],
                start_at=times(0, (start * 3600).astype(np.int64)),
                price=price.astype(np.int32),
                capacity=capacity.astype(np.int32),
                description=_descriptions(topic, second, rng),
                created_at=times(0, (created * 3600).astype(np.int64)),
            )
        )
        self.items["expires_at"] = self.items.start_at
        self._price, self._capacity = price, capacity
        self._start_hour, self._weekend = start % 24, np.floor(start / 24) % 7 >= 5
        self._start_at, self._created_at = (self.items[c].to_numpy() for c in ("start_at", "created_at"))

    def _draw_friends(self) -> None:
        """Each user names some others; a tie counts for both."""
        r, rng = self.rules, generator(self.seed, _FRIENDS)
        taste = self._taste / np.linalg.norm(self._taste, axis=1, keepdims=True)
        tie = np.zeros((r.n_users, r.n_users), bool)
        for block in np.array_split(np.arange(r.n_users), max(r.n_users // 200, 1)):  # small pieces keep the peak of memory low
            apart = np.hypot(*(self._home[block][:, None] - self._home).transpose(2, 0, 1))
            weight = r.homophily * (taste[block] @ taste.T - apart / 10) + rng.gumbel(size=apart.shape)
            weight[np.arange(len(block)), block] = -np.inf
            tie[block[:, None], ranking(weight, r.friends_named)] = True
        user, friend = np.nonzero(tie | tie.T)
        self.friends = pd.DataFrame(dict(user_id=user.astype(np.int32), friend_id=friend.astype(np.int32)))
        self._n_friends = np.bincount(user, minlength=r.n_users)
        self._first_friend = np.concatenate([[0], np.cumsum(self._n_friends)[:-1]])

    # ---------- what people do ----------

    def _beliefs(self, rows: pd.DataFrame) -> tuple[np.ndarray, np.ndarray]:
        """P(RSVP) and P(comes | RSVP) of each row; candidates, which have no position, count as on top."""
        r, user, item = self.rules, rows.user_id.to_numpy(), rows.item_id.to_numpy()
        match = np.einsum("nd,nd->n", self._taste[user], self._offer[item])
        km = np.hypot(*(self._home[user] - self._place[item]).T)
        dear = np.maximum(np.log((self._price[item] + 5) / (self._usual_price[user] + 5)), 0)
        hours_off = np.abs(self._start_hour[item] - self._usual_hour[user])
        days_ahead = (self._start_at[item] - rows.time.to_numpy()) / HOUR / 24
        host = self._host_quality[self._host[item]]
        wants = (
            -2.6
            + self._eager[user]
            + self._appeal[item]
            + r.taste * match
            + 0.5 * r.host_quality * host
            + r.social_lift * np.log2(1 + rows.friends_going.to_numpy(np.float64))
            - r.distance_decay * km
            - r.price_sensitivity * dear
            + r.hour_habit * np.exp(-((hours_off / 3) ** 2))
            + r.weekday_habit * self._likes_weekends[user] * np.where(self._weekend[item], 1, -1)
            + r.urgency * np.exp(-days_ahead)
        )
        comes = 2.0 + 0.3 * r.taste * match + r.host_quality * host - r.free_no_show * np.exp(-self._price[item] / 8) - r.far_no_show * km
        return examined(rows, r.position_bias) * expit(wants), expit(comes)

    def _probability(self, rows: pd.DataFrame, outcome: str) -> np.ndarray:
        rsvp, comes = self._beliefs(rows)
        return rsvp if outcome == "rsvp" else rsvp * comes

    def value(self, impressions: pd.DataFrame) -> np.ndarray:
        """P(RSVP and comes | everything) of each row, shape (n,): what the service is for, and the oracle's score."""
        return self.truth(impressions, "attended")

    oracle = value

    # ---------- serving ----------

    def _new_state(self) -> _State:
        return _State.empty(len(self.users), len(self.items))

    def _record(self, served: pd.DataFrame, state: _State) -> None:
        said_yes = served.rsvp.to_numpy() == 1
        user, item = served.user_id.to_numpy()[said_yes], served.item_id.to_numpy()[said_yes]
        state.rsvped[user, item] = True
        np.add.at(state.rsvps, item, 1)
        n = self._n_friends[user]
        nth = np.arange(n.sum()) - np.repeat(np.cumsum(n) - n, n)
        friend = self.friends.friend_id.to_numpy()[np.repeat(self._first_friend[user], n) + nth]
        np.add.at(state.friends_going, (friend, np.repeat(item, n)), 1)

    def _serve_day(self, policy: Policy, day: int, state: _State) -> pd.DataFrame:
        """One day of the product, hour by hour."""
        r = self.rules
        refresh_hours = getattr(policy, "refresh_hours", None)
        if refresh_hours is not None and (refresh_hours not in range(1, 25) or 24 % refresh_hours):
            raise WorldError(f"refresh_hours: expected a whole number that divides 24, found {refresh_hours!r}")
        length = getattr(policy, "list_length", r.slots)
        if length not in range(r.slots, r.candidates + 1):
            raise WorldError(f"list_length: expected {r.slots} to {r.candidates} (slots to candidates), found {length!r}")
        rng = generator(self.seed, _VISITS, day)
        user = np.flatnonzero(happens(rng.random(r.n_users), self._visit_rate))
        second = np.sort(np.clip(rng.normal(17, 4.5, len(user)), 6, 23.99) * 3600).astype(np.int64)
        user = rng.permutation(user)
        midnight = times(day)
        live = np.flatnonzero((self._created_at < midnight + 24 * HOUR) & (self._start_at > midnight))
        # Luck is tied to user, day and event, so that two policies, and two ages of a list, meet the same people.
        luck = generator(self.seed, _LUCK, day).random((4, len(user), len(live)), dtype=np.float32)
        explored = happens(rng.random(len(user)), r.exploration)
        served = []
        scored_at, snapshot = None, None
        for hour in range(24):
            now = midnight + hour * HOUR
            if refresh_hours is None or hour % refresh_hours == 0:
                scored_at, snapshot = now, state if refresh_hours is None else state.copy()
            visits = np.flatnonzero(second // 3600 == hour)
            if len(visits) == 0:
                continue
            requests = dict(
                request_id=day * np.int64(r.n_users) + visits,
                time=times(day, second[visits]),
                day=np.full(len(visits), day, np.int32),
                user_id=user[visits].astype(np.int32),
            )
            served.append(self._serve_hour(policy, requests, explored[visits], live, luck[:, visits], scored_at, snapshot, now, state))
            self._record(served[-1], state)
        return pd.concat(served, ignore_index=True)

    def _open(self, user: np.ndarray, live: np.ndarray, when: np.datetime64, state: _State) -> np.ndarray:
        """Which live events a user could be shown, shape (users, live): announced, not begun, not full, not said yes to."""
        there = (self._created_at[live] <= when) & (self._start_at[live] > when) & (state.rsvps[live] < self._capacity[live])
        return there & ~state.rsvped[np.ix_(user, live)]

    def _serve_hour(
        self,
        policy: Policy,
        requests: dict[str, np.ndarray],
        explored: np.ndarray,
        live: np.ndarray,
        luck: np.ndarray,
        scored_at: np.datetime64,
        snapshot: _State,
        now: np.datetime64,
        state: _State,
    ) -> pd.DataFrame:
        r, user = self.rules, requests["user_id"]
        n, k = len(user), min(r.candidates, len(live))
        # Retrieval, as of scored_at: near events, more so where friends are going.
        km = np.hypot(*(self._home[user][:, None] - self._place[live][None]).transpose(2, 0, 1))
        friends = np.log2(1 + snapshot.friends_going[np.ix_(user, live)].astype(np.float64))
        weight = r.social_retrieval * friends - km / 8 + gumbel(luck[0])
        weight[~self._open(user, live, scored_at, snapshot)] = -np.inf
        column = ranking(weight, k)  # best first, so equal scores fall in the order of retrieval
        retrieved = np.isfinite(np.take_along_axis(weight, column, 1))
        row = np.repeat(np.arange(n), retrieved.sum(axis=1))
        asked = requests if snapshot is state else requests | dict(time=np.full(n, scored_at))
        candidates = self._rows(asked, row, live[column[retrieved]], snapshot)
        scores = np.full((n, k), -np.inf)
        scores[retrieved] = scores_of(policy, candidates)
        lottery = np.where(retrieved, np.take_along_axis(luck[1], column, 1), -np.inf)
        length = getattr(policy, "list_length", r.slots)
        ranked, at_random = ranking(scores, length), ranking(lottery, length)
        order = np.where(explored[:, None], at_random, ranked)
        # The list as computed; at the visit, what is not open any more is left out.
        column = np.take_along_axis(column, order, 1)
        is_open = self._open(user, live, now, state) & (self._start_at[live] > requests["time"][:, None])
        listed = np.take_along_axis(retrieved, order, 1) & np.take_along_axis(is_open, column, 1)
        listed &= np.cumsum(listed, axis=1) <= r.slots
        row = np.repeat(np.arange(n), listed.sum(axis=1))
        by_rank = (1 - r.exploration) * (order == ranked)[listed]
        log = shown(
            self._rows(requests, row, live[column[listed]], state),
            position=np.cumsum(listed, axis=1)[listed],
            propensity=by_rank + r.exploration / np.repeat(retrieved.sum(axis=1), listed.sum(axis=1)),
            randomised=explored[row],
        )
        p_rsvp, p_comes = self._beliefs(log)
        rsvp = happens(luck[2][row, column[listed]], p_rsvp)
        comes = rsvp & happens(luck[3][row, column[listed]], p_comes)
        known_at = np.where(rsvp, self._start_at[log.item_id] + DURATION, log.time.to_numpy())
        return log.assign(
            scored_at=scored_at,
            rsvp=rsvp.astype(np.int8),
            attended=comes.astype(np.float32),
            no_show=(rsvp & ~comes).astype(np.float32),
            attended_known_at=known_at,
        )

    def _rows(self, requests: dict[str, np.ndarray], row: np.ndarray, item: np.ndarray, state: _State) -> pd.DataFrame:
        """One row a candidate, in the columns that a policy sees: the requests `row`, each with its item."""
        user = requests["user_id"][row]
        return pd.DataFrame(
            {name: values[row] for name, values in requests.items()}
            | dict(
                item_id=item.astype(np.int32),
                rsvps_so_far=state.rsvps[item],
                friends_going=state.friends_going[user, item].astype(np.int16),  # wide enough to take logarithms of
            )
        )

    def _incumbent(self, candidates: pd.DataFrame) -> np.ndarray:
        """A rule: events that fill up, near home, soon."""
        user, item = candidates.user_id.to_numpy(), candidates.item_id.to_numpy()
        km = np.hypot(*(self._home[user] - self._place[item]).T)
        days_ahead = (self._start_at[item] - candidates.time.to_numpy()) / HOUR / 24
        return 0.5 * np.log1p(candidates.rsvps_so_far.to_numpy(np.float64)) - 0.03 * km - 0.25 * days_ahead


@dataclasses.dataclass
class _State:
    """Who has said yes to what: RSVPs of a user, of an event, and of a user's friends to an event."""

    rsvped: np.ndarray  # (n_users, n_items) bool
    rsvps: np.ndarray  # (n_items,)
    friends_going: np.ndarray  # (n_users, n_items)

    @classmethod
    def empty(cls, n_users: int, n_items: int) -> _State:
        return cls(np.zeros((n_users, n_items), bool), np.zeros(n_items, np.int16), np.zeros((n_users, n_items), np.int8))

    def copy(self) -> _State:
        return _State(self.rsvped.copy(), self.rsvps.copy(), self.friends_going.copy())


def _descriptions(topic: np.ndarray, second: np.ndarray, rng: np.random.Generator) -> list[str]:
    """Short texts: four words of the topic, two of a second one, two that say nothing."""
    words = np.array([VOCABULARY[t].split() for t in TOPICS])
    parts = [np.sort(ranking(rng.random((len(topic), width)), n), axis=1) for width, n in ((10, 4), (10, 2), (12, 2))]
    said = np.hstack([words[topic[:, None], parts[0]], words[second[:, None], parts[1]], np.array(COMMON_WORDS)[parts[2]]])
    return [" ".join(row) for row in np.take_along_axis(said, ranking(rng.random(said.shape)), 1)]
