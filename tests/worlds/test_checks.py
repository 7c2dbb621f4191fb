"""Every world follows the protocol: each check over each world, at its declared small size."""

import functools

import pytest

from mlsd.worlds import WORLDS, world_class
from mlsd.worlds.checks import CHECKS, small

make = functools.cache(lambda name: small(world_class(name)))


@pytest.mark.parametrize("name", WORLDS)
@pytest.mark.parametrize("check", CHECKS, ids=lambda check: check.__name__)
def test_world(check, name):
    check(make(name))
