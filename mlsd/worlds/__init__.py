"""Simulated products, one file each. `open_world` is how a chapter enters one."""

from __future__ import annotations

import functools
import importlib
import pkgutil

import pandas as pd

from mlsd.files import is_shipped, verified
from mlsd.worlds.base import DEFAULT_SEED, World, WorldError, effects_off_from_environment, seed_from_environment
from mlsd.worlds.engine import SimulatedWorld

SKELETON = ("base", "checks", "drawing", "engine")  # what the worlds are made of
WORLDS = tuple(sorted(module.name for module in pkgutil.iter_modules(__path__) if module.name not in SKELETON))  # every other module here


def world_class(name: str) -> type[SimulatedWorld]:
    """The class of a world, e.g. AdWorld for "ads". Raises WorldError for an unknown name."""
    if name not in WORLDS:
        raise WorldError(f"no world named {name!r}; there are {sorted(WORLDS)}")
    module = importlib.import_module(f"mlsd.worlds.{name}")
    return next(
        c for c in vars(module).values() if isinstance(c, type) and issubclass(c, SimulatedWorld) and c.__module__ == module.__name__
    )


def open_world(name: str) -> World:
    """The world of a chapter, with the book's rules and seed.

    MLSD_SEED (a whole number) changes the seed, MLSD_WITHOUT (effect names, comma-separated)
    switches planted effects off: this is how `make robust` and `make falsify` rerun a chapter.
    An effect of another world is none of this one's business; one that no world has is a WorldError.

    Whoever opens a world of the same name, seed and effects shares its past: it is simulated once.
    As published, it is not simulated at all but read from the shipped log, when it is first needed.
    To try other rules, make a sibling: world.with_rules(position_bias=0.3), world.without("fatigue").
    Raises WorldError for an unknown name.
    """
    world, seed = world_class(name), seed_from_environment()
    off = tuple(effect for effect in effects_off_from_environment() if _is_effect_of(world, effect))
    opened = world(world.RULES().without(*off), seed)
    as_published = seed == DEFAULT_SEED and not off
    shipped = as_published and is_shipped(f"{name}/log.parquet")
    opened.adopt(_past(name, seed, off), read=functools.partial(_shipped_log, name) if shipped else None)
    return opened


@functools.cache
def _past(name: str, seed: int, off: tuple[str, ...]) -> list[pd.DataFrame]:
    """The days that the incumbent has served in worlds of this name, seed and effects: one list for all of them."""
    return []


def _shipped_log(name: str) -> pd.DataFrame:
    return pd.read_parquet(verified(f"{name}/log.parquet"))


def _is_effect_of(world: type[SimulatedWorld], effect: str) -> bool:
    if effect in world.RULES.effects():
        return True
    effects = {name: sorted(world_class(name).RULES.effects()) for name in WORLDS}
    if not any(effect in known for known in effects.values()):
        raise WorldError(f"MLSD_WITHOUT: expected planted effects, found {effect!r}, which no world has; there are {effects}")
    return False
