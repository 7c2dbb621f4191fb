"""The ranking service: FastAPI on uvicorn, in a process of its own.

    python -m mlsd.serving.service --store redis://127.0.0.1:6379/0 --bundles bundles/ --port 8000

Every answer says who made it (`source`, `model_version`) and, if it is not what was asked for, why
(`fallback`). Every answer is counted under these labels at /metrics. `process.Service` starts and stops it.
"""

from __future__ import annotations

import argparse
import asyncio
import dataclasses
import gc
import json
import os
import socket
import sys
import threading
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Annotated, Literal

import uvicorn
from fastapi import FastAPI, Query, Request, Response
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse
from prometheus_client import CONTENT_TYPE_LATEST, CollectorRegistry, Counter, Gauge, Histogram, generate_latest
from pydantic import BaseModel, BeforeValidator, ConfigDict, Field

from mlsd.serving import ranker as ranking
from mlsd.serving.bundle import BundleSource
from mlsd.serving.faults import FaultyKeyValue
from mlsd.serving.keyvalue import StoreError, open_backend
from mlsd.serving.ranker import Answer, Limits, NothingKnown, Ranker, Unavailable
from mlsd.serving.stores import Store

MAX_BODY = 512 * 1024  # bytes; the largest valid request is smaller
MAX_CANDIDATES, MAX_QUERIES, MAX_K = 500, 32, 100
RELOAD_S = 0.2  # how often the service looks for a new bundle


def _no_bool_no_text(value: object) -> object:
    """JSON has numbers, text and booleans; 1.0 is a whole number, "1" and true are not."""
    if isinstance(value, bool | str | bytes):
        raise ValueError("expected a number")
    return value


def _distinct(values: object) -> object:
    if isinstance(values, list) and len(values) != len({str(v) for v in values}):
        raise ValueError("expected distinct item ids")
    return values


Id = Annotated[int, Field(ge=0, le=2**53 - 1, description="exact in every JSON library"), BeforeValidator(_no_bool_no_text)]
K = Annotated[int, Field(ge=1, le=MAX_K), BeforeValidator(_no_bool_no_text)]


class Strict(BaseModel):
    """Unknown fields are an error: a misspelt option must not be silently ignored."""

    model_config = ConfigDict(extra="forbid", allow_inf_nan=False)


class RankRequest(Strict):
    """Rank these candidates for this user."""

    user_id: Id
    item_ids: Annotated[
        list[Id], Field(min_length=1, max_length=MAX_CANDIDATES, json_schema_extra={"uniqueItems": True}), BeforeValidator(_distinct)
    ]
    k: K = 10
    as_of: Annotated[
        float | None,
        Field(ge=0, le=4e9, description="Unix seconds; for replays of logged requests. Default: now"),
        BeforeValidator(_no_bool_no_text),
    ] = None

    def query(self) -> ranking.Query:
        """The same request in the ranker's words."""
        return ranking.Query(self.user_id, tuple(self.item_ids), self.k, time.time() if self.as_of is None else self.as_of)


class RankManyRequest(Strict):
    """Several users at once, scored in one model call; for digests and backfills."""

    requests: Annotated[list[RankRequest], Field(min_length=1, max_length=MAX_QUERIES)]


class Scored(BaseModel):
    """An item with its score; null if no model has scored it."""

    item_id: int
    score: float | None


class RankResponse(BaseModel):
    """A ranked list, best first."""

    user_id: int
    items: list[Scored]
    source: Literal["online", "batch", "popular", "as_given"]
    model_version: str | None
    generated_at: float = Field(description="Unix seconds")
    fallback: str | None = Field(description="why this is not what was asked for; null if it is")
    unknown_items: int = Field(description="candidates that the store does not know and that were left out")


class RankManyResponse(BaseModel):
    """One ranked list a request, in the order of the requests."""

    responses: list[RankResponse]


class Event(Strict):
    """Something that a user did. Send it again under the same event_id if no answer came."""

    event_id: Annotated[str, Field(pattern="^[A-Za-z0-9_-]{1,64}$")]
    kind: Annotated[str, Field(pattern="^[a-z_]{1,32}$")]
    user_id: Id
    item_id: Id


class Accepted(BaseModel):
    """The event is on disk."""

    event_id: str


class Problem(BaseModel):
    """What was wrong, and where."""

    detail: str
    where: list[str] = []


class Health(BaseModel):
    """ready: this process can answer with a model. degraded: why it cannot do all it should."""

    ready: bool
    model_version: str | None
    list_version: str | None
    degraded: list[str]


class Metrics:
    """What the service counts, in Prometheus' terms."""

    def __init__(self) -> None:
        self.registry = CollectorRegistry()
        self.answers = Counter("answers", "Ranked lists given", ["route", "source", "reason", "version"], registry=self.registry)
        self.refused = Counter("refused", "Requests answered with an error", ["route", "status"], registry=self.registry)
        self.events = Counter("events", "Events by what became of them", ["outcome"], registry=self.registry)
        self.bundles = Counter("bundles", "Bundles met since the start", ["outcome"], registry=self.registry)
        self.in_flight = Gauge("in_flight", "Ranking requests being worked on", registry=self.registry)
        self.stage = Histogram(
            "stage_seconds",
            "Time in each stage of an answer",
            ["stage"],
            registry=self.registry,
            buckets=(0.0001, 0.0003, 0.001, 0.003, 0.01, 0.03, 0.1, 0.3, 1.0),
        )

    def answer(self, route: str, answer: Answer) -> None:
        """Count one answer and time its stages."""
        self.answers.labels(route, answer.source, answer.fallback or "none", answer.model_version or "none").inc()
        for stage, ms in answer.stages_ms.items():
            self.stage.labels(stage).observe(ms / 1000)


class LimitBody:
    """Refuse a body larger than MAX_BODY before it is parsed, whether or not it announces its length."""

    def __init__(self, app: object) -> None:
        self.app = app

    async def __call__(self, scope: dict, receive: object, send: object) -> None:
        if scope["type"] != "http":
            return await self.app(scope, receive, send)
        chunks, size, more = [], 0, True
        while more:
            message = await receive()
            if message["type"] == "http.disconnect":
                return
            chunks.append(message.get("body", b""))
            size, more = size + len(chunks[-1]), message.get("more_body", False)
            if size > MAX_BODY:
                return await _problem(413, f"the body is larger than {MAX_BODY} bytes")(scope, receive, send)
        body, sent = b"".join(chunks), False

        async def replay() -> dict:
            nonlocal sent
            if sent:
                return await receive()
            sent = True
            return dict(type="http.request", body=body, more_body=False)

        await self.app(scope, replay, send)


def _problem(status: int, detail: str, where: list[str] | None = None, retry_after: int | None = None) -> JSONResponse:
    headers = {} if retry_after is None else {"Retry-After": str(retry_after)}
    return JSONResponse(dict(detail=detail, where=where or []), status, headers)


def create_app(store: Store, bundles: BundleSource, limits: Limits) -> FastAPI:
    """The application. The caller closes the store."""
    metrics, ranker = Metrics(), Ranker(store, bundles, limits)
    commit = ranking.MicroBatcher(lambda events: (store.accept(events), events)[1], max_size=1_000)

    def load() -> None:
        if bundles.refresh():
            metrics.bundles.labels("refused" if bundles.error else "loaded").inc()

    async def watch() -> None:
        while True:
            await asyncio.sleep(RELOAD_S)
            await asyncio.to_thread(load)

    @asynccontextmanager
    async def lifespan(app: FastAPI) -> AsyncIterator[None]:
        await asyncio.to_thread(load)
        gc.collect()
        gc.freeze()  # what the imports made will live for ever: without this, each full collection walks it, for 90 ms
        watcher = asyncio.create_task(watch())
        yield
        watcher.cancel()
        commit.close()
        ranker.close()

    errors = {status: dict(model=Problem) for status in (400, 413, 422)}
    app = FastAPI(title="Ranking service", version="1", lifespan=lifespan, responses=errors, docs_url=None, redoc_url=None)
    app.add_middleware(LimitBody)
    app.state.metrics = metrics

    def refuse(request: Request, status: int, detail: str, where: list[str] | None = None, retry_after: int | None = None) -> JSONResponse:
        route = getattr(request.scope.get("route"), "path", "unknown")
        metrics.refused.labels(route, str(status)).inc()
        return _problem(status, detail, where, retry_after)

    @app.exception_handler(RequestValidationError)
    async def invalid(request: Request, error: RequestValidationError) -> JSONResponse:
        """Name the field and the fault, and do not repeat the input: it may be huge, secret, or no valid JSON."""
        first = error.errors()[0]
        return refuse(request, 422, first["msg"], [str(part) for part in first["loc"]])

    @app.exception_handler(NothingKnown)
    async def nothing_known(request: Request, error: NothingKnown) -> JSONResponse:
        return refuse(request, 404, str(error))

    @app.exception_handler(Unavailable)
    async def unavailable(request: Request, error: Unavailable) -> JSONResponse:
        return refuse(request, 503, str(error), retry_after=1)

    @app.exception_handler(StoreError)
    async def store_failed(request: Request, error: StoreError) -> JSONResponse:
        return refuse(request, 503, f"{error.reason}: try again later", retry_after=1)

    def respond(route: str, answer: Answer, response: Response) -> RankResponse:
        metrics.answer(route, answer)
        response.headers["Server-Timing"] = ", ".join(f"{stage};dur={ms:.3f}" for stage, ms in answer.stages_ms.items())
        return RankResponse(
            user_id=answer.user_id,
            items=[Scored(item_id=i, score=s) for i, s in zip(answer.item_ids, answer.scores, strict=True)],
            source=answer.source,
            model_version=answer.model_version,
            generated_at=answer.generated_at,
            fallback=answer.fallback,
            unknown_items=answer.unknown_items,
        )

    @app.post("/v1/rank", responses={404: dict(model=Problem)})
    async def rank(request: RankRequest, response: Response) -> RankResponse:
        """Rank candidates with features as they are now."""
        metrics.in_flight.set(ranker.in_flight)
        return respond("rank", (await ranker.rank([request.query()]))[0], response)

    @app.post("/v1/rank_many", responses={404: dict(model=Problem)})
    async def rank_many(request: RankManyRequest, response: Response) -> RankManyResponse:
        """Rank the candidates of several users in one model call."""
        answers = await ranker.rank([r.query() for r in request.requests])
        return RankManyResponse(responses=[respond("rank_many", answer, response) for answer in answers])

    @app.get("/v1/lists/{user_id}", responses={503: dict(model=Problem)})
    async def read_list(
        user_id: Annotated[int, Field(ge=0, le=2**53 - 1)], response: Response, k: Annotated[int, Query(ge=1, le=MAX_K)] = 10
    ) -> RankResponse:
        """The list that the last batch job wrote for this user."""
        return respond("lists", await ranker.read_list(user_id, k), response)

    @app.post("/v1/events", status_code=202, responses={503: dict(model=Problem)})
    async def accept(event: Event) -> Accepted:
        """Keep an event. The answer comes after the disk has it; without an answer, send it again."""
        try:
            await commit((event.event_id, event.kind, event.user_id, event.item_id))
        except StoreError:
            metrics.events.labels("refused").inc()
            raise
        metrics.events.labels("accepted").inc()
        return Accepted(event_id=event.event_id)

    @app.get("/health/live")
    async def live() -> dict[str, bool]:
        """This process runs its event loop. Restart it if this fails."""
        return dict(alive=True)

    @app.get("/health/ready", responses={503: dict(model=Health)})
    async def ready(response: Response) -> Health:
        """Send traffic here? Depends only on what is this process's own: its model.

        The store is shared. If readiness asked for it, one slow store would take every replica out of
        rotation at once, together with the fallbacks that were made for that moment.
        """
        degraded = [bundles.error] if bundles.error else []
        list_version = None
        try:
            async with asyncio.timeout(limits.fallback_ms / 1000):
                list_version = await asyncio.to_thread(store.current)
        except TimeoutError:
            degraded.append("store: slow")
        except StoreError as error:
            degraded.append(f"store: {error}")
        bundle = bundles.bundle
        response.status_code = 200 if bundle else 503
        version = bundle.version if bundle else None
        return Health(ready=bundle is not None, model_version=version, list_version=list_version, degraded=degraded)

    @app.get("/metrics", response_class=Response, responses={200: {"content": {CONTENT_TYPE_LATEST: {}}}})
    async def read_metrics() -> Response:
        """Counters and histograms in Prometheus' text format."""
        return Response(generate_latest(metrics.registry), headers={"Content-Type": CONTENT_TYPE_LATEST})

    return app


# ---------- the process ----------


def _exit_with_parent(server: uvicorn.Server) -> None:
    """End when standard input closes: then the process that started this one is gone, however it went."""
    sys.stdin.buffer.read()
    server.should_exit = True
    time.sleep(3)
    os._exit(0)


def main(arguments: list[str] | None = None) -> None:
    """Run the service until it is told to stop."""
    parser = argparse.ArgumentParser(prog="python -m mlsd.serving.service", description=__doc__.splitlines()[0])
    parser.add_argument("--store", required=True, help="a Redis URL, or the directory of an LMDB store")
    parser.add_argument("--namespace", default="mlsd", help="key prefix in Redis")
    parser.add_argument("--store-timeout-ms", type=float, default=50.0, help="for one Redis command")
    parser.add_argument("--bundles", required=True, help="directory with bundles and the file CURRENT")
    parser.add_argument("--port", type=int, default=0, help="on 127.0.0.1; 0 takes a free one")
    parser.add_argument("--announce", help="write the port to this file once it is open")
    parser.add_argument("--fault-file", help="break the store as this file says (tests)")
    parser.add_argument("--exit-with-parent", action="store_true", help="end when standard input closes")
    for limit in dataclasses.fields(Limits):
        parser.add_argument("--" + limit.name.replace("_", "-"), type=type(limit.default), default=limit.default)
    args = parser.parse_args(arguments)
    limits = Limits(**{f.name: getattr(args, f.name) for f in dataclasses.fields(Limits)})
    options = dict(timeout_s=args.store_timeout_ms / 1000) if "://" in args.store else {}
    backend = open_backend(args.store, args.namespace, **options)
    store = Store(FaultyKeyValue(backend, args.fault_file) if args.fault_file else backend)
    # Without the explicit protocol asyncio does not set TCP_NODELAY, and each answer waits 40 ms for a delayed acknowledgement.
    listener = socket.socket(socket.AF_INET, socket.SOCK_STREAM, socket.IPPROTO_TCP)
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    sys.setswitchinterval(0.001)  # the default, 5 ms, is longer than an answer: threads would wait on each other
    listener.bind(("127.0.0.1", args.port))
    app = create_app(store, BundleSource(args.bundles), limits)
    server = uvicorn.Server(uvicorn.Config(app, log_level="warning", access_log=False, timeout_graceful_shutdown=3, backlog=2048))
    if args.exit_with_parent:
        threading.Thread(target=_exit_with_parent, args=(server,), daemon=True).start()
    if args.announce:
        temporary = Path(args.announce + ".new")
        temporary.write_text(json.dumps(dict(port=listener.getsockname()[1], pid=os.getpid())))
        os.replace(temporary, args.announce)
    try:
        server.run(sockets=[listener])
    finally:
        store.close()


if __name__ == "__main__":
    main()
