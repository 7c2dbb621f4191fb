"""Everything at once: swaps, kills, and an audit of every single answer."""

from __future__ import annotations

import json

from serving_parts import ITEMS, counted, eventually, lists, rank_calls, serve_bundle, under_load

from mlsd.serving.load import Call, summary
from mlsd.serving.process import Service


def unexplained(result, batch_versions: dict[str, int], bundles: dict[str, int]) -> list[str]:
    """Answers in which a score is not of the version that the answer states, or whose list is empty or not of the candidates."""
    bad = []
    for row in result.itertuples():
        answer = json.loads(row.body)
        scores = [i["score"] for i in answer["items"] if i["score"] is not None]
        base = {"online": lambda v: 100 * bundles[v], "batch": lambda v: 1000 * batch_versions[v]}.get(answer["source"])
        fits = all(base(answer["model_version"]) <= s <= base(answer["model_version"]) + 1 for s in scores) if base else not scores
        shown = [i["item_id"] for i in answer["items"]]
        if not fits or not shown or len(set(shown)) < len(shown) or not set(shown) <= set(ITEMS):
            bad.append(row.body)
    return bad


def test_while_bundles_are_swapped_every_answer_is_of_one_version(own):
    bundles = {own.version: 1}
    with Service(own.address, own.root, micro_batch=16, deadline_ms=20_000) as service:  # no answer is late here: versions are the point
        with under_load(service, rank_calls(), concurrency=16, rate=300, keep_bodies=True, timeout_s=60) as load:
            eventually(lambda: counted(service, version=own.version) > 150)
            for number in (2, 3):
                version = serve_bundle(own.root, number)
                bundles[version] = number
                eventually(lambda version=version: counted(service, version=version) > 150)
            result = load.finish()
    assert (result.status == 200).all() and result.fallback.isna().all()
    assert unexplained(result, {}, bundles) == []
    assert set(result.version) == set(bundles), "each version must have served"


def test_the_soak(redis_parts):
    """10,000 requests and more at 24 connections; lists swapped twice, bundle swapped once, the store killed once and restarted."""
    store, service, bundles = redis_parts.store, redis_parts.service, {redis_parts.version: 1}
    calls = [call for i in range(200) for call in (rank_calls(200)[i], Call(f"/v1/lists/{i}", None, "GET"))]

    def wait_for(n: int, **answers: object) -> None:
        """Until n more such answers have been given."""
        target = counted(service, **answers) + n
        eventually(lambda: counted(service, **answers) >= target, 120)

    with under_load(service, calls, concurrency=24, keep_bodies=True, timeout_s=120) as load:
        for number in (2, 3):
            store.write(f"v{number}", lists(number), ttl_s=3600)
            wait_for(1000)
            store.publish(f"v{number}")
            wait_for(500, version=f"v{number}")
            if number == 2:
                redis_parts.server.kill()
                wait_for(200, reason="store_down")
                redis_parts.server.start()
                wait_for(2000, source="online")
                version = serve_bundle(redis_parts.root, 2)
                bundles[version] = 2
                wait_for(500, version=version)
        eventually(lambda: counted(service, route="rank") + counted(service, route="lists") > 10_000, 120)
        result = load.finish()
    figures = summary(result)
    by_reason = result.groupby(["source", result.fallback.fillna("none")]).size()
    print("soak:", {k: round(v, 3) for k, v in figures.items()}, by_reason.to_dict(), result.groupby("version").size().to_dict())
    assert len(result) > 10_000 and (result.status == 200).all(), "not one error"
    assert unexplained(result, {"v1": 1, "v2": 2, "v3": 3}, bundles) == [], "not one answer of mixed versions"
    assert set(result.fallback.dropna()) <= {"store_down", "store_slow", "deadline"}, "every fallback has a known reason"
    assert {"v1", "v2", "v3", *bundles} <= set(result.version), "every version served"
    assert counted(service, route="rank") + counted(service, route="lists") == len(result), "every answer was counted"
    for (source, reason), n in by_reason.items():
        assert counted(service, source=source, reason=reason) == n, "as what it was"
