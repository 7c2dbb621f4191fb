"""A stopwatch for one call and for many."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np


def time_each(work: Callable[[int], object], n: int) -> np.ndarray:
    """Milliseconds of each of the calls work(0) ... work(n - 1), shape (n,)."""
    times = np.empty(n + 1)
    times[0] = time.perf_counter()
    for i in range(n):
        work(i)
        times[i + 1] = time.perf_counter()
    return np.diff(times) * 1000


@dataclass
class Stopwatch:
    """Seconds that the body of a `with` took: `wall`, and `cpu`, the processor time of this process on all its threads.

    Processor time is what a price per core-hour is charged on, and a busy machine does not change it much.
    """

    wall: float = 0.0
    cpu: float = 0.0

    def __enter__(self) -> Stopwatch:
        self._started = time.perf_counter(), time.process_time()
        return self

    def __exit__(self, *error: object) -> None:
        self.wall, self.cpu = time.perf_counter() - self._started[0], time.process_time() - self._started[1]
