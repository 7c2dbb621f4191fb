"""Timelines: nobody followed, very many followers, a post deleted while it fans out, two writers; on LMDB and on Redis."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest

from mlsd.serving.backends import StoreBusy, StoreCorrupt, open_backend
from mlsd.serving.fanout import Timelines


@pytest.fixture
def backend(address):
    opened = open_backend(address, timeout_s=10)
    for prefix in ("timeline/", "outbox/", "deleted/"):
        opened.delete(prefix)
    yield opened
    opened.close()


class Watched:
    """A backend that counts what is asked of it, and does something before a given write."""

    def __init__(self, backend, before_write=lambda k: None):
        self._backend, self._before, self.gets, self.writes = backend, before_write, 0, 0

    def get(self, keys):
        self.gets += 1
        return self._backend.get(keys)

    def write(self, put, only_if=None, ttl_s=None):
        self.writes += 1
        self._before(self.writes)
        return self._backend.write(put, only_if, ttl_s)


def test_pushed_and_pulled_posts_come_merged_newest_first(backend):
    feed = Timelines(backend)
    for author, post in ((1, 10), (1, 30), (9, 20), (9, 40)):
        assert feed.publish(author, post)
    for post in (10, 30):
        assert feed.push(post, [5, 6]) == 2
    assert feed.read(5, pulled=[9]).tolist() == [40, 30, 20, 10]
    assert feed.read(5).tolist() == [30, 10] and feed.read(5, pulled=[9], n=3).tolist() == [40, 30, 20]
    assert feed.read(5, pulled=[1]).tolist() == [30, 10]  # pushed and pulled: shown once


def test_who_follows_nobody_reads_nothing(backend):
    feed = Timelines(watched := Watched(backend))
    assert feed.read(7).tolist() == [] and feed.read(7).dtype == np.dtype("<u8") and watched.gets == 2
    assert feed.push(1, []) == 0 and watched.writes == 0


def test_very_many_followers_are_written_in_chunks(backend):
    feed = Timelines(watched := Watched(backend), chunk=500)
    assert feed.push(3, range(10_000)) == 10_000 and watched.writes == 20
    assert all(feed.read(reader).tolist() == [3] for reader in (0, 4_999, 9_999))


def test_a_post_deleted_while_it_fans_out_is_shown_to_nobody_and_stops(backend):
    other = Timelines(backend)
    feed = Timelines(watched := Watched(backend, lambda k: other.delete(3) if k == 3 else None), chunk=10)
    assert feed.push(3, range(100)) == 20  # the third chunk had been read when the tombstone came: it is not written
    assert watched.writes == 3
    assert all(feed.read(reader).tolist() == [] for reader in range(100))
    assert not feed.publish(1, 3) and feed.push(3, [5]) == 0  # nor can it come back


def test_a_group_of_posts_shares_transactions(backend):
    feed = Timelines(watched := Watched(backend), chunk=10)
    group = [(1, 11, [5, 6]), (2, 12, [6, 7]), (1, 13, [])]
    assert feed.fan_out(group) == 3 + 4 and watched.writes == 1 and watched.gets == 1
    assert [feed.read(reader).tolist() for reader in (5, 6, 7)] == [[11], [12, 11], [12]]
    assert feed.read(8, pulled=[1, 2]).tolist() == [13, 12, 11]
    assert feed.fan_out(group) == 7 and feed.read(6).tolist() == [12, 11]  # run again: nothing twice
    assert feed.fan_out([]) == 0 and watched.writes == 2


def test_a_group_leaves_out_the_post_that_is_deleted_meanwhile_and_goes_on(backend):
    other = Timelines(backend)
    feed = Timelines(watched := Watched(backend, lambda k: other.delete(3) if k == 2 else None), chunk=10)
    assert feed.fan_out([(1, 3, range(20)), (2, 4, range(20))]) == 2 + 8 + 20  # two outboxes; one chunk had both
    assert watched.writes == 4  # three chunks; the second was under way when the tombstone came, and is tried again
    assert all(feed.read(reader, pulled=[1, 2]).tolist() == [4] for reader in range(20))
    watched.gets = 0
    assert feed.fan_out([(1, 3, range(100))]) == 0 and watched.writes == 4 and watched.gets == 1  # nor does it look on


def test_a_reader_in_the_middle_loses_no_place_to_the_deleted(backend):
    feed = Timelines(backend)
    for post in range(1, 8):
        feed.push(post, [5])
    feed.delete(6)
    assert feed.read(5, n=3).tolist() == [7, 5, 4]


def test_a_fan_out_can_be_run_again_and_records_stay_short(backend):
    feed = Timelines(backend, length=3)
    for post in (1, 2, 3, 4, 4, 2):
        feed.push(post, [5])
    assert feed.read(5).tolist() == [4, 3, 2]


def test_two_writers_lose_nothing(backend):
    def write(posts):
        for post in posts:
            Timelines(backend).push(post, [1, 2])

    with ThreadPoolExecutor(2) as pool:
        list(pool.map(write, [range(0, 40, 2), range(1, 40, 2)]))  # raises what a writer raised
    assert sorted(Timelines(backend).read(1).tolist()) == list(range(40)) == sorted(Timelines(backend).read(2).tolist())


def test_who_never_gets_through_is_told(backend, monkeypatch):
    other = Timelines(backend)
    feed = Timelines(Watched(backend, lambda k: other.push(1_000 + k, [5])))
    pauses = []
    monkeypatch.setattr("mlsd.serving.fanout.time.sleep", pauses.append)
    with pytest.raises(StoreBusy, match="20 times"):
        feed.push(1, [5])
    assert len(pauses) == 19  # between the tries, and not after the last


def test_a_damaged_record_is_an_error(backend):
    backend.write({"timeline/5": b"123"})
    with pytest.raises(StoreCorrupt, match="whole ids"):
        Timelines(backend).read(5)
