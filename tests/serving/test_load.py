"""The load generator: what it counts, and that it does not flatter what it measures."""

from __future__ import annotations

import subprocess
import sys
import textwrap
import time

import pytest
from serving_parts import counted, eventually, rank_calls, under_load

from mlsd.serving.load import Call, Load, run_load, summary

LIVE = [Call("/health/live", None, "GET")]


def test_an_open_loop_sees_a_stall_that_a_closed_loop_hides(parts):
    def answered_again(n: int) -> None:
        target = counted(parts.service, route="live") + n
        eventually(lambda: counted(parts.service, route="live") >= target)

    def during_a_stall(**how: object) -> dict[str, float]:
        with under_load(parts.service, LIVE, **how) as load:
            answered_again(300)
            parts.service.pause()
            time.sleep(1.0)
            parts.service.resume()
            answered_again(300)
            return summary(load.finish())

    closed, opened = during_a_stall(concurrency=1), during_a_stall(concurrency=64, rate=400)
    assert closed["max_ms"] > 500 and closed["p99_ms"] < closed["max_ms"] / 3, "one request in 600 waited: p99 does not see it"
    assert opened["p95_ms"] > 100, "hundreds of users were due while it stood still"


def test_a_dead_service_is_an_error_a_request_and_not_a_crash():
    result = run_load("http://127.0.0.1:1", rank_calls(), 10, concurrency=2)
    assert (result.status == 0).all() and set(result.error) == {"ConnectionRefusedError"}
    assert summary(result)["errors"] == 1 and (result.outcome == "no answer").all(), "and none counts as ranked"


def test_an_open_loop_keeps_its_rate(parts):
    result = run_load(parts.service.url, LIVE, 400, concurrency=16, rate=200)
    assert result.at_s.iloc[-1] == pytest.approx(2.0, rel=0.25) and (result.status == 200).all()


@pytest.mark.skipif(sys.platform == "win32", reason="no descriptor limit to lower")
def test_without_descriptors_requests_fail_and_are_not_counted_as_ranked(parts):
    """As under the 256 descriptors that macOS grants by default."""
    code = """
        import resource, sys
        from mlsd.serving.load import Call, run_load
        calls = [Call("/v1/rank", dict(user_id=1, item_ids=[1, 2, 3]))]
        resource.setrlimit(resource.RLIMIT_NOFILE, (40, 40))
        result = run_load(sys.argv[1], calls, 200, concurrency=100, rate=5000)
        no_answer = result.status == 0
        assert no_answer.any(), "the test needs failures"
        assert (result.outcome[no_answer] == "no answer").all() and (result.outcome[~no_answer] != "no answer").all()
        assert result.source[no_answer].isna().all() and len(result) == 200
    """
    subprocess.run([sys.executable, "-c", textwrap.dedent(code), parts.service.url], check=True, timeout=60)


def test_impossible_loads_are_refused():
    with pytest.raises(ValueError, match="above 0"):
        Load("http://127.0.0.1:1", [], 10)
