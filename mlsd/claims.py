"""Claims that can fail, and the colophon that closes a chapter.

Each call shows itself to the reader and leaves a machine-readable record in the cell's output
(MIME type `application/vnd.mlsd+json`), from which the tests and the status page are made.
"""

from __future__ import annotations

import html
import os
import platform
import re
import sys
import time
from collections.abc import Iterable
from importlib import metadata

import numpy as np
import psutil
from IPython.display import Markdown, display

from mlsd.estimates import Estimate
from mlsd.tables import SCALES, decimals_for, number
from mlsd.worlds.base import effects_off_from_environment, seed_from_environment

MIME = "application/vnd.mlsd+json"
_PACKAGES = ("numpy", "pandas", "scikit-learn", "lightgbm", "keras", "keras-rs", "jax", "faiss-cpu", "implicit", "river")
_KEY = re.compile(r"[a-z][a-z0-9_]*")
_started = time.monotonic()
# By kind and key: a cell that is run twice replaces what it said before.
_said: dict[tuple[str, str], dict] = {}


class ClaimFailed(AssertionError):
    """The interval of a claim does not clear its bound: the sentence is not what this run showed."""


def records(kind: str) -> list[dict]:
    """What was recorded in this process so far, in the order in which it was first said."""
    return [record for (its_kind, _), record in _said.items() if its_kind == kind]


def publish(record: dict, text: str, body: str) -> None:
    """Show a record to the reader (as text and as HTML), and keep it. Raises ValueError if another sentence has its key."""
    name, words = (record["kind"], record["key"]), record.get("sentence") or record.get("question")
    if name in _said and words != (_said[name].get("sentence") or _said[name].get("question")):
        raise ValueError(f"key {record['key']!r}: two {record['kind']}s have it; give each its own")
    _said[name] = record
    display({"text/plain": text, "text/html": body, MIME: record}, raw=True)


def card_style(colour: str) -> str:
    """How a card looks wherever it is shown: in the colours of the book's page, of JupyterLab, or of whatever it is.

    colour: green, orange, red or grey. It is written into the card, as a notebook brings no style sheet.
    """
    code = {"green": "#009e73", "orange": "#b87500", "red": "#c04e00", "grey": "#6e6e6e"}[colour]
    return (
        f"border-left: 0.25rem solid var(--book-{colour}, {code}); border-radius: 0.3rem; padding: 0.7rem 1rem; margin: 0.8rem 0; "
        "background: var(--pst-color-surface, var(--jp-layout-color2, transparent))"
    )


def check_key(key: str) -> None:
    """Raise ValueError unless the key is a word of small letters, digits and underscores."""
    if not _KEY.fullmatch(key):
        raise ValueError(f"key: expected small letters, digits and underscores, found {key!r}")


def failures_are_raised() -> bool:
    """False with MLSD_CLAIMS=record: `make robust` and `make falsify` read every claim of a run."""
    return os.environ.get("MLSD_CLAIMS") != "record"


def claim(
    sentence: str,
    estimate: Estimate,
    *,
    key: str,
    unit: str,
    at_least: float | None = None,
    at_most: float | None = None,
    rests_on: str | Iterable[str] = (),
    broken_by: tuple[str, str] | None = None,
) -> None:
    """Show a sentence with its number, interval and bound; raise ClaimFailed unless the whole interval clears the bound.

    sentence: a whole sentence that stands alone, without its number.
    estimate: what was measured; `Estimate.exact` for a quantity without sampling error.
    key: by which reports know the claim; unique in the chapter.
    unit: of the number, as in `tables.number`: "%" and "points" show a fraction times 100.
    at_least, at_most: the bound, on the scale of the estimate; at least one is needed.
    rests_on: the planted effects without which the claim goes red.
    broken_by: (old, new), a replacement in the chapter's own code upon which the claim goes red. `old` stands there exactly once.
    A claim needs one of the two: `make falsify` tries each. Raises TypeError for a bare number, ValueError for no bound,
    no unit or no way to break it. With MLSD_CLAIMS=record a failure is recorded and shown, but not raised.
    """
    check_key(key)
    if not isinstance(estimate, Estimate):
        raise TypeError(
            f"claim {key!r}: expected an Estimate with an interval, found {type(estimate).__name__}; "
            "use mlsd.estimates (mean, estimate, compare), or Estimate.exact(x) if x has no sampling error"
        )
    rests_on = [rests_on] if isinstance(rests_on, str) else list(rests_on)
    if not any(bound is not None and np.isfinite(bound) for bound in (at_least, at_most)):
        raise ValueError(f"claim {key!r}: expected at_least or at_most; a claim without a bound cannot fail")
    if not any(rests_on) and broken_by is None:
        raise ValueError(f"claim {key!r}: expected rests_on or broken_by; a claim that nothing breaks proves nothing")
    if not unit.strip():
        raise ValueError(f"claim {key!r}: expected the unit of its number, such as '%', 'ms' or 'lost RSVPs'")
    held = bool((at_least is None or estimate.low >= at_least) and (at_most is None or estimate.high <= at_most))
    measured = _measured(estimate, unit, at_least, at_most)
    record = dict(
        kind="claim",
        key=key,
        sentence=sentence,
        unit=unit,
        value=estimate.value,
        low=estimate.low,
        high=estimate.high,
        at_least=at_least,
        at_most=at_most,
        rests_on=rests_on,
        broken_by=None if broken_by is None else list(broken_by),
        held=held,
    )
    verdict = "held" if held else "failed"
    publish(
        record,
        f"Claim {verdict}: {sentence}. Measured: {measured}.",
        f'<div class="mlsd-claim mlsd-{verdict}" role="note" style="{card_style("green" if held else "red")}">'
        f"<strong>{'✓' if held else '✗'} Claim {verdict}.</strong> "
        f"{html.escape(sentence)}. <span>Measured: {html.escape(measured)}.</span>{_how_to_break(rests_on, broken_by)}</div>",
    )
    if not held and failures_are_raised():
        raise ClaimFailed(f"{sentence}: measured {measured}")


def _measured(estimate: Estimate, unit: str, at_least: float | None, at_most: float | None) -> str:
    bounds = {"at least": at_least, "at most": at_most}
    scaled = [x * SCALES.get(unit, 1.0) for x in (estimate.value, estimate.low, estimate.high, *bounds.values()) if x is not None]
    decimals = decimals_for(*scaled)
    claimed = " and ".join(f"{words} {number(bound, unit, decimals)}" for words, bound in bounds.items() if bound is not None)
    return f"{number(estimate, unit, decimals)}, claimed {claimed}"


def _how_to_break(rests_on: list[str], broken_by: tuple[str, str] | None) -> str:
    ways = [f"switch off <code>{html.escape(effect)}</code> in the world's rules" for effect in rests_on]
    if broken_by is not None:
        old, new = (f"<code>{html.escape(text.strip())}</code>" if text.strip() else "nothing" for text in broken_by)
        ways.append(f"put {new} in the place of {old}")
    return f'<details class="mlsd-break"><summary>Break it</summary><p>It goes red if you {", or if you ".join(ways)}.</p></details>'


def say(text: str) -> None:
    """Show Markdown. Every number in the book's prose passes through here, computed and not typed."""
    display(Markdown(text))


def _peak_memory_mb() -> float:
    try:
        import resource
    except ModuleNotFoundError:  # Windows
        return psutil.Process().memory_info().peak_wset / 1e6
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss  # kilobytes on Linux, bytes on macOS
    return peak / (1e6 if sys.platform == "darwin" else 1e3)


def colophon() -> None:
    """Close the chapter: run time, peak memory, seed, versions, claims held."""
    global _started
    versions = {"python": platform.python_version()}
    for package in _PACKAGES:
        try:
            versions[package] = metadata.version(package)
        except metadata.PackageNotFoundError:
            continue
    claims, decisions = records("claim"), records("decision")
    record = dict(
        kind="colophon",
        key="colophon",
        seconds=round(time.monotonic() - _started, 1),
        cpu_seconds=round(time.process_time(), 1),
        peak_memory_mb=round(_peak_memory_mb()),
        seed=seed_from_environment(),
        effects_off=list(effects_off_from_environment()),
        claims=len(claims),
        held=sum(c["held"] for c in claims),
        decisions=len(decisions),
        open_decisions=sum(bool(d["open"]) for d in decisions),
        versions=versions,
    )
    text = (
        f"{record['held']} of {record['claims']} claims held. Run in {record['seconds']:.0f} s "
        f"with {record['peak_memory_mb']} MB at the most, seed {record['seed']}. "
        + ", ".join(f"{name} {version}" for name, version in versions.items())
        + "."
    )
    publish(record, text, f'<div class="mlsd-colophon" role="note" style="{card_style("grey")}">{html.escape(text)}</div>')
    _started = time.monotonic()  # the chapter may be run again in this process
