"""A load generator in its own process, so that it does not share an interpreter with what it measures.

Closed loop (rate=None): `concurrency` clients, each sends its next request when the last one is answered.
It finds the throughput at a given concurrency. When the service stalls it stops asking, so its percentiles
hide the stall ("coordinated omission").
Open loop (rate=...): requests are due at random times (Poisson) whatever the service does, and latency counts
from the time a request was *due*. This is what users of a product do.

The client speaks plain HTTP/1.1 over asyncio streams: a general client costs more processor time a request
than the service, and would measure itself.
"""

from __future__ import annotations

import asyncio
import json
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

import numpy as np

if TYPE_CHECKING:  # imported where it is used: the generator's own process does without it and starts in half the time
    import pandas as pd


@dataclass(frozen=True)
class Call:
    """One HTTP request. `body` is sent as JSON."""

    path: str
    body: dict | None = None
    method: str = "POST"


class Load:
    """A running load generator; `result()` waits for it.

    calls: sent in this order, over and over until `n` were sent. concurrency: clients of the closed loop, or the
    most connections of the open one. rate: requests a second, on average; None for a closed loop.
    timeout_s: after which a request counts as failed. retry_s: how long a request that got no answer, or a 503,
    is sent again, every 20 ms. keep_bodies: return the answers too.
    """

    def __init__(
        self,
        url: str,
        calls: Sequence[Call],
        n: int,
        concurrency: int = 1,
        rate: float | None = None,
        timeout_s: float = 5.0,
        retry_s: float = 0.0,
        keep_bodies: bool = False,
        seed: int = 0,
    ) -> None:
        if not calls or n < 1 or concurrency < 1 or (rate is not None and rate <= 0):
            raise ValueError(f"expected calls and n, concurrency, rate above 0; found {len(calls)} calls, {n}, {concurrency}, {rate}")
        spec = dict(
            url=url, n=n, concurrency=concurrency, rate=rate, timeout_s=timeout_s, retry_s=retry_s, keep_bodies=keep_bodies, seed=seed
        )
        spec["calls"] = [[c.method, c.path, None if c.body is None else json.dumps(c.body)] for c in calls]
        self._directory = tempfile.TemporaryDirectory(prefix="mlsd-load-")
        self._result = Path(self._directory.name) / "result.json"
        (Path(self._directory.name) / "spec.json").write_text(json.dumps(spec))
        command = [sys.executable, "-m", "mlsd.serving.load", self._directory.name]
        self._process = subprocess.Popen(command, stdin=subprocess.DEVNULL, stderr=subprocess.PIPE)

    def wait_until_started(self, timeout_s: float = 120.0) -> None:
        """Return when the first request has been sent."""
        deadline = time.monotonic() + timeout_s
        while not (Path(self._directory.name) / "started").exists():
            if self._process.poll() is not None or time.monotonic() > deadline:
                raise RuntimeError(f"the load generator did not start: {self._process.stderr.read().decode()[-2000:]}")
            time.sleep(0.005)

    def result(self) -> pd.DataFrame:
        """One row a request, in the order of sending.

        Columns: call (its place in `calls`), at_s (when it was due, from the start), latency_ms (until the answer, all
        tries), status (HTTP; 0: no answer), error, attempts, source, fallback, version (of the answer), outcome (the
        fallback if there is one; "ok" for any other answer of status 2xx; else "HTTP ..." or "no answer"), timing (the
        Server-Timing header) and, with keep_bodies, body.
        """
        import pandas as pd

        _, errors = self._process.communicate()
        if self._process.returncode != 0:
            raise RuntimeError(f"the load generator failed: {errors.decode()[-2000:]}")
        table = pd.DataFrame(json.loads(self._result.read_text()))
        self._directory.cleanup()
        return table

    def finish(self) -> pd.DataFrame:
        """Send nothing more; the `result()` of what has been sent. So a load can last as long as what happens under it."""
        (Path(self._directory.name) / "enough").touch()
        return self.result()

    def stop(self) -> None:
        """End it without a result."""
        self._process.kill()
        self._process.communicate()
        self._directory.cleanup()


def run_load(url: str, calls: Sequence[Call], n: int, **options: object) -> pd.DataFrame:
    """`Load(...)` from start to end; if interrupted, nothing goes on running."""
    load = Load(url, calls, n, **options)
    try:
        return load.result()
    except BaseException:
        load.stop()
        raise


def summary(result: pd.DataFrame) -> dict[str, float]:
    """p50, p95, p99, the longest (ms), answers a second, and the shares of errors and of fallbacks."""
    answered = result[result.status.between(200, 299)]
    span = (result.at_s + result.latency_ms / 1000).max() - result.at_s.min()
    latency = result.latency_ms.to_numpy()
    p50, p95, p99 = np.quantile(latency, [0.5, 0.95, 0.99])
    figures = dict(
        p50_ms=p50,
        p95_ms=p95,
        p99_ms=p99,
        max_ms=latency.max(),
        per_second=len(answered) / span,
        errors=1 - len(answered) / len(result),
        fallbacks=result.fallback.notna().mean(),
    )
    return {name: float(value) for name, value in figures.items()}


def stages_ms(result: pd.DataFrame) -> pd.DataFrame:
    """The Server-Timing headers as columns, one row an answer that has one, in milliseconds."""
    import pandas as pd

    parsed = [dict(part.split(";dur=") for part in header.split(", ")) for header in result.timing.dropna()]
    return pd.DataFrame(parsed, index=result.timing.dropna().index).astype(float)


# ---------- the process ----------


class _Connection:
    """One keep-alive connection, opened when first needed and after every failure."""

    def __init__(self, host: str, port: int) -> None:
        self._host, self._port, self._writer = host, port, None

    async def exchange(self, request: bytes) -> tuple[int, dict[bytes, bytes], bytes]:
        try:
            if self._writer is None:
                self._reader, self._writer = await asyncio.open_connection(self._host, self._port)
            self._writer.write(request)
            head = await self._reader.readuntil(b"\r\n\r\n")
            first, *lines = head[:-4].split(b"\r\n")
            headers = {name.lower(): value.strip() for name, value in (line.split(b":", 1) for line in lines)}
            body = await self._reader.readexactly(int(headers.get(b"content-length", 0)))
            if headers.get(b"connection") == b"close":
                self.close()
            return int(first.split(b" ", 2)[1]), headers, body
        except BaseException:
            self.close()
            raise

    def close(self) -> None:
        if self._writer is not None:
            self._writer.close()
            self._writer = None


async def _send(connection: _Connection, request: bytes, due: float, spec: dict) -> dict:
    row = dict(status=0, error=None, attempts=0, source=None, fallback=None, version=None, timing=None)
    while True:
        row["attempts"] += 1
        body = b""
        try:
            async with asyncio.timeout(spec["timeout_s"]):
                row["status"], headers, body = await connection.exchange(request)
            row["error"] = None
            row["timing"] = headers[b"server-timing"].decode() if headers.get(b"server-timing") else None
        except (OSError, TimeoutError, asyncio.IncompleteReadError) as error:
            row["status"], row["error"] = 0, type(error).__name__
        if row["status"] not in (0, 503) or time.perf_counter() - due > spec["retry_s"]:
            break
        await asyncio.sleep(0.02)
    row["latency_ms"] = (time.perf_counter() - due) * 1000
    answered = 200 <= row["status"] < 300
    row["outcome"] = "ok" if answered else f"HTTP {row['status']}" if row["status"] else "no answer"
    if answered and b'"source":' in body and body.startswith(b'{"request_id"'):
        answer = json.loads(body)
        row.update(source=answer["source"], fallback=answer["fallback"], version=answer["model_version"])
        row["outcome"] = answer["fallback"] or "ok"
    if spec["keep_bodies"]:
        row["body"] = body.decode()
    return row


async def _main(directory: Path) -> None:
    spec = json.loads((directory / "spec.json").read_text())
    address = urlsplit(spec["url"])
    requests = []
    for method, path, body in spec["calls"]:
        content = (body or "").encode()
        head = [f"{method} {path} HTTP/1.1", f"Host: {address.netloc}", "Content-Type: application/json", f"Content-Length: {len(content)}"]
        requests.append("\r\n".join([*head, "", ""]).encode() + content)
    n, rate = spec["n"], spec["rate"]
    due_s = None if rate is None else np.cumsum(np.random.default_rng(spec["seed"]).exponential(1 / rate, n))
    rows: list[dict | None] = [None] * n
    turn, enough = iter(range(n)), directory / "enough"
    start = time.perf_counter()

    async def client() -> None:
        connection = _Connection(address.hostname, address.port)
        for i in turn:  # shared by all clients: whoever is free takes the next request
            due = time.perf_counter() if due_s is None else start + due_s[i]
            if due > time.perf_counter():
                await asyncio.sleep(due - time.perf_counter())
            if enough.exists():
                break
            row = await _send(connection, requests[i % len(requests)], due, spec)
            rows[i] = dict(call=i % len(requests), at_s=due - start, **row)
        connection.close()

    (directory / "started").touch()
    await asyncio.gather(*(client() for _ in range(min(spec["concurrency"], n))))
    (directory / "result.json").write_text(json.dumps([row for row in rows if row is not None]))


if __name__ == "__main__":
    asyncio.run(_main(Path(sys.argv[1])))
