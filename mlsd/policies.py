"""What runs a policy day by day: the scheduler, not the model."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pandas as pd

from mlsd.worlds.base import Policy


class Retrained:
    """A policy that is built anew from the log, every so many days.

    build: log so far -> Policy. What it may use of the log (a window, matured labels) is its own affair.
    every: days between trainings; the first is on the first morning served.
    refresh_hours: set, the world computes lists only every so many hours (a digest); see the world's docstring.
    list_length: set, that many are stored of each list, more than a page shows; the same docstring.
    candidates: set, that many live events are scored for each list, more than retrieval draws for a visit; the same docstring.
    """

    def __init__(
        self,
        build: Callable[[pd.DataFrame], Policy],
        every: int = 1,
        refresh_hours: int | None = None,
        list_length: int | None = None,
        candidates: int | None = None,
    ) -> None:
        if every < 1:
            raise ValueError(f"every: expected at least 1 day, found {every}")
        self._build, self._every, self._mornings = build, every, 0
        if refresh_hours is not None:
            self.refresh_hours = refresh_hours
        if list_length is not None:
            self.list_length = list_length
        if candidates is not None:
            self.candidates = candidates

    def learn(self, log: pd.DataFrame) -> None:
        if self._mornings % self._every == 0:
            self._policy = self._build(log)
        self._mornings += 1

    def __call__(self, candidates: pd.DataFrame) -> np.ndarray:
        return self._policy(candidates)
