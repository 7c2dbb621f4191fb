"""Intervals cover what they promise; arithmetic keeps them."""

import numpy as np
import pytest

from mlsd import estimates, metrics
from mlsd.estimates import Estimate, independent_difference


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
        return estimates.mean(level, groups if use_groups else None)

    assert 0.92 <= coverage(lambda rng: draw(rng, True), 0.0) <= 0.98
    assert coverage(lambda rng: draw(rng, False), 0.0) < 0.6


@pytest.mark.parametrize("metric", [metrics.auc, metrics.normalized_entropy, metrics.calibration_ratio])
def test_bootstrap_interval_covers(metric):
    _, p, y, _ = clustered(np.random.default_rng(6), n_groups=20_000)
    truth = metric(y, p)

    def draw(rng):
        groups, p, y, _ = clustered(rng)
        return estimates.estimate(metric, y, p, groups, n_boot=60)

    assert 0.91 <= coverage(draw, truth, n=300) <= 0.985


def test_paired_difference_is_narrower_and_covers():
    def draw(rng):
        groups, p, y, level = clustered(rng)
        return estimates.compare(metrics.log_loss, y, p, 1 / (1 + np.exp(-level)), groups, n_boot=60)

    _, p, y, level = clustered(np.random.default_rng(7), n_groups=20_000)
    truth = metrics.log_loss(y, p) - metrics.log_loss(y, 1 / (1 + np.exp(-level)))
    assert 0.91 <= coverage(draw, truth, n=300) <= 0.985


def test_over_trainings_covers_where_the_mean_over_users_does_not():
    def draw(rng):  # what a training does to all users, a user's own level, and what is left
        return rng.normal(0, 1, (5, 1)) + rng.normal(0, 3, 60) + rng.normal(0, 1, (5, 60))

    assert 0.93 <= coverage(lambda rng: estimates.over_trainings(draw(rng)), 0.0, n=1500) <= 0.985
    assert coverage(lambda rng: estimates.mean(draw(rng)[0]), 0.0, n=1500) < 0.7
    assert estimates.over_trainings(np.ones((3, 4))) == Estimate.exact(1)
    for wrong in (np.ones(5), np.ones((1, 5)), np.full((2, 3), np.nan)):
        with pytest.raises(ValueError, match="two or more"):
            estimates.over_trainings(wrong)


def test_share_of_achievable_is_0_at_no_skill_1_at_oracle_and_covers_between():
    def losses(rng, n_groups=120):
        groups, p, y, level = clustered(rng, n_groups)
        half = 1 / (1 + np.exp(-level))
        return [metrics.log_loss_rows(y, q) for q in (half, np.full(len(y), 0.5), p)], groups

    (model, no_skill, oracle), groups = losses(np.random.default_rng(8), 20_000)
    assert estimates.share_of_achievable(no_skill, no_skill, oracle, groups).value == 0
    assert estimates.share_of_achievable(oracle, no_skill, oracle, groups).value == 1
    truth = estimates.share_of_achievable(model, no_skill, oracle).value

    def draw(rng):
        columns, groups = losses(rng)
        return estimates.share_of_achievable(*columns, groups)

    assert 0.92 <= coverage(draw, truth) <= 0.985


def test_estimate_arithmetic_and_text():
    e = Estimate(0.5, 0.4, 0.7)
    assert (-e).low == -0.7 and (e - 0.5).low == pytest.approx(-0.1) and (e * -2).high == pytest.approx(-0.8)
    assert abs(e - 0.5).low == 0 and abs(-e) == e
    assert (1 - e).low == pytest.approx(0.3) and (e / 2 + 1).value == pytest.approx(1.25)
    assert f"{e:.1f}" == "0.5 [0.4, 0.7]" and f"{Estimate.exact(3):.0f}" == "3"


@pytest.mark.parametrize("bad", [(1, 2, 3), (float("nan"), 0, 1), (1, 0, float("inf"))])
def test_an_impossible_interval_is_refused(bad):
    with pytest.raises(ValueError, match="expected finite low <= value <= high"):
        Estimate(*bad)


def test_two_estimates_are_not_subtracted_as_if_they_were_numbers():
    for operation in ("__add__", "__sub__", "__mul__", "__truediv__"):
        with pytest.raises(TypeError, match="independent_difference"):
            getattr(Estimate(1, 0, 2), operation)(Estimate(1, 0, 2))


def test_a_difference_of_independent_estimates_covers():
    rng = np.random.default_rng(3)
    a, b = rng.normal(1, 2, (400, 50)), rng.normal(0, 1, (400, 80))
    differences = [independent_difference(estimates.mean(x), estimates.mean(y)) for x, y in zip(a, b, strict=True)]
    assert 0.92 < np.mean([d.low <= 1 <= d.high for d in differences]) < 0.98


def test_a_single_group_is_refused():
    with pytest.raises(ValueError, match="at least two groups"):
        estimates.mean([1.0, 2.0], groups=[3, 3])


def test_a_mean_of_unknown_outcomes_is_refused_unless_asked_for():
    values = np.array([1.0, 0.0, np.nan, 1.0])
    with pytest.raises(ValueError, match="1 of 4 are missing; pass rows whose outcome is known"):
        estimates.mean(values)
    assert estimates.mean(values, missing="drop") == estimates.mean([1.0, 0.0, 1.0])
    assert estimates.mean(values, [1, 2, 3, 3], missing="drop") == estimates.mean([1.0, 0.0, 1.0], [1, 2, 3])
    with pytest.raises(ValueError, match="expected 'error' or 'drop', found 'zero'"):
        estimates.mean(values, missing="zero")
