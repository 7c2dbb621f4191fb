"""Two key-value backends with the same verbs: LMDB (embedded, the default) and a Redis server.

Both promise the same four things, on which `store.Store` rests:
* `get` reads one snapshot: no half of one version and half of another;
* `write` is one transaction, all of it or nothing, also when the process is killed in the middle, and can be
  made conditional on what the store holds (compare and set), so that two writers cannot undo each other;
* `accept` keeps each event wholly or not at all, and one that cannot be kept does not harm its neighbours;
* when `write` or `accept` returns, the data survive a kill of this process. LMDB syncs the file on every commit;
  Redis does so if the server runs with `appendonly yes` and `appendfsync always` (see `redis_server.RedisServer`).

No call waits for ever: LMDB's write lock and a Redis server that does not answer are given up after `timeout_s`.
"""

from __future__ import annotations

import errno
import os
import queue
import struct
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import Future, InvalidStateError
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, BinaryIO, ClassVar, NamedTuple, Protocol
from zlib import crc32

import lmdb
import redis
from redis.backoff import NoBackoff
from redis.retry import Retry


class StoreError(RuntimeError):
    """The store did not do what it was asked. `reason` is short and fit for a metric's label."""

    reason = "store_error"


class StoreDown(StoreError):
    """Nobody answers at the store's address, or its file is gone or damaged."""

    reason = "store_down"


class StoreSlow(StoreError):
    """The store did not answer in time. A write may or may not have been done: send it again, it counts once."""

    reason = "store_slow"


class StoreBusy(StoreSlow):
    """Another writer holds the store's write lock. Nothing was written; reads go on."""

    reason = "store_busy"


class StoreFull(StoreError):
    """The store has no room for this write; what it held before is untouched. Writes work again once there is room."""

    reason = "store_full"


class StoreReadOnly(StoreError):
    """The store can be read and not written: a read-only directory, or a replica."""

    reason = "store_read_only"


class StoreCorrupt(StoreError):
    """What the store holds under a key is not what was written there."""

    reason = "store_corrupt"


class Event(NamedTuple):
    """An event as a backend sees it: `record` is kept under `key`, and `member` is added to the set `name`."""

    key: str
    record: bytes
    name: str
    member: int


KEPT, CONFLICT, CORRUPT = "kept", "conflict", "corrupt"  # what became of an event; kept also if it was there already


class KeyValue(Protocol):
    """What a backend must offer. Keys are text of at most 511 bytes, values bytes; sets hold integers."""

    def get(self, keys: Sequence[str]) -> list[bytes | None]:
        """The values in the order of `keys`, from one snapshot."""

    def write(self, put: Mapping[str, bytes | None], only_if: Mapping[str, bytes | None] | None = None, ttl_s: float | None = None) -> bool:
        """Put the values and delete the keys whose value is None; False, and nothing done, unless `only_if` is what the store holds."""

    def accept(self, events: Sequence[Event]) -> list[str]:
        """Keep each event once: KEPT; CONFLICT if its key holds another record; CORRUPT if its set cannot be added to."""

    def count(self, names: Sequence[str], members: Sequence[int]) -> list[tuple[int, int]]:
        """For each set its size and how many of `members` are in it; size -1 if it is corrupt. The work does not depend on the sizes."""

    def members(self, name: str) -> set[int]:
        """A whole set. The work grows with it: for audits."""

    def keys(self, prefix: str) -> list[str]:
        """All keys that begin with `prefix`, sorted. Not one snapshot."""

    def delete(self, prefix: str) -> int:
        """Delete all keys that begin with `prefix`, a few thousand a transaction; returns how many."""

    def close(self) -> None: ...


# ---------- LMDB ----------


class LmdbKeyValue:
    """An LMDB environment in a directory: memory-mapped, one writer and many readers, also across processes.

    The directory is opened by the first command and, if that fails (StoreDown), by the next one again.
    A directory that cannot be written to is read. Opening one twice in a process shares the environment.

    map_mb: the most the file may ever hold (address space, not disk). timeout_s: how long a write waits for
    LMDB's write lock before StoreBusy. LMDB itself waits without end, also for another process, so writes run
    in a thread of their own, which their callers can leave; a lock file beside LMDB's would only bind those who
    know of it. ttl_s is not enforced here: records carry their own time to live.
    """

    def __init__(self, path: str | Path, map_mb: int = 1024, timeout_s: float = 2.0) -> None:
        self.path, self._map_mb, self._timeout_s = Path(path).resolve(), map_mb, timeout_s
        self._environment: _Environment | None = None
        self._opening, self._closed = threading.Lock(), False

    def get(self, keys: Sequence[str]) -> list[bytes | None]:
        return self._read(lambda txn: [txn.get(key.encode()) for key in keys])

    def write(self, put: Mapping[str, bytes | None], only_if: Mapping[str, bytes | None] | None = None, ttl_s: float | None = None) -> bool:
        def work(txn: lmdb.Transaction) -> bool:
            if any(txn.get(key.encode()) != value for key, value in (only_if or {}).items()):
                return False
            for key, value in put.items():
                if value is None:
                    txn.delete(key.encode())
                else:
                    txn.put(key.encode(), value)
            return True

        return self._write(work)

    def accept(self, events: Sequence[Event]) -> list[str]:
        return self._write(lambda txn: [_accept(txn, event) for event in events])

    def count(self, names: Sequence[str], members: Sequence[int]) -> list[tuple[int, int]]:
        wanted = [b"/%d" % member for member in members]

        def look_up(txn: lmdb.Transaction) -> list[tuple[int, int]]:
            counts = []
            for name in map(str.encode, names):
                size = _size(txn, name)
                counts.append((size, sum(txn.get(name + m) is not None for m in wanted) if size > 0 else 0))
            return counts

        return self._read(look_up)

    def members(self, name: str) -> set[int]:
        prefix = name.encode() + b"/"
        return self._read(lambda txn: {int(key.removeprefix(prefix)) for key in _keys_from(txn.cursor(), prefix)})

    def keys(self, prefix: str) -> list[str]:
        return self._read(lambda txn: [key.decode() for key in _keys_from(txn.cursor(), prefix.encode())])

    def delete(self, prefix: str) -> int:
        def some(txn: lmdb.Transaction) -> int:
            n, cursor = 0, txn.cursor()
            while n < 5_000 and cursor.set_range(prefix.encode()) and cursor.key().startswith(prefix.encode()):
                cursor.delete()
                n += 1
            return n

        total = 0
        while n := self._write(some):
            total += n
        return total

    def close(self) -> None:
        with self._opening:
            self._closed = True
            if self._environment is not None:
                self._environment.release()
                self._environment = None

    def _read(self, work: Callable[[lmdb.Transaction], Any]) -> Any:
        with _lmdb_errors(self.path):
            try:
                return self._open().read(work)
            except (_Retired, lmdb.MapResizedError):  # opened anew by another thread; grown by another process
                self._environment.broken = True
                return self._open().read(work)

    def _write(self, work: Callable[[lmdb.Transaction], Any]) -> Any:
        with _lmdb_errors(self.path):
            try:
                return self._open().write(work, self._timeout_s)
            except (_Retired, lmdb.MapResizedError):
                self._environment.broken = True
                return self._open().write(work, self._timeout_s)

    def _open(self) -> _Environment:
        environment = self._environment
        if environment is None or not environment.sound():
            with self._opening:
                if self._closed:
                    raise StoreError(f"LMDB at {self.path}: this store was closed; open it again")
                environment = self._environment = _Environment.at(self.path, self._map_mb, instead_of=self._environment)
        return environment


class _Retired(Exception):
    """This environment was closed, because its file has been replaced or has grown beyond its map."""


class _Environment:
    """One open LMDB environment, shared by all stores of this process that use its directory.

    Raises StoreDown if the directory cannot be opened, and says why.
    """

    _all: ClassVar[dict[tuple[int, int], _Environment]] = {}  # by device and inode of the data file
    _all_lock = threading.Lock()

    def __init__(self, path: Path, map_mb: int) -> None:
        self.path, self.map_mb, self.users, self.broken = path, map_mb, 0, False
        self._data = path / "data.mdb"
        try:
            path.mkdir(parents=True, exist_ok=True)
            self._env = _open_lmdb(path, self._data, map_mb << 20)
            self.read_only = self._env.flags()["readonly"]
            if not self.read_only:
                self._env.reader_check()  # a killed reader must not hold old pages for ever
            self.file = self._data.stat()
        except (lmdb.Error, OSError) as error:
            raise StoreDown(f"LMDB at {path}: cannot open ({error})") from error
        self._idle, self._readers = threading.Condition(), 0
        self._jobs: queue.Queue[tuple[Callable, Future] | None] = queue.Queue(64)
        self._writer: threading.Thread | None = None

    @classmethod
    def at(cls, path: Path, map_mb: int, instead_of: _Environment | None) -> _Environment:
        """The environment of a directory: the one this process has open, else a new one."""
        with cls._all_lock:
            if instead_of is not None:
                instead_of._retire()
            try:
                file = (path / "data.mdb").stat()
                found = cls._all.get((file.st_dev, file.st_ino))
            except OSError:
                found = None
            if found is not None and not found.sound():
                found._retire()
                found = None  # if it could not be closed, LMDB refuses to open the file twice, until it can
            if found is None:
                found = cls(path, map_mb)
                cls._all[found.file.st_dev, found.file.st_ino] = found
            elif map_mb > found.map_mb:
                raise StoreError(f"LMDB at {path}: open in this process with map_mb={found.map_mb}; close it to open it with {map_mb}")
            found.users += 1
            return found

    def release(self) -> None:
        """One user less; the last one closes it."""
        with self._all_lock:
            self.users -= 1
            if self.users == 0:
                self._retire()

    def sound(self) -> bool:
        """Is the file under the map still the one that was mapped, and whole? Reading beyond its end would end this process (SIGBUS)."""
        known = self.file  # before looking: another thread may look later, and note a file that has grown meanwhile
        try:
            now = self._data.stat()
        except OSError:
            return False
        if (now.st_dev, now.st_ino) != (known.st_dev, known.st_ino) or now.st_size < known.st_size:
            return False
        self.file = now
        return not self.broken

    def read(self, work: Callable[[lmdb.Transaction], Any]) -> Any:
        """work(a read transaction): one snapshot."""
        with self._idle:
            if self.broken:
                raise _Retired
            self._readers += 1
        try:
            with self._env.begin() as txn:
                return work(txn)
        finally:
            with self._idle:
                self._readers -= 1
                self._idle.notify_all()

    def write(self, work: Callable[[lmdb.Transaction], Any], timeout_s: float) -> Any:
        """work(a write transaction), committed and synced. Raises StoreBusy, with nothing written, if the lock is not had in time."""
        if self.read_only:
            raise StoreReadOnly(f"LMDB at {self.path}: the directory can be read and not written to")
        with self._idle:
            if self.broken:
                raise _Retired
            if self._writer is None:
                self._writer = threading.Thread(target=self._write_all, name="lmdb-writer", daemon=True)
                self._writer.start()
        future, deadline = Future(), time.monotonic() + timeout_s
        busy = StoreBusy(f"LMDB at {self.path}: another writer has held the lock for {timeout_s} s; nothing was written")
        try:
            self._jobs.put((work, future), timeout=timeout_s)
            return future.result(max(0.0, deadline - time.monotonic()))
        except queue.Full:
            raise busy from None
        except TimeoutError:
            if future.cancel():
                raise busy from None
            return future.result()  # it has the lock and is writing

    def _write_all(self) -> None:
        while (job := self._jobs.get()) is not None:
            work, future = job
            try:
                with self._env.begin(write=True) as txn:  # waits for the lock, for as long as it takes
                    wanted = future.set_running_or_notify_cancel()
                    result = work(txn) if wanted else None
                if wanted:
                    future.set_result(result)
            except BaseException as error:  # goes to the caller, if it still waits
                with suppress(InvalidStateError):
                    future.set_exception(error)

    def _retire(self) -> None:
        """Close it as soon as nobody uses it. If somebody does not end, it stays known, and the next call tries again."""
        with self._idle:
            self.broken = True
            quiet = self._idle.wait_for(lambda: self._readers == 0, timeout=1.0)
        if self._writer is not None:
            with suppress(queue.Full):
                self._jobs.put(None, timeout=1.0)
            self._writer.join(timeout=1.0)
            quiet = quiet and not self._writer.is_alive()
        if quiet:
            self._env.close()
            self._all.pop((self.file.st_dev, self.file.st_ino), None)


def _open_lmdb(path: Path, data: Path, map_size: int) -> lmdb.Environment:
    """Open an environment; for reading only where nothing else is allowed."""
    there = data.exists()
    if there and data.stat().st_size:
        map_size = max(map_size, _check_length(data))
    writable = os.access(data if there else path, os.W_OK) and os.access(path, os.W_OK)
    lock = writable or os.access(path / "lock.mdb", os.W_OK)
    return lmdb.open(str(path), map_size=map_size, max_readers=512, readonly=not writable, lock=lock)


_META = struct.Struct("=16x II 8x Q I 36x Q 40x Q Q Q")  # LMDB's MDB_page header and MDB_meta
_NO_PAGE = 2**64 - 1


def _check_length(data: Path) -> int:
    """The size of the map, as the file says, once it is sure that LMDB will not read beyond the end of the file.

    LMDB maps the file without looking at its length, and reading beyond the end ends the process (SIGBUS). Its last
    page may rightly be missing: one that was freed before it was ever written. So a short file is followed from page
    to page. Raises OSError if a page is missing that is in use. What LMDB finds wrong by itself is left to it.
    """
    with data.open("rb") as file:
        newest, at = (-1, 0, 0, 0, ()), 0
        for _ in range(2):
            file.seek(at)
            page = file.read(_META.size)
            if len(page) < _META.size:
                break
            magic, version, map_size, at, free_root, main_root, last_page, txn_id = _META.unpack(page)
            if magic != 0xBEEFC0DE or version != 1:
                break
            newest = max(newest, (txn_id, map_size, at, last_page, (free_root, main_root)))
        _, map_size, page_size, last_page, roots = newest
        size = data.stat().st_size
        if page_size and size < (last_page + 1) * page_size and not _all_there(file, roots, page_size, size // page_size):
            raise OSError(
                f"the data file was cut off: {size} bytes, {(last_page + 1) * page_size} expected; "
                "restore it from a copy, or remove the directory and write the store again"
            )
    return map_size


def _all_there(file: BinaryIO, roots: Sequence[int], page_size: int, n_pages: int) -> bool:
    """Do the trees of an LMDB file lie within its first `n_pages` pages? (MDB_page and MDB_node of mdb.c, version 0.9)"""
    todo, seen = [root for root in roots if root != _NO_PAGE], set()
    try:
        while todo:
            page = todo.pop()
            if page >= n_pages or page in seen:
                return False
            seen.add(page)
            file.seek(page * page_size)
            content = file.read(page_size)
            flags, end = struct.unpack_from("=10x HH", content)
            for at in struct.unpack_from(f"={(end - 16) // 2}H", content, 16):
                low, high, node_flags, key_size = struct.unpack_from("=4H", content, at)
                if flags & 1:  # a branch: its nodes are pages
                    todo.append(low | high << 16 | node_flags << 32)
                elif node_flags & 1:  # a large value, on pages of its own
                    (first,) = struct.unpack_from("=Q", content, at + 8 + key_size)
                    if first + ((low | high << 16) + 16 + page_size - 1) // page_size > n_pages:
                        return False
    except struct.error:  # no pages of LMDB
        return False
    return True


def _keys_from(cursor: lmdb.Cursor, prefix: bytes) -> Iterator[bytes]:
    found = cursor.set_range(prefix)
    while found and cursor.key().startswith(prefix):
        yield cursor.key()
        found = cursor.next()


def _size(txn: lmdb.Transaction, name: bytes) -> int:
    """How many members a set has, from its counter; -1 if the counter is damaged."""
    record = txn.get(b"size:" + name)
    if record is None:
        return 0
    size, check = _SIZE.unpack(record) if len(record) == _SIZE.size else (0, 0)
    return size if check == crc32(record[:8], crc32(name)) else -1


_SIZE = struct.Struct("<QI")  # a set's size and a checksum


def _accept(txn: lmdb.Transaction, event: Event) -> str:
    key, name = event.key.encode(), event.name.encode()
    before = txn.get(key)
    if before is not None:
        return KEPT if before == event.record else CONFLICT
    member = name + b"/%d" % event.member
    size = _size(txn, name)
    if size < 0:  # the members are the truth: count them
        size = sum(1 for _ in _keys_from(txn.cursor(), name + b"/"))
    txn.put(key, event.record)
    if txn.put(member, b"", overwrite=False):
        size += 1
    count = struct.pack("<Q", size)
    txn.put(b"size:" + name, count + crc32(count, crc32(name)).to_bytes(4, "little"))
    return KEPT


# LMDB reports a write of which only a part found room as an I/O error of its commit ("short write, filesystem full?" in mdb.c)
_NO_ROOM = tuple(os.strerror(n) for n in (errno.ENOSPC, errno.EFBIG, getattr(errno, "EDQUOT", errno.ENOSPC)))
_NO_ROOM += (f"mdb_txn_commit: {os.strerror(errno.EIO)}",)


@contextmanager
def _lmdb_errors(path: Path) -> Iterator[None]:
    """Turn LMDB's exceptions into ours, naming the file and what to do."""
    try:
        yield
    except lmdb.MapFullError as error:
        raise StoreFull(f"LMDB at {path}: full; drop old versions or reopen with a larger map_mb") from error
    except lmdb.Error as error:
        if isinstance(error, lmdb.DiskError) or any(text in str(error) for text in _NO_ROOM):
            raise StoreFull(f"LMDB at {path}: no room on the disk; free some, or look whether the disk is broken ({error})") from error
        if isinstance(error, lmdb.CorruptedError | lmdb.PageNotFoundError):
            raise StoreCorrupt(f"LMDB at {path}: a page is damaged ({error}); restore a copy, or remove it and write it again") from error
        raise StoreDown(f"LMDB at {path}: {error}") from error


# ---------- Redis ----------


class RedisKeyValue:
    """A Redis server (6.2 or later) by URL; all keys live under `namespace:`, so one server can hold many stores.

    timeout_s: how long one command may take before StoreSlow. A stale connection is reopened once;
    a time-out is never retried, because the client's own default retries with pauses of seconds, which
    turns a slow store into a slow product. What must look before it writes is a script, which Redis runs alone:
    a transaction (MULTI) cannot look, and is not undone when one of its commands fails.
    """

    def __init__(self, url: str, namespace: str = "mlsd", timeout_s: float = 0.25) -> None:
        self.url, self._prefix = url, namespace + ":"
        retry = Retry(NoBackoff(), 1, supported_errors=(redis.ConnectionError,))
        self._client = redis.Redis.from_url(url, socket_timeout=timeout_s, socket_connect_timeout=timeout_s, retry=retry)
        self._write_script = self._client.register_script(_WRITE)
        self._accept_script = self._client.register_script(_ACCEPT)
        self._count_script = self._client.register_script(_COUNT)

    def get(self, keys: Sequence[str]) -> list[bytes | None]:
        with _redis_errors(self.url):
            return self._client.mget([self._prefix + key for key in keys]) if keys else []  # MGET is atomic

    def write(self, put: Mapping[str, bytes | None], only_if: Mapping[str, bytes | None] | None = None, ttl_s: float | None = None) -> bool:
        only_if = only_if or {}
        ttl_ms = "" if ttl_s is None else max(1, round(ttl_s * 1000))
        values = [b"-" if value is None else b"=" + value for value in (*only_if.values(), *put.values())]
        with _redis_errors(self.url):
            return bool(self._write_script([self._prefix + key for key in (*only_if, *put)], [len(only_if), ttl_ms, *values]))

    def accept(self, events: Sequence[Event]) -> list[str]:
        keys = [self._prefix + key for event in events for key in (event.key, event.name)]
        values = [value for event in events for value in (event.record, event.member)]
        with _redis_errors(self.url):
            return [str(found, "ascii") for found in self._accept_script(keys, values)] if events else []

    def count(self, names: Sequence[str], members: Sequence[int]) -> list[tuple[int, int]]:
        with _redis_errors(self.url):
            found = self._count_script([self._prefix + name for name in names], list(members)) if names else []
        return list(zip(found[::2], found[1::2], strict=True))

    def members(self, name: str) -> set[int]:
        with _redis_errors(self.url):
            return set(map(int, self._client.smembers(self._prefix + name)))

    def keys(self, prefix: str) -> list[str]:
        with _redis_errors(self.url):
            return sorted({key.decode().removeprefix(self._prefix) for key in self._scan(prefix)})

    def delete(self, prefix: str) -> int:
        with _redis_errors(self.url):
            found = list(self._scan(prefix))
            return sum(self._client.unlink(*found[i : i + 1000]) for i in range(0, len(found), 1000))

    def _scan(self, prefix: str) -> Iterator[bytes]:
        literal = "".join("\\" + c if c in "*?[]\\^-" else c for c in self._prefix + prefix)  # SCAN's pattern language
        return self._client.scan_iter(match=literal + "*", count=1000)

    def close(self) -> None:
        self._client.close()


# KEYS: those of only_if, then those of put; ARGV: how many of only_if, ttl in ms or "", then "=value" or "-" for none
_WRITE = """
local n = tonumber(ARGV[1])
for i = 1, n do
  local found = redis.call('MGET', KEYS[i])[1]
  if ARGV[i + 2] ~= (found and '=' .. found or '-') then return 0 end
end
for i = n + 1, #KEYS do
  local value = ARGV[i + 2]
  if value == '-' then redis.call('DEL', KEYS[i])
  elseif ARGV[2] == '' then redis.call('SET', KEYS[i], string.sub(value, 2))
  else redis.call('SET', KEYS[i], string.sub(value, 2), 'PX', ARGV[2]) end
end
return 1
"""

# KEYS: for each event its key and its set; ARGV: its record and its member. SADD can fail (another type, no memory), and
# then nothing of the event has been done; SET after it cannot
_ACCEPT = """
local out = {}
for i = 1, #KEYS, 2 do
  local before = redis.pcall('GET', KEYS[i])
  if type(before) == 'table' then out[#out + 1] = 'corrupt'
  elseif before then out[#out + 1] = before == ARGV[i] and 'kept' or 'conflict'
  else
    local added = redis.pcall('SADD', KEYS[i + 1], ARGV[i + 1])
    if type(added) ~= 'table' then
      redis.call('SET', KEYS[i], ARGV[i])
      out[#out + 1] = 'kept'
    elseif string.find(added.err, 'WRONGTYPE') then out[#out + 1] = 'corrupt'
    else return added end
  end
end
return out
"""

_COUNT = """
local out = {}
for _, key in ipairs(KEYS) do
  local size, there = redis.pcall('SCARD', key), 0
  if type(size) == 'table' then size = -1 end
  if size > 0 and #ARGV > 0 then
    for _, yes in ipairs(redis.call('SMISMEMBER', key, unpack(ARGV))) do there = there + yes end
  end
  out[#out + 1], out[#out + 2] = size, there
end
return out
"""


@contextmanager
def _redis_errors(url: str) -> Iterator[None]:
    """Turn the client's exceptions into ours. The URL's password, if any, is not repeated."""
    where = "Redis at " + url.rsplit("@", 1)[-1].removeprefix("redis://")
    try:
        yield
    except redis.TimeoutError as error:
        raise StoreSlow(f"{where}: no answer in time") from error
    except redis.AuthenticationError as error:
        raise StoreDown(f"{where}: the server refuses the password, or wants one ({error})") from error
    except redis.ConnectionError as error:
        raise StoreDown(f"{where}: cannot be reached; is the server running? ({error})") from error
    except redis.exceptions.ReadOnlyError as error:
        raise StoreReadOnly(f"{where}: a replica, which can be read and not written to") from error
    except redis.RedisError as error:
        if "OOM" in str(error) or isinstance(error, redis.exceptions.OutOfMemoryError):
            raise StoreFull(f"{where}: out of memory; drop old versions or raise maxmemory") from error
        if "MISCONF" in str(error):
            raise StoreFull(f"{where}: the server cannot write to its disk; free some room ({error})") from error
        raise StoreError(f"{where}: {error}") from error


def open_backend(url_or_path: str | Path, namespace: str = "mlsd", **options: float) -> KeyValue:
    """Redis for a URL ("redis://host:port/0"), else LMDB in that directory. Either is first spoken to by the first command.

    namespace: key prefix in Redis. options: of the backend (both: timeout_s; LMDB: map_mb).
    """
    if str(url_or_path).startswith(("redis://", "rediss://", "unix://")):
        return RedisKeyValue(str(url_or_path), namespace, **options)
    if "://" in str(url_or_path):
        raise StoreError(f"expected redis://host:port/0 or the path of a directory, found {str(url_or_path)!r}")
    return LmdbKeyValue(url_or_path, **options)
