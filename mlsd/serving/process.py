"""Start and stop the processes that serve: none of them outlives the one that started it.

with Service(store="store/", bundles="bundles/") as service:
    httpx.get(service.url + "/health/ready")
"""

from __future__ import annotations

import http.client
import json
import os
import subprocess
import sys
import tempfile
import time
import urllib.error
import urllib.request
import weakref
from pathlib import Path

import psutil


class ProcessError(RuntimeError):
    """A process did not start, or is not running. The message holds the end of its log."""


class Service:
    """The ranking service in its own process. Options are those of `python -m mlsd.serving`.

    Service(store=..., bundles=..., deadline_ms=50) starts it and waits until it answers. If this process
    ends, however it ends, the service sees its standard input close and ends too. A notebook cell that binds a
    new Service to an old one's name ends the old one.
    """

    def __init__(self, store: str | Path, bundles: str | Path, start_timeout_s: float = 120.0, **options: object) -> None:
        self._timeout_s = start_timeout_s
        self._environment = os.environ | dict(MLSD_STORE=str(store))
        self._arguments = ["--bundles", str(bundles)]
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
        command = [sys.executable, "-m", "mlsd.serving", *self._arguments]
        command += ["--port", str(self.port), "--announce", str(announced), "--exit-with-parent"]
        with self._log.open("ab") as log:
            self._process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=log, stderr=log, env=self._environment)
        self._end = weakref.finalize(self, _end, self._process)
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
            with self._direct.open(self.url + "/health/ready", timeout=30) as response:
                return json.load(response)
        except urllib.error.HTTPError as error:  # 503: not ready, and why
            return json.load(error)

    def wait_for(self, timeout_s: float = 120.0, **expected: object) -> None:
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
            self._end()
            self._process = None

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


def _end(process: subprocess.Popen) -> None:
    if process.poll() is None:
        process.kill()
    process.wait()
    process.stdin.close()
