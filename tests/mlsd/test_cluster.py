"""A cluster of real processes: what it computes, what it survives, and that it ends."""

import contextlib
import os
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

import psutil
import pytest
from dask.distributed import KilledWorker

from mlsd.cluster import ADDRESS, ClusterError, open_cluster


@pytest.fixture(autouse=True)
def no_address(monkeypatch):
    monkeypatch.delenv(ADDRESS, raising=False)


def pid_of(_):
    return os.getpid()


def hold(megabytes):
    """Hold so much until it is noticed, or for ten seconds."""
    held = [b"x" * 1_000_000 for _ in range(megabytes)]
    time.sleep(10)
    return len(held)


def squares():
    """A function that travels whole, as a notebook's do: workers elsewhere do not have this file."""

    def square(i, folder):
        """The worker that has 3 for the first time dies."""
        with contextlib.suppress(FileExistsError):
            if i == 3:
                Path(folder, "died").touch(exist_ok=False)
                os.kill(os.getpid(), signal.SIGKILL)
        return i * i

    return square


def gone(pids, patience_s=20):
    end = time.monotonic() + patience_s
    while any(psutil.pid_exists(pid) for pid in pids) and time.monotonic() < end:
        time.sleep(0.1)
    return not any(psutil.pid_exists(pid) for pid in pids)


def test_workers_are_other_processes_and_end_with_the_block():
    with open_cluster(2) as client:
        pids = set(client.run(os.getpid).values())
        assert set(client.gather(client.map(pid_of, range(20)))) <= pids
    assert len(pids) == 2 and os.getpid() not in pids and gone(pids)


def test_workers_end_when_the_block_fails():
    with pytest.raises(ZeroDivisionError), open_cluster(1) as client:
        pids = set(client.run(os.getpid).values())
        client.submit(lambda: 1 / 0).result()
    assert gone(pids)


def test_a_killed_worker_costs_no_result(tmp_path):
    with open_cluster(2) as client:
        assert client.gather(client.map(squares(), range(12), folder=str(tmp_path))) == [i * i for i in range(12)]
    assert (tmp_path / "died").exists()


def test_a_worker_that_is_not_started_again_is_replaced():
    with open_cluster(1) as client:
        (nanny,) = client.cluster.workers.values()
        client.sync(nanny.close)
        assert client.submit(sum, [1, 2], pure=False).result(timeout=120) == 3


def test_a_task_larger_than_its_worker_is_given_up_and_the_next_one_is_done():
    with open_cluster(1, memory="300MB", deaths=1) as client:
        with pytest.raises(KilledWorker):
            client.submit(hold, 600).result()
        assert client.submit(sum, [1, 2]).result() == 3


def test_what_a_worker_prints_lands_nowhere(capfd):
    with open_cluster(1) as client:
        client.submit(print, "a library's greeting").result()
    assert "greeting" not in capfd.readouterr().out


def test_it_takes_a_worker():
    with pytest.raises(ValueError, match="at least 1, found 0"), open_cluster(0):
        pass


@pytest.mark.parametrize("address", ["tcp://127.0.0.1:1", "no-address"])
def test_a_scheduler_that_is_not_there_is_an_error_in_seconds(monkeypatch, address):
    monkeypatch.setenv(ADDRESS, address)
    started = time.monotonic()
    with pytest.raises(ClusterError, match="no scheduler answered in 1 s; start one"), open_cluster(2, patience_s=1):
        pass
    assert time.monotonic() - started < 30


@contextlib.contextmanager
def started_by_hand(*words):
    process = subprocess.Popen([sys.executable, "-m", "dask", *words], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    try:
        yield process
    finally:
        process.terminate()
        process.wait(30)


def free_port():
    with socket.socket() as s:
        s.bind(("127.0.0.1", 0))
        return s.getsockname()[1]


def test_a_scheduler_started_by_hand_is_used_by_its_address(monkeypatch, tmp_path):
    port = free_port()
    address = f"tcp://127.0.0.1:{port}"
    monkeypatch.setenv(ADDRESS, address)
    with started_by_hand("scheduler", "--host", "127.0.0.1", "--port", str(port), "--no-dashboard"):
        with pytest.raises(ClusterError, match="has no worker"):
            for _ in range(20):  # it may take its time to start
                try:
                    with open_cluster(2, patience_s=3):
                        pass
                except ClusterError as error:
                    if "no scheduler" not in str(error):
                        raise
        worker = ("worker", address, "--nthreads", "1", "--no-dashboard", "--local-directory", str(tmp_path))
        # Two: a nanny starts no other if its worker dies before it heard that it had started, and a task may be that quick.
        with started_by_hand(*worker) as process, started_by_hand(*worker), open_cluster(2, patience_s=60) as client:
            client.wait_for_workers(2)
            assert client.gather(client.map(squares(), range(12), folder=str(tmp_path))) == [i * i for i in range(12)]
            assert not set(client.run(os.getppid).values()) & {os.getpid()}  # none of ours
        assert process.returncode is not None
    assert (tmp_path / "died").exists()
