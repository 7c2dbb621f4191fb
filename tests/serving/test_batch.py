"""The batch that publishes imagery: killed anywhere, it publishes each frame once, and never with a box left visible."""

import time

import cv2
import numpy as np
import pytest

from mlsd.serving.batch import GREY, Archive, hide, start_worker, work
from mlsd.serving.queue import open_queue

FRAME = np.random.default_rng(0).integers(0, 255, (60, 80), np.uint8)
BOX = np.array([[20.0, 10.0, 16.0, 20.0]])


def find(image):
    return BOX


seen = []


def slowly(image):
    """A detector as slow as a real one, which never comes to its end; named by the test that starts it in a process."""
    seen.append(image)
    time.sleep(0.05 if len(seen) < 15 else 600)
    return BOX


def is_hidden(image):
    part = image[10:30, 20:36]
    return (part == part[0, 0]).all()


@pytest.fixture
def raw(tmp_path):
    (tmp_path / "raw").mkdir()
    for i in range(20):
        cv2.imwrite(str(tmp_path / "raw" / f"{i}.png"), FRAME)
    return tmp_path / "raw"


@pytest.fixture
def archive(tmp_path):
    return Archive(tmp_path / "out")


def test_a_hidden_box_is_one_value_and_the_rest_is_untouched():
    out = hide(FRAME, BOX, pad=0.0)
    assert is_hidden(out) and (out[:10] == FRAME[:10]).all() and (out[:, :20] == FRAME[:, :20]).all()
    assert (hide(FRAME, np.zeros((0, 4))) == FRAME).all()
    assert (hide(FRAME, [[-5, -5, 200, 200]]) == GREY).all()
    assert (hide(FRAME, [[100, 100, 5, 5]]) == FRAME).all()


def test_a_version_is_published_once(archive):
    assert archive.publish(7, FRAME, BOX, "v1") and not archive.publish(7, FRAME, np.zeros((0, 4)), "v1")
    assert is_hidden(archive.read(7)) and archive.read(7, "thumbnail").shape == (15, 20)
    assert archive.frames() == [7] and archive.read(8) is None
    assert archive.untouched(7, FRAME) == 0
    cv2.imwrite(str(archive.folder / "published" / "7.v1" / "frame.png"), FRAME)
    assert archive.untouched(7, FRAME) == 1


def test_a_new_model_unblurs_nothing(archive):
    archive.publish(7, FRAME, BOX, "v1")
    assert archive.publish(7, FRAME, [[50, 40, 10, 10]], "v2")
    assert archive.versions(7) == ["v1", "v2"] and is_hidden(archive.read(7))
    assert len(archive.record(7, "v2")["boxes"]) == 2


def test_what_is_taken_down_stays_down(archive):
    archive.publish(7, FRAME, BOX, "v1")
    assert archive.take_down(7) == 1 and archive.read(7) is None and archive.frames() == []
    assert not archive.publish(7, FRAME, BOX, "v2") and archive.take_down(7) == 0


def test_a_frame_that_cannot_be_read_or_blurred_is_set_aside_and_the_others_go_on(tmp_path, raw, archive):
    (raw / "3.png").write_bytes(b"no picture")
    cv2.imwrite(str(raw / "4.png"), FRAME[:20])

    def choosy(image):
        if image.shape != FRAME.shape:
            raise ValueError(f"expected {FRAME.shape}, found {image.shape}")
        return BOX

    with open_queue(tmp_path / "queue", attempts=2) as queue:
        queue.put([{"frame": i} for i in range(6)] + [{"picture": 1}])
        assert work(queue, raw, archive, choosy, "v1") == 4
        assert queue.counts().set_aside == 3
    assert archive.frames() == [0, 1, 2, 5]


def test_a_job_that_is_handed_out_again_changes_nothing(tmp_path, raw, archive):
    calls = []

    def counting(image):
        calls.append(1)
        return BOX

    with open_queue(tmp_path / "queue", lease_s=0.001) as queue:
        queue.put([{"frame": 1}])
        job = queue.take()[0]
        archive.publish(1, FRAME, BOX, "v1")  # and killed before it could say so
        time.sleep(0.01)
        assert work(queue, raw, archive, counting, "v1") == 0
        assert not calls and not queue.done(job) and queue.counts().done == 1


def test_killed_in_the_middle_the_next_worker_ends_it(tmp_path, raw, archive):
    with open_queue(tmp_path / "queue") as queue:
        queue.put([{"frame": i} for i in range(20)])
    arguments = (tmp_path / "queue", raw, archive.folder, "v1")
    first = start_worker(*arguments, "test_batch:slowly", 0.5)
    while len(archive.frames()) < 5:
        assert first.poll() is None, first.stderr.read().decode()
        time.sleep(0.01)
    first.kill()
    first.wait()
    before = archive.frames()
    assert 5 <= len(before) < 20
    second = start_worker(*arguments, "test_batch:find", 0.5)
    assert second.wait(120) == 0, second.stderr.read().decode()
    assert archive.frames() == list(range(20))
    workers = [archive.record(i, "v1")["worker"] for i in range(20)]
    assert {workers[i] for i in before} == {first.pid} and set(workers) <= {first.pid, second.pid}
    assert all(archive.versions(i) == ["v1"] and is_hidden(archive.read(i)) for i in range(20))
    for process in (first, second):
        process.stdin.close()
        process.stderr.close()


@pytest.fixture(autouse=True)
def importable(monkeypatch):
    """The worker's process finds the detectors of this file."""
    from pathlib import Path

    import mlsd

    here, root = Path(__file__).parent, Path(mlsd.__file__).parents[1]
    monkeypatch.setenv("PYTHONPATH", f"{here}:{root}")


def test_half_written_frames_are_cleared_away(archive):
    (archive.folder / "staged" / "dead").mkdir()
    assert archive.clean(older_than_s=60) == 0 and archive.clean(older_than_s=-1) == 1
    assert archive.frames() == []
