"""The contract of a chapter, as rules over its notebook. Each rule yields what breaks it."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator

from nbformat import NotebookNode

SECTIONS = [
    "1. Clarify",
    "2. Frame",
    "3. Data",
    "4. Model",
    "5. Evaluate",
    "6. Serve",
    "7. Monitor",
    "8. Trade-offs",
    "9. The whiteboard",
    "10. How it is graded",
    "11. Follow-ups",
    "12. Exercises",
    "13. On real data",
    "14. Further reading",
]
OPTIONAL = "13. On real data"
DIRECTIVES = {"admonition", "exercise", "solution", "dropdown"}  # JupyterLab and the site both render these
FENCES = {"", "mermaid", "python", "text", "json", "sh"}
PERCENT_OR_DECIMAL = re.compile(r"(?<![\w.])\d[\d,]*(?:\.\d+)?\s?%|(?<![\w.])\d[\d,]*\.\d+")


def markdown(notebook: NotebookNode) -> str:
    return "\n\n".join(cell.source for cell in notebook.cells if cell.cell_type == "markdown")


def code(notebook: NotebookNode) -> list[NotebookNode]:
    return [cell for cell in notebook.cells if cell.cell_type == "code"]


def calls(notebook: NotebookNode, name: str) -> int:
    """How many times a function is called by its bare name, as written (once for a call in a loop)."""
    nodes = (node for cell in code(notebook) for node in ast.walk(ast.parse(cell.source)))
    return sum(isinstance(n, ast.Call) and isinstance(n.func, ast.Name) and n.func.id == name for n in nodes)


def is_figure(cell: NotebookNode) -> bool:
    return cell.cell_type == "code" and "plt.show(" in cell.source


def short(cell: NotebookNode) -> str:
    return repr(cell.source[:60])


def front(notebook: NotebookNode) -> Iterator[str]:
    text = notebook.cells[0].source
    for what, pattern in {
        "a title": r"^# \S",
        "the prompt": r"^:class: prompt$",
        "the core question": r"^:class: core-question$",
        "a table": r"^\|",
        "a link to the status page": r"\]\(\.\./pages/status\.md\)",
    }.items():
        if not re.search(pattern, text, re.M):
            yield f"the first cell lacks {what}"


def sections(notebook: NotebookNode) -> Iterator[str]:
    found = re.findall(r"^## (.+?)\s*$", markdown(notebook), re.M)
    expected = [s for s in SECTIONS if s != OPTIONAL or s in found]
    if found != expected:
        yield f"expected the sections {expected}, found {found}"


def notebook_format(notebook: NotebookNode) -> Iterator[str]:
    if (notebook.nbformat, notebook.nbformat_minor) != (4, 5):
        yield f"expected nbformat 4.5, found {notebook.nbformat}.{notebook.nbformat_minor}"
    if notebook.metadata.get("kernelspec", {}).get("name") != "mlsd":
        yield "expected the kernel mlsd, which carries the variables that chapters need (share/jupyter/)"


def stripped(notebook: NotebookNode) -> Iterator[str]:
    for cell in code(notebook):
        if cell.outputs or cell.execution_count is not None:
            yield f"outputs are committed, strip them with `make tidy`: {short(cell)}"


def cell_sizes(notebook: NotebookNode) -> Iterator[str]:
    if not 20 <= len(code(notebook)) <= 40:
        yield f"expected 20 to 40 code cells, found {len(code(notebook))}"
    for cell in code(notebook):
        lines = [line for line in cell.source.splitlines() if line.strip()]
        if not 1 <= len(lines) <= 30:
            yield f"expected 1 to 30 lines in a cell, found {len(lines)}: {short(cell)}"
        yield from (f"longer than 100 characters: {line}" for line in lines if len(line) > 100)


def words(notebook: NotebookNode) -> Iterator[str]:
    n_words = len(markdown(notebook).split())
    if not 2000 <= n_words <= 3500:
        yield f"expected 2,000 to 3,500 words, found {n_words:,}"


def plain_code(notebook: NotebookNode) -> Iterator[str]:
    patterns = {
        "a magic or shell line": r"^\s*[%!]\w",
        "a warnings filter": r"filterwarnings|simplefilter",
        "a second path": r"\bif (not )?FAST\b",
        "a star import": r"import \*",
        "a path tricked in": r"sys\.path",
    }
    for cell in code(notebook):
        yield from (f"{what}: {short(cell)}" for what, pattern in patterns.items() if re.search(pattern, cell.source, re.M))


def evidence(notebook: NotebookNode) -> Iterator[str]:
    if not 6 <= calls(notebook, "claim") <= 12:
        yield f"expected 6 to 12 claims, found {calls(notebook, 'claim')}"
    if not calls(notebook, "decision"):
        yield "there is no decision"
    if not calls(notebook, "decisions_so_far"):
        yield "section 8 does not show decisions_so_far()"
    if "colophon()" not in notebook.cells[-1].source:
        yield "the last cell is not colophon()"


def boxes(notebook: NotebookNode) -> Iterator[str]:
    text = markdown(notebook)
    for name, least in {"predict": 1, "trap": 2}.items():
        found = len(re.findall(rf"^:+\{{admonition\}}.*\n:class: {name}$", text, re.M))
        if found < least:
            yield f"expected at least {least} {name} boxes, found {found}"


def exercises(notebook: NotebookNode) -> Iterator[str]:
    text = markdown(notebook)
    labels = re.findall(r"^:+\{exercise\}.*\n:label: (\S+)", text, re.M)
    solved = re.findall(r"^:+\{solution\} (\S+)\n:class: dropdown$", text, re.M)
    if len(labels) < 4:
        yield f"expected at least 4 exercises, found {len(labels)}"
    if sorted(labels) != sorted(solved) or len(set(labels)) < len(labels):
        yield f"each exercise needs its own label and one folded solution; exercises {labels}, solutions {solved}"


def figures(notebook: NotebookNode) -> Iterator[str]:
    covers = 0
    for cell in filter(is_figure, notebook.cells):
        alt = cell.metadata.get("mystnb", {}).get("image", {}).get("alt", "")
        if len(alt.split()) < 5:
            yield f"a figure without alternative text of a sentence: {short(cell)}"
        if not cell.source.rstrip().endswith("plt.show()"):
            yield f"a figure cell does not end in plt.show(): {short(cell)}"
        covers += "cover" in cell.metadata.get("tags", [])
    if covers != 1:
        yield f"expected one figure cell tagged cover, found {covers}"


def directives(notebook: NotebookNode) -> Iterator[str]:
    text = markdown(notebook)
    yield from (f"JupyterLab does not render {{{d}}}" for d in re.findall(r"^:::+\{([\w-]+)\}", text, re.M) if d not in DIRECTIVES)
    yield from (f"unexpected fence ```{f}" for f in re.findall(r"^```(\S+)", text, re.M) if f not in FENCES)
    yield from (f"JupyterLab does not resolve the role {{{role}}}" for role in re.findall(r"\{([\w:]+)\}`", text))
    opened, closed = len(re.findall(r"^:::+\{", text, re.M)), len(re.findall(r"^:::+\s*$", text, re.M))
    if opened != closed:
        yield f"{opened} directives are opened and {closed} closed"


def prose_of_results(notebook: NotebookNode) -> Iterator[str]:
    """Paragraphs in which a measured number must not be typed.

    Not the front, section 1 (assumptions), predict boxes, exercises, code, formulas, nor a paragraph
    that links to where its numbers come from.
    """
    section = "front"
    for cell in notebook.cells:
        if cell.cell_type != "markdown":
            continue
        text = re.sub(r"^:::+\{(admonition\} Predict|exercise|solution)[\s\S]*?^:::+\s*$", "", cell.source, flags=re.M)
        text = re.sub(r"```[\s\S]*?```|`[^`\n]+`|\$\$[\s\S]*?\$\$|\$[^$\n]+\$", "", text)
        for part in re.split(r"^(## .+)$", text, flags=re.M):
            if part.startswith("## "):
                section = part[3:].strip()
            elif section not in ("front", SECTIONS[0]):
                blocks = re.split(r"\n\s*\n|\n(?=\s*[-*|])", part)
                yield from (block for block in blocks if "](http" not in block and not block.startswith("#"))


def typed_results(notebook: NotebookNode) -> Iterator[str]:
    for block in prose_of_results(notebook):
        yield from (f"a typed number ({found}), let say() print it: {block.strip()[:80]!r}" for found in PERCENT_OR_DECIMAL.findall(block))


RULES = [
    front,
    sections,
    notebook_format,
    stripped,
    cell_sizes,
    words,
    plain_code,
    evidence,
    boxes,
    exercises,
    figures,
    directives,
    typed_results,
]
