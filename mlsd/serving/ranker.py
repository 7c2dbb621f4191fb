"""From a validated request to an answer: hydrate, compute features, predict, rank; or a counted fallback.

An answer is made by one bundle from its first step to its last, or by one published list, and says which.
Ranking and lists have threads of their own, so that a slow model does not take last night's list with it.
"""

from __future__ import annotations

import asyncio
import itertools
import math
import secrets
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, field

import numpy as np

from mlsd.serving.backends import StoreDown, StoreError, StoreSlow
from mlsd.serving.bundle import Bundle, BundleSource
from mlsd.serving.mechanisms import Breaker, Limits, MicroBatcher, RowCache, in_thread
from mlsd.serving.scoring import Live
from mlsd.serving.store import ANYONE, Store, TopK

LIST_THREADS = 2
MAX_BAD_ROWS = 8  # of one request; with more, it is not the rows that are bad but the code
_PROCESS, _NUMBER = secrets.token_hex(6), itertools.count()


@dataclass(frozen=True)
class Query:
    """One user's candidates to rank; `as_of` (Unix seconds) is the clock of the features."""

    user_id: int
    item_ids: Sequence[int]
    k: int
    as_of: float


def _request_id() -> str:
    return f"{_PROCESS}-{next(_NUMBER)}"


@dataclass
class Answer:
    """A ranked list and where it comes from. scores are None for items that no model has scored."""

    user_id: int
    item_ids: list[int]
    scores: list[float | None]
    source: str  # online, batch, popular, as_given
    model_version: str | None
    generated_at: float
    fallback: str | None = None  # the reason, if this is not what was asked for
    unknown_items: int = 0
    bad_items: int = 0  # those among the unknown whose rows exist and cannot be scored
    as_of: float | None = None
    encoder_version: str | None = None
    features: np.ndarray | None = None  # what the model saw, a row an item shown
    stages_ms: dict[str, float] = field(default_factory=dict)
    request_id: str = field(default_factory=_request_id)


class Unavailable(RuntimeError):
    """There is nothing to answer with. `reason` is fit for a metric's label."""

    def __init__(self, reason: str, message: str) -> None:
        super().__init__(message)
        self.reason = reason


@dataclass
class _Caller:
    """Who waits from `arrived` to `give_up_at`, and what became of that time as far as the store took it (seconds)."""

    arrived: float
    give_up_at: float
    begun: bool = False  # it has got a thread
    held_s: float = 0.0  # it waited for that thread, which waited for the store
    asking_since: float | None = None  # the store is being asked, since then ...
    asked_s: float = 0.0  # ... or has answered, after so long


class _StoreTime:
    """What the callers of one pool of threads wait for the store: each in its own reads, or for threads that others' reads hold."""

    def __init__(self, threads: int) -> None:
        self._threads = threads
        self._reads: dict[int, tuple[float, float | None]] = {}  # of each thread the last: its beginning, and its end if it has ended

    def begin(self, caller: _Caller) -> None:
        """In the caller's thread, first of all."""
        begun, ended = self._reads.get(threading.get_ident(), (0.0, 0.0))
        caller.held_s, caller.begun = max(0.0, ended - max(begun, caller.arrived)), True

    @contextmanager
    def reading(self, caller: _Caller) -> Iterator[None]:
        """In the caller's thread, around all that is asked of the store."""
        begun = caller.asking_since = time.monotonic()
        self._reads[threading.get_ident()] = (begun, None)
        try:
            yield
        finally:
            ended = time.monotonic()
            self._reads[threading.get_ident()] = (begun, ended)
            caller.asked_s, caller.asking_since = ended - begun, None

    def eaten_s(self, caller: _Caller, now: float) -> float:
        """How much of the caller's time the store took until now."""
        if caller.begun:
            return caller.held_s + (caller.asked_s if caller.asking_since is None else now - caller.asking_since)
        open_reads = [begun for begun, ended in list(self._reads.values()) if ended is None]
        return now - max(caller.arrived, *open_reads) if len(open_reads) >= self._threads else 0.0


@dataclass
class _Work:
    """The queries of one call on their way to scores."""

    bundle: Bundle
    queries: Sequence[Query]
    caller: _Caller
    parts: list[_Part] = field(default_factory=list)
    matrix: np.ndarray | None = None
    stages_ms: dict[str, float] = field(default_factory=dict)


@dataclass
class _Part:
    """One query with the rows of its candidates that the store knows; or why it cannot be ranked."""

    query: Query
    ids: list[int]
    items: list[dict]
    matrix: np.ndarray | None = None
    fallback: str | None = None
    bad: int = 0  # candidates left out because the bundle's code failed on their rows


class Ranker:
    """Answers queries with the current bundle and the store; every failure becomes a fallback with a reason."""

    def __init__(self, store: Store, bundles: BundleSource, limits: Limits) -> None:
        self._store, self._bundles, self._limits = store, bundles, limits
        self._model_threads = ThreadPoolExecutor(limits.threads, thread_name_prefix="model")
        self._list_threads = ThreadPoolExecutor(LIST_THREADS, thread_name_prefix="lists")
        self._ranking, self._listing = _StoreTime(limits.threads), _StoreTime(LIST_THREADS)
        self._breaker = Breaker(limits.breaker_failures, limits.breaker_open_s)
        self._micro = MicroBatcher(_predict_together, limits.micro_batch, limits.micro_wait_ms / 1000) if limits.micro_batch else None
        self._item_rows = RowCache(lambda ids, version: store.rows("item", ids, version), limits.row_age_s)
        self._takes_s = 0.0  # how long the work of a call has taken, smoothed
        self._nothing_known = 0  # calls in a row of whose candidates the store knew none

    def degraded(self) -> list[str]:
        """What on-call should know of the store, as the last requests have met it."""
        found = ["store: failed several times in a row and is being left alone"] if self._breaker.open else []
        if self._nothing_known >= 3:
            found.append("store: knows none of the candidates of the last requests; was it emptied, or not filled for this encoder?")
        return found

    # ---------- online ----------

    async def rank(self, queries: Sequence[Query], arrived: float | None = None) -> list[Answer]:
        """Rank each query's candidates; all queries are scored in one model call. `arrived`: time.monotonic() then."""
        arrived = time.monotonic() if arrived is None else arrived
        due = arrived + self._limits.deadline_ms / 1000
        bundle = self._bundles.bundle
        if bundle is None:
            return await self._fall_back(queries, "no_model", due)
        if not self._breaker.allows():
            return [self._from_memory(query, "store_down") for query in queries]
        caller = _Caller(arrived, arrived + (1 - self._limits.fallback_share) * self._limits.deadline_ms / 1000)
        work = _Work(bundle, queries, caller)
        try:
            async with asyncio.timeout(caller.give_up_at - time.monotonic()):
                if self._micro is None:
                    answers = await in_thread(self._model_threads, self._rank, work)
                else:
                    await in_thread(self._model_threads, self._prepare, work)
                    start = time.perf_counter()
                    p = await self._micro(work)
                    work.stages_ms["predict"] = (time.perf_counter() - start) * 1000
                    answers = _finish(work, p)
            self._breaker.record(ok=True)
        except StoreError as error:
            self._breaker.record(ok=not isinstance(error, StoreDown | StoreSlow))
            return [self._from_memory(query, error.reason) for query in queries]
        except TimeoutError:
            if self._is_the_stores_fault(self._ranking, caller):
                return [self._from_memory(query, "store_slow") for query in queries]
            return await self._fall_back(queries, "deadline", due)
        except Exception:  # the bundle's own code met rows that it cannot handle
            return await self._fall_back(queries, "scoring_failed", due)
        self._nothing_known = self._nothing_known + 1 if all(part.fallback == "unknown_items" for part in work.parts) else 0
        return [a if isinstance(a, Answer) else (await self._fall_back([q], a, due))[0] for q, a in zip(queries, answers, strict=True)]

    def _rank(self, work: _Work) -> list[Answer | str]:
        """All steps, in one thread."""
        begun = time.perf_counter()
        self._prepare(work)
        start = time.perf_counter()
        p = work.bundle.predict(work.matrix)
        work.stages_ms["predict"] = (time.perf_counter() - start) * 1000
        answers = _finish(work, p)
        self._takes_s += 0.1 * (time.perf_counter() - begun - self._takes_s)
        return answers

    def _prepare(self, work: _Work) -> None:
        """Hydrate all queries with one read a kind of row, and compute their features."""
        caller = work.caller
        self._ranking.begin(caller)
        if time.monotonic() + min(self._takes_s, self._limits.deadline_ms / 4000) > caller.give_up_at:
            raise TimeoutError  # it would come too late: leave the time to one that can still be in time
        start = time.perf_counter()
        with self._ranking.reading(caller):
            users, lives = self._hydrate(work)
        _stop_if_late(caller)
        hydrated = time.perf_counter()
        bundle = work.bundle
        for part, user, live in zip(work.parts, users, lives, strict=True):
            if live is not None:
                _compute_features(bundle, part, user, live)
        known = [part.matrix for part in work.parts if part.matrix is not None]
        work.matrix = np.concatenate(known) if len(known) > 1 else known[0] if known else np.empty((0, bundle.model.num_feature()))
        work.stages_ms |= dict(hydrate=(hydrated - start) * 1000, features=(time.perf_counter() - hydrated) * 1000)

    def _hydrate(self, work: _Work) -> tuple[list[dict | None], list[Live | None]]:
        """Fill work.parts; returns the row and the live counts of each query. No read begins after the caller has given up."""
        version = work.bundle.encoder_version
        users = self._store.rows("user", [query.user_id for query in work.queries], version)
        _stop_if_late(work.caller)
        rows = self._item_rows(list(dict.fromkeys(itertools.chain.from_iterable(q.item_ids for q in work.queries))), version)
        lives = []
        for query, user in zip(work.queries, users, strict=True):
            part = _Part(query, [i for i in query.item_ids if i in rows], [rows[i] for i in query.item_ids if i in rows])
            part.fallback = "unknown_items" if not part.ids else "unknown_user" if user is None else None
            work.parts.append(part)
            _stop_if_late(work.caller)
            lives.append(None if part.fallback else self._live(work.bundle.live, part.ids, user))
        return users, lives

    def _live(self, kind: str | None, ids: list[int], user: dict) -> Live:
        """Counts and an intersection made by the store: what is popular costs no more to hydrate than what is not."""
        if kind is None:
            return Live.of(np.zeros(len(ids)), np.zeros(len(ids)))
        return Live.of(*self._store.live(kind, ids, user.get("friends", ())))

    def _is_the_stores_fault(self, pool: _StoreTime, caller: _Caller) -> bool:
        """At a time-out: was it the store, or the model, or this process? The breaker hears of the first.

        The store's fault is a read that still lasts and is over its limit, or half of the caller's time and more than that limit.
        """
        now, limit = time.monotonic(), self._limits.store_ms / 1000
        eaten, lasts = pool.eaten_s(caller, now), caller.asking_since is not None and now - caller.asking_since > limit
        blamed = (lasts or eaten > max(limit, (caller.give_up_at - caller.arrived) / 2)) and now - caller.give_up_at < eaten / 4
        if blamed:
            self._breaker.record(ok=False)
        return blamed

    # ---------- the precomputed list ----------

    async def read_list(self, user_id: int, k: int, arrived: float | None = None) -> Answer:
        """The user's list from the store; if there is none, the list for anyone; if there is no store, what is popular.

        Raises Unavailable if there is nothing at all to show.
        """
        start = time.perf_counter()
        arrived = time.monotonic() if arrived is None else arrived
        [(top, reason)] = await self._read_lists([user_id], arrived + self._limits.deadline_ms / 1000)
        if top is not None:
            stages = dict(hydrate=(time.perf_counter() - start) * 1000)
            items, scores = list(top.items[:k]), list(top.scores[:k])
            return Answer(user_id, items, scores, "batch", top.model_version, top.generated_at, reason, stages_ms=stages)
        answer = self.popular(reason, k)
        if answer is None:
            raise Unavailable(reason or "no_list", f"no list for user {user_id} ({reason}) and no model to fall back on; try again later")
        answer.user_id = user_id
        return answer

    async def _read_lists(self, user_ids: Sequence[int], due: float) -> list[tuple[TopK | None, str | None]]:
        """For each user the best list there is, and why it is not the user's own."""
        if not self._breaker.allows():
            return [(None, "store_down")] * len(user_ids)
        caller = _Caller(time.monotonic(), due)

        def read() -> list[tuple[TopK | None, str | None]]:
            self._listing.begin(caller)
            with self._listing.reading(caller):
                return [self._list_of(user_id) for user_id in user_ids]

        try:
            async with asyncio.timeout(due - time.monotonic()):
                found = await in_thread(self._list_threads, read)
        except StoreError as error:
            self._breaker.record(ok=False)
            return [(None, error.reason)] * len(user_ids)
        except TimeoutError:
            return [(None, "store_slow" if self._is_the_stores_fault(self._listing, caller) else "deadline")] * len(user_ids)
        self._breaker.record(ok=True)
        return found

    def _list_of(self, user_id: int) -> tuple[TopK | None, str | None]:
        reason = None
        for owner in (user_id, ANYONE):
            try:
                top = self._store.read(owner)
            except (StoreDown, StoreSlow):
                raise
            except Exception:  # whatever a damaged record may hold
                reason = reason or "list_corrupt"
                continue
            if top is not None and top.items:
                return top, reason
            reason = reason or ("no_list" if top is None else "empty_list")
        return None, reason

    # ---------- fallbacks: always the candidates that were asked for, in the best order still to be had ----------

    async def _fall_back(self, queries: Sequence[Query], reason: str, due: float) -> list[Answer]:
        answers = []
        for query, (top, _) in zip(queries, await self._read_lists([q.user_id for q in queries], due), strict=True):
            listed = {} if top is None else dict(zip(top.items, top.scores, strict=False))
            asked = set(query.item_ids)
            first = [i for i in listed if i in asked]
            if not first:
                answers.append(self._from_memory(query, reason))
                continue
            ids = (first + [i for i in query.item_ids if i not in listed])[: query.k]
            scores = [listed.get(i) for i in ids]
            answers.append(Answer(query.user_id, ids, scores, "batch", top.model_version, top.generated_at, reason))
        return answers

    def _from_memory(self, query: Query, reason: str) -> Answer:
        """Candidates by popularity, else as they were given; touches nothing outside this process."""
        bundle = self._bundles.bundle
        position = {} if bundle is None else {item: i for i, item in enumerate(bundle.popular)}
        ids = sorted(query.item_ids, key=lambda i: position.get(i, math.inf))[: query.k]
        popular = any(i in position for i in ids)
        version = bundle.version if popular else None
        return Answer(query.user_id, ids, [None] * len(ids), "popular" if popular else "as_given", version, time.time(), reason)

    def popular(self, reason: str | None, k: int) -> Answer | None:
        """What is popular, for nobody in particular; None if no bundle says what that is."""
        bundle = self._bundles.bundle
        if bundle is None or not bundle.popular:
            return None
        items = list(bundle.popular[:k])
        return Answer(-1, items, [None] * len(items), "popular", bundle.version, time.time(), reason)

    def close(self) -> None:
        """Stop the threads; waits for none, since one may be stuck."""
        if self._micro is not None:
            self._micro.close()
        for threads in (self._model_threads, self._list_threads):
            threads.shutdown(wait=False, cancel_futures=True)


def _stop_if_late(caller: _Caller) -> None:
    if time.monotonic() > caller.give_up_at:
        raise TimeoutError


def _compute_features(bundle: Bundle, part: _Part, user: dict, live: Live) -> None:
    """Fill part.matrix. A row on which the bundle's code fails is left out, unless there are too many of them."""

    def features(items: list[dict], live: Live) -> np.ndarray:
        matrix = bundle.features(user, items, live, part.query.as_of)
        if matrix.shape != (len(items), bundle.model.num_feature()):
            raise ValueError(f"features: expected shape {(len(items), bundle.model.num_feature())}, found {matrix.shape}")
        return matrix

    def one(i: int) -> np.ndarray:
        return features(part.items[i : i + 1], Live(live.total[i : i + 1], live.of_friends[i : i + 1]))

    try:
        part.matrix = features(part.items, live)
    except Exception:  # whatever the bundle's code raises
        good = _one_by_one(one, len(part.items))
        part.matrix, part.bad = np.concatenate(list(good.values())), len(part.items) - len(good)
        part.ids, part.items = [part.ids[i] for i in good], [part.items[i] for i in good]


def _one_by_one(work: Callable[[int], np.ndarray], n: int) -> dict[int, np.ndarray]:
    """Results of work(0) ... work(n - 1) without those that raise; raises itself if these are many, or all."""
    good, bad = {}, 0
    for i in range(n):
        try:
            good[i] = work(i)
        except Exception:  # whatever the bundle's code raises
            bad += 1
            if bad > MAX_BAD_ROWS or bad == n:
                raise
    return good


def _predict_together(batch: list[_Work]) -> list[np.ndarray]:
    """Predict the rows of many calls at once, bundle by bundle: two versions never share a model call."""
    outputs: list[np.ndarray | None] = [None] * len(batch)
    for bundle in {id(work.bundle): work.bundle for work in batch}.values():
        mine = [i for i, work in enumerate(batch) if work.bundle is bundle]
        predicted = bundle.predict(np.concatenate([batch[i].matrix for i in mine]))
        ends = np.cumsum([len(batch[i].matrix) for i in mine])
        for i, part in zip(mine, np.split(predicted, ends[:-1]), strict=True):
            outputs[i] = part
    return outputs


def _finish(work: _Work, p: np.ndarray) -> list[Answer | str]:
    """Combine and sort each query's scores; for a query that cannot be ranked, the reason."""
    start, at, answers, bundle = time.perf_counter(), 0, [], work.bundle
    for part in work.parts:
        if part.fallback:
            answers.append(part.fallback)
            continue
        mine = p[at : at + len(part.ids)]
        at += len(part.ids)
        scores = _combine(bundle, mine, part.items)
        usable = np.flatnonzero(np.isfinite(scores))
        if not len(usable):
            answers.append("bad_scores")
            continue
        best = usable[np.argsort(-scores[usable], kind="stable")[: part.query.k]]
        unknown = len(part.query.item_ids) - len(usable)
        answers.append(
            Answer(
                part.query.user_id,
                [part.ids[i] for i in best],
                scores[best].tolist(),
                "online",
                bundle.version,
                time.time(),
                unknown_items=unknown,
                bad_items=part.bad + len(part.ids) - len(usable),
                as_of=part.query.as_of,
                encoder_version=bundle.encoder_version,
                features=part.matrix[best],
                stages_ms=work.stages_ms,
            )
        )
    work.stages_ms["rank"] = (time.perf_counter() - start) * 1000
    return answers


def _combine(bundle: Bundle, p: np.ndarray, items: list[dict]) -> np.ndarray:
    """Scores, shape (len(items),); NaN for an item on whose row the bundle's code fails."""
    try:
        scores = bundle.combine(p, items)
        if scores.shape == (len(items),):
            return scores
    except Exception:  # whatever the bundle's code raises
        pass
    scores = np.full(len(items), np.nan)
    for i, value in _one_by_one(lambda i: bundle.combine(p[i : i + 1], items[i : i + 1]), len(items)).items():
        scores[i] = value[0]
    return scores
