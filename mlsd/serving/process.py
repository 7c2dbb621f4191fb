"""Start and stop the processes that serve: none of them outlives the one that started it.

with Service(store="store/", bundles="bundles/") as service:
    httpx.get(service.url + "/health/ready")
"""

from __future__ import annotations

import atexit
import http.client
import json
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
import urllib.error
import urllib.request
from pathlib import Path

import psutil
import redis


class ProcessError(RuntimeError):
    """A process did not start, or is not running. The message holds the end of its log."""


class Service:
    """The ranking service in its own process. Options are those of `python -m mlsd.serving.service`.

    Service(store=..., bundles=..., deadline_ms=50) starts it and waits until it answers. If this process
    ends, however it ends, the service sees its standard input close and ends too.
    """

    def __init__(self, store: str | Path, bundles: str | Path, start_timeout_s: float = 30.0, **options: object) -> None:
        self._timeout_s = start_timeout_s
        self._arguments = ["--store", str(store), "--bundles", str(bundles)]
        for name, value in options.items():
            self._arguments += ["--" + name.replace("_", "-"), str(value)]
        self._directory = tempfile.TemporaryDirectory(prefix="mlsd-service-")
        self._log = Path(self._directory.name) / "log"
        self._process: subprocess.Popen | None = None
        # http_proxy and its kin are for the world outside: nothing that we start here is behind a proxy
        self._direct = urllib.request.build_opener(urllib.request.ProxyHandler({}))
        self.port = 0
        self.start()

    @property
    def url(self) -> str:
        """Where it listens; the same after a restart."""
        return f"http://127.0.0.1:{self.port}"

    @property
    def pid(self) -> int:
        """The process id. Raises ProcessError if it is not running."""
        if self._process is None or self._process.poll() is not None:
            raise ProcessError(f"the service is not running\n{self.log()}")
        return self._process.pid

    def start(self) -> None:
        """Start it and wait until it answers. Raises ProcessError with its log if it does not."""
        announced = Path(self._directory.name) / "announced"
        announced.unlink(missing_ok=True)
        command = [sys.executable, "-m", "mlsd.serving.service", *self._arguments]
        command += ["--port", str(self.port), "--announce", str(announced), "--exit-with-parent"]
        with self._log.open("ab") as log:
            self._process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=log, stderr=log)
        atexit.register(self.kill)
        deadline = time.monotonic() + self._timeout_s
        while time.monotonic() < deadline:
            if self._process.poll() is not None:
                raise ProcessError(f"the service ended with code {self._process.returncode} before it answered:\n{self.log()}")
            if announced.exists():
                self.port = json.loads(announced.read_text())["port"]
                if self._answers():
                    return
            time.sleep(0.02)
        self.kill()
        raise ProcessError(f"the service did not answer within {self._timeout_s} s:\n{self.log()}")

    def _answers(self) -> bool:
        try:
            with self._direct.open(self.url + "/health/live", timeout=1) as response:
                return response.status == 200
        except (OSError, http.client.HTTPException):
            return False

    def health(self) -> dict:
        """What /health/ready says: ready, model_version, list_version, degraded."""
        try:
            with self._direct.open(self.url + "/health/ready", timeout=5) as response:
                return json.load(response)
        except urllib.error.HTTPError as error:  # 503: not ready, and why
            return json.load(error)

    def wait_for(self, timeout_s: float = 30.0, **expected: object) -> None:
        """Return when its health says so, e.g. wait_for(model_version="0123456789ab"). Raises ProcessError if it never does."""
        deadline = time.monotonic() + timeout_s
        while not expected.items() <= (health := self.health()).items():
            if time.monotonic() > deadline:
                raise ProcessError(f"expected {expected} within {timeout_s} s, found {health}\n{self.log()}")
            time.sleep(0.02)

    def cpu_seconds(self) -> float:
        """Processor time it has used so far, user and system, in seconds."""
        used = psutil.Process(self.pid).cpu_times()
        return used.user + used.system

    def log(self) -> str:
        """The last lines it wrote."""
        return self._log.read_text(errors="replace")[-3000:] if self._log.exists() else ""

    def pause(self) -> None:
        """Freeze it (SIGSTOP): a stand-in for a long garbage collection or a stolen processor."""
        psutil.Process(self.pid).suspend()

    def resume(self) -> None:
        """Let it go on after `pause`."""
        psutil.Process(self.pid).resume()

    def kill(self) -> None:
        """End it at once (SIGKILL), as a crash or a lost machine would."""
        if self._process is not None:
            if self._process.poll() is None:
                self._process.kill()
            self._process.wait()
            self._process.stdin.close()
            self._process = None
        atexit.unregister(self.kill)

    def stop(self, timeout_s: float = 10.0) -> None:
        """Ask it to finish the requests it has and end; kill it if it does not."""
        if self._process is not None and self._process.poll() is None:
            self._process.terminate()
            try:
                self._process.wait(timeout_s)
            except subprocess.TimeoutExpired:
                pass
        self.kill()

    def __enter__(self) -> Service:
        return self

    def __exit__(self, *error: object) -> None:
        self.stop()
        self._directory.cleanup()


class RedisServer:
    """A real redis-server on a free loopback port, with its data in a directory of its own.

    It syncs every write to disk before it answers, so an accepted write survives `kill` and `start`.
    Raises ProcessError with instructions if the binary is missing.
    """

    def __init__(self, start_timeout_s: float = 10.0) -> None:
        self._binary = shutil.which("redis-server")
        if self._binary is None:
            raise ProcessError("redis-server is not installed: `apt-get install redis-server` (Debian, Ubuntu) or `brew install redis`")
        self._timeout_s = start_timeout_s
        self._directory = tempfile.TemporaryDirectory(prefix="mlsd-redis-")
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            self.port = probe.getsockname()[1]
        self._process: subprocess.Popen | None = None
        self.start()

    @property
    def url(self) -> str:
        """Where it listens; the same after a restart."""
        return f"redis://127.0.0.1:{self.port}/0"

    def start(self) -> None:
        """Start it on its port and wait until it has read its data and answers."""
        command = [self._binary, "--port", str(self.port), "--bind", "127.0.0.1", "--dir", self._directory.name]
        command += ["--appendonly", "yes", "--appendfsync", "always", "--save", "", "--logfile", "redis.log"]
        self._process = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        atexit.register(self.kill)
        client, deadline = redis.Redis(port=self.port, socket_timeout=1), time.monotonic() + self._timeout_s
        while time.monotonic() < deadline and self._process.poll() is None:
            try:
                client.ping()
                return client.close()
            except redis.RedisError:
                time.sleep(0.02)
        self.kill()
        log = Path(self._directory.name) / "redis.log"
        raise ProcessError(f"redis-server did not answer on port {self.port}:\n{log.read_text()[-2000:] if log.exists() else ''}")

    def pause(self) -> None:
        """Freeze it: connections stay open and nobody answers."""
        self._process.send_signal(signal.SIGSTOP)

    def resume(self) -> None:
        """Let it go on after `pause`."""
        self._process.send_signal(signal.SIGCONT)

    def kill(self) -> None:
        """End it at once (SIGKILL). Its data stay for `start`."""
        if self._process is not None:
            self._process.kill()
            self._process.wait()
            self._process = None
        atexit.unregister(self.kill)

    def __enter__(self) -> RedisServer:
        return self

    def __exit__(self, *error: object) -> None:
        self.kill()
        self._directory.cleanup()
