"""Latency and throughput of the stores and of the service on this machine: `make bench-serving`.

Everything is synthetic and made here, so the figures depend on the machine and the libraries alone. The
chapter on serving measures the same things with its own ranker.
"""

from __future__ import annotations

import argparse
import platform
import tempfile
import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from pathlib import Path

import lightgbm as lgb
import numpy as np
import pandas as pd
import psutil

from mlsd.serving.bundle import Bundle, encoder_version, publish_bundle, read_bundle, write_bundle
from mlsd.serving.load import Call, run_load, summary
from mlsd.serving.process import Service
from mlsd.serving.redis_server import RedisMissing, RedisServer
from mlsd.serving.scoring import Live
from mlsd.serving.store import ANYONE, Store, open_store
from mlsd.timing import Stopwatch, time_each

N_USERS, N_ITEMS, N_CANDIDATES, N_FEATURES = 2_000, 500, 50, 20
ENCODER = encoder_version({})
SCORING = """
import numpy as np

def features(user, items, live, now, encoder):
    u, v = np.array(user["taste"]), np.array([item["topics"] for item in items])
    return np.concatenate([np.broadcast_to(u, v.shape), u * v], axis=1)

def combine(p, items, weights):
    return p
"""


def predict_limit(bundle: Bundle, rows: Sequence[int], n: int = 100) -> pd.DataFrame:
    """What the model itself costs, without a service: one row a batch size. Columns: ms_per_call, rows_per_second."""
    matrix = np.random.default_rng(0).normal(size=(max(rows), bundle.model.num_feature()))
    table = {}
    for size in rows:
        bundle.predict(matrix[:size])
        ms = np.median(time_each(lambda i, size=size: bundle.predict(matrix[:size]), max(3, min(n, 100_000 // size))))
        table[size] = dict(ms_per_call=ms, rows_per_second=1000 * size / ms)
    return pd.DataFrame.from_dict(table, orient="index").rename_axis("rows_per_call")


def in_process(store: Store, bundle: Bundle, concurrency: Sequence[int], n: int) -> pd.DataFrame:
    """What a list costs without a service: rows read from the store, features, predict, rank, in so many threads of this process.

    Columns as those of `sweep` that apply. The service's processor time and its p99 are to be held against these.
    """
    none = Live.of(np.zeros(N_CANDIDATES), np.zeros(N_CANDIDATES))

    def one(i: int) -> float:
        start = time.perf_counter()
        user, items = store.rows("user", [i % N_USERS], ENCODER)[0], store.rows("item", range(N_CANDIDATES), ENCODER)
        scores = bundle.score(user, items, none, 0.0)
        [(items[j], scores[j]) for j in np.argsort(-scores, kind="stable")[:10]]
        return 1000 * (time.perf_counter() - start)

    rows = {}
    for clients in concurrency:
        with ThreadPoolExecutor(clients) as threads, Stopwatch() as watch:
            p50, p95, p99 = np.quantile(list(threads.map(one, range(n))), [0.5, 0.95, 0.99])
        rows[clients] = dict(p50_ms=p50, p95_ms=p95, p99_ms=p99, per_second=n / watch.wall, cpu_ms=1000 * watch.cpu / n)
    return pd.DataFrame.from_dict(rows, orient="index").rename_axis("concurrency")


def sweep(service: Service, calls: Sequence[Call], concurrency: Sequence[int], n: int, lists_per_call: int = 1) -> pd.DataFrame:
    """Closed-loop load at each concurrency: `load.summary`, and the service's processor milliseconds a list."""
    rows = {}
    for clients in concurrency:
        cpu = service.cpu_seconds()
        found = summary(run_load(service.url, calls, n, concurrency=clients))
        found["per_second"] *= lists_per_call
        rows[clients] = found | dict(cpu_ms=1000 * (service.cpu_seconds() - cpu) / (n * lists_per_call))
    return pd.DataFrame.from_dict(rows, orient="index").rename_axis("concurrency")


def fill(store: Store, root: Path) -> Bundle:
    """Users, items, lists and a published bundle, all made up."""
    rng = np.random.default_rng(0)
    half = N_FEATURES // 2
    store.put_rows("user", {i: {"taste": rng.normal(size=half).round(3).tolist()} for i in range(N_USERS)}, ENCODER)
    store.put_rows("item", {i: {"topics": rng.normal(size=half).round(3).tolist()} for i in range(N_ITEMS)}, ENCODER)
    store.write("v1", {u: [(i, 1 - i / 100) for i in range(50)] for u in (ANYONE, *range(N_USERS))}, ttl_s=86_400)
    store.publish("v1")
    x = rng.normal(size=(20_000, N_FEATURES))
    y = x[:, half:].sum(axis=1) + rng.normal(size=len(x)) > 0
    model = lgb.train(dict(objective="binary", num_leaves=31, num_threads=1, verbose=-1), lgb.Dataset(x, y), 100)
    live = dict(total=[0] * 3, of_friends=[0] * 3)
    golden = [dict(user=store.rows("user", [0], ENCODER)[0], items=store.rows("item", range(3), ENCODER), live=live, now=0.0)]
    version = write_bundle(root, SCORING, {}, model, ([0, 1], [0, 1]), {}, range(N_ITEMS), golden)
    publish_bundle(root, version)
    return read_bundle(root / version)


def main(arguments: list[str] | None = None) -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(prog="python -m mlsd.serving.bench", description=__doc__.splitlines()[0])
    parser.add_argument("--requests", type=int, default=3_000, help="a point of each curve")
    parser.add_argument("--concurrency", type=int, nargs="+", default=[1, 4, 16, 32], help="clients of the closed loop")
    args = parser.parse_args(arguments)
    n, concurrency = args.requests, args.concurrency
    pd.set_option("display.width", 160)
    print(f"{platform.machine()}, {psutil.cpu_count()} processors, Python {platform.python_version()}, LightGBM {lgb.__version__}")
    print(f"{N_CANDIDATES} candidates a request, {N_FEATURES} features, 100 trees, one service process\n")
    candidates = list(range(N_CANDIDATES))
    single = [Call("/v1/rank", dict(user_id=i, item_ids=candidates)) for i in range(200)]
    many = [Call("/v1/rank_many", dict(requests=[c.body for c in single[i : i + 32]])) for i in range(0, 160, 32)]
    precomputed = [Call(f"/v1/lists/{i}", None, "GET") for i in range(200)]
    with ExitStack() as stack:
        directory = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="mlsd-bench-")))
        addresses = {"LMDB": str(directory / "store")}
        try:
            addresses["Redis"] = stack.enter_context(RedisServer()).url
        except RedisMissing as error:
            print(f"LMDB alone is measured: {error}\n")
        for name, address in addresses.items():
            store = stack.enter_context(open_store(address))
            bundle = fill(store, directory / "bundles")
            reads = time_each(lambda i, store=store: store.read(i % N_USERS), n)
            rows = time_each(lambda i, store=store: store.rows("item", candidates, ENCODER), n // 3)
            writes = time_each(lambda i, store=store: store.accept([(f"e{i}", "click", i, 1)]), 200)
            for what, ms in (
                (f"read a list of 50, {name}", reads),
                (f"read {N_CANDIDATES} item rows, {name}", rows),
                (f"durable event, {name}", writes),
            ):
                p50, p99 = np.quantile(ms, [0.5, 0.99])
                print(f"{what:32} p50 {p50:7.3f} ms   p99 {p99:7.3f} ms")
            print(f"\nin process, {name}: rows, features, predict and rank, no service")
            print(in_process(store, bundle, concurrency, n).round(2).to_string() + "\n")
        print("\nthe model's own predict, no service")
        print(predict_limit(bundle, [1, N_CANDIDATES, 32 * N_CANDIDATES, 100_000]).round(3))
        for name, address in addresses.items():
            for mode, options, calls, lists in (
                ("precomputed list", {}, precomputed, 1),
                ("single", {}, single, 1),
                ("micro-batch of up to 32", dict(micro_batch=32), single, 1),
                ("batch of 32 users", {}, many, 32),
            ):
                with Service(address, directory / "bundles", deadline_ms=1000, max_in_flight=1000, **options) as service:
                    print(f"\n{mode}, {name} (per_second and cpu_ms count lists)")
                    print(sweep(service, calls, concurrency, max(64, n // lists), lists).round(2).to_string())


if __name__ == "__main__":
    main()
