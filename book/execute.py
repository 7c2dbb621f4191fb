"""Execute the chapters that the cache does not hold, in parallel, and show progress.

python book/execute.py [--workers N] [--memory-limit MB]
"""

from __future__ import annotations

import argparse
import os
import sys
import time
from concurrent.futures import ProcessPoolExecutor, as_completed
from pathlib import Path

import nbformat
from cache import ROOT, executed, open_cache, records
from jupyter_cache.base import CacheBundleIn
from nbclient import NotebookClient
from nbclient.exceptions import CellExecutionError


def execute(path: Path) -> tuple[nbformat.NotebookNode, float, str | None]:
    """Run one notebook in its folder. Returns it with outputs, the seconds taken, and an error or None."""
    started = time.monotonic()
    print(f"{path.stem}: started", flush=True)
    notebook = nbformat.read(path, as_version=4)
    error = None
    try:
        where = {"metadata": {"path": str(path.parent)}}
        quiet = ["--IPKernelApp.log_level=40"]  # each kernel warns that its loopback sockets are not encrypted
        NotebookClient(notebook, timeout=900, record_timing=False, resources=where, extra_arguments=quiet).execute()
    except CellExecutionError as caught:
        error = str(caught)
    except Exception as caught:  # a kernel that died, ran out of time or never started fails its chapter, not the others
        error = f"{type(caught).__name__}: {caught}"
    return notebook, time.monotonic() - started, error


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--workers", type=int, default=os.cpu_count() or 1)
    parser.add_argument("--memory-limit", type=int, metavar="MB", help="a chapter that uses more has failed")
    arguments = parser.parse_args()
    cache = open_cache()
    chapters = sorted((ROOT / "chapters").glob("*.ipynb"))
    todo = [path for path in chapters if executed(path, cache) is None]
    print(f"{len(chapters) - len(todo)} of {len(chapters)} chapters are up to date; executing {len(todo)}", flush=True)
    failed = []
    with ProcessPoolExecutor(arguments.workers, max_tasks_per_child=1) as pool:
        futures = {pool.submit(execute, path): path for path in todo}
        for done, future in enumerate(as_completed(futures), 1):
            path = futures[future]
            notebook, seconds, error = future.result()
            line = f"[{done}/{len(todo)}] {path.stem}: {seconds:.0f} s"
            if error:
                failed.append(path.stem)
                print(f"{line}, FAILED\n{error}", flush=True)
                continue
            cache.cache_notebook_bundle(
                CacheBundleIn(notebook, str(path), data={"execution_seconds": seconds}), check_validity=False, overwrite=True
            )
            for record in records(notebook, "colophon"):
                line += f", {record['peak_memory_mb']} MB, {record['held']} of {record['claims']} claims held"
                if arguments.memory_limit and record["peak_memory_mb"] > arguments.memory_limit:
                    failed.append(path.stem)
                    line += f", FAILED: expected at most {arguments.memory_limit} MB"
            print(line, flush=True)
    if failed:
        print(f"failed: {', '.join(failed)}", file=sys.stderr)
    return bool(failed)


if __name__ == "__main__":
    sys.exit(main())
