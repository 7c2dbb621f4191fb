"""The front of a page: what its card on the landing page says."""

from nbformat.v4 import new_markdown_cell, new_notebook

from press.front import front_of

FRONT = """# Title

:::{admonition} The core question
:class: core-question hint
A question that runs
over two lines, does it stay whole?
:::
"""


def test_a_question_over_two_lines_is_read_whole():
    assert front_of(new_notebook(cells=[new_markdown_cell(FRONT)])).question == "A question that runs over two lines, does it stay whole?"
