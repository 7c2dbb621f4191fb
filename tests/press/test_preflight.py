"""Preflight says what is missing on a machine, and what to do about it."""

import hashlib
import subprocess
import sys
from pathlib import Path

import nbformat
import pytest
from nbformat.v4 import new_code_cell, new_notebook
from tiny_chapter import tiny_chapter

ROOT = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT / "book"))
import preflight  # noqa: E402


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


def test_another_backend_of_keras(monkeypatch):
    monkeypatch.setenv("KERAS_BACKEND", "numpy")
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
    program = (
        f"import sys, pathlib; sys.path.insert(0, {str(ROOT / 'book')!r}); import preflight; "
        f"preflight.ROOT = pathlib.Path({str(root)!r}); sys.exit(preflight.main())"
    )
    return subprocess.run([sys.executable, "-c", program], capture_output=True, text=True)


def test_the_report_and_its_exit_code(tmp_path, data, lock, monkeypatch):
    monkeypatch.setenv("KERAS_BACKEND", "jax")
    lock("numpy>=1")
    (tmp_path / "chapters").mkdir()
    nbformat.write(tiny_chapter(), tmp_path / "chapters" / "tiny.ipynb")
    good = run(tmp_path)
    assert good.returncode == 0, good.stdout
    assert "ok   tiny: runs" in good.stdout
    assert good.stdout.endswith("This machine is ready.\n")
    (data / "a.csv").unlink()
    bad = run(tmp_path)
    assert bad.returncode == 1
    assert "FAIL data: data/a.csv: missing\n     do: make data" in bad.stdout
    assert bad.stdout.endswith("1 to mend.\n")
