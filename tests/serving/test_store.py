"""The store: the same promises from LMDB and from a real Redis server, also when processes are killed."""

from __future__ import annotations

import signal
import subprocess
import sys
import textwrap
import time

import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, precondition, rule, run_state_machine_as_test
from serving_parts import eventually

from mlsd.serving import store as store_module
from mlsd.serving.backends import StoreCorrupt
from mlsd.serving.store import LEASE_S, MAX_LIVE_USERS, BadRecord, EventConflict, EventsRefused, TopK, VersionError, open_store

HOUR = 3600.0


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
    assert store.drop("v1") == 3 and store.drop("v1") == 0
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
    with open_store(redis_server.url, namespace="short", timeout_s=10) as store:
        store.write("v1", ranked(1), ttl_s=3)
        assert store.versions() == ["v1"]
        eventually(lambda: not store._backend.keys(""))
        assert store.clear() == 0


def list_keys(store) -> list[str]:
    return store._backend.keys("list/")


def altered(record: bytes, old: bytes, new: bytes) -> bytes:
    assert old in record
    return record.replace(old, new, 1)


def test_one_digit_altered_in_a_list_is_found_and_counted(store):
    store.write("v1", ranked(1), HOUR)
    store.publish("v1")
    first, second, _ = list_keys(store)
    good, other = store._backend.get([first, second])
    for damaged in (altered(good, b"11", b"17"), good[:-5], b"", b"no record", other):  # the last: the list of another user
        store._backend.write({first: damaged})
        with pytest.raises(StoreCorrupt, match="checksum does not fit"):
            store.read(0)
    assert store.corrupt == {"lists": 5}
    assert store.read(1) is not None


def test_a_torn_pointer_is_an_error_until_something_is_published(store):
    store.write("v1", ranked(1), HOUR)
    store.publish("v1")
    store._backend.write({"served": b"half a poin"})
    for ask in (lambda: store.read(0), store.current):
        with pytest.raises(StoreCorrupt):
            ask()
    store.write("v2", ranked(2), HOUR)
    assert store.versions() == ["v1", "v2"], "what was served is not known: nothing may be removed"
    store.publish("v2")
    assert store.read(0).items == (20, 21, 22)


def test_a_store_that_was_wiped_is_empty_and_no_error(store):
    fill = dict(ranked(1))
    store.write("v1", fill, HOUR)
    store.publish("v1")
    store.put_rows("user", {1: {"a": 1}}, "e1")
    store.clear()
    assert store.current() is None and store.read(0) is None
    assert store.rows("user", [1], "e1") == [None] and store.corrupt == {}
    assert [n.tolist() for n in store.live("rsvp", [1], [2])] == [[0], [0]]


@pytest.mark.parametrize("score", [float("nan"), float("inf")])
def test_a_score_that_is_no_number_is_refused_and_leaves_nothing(store, score):
    with pytest.raises(BadRecord, match="finite"):
        store.write("v1", {0: [(1, 0.5)], 1: [(2, score)]}, HOUR)
    assert store._backend.keys("") == []


def test_an_empty_list_is_a_list(store):
    store.write("v1", {0: []}, HOUR)
    store.publish("v1")
    assert store.read(0).items == ()


def test_two_namespaces_on_one_server_do_not_meet(redis_server):
    with open_store(redis_server.url, namespace="a", timeout_s=10) as a, open_store(redis_server.url, namespace="a*", timeout_s=10) as b:
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
        self.now = time.time()
        self.store = open_store(self.address, namespace="machine", clock=lambda: self.now, timeout_s=10)
        self.store.clear()
        self.written, self.current, self.previous, self.n = {}, None, None, 0

    @rule(users=st.sets(st.integers(0, 4)), ttl=st.sampled_from([HOUR, 10 * HOUR]))
    def write(self, users, ttl):
        self.n += 1
        self.store.write(f"v{self.n}", ranked(self.n, users), ttl)
        self.written[f"v{self.n}"] = (users, self.now + ttl)

    @precondition(lambda self: self.written)
    @rule(data=st.data())
    def publish(self, data):
        version = data.draw(st.sampled_from(sorted(self.written)))
        if self.written[version][1] <= self.now:
            with pytest.raises(VersionError):
                self.store.publish(version)
        else:
            self.store.publish(version)
            if version != self.current:
                self.current, self.previous = version, self.current

    @rule()
    def rollback(self):
        if self.previous is None or self.written[self.previous][1] <= self.now:
            with pytest.raises(VersionError):
                self.store.rollback()
        else:
            assert self.store.rollback() == self.previous
            self.current, self.previous = self.previous, self.current

    @rule(hours=st.integers(1, 4))
    def wait(self, hours):
        self.now += hours * HOUR

    @rule(user=st.integers(0, 4))
    def read(self, user):
        top = self.store.read(user)
        users, expires_at = self.written.get(self.current, (set(), 0))
        if user in users and expires_at > self.now:
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


# ---------- two jobs, and jobs that die ----------


class Interrupted(dict):
    """Lists whose writer does something else in the middle, or dies there."""

    def __init__(self, lists, meanwhile):
        super().__init__(lists)
        self.meanwhile = meanwhile

    def items(self):
        for n, item in enumerate(super().items()):
            if n == 2:
                self.meanwhile()
            yield item


@pytest.fixture
def small_chunks(monkeypatch):
    monkeypatch.setattr(store_module, "_CHUNK", 2)


def die():
    raise MemoryError("the machine was taken away")


def test_a_retry_that_dies_while_the_first_job_runs_leaves_no_mixture(store, small_chunks):
    def retry_and_die():
        with pytest.raises(MemoryError):
            store.write("v1", Interrupted(ranked(9, range(5)), die), HOUR)

    store.write("v1", Interrupted(ranked(1, range(5)), retry_and_die), HOUR)
    store.publish("v1")
    assert [store.read(u).items[0] for u in range(5)] == [10] * 5
    assert len(list_keys(store)) == 5, "the retry cleans up behind itself"


def test_of_two_jobs_that_both_end_the_version_is_wholly_the_last_ones(store, small_chunks):
    store.write("v1", Interrupted(ranked(1, range(4)), lambda: store.write("v1", ranked(9, range(6)), HOUR)), HOUR)
    store.publish("v1")
    assert [store.read(u) and store.read(u).items[0] for u in range(6)] == [10] * 4 + [None] * 2
    assert len(list_keys(store)) == 4


def test_a_rerun_that_meets_a_publication_is_refused_and_what_is_served_stays(store, small_chunks):
    store.write("v1", ranked(1, range(5)), HOUR)
    with pytest.raises(VersionError, match="is served"):
        store.write("v1", Interrupted(ranked(9, range(5)), lambda: store.publish("v1")), HOUR)
    assert [store.read(u).items[0] for u in range(5)] == [10] * 5
    assert len(list_keys(store)) == 5


def test_a_job_that_stood_still_too_long_is_given_up_and_cannot_go_on(store, clock, small_chunks):
    def next_job():
        clock.now += LEASE_S + 1
        store.write("v1", ranked(1, range(3)), HOUR)

    with pytest.raises(VersionError, match="given up"):
        store.write("v1", Interrupted(ranked(9, range(9)), next_job), HOUR)
    store.publish("v1")
    assert [store.read(u) and store.read(u).items[0] for u in range(9)] == [10] * 3 + [None] * 6
    assert len(list_keys(store)) == 3


def test_two_publishers_at_once_and_rollback_returns_to_what_was_served(store):
    for v in range(1, 4):
        store.write(f"v{v}", ranked(v), HOUR)
    store.publish("v1")
    get, others = store._backend.get, ["v2"]

    def get_and_be_overtaken(keys):
        found = get(keys)
        if keys == ["complete/v3"] and others:
            store.publish(others.pop())
        return found

    store._backend.get = get_and_be_overtaken
    store.publish("v3")
    assert store.current() == "v3" and store.rollback() == "v2", "v2 was served before v3, for however short a time"


def test_a_publication_between_a_jobs_last_look_and_its_seal_wins(store):
    store.write("v1", ranked(1, range(5)), HOUR)
    get, others = store._backend.get, ["v1"]

    def get_and_be_overtaken(keys):
        found = get(keys)
        if keys == ["served", "complete/v1"] and others:
            store.publish(others.pop())
        return found

    store._backend.get = get_and_be_overtaken
    with pytest.raises(VersionError, match="is served"):
        store.write("v1", ranked(9, range(5)), HOUR)
    assert [store.read(u).items[0] for u in range(5)] == [10] * 5


def test_fifty_nights_fit_in_the_room_of_a_few(tmp_path, clock):
    """Every third night's job dies half-way, and is run again."""
    lists = {user: [(i, 0.5) for i in range(50)] for user in range(500)}
    with open_store(tmp_path, clock=clock, map_mb=4) as store:
        for night in range(50):
            if night % 3 == 0:
                process = store._remove_run
                store._remove_run = lambda *_: 0  # killed: it cannot clean up
                with pytest.raises(MemoryError):
                    store.write(f"night-{night}", Interrupted(lists, die), 36 * HOUR)
                store._remove_run = process
            store.write(f"night-{night}", lists, 36 * HOUR)
            store.publish(f"night-{night}")
            clock.now += 24 * HOUR
        assert len(list_keys(store)) <= 4 * len(lists)
        assert len(store._backend.keys("run/")) <= 4


# ---------- features ----------


def test_rows_come_in_the_order_asked_for_and_unknown_ones_are_none(store):
    store.put_rows("item", {1: {"price": 2.5}, 2: {"price": 0.1, "tags": ["a", None]}}, "e1")
    assert store.rows("item", [2, 9, 1], "e1") == [{"price": 0.1, "tags": ["a", None]}, None, {"price": 2.5}]
    assert store.rows("user", [1], "e1") == [None] and store.rows("item", [1], "e2") == [None]
    assert store.rows("item", [], "e1") == []


def test_an_encoder_upgrade_has_stairs(store):
    store.put_rows("item", {i: {"x": 1.0} for i in range(5)}, "e1")
    store.put_rows("item", {i: {"x": 2.0} for i in range(2)}, "e2")
    assert store.row_versions("item") == ["e1", "e2"] and store.row_versions("user") == []
    assert store.rows("item", range(5), "e1") == [{"x": 1.0}] * 5, "readers of the old version notice nothing"
    store.put_rows("item", {i: {"x": 2.0} for i in range(5)}, "e2")
    assert store.drop_rows("item", "e1") == 5
    assert store.row_versions("item") == ["e2"]
    assert store.rows("item", range(5), "e2") == [{"x": 2.0}] * 5 and store.rows("item", [0], "e1") == [None]


def test_one_digit_altered_in_a_row_is_missing_and_counted_and_not_a_wrong_score(store):
    store.put_rows("item", {i: {"price": 2.5} for i in range(3)}, "e1")
    (good,) = store._backend.get(["row/item/e1/1"])
    store._backend.write({"row/item/e1/1": altered(good, b"2.5", b"2.6")})
    assert store.rows("item", [0, 1, 2], "e1") == [{"price": 2.5}, None, {"price": 2.5}]
    assert store.corrupt == {"item": 1}


@pytest.mark.parametrize("row", [{"x": float("nan")}, {"x": [1.0, float("inf")]}, {"x": 2**70}, {1: "x"}, {"x": {1, 2}}, {"x": "\ud800"}])
def test_a_row_that_json_cannot_hold_is_refused(store, row):
    with pytest.raises(BadRecord, match="row/user/e1/7: expected JSON"):
        store.put_rows("user", {7: row}, "e1")


@pytest.mark.parametrize("name", ["", "a/b", "x" * 101, "a\nb", "\ud800"])
def test_names_that_cannot_be_keys_are_refused(store, name):
    with pytest.raises(BadRecord, match="kind: expected"):
        store.put_rows(name, {1: {}}, "e1")
    with pytest.raises(BadRecord, match="version: expected"):
        store.put_rows("user", {1: {}}, name)


# ---------- events ----------


def test_an_event_sent_twice_counts_once(store):
    store.accept([("e1", "rsvp", 7, 100), ("e2", "rsvp", 8, 100)])
    store.accept([("e1", "rsvp", 7, 100), ("e3", "rsvp", 7, 100)])
    assert store.who("rsvp", [100, 101]) == [{7, 8}, set()]
    assert store.who("click", [100]) == [set()]
    assert store.event_ids() == {"e1", "e2", "e3"}
    going, friends = store.live("rsvp", [101, 100, 100], [8, 9, 10])
    assert going.tolist() == [0, 2, 2] and friends.tolist() == [0, 1, 1]
    assert [n.tolist() for n in store.live("rsvp", [], [1])] == [[], []]
    assert [n.tolist() for n in store.live("rsvp", [100], [])] == [[2], [0]]


def test_the_same_id_with_other_content_is_refused_and_the_first_stays(store):
    store.accept([("e1", "rsvp", 7, 100)])
    with pytest.raises(EventsRefused, match="accepted before with other content") as error:
        store.accept([("e0", "rsvp", 1, 100), ("e1", "rsvp", 8, 100), ("e2", "rsvp", 2, 100), ("e2", "rsvp", 3, 100)])
    assert {i: type(e) for i, e in error.value.refused.items()} == {1: EventConflict, 3: EventConflict}
    assert store.who("rsvp", [100]) == [{7, 1, 2}]
    assert store.live("rsvp", [100], [8])[0].tolist() == [3]


POISON = [
    ("", "rsvp", 1, 1),
    ("x" * 600, "rsvp", 1, 1),
    ("\ud800", "rsvp", 1, 1),
    (7, "rsvp", 1, 1),
    ("p", "a/b", 1, 1),
    ("p", "rsvp", 2**70, 1),
    ("p", "rsvp", 1, "1/2"),
    ("p", "rsvp", None, 1),
]


def test_a_poison_event_is_named_and_does_not_harm_its_neighbours(store):
    events = [event for n, poison in enumerate(POISON) for event in ((f"good-{n}", "rsvp", n, 5), poison)]
    with pytest.raises(EventsRefused) as error:
        store.accept(events)
    assert list(error.value.refused) == list(range(1, 2 * len(POISON), 2))
    assert all(type(e) is BadRecord and e.reason == "bad_record" for e in error.value.refused.values())
    assert store.event_ids() == {f"good-{n}" for n in range(len(POISON))}
    assert store.who("rsvp", [5]) == [set(range(len(POISON)))]


def test_numbers_at_the_ends_of_their_range_are_kept(store):
    ends = [-(2**63), -1, 0, 2**63 - 1]
    store.accept((f"e{user}/{item}", "rsvp", user, item) for user in ends for item in ends)
    assert store.who("rsvp", ends) == [set(ends)] * 4
    assert store.live("rsvp", ends, [*ends, 5])[1].tolist() == [4] * 4


def test_only_so_many_users_are_looked_for(store):
    store.accept((f"e{u}", "rsvp", u, 1) for u in range(MAX_LIVE_USERS + 50))
    going, friends = store.live("rsvp", [1], range(MAX_LIVE_USERS + 50))
    assert going.tolist() == [MAX_LIVE_USERS + 50] and friends.tolist() == [MAX_LIVE_USERS]


def test_a_popular_event_costs_what_an_unpopular_one_does(store):
    """5,000 users an event against 5: processor time of the client, interleaved. Reading them all costs a thousand times as much."""
    store.accept((f"a{u}-{i}", "quiet", u, i) for i in range(40) for u in range(5))
    store.accept((f"b{u}-{i}", "popular", u, i) for i in range(40) for u in range(500))
    spent = {"quiet": [], "popular": []}
    for _ in range(15):
        for kind, times in spent.items():
            begun = time.process_time()
            store.live(kind, range(40), range(0, 400, 20))
            times.append(time.process_time() - begun)
    assert sorted(spent["popular"])[7] < 3 * sorted(spent["quiet"])[7]


# ---------- other processes ----------


def script(code: str, *arguments: str) -> subprocess.Popen:
    return subprocess.Popen([sys.executable, "-c", textwrap.dedent(code), *arguments], stdout=subprocess.PIPE, text=True)


READER = """
    import sys, time
    from mlsd.serving.store import VersionError, open_store
    store, order, n = open_store(sys.argv[1], timeout_s=10), [], 0
    print("ready", flush=True)
    while len(order) < 20:
        try:
            top = store.read(n % 20)
        except VersionError as error:  # no mixture: a reader that got no processor while the version changed three times is told
            assert "changed three times during one read" in str(error)
            continue
        version = int(top.model_version[1:])
        assert set(top.scores) == {version + (n % 20) / 10} and top.items[0] == 10 * version, f"mixed: {top}"
        if not order or version != order[-1]:
            order.append(version)
        n += 1
    assert order == sorted(order), f"went back in time: {order}"
"""


def test_readers_never_see_a_mixture_while_versions_are_swapped(store, address):
    store.write("v1", ranked(1, range(20)), HOUR)
    store.publish("v1")
    readers = [script(READER, address) for _ in range(2)]
    for reader in readers:
        assert reader.stdout.readline() == "ready\n"
    v, deadline = 1, time.monotonic() + 120
    while any(reader.poll() is None for reader in readers):  # each reader ends when it has lived through twenty versions
        assert time.monotonic() < deadline
        v += 1
        store.write(f"v{v}", ranked(v, range(20)), HOUR)
        store.publish(f"v{v}")
        if v > 3:
            store.drop(f"v{v - 3}")
        time.sleep(0.003)
    assert [reader.wait() for reader in readers] == [0, 0]


WRITER = """
    import sys
    from mlsd.serving.store import open_store
    store = open_store(sys.argv[1], timeout_s=10)
    print("writing", flush=True)
    store.write("v2", {user: [(i, 2.0) for i in range(50)] for user in range(200_000)}, 3600)
    print("done", flush=True)
"""


def test_a_batch_job_killed_on_the_way_harms_nothing_and_can_be_run_again(store, address):
    store.write("v1", ranked(1), HOUR)
    store.publish("v1")
    job = script(WRITER, address)
    assert job.stdout.readline() == "writing\n"
    while len(list_keys(store)) == 3:
        assert job.poll() is None, "it ended without a row"
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
    from mlsd.serving.store import open_store
    store = open_store(sys.argv[1], timeout_s=10)
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
