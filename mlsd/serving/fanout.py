"""Timelines and outboxes of post ids on a key-value backend: what a feed is read from.

    feed = Timelines(open_backend("store"))    # or open_backend("redis://host:port/0")
    feed.publish(author, post)                 # into the author's outbox
    feed.push(post, followers)                 # and into the timelines of those who get it pushed
    feed.read(reader, pulled=[star, ...])      # the newest ids of the timeline and of these outboxes, merged

Who is pushed and who is pulled is not decided here. Ids grow with time (as Snowflake ids do), so the newest are the largest.
A record holds at most `length` ids. Every step can be repeated: a post that is already there is not added again.

A post that is deleted has a tombstone from then on, and no read that begins later shows it. A fan-out that is under way
ends at its next chunk: the chunk is written only if there is no tombstone, in one transaction.
"""

from __future__ import annotations

import random
import time
from collections.abc import Iterable, Sequence

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
        return self._add([_outbox(author)], post)

    def push(self, post: int, readers: Iterable[int]) -> int:
        """Put a post into the timelines of `readers`, a chunk a transaction; returns how many have it now.

        Fewer than asked for if the post is deleted meanwhile. Killed on the way, it can be run again.
        """
        keys, done = [_timeline(reader) for reader in readers], 0
        for first in range(0, len(keys), self._chunk):
            chunk = keys[first : first + self._chunk]
            if not self._add(chunk, post):
                break
            done += len(chunk)
        return done

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

    def _add(self, keys: list[str], post: int) -> bool:
        """Add a post to all these records, or to none if it is deleted. Raises StoreBusy if others keep changing them.

        After a failure it pauses for a random time, up to twice as long each time, or of two writers one may win every time
        (Brooker, "Exponential Backoff and Jitter", AWS Architecture Blog, 2015).
        """
        tombstone = _tombstone(post)
        first, longest = _PAUSE_S
        for failed in range(_TRIES):
            *records, deleted = self._backend.get([*keys, tombstone])
            if deleted is not None:
                return False
            known = dict(zip(keys, records, strict=True)) | {tombstone: None}
            put = {key: self._with(record, post) for key, record in zip(keys, records, strict=True)}
            if self._backend.write(put, only_if=known):
                return True
            time.sleep(random.uniform(0, min(longest, first * 2**failed)))
        raise StoreBusy(f"post {post}: other writers changed its timelines {_TRIES} times in a row; try again")

    def _with(self, record: bytes | None, post: int) -> bytes:
        return np.union1d(_ids(record), np.array([post], _ID))[-self._length :].astype(_ID).tobytes()


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
