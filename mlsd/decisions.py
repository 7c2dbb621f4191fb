"""Decisions that can fail: the choice follows from the table by a stated rule, and the point at which it flips is computed.

A card is refused (DecisionRefuted) where its own numbers do not carry it:
* the rule cannot tell the chosen option from the next one, and the card does not say that it is open;
* the flip lies within the interval of what was measured, and the card does not say that it is open;
* the chosen option is the last of a grid, and the card does not say why the grid ends there.
"""

from __future__ import annotations

import html
import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd
from IPython.display import HTML, display

from mlsd import claims
from mlsd.estimates import Estimate, independent_difference
from mlsd.tables import number, shown, to_html, to_text

_STEPS = 120  # of the grid on which a flip is looked for
_HALVINGS = 40  # and of the search within the step where it lies


class NothingMeets(ValueError):
    """No option meets the requirements."""


class DecisionRefuted(AssertionError):
    """A decision card whose own numbers do not carry it."""


# ---------- the rule ----------


@dataclass(frozen=True)
class Rule:
    """Take the option with the most (or least) in a column; among those that it cannot tell apart, the next rule decides."""

    column: str
    most: bool
    unless_tied: Rule | None = None

    def __str__(self) -> str:
        first = f"the {'most' if self.most else 'least'} {self.column}"
        return first if self.unless_tied is None else f"{first}; where that cannot be told apart, {self.unless_tied}"


def most(column: str, unless_tied: Rule | None = None) -> Rule:
    """The option with the largest value in `column`."""
    return Rule(column, True, unless_tied)


def least(column: str, unless_tied: Rule | None = None) -> Rule:
    """The option with the smallest value in `column`."""
    return Rule(column, False, unless_tied)


@dataclass(frozen=True)
class Choice:
    """What a rule takes from a table. `tied`: options that it could not tell from the chosen one, and nothing broke the tie."""

    chosen: object
    runner_up: object | None
    margin: Estimate | None  # by how much the chosen one leads in the column that decided
    decided_by: str
    tied: tuple = ()


def _estimate(value: object) -> Estimate:
    return value if isinstance(value, Estimate) else Estimate.exact(value)


def choose_by(rule: Rule, options: pd.DataFrame) -> Choice:
    """Apply a rule. Two options are tied if the interval of their difference includes zero.

    The difference is taken as that of independent estimates: give the column as differences from one of the options
    (whose own entry is exactly zero) where the measurements are paired.
    """
    value = options[rule.column].map(_estimate)
    order = value.map(lambda e: e.value).sort_values(ascending=not rule.most, kind="stable").index
    best = order[0]

    def lead(over: object, of: object = best) -> Estimate:
        difference = independent_difference(value[of], value[over])
        return difference if rule.most else -difference

    def beaten(one: object, by: object) -> bool:
        return lead(one, by).low > 1e-9 * max(abs(value[one].value), abs(value[by].value))

    # Tied are those that nothing beats: an uncertain leader does not let in what the next one beats.
    tied = [other for k, other in enumerate(order[1:], 1) if not any(beaten(other, by) for by in order[:k])]
    if not tied or len(options) == 1:
        runner_up = order[1] if len(order) > 1 else None
        return Choice(best, runner_up, None if runner_up is None else lead(runner_up), rule.column)
    if rule.unless_tied is None:
        return Choice(best, tied[0], lead(tied[0]), rule.column, tuple(tied))
    return choose_by(rule.unless_tied, options[options.index.isin([best, *tied])])


def _decide(rule: Rule, options: pd.DataFrame, at_least: Mapping[str, float], at_most: Mapping[str, float]) -> tuple[Choice, pd.Series]:
    """The choice among the options that meet the requirements, and which do. Raises ValueError if none does."""
    fits = pd.Series(True, options.index)
    for sign, bounds in ((1, at_least), (-1, at_most)):
        for column, bound in bounds.items():
            fits &= options[column].map(lambda v, sign=sign, bound=bound: sign * (_estimate(v).value - bound) >= 0)
    if not fits.any():
        raise NothingMeets(f"no option meets the requirements at_least={dict(at_least)}, at_most={dict(at_most)}")
    return choose_by(rule, options[fits]), fits


# ---------- what would flip it ----------


@dataclass(frozen=True)
class Cell:
    """The flip is looked for by moving one measured number of the table, all else equal.

    low, high: how far it is moved; by default from a thousandth to a thousand times what was measured (for a number
    that is not positive, by a thousand times the largest number of its column to each side).
    """

    option: object
    column: str
    low: float | None = None
    high: float | None = None


@dataclass(frozen=True)
class Assumption:
    """The flip is looked for by moving an assumption of the prompt: traffic, a price, a budget, a delay.

    what, unit: the assumption in words; now: its value in this chapter; low, high: how far it is moved;
    options_at: assumption -> the table of options, computed anew. The reader moves it on the page.
    """

    what: str
    unit: str
    now: float
    low: float
    high: float
    options_at: Callable[[float], pd.DataFrame]

    def __post_init__(self) -> None:
        if not self.low <= self.now <= self.high:
            raise ValueError(f"{self.what}: expected low <= now <= high, found {self.low}, {self.now}, {self.high}")


def _moved(options: pd.DataFrame, cell: Cell) -> Callable[[float], pd.DataFrame]:
    was = _estimate(options.loc[cell.option, cell.column])

    def at(value: float) -> pd.DataFrame:
        table = options.astype({cell.column: object})
        table.at[cell.option, cell.column] = was + (value - was.value)
        return table

    return at


def _grid(low: float, high: float) -> np.ndarray:
    """From low to high, in equal ratios where both are positive and far apart."""
    return np.geomspace(low, high, _STEPS) if low > 0 and high / low > 20 else np.linspace(low, high, _STEPS)


@dataclass(frozen=True)
class Flip:
    """Where the choice changes when one quantity moves away from what it is now."""

    at: float
    then: object


def find_flips(choice_at: Callable[[float], object], now: float, low: float, high: float, near: Sequence[float] = ()) -> list[Flip]:
    """The nearest point below `now` and the nearest above at which the choice is another one, at most one each.

    choice_at: value -> the chosen option. Looked for on a grid, then by halving the step where it lies; a change that
    begins and ends within one step is not seen, unless one of the values of `near`, or the middle of two, lies in it.
    """
    chosen, flips = choice_at(now), []
    marks = np.unique([x for x in near if low <= x <= high])
    grid = np.unique(np.concatenate([_grid(low, high), marks, (marks[1:] + marks[:-1]) / 2]))
    for side in (grid[grid < now][::-1], grid[grid > now]):
        inside = now
        for value in side:
            if choice_at(value) != chosen:
                outside = value
                for _ in range(_HALVINGS):
                    middle = (inside + outside) / 2
                    inside, outside = (inside, middle) if choice_at(middle) != chosen else (middle, outside)
                flips.append(Flip(float(outside), choice_at(outside)))
                break
            inside = value
    return flips


# ---------- the card ----------


def decision(
    question: str,
    options: pd.DataFrame,
    choose: Rule,
    *,
    key: str,
    gives_up: str,
    flips_with: Cell | Assumption,
    units: Mapping[str, str] | None = None,
    at_least: Mapping[str, float] | None = None,
    at_most: Mapping[str, float] | None = None,
    grid: Sequence[float] | None = None,
    grid_ends: str = "",
    open_because: str = "",
) -> None:
    """Show a decision card.

    options: one row an option (index: its name), one column a measured quantity; cells are Estimates, numbers or words.
    choose: the rule by which the choice follows from the table: `most("revenue", unless_tied=least("CPU s"))`.
    at_least, at_most: what an option must meet to be taken at all, column -> bound: `at_most={"p99": 100}`.
    gives_up: the price of the choice. flips_with: what is moved to find where the choice flips.
    units: column -> unit, as in `tables.number`.
    grid: the options' places on a numeric grid (NaN for those that are not on it); by default the index if it is numeric.
    grid_ends: why the grid cannot go on, if its last option is chosen ("there are no more rows than all").
    open_because: why the card is left open although the numbers do not decide; then a tie and a flip in the noise are not refused.
    Raises ValueError for names that are not in the table; DecisionRefuted as the module says, and if no option meets the
    requirements or nothing in the range flips the choice. With MLSD_CLAIMS=record a refusal is recorded and not raised.
    """
    claims.check_key(key)
    at_least, at_most, units = dict(at_least or {}), dict(at_most or {}), dict(units or {})
    used = {choose.column, *at_least, *at_most, *units}
    if not used <= set(options.columns) or not options.index.is_unique:
        raise ValueError(f"decision {key!r}: expected columns {sorted(used - set(options.columns), key=str)} and each option once")
    try:
        choice, fits = _decide(choose, options, at_least, at_most)
    except NothingMeets as nothing:  # another seed may show that, and the page goes on
        if claims.failures_are_raised():
            raise DecisionRefuted(f"{question}: {nothing}") from None
        record = dict(
            kind="decision", key=key, question=question, options=_as_record(options), units=units, chosen="none", open=open_because
        )
        claims.publish(
            record | dict(gives_up=gives_up, flip=None, sweep=None, faults=[str(nothing)]), f"{question} {nothing}", f"<p>{nothing}</p>"
        )
        return
    flip, sweep, wrong, doubts = _flip(flips_with, options, choice, choose, at_least, at_most, units)
    wrong += _end_of_grid(choice, options, grid, grid_ends)
    doubts += _doubts(choice, options, fits, choose, at_least, at_most)
    faults = wrong + ([] if open_because.strip() else doubts)
    record = dict(
        kind="decision",
        key=key,
        question=question,
        options=_as_record(options),
        units=units,
        rule=str(choose) + _requirements(at_least, at_most, units),
        chosen=str(choice.chosen),
        runner_up=None if choice.runner_up is None else str(choice.runner_up),
        margin=None if choice.margin is None else [choice.margin.value, choice.margin.low, choice.margin.high],
        gives_up=gives_up,
        flip=flip,
        open=open_because,
        sweep=None if sweep is None else [step | dict(options=_as_record(step["options"])) for step in sweep],
        faults=faults,
    )
    lines = [
        ("We choose", f"{choice.chosen}: {_reason(choice, choose, fits, units)}"),
        ("It costs", gives_up),
        ("We would switch", _in_words(flip)),
    ]
    if open_because:
        lines.insert(1, ("Open", open_because))
    lines += [("Refuted", fault) for fault in record["faults"]]
    body = "".join(f"<p><strong>{label}</strong> {html.escape(text)}.</p>" for label, text in lines)
    claims.publish(
        record,
        f"Decision: {question}\n{to_text(options, units)}\n" + "\n".join(f"{label} {text}." for label, text in lines),
        f'<div class="mlsd-decision" role="note"><p class="mlsd-question"><strong>{html.escape(question)}</strong></p>'
        f"{to_html(options, units, 'mlsd-options', choice.chosen)}{body}{_sweep_html(flip, sweep, units)}</div>",
    )
    if record["faults"] and claims.failures_are_raised():
        raise DecisionRefuted(f"{question}: " + "; ".join(record["faults"]))


def _doubts(
    choice: Choice, options: pd.DataFrame, fits: pd.Series, rule: Rule, at_least: Mapping[str, float], at_most: Mapping[str, float]
) -> list[str]:
    """Intervals that include a tie: between the chosen and the next option, or around a requirement that matters."""
    faults = []
    if choice.tied:
        faults.append(f"{choice.decided_by} cannot tell {choice.chosen} from {', '.join(map(str, choice.tied))}")
    for column, bound in [*at_least.items(), *at_most.items()]:
        for option, e in options[column].map(_estimate).items():
            if e.low < bound < e.high:  # could be in or out
                other = fits.copy()
                other[option] = not fits[option] and all(_could_meet(options.loc[option], at_least, at_most))
                if other.equals(fits):
                    continue
                then = choose_by(rule, options[other]) if other.any() else None
                if then is None or then.chosen != choice.chosen or not {*then.tied} <= {*choice.tied}:
                    faults.append(f"the interval of {option} in {column} includes the bound {bound:g}, and the choice hangs on it")
    return faults


def _could_meet(row: pd.Series, at_least: Mapping[str, float], at_most: Mapping[str, float]) -> Iterator[bool]:
    yield from (_estimate(row[column]).high >= bound for column, bound in at_least.items())
    yield from (_estimate(row[column]).low <= bound for column, bound in at_most.items())


def _end_of_grid(choice: Choice, options: pd.DataFrame, grid: Sequence[float] | None, grid_ends: str) -> list[str]:
    numeric = pd.api.types.is_numeric_dtype(options.index)
    if grid is None and not numeric:
        return []
    places = pd.Series(np.asarray(options.index if grid is None else grid, dtype=float), options.index).dropna()
    if choice.chosen in places.index and len(places) > 1 and places[choice.chosen] in (places.min(), places.max()) and not grid_ends:
        return [f"{choice.chosen} is the last of the grid: extend it, or say in grid_ends why it cannot go on"]
    return []


def _flip(
    flips_with: Cell | Assumption,
    options: pd.DataFrame,
    choice: Choice,
    rule: Rule,
    at_least: Mapping[str, float],
    at_most: Mapping[str, float],
    units: Mapping[str, str],
) -> tuple[dict, list[dict] | None, list[str], list[str]]:
    """The flip as a record, the sweep of an assumption, what is wrong with them, and what the noise leaves in doubt."""
    wrong: list[str] = []
    doubts: list[str] = []
    if isinstance(flips_with, Cell):
        measured = _estimate(options.loc[flips_with.option, flips_with.column])
        now, table_at = measured.value, _moved(options, flips_with)
        largest = max(abs(_estimate(v).value) for v in options[flips_with.column]) or 1.0
        low, high = (now / 1000, now * 1000) if now > 0 else (now - 1000 * largest, now + 1000 * largest)
        low, high = (low if flips_with.low is None else flips_with.low), (high if flips_with.high is None else flips_with.high)
        what, unit = f"{flips_with.column} of {flips_with.option}", units.get(flips_with.column, "")
        near = [x for e in options[flips_with.column].map(_estimate) for x in (e.low, e.value, e.high)]
        near += [bounds[flips_with.column] for bounds in (at_least, at_most) if flips_with.column in bounds]
    else:
        measured, now, low, high, near = None, flips_with.now, flips_with.low, flips_with.high, []
        what, unit, table_at = flips_with.what, flips_with.unit, flips_with.options_at

    def choice_at(value: float) -> object:
        try:
            return _decide(rule, table_at(value), at_least, at_most)[0].chosen
        except NothingMeets:
            return None  # nothing meets the requirements there: that is a flip too

    if isinstance(flips_with, Assumption) and not _same(table_at(now), options):
        wrong.append(f"at its own value of {what} options_at gives another table than the card's")
    if choice_at(now) != choice.chosen:
        wrong.append(f"at its own value of {what} the table gives {choice_at(now)}, the card {choice.chosen}")
    flips = find_flips(choice_at, now, low, high, near)
    if not flips:
        wrong.append(f"{what} from {low:g} to {high:g} never changes the choice: name what does, or widen the range")
    if measured is not None:
        for flip in flips:
            if measured.low < flip.at < measured.high:
                doubts.append(f"the flip at {flip.at:.4g} lies within the interval of what was measured")
    record = dict(
        what=what,
        unit=unit,
        now=float(now),
        points=[dict(at=f.at, then=None if f.then is None else str(f.then), above=bool(f.at > now)) for f in flips],
    )
    sweep = None
    if isinstance(flips_with, Assumption):
        values = sorted({*_grid(low, high)[::6].tolist(), float(now)})
        sweep = []
        for value in values:
            taken = choice_at(value)
            sweep.append(dict(value=value, chosen=None if taken is None else str(taken), options=table_at(value)))
    return record, sweep, wrong, doubts


def _same(a: pd.DataFrame, b: pd.DataFrame) -> bool:
    one, two = _as_record(a), _as_record(b)
    if one["index"] != two["index"] or [*one["columns"]] != [*two["columns"]]:
        return False
    cells = [(x, y) for name in one["columns"] for x, y in zip(one["columns"][name], two["columns"][name], strict=True)]
    return all(
        x == y if isinstance(x, str) or isinstance(y, str) else np.shape(x) == np.shape(y) and np.allclose(x, y, equal_nan=True)
        for x, y in cells
    )


def _as_record(options: pd.DataFrame) -> dict:
    def cell(value: object) -> object:
        if isinstance(value, Estimate):
            return [value.value, value.low, value.high]
        return value if isinstance(value, str) else float(value) if np.isscalar(value) else str(value)

    return dict(index=[str(i) for i in options.index], columns={str(name): [cell(v) for v in options[name]] for name in options})


def _requirements(at_least: Mapping[str, float], at_most: Mapping[str, float], units: Mapping[str, str]) -> str:
    parts = [f"{c} at least {number(b, units.get(c, ''))}" for c, b in at_least.items()]
    parts += [f"{c} at most {number(b, units.get(c, ''))}" for c, b in at_most.items()]
    return f", with {' and '.join(parts)}" if parts else ""


def _reason(choice: Choice, rule: Rule, fits: pd.Series, units: Mapping[str, str]) -> str:
    if choice.runner_up is None:
        return "nothing else meets the requirements"
    words = f"the {'most' if _rule_of(rule, choice.decided_by).most else 'least'} {choice.decided_by}"
    if choice.decided_by != rule.column:
        words = f"{rule.column} cannot tell it from {choice.runner_up}, and it has {words}"
    if choice.tied:
        return f"{words}, though not measurably apart from {', '.join(map(str, choice.tied))}"
    return f"{words}, by {number(choice.margin, units.get(choice.decided_by, ''))} over {choice.runner_up}"


def _rule_of(rule: Rule, column: str) -> Rule:
    while rule.column != column:
        rule = rule.unless_tied
    return rule


def _in_words(flip: dict | None) -> str:
    if not flip or not flip["points"]:
        return "nothing that was tried would change it"

    def side(point: dict) -> str:
        then = f"to {point['then']}" if point["then"] is not None else "to none of these, as none meets the requirements,"
        return f"{then} {'above' if point['above'] else 'below'} {number(point['at'], flip['unit'])}"

    return f"{' and '.join(side(p) for p in flip['points'])} of {flip['what']} (now {number(flip['now'], flip['unit'])})"


def _sweep_html(flip: dict, sweep: list[dict] | None, units: Mapping[str, str]) -> str:
    """The card at other values of its assumption, as a table; the site's script makes a slider of its `data-` attributes."""
    if sweep is None:
        return ""
    steps = []
    for step in sweep:
        columns = [shown(step["options"][name], units.get(name, "")) for name in step["options"]]
        rows = [list(row) for row in zip(map(str, step["options"].index), *columns, strict=True)]
        steps.append(
            dict(value=number(step["value"], flip["unit"]), now=bool(step["value"] == flip["now"]), chosen=step["chosen"], rows=rows)
        )
    rows = "".join(
        f'<tr class="{"now" if step["now"] else "other"}"><th scope="row" class="number">{html.escape(step["value"])}</th>'
        f"<td>{html.escape(step['chosen'] or 'none')}</td></tr>"
        for step in steps
    )
    what = html.escape(flip["what"])
    return (
        f'<details class="mlsd-sweep" data-what="{what}" data-steps="{html.escape(json.dumps(steps))}">'
        f"<summary>Move the assumption: {what}</summary>"
        f'<table class="mlsd-table"><thead><tr><th scope="col" class="number">{what}</th><th scope="col">then we choose</th></tr></thead>'
        f"<tbody>{rows}</tbody></table></details>"
    )


def decisions_so_far() -> None:
    """Show every decision of this chapter in one table."""
    rows = [
        {"we choose": r["chosen"] + (" (open)" if r["open"] else ""), "it costs": r["gives_up"], "we would switch": _in_words(r["flip"])}
        for r in claims.records("decision")
    ]
    table = pd.DataFrame(rows, index=pd.Index([r["question"] for r in claims.records("decision")], name="question"))
    display(HTML(f'<div class="mlsd-decisions">{to_html(table, classes="mlsd-decision-list")}</div>'))
