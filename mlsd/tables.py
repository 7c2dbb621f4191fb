"""Numbers as a reader should see them: with unit, fixed decimals and interval; and tables of them, one header row."""

from __future__ import annotations

import html
from collections.abc import Mapping

import numpy as np
import pandas as pd
from IPython.display import display

from mlsd.estimates import Estimate

# Fractions are shown as percent (a share, a lift) or as percentage points (a difference of two shares).
SCALES = {"%": 100.0, "points": 100.0}
_BEFORE = ("$", "€")
_AFTER = ("%", "×")  # written next to the number; any other unit is a word after it
MINUS = "\N{MINUS SIGN}"


def decimals_for(*numbers: float) -> int:
    """Decimals that show three digits of the largest of these numbers, at most four."""
    largest = max((abs(n) for n in numbers if np.isfinite(n)), default=0.0)
    if largest == 0 or all(float(n).is_integer() for n in numbers if np.isfinite(n)):
        return 0
    return int(np.clip(2 - np.floor(np.log10(largest)), 0, 4))


def _digits(number: float, decimals: int, may_be_zero: bool = False) -> str:
    if not np.isfinite(number):
        return "none" if np.isnan(number) else "∞" if number > 0 else f"{MINUS}∞"
    if abs(number) > 1e-9 and not round(number, decimals) and not may_be_zero:  # not shown as zero, which it is not
        return f"{number:.2g}".replace("-", MINUS)
    return f"{round(number, decimals) + 0.0:,.{decimals}f}".replace("-", MINUS)  # + 0.0: no minus sign before a zero


def number(value: float | Estimate, unit: str = "", decimals: int | None = None) -> str:
    """A number or an Estimate as text: "7.0% [6.1, 7.9]", "$1,200", "14 ms", "0.41".

    unit: "%" and "points" show a fraction times 100; "$" and "€" stand before the number; any other word after it.
    decimals: of the shown number; by default three digits of it.
    """
    e = value if isinstance(value, Estimate) else None
    parts = [float(x) * SCALES.get(unit, 1.0) for x in ((e.value, e.low, e.high) if e else (value,))]
    if decimals is None:
        decimals = decimals_for(*parts)
    before, after = (unit, "") if unit in _BEFORE else ("", unit if unit in _AFTER else f" {unit}" if unit else "")
    # Within an interval that spans it a small value is as good as zero; the ends show on which side they are.
    first, *ends = (_digits(part, decimals, may_be_zero=i == 0 and e is not None and e.low < 0 < e.high) for i, part in enumerate(parts))
    sign, first = (MINUS, first[1:]) if before and first.startswith(MINUS) else ("", first)
    interval = f" [{ends[0]}, {ends[1]}]" if e and e.low < e.high else ""
    return f"{sign}{before}{first}{interval}{after}" if after.startswith(" ") else f"{sign}{before}{first}{after}{interval}"


def _is_number(value: object) -> bool:
    return isinstance(value, (Estimate, int, float, np.number)) and not isinstance(value, (bool, np.bool_))


def shown(values: pd.Series, unit: str) -> list[str]:
    """The cells of a column as text: numbers with the same decimals. Words of units stand in the header."""
    scale = SCALES.get(unit, 1.0)
    scaled = [v * scale if _is_number(v) else v for v in values]
    decimals = decimals_for(*(x for v in scaled if _is_number(v) for x in ((v.value, v.low, v.high) if isinstance(v, Estimate) else (v,))))
    sign = unit if unit in _BEFORE or unit in _AFTER else ""
    # `number` scales a percentage itself
    return [number(v / SCALES.get(sign, 1.0), sign, decimals) if _is_number(v) else str(v) for v in scaled]


def _header(name: object, unit: str) -> str:
    return f"{name} ({unit})" if unit and unit not in _BEFORE + _AFTER else str(name)


def to_html(frame: pd.DataFrame, units: Mapping[str, str] | None = None, classes: str = "mlsd-table", chosen: object = None) -> str:
    """An HTML table with one header row; numbers align right and intervals do not wrap (by the site's style).

    units: column -> unit, as in `number`. chosen: the index entry whose row is marked.
    """
    units = dict(units or {})
    cells = {name: shown(frame[name], units.get(name, "")) for name in frame}
    corner = html.escape(str(frame.index.name or ""))
    attribute = {name: ' class="number"' if any(map(_is_number, frame[name])) else "" for name in frame}
    head = "".join(f'<th scope="col"{attribute[n]}>{html.escape(_header(n, units.get(n, "")))}</th>' for n in frame)
    corner = f'<th scope="col">{corner}</th>' if corner else "<td></td>"
    body = []
    for i, entry in enumerate(frame.index):
        row = "".join(f"<td{attribute[n]}>{html.escape(cells[n][i])}</td>" for n in frame)
        mark = ' class="chosen"' if chosen is not None and entry == chosen else ""
        body.append(f'<tr{mark}><th scope="row">{html.escape(str(entry))}</th>{row}</tr>')
    return f'<table class="{classes}"><thead><tr>{corner}{head}</tr></thead><tbody>{"".join(body)}</tbody></table>'


def to_text(frame: pd.DataFrame, units: Mapping[str, str] | None = None) -> str:
    """The same table as plain text."""
    units = dict(units or {})
    cells = {_header(n, units.get(n, "")): shown(frame[n], units.get(n, "")) for n in frame}
    return pd.DataFrame(cells, index=frame.index).to_string()


def table(frame: pd.DataFrame | pd.Series | Mapping, units: Mapping[str, str] | str | None = None) -> None:
    """Show a table of numbers and Estimates.

    frame: a DataFrame, or a Series or mapping of row name -> value for a table of one column.
    units: column -> unit, or one unit for all columns.
    """
    if not isinstance(frame, pd.DataFrame):
        series = frame if isinstance(frame, pd.Series) else pd.Series(dict(frame), dtype=object)
        frame = series.to_frame(series.name if series.name is not None else "value")
    if isinstance(units, str):
        units = {name: units for name in frame}
    unknown = set(units or {}) - set(frame)
    if unknown:
        raise ValueError(f"units: expected columns of the table {list(frame)}, found {sorted(unknown, key=str)}")
    display({"text/plain": to_text(frame, units), "text/html": to_html(frame, units)}, raw=True)
