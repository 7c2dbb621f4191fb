"""The home page of a video service: ten videos a visit, and what people do with them.

Each visit sees the whole live catalogue ranked by a policy. People click, watch, like and hide; a
few are asked next day whether the video was worth their time. What they answer is what the service
is for, and it is not what they click.
"""

from __future__ import annotations

import dataclasses

import numpy as np
import pandas as pd
from scipy.special import expit, ndtri

from mlsd.worlds.base import OnlineMetric, Policy, Rules, WorldError, effect, generator, happens, ranking, scores_of, times
from mlsd.worlds.engine import SimulatedWorld, examined, shown

TOPICS = ("music", "cooking", "football", "gaming", "science", "travel", "comedy", "news", "crafts", "fitness", "film", "nature")
SLOTS = 10  # videos on a home page
TASTE_DIM = 8  # dimensions of tastes and of what videos offer
TYPICAL_LENGTH = 360  # seconds: the median video

# Independent random streams.
_USERS, _VIDEOS, _REQUESTS, _EXPLORATION, _OUTCOMES = range(5)


@dataclasses.dataclass(frozen=True)
class VideoRules(Rules):
    """Planted effects and sizes of the video world."""

    taste: float = effect(
        1.5,
        off=0.0,
        unit="log-odds per standard deviation",
        mechanism="A video that matches the user's taste is likelier clicked, and enjoyed.",
    )
    hidden_style: float = effect(
        0.4,
        off=0.0,
        unit="share of variance",
        mechanism="Part of what a video offers shows in neither topic nor creator, only in who watches it.",
    )
    taste_drift: float = effect(0.02, off=0.0, unit="radians a day", mechanism="Each user's taste turns slowly towards something else.")
    appeal_spread: float = effect(0.7, off=0.0, unit="log-odds", mechanism="Some videos attract everybody more than others do.")
    quality_spread: float = effect(
        0.8, off=0.0, unit="log-odds", mechanism="Some videos are better than others: they satisfy more of their viewers."
    )
    clickbait: float = effect(
        0.6, off=0.0, unit="log-odds", mechanism="Some thumbnails promise more than the video keeps: more clicks, less satisfaction."
    )
    length_spread: float = effect(
        0.8,
        off=0.0,
        unit="standard deviation of log length",
        mechanism="A longer video leaves more to watch at the same interest, so seconds watched favour long videos.",
    )
    freshness: float = effect(
        0.6, off=0.0, unit="log-odds at release", mechanism="New videos draw more clicks; the lift fades within days."
    )
    social_proof: float = effect(
        0.3, off=0.0, unit="log-odds per tenfold views", mechanism="The view count is on the thumbnail, and views attract clicks."
    )
    position_bias: float = effect(0.4, off=0.0, unit="power", mechanism="A video at position k is looked at with probability k^-bias.")

    n_users: int = 1000
    late_users: float = 0.2  # share of users who sign up after day 0
    n_creators: int = 120
    n_videos: int = 800  # there on day 0
    uploads_per_day: int = 8
    requests_per_day: int = 600  # one a user and day at most
    exploration: float = 0.1  # share of slots filled at random, unless the policy has an attribute `exploration`
    max_showings: int = 3  # a video shown so often to a user without a click is not shown to them again
    survey_rate: float = 0.1  # share of clicked videos whose viewer is asked next day
    horizon_days: int = 60  # days for which users and videos are drawn


class VideoWorld(SimulatedWorld):
    """Users open the home page, the service shows ten videos, users click and watch. See `base.World`.

    items: item_id, topic (code into TOPICS), creator_id, length_seconds, created_at.
    users: user_id, favourite_topic, second_topic (as said at sign-up), created_at.
    A video that a user has clicked is not shown to them again: the platform sees to it, whatever the policy.
    It fills a share of the slots at random: `policy.exploration` if it has one, else the rules' share.
    Truth needs user_id, item_id, day, views, age_days.
    """

    RULES = VideoRules
    OUTCOMES = ("click",)
    AFTERWARDS = ("click", "watch_seconds", "like", "hide", "survey", "survey_known_at")
    KNOWN_LATER = {"survey_known_at": ("survey",)}
    SMALL = dict(n_users=200, n_videos=120, uploads_per_day=3, requests_per_day=80, horizon_days=20)

    # ---------- what exists ----------

    def _draw(self) -> None:
        self._draw_videos()
        self._draw_users()
        self.metrics = {
            "clicks_per_request": OnlineMetric("click", per="request"),
            "watch_minutes_per_request": OnlineMetric("watch_seconds", per="request", scale=1 / 60),
            "satisfied_per_request": OnlineMetric("survey", per="request", scale=1 / self.rules.survey_rate),
            "likes_per_request": OnlineMetric("like", per="request"),
            "hides_per_request": OnlineMetric("hide", per="request", higher_is_better=False),
        }

    def _draw_videos(self) -> None:
        r, rng = self.rules, generator(self.seed, _VIDEOS)
        n = r.n_videos + r.uploads_per_day * r.horizon_days
        self._topic_vectors = rng.normal(size=(len(TOPICS), TASTE_DIM))
        home = rng.integers(0, len(TOPICS), r.n_creators)
        creator_vectors = rng.normal(size=(r.n_creators, TASTE_DIM))
        creator_skill = rng.normal(size=r.n_creators)
        productivity = rng.lognormal(0, 1.0, r.n_creators)
        creator = rng.choice(r.n_creators, n, p=productivity / productivity.sum())
        topic = np.where(rng.random(n) < 0.85, home[creator], rng.integers(0, len(TOPICS), n))
        # Before day 0 videos came in over four months; afterwards a fixed number a day.
        day = np.concatenate([-np.sort(rng.integers(1, 120, r.n_videos))[::-1], np.repeat(np.arange(r.horizon_days), r.uploads_per_day)])
        visible = np.sqrt(0.7) * self._topic_vectors[topic] + np.sqrt(0.3) * creator_vectors[creator]
        style = rng.normal(size=(n, TASTE_DIM))
        self._offer = (np.sqrt(1 - r.hidden_style) * visible + np.sqrt(r.hidden_style) * style) / np.sqrt(TASTE_DIM)
        quality = np.sqrt(0.3) * creator_skill[creator] + np.sqrt(0.7) * rng.normal(size=n)
        bait = rng.normal(size=n)
        self._appeal = r.appeal_spread * (0.4 * quality + np.sqrt(1 - 0.4**2) * rng.normal(size=n)) + r.clickbait * bait
        self._worth = r.quality_spread * quality - r.clickbait * bait
        length = TYPICAL_LENGTH * np.exp(r.length_spread * rng.normal(size=n))
        self._created_day = day
        # Views from before day 0 follow appeal, freshness aside.
        self._initial_views = np.where(day < 0, rng.poisson(np.clip(-day, 0, 60) * 0.4 * np.exp(self._appeal)), 0)
        self.items = pd.DataFrame(
            dict(
                item_id=np.arange(n),
                topic=topic,
                creator_id=creator,
                length_seconds=np.clip(length, 20, 7200).astype(int),
                created_at=times(day),
            )
        )

    def _draw_users(self) -> None:
        r, rng = self.rules, generator(self.seed, _USERS)
        n = r.n_users
        # A taste turns from one direction to another, so its spread stays what it was. Rate differs between users.
        taste_from, taste_to = rng.normal(size=(2, n, TASTE_DIM))
        self._turning = r.taste_drift * rng.lognormal(-0.125, 0.5, n)
        # How well each video meets the two directions of each taste: looked up for every candidate, so made once.
        self._match_from, self._match_to = taste_from @ self._offer.T, taste_to @ self._offer.T
        self._activity = rng.lognormal(0, 0.7, n)
        late = rng.random(n) < r.late_users
        self._joined_day = np.where(late, rng.integers(1, r.horizon_days, n), -rng.integers(1, 700, n))
        said = taste_from @ self._topic_vectors.T / np.sqrt(TASTE_DIM) + rng.normal(0, 0.7, (n, len(TOPICS)))
        favourites = ranking(said, 2)
        # The incumbent remembers old users roughly; of new ones it knows what they said at sign-up.
        remembered = 0.6 * taste_from + 0.8 * rng.normal(size=(n, TASTE_DIM))
        named = (favourites[:, :1] == np.arange(len(TOPICS))) + 0.7 * (favourites[:, 1:2] == np.arange(len(TOPICS)))
        self._believed = np.where(late[:, None], 1.5 * named, remembered @ self._topic_vectors.T / np.sqrt(TASTE_DIM))
        self.users = pd.DataFrame(
            dict(
                user_id=np.arange(n),
                favourite_topic=favourites[:, 0],
                second_topic=favourites[:, 1],
                created_at=times(self._joined_day),
            )
        )

    def live(self, day: int) -> np.ndarray:
        """item_id of the videos that can be shown on `day`. Raises WorldError beyond the horizon."""
        if not 0 <= day < self.rules.horizon_days:
            raise WorldError(f"day: expected 0 to {self.rules.horizon_days - 1} (VideoRules.horizon_days), found {day}")
        return np.flatnonzero(self._created_day <= day)

    def candidates(self, day: int) -> pd.DataFrame:
        """Every visitor of `day` with every video live then, and what nobody in the company knows of them all.

        Columns user_id, item_id, score (the incumbent's), p_click (on top of a page). The incumbent served until then.
        """
        parts = []

        def keep(rows: pd.DataFrame) -> np.ndarray:
            score = self.incumbent(rows)
            parts.append(pd.DataFrame(dict(user_id=rows.user_id, item_id=rows.item_id, score=score, p_click=self.truth(rows))))
            return score

        self.deploy(keep, days=1, start=day)
        return pd.concat(parts, ignore_index=True)

    def _requests(self, day: int) -> tuple[np.ndarray, np.ndarray]:
        """Who opens the home page that day and when (hour of day), in order of time: the same whatever policy serves."""
        rng = generator(self.seed, _REQUESTS, day)
        weight = self._activity * (self._joined_day <= day)
        n = min(self.rules.requests_per_day, int((weight > 0).sum()))
        user = rng.choice(self.rules.n_users, n, replace=False, p=weight / weight.sum())
        return user, np.sort(np.clip(rng.normal(17, 4.5, n), 0, 23.99))

    # ---------- what people do ----------

    def _match(self, user: np.ndarray, item: np.ndarray, day: np.ndarray) -> np.ndarray:
        """How well a video meets a taste on a day: about standard normal over random pairs."""
        angle = self._turning[user] * day
        from_part, to_part = self._match_from[user, item], self._match_to[user, item]
        return np.cos(angle) * from_part + np.sin(angle) * to_part

    def _beliefs(self, rows: pd.DataFrame) -> dict[str, np.ndarray]:
        """Probabilities behind every outcome of each row; candidates, which have no position, count as on top."""
        r = self.rules
        user, item = rows.user_id.to_numpy(), rows.item_id.to_numpy()
        match = self._match(user, item, rows.day.to_numpy())
        wants = (
            -3.4
            + r.taste * match
            + self._appeal[item]
            + r.freshness * np.exp(-rows.age_days.to_numpy(np.float64) / 4)
            + r.social_proof * np.log10(1 + rows.views.to_numpy(np.float64))
        )
        looks = examined(rows, r.position_bias)
        interest = 0.2 + self._worth[item] + 0.4 * r.taste * match
        return dict(
            click=looks * expit(wants),
            hide=looks * expit(-4.5 - 0.7 * r.taste * match),
            satisfied=expit(interest),
            like=expit(-2.2 + interest),
            attention=interest - 0.3 * np.log(self.items.length_seconds.to_numpy()[item] / TYPICAL_LENGTH),
        )

    def _probability(self, rows: pd.DataFrame, outcome: str) -> np.ndarray:
        return self._beliefs(rows)[outcome]

    def value(self, impressions: pd.DataFrame) -> np.ndarray:
        """P(clicked and worth the viewer's time | everything) of each row, shape (n,): what the service is for."""
        beliefs = self._beliefs(impressions)
        return beliefs["click"] * beliefs["satisfied"]

    oracle = value

    def _outcomes(self, rows: pd.DataFrame, uniform: list[np.ndarray]) -> pd.DataFrame:
        """Draw what people do with each row. uniform: six of shape (n,), tied to user, day and video, so policies share luck."""
        p = self._beliefs(rows)
        length = self.items.length_seconds.to_numpy()[rows.item_id]
        click = happens(uniform[0], p["click"])
        completion = expit(p["attention"] + 1.2 * ndtri(np.clip(uniform[1].astype(np.float64), 1e-6, 1 - 1e-6)))
        asked = click & happens(uniform[4], self.rules.survey_rate)
        return rows.assign(
            click=click.astype(np.int8),
            watch_seconds=np.where(click, np.maximum(np.rint(completion * length), 1), 0).astype(np.int32),
            like=(click & happens(uniform[2], p["like"])).astype(np.int8),
            hide=(~click & happens(uniform[5], p["hide"])).astype(np.int8),
            survey=np.where(asked, happens(uniform[3], p["satisfied"]), np.nan).astype(np.float32),
            survey_known_at=(rows.time + pd.Timedelta(1, "D")).where(asked),
        )

    # ---------- serving ----------

    def _new_state(self) -> _State:
        return _State.empty(len(self.users), self._initial_views)

    def _record(self, served: pd.DataFrame, state: _State) -> None:
        user, item, click = served.user_id.to_numpy(), served.item_id.to_numpy(), served.click.to_numpy() == 1
        state.shown[user, item] += 1  # a user comes at most once a day, so no pair occurs twice
        state.clicked[user[click], item[click]] = True
        state.views += np.bincount(item[click], minlength=len(state.views)).astype(np.int32)

    def _serve_day(self, policy: Policy, day: int, state: _State) -> pd.DataFrame:
        live, (user, hour) = self.live(day), self._requests(day)
        n, m = len(user), len(live)
        request = day * self.rules.requests_per_day + np.arange(n)
        time = times(day, np.rint(hour * 3600).astype(np.int64))

        def rows(of: np.ndarray, column: np.ndarray) -> pd.DataFrame:
            """One row a candidate: the visits `of`, each with the live videos of its row of `column`."""
            width, video = column.shape[1], live[column.ravel()]
            return pd.DataFrame(
                dict(
                    request_id=np.repeat(request[of], width),
                    time=np.repeat(time[of], width),
                    day=np.full(len(video), day, np.int32),
                    user_id=np.repeat(user[of], width),
                    item_id=video,
                    views=state.views[video],
                    age_days=(day - self._created_day[video]).astype(np.float32),
                )
            )

        scores = np.empty((n, m))
        for begin in range(0, n, 50):  # fifty visits at a time keep the table of candidates small
            of = np.arange(begin, min(begin + 50, n))
            scores[of] = scores_of(policy, rows(of, np.tile(np.arange(m), (len(of), 1)))).reshape(len(of), m)
        eligible = ~state.clicked[np.ix_(user, live)] & (state.shown[np.ix_(user, live)] < self.rules.max_showings)
        exploration = getattr(policy, "exploration", self.rules.exploration)
        column, explored, propensity = self._fill_slots(scores, eligible, exploration, day)
        position = np.tile(np.arange(1, SLOTS + 1), n)
        page = shown(rows(np.arange(n), column), position, propensity.ravel(), explored.ravel())
        rng = generator(self.seed, _OUTCOMES, day)
        luck = [rng.random((n, m), dtype=np.float32)[np.arange(n)[:, None], column].ravel() for _ in range(6)]
        served = self._outcomes(page, luck)
        self._record(served, state)
        return served

    def _fill_slots(self, scores: np.ndarray, eligible: np.ndarray, exploration: float, day: int) -> tuple[np.ndarray, ...]:
        """Choose ten columns a row. Returns column, explored, propensity, each (n, SLOTS).

        Slot by slot, with probability `exploration` a random eligible video, else the best that is not
        on the page yet. The propensity is that of the slot, given the slots above it.
        """
        n, m = scores.shape
        rng = generator(self.seed, _EXPLORATION, day)
        explored = happens(rng.random((n, SLOTS)), exploration)
        shuffle = rng.permutation(m)  # ties fall in an order that is not that of upload
        lottery = rng.random((n, m), dtype=np.float32)
        ranked = shuffle[ranking(np.where(eligible, scores, -np.inf)[:, shuffle], 2 * SLOTS)]
        drawn = ranking(np.where(eligible, lottery, -1), 2 * SLOTS)
        taken, rows = np.zeros((n, m), bool), np.arange(n)
        column, propensity = np.empty((n, SLOTS), int), np.empty((n, SLOTS))
        left = eligible.sum(axis=1)
        for slot in range(SLOTS):
            best, random = (choice[rows, (~taken[rows[:, None], choice]).argmax(axis=1)] for choice in (ranked, drawn))
            column[:, slot] = np.where(explored[:, slot], random, best)
            propensity[:, slot] = (1 - exploration) * (column[:, slot] == best) + exploration / (left - slot)
            taken[rows, column[:, slot]] = True
        return column, explored, propensity

    def _incumbent(self, candidates: pd.DataFrame) -> np.ndarray:
        """Last year's recommender: views a day, plus the topics that it believed a user to like when it was last trained."""
        topic = self.items.topic.to_numpy()[candidates.item_id]
        trend = np.log1p(candidates.views.to_numpy(np.float64)) - np.log(candidates.age_days.to_numpy(np.float64) + 3)
        return 0.5 * trend + self._believed[candidates.user_id.to_numpy(), topic]


@dataclasses.dataclass
class _State:
    """What the platform remembers: who clicked and saw what, and how often each video was viewed."""

    clicked: np.ndarray  # (n_users, n_items) bool
    shown: np.ndarray  # (n_users, n_items) number of showings
    views: np.ndarray  # (n_items,)

    @classmethod
    def empty(cls, n_users: int, views: np.ndarray) -> _State:
        return cls(np.zeros((n_users, len(views)), bool), np.zeros((n_users, len(views)), np.uint8), views.astype(np.int32))
