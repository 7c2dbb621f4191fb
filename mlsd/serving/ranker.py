"""From a validated request to an answer: hydrate, compute features, predict, rank; or a counted fallback.

An answer is made by one bundle from its first step to its last, or by one published list, and says which.
"""

from __future__ import annotations

import asyncio
import math
import threading
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np

from mlsd.serving.bundle import Bundle, BundleSource
from mlsd.serving.keyvalue import StoreDown, StoreError, StoreSlow
from mlsd.serving.stores import ANYONE, Store, TopK


@dataclass(frozen=True)
class Limits:
    """What protects the service from its surroundings and from its callers."""

    deadline_ms: float = 100.0  # after this, an online answer is given up for a fallback
    fallback_ms: float = 30.0  # how long the fallback itself may take to read the store
    max_in_flight: int = 64  # beyond this, requests are answered from memory at once
    threads: int = 8  # for store reads and single predictions
    micro_batch: int = 0  # requests scored together at most; 0: each on its own
    micro_wait_ms: float = 1.0  # how long the first of a micro-batch waits for others
    breaker_failures: int = 5  # consecutive store failures after which the store is left alone ...
    breaker_open_s: float = 0.5  # ... for this long; then one request tries again


@dataclass(frozen=True)
class Query:
    """One user's candidates to rank, as of a Unix time."""

    user_id: int
    item_ids: tuple[int, ...]
    k: int
    as_of: float


@dataclass(frozen=True)
class Answer:
    """A ranked list and where it comes from. scores are None for items that no model has scored."""

    user_id: int
    item_ids: tuple[int, ...]
    scores: tuple[float | None, ...]
    source: str  # online, batch, popular, as_given
    model_version: str | None
    generated_at: float
    fallback: str | None = None  # the reason, if this is not what was asked for
    unknown_items: int = 0
    stages_ms: dict[str, float] = field(default_factory=dict)


class Unavailable(RuntimeError):
    """There is nothing to answer with. `reason` is fit for a metric's label."""

    def __init__(self, reason: str, message: str) -> None:
        super().__init__(message)
        self.reason = reason


class NothingKnown(LookupError):
    """The store answered, and knows none of the candidates."""


class Breaker:
    """Leaves a failing dependency alone: opens after `failures` in a row, tries one call every `open_s`."""

    def __init__(self, failures: int, open_s: float, clock: Callable[[], float] = time.monotonic) -> None:
        self._limit, self._open_s, self._clock = failures, open_s, clock
        self._failures, self._retry_at = 0, 0.0

    def allows(self) -> bool:
        """May the dependency be called now? Once open, True for one caller per `open_s`."""
        if self._failures < self._limit:
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


class MicroBatcher:
    """Collects what arrives while the last batch is at work, and hands it to `work` in one call.

    work(list of inputs) -> list of outputs, run in a thread; an exception goes to every caller of that batch.
    With wait_s > 0 the first input waits that long for company. The same mechanism scores requests together
    and commits events together (a group commit: one disk sync for many events).
    """

    def __init__(self, work: Callable[[list], Sequence], max_size: int, wait_s: float = 0.0) -> None:
        self._work, self._max_size, self._wait_s = work, max_size, wait_s
        self._waiting: asyncio.Queue[tuple[Any, asyncio.Future]] = asyncio.Queue()
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="batcher")
        self._task: asyncio.Task | None = None

    async def __call__(self, value: Any) -> Any:
        if self._task is None:
            self._task = asyncio.create_task(self._run())
        future = asyncio.get_running_loop().create_future()
        self._waiting.put_nowait((value, future))
        return await future

    async def _run(self) -> None:
        loop = asyncio.get_running_loop()
        while True:
            batch = [await self._waiting.get()]
            if self._wait_s:
                await asyncio.sleep(self._wait_s)
            while len(batch) < self._max_size and not self._waiting.empty():
                batch.append(self._waiting.get_nowait())
            try:
                outputs: Sequence = await loop.run_in_executor(self._thread, self._work, [value for value, _ in batch])
            except Exception as error:  # goes to the callers, who know what to do about it
                outputs = [error] * len(batch)
            for (_, future), output in zip(batch, outputs, strict=True):
                if future.done():  # its caller has given up
                    continue
                if isinstance(output, Exception):
                    future.set_exception(output)
                else:
                    future.set_result(output)

    def close(self) -> None:
        """Stop taking batches."""
        if self._task is not None:
            self._task.cancel()
        self._thread.shutdown(wait=True)


@dataclass
class _Prepared:
    """The queries of one call with their rows, on the way to a score."""

    bundle: Bundle
    users: list[dict | None]
    items: list[list[dict]]
    item_ids: list[list[int]]
    matrix: np.ndarray
    stages_ms: dict[str, float | None]
    p: np.ndarray | None = None


class Ranker:
    """Answers queries with the current bundle and the store; every failure becomes a fallback with a reason."""

    def __init__(self, store: Store, bundles: BundleSource, limits: Limits) -> None:
        self._store, self._bundles, self._limits = store, bundles, limits
        self._threads = ThreadPoolExecutor(limits.threads, thread_name_prefix="ranker")
        self._breaker = Breaker(limits.breaker_failures, limits.breaker_open_s)
        self._micro = MicroBatcher(_predict_together, limits.micro_batch, limits.micro_wait_ms / 1000) if limits.micro_batch else None
        self.in_flight = 0

    # ---------- online ----------

    async def rank(self, queries: Sequence[Query]) -> list[Answer]:
        """Rank each query's candidates; all queries are scored in one model call.

        Raises NothingKnown if the store knows none of the candidates of any of the queries.
        """
        if self.in_flight >= self._limits.max_in_flight:
            return [self._from_memory(query, "overload") for query in queries]
        self.in_flight += 1
        try:
            return await self._rank_in_time(queries)
        finally:
            self.in_flight -= 1

    async def _rank_in_time(self, queries: Sequence[Query]) -> list[Answer]:
        bundle = self._bundles.bundle
        if bundle is None:
            return await self._fall_back(queries, "no_model")
        if not self._breaker.allows():
            return [self._from_memory(query, "store_down") for query in queries]
        stages_ms: dict[str, float | None] = {}  # filled as the work goes on: at a time-out it says how far it came
        try:
            async with asyncio.timeout(self._limits.deadline_ms / 1000):
                prepared = await self._in_thread(self._prepare, bundle, queries, stages_ms)
                if self._micro:
                    start = time.perf_counter()
                    prepared.p = await self._micro(prepared)
                    stages_ms["predict"] = (time.perf_counter() - start) * 1000
                answers = _assemble_answers(queries, prepared)
            self._breaker.record(ok=True)
        except StoreError as error:
            self._breaker.record(ok=not isinstance(error, StoreDown | StoreSlow))
            return [self._from_memory(query, error.reason) for query in queries]
        except TimeoutError:
            if "hydrate" in stages_ms and stages_ms["hydrate"] is None:  # begun and not ended: it is the store
                self._breaker.record(ok=False)
                return [self._from_memory(query, "store_slow") for query in queries]
            return await self._fall_back(queries, "deadline")
        except NothingKnown:
            raise
        except Exception:  # the bundle's own code met rows that it cannot handle
            return await self._fall_back(queries, "scoring_failed")
        for i, answer in enumerate(answers):
            if answer.fallback:
                answers[i] = (await self._fall_back([queries[i]], answer.fallback))[0]
        return answers

    def _prepare(self, bundle: Bundle, queries: Sequence[Query], stages_ms: dict[str, float | None]) -> _Prepared:
        """Hydrate all queries with one read a kind of row, compute their features and, unless micro-batched, predict."""
        start, stages_ms["hydrate"] = time.perf_counter(), None
        users = self._store.rows("user", [query.user_id for query in queries])
        wanted = list(dict.fromkeys(i for query in queries for i in query.item_ids))
        rows = {i: row for i, row in zip(wanted, self._store.rows("item", wanted), strict=True) if row is not None}
        who = dict(zip(rows, self._store.who(bundle.live, list(rows)), strict=True)) if bundle.live else dict.fromkeys(rows, frozenset())
        hydrated = time.perf_counter()
        stages_ms["hydrate"] = (hydrated - start) * 1000
        item_ids = [[i for i in query.item_ids if i in rows] for query in queries]
        if not all(item_ids):
            raise NothingKnown("the store knows none of the candidates")
        items = [[rows[i] for i in ids] for ids in item_ids]
        blocks = [
            bundle.features(user, its, [who[i] for i in ids], query.as_of) if user is not None else None
            for user, its, ids, query in zip(users, items, item_ids, queries, strict=True)
        ]
        known = [block for block in blocks if block is not None]
        matrix = np.concatenate(known) if known else np.empty((0, bundle.model.num_feature()))
        computed = time.perf_counter()
        stages_ms["features"] = (computed - hydrated) * 1000
        prepared = _Prepared(bundle, users, items, item_ids, matrix, stages_ms)
        if self._micro is None:
            prepared.p = bundle.predict(matrix)
            stages_ms["predict"] = (time.perf_counter() - computed) * 1000
        return prepared

    # ---------- the precomputed list ----------

    async def read_list(self, user_id: int, k: int) -> Answer:
        """The user's list from the store; if there is none, the list for anyone; if there is no store, what is popular.

        Raises Unavailable if there is nothing at all to show.
        """
        start = time.perf_counter()
        top, reason = await self._read_store(user_id, self._limits.deadline_ms)
        if top is not None:
            stages = dict(hydrate=(time.perf_counter() - start) * 1000)
            return Answer(user_id, top.items[:k], top.scores[:k], "batch", top.model_version, top.generated_at, reason, stages_ms=stages)
        bundle = self._bundles.bundle
        if bundle is None or not bundle.popular:
            raise Unavailable(reason or "no_list", f"no list for user {user_id} ({reason}) and no model to fall back on; try again later")
        items = bundle.popular[:k]
        return Answer(user_id, items, (None,) * len(items), "popular", bundle.version, time.time(), reason)

    async def _read_store(self, user_id: int, within_ms: float) -> tuple[TopK | None, str | None]:
        """The list of a user, or of anyone; and why it is not the user's own."""
        if not self._breaker.allows():
            return None, "store_down"
        begun = threading.Event()

        def read() -> tuple[TopK | None, str | None]:
            begun.set()
            own = self._store.read(user_id)
            return (own, None) if own is not None else (self._store.read(ANYONE), "no_list")

        try:
            async with asyncio.timeout(within_ms / 1000):
                found = await self._in_thread(read)
        except StoreError as error:
            self._breaker.record(ok=not isinstance(error, StoreDown | StoreSlow))
            return None, error.reason
        except TimeoutError:
            if not begun.is_set():  # no thread was free: that is our load and not the store's fault
                return None, "overload"
            self._breaker.record(ok=False)
            return None, "store_slow"
        self._breaker.record(ok=True)
        return found

    # ---------- fallbacks: always the candidates that were asked for, in the best order still to be had ----------

    async def _fall_back(self, queries: Sequence[Query], reason: str) -> list[Answer]:
        answers = []
        for query in queries:
            top, _ = await self._read_store(query.user_id, self._limits.fallback_ms)
            position = {} if top is None else {item: i for i, item in enumerate(top.items)}
            listed = sorted((i for i in query.item_ids if i in position), key=position.__getitem__)
            if not listed:
                answers.append(self._from_memory(query, reason))
                continue
            rest = [i for i in query.item_ids if i not in position]
            ids = tuple(listed + rest)[: query.k]
            scores = tuple(top.scores[position[i]] if i in position else None for i in ids)
            answers.append(Answer(query.user_id, ids, scores, "batch", top.model_version, top.generated_at, reason))
        return answers

    def _from_memory(self, query: Query, reason: str) -> Answer:
        """Candidates by popularity, else as they were given; touches nothing outside this process."""
        bundle = self._bundles.bundle
        position = {} if bundle is None else {item: i for i, item in enumerate(bundle.popular)}
        ids = tuple(sorted(query.item_ids, key=lambda i: position.get(i, math.inf)))[: query.k]
        popular = any(i in position for i in ids)
        version = bundle.version if popular else None
        return Answer(query.user_id, ids, (None,) * len(ids), "popular" if popular else "as_given", version, time.time(), reason)

    async def _in_thread(self, work: Callable, *args: Any) -> Any:
        return await asyncio.get_running_loop().run_in_executor(self._threads, work, *args)

    def close(self) -> None:
        """Stop the threads; calls that have begun end."""
        if self._micro is not None:
            self._micro.close()
        self._threads.shutdown(wait=False, cancel_futures=True)


def _predict_together(batch: list[_Prepared]) -> list[np.ndarray]:
    """Predict the rows of many calls at once, bundle by bundle: two versions never share a model call."""
    outputs: list[np.ndarray | None] = [None] * len(batch)
    for bundle in {id(p.bundle): p.bundle for p in batch}.values():
        mine = [i for i, p in enumerate(batch) if p.bundle is bundle]
        predicted = bundle.predict(np.concatenate([batch[i].matrix for i in mine]))
        ends = np.cumsum([len(batch[i].matrix) for i in mine])
        for i, part in zip(mine, np.split(predicted, ends[:-1]), strict=True):
            outputs[i] = part
    return outputs


def _assemble_answers(queries: Sequence[Query], prepared: _Prepared) -> list[Answer]:
    """Combine and sort each query's scores. An answer that must not be given has `fallback` set and no items."""
    start, at, answers = time.perf_counter(), 0, []
    bundle = prepared.bundle
    for query, user, items, ids in zip(queries, prepared.users, prepared.items, prepared.item_ids, strict=True):
        empty = Answer(query.user_id, (), (), "online", bundle.version, time.time())
        if user is None:
            answers.append(replace(empty, fallback="unknown_user"))
            continue
        scores = bundle.combine(prepared.p[at : at + len(ids)], items)
        at += len(ids)
        if scores.shape != (len(ids),) or not np.isfinite(scores).all():
            answers.append(replace(empty, fallback="bad_scores"))
            continue
        best = np.argsort(-scores, kind="stable")[: query.k]
        answers.append(
            replace(
                empty,
                item_ids=tuple(ids[i] for i in best),
                scores=tuple(float(scores[i]) for i in best),
                unknown_items=len(query.item_ids) - len(ids),
                stages_ms=prepared.stages_ms,
            )
        )
    prepared.stages_ms["rank"] = (time.perf_counter() - start) * 1000
    return answers
