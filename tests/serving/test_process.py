"""Processes that start, stop and end, in every state, and leave nothing behind."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
import textwrap
import time

import psutil
import pytest
from serving_parts import SCORING, counted, eventually, rank, rank_calls, serve_bundle, under_load

from mlsd.serving.faults import set_fault
from mlsd.serving.load import run_load
from mlsd.serving.process import ProcessError, Service


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
    eventually(lambda: not psutil.pid_exists(pid) or psutil.Process(pid).status() == psutil.STATUS_ZOMBIE)


def test_start_and_stop_leave_nothing_behind(parts, tmp_path, monkeypatch):
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    before = {p.pid for p in psutil.Process().children(recursive=True)}
    with Service(parts.address, parts.root) as service:
        run_load(service.url, rank_calls(), 20, concurrency=4)
    assert {p.pid for p in psutil.Process().children(recursive=True)} <= before
    assert not list(tmp_path.iterdir())


def test_a_service_that_cannot_start_says_why(parts, tmp_path):
    with pytest.raises(ProcessError, match="(?s)ended with code 1.*expected redis://"):
        Service("http://somewhere", parts.root)
    with pytest.raises(ProcessError, match="(?s)unrecognized arguments: --speed"):
        Service(parts.address, parts.root, speed=11)


def test_a_stopped_service_finishes_what_it_has_begun(own):
    set_fault(own.fault_file, delay_ms=20)
    with under_load(own.service, rank_calls(), concurrency=4) as load:
        eventually(lambda: counted(own.service, route="rank") > 20)
        own.service.stop()
        result = load.finish()
    begun = result[result.status == 200]
    assert len(begun) > 20
    assert not (result.error == "IncompleteReadError").sum() > 4, "at most the idle connection of each client is cut"


def ends(service: Service) -> float:
    """Seconds from SIGTERM to the end of the process."""
    start = time.monotonic()
    service._process.terminate()
    service._process.wait(60)
    return time.monotonic() - start


def test_with_idle_and_half_open_connections_it_ends_when_told_to(own):
    idle = [socket.create_connection(("127.0.0.1", own.service.port), 10) for _ in range(30)]
    for i, client in enumerate(idle):
        client.sendall([b"", b"POST /v1/rank HT", b"POST /v1/rank HTTP/1.1\r\nHost: x\r\nContent-Length: 50\r\n\r\n{"][i % 3])
    time.sleep(0.2)
    assert ends(own.service) < 20
    for client in idle:
        try:
            assert client.recv(1000) is not None
        except ConnectionError:
            pass
        client.close()


def test_with_a_model_that_never_returns_it_ends_when_told_to(own):
    stuck = SCORING.replace("now, encoder):\n", "now, encoder):\n    while now > 0: pass\n")
    with Service(own.address, own.root, deadline_ms=6000) as service:  # the list is read beside a thread that never rests
        service.wait_for(model_version=serve_bundle(own.root, 1, scoring=stuck))
        answer = rank(service)
        assert answer["fallback"] == "deadline" and answer["source"] == "batch"
        assert ends(service) < 20


def test_loopback_needs_no_proxy(parts, monkeypatch):
    """As in a campus network: every client of ours goes past the proxy, which here does not exist."""
    for variable in ("http_proxy", "HTTP_PROXY", "all_proxy"):
        monkeypatch.setenv(variable, "http://127.0.0.1:9")
    monkeypatch.delenv("no_proxy", raising=False)
    with Service(parts.address, parts.root, deadline_ms=2000) as service:
        assert service.health()["ready"]
        assert (run_load(service.url, rank_calls(), 5).status == 200).all()


def test_the_stores_password_is_not_on_the_command_line(tmp_path):
    serve_bundle(tmp_path, 1)
    with Service("redis://:sesame@127.0.0.1:1/0", tmp_path) as service:
        assert "sesame" not in " ".join(psutil.Process(service.pid).cmdline())
        eventually(lambda: service.health()["degraded"])
        assert "sesame" not in str(service.health()) and "sesame" not in service.log()


def test_nothing_in_the_package_needs_what_windows_lacks():
    """resource, fcntl and uvloop are absent there: everything must still import."""
    code = """
        import sys
        import psutil  # has a part of its own for each system
        sys.modules.update(dict.fromkeys(["resource", "fcntl", "uvloop", "termios", "pwd", "grp"]))
        import mlsd.serving.service, mlsd.serving.bench, mlsd.serving.process, mlsd.serving.load
    """
    subprocess.run([sys.executable, "-c", textwrap.dedent(code)], check=True)


def test_a_name_bound_to_a_new_service_ends_the_old_one(parts):
    """As when a notebook's cell is run twice."""
    service = Service(parts.address, parts.root)
    first = service.pid
    service = Service(parts.address, parts.root)
    eventually(lambda: not psutil.pid_exists(first))
    service.stop()
