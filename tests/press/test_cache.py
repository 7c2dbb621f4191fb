"""What the execution cache keeps, and what it forgets."""

import nbformat
import pytest
from nbformat.v4 import new_output
from stub_pages import write_page

from press import cache, depends


@pytest.fixture
def stored(tmp_path):
    """A page whose execution is in the cache of its book."""
    (tmp_path / "requirements.txt").write_text("numpy==2.0")
    page = write_page(tmp_path, "say(1)")
    notebook = nbformat.read(page, as_version=4)
    notebook.cells[-1].outputs = [new_output("stream", text="one")]
    notebook.cells[-1].execution_count = 1
    cache.store(page, notebook, 1.0, depends.fingerprint(page, tmp_path), cache.open_cache(tmp_path))
    return page


def kept(page):
    root = page.parents[1]
    return cache.executed(page, cache.open_cache(root), root)


def change(page, edit):
    notebook = nbformat.read(page, as_version=4)
    edit(notebook.cells[-1])
    nbformat.write(notebook, page)


def test_a_cell_that_is_folded_stays_executed(stored):
    change(stored, lambda cell: cell.metadata.update(tags=["hide-input"], jupyter={"source_hidden": True}))
    cell = kept(stored).cells[-1]
    assert cell.outputs[0].text == "one"
    assert cell.metadata.tags == ["hide-input"]
    change(stored, lambda cell: cell.metadata.pop("tags"))
    assert "tags" not in kept(stored).cells[-1].metadata


def test_a_tag_that_steers_the_execution_makes_it_stale(stored):
    assert kept(stored) is not None
    change(stored, lambda cell: cell.metadata.update(tags=["skip-execution"]))
    assert kept(stored) is None


def test_another_code_makes_it_stale(stored):
    change(stored, lambda cell: cell.update(source="say(2)"))
    assert kept(stored) is None
