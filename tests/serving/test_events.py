"""Events: on disk before they are acknowledged, refused in time when they cannot be, and counted in the next list."""

from __future__ import annotations

import asyncio
import subprocess
import sys
import textwrap
import time

import httpx
from serving_parts import counted, eventually, expected_ranking, pairs, post, rank, under_load

from mlsd.serving.load import Call, Load, run_load
from mlsd.serving.process import Service


def test_an_accepted_event_is_in_the_next_answers_features(own):
    before = rank(own.service, user_id=1, k=20)
    for user in range(30):
        event = dict(event_id=f"r{user}", kind="rsvp", user_id=user, item_id=3)
        assert post(own.service, "/v1/events", event).status_code == 202
    after = rank(own.service, user_id=1, k=20)
    assert pairs(after) == expected_ranking(own, 1, 20)
    assert before["items"] != after["items"]


def hold_write_lock(address: str) -> subprocess.Popen:
    """Another process that takes LMDB's write lock and keeps it until it is killed."""
    code = """
        import lmdb, sys, time
        env = lmdb.open(sys.argv[1], map_size=1 << 30, max_dbs=8)
        txn = env.begin(write=True)
        print("held", flush=True)
        time.sleep(600)
    """
    holder = subprocess.Popen([sys.executable, "-c", textwrap.dedent(code), address], stdout=subprocess.PIPE, text=True)
    assert holder.stdout.readline() == "held\n"
    return holder


def test_with_the_write_lock_held_events_are_refused_in_time_and_lists_go_on(own):
    events = [Call("/v1/events", dict(event_id=f"e{i}", kind="rsvp", user_id=1, item_id=1)) for i in range(300)]
    own.service.stop()
    with Service(own.address, own.root, events_ms=300, max_events=50, deadline_ms=2000) as service:
        holder = hold_write_lock(own.address)
        try:
            response = post(service, "/v1/events", events[0].body)
            assert response.status_code == 503 and response.headers["retry-after"] == "1"
            result = run_load(service.url, events, 300, concurrency=100, timeout_s=60)
            assert (result.status == 503).all()
            assert rank(service)["source"] == "online"
            assert counted(service, route="events", status=503) == 301
        finally:
            holder.kill()
            holder.wait()
        result = run_load(service.url, events, 300, concurrency=8, retry_s=30)
        assert (result.status == 202).all() and own.store.event_ids() == {f"e{i}" for i in range(300)}


def test_with_the_write_lock_held_it_ends_when_told_to(own):
    holder = hold_write_lock(own.address)
    load = Load(own.service.url, [Call("/v1/events", dict(event_id="e", kind="rsvp", user_id=1, item_id=1))], 20, concurrency=20)
    try:
        load.wait_until_started()
        time.sleep(0.3)
        start = time.monotonic()
        own.service._process.terminate()
        own.service._process.wait(60)
        assert time.monotonic() - start < 15, "long before the 20 s after which an event is given up"
        assert set(load.result().status) <= {503, 500, 0}, "whoever waited has an answer or a closed connection"
    finally:
        holder.kill()
        holder.wait()


def test_a_poison_event_fails_alone(redis_parts):
    """An event whose counter holds something else: its neighbours of the same commit are kept."""
    redis_parts.store._backend._client.set("mlsd:who/rsvp/7", "not a set")
    events = [dict(event_id=f"e{i}", kind="rsvp", user_id=i, item_id=7 if i == 11 else 8) for i in range(40)]

    async def together() -> list[httpx.Response]:
        async with httpx.AsyncClient(trust_env=False, timeout=60) as client:
            return await asyncio.gather(*(client.post(redis_parts.service.url + "/v1/events", json=event) for event in events))

    statuses = [response.status_code for response in asyncio.run(together())]
    assert statuses[11] == 503 and set(statuses[:11] + statuses[12:]) == {202}
    assert redis_parts.store.event_ids() >= {f"e{i}" for i in range(40) if i != 11}
    assert len(redis_parts.store.who("rsvp", [8])[0]) == 39


def test_the_same_id_with_other_content_is_a_conflict(own):
    event = dict(event_id="one", kind="rsvp", user_id=1, item_id=1)
    assert [post(own.service, "/v1/events", e).status_code for e in (event, event, event | dict(user_id=2))] == [202, 202, 409]
    assert own.store.who("rsvp", [1]) == [{1}]


def test_killed_under_load_and_restarted_no_accepted_event_is_lost(own):
    events = [Call("/v1/events", dict(event_id=f"e{i}", kind="rsvp", user_id=i, item_id=i % 5)) for i in range(30_000)]
    with under_load(
        own.service, events, n=len(events), concurrency=16, retry_s=60
    ) as load:  # each event once, as long as it gets an answer
        eventually(lambda: len(own.store.event_ids()) > 300)
        own.service.kill()
        own.service.start()
        eventually(lambda: counted(own.service, route="events", status=202) > 300)
        result = load.finish()
    assert len(result) < len(events), "the kill must come in the middle"
    assert (result.status == 202).all(), "each was accepted in the end"
    assert (result.attempts > 1).any(), "some met the dead service"
    sent = set(result.call)
    assert own.store.event_ids() == {f"e{i}" for i in sent}
    assert own.store.who("rsvp", [3]) == [{i for i in sent if i % 5 == 3}], "sent twice, counted once"
