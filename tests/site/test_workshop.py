"""The workshop: a plan that does not fit is refused; on the built site every sheet adds up and slides say what chapters say."""

import re

import pytest
from bs4 import BeautifulSoup
from sphinx.errors import SphinxError
from tiny_chapter import tiny_chapter, tiny_lab

import pages
from press import ROOT, cache, slides, workshop
from press.front import plain
from press.notebooks import markdown
from press.practice import LEVELS, Places
from press.records import records
from press.workshop import items_of, timetable

SITE = ROOT / "_build" / "html"
CHAPTERS = sorted(path.stem for path in (ROOT / "chapters").glob("*.ipynb"))
TINY = {"tiny": tiny_chapter(), "labs/tiny_lab": tiny_lab()}


# ---------- plans ----------


def test_times_follow_from_what_pages_declare_and_lunch_counts_to_no_length():
    morning = "talk 10 Welcome to [all](x.md)\nchapter tiny\nlab tiny_lab\nbreak 15\nchapter 25 tiny: Frame; How it is graded\n"
    plan = f"{morning}lunch 60\nlab 30 tiny_lab"
    slots = timetable(items_of(plan, TINY), [105])
    assert [slot.starts for slot in slots] == [0, 10, 15, 35, 50, 75, 135]
    assert slots[4].item.sections == ("Frame", "How it is graded")
    assert [workshop.clock(9 * 60, slot.starts) for slot in slots[-2:]] == ["10:15", "11:15"]


def test_days_are_each_held_to_their_length():
    slots = timetable(items_of("talk 30 A\nday\ntalk 40 B", TINY), [30, 40])
    assert [(slot.day, slot.starts) for slot in slots] == [(0, 0), (1, 0)]


REFUSED = {
    "too long": ("talk 60 A\nbreak 15\ntalk 50 B", "takes 125 minutes, and 120 are there: 5 too long"),
    "the second day too long": ("talk 60 A\nday\ntalk 80 B\nbreak 5\ntalk 40 C", "day 2 of the run sheet takes 125"),
    "an unknown lab": ("lab tiny_lap", "no lab named 'tiny_lap'; there are tiny_lab"),
    "an unknown chapter": ("chapter tony", "no chapter named 'tony'; there are tiny"),
    "an unknown section": ("chapter 10 tiny: Fame", "tiny has no section 'Fame'; there are Clarify, Frame"),
    "no break": ("talk 60 A\nlab tiny_lab\ntalk 15 B", "95 minutes without a break up to the end of 'B': expected at most 90"),
    "a lab cut short": ("lab 10 tiny_lab", "declares 20 minutes, and the sheet gives it 10"),
    "a part without minutes": ("chapter tiny: Frame", "expected minutes"),
    "a talk without minutes": ("talk about it", "expected minutes"),
    "a talk about nothing": ("talk 10", "what the talk is about"),
    "an unknown kind": ("pause 10", "expected one of talk, chapter, lab, break, lunch, day"),
    "a day too many": ("talk 10 A\nday\ntalk 10 B\nday\ntalk 10 C", "expected 2 days, one for each length, found 3"),
}


@pytest.mark.parametrize("case", REFUSED)
def test_a_plan_that_cannot_be_is_refused_in_plain_words(case):
    plan, told = REFUSED[case]
    lengths = [120, 120] if "day" in plan.split() else [120]
    with pytest.raises(SphinxError, match=re.escape(told)):
        timetable(items_of(plan, TINY), lengths)


@pytest.mark.parametrize(("text", "minutes"), [("9:00", 540), ("13:30", 810)])
def test_a_start_is_a_time(text, minutes):
    assert workshop.start_of_day(text) == minutes
    for wrong in ("9", "25:00", "9:60", "nine"):
        with pytest.raises(ValueError, match="expected a time"):
            workshop.start_of_day(wrong)


@pytest.mark.parametrize(
    ("words", "minutes"), [("Twenty minutes.", 20), ("About fifteen minutes.", 15), ("It takes 35 minutes.", 35), ("", 20)]
)
def test_a_lab_declares_its_minutes_in_words_or_not(words, minutes):
    lab = tiny_lab()
    lab.cells[0].source += f"\n\n{words}"
    assert workshop.minutes_of(lab) == minutes


@pytest.mark.parametrize(
    ("level", "least"), [("mid to staff", 0), ("senior", 1), ("staff; see [status](x.md)", 2), ("intermediate", 0), ("", 0)]
)
def test_a_level_is_the_first_that_is_named(level, least):
    assert workshop.least_level(level) == least


@pytest.mark.parametrize("level", LEVELS)
@pytest.mark.parametrize(("days", "minutes"), [(7, 120), (2, 300), (1, 90)])
def test_a_reading_plan_keeps_to_its_days_and_begins_with_the_framework(level, days, minutes):
    known = workshop.known_pages(ROOT)
    plan, left = workshop.reading_plan(known, level, days, minutes)
    read = [reading.page for today in plan for reading in today if reading.page]
    assert len(plan) == days and read[0] == workshop.FIRST and len(set(read)) == len(read)
    assert all(sum(reading.minutes for reading in today) <= minutes for today in plan)
    assert plan[-1][-1] == workshop.Reading("", workshop.INTERVIEW)
    assert {*read, *left} >= {*workshop.order(known, level)}


def test_a_mid_reader_is_given_cases():
    """Most cases are marked senior: their prompts are asked at each level, so they come after those for mid, and before production."""
    known = workshop.known_pages(ROOT)
    plan, _ = workshop.reading_plan(known, "mid", 7, 120)
    read = [page for today in plan for page, _ in today if page in CHAPTERS and page != workshop.FIRST]
    assert len(read) >= 4 and {workshop.kind_of(known[page]) for page in read} == {"case"}
    assert [set(workshop.order(known, level)) for level in LEVELS] == [set(CHAPTERS)] * 3


def test_a_day_that_is_too_short_for_any_chapter_is_refused():
    with pytest.raises(SphinxError, match="a day of 30 minutes is too short"):
        workshop.reading_plan(workshop.known_pages(ROOT), "mid", 7, 30)


def test_what_a_lab_asks_is_found_in_its_sections():
    lab = tiny_lab()
    assert workshop.to_change(lab) == "Make it two." and workshop.to_close(lab) == ""
    lab.cells[4].source = "## Change\n\n### What if it were two?\n\nWords."
    lab.cells[5].source = "## Discuss\n\n* **Is it one?** In [some](../x.ipynb)\n  worlds.\n* Or two?"
    assert workshop.to_change(lab) == "What if it were two?"
    assert workshop.without_links(workshop.to_close(lab)) == "**Is it one?** In some worlds."


# ---------- slides ----------


def test_a_chapter_without_figures_or_outputs_has_slides():
    soup = BeautifulSoup(slides.deck(TINY["tiny"], Places([], "../chapters/tiny.html"), ROOT), "html.parser")
    assert [slide["class"][1] for slide in soup.select(".slide")] == ["title", "prompt", "core", "predict", "remember"]
    assert not soup.select("img") and soup.select_one(".predict .answer").get_text()


def test_a_decision_is_said_in_the_words_of_its_card():
    lines = ["Decision: Which?", "  cost", "a   1", "We choose a: the least cost, 1.", "It costs <time>."]
    text = "\n".join([*lines, "We would switch to b above 2 of traffic (now 1)."])
    said = slides.decision({"data": {"text/plain": text}})
    pairs = re.findall(r"<dt>(.*?)</dt><dd>(.*?)</dd>", said)
    assert [what for what, _ in pairs] == ["We choose", "It costs", "We would switch"]
    assert pairs[1][1] == "&lt;time&gt;" and pairs[2][1] == "to b above 2 of traffic (now 1)"


def test_the_whiteboard_comes_with_the_answer_aloud():
    chapter = tiny_chapter()
    cell = next(cell for cell in chapter.cells if cell.source.startswith("**What to remember**"))
    cell.source = f"> I count first.\n> Then I rank.\n\n```mermaid\nflowchart LR\n  a --> b\n```\n\n{cell.source}"
    said = slides.answer_aloud(chapter)
    assert "I count first." in said and "flowchart" not in said and "One is more" not in said


def test_a_slide_knows_its_section():
    deck = list(slides.slides(TINY["tiny"], Places([], "../chapters/tiny.html"), ROOT))
    assert slides.numbers_of(deck, "Clarify") == [2] and slides.numbers_of(deck, "Data") == [4]
    assert slides.numbers_of(deck, "The whiteboard") == [5] and slides.numbers_of(deck, "Frame") == []


def words(element):
    return " ".join(element.get_text(" ").split())


def faults(path, notebook):
    """What slides lack of their chapter, and where they lead to nothing."""
    pages.soup.cache_clear()
    soup = pages.soup(path)
    said = words(soup.main)
    yield from (f"no claim: {c['key']}" for c in records(notebook, "claim") if " ".join(c["sentence"].rstrip(".").split()) not in said)
    for card in records(notebook, "decision"):
        yield from (f"not of {card['key']}: {part}" for part in (card["question"], card["chosen"], card["gives_up"]) if part not in said)
    yield from (f"no answer: {words(slide)[:60]}" for slide in soup.select(".predict") if not slide.select_one(".answer"))
    yield from ("a figure without alternative text" for image in soup.select("img") if len(image.get("alt", "").split()) < 5)
    for wanted in (".prompt .body p", ".core .body p", ".whiteboard svg", ".whiteboard .notes p", ".remember li"):
        if not soup.select(wanted):
            yield f"no {wanted}"
    if raw := re.search(r":::|```|\{\w+\}`|\*\*", said):
        yield f"raw markup: {raw[0]}"
    site = path.parent.parent
    for rule in (pages.links, pages.third_parties, pages.weight, pages.structure):
        yield from rule(site, path)


@pytest.fixture(scope="module")
def executed():
    opened = cache.open_cache(ROOT)
    return {name: cache.executed(ROOT / "chapters" / f"{name}.ipynb", opened) for name in CHAPTERS}


@pytest.mark.parametrize("name", CHAPTERS)
def test_slides_say_what_their_chapter_says(executed, name):
    path = SITE / "slides" / f"{name}.html"
    assert list(faults(path, executed[name])) == []
    shown = [cell for cell in executed[name].cells if slides.picture_of(cell)]
    assert len(pages.soup(path).select(".figure img")) == len(shown)
    headings = {plain(text) for text in re.findall(r"^## (?:\d+\. )?(.+)$", markdown(executed[name]), re.M)}
    deck = list(slides.slides(executed[name], Places([], f"../chapters/{name}.html"), ROOT))
    inside = [slide for slide in deck if slide.kind in ("predict", "figure", "claim", "decision")]
    assert {"claim", "decision"} <= {slide.kind for slide in inside} and {slide.section for slide in inside} <= headings


@pytest.mark.parametrize(
    ("before", "after"),
    [
        (r'<p class="sentence">.*?</p>', ""),
        (r"<dd>.*?</dd>", ""),
        (r'<div class="answer">.*?</div>', ""),
        (r'alt="[^"]*"', 'alt=""'),
        (r'<section class="slide whiteboard".*?</section>', ""),
        (r"#clarify", "#clarity"),
        (r"<h2>Predict", "<h2>**Predict**"),
        (r"</header>", '<script src="https://cdn.example.org/x.js"></script></header>'),
        (r"</h1>", "</h1><h1>Again</h1>"),
    ],
)
def test_a_fault_of_slides_is_noticed(executed, tmp_path, before, after):
    text, n = re.subn(before, after, (SITE / "slides" / "framework.html").read_text(), count=1, flags=re.S)
    for folder in ("chapters", "pages"):
        (tmp_path / folder).symlink_to(SITE / folder)
    (tmp_path / "index.html").symlink_to(SITE / "index.html")
    (tmp_path / "slides").mkdir()
    (tmp_path / "slides" / "framework.html").write_text(text)
    assert n and list(faults(tmp_path / "slides" / "framework.html", executed["framework"]))


# ---------- the built page ----------


def minutes(text):
    hours, rest = text.split(":")
    return 60 * int(hours) + int(rest)


def test_every_sheet_adds_up_and_is_as_long_as_it_says():
    source = (ROOT / "pages" / "workshop.md").read_text()
    lengths = [int(n) for argument in re.findall(r"^```\{run-sheet\} ([\d ]+)$", source, re.M) for n in argument.split()]
    sheets = pages.soup(SITE / "pages" / "workshop.html").select(".run-sheet")
    assert len(sheets) == len(lengths) >= 5
    for sheet, length in zip(sheets, lengths, strict=True):
        rows = [[words(cell) for cell in row.select("td")] for row in sheet.select("tbody tr")]
        starts, took = [minutes(at) for at, _, _ in rows], [int(m) for _, m, _ in rows]
        assert [start + m for start, m in zip(starts, took, strict=True)][:-1] == starts[1:]
        ends = starts[-1] + took[-1]
        assert f"Ends at {ends // 60}:{ends % 60:02d}" in words(sheet)
        lunch = sum(m for m, (*_, what) in zip(took, rows, strict=True) if what.startswith("Lunch"))
        assert length - 15 <= ends - starts[0] - lunch <= length


def test_a_section_of_a_sheet_leads_to_its_slides():
    page = pages.soup(SITE / "pages" / "workshop.html")
    links = page.select('.run-sheet a[href^="../slides/"]')
    numbered = [link for link in links if "#" in link["href"]]
    assert len(numbered) > 15
    for link in numbered:
        deck, place = link["href"].removeprefix("../").split("#")
        assert place == f"slide-{link.get_text()}" and pages.soup(SITE / deck).find(id=place)


def test_a_container_is_made_as_binder_is_tried():
    """The commands of the page are those of press/binder.sh, which `make test-binder` runs."""
    recipe = re.search(r"^```sh\n(docker run .+?)^```", (ROOT / "pages" / "workshop.md").read_text(), re.M | re.S)[1]
    tried = (ROOT / "press" / "binder.sh").read_text()
    assert (ROOT / "runtime.txt").read_text().strip().replace("-", ":") in recipe
    for command in (
        "apt-get update",
        "xargs --arg-file=apt.txt apt-get install",
        "--requirement requirements.txt",
        "./postBuild",
        "jupyter lab",
    ):
        assert command in recipe and command in tried, command


def test_each_lab_of_a_sheet_has_its_guide():
    page = pages.soup(SITE / "pages" / "workshop.html")
    labs = {link["href"] for link in page.select('.run-sheet a[href^="#lab-"]')}
    assert labs
    for lab in labs:
        guide = page.find(id=lab[1:])
        told = words(guide)
        assert [part for part in ("Ask before.", "Change.", "Where it sticks.", "Drop first.", "Close with.") if part not in told] == []
        assert guide.select("details li strong") and guide.select('a[href*="chapters/labs/"]')


def test_slides_and_plans_are_led_to():
    page = pages.soup(SITE / "pages" / "workshop.html")
    decks = {link["href"].partition("#")[0] for link in page.select('a[href^="../slides/"]')}
    assert decks == {f"../slides/{name}.html" for name in CHAPTERS}
    plans = pages.soup(SITE / "pages" / "plan.html").select(".reading-plan")
    assert len(plans) == 2 * len(LEVELS)
    assert all(plan.select('a[href="../chapters/framework.html"]') for plan in plans)
