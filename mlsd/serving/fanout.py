"""Timelines and outboxes of post ids on a key-value backend: what a feed is read from.

    feed = Timelines(open_backend("store"))    # or open_backend("redis://host:port/0")
    feed.publish(author, post)                 # into the author's outbox
    feed.push(post, followers)                 # and into the timelines of those who get it pushed
    feed.fan_out([(author, post, followers), ...])  # both, for several posts that share transactions: cheaper
    feed.read(reader, pulled=[star, ...])      # the newest ids of the timeline and of these outboxes, merged

Who is pushed and who is pulled is not decided here. Ids grow with time (as Snowflake ids do), so the newest are the largest.
A record holds at most `length` ids. Every step can be repeated: a post that is already there is not added again.

A post that is deleted has a tombstone from then on, and no read that begins later shows it. A fan-out that is under way
ends at its next chunk: a post is written only if it has no tombstone, in one transaction.
"""

from __future__ import annotations

import random
import time
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence

import numpy as np

from mlsd.serving.backends import KeyValue, StoreBusy, StoreCorrupt

_ID = np.dtype("<u8")
_TRIES = 20  # of a chunk that other writers keep changing
_PAUSE_S = 0.001, 0.1  # the longest pause after the first failure, and after any


class Timelines:
    """See the module. length: ids a record holds at most. chunk: timelines written in one transaction."""

    def __init__(self, backend: KeyValue, length: int = 200, chunk: int = 500) -> None:
        self._backend, self._length, self._chunk = backend, length, chunk

    def publish(self, author: int, post: int) -> bool:
        """Put a post into its author's outbox. False if it was deleted before."""
        return self._write({_outbox(author): [post]}) == 1

    def push(self, post: int, readers: Iterable[int]) -> int:
        """Put a post into the timelines of `readers`, a chunk a transaction; returns how many have it now.

        Fewer than asked for if the post is deleted meanwhile. Killed on the way, it can be run again.
        """
        return self._write({_timeline(reader): [post] for reader in readers})

    def fan_out(self, posts: Sequence[tuple[int, int, Sequence[int]]]) -> int:
        """Publish and push several posts, each (author, post, readers); returns how many places were asked for and have one now.

        Outboxes first, then timelines, a chunk of them a transaction, each written once whatever the number of its posts.
        A post that is deleted meanwhile is left out, the others go on.
        """
        places = defaultdict(list)
        for author, post, _ in posts:
            places[_outbox(author)].append(post)
        for _, post, readers in posts:
            for reader in readers:
                places[_timeline(reader)].append(post)
        return self._write(places)

    def delete(self, post: int) -> None:
        """No read that begins after this shows the post, and no fan-out of it goes on."""
        self._backend.write({_tombstone(post): b"1"})

    def read(self, reader: int, pulled: Sequence[int] = (), n: int = 50) -> np.ndarray:
        """The newest n ids of the reader's timeline and of the outboxes of `pulled`, newest first, without deleted ones.

        Two reads of the store, whatever the number of outboxes. Empty for a reader who follows nobody.
        """
        records = self._backend.get([_timeline(reader), *map(_outbox, pulled)])
        ids = np.unique(np.concatenate([_ids(record) for record in records]))[::-1]
        deleted = self._backend.get([_tombstone(post) for post in ids]) if len(ids) else []
        return ids[[mark is None for mark in deleted]][:n] if len(ids) else ids

    def _write(self, places: Mapping[str, list[int]]) -> int:
        """Add to each record its posts, a chunk of records a transaction; returns how many of these places are filled now."""
        keys, deleted, done = list(places), set(), 0
        for first in range(0, len(keys), self._chunk):
            chunk = {key: set(places[key]) - deleted for key in keys[first : first + self._chunk]}
            if any(chunk.values()):
                deleted |= self._add(chunk)
                done += sum(len(posts - deleted) for posts in chunk.values())
        return done

    def _add(self, places: Mapping[str, set[int]]) -> set[int]:
        """Add posts to records in one transaction, all but the deleted ones, which it returns. StoreBusy if others keep changing them.

        After a failure it pauses for a random time, up to twice as long each time, or of two writers one may win every time
        (Brooker, "Exponential Backoff and Jitter", AWS Architecture Blog, 2015).
        """
        posts = sorted(set().union(*places.values()))
        keys = [*places, *map(_tombstone, posts)]
        first, longest = _PAUSE_S
        for tried in range(_TRIES):
            if tried:
                time.sleep(random.uniform(0, min(longest, first * 2 ** (tried - 1))))
            known = dict(zip(keys, self._backend.get(keys), strict=True))
            deleted = {post for post in posts if known[_tombstone(post)] is not None}
            put = {key: self._with(known[key], wanted - deleted) for key, wanted in places.items() if wanted - deleted}
            if not put or self._backend.write(put, only_if=known):
                return deleted
        raise StoreBusy(f"posts {posts}: other writers changed their timelines {_TRIES} times in a row; try again")

    def _with(self, record: bytes | None, posts: Iterable[int]) -> bytes:
        return np.union1d(_ids(record), np.array([*posts], _ID))[-self._length :].astype(_ID).tobytes()


def _ids(record: bytes | None) -> np.ndarray:
    if record is not None and len(record) % _ID.itemsize:
        raise StoreCorrupt(f"expected a record of whole ids, found {len(record)} bytes")
    return np.frombuffer(record or b"", _ID)


def _timeline(reader: int) -> str:
    return f"timeline/{int(reader)}"


def _outbox(author: int) -> str:
    return f"outbox/{int(author)}"


def _tombstone(post: int) -> str:
    return f"deleted/{int(post)}"
