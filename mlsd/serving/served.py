"""The log of what was served: features, scores, positions, versions and fallbacks, as the user got them.

Training that reads it learns from the features that the model saw, and monitoring from the predictions that
were served; neither has to compute them again and hope for the same. JSON lines, one an answered list.
"""

from __future__ import annotations

import queue
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING

import orjson

if TYPE_CHECKING:
    import pandas as pd

    from mlsd.serving.ranker import Answer

PART_BYTES, PARTS = 64 << 20, 16  # a full part is closed; beyond this many the oldest is deleted (a shipper has taken it)


class ServedLog:
    """Writes answers to `directory` in a thread of its own: the request never waits for the disk.

    At most max_waiting answers wait; what comes on top, or cannot be written, is dropped and told to `dropped(n)`.
    """

    def __init__(self, directory: str | Path, dropped: Callable[[int], None], max_waiting: int = 10_000) -> None:
        self._directory, self._dropped = Path(directory), dropped
        self._waiting: queue.Queue[tuple[str, Answer] | None] = queue.Queue(max_waiting)
        self._file = None
        self._thread = threading.Thread(target=self._write, name="served-log", daemon=True)
        self._thread.start()

    def add(self, route: str, answer: Answer) -> None:
        """Log an answer, soon. Never blocks."""
        try:
            self._waiting.put_nowait((route, answer))
        except queue.Full:
            self._dropped(1)

    def _write(self) -> None:
        while True:
            batch = [self._waiting.get()]
            time.sleep(0.05)  # let company come: one write for many
            while len(batch) < 1_000 and not self._waiting.empty():
                batch.append(self._waiting.get_nowait())
            answers = [entry for entry in batch if entry is not None]
            try:
                self._open_part().write(b"".join(_line(route, answer) for route, answer in answers))
            except Exception:  # a full disk, a directory that is gone: the answers were given all the same
                self._close_part()
                self._dropped(len(answers))
            if len(answers) < len(batch):
                return self._close_part()

    def _open_part(self):
        if self._file is not None and self._file.tell() > PART_BYTES:
            self._close_part()
        if self._file is None:
            self._directory.mkdir(parents=True, exist_ok=True)
            for old in sorted(self._directory.glob("served-*.jsonl"))[: -PARTS + 1]:
                old.unlink(missing_ok=True)
            self._file = (self._directory / f"served-{time.time_ns()}.jsonl").open("ab", buffering=0)
        return self._file

    def _close_part(self) -> None:
        if self._file is not None:
            self._file.close()
            self._file = None

    def close(self, timeout_s: float = 1.0) -> None:
        """Write what waits, if the disk takes it in time."""
        with suppress(queue.Full):
            self._waiting.put(None, timeout=timeout_s)
            self._thread.join(timeout_s)


def _line(route: str, answer: Answer) -> bytes:
    entry = dict(
        time=answer.generated_at,
        request_id=answer.request_id,
        route=route,
        user_id=answer.user_id,
        as_of=answer.as_of,
        source=answer.source,
        fallback=answer.fallback,
        model_version=answer.model_version,
        encoder_version=answer.encoder_version,
        item_ids=answer.item_ids,
        scores=answer.scores,
        features=answer.features,
    )
    return orjson.dumps(entry, option=orjson.OPT_SERIALIZE_NUMPY | orjson.OPT_APPEND_NEWLINE)


def read_served(directory: str | Path) -> pd.DataFrame:
    """All that the log holds, one row an item shown, in the order of serving.

    Columns: time (Unix seconds), request_id, route, user_id, as_of, source, fallback, model_version, encoder_version,
    position (from 1), item_id, score, and features (the row that the model saw; None if no model did). A last line
    that a killed process left half written is skipped.
    """
    import pandas as pd

    entries = []
    for part in sorted(Path(directory).glob("served-*.jsonl")):
        for line in part.read_bytes().splitlines():
            try:
                entries.append(orjson.loads(line))
            except orjson.JSONDecodeError:
                continue
    columns = ["time", "request_id", "route", "user_id", "as_of", "source", "fallback", "model_version", "encoder_version"]
    rows = [
        [entry[name] for name in columns] + [position + 1, item, score, entry["features"][position] if entry["features"] else None]
        for entry in entries
        for position, (item, score) in enumerate(zip(entry["item_ids"], entry["scores"], strict=True))
    ]
    return pd.DataFrame(rows, columns=[*columns, "position", "item_id", "score", "features"])
