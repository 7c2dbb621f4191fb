"""Simulated products, one file each. `open_world` is how a chapter enters one."""

from __future__ import annotations

import importlib

from mlsd.worlds.base import World, WorldError, effects_off_from_environment, seed_from_environment

# name -> (module, world class, rules class)
WORLDS = {
    "ads": ("mlsd.worlds.ads", "AdWorld", "AdRules"),
    "events": ("mlsd.worlds.events", "EventWorld", "EventRules"),
    "feed": ("mlsd.worlds.feed", "FeedWorld", "FeedRules"),
    "products": ("mlsd.worlds.products", "ProductWorld", "ProductRules"),
    "videos": ("mlsd.worlds.videos", "VideoWorld", "VideoRules"),
}


def open_world(name: str) -> World:
    """The world of a chapter, with the book's rules and seed.

    MLSD_SEED (a whole number) changes the seed, MLSD_WITHOUT (effect names, comma-separated)
    switches planted effects off: this is how `make robust` and `make falsify` rerun a chapter.
    To try other rules yourself, call the class: AdWorld(AdRules(position_bias=0), seed=3).
    Raises WorldError for an unknown name.
    """
    if name not in WORLDS:
        raise WorldError(f"no world named {name!r}; there are {sorted(WORLDS)}")
    module_name, world_class, rules_class = WORLDS[name]
    module = importlib.import_module(module_name)
    rules = getattr(module, rules_class)()
    off = [effect for effect in effects_off_from_environment() if effect in rules.effects()]
    return getattr(module, world_class)(rules.without(*off), seed=seed_from_environment())
