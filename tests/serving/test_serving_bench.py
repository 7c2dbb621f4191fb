"""`make bench-serving`: a short run measures every mode, and finds what must hold on any machine."""

from __future__ import annotations

import re

from mlsd.serving import bench


def test_a_short_bench_runs_to_its_end(capsys, monkeypatch):
    def none() -> None:
        raise bench.RedisMissing("one store is enough here")

    monkeypatch.setattr(bench, "RedisServer", none)
    bench.main(["--requests", "64", "--concurrency", "2"])
    shown = capsys.readouterr().out
    assert "LMDB alone is measured" in shown
    assert "in process, LMDB: rows, features, predict and rank" in shown
    for mode in ("precomputed list", "single", "micro-batch of up to 32", "batch of 32 users"):
        assert f"{mode}, LMDB (per_second" in shown
    reads = re.search(r"read a list of 50, LMDB\s+p50\s+([\d.]+) ms", shown)
    assert 0 < float(reads[1]) < 50


def test_sweep_counts_lists_and_not_calls(tmp_path):
    class Idle:
        url = "http://127.0.0.1:1"  # nobody listens: every call fails, none counts

        def cpu_seconds(self) -> float:
            return 0.0

    found = bench.sweep(Idle(), [bench.Call("/health/live", None, "GET")], [1, 2], 4, lists_per_call=8)
    assert list(found.index) == [1, 2] and (found.errors == 1).all() and (found.per_second == 0).all()
