"""Metrics agree with reference implementations."""

import numpy as np
import pytest
from sklearn import metrics as reference

from mlsd import metrics


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


def test_precision_counts_hits(requests):
    request_id, relevance, _ = requests
    score = np.random.default_rng(3).normal(size=len(request_id))
    precision = metrics.precision(request_id, relevance, score, k=5)
    for request, (rel, s) in by_request(request_id, relevance, score):
        if rel.any():
            assert precision[request] == pytest.approx((rel > 0)[np.argsort(-s)[:5]].sum() / 5, abs=1e-12)


def test_a_constant_score_does_not_inherit_the_order_of_the_log():
    """Rows in the order of their relevance: keeping row order on ties would give NDCG 1."""
    request_id, relevance = np.repeat([0, 1], 10), np.tile(np.arange(10)[::-1] > 6, 2)
    constant = metrics.ndcg(request_id, relevance, np.zeros(20), k=10)
    rng = np.random.default_rng(0)
    shuffled = np.mean([metrics.ndcg(request_id, relevance, rng.random(20), k=10).mean() for _ in range(500)])
    assert constant.mean() == pytest.approx(shuffled, abs=0.02) and constant.max() < 0.8


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


def test_a_missing_score_is_refused():
    with pytest.raises(ValueError, match="1 missing"):
        metrics.ndcg([0, 0], [1, 0], [1.0, np.nan])


def test_recall_at_counts_hits_and_keeps_to_what_is_allowed():
    rng = np.random.default_rng(2)
    scores, relevance = rng.random((20, 30)), (rng.random((20, 30)) < 0.1).astype(float)
    relevance[0] = 0
    found = metrics.recall_at(scores, relevance, 5)
    assert np.isnan(found[0])
    for row in np.flatnonzero(relevance.any(axis=1)):
        assert found[row] == pytest.approx(relevance[row, np.argsort(-scores[row])[:5]].sum() / relevance[row].sum(), abs=1e-12)
    allowed = relevance == 0
    assert np.nanmax(metrics.recall_at(scores, relevance, 5, allowed)) == 0
    with pytest.raises(ValueError, match="fewer than the columns"):
        metrics.recall_at(scores, relevance, 30)
