"""Parts that the tests of the service share: a tiny ranker whose scores betray their version, and a service on top of it."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import httpx
import lightgbm as lgb
import numpy as np
from prometheus_client.parser import text_string_to_metric_families

from mlsd.serving.bundle import encoder_version, publish_bundle, read_bundle, write_bundle
from mlsd.serving.load import Call, Load
from mlsd.serving.process import Service
from mlsd.serving.scoring import Live
from mlsd.serving.store import ANYONE, Store, open_store

USERS, ITEMS = range(200), range(60)
CANDIDATES = list(range(20))
POPULAR = list(range(10, 40))
ENCODER = encoder_version({})
SCORING = """
import numpy as np

LIVE = "rsvp"

def features(user, items, live, now, encoder):
    own = np.array([[user["taste"] * item["topic"], item["price"]] for item in items])
    return np.column_stack([own, live.of_friends + live.total / 100])

def combine(p, items, weights):
    return p + weights["offset"]  # 100 + p for bundle 1, 200 + p for bundle 2: no score can hide its bundle
"""


def model(seed: int = 0) -> lgb.Booster:
    rng = np.random.default_rng(seed)
    x = rng.normal(size=(600, 3))
    y = x[:, 0] - 0.3 * x[:, 1] + x[:, 2] + rng.normal(size=600) > 0
    return lgb.train(dict(objective="binary", num_leaves=7, num_threads=1, verbose=-1, seed=seed), lgb.Dataset(x, y), 20)


def user_row(i: int) -> dict:
    return {"taste": float(i % 7 - 3), "friends": [(i + j) % len(USERS) for j in range(1, 11)]}


def item_row(i: int) -> dict:
    return {"topic": float(i % 5 - 2), "price": float(i % 11)}


def new_bundle(root: Path, number: int, scoring: str = SCORING, **parts: object) -> str:
    """Bundle `number`, whose scores lie between 100 x number and 100 x number + 1."""
    golden = [dict(user=user_row(1), items=[item_row(i) for i in range(5)], live=dict(total=[2] * 5, of_friends=[1] * 5), now=0.0)]
    parts = (
        dict(encoder={}, model=model(), calibrator=([0, 1], [0, 1]), weights={"offset": 100 * number}, popular=POPULAR, golden=golden)
        | parts
    )
    return write_bundle(root, scoring, **parts)


def serve_bundle(root: Path, number: int, **parts: object) -> str:
    version = new_bundle(root, number, **parts)
    publish_bundle(root, version)
    return version


def lists(number: int) -> dict[int, list[tuple[int, float]]]:
    """Lists of batch version `number` for all users; their scores lie between 1000 x number and 1000 x number + 1."""
    return {u: [((u + j) % len(ITEMS), 1000 * number + 1 - j / 30) for j in range(30)] for u in (ANYONE, *USERS)}


def put_rows(store: Store, version: str = ENCODER) -> None:
    store.put_rows("user", {i: user_row(i) for i in USERS}, version)
    store.put_rows("item", {i: item_row(i) for i in ITEMS}, version)


def fill(store: Store, number: int = 1) -> None:
    put_rows(store)
    store.write(f"v{number}", lists(number), ttl_s=3600)
    store.publish(f"v{number}")


class Parts:
    """A filled store, a bundle root with bundle 1 published, and the service on top."""

    def __init__(self, directory: Path, store_address: str | None = None, **options: object) -> None:
        self.root = directory / "bundles"
        self.address = store_address or str(directory / "store")
        self.store = open_store(self.address, timeout_s=10)
        self.store.clear()
        fill(self.store)
        self.version = serve_bundle(self.root, 1)
        self.fault_file = directory / "fault"
        # tests look at answers, not at this machine's speed
        self.service = Service(
            self.address, self.root, fault_file=self.fault_file, **dict(deadline_ms=2000, store_timeout_ms=500, events_ms=20_000) | options
        )

    def __enter__(self) -> Parts:
        return self

    def __exit__(self, *error: object) -> None:
        self.service.__exit__()
        self.store.close()


def get(service: Service, path: str) -> httpx.Response:
    return httpx.get(service.url + path, timeout=20, trust_env=False)


def post(service: Service, path: str, body: object, **options: object) -> httpx.Response:
    return httpx.post(service.url + path, json=body, timeout=20, trust_env=False, **options)


def rank(service: Service, **changes: object) -> dict:
    response = post(service, "/v1/rank", dict(user_id=1, item_ids=CANDIDATES) | changes)
    assert response.status_code == 200, response.text
    return response.json()


def rank_calls(n: int = 50, **more: object) -> list[Call]:
    return [Call("/v1/rank", dict(user_id=i % len(USERS), item_ids=CANDIDATES, **more)) for i in range(n)]


@contextmanager
def under_load(service: Service, calls: Sequence[Call], **how: object) -> Iterator[Load]:
    """A load that has begun and lasts until the test ends it with `finish`, however fast or slow the machine is."""
    load = Load(service.url, calls, **dict(n=1_000_000) | how)
    try:
        load.wait_until_started()
        yield load
    finally:
        if load._process.poll() is None:
            load.stop()


def pairs(answer: dict) -> list[tuple[int, float]]:
    return [(i["item_id"], i["score"]) for i in answer["items"]]


def shown(answer: dict) -> list[int]:
    return [i["item_id"] for i in answer["items"]]


def expected_ranking(parts: Parts, user_id: int, k: int = 10) -> list[tuple[int, float]]:
    bundle = read_bundle(parts.root / parts.version)
    live = Live.of(*parts.store.live("rsvp", CANDIDATES, user_row(user_id)["friends"]))
    scores = bundle.score(user_row(user_id), [item_row(i) for i in CANDIDATES], live, 0.0)
    return [(CANDIDATES[i], float(scores[i])) for i in np.argsort(-scores, kind="stable")[:k]]


def counted(service: Service, name: str = "answers_total", **labels: object) -> float:
    """The sum of a counter over all samples that carry these labels."""
    families = text_string_to_metric_families(get(service, "/metrics").text)
    samples = [s for family in families for s in family.samples if s.name == name]
    wanted = {key: str(value) for key, value in labels.items()}.items()
    return sum(s.value for s in samples if wanted <= s.labels.items())


def eventually(true: Callable[[], object], within_s: float = 120.0) -> None:
    deadline = time.monotonic() + within_s
    while not true():
        assert time.monotonic() < deadline, "did not become true in time"
        time.sleep(0.02)


def degraded(service: Service) -> str:
    return "\n".join(service.health()["degraded"])
