"""Parts that the tests of the stores and of the service share: a tiny ranker whose scores betray their version."""

from __future__ import annotations

from pathlib import Path

import lightgbm as lgb
import numpy as np

from mlsd.serving.bundle import publish_bundle, write_bundle
from mlsd.serving.stores import ANYONE, Store

USERS, ITEMS = range(200), range(60)
POPULAR = list(range(10, 40))
SCORING = """
import numpy as np

LIVE = "rsvp"

def features(user, items, who, now, encoder):
    return np.array([[user["taste"] * item["topic"], item["price"], len(friends)] for item, friends in zip(items, who)])

def combine(p, items, weights):
    return p + weights["offset"]  # 100 + p for bundle 1, 200 + p for bundle 2: no score can hide its bundle
"""


def model(seed: int = 0) -> lgb.Booster:
    rng = np.random.default_rng(seed)
    x = rng.normal(size=(600, 3))
    y = x[:, 0] - 0.3 * x[:, 1] + x[:, 2] + rng.normal(size=600) > 0
    return lgb.train(dict(objective="binary", num_leaves=7, num_threads=1, verbose=-1, seed=seed), lgb.Dataset(x, y), 20)


def user_row(i: int) -> dict:
    return {"taste": float(i % 7 - 3)}


def item_row(i: int) -> dict:
    return {"topic": float(i % 5 - 2), "price": float(i % 11)}


def new_bundle(root: Path, number: int, scoring: str = SCORING, **parts: object) -> str:
    """Bundle `number`, whose scores lie between 100 x number and 100 x number + 1."""
    golden = [dict(user=user_row(1), items=[item_row(i) for i in range(5)], who=[[1, 2]] * 5, now=0.0)]
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


def fill(store: Store, number: int = 1) -> None:
    store.put_rows("user", {i: user_row(i) for i in USERS})
    store.put_rows("item", {i: item_row(i) for i in ITEMS})
    store.write(f"v{number}", lists(number), ttl_s=3600)
    store.publish(f"v{number}")
