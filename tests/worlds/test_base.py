"""What worlds are declared with and how chance decides, and how a chapter opens one."""

import dataclasses

import numpy as np
import pandas as pd
import pytest

from mlsd import files, worlds
from mlsd.worlds import WORLDS, open_world, world_class
from mlsd.worlds.base import PolicyError, Rules, WorldError, decisive, effect, generator, happens, ranking, scores_of


@dataclasses.dataclass(frozen=True)
class TeaRules(Rules):
    n_cups: int = 10
    steep: float = effect(3.0, off=0.0, unit="minutes", mechanism="Longer is stronger.")


def test_rules_know_their_effects_and_switch_them_off():
    rules = TeaRules()
    assert list(rules.effects()) == ["steep"] and rules.without("steep").steep == 0 and rules.without() == rules
    assert rules.table().loc["steep", ["value", "off", "unit"]].tolist() == [3.0, 0.0, "minutes"]
    with pytest.raises(WorldError, match=r"no planted effect 'sugar' in TeaRules; it has \['steep'\]"):
        rules.without("sugar")


CANDIDATES = pd.DataFrame(dict(item_id=[1, 2, 3]))


@pytest.mark.parametrize(
    ("answer", "complaint"),
    [
        ([1.0, 2.0], r"expected one score a row, shape \(3,\), found \(2,\)"),
        (1.0, r"found \(\)"),
        ([1.0, np.nan, 2.0], "1 of 3 scores are NaN or infinite; fill missing features"),
        ([np.inf, np.nan, 2.0], "2 of 3 scores"),
    ],
)
def test_a_policy_that_cannot_rank_is_refused_by_name(answer, complaint):
    def hopeful(candidates):
        return answer

    with pytest.raises(PolicyError, match=f"policy hopeful: .*{complaint}"):
        scores_of(hopeful, CANDIDATES)


# ---------- chance and order ----------


def test_streams_are_reproducible_and_independent():
    assert generator(7, 1, 3).random() == generator(7, 1, 3).random()
    assert len({generator(7, stream, day).random() for stream in range(5) for day in range(5)}) == 25


def test_what_decides_is_rounded_to_nine_digits_and_more():
    x = np.random.default_rng(0).normal(size=10_000) * 10.0 ** np.random.default_rng(1).integers(-12, 12, 10_000)
    rounded = decisive(x)
    np.testing.assert_allclose(rounded, x, rtol=2.0**-32)
    np.testing.assert_array_equal(decisive(rounded), rounded)
    assert (np.diff(decisive(np.sort(x))) >= 0).all()
    last_bit = np.nextafter(1 / 3, np.array([0, 1]))
    assert len({*decisive(last_bit).tolist(), float(decisive(1 / 3))}) == 1
    exact = np.array([0.0, 1.0, -1.0, 0.5, 12345.0, np.inf, -np.inf])
    np.testing.assert_array_equal(decisive(exact), exact)


def test_a_ranking_is_that_of_a_stable_sort_of_rounded_scores():
    rng = np.random.default_rng(0)
    scores = rng.integers(0, 4, (50, 30)) / 3  # most of them tied
    scores[rng.random(scores.shape) < 0.1] = -np.inf
    noise = 1 + rng.choice([-1e-15, 0, 1e-15], scores.shape)
    for k in (1, 7, 30, 99, None):
        expected = np.argsort(-scores, axis=1, kind="stable")[:, :k]
        np.testing.assert_array_equal(ranking(scores, k), expected)
        np.testing.assert_array_equal(ranking(scores * noise, k), expected)


def test_things_happen_as_often_as_they_should():
    uniform = np.random.default_rng(0).random(100_000)
    assert abs(happens(uniform, 0.3).mean() - 0.3) < 0.006
    assert not happens(uniform, 0.0).any() and happens(uniform, 1.0).all()


# ---------- open_world ----------


def test_open_world_refuses_unknown_names_seeds_and_effects(monkeypatch):
    with pytest.raises(WorldError, match="no world named 'moon'; there are"):
        open_world("moon")
    monkeypatch.setenv("MLSD_SEED", "seven")
    with pytest.raises(WorldError, match="MLSD_SEED: expected a whole number of at least 0, found 'seven'"):
        open_world("ads")
    monkeypatch.setenv("MLSD_SEED", "7")
    monkeypatch.setenv("MLSD_WITHOUT", "position_bias,positon_bias")
    with pytest.raises(WorldError, match="MLSD_WITHOUT: expected planted effects, found 'positon_bias', which no world has"):
        open_world("ads")


@pytest.mark.parametrize("name", WORLDS)
def test_effects_off_are_those_of_this_world(name, monkeypatch):
    own = next(iter(world_class(name).RULES.effects()))
    foreign = "fatigue" if name != "ads" else "label_delay"
    monkeypatch.setenv("MLSD_WITHOUT", f"{own},{foreign}")
    assert open_world(name).rules == world_class(name).RULES().without(own)


def test_worlds_of_one_name_share_what_was_served(monkeypatch):
    monkeypatch.setenv("MLSD_SEED", "8")
    one, other = open_world("feed"), open_world("feed")
    log = one.log(2)
    monkeypatch.setattr(type(other), "_serve_day", None)  # not called again
    pd.testing.assert_frame_equal(other.log(2), log)
    monkeypatch.undo()
    assert not open_world("feed").log(1).equals(log[log.day == 0])


def test_a_world_without_its_file_serves_its_past(tmp_path, monkeypatch):
    shipped = open_world("feed").log(1)
    monkeypatch.setattr(files, "DATA", tmp_path / "nothing here")
    worlds._past.cache_clear()
    pd.testing.assert_frame_equal(open_world("feed").log(1), shipped)
    worlds._past.cache_clear()
