"""The execution cache, shared by `make book` and a plain `jupyter-book build`.

Jupyter Book looks a notebook up by its code cells alone. A chapter also depends on the package, the
data and the lock, so the cache carries a fingerprint of those, and is emptied when it differs:
a slow build is better than a stale page.
"""

from __future__ import annotations

import hashlib
import shutil
from pathlib import Path

import nbformat
from jupyter_cache import get_cache

ROOT = Path(__file__).resolve().parent.parent
MIME = "application/vnd.mlsd+json"

# What the book may take on two quiet cores; the status page and the tests hold the colophons against it.
MAX_SECONDS, MAX_MEMORY_MB, MAX_BOOK_SECONDS = 60, 1000, 600


def inputs(root: Path) -> list[Path]:
    """Every file that a chapter depends on beside its own text (fetched data is covered by its checksums)."""
    paths = [root / "requirements.txt", *root.glob("mlsd/**/*.py"), *(p for p in root.glob("data/**/*") if p.is_file())]
    return sorted(p for p in paths if "external" not in p.parts and p.suffix != ".md")


def fingerprint(root: Path) -> str:
    """Hash of the names and contents of `inputs`."""
    digest = hashlib.sha256()
    for path in inputs(root):
        digest.update(path.relative_to(root).as_posix().encode() + b"\0" + path.read_bytes() + b"\0")
    return digest.hexdigest()


def open_cache(root: Path = ROOT):
    """The jupyter-cache of this book, emptied first if what the chapters depend on has changed."""
    folder = root / "_build" / ".jupyter_cache"
    mark, now = folder / "fingerprint.txt", fingerprint(root)
    if folder.exists() and not (mark.exists() and mark.read_text() == now):
        shutil.rmtree(folder)
    cache = get_cache(folder)
    folder.mkdir(parents=True, exist_ok=True)
    mark.write_text(now)
    return cache


def executed(path: Path, cache) -> nbformat.NotebookNode | None:
    """The chapter at `path` with the outputs that the cache has for its code, or None."""
    try:
        return cache.merge_match_into_notebook(nbformat.read(path, as_version=4))[1]
    except KeyError:
        return None


def records(notebook: nbformat.NotebookNode, kind: str) -> list[dict]:
    """The records of one kind (claim, decision, colophon) that mlsd.claims left in an executed notebook."""
    outputs = [output for cell in notebook.cells for output in cell.get("outputs", [])]
    found = [output["data"][MIME] for output in outputs if MIME in output.get("data", {})]
    return [record for record in found if record["kind"] == kind]
