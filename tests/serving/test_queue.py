"""The work queue: the same promises from SQLite in a directory and from Redis Streams, also when workers are killed."""

from __future__ import annotations

import subprocess
import sys
import textwrap
import threading
import time
import uuid

import pytest

from mlsd.serving.backends import StoreBusy, StoreCorrupt, StoreDown, StoreError
from mlsd.serving.queue import Counts, SqliteQueue, open_queue
from mlsd.serving.store import BadRecord, open_store


@pytest.fixture(params=["sqlite", "redis"])
def where(request, tmp_path) -> str:
    return str(tmp_path / "queue") if request.param == "sqlite" else request.getfixturevalue("redis_server").url


@pytest.fixture
def name() -> str:
    return "q" + uuid.uuid4().hex


@pytest.fixture
def jobs(where, name):
    with open_queue(where, name, lease_s=60, timeout_s=10) as queue:
        yield queue


@pytest.fixture
def short(where, name):
    """A queue whose leases are over at once."""
    with open_queue(where, name, lease_s=0.001, attempts=3, timeout_s=10) as queue:
        yield queue


def bodies(n: int) -> list[dict]:
    return [{"post": i} for i in range(n)]


def test_jobs_come_in_order_and_end_once(jobs):
    assert len(set(jobs.put(bodies(3)))) == 3
    assert jobs.counts() == Counts(3, 0, 0, 0)
    first, second = jobs.take(2)
    assert (first.body, second.body, first.attempt) == ({"post": 0}, {"post": 1}, 1)
    assert jobs.counts() == Counts(1, 2, 0, 0)
    assert jobs.done(first) and not jobs.done(first)
    assert jobs.counts() == Counts(1, 1, 1, 0)
    (third,) = jobs.take(5)
    assert third.body == {"post": 2} and jobs.take() == []


def test_an_empty_queue_gives_nothing(jobs):
    assert jobs.take() == [] and jobs.put([]) == [] and jobs.counts() == Counts(0, 0, 0, 0) and jobs.set_aside() == []


def test_a_job_given_back_is_handed_out_at_once_and_only_its_new_holder_can_end_it(jobs):
    jobs.put(bodies(1))
    (mine,) = jobs.take()
    assert jobs.give_back(mine) and jobs.counts() == Counts(1, 0, 0, 0)
    (theirs,) = jobs.take()
    assert theirs.id == mine.id and theirs.attempt == 2
    assert not jobs.done(mine) and not jobs.give_back(mine)
    assert jobs.done(theirs)


def test_a_lease_that_is_over_frees_the_job(short):
    short.put(bodies(1))
    (mine,) = short.take()
    time.sleep(0.01)
    assert short.counts() == Counts(1, 0, 0, 0)
    (theirs,) = short.take()
    assert theirs.attempt == 2 and not short.done(mine) and short.done(theirs)
    assert short.counts() == Counts(0, 0, 1, 0)


def test_a_slow_worker_whose_job_nobody_took_may_still_end_it(short):
    short.put(bodies(1))
    (mine,) = short.take()
    time.sleep(0.01)
    assert short.done(mine)


def test_a_live_lease_is_respected_by_another_opening_of_the_queue(jobs, where, name):
    jobs.put(bodies(2))
    jobs.take()
    with open_queue(where, name, lease_s=60, timeout_s=10) as other:
        assert [job.body["post"] for job in other.take(2)] == [1]


def test_a_poison_job_is_set_aside_and_the_others_go_on(short):
    short.put([{"post": "poison"}, {"post": "good"}])
    seen = []
    for _ in range(8):
        for job in short.take(2):
            seen.append(job.body["post"])
            if job.body["post"] == "good":
                assert short.done(job)
        time.sleep(0.005)
    assert seen.count("poison") == 3 and seen.count("good") == 1
    assert short.counts() == Counts(0, 0, 1, 1)
    assert [job.body for job in short.set_aside()] == [{"post": "poison"}]


def test_giving_back_without_end_is_poison_too(short):
    short.put(bodies(1))
    for _ in range(3):
        (job,) = short.take()
        short.give_back(job)
    assert short.take() == [] and short.counts().set_aside == 1


def test_jobs_survive_closing(where, name):
    with open_queue(where, name, timeout_s=10) as queue:
        queue.put(bodies(5))
        queue.done(queue.take()[0])
    with open_queue(where, name, timeout_s=10) as queue:
        assert queue.counts() == Counts(4, 0, 1, 0)
        assert [job.body["post"] for job in queue.take(9)] == [1, 2, 3, 4]


def test_several_queues_share_an_address(jobs, where, name):
    with open_queue(where, name + "_b", timeout_s=10) as other:
        other.put(bodies(2))
        assert jobs.take() == [] and len(other.take(5)) == 2


@pytest.mark.parametrize("body", [{"x": float("nan")}, {"x": object()}, {"x": "a" * 70_000}], ids=["nan", "object", "large"])
def test_what_is_no_job_is_refused_and_its_neighbours_with_it(jobs, body):
    with pytest.raises(BadRecord, match="a job"):
        jobs.put([{"post": 1}, body])
    assert jobs.counts().waiting == 0


def test_threads_share_the_jobs_without_overlap(jobs):
    jobs.put(bodies(120))
    taken: list[int] = []

    def work() -> None:
        while found := jobs.take(7):
            taken.extend(job.body["post"] for job in found)
            assert all(jobs.done(job) for job in found)

    threads = [threading.Thread(target=work) for _ in range(4)]
    [thread.start() for thread in threads]
    [thread.join() for thread in threads]
    assert sorted(taken) == list(range(120)) and jobs.counts() == Counts(0, 0, 120, 0)


WORKER = """
    import sys, time
    from mlsd.serving.queue import open_queue
    from mlsd.serving.store import open_store

    where, name, store, namespace = sys.argv[1:]
    with open_queue(where, name, lease_s=0.5, attempts=50, timeout_s=10) as jobs, open_store(store, namespace, timeout_s=10) as events:
        print("ready", flush=True)
        while True:
            for job in jobs.take(5):
                post = job.body["post"]
                events.accept([(job.body["event"], "decision", post, post % 10)])
                print(post, flush=True)
                jobs.done(job)
            time.sleep(0.01)
"""


def test_workers_killed_in_the_middle_lose_nothing_and_apply_nothing_twice(where, name, tmp_path):
    """Each job adds one person to one of ten sets; at the end each set has exactly its twenty."""
    store = where if "://" in where else str(tmp_path / "store")
    command = [sys.executable, "-c", textwrap.dedent(WORKER), where, name, store, name]
    with open_queue(where, name, lease_s=0.5, attempts=50, timeout_s=10) as jobs:
        jobs.put([{"post": i, "event": f"decision-{i}"} for i in range(200)])
        for kill_after in (3, 17, 41, None):
            worker = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
            try:
                assert worker.stdout.readline() == "ready\n"
                if kill_after is not None:
                    [worker.stdout.readline() for _ in range(kill_after)]
                else:
                    deadline = time.monotonic() + 120
                    threading.Thread(target=worker.stdout.read, daemon=True).start()
                    while jobs.counts().done < 200 and time.monotonic() < deadline:
                        time.sleep(0.05)
            finally:
                worker.kill()  # SIGKILL, or TerminateProcess
                worker.wait()
        assert jobs.counts() == Counts(0, 0, 200, 0)
    with open_store(store, name, timeout_s=10) as events:
        assert events.event_ids() == {f"decision-{i}" for i in range(200)}
        assert [len(people) for people in events.who("decision", range(10))] == [20] * 10


# ---------- addresses and faults ----------


def test_another_scheme_and_a_bad_name_are_refused(tmp_path):
    with pytest.raises(StoreError, match="expected redis://"):
        open_queue("amqp://localhost")
    with pytest.raises(StoreError, match="a queue's name"):
        open_queue(tmp_path, "a; DROP TABLE b")


def test_nobody_at_the_address(tmp_path):
    (tmp_path / "file").write_text("no directory")
    with pytest.raises(StoreDown, match="cannot"):
        open_queue(tmp_path / "file")
    with pytest.raises(StoreDown, match="cannot be reached"):
        open_queue("redis://127.0.0.1:1/0")


def test_a_damaged_file_says_so(tmp_path):
    (tmp_path / "data.db").write_bytes(b"no database " * 1000)
    with pytest.raises(StoreCorrupt, match="damaged"):
        open_queue(tmp_path)


def test_a_held_lock_is_given_up(tmp_path):
    with SqliteQueue(tmp_path, timeout_s=0.1) as queue, SqliteQueue(tmp_path) as other, other._change():
        with pytest.raises(StoreBusy):
            queue.put(bodies(1))


def test_finished_jobs_are_cleared_and_still_counted(tmp_path):
    with SqliteQueue(tmp_path) as queue:
        queue.put(bodies(1_100))
        for job in queue.take(1_100):
            queue.done(job)
        assert queue.counts() == Counts(0, 0, 1_100, 0)
        with queue._change() as change:
            assert change.execute(f"SELECT count(*) FROM {queue._rows}").fetchone()[0] < 1_100


def test_a_redis_that_was_killed_keeps_the_jobs(own_redis):
    with open_queue(own_redis.url, timeout_s=10) as queue:
        queue.put(bodies(3))
        queue.take()
        own_redis.kill()
        with pytest.raises(StoreDown):
            queue.take()
        own_redis.start()
        assert queue.counts() == Counts(2, 1, 0, 0)
