"""Intervals cover, arms are fair, and off-policy estimators are unbiased: shown by simulation."""

import numpy as np
import pandas as pd
import pytest

from mlsd import experiments
from mlsd.metrics import Estimate
from mlsd.worlds.base import OnlineMetric, generator, scores_of


class CoinWorld:
    """Users see one item a visit and click with probability base (item 0) or base + gain (item 1), plus their own level."""

    metrics = {
        "click_rate": OnlineMetric("click"),
        "clicks_per_user": OnlineMetric("click", per="user"),
        "hides": OnlineMetric("hide", higher_is_better=False),
    }

    def __init__(self, seed=0, n_users=400, gain=0.05):
        self.seed, self.n_users, self.gain = seed, n_users, gain

    def deploy(self, policy, days, start=None):
        rng = generator(self.seed, 1)
        visits = rng.poisson(4, self.n_users) * days
        user_id = np.repeat(np.arange(self.n_users), visits)
        level = rng.beta(2, 8, self.n_users)[user_id]
        candidates = pd.DataFrame(
            dict(request_id=np.repeat(np.arange(len(user_id)), 2), user_id=np.repeat(user_id, 2), item_id=np.tile([0, 1], len(user_id)))
        )
        chosen = scores_of(policy, candidates).reshape(-1, 2).argmax(axis=1)
        click = rng.random(len(user_id)) < level + self.gain * chosen
        return pd.DataFrame(
            dict(
                request_id=np.arange(len(user_id)),
                user_id=user_id,
                item_id=chosen,
                click=click.astype(float),
                hide=rng.random(len(user_id)) < 0.1,
            )
        )


def item_0(candidates):
    return -candidates.item_id


def item_1(candidates):
    return candidates.item_id


@pytest.mark.parametrize("metric", ["click_rate", "clicks_per_user"])
@pytest.mark.parametrize("paired", [False, True])
def test_difference_covers_the_true_effect(metric, paired):
    run = experiments.both_worlds if paired else experiments.ab_test
    truth = 0.05 if metric == "click_rate" else 0.05 * 4
    found = [run(CoinWorld(seed), item_0, item_1, days=1).difference(metric) for seed in range(300)]
    assert 0.915 <= np.mean([e.low <= truth <= e.high for e in found]) <= 0.985


def test_lift_covers_and_an_aa_test_rarely_finds_anything():
    lifts = [experiments.ab_test(CoinWorld(seed), item_0, item_1, days=1).lift("click_rate") for seed in range(300)]
    assert 0.915 <= np.mean([e.low <= 0.25 <= e.high for e in lifts]) <= 0.985  # 0.05 on top of a mean level of 0.2
    same = [experiments.ab_test(CoinWorld(seed), item_0, item_0, days=1).lift("click_rate") for seed in range(300)]
    assert np.mean([e.low > 0 or e.high < 0 for e in same]) <= 0.085


def test_minimum_detectable_lift_is_found_with_the_promised_power():
    gain = 0.2 * np.median(
        [experiments.ab_test(CoinWorld(s, gain=0), item_0, item_1, 1).minimum_detectable_lift("click_rate") for s in range(40)]
    )
    found = [experiments.ab_test(CoinWorld(s, gain=gain), item_0, item_1, 1).difference("click_rate").low > 0 for s in range(300)]
    assert 0.72 <= np.mean(found) <= 0.88


def test_assignment_is_stable_even_and_independent_between_seeds():
    users = np.arange(200_000)
    first, second = experiments.in_treatment(users, 0.3, seed=1), experiments.in_treatment(users, 0.3, seed=2)
    assert (first == experiments.in_treatment(users, 0.3, seed=1)).all()
    assert abs(first.mean() - 0.3) < 0.005 and abs((first & second).mean() - 0.09) < 0.005


def test_sample_ratio_mismatch_is_seen():
    fair = experiments.ab_test(CoinWorld(), item_0, item_1, days=1)
    lost = fair.log_treatment[fair.log_treatment.user_id % 5 > 0]  # a bug drops a fifth of the treated users
    broken = experiments.Experiment(fair.log_control, lost, fair.metrics, fair.share, paired=False)
    assert fair.sample_ratio_p > 0.01 and broken.sample_ratio_p < 0.05 and broken.sample_ratio_p < fair.sample_ratio_p


def test_table_names_the_direction_of_guardrails():
    table = experiments.both_worlds(CoinWorld(n_users=3000), item_0, item_1, days=1).table()
    assert table.loc["click_rate", "verdict"] == "better" and table.loc["hides", "verdict"] == "no difference seen"


def test_both_arms_learn():
    class Learner:
        log = None

        def __call__(self, candidates):
            return candidates.item_id

        def learn(self, log):
            self.log = log

    one, other = Learner(), Learner()
    experiments.SplitPolicy(one, other, 0.5, 0).learn("the log")
    assert one.log == other.log == "the log"


@pytest.mark.parametrize("share", [0, 1, -0.5])
def test_an_impossible_share_is_refused(share):
    with pytest.raises(ValueError, match="between 0 and 1"):
        experiments.ab_test(CoinWorld(), item_0, item_1, days=1, share=share)


# ---------- off-policy ----------

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
    check(estimates(lambda a, r: experiments.ips(r, TARGET[a], LOGGING[a])))
    check(estimates(lambda a, r: experiments.snips(r, TARGET[a], LOGGING[a])))


def test_doubly_robust_survives_a_wrong_model_and_wrong_propensities_but_not_both():
    wrong_q, wrong_p = REWARD[::-1], np.full(4, 0.25)

    def dr(q, p):
        return lambda a, r: experiments.doubly_robust(r, TARGET[a], p[a], q[a], np.full(len(a), q @ TARGET))

    check(estimates(dr(wrong_q, LOGGING)))
    check(estimates(dr(REWARD, wrong_p)))
    with pytest.raises(AssertionError):
        check(estimates(dr(wrong_q, wrong_p)))


def test_a_good_reward_model_narrows_the_interval():
    action, reward = bandit_log(0)
    ips = experiments.ips(reward, TARGET[action], LOGGING[action])
    dr = experiments.doubly_robust(reward, TARGET[action], LOGGING[action], REWARD[action], np.full(len(action), VALUE))
    assert dr.high - dr.low < ips.high - ips.low


def test_effective_sample_size_and_zero_propensity():
    action, reward = bandit_log(0)
    assert experiments.effective_sample_size(LOGGING[action], LOGGING[action]) == pytest.approx(len(action))
    assert experiments.effective_sample_size(TARGET[action], LOGGING[action]) < 0.6 * len(action)
    with pytest.raises(ValueError, match="never shown"):
        experiments.ips(reward, TARGET[action], np.zeros(len(action)))
