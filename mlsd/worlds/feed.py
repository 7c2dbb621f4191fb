"""A small personalised feed, with incidents that can be switched on from a given day.

Each day a user may open the feed once (a request). Retrieval draws candidates from the live posts,
favouring those that were clicked (popularity feedback); the policy ranks them; the first few are
shown. Users examine positions from the top, click what matches their taste or what has a
sensational headline, and are satisfied by what is good. Satisfaction is known days later. Satisfied
users come back. From `onset_day` on, up to five incidents change the product.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
import pandas as pd
from scipy.special import expit

from mlsd.worlds.base import OnlineMetric, Policy, Rules, WorldError, effect, generator, happens, ranking, scores_of, times
from mlsd.worlds.engine import SimulatedWorld, examined, shown

USERS, ITEMS, TASTES, DAY = range(4)  # random streams
N_TOPICS, N_SEGMENTS = 10, 3
WINDOW_DAYS = 7  # satisfaction is a return to the post within a week: a "no" is known only then
TRICKLE = 0.15  # visits of campaign users before the campaign, relative to organic users
FEATURES = ["segment", "campaign", "android", "tenure_days", "hour", "topic", "headline", "item_age_days"]
FEATURES += ["item_impressions", "item_clicks", "interest_match"]


@dataclass(frozen=True)
class FeedRules(Rules):
    """What is planted in the feed. Incidents (the last five effects) start on `onset_day`."""

    clickbait_pull: float = effect(
        1.5,
        off=0.0,
        unit="log-odds of a click per unit of headline",
        mechanism="A sensational headline draws clicks whatever stands behind it.",
    )
    clickbait_regret: float = effect(
        3.0,
        off=0.0,
        unit="log-odds per unit of headline",
        mechanism="A sensational headline disappoints: readers are satisfied less often and hide the post more often.",
    )
    habit: float = effect(
        0.8,
        off=0.0,
        unit="relative visits per unit of satisfied share",
        mechanism="Users whose recent clicks satisfied them come back more often.",
    )
    position_bias: float = effect(
        0.5,
        off=0.0,
        unit="exponent",
        mechanism="Position k is examined with probability k to the minus this power; unexamined is unclicked.",
    )
    popularity_feedback: float = effect(
        0.5, off=0.0, unit="exponent", mechanism="Retrieval draws a live post in proportion to (1 + its clicks) to this power."
    )
    exploration: float = effect(
        0.05, off=0.0, unit="share of requests", mechanism="These requests are filled with posts drawn evenly from all that are live."
    )
    taste_drift: float = effect(
        0.01, off=0.0, unit="1 / day", mechanism="What topics appeal to which age group wanders: this share of the memory is lost each day."
    )
    weekly_rhythm: float = effect(
        0.15, off=0.0, unit="relative visits, log-odds", mechanism="At weekends people open the feed more often and click less once there."
    )
    label_delay: float = effect(
        2.0,
        off=0.0,
        unit="days",
        mechanism="A satisfied reader returns after this long on average, at most a week; a 'no' is known after the week.",
    )
    mix_shift: float = effect(
        5.0,
        off=0.0,
        unit="relative visits",
        mechanism="Incident, covariate drift: a campaign brings its less engaged users this many times more often.",
    )
    base_rate_shift: float = effect(
        -0.12,
        off=0.0,
        unit="log-odds of a click",
        mechanism="Incident, label drift: everybody clicks less on everything by the same factor of the odds.",
    )
    taste_change: float = effect(
        0.7,
        off=0.0,
        unit="share of the taste replaced",
        mechanism="Incident, concept drift: fashion changes, and other topics appeal than before.",
    )
    click_loss: float = effect(
        0.18,
        off=0.0,
        unit="share of Android clicks",
        mechanism="Incident, logging: the new Android client loses click events; readers notice nothing.",
    )
    feature_outage: float = effect(
        0.5,
        off=0.0,
        unit="share of requests",
        mechanism="Incident, pipeline: the feature store times out and interest_match is served as 0.",
    )
    onset_day: int = 70
    n_users: int = 6000
    new_items_a_day: int = 60
    item_life_days: int = 14
    candidates: int = 12
    slots: int = 4
    horizon_days: int = 180


INCIDENTS = ["mix_shift", "base_rate_shift", "taste_change", "click_loss", "feature_outage"]


@dataclass
class _State:
    """What the past leaves behind. Counts by post, shape (n_items,); satisfied share by user, shape (n_users,)."""

    impressions: np.ndarray
    clicks: np.ndarray
    satisfied_share: np.ndarray


def _draw_distinct(uniform: np.ndarray, weight: np.ndarray) -> np.ndarray:
    """Draw distinct indices, each with a probability close to its share of the weight.

    uniform: shape (n, k); weight: shape (m,), m >= k. Returns shape (n, k). Stratified sampling: draw j
    falls in the j-th of k equal parts of the weight, laid out in the given order, so only neighbours can coincide.
    """
    n, k = uniform.shape
    share = np.minimum(weight / weight.sum(), 1 / k)
    edges = np.cumsum(share / share.sum())
    drawn = np.searchsorted(edges, (np.arange(k) + uniform) / k, side="right")
    steps = np.arange(k)
    drawn = np.maximum.accumulate(drawn - steps, axis=1) + steps
    return np.minimum(drawn, len(weight) - k + steps)


class FeedWorld(SimulatedWorld):
    """A personalised feed whose truth is known. See `FeedRules` for what is planted.

    users: user_id, segment (age group 0-2), campaign, android, joined (days before START).
    items: item_id, topic, headline (0 sober to 1 sensational), created_at, expires_at.
    Truth needs user_id, item_id, day; a "click" is one the user made, recorded or not.
    """

    RULES = FeedRules
    OUTCOMES = ("satisfied", "click", "hide")
    AFTERWARDS = ("click", "hide", "satisfied", "satisfied_known_at")
    KNOWN_LATER = {"satisfied_known_at": ("satisfied",)}
    SMALL = dict(n_users=800, new_items_a_day=20, horizon_days=20, onset_day=8)

    def _draw(self) -> None:
        rules = self.rules
        if rules.slots > rules.candidates or rules.candidates > rules.new_items_a_day * rules.item_life_days // 2:
            raise WorldError(f"expected slots <= candidates <= half of the live posts, found {rules.slots} and {rules.candidates}")
        self._draw_users()
        self._draw_items()
        self._draw_tastes()
        self.metrics = {
            "clicks_per_request": OnlineMetric("click", "request"),
            "satisfied_per_request": OnlineMetric("satisfied", "request"),
            "satisfied_per_user": OnlineMetric("satisfied", "user"),
            "hides_per_1000_requests": OnlineMetric("hide", "request", 1000.0, higher_is_better=False),
        }

    def _draw_users(self) -> None:
        rng, n = generator(self.seed, USERS), self.rules.n_users
        campaign = rng.random(n) < 0.25
        self.users = pd.DataFrame(
            dict(
                user_id=np.arange(n, dtype=np.int32),
                segment=rng.integers(0, N_SEGMENTS, n).astype(np.int8),
                campaign=campaign.astype(np.int8),
                android=(rng.random(n) < 0.45).astype(np.int8),
                joined=np.where(campaign, rng.integers(0, 30, n), rng.integers(30, 1000, n)).astype(np.int16),
            )
        )
        interest = rng.dirichlet(np.full(N_TOPICS, 0.3), n)
        self._interest = interest / interest.max(axis=1, keepdims=True)  # 1 for the topic a user likes best
        noise = rng.dirichlet(np.full(N_TOPICS, 0.3), n)
        self._profile = 0.8 * self._interest + 0.2 * noise / noise.max(axis=1, keepdims=True)  # what the company believes
        self._visit_rate = rng.beta(3, 4.5, n) * np.where(campaign, TRICKLE, 1.0)
        self._user_bias = rng.normal(0, 0.3, n) - 0.8 * campaign

    def _draw_items(self) -> None:
        rules, rng = self.rules, generator(self.seed, ITEMS)
        day = np.repeat(np.arange(-rules.item_life_days + 1, rules.horizon_days), rules.new_items_a_day)
        n = len(day)
        self.items = pd.DataFrame(
            dict(
                item_id=np.arange(n, dtype=np.int32),
                topic=rng.integers(0, N_TOPICS, n).astype(np.int8),
                headline=rng.beta(1.5, 2.5, n).round(1).astype(np.float32),
                created_at=times(day),
                expires_at=times(day + rules.item_life_days),
            )
        )
        self._created_day, self._headline = day, self.items.headline.to_numpy(np.float64)
        self._quality = rng.normal(0, 0.5, n)

    def _draw_tastes(self) -> None:
        """Appeal in log-odds by day, segment and topic: a stationary AR(1) path, centred over topics."""
        rules, rng = self.rules, generator(self.seed, TASTES)
        shape = (rules.horizon_days, 2, N_SEGMENTS, N_TOPICS)
        memory = 1 - rules.taste_drift
        steps = rng.normal(0, 0.6, shape) * np.sqrt(1 - memory**2)
        path = np.empty(shape)
        path[0] = rng.normal(0, 0.6, shape[1:])
        for day in range(1, rules.horizon_days):
            path[day] = memory * path[day - 1] + steps[day]
        path -= path.mean(axis=-1, keepdims=True)
        change = np.where(np.arange(rules.horizon_days) >= rules.onset_day, rules.taste_change, 0.0)[:, None, None]
        # Two independent paths: sqrt keeps the spread of appeal the same before and after.
        self._appeal = np.sqrt(1 - change) * path[:, 0] + np.sqrt(change) * path[:, 1]

    # ---------- truth ----------

    def _is_weekend(self, day: np.ndarray) -> np.ndarray:
        return np.asarray(day) % 7 >= 5

    def _attraction(self, rows: pd.DataFrame) -> np.ndarray:
        """P(click | examined) of each row."""
        rules, user, item, day = self.rules, rows.user_id.to_numpy(), rows.item_id.to_numpy(), rows.day.to_numpy()
        topic = self.items.topic.to_numpy()[item]
        z = -2.9 + self._user_bias[user] + 1.6 * self._interest[user, topic] + self._quality[item]
        z += self._appeal[day, self.users.segment.to_numpy()[user], topic]
        z += rules.clickbait_pull * self._headline[item] - 0.03 * (day - self._created_day[item])
        z -= rules.weekly_rhythm * self._is_weekend(day)
        z += rules.base_rate_shift * (day >= rules.onset_day)
        return expit(z)

    def _satisfaction(self, rows: pd.DataFrame) -> np.ndarray:
        """P(satisfied | clicked) of each row."""
        user, item = rows.user_id.to_numpy(), rows.item_id.to_numpy()
        match = self._interest[user, self.items.topic.to_numpy()[item]]
        return expit(0.2 + 1.2 * match + 0.8 * self._quality[item] - self.rules.clickbait_regret * self._headline[item])

    def _probability(self, rows: pd.DataFrame, outcome: str) -> np.ndarray:
        looks = examined(rows, self.rules.position_bias)
        if outcome == "hide":
            return looks * self._hide_rate(rows)
        click = looks * self._attraction(rows)
        return click if outcome == "click" else click * self._satisfaction(rows)

    def _hide_rate(self, rows: pd.DataFrame) -> np.ndarray:
        return expit(-6.0 + self.rules.clickbait_regret * self._headline[rows.item_id.to_numpy()])

    def oracle(self, candidates: pd.DataFrame) -> np.ndarray:
        """The policy that knows each candidate's chance to satisfy."""
        return self._attraction(candidates) * self._satisfaction(candidates)

    # ---------- serving ----------

    def _visits(self, day: int, uniform: np.ndarray, state: _State) -> np.ndarray:
        rules = self.rules
        rate = self._visit_rate * (1 + rules.weekly_rhythm * self._is_weekend(day)) * (1 + rules.habit * (state.satisfied_share - 0.5))
        if day >= rules.onset_day:
            rate = np.where(self.users.campaign == 1, rate * (1 + rules.mix_shift), rate)
        return np.flatnonzero(happens(uniform, rate))

    def _features(self, day: int, user: np.ndarray, item: np.ndarray, hour: np.ndarray, outage: np.ndarray, state: _State) -> pd.DataFrame:
        """One row a candidate, in the columns that a policy sees. All arguments have shape (n,)."""
        users, items = self.users, self.items
        topic = items.topic.to_numpy()[item]
        return pd.DataFrame(
            dict(
                request_id=day * np.int64(self.rules.n_users) + user,
                time=times(day, (hour * 3600).astype(np.int64)),
                day=np.full(len(user), day, np.int32),
                user_id=user.astype(np.int32),
                item_id=item.astype(np.int32),
                segment=users.segment.to_numpy()[user],
                campaign=users.campaign.to_numpy()[user],
                android=users.android.to_numpy()[user],
                tenure_days=(users.joined.to_numpy()[user] + day).astype(np.int16),
                hour=hour.astype(np.int8),
                topic=topic,
                headline=items.headline.to_numpy()[item],
                item_age_days=(day - self._created_day[item]).astype(np.int16),
                item_impressions=state.impressions[item].astype(np.int32),
                item_clicks=state.clicks[item].astype(np.int32),
                interest_match=np.where(outage, 0.0, self._profile[user, topic]).astype(np.float32),
            )
        )

    def _new_state(self) -> _State:
        return _State(np.zeros(len(self.items)), np.zeros(len(self.items)), np.full(self.rules.n_users, 0.5))

    def _record(self, served: pd.DataFrame, state: _State) -> None:
        """Count a day's impressions and clicks, and move the satisfied share of its readers."""
        item, user = served.item_id.to_numpy(), served.user_id.to_numpy()
        np.add.at(state.impressions, item, 1)
        np.add.at(state.clicks, item, served.click.to_numpy())
        # Each click moves the reader's satisfied share by a tenth of the way, in the mean over the day's clicks.
        # A click that the client lost moves it too: the reader has made it.
        day = int(served.day.iloc[0])
        loses = self.rules.click_loss and day >= self.rules.onset_day
        click = self._clicks(served, self._luck(day)) if loses else served.click.to_numpy()
        clicks, joys = (np.bincount(user, weights=column, minlength=self.rules.n_users) for column in (click, served.satisfied))
        move = 1 - 0.9**clicks
        state.satisfied_share += move * (joys / np.maximum(clicks, 1) - state.satisfied_share)

    def _luck(self, day: int) -> dict[str, np.ndarray]:
        """The uniform draws of a day, tied to user and slot: the same whatever policy serves."""
        rng, n, r = generator(self.seed, DAY, day), self.rules.n_users, self.rules
        by_user = zip(("visit", "hour", "explore", "outage"), rng.random((4, n)), strict=True)
        retrieve = rng.random((n, r.candidates))
        by_slot = zip(("random", "click", "satisfied", "hide", "loss", "wait"), rng.random((6, n, r.slots)), strict=True)
        return dict(by_user) | dict(by_slot) | dict(retrieve=retrieve, live=rng.permutation(r.new_items_a_day * r.item_life_days))

    def _serve_day(self, policy: Policy, day: int, state: _State) -> pd.DataFrame:
        rules, luck = self.rules, self._luck(day)
        user = self._visits(day, luck["visit"], state)
        if len(user) == 0:
            raise WorldError(f"day {day}: nobody visited; expected more users than {rules.n_users}")
        explored = happens(luck["explore"][user], rules.exploration)
        outage = happens(luck["outage"][user], rules.feature_outage) & (day >= rules.onset_day)
        live = luck["live"] + day * rules.new_items_a_day  # posts are numbered by creation; in random order for the draw
        retrieved = live[_draw_distinct(luck["retrieve"][user], (1 + state.clicks[live]) ** rules.popularity_feedback)]
        any_live = live[_draw_distinct(luck["random"][user], np.ones(len(live)))]

        def rows(item: np.ndarray) -> pd.DataFrame:
            repeat = item.shape[1]
            spread = (np.repeat(column, repeat) for column in (luck["hour"][user] * 24, outage))
            return self._features(day, np.repeat(user, repeat), item.ravel(), *spread, state)

        # Equal scores fall in the day's random order of posts.
        scores = scores_of(policy, rows(retrieved)).reshape(retrieved.shape)
        best = np.take_along_axis(retrieved, ranking(scores, rules.slots), axis=1)
        listed = np.where(explored[:, None], any_live, best)
        propensity = (1 - rules.exploration) * (listed == best) + rules.exploration / len(live)
        position = np.tile(np.arange(1, rules.slots + 1), len(user))
        log = shown(rows(listed), position, propensity.ravel(), np.repeat(explored, rules.slots))
        self._add_outcomes(log, luck)
        self._record(log, state)
        return log

    def _clicks(self, rows: pd.DataFrame, luck: dict[str, np.ndarray]) -> np.ndarray:
        """Whether the user of each row clicked, recorded or not."""
        u = luck["click"][rows.user_id.to_numpy(), rows.position.to_numpy() - 1]
        return happens(u, self._probability(rows, "click"))

    def _add_outcomes(self, log: pd.DataFrame, luck: dict[str, np.ndarray]) -> None:
        """Add what users did to the log of a day."""
        rules, day, slot = self.rules, log.day.to_numpy(), (log.user_id.to_numpy(), log.position.to_numpy() - 1)
        click = self._clicks(log, luck)
        satisfied = click & happens(luck["satisfied"][slot], self._satisfaction(log))
        lost = happens(luck["loss"][slot], rules.click_loss) & (log.android == 1) & (day >= rules.onset_day)
        log["click"] = (click & ~lost).astype(np.int8)
        log["hide"] = happens(luck["hide"][slot], self._probability(log, "hide")).astype(np.int8)
        log["satisfied"] = satisfied.astype(np.float32)
        returned_after = np.minimum(-rules.label_delay * np.log1p(-luck["wait"][slot]), WINDOW_DAYS)
        window = WINDOW_DAYS if rules.label_delay else 0
        delay_days = np.where(satisfied, returned_after, np.where(click, window, 0))
        log["satisfied_known_at"] = log.time + (delay_days * 86400).astype("timedelta64[s]")

    def _incumbent(self, candidates: pd.DataFrame) -> np.ndarray:
        """The rule that editors wrote: posts that were clicked, on topics the reader likes, while they are new."""
        click_rate = (candidates.item_clicks.to_numpy() + 2) / (candidates.item_impressions.to_numpy() + 20)
        freshness = 0.97 ** candidates.item_age_days.to_numpy(np.float64)
        return click_rate * (0.5 + candidates.interest_match.to_numpy(np.float64)) * freshness

    def branch(self, rules: FeedRules) -> FeedWorld:
        """This world with the incidents of `rules`: the days before onset_day are shared, not simulated again.

        The incumbent of now serves from the onset on, as it would here. Raises WorldError if other rules differ.
        """
        expected = replace(rules, **{name: getattr(self.rules, name) for name in INCIDENTS})
        if expected != self.rules:
            raise WorldError("rules: expected to differ from this world's in incidents alone; use with_rules for others")
        self._serve_past(rules.onset_day)
        other = FeedWorld(rules, self.seed)
        other.incumbent = self.incumbent
        other.adopt(self._past[: rules.onset_day])
        return other
