"""The ranking service: FastAPI on uvicorn, in a process of its own.

    python -m mlsd.serving --store redis://127.0.0.1:6379/0 --bundles bundles/ --port 8000

Every answer says who made it (`source`, `model_version`) and, if it is not what was asked for, why
(`fallback`). Every answer, errors too, is counted under these labels at /metrics. `process.Service` starts and stops it.
"""

from __future__ import annotations

import argparse
import asyncio
import dataclasses
import functools
import gc
import inspect
import json
import os
import signal
import socket
import sys
import threading
import time
from collections.abc import AsyncIterator, Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Annotated, get_type_hints

import orjson
import uvicorn
from fastapi import FastAPI, Query, Request, Response
from fastapi.exceptions import RequestValidationError
from fastapi.routing import APIRoute
from prometheus_client import CONTENT_TYPE_LATEST, CollectorRegistry, Counter, Gauge, Histogram, generate_latest
from pydantic import BaseModel, Field, ValidationError
from starlette.exceptions import HTTPException

from mlsd.serving import ranker as ranking
from mlsd.serving.api import MAX_BODY, MAX_K, Accepted, Event, Health, Problem, RankManyRequest, RankManyResponse, RankRequest, RankResponse
from mlsd.serving.backends import StoreError, open_backend
from mlsd.serving.bundle import BundleSource
from mlsd.serving.connections import BACKLOG, Connections, Protocol
from mlsd.serving.faults import FaultyKeyValue
from mlsd.serving.mechanisms import Limits, MicroBatcher, Overload, in_thread
from mlsd.serving.ranker import Answer, Ranker, Unavailable
from mlsd.serving.served import ServedLog
from mlsd.serving.store import EventConflict, EventsRefused, Store

RELOAD_S = 0.2  # how often the service looks for a new bundle
LOOK_S = 0.5  # how often it looks after the store
GRACE_S = 3  # for what has begun when the service is told to end; then it ends all the same
RANKING = {"/v1/rank": "rank", "/v1/rank_many": "rank_many"}  # and /v1/lists/...: what `Limits.max_in_flight` bounds


class Metrics:
    """What the service counts, in Prometheus' terms."""

    def __init__(self) -> None:
        self.registry = CollectorRegistry()
        count = functools.partial(Counter, registry=self.registry)
        labels = ["route", "status", "source", "reason", "version"]
        self.answers = count("answers", "Every answer to a request; of rank_many every list", labels)
        self.bundles = count("bundles", "Bundles met since the start", ["outcome"])
        self.bad_rows = count("bad_rows", "Candidates left out of an answer because their rows could not be scored")
        self.closed = count("connections_closed", "Connections closed by the service before a request had come in", ["why"])
        self.log_dropped = count("served_log_dropped", "Answers that are missing in the log of served answers")
        self.corrupt = Gauge("corrupt_records", "Records of the store found altered and left out", ["kind"], registry=self.registry)
        self.in_flight = Gauge("in_flight", "Ranking requests being worked on", registry=self.registry)
        self.loop_lag = Gauge("loop_lag_seconds", "How late the event loop was when last looked at", registry=self.registry)
        self.stage = Histogram(
            "stage_seconds",
            "Time in each stage of an answer",
            ["stage"],
            registry=self.registry,
            buckets=(0.0001, 0.0003, 0.001, 0.003, 0.01, 0.03, 0.1, 0.3, 1.0),
        )

    def count(self, route: str, status: int, answer: Answer | None = None) -> None:
        """Count one answer, and time its stages if it is a list."""
        if answer is None:
            self.answers.labels(route, status, "none", "none", "none").inc()
            return
        self.answers.labels(route, status, answer.source, answer.fallback or "none", answer.model_version or "none").inc()
        for stage, ms in answer.stages_ms.items():
            self.stage.labels(stage).observe(ms / 1000)
        if answer.bad_items:
            self.bad_rows.inc(answer.bad_items)


# ---------- answers ----------


def _json(content: object, status: int = 200, headers: dict[str, str] | None = None) -> Response:
    return Response(orjson.dumps(content), status, headers, "application/json")


def _problem(status: int, detail: str, where: list[str] | None = None, retry: bool = False) -> Response:
    return _json(dict(detail=detail, where=where or []), status, {"Retry-After": "1"} if retry else None)


def _as_response(answer: Answer, known: bool = True) -> dict:
    """An answer in the words of api.RankResponse; not `known`: nobody has looked at who asks."""
    return dict(
        request_id=answer.request_id if known else None,
        user_id=answer.user_id if known else None,
        items=[dict(item_id=i, score=s) for i, s in zip(answer.item_ids, answer.scores, strict=True)],
        source=answer.source,
        model_version=answer.model_version,
        generated_at=answer.generated_at,
        fallback=answer.fallback,
        unknown_items=answer.unknown_items,
    )


async def _body(request: Request) -> bytes:
    """The body, refused as soon as it is too large, whether or not it announces its length."""
    chunks, size = [], 0
    async for chunk in request.stream():
        chunks.append(chunk)
        size += len(chunk)
        if size > MAX_BODY:
            raise HTTPException(413, f"the body is larger than {MAX_BODY} bytes", {"Connection": "close"})
    return b"".join(chunks)


class Direct(APIRoute):
    """A route whose endpoint takes (request, model) or (request) and returns a Response.

    FastAPI writes the schema from the signature; the body goes from bytes to the model in one step, by pydantic's parser,
    which is fast and knows how deep it may nest.
    """

    def __init__(self, path: str, endpoint: Callable, **options: object) -> None:
        super().__init__(path, endpoint, **options)
        hints = [get_type_hints(endpoint).get(name) for name in inspect.signature(endpoint).parameters]
        self._model = next((h for h in hints if isinstance(h, type) and issubclass(h, BaseModel)), None)
        self.app = self._answer

    async def _answer(self, scope: dict, receive: Callable, send: Callable) -> None:
        request = Request(scope, receive)
        if self._model is None:
            response = await self.endpoint(request)
        else:
            try:
                ask = self._model.model_validate_json(await _body(request))
            except ValidationError as error:
                raise RequestValidationError(error.errors(include_input=False, include_url=False)) from error
            response = await self.endpoint(request, ask)
        await response(scope, receive, send)


class Gate:
    """The outermost layer: sheds what is too much before it is read, and counts every answer by what it was."""

    def __init__(self, app: FastAPI, metrics: Metrics, limits: Limits, ranker: Ranker) -> None:
        self._app, self._metrics, self._limits, self._ranker = app, metrics, limits, ranker
        self._in_flight = 0
        metrics.in_flight.set_function(lambda: self._in_flight)
        self._popular: tuple[Answer, bytes] | None = None
        self._popular_at = -1.0  # made anew every second: the bundle may have changed

    async def __call__(self, scope: dict, receive: Callable, send: Callable) -> None:
        if scope["type"] != "http":
            return await self._app(scope, receive, send)

        async def counted(message: dict) -> None:
            if message["type"] == "http.response.start":
                route = getattr(scope.get("route"), "name", "unknown")
                for answer in scope.get("answers", [None]):
                    self._metrics.count(route, message["status"], answer)
            await send(message)

        path = scope["path"]
        route = RANKING.get(path) or ("lists" if path.startswith("/v1/lists/") else None)
        if route is None:
            return await self._app(scope, receive, counted)
        if self._in_flight >= self._limits.max_in_flight:
            return await self._shed(route, scope, receive, send)
        self._in_flight += 1
        try:
            await self._app(scope, receive, counted)
        finally:
            self._in_flight -= 1

    async def _shed(self, route: str, scope: dict, receive: Callable, send: Callable) -> None:
        """What is popular, at once and from bytes made before; a caller of rank_many, who can wait, is asked to."""
        if time.monotonic() - self._popular_at > 1:
            self._popular_at, answer = time.monotonic(), self._ranker.popular("overload", 10)
            self._popular = None if answer is None else (answer, orjson.dumps(_as_response(answer, known=False)))
        if route == "rank_many" or self._popular is None:
            self._metrics.count(route, 503)
            return await _problem(503, "overload: try again later", retry=True)(scope, receive, send)
        answer, body = self._popular
        self._metrics.count(route, 200, answer)
        headers = [(b"content-type", b"application/json"), (b"content-length", b"%d" % len(body))]
        await send({"type": "http.response.start", "status": 200, "headers": headers})
        await send({"type": "http.response.body", "body": body})


# ---------- the application ----------


class Watch:
    """What the service looks after by itself: a new bundle, and the store's state for /health/ready.

    Each has a thread of its own: a store that hangs keeps no bundle from being loaded, and no health check waits for either.
    """

    def __init__(self, store: Store, bundles: BundleSource, metrics: Metrics) -> None:
        self._store, self._bundles, self._metrics = store, bundles, metrics
        self._threads = [ThreadPoolExecutor(1, thread_name_prefix=name) for name in ("bundles", "store-check")]
        self.list_version: str | None = None
        self._store_error: str | None = None
        self._asked_at: float | None = None

    async def load(self) -> None:
        """Load the bundle if there is a new one."""
        if await in_thread(self._threads[0], self._bundles.refresh):
            self._metrics.bundles.labels("refused" if self._bundles.error else "loaded").inc()

    async def bundles(self) -> None:
        """For ever."""
        while True:
            await asyncio.sleep(RELOAD_S)
            await self.load()

    async def store(self) -> None:
        """For ever."""
        while True:
            self._asked_at = time.monotonic()
            try:
                self.list_version = await in_thread(self._threads[1], self._store.current)
                self._store_error = None if self.list_version else "it has no published lists"
            except Exception as error:  # down, slow, damaged: whatever it is, look again
                self._store_error = str(error)
            self._asked_at = None
            for kind, n in list(self._store.corrupt.items()):
                self._metrics.corrupt.labels(kind).set(n)
            await asyncio.sleep(LOOK_S)

    def degraded(self) -> list[str]:
        """Why the service cannot do all it should."""
        found = [self._bundles.error] if self._bundles.error else []
        if self._asked_at is not None and time.monotonic() - self._asked_at > LOOK_S:
            found.append(f"store: no answer for {time.monotonic() - self._asked_at:.1f} s")
        elif self._store_error:
            found.append(f"store: {self._store_error}")
        return found

    def close(self) -> None:
        """Stop looking."""
        for thread in self._threads:
            thread.shutdown(wait=False, cancel_futures=True)


def create_app(store: Store, bundles: BundleSource, limits: Limits, metrics: Metrics, served_log: str | None = None) -> Gate:
    """The application: an ASGI callable. The caller closes the store."""
    ranker, watch = Ranker(store, bundles, limits), Watch(store, bundles, metrics)
    log = ServedLog(served_log, metrics.log_dropped.inc) if served_log else None
    commit = MicroBatcher(functools.partial(_keep, store), max_size=1_000, max_waiting=limits.max_events)

    @asynccontextmanager
    async def lifespan(app: FastAPI) -> AsyncIterator[None]:
        await watch.load()
        gc.collect()
        gc.freeze()  # what the imports made will live for ever: without this, each full collection walks it, for 90 ms
        looking = [asyncio.create_task(watch.bundles()), asyncio.create_task(watch.store())]
        yield
        for task in looking:
            task.cancel()
        for part in (watch, commit, ranker, *([log] if log else [])):
            part.close()

    app = FastAPI(title="Ranking service", version="1", lifespan=lifespan, docs_url=None, redoc_url=None)
    app.router.route_class = Direct
    add_error_handlers(app)
    add_ranking(app, ranker, log)
    add_events(app, commit, limits)
    add_operations(app, bundles, metrics, lambda: watch.list_version, lambda: watch.degraded() + ranker.degraded())
    return Gate(app, metrics, limits, ranker)


def _keep(store: Store, events: list[tuple[str, str, int, int]]) -> list:
    """Commit events together; for each that the store refused, its error."""
    try:
        store.accept(events)
        return events
    except EventsRefused as error:
        return [error.refused.get(i, event) for i, event in enumerate(events)]


def _errors(*statuses: int) -> dict:
    return {status: dict(model=Problem) for status in statuses}


def add_error_handlers(app: FastAPI) -> None:
    """Errors as api.Problem: what was wrong and where, without the input: it may be huge, secret, or no valid JSON."""

    @app.exception_handler(RequestValidationError)
    async def invalid(request: Request, error: RequestValidationError) -> Response:
        first = error.errors()[0]
        return _problem(422, first["msg"], [str(part) for part in first["loc"]])

    @app.exception_handler(HTTPException)
    async def http_error(request: Request, error: HTTPException) -> Response:
        response = _problem(error.status_code, str(error.detail))
        response.headers.update(error.headers or {})
        return response

    @app.exception_handler(EventConflict)
    async def conflict(request: Request, error: EventConflict) -> Response:
        return _problem(409, str(error))

    @app.exception_handler(Unavailable)
    @app.exception_handler(StoreError)
    @app.exception_handler(Overload)
    async def unavailable(request: Request, error: Unavailable | StoreError | Overload) -> Response:
        return _problem(503, str(error) if isinstance(error, Unavailable) else f"{error.reason}: try again later", retry=True)

    @app.exception_handler(Exception)
    async def failed(request: Request, error: Exception) -> Response:
        return _problem(500, "an error in the service; it has been logged")


def add_ranking(app: FastAPI, ranker: Ranker, log: ServedLog | None) -> None:
    """The routes that answer with lists."""

    def answer_with(request: Request, answers: list[Answer], content: object, route: str) -> Response:
        request.scope["answers"] = answers  # for Gate, which counts them
        if log is not None:
            for answer in answers:
                log.add(route, answer)
        timing = ", ".join([f"{stage};dur={ms:.3f}" for stage, ms in answers[0].stages_ms.items()])
        return _json(content, headers={"Server-Timing": timing})

    def query(request: RankRequest) -> ranking.Query:
        return ranking.Query(request.user_id, request.item_ids, request.k, time.time() if request.as_of is None else request.as_of)

    @app.post("/v1/rank", response_model=RankResponse, responses=_errors(413, 422, 503))
    async def rank(request: Request, ask: RankRequest) -> Response:
        """Rank candidates with features as they are now."""
        answers = await ranker.rank([query(ask)], request.scope.get("arrived"))
        return answer_with(request, answers, _as_response(answers[0]), "rank")

    @app.post("/v1/rank_many", response_model=RankManyResponse, responses=_errors(413, 422, 503))
    async def rank_many(request: Request, ask: RankManyRequest) -> Response:
        """Rank the candidates of several users in one model call."""
        answers = await ranker.rank([query(one) for one in ask.requests], request.scope.get("arrived"))
        return answer_with(request, answers, dict(responses=[_as_response(a) for a in answers]), "rank_many")

    async def lists(
        request: Request, user_id: Annotated[int, Field(ge=0, le=2**53 - 1)], k: Annotated[int, Query(ge=1, le=MAX_K)] = 10
    ) -> Response:
        """The list that the last batch job wrote for this user."""
        answer = await ranker.read_list(user_id, k, request.scope.get("arrived"))
        return answer_with(request, [answer], _as_response(answer), "lists")

    app.router.add_api_route(
        "/v1/lists/{user_id}", lists, response_model=RankResponse, responses=_errors(422, 503), route_class_override=APIRoute
    )


def add_events(app: FastAPI, commit: MicroBatcher, limits: Limits) -> None:
    """The route that takes what users do."""

    @app.post("/v1/events", status_code=202, response_model=Accepted, responses=_errors(409, 413, 422, 503))
    async def events(request: Request, event: Event) -> Response:
        """Keep an event. The answer comes after the disk has it; without an answer, or with 503, send it again."""
        try:
            async with asyncio.timeout(limits.events_ms / 1000):
                await commit((event.event_id, event.kind, event.user_id, event.item_id))
        except TimeoutError:
            return _problem(503, f"store_slow: the store has not kept it within {limits.events_ms:g} ms; send it again", retry=True)
        return _json(dict(event_id=event.event_id), 202)


def add_operations(
    app: FastAPI, bundles: BundleSource, metrics: Metrics, list_version: Callable[[], str | None], degraded: Callable[[], list[str]]
) -> None:
    """The routes for those who run the service."""

    @app.get("/health/live", response_model=dict[str, bool])
    async def live(request: Request) -> Response:
        """This process runs its event loop. Restart it if this fails."""
        return _json(dict(alive=True))

    @app.get("/health/ready", response_model=Health, responses={503: dict(model=Health)})
    async def ready(request: Request) -> Response:
        """Send traffic here? Depends only on what is this process's own: its model.

        The store is shared. If readiness asked for it, one slow store would take every replica out of
        rotation at once, together with the fallbacks that were made for that moment. It is looked at twice a
        second, and `degraded` says what was seen.
        """
        bundle = bundles.bundle
        version = bundle.version if bundle else None
        health = dict(ready=bundle is not None, model_version=version, list_version=list_version(), degraded=degraded())
        return _json(health, 200 if bundle else 503)

    @app.get("/metrics", response_class=Response, responses={200: {"content": {CONTENT_TYPE_LATEST: {}}}})
    async def read_metrics(request: Request) -> Response:
        """Counters and histograms in Prometheus' text format."""
        return Response(generate_latest(metrics.registry), headers={"Content-Type": CONTENT_TYPE_LATEST})


# ---------- the process ----------


class Server(uvicorn.Server):
    """Ends within seconds of being told to, whatever is stuck."""

    watching: tuple[Connections, Metrics]

    def handle_exit(self, sig: int, frame: object) -> None:
        self.end_soon()
        super().handle_exit(sig, frame)

    def end_soon(self) -> None:
        """Start to end: no new requests, GRACE_S for those that have begun."""
        self.should_exit = True
        last = threading.Timer(GRACE_S + 2, os._exit, [0])
        last.daemon = True
        last.start()

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        await super().startup(sockets)
        connections, metrics = self.watching
        self._sweeper = asyncio.create_task(connections.close_silent(metrics.loop_lag.set))


def _exit_with_parent(server: Server) -> None:
    """End when standard input closes: then the process that started this one is gone, however it went."""
    sys.stdin.buffer.read()
    server.end_soon()


def _options(arguments: list[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m mlsd.serving", description=__doc__.splitlines()[0])
    store = os.environ.get("MLSD_STORE")  # a URL may hold a password, and a command line is everybody's to read
    parser.add_argument("--store", default=store, required=store is None, help="a Redis URL or a directory; default: MLSD_STORE")
    parser.add_argument("--namespace", default="mlsd", help="key prefix in Redis")
    parser.add_argument("--store-timeout-ms", type=float, default=50.0, help="for one Redis command")
    parser.add_argument("--bundles", required=True, help="directory with bundles and the file CURRENT")
    parser.add_argument("--trial-s", type=float, default=20.0, help="how long a new bundle's code may take in its trial")
    parser.add_argument("--served-log", help="directory for the log of what was served; without it nothing is logged")
    parser.add_argument("--port", type=int, default=0, help="on 127.0.0.1; 0 takes a free one")
    parser.add_argument("--announce", help="write the port to this file once it is open")
    parser.add_argument("--fault-file", help="break the store as this file says (tests)")
    parser.add_argument("--exit-with-parent", action="store_true", help="end when standard input closes")
    for limit in dataclasses.fields(Limits):
        parser.add_argument("--" + limit.name.replace("_", "-"), type=type(limit.default), default=limit.default)
    return parser.parse_args(arguments)


def main(arguments: list[str] | None = None) -> None:
    """Run the service until it is told to stop."""
    signal.signal(signal.SIGTERM, lambda *_: os._exit(0))  # until uvicorn has its own
    args = _options(arguments)
    limits = Limits(**{f.name: getattr(args, f.name) for f in dataclasses.fields(Limits)})
    options = dict(timeout_s=args.store_timeout_ms / 1000) if "://" in args.store else {}
    backend = open_backend(args.store, args.namespace, **options)
    store = Store(FaultyKeyValue(backend, args.fault_file) if args.fault_file else backend)
    # Without the explicit protocol asyncio does not set TCP_NODELAY, and each answer waits 40 ms for a delayed acknowledgement.
    listener = socket.socket(socket.AF_INET, socket.SOCK_STREAM, socket.IPPROTO_TCP)
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    sys.setswitchinterval(0.001)  # the default, 5 ms, is longer than an answer: threads would wait on each other
    listener.bind(("127.0.0.1", args.port))
    metrics = Metrics()
    connections = Connections(
        limits.max_connections,
        limits.read_timeout_s,
        lambda why: metrics.closed.labels(why).inc(),
        lambda: metrics.count("unknown", 400),
    )
    app = create_app(store, BundleSource(args.bundles, args.trial_s), limits, metrics, args.served_log)
    config = uvicorn.Config(
        app,
        http=functools.partial(Protocol, limits=connections),
        ws="none",
        log_level="warning",
        access_log=False,
        timeout_graceful_shutdown=GRACE_S,
        backlog=BACKLOG,
    )
    server = Server(config)
    server.watching = connections, metrics
    if args.exit_with_parent:
        threading.Thread(target=_exit_with_parent, args=(server,), daemon=True).start()
    if args.announce:
        temporary = Path(args.announce + ".new")
        temporary.write_text(json.dumps(dict(port=listener.getsockname()[1], pid=os.getpid())))
        os.replace(temporary, args.announce)
    try:
        server.run(sockets=[listener])
    except KeyboardInterrupt:
        pass
    os._exit(0)  # threads may be stuck in the store or in a model: nobody waits for them, what was acknowledged is on disk
