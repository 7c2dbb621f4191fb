"""Every diagram of the book has a drawing that can be read and is described; and what is missing is noticed."""

import re
import shutil

import nbformat
import pytest
from tiny_chapter import tiny_chapter

from press import ROOT, diagrams

DRAWINGS = sorted((ROOT / diagrams.FOLDER).glob("*.svg"))
SVG = (ROOT / diagrams.FOLDER / f"{diagrams.name_of(diagrams.all_diagrams()[0].source)}.svg").read_text


def faults(svg: str, kind: str = ""):
    """What is wrong with a drawing: of the column, for a "phone" or for a "slide"."""
    for tag in ("title", "desc"):
        found = re.search(rf"<{tag} id=\S+>(.*?)</{tag}>", svg, re.S)
        if not found or len(found[1].split()) < (1 if tag == "title" else 3):
            yield f"expected a <{tag}> in words"
    width, box = float(re.search(r' width="(\d+)"', svg)[1]), float(re.search(r'viewBox="\S+ \S+ (\S+)', svg)[1])
    if width > {"": diagrams.WIDE, "phone": diagrams.NARROW, "slide": diagrams.SLIDE}[kind][0] + 1:
        yield f"wider than its column: {width}"
    least = {"": diagrams.LEAST_TEXT, "phone": 0, "slide": diagrams.LEAST_ON_A_SLIDE}[kind]  # a phone opens it large
    if (text := diagrams.FONT_SIZE * width / box) < least - 0.1:
        yield f"text of {text:.1f} pixels"
    if re.search(r"<(?:style|script|foreignObject|image)\b|(?:href|src)=", svg):
        yield "more than shapes and text"
    if svg.count("<text") < 2:
        yield "there is no text in it"
    ids = re.findall(r' id="([^"]+)"', svg)
    yield from (f"{name} is there twice" for name in {i for i in ids if ids.count(i) > 1})
    yield from (f"no {name}" for name in re.findall(r"url\(#([^)]+)\)", svg) if name not in ids)


def test_every_diagram_is_drawn_and_every_drawing_is_of_one():
    assert [f"{d.page}, {d.heading}" for d in diagrams.missing()] == [], "run `make diagrams`"
    assert [path.name for path in diagrams.unused()] == [], "run `make diagrams`"


@pytest.mark.parametrize("path", DRAWINGS, ids=lambda path: path.stem)
def test_a_drawing_can_be_read(path):
    assert list(faults(path.read_text(), path.stem.partition("-")[2])) == []


@pytest.mark.parametrize(
    ("before", "after"),
    [
        (r"<title.*?</title>", ""),
        (r"<desc (\S+)>.*?</desc>", r"<desc \1></desc>"),
        (r' width="\d+"', ' width="1200"'),
        (r' width="\d+"', ' width="40"'),
        (r"</svg>", '<script src="x.js"></script></svg>'),
        (r"<text.*?</text>", ""),
        (r"<defs>.*?</defs>", ""),
        (r"</svg>", '<g id="twice"></g><g id="twice"></g></svg>'),
    ],
)
def test_a_fault_of_a_drawing_is_noticed(before, after):
    broken, n = re.subn(before, after, SVG(), flags=re.S)
    assert n and list(faults(broken))


@pytest.fixture
def book(tmp_path):
    (tmp_path / "chapters").mkdir()
    nbformat.write(tiny_chapter(), tmp_path / "chapters" / "tiny.ipynb")
    (tmp_path / diagrams.FOLDER).mkdir(parents=True)
    return tmp_path


def test_a_changed_diagram_is_missing_and_its_old_drawing_unused(book):
    (found,) = diagrams.missing(book)
    assert found == ("chapters/tiny", "Serve", "flowchart LR\n  log --> model")
    path = book / diagrams.FOLDER / f"{diagrams.name_of(found.source)}.svg"
    path.write_text("<svg></svg>")
    assert (diagrams.missing(book), diagrams.unused(book)) == ([], [])
    path.rename(path.with_name("0123456789ab.svg"))
    assert len(diagrams.missing(book)) == len(diagrams.unused(book)) == 1


def test_fences_are_found_with_their_heading_and_not_within_others():
    text = "# A\n```mermaid\nflowchart LR\n```\n## 6. Serve\n````text\n```mermaid\nno\n```\n````\n\n"
    text += "```python\n# no heading\n```\n```mermaid\nx\n```"
    assert list(diagrams.fences(text)) == [("A", "flowchart LR"), ("Serve", "x")]


def test_space_does_not_change_a_name_and_words_do():
    assert diagrams.name_of("a --> b  \n\n c") == diagrams.name_of("\na --> b\n c\n")
    assert diagrams.name_of("a --> b") != diagrams.name_of("a --> c")


def test_title_and_description_are_those_of_the_source():
    source = "flowchart LR\n  accTitle: From log to model\n  accDescr {\n    The log\n    trains it.\n  }\n  a --> b"
    assert diagrams.accessible(source) == ("From log to model", "The log trains it.")
    assert diagrams.accessible("flowchart LR\n  accDescr: One line.") == ("", "One line.")


def test_a_drawing_that_is_there_twice_has_its_own_ids(book):
    source = "flowchart LR\n  log --> model"
    assert diagrams.drawing(source, book) is None
    name = diagrams.name_of(source)
    (book / diagrams.FOLDER / f"{name}.svg").write_text(
        f'<svg class="drawn-diagram" aria-labelledby="t-{name}"><title id="t-{name}">A</title></svg>'
    )
    assert diagrams.drawing(source, book, again="-2").count(f'"t-{name}-2"') == 2


CHAIN = "flowchart TB\n  a[goal] --> b[labels] --> c[features] --> d[model] --> e[test] --> f[monitor]"


@pytest.mark.skipif(not shutil.which("chromium"), reason="Chromium is not installed: apt-get install chromium")
def test_a_whiteboard_is_drawn_once_more_and_lower_for_a_slide(book):
    whiteboard = diagrams.Diagram("chapters/tiny", diagrams.WHITEBOARD, CHAIN)
    assert diagrams.draw([whiteboard, whiteboard._replace(heading="Serve", source=CHAIN + " --> g")], book) == []
    assert len(list((book / diagrams.FOLDER).glob("*-slide.svg"))) == 1
    assert diagrams.on_a_slide(CHAIN, book).count("<svg") == 2  # it may be opened on a phone
    svg = (book / diagrams.FOLDER / f"{diagrams.name_of(CHAIN)}-slide.svg").read_text()
    assert list(faults(svg, "slide")) == []
    width, height = map(float, re.search(r'viewBox="\S+ \S+ (\S+) (\S+)"', svg).groups())
    assert width > 2 * height


def test_a_whiteboard_without_a_drawing_for_a_slide_is_missing(book, monkeypatch):
    whiteboard = diagrams.Diagram("chapters/tiny", diagrams.WHITEBOARD, CHAIN)
    monkeypatch.setattr(diagrams, "all_diagrams", lambda root: [whiteboard])
    name = diagrams.name_of(CHAIN)
    (book / diagrams.FOLDER / f"{name}.svg").write_text("<svg></svg>")
    assert diagrams.missing(book) == [whiteboard]
    (book / diagrams.FOLDER / f"{name}-slide.svg").write_text("<svg></svg>")
    assert (diagrams.missing(book), diagrams.unused(book)) == ([], [])


@pytest.mark.skipif(not shutil.which("chromium"), reason="Chromium is not installed: apt-get install chromium")
def test_it_draws(book):
    assert diagrams.draw(diagrams.missing(book), book) == []
    (path,) = (book / diagrams.FOLDER).glob("*.svg")
    svg = path.read_text()
    assert list(faults(svg)) == []
    assert "<title id=" in svg and "Serve</title>" in svg and "log → model." in svg
    assert diagrams.draw([diagrams.Diagram("p", "H", "flowchart LR\n  a -->")], book)[0].startswith("p, H: not drawn")
