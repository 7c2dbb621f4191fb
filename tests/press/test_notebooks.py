"""What is read of a page without running it."""

import pytest
from nbformat.v4 import new_code_cell, new_markdown_cell, new_notebook

from press import notebooks
from press.notebooks import NoLiteral, NoMatch, broken, without_breaks


def page(*cells):
    return new_notebook(cells=[new_markdown_cell("Prose."), *map(new_code_cell, cells)])


def test_a_claim_is_read_where_it_stands():
    claims = notebooks.claims(page("x = 1", 'claim("It is so", x, key="so", unit="%", rests_on="a", broken_by=("x = 1", "x = 0"))'))
    assert claims == [notebooks.Claim("so", "It is so", 1, "%", ("a",), ("x = 1", "x = 0"), True)]


def test_what_is_missing_is_said():
    (claim,) = notebooks.claims(page('claim("It is so", x, rests_on=["a", "b"])'))
    assert (claim.key, claim.has_key, claim.unit, claim.rests_on, claim.broken_by) == ("It is so", False, None, ("a", "b"), None)


@pytest.mark.parametrize("argument", ["key=name", "rests_on=effects", 'broken_by=("a", new)', 'broken_by=("a",)'])
def test_what_is_no_literal_is_named(argument):
    with pytest.raises(NoLiteral, match=argument.partition("=")[0]):
        notebooks.claims(page(f'claim("It is so", x, {argument})'))


def test_a_break_does_not_match_where_it_is_named():
    source = 'y = f(x)\nclaim("É = é", y, broken_by=("f(x)", "g(x)"), key="f(x)")\n'
    assert len(without_breaks(source)) == len(source)
    assert without_breaks(source).count("f(x)") == 2 and source.count("f(x)") == 3
    assert 'key="f(x)")\n' in without_breaks(source)


def test_a_replacement_is_made_where_it_stands():
    sources = ["a = 1", 'É = "é"\nb = a  # é\nclaim("é", b, broken_by=("b = a", "b = 0"))']
    assert broken(sources, "b = a", "b = 0") == (1, 'É = "é"\nb = 0  # é\nclaim("é", b, broken_by=("b = a", "b = 0"))')


@pytest.mark.parametrize(("old", "n"), [("c = 1", 0), ("a", 3), ("aa", 2), ("", 0)])
def test_a_replacement_fits_once_or_not_at_all(old, n):
    with pytest.raises(NoMatch, match=f"found it {n} times"):
        broken(["aaa", "b = 1"], old, "")


def test_solutions_and_their_code():
    text = ":::{solution} ex-1\n:class: dropdown\nSo:\n```python\nx = 1\ny = 2\n```\nand\n```python\nz = 3\n```\n:::\n"
    text += "\n::::{solution} ex-2\n:class: dropdown\n:::{admonition} A\n:::\nNo code, `x`.\n::::\n"
    found = notebooks.solutions(new_notebook(cells=[new_markdown_cell(text)]))
    assert list(found) == ["ex-1", "ex-2"]
    assert notebooks.python_blocks(found["ex-1"]) == ["x = 1\ny = 2\n", "z = 3\n"]
    assert notebooks.python_blocks(found["ex-2"]) == []
