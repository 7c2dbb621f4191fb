"""The stores that the tests of this folder run against: LMDB in a directory, and a real Redis server."""

from __future__ import annotations

import time

import pytest
from serving_parts import Parts

from mlsd.serving.redis_server import RedisMissing, RedisServer
from mlsd.serving.store import open_store


class Clock:
    """A clock that stands still until a test moves it."""

    def __init__(self) -> None:
        self.now = time.time()

    def __call__(self) -> float:
        return self.now


def start_redis(**options: object) -> RedisServer:
    """A Redis server, or a skip that says how to get one."""
    try:
        return RedisServer(**options)
    except RedisMissing as error:
        pytest.skip(str(error))


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture(scope="session")
def redis_server():
    with start_redis() as server:
        yield server


@pytest.fixture
def own_redis():
    """A Redis server that a test may kill, freeze or fill."""
    with start_redis() as server:
        yield server


@pytest.fixture(params=["lmdb", "redis"])
def address(request, tmp_path) -> str:
    return str(tmp_path / "store") if request.param == "lmdb" else request.getfixturevalue("redis_server").url


@pytest.fixture
def store(address, clock):
    with open_store(address, clock=clock, timeout_s=10) as opened:
        opened.clear()
        yield opened
        opened.clear()


@pytest.fixture(scope="module")
def parts(tmp_path_factory):
    """A filled store, a bundle, and the service on top; for tests that only read."""
    with Parts(tmp_path_factory.mktemp("parts")) as built:
        yield built


@pytest.fixture
def own(tmp_path):
    """The same, for a test that may break it."""
    with Parts(tmp_path) as built:
        yield built


@pytest.fixture
def redis_parts(own_redis, tmp_path):
    """The same on a Redis server of its own."""
    with Parts(tmp_path, own_redis.url) as built:
        built.server = own_redis
        yield built
