"""A chapter and a lab that keep the contract and run in seconds: what the tests of the checks break, one fault at a time."""

from __future__ import annotations

import nbformat
from nbformat.v4 import new_code_cell, new_markdown_cell, new_notebook

from press import folding

FRONT = """# Tiny chapter

:::{admonition} The prompt
:class: prompt note
Design something small.
:::

:::{admonition} The core question
:class: core-question hint
Does a small book turn red when it should?
:::

| to read | prerequisites | techniques | level |
|---|---|---|---|
| 5 min | counting, [the start](../index.md) | counting apples, log of nothing, a **rising** line | mid |

**After this chapter you can say**

- why one is more than zero,
- what rises with time,
- which of two things is small.

To run it: `make lab` in a clone of the book, whose package `mlsd` it needs.
"""

TITLES = ["Clarify", "Frame", "Data", "Model", "Evaluate", "Serve", "Monitor", "Trade-offs"]
TITLES += ["The whiteboard", "How it is graded", "Follow-ups", "Exercises", "Further reading"]
NUMBERS = (*range(1, 13), 14)
REMEMBER = "**What to remember**\n\n* One is more.\n* Time passes,\n  and a line rises.\n* Small is cheap."

PREDICT = ":::{admonition} Predict\n:class: predict attention\nUp or down, and by how much? Say 10%.\n:::"
TRAP = ":::{admonition} Trap: a random split\n:class: trap danger\nIt looks like success.\n:::"
EXERCISES = "\n\n".join(
    f":::{{exercise}}\n:label: tiny-ex{i}\nWhat is $x^{i}$?\n:::\n\n:::{{solution}} tiny-ex{i}\n:class: dropdown\nA product.\n:::"
    for i in range(1, 5)
)
IMPORTS = """import matplotlib.pyplot as plt
import pandas as pd

from mlsd.claims import claim, colophon, say
from mlsd.decisions import Cell, decision, decisions_so_far, least
from mlsd.estimates import Estimate"""
FIGURE = """fig, ax = plt.subplots()
ax.plot([0, 1], [0, 1])
ax.set(title="The line rises", xlabel="time (days)", ylabel="clicks")
plt.show()"""
DECISION = """options = pd.DataFrame({"cost": [1.0, 2.0]}, index=["small", "large"])
decision("Small or large?", options, least("cost"), key="size", gives_up="nothing",
         flips_with=Cell("small", "cost"))
decisions_so_far()"""


def claim_cell(n: int) -> str:
    return f"""claim("{n} is more than zero", Estimate({n}, {n - 0.5}, {n + 0.5}), at_least=0.2,
      key="more_{n}", unit="apples", broken_by=("Estimate({n}, {n - 0.5}", "Estimate({n}, -1"))"""


def tiny_chapter() -> nbformat.NotebookNode:
    """Fourteen headings, six claims, a decision, a figure, traps, exercises; enough words and cells."""
    inside = {
        "Data": [new_code_cell(IMPORTS), new_markdown_cell(PREDICT), *[new_code_cell(claim_cell(i)) for i in range(1, 7)]],
        "Model": [
            new_markdown_cell(f"{TRAP}\n\n{TRAP}"),
            new_code_cell(FIGURE, metadata=dict(tags=["cover"], mystnb=dict(image=dict(alt="A line that rises with time.")))),
        ],
        "Evaluate": [new_code_cell(f'say(f"Step {i} of **{{{i} / 16:.1%}}**.")') for i in range(12)],
        "Serve": [new_markdown_cell("```mermaid\nflowchart LR\n  log --> model\n```")],
        "Trade-offs": [new_code_cell(DECISION)],
        "The whiteboard": [new_markdown_cell(REMEMBER)],
        "Exercises": [new_markdown_cell(EXERCISES)],
    }
    cells = [new_markdown_cell(FRONT)]
    for number, title in zip(NUMBERS, TITLES, strict=True):
        words = "\n\n".join(" ".join(["Plain short sentences in the second person say what you see here."] * 5) for _ in range(4))
        cells += [new_markdown_cell(f"## {number}. {title}\n\n{words}"), *inside.get(title, [])]
    cells.append(new_code_cell("colophon()"))
    return _notebook("case", cells)


LAB_FRONT = """# Tiny lab

A lab of [the tiny chapter](../tiny.ipynb).

:::{admonition} The question
:class: core-question hint
What is one?
:::

To run it: `make lab` in a clone of the book, whose package `mlsd` it needs.
"""


def tiny_lab() -> nbformat.NotebookNode:
    """A question, three sections, cells quoted from the tiny chapter, a claim."""
    tags = dict(tags=["quoted"], mlsd={"from": "tiny"})
    cells = [
        new_markdown_cell(LAB_FRONT),
        new_code_cell(IMPORTS, metadata=tags),
        new_markdown_cell(f"## Predict\n\n{PREDICT}"),
        new_code_cell(claim_cell(1), metadata=tags),
        new_markdown_cell("## Change\n\nMake it two."),
        new_markdown_cell("## Discuss\n\nIs it one?"),
        new_code_cell("colophon()"),
    ]
    return _notebook("lab", cells)


def _notebook(kind: str, cells: list) -> nbformat.NotebookNode:
    kernel = dict(name="mlsd", display_name="Python 3 (ML system design)", language="python")
    notebook = new_notebook(cells=cells, metadata=dict(kernelspec=kernel, mlsd=dict(kind=kind)))
    folding.fold(notebook)
    return notebook


def cell_holding(notebook: nbformat.NotebookNode, text: str) -> nbformat.NotebookNode:
    return next(cell for cell in notebook.cells if text in cell.source)
