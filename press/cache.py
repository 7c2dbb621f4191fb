"""The execution cache, shared by `make book` and a plain `jupyter-book build`.

Jupyter Book looks a page up by its code cells alone. A page depends on more (press.depends), so each
entry carries the fingerprint it was made with, and one of another fingerprint is removed: a slow build is
better than a stale page, and only stale pages are executed.
"""

from __future__ import annotations

import contextlib
import os
from pathlib import Path

import nbformat
from jupyter_cache import get_cache
from jupyter_cache.base import CacheBundleIn

from press import ROOT, pages
from press.depends import fingerprint
from press.records import key_of, records


def failed_claims(notebook: nbformat.NotebookNode) -> list[str]:
    """Claims that did not hold and decisions that were refuted, also where a cell caught it; none where MLSD_CLAIMS=record is set."""
    if os.environ.get("MLSD_CLAIMS") == "record":
        return []
    refuted = [card for card in records(notebook, "decision") if card.get("faults")]
    return [key_of(record) for record in [claim for claim in records(notebook, "claim") if not claim["held"]] + refuted]


def cache_of(root: Path = ROOT):
    """The jupyter-cache of this book as it stands: enough to look up a page, once a build has opened it."""
    return get_cache(root / "_build" / ".jupyter_cache")


def open_cache(root: Path = ROOT):
    """The jupyter-cache of this book, with what is up to date in it and nothing else. It looks at every page, which takes a second."""
    cache = cache_of(root)
    for page in pages(root):
        _adopt(page, cache, root)
    current = {record.pk for page in pages(root) if (record := _record(page, cache, root))}
    for record in cache.list_cache_records():
        if record.pk not in current:
            with contextlib.suppress(KeyError):  # its file is gone already
                cache.remove_cache(record.pk)
    return cache


def _adopt(page: Path, cache, root: Path) -> None:
    """Keep what a page was executed to when only the metadata of its cells are others (a fold, an alternative text).

    jupyter-cache looks a page up by these too. No output hangs on them, but for the tags that steer the execution.
    """
    notebook = nbformat.read(page, as_version=4)
    with contextlib.suppress(KeyError):
        cache.match_cache_notebook(notebook)
        return
    made_with = fingerprint(page, root)
    cells = [cell for cell in notebook.cells if cell.cell_type == "code"]
    for record in cache.list_cache_records():
        if record.data.get("fingerprint") != made_with:
            continue
        with contextlib.suppress(KeyError):  # its file is gone
            was = cache.get_cache_bundle(record.pk).nb
            if [_steering(cell) for cell in was.cells] == [_steering(cell) for cell in cells]:
                for old, new in zip(was.cells, cells, strict=True):
                    old.metadata = new.metadata
                store(page, was, record.data["execution_seconds"], made_with, cache)
                return


def _steering(cell: nbformat.NotebookNode) -> set[str]:
    return {"raises-exception", "skip-execution"} & {*cell.metadata.get("tags", [])}


def _record(page: Path, cache, root: Path):
    try:
        record = cache.match_cache_notebook(nbformat.read(page, as_version=4))
    except KeyError:
        return None
    return record if record.data.get("fingerprint") == fingerprint(page, root) else None


def is_stale(page: Path, cache, root: Path = ROOT) -> bool:
    """Whether a page has to be executed: the cache has nothing that was made from what it depends on now."""
    return _record(page, cache, root) is None


def executed(page: Path, cache, root: Path = ROOT) -> nbformat.NotebookNode | None:
    """The page with the outputs that the cache has for what it depends on now, or None."""
    if is_stale(page, cache, root):
        return None
    return cache.merge_match_into_notebook(nbformat.read(page, as_version=4))[1]


def store(page: Path, notebook: nbformat.NotebookNode, seconds: float, made_with: str, cache) -> None:
    """Keep an executed page. `made_with` is its fingerprint from before it ran."""
    data = {"execution_seconds": seconds, "fingerprint": made_with}
    cache.cache_notebook_bundle(CacheBundleIn(notebook, str(page), data=data), check_validity=False, overwrite=True)
