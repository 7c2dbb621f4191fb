"""The service behind real HTTP: malformed, hostile and plain requests, and the count of every answer."""

from __future__ import annotations

import json
import socket
import subprocess
import sys
from pathlib import Path

import httpx
import pytest
from serving_parts import SCORING, counted, eventually, get, pairs, post, rank, serve_bundle

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
    "items twice, once with a point": dict(GOOD, item_ids=[1, 1.0]),
    "items nested": b'{"user_id": 1, "item_ids": ' + b"[" * 960 + b"]" * 960 + b"}",
    "objects nested": b'{"user_id": 1, "item_ids": ' + b'{"a":' * 960 + b"1" + b"}" * 960 + b"}",
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
    before = counted(parts.service, route="rank", status=422)
    response = httpx.post(parts.service.url + "/v1/rank", content=content, trust_env=False, timeout=20)
    assert 400 <= response.status_code < 500, response.text
    assert response.json()["detail"]
    assert len(response.content) < 500, "an error must not repeat the input"
    assert counted(parts.service, route="rank", status=422) == before + 1, "and is counted"
    assert rank(parts.service)["source"] == "online"


@pytest.mark.parametrize("chunked", [False, True])
def test_a_huge_body_is_refused_before_it_is_parsed(parts, chunked):
    body = b'{"user_id": 1, "item_ids": [' + b"1," * 1_000_000 + b"1]}"
    content = (body[i : i + 65536] for i in range(0, len(body), 65536)) if chunked else body
    try:
        response = httpx.post(parts.service.url + "/v1/rank", content=content, trust_env=False, timeout=20)
        assert response.status_code == 413 and "larger than" in response.json()["detail"]
    except httpx.NetworkError:
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


@pytest.mark.parametrize("method, path", [("GET", "/v1/rank"), ("DELETE", "/v1/lists/1"), ("POST", "/nothing")])
def test_there_is_no_other_way_in(parts, method, path):
    assert httpx.request(method, parts.service.url + path, trust_env=False).status_code in (404, 405)


def test_the_api_keeps_to_its_own_schema(parts, tmp_path):
    """Thousands of requests made from the schema, valid and not: no 5xx, nothing that the schema does not describe."""
    command = [str(Path(sys.executable).with_name("schemathesis")), "run", parts.service.url + "/openapi.json"]
    command += ["--max-examples", "25", "--seed", "1", "--workers", "2", "--no-color", "--generation-database", "none"]
    fuzz = subprocess.run(command, capture_output=True, text=True, cwd=tmp_path, timeout=300)
    print(fuzz.stdout[-6000:])
    assert fuzz.returncode == 0, fuzz.stdout[-6000:] + fuzz.stderr[-2000:]
    assert rank(parts.service)["source"] == "online"


def test_every_answer_errors_included_is_in_one_counter(own):
    service = own.service
    rank(service)
    get(service, "/nothing")
    httpx.delete(service.url + "/v1/rank", trust_env=False)
    httpx.post(service.url + "/v1/rank", content=b"x" * 600_000, trust_env=False)
    post(service, "/v1/rank", {})
    with socket.create_connection(("127.0.0.1", service.port), 10) as raw:
        raw.sendall(b"this is not HTTP\r\n\r\n")
        assert b" 400 " in raw.recv(1000)
    eventually(lambda: counted(service, status=400) == 1)
    found = {status: counted(service, status=status) for status in (404, 405, 413, 422)}
    assert found == {404: 1, 405: 1, 413: 1, 422: 1}
    assert counted(service, route="rank", source="online", reason="none", version=own.version, status=200) == 1


def test_an_error_of_the_service_itself_is_a_500_that_is_counted(own):
    """An answer that cannot be written, here since the bundle's score is no float that JSON knows: it must not go by unseen."""
    bad = serve_bundle(own.root, 1, scoring=SCORING + "\nimport json\n", popular=[2**70])
    own.service.wait_for(model_version=bad)
    own.store.clear()
    response = get(own.service, "/v1/lists/3")
    assert response.status_code == 500 and "detail" in response.json() and "2**70" not in response.text
    assert counted(own.service, route="lists", status=500) == 1


def test_a_replay_sets_the_clock_of_the_features_and_nothing_else(own):
    """What `as_of` promises: the code of the bundle sees that time; RSVPs are those of now, so two replays may differ."""
    clocked = serve_bundle(own.root, 1, scoring=SCORING.replace("own = np", "assert now in (0.0, 1000.0), now\n    own = np"))
    own.service.wait_for(model_version=clocked)
    assert rank(own.service)["fallback"] == "scoring_failed", "now is another time"
    before = rank(own.service, as_of=1000, k=20)
    assert before["fallback"] is None
    for user in range(30):
        post(own.service, "/v1/events", dict(event_id=f"r{user}", kind="rsvp", user_id=user, item_id=3))
    assert pairs(rank(own.service, as_of=1000, k=20)) != pairs(before)
    assert "served features" in json.dumps(get(own.service, "/openapi.json").json()["components"]["schemas"]["RankRequest"])


def test_whole_numbers_may_have_a_point(parts):
    """In JSON 1.0 is an integer, and some languages write it so."""
    assert {i for i, _ in pairs(rank(parts.service, item_ids=[1.0, 2.0], user_id=1.0, k=2.0))} == {1, 2}
