"""A vector index: search that refuses bad queries, and an index file that knows its encoder."""

from __future__ import annotations

import hashlib
import json
import os
from pathlib import Path

import faiss
import numpy as np

_MAGIC = b"MLSD-INDEX-1\n"


class IndexFileError(ValueError):
    """An index file is damaged, or was built by another encoder than the one that serves."""


# ---------- search ----------


def search(index: faiss.Index, queries: np.ndarray, k: int) -> tuple[np.ndarray, np.ndarray]:
    """The k nearest vectors of each query: scores float32 and ids int64, both (n_queries, min(k, index.ntotal)).

    An empty catalogue gives no columns and no error: the page shows its fallback. Where an approximate
    index finds fewer than that, the last ids are -1, as in Faiss. Raises ValueError for queries of
    another dimension, of another shape, or with NaN or infinite entries, and for k below 1.
    """
    queries = np.asarray(queries)
    if queries.ndim != 2 or queries.shape[1] != index.d:
        raise ValueError(f"queries: expected shape (n, {index.d}), the dimension of the index, found {queries.shape}")
    if not np.isfinite(queries).all():
        raise ValueError("queries: expected finite numbers, found NaN or infinity; was the encoder's input checked?")
    if k < 1:
        raise ValueError(f"k: expected at least 1, found {k}")
    k = min(k, index.ntotal)
    if k == 0:
        return np.empty((len(queries), 0), np.float32), np.empty((len(queries), 0), np.int64)
    return index.search(np.ascontiguousarray(queries, dtype=np.float32), k)


def index_bytes(index: faiss.Index) -> int:
    """Size of a built index: the length of what Faiss writes for it."""
    return faiss.serialize_index(index).nbytes


# ---------- the index file ----------


def save_index(path: str | Path, index: faiss.Index, encoder: str) -> Path:
    """Write an index with the version of the encoder whose vectors it holds. Replaces an existing file at once or not at all."""
    path, body = Path(path), faiss.serialize_index(index).tobytes()
    header = dict(encoder=encoder, dimension=index.d, count=index.ntotal, sha256=hashlib.sha256(body).hexdigest())
    unfinished = path.with_name(path.name + ".unfinished")
    unfinished.write_bytes(_MAGIC + json.dumps(header).encode() + b"\n" + body)
    os.replace(unfinished, path)
    return path


def load_index(path: str | Path, encoder: str) -> faiss.Index:
    """Read an index for serving with `encoder`.

    Raises IndexFileError if the file is no index file, is damaged, or holds vectors of another encoder:
    their dimensions may agree, so that search would answer without complaint, and wrongly.
    """
    data = Path(path).read_bytes()
    header_line, newline, body = data[len(_MAGIC) :].partition(b"\n")
    if not data.startswith(_MAGIC) or not newline:
        raise IndexFileError(f"{Path(path).name}: expected an index file that starts with {_MAGIC!r}, found {data[:13]!r}")
    try:
        header = json.loads(header_line)
    except ValueError as error:
        raise IndexFileError(f"{Path(path).name}: its header is damaged; rebuild the index") from error
    if hashlib.sha256(body).hexdigest() != header.get("sha256"):
        raise IndexFileError(
            f"{Path(path).name}: expected SHA-256 {str(header.get('sha256'))[:12]}…; the file is damaged, rebuild the index"
        )
    if header["encoder"] != encoder:
        raise IndexFileError(
            f"{Path(path).name}: built with encoder {header['encoder']!r}, but {encoder!r} is serving; "
            "deploy the two together, or re-embed the catalogue first"
        )
    return faiss.deserialize_index(np.frombuffer(body, np.uint8))
