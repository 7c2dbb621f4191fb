"""Off-policy estimators are unbiased and cover, by simulation; a log that cannot answer is refused."""

import numpy as np
import pytest

from mlsd import off_policy
from mlsd.estimates import Estimate

REWARD = np.array([0.05, 0.1, 0.2, 0.4])
LOGGING, TARGET = np.array([0.4, 0.3, 0.2, 0.1]), np.array([0.1, 0.2, 0.3, 0.4])
VALUE = float(REWARD @ TARGET)


def bandit_log(seed, n=3000):
    rng = np.random.default_rng(seed)
    action = rng.choice(4, n, p=LOGGING)
    return action, (rng.random(n) < REWARD[action]).astype(float)


def estimates(estimator, n_runs=400):
    return [estimator(*bandit_log(seed)) for seed in range(n_runs)]


def check(found: list[Estimate]):
    values = np.array([e.value for e in found])
    assert abs(values.mean() - VALUE) < 3 * values.std() / np.sqrt(len(values))
    assert 0.92 <= np.mean([e.low <= VALUE <= e.high for e in found]) <= 0.98


def test_ips_and_snips_are_unbiased_and_cover():
    check(estimates(lambda a, r: off_policy.ips(r, TARGET[a], LOGGING[a])))
    check(estimates(lambda a, r: off_policy.snips(r, TARGET[a], LOGGING[a])))


def test_doubly_robust_survives_a_wrong_model_and_wrong_propensities_but_not_both():
    wrong_q, wrong_p = REWARD[::-1], np.full(4, 0.25)

    def dr(q, p):
        return lambda a, r: off_policy.doubly_robust(r, TARGET[a], p[a], q[a], np.full(len(a), q @ TARGET))

    check(estimates(dr(wrong_q, LOGGING)))
    check(estimates(dr(REWARD, wrong_p)))
    with pytest.raises(AssertionError):
        check(estimates(dr(wrong_q, wrong_p)))


def test_a_good_reward_model_narrows_the_interval():
    action, reward = bandit_log(0)
    ips = off_policy.ips(reward, TARGET[action], LOGGING[action])
    dr = off_policy.doubly_robust(reward, TARGET[action], LOGGING[action], REWARD[action], np.full(len(action), VALUE))
    assert dr.high - dr.low < ips.high - ips.low


def test_effective_sample_size():
    action, _ = bandit_log(0)
    assert off_policy.effective_sample_size(LOGGING[action], LOGGING[action]) == pytest.approx(len(action))
    assert off_policy.effective_sample_size(TARGET[action], LOGGING[action]) < 0.6 * len(action)


def all_estimators(reward, target, logged):
    n = len(reward)
    yield lambda: off_policy.ips(reward, target, logged)
    yield lambda: off_policy.snips(reward, target, logged)
    yield lambda: off_policy.doubly_robust(reward, target, logged, np.zeros(n), np.zeros(n))
    yield lambda: off_policy.effective_sample_size(target, logged)


@pytest.mark.parametrize(
    "target, logged, message",
    [
        ([0.5, 0.5, 0.5], [0.5, 0.0, 0.5], "propensities above 0, found 1 that are not; what was never shown"),
        ([0.5, 0.5, 0.5], [0.5, -0.1, 0.5], "propensities above 0, found 1"),
        ([0.5, 0.5, 0.5], [0.5, np.nan, np.nan], "logged: 2 of 3 values are missing"),
        ([0.5, np.nan, 0.5], [0.5, 0.5, 0.5], "target: 1 of 3 values are missing"),
        ([0.0, 0.0, 0.0], [0.5, 0.5, 0.5], "no overlap: the new policy takes none of the logged actions"),
        ([0.5, 0.5, 0.5], [0.5, 50.0, 0.5], "logged: expected probabilities, found values from 0.5 to 50"),
        ([0.5, -0.5, 0.5], [0.5, 0.5, 0.5], "target: expected probabilities, found values from -0.5"),
        ([0.5, 0.5], [0.5, 0.5, 0.5], "target: expected one value for each of the 3 logged actions"),
        ([], [], "expected at least one action"),
    ],
)
def test_a_log_that_cannot_answer_is_refused(target, logged, message):
    for estimator in all_estimators(np.ones(len(logged)), np.array(target), np.array(logged)):
        with pytest.raises(ValueError, match=message):
            estimator()


def test_outcomes_that_are_not_known_yet_are_refused():
    *estimators, _ = all_estimators(np.array([1.0, np.nan, 0.0]), np.full(3, 0.5), np.full(3, 0.5))
    for estimator in estimators:
        with pytest.raises(ValueError, match="reward: 1 of 3 values are missing"):
            estimator()
