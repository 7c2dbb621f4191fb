"""What protects a service from its surroundings and its callers, each in a few lines: limits, breaker, micro-batcher, row cache."""

from __future__ import annotations

import asyncio
import time
from collections import deque
from collections.abc import Callable, Sequence
from concurrent.futures import Executor, ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True)
class Limits:
    """The numbers that bound everything. Times count from a request's arrival, see `connections.Protocol`."""

    deadline_ms: float = 100.0  # when a list is due; no answer is planned to take longer
    fallback_share: float = 0.3  # of the deadline, kept for reading last night's list when the model is late
    store_ms: float = 50.0  # a read of the store that takes longer counts as the store's failure
    events_ms: float = 1000.0  # when an event is given up with 503
    max_in_flight: int = 32  # ranking requests; beyond, popular events are sent before the request is read
    max_events: int = 1000  # events that wait for the disk; beyond, 503
    max_connections: int = 2000  # open connections; at most what the descriptor limit leaves
    read_timeout_s: float = 10.0  # for a request to come in whole; then the connection is closed
    threads: int = 2  # for store reads and single predictions
    micro_batch: int = 0  # requests scored together at most; 0: each on its own
    micro_wait_ms: float = 1.0  # how long the first of a micro-batch waits for others
    row_age_s: float = 1.0  # how old a decoded item row may be
    breaker_failures: int = 5  # consecutive store failures after which the store is left alone ...
    breaker_open_s: float = 0.5  # ... for this long; then one request tries again


class Breaker:
    """Leaves a failing dependency alone: opens after `failures` in a row, tries one call every `open_s`."""

    def __init__(self, failures: int, open_s: float, clock: Callable[[], float] = time.monotonic) -> None:
        self._limit, self._open_s, self._clock = failures, open_s, clock
        self._failures, self._retry_at = 0, 0.0

    @property
    def open(self) -> bool:
        """Is the dependency being left alone?"""
        return self._failures >= self._limit

    def allows(self) -> bool:
        """May the dependency be called now? Once open, True for one caller per `open_s`."""
        if not self.open:
            return True
        if self._clock() < self._retry_at:
            return False
        self._retry_at = self._clock() + self._open_s
        return True

    def record(self, ok: bool) -> None:
        """Tell how a call went."""
        self._failures = 0 if ok else self._failures + 1
        if self._failures == self._limit:
            self._retry_at = self._clock() + self._open_s


class Overload(RuntimeError):
    """More is waiting than can be worked off in time. `reason` is fit for a metric's label."""

    reason = "overload"


class MicroBatcher:
    """Collects what arrives while the last batch is at work, and hands it to `work` in one call.

    work(list of inputs) -> list of outputs, run in a thread; an output that is an exception is raised for its
    caller, one that `work` raises for every caller of that batch. With wait_s > 0 the first input waits that
    long for company. The same mechanism scores requests together and commits events together (a group commit:
    one disk sync for many events). At most max_waiting inputs wait, then Overload is raised; an input whose caller
    has given up before its batch begins is left out.
    """

    def __init__(self, work: Callable[[list], Sequence], max_size: int, wait_s: float = 0.0, max_waiting: int = 10_000) -> None:
        self._work, self._max_size, self._wait_s, self._max_waiting = work, max_size, wait_s, max_waiting
        self._waiting: deque[tuple[Any, asyncio.Future]] = deque()
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="batcher")
        self._task: asyncio.Task | None = None

    async def __call__(self, value: Any) -> Any:
        if len(self._waiting) >= self._max_waiting:
            raise Overload(f"{self._max_waiting} are waiting")
        future = asyncio.get_running_loop().create_future()
        self._waiting.append((value, future))
        if self._task is None or self._task.done():
            self._task = asyncio.create_task(self._run())
        return await future

    async def _run(self) -> None:
        """Work until nothing waits."""
        while self._waiting:
            if self._wait_s:
                await asyncio.sleep(self._wait_s)
            batch = []
            while self._waiting and len(batch) < self._max_size:
                value, future = self._waiting.popleft()
                if not future.done():  # else its caller has given up
                    batch.append((value, future))
            if not batch:
                continue
            try:
                outputs: Sequence = await in_thread(self._thread, self._work, [value for value, _ in batch])
            except Exception as error:  # goes to the callers, who know what to do about it
                outputs = [error] * len(batch)
            for (_, future), output in zip(batch, outputs, strict=True):
                if future.done():
                    continue
                if isinstance(output, Exception):
                    future.set_exception(output)
                else:
                    future.set_result(output)

    def close(self) -> None:
        """Stop taking batches; waits for nothing, since the batch at work may be stuck."""
        if self._task is not None:
            self._task.cancel()
        self._thread.shutdown(wait=False, cancel_futures=True)


class RowCache:
    """Decoded rows by version and id, at most `size` of them and at most `age_s` old: the whole cache starts anew then.

    read(ids, version) -> one row or None an id; rows that are None are asked for again. Safe to share between threads.
    """

    def __init__(self, read: Callable[[Sequence[int], str], Sequence[dict | None]], age_s: float, size: int = 20_000) -> None:
        self._read, self._age_s, self._size = read, age_s, size
        self._born, self._rows = 0.0, {}

    def __call__(self, ids: Sequence[int], version: str) -> dict[int, dict]:
        """The rows that exist, by id."""
        if time.monotonic() - self._born > self._age_s or len(self._rows) > self._size:
            self._born, self._rows = time.monotonic(), {}
        rows = self._rows  # this one: another thread may start a new one
        missing = [i for i in ids if (version, i) not in rows]
        if missing:
            found = self._read(missing, version)
            rows.update({(version, i): row for i, row in zip(missing, found, strict=True) if row is not None})
        return {i: rows[version, i] for i in ids if (version, i) in rows}


async def in_thread(threads: Executor, work: Callable, *args: Any) -> Any:
    """Run blocking work in one of these threads. If the caller gives up before it began, it never begins."""
    return await asyncio.get_running_loop().run_in_executor(threads, work, *args)
