"""The store behind the ranker: last night's lists, the features it ranks with, and the events it accepted.

Lists are written under the version of the model that made them and become visible all at once:

    store.write("v2", lists, ttl_s=36 * 3600)   # readers still see v1
    store.publish("v2")                         # one pointer moves; the next read sees v2
    store.rollback()                            # and back

Feature rows are kept by the version of the encoder that made them, so that an upgrade has stairs:

    store.put_rows("user", rows, "enc-2")       # the nightly job writes both versions; the service reads enc-1
    ...                                         # publish the bundle that was trained on enc-2 and asks for it
    store.drop_rows("user", "enc-1")            # when no service reads them any more

Every record carries a checksum of its key and its content.
"""

from __future__ import annotations

import json
import secrets
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Any, NamedTuple
from zlib import crc32

import numpy as np
import orjson

from mlsd.serving.backends import CONFLICT, CORRUPT, Event, KeyValue, StoreCorrupt, StoreError, open_backend

ANYONE = -1  # the user id of the list for users whom the batch job did not know
MAX_LIVE_USERS = 256  # of how many users `live` looks for at most: ten times the friends that people have in our city
LEASE_S = 600.0  # a job that has written nothing for so long is dead, and the next job removes what it left

_POINTER = "served"
_CHUNK = 2_000  # records a transaction


class VersionError(StoreError):
    """A version that does not exist, is not complete, or is still needed."""

    reason = "version_error"


class BadRecord(StoreError):
    """A list, a row or an event that cannot be kept as it is."""

    reason = "bad_record"


class EventConflict(StoreError):
    """An event id that was accepted before with other content."""

    reason = "event_conflict"


class EventsRefused(StoreError):
    """Some events were not kept, and all the others were. `refused`: position in the call -> error."""

    reason = "events_refused"

    def __init__(self, refused: Mapping[int, StoreError]) -> None:
        first = refused[min(refused)]
        super().__init__(f"{len(refused)} events were not kept, at positions {sorted(refused)[:10]}; the first: {first}")
        self.refused = dict(sorted(refused.items()))


@dataclass(frozen=True)
class TopK:
    """One user's precomputed list, best first. Times are Unix seconds."""

    user_id: int
    items: tuple[int, ...]
    scores: tuple[float, ...]
    model_version: str
    generated_at: float
    expires_at: float


class _Run(NamedTuple):
    """One attempt of one job to write a version; its lists stand under its id, so two attempts never mix."""

    version: str
    id: str


class _Pointer(NamedTuple):
    """What is served, and what was served before."""

    current: _Run | None = None
    previous: _Run | None = None

    def keeps(self, version: str) -> bool:
        return any(run is not None and run.version == version for run in self)


class Store:
    """Lists, features and events on one backend. `clock` gives Unix seconds; tests set it.

    corrupt: how many records were found altered and treated as missing, by kind of row, or "lists" or "events".
    """

    def __init__(self, backend: KeyValue, clock: Callable[[], float] = time.time) -> None:
        self._backend, self._clock = backend, clock
        self._seen: tuple[bytes | None, _Run | None] = (None, None)  # the pointer this process read last: saves a round trip
        self._counting = threading.Lock()
        self.corrupt: Counter[str] = Counter()

    # ---------- lists: written under a version, published by moving one pointer ----------

    def write(self, version: str, lists: Mapping[int, Sequence[tuple[int, float]]], ttl_s: float) -> int:
        """Stage `lists` (user id -> [(item id, score), ...], best first) as `version`, unseen by readers.

        ttl_s: how long after now each list may be served. Returns the number of lists. A job that is killed
        on the way leaves a version that `publish` refuses; writing it again from the start is safe, also while
        the first job still runs: the version is wholly that of the job which ended last. Removes what has
        expired and what dead jobs have left.
        Raises VersionError if the version is served or kept for rollback: a published version never changes;
        BadRecord for a list that cannot be kept; StoreFull, having removed what this job wrote.
        """
        _check_name("version", version, VersionError)
        self._refuse_if_kept(version, self._backend.get([_POINTER])[0])
        self._clean()
        run, now = secrets.token_hex(6), self._clock()
        lease = None  # our record in the store, as we left it: whoever gives us up for dead changes it
        try:
            for chunk in _chunks(lists.items(), _CHUNK):
                lease = self._renew(version, run, lease, _list_records(run, chunk, now, now + ttl_s), ttl_s)
            self._seal(version, run, lease or self._renew(version, run, None, {}, ttl_s), now + ttl_s, ttl_s)
        except BaseException:
            with suppress(StoreError):  # what we cannot remove now, the next job removes
                self._remove_run(run, lease)
            raise
        return len(lists)

    def _renew(self, version: str, run: str, lease: bytes | None, put: Mapping[str, bytes], ttl_s: float) -> bytes:
        """Write `put` and say that this run is alive. Raises VersionError if it was given up for dead."""
        key = f"run/{run}"
        renewed = _pack(key, [version, self._clock() + LEASE_S])
        if not self._backend.write({key: renewed, **put}, {key: lease}, ttl_s):
            raise VersionError(f"version {version!r}: this job had written nothing for {LEASE_S:.0f} s and was given up; write it again")
        return renewed

    def _seal(self, version: str, run: str, lease: bytes, expires_at: float, ttl_s: float) -> None:
        """Make this run the version, instead of an earlier one that was not published."""
        seal, key = f"complete/{version}", f"run/{run}"
        put = {seal: _pack(seal, [run, expires_at]), key: _sealed(version, run)}
        while True:
            pointer, before = self._backend.get([_POINTER, seal])
            self._refuse_if_kept(version, pointer)
            if self._backend.write(put, {_POINTER: pointer, seal: before, key: lease}, ttl_s):
                break
            if self._backend.get([key]) != [lease]:
                raise VersionError(f"version {version!r}: this job was given up for dead; write it again")
        if before is not None:
            with suppress(StoreError):
                replaced = _unpack(seal, before)[0]
                self._remove_run(replaced, _sealed(version, replaced))

    def _remove_run(self, run: str, lease: bytes | None) -> int:
        """Delete a run's lists, unless its record is no longer `lease`: then it lives, is sealed, or somebody else removes it."""
        key = f"run/{run}"
        if not self._backend.write({key: _pack(key, ["", 0.0])}, {key: lease}):
            return 0
        n = self._backend.delete(f"list/{run}/")
        self._backend.write({key: None})
        return n

    def _clean(self) -> None:
        """Remove versions that have expired, and the runs that nothing refers to and nobody writes any more."""
        try:
            kept = {run.id for run in self._pointer(self._backend.get([_POINTER])[0]) if run is not None}
        except StoreCorrupt:
            return  # what is served is not known: remove nothing
        now = self._clock()
        for version, seal, record in self._records("complete/"):
            with suppress(VersionError, StoreCorrupt):  # served after all, or sealed anew meanwhile
                run, expires_at = _unpack(seal, record)
                kept.add(run)
                if expires_at <= now:
                    self.drop(version)
        for run, key, record in self._records("run/"):
            with suppress(StoreCorrupt):
                if run not in kept and _unpack(key, record)[1] <= now:
                    self._remove_run(run, record)

    def _records(self, prefix: str) -> list[tuple[str, str, bytes]]:
        """(name, key, record) of all keys with this prefix."""
        keys = self._backend.keys(prefix)
        found = zip(keys, self._backend.get(keys), strict=True)
        return [(key.removeprefix(prefix), key, record) for key, record in found if record is not None]

    def publish(self, version: str) -> None:
        """Serve `version` from the next read on, and remember the one before for `rollback`.

        Raises VersionError, and changes nothing, if the version was never written to its end or has expired.
        """
        self._serve(version)

    def rollback(self) -> str:
        """Serve the version before this one again; returns it. Raises VersionError if there is none."""
        return self._serve(None)

    def _serve(self, version: str | None) -> str:
        """Move the pointer to `version`, or back if None. Compare and set: of two publishers each sees what the other did."""
        while True:
            raw = self._backend.get([_POINTER])[0]
            try:
                pointer = self._pointer(raw)
            except StoreCorrupt:
                pointer = _Pointer()  # nothing can be read by it: publishing heals it
            if version is None and pointer.previous is None:
                raise VersionError("there is no earlier version to go back to")
            name = pointer.previous.version if version is None else version
            seal = f"complete/{name}"
            record = self._backend.get([seal])[0]
            run, expires_at = (None, 0.0) if record is None else _unpack(seal, record)
            if expires_at <= self._clock():
                raise VersionError(
                    f"version {name!r} is not complete (never written, killed on the way, or expired); complete: {self.versions()}"
                )
            if pointer.current is not None and pointer.current.id == run:
                return name
            moved = _pack(_POINTER, [[name, run], pointer.current and list(pointer.current)])
            if self._backend.write({_POINTER: moved}, {_POINTER: raw, seal: record}):
                return name

    def current(self) -> str | None:
        """The version being served; None in a store that is empty or was wiped. Raises StoreCorrupt if it cannot be told."""
        run = self._pointer(self._backend.get([_POINTER])[0]).current
        return None if run is None else run.version

    def versions(self) -> list[str]:
        """The versions that were written to their end, in alphabetical order."""
        return [key.removeprefix("complete/") for key in self._backend.keys("complete/")]

    def drop(self, version: str) -> int:
        """Delete a version's lists; returns how many. Raises VersionError for the current or the previous one."""
        seal = f"complete/{version}"
        pointer, record = self._backend.get([_POINTER, seal])
        self._refuse_if_kept(version, pointer)
        if record is None:
            return 0
        if not self._backend.write({seal: None}, {_POINTER: pointer, seal: record}):
            raise VersionError(f"version {version!r} was published or written anew meanwhile")
        run = _unpack(seal, record)[0]
        return self._remove_run(run, _sealed(version, run))

    def read(self, user_id: int) -> TopK | None:
        """The user's list in the version being served; None if there is none or its time to live is over.

        Pointer and list come from one snapshot. In the steady state that is one round trip: the pointer and the
        list of the version seen last are asked for together; only a read that meets a swap asks once more.
        Raises StoreCorrupt, and counts it, for a record that was altered.
        """
        seen, run = self._seen  # once: other threads move it too
        for _ in range(3):
            key = f"list/{run.id if run else None}/{user_id}"
            pointer, record = self._backend.get([_POINTER, key])
            if pointer == seen:
                break
            seen, run = self._seen = pointer, self._pointer(pointer).current
        else:
            raise VersionError("the served version changed three times during one read")
        if run is None or record is None:
            return None
        try:
            items, scores, generated_at, expires_at = _unpack(key, record)
        except StoreCorrupt:
            self._count_corrupt("lists")
            raise
        return TopK(user_id, tuple(items), tuple(scores), run.version, generated_at, expires_at) if expires_at > self._clock() else None

    def _pointer(self, record: bytes | None) -> _Pointer:
        if record is None:
            return _Pointer()
        return _Pointer(*(run and _Run(*run) for run in _unpack(_POINTER, record)))

    def _refuse_if_kept(self, version: str, pointer: bytes | None) -> None:
        with suppress(StoreCorrupt):  # then nothing is served
            if self._pointer(pointer).keeps(version):
                raise VersionError(f"version {version!r} is served or kept for rollback and cannot be written or dropped; take a new one")

    # ---------- features: one row an entity, by the version of the encoder that made it ----------

    def put_rows(self, kind: str, rows: Mapping[int, dict], version: str) -> None:
        """Write feature rows (JSON objects) of entities, e.g. put_rows("user", {7: {"home_x": 1.5}}, "enc-1").

        Rows of other versions stay as they are. Raises BadRecord for a row that is no JSON object of finite numbers.
        """
        _check_name("kind", kind)
        _check_name("version", version)
        marker = f"encoder/{kind}/{version}"
        for chunk in _chunks(rows.items(), _CHUNK):
            put = {marker: _pack(marker, version)}
            for i, row in chunk:
                key = f"row/{kind}/{version}/{i}"
                put[key] = _pack(key, row)
            self._backend.write(put)

    def rows(self, kind: str, ids: Sequence[int], version: str) -> list[dict | None]:
        """Feature rows in the order of `ids`; None for an entity that this version does not have.

        A row that was altered on its way counts in `corrupt` and is None too: an item is left out, not scored wrongly.
        """
        keys = [f"row/{kind}/{version}/{i}" for i in ids]
        rows: list[dict | None] = []
        for key, record in zip(keys, self._backend.get(keys), strict=True):
            try:
                rows.append(None if record is None else _unpack(key, record))
            except StoreCorrupt:
                self._count_corrupt(kind)
                rows.append(None)
        return rows

    def row_versions(self, kind: str) -> list[str]:
        """The encoder versions that have rows of this kind, in alphabetical order."""
        return [key.removeprefix(f"encoder/{kind}/") for key in self._backend.keys(f"encoder/{kind}/")]

    def drop_rows(self, kind: str, version: str) -> int:
        """Delete all rows of one encoder version; returns how many. Killed on the way, it can be run again."""
        n = self._backend.delete(f"row/{kind}/{version}/")
        self._backend.write({f"encoder/{kind}/{version}": None})
        return n

    # ---------- events: accepted once, counted once ----------

    def accept(self, events: Iterable[tuple[str, str, int, int]]) -> None:
        """Keep events (event id, kind, user id, item id); on return they survive a kill.

        Idempotent: a client that saw no answer sends the same event again under the same id, and nothing is
        counted twice. Each event is kept wholly or not at all. Raises EventsRefused, which names those that were
        not kept (BadRecord; EventConflict for an id that was accepted with other content; StoreCorrupt), when
        all the others were; any other StoreError: some may have been kept, send them all again.
        """
        refused: dict[int, StoreError] = {}
        at = 0
        for chunk in _chunks(events, 1_000):
            good: dict[int, Event] = {}
            for i, event in enumerate(chunk, at):
                try:
                    good[i] = _event(*event)
                except BadRecord as error:
                    refused[i] = error
            for (i, event), outcome in zip(good.items(), self._backend.accept(list(good.values())), strict=True):
                if outcome == CONFLICT:
                    refused[i] = EventConflict(f"{event.key!r} was accepted before with other content; a new event needs a new id")
                elif outcome == CORRUPT:
                    self._count_corrupt("events")
                    refused[i] = StoreCorrupt(f"{event.key!r} or {event.name!r} holds something else; remove it")
            at += len(chunk)
        if refused:
            raise EventsRefused(refused)

    def live(self, kind: str, item_ids: Sequence[int], user_ids: Sequence[int]) -> tuple[np.ndarray, np.ndarray]:
        """For each item how many users have an accepted event of this kind, and how many of `user_ids` are among them.

        Two int64 arrays of len(item_ids), e.g. how many have said that they are going, and how many of a user's
        friends. Of `user_ids` the first MAX_LIVE_USERS count. The work is len(item_ids) x len(user_ids) look-ups,
        however popular an item is. An item whose count is damaged has 0 and 0, and counts in `corrupt`.
        """
        names = [f"who/{kind}/{i}" for i in item_ids]
        counts = np.array(self._backend.count(names, [int(u) for u in user_ids[:MAX_LIVE_USERS]]), np.int64).reshape(-1, 2)
        damaged = counts[:, 0] < 0
        if damaged.any():
            self._count_corrupt("events", int(damaged.sum()))
            counts[damaged] = 0
        return counts[:, 0], counts[:, 1]

    def who(self, kind: str, item_ids: Sequence[int]) -> list[set[int]]:
        """For each item the users with an accepted event of this kind. Reads them all: for audits and tests."""
        return [self._backend.members(f"who/{kind}/{i}") for i in item_ids]

    def event_ids(self) -> set[str]:
        """All accepted events. Reads every key: for audits and tests."""
        return {key.removeprefix("event/") for key in self._backend.keys("event/")}

    # ---------- the store itself ----------

    def _count_corrupt(self, kind: str, n: int = 1) -> None:
        with self._counting:
            self.corrupt[kind] += n

    def ping(self) -> None:
        """Raises StoreError if the store does not answer."""
        self._backend.get([_POINTER])

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


def _list_records(run: str, chunk: Iterable, generated_at: float, expires_at: float) -> dict[str, bytes]:
    records = {}
    for user_id, ranked in chunk:
        items, scores = zip(*ranked, strict=True) if ranked else ((), ())
        key = f"list/{run}/{user_id}"
        records[key] = _pack(key, [list(map(int, items)), list(map(float, scores)), generated_at, expires_at])
    return records


def _sealed(version: str, run: str) -> bytes:
    """The record of a run that is complete: it needs no lease, only something that refers to it."""
    return _pack(f"run/{run}", [version, 0.0])


def _pack(key: str, value: Any) -> bytes:
    """value as JSON behind a checksum of it and its key. Raises BadRecord for what JSON cannot hold."""
    try:
        content = orjson.dumps(value)
        if b"null" in content:
            json.dumps(value, allow_nan=False)  # orjson writes NaN as null, and it would come back as None
        return crc32(content, crc32(key.encode())).to_bytes(4, "little") + content
    except (TypeError, ValueError) as error:
        raise BadRecord(f"{key}: expected JSON with finite numbers ({error})") from error


def _unpack(key: str, record: bytes) -> Any:
    """What `_pack` was given. Raises StoreCorrupt if one bit has changed, or if the record is that of another key."""
    content = record[4:]
    if crc32(content, crc32(key.encode())).to_bytes(4, "little") != record[:4]:
        raise StoreCorrupt(f"{key} is corrupt: its checksum does not fit {record[4:44]!r}; write it again")
    return orjson.loads(content)


def _event(event_id: str, kind: str, user_id: int, item_id: int) -> Event:
    _check_name("kind", kind)
    for number in (user_id, item_id):
        if not isinstance(number, int | np.integer) or not -(2**63) <= number < 2**63:
            raise BadRecord(f"event {event_id!r}: expected user and item as integers of 64 bits, found {number!r}")
    if not isinstance(event_id, str) or not 0 < len(event_id.encode(errors="replace")) <= 500 or not _is_unicode(event_id):
        raise BadRecord(f"event id: expected 1 to 500 bytes of text, found {str(event_id)[:40]!a}")
    key = f"event/{event_id}"
    return Event(key, _pack(key, [kind, int(user_id), int(item_id)]), f"who/{kind}/{item_id}", int(user_id))


def _is_unicode(text: str) -> bool:
    return not any("\ud800" <= c <= "\udfff" for c in text)


def _check_name(what: str, name: str, error: type[StoreError] = BadRecord) -> None:
    if not isinstance(name, str) or not 0 < len(name) <= 100 or "/" in name or not name.isprintable():
        raise error(f"{what}: expected a non-empty text without '/' of at most 100 characters, found {name!r}")


def open_store(
    url_or_path: str | Path,
    namespace: str = "mlsd",
    clock: Callable[[], float] = time.time,
    lazy: bool = False,
    **options: float,
) -> Store:
    """The store at a Redis URL, or in an LMDB directory. options: of the backend, see `backends.open_backend`.

    Asks the store once whether it answers, and raises the StoreError that says why not. With lazy=True that is
    left to the first command and, while it fails, to each later one: how a service starts, and goes on, without
    its store. The same for both backends.
    """
    store = Store(open_backend(url_or_path, namespace, **options), clock)
    if not lazy:
        try:
            store.ping()
        except StoreError:
            store.close()
            raise
    return store
