"""The store behind the ranker: last night's lists, the features it ranks with, and the events it accepted.

Lists are written under the version of the model that made them and become visible all at once:

    store.write("v2", lists, ttl_s=36 * 3600)   # readers still see v1
    store.publish("v2")                         # one pointer moves; the next read sees v2
    store.rollback()                            # and back
"""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import islice
from pathlib import Path

from mlsd.serving.keyvalue import KeyValue, StoreError, open_backend

ANYONE = -1  # the user id of the list for users whom the batch job did not know
_CURRENT, _PREVIOUS = "current", "previous"


class VersionError(StoreError):
    """A version that does not exist, is not complete, or is still needed."""

    reason = "version_error"


@dataclass(frozen=True)
class TopK:
    """One user's precomputed list, best first. Times are Unix seconds."""

    user_id: int
    items: tuple[int, ...]
    scores: tuple[float, ...]
    model_version: str
    generated_at: float
    expires_at: float

    def encode(self) -> bytes:
        return json.dumps([self.items, self.scores, self.model_version, self.generated_at, self.expires_at]).encode()

    @classmethod
    def decode(cls, user_id: int, record: bytes) -> TopK:
        """Raises StoreError if the record is not one that `encode` made."""
        try:
            items, scores, version, generated_at, expires_at = json.loads(record)
            return cls(user_id, tuple(items), tuple(scores), version, generated_at, expires_at)
        except (ValueError, TypeError) as error:
            raise StoreError(f"the list of user {user_id} is corrupt: {record[:40]!r}...; write the version again") from error


class Store:
    """Lists, features and events on one backend. `clock` gives Unix seconds; tests set it."""

    def __init__(self, backend: KeyValue, clock: Callable[[], float] = time.time) -> None:
        self._backend, self._clock = backend, clock
        self._seen_version: str | None = None  # the version this process read last: saves a round trip

    # ---------- lists: written under a version, published by moving one pointer ----------

    def write(self, version: str, lists: Mapping[int, Sequence[tuple[int, float]]], ttl_s: float) -> int:
        """Stage `lists` (user id -> [(item id, score), ...], best first) as `version`, unseen by readers.

        ttl_s: how long after now each list may be served. Returns the number of lists. A job that is killed
        on the way leaves a version that `publish` refuses; writing it again from the start is safe.
        Raises VersionError if the version is served or kept for rollback: a published version never changes.
        """
        _check_version(version)
        if version.encode() in self._backend.get([_CURRENT, _PREVIOUS]):
            raise VersionError(
                f"version {version!r} is served or kept for rollback and cannot be written; give the new lists a new version"
            )
        self._backend.delete(f"list/{version}/")
        self._backend.delete(f"complete/{version}/")
        now = self._clock()
        for chunk in _chunks(lists.items(), 5_000):
            records = {}
            for user_id, ranked in chunk:
                items, scores = zip(*ranked, strict=True) if ranked else ((), ())
                top = TopK(user_id, tuple(map(int, items)), tuple(map(float, scores)), version, now, now + ttl_s)
                records[f"list/{version}/{user_id}"] = top.encode()
            self._backend.write(records, ttl_s=ttl_s)
        self._backend.write({f"complete/{version}/": json.dumps(now + ttl_s).encode()}, ttl_s=ttl_s)
        return len(lists)

    def publish(self, version: str) -> None:
        """Serve `version` from the next read on, and remember the one before for `rollback`.

        Raises VersionError, and changes nothing, if the version was never written to its end or has expired.
        """
        current, complete = self._backend.get([_CURRENT, f"complete/{version}/"])
        if complete is None or json.loads(complete) <= self._clock():
            raise VersionError(
                f"version {version!r} is not complete (never written, killed on the way, or expired); complete: {self.versions()}"
            )
        if current != version.encode():
            self._backend.write({_CURRENT: version.encode(), _PREVIOUS: current or b""})

    def rollback(self) -> str:
        """Serve the version before this one again; returns it. Raises VersionError if there is none."""
        previous = self._backend.get([_PREVIOUS])[0]
        if not previous:
            raise VersionError("there is no earlier version to go back to")
        self.publish(previous.decode())
        return previous.decode()

    def current(self) -> str | None:
        """The version being served."""
        value = self._backend.get([_CURRENT])[0]
        return value.decode() if value else None

    def versions(self) -> list[str]:
        """The versions that were written to their end, in alphabetical order."""
        return [key.split("/")[1] for key in self._backend.keys("complete/")]

    def drop(self, version: str) -> int:
        """Delete a version's lists; returns how many keys. Raises VersionError for the current or the previous one."""
        if version.encode() in self._backend.get([_CURRENT, _PREVIOUS]):
            raise VersionError(f"version {version!r} is served or kept for rollback; publish another one first")
        return self._backend.delete(f"complete/{version}/") + self._backend.delete(f"list/{version}/")

    def read(self, user_id: int) -> TopK | None:
        """The user's list in the version being served; None if there is none or its time to live is over.

        Pointer and list come from one snapshot. In the steady state that is one round trip: the pointer and the
        list of the version seen last are asked for together; only a read that meets a swap asks once more.
        """
        seen = self._seen_version  # once: other threads move it too
        for _ in range(3):
            pointer, record = self._backend.get([_CURRENT, f"list/{seen}/{user_id}"])
            version = pointer.decode() if pointer else None
            if version == seen:
                break
            seen = self._seen_version = version
        else:
            raise VersionError("the served version changed three times during one read")
        if version is None or record is None:
            return None
        top = TopK.decode(user_id, record)
        if top.model_version != version:
            raise VersionError(f"user {user_id}: the list under version {version!r} says it was made by {top.model_version!r}")
        return top if top.expires_at > self._clock() else None

    # ---------- features: one row an entity ----------

    def put_rows(self, kind: str, rows: Mapping[int, dict]) -> None:
        """Write feature rows (JSON objects) of entities, e.g. put_rows("user", {7: {"home_x": 1.5}})."""
        for chunk in _chunks(rows.items(), 5_000):
            self._backend.write({f"row/{kind}/{i}": json.dumps(row).encode() for i, row in chunk})

    def rows(self, kind: str, ids: Sequence[int]) -> list[dict | None]:
        """Feature rows in the order of `ids`; None for an entity the store does not know."""
        found = self._backend.get([f"row/{kind}/{i}" for i in ids])
        return [None if record is None else json.loads(record) for record in found]

    # ---------- events: accepted once, counted once ----------

    def accept(self, events: Iterable[tuple[str, str, int, int]]) -> None:
        """Keep events (event id, kind, user id, item id), all or none; on return they survive a kill.

        Idempotent: a client that saw no answer sends the same event again under the same id, and nothing is
        counted twice.
        """
        put, add = {}, []
        for event_id, kind, user_id, item_id in events:
            put[f"event/{event_id}"] = json.dumps([kind, user_id, item_id]).encode()
            add.append((f"who/{kind}/{item_id}", str(user_id)))
        self._backend.write(put, add)

    def who(self, kind: str, item_ids: Sequence[int]) -> list[set[int]]:
        """For each item the users with an accepted event of this kind, e.g. who has said they are going."""
        return [set(map(int, found)) for found in self._backend.members([f"who/{kind}/{i}" for i in item_ids])]

    def event_ids(self) -> set[str]:
        """All accepted events. Reads every key: for audits and tests."""
        return {key.removeprefix("event/") for key in self._backend.keys("event/")}

    # ---------- the store itself ----------

    def ping(self) -> None:
        """Raises StoreError if the store does not answer."""
        self._backend.get([_CURRENT])

    def clear(self) -> int:
        """Delete everything in this store (on Redis: in its namespace only). Returns the number of keys."""
        return self._backend.delete("")

    def close(self) -> None:
        """Release the file or the connections."""
        self._backend.close()

    def __enter__(self) -> Store:
        return self

    def __exit__(self, *error: object) -> None:
        self.close()


def _chunks(items: Iterable, size: int) -> Iterator[list]:
    items = iter(items)
    while chunk := list(islice(items, size)):
        yield chunk


def _check_version(version: str) -> None:
    if not version or "/" in version:
        raise VersionError(f"version: expected a non-empty text without '/', found {version!r}")


def open_store(url_or_path: str | Path, namespace: str = "mlsd", clock: Callable[[], float] = time.time, **options: float) -> Store:
    """The store at a Redis URL, or in an LMDB directory: see `keyvalue.open_backend`."""
    return Store(open_backend(url_or_path, namespace, **options), clock)
