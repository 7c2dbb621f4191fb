"""The batch that publishes imagery: raw frames in, blurred frames out, by workers that may be killed at any moment.

    python -m mlsd.serving.batch QUEUE RAW OUT --version v2 --detector mlsd.faces:find_faces

A job of the queue names a frame (`{"frame": 7}`); RAW/7.png is what the camera wrote. A worker finds boxes, hides what is in
them, and publishes frame, thumbnail and record together, under one name that appears at once or not at all. The queue hands out
a job at least once, and publishing under a name that exists does nothing: each version of a frame is published once.
What cannot be read or blurred is tried again, then set aside by the queue, and is not published.
"""

from __future__ import annotations

import argparse
import importlib
import json
import os
import shutil
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from pathlib import Path

import cv2
import numpy as np

from mlsd.serving.queue import WorkQueue, open_queue

Detector = Callable[[np.ndarray], np.ndarray]  # a frame, uint8 -> boxes (n, 4): left, top, width, height in pixels

PAD = 0.2  # of a box's size, added on each side before it is hidden
THUMBNAIL = 4  # times smaller
GREY = 127  # of every hidden box: its own mean would tell how light a face is


class BatchError(RuntimeError):
    """A frame that cannot be published; the message says why."""


def hide(image: np.ndarray, boxes: np.ndarray, pad: float = PAD) -> np.ndarray:
    """A copy of the frame in which each box, and `pad` of its size around it, is filled with one grey: nothing is left to undo."""
    out = image.copy()
    for left, top, width, height in np.asarray(boxes, float).reshape(-1, 4):
        x0, y0 = max(0, int(left - pad * width)), max(0, int(top - pad * height))
        y1, x1 = (max(0, int(np.ceil(end))) for end in (top + height * (1 + pad), left + width * (1 + pad)))
        out[y0:y1, x0:x1] = GREY
    return out


class Archive:
    """What the public sees: a folder with one subfolder a frame and version. Any number of processes may use it."""

    def __init__(self, folder: str | Path) -> None:
        self.folder = Path(folder)
        for part in ("published", "taken_down", "staged"):
            (self.folder / part).mkdir(parents=True, exist_ok=True)

    def publish(self, frame: int, image: np.ndarray, boxes: np.ndarray, version: str, **more: object) -> bool:
        """Publish a frame with these boxes hidden. False, and nothing changed, if this version is there or the frame was taken down.

        Boxes of earlier versions stay hidden: a new model unblurs nothing. `more` goes into the record.
        """
        name = f"{frame}.{version}"
        if (self.folder / "published" / name).exists() or self._is_taken_down(frame):
            return False
        boxes = np.concatenate([np.asarray(boxes, float).reshape(-1, 4), *(self.record(frame, v)["boxes"] for v in self.versions(frame))])
        hidden = hide(image, boxes)
        thumbnail = cv2.resize(hidden, (image.shape[1] // THUMBNAIL, image.shape[0] // THUMBNAIL), interpolation=cv2.INTER_AREA)
        staged = Path(tempfile.mkdtemp(dir=self.folder / "staged"))
        try:
            _write(staged / "frame.png", cv2.imencode(".png", hidden)[1].tobytes())
            _write(staged / "thumbnail.png", cv2.imencode(".png", thumbnail)[1].tobytes())
            _write(staged / "record.json", json.dumps(dict(frame=frame, version=version, boxes=boxes.tolist(), **more)).encode())
            os.rename(staged, self.folder / "published" / name)
        except OSError:
            shutil.rmtree(staged, ignore_errors=True)
            if not (self.folder / "published" / name).exists():
                raise
            return False  # another worker was faster
        if self._is_taken_down(frame):  # meanwhile
            self.take_down(frame)
            return False
        return True

    def versions(self, frame: int) -> list[str]:
        """The published versions of a frame, the oldest first."""
        found = (self.folder / "published").glob(f"{frame}.*")
        return [path.name.partition(".")[2] for path in sorted(found, key=lambda path: path.stat().st_mtime_ns)]

    def frames(self) -> list[int]:
        """The frames that have a published version."""
        return sorted({int(path.name.partition(".")[0]) for path in (self.folder / "published").iterdir()})

    def record(self, frame: int, version: str) -> dict:
        return json.loads((self.folder / "published" / f"{frame}.{version}" / "record.json").read_bytes())

    def read(self, frame: int, part: str = "frame") -> np.ndarray | None:
        """The newest version of a frame, or its "thumbnail"; None if it is not published."""
        versions = self.versions(frame)
        return (
            cv2.imread(str(self.folder / "published" / f"{frame}.{versions[-1]}" / f"{part}.png"), cv2.IMREAD_UNCHANGED)
            if versions
            else None
        )

    def untouched(self, frame: int, raw: np.ndarray) -> int:
        """How many boxes of a frame's newest record still show what the camera saw: a check that should never count."""
        image = self.read(frame)
        boxes = self.record(frame, self.versions(frame)[-1])["boxes"]
        parts = [np.s_[int(y) : int(np.ceil(y + h)), int(x) : int(np.ceil(x + w))] for x, y, w, h in np.maximum(boxes, 0).reshape(-1, 4)]
        return sum(bool(raw[part].size and raw[part].std() > 3 and (image[part] == raw[part]).mean() > 0.5) for part in parts)

    def take_down(self, frame: int) -> int:
        """Remove all that was derived from a frame, for good: a later batch does not publish it again. Returns the versions removed."""
        (self.folder / "taken_down" / str(frame)).touch()
        versions = self.versions(frame)
        for version in versions:
            shutil.rmtree(self.folder / "published" / f"{frame}.{version}", ignore_errors=True)
        return len(versions)

    def _is_taken_down(self, frame: int) -> bool:
        return (self.folder / "taken_down" / str(frame)).exists()

    def clean(self, older_than_s: float) -> int:
        """Remove what killed workers left half-written. Returns how many."""
        left = [path for path in (self.folder / "staged").iterdir() if time.time() - path.stat().st_mtime > older_than_s]
        for path in left:
            shutil.rmtree(path, ignore_errors=True)
        return len(left)


def _write(path: Path, data: bytes) -> None:
    with open(path, "wb") as file:
        file.write(data)
        file.flush()
        os.fsync(file.fileno())


def work(queue: WorkQueue, raw: str | Path, archive: Archive, detect: Detector, version: str, **more: object) -> int:
    """Publish until the queue is empty and nobody has a job in hand. Returns how many frames this worker published."""
    published = 0
    while True:
        jobs = queue.take(1)
        if not jobs:
            counts = queue.counts()
            if counts.waiting + counts.taken == 0:
                return published
            time.sleep(0.02)  # a dead worker's lease runs out, or a live one ends
        for job in jobs:
            try:
                frame = int(job.body["frame"])
                image = cv2.imread(str(Path(raw) / f"{frame}.png"), cv2.IMREAD_UNCHANGED)
                if image is None:
                    raise BatchError(f"frame {frame}: expected a picture in {raw}, found none that can be read")
                if version not in archive.versions(frame):  # else somebody was killed between publishing and saying so
                    published += archive.publish(frame, image, detect(image), version, attempt=job.attempt, **more)
            except Exception as error:  # whatever is wrong with a frame, it is not published, and the others go on
                print(f"{job.body}, attempt {job.attempt}: {error}", file=sys.stderr)
                queue.give_back(job)
            else:
                queue.done(job)


def start_worker(
    queue: str | Path, raw: str | Path, out: str | Path, version: str, detector: str, lease_s: float = 60.0
) -> subprocess.Popen:
    """A worker in a process of its own, which ends with this one. detector: "module:function", a function of a frame that gives boxes."""
    command = [sys.executable, "-m", "mlsd.serving.batch", str(queue), str(raw), str(out)]
    command += ["--version", version, "--detector", detector, "--lease-s", str(lease_s)]
    return subprocess.Popen(command, stdin=subprocess.PIPE, stderr=subprocess.PIPE)


def _end_with_parent() -> None:
    with suppress(OSError):
        while os.read(0, 1024):  # unbuffered: a thread that holds the buffer's lock cannot be ended
            pass
    os._exit(1)


def main(arguments: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    for name in ("queue", "raw", "out"):
        parser.add_argument(name)
    parser.add_argument("--version", required=True)
    parser.add_argument("--detector", required=True)
    parser.add_argument("--lease-s", type=float, default=60.0)
    options = parser.parse_args(arguments)
    threading.Thread(target=_end_with_parent, daemon=True).start()
    module, _, function = options.detector.partition(":")
    detect, archive = getattr(importlib.import_module(module), function), Archive(options.out)
    archive.clean(older_than_s=10 * options.lease_s)
    with open_queue(options.queue, lease_s=options.lease_s) as queue:
        work(queue, options.raw, archive, detect, options.version, worker=os.getpid())


if __name__ == "__main__":
    main()
