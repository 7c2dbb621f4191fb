"""The protocol's own checks: what a world refuses, and how a reader switches effects off."""

import dataclasses

import numpy as np
import pandas as pd
import pytest

from mlsd.worlds import WORLDS, open_world
from mlsd.worlds.base import PolicyError, Rules, World, WorldError, check_days, effect, generator, scores_of


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


@pytest.mark.parametrize("days", [0, -1, 1.5, True, "7", None])
def test_days_must_be_whole_and_positive(days):
    with pytest.raises(WorldError, match="days: expected a whole number of at least 1"):
        check_days(days)


def test_streams_are_reproducible_and_independent():
    assert generator(7, 1, 3).random() == generator(7, 1, 3).random()
    assert len({generator(7, stream, day).random() for stream in range(5) for day in range(5)}) == 25


def test_open_world_refuses_unknown_names_and_malformed_seeds(monkeypatch):
    with pytest.raises(WorldError, match="no world named 'moon'; there are"):
        open_world("moon")
    monkeypatch.setenv("MLSD_SEED", "seven")
    with pytest.raises(WorldError, match="MLSD_SEED: expected a whole number of at least 0, found 'seven'"):
        open_world("ads")


@pytest.mark.parametrize("name", WORLDS)
def test_every_world_follows_the_protocol(name, monkeypatch):
    world = open_world(name)
    for member in [m for m in World.__annotations__] + ["log", "truth", "deploy", "LOG_DAYS"]:
        assert hasattr(world, member), f"{name}: no {member}"
    for refused in (0, -3, 2.5):
        with pytest.raises(WorldError, match="days: expected"):
            world.log(refused)
        with pytest.raises(WorldError, match="days: expected"):
            world.deploy(world.incumbent, days=refused)
    for field in world.rules.effects().values():
        assert field.metadata["mechanism"].endswith("."), f"{name}: {field.name} needs a sentence"
    one = next(iter(world.rules.effects()))
    monkeypatch.setenv("MLSD_WITHOUT", f"{one},an_effect_of_another_world")
    assert open_world(name).rules == world.rules.without(one)


@pytest.mark.parametrize("name", WORLDS)
def test_a_served_policy_is_checked(name):
    world = open_world(name)
    with pytest.raises(PolicyError, match="expected one score a row"):
        world.deploy(lambda candidates: np.zeros(3), days=1, start=1)
