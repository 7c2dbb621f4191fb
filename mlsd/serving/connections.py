"""uvicorn's HTTP protocol with what it leaves open: who may connect, how long a request may take to come in, when it came.

A request's time of arrival is when its last byte was read from the socket. Left out is the time that bytes wait in the
kernel until the event loop reads them (one turn of the loop, see the metric `loop_lag_seconds`), and the time in
the kernel's queue of connections that nobody has accepted yet.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable

from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

try:
    import resource
except ImportError:  # Windows counts handles otherwise, and has plenty
    resource = None

RESERVED_DESCRIPTORS = 192  # for files, the store, and connections accepted in one turn of the loop before they are counted
BACKLOG = 128


class Connections:
    """The open connections of a server. `closed(why)` is told of each one that is closed from here."""

    def __init__(self, at_most: int, read_timeout_s: float, closed: Callable[[str], None], malformed: Callable[[], None]) -> None:
        if resource is not None:
            descriptors = resource.getrlimit(resource.RLIMIT_NOFILE)[0]
            at_most = min(at_most, max(16, descriptors - RESERVED_DESCRIPTORS))
        self.at_most, self._read_timeout_s = at_most, read_timeout_s
        self.closed, self.malformed = closed, malformed
        self.open: set[Protocol] = set()
        self.reading: dict[Protocol, float] = {}  # those from whom a request is awaited, longest first, with the time since when

    def opened(self, protocol: Protocol) -> None:
        """Count a new one. Over the limit, the one that has been silent longest makes room, be it this one."""
        self.open.add(protocol)
        self.await_request(protocol)
        if len(self.open) > self.at_most:
            self._close(next(iter(self.reading)), "no_room")

    def await_request(self, protocol: Protocol) -> None:
        """From now on, this client owes us a request."""
        self.reading.pop(protocol, None)
        self.reading[protocol] = time.monotonic()

    def lost(self, protocol: Protocol) -> None:
        """Forget it."""
        self.open.discard(protocol)
        self.reading.pop(protocol, None)

    async def close_silent(self, lag: Callable[[float], None]) -> None:
        """For ever: close those whose request has not come in whole in time; tell `lag` how late the loop runs (seconds)."""
        while True:
            due = time.monotonic() + 0.25
            await asyncio.sleep(0.25)
            now = time.monotonic()
            lag(max(0.0, now - due))
            while self.reading and now - next(iter(self.reading.values())) > self._read_timeout_s:
                self._close(next(iter(self.reading)), "read_timeout")

    def _close(self, protocol: Protocol, why: str) -> None:
        self.lost(protocol)
        self.closed(why)
        protocol.transport.abort()


class Protocol(HttpToolsProtocol):
    """One connection."""

    def __init__(self, *args: object, limits: Connections, **kwargs: object) -> None:
        super().__init__(*args, **kwargs)
        self._limits = limits

    def connection_made(self, transport: asyncio.Transport) -> None:
        super().connection_made(transport)
        self._limits.opened(self)

    def connection_lost(self, error: Exception | None) -> None:
        self._limits.lost(self)
        super().connection_lost(error)

    def on_message_complete(self) -> None:
        self.scope["arrived"] = time.monotonic()
        if not self.cycle.response_complete:  # an answer may be given before the request is read
            self._limits.reading.pop(self, None)
        super().on_message_complete()

    def on_response_complete(self) -> None:
        super().on_response_complete()
        if not self.transport.is_closing():
            self._limits.await_request(self)

    def send_400_response(self, message: str) -> None:
        self._limits.malformed()
        super().send_400_response(message)
