"""Small books for the tests of the machinery: a tiny one that is built whole, and bare ones whose pages import nothing."""

from __future__ import annotations

import os
import resource
import shutil
import subprocess
import sys
from pathlib import Path

import nbformat
from nbformat.v4 import new_code_cell, new_markdown_cell, new_notebook
from tiny_chapter import tiny_chapter

from press import ROOT

INDEX = """# Tiny book

Every sentence of this tiny book is long enough for a description.

```{start} tiny
```

```{surprise} tiny
:claim: more_2
:figure: cover

Is two more than zero?
```

## Pick a case

```{chapter-cards}
```

See [the chapter](chapters/tiny.ipynb).

```{numbers}
```
"""
HOW_TO_USE = "# How to use it\n\n## Read, run, change\n\nRead the chapter of this tiny book, run it, and change something."
TOC = """format: jb-book
root: index
parts:
  - caption: All
    chapters:
      - file: chapters/tiny
      - file: pages/how_to_use
      - file: pages/status
"""
# What mlsd.claims leaves in an output, without the seconds that importing it takes.
SHOW = """from IPython.display import display
def show(text, **record):
    display({"text/plain": text, "application/vnd.mlsd+json": record}, raw=True)
"""


def claim_of(value: object, held: bool = True) -> str:
    return f"show('', kind='claim', key='more', sentence='x', unit='apples', value={value}, low=0, high=9, held={held})"


def colophon_of(peak_memory_mb: int = 40) -> str:
    return f"show('', kind='colophon', key='colophon', seconds=1, peak_memory_mb={peak_memory_mb}, claims=1, held=1, versions={{}})"


def bare_page(*sources: str) -> nbformat.NotebookNode:
    """A page of these cells, after one that defines `show`."""
    kernel = dict(name="mlsd", display_name="Python 3 (ML system design)", language="python")
    cells = [new_markdown_cell("# Bare"), new_code_cell(SHOW), *map(new_code_cell, sources)]
    return new_notebook(cells=cells, metadata=dict(kernelspec=kernel))


def write_machinery(root: Path) -> None:
    for folder in ("press", "mlsd", "share"):
        shutil.copytree(ROOT / folder, root / folder, ignore=shutil.ignore_patterns("__pycache__"))
    for folder in ("data", "chapters", "pages"):
        (root / folder).mkdir()
    (root / "data" / "external").symlink_to(ROOT / "data" / "external")
    shutil.copy(ROOT / "requirements.txt", root)


def write_bare_book(root: Path, **pages: nbformat.NotebookNode) -> None:
    """A book of these pages, without a site."""
    write_machinery(root)
    for name, page in pages.items():
        nbformat.write(page, root / "chapters" / f"{name}.ipynb")


def write_book(root: Path) -> None:
    """The tiny book, of one chapter that keeps the contract."""
    write_machinery(root)
    shutil.copytree(ROOT / "_static", root / "_static")
    for file in ("_config.yml", "pages/references.bib", "pages/status.md"):
        shutil.copy(ROOT / file, root / file)
    for file, text in {"_toc.yml": TOC, "index.md": INDEX, "pages/how_to_use.md": HOW_TO_USE}.items():
        (root / file).write_text(text)
    nbformat.write(tiny_chapter(), root / "chapters" / "tiny.ipynb")


def run(root: Path, *command: str, **variables: str) -> subprocess.CompletedProcess:
    about_this_machine = {key for key in os.environ if key.startswith("MLSD_")} | {"REPOSITORY_URL", "GITHUB_REPOSITORY", "SITE_URL"}
    environment = {key: value for key, value in os.environ.items() if key not in about_this_machine}
    environment |= dict(PYTHONPATH=str(root), **variables)  # the copy of mlsd that may be changed
    return subprocess.run([sys.executable, *command], cwd=root, env=environment, capture_output=True, text=True, timeout=300)


def execute(root: Path, *options: str, **variables: str) -> subprocess.CompletedProcess:
    return run(root, "-m", "press.execute", *options, **variables)


def build(root: Path, **variables: str) -> subprocess.CompletedProcess:
    """What the README gives for those without make; it executes what the cache lacks."""
    program = "import press; from jupyter_book.cli.main import main; main()"  # press first: it imports nbformat in a third of the time
    return run(root, "-c", program, "build", ".", "--path-output", ".", "-W", "-n", "--keep-going", **variables)


def edit(path: Path, before: str, after: str) -> None:
    text = path.read_text()
    assert before in text
    path.write_text(text.replace(before, after))


def processor_seconds() -> float:
    """Of the commands run so far; the wall clock would measure what else the machine does."""
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime
