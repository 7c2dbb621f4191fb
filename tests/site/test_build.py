"""The checks themselves: a tiny book is built whole, then broken in one way at a time. Each fault must turn it red."""

import json
import os
import re
import resource
import shutil
import subprocess
import sys
from pathlib import Path

import nbformat
import pytest
from tiny_chapter import cell_holding, tiny_chapter

import pages
from press import ROOT
from press import site as extension

INDEX = "# Tiny book\n\n```{chapter-cards}\n```\n\nSee [the chapter](chapters/tiny.ipynb).\n"
TOC = """format: jb-book
root: index
parts:
  - caption: All
    chapters:
      - file: chapters/tiny
      - file: pages/status
"""


def write_book(root: Path) -> None:
    for folder in ("_static", "press", "mlsd", "share"):
        shutil.copytree(ROOT / folder, root / folder, ignore=shutil.ignore_patterns("__pycache__"))
    for folder in ("data", "chapters", "pages"):
        (root / folder).mkdir()
    (root / "data" / "external").symlink_to(ROOT / "data" / "external")
    for file in ("_config.yml", "requirements.txt", "pages/references.bib", "pages/status.md"):
        shutil.copy(ROOT / file, root / file)
    (root / "_toc.yml").write_text(TOC)
    (root / "index.md").write_text(INDEX)
    nbformat.write(tiny_chapter(), root / "chapters" / "tiny.ipynb")


def run(root: Path, *command: str, **variables: str) -> subprocess.CompletedProcess:
    about_this_machine = {key for key in os.environ if key.startswith("MLSD_")} | {"REPOSITORY_URL", "GITHUB_REPOSITORY"}
    environment = {key: value for key, value in os.environ.items() if key not in about_this_machine}
    environment |= dict(PYTHONPATH=str(root), **variables)  # the copy of mlsd that may be changed below
    return subprocess.run([sys.executable, *command], cwd=root, env=environment, capture_output=True, text=True, timeout=300)


def execute(root: Path, *options: str, **variables: str) -> subprocess.CompletedProcess:
    return run(root, "-m", "press.execute", *options, **variables)


def build(root: Path, **variables: str) -> subprocess.CompletedProcess:
    """What the README gives for those without make; it executes what the cache lacks."""
    program = "from jupyter_book.cli.main import main; main()"
    return run(root, "-c", program, "build", ".", "--path-output", ".", "-W", "-n", "--keep-going", **variables)


def edit(path: Path, before: str, after: str) -> None:
    text = path.read_text()
    assert before in text
    path.write_text(text.replace(before, after))


@pytest.fixture(scope="session")
def built(tmp_path_factory):
    """A tiny book, built without a fault. Not to be changed: copy it."""
    root = tmp_path_factory.mktemp("tiny") / "book"
    root.mkdir()
    write_book(root)
    done = execute(root)
    assert done.returncode == 0, done.stdout + done.stderr
    done = build(root)
    assert done.returncode == 0, done.stdout + done.stderr
    return root


@pytest.fixture
def book(built, tmp_path):
    """A copy of the built book, free to break."""
    return shutil.copytree(built, tmp_path / "book", symlinks=True)


def break_chapter(root: Path, before: str, after: str) -> None:
    path = root / "chapters" / "tiny.ipynb"
    notebook = nbformat.read(path, as_version=4)
    cell = cell_holding(notebook, before)
    cell.source = cell.source.replace(before, after)
    nbformat.write(notebook, path)


def test_the_whole_book_has_no_fault(built):
    site = built / "_build" / "html"
    assert len(pages.pages(site)) == 4  # with the chapter's cheat sheet
    for page in pages.pages(site):
        assert [fault for rule in pages.RULES for fault in rule(site, page)] == [], page


def test_unchanged_it_executes_nothing(book):
    assert "executing 0" in execute(book).stdout


def test_a_failing_claim_is_red_both_ways(book):
    break_chapter(book, *FAILING)
    done = execute(book)
    assert done.returncode == 1
    assert "ClaimFailed" in done.stdout
    assert build(book).returncode != 0


def test_an_exception_in_a_cell_is_red_both_ways(book):
    break_chapter(book, "colophon()", "1 / 0\ncolophon()")
    done = execute(book)
    assert done.returncode == 1
    assert "ZeroDivisionError" in done.stdout
    assert build(book).returncode != 0


def test_an_exception_is_red_in_the_notebook_suite(book):
    break_chapter(book, "colophon()", "1 / 0\ncolophon()")
    done = run(book, "-m", "pytest", "--nbmake", "-p", "no:cacheprovider", "chapters")
    assert done.returncode == 1
    assert "ZeroDivisionError" in done.stdout


def test_a_second_execution_that_measures_something_else_is_red(book):
    break_chapter(book, "Estimate(3, 2.5, 3.5)", "Estimate(3 + __import__('random').random() / 3, 2.5, 3.5)")
    assert execute(book).returncode == 0
    shutil.copytree(book / "chapters", book / ".again")
    done = run(book, "-m", "pytest", "--nbmake", "--overwrite", "-p", "no:cacheprovider", ".again")
    assert done.returncode == 0, done.stdout
    done = run(book, "-m", "press.again")
    assert done.returncode == 1
    assert "DIFFERS tiny: more_3: 3." in done.stdout and done.stdout.count("DIFFERS") == 1


def test_a_dead_kernel_is_red_and_named(book):
    break_chapter(book, "colophon()", "import os\nos._exit(1)")
    done = execute(book)
    assert done.returncode == 1
    assert "DeadKernelError" in done.stdout


def test_too_much_memory_is_red_where_there_is_a_limit(book):
    break_chapter(book, "colophon()", "colophon()  # again")
    done = execute(book, "--memory-limit", "50")
    assert done.returncode == 1
    assert "expected at most 50 MB" in done.stdout


def test_a_broken_link_is_red_and_stays_red(book):
    edit(book / "index.md", "chapters/tiny.ipynb", "chapters/tyny.ipynb")
    first = build(book)
    assert first.returncode != 0
    assert "tyny" in first.stdout + first.stderr
    assert build(book).returncode != 0, "the second build of a broken book must not pass"


@pytest.mark.parametrize(
    ("rule", "before", "after"),
    [
        (pages.raw_text, "</article>", "<p>:::{admonition} Predict</p></article>"),
        (pages.raw_text, "</article>", "<p>as in {cite}`he2014`</p></article>"),
        (pages.links, "</article>", '<a href="nowhere.html">x</a></article>'),
        (pages.links, "</article>", '<a href="#nowhere">x</a></article>'),
        (pages.images, 'alt="A line that rises with time."', 'alt="../_images/a.png"'),
        (pages.images, 'src="../_images/', 'src="../_images/not-'),
        (pages.third_parties, "</article>", '<script src="https://cdn.example.org/x.js"></script></article>'),
        (pages.outputs, "</article>", '<div class="output stderr">UserWarning: x</div></article>'),
        (pages.structure, "</article>", "<h1>Again</h1></article>"),
        (pages.weight, "</article>", "x" * 1_500_000 + "</article>"),
    ],
)
def test_a_broken_page_is_noticed(built, tmp_path, rule, before, after):
    site = shutil.copytree(built / "_build" / "html", tmp_path / "html")
    page = site / "chapters" / "tiny.html"
    assert not list(rule(site, page))
    pages.soup.cache_clear()
    edit(page, before, after)
    assert list(rule(site, page))


@pytest.mark.parametrize(("changed", "n"), [("mlsd/estimates.py", 1), ("requirements.txt", 1), ("mlsd/worlds/ads.py", 0)])
def test_a_chapter_is_executed_again_when_what_it_depends_on_changes(book, changed, n):
    path = book / changed
    path.write_text(path.read_text() + "\n# changed\n")
    assert f"executing {n}" in execute(book).stdout


def test_only_the_page_that_is_stale_is_executed(book):
    other = tiny_chapter()
    cell_holding(other, "colophon()").source = "from mlsd.worlds import ads\ncolophon()"
    nbformat.write(other, book / "chapters" / "other.ipynb")
    assert "executing 1" in execute(book).stdout
    edit(book / "mlsd" / "worlds" / "ads.py", "from __future__", "# changed\nfrom __future__")
    done = execute(book)
    assert "executing 1" in done.stdout and "other" in done.stdout and "tiny" not in done.stdout
    assert "executing 0" in execute(book).stdout


FAILING = ('claim("1 is more than zero", Estimate(1, 0.5, 1.5)', 'claim("1 is more than zero", Estimate(1, -0.5, 1.5)')


def test_a_claim_that_failed_while_recording_is_red_without(book):
    """As the troubleshooting page has it, to see the page; the run after that must not take it for good."""
    break_chapter(book, *FAILING)
    assert execute(book, MLSD_CLAIMS="record").returncode == 0
    assert build(book, MLSD_CLAIMS="record").returncode == 0
    assert "Claim failed" in (book / "_build" / "html" / "chapters" / "tiny.html").read_text()
    assert execute(book).returncode == 1
    assert build(book).returncode != 0


def test_a_failed_claim_that_the_page_swallows_is_red(book):
    break_chapter(book, FAILING[0], "import contextlib\nwith contextlib.suppress(AssertionError):\n    " + FAILING[1])
    done = execute(book)
    assert done.returncode == 1
    assert "more_1" in done.stdout
    assert "executing 1" in execute(book).stdout


def test_the_plain_build_never_shows_a_stale_page(book):
    """Without make: what the package prints changes, and so does the page."""
    edit(book / "mlsd" / "claims.py", "Claim {verdict}.", "This claim {verdict}.")
    done = build(book)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "This claim held." in (book / "_build" / "html" / "chapters" / "tiny.html").read_text()


def processor_seconds() -> float:
    """Of the commands run so far; the wall clock would measure what else the machine does."""
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime


def test_an_unchanged_book_executes_nothing_and_is_built_in_seconds(book):
    before = processor_seconds()
    assert "executing 0" in execute(book).stdout
    assert build(book).returncode == 0
    assert processor_seconds() - before < 30  # measured 6: a bound for a machine that is slow and busy


def test_prose_is_edited_without_executing(book):
    break_chapter(book, "Design something small.", "Design something smaller.")
    assert "executing 0" in execute(book).stdout
    assert build(book).returncode == 0
    assert "something smaller" in (book / "_build" / "html" / "chapters" / "tiny.html").read_text()


def test_cards_and_status_follow_the_chapter(book):
    break_chapter(book, "Does a small book turn red when it should?", "Is it so?")
    assert build(book).returncode == 0
    assert "Is it so?" in (book / "_build" / "html" / "index.html").read_text()


def write_reports(root: Path, made_with: str) -> None:
    """Fake reports: one claim that fails on a seed, one that stays green when it is broken, a decision that changes once."""
    keys = [f"more_{i}" for i in range(1, 7)]
    held = [dict(key=k, sentence=k, held={"7": True, "1": k != "more_1"}) for k in keys]
    choice = [dict(key="size", question="?", open="", chosen={"7": "small", "1": "large"})]
    ways = [[dict(way="without position_bias", red={"7": k != "more_2", "1": k != "more_2"}, shown={})] for k in keys]
    broken = [dict(key=k, sentence=k, falsified=k != "more_2", ways=w) for k, w in zip(keys, ways, strict=True)]
    (root / "reports").mkdir()
    for name, entry in {
        "robust": dict(claims=held, decisions=choice),
        "robust_fresh": dict(claims=[dict(claim, held={"311": True}) for claim in held], decisions=[]),
        "falsify": dict(claims=broken, faults=[]),
    }.items():
        (root / "reports" / f"{name}.json").write_text(json.dumps(dict(tiny=dict(fingerprint=made_with, **entry))))


def article(root: Path, page: str) -> str:
    return " ".join(pages.soup(root / "_build" / "html" / page).select_one("article").get_text(" ").split())


def test_the_status_page_shows_the_reports_and_what_is_above_its_budget(book):
    write_reports(book, "of an earlier version")
    edit(book / "press" / "cache.py", "MAX_MEMORY_MB, MAX_BOOK_SECONDS = 60, 1000, 600", "MAX_MEMORY_MB, MAX_BOOK_SECONDS = 60, 50, 600")
    assert build(book).returncode == 0
    text = article(book, "pages/status.html")
    assert "11 of 12 hold (of an earlier version)" in text
    assert "6 of 6 hold (of an earlier version)" in text
    assert "5 of 6 (of an earlier version)" in text
    assert "7 ✓, 1 ✗, 311 ✓" in text
    assert "without position_bias: red on 0 of 2" in text
    assert re.search(r"\d+ MB above 50", text)
    assert "0 of 6 claims shown able to fail" in article(book, "index.html"), "what was shown of other code is not shown of this"


def test_the_landing_page_tells_what_the_reports_say_of_this_build(book):
    now = run(book, "-c", "from press import *; from press.depends import *; print(fingerprint(pages()[0], variables=as_published()))")
    write_reports(book, now.stdout.strip())
    assert build(book).returncode == 0
    text = article(book, "index.html")
    for told in (
        "6 of 6 claims held in this build",
        "11 of 12 claims × fixed seeds held",
        "6 of 6 claims × freshly drawn seeds held",
        "5 of 6 claims shown able to fail",
        "1 decisions",
        "0 of them the same on all seeds tried",
        "0 left open",
    ):
        assert told in text, told


@pytest.mark.parametrize(
    ("environment", "remote", "expected"),
    [
        (dict(REPOSITORY_URL="https://git.example.org/a/b"), "git@github.com:c/d.git", "https://git.example.org/a/b"),
        (dict(GITHUB_REPOSITORY="a/b"), "", "https://github.com/a/b"),
        ({}, "https://github.com/a/b.git", "https://github.com/a/b"),
        ({}, "https://token@github.com/a/b", "https://github.com/a/b"),
        ({}, "git@gitlab.com:a/group/b.git", "https://gitlab.com/a/group/b"),
        ({}, "ssh://git@github.com/a/b.git", "https://github.com/a/b"),
        ({}, "/srv/git/b", None),
        ({}, "https://git.intranet/a/b.git", None),
        ({}, "", None),
    ],
)
def test_the_repository_is_known_or_it_is_not(environment, remote, expected):
    assert extension.repository_url(environment, remote) == expected


def test_the_remote_is_read_from_git(tmp_path):
    assert extension.git_remote(tmp_path) == ""
    subprocess.run(["git", "init", "-q", tmp_path], check=True)
    assert extension.git_remote(tmp_path) == ""
    subprocess.run(["git", "-C", tmp_path, "remote", "add", "origin", "git@github.com:a/b.git"], check=True)
    assert extension.git_remote(tmp_path) == "git@github.com:a/b.git"


def test_launch_buttons_appear_only_where_the_repository_is_known(book):
    page = book / "_build" / "html" / "chapters" / "tiny.html"
    assert "mybinder.org" not in page.read_text()
    shutil.rmtree(book / "_build" / "html")
    done = build(book, REPOSITORY_URL="https://github.com/a/b")
    assert done.returncode == 0, done.stdout + done.stderr
    assert "https://mybinder.org/v2/gh/a/b/main?urlpath=lab/tree/chapters/tiny.ipynb" in page.read_text()
