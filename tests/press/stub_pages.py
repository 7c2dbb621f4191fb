"""Pages for kernels that must start fast: `claim` and `decision` leave the records of mlsd and import nothing of it."""

from pathlib import Path

import nbformat
from nbformat.v4 import new_code_cell, new_markdown_cell, new_notebook

STUB = """import os
from IPython.display import display

def claim(sentence, value, at_least, key, **ways):
    record = dict(kind="claim", key=key, sentence=sentence, unit="%", value=value, low=value, high=value)
    show(record | dict(at_least=at_least, at_most=None, held=value >= at_least))

def decision(question, chosen, key, open=""):
    show(dict(kind="decision", key=key, question=question, chosen=chosen, open=open))

def show(record):
    display({"text/plain": "", "application/vnd.mlsd+json": record}, raw=True)

seed, off = int(os.environ.get("MLSD_SEED", "7")), os.environ.get("MLSD_WITHOUT", "")"""


def write_page(folder: Path, *cells: str, prose: str = "Prose.", name: str = "stub") -> Path:
    """A page of the stub and these code cells, in folder/chapters."""
    page = folder / "chapters" / f"{name}.ipynb"
    page.parent.mkdir(exist_ok=True)
    metadata = dict(kernelspec=dict(name="mlsd", display_name="Python 3 (ML system design)", language="python"))
    nbformat.write(new_notebook(cells=[new_markdown_cell(prose), *map(new_code_cell, [STUB, *cells])], metadata=metadata), page)
    return page
