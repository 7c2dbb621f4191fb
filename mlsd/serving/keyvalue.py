"""Two key-value backends with the same five verbs: LMDB (embedded, the default) and a Redis server.

Both promise the same three things, on which `stores.Store` rests:
* `get` and `members` read one snapshot: no half of one version and half of another;
* `write` is one transaction: all of it or nothing, also when the process is killed in the middle;
* when `write` returns, the data survive a kill of this process. LMDB syncs the file on every commit;
  Redis does so if the server runs with `appendonly yes` and `appendfsync always` (see `process.RedisServer`).
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Protocol

import lmdb
import redis
from redis.backoff import NoBackoff
from redis.retry import Retry


class StoreError(RuntimeError):
    """The store did not do what it was asked. `reason` is short and fit for a metric's label."""

    reason = "store_error"


class StoreDown(StoreError):
    """Nobody answers at the store's address, or its file is gone."""

    reason = "store_down"


class StoreSlow(StoreError):
    """The store did not answer in time."""

    reason = "store_slow"


class StoreFull(StoreError):
    """The store has no room for this write; what it held before is untouched."""

    reason = "store_full"


class KeyValue(Protocol):
    """What a backend must offer. Keys are text, values bytes; sets hold text members."""

    def get(self, keys: Sequence[str]) -> list[bytes | None]: ...

    def members(self, names: Sequence[str]) -> list[set[str]]: ...

    def write(self, put: Mapping[str, bytes], add: Iterable[tuple[str, str]] = (), ttl_s: float | None = None) -> None: ...

    def keys(self, prefix: str) -> list[str]: ...

    def delete(self, prefix: str) -> int: ...

    def close(self) -> None: ...


class LmdbKeyValue:
    """An LMDB environment in a directory: memory-mapped, one writer and many readers, also across processes.

    map_mb: the most the file may ever hold (address space, not disk). ttl_s is not enforced here: records
    carry their own time to live, and `Store.drop` frees the space of a whole version.
    Raises StoreDown if the directory cannot be opened.
    """

    def __init__(self, path: str | Path, map_mb: int = 1024) -> None:
        self.path = Path(path)
        try:
            self.path.mkdir(parents=True, exist_ok=True)
            self._env = lmdb.open(str(self.path), map_size=map_mb << 20, max_dbs=2, max_readers=512)
            self._values = self._env.open_db(b"values")
            self._sets = self._env.open_db(b"sets", dupsort=True)
            self._env.reader_check()  # a killed reader must not hold old pages for ever
        except (lmdb.Error, OSError) as error:
            raise StoreDown(f"LMDB at {self.path}: cannot open ({error})") from error

    def get(self, keys: Sequence[str]) -> list[bytes | None]:
        with _lmdb_errors(self.path), self._env.begin(db=self._values) as txn:
            return [txn.get(key.encode()) for key in keys]

    def members(self, names: Sequence[str]) -> list[set[str]]:
        with _lmdb_errors(self.path), self._env.begin(db=self._sets) as txn:
            cursor = txn.cursor()
            return [{m.decode() for m in cursor.iternext_dup()} if cursor.set_key(name.encode()) else set() for name in names]

    def write(self, put: Mapping[str, bytes], add: Iterable[tuple[str, str]] = (), ttl_s: float | None = None) -> None:
        with _lmdb_errors(self.path), self._env.begin(write=True) as txn:
            for key, value in put.items():
                txn.put(key.encode(), value, db=self._values)
            for name, member in add:
                txn.put(name.encode(), member.encode(), dupdata=False, db=self._sets)

    def keys(self, prefix: str) -> list[str]:
        with _lmdb_errors(self.path), self._env.begin(db=self._values) as txn:
            return [key.decode() for key in _keys_from(txn.cursor(), prefix.encode())]

    def delete(self, prefix: str) -> int:
        with _lmdb_errors(self.path), self._env.begin(write=True) as txn:
            n = 0
            for db in (self._values, self._sets):
                for key in list(_keys_from(txn.cursor(db), prefix.encode())):
                    n += txn.delete(key, db=db)
            return n

    def close(self) -> None:
        self._env.close()


def _keys_from(cursor: lmdb.Cursor, prefix: bytes) -> Iterable[bytes]:
    found = cursor.set_range(prefix)
    while found and cursor.key().startswith(prefix):
        yield cursor.key()
        found = cursor.next_nodup()


class _lmdb_errors:
    """Turn LMDB's exceptions into ours, naming the file and what to do."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __enter__(self) -> None: ...

    def __exit__(self, kind: type | None, error: BaseException | None, traceback: object) -> None:
        if isinstance(error, lmdb.MapFullError):
            raise StoreFull(f"LMDB at {self.path}: full; drop old versions or reopen with a larger map_mb") from error
        if isinstance(error, lmdb.Error):
            raise StoreDown(f"LMDB at {self.path}: {error}") from error


class RedisKeyValue:
    """A Redis server by URL; all keys live under `namespace:`, so one server can hold many stores.

    timeout_s: how long one command may take before StoreSlow. A stale connection is reopened once;
    a time-out is never retried, because the client's own default retries with pauses of seconds, which
    turns a slow store into a slow product.
    """

    def __init__(self, url: str, namespace: str = "mlsd", timeout_s: float = 0.25) -> None:
        self.url, self._prefix = url, namespace + ":"
        retry = Retry(NoBackoff(), 1, supported_errors=(redis.ConnectionError,))
        self._client = redis.Redis.from_url(url, socket_timeout=timeout_s, socket_connect_timeout=timeout_s, retry=retry)

    def get(self, keys: Sequence[str]) -> list[bytes | None]:
        with _redis_errors(self.url):
            return self._client.mget([self._prefix + key for key in keys]) if keys else []  # MGET is atomic

    def members(self, names: Sequence[str]) -> list[set[str]]:
        with _redis_errors(self.url):
            pipe = self._client.pipeline(transaction=True)
            for name in names:
                pipe.smembers(self._prefix + name)
            return [{m.decode() for m in found} for found in pipe.execute()]

    def write(self, put: Mapping[str, bytes], add: Iterable[tuple[str, str]] = (), ttl_s: float | None = None) -> None:
        with _redis_errors(self.url):
            pipe = self._client.pipeline(transaction=True)
            for key, value in put.items():
                pipe.set(self._prefix + key, value, px=None if ttl_s is None else max(1, round(ttl_s * 1000)))
            for name, member in add:
                pipe.sadd(self._prefix + name, member)
            pipe.execute()

    def keys(self, prefix: str) -> list[str]:
        with _redis_errors(self.url):
            found = self._client.scan_iter(match=_literal(self._prefix + prefix) + "*", count=1000)
            return sorted({key.decode().removeprefix(self._prefix) for key in found})

    def delete(self, prefix: str) -> int:
        with _redis_errors(self.url):
            found = list(self._client.scan_iter(match=_literal(self._prefix + prefix) + "*", count=1000))
            return sum(self._client.unlink(*found[i : i + 1000]) for i in range(0, len(found), 1000))

    def close(self) -> None:
        self._client.close()


def _literal(text: str) -> str:
    """Escape the characters that SCAN's pattern language gives a meaning to."""
    return "".join("\\" + c if c in "*?[]\\^-" else c for c in text)


class _redis_errors:
    """Turn the client's exceptions into ours. The URL's password, if any, is not repeated."""

    def __init__(self, url: str) -> None:
        self.where = "Redis at " + url.rsplit("@", 1)[-1].removeprefix("redis://")

    def __enter__(self) -> None: ...

    def __exit__(self, kind: type | None, error: BaseException | None, traceback: object) -> None:
        if isinstance(error, redis.TimeoutError):
            raise StoreSlow(f"{self.where}: no answer in time") from error
        if isinstance(error, redis.ConnectionError):
            raise StoreDown(f"{self.where}: cannot be reached; is the server running? ({error})") from error
        if isinstance(error, redis.exceptions.OutOfMemoryError):
            raise StoreFull(f"{self.where}: out of memory; drop old versions or raise maxmemory") from error
        if isinstance(error, redis.RedisError):
            raise StoreError(f"{self.where}: {error}") from error


def open_backend(url_or_path: str | Path, namespace: str = "mlsd", **options: float) -> KeyValue:
    """Redis for a URL ("redis://host:port/0"), else LMDB in that directory.

    namespace: key prefix in Redis. options: of the backend (LMDB: map_mb; Redis: timeout_s).
    Raises StoreDown if LMDB's directory cannot be opened; Redis is first spoken to by the first command.
    """
    if str(url_or_path).startswith(("redis://", "rediss://", "unix://")):
        return RedisKeyValue(str(url_or_path), namespace, **options)
    if "://" in str(url_or_path):
        raise StoreError(f"expected redis://host:port/0 or the path of a directory, found {str(url_or_path)!r}")
    return LmdbKeyValue(url_or_path, **options)
