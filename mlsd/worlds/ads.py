"""Ads in a social feed: an auction for each visit, clicks, hides, and conversions that arrive days later.

A visit retrieves eligible ads. The policy states the expected value of each, bid x P(click); the
generalised second-price auction ranks by it, drops what is under the reserve, and charges a click
the least that would have kept the slot. Users click what interests them, tire of what they have seen,
and hide what annoys them. Counters and budgets are as of the start of each three-hour window.
"""

from __future__ import annotations

import dataclasses
from typing import Self

import numpy as np
import pandas as pd
from scipy.special import expit

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

TOPICS = ("travel", "games", "fashion", "finance", "food", "fitness", "learning", "home")
FORMATS = ("image", "video", "text")
DEVICES = ("phone", "tablet", "desktop")
N_SEGMENTS = 4  # age groups
WINDOW_HOURS = 3  # counters and budgets are refreshed this often
CONVERSION_WINDOW_DAYS = 14  # a conversion counts within this time of the click; a "no" is known only then

# Independent random streams.
_USERS, _ADS, _APPEAL, _VISITS, _LUCK = range(5)


@dataclasses.dataclass(frozen=True)
class AdRules(Rules):
    """Planted effects and sizes of the ad world."""

    interest: float = effect(
        1.8, off=0.0, unit="log-odds from no interest to the favourite topic", mechanism="Users click ads on topics that interest them."
    )
    appeal_spread: float = effect(
        0.5, off=0.0, unit="log-odds", mechanism="Each topic appeals more to some age groups than to others: a cross of two features."
    )
    format_fit: float = effect(
        0.6, off=0.0, unit="log-odds", mechanism="Video draws clicks on phones, text on desktops: again a cross of two features."
    )
    ad_quality_spread: float = effect(
        0.6, off=0.0, unit="log-odds", mechanism="Some creatives draw more clicks than others; only their own history tells."
    )
    fatigue: float = effect(
        0.35,
        off=0.0,
        unit="log-odds per doubling of 1 + times seen",
        mechanism="The more often a user has seen an ad, the less likely a click.",
    )
    position_bias: float = effect(
        0.6, off=0.0, unit="power", mechanism="Slot k is looked at with probability k^-bias; what is not looked at is not clicked."
    )
    slow_drift: float = effect(
        0.03, off=0.0, unit="1 / day", mechanism="What topics appeal to which age group wanders: this share of the memory is lost each day."
    )
    sudden_drift: float = effect(
        0.8,
        off=0.0,
        unit="share of the appeal replaced",
        mechanism="A new season begins on `season_day`, and other topics appeal than before.",
    )
    annoyance: float = effect(
        0.6, off=0.0, unit="log-odds per doubling of 1 + times seen", mechanism="Ads seen again and again are hidden."
    )
    conversion_delay: float = effect(
        3.0, off=0.0, unit="days", mechanism="A conversion follows the click after this long on average, two weeks at most."
    )
    slow_buyers: float = effect(
        1.0,
        off=0.0,
        unit="log of the mean delay, per unit of log price",
        mechanism="What costs more is slept on longer, so recent labels are more incomplete for dear products.",
    )
    reserve: float = effect(
        0.02,
        off=0.0,
        unit="dollars an impression",
        mechanism="Below this expected value an ad is not shown, except in the first slot; nor does a click cost less.",
    )
    budget: float = effect(
        20.0,
        off=1e9,
        unit="dollars a day at the median ad",
        mechanism="An ad that has spent its day's budget takes no further part that day.",
    )
    exploration: float = effect(
        0.05, off=0.0, unit="share of visits", mechanism="These visits see ads in random order, whatever the reserve."
    )

    season_day: int = 35
    n_users: int = 4000
    visits_per_day: int = 4000
    new_ads_a_day: int = 7
    candidates: int = 12  # retrieved for a visit
    slots: int = 3
    horizon_days: int = 63  # days for which ads are drawn


class AdWorld(SimulatedWorld):
    """Advertisers bid for clicks, users visit, an auction fills up to three slots a visit. See `base.World`.

    users: user_id, segment (age group), device and followed_topic (codes into DEVICES, TOPICS), created_at.
    items: item_id, advertiser_id, topic, format (codes into TOPICS, FORMATS), bid (dollars a click), product_price, created_at, expires_at.
    A policy returns the expected value of each candidate, in dollars an impression: bid x P(click on top).
    Scores have to be positive: a price is a ratio of two of them. `deploy` raises WorldError for others.
    A "conversion" is a click that converts within the window. Truth needs user_id, item_id, day, times_seen.
    """

    RULES = AdRules
    OUTCOMES = ("click", "conversion", "hide")
    AFTERWARDS = ("price", "click", "hide", "revenue", "conversion", "conversion_known_at")
    KNOWN_LATER = {"conversion_known_at": ("conversion",)}
    SMALL = dict(n_users=300, visits_per_day=400, horizon_days=14)

    _arms: list[np.ndarray] | None = None  # the users of each arm, and what it does not share; see `split`
    _own_budgets = _own_counters = False

    # ---------- what exists ----------

    def _draw(self) -> None:
        if not 1 <= self.rules.slots <= self.rules.candidates:
            raise WorldError(f"expected 1 <= slots <= candidates, found {self.rules.slots} and {self.rules.candidates}")
        self._draw_users()
        self._draw_ads()
        self._draw_appeal()
        self.metrics = {
            "revenue_per_1000_visits": OnlineMetric("revenue", "request", 1000.0),
            "clicks_per_1000_visits": OnlineMetric("click", "request", 1000.0),
            "conversions_per_1000_visits": OnlineMetric("conversion", "request", 1000.0),
            "hides_per_1000_visits": OnlineMetric("hide", "request", 1000.0, higher_is_better=False),
        }

    def _draw_users(self) -> None:
        rng, n = generator(self.seed, _USERS), self.rules.n_users
        interest = rng.dirichlet(np.full(len(TOPICS), 0.4), n)
        self._interest = interest / interest.max(axis=1, keepdims=True)  # 1 for the favourite topic
        self._eager = rng.normal(0, 0.4, n)
        # At sign-up people follow a topic: mostly the one they like best.
        followed = np.where(rng.random(n) < 0.7, interest.argmax(axis=1), rng.integers(0, len(TOPICS), n))
        activity = rng.lognormal(0, 0.8, n)
        self._activity = activity / activity.sum()
        self.users = pd.DataFrame(
            dict(
                user_id=np.arange(n, dtype=np.int32),
                segment=rng.integers(0, N_SEGMENTS, n).astype(np.int8),
                device=rng.choice(len(DEVICES), n, p=[0.6, 0.1, 0.3]).astype(np.int8),
                followed_topic=followed.astype(np.int8),
                created_at=times(-rng.integers(1, 900, n)),
            )
        )

    def _draw_ads(self) -> None:
        r, rng = self.rules, generator(self.seed, _ADS)
        longest = 20  # days that an ad can run
        day = np.repeat(np.arange(-longest, r.horizon_days), r.new_ads_a_day)
        n = len(day)
        life = rng.integers(8, longest + 1, n)
        advertiser = rng.integers(0, 120, n)
        topic = rng.integers(0, len(TOPICS), 120)[advertiser]
        price = 40 * np.exp(0.7 * rng.normal(size=120))[advertiser]
        # Dear products can pay more for a click.
        bid = 0.8 * (price / 40) ** 0.4 * np.exp(0.3 * rng.normal(size=n))
        self._quality = rng.normal(size=n)
        self._converts = -2.0 - 0.3 * np.log(price / 40) + 0.5 * rng.normal(size=120)[advertiser]
        self._budget = r.budget * np.exp(0.6 * rng.normal(size=n))
        self._created_day, self._expires_day = day, day + life
        self.items = pd.DataFrame(
            dict(
                item_id=np.arange(n, dtype=np.int32),
                advertiser_id=advertiser.astype(np.int32),
                topic=topic.astype(np.int8),
                format=rng.choice(len(FORMATS), n, p=[0.5, 0.3, 0.2]).astype(np.int8),
                bid=bid.round(2),
                product_price=price.round(2),
                created_at=times(day),
                expires_at=times(day + life),
            )
        )
        self._topic, self._format, self._bid = (self.items[c].to_numpy() for c in ("topic", "format", "bid"))

    def _draw_appeal(self) -> None:
        """Appeal in log-odds by day, age group and topic: a stationary AR(1) path, centred over topics."""
        r, rng = self.rules, generator(self.seed, _APPEAL)
        memory, shape = 1 - r.slow_drift, (r.horizon_days, 2, N_SEGMENTS, len(TOPICS))
        path = rng.normal(0, 1, shape)
        for day in range(1, r.horizon_days):
            path[day] = memory * path[day - 1] + np.sqrt(1 - memory**2) * path[day]
        path -= path.mean(axis=-1, keepdims=True)
        new = np.where(np.arange(r.horizon_days) >= r.season_day, r.sudden_drift, 0.0)[:, None, None]
        # Two independent paths: the square roots keep the spread of appeal the same before and after.
        self._appeal = r.appeal_spread * (np.sqrt(1 - new) * path[:, 0] + np.sqrt(new) * path[:, 1])

    def split(self, arm: np.ndarray, budgets: bool = True, counters: bool = True) -> Self:
        """This world with its past so far, in which two arms of users share less from now on.

        arm: of each user, bool, shape (n_users,).
        budgets: each arm has its share of users of every day budget, so what one spends is no loss to the other (a budget-split test).
        counters: an ad's impressions and clicks are counted by arm. Both begin with those of the past.
        The ads and the visits stay the same. Raises WorldError for another shape, or an empty arm.
        """
        arm = np.asarray(arm)
        if arm.shape != (self.rules.n_users,) or arm.dtype != bool or arm.all() or not arm.any():
            found = f"{arm.dtype} {arm.shape}, {np.count_nonzero(arm)} of them true"
            raise WorldError(f"arm: expected one bool for each of {self.rules.n_users} users, of both kinds, found {found}")
        sibling = type(self)(self.rules, self.seed)
        sibling.incumbent = self.incumbent
        sibling.adopt(list(self._past), self._read_past)
        sibling._arms, sibling._own_budgets, sibling._own_counters = [~arm, arm], budgets, counters
        return sibling

    # ---------- what people do ----------

    def _attraction(self, rows: pd.DataFrame) -> np.ndarray:
        """P(click | looked at) of each row."""
        r, user, item = self.rules, rows.user_id.to_numpy(), rows.item_id.to_numpy()
        topic, device = self._topic[item], self.users.device.to_numpy()[user]
        fits = ((self._format[item] == 1) & (device == 0)) | ((self._format[item] == 2) & (device == 2))
        return expit(
            -5.0
            + self._eager[user]
            + r.interest * self._interest[user, topic]
            + self._appeal[rows.day.to_numpy(), self.users.segment.to_numpy()[user], topic]
            + r.format_fit * fits
            + r.ad_quality_spread * self._quality[item]
            - r.fatigue * np.log2(1 + rows.times_seen.to_numpy(float))
        )

    def _conversion(self, rows: pd.DataFrame) -> np.ndarray:
        """P(converts | clicked) of each row."""
        user, item = rows.user_id.to_numpy(), rows.item_id.to_numpy()
        return expit(self._converts[item] + self._interest[user, self._topic[item]] - 0.5)

    def _hide_rate(self, rows: pd.DataFrame) -> np.ndarray:
        return expit(-6.5 + self.rules.annoyance * np.log2(1 + rows.times_seen.to_numpy(float)))

    def _probability(self, rows: pd.DataFrame, outcome: str) -> np.ndarray:
        looks = examined(rows, self.rules.position_bias)
        if outcome == "hide":
            return looks * self._hide_rate(rows)
        click = looks * self._attraction(rows)
        return click if outcome == "click" else click * self._conversion(rows)

    def value(self, candidates: pd.DataFrame) -> np.ndarray:
        """bid x P(click on top), shape (n,): the oracle's score."""
        return self._bid[candidates.item_id.to_numpy()] * self._attraction(candidates)

    oracle = value

    # ---------- serving ----------

    def _new_state(self) -> _State:
        return _State.empty(len(self.users), len(self.items))

    def _record(self, served: pd.DataFrame, state: _State) -> None:
        """Count the impressions and clicks of served rows."""
        user, item, click = (served[c].to_numpy() for c in ("user_id", "item_id", "click"))
        topic = self._topic[item]
        np.add.at(state.impressions, item, 1)
        np.add.at(state.clicks, item, click)
        np.add.at(state.topic_impressions, (user, topic), 1)
        np.add.at(state.topic_clicks, (user, topic), click)
        np.add.at(state.times_seen, (user, item), 1)

    def _serve_day(self, policy: Policy, day: int, state: _State) -> pd.DataFrame:
        """One day of the product, in windows of three hours."""
        r, rng = self.rules, generator(self.seed, _VISITS, day)
        user = rng.choice(r.n_users, r.visits_per_day, p=self._activity)
        second = np.sort(np.clip(rng.normal(16, 4.5, r.visits_per_day), 0, 23.99) * 3600).astype(np.int64)
        explored = happens(rng.random(r.visits_per_day), r.exploration)
        live = np.flatnonzero((self._created_day <= day) & (self._expires_day > day))
        # Luck is tied to visit and ad, so that two policies meet the same people.
        luck = generator(self.seed, _LUCK, day).random((5, r.visits_per_day, len(live)), dtype=np.float32)
        arms = self._arms or [np.ones(r.n_users, bool)]
        states = state.of_arms(len(arms)) if self._own_counters else [state] * len(arms)
        purses = [np.zeros(len(self.items)) for _ in arms] if self._own_budgets else [np.zeros(len(self.items))] * len(arms)
        shares, served = [members.mean() if self._own_budgets else 1.0 for members in arms], []
        for window in range(24 // WINDOW_HOURS):
            logs, could_spend = [], [spent[live] < share * self._budget[live] for spent, share in zip(purses, shares, strict=True)]
            for k, members in enumerate(arms):
                visits = np.flatnonzero((second // (3600 * WINDOW_HOURS) == window) & members[user])
                if len(visits) == 0:
                    continue
                requests = dict(
                    request_id=day * np.int64(r.visits_per_day) + visits,
                    time=times(day, second[visits]),
                    day=np.full(len(visits), day, np.int32),
                    user_id=user[visits].astype(np.int32),
                )
                has_budget = could_spend[k]
                log = self._serve_window(policy, requests, explored[visits], live[has_budget], luck[:, visits][:, :, has_budget], states[k])
                np.add.at(purses[k], log.item_id.to_numpy(), log.revenue.to_numpy())
                logs.append((log, states[k]))
            for log, counted in logs:  # counters are as of the start of the window, for both arms
                self._record(log, counted)
                served.append(log)
        return pd.concat(served, ignore_index=True)

    def _serve_window(
        self, policy: Policy, requests: dict[str, np.ndarray], explored: np.ndarray, live: np.ndarray, luck: np.ndarray, state: _State
    ) -> pd.DataFrame:
        r, user, k = self.rules, requests["user_id"], min(self.rules.candidates, len(live))
        n = len(user)
        # Retrieval: advertisers aim at the interested, and the noise makes it a draw without replacement.
        # Best first, so equal scores fall in the order of retrieval.
        column = ranking(self._interest[user[:, None], self._topic[live][None]] + gumbel(luck[0]), k)
        candidates = self._rows(requests, np.repeat(np.arange(n), k), live[column.ravel()], state)
        score = scores_of(policy, candidates).reshape(n, k)
        if not (score > 0).all():
            raise WorldError(f"scores: expected expected values above 0, found {int((score <= 0).sum())} that are not")
        ranked, at_random = ranking(score), ranking(np.take_along_axis(luck[1], column, axis=1))
        order = np.where(explored[:, None], at_random, ranked)
        score = np.take_along_axis(score, order, axis=1)
        runner_up = np.hstack([score[:, 1:], np.zeros((n, 1))])
        # Generalised second price: the least score that keeps the slot, in the ad's own dollars a click; never above its bid.
        reserve = decisive(r.reserve)
        share_of_bid = np.minimum(np.maximum(runner_up, reserve) / score, 1)
        slot = np.arange(k)
        filled = (slot < r.slots) & ((score >= reserve) | (slot == 0) | explored[:, None])
        propensity = (1 - r.exploration) * (order == ranked) + r.exploration / k
        column = np.take_along_axis(column, order, axis=1)[filled]
        row, position = np.nonzero(filled)
        log = shown(self._rows(requests, row, live[column], state), position + 1, propensity[filled], explored[row])
        return self._outcomes(log, luck[2][row, column], luck[3][row, column], luck[4][row, column], share_of_bid[filled])

    def _outcomes(
        self, log: pd.DataFrame, u_click: np.ndarray, u_hide: np.ndarray, u_convert: np.ndarray, share_of_bid: np.ndarray
    ) -> pd.DataFrame:
        """Add what users did, and what it cost the advertiser, to served rows."""
        r, item = self.rules, log.item_id.to_numpy()
        looks = examined(log, r.position_bias)
        click = happens(u_click, looks * self._attraction(log))
        price = self._bid[item] * share_of_bid
        converts = self._conversion(log)
        conversion = click & happens(u_convert, converts)
        # What is left of the draw that decided the conversion decides its delay: an exponential, cut at the window.
        rest = np.where(conversion, u_convert / converts, 0.5)
        mean_days = r.conversion_delay * (self.items.product_price.to_numpy()[item] / 40) ** r.slow_buyers
        delay = np.minimum(-mean_days * np.log1p(-rest * (1 - 1e-6)), CONVERSION_WINDOW_DAYS)
        window = CONVERSION_WINDOW_DAYS if r.conversion_delay else 0
        known_after = np.where(conversion, delay, np.where(click, window, 0))
        return log.assign(
            price=price.astype(np.float32),
            click=click.astype(np.int8),
            hide=happens(u_hide, looks * self._hide_rate(log)).astype(np.int8),
            revenue=np.where(click, price, 0).astype(np.float32),
            conversion=conversion.astype(np.float32),
            conversion_known_at=log.time + (known_after * 86400).astype("timedelta64[s]"),
        )

    def _rows(self, requests: dict[str, np.ndarray], row: np.ndarray, item: np.ndarray, state: _State) -> pd.DataFrame:
        """One row a candidate, in the columns that a policy sees: the requests `row`, each with its item."""
        user = requests["user_id"][row]
        return pd.DataFrame(
            {name: values[row] for name, values in requests.items()}
            | dict(
                item_id=item.astype(np.int32),
                ad_impressions=state.impressions[item],
                ad_clicks=state.clicks[item],
                topic_impressions=state.topic_impressions[user, self._topic[item]],
                topic_clicks=state.topic_clicks[user, self._topic[item]],
                times_seen=state.times_seen[user, item],
            )
        )

    def _incumbent(self, candidates: pd.DataFrame) -> np.ndarray:
        """A rule: bid x smoothed click rate of the ad, twice as much on topics the user has clicked."""
        click_rate = (candidates.ad_clicks + 4) / (candidates.ad_impressions + 200)
        liked = 1 + (candidates.topic_clicks > 0)
        return self._bid[candidates.item_id.to_numpy()] * (click_rate * liked).to_numpy()


@dataclasses.dataclass
class _State:
    """Counters as recorded: by ad, by user and topic, by user and ad."""

    impressions: np.ndarray  # (n_ads,)
    clicks: np.ndarray  # (n_ads,)
    topic_impressions: np.ndarray  # (n_users, n_topics)
    topic_clicks: np.ndarray  # (n_users, n_topics)
    times_seen: np.ndarray  # (n_users, n_ads)
    arms: list[_State] | None = None  # once two arms count apart

    def of_arms(self, n: int) -> list[_State]:
        """One state an arm: own counters of ads, from these on; what is counted by user is shared, as no user is in two."""
        if self.arms is None:
            self.arms = [dataclasses.replace(self, impressions=self.impressions.copy(), clicks=self.clicks.copy()) for _ in range(n)]
        return self.arms

    @classmethod
    def empty(cls, n_users: int, n_ads: int) -> _State:
        by_ad, by_topic = (n_ads,), (n_users, len(TOPICS))
        return cls(*(np.zeros(shape, np.int32) for shape in (by_ad, by_ad, by_topic, by_topic)), np.zeros((n_users, n_ads), np.int16))
