"""Intervals cover and arms are fair: shown by simulation."""

import numpy as np
import pandas as pd
import pytest

from mlsd import experiments
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
                day=rng.integers(0, days, len(user_id)),
                item_id=chosen,
                click=click.astype(float),
                hide=rng.random(len(user_id)) < 0.1,
            )
        )


def split(world, control, treatment, days=1, name="coins", **how):
    return experiments.ab_test(world, control, treatment, days, name=name, **how)


def item_0(candidates):
    return -candidates.item_id


def item_1(candidates):
    return candidates.item_id


@pytest.mark.parametrize("metric", ["click_rate", "clicks_per_user"])
@pytest.mark.parametrize("paired", [False, True])
def test_difference_covers_the_true_effect(metric, paired):
    run = experiments.both_worlds if paired else split
    truth = 0.05 if metric == "click_rate" else 0.05 * 4
    found = [run(CoinWorld(seed), item_0, item_1, days=1).difference(metric) for seed in range(200)]
    assert 0.915 <= np.mean([e.low <= truth <= e.high for e in found]) <= 0.985


def test_lift_covers_and_an_aa_test_rarely_finds_anything():
    lifts = [split(CoinWorld(seed), item_0, item_1, days=1).lift("click_rate") for seed in range(200)]
    assert 0.915 <= np.mean([e.low <= 0.25 <= e.high for e in lifts]) <= 0.985  # 0.05 on top of a mean level of 0.2
    same = [split(CoinWorld(seed), item_0, item_0, days=1).lift("click_rate") for seed in range(200)]
    assert np.mean([e.low > 0 or e.high < 0 for e in same]) <= 0.085


def test_minimum_detectable_lift_is_found_with_the_promised_power():
    gain = 0.2 * np.median([split(CoinWorld(s, gain=0), item_0, item_1, 1).minimum_detectable_lift("click_rate") for s in range(40)])
    found = [split(CoinWorld(s, gain=gain), item_0, item_1, 1).difference("click_rate").low > 0 for s in range(200)]
    assert 0.72 <= np.mean(found) <= 0.88


USERS = np.arange(200_000)


def test_assignment_is_stable_and_even():
    assert abs(experiments.in_treatment(USERS, 0.3, "a").mean() - 0.3) < 0.005
    assert (experiments.in_treatment(USERS, 0.3, "a") == experiments.in_treatment(USERS[::-1], 0.3, "a")[::-1]).all()
    known = [True, True, True, True, False, True, True, False]  # written down: another process, another year, the same arms
    assert experiments.in_treatment(np.arange(8), 0.5, "a").tolist() == known


def test_splits_of_two_experiments_are_independent_and_of_one_name_nested():
    names = [*(f"test {i}" for i in range(40)), "a", "b", "a ", ""]
    arms = np.array([experiments.in_treatment(USERS[:50_000], 0.5, name) for name in names], float)
    correlations = np.corrcoef(arms)[np.triu_indices(len(names), 1)] * np.sqrt(50_000)  # standard normal if independent
    assert np.abs(correlations).max() < 4.8 and abs(correlations.std() - 1) < 0.15
    canary, ab = experiments.in_treatment(USERS, 0.05, "canary"), experiments.in_treatment(USERS, 0.5, "launch")
    assert abs(ab[canary].mean() - 0.5) < 0.02  # half of the canary is in the other test's treatment, as of everybody
    grown = experiments.in_treatment(USERS, 0.5, "canary")
    assert grown[canary].all() and abs(grown.mean() - 0.5) < 0.005


def test_sample_ratio_mismatch_is_seen():
    fair = split(CoinWorld(n_users=2000), item_0, item_1)
    lost = fair.log_treatment[fair.log_treatment.user_id % 5 > 0]  # a bug drops a fifth of the treated users
    broken = experiments.Experiment(fair.log_control, lost, fair.metrics, fair.share, paired=False)
    assert fair.sample_ratio_p > 0.01 and broken.sample_ratio_p < 0.001


@pytest.mark.parametrize("paired", [False, True])
@pytest.mark.parametrize("n_users", [0, 1])
def test_an_arm_of_fewer_than_two_users_is_refused(n_users, paired):
    test = split(CoinWorld(), item_0, item_1)
    few = test.log_control[test.log_control.user_id.isin(test.log_control.user_id.unique()[:n_users])]
    tiny = experiments.Experiment(few, few if paired else test.log_treatment, test.metrics, test.share, paired)
    for ask in (tiny.lift, tiny.difference, tiny.minimum_detectable_lift):
        with pytest.raises(ValueError, match=f"two or more users in each arm, found {n_users} in control"):
            ask("click_rate")


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
    experiments.SplitPolicy(one, other, 0.5, "x").learn("the log")
    assert one.log == other.log == "the log"


@pytest.mark.parametrize("share", [0, 1, -0.5])
def test_an_impossible_share_is_refused(share):
    with pytest.raises(ValueError, match="between 0 and 1"):
        split(CoinWorld(), item_0, item_1, share=share)


def test_an_experiment_without_a_name_is_refused():
    with pytest.raises(ValueError, match="name: expected a name of its own"):
        split(CoinWorld(), item_0, item_1, name="")


# ---------- two deployed logs ----------


def test_paired_is_both_worlds_from_the_logs():
    world = CoinWorld()
    logs = [world.deploy(policy, 1) for policy in (item_0, item_1)]
    pair = experiments.paired(world, *logs)
    assert pair.lift("click_rate") == experiments.both_worlds(world, item_0, item_1, 1).lift("click_rate")
    split_width, paired_width = (e.high - e.low for e in (split(world, item_0, item_1).lift("click_rate"), pair.lift("click_rate")))
    assert paired_width < split_width and pair.sample_ratio_p == 1
    slim = [log.drop(columns="day") for log in logs]
    assert experiments.paired(world, *slim).lift("click_rate") == pair.lift("click_rate")


def test_paired_refuses_logs_that_do_not_pair():
    world = CoinWorld()
    log = world.deploy(item_0, 3)
    with pytest.raises(ValueError, match="found 3 days from 0 to 2 and 2 days from 0 to 1; deploy both from the same `start`"):
        experiments.paired(world, log, log[log.day < 2])
    with pytest.raises(ValueError, match="same users, found none in common"):
        experiments.paired(world, log[log.user_id < 200], log[log.user_id >= 200])


@pytest.mark.parametrize("how", [split, experiments.both_worlds])
def test_lift_by_day_is_the_lift_of_what_is_known_by_then(how):
    test = how(CoinWorld(), item_0, item_1, days=4)
    looks = test.lift_by_day("click_rate")
    assert looks.index.tolist() == [0, 1, 2, 3] and looks[3] == test.lift("click_rate")
    early = [log[log.day <= 1] for log in (test.log_control, test.log_treatment)]
    assert looks[1] == experiments.Experiment(*early, test.metrics, 0.5, test.paired).lift("click_rate")
