"""Faults on demand, at the seam between the service and its store.

An embedded store cannot be unplugged, so the chapter and the tests break the client instead: the service
looks at a small file before each call and is as slow, or as dead, as the file says. Off unless asked for.
"""

from __future__ import annotations

import json
import os
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from mlsd.serving.backends import KeyValue, StoreDown


def set_fault(path: str | Path, down: bool = False, delay_ms: float = 0.0) -> None:
    """From the next call on, let the store be down or slow; with neither, heal it."""
    temporary = Path(f"{path}.new")
    temporary.write_text(json.dumps(dict(down=down, delay_ms=delay_ms)))
    os.replace(temporary, path)


class FaultyKeyValue:
    """A backend that fails as the fault file says, and otherwise does what `backend` does."""

    def __init__(self, backend: KeyValue, path: str | Path) -> None:
        self._backend, self._path = backend, Path(path)

    def __getattr__(self, name: str) -> Callable[..., Any]:
        verb = getattr(self._backend, name)

        def with_fault(*args: Any, **kwargs: Any) -> Any:
            if name != "close" and self._path.exists():
                fault = json.loads(self._path.read_text())
                time.sleep(fault["delay_ms"] / 1000)
                if fault["down"]:
                    raise StoreDown(f"the fault file {self._path} says that the store is down")
            return verb(*args, **kwargs)

        return with_fault
