"""What a page depends on: the one notion of stale, for the execution cache, `make robust` and `make falsify`.

A page depends on its code (not on its prose), on the modules of `mlsd` that the code reaches (not on their
comments and docstrings), on the data of the worlds and data sets that it names, on the lock, on Python and
on a few variables. All of it is read, and nothing is run: import statements wherever they stand, so also
those of a module that runs in a child process, which is found by its name in a string ("mlsd.serving.service").
"""

from __future__ import annotations

import ast
import contextlib
import functools
import hashlib
import json
import os
import re
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import NamedTuple

from press import ROOT

PACKAGE = "mlsd"
REGISTRY = "mlsd/worlds/__init__.py"  # can open every world; a page depends on those that it opens
OPENERS = {"open_world", "worlds.open_world", "load", "real", "datasets.load", "datasets.real"}
LAUNCHED = re.compile(r"(?:^|-m )(mlsd(?:\.\w+)+)")
# The variables of the kernel that every page names. Jupyter sets them, whatever its caller has.
VARIABLES: dict[str, str] = json.loads((ROOT / "share/jupyter/kernels/mlsd/kernel.json").read_text())["env"]


class Names(NamedTuple):
    """What a program names: what it imports, modules in its strings, what it opens (None: not written out), all its strings."""

    imported: tuple[str, ...]
    launched: tuple[str, ...]
    opened: tuple[str | None, ...]
    strings: frozenset[str]


def names_in(source: str, package: str = "") -> Names:
    """Read a program; `package` is where its relative imports start. One that cannot be read names nothing: running it will say why."""
    try:
        tree = ast.parse(source)
    except SyntaxError:
        return Names((), (), (), frozenset())
    imported: list[str] = []
    opened: list[str | None] = []
    nodes = list(ast.walk(tree))
    idle = {id(node.value) for node in nodes if isinstance(node, ast.Expr)}  # docstrings
    texts = [n.value for n in nodes if isinstance(n, ast.Constant) and isinstance(n.value, str) and id(n) not in idle]
    for node in nodes:
        if isinstance(node, ast.Import):
            imported += [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            above = package.split(".")[: len(package.split(".")) + 1 - node.level] if node.level else []
            base = ".".join([*above, *([node.module] if node.module else [])])
            imported += [base, *(f"{base}.{alias.name}" for alias in node.names)]  # a module, or a name in one
        elif isinstance(node, ast.Call) and node.args and ast.unparse(node.func) in OPENERS:
            opened.append(node.args[0].value if isinstance(node.args[0], ast.Constant) else None)
    # A child process runs a module by its name, and of a package its `__main__`.
    launched = [module for text in texts for name in LAUNCHED.findall(text) for module in (name, f"{name}.__main__")]
    return Names(tuple(imported), tuple(launched), tuple(opened), frozenset(texts))


def _unchanged(path: Path) -> tuple[Path, int, int]:
    stat = path.stat()
    return path, stat.st_mtime_ns, stat.st_size


@functools.lru_cache(maxsize=1000)
def _names_of(path: Path, modified_ns: int, size: int, package: str) -> Names:
    return names_in(path.read_text(), package)


@functools.lru_cache(maxsize=1000)
def _hash_of(path: Path, modified_ns: int, size: int) -> bytes:
    """Of a program without its comments and docstrings, which change no number; of any other file as it is."""
    content = path.read_bytes()
    if path.suffix == ".py":
        with contextlib.suppress(SyntaxError):  # running it will say why
            content = ast.dump(_WithoutDocstrings().visit(ast.parse(content))).encode()
    return hashlib.sha256(content).digest()


class _WithoutDocstrings(ast.NodeTransformer):
    def visit_Expr(self, node: ast.Expr) -> ast.Expr | None:
        return None if isinstance(node.value, ast.Constant) and isinstance(node.value.value, str) else node


def files_of(name: str, root: Path) -> list[Path]:
    """The files that importing a dotted name runs: its module and the packages above; none if it is no module."""
    parts = name.split(".")
    files = [root.joinpath(*parts[:n], "__init__.py") for n in range(1, len(parts) + 1)]
    module = root.joinpath(*parts).with_suffix(".py")
    return [path for path in [*files, module] if path.exists()] if parts[0] == PACKAGE else []


def worlds(root: Path) -> set[str]:
    """The names of what can be opened: a module of worlds/, or a folder of data/ or data/external/."""
    folders = [path for path in [*root.glob("data/*"), *root.glob("data/external/*")] if path.is_dir()]
    return {path.stem for path in root.glob("mlsd/worlds/[!_]*.py")} | {path.name for path in folders}


def code_of(page: Path) -> list[str]:
    """The sources of a page's code cells."""
    return list(_code_of(*_unchanged(page)))


@functools.lru_cache(maxsize=1000)
def _code_of(page: Path, modified_ns: int, size: int) -> tuple[str, ...]:
    cells = json.loads(page.read_text())["cells"]  # nbformat would validate it each time
    return tuple("".join(cell["source"]) for cell in cells if cell["cell_type"] == "code")


@functools.lru_cache(maxsize=1000)
def _names_of_page(page: Path, modified_ns: int, size: int) -> Names:
    return names_in("\n".join(code_of(page)))


def reached(page: Path, root: Path = ROOT) -> tuple[list[Path], set[str]]:
    """The modules that a page's code leads to, and the names of the worlds and data sets that it opens."""
    page_names = _names_of_page(*_unchanged(page))
    known = worlds(root)
    names = page_names.strings & known  # also where a name takes a detour: for name in ("ads", "feed"): open_world(name)
    if None in page_names.opened:
        names = known
    todo = [*page_names.imported, *page_names.launched, *(f"{PACKAGE}.worlds.{name}" for name in names)]
    files: set[Path] = set()
    while todo:
        for path in set(files_of(todo.pop(), root)) - files:
            files.add(path)
            found = _names_of(*_unchanged(path), path.relative_to(root).parent.as_posix().replace("/", "."))
            todo += found.imported
            if path != root / REGISTRY:
                todo += found.launched
            opened = {name for name in found.opened if name in known} - names
            names |= opened
            todo += [f"{PACKAGE}.worlds.{name}" for name in opened]
    names |= {path.stem for path in files if path.parent == root / "mlsd/worlds"} & known
    return sorted(files), names


def data_of(names: set[str], root: Path) -> tuple[list[Path], list[str]]:
    """The shipped files of these worlds and data sets, and the recorded checksums of theirs, fetched ones included."""
    files = [path for name in names for path in root.glob(f"data/{name}/**/*") if path.is_file() and path.suffix != ".md"]
    record = root / "data" / "checksums.txt"
    lines = record.read_text().splitlines() if record.exists() else []
    return sorted(files), [line for line in lines if line.partition("  ")[2].removeprefix("external/").partition("/")[0] in names]


def environment(variables: Mapping[str, str] = os.environ) -> dict[str, str]:
    """The variables that a page's numbers may hang on."""
    return VARIABLES | {name: value for name, value in sorted(variables.items()) if name.startswith("MLSD_")}


def fingerprint(page: Path, root: Path = ROOT, variables: Mapping[str, str] = os.environ) -> str:
    """A hash of all that a page depends on; another one means that its outputs are stale."""
    modules, names = reached(page, root)
    files, checksums = data_of(names, root)
    digest = hashlib.sha256(json.dumps([code_of(page), checksums, sys.version_info[:2], environment(variables)]).encode())
    for path in [root / "requirements.txt", *modules, *files]:
        digest.update(path.relative_to(root).as_posix().encode() + b"\0" + _hash_of(*_unchanged(path)))
    return digest.hexdigest()


def as_published(variables: Mapping[str, str] = os.environ) -> dict[str, str]:
    """These variables without the book's own: the seed and the effects of the published run."""
    return {name: value for name, value in variables.items() if not name.startswith("MLSD_")}


def is_current(entry: dict | None, page: Path, root: Path = ROOT) -> bool:
    """Was this entry of a report made from what is here now?"""
    return entry is not None and entry["fingerprint"] == fingerprint(page, root, as_published())
