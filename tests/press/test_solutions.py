"""The code in solutions is run, after its page, and an error in it is found."""

from stub_pages import write_page

from press import solutions


def solution(label, code):
    return f":::{{solution}} {label}\n:class: dropdown\nSo:\n```python\n{code}\n```\n:::\n\n"


def test_solutions_use_the_page_and_each_other(tmp_path):
    prose = solution("one", "y = x + 1") + solution("two", "assert y == 2") + ":::{solution} three\n:class: dropdown\nNo code.\n:::"
    seconds, errors = solutions.run(write_page(tmp_path, "x = 1", prose=prose))
    assert (list(seconds), errors) == (["one", "two"], [])


def test_a_solution_that_raises_is_named_and_does_not_stop_the_others(tmp_path):
    prose = solution("one", "no_such_name") + solution("two", "x")
    seconds, errors = solutions.run(write_page(tmp_path, "x = 1", prose=prose))
    assert list(seconds) == ["one", "two"]
    assert errors == ["one: NameError: name 'no_such_name' is not defined"]


def test_a_page_that_fails_is_said(tmp_path):
    assert solutions.run(write_page(tmp_path, "1 / 0", prose=solution("one", "x")))[1] == [
        "the page itself fails: ZeroDivisionError: division by zero"
    ]


def test_a_page_without_code_in_its_solutions_is_not_run(tmp_path):
    assert solutions.run(write_page(tmp_path, "1 / 0", prose="Prose.")) == ({}, [])
