"""The log of what was served: complete, exact, off the hot path, and never the reason for a missing answer."""

from __future__ import annotations

import json
import os
import time

import numpy as np
import pytest
from serving_parts import Parts, counted, eventually, get, item_row, rank, rank_calls, shown, user_row

from mlsd.serving.bundle import read_bundle
from mlsd.serving.load import run_load
from mlsd.serving.ranker import Answer
from mlsd.serving.scoring import Live
from mlsd.serving.served import ServedLog, read_served


@pytest.fixture
def logging_parts(tmp_path):
    with Parts(tmp_path, served_log=tmp_path / "log") as built:
        built.log = tmp_path / "log"
        yield built


def test_what_was_served_can_be_read_features_and_all(logging_parts):
    parts = logging_parts
    parts.store.accept([("e", "rsvp", 5, 3)])
    answer = rank(parts.service, user_id=4, k=5)
    fallback = rank(parts.service, user_id=987_654, k=5)
    listed = get(parts.service, "/v1/lists/9?k=2").json()
    eventually(lambda: len(read_served(parts.log)) == 12)
    log = read_served(parts.log)
    mine = log[log.request_id == answer["request_id"]]
    assert mine.item_id.tolist() == shown(answer) and mine.position.tolist() == [1, 2, 3, 4, 5]
    assert mine.score.tolist() == [i["score"] for i in answer["items"]]
    assert set(mine.model_version) == {parts.version} and set(mine.source) == {"online"} and mine.fallback.isna().all()
    bundle = read_bundle(parts.root / parts.version)
    items = [item_row(i) for i in shown(answer)]
    live = Live.of(*parts.store.live("rsvp", shown(answer), user_row(4)["friends"]))
    assert np.array_equal(np.array(mine.features.tolist()), bundle.features(user_row(4), items, live, 0.0))
    assert bundle.combine(bundle.predict(np.array(mine.features.tolist())), items).tolist() == mine.score.tolist()
    other = log[log.request_id == fallback["request_id"]]
    assert set(other.fallback) == {"unknown_user"} and other.features.isna().all()
    assert log[log.request_id == listed["request_id"]].route.tolist() == ["lists"] * 2


def test_a_log_that_cannot_be_written_costs_counts_and_no_answers(logging_parts):
    parts = logging_parts
    parts.service.stop()
    os.rename(parts.log, parts.log.with_name("moved")) if parts.log.exists() else None
    parts.log.write_text("a file where the directory should be")
    parts.service.start()
    result = run_load(parts.service.url, rank_calls(), 50)
    assert (result.outcome == "ok").all()
    eventually(lambda: counted(parts.service, "served_log_dropped_total") == 50)


def test_a_log_that_is_full_drops_and_counts(tmp_path):
    dropped = []
    log = ServedLog(tmp_path, dropped.append, max_waiting=10)
    answer = Answer(1, [1, 2], [0.5, None], "online", "v", 0.0, features=np.ones((2, 3)))
    start = time.process_time()
    for _ in range(1000):
        log.add("rank", answer)
    assert time.process_time() - start < 1, "nothing waits"
    log.close(10)
    assert len(read_served(tmp_path)) == 2 * (1000 - sum(dropped)) > 0 and sum(dropped) > 0


def test_a_line_that_a_killed_process_left_half_written_is_skipped(tmp_path):
    log = ServedLog(tmp_path, print)
    log.add("rank", Answer(1, [1], [0.5], "online", "v", 0.0, features=np.ones((1, 3))))
    log.close(10)
    [part] = tmp_path.iterdir()
    with part.open("ab") as file:
        file.write(json.dumps(dict(time=0)).encode()[:5])
    assert len(read_served(tmp_path)) == 1 and len(read_served(tmp_path / "nowhere")) == 0
