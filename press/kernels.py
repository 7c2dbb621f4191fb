"""The one place where a notebook's cells are run: whole pages, or cell by cell."""

from __future__ import annotations

import os
import time
from collections.abc import Mapping
from pathlib import Path

import nbformat
from nbclient import NotebookClient
from nbclient.exceptions import CellExecutionError
from nbformat.v4 import new_code_cell, new_notebook

from press.records import of_cell

TIMEOUT_S = 900
STARTS = 3
QUIET = ["--IPKernelApp.log_level=40"]  # each kernel warns that its loopback sockets are not encrypted


def client_of(notebook: nbformat.NotebookNode, folder: Path) -> NotebookClient:
    where = {"metadata": {"path": str(folder)}}
    return NotebookClient(notebook, timeout=TIMEOUT_S, record_timing=False, resources=where, extra_arguments=QUIET)


def start(client: NotebookClient, **options: object) -> None:
    """Start a client's kernel. Its ports are chosen before it binds them, and another kernel may be faster: then it is started again."""
    for left in reversed(range(STARTS)):
        client.km = client.create_kernel_manager()
        client.start_new_kernel(**options)
        try:
            client.start_new_kernel_client()
            return
        except RuntimeError:  # it died before it answered
            if not left:
                raise


def execute(page: Path) -> tuple[nbformat.NotebookNode, float, str | None]:
    """Run one page in its folder. Returns it with outputs, the seconds taken, and an error or None."""
    started = time.monotonic()
    notebook = nbformat.read(page, as_version=4)
    error = None
    try:
        client = client_of(notebook, page.parent)
        start(client)
        client.execute()
    except CellExecutionError as caught:
        error = str(caught)
    except Exception as caught:  # a kernel that died, ran out of time or never started fails its page, not the others
        error = f"{type(caught).__name__}: {caught}"
    return notebook, time.monotonic() - started, error


class CellFailed(RuntimeError):
    """A cell raised, or its kernel died. `name` is the exception's; `records` are those shown before."""

    def __init__(self, name: str, message: str, records: list[dict]) -> None:
        super().__init__(f"{name}: {message}")
        self.name, self.records = name, records


class Kernel:
    """The kernel that a page names, in its folder, for cells one at a time. Of what they show only the records are kept.

    with Kernel(page, MLSD_SEED="3", MLSD_CLAIMS="record") as kernel:
        records = kernel.run(source)
    """

    def __init__(self, page: Path, variables: Mapping[str, str] = os.environ, **more: str) -> None:
        metadata = nbformat.read(page, as_version=4).metadata
        self._client = client_of(new_notebook(cells=[new_code_cell()], metadata=metadata), page.parent)
        self._variables = variables | more

    def __enter__(self) -> Kernel:
        start(self._client, env=self._variables)
        self._running = self._client.setup_kernel()
        self._running.__enter__()
        return self

    def __exit__(self, *error: object) -> None:
        self._running.__exit__(None, None, None)

    def run(self, source: str) -> list[dict]:
        """Execute a cell's source. Returns its records. Raises CellFailed if it raises or the kernel dies."""
        cell = new_code_cell(source)
        try:
            self._client.execute_cell(cell, 0)
        except CellExecutionError as caught:
            raise CellFailed(caught.ename, caught.evalue, of_cell(cell)) from None
        except Exception as caught:  # a dead kernel, a timeout
            raise CellFailed(type(caught).__name__, str(caught), of_cell(cell)) from None
        return of_cell(cell)
