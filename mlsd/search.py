"""What stands between a photo from a phone and a vector index: decoding, checks, and an index file that knows its encoder."""

from __future__ import annotations

import hashlib
import io
import json
import os
from pathlib import Path

import faiss
import numpy as np
from PIL import Image, ImageOps, UnidentifiedImageError

SMALLEST_SIDE = 16  # pixels: below this there is nothing to recognise
LARGEST_AREA = 50_000_000  # pixels: above this a small file could fill the memory of the service
_MAGIC = b"MLSD-INDEX-1\n"


class PhotoError(ValueError):
    """A query photo cannot be searched with; the message may be shown to the caller."""


class IndexFileError(ValueError):
    """An index file is damaged, or was built by another encoder than the one that serves."""


# ---------- photos ----------


def decode_photo(data: bytes, size: int) -> np.ndarray:
    """An uploaded image file as RGB, uint8 (size, size, 3): turned upright, transparency on white, squeezed to a square.

    Any mode is converted (grey, palette, CMYK, 16 bit). Raises PhotoError for a file that is no image, is
    cut short, or is smaller than 16 pixels or larger than 50 megapixels (read from the header, before decoding).
    """
    try:
        with Image.open(io.BytesIO(data)) as photo:
            width, height = photo.size
            if min(width, height) < SMALLEST_SIDE or width * height > LARGEST_AREA:
                raise PhotoError(
                    f"photo: expected sides of at least {SMALLEST_SIDE} and at most {LARGEST_AREA:,} pixels, found {width} x {height}"
                )
            photo.draft("RGB", (size, size))  # JPEG only: decode no more than is needed
            upright = ImageOps.exif_transpose(photo)
            if upright.mode.startswith("I;16"):
                upright = Image.fromarray((np.asarray(upright) >> 8).astype(np.uint8))
            if upright.has_transparency_data:
                rgba = upright.convert("RGBA")
                upright = Image.alpha_composite(Image.new("RGBA", rgba.size, "white"), rgba)
            return np.asarray(upright.convert("RGB").resize((size, size), Image.Resampling.BOX))
    except (UnidentifiedImageError, Image.DecompressionBombError, OSError, SyntaxError, ValueError) as error:
        if isinstance(error, PhotoError):
            raise
        raise PhotoError(
            f"photo: expected a complete JPEG, PNG or WebP file, found {len(data)} bytes that do not decode ({error})"
        ) from error


def check_photos(photos: np.ndarray, size: int) -> np.ndarray:
    """Return `photos` if an encoder may be given them: uint8 RGB, (n, size, size, 3).

    Raises PhotoError otherwise. A float image in [0, 1] would pass through the network and give a
    vector of the right shape that means nothing, so the type is checked and not converted.
    """
    if not isinstance(photos, np.ndarray) or photos.dtype != np.uint8:
        raise PhotoError(f"photos: expected an array of uint8 in 0..255, found {getattr(photos, 'dtype', type(photos).__name__)}")
    if photos.ndim != 4 or photos.shape[1:] != (size, size, 3):
        raise PhotoError(f"photos: expected shape (n, {size}, {size}, 3), found {photos.shape}")
    return photos


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
