"""Execute the pages that the cache does not hold, in parallel, and show progress.

python -m press.execute [--workers N] [--memory-limit MB]
"""

from __future__ import annotations

import argparse
import os
import sys
from concurrent.futures import ProcessPoolExecutor, as_completed
from multiprocessing import get_context
from pathlib import Path

from press import ROOT, name_of, pages
from press.cache import failed_claims, is_stale, open_cache, store
from press.depends import fingerprint
from press.kernels import execute
from press.records import read_report, records


def execute_stale(root: Path = ROOT, workers: int | None = None, memory_limit: int | None = None) -> list[str]:
    """Execute what is stale, `workers` pages at a time (default: one a core), and keep what succeeds. Returns the names of what failed."""
    cache = open_cache(root)
    stale = [page for page in pages(root) if is_stale(page, cache, root)]
    alone = read_report(root, "alone")  # the longest first, or the last one runs with the other cores idle
    stale.sort(key=lambda page: -alone.get(name_of(page), {}).get("cpu_seconds", float("inf")))
    todo = {page: fingerprint(page, root) for page in stale}
    n_pages = len(pages(root))
    print(f"{n_pages - len(todo)} of {n_pages} pages are up to date; executing {len(todo)}", flush=True)
    failed = []
    with ProcessPoolExecutor(workers or os.cpu_count() or 1, mp_context=get_context("spawn")) as pool:
        futures = {pool.submit(execute, page): page for page in todo}
        for done, future in enumerate(as_completed(futures), 1):
            page = futures[future]
            notebook, seconds, error = future.result()
            line = f"[{done}/{len(todo)}] {name_of(page)}: {seconds:.0f} s"
            if not error and (claims := failed_claims(notebook)):
                error = f"these claims failed, and a cell caught it: {', '.join(claims)}"
            if error:
                failed.append(name_of(page))
                print(f"{line}, FAILED\n{error}", flush=True)
                continue
            store(page, notebook, seconds, todo[page], cache)
            for record in records(notebook, "colophon"):
                line += f", {record['peak_memory_mb']} MB, {record['held']} of {record['claims']} claims held"
                if memory_limit and record["peak_memory_mb"] > memory_limit:
                    failed.append(name_of(page))
                    line += f", FAILED: expected at most {memory_limit} MB"
            print(line, flush=True)
    return failed


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m press.execute", description=__doc__.splitlines()[0])
    parser.add_argument("--workers", type=int, default=os.cpu_count() or 1)
    parser.add_argument("--memory-limit", type=int, metavar="MB", help="a page that uses more has failed")
    arguments = parser.parse_args()
    failed = execute_stale(workers=arguments.workers, memory_limit=arguments.memory_limit)
    if failed:
        print(f"failed: {', '.join(failed)}", file=sys.stderr)
    return bool(failed)


if __name__ == "__main__":
    sys.exit(main())
