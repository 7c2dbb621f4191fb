"""The visual search world: protocol, planted effects, truth, photos."""

import imagehash
import numpy as np
import pandas as pd
import pytest
from PIL import Image
from scipy import stats

from mlsd.worlds.base import START, WorldError
from mlsd.worlds.drawing import crop, thumbnails
from mlsd.worlds.products import PHONE_SIZE, ProductRules, ProductWorld, similarity

SMALL = ProductRules(n_users=300, n_live=400, n_styles=40, requests_per_day=150)


def small(*off: str, seed: int = 3, **sizes) -> ProductWorld:
    return ProductWorld(ProductRules(**{**vars(SMALL), **sizes}).without(*off), seed=seed)


@pytest.fixture(scope="module")
def world() -> ProductWorld:
    return small()


@pytest.fixture(scope="module")
def oracle_log(world) -> pd.DataFrame:
    return world.deploy(world.oracle, days=20, start=0)


# ---------- protocol ----------


def test_same_seed_same_bytes_and_other_seed_other_photos():
    a, b, c = small(), small(), small(seed=4)
    pd.testing.assert_frame_equal(a.log(1), b.log(1))
    ids = np.arange(20)
    np.testing.assert_array_equal(a.query_photos(ids), b.query_photos(ids))
    assert (a.query_photos(ids) != c.query_photos(ids)).mean() > 0.5


def test_photos_do_not_depend_on_which_others_are_asked_for(world):
    ids = np.array([5, 170, 3])
    np.testing.assert_array_equal(world.query_photos(ids)[1], world.query_photos([170])[0])
    np.testing.assert_array_equal(world.studio_photos(ids, view=2)[2], world.studio_photos([3], view=2)[0])
    np.testing.assert_array_equal(world.review_photos(ids)[0], world.review_photos([5])[0])
    np.testing.assert_array_equal(world.query_boxes(ids)[1], world.query_boxes([170])[0])


def test_only_live_listings_are_shown_and_day_zero_needs_no_history(world):
    log = world.deploy(world.oracle, days=1, start=9)
    assert log.item_id.isin(world.live(9)).all()
    items = world.items
    alive = (items.created_at <= START + pd.Timedelta(9, "D")) & (items.expires_at > START + pd.Timedelta(9, "D"))
    np.testing.assert_array_equal(items.item_id[alive], world.live(9))
    with pytest.raises(WorldError, match="horizon_days"):
        world.live(60)


# ---------- truth ----------


def test_truth_is_calibrated(world, oracle_log):
    p = world.truth(oracle_log)
    for rows in (slice(None), oracle_log.position.eq(1).to_numpy(), oracle_log.position.gt(3).to_numpy()):
        clicks, expected, sd = oracle_log.click[rows].sum(), p[rows].sum(), np.sqrt((p[rows] * (1 - p[rows])).sum())
        assert abs(clicks - expected) < 3.5 * sd


def test_oracle_beats_incumbent_beats_random(world):
    clicks = [world.truth(world.deploy(policy, 2)).sum() for policy in (world.oracle, world.incumbent, _random)]
    assert clicks[0] > 2 * clicks[1] and clicks[1] > 1.5 * clicks[2]


def _random(candidates: pd.DataFrame) -> np.ndarray:
    return np.random.default_rng(0).random(len(candidates))


def test_similarity_is_one_for_itself_symmetric_and_small_across_categories(world):
    which = np.arange(200)
    s = similarity(world.designs, which, which)
    np.testing.assert_allclose(np.diag(s), 1, atol=1e-6)
    np.testing.assert_allclose(s, s.T, atol=1e-6)
    category = world.designs.category.to_numpy()[which]
    assert s[category[:, None] != category[None]].max() <= 0.2 + 1e-6
    inside = s[(category[:, None] == category[None]) & ~np.eye(200, dtype=bool)]
    assert len(np.unique(inside.round(2))) > 30  # relevance has degrees


def test_relevance_is_one_exactly_for_listings_of_the_photographed_product(world):
    requests, items = np.arange(100), world.live(0)
    same = world.product_of_request(requests)[:, None] == world.items.product_id.to_numpy()[items][None]
    np.testing.assert_array_equal(world.relevance(requests, items) > 0.9999, same)


# ---------- planted effects: there, and gone when off ----------


def _position_slope(world: ProductWorld) -> tuple[float, float]:
    """log(CTR) against log(position) in requests shown in random order, with its standard error."""
    log = world.deploy(world.oracle, days=20, start=0)
    log["rank_score"] = world.oracle(log)
    in_order = log.groupby("request_id").rank_score.diff().fillna(-1) <= 1e-9
    shuffled = log[~in_order.groupby(log.request_id).transform("all")]
    clicks = shuffled.groupby("position").click.sum()
    x, weight = np.log(clicks.index.to_numpy(float)), clicks.to_numpy(float)
    y = np.log(np.maximum(weight, 0.5))
    x0, y0 = np.average(x, weights=weight), np.average(y, weights=weight)
    variance = (weight * (x - x0) ** 2).sum()
    return (weight * (x - x0) * (y - y0)).sum() / variance, 1 / np.sqrt(variance)


def test_position_bias_is_recovered_from_shuffled_requests():
    slope, se = _position_slope(small(exploration=0.6))
    assert abs(slope + SMALL.position_bias) < 4 * se
    slope, se = _position_slope(small("position_bias", exploration=0.6))
    assert abs(slope) < 4 * se


def _click_rate_ratio(world: ProductWorld) -> tuple[float, float]:
    """z-score and ratio of click rates of similar (not identical) against dissimilar results at position 1."""
    half = np.random.default_rng(1)

    def coin(candidates):
        return np.where(half.random() < 0.5, 1, -1) * world.oracle(candidates)

    first = world.deploy(coin, days=24, start=0).query("position == 1")
    relevance = world.oracle(first)
    high, low = first.click[(relevance > 0.7) & (relevance < 0.9999)], first.click[relevance < 0.2]
    pooled = (high.sum() + low.sum()) / (len(high) + len(low))
    z = (high.mean() - low.mean()) / np.sqrt(pooled * (1 - pooled) * (1 / len(high) + 1 / len(low)))
    return z, high.mean() / max(low.mean(), 1e-9)


def test_similar_results_are_clicked_and_are_not_when_style_match_is_off():
    z, ratio = _click_rate_ratio(small())
    assert z > 4 and ratio > 3
    z, _ = _click_rate_ratio(small("style_match"))
    assert abs(z) < 3.5


def test_exact_match_lifts_clicks_beyond_similarity(world):
    request, item = np.array([0]), np.array([0])
    assert world._wanted(1.0) > 2 * world._wanted(0.999)
    off = small("exact_match")
    np.testing.assert_allclose(off._wanted(1.0), off._wanted(0.9999), rtol=1e-3)
    assert off.relevance(request, item).shape == (1, 1)


def _nearest_thumbnail_rank(world: ProductWorld) -> float:
    """Share of listed things whose own listing is the nearest thumbnail of a perfect crop."""
    requests, items = np.arange(300), world.live(0)
    photos = crop(world.query_photos(requests), world.query_boxes(requests, error=0.0), 32)
    nearest = items[(thumbnails(photos) @ thumbnails(world.studio_photos(items)).T).argmax(axis=1)]
    product = world.product_of_request(requests)
    return (world.items.product_id.to_numpy()[nearest] == product)[product >= 0].mean()


def test_domain_gap_makes_phone_photos_hard_and_without_it_they_are_like_the_studio():
    assert _nearest_thumbnail_rank(small("domain_gap", "clutter")) > 2 * _nearest_thumbnail_rank(small())


def test_clutter_puts_a_second_thing_in_the_frame():
    ids = np.arange(100)
    with_, without = small("domain_gap").query_photos(ids), small("domain_gap", "clutter").query_photos(ids)
    differs = (with_ != without).any(axis=(1, 2, 3)).mean()
    assert 0 < differs <= SMALL.clutter + 0.15
    assert (small("clutter")._day(0)["shots"]["neighbour"] == -1).all()


def test_old_phones_are_noisier_and_none_are_old_when_off(world):
    shots, old = world._day(0)["shots"], world.requests(1).phone.eq("old").to_numpy()
    assert shots["noise"][old].min() > 2 * shots["noise"][~old].max()
    assert (small("old_phones").users.phone == "new").all()


def test_relisting_shares_products_and_vanishes(world):
    share = world.items.product_id.duplicated().mean()
    n = len(world.items)
    assert stats.binomtest(round(share * n), n, SMALL.relisting).pvalue > 1e-3
    assert not small("relisting").items.product_id.duplicated().any()
    assert world.items.groupby("product_id").category.nunique().eq(1).all()


def test_lookalikes_have_close_neighbours_and_independent_products_do_not(world):
    def close(w):
        which = w.live(0)
        s = w.relevance(np.arange(100), which)
        return ((s > 0.75) & (s < 0.9999)).sum(axis=1).mean()

    assert close(world) > 5 * close(small("lookalikes"))


def test_churn_replaces_listings_and_stops_when_off(world):
    assert len(np.setdiff1d(world.live(10), world.live(0))) == 10 * round(SMALL.churn * SMALL.n_live)
    still = small("churn")
    np.testing.assert_array_equal(still.live(10), still.live(0))
    assert len(still.items) == SMALL.n_live


TESTS = {
    "position_bias": test_position_bias_is_recovered_from_shuffled_requests,
    "style_match": test_similar_results_are_clicked_and_are_not_when_style_match_is_off,
    "exact_match": test_exact_match_lifts_clicks_beyond_similarity,
    "domain_gap": test_domain_gap_makes_phone_photos_hard_and_without_it_they_are_like_the_studio,
    "clutter": test_clutter_puts_a_second_thing_in_the_frame,
    "old_phones": test_old_phones_are_noisier_and_none_are_old_when_off,
    "relisting": test_relisting_shares_products_and_vanishes,
    "lookalikes": test_lookalikes_have_close_neighbours_and_independent_products_do_not,
    "churn": test_churn_replaces_listings_and_stops_when_off,
}


def test_every_effect_has_a_test():
    assert set(TESTS) == set(ProductRules.effects())


# ---------- photos, boxes, speed ----------


def test_photos_are_bytes_of_the_promised_shape(world):
    for photos, side in (
        (world.studio_photos([1, 2]), 32),
        (world.studio_photos([1, 2], size=96), 96),
        (world.query_photos([1, 2]), PHONE_SIZE),
        (world.review_photos([1, 2]), PHONE_SIZE),
    ):
        assert photos.dtype == np.uint8 and photos.shape == (2, side, side, 3) and photos.std() > 5


def test_boxes_hold_the_thing_and_stay_in_the_frame(world):
    ids = np.arange(150)
    exact, rough = world.query_boxes(ids, error=0.0), world.query_boxes(ids, error=0.6)
    for boxes in (exact, rough):
        assert ((boxes >= 0) & (boxes <= 1)).all() and (boxes[:, 2:] - boxes[:, :2] > 0.05).all()
    shots = world._day(0)["shots"]
    np.testing.assert_allclose((exact[:, 0] + exact[:, 2]) / 2, (shots["cx"] + 1) / 2, atol=0.02)


def test_a_perceptual_hash_sees_what_a_relisting_repeats_and_not_what_another_product_has(world):
    items = world.items.sort_values("product_id")
    again = items.product_id.duplicated().to_numpy()
    pairs = np.column_stack([items.item_id[:-1], items.item_id[1:]])[again[1:]][:60]
    photos = dict(zip(pairs.ravel(), world.studio_photos(pairs.ravel()), strict=True))
    hashed = {item: imagehash.phash(Image.fromarray(photo)) for item, photo in photos.items()}
    own = [hashed[a] - hashed[b] for a, b in pairs]
    other = [hashed[a] - hashed[b] for a, b in zip(pairs[:-1, 0], pairs[1:, 1], strict=True)]
    assert np.median(own) < np.median(other)
