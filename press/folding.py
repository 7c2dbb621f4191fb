"""Which code cells report and which design: what reports is folded, one click away, on the site and in JupyterLab alike.

A cell reports if all it does is to import, to draw, or to show what others computed: claims, decisions, tables, `say`.
It is read from the code, so there is nothing to maintain: `python -m press.folding` (part of `make tidy`) writes into the cells'
metadata what this rule says, a rule of the contract holds the two together, and a page that was executed stays executed.
The same command gives a page what else JupyterLab needs to read as the site does (`dress`).
"""

from __future__ import annotations

import ast
import re
import symtable
import sys
from pathlib import Path

import nbformat
from docutils import nodes
from nbformat import NotebookNode
from sphinx.application import Sphinx

from press import pages
from press.notebooks import code, read

TAG = "hide-input"  # MyST-NB folds such a cell on the site; `jupyter.source_hidden` does in JupyterLab
QUOTED = "quoted"  # a lab's cell that is its chapter's: the reader has seen it
# What shows, by its name in the code, and what the summary of its fold says on the site.
VERBS = {
    "claim": "claim",
    "decision": "decision",
    "decisions_so_far": "decisions",
    "plt.show": "figure",
    "table": "table",
    "display": "table",
    "say": "sentence",
    "colophon": "colophon",
    "figures.use": "imports",
}
# A second class of each box: JupyterLab knows no styles of ours, and gives these a colour and a sign of their own.
LOOKS = {"prompt": "note", "core-question": "hint", "predict": "attention", "trap": "danger"}
HOW_TO_RUN = "To run it: `make lab` in a clone of the book, whose package `mlsd` it needs"
# Methods and attributes that show something where a cell ends in them.
SHOWS = {"head", "tail", "sample", "table", "describe", "round", "map", "to_frame", "sort_values", "T", "style"}


def _verb(node: ast.stmt) -> str | None:
    """The verb that a statement calls, if it is nothing but a call of one."""
    if isinstance(node, ast.Expr) and isinstance(node.value, ast.Call):
        return name if (name := ast.unparse(node.value.func)) in VERBS else None
    return None


def _is_shown(node: ast.stmt) -> bool:
    """Is this, at the end of a cell, a value for the reader: a name, a part of a table, a table made here?"""
    if not isinstance(node, ast.Expr):
        return False
    value = node.value.func if isinstance(node.value, ast.Call) else node.value
    if isinstance(node.value, ast.Call):
        return isinstance(value, ast.Attribute) and (value.attr in SHOWS or ast.unparse(value) in ("pd.DataFrame", "pd.Series"))
    return isinstance(value, (ast.Name, ast.Attribute, ast.Subscript))


def _is_assumption(node: ast.stmt) -> bool:
    """Numbers that are given and not computed: traffic, prices, budgets. Readers change them, so they stay in sight."""
    values = [n for n in ast.walk(node.value) if isinstance(n, (ast.Constant, ast.Name, ast.Call, ast.Attribute))] if node.value else []
    return bool(values) and all(isinstance(n, ast.Constant) for n in values) and any(isinstance(n.value, (int, float)) for n in values)


def _prepares(node: ast.stmt) -> bool:
    """Does this only lead up to what is shown? A name is bound or let go, or what is shown is shown in turn."""
    if isinstance(node, (ast.Assign, ast.AnnAssign)):
        targets = node.targets if isinstance(node, ast.Assign) else [node.target]
        names = [part for target in targets for part in (target.elts if isinstance(target, ast.Tuple) else [target])]
        return all(isinstance(name, ast.Name) for name in names) and not _is_assumption(node)
    if isinstance(node, (ast.For, ast.If)):
        return all(_verb(inner) or _prepares(inner) for inner in [*node.body, *node.orelse])
    return isinstance(node, (ast.Import, ast.ImportFrom, ast.Delete)) or _verb(node) is not None


def kind_of(source: str) -> str | None:
    """What a cell reports by itself, as the fold calls it, or None if it designs."""
    body = ast.parse(source).body
    if not body or any(isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef, ast.ClassDef)) for node in body):
        return None
    if _verb(body[-1]) == "plt.show":
        return "figure"
    if all(isinstance(node, (ast.Import, ast.ImportFrom)) or _verb(node) == "figures.use" for node in body):
        return "imports"
    *before, last = body
    if not all(map(_prepares, before)) or not (_prepares(last) or _is_shown(last)):
        return None
    found = [VERBS[n] for node in ast.walk(ast.Module(body, [])) if isinstance(node, ast.Expr) and (n := _verb(node))]
    found += ["table"] * _is_shown(last)
    return min(found, key=list(VERBS.values()).index, default=None)


def _bound_and_read(source: str) -> tuple[set[str], set[str]]:
    """The names that a cell binds, and those that it reads without binding them itself."""
    top = symtable.symtable(source, "cell", "exec")
    bound = {name.get_name() for name in top.get_symbols() if name.is_assigned()}
    read_names, scopes = set(), [top]
    while scopes:
        scope = scopes.pop()
        scopes += scope.get_children()
        read_names |= {n.get_name() for n in scope.get_symbols() if n.is_referenced() and (scope is top or n.is_global())}
    return bound, read_names - bound


def reporting(notebook: NotebookNode) -> list[bool]:
    """For each code cell: does it report? One that computes what a later design cell reads belongs to the design."""
    cells = code(notebook)
    kinds = [kind_of(cell.source) for cell in cells]
    names = [_bound_and_read(cell.source) for cell in cells]
    needed: set[str] = set()
    reports = []
    for kind, (bound, read_names) in zip(reversed(kinds), reversed(names), strict=True):
        reports.append(kind in ("figure", "imports") or kind is not None and not bound & needed)
        if not reports[-1]:
            needed = (needed - bound) | read_names
    return [is_one or QUOTED in cell.metadata.get("tags", []) for is_one, cell in zip(reversed(reports), cells, strict=True)]


def is_folded(cell: NotebookNode) -> bool | None:
    """As its metadata say; None if the site and JupyterLab would show it differently."""
    tagged, hidden = TAG in cell.metadata.get("tags", []), bool(cell.metadata.get("jupyter", {}).get("source_hidden"))
    return tagged if tagged == hidden else None


def fold(notebook: NotebookNode) -> bool:
    """Write into the cells' metadata what the rule says. Returns whether anything changed."""
    changed = False
    for cell, folded in zip(code(notebook), reporting(notebook), strict=True):
        if is_folded(cell) == folded:
            continue
        changed = True
        tags = [tag for tag in cell.metadata.get("tags", []) if tag != TAG] + [TAG] * folded
        jupyter = {key: value for key, value in cell.metadata.get("jupyter", {}).items() if key != "source_hidden"}
        jupyter |= {"source_hidden": True} if folded else {}
        for key, value in (("tags", tags), ("jupyter", jupyter)):
            cell.metadata.pop(key, None)
            if value:
                cell.metadata[key] = value
    return changed


def dress(notebook: NotebookNode) -> bool:
    """What JupyterLab needs to read the same: boxes that differ, and a word on how to run the page. Returns whether anything changed."""
    before = [cell.source for cell in notebook.cells]
    for cell in notebook.cells:
        if cell.cell_type == "markdown":
            classes = rf"^:class: ({'|'.join(LOOKS)})\b.*$"
            cell.source = re.sub(classes, lambda match: f":class: {match[1]} {LOOKS[match[1]]}", cell.source, flags=re.M)
    if not says_how_to_run(notebook):
        above = "../.." if notebook.metadata.get("mlsd", {}).get("kind") == "lab" else ".."
        notebook.cells[0].source += f"\n\n{HOW_TO_RUN} ([how]({above}/pages/how_to_use.md))."
    return [cell.source for cell in notebook.cells] != before


def says_how_to_run(notebook: NotebookNode) -> bool:
    return HOW_TO_RUN in " ".join(notebook.cells[0].source.split())


# ---------- on the site ----------


def visit_fold(translator, node: nodes.Element) -> None:
    """The summary says what is folded; MyST-NB's own has one label for all, which hides that text from screen readers."""
    try:
        kind = kind_of(node.astext())
    except SyntaxError:
        kind = None
    what = {"imports": "the imports", "decisions": "these decisions", None: "this cell"}.get(kind, f"this {kind}")
    classes = " ".join(node["classes"])
    translator.body.append(f'<details class="hide {classes}"><summary>Code of {what}</summary>\n')


def depart_fold(translator, node: nodes.Element) -> None:
    translator.body.append("</details>\n")


def setup(app: Sphinx) -> None:
    from myst_nb.sphinx_ import HideCodeCellNode

    app.add_node(HideCodeCellNode, override=True, html=(visit_fold, depart_fold))


def main() -> int:
    for page in map(Path, sys.argv[1:]) if sys.argv[1:] else pages():
        notebook = read(page)
        if fold(notebook) | dress(notebook):
            nbformat.write(notebook, page)
            print(f"{page.name}: {sum(reporting(notebook))} of {len(code(notebook))} cells folded")
    return 0


if __name__ == "__main__":
    sys.exit(main())
