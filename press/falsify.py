"""Is every claim able to fail? Each is broken in every way that it names, on three seeds, and must go red.

python -m press.falsify [PAGE ...]              -> reports/falsify.json
python -m press.falsify PAGE --only KEY         one claim, broken: its value and its bound; writes nothing

A claim names planted effects that it rests on (`rests_on`: the page is run without each, up to the last
claim that names it), or a replacement in the page's own code (`broken_by=(old, new)`: `old` stands there
exactly once, in the claim's cell or before it), or both. It is falsified if, for each way, it is red on two seeds
of three; the third is tried where the first two leave that open. A claim that the broken run does not reach is not
red: that is an error.

Replacements are tried in one kernel a seed: when the page has come to the claim's cell j, the broken cell i
and those after it are run, the claim is read, then cells i to j as they stand, and the claim must be as
before. If it is not, they cannot be run twice: that is a fault, and the replacement is tried in a kernel of its own,
as it is where that costs less.
"""

from __future__ import annotations

import argparse
import os
import sys
import time
from collections import Counter, deque
from collections.abc import Iterator
from concurrent.futures import FIRST_COMPLETED, Future, ProcessPoolExecutor, wait
from pathlib import Path
from typing import NamedTuple

from nbformat import NotebookNode

from press import ROOT, name_of, page_named, pages
from press.depends import as_published, fingerprint, is_current
from press.kernels import CellFailed, Kernel
from press.notebooks import Claim, NoLiteral, NoMatch, broken, claims, code, read
from press.records import by_clock, key_of, read_report, same_numbers, update_report
from press.robust import SEEDS as ALL_SEEDS

SEEDS = ALL_SEEDS[:3]
RED_ON = 2
START_S = 3.0  # a kernel and its imports, about


class Outcome(NamedTuple):
    """What became of one claim, broken in one way on one seed."""

    key: str
    way: str
    seed: int
    red: bool
    shown: str  # value, interval and bound; or why there are none


class Break(NamedTuple):
    """A replacement, and the claims that it should turn red."""

    old: str
    new: str
    cell: int  # where `old` stands
    source: str  # that cell, broken
    last: int  # the cell of the last of its claims
    keys: tuple[str, ...]

    @property
    def way(self) -> str:
        return f"{self.old!r} → {self.new!r}"


def without(effect: str) -> str:
    return f"without {effect}"


def planned(found: list[Claim], sources: list[str]) -> tuple[list[Break], list[str]]:
    """The replacements that a page's claims name, those of several claims once, and what is wrong with them."""
    breaks: dict[tuple[str, str], Break] = {}
    faults = []
    for claim in found:
        if not claim.broken_by and not claim.rests_on:
            faults.append(f"{claim.key}: names no way to break it; give it rests_on or broken_by")
        if not claim.broken_by:
            continue
        old, new = claim.broken_by
        try:
            cell, source = broken(sources, old, new)
        except NoMatch as no_match:
            faults.append(f"{claim.key}: {no_match}")
            continue
        if cell > claim.cell:
            faults.append(f"{claim.key}: {old!r} stands in code cell {cell + 1}, after the claim in {claim.cell + 1}")
            continue
        known = breaks.get((old, new), Break(old, new, cell, source, claim.cell, ()))
        breaks[old, new] = known._replace(last=max(known.last, claim.cell), keys=(*known.keys, claim.key))
    return sorted(breaks.values(), key=lambda b: b.last), faults


def shown(record: dict) -> str:
    bounds = [f"at {word} {record[f'at_{word}']:g}" for word in ("least", "most") if record[f"at_{word}"] is not None]
    return f"{record['value']:.4g} [{record['low']:.4g}, {record['high']:.4g}], claimed {' and '.join(bounds)}"


def run_all(kernel: Kernel, sources: list[str]) -> tuple[dict[str, list[dict]], str]:
    """Run cells until one raises. Returns the claims shown, by key, and the error or an empty text."""
    found: dict[str, list[dict]] = {}
    error = ""
    for source in sources:
        try:
            records = kernel.run(source)
        except CellFailed as failure:
            records, error = failure.records, str(failure)
        for record in records:
            if record["kind"] == "claim":
                found.setdefault(key_of(record), []).append(record)
        if error:
            break
    return found, error


def outcomes(keys: tuple[str, ...], way: str, seed: int, found: dict[str, list[dict]], error: str) -> Iterator[Outcome]:
    for key in keys:
        if key in found:
            red = [record for record in found[key] if not record["held"]]
            yield Outcome(key, way, seed, bool(red), shown((red or found[key])[0]))
        else:
            yield Outcome(key, way, seed, False, f"not reached: {error or 'no claim of this key was shown'}")


def kernel_of(page: Path, seed: int, **more: str) -> Kernel:
    return Kernel(page, as_published(), MLSD_CLAIMS="record", MLSD_SEED=str(seed), **more)


def try_effect(page: Path, seed: int, effect: str, found: list[Claim]) -> tuple[list[Outcome], list[str]]:
    """Run the page without an effect, up to the last claim that names it."""
    named = [claim for claim in found if effect in claim.rests_on]
    sources = [cell.source for cell in code(read(page))][: max(claim.cell for claim in named) + 1]
    with kernel_of(page, seed, MLSD_WITHOUT=effect) as kernel:
        shown_claims, error = run_all(kernel, sources)
    return list(outcomes(tuple(claim.key for claim in named), without(effect), seed, shown_claims, error)), []


class Session:
    """A page on its way through one kernel, as it stands: how long each cell took, what each claim was."""

    def __init__(self, page: Path, seed: int, cells: list[NotebookNode]) -> None:
        self.page, self.seed, self.cells = page, seed, cells
        self.sources = [cell.source for cell in cells]
        self.seconds: list[float] = []
        self.claims: dict[str, list[dict]] = {}
        self.kernel: Kernel | None = None

    def advance(self, last: int) -> str:
        """Run on until cell `last`, in a new kernel if there is none. Returns the error or an empty text."""
        if self.kernel is None:
            self.kernel = kernel_of(self.page, self.seed).__enter__()
            self.seconds, self.claims = [], {}
        while len(self.seconds) <= last:
            started = time.monotonic()
            found, error = run_all(self.kernel, [self.sources[len(self.seconds)]])
            self.claims |= found
            if error:
                return error
            self.seconds.append(time.monotonic() - started)
        return ""

    def close(self) -> None:
        if self.kernel is not None:
            self.kernel.__exit__()
            self.kernel = None

    def as_before(self, b: Break) -> str:
        """Run the broken stretch as it stands. Returns how its claims differ from what they were, or an empty text."""
        found, error = run_all(self.kernel, self.sources[b.cell : b.last + 1])
        if error:
            return error
        cell_of = {claim.key: self.cells[claim.cell] for claim in claims(NotebookNode(cells=self.cells))}
        for key in b.keys:
            for one, two in zip(self.claims[key], found.get(key, []), strict=False):
                if one["held"] != two["held"] or not (by_clock(one, cell_of[key]) or same_numbers(one, two)):
                    return f"{key} was {shown(one)}, then {shown(two)}"
        return ""


def try_breaks(page: Path, seed: int, breaks: list[Break]) -> tuple[list[Outcome], list[str]]:
    """Try each replacement on one seed: in the kernel of the page as it comes by, or in one of its own."""
    session = Session(page, seed, code(read(page)))
    results: list[Outcome] = []
    faults: list[str] = []
    stuck: list[tuple[int, int]] = []  # stretches that cannot be run twice

    for b in breaks:
        if error := session.advance(b.last):
            results += [Outcome(key, b.way, seed, False, f"the page itself fails on this seed: {error}") for key in b.keys]
            continue
        stretch = [b.source, *session.sources[b.cell + 1 : b.last + 1]]
        costs_less = 2 * sum(session.seconds[b.cell : b.last + 1]) <= START_S + sum(session.seconds[: b.last + 1])
        tried = None
        if costs_less and not any(b.cell <= first and last <= b.last for first, last in stuck):
            tried = run_all(session.kernel, stretch)
            if difference := session.as_before(b):
                faults.append(f"code cells {b.cell + 1} to {b.last + 1} cannot be run twice (seed {seed}): {difference}")
                stuck.append((b.cell, b.last))
                session.close()
                tried = None
        if tried is None:
            with kernel_of(page, seed) as own:
                tried = run_all(own, [*session.sources[: b.cell], *stretch])
        unbroken = session.claims
        for outcome in outcomes(b.keys, b.way, seed, *tried):
            if outcome.red and not all(record["held"] for record in unbroken.get(outcome.key, [])):
                outcome = outcome._replace(red=False, shown=f"fails as it stands on this seed: {outcome.shown}")
            results.append(outcome)
    session.close()
    return results, faults


def entry_of(found: list[Claim], results: list[Outcome], seeds: tuple[int, ...], faults: list[str]) -> dict:
    """A page's part of the report: each claim, each way to break it, and on which seeds it went red."""
    faults = list(faults)
    rows = []
    for claim in found:
        ways = [without(effect) for effect in claim.rests_on]
        ways += [f"{claim.broken_by[0]!r} → {claim.broken_by[1]!r}"] if claim.broken_by else []
        shown_ways = []
        for way in ways:
            tries = sorted((o for o in results if (o.key, o.way) == (claim.key, way)), key=lambda o: seeds.index(o.seed))
            shown_ways.append(dict(way=way, red={str(o.seed): o.red for o in tries}, shown={str(o.seed): o.shown for o in tries}))
            if tries and sum(o.red for o in tries) < min(RED_ON, len(seeds)):
                why = "; ".join(f"seed {o.seed}: {'red' if o.red else 'not red'}, {o.shown}" for o in tries)
                faults.append(f"{claim.key}: not falsified {way}: {why}")
        falsified = bool(ways) and all(sum(w["red"].values()) >= min(RED_ON, len(seeds)) for w in shown_ways)
        rows.append(dict(key=claim.key, sentence=claim.sentence, falsified=falsified, ways=shown_ways))
    return dict(seeds=list(seeds), claims=rows, faults=faults)


def undecided(results: list[Outcome]) -> set[str]:
    """The ways that have not turned each of their claims red on enough seeds."""
    reds = Counter((o.key, o.way) for o in results if o.red)
    return {o.way for o in results if reds[o.key, o.way] < RED_ON}


def jobs_of(page: Path, seed: int, found: list[Claim], breaks: list[Break], ways: set[str] | None = None) -> list[tuple]:
    """What is to be run of a page on a seed: functions with their arguments, for these ways or for all."""
    effects = sorted({effect for claim in found for effect in claim.rests_on})
    jobs = [(try_effect, page, seed, effect, found) for effect in effects if ways is None or without(effect) in ways]
    breaks = [b for b in breaks if ways is None or b.way in ways]
    return jobs + ([(try_breaks, page, seed, breaks)] if breaks else [])


def measure(wanted: list[Path], seeds: tuple[int, ...], workers: int, only: str | None = None) -> Iterator[tuple[Path, dict]]:
    """Try the claims of pages, a process for each page, seed and effect. Yields each page with its entry when it is done."""
    found, breaks, faults, results = {}, {}, {}, {}
    queue: deque[tuple] = deque()
    for page in wanted:
        notebook = read(page)
        breaks[page], results[page] = [], []
        try:
            found[page] = [claim for claim in claims(notebook) if only in (None, claim.key)]
            breaks[page], faults[page] = planned(found[page], [cell.source for cell in code(notebook)])
        except NoLiteral as no_literal:
            found[page], faults[page] = [], [str(no_literal)]
        jobs = [job for seed in seeds[:RED_ON] for job in jobs_of(page, seed, found[page], breaks[page])]
        queue.extend(jobs)
        if not jobs:
            yield page, entry_of(found[page], [], seeds, faults[page])

    more = {page: list(seeds[RED_ON:]) for page in wanted}
    running: dict[Future, Path] = {}
    with ProcessPoolExecutor(workers, max_tasks_per_child=1) as pool:
        while queue or running:
            while queue and len(running) < workers:
                job = queue.popleft()
                running[pool.submit(*job)] = job[1]
            for future in wait(running, return_when=FIRST_COMPLETED).done:
                page = running.pop(future)
                outcomes_, faults_ = future.result()
                results[page] += outcomes_
                faults[page] += faults_
                for o in outcomes_:
                    print(f"{name_of(page)} [seed {o.seed}] {o.key}, {o.way}: {'red' if o.red else 'NOT RED'}, {o.shown}", flush=True)
                if page in running.values() or any(job[1] == page for job in queue):
                    continue
                ways = undecided(results[page])
                if ways and more[page]:
                    queue.extendleft(jobs_of(page, more[page].pop(0), found[page], breaks[page], ways))
                else:
                    yield page, entry_of(found[page], results[page], seeds, faults[page])


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m press.falsify", description=__doc__.splitlines()[0])
    parser.add_argument("pages", nargs="*", help="default: all")
    parser.add_argument("--only", metavar="KEY", help="one claim of one page, shown and not reported")
    parser.add_argument("--force", action="store_true", help="also what is unchanged")
    parser.add_argument("--workers", type=int, default=os.cpu_count() or 1)
    arguments = parser.parse_args()
    chosen = [page_named(name) for name in arguments.pages] or pages()
    report = read_report(ROOT, "falsify")
    if arguments.only:
        if len(chosen) != 1 or arguments.only not in {claim.key for claim in claims(read(chosen[0]))}:
            parser.error(f"--only: expected one page and the key of one of its claims, found {arguments.pages} and {arguments.only!r}")
        entries = {name_of(page): entry for page, entry in measure(chosen, SEEDS, arguments.workers, arguments.only)}
    else:
        wanted = [page for page in chosen if arguments.force or not is_current(report.get(name_of(page)), page)]
        made_with = {page: fingerprint(page, variables=as_published()) for page in wanted}
        for page, entry in measure(wanted, SEEDS, arguments.workers):
            entries = {name_of(page): dict(fingerprint=made_with[page], **entry)}
            report = update_report(ROOT, "falsify", entries, keep=map(name_of, pages()))
        entries = report
    faults = [f"{page}: {fault}" for page in map(name_of, chosen) if page in entries for fault in entries[page]["faults"]]
    print("\n".join(["", *(f"FAULT {fault}" for fault in faults)]) if faults else "\nno faults")
    return bool(faults)


if __name__ == "__main__":
    sys.exit(main())
