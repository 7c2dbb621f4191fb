"""The small mechanisms by themselves: breaker, micro-batcher, row cache."""

from __future__ import annotations

import asyncio
import time
from types import SimpleNamespace

import pytest

from mlsd.serving import mechanisms
from mlsd.serving.mechanisms import Breaker, MicroBatcher, Overload, RowCache


def test_the_breaker_opens_tries_again_and_closes():
    now = [0.0]
    breaker = Breaker(failures=2, open_s=1.0, clock=lambda: now[0])
    for ok in (False, True, False):
        breaker.record(ok)
    assert breaker.allows(), "a success in between forgives"
    breaker.record(False)
    assert not breaker.allows()
    now[0] = 1.1
    assert breaker.allows() and not breaker.allows(), "one caller tries, the others wait for what it finds"
    breaker.record(False)
    assert not breaker.allows()
    now[0] = 2.3
    assert breaker.allows()
    breaker.record(True)
    assert breaker.allows() and breaker.allows()


def test_a_micro_batcher_groups_and_passes_errors_on():
    sizes = []

    def work(values: list[int]) -> list[int]:
        sizes.append(len(values))
        time.sleep(0.01)
        if -1 in values:
            raise ValueError("no")
        return [2 * v for v in values]

    async def scene() -> None:
        batcher = MicroBatcher(work, max_size=8, wait_s=0.005)
        assert await asyncio.gather(*(batcher(i) for i in range(20))) == [2 * i for i in range(20)]
        found = await asyncio.gather(batcher(1), batcher(-1), return_exceptions=True)
        assert all(isinstance(f, ValueError) for f in found)
        with pytest.raises(TimeoutError):
            await asyncio.wait_for(batcher(3), 0.001)
        assert await batcher(4) == 8, "a caller that gave up does not harm the next"
        batcher.close()

    asyncio.run(scene())
    assert max(sizes) == 8 and sum(sizes) in (23, 24), "what nobody waits for any more is left out, if it has not begun"


def test_one_output_that_is_an_error_is_its_callers_alone():
    async def scene() -> None:
        batcher = MicroBatcher(lambda values: [ValueError("poison") if v < 0 else v for v in values], max_size=8, wait_s=0.01)
        good, bad, other = await asyncio.gather(batcher(1), batcher(-1), batcher(2), return_exceptions=True)
        assert (good, other) == (1, 2) and isinstance(bad, ValueError)
        batcher.close()

    asyncio.run(scene())


def test_a_micro_batcher_does_not_let_the_queue_grow_without_end():
    async def scene() -> None:
        batcher = MicroBatcher(lambda values: (time.sleep(0.2), values)[1], max_size=1, max_waiting=3)
        found = await asyncio.gather(*(batcher(i) for i in range(10)), return_exceptions=True)
        assert [f for f in found if not isinstance(f, Overload)] == [0, 1, 2] and isinstance(found[-1], Overload)
        batcher.close()

    asyncio.run(scene())


def test_a_row_cache_asks_once_forgets_in_time_and_keeps_versions_apart(monkeypatch):
    asked, now = [], [100.0]
    monkeypatch.setattr(mechanisms, "time", SimpleNamespace(monotonic=lambda: now[0]))

    def read(ids, version):
        asked.append((tuple(ids), version))
        return [None if i == 9 else {"id": i, "by": version} for i in ids]

    cache = RowCache(read, age_s=0.2, size=4)
    assert cache([1, 2, 9], "a") == {1: {"id": 1, "by": "a"}, 2: {"id": 2, "by": "a"}}
    cache([1, 2, 9], "a")
    assert asked == [((1, 2, 9), "a"), ((9,), "a")], "what is there is kept, what is not is asked for again"
    assert cache([1], "b")[1]["by"] == "b"
    now[0] += 0.25
    cache([1], "a")
    assert asked[-1] == ((1,), "a"), "a row is not older than it may be"
    cache(range(20, 29), "a")
    cache([20], "a")
    assert asked[-1] == ((20,), "a"), "nor are there more than there may be"
