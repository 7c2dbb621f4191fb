"""The choice follows from the table, the flip point is where the choice changes, and a card that its numbers refute is refused."""

import html
import json
import re

import numpy as np
import pandas as pd
import pytest
from IPython.core.interactiveshell import InteractiveShell
from IPython.utils.capture import capture_output

from mlsd import claims
from mlsd.decisions import Assumption, Cell, DecisionRefuted, choose_by, decision, decisions_so_far, find_flips, least, most
from mlsd.estimates import Estimate


@pytest.fixture(autouse=True)
def fresh_registry(monkeypatch):
    InteractiveShell.instance()
    monkeypatch.setattr(claims, "_said", {})


GOOD, POOR = Estimate(0.5, 0.4, 0.6), Estimate(0.2, 0.1, 0.3)
QUALITY = most("quality")


def options(a=GOOD, b=POOR, cost=(10.0, 1.0)):
    return pd.DataFrame({"quality": [a, b], "cost": list(cost)}, index=["large", "small"])


def decide(table=None, choose=QUALITY, **changes):
    arguments = dict(key="size", gives_up="money", flips_with=Cell("small", "quality", 0, 2)) | changes
    decision("Which <size>?", options() if table is None else table, choose, **arguments)


def card(**changes):
    with capture_output() as captured:
        decide(**changes)
    record = captured.outputs[0].data[claims.MIME]
    return record["chosen"], record, captured.outputs[0].data["text/html"]


# ---------- the choice ----------


def test_the_rule_chooses_and_the_card_says_why():
    chosen, record, page = card()
    assert chosen == "large" and record["runner_up"] == "small"
    assert "large: the most quality, by 0.300 [0.159, 0.441] over small" in page and "Which &lt;size&gt;?" in page
    assert '<tr class="chosen"><th scope="row">large' in page


def test_requirements_come_before_the_rule():
    chosen, record, _ = card(at_most={"cost": 5}, flips_with=Cell("large", "cost"))
    assert chosen == "small" and record["rule"] == "the most quality, with cost at most 5"
    assert record["flip"]["points"][0]["at"] == pytest.approx(5) and record["flip"]["points"][0]["then"] == "large"
    with pytest.raises(DecisionRefuted, match="no option meets the requirements"):
        decide(at_most={"cost": 0.5})


def test_where_the_first_rule_cannot_tell_the_next_decides():
    close = options(b=Estimate(0.45, 0.35, 0.55))
    chosen, record, page = card(table=close, choose=most("quality", unless_tied=least("cost")), flips_with=Cell("small", "cost"))
    assert chosen == "small" and "quality cannot tell it from large, and it has the least cost" in page
    assert record["rule"] == "the most quality; where that cannot be told apart, the least cost"


def test_a_paired_column_is_given_as_differences():
    """Against one of the options, whose own entry is exactly zero: the tie is judged by the interval of the difference."""
    table = pd.DataFrame({"lift": [Estimate.exact(0), Estimate(0.02, 0.01, 0.03)]}, index=["old", "new"])
    assert choose_by(most("lift"), table).chosen == "new" and not choose_by(most("lift"), table).tied


def test_one_option_is_no_tie():
    assert choose_by(most("quality"), options().iloc[:1]).chosen == "large"


# ---------- what is refused ----------


def test_a_tie_is_refused_unless_the_card_says_open():
    close = options(b=Estimate(0.45, 0.35, 0.55))
    with capture_output(), pytest.raises(DecisionRefuted, match="quality cannot tell large from small"):
        decide(table=close)
    chosen, record, page = card(table=close, open_because="a longer test would tell")
    assert chosen == "large" and record["open"] and not record["faults"] and "Open" in page


def test_a_flip_within_the_noise_is_refused():
    with capture_output(), pytest.raises(DecisionRefuted, match="within the interval of what was measured"):
        decide(table=options(cost=(Estimate(4, 3, 6), 1.0)), at_most={"cost": 5}, choose=most("quality"), flips_with=Cell("large", "cost"))


def test_a_requirement_inside_an_interval_is_a_tie():
    table = options(cost=(Estimate(4, 3, 6), 1.0))
    with capture_output(), pytest.raises(DecisionRefuted, match="includes the bound 5, and the choice hangs on it"):
        decide(table=table, at_most={"cost": 5})


def test_the_end_of_a_grid_is_refused_unless_it_ends_there():
    grid = pd.DataFrame({"cost": [1.0, 2.0, 3.0]}, index=[1, 2, 4])
    with capture_output(), pytest.raises(DecisionRefuted, match="1 is the last of the grid"):
        decide(table=grid, choose=least("cost"), flips_with=Cell(1, "cost"))
    card(table=grid, choose=least("cost"), flips_with=Cell(1, "cost"), grid_ends="a fraction of a replica cannot be had")
    inner = pd.DataFrame({"cost": [2.0, 1.0, 3.0, 0.5]}, index=["weekly", "daily", "hourly", "never"])
    with capture_output(), pytest.raises(DecisionRefuted, match="daily is the last"):
        decide(table=inner.iloc[:3], choose=least("cost"), flips_with=Cell("daily", "cost"), grid=[30, 1, 7])
    card(table=inner, choose=least("cost"), flips_with=Cell("daily", "cost"), grid=[7, 1, 1 / 24, float("nan")])


def test_what_flips_nothing_is_no_flip():
    with capture_output(), pytest.raises(DecisionRefuted, match="never changes the choice"):
        decide(flips_with=Cell("small", "cost"))


def test_a_card_whose_assumption_gives_another_table_is_refused():
    other = Assumption("visits", "visits a day", 10, 1, 1000, lambda v: options(b=Estimate(0.9, 0.8, 1.0)) if v < 500 else options())
    with capture_output(), pytest.raises(DecisionRefuted, match="the table gives small, the card large"):
        decide(flips_with=other)


def test_recording_does_not_raise(monkeypatch):
    monkeypatch.setenv("MLSD_CLAIMS", "record")
    _, record, page = card(table=options(b=Estimate(0.45, 0.35, 0.55)))
    assert record["faults"] and "Refuted" in page


@pytest.mark.parametrize("changes", [dict(choose=most("speed")), dict(units={"speed": "ms"}), dict(at_most={"speed": 1})])
def test_names_that_are_not_in_the_table_are_refused(changes):
    with pytest.raises(ValueError, match="expected columns"):
        decide(**changes)


# ---------- the flip ----------


def test_the_flip_is_where_the_choice_changes():
    _, record, page = card()
    (point,) = record["flip"]["points"]
    assert point == dict(at=pytest.approx(0.5), then="small", above=True)
    assert "to small above 0.500 of quality of small (now 0.200)" in page


def test_flips_are_found_on_both_sides():
    flips = find_flips(lambda x: "low" if x < 3 else "mid" if x < 40 else "high", 10, 1, 100)
    assert [(f.then, round(f.at, 6)) for f in flips] == [("low", 3), ("high", 40)]


def test_an_assumption_carries_its_sweep():
    def at(visits):
        return pd.DataFrame({"cost": [100.0, visits * 2]}, index=["online", "batch"])

    traffic = Assumption("visits", "visits a day", now=200, low=1, high=1000, options_at=at)
    chosen, record, page = card(table=at(200), choose=least("cost"), flips_with=traffic, units={"cost": "$"})
    steps = json.loads(html.unescape(re.search(r'data-steps="(.*?)"', page)[1]))
    assert [step["rows"][1][1] for step in steps if step["now"]] == ["$400"] and '<tr class="now">' in page
    assert chosen == "online" and record["flip"]["points"] == [dict(at=pytest.approx(50), then="batch", above=False)]
    assert {row["chosen"] for row in record["sweep"]} == {"online", "batch"}
    assert 200 in [row["value"] for row in record["sweep"]] and record["sweep"][0]["options"]["index"] == ["online", "batch"]


def test_a_recorded_run_goes_on_where_no_option_meets_the_requirements(monkeypatch):
    monkeypatch.setenv("MLSD_CLAIMS", "record")
    chosen, record, page = card(at_most={"cost": 0.5})
    assert chosen == "none" and "no option meets the requirements" in record["faults"][0] and record["faults"][0] in page
    with capture_output() as captured:
        decisions_so_far()
    assert "nothing that was tried would change it" in captured.outputs[0].data["text/html"]


def test_nothing_that_meets_the_requirements_is_a_flip_too():
    def at(budget):
        return pd.DataFrame({"p99": [50.0, 80.0], "spare": [budget - 50.0, budget - 80.0]}, index=["fast", "slow"])

    budget = Assumption("the latency budget", "ms", now=100, low=10, high=100, options_at=at)
    _, record, page = card(table=at(100), choose=least("p99"), at_least={"spare": 0}, flips_with=budget)
    assert record["flip"]["points"] == [dict(at=pytest.approx(50), then=None, above=False)] and "none of these" in page


def test_all_cards_in_one_table_once_each():
    with capture_output() as captured:
        decide()
        decide()
        decisions_so_far()
    assert captured.outputs[-1].data["text/html"].count("Which &lt;size&gt;?") == 1


# ---------- what an attack found ----------


def test_an_uncertain_leader_does_not_let_in_what_the_next_one_beats():
    quality = [Estimate(0.5, 0.2, 0.8), Estimate(0.49, 0.485, 0.495), Estimate(0.3, 0.295, 0.305)]
    table = pd.DataFrame({"quality": quality, "cost": [9, 5, 1]}, index=["noisy", "good", "cheap"])
    assert choose_by(most("quality", unless_tied=least("cost")), table).chosen == "good"


def test_floating_point_noise_breaks_no_tie():
    table = pd.DataFrame({"cost": [0.1 + 0.2, 0.3], "quality": [2, 1]}, index=["a", "b"])
    assert choose_by(least("cost", unless_tied=most("quality")), table).chosen == "a"


def test_open_excuses_doubt_and_no_error():
    grid = pd.DataFrame({"cost": [1.0, 2.0, 3.0]}, index=[1, 2, 4])
    with capture_output(), pytest.raises(DecisionRefuted, match="1 is the last of the grid"):
        decide(table=grid, choose=least("cost"), flips_with=Cell(1, "cost"), open_because="so it is")
    with capture_output(), pytest.raises(DecisionRefuted, match="cannot tell"):
        decide(table=options(b=Estimate(0.45, 0.35, 0.55)), open_because=" ")


def test_the_table_of_the_assumption_is_that_of_the_card():
    def at(visits):
        return pd.DataFrame({"cost": [100.0, visits * 2]}, index=["online", "batch"])

    traffic = Assumption("visits", "visits a day", now=200, low=1, high=1000, options_at=at)
    with capture_output(), pytest.raises(DecisionRefuted, match="another table than the card's"):
        decide(table=at(210), choose=least("cost"), flips_with=traffic)


def test_an_option_that_is_out_for_certain_casts_no_doubt():
    table = pd.DataFrame({"q": [0.9, 0.5], "cost": [100, 1], "p99": [Estimate(50, 40, 60), 20]}, index=["big", "small"])
    limits = dict(at_most={"cost": 5, "p99": 55})
    assert card(table=table, choose=most("q"), flips_with=Cell("big", "cost"), **limits)[0] == "small"


def test_a_change_within_one_step_is_found_where_the_table_points():
    table = pd.DataFrame({"u": [0.79, 0.70]}, index=["a", "b"])
    _, record, _ = card(table=table, choose=most("u"), at_most={"u": 0.8}, flips_with=Cell("b", "u"))
    assert record["flip"]["points"][0] == dict(at=pytest.approx(0.79), then="b", above=True)


def test_an_error_in_an_assumption_is_no_flip():
    def at(value):
        return pd.DataFrame({"cost": [100.0, float("nan") if value < 50 else 200.0]}, index=["a", "b"])

    with pytest.raises(ValueError, match="expected finite"):
        decide(table=at(100), choose=least("cost"), flips_with=Assumption("x", "u", 100, 10, 100, at))


def test_records_hold_no_numpy():
    def at(visits):
        return pd.DataFrame({"cost": [100.0, visits * 2]}, index=["online", "batch"])

    traffic = Assumption("visits", "visits a day", np.int64(200), 1, 1000, at)
    _, record, _ = card(table=at(200), choose=least("cost"), flips_with=traffic)
    assert json.loads(json.dumps(record)) == record


def test_one_key_has_one_question():
    with capture_output(), pytest.raises(ValueError, match="two decisions have it"):
        decide()
        decision("Another?", options(), QUALITY, key="size", gives_up="money", flips_with=Cell("small", "quality", 0, 2))
