"""A mock interview is played and the question bank is used, in a real browser."""

import json

import pytest
from views import PHONE, WIDE, accessibility, opened, overflow, silence, third_parties, to_the_top

SIZES = {"wide": WIDE, "tablet": dict(width=820, height=1180), "phone": PHONE, "narrow": dict(width=320, height=640)}
CASE = "event_recommendation"


def begin(view, site, level="senior"):
    view.page.goto(f"{site}/pages/mock_interview.html")
    view.page.get_by_label("Case").select_option(CASE)
    view.page.get_by_label("Level").select_option(level)
    view.page.get_by_role("button", name="Begin", exact=True).click()


def kept(view):
    return json.loads(view.page.evaluate("localStorage.getItem('mlsd:interview')"))


def clean(view, scheme, size):
    """What is wrong at any width and in either theme. It ends as the page was."""
    to_the_top(view.page)  # the theme's button for it is no part of this page
    found = []
    for other in [name for name in SIZES if name != size] + [size]:
        view.seen(scheme, SIZES[other])
        found += [f"{other}: {fault}" for fault in [*overflow(view), *accessibility(view, contrast=False)]]
    for other in ("light" if scheme == "dark" else "dark", scheme):
        view.seen(other, SIZES[size])
        found += [f"{other}: {fault}" for fault in accessibility(view)]
    return [*found, *silence(view), *third_parties(view)]


@pytest.mark.parametrize(("size", "scheme"), [("wide", "light"), ("phone", "dark")])
def test_a_whole_interview_by_keyboard_with_a_reload_in_the_middle(browser, site, size, scheme):
    with opened(browser, f"{site}/pages/mock_interview.html", scheme, SIZES[size]) as view:
        page, press = view.page, view.page.keyboard.press
        assert clean(view, scheme, size) == []
        page.get_by_label("Case").focus()
        page.get_by_label("Case").select_option(CASE)
        for _ in range(2):
            press("Tab")
        press("Enter")  # Begin: the title of the case has the focus
        assert page.evaluate("document.activeElement.textContent") == "Event recommendation"
        page.get_by_label("Ask the interviewer").focus()
        for question in ("What counts as success?", "Who is the president?"):
            page.keyboard.type(question)
            press("Enter")
        heard = page.locator(".heard li").all_inner_texts()
        assert "I don't know" in heard[0] and "The door" in heard[1]  # the last one first
        page.get_by_label("Clarify, 6 min").focus()
        page.keyboard.type("attendance, not RSVPs")
        page.get_by_role("button", name="Change a requirement now").focus()
        press("Enter")
        assert page.evaluate("document.activeElement.textContent") == "A requirement changes"  # not the top of the page
        assert page.get_by_role("table").is_hidden()
        page.get_by_label("Your reaction").focus()
        page.keyboard.type("measure again")
        assert page.get_by_text("Measured here").is_hidden()
        page.get_by_role("button", name="What did the book measure?").focus()
        press("Enter")
        assert page.get_by_text("Measured here").is_visible()
        assert page.get_by_role("table").is_visible()
        page.get_by_role("button", name="Next follow-up").focus()
        press("Enter")
        assert "(senior)" in page.evaluate("document.activeElement.textContent")
        assert clean(view, scheme, size) == []
        before = kept(view)
        page.reload(wait_until="networkidle")
        assert page.get_by_label("Clarify, 6 min").input_value() == "attendance, not RSVPs"
        assert page.get_by_label("Your reaction").input_value() == "measure again"
        assert page.locator(".followups li").count() == 1
        assert kept(view) | {"running": True, "elapsed": before["elapsed"]} == before
        page.get_by_role("button", name="Close and grade").focus()
        press("Enter")
        ticks = page.locator("fieldset input")
        for i in range(ticks.count()):
            ticks.nth(i).focus()
            press("Space")
        assert "By these signals: staff" in page.locator(".verdict").inner_text()
        assert page.get_by_text("never asked").count()
        assert clean(view, scheme, size) == []
        with page.expect_download() as report:
            page.get_by_role("button", name="Save the report").click()
        text = report.value.path().read_text()
        assert "attendance, not RSVPs" in text and "measure again" in text and "Who is the president?" in text
        page.get_by_role("button", name="Back to the interview").click()
        page.get_by_role("button", name="Close and grade").click()
        page.get_by_role("button", name="Another case").click()  # the report of this grading was not saved
        page.get_by_role("button", name="Really?").wait_for()
        assert kept(view)["phase"] == "grade"


ASKED = {  # what a candidate asks in any case, and a word of the right answer in some of them
    "What is the goal of the product?": dict(framework="come back", event_recommendation="door", batch_and_online_serving="RSVPs"),
    "How many users are there?": dict(framework="million", video_search="billion", event_recommendation="Twenty million"),
    "Is any traffic random?": dict(framework="one request in twenty", video_search="One request in ten", personalised_news_feed="twelve"),
    "What about privacy and deletion requests?": dict(framework="30 days", ad_click_prediction="erased", video_recommendation="reset"),
    "What is there today, the baseline?": dict(visual_search="Thumbnails", video_search="Words", personalised_news_feed="latest first"),
    "Are there guardrail metrics?": dict(framework="hides", video_search="asked again", video_recommendation="Hides"),
    "When do we know the outcome?": dict(video_search="grade after days", ad_click_prediction="two weeks", event_recommendation="over"),
    "How many visits a day, and what orders the list today?": dict(event_recommendation="A rule"),
    "What is the budget for compute?": dict(framework="20 µs of CPU", visual_search="I don't know", batch_and_online_serving="core-hour"),
    "How large is the team?": dict(framework="I don't know"),
    "What is the p99 latency target?": dict(scale_and_cost="I don't know", video_search="200 ms", people_you_may_know="100 ms"),
    "What training data do we have, annotated pairs or clicks?": dict(video_search="labelling team"),
    "Do users search by text only, or also with an image?": dict(video_search="a text; ten videos"),
    "Which languages do we have to support?": dict(video_search="a hundred"),
    "Are connections symmetric?": dict(people_you_may_know="I don't know", video_search="I don't know"),
    "How many connections does a user have on average?": dict(people_you_may_know="200 ties each"),
    "What hardware do we have and what does it cost?": dict(scale_and_cost="4 cents"),
    "What availability do we need?": dict(scale_and_cost="starts it again"),
    "Is it batch or real time?": dict(scale_and_cost="four hours"),
    "How fast does traffic grow?": dict(scale_and_cost="100 million"),
    "How large is the model?": dict(scale_and_cost="I don't know", framework="I don't know"),
    "What does the model predict and who uses it?": dict(monitoring_and_retraining="satisfied"),
    "How many false alarms can the team tolerate?": dict(monitoring_and_retraining="four false"),
    "How quickly must a failure be noticed?": dict(monitoring_and_retraining="an 8% loss within days"),
    "What is the timeline and team size?": dict(framework="I don't know", video_search="I don't know", event_recommendation="I don't know"),
}


def test_the_interviewer_answers_what_is_asked(browser, site):
    with opened(browser, f"{site}/pages/mock_interview.html") as view:
        wrong = []
        for case in sorted({case for answers in ASKED.values() for case in answers}):
            view.page.get_by_label("Case").select_option(case)
            view.page.get_by_role("button", name="Begin", exact=True).click()
            for question in (question for question, answers in ASKED.items() if case in answers):
                view.page.get_by_label("Ask the interviewer").fill(question)
                view.page.get_by_role("button", name="Ask", exact=True).click()
                said = view.page.locator(".heard li").first.inner_text()
                wrong += [] if ASKED[question][case] in said else [f"{case}: {said}"]
            view.page.get_by_role("button", name="Leave").click()
            view.page.get_by_role("button", name="Really?").click()
        assert wrong == []


def test_a_double_click_or_a_held_key_on_leave_is_one_press(browser, site):
    with opened(browser, f"{site}/pages/mock_interview.html") as view:
        begin(view, site)
        view.page.get_by_label("Data, 8 min").fill("as of the impression")
        view.page.get_by_role("button", name="Leave").dblclick()
        assert kept(view)["notes"] == {"3 Data": "as of the impression"}
        view.page.reload()
        view.page.get_by_role("button", name="Leave").focus()
        for _ in range(5):
            view.page.keyboard.down("Enter")
        view.page.keyboard.up("Enter")
        assert kept(view)["notes"] == {"3 Data": "as of the impression"}
        view.page.get_by_role("button", name="Really?").press("Enter")
        assert kept(view)["phase"] == "choose"


@pytest.mark.parametrize("level", ["mid", "senior", "staff"])
def test_follow_ups_are_those_of_the_level_first(browser, site, level):
    with opened(browser, f"{site}/pages/mock_interview.html") as view:
        begin(view, site, level)
        for _ in range(2):
            view.page.get_by_role("button", name="Next follow-up").click()
        assert all(f"({level})" in text for text in view.page.locator(".followups li").all_inner_texts())


def test_an_interview_goes_out_as_a_file_and_comes_back(browser, site, tmp_path):
    with opened(browser, f"{site}/pages/mock_interview.html") as view:
        begin(view, site)
        view.page.get_by_label("Data, 8 min").fill("as of the impression")
        with view.page.expect_download() as saved:
            view.page.get_by_role("button", name="Save as a file").click()
        file = tmp_path / "interview.json"
        saved.value.save_as(file)
        view.page.get_by_role("button", name="Leave").click()
        view.page.get_by_role("button", name="Really?").click()
        view.page.locator("input[type=file]").set_input_files(file)
        view.page.get_by_label("Data, 8 min").wait_for()
        assert view.page.get_by_label("Data, 8 min").input_value() == "as of the impression"
        again = json.loads(file.read_text())
        assert {k: v for k, v in kept(view).items() if k not in ("elapsed", "running")} == {
            k: v for k, v in again.items() if k not in ("elapsed", "running")
        }


BROKEN = {
    "not json": "{",
    "old": '{"version": 0}',
    "other book": '{"version": 1, "phase": "talk", "case": "cars", "elapsed": 1, "asked": []}',
} | {
    f"damaged {part}": json.dumps(
        {"version": 1, "phase": "talk", "case": CASE, "level": "senior", "elapsed": 1, "asked": []} | {part: value}
    )
    for part, value in dict(
        asked=[None], elapsed="5", notes=None, opened=None, ticks=[1], level="boss", change="x", reaction=7, phase="lunch"
    ).items()
}


@pytest.mark.parametrize("how", BROKEN)
def test_a_state_that_cannot_be_read_is_put_aside_and_said(browser, site, how, tmp_path):
    with opened(browser, f"{site}/pages/mock_interview.html") as view:
        view.page.evaluate("text => localStorage.setItem('mlsd:interview', text)", BROKEN[how])
        view.page.goto("about:blank")
        view.page.goto(f"{site}/pages/question_bank.html")
        view.page.evaluate("text => localStorage.setItem('mlsd:interview', text)", BROKEN[how])
        view.page.goto(f"{site}/pages/mock_interview.html", wait_until="networkidle")
        assert "could not be read" in view.page.locator(".practice-message").inner_text()
        assert view.page.evaluate("localStorage.getItem('mlsd:interview:unread')") == BROKEN[how]
        with view.page.expect_download() as aside:
            view.page.get_by_role("button", name="Save what could not be read").click()
        assert aside.value.path().read_text() == BROKEN[how]
        file = tmp_path / "bad.json"
        file.write_text(BROKEN[how])
        view.page.locator("input[type=file]").set_input_files(file)
        view.page.get_by_text("Nothing was changed").wait_for()
        assert list(silence(view)) == []


def test_long_notes_are_seen_whole_on_the_screen_and_on_paper(browser, site):
    with opened(browser, f"{site}/pages/mock_interview.html") as view:
        begin(view, site)
        notes = view.page.get_by_label("Data, 8 min")
        empty = notes.bounding_box()["height"]
        notes.fill("as of the impression\n" * 30)
        for media in ("screen", "print"):
            view.page.emulate_media(media=media)
            assert notes.evaluate("(area) => area.scrollHeight <= area.clientHeight + 1"), media
        notes.fill("")
        view.page.emulate_media(media="screen")
        assert notes.bounding_box()["height"] == empty >= 60


def test_an_interview_of_an_older_edition_keeps_what_was_written(browser, site):
    with opened(browser, f"{site}/pages/mock_interview.html") as view:
        begin(view, site)
        view.page.get_by_label("Data, 8 min").fill("as of the impression")
        view.page.get_by_role("button", name="Next follow-up").click()
        old = kept(view) | {"edition": 1, "ticks": {"0": True}, "change": 99}
        view.page.goto("about:blank")
        view.page.goto(f"{site}/pages/question_bank.html")
        view.page.evaluate("text => localStorage.setItem('mlsd:interview', text)", json.dumps(old))
        view.page.goto(f"{site}/pages/mock_interview.html")
        assert "The book has changed" in view.page.locator(".practice-message").inner_text()
        assert view.page.get_by_label("Data, 8 min").input_value() == "as of the impression"
        assert not view.page.locator(".followups li").count()
        view.page.get_by_role("button", name="Close and grade").click()
        assert not view.page.locator("fieldset input:checked").count()
        assert list(silence(view)) == []


def test_two_tabs_do_not_write_over_each_other(browser, site):
    with opened(browser, f"{site}/pages/mock_interview.html") as view:
        begin(view, site)
        other = view.page.context.new_page()
        other.goto(f"{site}/pages/mock_interview.html")
        other.get_by_label("Data, 8 min").fill("of the second tab")
        view.page.get_by_text("goes on in another tab").wait_for()
        view.page.get_by_label("Data, 8 min").fill("of the first tab")
        view.page.close()
        assert json.loads(other.evaluate("localStorage.getItem('mlsd:interview')"))["notes"] == {"3 Data": "of the second tab"}


def test_beginning_in_a_second_tab_asks_before_it_ends_the_interview_of_the_first(browser, site, tmp_path):
    with opened(browser, f"{site}/pages/mock_interview.html") as view:
        other = view.page.context.new_page()
        other.goto(f"{site}/pages/mock_interview.html")
        begin(view, site)
        view.page.get_by_label("Data, 8 min").fill("of the first tab")
        file = tmp_path / "interview.json"
        file.write_text(json.dumps(kept(view) | {"notes": {}}))
        other.get_by_role("button", name="Begin", exact=True).dblclick()
        other.locator("input[type=file]").set_input_files(file)
        other.get_by_text("goes on in another tab").wait_for()
        assert kept(view)["notes"] == {"3 Data": "of the first tab"}
        other.get_by_role("button", name="Really? The interview in another tab").click()
        view.page.get_by_text("goes on in another tab").wait_for()
        assert kept(view)["notes"] == {}


def test_after_a_reload_a_tabs_own_last_words_are_no_other_tab(browser, site):
    with opened(browser, f"{site}/pages/mock_interview.html") as view:
        begin(view, site)
        view.page.add_init_script("window.found = localStorage.getItem('mlsd:interview')")
        view.page.reload()
        view.page.evaluate("dispatchEvent(new StorageEvent('storage', { key: 'mlsd:interview', newValue: found }))")
        view.page.get_by_label("Data, 8 min").fill("after the reload")
        assert kept(view)["notes"] == {"3 Data": "after the reload"}
        assert view.page.get_by_text("goes on in another tab").count() == 0


def test_a_browser_that_forbids_its_storage_says_so_on_each_screen(browser, site):
    with browser.new_context() as context:
        page = context.new_page()
        page.add_init_script("Object.defineProperty(window, 'localStorage', { get() { throw new Error('forbidden'); } })")
        page.goto(f"{site}/pages/mock_interview.html")
        page.get_by_role("button", name="Begin", exact=True).click()
        assert "keeps nothing" in page.locator(".practice-message").inner_text()
        page.get_by_role("button", name="Close and grade").click()
        assert "keeps nothing" in page.locator(".practice-message").inner_text()


def test_a_browser_that_keeps_nothing_says_so_and_goes_on(browser, site):
    with opened(browser, f"{site}/pages/mock_interview.html") as view:
        view.page.evaluate("() => { Storage.prototype.setItem = () => { throw new Error('full'); }; }")
        view.page.get_by_role("button", name="Begin", exact=True).click()
        assert view.page.get_by_label("Ask the interviewer").is_visible()
        assert "keeps nothing" in view.page.locator(".practice-message").inner_text()


def test_a_clock_that_slept_waits_and_asks(browser, site):
    with opened(browser, f"{site}/pages/mock_interview.html") as view:
        begin(view, site)
        view.page.evaluate("() => { const now = Date.now; Date.now = () => now() + 600_000; }")
        view.page.get_by_text("The clock waited 10:0").wait_for()
        assert kept(view)["elapsed"] < 60
        view.page.get_by_role("button", name="Count that time").click()
        assert view.page.locator(".time").inner_text().startswith("10:")


def test_a_clock_that_is_set_back_loses_nothing(browser, site):
    with opened(browser, f"{site}/pages/mock_interview.html") as view:
        begin(view, site)
        view.page.get_by_label("Data, 8 min").fill("as of the impression")
        view.page.evaluate("() => { const now = Date.now; Date.now = () => now() - 3_600_000; }")
        view.page.wait_for_function("document.querySelector('.time').textContent >= '0:02'")
        view.page.reload()
        assert view.page.get_by_label("Data, 8 min").input_value() == "as of the impression"


def test_the_interview_goes_on_behind_another_tab(browser, site):
    with opened(browser, f"{site}/pages/mock_interview.html") as view:
        begin(view, site)
        # A browser wakes a page that nobody sees once a minute.
        view.page.evaluate("""() => {
            const now = Date.now;
            Object.defineProperty(document, "hidden", { get: () => true });
            Date.now = () => now() + 60_000;
        }""")
        view.page.get_by_text("1:0").first.wait_for()
        assert view.page.locator(".slept").is_hidden()


def test_the_bank_filters_draws_and_hides_its_answers(browser, site):
    with opened(browser, f"{site}/pages/question_bank.html") as view:
        page = view.page
        page.locator(".questions > li").first.wait_for()
        assert not page.locator(".questions details[open]").count()
        everything = page.get_by_role("status").inner_text()
        page.get_by_label("Topic").select_option(CASE)
        page.get_by_label("Kind").select_option("exercise")
        assert page.get_by_role("status").inner_text() != everything
        assert {text.split(" · ")[1] for text in page.locator(".facts").all_inner_texts()} == {"Exercise"}
        page.get_by_role("button", name="Draw one").click()
        assert page.locator(".questions > li").count() == 1
        page.keyboard.press("Enter")
        link = page.get_by_role("link", name="Where it is settled")
        assert link.is_visible() and CASE in link.get_attribute("href")
        page.get_by_label("Kind").select_option("follow-up")
        page.get_by_role("button", name="Draw one").click()
        page.keyboard.press("Enter")
        assert page.get_by_role("link", name="Where it stands").is_visible()  # with the others, which measure nothing
        page.get_by_role("button", name="Show all that match").click()
        page.get_by_label("Words").fill("zebra crossing")
        assert page.get_by_role("status").inner_text().startswith("0 of")
        page.get_by_label("Words").fill("")
        assert clean(view, "light", "wide") == []


def test_filters_are_those_of_the_list_after_back(browser, site):
    with opened(browser, f"{site}/pages/question_bank.html") as view:
        view.page.get_by_label("Kind").select_option("exercise")
        shown = view.page.get_by_role("status").inner_text()
        view.page.goto(f"{site}/pages/plan.html")
        view.page.go_back()
        view.page.locator(".questions > li").first.wait_for()
        chosen = view.page.get_by_label("Kind").input_value()
        view.page.wait_for_function("(text) => document.querySelector('#bank [role=status]').textContent === text", arg=shown)
        assert chosen == "exercise"


def test_both_work_from_the_folder_without_a_server(browser, site):
    from views import SITE

    with browser.new_context() as context:
        page = context.new_page()
        page.goto((SITE / "pages" / "mock_interview.html").as_uri())
        page.get_by_role("button", name="Draw a case for me").click()
        page.get_by_label("Ask the interviewer").wait_for()
        page.goto((SITE / "pages" / "question_bank.html").as_uri())
        page.locator(".questions > li").first.wait_for()
