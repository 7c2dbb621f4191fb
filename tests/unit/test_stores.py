"""The store: the same promises from LMDB and from a real Redis server, also when processes are killed."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
import textwrap
import time
from pathlib import Path

import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, precondition, rule, run_state_machine_as_test

from mlsd.serving.keyvalue import StoreDown, StoreError, StoreFull, StoreSlow
from mlsd.serving.process import RedisServer
from mlsd.serving.stores import Store, TopK, VersionError, open_store

HOUR = 3600.0


@pytest.fixture(scope="module")
def redis_server():
    with RedisServer() as server:
        yield server


class Clock:
    def __init__(self) -> None:
        self.now = time.time()

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture(params=["lmdb", "redis"])
def address(request, tmp_path) -> str:
    return str(tmp_path / "store") if request.param == "lmdb" else request.getfixturevalue("redis_server").url


@pytest.fixture
def store(address, clock):
    with open_store(address, clock=clock) as opened:
        opened.clear()
        yield opened
        opened.clear()


def ranked(version: int, users=range(3)) -> dict[int, list[tuple[int, float]]]:
    return {user: [(10 * version + i, version + user / 10) for i in range(3)] for user in users}


# ---------- versions ----------


def test_a_version_is_unseen_until_published_and_then_seen_whole(store, clock):
    assert store.write("v1", ranked(1), HOUR) == 3
    assert store.current() is None and store.read(0) is None
    store.publish("v1")
    top = store.read(2)
    assert top == TopK(2, (10, 11, 12), (1.2, 1.2, 1.2), "v1", clock.now, clock.now + HOUR)
    store.write("v2", ranked(2), HOUR)
    assert store.read(2).model_version == "v1"
    store.publish("v2")
    assert store.read(2).items == (20, 21, 22)


def test_rollback_serves_the_version_before_and_again_goes_forward(store):
    for v in (1, 2):
        store.write(f"v{v}", ranked(v), HOUR)
        store.publish(f"v{v}")
    assert store.rollback() == "v1" and store.read(0).items == (10, 11, 12)
    assert store.rollback() == "v2" and store.read(0).items == (20, 21, 22)


def test_publishing_twice_keeps_the_way_back(store):
    for v in ("v1", "v2"):
        store.write(v, ranked(1), HOUR)
        store.publish(v)
    store.publish("v2")
    assert store.rollback() == "v1"


def test_there_is_nothing_to_roll_back_to(store):
    with pytest.raises(VersionError, match="no earlier version"):
        store.rollback()
    store.write("v1", ranked(1), HOUR)
    store.publish("v1")
    with pytest.raises(VersionError, match="no earlier version"):
        store.rollback()


@pytest.mark.parametrize("version", ["", "a/b"])
def test_a_version_needs_a_name(store, version):
    with pytest.raises(VersionError, match="non-empty text without '/'"):
        store.write(version, ranked(1), HOUR)


def test_an_unknown_version_cannot_be_published(store):
    store.write("v1", ranked(1), HOUR)
    store.publish("v1")
    with pytest.raises(VersionError, match=r"'v9' is not complete.*complete: \['v1'\]"):
        store.publish("v9")
    assert store.current() == "v1"


def test_a_served_version_never_changes(store):
    for v in ("v1", "v2"):
        store.write(v, ranked(1), HOUR)
        store.publish(v)
    for v in ("v1", "v2"):  # v1 is kept for rollback
        with pytest.raises(VersionError, match="cannot be written"):
            store.write(v, ranked(2), HOUR)
        with pytest.raises(VersionError, match="served or kept for rollback"):
            store.drop(v)


def test_an_old_version_can_be_dropped(store):
    for v in ("v1", "v2", "v3"):
        store.write(v, ranked(1), HOUR)
        store.publish(v)
    assert store.drop("v1") == 4  # three lists and the seal
    assert store.versions() == ["v2", "v3"]


def test_writing_a_version_again_leaves_no_list_of_the_first_try(store):
    store.write("v1", ranked(1, users=range(5)), HOUR)
    store.write("v1", ranked(1, users=range(2)), HOUR)
    store.publish("v1")
    assert store.read(1) is not None and store.read(4) is None


def test_a_list_is_not_served_after_its_time(store, clock):
    store.write("v1", ranked(1), ttl_s=HOUR)
    store.publish("v1")
    clock.now += HOUR - 1
    assert store.read(0) is not None
    clock.now += 1
    assert store.read(0) is None
    with pytest.raises(VersionError, match="expired"):
        store.publish("v1")


def test_redis_frees_the_memory_of_expired_lists(redis_server):
    with open_store(redis_server.url, namespace="short") as store:
        store.write("v1", ranked(1), ttl_s=0.05)
        assert store.versions() == ["v1"]
        time.sleep(0.2)
        assert store.clear() == 0


def test_a_corrupt_list_is_an_error_and_not_a_list(store):
    store.write("v1", ranked(1), HOUR)
    store.publish("v1")
    store._backend.write({"list/v1/0": b'[[1, 2], "garbage'})
    with pytest.raises(StoreError, match="list of user 0 is corrupt"):
        store.read(0)
    store._backend.write({"list/v1/0": json.dumps([[1], [0.5], "v0", 0, 9e9]).encode()})
    with pytest.raises(VersionError, match="under version 'v1' says it was made by 'v0'"):
        store.read(0)


def test_an_empty_list_is_a_list(store):
    store.write("v1", {0: []}, HOUR)
    store.publish("v1")
    assert store.read(0).items == ()


def test_two_namespaces_on_one_server_do_not_meet(redis_server):
    with open_store(redis_server.url, namespace="a") as a, open_store(redis_server.url, namespace="a*") as b:
        a.write("v1", ranked(1), HOUR)
        a.publish("v1")
        assert b.current() is None
        assert b.clear() == 0 and a.read(0) is not None
        a.clear()


class Versions(RuleBasedStateMachine):
    """Any sequence of writes, publications, rollbacks and hours agrees with a model in a dictionary."""

    address = ""

    @initialize()
    def begin(self):
        self.clock = Clock()
        self.store = open_store(self.address, namespace="machine", clock=self.clock)
        self.store.clear()
        self.written, self.current, self.previous, self.n = {}, None, None, 0

    @rule(users=st.sets(st.integers(0, 4)), ttl=st.sampled_from([HOUR, 10 * HOUR]))
    def write(self, users, ttl):
        self.n += 1
        self.store.write(f"v{self.n}", ranked(self.n, users), ttl)
        self.written[f"v{self.n}"] = (users, self.clock.now + ttl)

    @precondition(lambda self: self.written)
    @rule(data=st.data())
    def publish(self, data):
        version = data.draw(st.sampled_from(sorted(self.written)))
        if self.written[version][1] <= self.clock.now:
            with pytest.raises(VersionError):
                self.store.publish(version)
        else:
            self.store.publish(version)
            if version != self.current:
                self.current, self.previous = version, self.current

    @rule()
    def rollback(self):
        if self.previous is None or self.written[self.previous][1] <= self.clock.now:
            with pytest.raises(VersionError):
                self.store.rollback()
        else:
            assert self.store.rollback() == self.previous
            self.current, self.previous = self.previous, self.current

    @rule(hours=st.integers(1, 4))
    def wait(self, hours):
        self.clock.now += hours * HOUR

    @rule(user=st.integers(0, 4))
    def read(self, user):
        top = self.store.read(user)
        users, expires_at = self.written.get(self.current, (set(), 0))
        if user in users and expires_at > self.clock.now:
            assert top.model_version == self.current and top.scores[0] == int(self.current[1:]) + user / 10
        else:
            assert top is None

    def teardown(self):
        if hasattr(self, "store"):
            self.store.clear()
            self.store.close()


def test_any_sequence_of_operations_agrees_with_a_model(address):
    machine = type("VersionsHere", (Versions,), dict(address=address))
    quick = settings(max_examples=25, stateful_step_count=25, deadline=None, database=None, suppress_health_check=list(HealthCheck))
    run_state_machine_as_test(machine, settings=quick)


# ---------- features and events ----------


def test_rows_come_in_the_order_asked_for_and_unknown_ones_are_none(store):
    store.put_rows("item", {1: {"price": 2.5}, 2: {"price": 0.1}})
    assert store.rows("item", [2, 9, 1]) == [{"price": 0.1}, None, {"price": 2.5}]
    assert store.rows("user", [1]) == [None]
    assert store.rows("item", []) == []


def test_an_event_sent_twice_counts_once(store):
    store.accept([("e1", "rsvp", 7, 100), ("e2", "rsvp", 8, 100)])
    store.accept([("e1", "rsvp", 7, 100)])
    assert store.who("rsvp", [100, 101]) == [{7, 8}, set()]
    assert store.who("click", [100]) == [set()]
    assert store.event_ids() == {"e1", "e2"}


# ---------- other processes ----------


def script(code: str, *arguments: str) -> subprocess.Popen:
    return subprocess.Popen([sys.executable, "-c", textwrap.dedent(code), *arguments], stdout=subprocess.PIPE, text=True)


READER = """
    import sys, time
    from mlsd.serving.stores import open_store
    store, order, n = open_store(sys.argv[1]), [], 0
    print("ready", flush=True)
    while not order or order[-1] < 40:
        top = store.read(n % 20)
        version = int(top.model_version[1:])
        assert set(top.scores) == {version + (n % 20) / 10} and top.items[0] == 10 * version, f"mixed: {top}"
        if not order or version != order[-1]:
            order.append(version)
        n += 1
    assert order == sorted(order), f"went back in time: {order}"
    print(len(order), n)
"""


def test_readers_never_see_a_mixture_while_versions_are_swapped(store, address):
    store.write("v1", ranked(1, range(20)), HOUR)
    store.publish("v1")
    readers = [script(READER, address) for _ in range(2)]
    for reader in readers:
        assert reader.stdout.readline() == "ready\n"
    for v in range(2, 41):
        store.write(f"v{v}", ranked(v, range(20)), HOUR)
        store.publish(f"v{v}")
        if v > 3:
            store.drop(f"v{v - 3}")
        time.sleep(0.003)
    for reader in readers:
        seen, _ = reader.communicate(timeout=20)
        assert reader.returncode == 0
        assert int(seen.split()[0]) > 5, "the reader must have lived through swaps"


WRITER = """
    import sys
    from mlsd.serving.stores import open_store
    store = open_store(sys.argv[1])
    print("writing", flush=True)
    store.write("v2", {user: [(i, 2.0) for i in range(50)] for user in range(200_000)}, 3600)
    print("done", flush=True)
"""


def test_a_batch_job_killed_on_the_way_harms_nothing_and_can_be_run_again(store, address):
    store.write("v1", ranked(1), HOUR)
    store.publish("v1")
    job = script(WRITER, address)
    assert job.stdout.readline() == "writing\n"
    while not any(store._backend.get([f"list/v2/{user}" for user in (0, 4_999)])):
        time.sleep(0.005)
    job.send_signal(signal.SIGKILL)
    assert job.communicate()[0] == "", "the job must have been killed before its end"
    assert store.read(0).model_version == "v1"
    with pytest.raises(VersionError, match="not complete"):
        store.publish("v2")
    store.write("v2", ranked(2), HOUR)
    store.publish("v2")
    assert store.read(0).items == (20, 21, 22) and store.read(100) is None


ACCEPTOR = """
    import sys
    from mlsd.serving.stores import open_store
    store = open_store(sys.argv[1])
    for i in range(10**9):
        store.accept([(f"e{i}", "rsvp", i, 1)])
        print(f"e{i}", flush=True)
"""


def test_no_accepted_event_is_lost_when_the_writer_is_killed(store, address):
    writer = script(ACCEPTOR, address)
    accepted = {writer.stdout.readline().strip() for _ in range(50)}
    writer.send_signal(signal.SIGKILL)
    accepted |= set(writer.communicate()[0].split())
    kept = store.event_ids()
    assert accepted <= kept and len(kept) <= len(accepted) + 1  # the last may have been kept and not reported
    assert store.who("rsvp", [1]) == [{int(e[1:]) for e in kept}]


# ---------- a store that is down, slow or full ----------


def test_no_accepted_event_is_lost_when_redis_is_killed():
    with RedisServer() as server, open_store(server.url) as store:
        for i in range(200):
            store.accept([(f"e{i}", "rsvp", i, 1)])
        server.kill()
        start = time.monotonic()
        with pytest.raises(StoreDown, match="Redis at 127.0.0.1.*is the server running"):
            store.accept([("late", "rsvp", 1, 1)])
        assert time.monotonic() - start < 1, "a dead store must be noticed at once, without retries that sleep"
        server.start()
        assert store.event_ids() == {f"e{i}" for i in range(200)}  # on the same client: it reconnects by itself


def test_a_frozen_redis_is_slow_and_is_not_asked_twice():
    with RedisServer() as server, open_store(server.url, timeout_s=0.2) as store:
        store.ping()
        server.pause()
        start = time.monotonic()
        with pytest.raises(StoreSlow, match="no answer in time"):
            store.ping()
        assert 0.15 < time.monotonic() - start < 0.39
        server.resume()
        store.ping()


def test_a_full_redis_says_so_and_keeps_what_it_has():
    with RedisServer() as server, open_store(server.url, timeout_s=5) as store:
        store.write("v1", ranked(1), HOUR)
        store.publish("v1")
        store._backend._client.config_set("maxmemory", "2mb")
        with pytest.raises(StoreFull, match="drop old versions"):
            store.write("v2", {u: [(i, 0.5) for i in range(100)] for u in range(20_000)}, HOUR)
        assert store.read(0).model_version == "v1"


def test_a_full_lmdb_says_so_and_keeps_what_it_has(tmp_path):
    with open_store(tmp_path, map_mb=1) as store:
        store.write("v1", ranked(1), HOUR)
        store.publish("v1")
        with pytest.raises(StoreFull, match="larger map_mb"):
            store.write("v2", {u: [(i, 0.5) for i in range(100)] for u in range(5_000)}, HOUR)
        assert store.read(0).model_version == "v1"
        with pytest.raises(VersionError, match="not complete"):
            store.publish("v2")


def test_a_corrupt_lmdb_file_is_reported(tmp_path):
    with open_store(tmp_path / "s") as store:
        store.ping()
    (tmp_path / "s" / "data.mdb").write_bytes(b"not a database" * 1000)
    with pytest.raises(StoreDown, match="cannot open"):
        open_store(tmp_path / "s")


def test_a_file_is_no_directory_for_a_store(tmp_path):
    Path(tmp_path / "file").touch()
    with pytest.raises(StoreDown, match="cannot open"):
        open_store(tmp_path / "file")


def test_another_scheme_is_refused():
    with pytest.raises(StoreError, match="expected redis://"):
        open_store("mongodb://localhost")


def test_a_password_does_not_appear_in_errors():
    store = open_store("redis://:secret@127.0.0.1:1/0")
    with pytest.raises(StoreDown) as error:
        store.ping()
    assert "secret" not in str(error.value)


def test_a_closed_store_cannot_be_used_by_accident(tmp_path):
    with open_store(tmp_path) as store:
        assert isinstance(store, Store)
    with pytest.raises(StoreError):
        store.ping()
