"""Preflight says what is missing on a machine, and what to do about it."""

import hashlib
import resource
import subprocess
import sys
from pathlib import Path

import nbformat
import pytest
from nbformat.v4 import new_code_cell, new_notebook
from tiny_chapter import tiny_chapter

from press import ROOT, preflight


@pytest.fixture
def lock(tmp_path):
    def write(*lines):
        path = tmp_path / "requirements.txt"
        path.write_text("\n".join(lines) + "\n")
        return path

    return write


@pytest.fixture
def data(tmp_path):
    """A data folder of two files, both as recorded."""
    folder = tmp_path / "data"
    folder.mkdir()
    lines = []
    for name in ("a.csv", "b.csv"):
        (folder / name).write_text(name * 10)
        lines.append(f"{hashlib.sha256((folder / name).read_bytes()).hexdigest()}  {name}\n")
    (folder / "checksums.txt").write_text("".join(lines))
    return folder


def test_this_environment_is_the_lock():
    assert preflight.packages(ROOT / "requirements.txt").ok


def test_a_missing_package_is_named(lock):
    result = preflight.packages(lock("no-such-package==1.0"))
    assert not result.ok
    assert "no-such-package: expected ==1.0, found none" in result.found
    assert "pip install" in result.remedy


def test_another_version_is_named(lock):
    result = preflight.packages(lock("numpy==0.1"))
    assert not result.ok
    assert "numpy: expected ==0.1, found " in result.found


def test_what_the_lock_asks_of_other_systems_is_not_missed(lock):
    assert preflight.packages(lock("no-such-package==1.0 ; sys_platform == 'plan9'")).ok


def test_intact_data_passes(data):
    assert preflight.data(data).ok


def test_altered_and_missing_data_are_named(data):
    (data / "a.csv").write_text("altered")
    (data / "b.csv").unlink()
    result = preflight.data(data)
    assert not result.ok
    assert result.found == "data/a.csv: altered or cut short; data/b.csv: missing"


def test_too_little_memory(monkeypatch):
    monkeypatch.setattr(preflight, "MEMORY_GB", 1e6)
    assert not preflight.memory().ok


def write(root, files):
    for name, text in files.items():
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_text(str(text))


V2 = "sys/fs/cgroup/book.slice"
V1 = "sys/fs/cgroup/memory"
GROUPS = {
    "version 2, its own limit": {
        "proc/self/cgroup": "0::/book.slice/kernel.scope\n",
        f"{V2}/kernel.scope/memory.max": 1_400_000_000,
        f"{V2}/kernel.scope/memory.current": 900_000_000,
        f"{V2}/kernel.scope/memory.stat": "anon 1\ninactive_file 500000000",
        f"{V2}/memory.max": "max",
        f"{V2}/memory.current": 1,
        f"{V2}/memory.stat": "inactive_file 0",
    },
    "version 2, the limit of the group above": {
        "proc/self/cgroup": "0::/book.slice/kernel.scope\n",
        f"{V2}/kernel.scope/memory.max": 9_000_000_000,
        f"{V2}/kernel.scope/memory.current": 100_000_000,
        f"{V2}/kernel.scope/memory.stat": "inactive_file 0",
        f"{V2}/memory.max": 1_500_000_000,
        f"{V2}/memory.current": 500_000_000,
        f"{V2}/memory.stat": "inactive_file 0",
    },
    "version 1, in a container that sees its group as the root": {
        "proc/self/cgroup": "5:cpu,cpuacct:/\n4:memory:/docker/0123\n0::/\n",
        f"{V1}/memory.limit_in_bytes": 1_400_000_000,
        f"{V1}/memory.usage_in_bytes": 600_000_000,
        f"{V1}/memory.stat": "cache 1\ntotal_inactive_file 200000000",
    },
}


@pytest.mark.parametrize("name", GROUPS)
def test_memory_is_what_the_control_group_allows(tmp_path, name):
    write(tmp_path, GROUPS[name])
    assert preflight.allowance(tmp_path) == 1_000_000_000
    result = preflight.memory(tmp_path)
    assert not result.ok
    assert result.found == "1.0 GB free in its control group"


@pytest.mark.parametrize(
    "files", [{}, {"proc/self/cgroup": "0::/\n"}, {"proc/self/cgroup": "0::/a\n", "sys/fs/cgroup/a/memory.max": "max"}]
)
def test_no_limit_is_no_fault(tmp_path, files):
    write(tmp_path, files)
    assert preflight.allowance(tmp_path) is None


def test_memory_is_what_ulimit_allows(tmp_path, monkeypatch):
    monkeypatch.setattr(resource, "getrlimit", lambda which: (1_400_000_000, resource.RLIM_INFINITY))
    result = preflight.memory(tmp_path)
    assert not result.ok
    assert result.found == "1.4 GB free by ulimit -v"


def test_cores_are_those_that_this_process_may_use(monkeypatch):
    monkeypatch.setattr(preflight.os, "sched_getaffinity", lambda pid: {3}, raising=False)
    assert preflight.cores() == ("cores", True, "1: timings in the book are for two", "")


def test_another_backend_of_keras(monkeypatch):
    monkeypatch.setattr(preflight, "variables", lambda *_: {"KERAS_BACKEND": "numpy"})
    result = preflight.keras(ROOT)
    assert not result.ok
    assert "expected jax and 12.0, found numpy" in result.found


def chapter(root: Path, *cells: str) -> None:
    (root / "chapters").mkdir()
    nbformat.write(new_notebook(cells=[new_code_cell(cell) for cell in cells]), root / "chapters" / "some.ipynb")


def test_a_chapter_whose_imports_fail(tmp_path):
    chapter(tmp_path, "import math\nx = 1", "import no_such_module")
    (result,) = preflight.chapters(tmp_path)
    assert not result.ok
    assert "No module named 'no_such_module'" in result.found


def test_a_chapter_that_kills_its_interpreter(tmp_path):
    (tmp_path / "chapters").mkdir()
    (tmp_path / "chapters" / "crash.py").write_text("import os\nos.abort()\n")
    nbformat.write(new_notebook(cells=[new_code_cell("import crash")]), tmp_path / "chapters" / "some.ipynb")
    (result,) = preflight.chapters(tmp_path)
    assert not result.ok
    assert "exit code -6" in result.found


def test_a_chapter_is_tried_with_its_imports_and_its_log_and_no_more(tmp_path):
    chapter(tmp_path, "from mlsd.datasets import load\nlog = load('feed')", "1 / 0", "import math")
    program = preflight.first_cell(tmp_path / "chapters" / "some.ipynb")
    assert program == "from mlsd.datasets import load\nimport math\nload('feed')"
    (result,) = preflight.chapters(tmp_path)
    assert result.ok, result.found


def run(root: Path) -> subprocess.CompletedProcess:
    program = f"import sys, pathlib; from press import preflight; preflight.ROOT = pathlib.Path({str(root)!r}); sys.exit(preflight.main())"
    return subprocess.run([sys.executable, "-c", program], capture_output=True, text=True)


def test_the_report_and_its_exit_code(tmp_path, data, lock, monkeypatch):
    for variable in ("http_proxy", "https_proxy", "HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY"):  # a proxy that is dead: nothing asks it
        monkeypatch.setenv(variable, "http://127.0.0.1:9")
    lock("numpy>=1")
    (tmp_path / "chapters").mkdir()
    nbformat.write(tiny_chapter(), tmp_path / "chapters" / "tiny.ipynb")
    good = run(tmp_path)
    assert good.returncode == 0, good.stdout
    assert "ok   tiny: runs" in good.stdout
    assert good.stdout.endswith("This machine is ready.\n")
    (data / "a.csv").unlink()
    (tmp_path / "chapters" / "tiny.ipynb").unlink()  # it was tried above
    bad = run(tmp_path)
    assert bad.returncode == 1
    assert "FAIL data: data/a.csv: missing\n     do: make data" in bad.stdout
    assert bad.stdout.endswith("1 to mend.\n")
