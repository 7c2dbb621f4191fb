"""Clients that say nothing, half of something, or come in too great a number."""

from __future__ import annotations

import socket
import sys
import time

import pytest
from serving_parts import CANDIDATES, counted, eventually, post, rank

from mlsd.serving.process import Service

TIMEOUT_S = 2.0
BODY = b'{"user_id": 1, "item_ids": [1, 2, 3]}'
HEAD = b"POST /v1/rank HTTP/1.1\r\nHost: x\r\nContent-Length: %d\r\n\r\n" % len(BODY)
SAID = {"nothing": b"", "half a header": HEAD[:30], "half a body": HEAD + BODY[:10]}


@pytest.fixture(scope="module")
def impatient(parts):
    with Service(parts.address, parts.root, read_timeout_s=TIMEOUT_S, deadline_ms=2000, max_connections=50) as service:
        yield service


def connect(service: Service) -> socket.socket:
    return socket.create_connection(("127.0.0.1", service.port), 30)


def answer(client: socket.socket) -> bytes:
    """One answer, head and body, which may come in pieces."""
    said = b""
    while b"}]" not in said:
        piece = client.recv(10_000)
        assert piece, said
        said += piece
    return said


def wait_until_closed(client: socket.socket) -> None:
    try:
        while client.recv(1000):
            pass
    except ConnectionError:
        pass


@pytest.mark.parametrize("said", SAID)
def test_a_silent_client_is_closed_in_time(impatient, said):
    before = counted(impatient, "connections_closed_total", why="read_timeout")
    start = time.monotonic()
    with connect(impatient) as client:
        client.sendall(SAID[said])
        wait_until_closed(client)
    assert TIMEOUT_S <= time.monotonic() - start < 20
    assert counted(impatient, "connections_closed_total", why="read_timeout") == before + 1


def test_a_client_that_drips_is_closed_too(impatient):
    """A byte now and then renews nothing: the whole request has one time to come in."""
    start = time.monotonic()
    with connect(impatient) as client, pytest.raises(OSError):
        for i in range(200):
            client.sendall((HEAD + BODY)[i % 40 : i % 40 + 1])
            time.sleep(0.1)
    assert time.monotonic() - start < 15


def test_a_client_that_works_is_not_closed(impatient):
    with connect(impatient) as client:
        for _ in range(8):
            client.sendall(HEAD + BODY)
            assert b'"source":"online"' in answer(client)
            time.sleep(TIMEOUT_S / 6)


def test_a_half_read_request_that_was_shed_leaves_the_connection_whole(parts):
    with Service(parts.address, parts.root, max_in_flight=0) as service, connect(service) as client:
        for _ in range(3):
            client.sendall(HEAD + BODY[:10])
            assert b'"fallback":"overload"' in answer(client)
            client.sendall(BODY[10:])


def test_over_the_limit_the_silent_make_room(impatient):
    idle = [connect(impatient) for _ in range(120)]
    try:
        assert rank(impatient)["source"] == "online"
        assert post(impatient, "/v1/events", dict(event_id="room", kind="click", user_id=1, item_id=1)).status_code == 202
        assert counted(impatient, "connections_closed_total", why="no_room") >= 60
    finally:
        for client in idle:
            client.close()


def spent_in_a_second(service: Service) -> float:
    before = service.cpu_seconds()
    time.sleep(1)
    return service.cpu_seconds() - before


@pytest.mark.skipif(sys.platform == "win32", reason="no descriptor limit")
def test_1100_idle_connections_at_1024_descriptors_are_no_outage(parts):
    """The limit stays below the descriptors that there are; health and ranking answer all the time."""
    import resource

    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (1024, hard))
    try:
        service = Service(parts.address, parts.root, deadline_ms=2000)
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (max(soft, min(4096, hard)), hard))
    idle = []
    try:
        with service:
            for n in range(1100):
                idle.append(connect(service))
                if n % 200 == 199:
                    assert service.health()["ready"] and rank(service, item_ids=CANDIDATES)["source"] == "online"
            assert any(spent_in_a_second(service) < 0.3 for _ in range(3)), "nothing is busy with those that wait"
            assert "Traceback" not in service.log()
    finally:
        for client in idle:
            client.close()
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))


@pytest.mark.skipif(sys.platform != "linux", reason="prlimit")
def test_out_of_descriptors_it_recovers(parts):
    """Something else has eaten the descriptors: new clients are refused, and served again when there are some."""
    import resource

    import psutil

    with Service(parts.address, parts.root, deadline_ms=2000) as service:
        rank(service)
        process = psutil.Process(service.pid)
        limit = process.rlimit(resource.RLIMIT_NOFILE)
        process.rlimit(resource.RLIMIT_NOFILE, (process.num_fds() + 3, limit[1]))
        idle = []
        for _ in range(20):
            try:
                idle.append(connect(service))
            except OSError:
                break
        time.sleep(0.5)
        process.rlimit(resource.RLIMIT_NOFILE, limit)
        for client in idle:
            client.close()
        eventually(lambda: service.health()["ready"] and rank(service)["source"] == "online")
