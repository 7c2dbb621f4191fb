"""Reading a page that was not executed: its prose and code, the claims it makes, the solutions it gives."""

from __future__ import annotations

import ast
import re
from pathlib import Path
from typing import NamedTuple

import nbformat
from nbformat import NotebookNode


def read(page: Path) -> NotebookNode:
    return nbformat.read(page, as_version=4)


def markdown(notebook: NotebookNode) -> str:
    return "\n\n".join(cell.source for cell in notebook.cells if cell.cell_type == "markdown")


def code(notebook: NotebookNode) -> list[NotebookNode]:
    return [cell for cell in notebook.cells if cell.cell_type == "code"]


def calls(notebook: NotebookNode, name: str) -> list[ast.Call]:
    """The calls of a function by its bare name, as written (one for a call in a loop)."""
    nodes = (node for cell in code(notebook) for node in ast.walk(ast.parse(cell.source)))
    return [n for n in nodes if isinstance(n, ast.Call) and isinstance(n.func, ast.Name) and n.func.id == name]


class Claim(NamedTuple):
    """A claim as it stands in a page. What is not a literal is None (key) or empty."""

    key: str | None
    sentence: str
    cell: int  # place among the code cells
    unit: str | None
    rests_on: tuple[str, ...]
    broken_by: tuple[str, str] | None
    has_key: bool  # else `key` is the sentence


class NoLiteral(ValueError):
    """An argument that is read and not run is no literal."""


def _literal(node: ast.expr | None, what: str) -> object:
    if node is None:
        return None
    try:
        return ast.literal_eval(node)
    except ValueError:
        raise NoLiteral(f"{what}: expected a literal, found {ast.unparse(node)[:60]}") from None


def claim_of(call: ast.Call, cell: int) -> Claim:
    """A call of claim(), read. Raises NoLiteral, which names the argument."""
    arguments = {keyword.arg: keyword.value for keyword in call.keywords}
    first = call.args[0] if call.args else arguments.get("sentence")
    sentence = str(_literal(first, "sentence"))
    key, unit = (_literal(arguments.get(name), f"{name} of {sentence!r}") for name in ("key", "unit"))
    rests_on = _literal(arguments.get("rests_on"), f"rests_on of {sentence!r}") or ()
    broken_by = _literal(arguments.get("broken_by"), f"broken_by of {sentence!r}")
    if broken_by is not None and not (len(broken_by) == 2 and all(isinstance(text, str) for text in broken_by)):
        raise NoLiteral(f"broken_by of {sentence!r}: expected (old, new), two texts, found {broken_by!r}")
    effects = (rests_on,) if isinstance(rests_on, str) else tuple(rests_on)
    return Claim(key or sentence, sentence, cell, unit, effects, tuple(broken_by) if broken_by else None, key is not None)


def claims(notebook: NotebookNode) -> list[Claim]:
    """Every claim that a page makes. Raises NoLiteral if one cannot be read without running it."""
    found = []
    for i, cell in enumerate(code(notebook)):
        for node in ast.walk(ast.parse(cell.source)):
            if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id == "claim":
                found.append(claim_of(node, i))
    return found


def without_breaks(source: str) -> str:
    """The source, of the same length, with blanks for each broken_by argument: it quotes the code that it breaks."""
    lines = source.splitlines(keepends=True)
    starts = [0]
    for line in lines:
        starts.append(starts[-1] + len(line))

    def place(line: int, column: int) -> int:  # ast counts columns in bytes
        return starts[line - 1] + len(lines[line - 1].encode()[:column].decode())

    text = list(source)
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id == "claim":
            for keyword in node.keywords:
                if keyword.arg == "broken_by":
                    start = place(keyword.value.lineno, keyword.value.col_offset)
                    end = place(keyword.value.end_lineno, keyword.value.end_col_offset)
                    text[start:end] = [c if c == "\n" else "\0" for c in text[start:end]]
    return "".join(text)


class NoMatch(ValueError):
    """A replacement does not fit the page exactly once."""


def broken(sources: list[str], old: str, new: str) -> tuple[int, str]:
    """The code cell in which `old` stands, and its source with `new` instead. Raises NoMatch unless it stands exactly once."""
    found = [(i, at) for i, source in enumerate(sources) for at in _places(without_breaks(source), old)]
    if len(found) != 1:
        raise NoMatch(f"expected {old!r} once in the code, found it {len(found)} times")
    i, at = found[0]
    return i, sources[i][:at] + new + sources[i][at + len(old) :]


def _places(text: str, part: str) -> list[int]:
    return [at for at in range(len(text)) if part and text.startswith(part, at)]


def solutions(notebook: NotebookNode) -> dict[str, str]:
    """The text of each folded solution, by the label of its exercise."""
    found = re.findall(r"^(:::+)\{solution\} (\S+)\n(?::class: dropdown\n)?(.*?)^\1\s*$", markdown(notebook), re.M | re.S)
    return {label: text for _, label, text in found}


def python_blocks(text: str) -> list[str]:
    return re.findall(r"^```python\n(.*?)^```\s*$", text, re.M | re.S)
