"""A durable work queue with leases: SQLite in a directory (the default), or Redis Streams by address.

    with open_queue("data/queue") as jobs:          # or "redis://host:port/0"
        jobs.put([{"event": "post-7", "post": 7}])
        for job in jobs.take(10):                   # ours for lease_s seconds
            store.accept([(job.body["event"], "scanned", 0, job.body["post"])])  # safe to do twice
            jobs.done(job)

Both hand a job out at least once: what `put` has returned survives a kill, and a job whose worker died is handed out
again when its lease is over. A worker that was only slow may therefore do a job that somebody else does too, so what a
job does must be safe to repeat: give the effect an id that comes from the job, as `Store.accept` asks for.
A job that has been handed out `attempts` times without an end is poison. It is set aside, and the queue goes on.

Jobs come in the order in which they were put. A job names its post, it does not carry it: at most 64 kB of JSON.
"""

from __future__ import annotations

import json
import os
import socket
import sqlite3
import threading
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple, Protocol

import persistqueue.serializers.json
import redis
from persistqueue.sqlackqueue import AckStatus, SQLiteAckQueue
from redis.backoff import NoBackoff
from redis.retry import Retry

from mlsd.serving.backends import StoreBusy, StoreCorrupt, StoreDown, StoreError, StoreFull, StoreReadOnly, _redis_errors
from mlsd.serving.store import BadRecord

MAX_BYTES = 64 << 10
LEASE_S = 60.0
ATTEMPTS = 5


class Job(NamedTuple):
    """One hand-out of a job: `attempt` counts from 1, and tells this hand-out from the others."""

    id: str
    body: dict[str, Any]
    attempt: int


class Counts(NamedTuple):
    """How many jobs are in which state. `waiting` includes those given back and those whose lease is over."""

    waiting: int
    taken: int
    done: int
    set_aside: int


class WorkQueue(Protocol):
    """What either queue offers. Any number of threads and processes may use one at the same time."""

    def put(self, bodies: Iterable[Mapping[str, Any]]) -> list[str]:
        """Append jobs, all or none; returns their ids. Raises BadRecord for what is no JSON object or too large."""

    def take(self, n: int = 1) -> list[Job]:
        """At most n jobs, each ours until its lease is over; [] if none waits."""

    def done(self, job: Job) -> bool:
        """The job is finished. False, and nothing changed, if it has been handed out again or was finished before."""

    def give_back(self, job: Job) -> bool:
        """Let somebody have it at once, for instance because this worker stops. False as for `done`."""

    def counts(self) -> Counts: ...

    def set_aside(self) -> list[Job]:
        """The poison jobs, for a person to look at. Mended, they are put as new ones."""

    def close(self) -> None: ...

    def __enter__(self) -> WorkQueue: ...

    def __exit__(self, *error: object) -> None: ...


def _encode(body: Mapping[str, Any]) -> bytes:
    try:
        encoded = json.dumps(dict(body), allow_nan=False).encode()
    except (TypeError, ValueError) as error:
        raise BadRecord(f"a job is a JSON object of finite numbers, found {str(body)[:80]!r} ({error})") from error
    if len(encoded) > MAX_BYTES:
        raise BadRecord(f"a job has at most {MAX_BYTES:,} bytes, found {len(encoded):,}: keep the content elsewhere and put its id")
    return encoded


# ---------- SQLite ----------


class _Table(SQLiteAckQueue):
    """persist-queue's table of jobs, with the two columns that a lease needs.

    The library brings the file, the table, the states of a job and the clearing of finished ones. Its own `get` is for one
    process (it selects and then updates), and opening it hands out again what others are working on: both are off here.
    """

    _TABLE_NAME = "leased_queue"
    _SQL_CREATE = SQLiteAckQueue._SQL_CREATE.removesuffix(")") + ", attempts INTEGER DEFAULT 0, lease_ends FLOAT DEFAULT 0)"


class SqliteQueue:
    """A queue in the directory `path`, for the processes of one machine; not on a network drive.

    Every change is one transaction, synced to disk. Leases are told by `clock` (Unix seconds).
    timeout_s: how long a change waits for another process's before StoreBusy.
    """

    def __init__(
        self,
        path: str | Path,
        name: str = "jobs",
        lease_s: float = LEASE_S,
        attempts: int = ATTEMPTS,
        timeout_s: float = 5.0,
        clock: Callable[[], float] = time.time,
    ) -> None:
        self.path, self._lease_s, self._attempts, self._clock = Path(path), lease_s, attempts, clock
        self._lock, self._finished = threading.Lock(), 0
        with self._errors():
            self._table = _Table(
                str(path), auto_resume=False, name=name, multithreading=True, timeout=timeout_s, serializer=persistqueue.serializers.json
            )
        self._rows = self._table._table_name

    def put(self, bodies: Iterable[Mapping[str, Any]]) -> list[str]:
        rows = [(_encode(body), self._clock()) for body in bodies]
        with self._change() as change:
            return [str(change.execute(self._table._sql_insert, row).lastrowid) for row in rows]

    def take(self, n: int = 1) -> list[Job]:
        now = self._clock()
        free = f"(status < {AckStatus.unack} OR status = {AckStatus.unack} AND lease_ends <= ?)"
        with self._change() as change:
            change.execute(f"UPDATE {self._rows} SET status = {AckStatus.ack_failed} WHERE {free} AND attempts >= ?", (now, self._attempts))
            rows = change.execute(
                f"UPDATE {self._rows} SET status = {AckStatus.unack}, attempts = attempts + 1, lease_ends = ? "
                f"WHERE _id IN (SELECT _id FROM {self._rows} WHERE {free} ORDER BY _id LIMIT ?) RETURNING _id, data, attempts",
                (now + self._lease_s, now, n),
            ).fetchall()
        return [self._job(row) for row in sorted(rows)]

    def done(self, job: Job) -> bool:
        ours = self._end(job, AckStatus.acked)
        self._finished += ours
        if ours and self._finished % 1_000 == 0:
            with self._lock, self._errors():
                self._table.clear_acked_data(keep_latest=100)
        return ours

    def give_back(self, job: Job) -> bool:
        return self._end(job, AckStatus.ready)

    def _end(self, job: Job, status: str) -> bool:
        with self._change() as change:
            found = change.execute(
                f"UPDATE {self._rows} SET status = {status} WHERE _id = ? AND attempts = ? AND status = {AckStatus.unack}",
                (int(job.id), job.attempt),
            )
            return found.rowcount == 1

    def counts(self) -> Counts:
        with self._change() as change:
            states = change.execute(f"SELECT status, lease_ends > ?, count(*) FROM {self._rows} GROUP BY 1, 2", (self._clock(),)).fetchall()
            ever = change.execute("SELECT seq FROM sqlite_sequence WHERE name = ?", (self._rows.strip("`"),)).fetchone()
        taken = sum(n for status, live, n in states if str(status) == AckStatus.unack and live)
        aside = sum(n for status, _, n in states if str(status) == AckStatus.ack_failed)
        open_jobs = sum(n for status, _, n in states if str(status) <= AckStatus.unack)
        return Counts(open_jobs - taken, taken, (ever[0] if ever else 0) - open_jobs - aside, aside)  # old finished rows are cleared

    def set_aside(self) -> list[Job]:
        with self._change() as change:
            rows = change.execute(f"SELECT _id, data, attempts FROM {self._rows} WHERE status = {AckStatus.ack_failed}").fetchall()
        return [self._job(row) for row in rows]

    def _job(self, row: tuple[int, bytes, int]) -> Job:
        return Job(str(row[0]), self._table._serializer.loads(row[1]), row[2])

    def close(self) -> None:
        self._table.close()

    def __enter__(self) -> SqliteQueue:
        return self

    def __exit__(self, *error: object) -> None:
        self.close()

    @contextmanager
    def _change(self) -> Iterator[sqlite3.Connection]:
        """One transaction that has the write lock from its beginning: what it reads stays true until it writes."""
        with self._lock, self._errors(), self._table._putter as connection:
            connection.execute("BEGIN IMMEDIATE")
            yield connection

    @contextmanager
    def _errors(self) -> Iterator[None]:
        """Turn SQLite's exceptions into the store's, naming the file."""
        where = f"queue at {self.path}"
        try:
            yield
        except (sqlite3.OperationalError, OSError) as error:
            text = str(error)
            if "locked" in text:
                raise StoreBusy(f"{where}: another process has held the write lock; nothing was written") from error
            if "full" in text:
                raise StoreFull(f"{where}: no room on the disk; free some ({text})") from error
            if "readonly" in text:
                raise StoreReadOnly(f"{where}: the directory can be read and not written to") from error
            raise StoreDown(f"{where}: cannot be opened ({text})") from error
        except sqlite3.ProgrammingError as error:
            raise StoreError(f"{where}: this queue was closed; open it again") from error
        except sqlite3.DatabaseError as error:
            raise StoreCorrupt(f"{where}: the file is damaged ({error}); restore a copy") from error


# ---------- Redis Streams ----------


class RedisQueue:
    """A queue on a Redis server (6.2 or later): a stream, a consumer group, and the group's list of what is in hand.

    XREADGROUP hands out new jobs; XAUTOCLAIM those that have been in hand for longer than the lease, which
    the server's clock tells. Redis keeps what `put` returned as its own settings say (see `redis_server.RedisServer`).
    """

    def __init__(self, url: str, name: str = "jobs", lease_s: float = LEASE_S, attempts: int = ATTEMPTS, timeout_s: float = 1.0) -> None:
        self.url, self._lease_ms, self._attempts = url, max(1, round(lease_s * 1000)), attempts
        self._stream, self._done_key, self._aside_key = (f"mlsd-queue:{{{name}}}{part}" for part in ("", ":done", ":aside"))
        self._group, self._consumer = "workers", f"{socket.gethostname()}-{os.getpid()}-{id(self):x}"
        retry = Retry(NoBackoff(), 1, supported_errors=(redis.ConnectionError,))
        self._client = redis.Redis.from_url(url, socket_timeout=timeout_s, socket_connect_timeout=timeout_s, retry=retry)
        self._end_script, self._leave_script = self._client.register_script(_END), self._client.register_script(_LEAVE)
        with _redis_errors(url):
            try:
                self._client.xgroup_create(self._stream, self._group, id="0", mkstream=True)
            except redis.ResponseError as error:
                if "BUSYGROUP" not in str(error):
                    raise

    def put(self, bodies: Iterable[Mapping[str, Any]]) -> list[str]:
        encoded = [_encode(body) for body in bodies]
        with _redis_errors(self.url), self._client.pipeline(transaction=True) as pipeline:
            for body in encoded:
                pipeline.xadd(self._stream, {"body": body})
            return [found.decode() for found in pipeline.execute()]

    def take(self, n: int = 1) -> list[Job]:
        jobs: list[Job] = []
        cursor = b"0-0"
        with _redis_errors(self.url):
            while len(jobs) < n:
                cursor, entries, *_ = self._client.xautoclaim(
                    self._stream, self._group, self._consumer, self._lease_ms, cursor, count=n - len(jobs)
                )
                for key, fields in entries:
                    job = Job(key.decode(), json.loads(fields[b"body"]), self._times_handed_out(key))
                    if job.attempt > self._attempts:  # killed before the next line, the next worker comes here again
                        self._end(job, "aside")
                    else:
                        jobs.append(job)
                if cursor == b"0-0":
                    break
            if len(jobs) < n:
                found = self._client.xreadgroup(self._group, self._consumer, {self._stream: ">"}, count=n - len(jobs))
                for _, entries in found:
                    jobs += [Job(key.decode(), json.loads(fields[b"body"]), 1) for key, fields in entries]
        return jobs

    def _times_handed_out(self, key: bytes) -> int:
        found = self._client.xpending_range(self._stream, self._group, min=key, max=key, count=1)
        return found[0]["times_delivered"] if found else 1

    def done(self, job: Job) -> bool:
        with _redis_errors(self.url):
            return self._end(job, "done")

    def give_back(self, job: Job) -> bool:
        with _redis_errors(self.url):
            return self._end(job, "back")

    def _end(self, job: Job, how: str) -> bool:
        keys = [self._stream, self._done_key, self._aside_key]
        return bool(self._end_script(keys, [self._group, job.id, job.attempt, how, self._consumer, self._lease_ms]))

    def counts(self) -> Counts:
        with _redis_errors(self.url), self._client.pipeline(transaction=True) as pipeline:
            pipeline.xlen(self._stream)
            pipeline.xpending(self._stream, self._group)
            pipeline.xpending_range(self._stream, self._group, min="-", max="+", count=1_000_000, idle=self._lease_ms)
            pipeline.get(self._done_key)
            pipeline.hlen(self._aside_key)
            length, pending, over, done, aside = pipeline.execute()
        taken = pending["pending"] - len(over)
        return Counts(length - taken, taken, int(done or 0), aside)

    def set_aside(self) -> list[Job]:
        with _redis_errors(self.url):
            found = self._client.hgetall(self._aside_key)
        return [Job(key.decode(), json.loads(body), self._attempts) for key, body in sorted(found.items())]

    def close(self) -> None:
        try:
            self._leave_script([self._stream], [self._group, self._consumer])  # a consumer's name is kept for ever otherwise
        except redis.RedisError:
            pass
        self._client.close()

    def __enter__(self) -> RedisQueue:
        return self

    def __exit__(self, *error: object) -> None:
        self.close()


# A job ends only for the hand-out that the caller has: another attempt number means that it is somebody else's by now.
# Given back, it counts as idle for a whole lease, so that XAUTOCLAIM finds it at once; JUSTID leaves the attempts as they are.
_END = """
local stream, group, id, attempt, how = KEYS[1], ARGV[1], ARGV[2], tonumber(ARGV[3]), ARGV[4]
local pending = redis.call('XPENDING', stream, group, id, id, 1)
if #pending == 0 or pending[1][4] ~= attempt then return 0 end
if how == 'back' then
  redis.call('XCLAIM', stream, group, ARGV[5], 0, id, 'IDLE', ARGV[6], 'JUSTID')
  return 1
end
if how == 'aside' then redis.call('HSET', KEYS[3], id, redis.call('XRANGE', stream, id, id)[1][2][2]) end
if how == 'done' then redis.call('INCR', KEYS[2]) end
redis.call('XACK', stream, group, id)
redis.call('XDEL', stream, id)
return 1
"""

# Deleting a consumer drops what it has in hand: only if that is nothing
_LEAVE = """
if #redis.call('XPENDING', KEYS[1], ARGV[1], '-', '+', 1, ARGV[2]) == 0 then
  redis.call('XGROUP', 'DELCONSUMER', KEYS[1], ARGV[1], ARGV[2])
end
return 1
"""


def open_queue(url_or_path: str | Path, name: str = "jobs", **options: Any) -> WorkQueue:
    """Redis Streams for a URL ("redis://host:port/0"), else SQLite in that directory.

    name: several queues may share an address. options: lease_s, attempts, timeout_s; SQLite: clock.
    Raises StoreDown if the address cannot be opened, and says why.
    """
    if not name.isidentifier():
        raise StoreError(f"a queue's name consists of letters, digits and '_', found {name!r}")
    if str(url_or_path).startswith(("redis://", "rediss://", "unix://")):
        return RedisQueue(str(url_or_path), name, **options)
    if "://" in str(url_or_path):
        raise StoreError(f"expected redis://host:port/0 or the path of a directory, found {str(url_or_path)!r}")
    return SqliteQueue(url_or_path, name, **options)
