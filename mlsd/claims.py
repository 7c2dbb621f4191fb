"""Claims that can fail, decisions with a price, and the colophon that closes a chapter.

Each call shows itself to the reader and leaves a machine-readable record in the cell's output
(MIME type `application/vnd.mlsd+json`), from which the tests and the status page are made.
"""

from __future__ import annotations

import html
import os
import platform
import resource
import sys
import time
from collections.abc import Iterable
from importlib import metadata
from pathlib import Path

import pandas as pd
from IPython.display import HTML, Markdown, display

from mlsd.metrics import Estimate
from mlsd.worlds.base import effects_off_from_environment, seed_from_environment

MIME = "application/vnd.mlsd+json"
_PACKAGES = ("numpy", "pandas", "scikit-learn", "lightgbm", "keras", "keras-rs", "jax", "faiss-cpu", "implicit", "river")
_ROOT = Path(__file__).resolve().parent.parent
_started = time.monotonic()
_claims: list[dict] = []
_decisions: list[dict] = []


class ClaimFailed(AssertionError):
    """The interval of a claim does not clear its bound: the sentence is not what this run showed."""


def _show(record: dict, text: str, body: str) -> None:
    display({"text/plain": text, "text/html": body, MIME: record}, raw=True)


def _number(value: float) -> str:
    return f"{value:.3g}" if abs(value) < 1000 else f"{value:,.0f}"


def _interval(e: Estimate) -> str:
    return _number(e.value) if e.low == e.high else f"{_number(e.value)} [{_number(e.low)}, {_number(e.high)}]"


def claim(
    sentence: str,
    estimate: Estimate,
    at_least: float | None = None,
    at_most: float | None = None,
    rests_on: str | Iterable[str] = (),
) -> None:
    """Show a sentence with its number, interval and bound; raise ClaimFailed unless the whole interval clears the bound.

    estimate: what was measured; `Estimate.exact` for a quantity without sampling error.
    at_least, at_most: the bound; at least one is needed.
    rests_on: the planted effects without which the sentence should be false (`make falsify` tries).
    Raises TypeError for a bare number, ValueError for no bound. With MLSD_CLAIMS=record a failure is
    recorded and shown, but not raised: `make robust` and `make falsify` read every claim of a run.
    """
    if not isinstance(estimate, Estimate):
        raise TypeError(
            f"claim {sentence!r}: expected an Estimate with an interval, found {type(estimate).__name__}; "
            "use mlsd.metrics (mean, estimate, compare), or Estimate.exact(x) if x has no sampling error"
        )
    if at_least is None and at_most is None:
        raise ValueError(f"claim {sentence!r}: expected at_least or at_most; a claim without a bound cannot fail")
    held = bool((at_least is None or estimate.low >= at_least) and (at_most is None or estimate.high <= at_most))
    bounds = [f"{word} {_number(bound)}" for word, bound in (("at least", at_least), ("at most", at_most)) if bound is not None]
    rests_on = [rests_on] if isinstance(rests_on, str) else list(rests_on)
    record = dict(
        kind="claim",
        sentence=sentence,
        value=estimate.value,
        low=estimate.low,
        high=estimate.high,
        at_least=at_least,
        at_most=at_most,
        rests_on=rests_on,
        held=held,
    )
    _claims.append(record)
    verdict = "held" if held else "failed"
    measured = f"{_interval(estimate)}, claimed {' and '.join(bounds)}"
    _show(
        record,
        f"Claim {verdict}: {sentence} ({measured})",
        f'<div class="mlsd-claim mlsd-{verdict}" role="note"><strong>{"✓" if held else "✗"} Claim {verdict}.</strong> '
        f"{html.escape(sentence)}. <span>Measured: {html.escape(measured)}.</span></div>",
    )
    if not held and os.environ.get("MLSD_CLAIMS") != "record":
        raise ClaimFailed(f"{sentence}: measured {measured}")


def _cell(value: object) -> str:
    if isinstance(value, Estimate):
        return _interval(value)
    return _number(value) if isinstance(value, float) else str(value)


def decision(question: str, options: pd.DataFrame, chosen: str, because: str, gives_up: str, flips_when: str) -> None:
    """Show a decision card: what was possible, what was measured, what was chosen, its price, and what would flip it.

    options: one row an option (index: its name), one column a measured quantity; cells may be Estimates.
    Raises ValueError if `chosen` is not one of the options.
    """
    if chosen not in options.index:
        raise ValueError(f"decision {question!r}: chosen {chosen!r} is not among the options {list(options.index)}")
    shown = options.map(_cell)
    record = dict(kind="decision", question=question, chosen=chosen, because=because, gives_up=gives_up, flips_when=flips_when)
    _decisions.append(record)
    table = shown.to_html(border=0, classes="mlsd-options", escape=True)
    lines = [("We choose", f"{chosen}, because {because}"), ("It costs", gives_up), ("We would switch if", flips_when)]
    body = "".join(f"<p><strong>{label}</strong> {html.escape(text)}.</p>" for label, text in lines)
    _show(
        record,
        f"Decision: {question}\n{shown.to_string()}\n" + "\n".join(f"{label} {text}." for label, text in lines),
        f'<div class="mlsd-decision" role="note"><p class="mlsd-question"><strong>{html.escape(question)}</strong></p>{table}{body}</div>',
    )


def decisions_so_far() -> None:
    """Show every decision of this chapter in one table."""
    table = pd.DataFrame([{k: r[k] for k in ("question", "chosen", "gives_up", "flips_when")} for r in _decisions])
    table.columns = ["question", "we choose", "it costs", "we would switch if"]
    display(HTML(f'<div class="mlsd-decisions">{table.to_html(index=False, border=0)}</div>'))


def say(text: str) -> None:
    """Show Markdown. Every number in the book's prose passes through here, computed and not typed."""
    display(Markdown(text))


def _peak_memory_mb() -> float:
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss  # kilobytes on Linux, bytes on macOS
    return peak / (1e6 if sys.platform == "darwin" else 1e3)


def colophon() -> None:
    """Close the chapter: run time, peak memory, seed, versions, claims held."""
    versions = {"python": platform.python_version()}
    for package in _PACKAGES:
        try:
            versions[package] = metadata.version(package)
        except metadata.PackageNotFoundError:
            continue
    record = dict(
        kind="colophon",
        seconds=round(time.monotonic() - _started, 1),
        cpu_seconds=round(time.process_time(), 1),
        peak_memory_mb=round(_peak_memory_mb()),
        seed=seed_from_environment(),
        effects_off=list(effects_off_from_environment()),
        claims=len(_claims),
        held=sum(c["held"] for c in _claims),
        decisions=len(_decisions),
        versions=versions,
        # what the claims depend on beside the chapter's own code; `make robust` reruns a chapter when one changes
        modules=sorted(
            {Path(m.__file__).relative_to(_ROOT).as_posix() for n, m in list(sys.modules.items()) if n.partition(".")[0] == "mlsd"}
        ),
    )
    text = (
        f"{record['held']} of {record['claims']} claims held. Run in {record['seconds']:.0f} s "
        f"with {record['peak_memory_mb']} MB at the most, seed {record['seed']}. "
        + ", ".join(f"{name} {version}" for name, version in versions.items())
        + "."
    )
    _show(record, text, f'<div class="mlsd-colophon" role="note">{html.escape(text)}</div>')
