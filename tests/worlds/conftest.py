"""A measure of the machine, for tests that say how long something may take."""

import time

import numpy as np
import pandas as pd
import pytest


@pytest.fixture
def yardstick() -> float:
    """Processor seconds that a fixed piece of work takes here and now, in numpy, pandas and Python: the least of three."""

    def work() -> float:
        started, rng = time.process_time(), np.random.default_rng(0)
        frame = pd.DataFrame(dict(key=rng.integers(0, 20_000, 300_000), value=rng.random(300_000)))
        for _ in range(3):
            frame.sort_values(["key", "value"]).groupby("key").value.cumsum()
        sum(i % 7 for i in range(500_000))
        return time.process_time() - started

    return min(work() for _ in range(3))
