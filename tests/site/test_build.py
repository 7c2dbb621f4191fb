"""The checks themselves: a tiny book is built whole, then broken in one way at a time. Each fault must turn it red."""

import json
import random
import shutil
import subprocess

import nbformat
import pytest
from books import build, edit, execute, processor_seconds, run, write_book
from tiny_chapter import cell_holding

import pages
from press import alone
from press import site as extension


@pytest.fixture(scope="session")
def built(tmp_path_factory):
    """A tiny book, built without a fault. Not to be changed: copy it."""
    root = tmp_path_factory.mktemp("tiny") / "book"
    root.mkdir()
    write_book(root)
    done = build(root)
    assert done.returncode == 0, done.stdout + done.stderr
    return root


@pytest.fixture
def book(built, tmp_path):
    """A copy of the built book, free to break."""
    return shutil.copytree(built, tmp_path / "book", symlinks=True)


def break_chapter(root, before: str, after: str) -> None:
    path = root / "chapters" / "tiny.ipynb"
    notebook = nbformat.read(path, as_version=4)
    cell = cell_holding(notebook, before)
    cell.source = cell.source.replace(before, after)
    nbformat.write(notebook, path)


def test_the_whole_book_has_no_fault(built):
    site = built / "_build" / "html"
    assert len(pages.pages(site)) == 5
    for page in pages.pages(site):
        assert [fault for rule in pages.RULES for fault in rule(site, page)] == [], page


FAILING = ('claim("1 is more than zero", Estimate(1, 0.5, 1.5)', 'claim("1 is more than zero", Estimate(1, -0.5, 1.5)')


def test_a_failing_claim_stops_the_build(book):
    break_chapter(book, *FAILING)
    done = build(book)
    assert done.returncode != 0
    assert "ClaimFailed" in done.stdout


def test_what_is_named_and_not_there_is_red_and_stays_red(book):
    """A link, the chapter to start with, the claim of the surprise."""
    for before, after in (("chapters/tiny.ipynb", "chapters/tyny.ipynb"), ("{start} tiny", "{start} tony"), ("more_2", "more_9")):
        edit(book / "index.md", before, after)
    first = build(book)
    assert first.returncode != 0
    for told in ("'chapters/tyny.ipynb'", "no chapter 'tony'; there are tiny", "no claim 'more_9'; there are: more_1, more_2"):
        assert told in first.stdout + first.stderr
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
        (pages.first_visit, "</article>", f"<!-- {random.Random(0).randbytes(1_000_000).hex()} --></article>"),
        (pages.unused, "</head>", '<script src="../_static/scripts/fontawesome.js"></script></head>'),
        (pages.unused, "</head>", '<script src="../_static/clipboard.min.js"></script></head>'),
        (pages.unused, 'class="math', 'class="formula'),
        (pages.head, "</head>", '<meta name="viewport" content="width=device-width"></head>'),
        (pages.head, "<title>Tiny chapter", "<title>Machine Learning System Design, Executed"),
        (pages.head, 'name="description"', 'name="about"'),
        (pages.head, 'property="og:title"', 'property="title"'),
        (pages.exercises, "Exercise 3", "Exercise 13"),
        (pages.colophon, "<time ", "<span "),
    ],
)
def test_a_broken_page_is_noticed(built, tmp_path, rule, before, after):
    site = shutil.copytree(built / "_build" / "html", tmp_path / "html")
    page = site / "chapters" / "tiny.html"
    assert not list(rule(site, page))
    pages.soup.cache_clear()
    pages.transferred.cache_clear()
    edit(page, before, after)
    assert list(rule(site, page))


def test_the_plain_build_never_shows_a_stale_page(book):
    """Without make: what the package prints changes, and so does the page."""
    edit(book / "mlsd" / "claims.py", "Claim {verdict}.", "This claim {verdict}.")
    done = build(book)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "This claim held." in (book / "_build" / "html" / "chapters" / "tiny.html").read_text()


def test_a_change_of_style_or_of_what_makes_pages_reaches_the_site_and_executes_nothing(book):
    edit(book / "_static" / "book.css", "--book-blue: #0072b2", "--book-blue: #0072b4")
    edit(book / "press" / "landing.py", "Pick a case</a>", "Choose a case</a>")
    done = build(book)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "--book-blue: #0072b4" in (book / "_build" / "html" / "_static" / "book.css").read_text()
    assert "Choose a case" in (book / "_build" / "html" / "index.html").read_text()
    assert "executing" not in done.stdout


def test_an_unchanged_book_executes_nothing_and_is_built_in_seconds(book):
    before = processor_seconds()
    assert "executing 0" in execute(book).stdout
    assert build(book).returncode == 0
    assert processor_seconds() - before < 30  # measured 6: a bound for a machine that is slow and busy


def test_prose_is_edited_without_executing_and_the_cards_follow(book):
    break_chapter(book, "Design something small.", "Design something smaller.")
    break_chapter(book, "Does a small book turn red when it should?", "Is it so?")
    assert "executing 0" in execute(book).stdout
    assert build(book).returncode == 0
    assert "something smaller" in (book / "_build" / "html" / "chapters" / "tiny.html").read_text()
    assert "Is it so?" in (book / "_build" / "html" / "index.html").read_text()


def test_the_landing_page_shows_the_start_and_the_surprise_of_the_chapter(built):
    index = pages.soup(built / "_build" / "html" / "index.html")
    start, pick, run_it = index.select("a.start-button")
    assert start.get_text() == "Start: tiny chapter, 5 min" and start["href"] == "chapters/tiny.html"
    assert index.find(id=pick["href"][1:])
    assert run_it["href"] == "pages/how_to_use.html#read-run-change"
    assert "1 chapter, 5 minutes." in index.select_one(".start-length").get_text()
    surprise = index.select_one(".surprise")
    assert "2 is more than zero. Measured: 2.00 [1.50, 2.50] apples." in surprise.get_text()
    assert surprise.img["alt"] == "A line that rises with time."
    assert surprise.select_one(".surprise-link a")["href"] == "chapters/tiny.html#data"
    (card,) = index.select(".chapter-card")
    assert card.select_one(".chapter-facts").get_text(" ") == "5 min mid"
    assert [item.get_text() for item in card.select("li")] == ["counting apples", "log of nothing", "a rising line"]


def test_the_search_knows_the_passages_but_not_the_code_nor_the_status(built):
    text = (built / "_build" / "html" / "_static" / "passages.js").read_text()
    scripts = dict(line.removeprefix("window.").rstrip(";").split(" = ", 1) for line in text.splitlines())
    entries, techniques = json.loads(scripts["PASSAGES"]), json.loads(scripts["TECHNIQUES"])
    assert techniques["chapters/tiny.html"] == ["counting apples", "log of nothing", "a rising line"]
    titles = {(url, anchor): title for url, _, anchor, title, _ in entries}
    assert titles["chapters/tiny.html", "data"] == "3. Data"
    assert not [url for url, *_ in entries if "status" in url]
    assert not [title for *_, title, text in entries if "import" in text or "plt." in text]
    assert any("1 is more than zero" in text for *_, text in entries), "a claim can be found"


def write_reports(root, made_with: str, cpu_seconds: float) -> None:
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
        "alone": dict(cpu_seconds=cpu_seconds, wall_seconds=99.0, peak_memory_mb=900, others_cores=1.2),
    }.items():
        (root / "reports" / f"{name}.json").write_text(json.dumps(dict(tiny=dict(fingerprint=made_with, **entry))))


def article(root, page: str) -> str:
    return " ".join(pages.soup(root / "_build" / "html" / page).select_one("article").get_text(" ").split())


def test_what_the_reports_say_of_an_earlier_version_is_told_and_does_not_count(book):
    write_reports(book, "of an earlier version", cpu_seconds=50.0)
    assert build(book).returncode == 0
    text = article(book, "pages/status.html")
    assert "50 s † 900 MB † 6 of 6 11 of 12 † 6 of 6 † 5 of 6 † 1" in text
    assert "above 45" not in text, "what an earlier version took is no fault of this one"
    assert "7 ✓, 1 ✗, 311 ✓" in text
    assert "without position_bias: red on 0 of 2" in text
    assert "0 of 6 conclusions turned red" in article(book, "index.html"), "what was shown of other code is not shown of this"


def test_status_and_landing_page_tell_what_the_reports_say_of_this_build(book):
    now = run(book, "-c", "from press import *; from press.depends import *; print(fingerprint(pages()[0], variables=as_published()))")
    write_reports(book, now.stdout.strip(), cpu_seconds=46.4)
    assert build(book).returncode == 0
    text = article(book, "index.html")
    for told in (
        "6 of 6 conclusions held",
        "11 of 12 tries held: conclusions on 2 draws of chance that were fixed beforehand",
        "6 of 6 tries held: conclusions on 1 freshly drawn",
        "5 of 6 conclusions turned red",
        "1 design decisions, computed; 0 come out the same on every draw tried, 0 are left open",
    ):
        assert told in text, told
    text = article(book, "pages/status.html")
    assert text.startswith("Status # Everything that this book claims held when this site was built: 6 conclusions in 1 chapter.")
    assert "46 s above 45" in text
    assert "900 MB above" not in text


def test_a_budget_is_kept_by_processor_or_clock_whichever_is_less():
    entry = dict(cpu_seconds=60.0, wall_seconds=44.0, peak_memory_mb=1000, others_cores=0.0)
    assert alone.faults("feed", entry) == []
    assert alone.faults("labs/feed_delay", entry) == ["expected at most 20 s, found 44"]
    assert alone.faults("feed", entry | dict(wall_seconds=90.0, peak_memory_mb=1001)) == [
        "expected at most 45 s, found 60",
        "expected at most 1000 MB, found 1001",
    ]


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


def test_buttons_and_addresses_appear_only_where_repository_and_site_are_known(book):
    site = book / "_build" / "html"
    page, index = site / "chapters" / "tiny.html", site / "index.html"
    unknown = ("mybinder.org", "/edit/main/", 'rel="canonical"', "og:image", "og:url")
    assert not [what for what in unknown for text in (page.read_text(), index.read_text()) if what in text]
    assert not (site / "sitemap.xml").exists() and not (site / "robots.txt").exists()
    assert "<base" not in (site / "404.html").read_text()
    done = build(book, REPOSITORY_URL="https://github.com/a/b", SITE_URL="https://a.github.io/b")
    assert done.returncode == 0, done.stdout + done.stderr
    text = page.read_text()
    assert "https://mybinder.org/v2/gh/a/b/main?urlpath=lab/tree/chapters/tiny.ipynb" in text
    assert 'href="https://github.com/a/b/edit/main/chapters/tiny.ipynb"' in text
    assert '<link rel="canonical" href="https://a.github.io/b/chapters/tiny.html" />' in text
    assert '<meta property="og:image" content="https://a.github.io/b/_static/card.png">' in text
    assert (site / "_static" / "card.png").exists()
    assert "<loc>https://a.github.io/b/chapters/tiny.html</loc>" in (site / "sitemap.xml").read_text()
    assert "Sitemap: https://a.github.io/b/sitemap.xml" in (site / "robots.txt").read_text()
    assert '<base href="https://a.github.io/b/">' in (site / "404.html").read_text()
    assert 'name="robots" content="noindex"' in (site / "404.html").read_text()
    assert [fault for rule in pages.RULES if rule is not pages.links for fault in rule(site, page)] == []
