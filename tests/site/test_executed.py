"""What is executed and what is not, and that each way to fail turns the run red: on bare pages, which run in a second."""

import nbformat
import pytest
from books import bare_page, claim_of, colophon_of, edit, execute, run, write_bare_book


@pytest.fixture(scope="module")
def failing(tmp_path_factory):
    """A book in which every page but one fails in its own way, the run of it, and the run after that."""
    root = tmp_path_factory.mktemp("failing") / "book"
    root.mkdir()
    write_bare_book(
        root,
        good=bare_page(claim_of(1), colophon_of()),
        raises=bare_page("1 / 0"),
        dies=bare_page("import os\nos._exit(1)"),
        swallows=bare_page(f"try:\n    {claim_of(1, held=False)}\n    raise AssertionError\nexcept AssertionError:\n    pass"),
        eats=bare_page(colophon_of(peak_memory_mb=60)),
    )
    return execute(root, "--memory-limit", "50"), execute(root, "--memory-limit", "50")


@pytest.mark.parametrize(
    ("page", "cause"),
    [
        ("raises", "ZeroDivisionError"),
        ("dies", "DeadKernelError"),
        ("swallows", "these claims failed, and a cell caught it: more"),
        ("eats", "expected at most 50 MB"),
    ],
)
def test_a_page_that_fails_is_red_and_named_with_its_cause(failing, page, cause):
    first, _ = failing
    assert first.returncode == 1
    assert page in first.stderr and cause in first.stdout


def test_what_succeeds_is_kept_and_what_failed_is_run_again(failing):
    first, second = failing
    assert "executing 5" in first.stdout and "good" not in first.stderr
    assert second.returncode == 1
    assert "executing 3" in second.stdout, "the page that ate memory ran to its end, the good one too"


def test_a_page_is_executed_again_when_what_it_depends_on_changes_and_no_other(tmp_path):
    """What a page imports is read and not run, so these import nothing."""
    uses = {"estimates": "if False:\n    import mlsd.estimates", "ads": "if False:\n    import mlsd.worlds.ads"}
    write_bare_book(tmp_path, **{name: bare_page(source) for name, source in uses.items()})
    assert "executing 2" in execute(tmp_path).stdout
    assert "executing 0" in execute(tmp_path).stdout
    for changed, stale in {
        "mlsd/worlds/ads.py": ["ads"],
        "mlsd/estimates.py": ["estimates"],
        "requirements.txt": ["ads", "estimates"],
    }.items():
        path = tmp_path / changed
        path.write_text(path.read_text() + ("\nCHANGED = True\n" if path.suffix == ".py" else "\n# changed\n"))
        done = execute(tmp_path)
        assert f"executing {len(stale)}" in done.stdout
        assert [name for name in uses if f"] {name}:" in done.stdout] == sorted(stale, key=list(uses).index)


def test_a_claim_that_failed_while_recording_is_red_without(tmp_path):
    """As the troubleshooting page has it, to see the page; the run after that must not take it for good."""
    fails = claim_of(1, held=False) + "\nimport os\nassert os.environ.get('MLSD_CLAIMS') == 'record', 'ClaimFailed'"
    write_bare_book(tmp_path, page=bare_page(fails))
    assert execute(tmp_path, MLSD_CLAIMS="record").returncode == 0
    done = execute(tmp_path)
    assert done.returncode == 1
    assert "ClaimFailed" in done.stdout


def test_the_notebook_suite_notices_an_exception_and_another_measurement(tmp_path):
    measured = "3 + __import__('random').random() / 3"
    write_bare_book(tmp_path, page=bare_page(claim_of(1), claim_of(measured).replace("'more'", "'more_3'")))
    assert execute(tmp_path).returncode == 0
    assert run(tmp_path, "-m", "press.again", "copy").stdout.startswith("1 of 1 pages")
    nbformat.write(bare_page("1 / 0"), tmp_path / ".again" / "raises.ipynb")
    done = run(tmp_path, "-m", "pytest", "--nbmake", "--overwrite", "-p", "no:cacheprovider", ".again")
    assert done.returncode == 1
    assert "ZeroDivisionError" in done.stdout and "1 passed" in done.stdout
    (tmp_path / ".again" / "raises.ipynb").unlink()
    done = run(tmp_path, "-m", "press.again")
    assert done.returncode == 1
    assert "DIFFERS page: more_3: 3." in done.stdout and done.stdout.count("DIFFERS") == 1


def test_a_page_measured_alone_is_reported_with_what_it_took(tmp_path):
    spends = "import time\nended = time.process_time() + 1.5\nwhile time.process_time() < ended: pass\nheld = bytearray(200_000_000)"
    write_bare_book(tmp_path, page=bare_page(spends, colophon_of()), other=bare_page("1 / 0"))
    done = run(tmp_path, "-m", "press.alone", "page", MLSD_SEED="5")
    assert done.returncode == 0, done.stdout + done.stderr
    shown = run(tmp_path, "-c", "import json; print(*json.load(open('reports/alone.json'))['page'].items(), sep='\\n')").stdout
    entry = dict(eval(line) for line in shown.splitlines())
    assert 1.5 < entry["cpu_seconds"] < 30 and entry["wall_seconds"] >= 1.5
    assert 200 < entry["peak_memory_mb"] < 500
    assert run(tmp_path, "-m", "press.alone", "page").stdout == "\nno faults\n", "what is unchanged is not measured again"
    edit(
        tmp_path / "press" / "alone.py",
        "CHAPTER_SECONDS, LAB_SECONDS, MEMORY_MB = 45, 20, 1000",
        "CHAPTER_SECONDS, LAB_SECONDS, MEMORY_MB = 1, 1, 100",
    )
    done = run(tmp_path, "-m", "press.alone", "page")
    assert done.returncode == 1
    assert "FAULT page: expected at most 1 s" in done.stdout and "FAULT page: expected at most 100 MB" in done.stdout
    done = run(tmp_path, "-m", "press.alone", "other")
    assert done.returncode != 0 and "ZeroDivisionError" in done.stderr
