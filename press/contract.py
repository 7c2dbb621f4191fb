"""The contract of a page, as rules over its notebook. Each rule yields what breaks it.

A page says in its metadata (mlsd.kind) which of three it is: a `case` study, a chapter on `production`, or a `lab`.
A new rule is a function here, an entry in `_EVERYWHERE`, `_CHAPTER` or RULES,
and a fault that it notices in tests/chapters/test_contract.py.
"""

from __future__ import annotations

import ast
import re
import statistics
from collections.abc import Iterator, Mapping

from nbformat import NotebookNode

from press import front as fronts
from press.folding import HOW_TO_RUN, LOOKS, is_folded, reporting, says_how_to_run
from press.notebooks import NoLiteral, calls, claims, code, markdown, solutions

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
OWN = range(3, 8)  # the numbers of the sections that a production chapter names itself
LAB_SECTIONS = ["Predict", "Change", "Discuss"]
QUOTED = "quoted"  # the tag of a lab's cell that is a chapter's, which its metadata name: mlsd.from
KERNEL = "mlsd"  # share/jupyter: it carries the variables that a page needs

# name -> (least, most) of what `measures` measures in a page.
CHAPTER_BOUNDS = {
    "lines of code": (0, 400),
    "median cell": (0, 8),
    "90% cell": (0, 20),
    "longest cell": (0, 30),
    "words": (2500, 4500),
    "claims without a key": (0, 0),
    "claims without a unit": (0, 0),
    "claims that nothing breaks": (0, 0),
    "units in sentences": (0, 0),
    "numbers typed in solutions": (0, 0),
}
LAB_BOUNDS = CHAPTER_BOUNDS | {"lines of code": (1, 150), "words": (0, 1500)}
# A unit or a metric at the end of a claim's sentence; it belongs to the number, in unit=.
UNIT_IN_WORDS = re.compile(r"(?:\bin percent(?:age points)?|\bpercentage points|\bas a share|\bby this factor|\([^()]*\))[\s.]*$")
DIRECTIVES = {"admonition", "exercise", "solution", "dropdown"}  # JupyterLab and the site both render these
FENCES = {"", "mermaid", "python", "text", "json", "sh"}
PERCENT_OR_DECIMAL = re.compile(r"(?<![\w.])\d[\d,]*(?:\.\d+)?\s?%|(?<![\w.])\d[\d,]*\.\d+")


def kind_of(notebook: NotebookNode) -> str | None:
    return notebook.metadata.get("mlsd", {}).get("kind")


def is_figure(cell: NotebookNode) -> bool:
    return cell.cell_type == "code" and "plt.show(" in cell.source


def short(cell: NotebookNode) -> str:
    return repr(cell.source[:60])


def kind(notebook: NotebookNode) -> Iterator[str]:
    if kind_of(notebook) not in RULES:
        yield f"metadata mlsd.kind: expected one of {sorted(RULES)}, found {kind_of(notebook)!r}"


def _lacks(text: str, wanted: Mapping[str, str]) -> Iterator[str]:
    for what, pattern in wanted.items():
        if not re.search(pattern, text, re.M):
            yield f"the first cell lacks {what}"


def front(notebook: NotebookNode) -> Iterator[str]:
    """Title, prompt, core question, the table, what the reader can say afterwards; and what to remember, at the end of section 9."""
    yield from fronts.faults(notebook)


def lab_front(notebook: NotebookNode) -> Iterator[str]:
    wanted = {"a title": r"^# \S", "its question": r"^:class: core-question\b", "a link to its chapter": r"\]\(\.\./\w+\.ipynb\)"}
    yield from _lacks(notebook.cells[0].source, wanted)


def headings(notebook: NotebookNode) -> list[str]:
    return re.findall(r"^## (.+?)\s*$", markdown(notebook), re.M)


def sections(notebook: NotebookNode) -> Iterator[str]:
    found = headings(notebook)
    expected = [s for s in SECTIONS if s != OPTIONAL or s in found]
    if found != expected:
        yield f"expected the sections {expected}, found {found}"


def production_sections(notebook: NotebookNode) -> Iterator[str]:
    found = headings(notebook)
    own = [heading for heading in found[2:] if re.match(r"[3-7]\. \S", heading)]
    if [int(heading[0]) for heading in own] != list(OWN)[: len(own)] or not own:
        yield f"expected sections of its own, numbered from 3 on and to 7 at the most, found {own}"
    expected = [*SECTIONS[:2], *own, *(s for s in SECTIONS[7:] if s != OPTIONAL or s in found)]
    if found != expected:
        yield f"expected the sections {expected}, found {found}"


def lab_sections(notebook: NotebookNode) -> Iterator[str]:
    found = headings(notebook)
    if [heading for heading in found if heading in LAB_SECTIONS] != LAB_SECTIONS:
        yield f"expected the sections {LAB_SECTIONS} in this order, others between them as they are needed, found {found}"


def notebook_format(notebook: NotebookNode) -> Iterator[str]:
    if (notebook.nbformat, notebook.nbformat_minor) != (4, 5):
        yield f"expected nbformat 4.5, found {notebook.nbformat}.{notebook.nbformat_minor}"
    if notebook.metadata.get("kernelspec", {}).get("name") != KERNEL:
        yield f"expected the kernel {KERNEL}"


def stripped(notebook: NotebookNode) -> Iterator[str]:
    for cell in code(notebook):
        if cell.outputs or cell.execution_count is not None:
            yield f"outputs are committed, strip them with `make tidy`: {short(cell)}"


def lines_of(cell: NotebookNode) -> list[str]:
    return [line for line in cell.source.splitlines() if line.strip()]


def cells(notebook: NotebookNode) -> Iterator[str]:
    for cell in code(notebook):
        if not lines_of(cell):
            yield "an empty code cell"
        yield from (f"longer than 100 characters: {line}" for line in lines_of(cell) if len(line) > 100)


def _written(text: str) -> str:
    """Markdown less what is no reading: how to run it and the looks of boxes, which a command writes, and the levels of follow-ups."""
    text = re.sub(r" \*\((?:mid|senior|staff), \w+\)\*", "", text)
    return re.sub(rf"^(?::class:|{re.escape(HOW_TO_RUN)}).*$", "", text, flags=re.M)


def measures(notebook: NotebookNode) -> dict[str, float]:
    """What the bounds bound."""
    sizes = [len(lines_of(cell)) for cell in code(notebook)]
    found = claims(notebook)
    return {
        "lines of code": sum(sizes),
        "median cell": statistics.median(sizes),
        "90% cell": round(statistics.quantiles(sizes, n=10, method="inclusive")[-1], 1),
        "longest cell": max(sizes),
        "words": len(_written(markdown(notebook)).split()),
        "claims without a key": sum(not claim.has_key for claim in found),
        "claims without a unit": sum(claim.unit is None for claim in found),
        "claims that nothing breaks": sum(not claim.rests_on and not claim.broken_by for claim in found),
        "units in sentences": sum(bool(UNIT_IN_WORDS.search(claim.sentence)) for claim in found),
        "numbers typed in solutions": sum(len(PERCENT_OR_DECIMAL.findall(prose(text))) for text in solutions(notebook).values()),
    }


def bounds(notebook: NotebookNode) -> Iterator[str]:
    """A page is within its bounds."""
    try:
        measured = measures(notebook)
    except NoLiteral:
        return  # which `claims_to_read` says
    for name, (least, most) in (LAB_BOUNDS if kind_of(notebook) == "lab" else CHAPTER_BOUNDS).items():
        if not least <= measured[name] <= most:
            yield f"{name}: expected {least:,} to {most:,}, found {measured[name]:,}"


def claims_to_read(notebook: NotebookNode) -> Iterator[str]:
    """Key, unit and the ways to break a claim are read without running it, and a key is there once. So is a decision's."""
    try:
        keys = [claim.key for claim in claims(notebook)]
    except NoLiteral as no_literal:
        yield str(no_literal)
        return
    of_decisions = [ast.unparse(k.value) for call in calls(notebook, "decision") for k in call.keywords if k.arg == "key"]
    for found in (keys, of_decisions):
        yield from (f"the key {key} is there more than once" for key in sorted({k for k in found if found.count(k) > 1}))


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
    if not 6 <= len(calls(notebook, "claim")) <= 12:
        yield f"expected 6 to 12 claims, found {len(calls(notebook, 'claim'))}"
    if not calls(notebook, "decision"):
        yield "there is no decision"
    if not calls(notebook, "decisions_so_far"):
        yield "section 8 does not show decisions_so_far()"


def lab_evidence(notebook: NotebookNode) -> Iterator[str]:
    if not calls(notebook, "claim"):
        yield "there is no claim"


def closing(notebook: NotebookNode) -> Iterator[str]:
    if "colophon()" not in notebook.cells[-1].source:
        yield "the last cell is not colophon()"


def quoted(notebook: NotebookNode, chapters: Mapping[str, NotebookNode]) -> Iterator[str]:
    """A quoted cell of a lab is a cell of the chapter that it names, letter by letter."""
    for cell in code(notebook):
        if QUOTED in cell.metadata.get("tags", []):
            origin = cell.metadata.get("mlsd", {}).get("from")
            if origin not in chapters:
                yield f"quoted from {origin!r}, which is no chapter: {short(cell)}"
            elif cell.source not in [other.source for other in code(chapters[origin])]:
                yield f"no longer a cell of {origin}: {short(cell)}"


def boxes(notebook: NotebookNode) -> Iterator[str]:
    text = markdown(notebook)
    for name, least in {"predict": 1, "trap": 0 if kind_of(notebook) == "lab" else 2}.items():
        found = len(re.findall(rf"^:+\{{admonition\}}.*\n:class: {name}\b", text, re.M))
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
    if covers != (kind_of(notebook) != "lab"):
        yield f"expected one figure cell tagged cover, in a lab none, found {covers}"


def directives(notebook: NotebookNode) -> Iterator[str]:
    text = markdown(notebook)
    yield from (f"JupyterLab does not render {{{d}}}" for d in re.findall(r"^:::+\{([\w-]+)\}", text, re.M) if d not in DIRECTIVES)
    yield from (f"unexpected fence ```{f}" for f in re.findall(r"^```(\S+)", text, re.M) if f not in FENCES)
    yield from (f"JupyterLab does not resolve the role {{{role}}}" for role in re.findall(r"\{([\w:]+)\}`", text))
    opened, closed = len(re.findall(r"^:::+\{", text, re.M)), len(re.findall(r"^:::+\s*$", text, re.M))
    if opened != closed:
        yield f"{opened} directives are opened and {closed} closed"


def folded(notebook: NotebookNode) -> Iterator[str]:
    """What reports is folded, on the site and in JupyterLab, and the design is shown: by press.folding, which writes it too."""
    for cell, reports in zip(code(notebook), reporting(notebook), strict=True):
        if is_folded(cell) != reports:
            yield f"expected its code {'folded' if reports else 'shown'}, run `python -m press.folding`: {short(cell)}"


def how_to_run(notebook: NotebookNode) -> Iterator[str]:
    """In JupyterLab, on Binder or as a file that somebody sent, the first cell is all that says what this needs."""
    if not says_how_to_run(notebook):
        yield f"the first cell does not say how to run the page, run `python -m press.folding`: {HOW_TO_RUN!r}"


def look(notebook: NotebookNode) -> Iterator[str]:
    """JupyterLab gives each box the colour and sign of a second class; the site does not need it."""
    for name in re.findall(r"^:class: (.+)$", markdown(notebook), re.M):
        first, _, second = name.partition(" ")
        if first in LOOKS and second != LOOKS[first]:
            yield f":class: {name}: expected :class: {first} {LOOKS[first]}, run `python -m press.folding`"


def prose(text: str) -> str:
    """Markdown without its code and formulas."""
    return re.sub(r"```[\s\S]*?```|`[^`\n]+`|\$\$[\s\S]*?\$\$|\$[^$\n]+\$", "", text)


def prose_of_results(notebook: NotebookNode) -> Iterator[str]:
    """Paragraphs in which a measured number must not be typed.

    Not the front, section 1 (assumptions), predict boxes, exercises, code, formulas, nor a paragraph
    that links to where its numbers come from.
    """
    section = "front"
    for cell in notebook.cells:
        if cell.cell_type != "markdown":
            continue
        text = prose(re.sub(r"^:::+\{(admonition\} Predict|exercise|solution)[\s\S]*?^:::+\s*$", "", cell.source, flags=re.M))
        for part in re.split(r"^(## .+)$", text, flags=re.M):
            if part.startswith("## "):
                section = part[3:].strip()
            elif section not in ("front", SECTIONS[0]):
                blocks = re.split(r"\n\s*\n|\n(?=\s*[-*|])", part)
                yield from (block for block in blocks if "](http" not in block and not block.startswith("#"))


def typed_results(notebook: NotebookNode) -> Iterator[str]:
    for block in prose_of_results(notebook):
        yield from (f"a typed number ({found}), let say() print it: {block.strip()[:80]!r}" for found in PERCENT_OR_DECIMAL.findall(block))


_EVERYWHERE = [
    kind,
    notebook_format,
    stripped,
    cells,
    bounds,
    plain_code,
    claims_to_read,
    closing,
    boxes,
    figures,
    directives,
    typed_results,
    folded,
    how_to_run,
    look,
]
_CHAPTER = [*_EVERYWHERE, front, evidence, exercises]
RULES = {
    "case": [*_CHAPTER, sections],
    "production": [*_CHAPTER, production_sections],
    "lab": [*_EVERYWHERE, lab_front, lab_sections, lab_evidence],  # and `quoted`, which needs the chapters too
}
