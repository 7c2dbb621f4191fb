"""Holiday homes: a visitor opens pages of one market, sees similar listings on one of them, and books one or none.

A session is a trip (market, dates, party) and a search that lists what is free in the order in which this visitor would
open it. Some pages in, the page of a listing carries a carousel: the policy ranks what is still free. The visitor reads it
from left to right, opens what appeals, and books the first page that convinces; whoever has not booked goes back to the
search, with the less patience the more was opened. A booked night is gone for everybody else. Calendars are as of the
start of each six-hour window.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable

import numpy as np
import pandas as pd
from scipy.special import expit

from mlsd.worlds.base import OnlineMetric, Policy, Rules, WorldError, effect, generator, gumbel, happens, ranking, scores_of, times
from mlsd.worlds.engine import SimulatedWorld, examined, shown

TYPES = ("room", "studio", "flat", "house")
STYLE_DIM = 3  # dimensions of tastes and of styles
PHOTO_DIM = 16  # of the vectors that stand for photographs
LONG_STAY = 7  # nights
MOST_LEAD, MOST_NIGHTS, MOST_PAGES = 21, 14, 6  # days ahead, nights of a stay, pages before and after the carousel
WINDOW_HOURS = 6  # calendars are refreshed this often
SOURCES = ("none", "page", "carousel", "search")  # where a booked listing was found: codes of `booked_by`
_NEVER = -1e9  # a score below all others

# Independent random streams.
_MARKETS, _LISTINGS, _PHOTOS, _CALENDARS, _USERS, _VISITS, _LUCK = range(7)


@dataclasses.dataclass(frozen=True)
class HomeRules(Rules):
    """Planted effects and sizes of the world of homes."""

    style: float = effect(
        1.5, off=0.0, unit="log-odds per standard deviation", mechanism="Visitors open and book what looks as they like it."
    )
    place: float = effect(
        0.6, off=0.0, unit="log-odds per km", mechanism="Each visitor has a spot in mind and passes by what is far from it."
    )
    price: float = effect(
        2.0,
        off=0.0,
        unit="log-odds per unit of log price",
        mechanism="Visitors look for a certain class: what costs more or less than it is passed by.",
    )
    trip: float = effect(
        0.5, off=0.0, unit="log-odds", mechanism="Who stays a week or more wants a kitchen; who stays some nights, the centre."
    )
    quality: float = effect(
        0.7,
        off=0.0,
        unit="log-odds per standard deviation",
        mechanism="A good listing convinces on its page, not before: it is booked more.",
    )
    gloss: float = effect(
        0.6,
        off=0.0,
        unit="log-odds per standard deviation",
        mechanism="Glossy photographs draw visitors to the page and convince nobody.",
    )
    hidden_style: float = effect(
        0.5, off=0.0, unit="share of variance", mechanism="Part of a listing's style is not in its photographs, only in who looks at it."
    )
    twins: float = effect(
        0.25, off=0.0, unit="share of listings", mechanism="Hosts offer further units of one building: alike but for small things."
    )
    sameness: float = effect(
        0.8,
        off=0.0,
        unit="log-odds per unit seen",
        mechanism="A unit of this page's building, or of one further left, is no news.",
    )
    filters: float = effect(
        1.3,
        off=1.0,
        unit="factor",
        mechanism="Place, price and kitchen can be filtered in the search, so they count for more there than in the row; style cannot.",
    )
    replaces: float = effect(
        1.0, off=0.0, unit="pages per click", mechanism="Each page opened from the carousel is a page less of later search."
    )
    units: float = effect(
        1.0, off=1e6, unit="stays at a time", mechanism="A listing houses one party: nights that are booked are gone for the others."
    )
    newcomers: float = effect(0.25, off=0.0, unit="share of listings", mechanism="Listings join after day 0, without a past.")
    position_bias: float = effect(
        0.4, off=0.0, unit="power", mechanism="Card k of the carousel is looked at with probability k^-bias; the others need a swipe."
    )
    exploration: float = effect(0.05, off=0.0, unit="share of sessions", mechanism="These sessions see their candidates in random order.")

    n_markets: int = 8
    n_listings: int = 900
    n_users: int = 15_000
    sessions_per_day: int = 1200
    slots: int = 8
    blocked: float = 0.12  # share of nights that hosts keep for themselves
    horizon_days: int = 70  # days for which listings and calendars are drawn


class HomeWorld(SimulatedWorld):
    """Visitors search one market, a listing's page shows similar ones, some book. See `base.World`.

    users: user_id, market (where they mean to go), created_at.
    items: item_id, host_id, building_id, market, type (code into TYPES), guests (most it houses), kitchen, price (dollars a night),
    x_km, y_km (from the market's centre), created_at.
    photos: one vector a listing, float32 (n_listings, PHOTO_DIM); NaN where there is no photograph.
    calendar: nights that hosts keep for themselves, bool (n_listings, nights), night 0 being that of day 0.

    A policy ranks listings of the market that house the party, are free on its nights and were not opened in this session.
    page_id is the listing on whose page they appear, previous_id the page before it (-1: none); check_in is a night, as in `calendar`.
    "click" opens a listing from the carousel, "booked" books it there; of the session as a whole, session_booked, gross
    (dollars) and searched (pages opened in the search afterwards) stand in its first row, booked_id and booked_by in all.
    Truth needs whole requests in the order of their positions: user_id, item_id, page_id, nights.
    """

    RULES = HomeRules
    OUTCOMES = ("click", "booked")
    AFTERWARDS = ("click", "booked", "session_booked", "gross", "searched", "booked_id", "booked_by")
    SMALL = dict(n_markets=2, n_listings=280, n_users=600, sessions_per_day=300, horizon_days=14)

    photos: np.ndarray
    calendar: np.ndarray

    # ---------- what exists ----------

    def _draw(self) -> None:
        r = self.rules
        if not 1 <= r.n_markets <= r.n_listings or r.slots < 1:
            raise WorldError(f"expected 1 <= n_markets <= n_listings and slots >= 1, found {r.n_markets}, {r.n_listings} and {r.slots}")
        self._draw_listings()
        self._draw_calendars()
        self._draw_users()
        self.metrics = {
            "bookings_per_session": OnlineMetric("session_booked", "request"),
            "gross_per_session": OnlineMetric("gross", "request"),
            "clicks_per_session": OnlineMetric("click", "request"),
            "carousel_bookings_per_session": OnlineMetric("booked", "request"),
            "searched_pages_per_session": OnlineMetric("searched", "request"),
        }

    def _draw_listings(self) -> None:
        r, n, rng = self.rules, self.rules.n_listings, generator(self.seed, _MARKETS)
        weight = (1 + np.arange(r.n_markets)) ** -0.5
        level = 0.25 * rng.normal(size=r.n_markets)  # log of what a market costs

        rng = generator(self.seed, _LISTINGS)
        market = np.append(np.arange(r.n_markets), rng.choice(r.n_markets, n - r.n_markets, p=weight / weight.sum()))
        joined = np.where(rng.random(n) < r.newcomers, rng.integers(1, r.horizon_days, n), -rng.integers(1, 900, n))
        kind = rng.choice(len(TYPES), n, p=[0.25, 0.25, 0.35, 0.15])
        most = np.array([2, 2, 3, 5])[kind] + rng.integers(0, np.array([1, 2, 4, 4])[kind])
        kitchen = rng.random(n) < np.array([0.15, 0.5, 0.9, 0.95])[kind]
        place, style = rng.normal(0, 3.0, (n, 2)), rng.normal(size=(n, STYLE_DIM))
        quality, gloss = rng.normal(size=(2, n))
        log_price = np.log(80) + level[market] + np.array([-0.4, -0.1, 0.2, 0.5])[kind] + 0.15 * quality + 0.25 * rng.normal(size=n)
        # A further unit takes after the first listing of its market that is no such unit itself and comes before it by chance.
        further, pick, jitter = rng.random(n) < r.twins, rng.random(n), rng.normal(size=(n, 2 + STYLE_DIM))
        original = np.arange(n)
        for m in range(r.n_markets):
            here = np.flatnonzero(market == m)
            firsts = here[~further[here]] if not further[here].all() else here[:1]
            copies = np.setdiff1d(here, firsts)
            original[copies] = firsts[(pick[copies] ** 2 * len(firsts)).astype(int)]  # some buildings have many
        copy = original != np.arange(n)
        kind, most, kitchen, place, quality = (x[original] for x in (kind, most, kitchen, place, quality))
        style = style[original] + 0.15 * copy[:, None] * jitter[:, 2:]
        log_price = log_price[original] + 0.04 * copy * jitter[:, 0]
        gloss = np.where(copy, 0.7 * gloss[original] + 0.3 * gloss, gloss)

        rng = generator(self.seed, _PHOTOS)
        mixing = rng.normal(size=(STYLE_DIM + 1, PHOTO_DIM)) / np.sqrt(STYLE_DIM)
        seen = np.sqrt(1 - r.hidden_style) * style + np.sqrt(r.hidden_style) * rng.normal(size=style.shape)[original]
        photos = np.column_stack([seen, gloss]) @ mixing + 0.3 * rng.normal(size=(n, PHOTO_DIM))
        photos[rng.random(n) < 0.03] = np.nan
        self.photos = photos.round(3).astype(np.float32)

        hosts = rng.integers(0, n // 3, n)[original]  # one host a building, about two buildings a host
        self.items = pd.DataFrame(
            dict(
                item_id=np.arange(n, dtype=np.int32),
                host_id=hosts.astype(np.int32),
                building_id=original.astype(np.int32),
                market=market.astype(np.int8),
                type=kind.astype(np.int8),
                guests=most.astype(np.int8),
                kitchen=kitchen,
                price=np.exp(log_price).round(0),
                x_km=place[:, 0].round(2),
                y_km=place[:, 1].round(2),
                created_at=times(joined),
            )
        )
        self._style, self._quality, self._gloss, self._joined = style / np.sqrt(STYLE_DIM), quality, gloss, joined
        self._place, self._building, self._most = place.round(2), original, most
        self._price = self.items.price.to_numpy()
        self._log_price = np.log(self._price)
        self._kitchen, self._central = np.where(kitchen, 1.0, -1.0), 1 - np.hypot(*place.T) / 3.0
        # The listings of each market side by side, filled up to one width.
        members = [np.flatnonzero(market == m) for m in range(r.n_markets)]
        self._members = np.full((r.n_markets, max(map(len, members))), -1)
        for m, here in enumerate(members):
            self._members[m, : len(here)] = here
        self._level, self._traffic = level, np.bincount(market) / n

    def _draw_calendars(self) -> None:
        """Nights that hosts keep, in spells of about five."""
        r, rng = self.rules, generator(self.seed, _CALENDARS)
        nights = r.horizon_days + MOST_LEAD + MOST_NIGHTS + 1
        kept = rng.random((r.n_listings, nights)) < r.blocked
        state = np.zeros((r.n_listings, nights), bool)
        stays = rng.random((r.n_listings, nights)) < 0.8
        state[:, 0] = kept[:, 0]
        for t in range(1, nights):
            state[:, t] = np.where(stays[:, t], state[:, t - 1], kept[:, t])
        self.calendar = state

    def _draw_users(self) -> None:
        r, rng, n = self.rules, generator(self.seed, _USERS), self.rules.n_users
        market = rng.choice(r.n_markets, n, p=self._traffic)
        self._taste, self._spot = rng.normal(size=(n, STYLE_DIM)), rng.normal(0, 2.0, (n, 2))
        self._budget = np.log(95) + self._level[market] + 0.4 * rng.normal(size=n)  # log dollars a night
        self._decided = rng.normal(0, 0.5, n)
        activity = rng.lognormal(0, 0.5, n)
        self._activity = activity / activity.sum()
        self.users = pd.DataFrame(
            dict(user_id=np.arange(n, dtype=np.int32), market=market.astype(np.int8), created_at=times(-rng.integers(1, 900, n)))
        )

    # ---------- what people do ----------

    def _fit(self, user: np.ndarray, item: np.ndarray, nights: np.ndarray, filters: np.ndarray | float = 1.0) -> np.ndarray:
        """How well a listing suits a visitor and the trip, in log-odds, shape (n,). filters: weight of all but style."""
        r = self.rules
        km = np.hypot(*(self._spot[user] - self._place[item]).T)
        other_class = np.abs(self._log_price[item] - self._budget[user])
        wanted = np.where(nights >= LONG_STAY, self._kitchen[item], self._central[item])
        match = np.einsum("nd,nd->n", self._taste[user], self._style[item])
        return r.style * match + filters * (r.trip * wanted - r.place * km - r.price * other_class)

    def _opens(self, user: np.ndarray, item: np.ndarray, nights: np.ndarray, same: np.ndarray | float) -> np.ndarray:
        """P(opened | looked at in the carousel), shape (n,). same: units of its building that the visitor has met."""
        r = self.rules
        return expit(-0.3 + 0.7 * self._fit(user, item, nights) + r.gloss * self._gloss[item] - r.sameness * same)

    def _books(self, user: np.ndarray, item: np.ndarray, nights: np.ndarray, same: np.ndarray | float) -> np.ndarray:
        """P(booked | its page is open and nothing was booked before), shape (n,)."""
        r = self.rules
        convinced = -2.6 + self._decided[user] + 0.8 * self._fit(user, item, nights) + r.quality * self._quality[item]
        return expit(convinced - r.sameness * same)

    def _probability(self, rows: pd.DataFrame, outcome: str) -> np.ndarray:
        """A card is opened while nothing is booked: neither this page nor, of a row with a position, a card left of it."""
        user, item, page, nights = (rows[c].to_numpy() for c in ("user_id", "item_id", "page_id", "nights"))
        same, undecided = (self._building[item] == self._building[page]).astype(float), 1 - self._books(user, page, nights, 0)
        if "position" in rows:
            building, later = pd.Series(self._building[item], rows.index), rows.position.to_numpy() > 1
            same += later * rows.groupby([rows.request_id, building]).cumcount().to_numpy()
        click = examined(rows, self.rules.position_bias) * self._opens(user, item, nights, same)
        books = self._books(user, item, nights, same)
        if "position" in rows:
            not_here = pd.Series(np.log1p(-click * books), rows.index)
            before = not_here.groupby(rows.request_id).cumsum() - not_here
            undecided *= np.exp(later * before.to_numpy())
        return undecided * click * (books if outcome == "booked" else 1)

    def value(self, candidates: pd.DataFrame) -> np.ndarray:
        """P(booked from the carousel if it stood first), shape (n,): the oracle's score."""
        return self._probability(candidates.drop(columns="position", errors="ignore"), "booked")

    oracle = value

    # ---------- serving ----------

    def _new_state(self) -> np.ndarray:
        """Stays booked for each listing and night, int32 (n_listings, nights)."""
        return np.zeros(self.calendar.shape, np.int32)

    def _record(self, served: pd.DataFrame, state: np.ndarray) -> None:
        first = served[(served.position == 1) & (served.booked_id >= 0)]
        _take(state, first.booked_id.to_numpy(), first.check_in.to_numpy(), first.nights.to_numpy())

    def _serve_day(self, policy: Policy, day: int, state: np.ndarray) -> pd.DataFrame:
        return self._serve_windows(policy, day, state)[0]

    def sessions(self, log: pd.DataFrame) -> pd.DataFrame:
        """The pages of each session of a log of this world, in the order in which they were opened, whatever opened them.

        log: whole days, from `log` or `deploy`; before it lies this world's past. One row a page: request_id, time, day, user_id,
        item_id, step (0, 1, ...), carousel (opened from it, or by search), booked. Raises WorldError if the log is not this world's.
        """
        n, days = np.int64(self.rules.n_listings), sorted(log.day.unique())
        key = log.request_id.to_numpy() * n + log.item_id.to_numpy()
        order = np.argsort(key)
        key, position = key[order], log.position.to_numpy()[order]

        def as_served(candidates: pd.DataFrame) -> np.ndarray:
            asked = candidates.request_id.to_numpy() * n + candidates.item_id.to_numpy()
            at = np.minimum(np.searchsorted(key, asked), len(key) - 1)
            return np.where(key[at] == asked, 1 / position[at], 0.0)

        state, pages, same = self._serve_past(int(days[0])), [], 0
        for day in days:
            served, opened = self._serve_windows(as_served, int(day), state)
            same += (served.click.to_numpy() == log.click[log.day == day].to_numpy()).all() if len(served) == (log.day == day).sum() else 0
            pages.append(opened)
        if same < len(days):
            raise WorldError(f"log: expected whole days served in this world, found {len(days) - same} of {len(days)} that are not")
        return pd.concat(pages, ignore_index=True)

    def _serve_windows(self, policy: Policy, day: int, state: np.ndarray) -> tuple[pd.DataFrame, pd.DataFrame]:
        """One day: its rows of the log, and the pages that were opened."""
        r, n, rng = self.rules, self.rules.sessions_per_day, generator(self.seed, _VISITS, day)
        user = rng.choice(r.n_users, n, p=self._activity)
        second = np.sort(np.clip(rng.normal(16, 4.5, n), 0, 23.99) * 3600).astype(np.int64)
        long = rng.random(n) < 0.15
        visit = dict(
            user=user,
            second=second,
            market=self.users.market.to_numpy()[user],
            check_in=day + 1 + np.minimum(rng.exponential(8, n), MOST_LEAD - 1).astype(np.int64),
            nights=np.where(long, rng.integers(LONG_STAY, MOST_NIGHTS + 1, n), rng.integers(1, 5, n)),
            guests=rng.choice([1, 2, 3, 4, 5], n, p=[0.2, 0.5, 0.1, 0.15, 0.05]),
            before=np.minimum(rng.geometric(0.35, n), MOST_PAGES),
            patience=np.minimum(rng.geometric(0.3, n), MOST_PAGES),
            explored=happens(rng.random(n), r.exploration),
            request_id=day * np.int64(n) + np.arange(n),
        )
        # Luck is tied to visit and listing, so that two policies meet the same people.
        luck = generator(self.seed, _LUCK, day).random((4, n, self._members.shape[1]), dtype=np.float32)
        served, pages = [], []
        for window in range(24 // WINDOW_HOURS):
            now = np.flatnonzero(second // (3600 * WINDOW_HOURS) == window)
            if len(now):
                log, opened = self._serve_window(policy, day, {k: v[now] for k, v in visit.items()}, luck[:, now], state)
                self._record(log, state)
                served.append(log)
                pages.append(opened)
        return pd.concat(served, ignore_index=True), pd.concat(pages, ignore_index=True)

    def _free(self, day: int, visit: dict[str, np.ndarray], state: np.ndarray) -> np.ndarray:
        """Which listings of the visit's market it could book, shape (n, width): there, large enough, no night of the stay gone."""
        item = self._members[visit["market"]]
        gone = np.cumsum(np.pad(self.calendar | (state >= self.rules.units), ((0, 0), (1, 0))), axis=1, dtype=np.int32)
        first, last = visit["check_in"][:, None], (visit["check_in"] + visit["nights"])[:, None]
        there = (item >= 0) & (self._joined[item] <= day) & (self._most[item] >= visit["guests"][:, None])
        return there & (gone[item, first] == gone[item, last])

    def _serve_window(
        self, policy: Policy, day: int, visit: dict[str, np.ndarray], luck: np.ndarray, state: np.ndarray
    ) -> tuple[pd.DataFrame, pd.DataFrame]:
        r = self.rules
        free = self._free(day, visit, state)
        some = free.sum(axis=1) >= 2  # who finds nothing to compare leaves
        visit, luck, free = {k: v[some] for k, v in visit.items()}, luck[:, some], free[some]
        item, n = self._members[visit["market"]], len(free)
        row, column = np.nonzero(free)

        def over(of: Callable, rows: np.ndarray, items: np.ndarray, *same: np.ndarray) -> np.ndarray:
            return of(visit["user"][rows], items, visit["nights"][rows], *same)

        # The search: one order a visit, best first; the first pages come before the carousel, the next after it.
        wish = np.full(free.shape, _NEVER)
        wish[free] = over(self._fit, row, item[free], np.full(len(row), r.filters)) + r.gloss * self._gloss[item[free]]
        search = ranking(np.where(free, wish + gumbel(luck[0]), _NEVER))
        visit["before"] = np.minimum(visit["before"], free.sum(axis=1) - 1)
        every = np.arange(n)
        at_page, at_previous = search[every, visit["before"] - 1], search[every, np.maximum(visit["before"] - 2, 0)]
        page = item[every, at_page]
        opened = np.zeros_like(free)
        steps = np.arange(MOST_PAGES)
        r_before, s_before = np.nonzero(steps < visit["before"][:, None])
        opened[r_before, search[r_before, s_before]] = True

        # The carousel: what is free and was not opened, in the policy's order.
        offered = free & ~opened
        n_offered, k = offered.sum(axis=1), min(r.slots, free.shape[1])
        requests = dict(
            request_id=visit["request_id"],
            time=times(day, visit["second"]),
            day=np.full(n, day, np.int32),
            user_id=visit["user"].astype(np.int32),
            page_id=page.astype(np.int32),
            previous_id=np.where(visit["before"] > 1, item[every, at_previous], -1).astype(np.int32),
            check_in=visit["check_in"].astype(np.int16),
            nights=visit["nights"].astype(np.int8),
            guests=visit["guests"].astype(np.int8),
        )
        row, column = np.nonzero(offered)
        score = np.full(free.shape, -np.inf)
        score[offered] = scores_of(policy, _rows(requests, row, item[row, column]))
        ranked, at_random = ranking(score, k), ranking(np.where(offered, luck[1], -1.0), k)
        order = np.where(visit["explored"][:, None], at_random, ranked)
        filled = np.arange(k) < n_offered[:, None]
        propensity = (1 - r.exploration) * (order == ranked) + r.exploration / n_offered[:, None]
        row, slot = np.nonzero(filled)
        column = order[filled]
        card = item[row, column]
        log = shown(_rows(requests, row, card), slot + 1, propensity[filled], visit["explored"][row])

        # What the visitor does: the page itself, then the cards from left to right, then the search again.
        building = np.where(filled, self._building[item[every[:, None], order]], -1)
        above = np.tril(building[:, :, None] == building[:, None, :], -1).sum(axis=2)
        same = (above + (building == self._building[page][:, None]))[filled]
        looks = examined(log, r.position_bias)
        opens = happens(luck[2][row, column], looks * over(self._opens, row, card, same))
        convinces = happens(luck[3][row, column], over(self._books, row, card, same))
        booked_page = happens(luck[3][every, at_page], over(self._books, every, page, np.zeros(n)))
        opens, convinces = (_spread(x, filled) for x in (opens, convinces))
        done = np.cumsum(np.column_stack([booked_page, opens & convinces]), axis=1)
        click = opens & (done[:, :-1] == 0)
        booked = click & convinces
        booked_card = booked.any(axis=1)

        left = np.maximum(visit["patience"] - np.rint(r.replaces * click.sum(axis=1)).astype(int), 0) * ~(booked_page | booked_card)
        opened[row[click[filled]], column[click[filled]]] = True
        again = free & ~opened
        later = ranking(np.where(again, wish + gumbel(luck[0]), _NEVER), MOST_PAGES)
        goes_on = steps[: later.shape[1]] < np.minimum(left, again.sum(axis=1))[:, None]
        row_on = np.nonzero(goes_on)[0]
        found = item[row_on, later[goes_on]]
        met = (self._building[found] == self._building[page[row_on]]).astype(float)
        wins = _spread(happens(luck[3][row_on, later[goes_on]], over(self._books, row_on, found, met)), goes_on)
        first = wins & (np.cumsum(wins, axis=1) == 1)
        goes_on &= np.cumsum(wins, axis=1) - wins == 0

        booked_id = np.where(booked_page, page, -1)
        booked_id[np.nonzero(booked)[0]] = item[every[:, None], order][booked]
        booked_id[np.nonzero(first)[0]] = item[every[:, None], later][first]
        by = np.select([booked_page, booked_card, first.any(axis=1)], [1, 2, 3], 0)
        gross = np.where(by > 0, self._price[booked_id] * visit["nights"], 0)
        top = slot == 0
        log = log.assign(
            click=click[filled].astype(np.int8),
            booked=booked[filled].astype(np.int8),
            session_booked=((by > 0)[row] & top).astype(np.int8),
            gross=np.where(top, gross[row], 0).astype(np.float32),
            searched=np.where(top, goes_on.sum(axis=1)[row], 0).astype(np.int8),
            booked_id=booked_id[row].astype(np.int32),
            booked_by=by[row].astype(np.int8),
        )
        # Pages: those before, the cards opened, those after.
        r_card, s_card = np.nonzero(click)
        r_after, s_after = np.nonzero(goes_on)
        rows = np.concatenate([r_before, r_card, r_after])
        columns = np.concatenate([search[r_before, s_before], order[r_card, s_card], later[r_after, s_after]])
        items, step = item[rows, columns], np.concatenate([s_before, 10 + s_card, 100 + s_after])
        carousel = np.repeat([False, True, False], [len(r_before), len(r_card), len(r_after)])
        by_step = np.lexsort([step, rows])
        rows, items = rows[by_step], items[by_step]
        opened_pages = pd.DataFrame({name: requests[name][rows] for name in ("request_id", "time", "day", "user_id")})
        opened_pages["item_id"] = items.astype(np.int32)
        opened_pages["step"] = opened_pages.groupby("request_id").cumcount().astype(np.int16)
        opened_pages["carousel"], opened_pages["booked"] = carousel[by_step], items == booked_id[rows]
        return log, opened_pages

    def _incumbent(self, candidates: pd.DataFrame) -> np.ndarray:
        """A rule: the same type first, then near in price and in place."""
        item, page = candidates.item_id.to_numpy(), candidates.page_id.to_numpy()
        km, kind = np.hypot(*(self._place[item] - self._place[page]).T), self.items.type.to_numpy()
        return 2.0 * (kind[item] == kind[page]) - 2.0 * np.abs(self._log_price[item] - self._log_price[page]) - 0.3 * km


def _take(state: np.ndarray, item: np.ndarray, check_in: np.ndarray, nights: np.ndarray) -> None:
    """Count stays in their nights, in place."""
    nights = nights.astype(np.int64)
    nth = np.arange(nights.sum()) - np.repeat(np.cumsum(nights) - nights, nights)
    np.add.at(state, (np.repeat(item, nights), np.repeat(check_in, nights) + nth), 1)


def _rows(requests: dict[str, np.ndarray], row: np.ndarray, item: np.ndarray) -> pd.DataFrame:
    """One row a candidate, in the columns that a policy sees: the requests `row`, each with its item."""
    columns = {name: values[row] for name, values in requests.items()}
    first = {name: columns.pop(name) for name in ("request_id", "time", "day", "user_id")}
    return pd.DataFrame(first | dict(item_id=item.astype(np.int32)) | columns)


def _spread(values: np.ndarray, where: np.ndarray) -> np.ndarray:
    """Values of the true cells of a mask, as a bool matrix of its shape."""
    full = np.zeros(where.shape, bool)
    full[where] = values
    return full
