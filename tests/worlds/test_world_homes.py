"""The world of homes: calendars, sessions, each effect in the log and gone when off."""

import dataclasses
import time

import numpy as np
import pandas as pd
import pytest
from scipy.special import softmax

from mlsd.experiments import both_worlds
from mlsd.worlds.base import WorldError
from mlsd.worlds.homes import HomeRules, HomeWorld

SMALL = HomeRules(n_markets=4, n_listings=320, n_users=3000, sessions_per_day=1500, horizon_days=20, exploration=0.3)
DAYS = 6


@pytest.fixture(scope="module")
def world() -> HomeWorld:
    return HomeWorld(SMALL, seed=3)


@pytest.fixture(scope="module")
def log(world) -> pd.DataFrame:
    return world.log(DAYS)


def without(name: str, days: int = DAYS) -> tuple[HomeWorld, pd.DataFrame]:
    off = HomeWorld(SMALL.without(name), seed=3)
    return off, off.log(days)


# ---------- sessions and calendars ----------


def test_a_carousel_offers_what_this_visitor_could_book_and_has_not_opened(world, log):
    item, page = world.items.iloc[log.item_id], world.items.iloc[log.page_id]
    assert (item.market.to_numpy() == page.market.to_numpy()).all()
    assert (item.market.to_numpy() == world.users.market.to_numpy()[log.user_id]).all()
    assert (item.guests.to_numpy() >= log.guests.to_numpy()).all()
    assert (log.item_id != log.page_id).all() and (log.item_id != log.previous_id).all()
    for night in range(14):
        stays = (log.nights > night).to_numpy()
        assert not world.calendar[log.item_id[stays], log.check_in[stays] + night].any()


def stays(log: pd.DataFrame) -> pd.DataFrame:
    return log[(log.position == 1) & (log.booked_id >= 0)]


def test_a_booked_night_is_gone_from_the_next_window_on(world, log):
    """From the log alone: nothing is offered for a night that was booked in an earlier window."""
    state, window = world._new_state(), log.time.dt.floor("6h")
    for _, rows in log.groupby(window):
        for night in range(14):
            long = (rows.nights > night).to_numpy()
            assert (state[rows.item_id[long], rows.check_in[long] + night] == 0).all()
        world._record(rows, state)
    assert 0 < (state > 1).sum() < 0.08 * (state > 0).sum(), "two visitors of one window may take the same night, and few do"


def test_what_a_session_came_to_stands_in_its_first_row(world, log):
    sums = log.groupby("request_id")[["session_booked", "booked"]].sum()
    first = log[log.position == 1].set_index("request_id")
    np.testing.assert_array_equal(sums.session_booked, first.booked_by > 0)
    np.testing.assert_array_equal(sums.booked, first.booked_by == 2)
    price = world.items.price.to_numpy()[first.booked_id] * first.nights
    np.testing.assert_allclose(first.gross, np.where(first.booked_by > 0, price, 0))
    assert (log[log.position > 1][["session_booked", "gross", "searched"]] == 0).all().all()
    assert (log.click >= log.booked).all() and (log.item_id[log.booked == 1] == log.booked_id[log.booked == 1]).all()


def test_sessions_are_the_pages_that_were_opened(world, log):
    pages, first = world.sessions(log), log[log.position == 1].set_index("request_id")
    assert not pages.duplicated(["request_id", "item_id"]).any()
    by_request = pages.groupby("request_id")
    np.testing.assert_array_equal(by_request.carousel.sum(), log.groupby("request_id").click.sum())
    np.testing.assert_array_equal(by_request.booked.sum(), first.booked_by > 0)
    for column, back in (("page_id", 1), ("previous_id", 2)):
        before = by_request.size() - first.searched - by_request.carousel.sum() - back
        found = pages.set_index(["request_id", "step"]).item_id.reindex(pd.MultiIndex.from_arrays([first.index, before]), fill_value=-1)
        np.testing.assert_array_equal(found, first[column])
    booked = pages[pages.booked].set_index("request_id").step
    assert (booked == by_request.step.max()[booked.index]).all(), "a booking ends the session"


def test_sessions_of_a_deployed_log_and_of_no_log_of_this_world(world, log):
    served = world.deploy(world.oracle, 2, start=4)
    assert world.sessions(served).carousel.sum() == served.click.sum()
    pd.testing.assert_frame_equal(world.sessions(log[log.day >= 4]), world.sessions(log).query("day >= 4").reset_index(drop=True))
    with pytest.raises(WorldError, match="expected whole days served in this world"):
        world.sessions(log.iloc[5:])
    with pytest.raises(WorldError, match="n_markets <= n_listings"):
        HomeWorld(dataclasses.replace(SMALL, n_markets=500))


def test_a_market_of_three_listings_serves_what_it_has():
    tiny = HomeWorld(HomeRules(n_markets=2, n_listings=8, n_users=50, sessions_per_day=60, horizon_days=3, newcomers=0.0), seed=1)
    log = tiny.log(2)
    assert log.groupby("request_id").size().min() >= 1 and tiny.sessions(log).request_id.nunique() == log.request_id.nunique()


def test_the_oracle_books_most_from_the_carousel(world):
    assert both_worlds(world, world.incumbent, world.oracle, days=6, start=6).lift("carousel_bookings_per_session").low > 0.5


def test_a_month_takes_seconds(yardstick):
    """Four days of the shipped size, about 1.4 yardsticks, with three times the slack."""
    big, started = HomeWorld(), time.process_time()
    big.log(4)
    assert time.process_time() - started < 4.5 * yardstick


# ---------- planted effects ----------


def pull(off: HomeWorld, on: HomeWorld, log: pd.DataFrame) -> float:
    """How far a log pulls from the world without an effect towards the one with it, in standard deviations."""
    p, other = off.truth(log), on.truth(log)
    return ((other - p) * (log.click - p)).sum() / np.sqrt(((other - p) ** 2 * p * (1 - p)).sum())


@pytest.mark.parametrize("name", ["style", "place", "price", "trip", "gloss", "sameness", "position_bias"])
def test_effect_is_in_the_log_and_vanishes(name, world, log):
    off, quiet = without(name)
    assert pull(off, world, log) > 4
    assert abs(pull(off, world, quiet)) < 3.5


def explained(world: HomeWorld) -> float:
    """Share of the variance of styles that is linear in the photographs' vectors."""
    seen = ~np.isnan(world.photos).any(axis=1)
    x, y = np.column_stack([world.photos[seen], np.ones(seen.sum())]), world._style[seen]
    left = y - x @ np.linalg.lstsq(x, y, rcond=None)[0]
    return 1 - left.var() / y.var()


def displaced(log: pd.DataFrame) -> float:
    """Pages of later search that a click goes with, among sessions that ended without a booking."""
    sessions = log[log.booked_by == 0].groupby("request_id")[["click", "searched"]].sum()
    return -np.polyfit(np.minimum(sessions.click, 2), sessions.searched, 1)[0]


def double(world: HomeWorld, log: pd.DataFrame) -> float:
    state = world._new_state()
    world._record(log, state)
    return (state > 1).sum() / (state > 0).sum()


def convinced(world: HomeWorld, log: pd.DataFrame) -> float:
    """How many times as often an opened page is booked where the listing is good."""
    pages = world.sessions(log)
    quality = world._quality[pages.item_id]
    return pages.booked[quality > 0.5].mean() / pages.booked[quality < -0.5].mean()


def filtered(world: HomeWorld, log: pd.DataFrame) -> float:
    """How far the first pages of sessions pull from equal weights towards more of place, price and kitchen, in standard deviations."""
    some = log[log.day < 2]
    trips = some.loc[some.position == 1, ["request_id", "check_in", "nights", "guests"]].head(1000)
    pages = world.sessions(some).query("step == 0").merge(trips, on="request_id")
    pull = spread = 0.0
    for page in pages.itertuples():
        kept = world.calendar[:, page.check_in : page.check_in + page.nights].any(axis=1)
        there = (world._joined <= page.day) & (world._most >= page.guests) & ~kept
        home = np.flatnonzero(there & (world.items.market == world.items.market[page.item_id]))
        user, nights = np.full(len(home), page.user_id), np.full(len(home), page.nights)
        fit = world._fit(user, home, nights)
        more, p = world._fit(user, home, nights, 2.0) - fit, softmax(fit + world.rules.gloss * world._gloss[home])
        pull += more[home == page.item_id].sum() - p @ more
        spread += p @ more**2 - (p @ more) ** 2
    return pull / np.sqrt(spread)


STATISTICS = {
    "quality": (convinced, (1.5, 6), (0.7, 1.4)),
    "hidden_style": (lambda world, log: 1 - explained(world), (0.25, 0.6), (0.0, 0.15)),
    "twins": (lambda world, log: (world.items.building_id != world.items.item_id).mean(), (0.15, 0.35), (0, 0)),
    "newcomers": (lambda world, log: (world.items.created_at > world.start).mean(), (0.15, 0.35), (0, 0)),
    "filters": (filtered, (4, 30), (-3, 3)),
    "replaces": (lambda world, log: displaced(log), (0.5, 1.0), (-0.12, 0.12)),
    "units": (lambda world, log: double(world, log), (0, 0.08), (0.15, 1)),
    "exploration": (lambda world, log: log.randomised.mean(), (0.27, 0.33), (0, 0)),
}


@pytest.mark.parametrize("name", STATISTICS)
def test_other_effects_are_there_and_vanish(name, world, log):
    statistic, there, gone = STATISTICS[name]
    assert there[0] <= statistic(world, log) <= there[1]
    assert gone[0] <= statistic(*without(name)) <= gone[1]


def test_every_effect_is_tested():
    tested = {"style", "place", "price", "trip", "gloss", "sameness", "position_bias", *STATISTICS}
    assert tested == set(HomeRules.effects())
