"""What does a page cost when it runs alone? One page at a time, in a process of its own -> reports/alone.json

python -m press.alone [PAGE ...]     pages whose entry is current (press.depends) are not run again; --force runs them

A build runs as many pages at once as there are cores, so its times say little about a page. Here processor and wall seconds
and the peak memory of the page's processes are measured, and what the rest of the machine did meanwhile: on a busy machine the
clock tells nothing, and processor seconds stand. A page is held to its budget by the smaller of the two.
"""

from __future__ import annotations

import argparse
import os
import sys
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path

import psutil

from press import ROOT, name_of, page_named, pages
from press.depends import as_published, fingerprint, is_current
from press.kernels import execute
from press.records import read_report, update_report

# What a page may take; the status page and the tests hold the report against it. Binder lends a gigabyte.
CHAPTER_SECONDS, LAB_SECONDS, MEMORY_MB = 45, 20, 1000
QUIET = 0.15  # cores that others may use for the wall clock to count


def busy_seconds() -> float:
    """Processor seconds that the machine has spent, all its cores together."""
    times = psutil.cpu_times()
    return sum(times) - times.idle - getattr(times, "iowait", 0.0) - getattr(times, "guest", 0.0) - getattr(times, "guest_nice", 0.0)


def measure(page: Path) -> dict:
    """Run a page as it is published, and measure its processes: this one must have had no other children. RuntimeError if it fails."""
    import resource  # not on Windows

    for name in set(os.environ) - set(as_published()):
        del os.environ[name]
    others = busy_seconds()
    _, wall, error = execute(page)
    if error:
        raise RuntimeError(f"{name_of(page)}: {error}")
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    own = resource.getrusage(resource.RUSAGE_SELF)
    cpu = used.ru_utime + used.ru_stime
    peak = used.ru_maxrss / (1e6 if sys.platform == "darwin" else 1e3)  # bytes there, kilobytes elsewhere
    others = max(0.0, busy_seconds() - others - cpu - own.ru_utime - own.ru_stime)
    return dict(cpu_seconds=round(cpu, 1), wall_seconds=round(wall, 1), peak_memory_mb=round(peak), others_cores=round(others / wall, 2))


def seconds_of(entry: dict) -> float:
    """By what a page is held to its budget."""
    return min(entry["cpu_seconds"], entry["wall_seconds"])


def was_quiet(entry: dict) -> bool:
    return entry["others_cores"] <= QUIET


def budget_of(name: str) -> int:
    """Seconds that a page may take, by its name."""
    return LAB_SECONDS if name.startswith("labs/") else CHAPTER_SECONDS


def faults(name: str, entry: dict) -> list[str]:
    """What breaks a page's budget in its entry."""
    found = []
    if seconds_of(entry) > budget_of(name):
        found.append(f"expected at most {budget_of(name)} s, found {seconds_of(entry):.0f}")
    if entry["peak_memory_mb"] > MEMORY_MB:
        found.append(f"expected at most {MEMORY_MB} MB, found {entry['peak_memory_mb']}")
    return found


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m press.alone", description=__doc__.splitlines()[0])
    parser.add_argument("pages", nargs="*", help="default: all")
    parser.add_argument("--force", action="store_true", help="also what is unchanged")
    arguments = parser.parse_args()
    chosen = [page_named(name) for name in arguments.pages] or pages()
    report = read_report(ROOT, "alone")
    for page in chosen:
        if not arguments.force and is_current(report.get(name_of(page)), page):
            continue
        made_with = fingerprint(page, variables=as_published())
        with ProcessPoolExecutor(1) as alone:
            entry = dict(fingerprint=made_with, **alone.submit(measure, page).result())
        busy = "" if was_quiet(entry) else f"; meanwhile others used {entry['others_cores']} cores"
        print(
            f"{name_of(page)}: {entry['cpu_seconds']:.0f} processor seconds, {entry['wall_seconds']:.0f} s by the clock, "
            f"{entry['peak_memory_mb']} MB{busy}",
            flush=True,
        )
        report = update_report(ROOT, "alone", {name_of(page): entry}, keep=map(name_of, pages()))
    found = [f"{name}: {fault}" for name in map(name_of, chosen) if name in report for fault in faults(name, report[name])]
    print("\n".join(["", *(f"FAULT {fault}" for fault in found)]) if found else "\nno faults")
    return bool(found)


if __name__ == "__main__":
    sys.exit(main())
