"""What the search finds, what a page says of itself to others, which icons are kept, and in what numbers: each piece by itself."""

import datetime
import subprocess

import pytest
from docutils import nodes
from docutils.utils import new_document

from press import ROOT, finding, heads, weight


def section(anchor, title, *children):
    return nodes.section("", nodes.title("", title), *children, ids=[anchor])


def paragraph(text):
    return nodes.paragraph("", text)


@pytest.fixture
def document():
    """A page with a section in a section, code, an output of two forms, and a term of a glossary."""
    forms = [
        nodes.container("", nodes.literal_block("", "Claim held: plain"), mime_type="text/plain"),
        nodes.container(
            "",
            nodes.raw("", "<p>Claim held &amp; shown</p><table><tr><td>42</td></tr></table><pre>a --> b</pre>", format="html"),
            mime_type="text/html",
        ),
    ]
    output = nodes.container("", *forms, nb_element="mime_bundle")
    term = nodes.definition_list_item("", nodes.term("", "ANN", ids=["term-ANN"]), nodes.definition("", paragraph("Approximate.")))
    inner = section("trees", "Trees", paragraph("Boosted trees win."))
    outer = section("model", "4. Model", paragraph("A model learns."), nodes.literal_block("", "import numpy"), output, inner)
    terms = section("terms", "Terms", nodes.definition_list("", term, classes=["glossary"]))
    page = new_document("page")
    page += section("page", "Page", paragraph("First words."), outer, terms)
    return page


def test_each_section_and_term_is_a_passage_without_code(document):
    assert finding.passages(document) == [
        ("", "Page", "First words."),
        ("model", "4. Model", "A model learns. Claim held & shown"),
        ("trees", "Trees", "Boosted trees win."),
        ("terms", "Terms", ""),
        ("term-ANN", "ANN", "Approximate."),
    ]


def test_a_description_is_the_core_question_or_the_first_paragraph(document):
    words = "Two models learn from the same log, through the same features. Which would you launch? "
    assert heads.description(document) == "", "nothing here is long enough"
    question = nodes.admonition("", nodes.title("", "The core question"), paragraph(words + "b" * 100), classes=["core-question"])
    document.append(section("last", "Last", paragraph("A paragraph of more than forty characters stands here."), question))
    assert heads.description(document) == words.strip()
    question["classes"] = []
    assert heads.description(document) == "A paragraph of more than forty characters stands here."


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("One. Two.", "One. Two."),
        ("Is it 1.5 times? Yes.", "Is it 1.5 times? Yes."),
        ("a" * 100 + ". " + "b" * 100 + ".", "a" * 100 + "."),
        ("word " * 60, ("word " * 31).strip() + "…"),
    ],
)
def test_a_description_fits(text, shown):
    assert heads.sentences(text) == shown
    assert len(shown) <= heads.DESCRIPTION[-1]


@pytest.mark.parametrize(
    ("environment", "url"),
    [
        ({}, ""),
        ({"SITE_URL": ""}, ""),
        ({"SITE_URL": "https://a.org/b"}, "https://a.org/b/"),
        ({"SITE_URL": "https://a.org/"}, "https://a.org/"),
    ],
)
def test_the_address_is_known_or_it_is_not(environment, url):
    assert heads.site_url(environment) == url


def test_the_version_is_that_of_the_commit_or_of_today(tmp_path):
    assert heads.version(tmp_path) == ("", datetime.date.today())
    run = ["git", "-C", tmp_path, "-c", "user.name=a", "-c", "user.email=a@b.c"]
    subprocess.run(["git", "init", "-q", tmp_path], check=True)
    assert heads.version(tmp_path) == ("", datetime.date.today())
    (tmp_path / "a").touch()
    subprocess.run([*run, "add", "a"], check=True)
    subprocess.run(
        [*run, "commit", "-qm", "a", "--date", "2024-02-03T10:00:00"], env={"GIT_COMMITTER_DATE": "2024-02-03T10:00:00"}, check=True
    )
    subprocess.run([*run, "tag", "v1"], check=True)
    assert heads.version(tmp_path) == ("v1", datetime.date(2024, 2, 3))
    assert heads.colophon(tmp_path) == 'Version v1, <time datetime="2024-02-03">3 February 2024</time>'


def test_a_sitemap_names_each_page_by_its_full_address():
    text = heads.sitemap("https://a.org/b/", ["index.html", "chapters/x.html"], datetime.date(2024, 2, 3))
    assert "<loc>https://a.org/b/chapters/x.html</loc><lastmod>2024-02-03</lastmod>" in text
    assert text.count("<url>") == 2


STYLES = (
    '.fa-bars:before,.fa-navicon:before{content:"\\f0c9"}.fa-ghost:before{content:"\\f6e2"}:root{--pst-icon-check:"\\f058"}'
    '@font-face{font-family:A;src:url(../vendor/fontawesome/webfonts/fa-solid-900.woff2) format("woff2"),'
    'url(../vendor/fontawesome/webfonts/fa-solid-900.ttf) format("truetype")}'
)


def test_only_the_icons_that_something_names_are_kept():
    used = '<span class="fa-solid fa-bars"></span>'
    assert weight.icons_of(STYLES, used) == {0xF0C9, 0xF058}
    kept = weight.with_icons(STYLES, used)
    assert "f0c9" in kept and "f058" in kept and "f6e2" not in kept
    assert kept.endswith('src:url(../vendor/fontawesome/webfonts/fa-solid-900.woff) format("woff")}')
    assert weight.icons_of(STYLES, used + "fa-ghost") == {0xF0C9, 0xF058, 0xF6E2}


def test_scripts_wait_for_the_text_but_for_the_one_that_a_line_reads():
    def mended(page):
        return weight.WAITING.sub(r"<script defer \1", weight.UNUSED.sub("", page))

    assert mended('<script src="../_static/a.js?v=1"></script>') == '<script defer src="../_static/a.js?v=1"></script>'
    kept = '<script src="_static/documentation_options.js"></script><script defer src="_static/b.js"></script><script>let a;</script>'
    assert mended(kept) == kept
    assert mended(mended('<script src="_static/a.js"></script>')) == '<script defer src="_static/a.js"></script>'
    assert mended('<script defer src="../_static/scripts/fontawesome.js?digest=5"></script>\n') == ""
    assert mended('<script src="../searchindex.js"></script>') == ""


def test_mathjax_comes_where_there_is_a_formula():
    script = '<script async="async" src="../_static/mathjax/tex-mml-chtml.js?v=1"></script>'
    assert weight.without_unused_math(f"<head>{script}</head>") == "<head></head>"
    page = f'<head>{script}</head><span class="math notranslate">x</span>'
    assert weight.without_unused_math(page) == page


def test_the_social_card_is_small():
    from PIL import Image

    path = ROOT / "_static" / heads.CARD
    assert path.stat().st_size < 60_000
    assert Image.open(path).size == (1200, 630)
