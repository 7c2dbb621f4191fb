"""The network of posts: late decisions prevent little, caught campaigns respell, and each effect is in a log and gone when off."""

import dataclasses

import numpy as np
import pandas as pd
import pytest

from mlsd.worlds.base import WorldError
from mlsd.worlds.posts import DIALECT, SCAM, TARGET, THREAT, PostRules, PostWorld

# Half of all posts are reviewed, at random, and violations are common: a few days tell the rules.
COMMON = dict(posts_per_day=2400, reviews_an_hour=50, n_authors=2000, prevalence=(0.05, 0.03, 0.02), horizon_days=14)
AT_RANDOM = PostRules(exploration=1.0, **COMMON)


@pytest.fixture(scope="module")
def world() -> PostWorld:
    return PostWorld(PostRules(**COMMON), seed=3)


@pytest.fixture(scope="module")
def log(world) -> pd.DataFrame:
    return world.log(8)


def test_a_post_is_decided_once_while_it_waits(world, log):
    assert not log.duplicated("item_id").any() and log.age_hours.between(0, 24).all()
    assert (log.groupby("request_id").size() == 50).all()


def test_the_oracle_prevents_most(world):
    def prevented(policy):
        return world.prevented(world.deploy(policy, days=4, start=4)).sum()

    assert prevented(world.oracle) > 1.3 * prevented(world.incumbent) > 1.3 * 1.3 * prevented(lambda rows: -rows.age_hours)


def test_views_left_go_down_to_nothing_and_prevented_counts_the_removed_alone(world, log):
    early, late = (world.views_left(log.item_id, log.time + pd.Timedelta(h, "h")) for h in (0, 6))
    assert (early >= late).all() and (late >= 0).all()
    np.testing.assert_allclose(world.views_left(log.item_id, log.time) + log.views, world._views[log.item_id], atol=1.0)
    harm = world.prevented(log)
    assert (harm[(log.violates == 0) | ~world.harmful(log.item_id).any(axis=1)] == 0).all() and harm.max() > 0


def test_a_text_keeps_its_key_and_a_key_tells_nothing_by_itself(world, log):
    stream = world.posts(range(8), log)
    assert len(stream) == 8 * 2400 and stream.time.is_monotonic_increasing
    both = log[log.day < 8].merge(stream[["item_id", "text_key"]], on="item_id", suffixes=("", "_of_stream"))
    assert (both.text_key == both.text_key_of_stream).all() and len(both) > 8000
    texts = world.text(stream.text_key[:50])
    assert texts == world.text(stream.text_key[:50]) and all(len(text.split()) == 9 for text in texts)
    harmful = world.harmful(stream.item_id).any(axis=1)
    rest = np.bincount(stream.text_key[harmful] % 16, minlength=16)
    assert rest.min() > 0.4 * rest.mean()


def test_spelling_follows_what_was_removed():
    """Who removes nothing of a campaign meets its old spelling; who removes it meets others."""
    world = PostWorld(PostRules(exploration=0.0, **COMMON), seed=3)

    def late_spellings(policy):
        log = world.deploy(policy, days=8, start=0)
        stream = world.posts([7], log)
        return set(world._way(stream.text_key[world.harmful(stream.item_id)[:, 0]])[1])

    assert late_spellings(lambda rows: -1.0 * world.harmful(rows.item_id).any(axis=1)) == {0}
    assert len(late_spellings(world.oracle)) > 2


def test_images_and_text_do_not_depend_on_the_order_of_asking(world):
    ids = np.array([9000, 3, 9000, 5000])
    images = world.images(ids)
    assert images.shape == (4, 16) and images.dtype == np.float32 and (images[0] == images[2]).all()
    np.testing.assert_array_equal(PostWorld(world.rules, 3).images(ids[::-1])[::-1], images)


def test_clear_errors(world, log):
    with pytest.raises(WorldError, match="expected -1 to 8, the morning after"):
        world.posts([9], log)
    with pytest.raises(WorldError, match="reviews_an_hour from 1 to posts_per_day / 48"):
        PostWorld(PostRules(reviews_an_hour=1000))


# ---------- each effect: a statistic of the log that is large with it and about zero without ----------


def innocent(world: PostWorld, log: pd.DataFrame) -> np.ndarray:
    return ~world.harmful(log.item_id).any(axis=1)


def of(world: PostWorld, log: pd.DataFrame, kind: int) -> pd.DataFrame:
    return log[world.harmful(log.item_id)[:, kind]]


def in_dialect(world: PostWorld, log: pd.DataFrame) -> np.ndarray:
    return world.authors.dialect.to_numpy()[log.author_id]


def with_words(world: PostWorld, log: pd.DataFrame, low: int, high: int) -> np.ndarray:
    tokens = world._tokens(log.item_id.to_numpy())
    return ((tokens >= low) & (tokens < high)).any(axis=1)


def z_difference(a: np.ndarray, b: np.ndarray) -> float:
    return float((a.mean() - b.mean()) / np.sqrt(a.var() / len(a) + b.var() / len(b)))


def near_template(world: PostWorld, log: pd.DataFrame) -> float:
    scams = of(world, log, 0).item_id.to_numpy()
    same = (world._tokens(scams) == world._templates[world._campaign[scams]]).sum(axis=1)
    return 100 * float((same >= 7).mean())


def reports_come_late(world: PostWorld, log: pd.DataFrame) -> float:
    rows = log[innocent(world, log)]
    young, old = rows[rows.age_hours < 2], rows[rows.age_hours > 12]
    rates = np.array([part.reports.sum() / part.views.sum() for part in (young, old)])
    return (rates[1] - rates[0]) / np.sqrt((rates / [young.views.sum(), old.views.sum()]).sum())


def appeals(world: PostWorld, log: pd.DataFrame) -> float:
    removed = log[innocent(world, log) & (log.violates == 1)]
    speaks = in_dialect(world, removed)
    return z_difference(removed.appealed[~speaks].to_numpy(), removed.appealed[speaks].to_numpy())


STATISTICS = {
    "innocent_halves": lambda w, lg: 100 * (w._topic[lg.item_id[innocent(w, lg)]] < 2).mean(),
    "copies": near_template,
    "evasion": lambda w, lg: 10 * (w._way(of(w, lg[lg.day > 5], 0).text_key)[1] > 0).mean(),
    "repeat_offenders": lambda w, lg: 100 * np.isin(of(w, lg, 1).author_id, w._collagists).mean(),
    "outrage": lambda w, lg: z_difference(*(np.log1p(rows.views.to_numpy()) for rows in (of(w, lg, 1), lg[innocent(w, lg)]))),
    "brigading": lambda w, lg: int((lg.reports[innocent(w, lg)] >= 10).sum()),
    "report_noise": lambda w, lg: int(lg.reports[innocent(w, lg)].between(1, 4).sum()),
    "report_lag": reports_come_late,
    "reviewer_misses": lambda w, lg: 100 * (1 - lg.violates[~innocent(w, lg)]).mean(),
    "reviewer_false_alarms": lambda w, lg: 1000 * lg.violates[innocent(w, lg) & ~in_dialect(w, lg)].mean(),
    "reclaimed_words": lambda w, lg: (
        100 * np.diff([with_words(w, lg[innocent(w, lg) & (in_dialect(w, lg) == d)], THREAT, TARGET).mean() for d in (False, True)])[0]
    ),
    "dialect_misread": lambda w, lg: 100 * lg.violates[innocent(w, lg) & in_dialect(w, lg) & with_words(w, lg, THREAT, TARGET)].mean(),
    "appeal_reluctance": appeals,
    "appeal_delay": lambda w, lg: 10 * float((lg.appeal_known_at - lg.time).dt.total_seconds().max() > 0),
    "exploration": lambda w, lg: 100 * float(lg.randomised.mean()),
}
# What must be off, or stronger, so that the statistic of one effect shows it and nothing else.
QUIET = {"report_noise": ("brigading",), "report_lag": ("brigading",), "dialect_misread": ("reviewer_false_alarms",)}
LOUD = {"appeal_reluctance": dict(reviewer_false_alarms=0.1), "exploration": dict(exploration=0.1), "report_lag": dict(report_noise=0.02)}


def test_every_effect_has_a_statistic():
    assert set(STATISTICS) == set(PostRules.effects())


@pytest.mark.parametrize("name", STATISTICS)
def test_effect_is_in_the_log_and_gone_when_off(name):
    rules = dataclasses.replace(AT_RANDOM.without(*QUIET.get(name, ())), **LOUD.get(name, {}))
    on, off = PostWorld(rules, seed=2), PostWorld(rules.without(name), seed=2)
    assert STATISTICS[name](on, on.log(8)) > 4
    assert abs(STATISTICS[name](off, off.log(8))) < 3.5


def test_words_of_scams_are_rare_elsewhere_and_the_dialect_is_spoken(world, log):
    assert (
        with_words(world, log[innocent(world, log)], SCAM, THREAT).mean()
        < 0.05
        < 0.9
        < with_words(world, of(world, log, 0), SCAM, THREAT).mean()
    )
    speaks = in_dialect(world, log)
    assert with_words(world, log[speaks], DIALECT, 756).mean() > 0.8 > 0.1 > with_words(world, log[~speaks], DIALECT, 756).mean()
