"""Do the solutions of the exercises run?

python -m press.solutions [PAGE ...]

Executes each page and then, in the same kernel and in their order, the ```python blocks of its solutions: a
solution may use what the page and the solutions before it defined. The exit code is 1 if one raises.
"""

from __future__ import annotations

import argparse
import os
import sys
import time
from concurrent.futures import ProcessPoolExecutor, as_completed
from pathlib import Path

from press import name_of, page_named, pages
from press.kernels import CellFailed, Kernel
from press.notebooks import code, python_blocks, read, solutions


def run(page: Path) -> tuple[dict[str, float], list[str]]:
    """Run a page and its solutions. Returns the seconds that each solution took, by label, and the errors."""
    notebook = read(page)
    blocks = {label: python_blocks(text) for label, text in solutions(notebook).items()}
    seconds: dict[str, float] = {}
    errors: list[str] = []
    if any(blocks.values()):
        with Kernel(page) as kernel:
            try:
                for cell in code(notebook):
                    kernel.run(cell.source)
            except CellFailed as failure:
                return {}, [f"the page itself fails: {failure}"]
            for label, sources in blocks.items():
                started = time.monotonic()
                for source in sources:
                    try:
                        kernel.run(source)
                    except CellFailed as failure:
                        errors.append(f"{label}: {failure}")
                if sources:
                    seconds[label] = time.monotonic() - started
    return seconds, errors


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m press.solutions", description=__doc__.splitlines()[0])
    parser.add_argument("pages", nargs="*", help="default: all")
    parser.add_argument("--workers", type=int, default=os.cpu_count() or 1)
    arguments = parser.parse_args()
    failed = 0
    with ProcessPoolExecutor(arguments.workers, max_tasks_per_child=1) as pool:
        futures = {pool.submit(run, page): page for page in [page_named(name) for name in arguments.pages] or pages()}
        for future in as_completed(futures):
            seconds, errors = future.result()
            failed += len(errors)
            times = ", ".join(f"{label} {s:.0f} s" for label, s in seconds.items())
            print(
                "\n".join([f"{name_of(futures[future])}: {times or 'no solution with code'}", *(f"FAULT {error}" for error in errors)]),
                flush=True,
            )
    return bool(failed)


if __name__ == "__main__":
    sys.exit(main())
