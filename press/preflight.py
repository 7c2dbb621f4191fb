"""Is this machine ready for the book? Prints a report fit for pasting; the exit code is 1 if something is not.

Uses nothing but the standard library itself, so that it can say what is missing.
"""

from __future__ import annotations

import ast
import hashlib
import importlib.metadata
import json
import os
import platform
import re
import subprocess
import sys
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import NamedTuple

from press import ROOT, name_of, pages

MEMORY_GB, CORES = 2.0, 2  # two chapters at a time, of 1 GB at most each


class Result(NamedTuple):
    check: str
    ok: bool
    found: str
    remedy: str = ""


def python() -> Result:
    return Result("Python", sys.version_info >= (3, 11), platform.python_version(), "install Python 3.11 or newer; make PYTHON=python3.x")


def packages(lock: Path) -> Result:
    """Every line of the lock whose marker holds here, against what is installed."""
    remedy = "pip install -r requirements.txt && pip install -e . --no-deps"
    try:
        from packaging.requirements import Requirement
    except ModuleNotFoundError:
        return Result("packages", False, "not even `packaging` is installed", remedy)
    wanted = [Requirement(line) for line in lock.read_text().splitlines() if line.strip() and not line.startswith("#")]
    wanted = [requirement for requirement in wanted if requirement.marker is None or requirement.marker.evaluate()]
    faults = []
    for requirement in [*wanted, Requirement("mlsd")]:
        try:
            version = importlib.metadata.version(requirement.name)
        except importlib.metadata.PackageNotFoundError:
            faults.append(f"{requirement.name}: expected {str(requirement.specifier) or 'the package of this book'}, found none")
            continue
        if not requirement.specifier.contains(version, prereleases=True):
            faults.append(f"{requirement.name}: expected {requirement.specifier}, found {version}")
    return Result("packages", not faults, "; ".join(faults) or f"{len(wanted)} as in requirements.txt", remedy)


def data(folder: Path) -> Result:
    """Every shipped and fetched file against its recorded checksum."""
    lines = [line.partition("  ") for line in (folder / "checksums.txt").read_text().splitlines()]
    faults = []
    for expected, _, name in lines:
        path = folder / name
        if not path.exists():
            faults.append(f"data/{name}: missing")
        elif hashlib.sha256(path.read_bytes()).hexdigest() != expected:
            faults.append(f"data/{name}: altered or cut short")
    shown = "; ".join(faults[:3]) + (f"; and {len(faults) - 3} more" if len(faults) > 3 else "")
    return Result("data", not faults, shown or f"{len(lines)} files as recorded", "make data; git checkout -- data")


def group_of(line: str) -> tuple[str, str]:
    """The controllers and the path of a line of /proc/self/cgroup; no controllers in version 2."""
    _, controllers, path = line.split(":", 2)
    return controllers, path


def allowance(system: Path = Path("/")) -> float | None:
    """Bytes that the control groups of this process still allow (version 1 or 2), or None where there is no limit.

    The least of the process's own group and those above it. In a container the path that the kernel names may
    not be there; what is mounted is then the container's own group.
    """
    listed = system / "proc/self/cgroup"
    free = []
    for controllers, path in map(group_of, listed.read_text().splitlines() if listed.exists() else []):
        if controllers == "":
            root, limit, usage, cache = system / "sys/fs/cgroup", "memory.max", "memory.current", "inactive_file"
        elif "memory" in controllers.split(","):
            root, limit, usage, cache = (
                system / "sys/fs/cgroup/memory",
                "memory.limit_in_bytes",
                "memory.usage_in_bytes",
                "total_inactive_file",
            )
        else:
            continue
        own = root / path.lstrip("/")
        for group in [own, *own.parents]:
            if not group.is_relative_to(root):
                break
            if (group / limit).exists() and (text := (group / limit).read_text().strip()) != "max":
                stat = dict(line.split(maxsplit=1) for line in (group / "memory.stat").read_text().splitlines())
                used = int((group / usage).read_text()) - int(stat.get(cache, 0))  # file pages are given back when asked for
                free.append(int(text) - used)
    return min(free, default=None)


def address_space() -> float | None:
    """Bytes of address space that this process may take (`ulimit -v`), or None where there is no limit."""
    try:
        import resource
    except ModuleNotFoundError:  # Windows
        return None
    soft, _ = resource.getrlimit(resource.RLIMIT_AS)
    return None if soft == resource.RLIM_INFINITY else soft


def memory(system: Path = Path("/")) -> Result:
    """What this process may have: of the machine's free memory, of its control groups, of its own limit."""
    remedy = f"close other programs or raise the limit until {MEMORY_GB:.0f} GB are free, or run one chapter at a time"
    try:
        import psutil
    except ModuleNotFoundError:
        return Result("memory", False, "psutil is not installed", remedy)
    limits = {"": psutil.virtual_memory().available, " in its control group": allowance(system), " by ulimit -v": address_space()}
    free, which = min((limit, which) for which, limit in limits.items() if limit is not None)
    return Result("memory", free >= MEMORY_GB * 1e9, f"{free / 1e9:.1f} GB free{which}", remedy)


def cores() -> Result:
    """Of those that this process may use. One is enough, if slow: it is said, and fails nothing."""
    n = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    return Result("cores", True, f"{n}" + ("" if n >= CORES else ": timings in the book are for two"))


KERNEL = Path("share", "jupyter", "kernels", "mlsd", "kernel.json")


def variables(prefix: str | Path = sys.prefix) -> dict[str, str]:
    """What the kernel of the chapters sets, as it is installed in this environment; nothing if it is not."""
    try:
        return json.loads(Path(prefix, KERNEL).read_text())["env"]
    except OSError:
        return {}


def kernel(root: Path = ROOT, prefix: str | Path = sys.prefix) -> Result:
    """The kernel that the chapters name, against the one of this repository."""
    same = variables(prefix) == variables(root)
    found = "mlsd, with its variables" if same else "none named mlsd" if not variables(prefix) else "mlsd, with other variables"
    return Result("kernel", same, found, "pip install -e . --no-deps")


def probe(check: str, program: str, cwd: Path, remedy: str) -> Result:
    """Run a small program in a fresh Python, with the kernel's variables. Found is what it prints last, or its last line of error."""
    started = time.monotonic()
    try:
        done = subprocess.run(
            [sys.executable, "-c", program], cwd=cwd, env=os.environ | variables(), capture_output=True, text=True, timeout=120
        )
    except subprocess.TimeoutExpired:
        return Result(check, False, "no answer within two minutes", remedy)
    said = (done.stderr if done.returncode else done.stdout).strip().splitlines()
    found = said[-1] if said else f"ended with exit code {done.returncode}" if done.returncode else "runs"
    return Result(check, done.returncode == 0, f"{found}, {time.monotonic() - started:.1f} s", remedy)


def keras(root: Path) -> Result:
    program = """import keras
total = float(keras.ops.sum(keras.ops.matmul(keras.ops.ones((2, 3)), keras.ops.ones((3, 2)))))
backend = keras.backend.backend()
assert (backend, total) == ("jax", 12.0), f"expected jax and 12.0, found {backend} and {total}"
print(f"backend {backend}")"""
    return probe("Keras", program, root, "pip install -r requirements.txt && pip install -e . --no-deps")


def first_cell(chapter: Path) -> str:
    """A program of a few seconds for a chapter: all its imports, and the logs it loads."""
    cells = [cell for cell in json.loads(chapter.read_text())["cells"] if cell["cell_type"] == "code"]
    trees = [ast.parse("".join(cell["source"])) for cell in cells]
    lines = [ast.unparse(n) for tree in trees for n in tree.body if isinstance(n, ast.Import | ast.ImportFrom)]
    for tree in trees:
        for node in ast.walk(tree):
            if isinstance(node, ast.Call) and re.fullmatch(r"(datasets\.)?(load|real)\('\w+'\)", ast.unparse(node)):
                lines.append(ast.unparse(node))
    return "\n".join(dict.fromkeys(lines))


def chapters(root: Path) -> Iterator[Result]:
    remedy = "see pages/troubleshooting.md (libgomp1 for LightGBM, libomp on macOS)"
    with ThreadPoolExecutor(CORES) as pool:
        yield from pool.map(lambda page: probe(name_of(page), first_cell(page), page.parent, remedy), pages(root))


def check(root: Path) -> Iterator[Result]:
    yield python()
    yield packages(root / "requirements.txt")
    yield data(root / "data")
    yield memory()
    yield cores()
    yield kernel()
    yield keras(root)
    yield from chapters(root)


def main() -> int:
    print(f"Preflight, {time.strftime('%Y-%m-%d %H:%M')}, {platform.platform()}", flush=True)
    failed = 0
    for result in check(ROOT):
        failed += not result.ok
        print(f"{'ok  ' if result.ok else 'FAIL'} {result.check}: {result.found}", flush=True)
        if not result.ok:
            print(f"     do: {result.remedy}", flush=True)
    print("This machine is ready." if not failed else f"{failed} to mend.")
    return bool(failed)


if __name__ == "__main__":
    sys.exit(main())
