"""What is folded: the code that reports, by its own text."""

import nbformat
import pytest
from nbformat.v4 import new_code_cell, new_markdown_cell, new_notebook

from press import folding

REPORTS = {
    "imports": "import numpy as np\nfrom mlsd import figures\n\nfigures.use()",
    "figure": "fig, ax = plt.subplots()\nfor x in values:\n    ax.plot(x)\nplt.show()",
    "claim": 'gain = paired(a, b)\nclaim("It gains", gain, key="gain", unit="%", at_least=0, rests_on="x")',
    "decision": 'options = pd.DataFrame({"cost": costs})\ndecision("Which?", options, least("cost"))\nsay(f"{x}")',
    "decisions": "decisions_so_far()",
    "table": 'table(lifts, "%")',
    "sentence": 'for name in names:\n    say(f"{name}")',
    "colophon": "colophon()",
}
DESIGNS = {
    "a function": 'def features(rows):\n    return rows\n\n\nclaim("It gains", gain)',
    "a class": "class Nightly:\n    pass",
    "a function among a figure's lines": "def smooth(x):\n    return x\n\n\nplt.plot(smooth(x))\nplt.show()",
    "training": "model.fit(X, y)",
    "training before a claim": 'model.fit(X, y)\nclaim("It gains", gain)',
    "something served": 'served["new"] = week(policy)\nsay("Served.")',
    "only a computation": "gain = paired(a, b)",
    "assumptions that readers change": 'requests_a_second, budget_ms = 10_000, 100\nsay(f"{requests_a_second}")',
    "a comment": "# nothing",
}


@pytest.mark.parametrize("kind", REPORTS)
def test_a_report_is_folded(kind):
    assert folding.kind_of(REPORTS[kind]) == kind


@pytest.mark.parametrize("source", ["log.head(3)", "log[columns]", "lift = a - b\nlift.map(str)", "pd.DataFrame(rows).T", "lifts"])
def test_a_value_at_the_end_is_a_table(source):
    assert folding.kind_of(source) == "table"


@pytest.mark.parametrize("what", DESIGNS)
def test_the_design_is_shown(what):
    assert folding.kind_of(DESIGNS[what]) is None


def notebook(*sources, **metadata):
    return new_notebook(cells=[new_code_cell(source, metadata=metadata) for source in sources])


def with_front(*sources):
    return new_notebook(cells=[new_markdown_cell(f"# Page\n\n{folding.HOW_TO_RUN}."), *notebook(*sources).cells])


def test_what_a_later_design_cell_reads_is_part_of_the_design():
    say_and_use = ("log = load()\nlog.head(3)", "def features():\n    return log.x")
    assert folding.reporting(notebook(*say_and_use)) == [False, False]
    assert folding.reporting(notebook(*reversed(say_and_use))) == [False, True]
    assert folding.reporting(notebook("gain = a - b\nsay(str(gain))", 'claim("It gains", gain)')) == [True, True]
    # Its own variable of that name, not the other's.
    assert folding.reporting(notebook("lift = a - b\ntable(lift)", "served = [lift(x) for lift in lifts]")) == [True, False]


def test_a_quoted_cell_of_a_lab_is_folded():
    assert folding.reporting(notebook("def f(): ...", tags=["quoted"])) == [True]


def test_folding_writes_both_metadata_and_keeps_the_others():
    page = notebook('say("Yes.")', "x = fit()", tags=["cover", "hide-input"], jupyter={"outputs_hidden": False, "source_hidden": True})
    assert folding.fold(page)
    said, fitted = page.cells
    assert said.metadata == dict(tags=["cover", "hide-input"], jupyter=dict(outputs_hidden=False, source_hidden=True))
    assert fitted.metadata == dict(tags=["cover"], jupyter=dict(outputs_hidden=False))
    assert not folding.fold(page)


def test_boxes_are_dressed_once():
    page = new_notebook(
        cells=[new_markdown_cell(":::{admonition} Predict\n:class: predict\nUp?\n:::\n\n:::{solution} x\n:class: dropdown\n:::")]
    )
    assert folding.dress(page) and not folding.dress(page)
    assert page.cells[0].source.endswith("([how](../pages/how_to_use.md)).")
    assert ":class: predict attention\n" in page.cells[0].source and ":class: dropdown\n" in page.cells[0].source


def test_the_command_writes_only_what_changes(tmp_path, monkeypatch, capsys):
    page = tmp_path / "page.ipynb"
    nbformat.write(with_front('say("Yes.")'), page)
    monkeypatch.setattr("sys.argv", ["folding", str(page)])
    folding.main()
    assert "1 of 1" in capsys.readouterr().out
    before = page.stat().st_mtime_ns
    folding.main()
    assert page.stat().st_mtime_ns == before and not capsys.readouterr().out
