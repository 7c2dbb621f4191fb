"""The ranking service as a real uvicorn process, in front of LMDB and of a real Redis server, with every fault we know of."""

from __future__ import annotations

import asyncio
import json
import os
import subprocess
import sys
import textwrap
import time
from pathlib import Path

import httpx
import numpy as np
import psutil
import pytest
from prometheus_client.parser import text_string_to_metric_families
from serving_parts import ITEMS, POPULAR, SCORING, USERS, fill, item_row, lists, new_bundle, serve_bundle, user_row

from mlsd.serving.bundle import FILES, BundleError, publish_bundle, read_bundle
from mlsd.serving.faults import set_fault
from mlsd.serving.load import Call, Load, run_load, stages_ms, summary
from mlsd.serving.process import ProcessError, RedisServer, Service
from mlsd.serving.ranker import Breaker, MicroBatcher
from mlsd.serving.stores import open_store

CANDIDATES = list(range(20))


def rank_calls(n: int = 50, **more: object) -> list[Call]:
    return [Call("/v1/rank", dict(user_id=i % len(USERS), item_ids=CANDIDATES, **more)) for i in range(n)]


def post(service: Service, path: str, body: object, **options: object) -> httpx.Response:
    return httpx.post(service.url + path, json=body, timeout=5, **options)


def rank(service: Service, **changes: object) -> dict:
    response = post(service, "/v1/rank", dict(user_id=1, item_ids=CANDIDATES) | changes)
    assert response.status_code == 200, response.text
    return response.json()


def counted(service: Service, name: str = "answers_total", **labels: str) -> float:
    """The sum of a counter over all samples that carry these labels."""
    families = text_string_to_metric_families(httpx.get(service.url + "/metrics").text)
    samples = [s for family in families for s in family.samples if s.name == name]
    return sum(s.value for s in samples if labels.items() <= s.labels.items())


def eventually(true: object, within_s: float = 5.0) -> None:
    deadline = time.monotonic() + within_s
    while not true():
        assert time.monotonic() < deadline, "did not become true in time"
        time.sleep(0.02)


class Parts:
    """A filled store, a bundle root with bundle 1 published, and the service on top."""

    def __init__(self, directory, store_address: str | None = None, **options: object) -> None:
        self.root = directory / "bundles"
        self.address = store_address or str(directory / "store")
        self.store = open_store(self.address)
        self.store.clear()
        fill(self.store)
        self.version = serve_bundle(self.root, 1)
        self.fault_file = directory / "fault"
        self.service = Service(self.address, self.root, fault_file=self.fault_file, **options)

    def __enter__(self) -> Parts:
        return self

    def __exit__(self, *error: object) -> None:
        self.service.__exit__()
        self.store.close()


@pytest.fixture(scope="module")
def parts(tmp_path_factory):
    with Parts(tmp_path_factory.mktemp("parts")) as built:
        yield built


@pytest.fixture
def own(tmp_path):
    """Parts that a test may break."""
    with Parts(tmp_path) as built:
        yield built


@pytest.fixture
def redis_parts(tmp_path):
    with RedisServer() as server, Parts(tmp_path, server.url) as built:
        built.server = server
        yield built


# ---------- what it answers ----------


def pairs(answer: dict) -> list[tuple[int, float]]:
    return [(i["item_id"], i["score"]) for i in answer["items"]]


def expected_ranking(parts: Parts, user_id: int, k: int = 10) -> list[tuple[int, float]]:
    bundle = read_bundle(parts.root / parts.version)
    who = parts.store.who("rsvp", CANDIDATES)
    scores = bundle.score(user_row(user_id), [item_row(i) for i in CANDIDATES], who, 0.0)
    return [(CANDIDATES[i], float(scores[i])) for i in np.argsort(-scores, kind="stable")[:k]]


def test_an_online_answer_is_what_the_bundle_says(parts):
    answer = rank(parts.service, user_id=3, k=5)
    assert pairs(answer) == expected_ranking(parts, 3, 5)
    assert (answer["source"], answer["model_version"], answer["fallback"], answer["unknown_items"]) == ("online", parts.version, None, 0)


def test_many_queries_give_the_answers_of_single_ones(parts):
    requests = [dict(user_id=u, item_ids=CANDIDATES[: 5 + u], k=3) for u in range(10)]
    together = post(parts.service, "/v1/rank_many", dict(requests=requests)).json()["responses"]
    for request, answer in zip(requests, together, strict=True):
        assert answer["items"] == rank(parts.service, **request)["items"]


def test_micro_batched_answers_are_those_of_single_ones(parts):
    with Service(parts.address, parts.root, micro_batch=16, micro_wait_ms=2) as micro:
        result = run_load(micro.url, rank_calls(60), 300, concurrency=16, keep_bodies=True, retry_s=0)
    assert (result.status == 200).all() and result.fallback.isna().all()
    for call, body in result.groupby("call").body.first().items():
        assert json.loads(body)["items"] == rank(parts.service, user_id=call)["items"]


def test_a_precomputed_list_is_read_with_its_version(parts):
    answer = httpx.get(parts.service.url + "/v1/lists/7?k=3").json()
    assert pairs(answer) == lists(1)[7][:3]
    assert (answer["source"], answer["model_version"], answer["fallback"]) == ("batch", "v1", None)
    stranger = httpx.get(parts.service.url + "/v1/lists/99999").json()
    assert (stranger["source"], stranger["fallback"]) == ("batch", "no_list")


def test_an_accepted_event_is_in_the_next_answers_features(own):
    before = rank(own.service, user_id=1, k=20)
    for user in range(30):
        assert post(own.service, "/v1/events", dict(event_id=f"r{user}", kind="rsvp", user_id=user, item_id=3)).status_code == 202
    after = rank(own.service, user_id=1, k=20)
    assert pairs(after) == expected_ranking(own, 1, 20)
    assert before["items"] != after["items"]


def test_every_answer_is_counted_and_timed(own):
    for _ in range(5):
        rank(own.service)
    assert counted(own.service, route="rank", source="online", reason="none", version=own.version) == 5
    assert counted(own.service, "stage_seconds_count", stage="predict") == 5
    timing = stages_ms(run_load(own.service.url, rank_calls(), 20))
    assert list(timing) == ["hydrate", "features", "predict", "rank"] and (timing >= 0).all().all() and len(timing) == 20


# ---------- malformed and hostile requests ----------

GOOD = dict(user_id=1, item_ids=[1, 2])
BAD = {
    "no body": b"",
    "no JSON": b"{not json",
    "no object": b"[1, 2]",
    "deep": b"[" * 100_000,
    "user as text": dict(GOOD, user_id="1"),
    "user as boolean": dict(GOOD, user_id=True),
    "user missing": dict(item_ids=[1]),
    "user negative": dict(GOOD, user_id=-1),
    "user with fraction": dict(GOOD, user_id=1.5),
    "user too large": dict(GOOD, user_id=2**53),
    "user NaN": b'{"user_id": NaN, "item_ids": [1]}',
    "user infinite": b'{"user_id": Infinity, "item_ids": [1]}',
    "items missing": dict(user_id=1),
    "items empty": dict(GOOD, item_ids=[]),
    "items no list": dict(GOOD, item_ids={"a": 1}),
    "items as text": dict(GOOD, item_ids=["1"]),
    "items null": dict(GOOD, item_ids=[None]),
    "items NaN": b'{"user_id": 1, "item_ids": [NaN]}',
    "items twice": dict(GOOD, item_ids=[1, 1]),
    "too many items": dict(GOOD, item_ids=list(range(501))),
    "k zero": dict(GOOD, k=0),
    "k huge": dict(GOOD, k=10**30),
    "k null": dict(GOOD, k=None),
    "misspelt field": dict(GOOD, K=5),
    "as_of NaN": b'{"user_id": 1, "item_ids": [1], "as_of": NaN}',
    "as_of overflow": b'{"user_id": 1, "item_ids": [1], "as_of": 1e999}',
    "lone surrogate": b'{"user_id": "\\ud800", "item_ids": [1]}',
    "bad UTF-8": b'{"user_id": "\xff", "item_ids": [1]}',
}


@pytest.mark.parametrize("name", BAD)
def test_a_malformed_request_gets_a_clear_error(parts, name):
    body = BAD[name]
    content = body if isinstance(body, bytes) else json.dumps(body).encode()
    response = httpx.post(parts.service.url + "/v1/rank", content=content, headers={"content-type": "application/json"})
    assert 400 <= response.status_code < 500, response.text
    assert response.json()["detail"]
    assert len(response.content) < 500, "an error must not repeat the input"
    assert rank(parts.service)["source"] == "online"


@pytest.mark.parametrize("chunked", [False, True])
def test_a_huge_body_is_refused_before_it_is_parsed(parts, chunked):
    body = b'{"user_id": 1, "item_ids": [' + b"1," * 1_000_000 + b"1]}"
    content = (body[i : i + 65536] for i in range(0, len(body), 65536)) if chunked else body
    try:
        response = httpx.post(parts.service.url + "/v1/rank", content=content, headers={"content-type": "application/json"})
        assert response.status_code == 413 and "larger than" in response.json()["detail"]
    except (httpx.WriteError, httpx.ReadError):
        pass  # the service closed the connection while we were still sending
    assert rank(parts.service)["source"] == "online"


@pytest.mark.parametrize(
    "event", [dict(event_id="a b"), dict(event_id=""), dict(event_id="x" * 65), dict(kind="RSVP"), dict(item_id=None), dict(extra=1)]
)
def test_a_malformed_event_is_not_accepted(parts, event):
    good = dict(event_id="e", kind="rsvp", user_id=1, item_id=1)
    response = post(parts.service, "/v1/events", good | event)
    assert response.status_code == 422 and response.json()["where"]
    assert "e" not in parts.store.event_ids()


def test_unknown_ids_are_a_counted_fallback_or_a_clear_error(own):
    answer = rank(own.service, item_ids=[1, 2, 77_777, 88_888])
    assert answer["unknown_items"] == 2 and {i["item_id"] for i in answer["items"]} == {1, 2}
    answer = rank(own.service, user_id=123_456)
    assert answer["fallback"] == "unknown_user" and answer["source"] == "batch"  # the list for anyone
    assert {i["item_id"] for i in answer["items"]} <= set(CANDIDATES)
    assert counted(own.service, reason="unknown_user") == 1
    response = post(own.service, "/v1/rank", dict(user_id=1, item_ids=[77_777]))
    assert response.status_code == 404 and "none of the candidates" in response.json()["detail"]
    assert counted(own.service, "refused_total", status="404") == 1


@pytest.mark.parametrize("method, path", [("GET", "/v1/rank"), ("DELETE", "/v1/lists/1"), ("POST", "/nothing")])
def test_there_is_no_other_way_in(parts, method, path):
    assert httpx.request(method, parts.service.url + path).status_code in (404, 405)


def test_the_api_keeps_to_its_own_schema(parts, tmp_path):
    """Thousands of requests made from the schema, valid and not: no 5xx, nothing that the schema does not describe."""
    command = [str(Path(sys.executable).with_name("schemathesis")), "run", parts.service.url + "/openapi.json"]
    command += ["--max-examples", "40", "--seed", "1", "--workers", "2", "--no-color", "--generation-database", "none"]
    fuzz = subprocess.run(command, capture_output=True, text=True, cwd=tmp_path, timeout=120)
    print(fuzz.stdout[-6000:])
    assert fuzz.returncode == 0, fuzz.stdout[-6000:] + fuzz.stderr[-2000:]
    assert rank(parts.service)["source"] == "online"


# ---------- the store is down or slow ----------


def test_with_the_store_down_every_request_is_answered_and_counted(redis_parts):
    service = redis_parts.service
    assert rank(service)["source"] == "online"
    redis_parts.server.kill()
    result = run_load(service.url, rank_calls(), 200, concurrency=8)
    assert (result.status == 200).all() and (result.fallback == "store_down").all() and (result.source == "popular").all()
    assert counted(service, route="rank", reason="store_down", source="popular") == 200
    assert httpx.get(service.url + "/v1/lists/3").json()["source"] == "popular"
    refused = post(service, "/v1/events", dict(event_id="lost", kind="rsvp", user_id=1, item_id=1))
    assert refused.status_code == 503 and refused.headers["retry-after"] == "1" and "store_down" in refused.json()["detail"]
    health = httpx.get(service.url + "/health/ready")
    assert health.status_code == 200, "a store that is down for all replicas must not take them all out of rotation"
    assert "Redis" in health.json()["degraded"][0]
    redis_parts.server.start()
    eventually(lambda: rank(service)["source"] == "online")
    assert "lost" not in redis_parts.store.event_ids()


def test_a_frozen_store_costs_a_few_slow_answers_and_then_none(redis_parts):
    service = redis_parts.service
    rank(service)
    redis_parts.server.pause()
    result = run_load(service.url, rank_calls(), 400, concurrency=4)
    redis_parts.server.resume()
    assert (result.status == 200).all() and set(result.fallback) <= {"store_slow", "store_down"}
    assert "store_slow" in set(result.fallback)
    assert result.latency_ms.max() < 1000, "no answer may wait for the store longer than its time-out, by far"
    assert (result.latency_ms > 40).mean() < 0.2, "after a few failures the store must be left alone"
    eventually(lambda: rank(service)["source"] == "online")


def test_a_slow_store_is_given_up_at_the_deadline(own):
    set_fault(own.fault_file, delay_ms=400)
    start = time.monotonic()
    answer = rank(own.service)
    assert answer["fallback"] == "store_slow" and time.monotonic() - start < 0.39
    set_fault(own.fault_file)
    eventually(lambda: rank(own.service)["source"] == "online")


def test_nothing_to_answer_with_is_a_503_and_not_an_empty_page(tmp_path):
    open_store(tmp_path / "store").close()
    with Service(tmp_path / "store", tmp_path / "no-bundles") as service:
        response = httpx.get(service.url + "/v1/lists/1")
        assert response.status_code == 503 and response.headers["retry-after"] and "no list" in response.json()["detail"]
        answer = rank(service, k=3)
        assert answer["source"] == "as_given" and [i["item_id"] for i in answer["items"]] == CANDIDATES[:3]
        assert httpx.get(service.url + "/health/ready").status_code == 503


# ---------- models that must not serve ----------


def flip_a_byte(path) -> None:
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(content)


@pytest.mark.parametrize("name", FILES)
def test_one_flipped_bit_in_any_part_is_found(tmp_path, name):
    version = new_bundle(tmp_path, 1)
    flip_a_byte(tmp_path / version / name)
    with pytest.raises(BundleError, match=rf"{name}: expected sha256 \w+, found \w+; write the bundle again"):
        read_bundle(tmp_path / version)


def test_parts_of_two_bundles_cannot_be_mixed(tmp_path):
    first, second = new_bundle(tmp_path, 1), new_bundle(tmp_path, 2)
    manifests = [json.loads((tmp_path / v / "manifest.json").read_text()) for v in (first, second)]
    (tmp_path / first / "weights.json").write_bytes((tmp_path / second / "weights.json").read_bytes())
    with pytest.raises(BundleError, match="weights.json: expected sha256"):
        read_bundle(tmp_path / first)
    manifests[0]["sha256"]["weights.json"] = manifests[1]["sha256"]["weights.json"]  # somebody "fixes" the manifest too
    (tmp_path / first / "manifest.json").write_text(json.dumps(manifests[0]))
    with pytest.raises(BundleError, match="parts of two bundles were mixed"):
        read_bundle(tmp_path / first)


@pytest.mark.parametrize("missing", ["manifest.json", "model.txt"])
def test_a_missing_file_is_named(tmp_path, missing):
    version = new_bundle(tmp_path, 1)
    (tmp_path / version / missing).unlink()
    with pytest.raises(BundleError, match=f"{missing}: cannot be read"):
        publish_bundle(tmp_path, version)
    assert not (tmp_path / "CURRENT").exists()


@pytest.mark.parametrize(
    "parts, message",
    [
        (dict(scoring="def features(:"), "SyntaxError"),
        (dict(scoring="x = 1"), "defines no function 'features'"),
        (dict(scoring=SCORING.replace('item["price"]', 'item["cost"]')), "KeyError: 'cost'"),
        (dict(calibrator=([0, 1], [1, 0])), "rising curve"),
        (dict(golden=[]), "at least one golden request"),
    ],
)
def test_a_bundle_whose_parts_do_not_fit_is_never_written(tmp_path, parts, message):
    with pytest.raises(BundleError, match=message):
        new_bundle(tmp_path, 1, **parts)
    assert not list(tmp_path.glob("*/manifest.json"))


def test_a_bundle_that_scores_otherwise_here_than_where_it_was_made_is_refused(tmp_path):
    version = new_bundle(tmp_path, 1, scoring="import os\n" + SCORING.replace("p + ", "p + len(os.environ.get('ELSEWHERE', '')) + "))
    os.environ["ELSEWHERE"] = "another library version"
    try:
        with pytest.raises(BundleError, match="golden request 0 gives .* the libraries differ"):
            read_bundle(tmp_path / version)
    finally:
        del os.environ["ELSEWHERE"]


def test_a_corrupt_new_model_is_refused_and_the_old_one_serves_on(own):
    broken = new_bundle(own.root, 2)
    flip_a_byte(own.root / broken / "model.txt")
    with pytest.raises(BundleError, match="model.txt"):
        publish_bundle(own.root, broken)
    (own.root / "CURRENT").write_text(broken)  # as somebody does who goes round the tool
    eventually(lambda: counted(own.service, "bundles_total", outcome="refused") == 1)
    assert rank(own.service)["model_version"] == own.version
    assert "model.txt: expected sha256" in httpx.get(own.service.url + "/health/ready").json()["degraded"][0]
    mended = serve_bundle(own.root, 2)
    assert mended == broken, "the same content has the same version"
    eventually(lambda: rank(own.service)["model_version"] == mended)


def test_a_process_that_starts_with_a_corrupt_model_serves_lists_and_says_so(own):
    flip_a_byte(own.root / own.version / "model.txt")
    own.service.kill()
    own.service.start()
    answer = rank(own.service, user_id=5)
    assert answer["fallback"] == "no_model" and answer["source"] == "batch" and answer["model_version"] == "v1"
    assert httpx.get(own.service.url + "/health/ready").status_code == 503
    assert counted(own.service, reason="no_model") == 1


@pytest.mark.parametrize(
    "change, reason",
    [
        (('now, encoder):\n', 'now, encoder):\n    if now > 0: import time; time.sleep(0.4)\n'), "deadline"),
        (('now, encoder):\n', 'now, encoder):\n    if now > 0: raise KeyError("price")\n'), "scoring_failed"),
        (('weights["offset"]', 'np.where(weights["offset"] + len(p) > 106, np.nan, 1)'), "bad_scores"),
    ],
)  # fmt: skip
def test_code_that_misbehaves_only_in_production_is_a_counted_fallback(own, change, reason):
    bad = serve_bundle(own.root, 1, scoring=SCORING.replace(*change))  # its golden request, with now = 0 and 5 items, passes
    eventually(lambda: httpx.get(own.service.url + "/health/ready").json()["model_version"] == bad)
    answer = rank(own.service, user_id=4)
    assert answer["fallback"] == reason and answer["source"] == "batch" and answer["model_version"] == "v1"
    assert [i["item_id"] for i in answer["items"]] == [i for i, _ in lists(1)[4] if i in CANDIDATES][:10]
    assert counted(own.service, reason=reason, source="batch") == 1


def test_beyond_its_limit_the_service_sheds_load_and_says_so(own):
    with Service(own.address, own.root, max_in_flight=2, fault_file=own.fault_file) as service:
        set_fault(own.fault_file, delay_ms=20)
        result = run_load(service.url, rank_calls(), 100, concurrency=10)
    assert (result.status == 200).all()
    assert (result.fallback == "overload").sum() > 20 and (result.source[result.fallback == "overload"] == "popular").all()


# ---------- swaps, kills and the soak ----------


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
    with Service(own.address, own.root, micro_batch=16, fault_file=own.fault_file) as service:
        load = Load(service.url, rank_calls(), 3000, concurrency=16, keep_bodies=True)
        load.wait_until_started()
        for number in (2, 3):
            time.sleep(0.5)
            bundles[serve_bundle(own.root, number)] = number
        result = load.result()
    assert (result.status == 200).all() and result.fallback.isna().all()
    assert unexplained(result, {}, bundles) == []
    assert set(result.version) == set(bundles), "each version must have served"


def test_killed_under_load_and_restarted_no_accepted_event_is_lost(own):
    events = [Call("/v1/events", dict(event_id=f"e{i}", kind="rsvp", user_id=i, item_id=i % 5)) for i in range(3000)]
    load = Load(own.service.url, events, 3000, concurrency=16, retry_s=20)
    load.wait_until_started()
    eventually(lambda: len(own.store.event_ids()) > 300)
    own.service.kill()
    assert len(own.store.event_ids()) < 3000, "the kill must come in the middle"
    own.service.start()
    result = load.result()
    assert (result.status == 202).all(), "each was accepted in the end"
    assert (result.attempts > 1).any(), "some met the dead service"
    assert own.store.event_ids() == {f"e{i}" for i in range(3000)}
    assert own.store.who("rsvp", [3]) == [{i for i in range(3000) if i % 5 == 3}], "sent twice, counted once"


def test_a_stopped_service_finishes_what_it_has_begun(own):
    set_fault(own.fault_file, delay_ms=20)
    load = Load(own.service.url, rank_calls(), 400, concurrency=4)
    load.wait_until_started()
    time.sleep(0.5)
    own.service.stop()
    result = load.result()
    begun = result[result.status == 200]
    assert len(begun) > 5
    assert not (result.error == "IncompleteReadError").sum() > 4, "at most the idle connection of each client is cut"


def test_the_soak(redis_parts):
    """10,000 requests at 32 connections; lists swapped twice, bundle swapped once, the store killed once and restarted."""
    store, service, bundles = redis_parts.store, redis_parts.service, {redis_parts.version: 1}
    calls = [call for i in range(200) for call in (rank_calls(200)[i], Call(f"/v1/lists/{i}", None, "GET"))]
    load = Load(service.url, calls, 10_000, concurrency=32, keep_bodies=True)
    load.wait_until_started()
    answered = lambda: counted(service)  # noqa: E731
    for number, at in ((2, 1500), (3, 7500)):
        store.write(f"v{number}", lists(number), ttl_s=3600)
        eventually(lambda at=at: answered() > at, 60)
        store.publish(f"v{number}")
        if number == 2:
            eventually(lambda: answered() > 3000, 60)
            redis_parts.server.kill()
            eventually(lambda: counted(service, reason="store_down") > 200, 60)
            redis_parts.server.start()
            eventually(lambda: counted(service, source="online") > 2500 and answered() > 5000, 60)
            bundles[serve_bundle(redis_parts.root, 2)] = 2
    result = load.result()
    figures = summary(result)
    by_reason = result.groupby(["source", result.fallback.fillna("none")]).size()
    print("soak:", {k: round(v, 3) for k, v in figures.items()}, by_reason.to_dict(), result.groupby("version").size().to_dict())
    assert len(result) == 10_000 and (result.status == 200).all(), "not one error"
    assert unexplained(result, {"v1": 1, "v2": 2, "v3": 3}, bundles) == [], "not one answer of mixed versions"
    assert set(result.fallback.dropna()) <= {"store_down", "store_slow", "deadline", "overload"}, "every fallback has a known reason"
    assert {"v1", "v2", "v3", *bundles} <= set(result.version), "every version served"
    assert counted(service) == 10_000, "every answer was counted"
    for (source, reason), n in by_reason.items():
        assert counted(service, source=source, reason=reason) == n, "as what it was"
    lost = counted(service, reason="store_down") + counted(service, reason="store_slow")
    assert 200 < lost < 5000, "the kill was felt, and got over"


# ---------- processes ----------


def test_the_service_ends_with_the_process_that_started_it(parts, tmp_path):
    code = """
        import os, signal, sys
        from mlsd.serving.process import Service
        service = Service(sys.argv[1], sys.argv[2])
        print(service.pid, flush=True)
        os.kill(os.getpid(), signal.SIGKILL)
    """
    command = [sys.executable, "-c", textwrap.dedent(code), parts.address, str(parts.root)]
    parent = subprocess.run(command, capture_output=True, text=True, env=os.environ | {"TMPDIR": str(tmp_path)})
    pid = int(parent.stdout)
    eventually(lambda: not psutil.pid_exists(pid) or psutil.Process(pid).status() == psutil.STATUS_ZOMBIE, 10)


def test_start_and_stop_leave_nothing_behind(parts, tmp_path, monkeypatch):
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    before = {p.pid for p in psutil.Process().children(recursive=True)}
    with Service(parts.address, parts.root) as service:
        run_load(service.url, rank_calls(), 20, concurrency=4)
    assert {p.pid for p in psutil.Process().children(recursive=True)} <= before
    assert not list(tmp_path.iterdir())


def test_a_service_that_cannot_start_says_why(parts, tmp_path):
    (tmp_path / "file").touch()
    with pytest.raises(ProcessError, match="(?s)ended with code 1.*cannot open"):
        Service(tmp_path / "file", parts.root)
    with pytest.raises(ProcessError, match="(?s)unrecognized arguments: --speed"):
        Service(parts.address, parts.root, speed=11)


def test_a_missing_redis_server_is_reported_with_the_way_to_get_it(monkeypatch):
    monkeypatch.setenv("PATH", "")
    with pytest.raises(ProcessError, match="apt-get install redis-server"):
        RedisServer()


# ---------- the load generator ----------


def test_an_open_loop_sees_a_stall_that_a_closed_loop_hides(parts):
    def during_a_stall(**how: object) -> dict[str, float]:
        load = Load(parts.service.url, [Call("/health/live", None, "GET")], 600, **how)
        load.wait_until_started()
        time.sleep(0.15)
        parts.service.pause()
        time.sleep(0.6)
        parts.service.resume()
        return summary(load.result())

    closed, opened = during_a_stall(concurrency=1), during_a_stall(concurrency=64, rate=400)
    assert closed["max_ms"] > 500 and closed["p99_ms"] < 60, "one request in 600 waited: p99 does not see it"
    assert opened["p95_ms"] > 100, "hundreds of users were due while it stood still"


def test_a_dead_service_is_an_error_a_request_and_not_a_crash():
    result = run_load("http://127.0.0.1:1", rank_calls(), 10, concurrency=2)
    assert (result.status == 0).all() and set(result.error) == {"ConnectionRefusedError"}
    assert summary(result)["errors"] == 1


def test_an_open_loop_keeps_its_rate(parts):
    result = run_load(parts.service.url, [Call("/health/live", None, "GET")], 400, concurrency=16, rate=200)
    assert result.at_s.iloc[-1] == pytest.approx(2.0, rel=0.25) and (result.status == 200).all()


def test_impossible_loads_are_refused():
    with pytest.raises(ValueError, match="above 0"):
        Load("http://127.0.0.1:1", [], 10)


# ---------- small parts ----------


def test_the_breaker_opens_tries_again_and_closes():
    now = [0.0]
    breaker = Breaker(failures=2, open_s=1.0, clock=lambda: now[0])
    for ok in (False, True, False):
        breaker.record(ok)
    assert breaker.allows(), "a success in between forgives"
    breaker.record(False)
    assert not breaker.allows()
    now[0] = 1.1
    assert breaker.allows() and not breaker.allows(), "one caller tries, the others wait for what it finds"
    breaker.record(False)
    assert not breaker.allows()
    now[0] = 2.3
    assert breaker.allows()
    breaker.record(True)
    assert breaker.allows() and breaker.allows()


def test_a_micro_batcher_groups_and_passes_errors_on():
    sizes = []

    def work(values: list[int]) -> list[int]:
        sizes.append(len(values))
        time.sleep(0.01)
        if -1 in values:
            raise ValueError("no")
        return [2 * v for v in values]

    async def scene() -> None:
        batcher = MicroBatcher(work, max_size=8, wait_s=0.005)
        assert await asyncio.gather(*(batcher(i) for i in range(20))) == [2 * i for i in range(20)]
        found = await asyncio.gather(batcher(1), batcher(-1), return_exceptions=True)
        assert all(isinstance(f, ValueError) for f in found)
        with pytest.raises(TimeoutError):
            await asyncio.wait_for(batcher(3), 0.001)
        assert await batcher(4) == 8, "a caller that gave up does not harm the next"
        batcher.close()

    asyncio.run(scene())
    assert max(sizes) == 8 and sum(sizes) == 24


def test_popular_items_are_the_fallback_in_their_order(own):
    set_fault(own.fault_file, down=True)
    answer = rank(own.service, item_ids=[5, 30, 12, 20], k=4)
    assert [i["item_id"] for i in answer["items"]] == sorted([30, 12, 20], key=POPULAR.index) + [5]
    assert [i["score"] for i in answer["items"]] == [None] * 4
