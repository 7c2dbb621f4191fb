"""Blocks: both directions, after every cache, and with writers and readers at the same time, on LMDB and on a real Redis."""

from __future__ import annotations

import threading

import orjson
import pytest

from mlsd.serving.backends import open_backend
from mlsd.serving.blocks import Blocks, suggestions
from mlsd.serving.store import Store


@pytest.fixture(params=["lmdb", "redis"])
def backend(request, tmp_path):
    where = tmp_path if request.param == "lmdb" else request.getfixturevalue("redis_server").url
    backend = open_backend(where, namespace="blocks", timeout_s=10)
    backend.delete("")
    yield backend
    backend.close()


@pytest.fixture
def blocks(backend) -> Blocks:
    return Blocks(backend)


def test_a_block_holds_in_both_directions_and_only_for_the_two(blocks):
    blocks.block(7, 12)
    assert blocks.allowed(7, [11, 12, 13]) == [11, 13] and blocks.allowed(12, [6, 7, 8]) == [6, 8]
    assert blocks.allowed(71, [2, 12]) == [2, 12] and blocks.allowed(7, []) == []


def test_each_lifts_its_own_block_only(blocks):
    blocks.block(7, 12)
    blocks.block(12, 7)
    blocks.block(7, 12)  # once more changes nothing
    blocks.unblock(7, 12)
    assert blocks.allowed(7, [12]) == []
    blocks.unblock(12, 7)
    blocks.unblock(12, 7)
    assert blocks.allowed(7, [12]) == [12]


def test_oneself_is_neither_blocked_nor_suggested(blocks):
    with pytest.raises(ValueError, match="7 twice"):
        blocks.block(7, 7)
    assert blocks.allowed(7, [7, 8]) == [8]


def test_a_list_that_is_out_already_obeys_and_the_next_ones_move_up(backend, blocks):
    store = Store(backend)
    store.write("monday", {7: [(item, 1.0) for item in range(20)]}, ttl_s=3600)
    store.publish("monday")
    assert suggestions(store, blocks, 7, k=3) == [0, 1, 2]
    blocks.block(1, 7)
    assert suggestions(store, blocks, 7, k=3) == [0, 2, 3]
    assert suggestions(store, blocks, 8, k=3) == []


class Interrupted(Store):
    """Between reading the list and looking up the blocks, somebody blocks."""

    def read(self, user_id):
        top = super().read(user_id)
        Blocks(self._backend).block(1, user_id)
        return top


def test_a_block_between_the_two_look_ups_is_seen(backend, blocks):
    store = Interrupted(backend)
    store.write("monday", {7: [(1, 1.0), (2, 0.5)]}, ttl_s=3600)
    store.publish("monday")
    assert suggestions(store, blocks, 7, k=2) == [2]


def run(*works) -> None:
    errors = []

    def guarded(work):
        try:
            work()
        except BaseException as error:
            errors.append(error)

    threads = [threading.Thread(target=guarded, args=(work,)) for work in works]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
        assert not thread.is_alive()
    assert not errors, errors


def test_no_read_that_begins_after_a_block_returned_shows_it(backend, blocks):
    """Readers note what was blocked before they began; a writer goes on blocking, and lists are published anew meanwhile."""
    store, done, ended = Store(backend), [], threading.Event()
    everybody = [(item, 1.0) for item in range(1, 60)]
    store.write("0", {0: everybody}, ttl_s=3600)
    store.publish("0")

    def block():
        try:
            for item in range(1, 60):
                blocks.block(*((0, item) if item % 2 else (item, 0)))
                done.append(item)
        finally:
            ended.set()

    def publish():
        for version in range(1, 6):
            Store(backend).write(str(version), {0: everybody}, ttl_s=3600)
            Store(backend).publish(str(version))

    def read():
        mine = Store(backend)
        while not ended.is_set():
            before = set(done)
            shown = suggestions(mine, blocks, 0, k=59)
            assert not before & set(shown)

    run(block, publish, read, read)
    assert suggestions(store, blocks, 0, k=59) == []


def test_no_block_is_lost_to_another_at_the_same_moment(backend, blocks):
    writers = [lambda first=first: [blocks.block(0, item) for item in range(first, first + 12)] for first in range(1, 49, 12)]
    run(*writers)
    assert blocks.allowed(0, range(1, 49)) == []


def test_one_record_of_all_blocks_would_lose_some(backend):
    """Why each block has its own key: two read, both add one, both write, and the second undoes the first."""
    backend.write({"blocks/0": orjson.dumps([])})
    both_have_read = threading.Barrier(2)

    def add(item):
        record = orjson.loads(backend.get(["blocks/0"])[0])
        both_have_read.wait(30)
        backend.write({"blocks/0": orjson.dumps([*record, item])})

    run(lambda: add(1), lambda: add(2))
    assert len(orjson.loads(backend.get(["blocks/0"])[0])) == 1
