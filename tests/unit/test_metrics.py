"""Metrics agree with reference implementations; intervals cover what they promise."""

import numpy as np
import pytest
from sklearn import metrics as reference

from mlsd import metrics
from mlsd.metrics import Estimate


@pytest.fixture
def requests():
    rng = np.random.default_rng(1)
    request_id = np.repeat(np.arange(300), 12)
    relevance = rng.integers(0, 4, len(request_id)) * (rng.random(len(request_id)) < 0.4)
    return request_id, relevance, np.round(rng.normal(size=len(request_id)) + relevance, 1)  # rounding makes ties


def by_request(request_id, *columns):
    for request in np.unique(request_id):
        rows = request_id == request
        yield request, [column[rows] for column in columns]


@pytest.mark.parametrize("k", [1, 5, 10, 12])
def test_ndcg_agrees_with_sklearn_also_on_ties(requests, k):
    ours = metrics.ndcg(*requests, k=k)
    for request, (relevance, score) in by_request(*requests):
        if relevance.any():
            assert ours[request] == pytest.approx(reference.ndcg_score([relevance], [score], k=k), abs=1e-9)
        else:
            assert np.isnan(ours[request])


def test_average_precision_and_reciprocal_rank_agree_with_reference_without_ties(requests):
    request_id, relevance, _ = requests
    score = np.random.default_rng(2).normal(size=len(request_id))
    ap, rr = metrics.average_precision(request_id, relevance, score, k=12), metrics.reciprocal_rank(request_id, relevance, score, k=12)
    for request, (rel, s) in by_request(request_id, relevance, score):
        if rel.any():
            assert ap[request] == pytest.approx(reference.average_precision_score(rel > 0, s), abs=1e-9)
            assert rr[request] == pytest.approx(1 / (1 + np.flatnonzero((rel > 0)[np.argsort(-s)])[0]), abs=1e-12)


def test_recall_and_precision_count_hits(requests):
    request_id, relevance, _ = requests
    score = np.random.default_rng(3).normal(size=len(request_id))
    recall, precision = metrics.recall(request_id, relevance, score, k=5), metrics.precision(request_id, relevance, score, k=5)
    for request, (rel, s) in by_request(request_id, relevance, score):
        if rel.any():
            hits = (rel > 0)[np.argsort(-s)[:5]].sum()
            assert recall[request] == pytest.approx(hits / (rel > 0).sum(), abs=1e-12)
            assert precision[request] == pytest.approx(hits / 5, abs=1e-12)


def test_a_constant_score_does_not_inherit_the_order_of_the_log():
    """Rows in the order of their relevance: keeping row order on ties would give NDCG 1."""
    request_id, relevance = np.repeat([0, 1], 10), np.tile(np.arange(10)[::-1] > 6, 2)
    constant = metrics.ndcg(request_id, relevance, np.zeros(20), k=10)
    rng = np.random.default_rng(0)
    shuffled = np.mean([metrics.ndcg(request_id, relevance, rng.random(20), k=10).mean() for _ in range(2000)])
    assert constant.mean() == pytest.approx(shuffled, abs=0.01) and constant.max() < 0.8


def test_probability_metrics_agree_with_sklearn():
    rng = np.random.default_rng(4)
    p = np.round(rng.random(4000), 2) * 0.98 + 0.01
    y = rng.random(4000) < p
    weight = rng.integers(0, 4, 4000)
    assert metrics.log_loss(y, p, weight) == pytest.approx(reference.log_loss(y, p, sample_weight=weight), abs=1e-9)
    assert metrics.auc(y, p) == pytest.approx(reference.roc_auc_score(y, p), abs=1e-9)
    assert metrics.auc(y, p, weight) == pytest.approx(reference.roc_auc_score(y, p, sample_weight=weight), abs=1e-9)
    assert metrics.normalized_entropy(y, np.full(4000, y.mean())) == pytest.approx(1, abs=1e-12)
    assert metrics.calibration_ratio(y, 1.3 * p) == pytest.approx(1.3 * p.sum() / y.sum(), abs=1e-12)


def clustered(rng, n_groups=120, size=20):
    """Rows of a group share a level: ignoring groups would give intervals far too narrow."""
    groups = np.repeat(np.arange(n_groups), size)
    level = rng.normal(0, 1, n_groups)[groups]
    p = 1 / (1 + np.exp(-(level + rng.normal(0, 1, len(groups)))))
    return groups, p, (rng.random(len(groups)) < p).astype(float), level


def coverage(make, truth, n=400):
    rng = np.random.default_rng(5)
    intervals = [make(rng) for _ in range(n)]
    return np.mean([i.low <= truth <= i.high for i in intervals])


def test_mean_covers_with_groups_and_fails_without():
    def draw(rng, use_groups):
        groups, _, _, level = clustered(rng)
        return metrics.mean(level, groups if use_groups else None)

    assert 0.92 <= coverage(lambda rng: draw(rng, True), 0.0) <= 0.98
    assert coverage(lambda rng: draw(rng, False), 0.0) < 0.6


@pytest.mark.parametrize("metric", [metrics.auc, metrics.normalized_entropy, metrics.calibration_ratio])
def test_bootstrap_interval_covers(metric):
    _, p, y, _ = clustered(np.random.default_rng(6), n_groups=20_000)
    truth = metric(y, p)

    def draw(rng):
        groups, p, y, _ = clustered(rng)
        return metrics.estimate(metric, y, p, groups, n_boot=60)

    assert 0.91 <= coverage(draw, truth, n=300) <= 0.985


def test_paired_difference_is_narrower_and_covers():
    def draw(rng):
        groups, p, y, level = clustered(rng)
        return metrics.compare(metrics.log_loss, y, p, 1 / (1 + np.exp(-level)), groups, n_boot=60)

    _, p, y, level = clustered(np.random.default_rng(7), n_groups=20_000)
    truth = metrics.log_loss(y, p) - metrics.log_loss(y, 1 / (1 + np.exp(-level)))
    assert 0.91 <= coverage(draw, truth, n=300) <= 0.985


def test_share_of_achievable_is_0_at_no_skill_1_at_oracle_and_covers_between():
    def losses(rng, n_groups=120):
        groups, p, y, level = clustered(rng, n_groups)
        half = 1 / (1 + np.exp(-level))
        return [metrics.log_loss_rows(y, q) for q in (half, np.full(len(y), 0.5), p)], groups

    (model, no_skill, oracle), groups = losses(np.random.default_rng(8), 20_000)
    assert metrics.share_of_achievable(no_skill, no_skill, oracle, groups).value == 0
    assert metrics.share_of_achievable(oracle, no_skill, oracle, groups).value == 1
    truth = metrics.share_of_achievable(model, no_skill, oracle).value

    def draw(rng):
        columns, groups = losses(rng)
        return metrics.share_of_achievable(*columns, groups)

    assert 0.92 <= coverage(draw, truth) <= 0.985


def test_calibration_table_brackets_the_observed_rate():
    rng = np.random.default_rng(9)
    p = rng.random(20_000) * 0.1
    y = rng.random(20_000) < p
    table = metrics.calibration_table(y, p, bins=10)
    assert len(table) == 10 and table.n.sum() == 20_000
    assert ((table.low <= table.observed) & (table.observed <= table.high)).all()
    assert ((table.low <= table.predicted) & (table.predicted <= table.high)).sum() >= 8


def test_estimate_arithmetic_and_text():
    e = Estimate(0.5, 0.4, 0.7)
    assert (-e).low == -0.7 and (e - 0.5).low == pytest.approx(-0.1) and (e * -2).high == pytest.approx(-0.8)
    assert abs(e - 0.5).low == 0 and abs(-e) == e
    assert f"{e:.1f}" == "0.5 [0.4, 0.7]" and f"{Estimate.exact(3):.0f}" == "3"


@pytest.mark.parametrize("bad", [(1, 2, 3), (float("nan"), 0, 1), (1, 0, float("inf"))])
def test_an_impossible_interval_is_refused(bad):
    with pytest.raises(ValueError, match="expected finite low <= value <= high"):
        Estimate(*bad)


def test_a_missing_score_and_a_single_group_are_refused():
    with pytest.raises(ValueError, match="1 missing"):
        metrics.ndcg([0, 0], [1, 0], [1.0, np.nan])
    with pytest.raises(ValueError, match="at least two groups"):
        metrics.mean([1.0, 2.0], groups=[3, 3])


def test_a_mean_of_unknown_outcomes_is_refused_unless_asked_for():
    values = np.array([1.0, 0.0, np.nan, 1.0])
    with pytest.raises(ValueError, match="1 of 4 are missing; pass rows whose outcome is known"):
        metrics.mean(values)
    assert metrics.mean(values, missing="drop") == metrics.mean([1.0, 0.0, 1.0])
    assert metrics.mean(values, [1, 2, 3, 3], missing="drop") == metrics.mean([1.0, 0.0, 1.0], [1, 2, 3])
    with pytest.raises(ValueError, match="expected 'error' or 'drop', found 'zero'"):
        metrics.mean(values, missing="zero")
