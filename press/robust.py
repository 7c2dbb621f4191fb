"""Do the claims hold, and the decisions stand, on other seeds?

python -m press.robust [PAGE ...]            five fixed seeds -> reports/robust.json
SEEDS=11,12 python -m press.robust           these seeds      -> reports/robust_fresh.json
SEEDS=fresh:3 python -m press.robust         three drawn now, and printed

Five fixed seeds can be tuned to without meaning it; drawn ones cannot. The two are never mixed. On the
fixed seeds a page whose entry is current (press.depends) is not run again; --force runs it. On the published
seed the run of `make book` counts, where its cache has one. The exit code
is 1 unless at least 95% of claims x seeds hold, none fails on more than one seed, and no decision whose
card is not open chooses otherwise on more than one seed.
"""

from __future__ import annotations

import argparse
import os
import random
import sys
from collections.abc import Iterator, Mapping
from concurrent.futures import ProcessPoolExecutor, as_completed
from pathlib import Path

from press import ROOT, name_of, page_named, pages
from press.cache import executed, open_cache
from press.depends import as_published, code_of, fingerprint, is_current
from press.kernels import CellFailed, Kernel
from press.records import key_of, of_cell, read_report, update_report

SEEDS = (7, 1, 2, 3, 4)  # the first is the published one


def run(page: Path, seed: int) -> tuple[list[dict], str | None]:
    """Execute a page on a seed, its claims recorded and not raised. Returns its records, and an error or None."""
    found: list[dict] = []
    try:
        with Kernel(page, as_published(), MLSD_CLAIMS="record", MLSD_SEED=str(seed)) as kernel:
            for source in code_of(page):
                found += kernel.run(source)
    except CellFailed as failure:  # a claim that was not reached is no claim refuted
        return found + failure.records, str(failure)
    except RuntimeError as failure:  # no kernel
        return found, str(failure)
    return found, None


def as_published_in_the_book(wanted: list[Path]) -> dict[tuple[Path, int], list[dict]]:
    """By page and seed, the records of the pages that `make book` has executed as they are now: none of these failed."""
    if as_published() != dict(os.environ):
        return {}  # the cache is asked for other effects, or another seed
    cache = open_cache()
    found = {page: executed(page, cache) for page in wanted}
    return {(page, SEEDS[0]): [r for cell in notebook.cells for r in of_cell(cell)] for page, notebook in found.items() if notebook}


def entry_of(runs: Mapping[int, tuple[list[dict], str | None]]) -> dict:
    """A page's part of the report, from its runs by seed: what held, was measured and chosen, by key and seed."""
    claims: dict[str, dict] = {}
    decisions: dict[str, dict] = {}
    for seed, (found, _) in runs.items():
        for record in found:
            if record["kind"] == "claim":
                row = claims.setdefault(key_of(record), dict(key=key_of(record), sentence=record["sentence"], held={}, measured={}))
                row["held"][str(seed)] = row["held"].get(str(seed), True) and record["held"]
                row["measured"][str(seed)] = f"{record['value']:.4g} [{record['low']:.4g}, {record['high']:.4g}]"
            elif record["kind"] == "decision":
                row = decisions.setdefault(key_of(record), dict(key=key_of(record), question=record["question"], open="", chosen={}))
                if seed == SEEDS[0] or SEEDS[0] not in runs:  # what the book's own card says, where it was run
                    row["open"] = record.get("open", "")
                row["chosen"][str(seed)] = record["chosen"]
    for row in claims.values():  # a run that did not come so far did not show it
        row["held"] = {str(seed): row["held"].get(str(seed), False) for seed in runs}
    return dict(
        seeds=list(runs),
        claims=list(claims.values()),
        decisions=list(decisions.values()),
        errors={str(seed): error for seed, (_, error) in runs.items() if error},
    )


def faults(entry: dict, published: Mapping[str, dict]) -> list[str]:
    """What breaks the rule in a page's entry. `published` has each card of the book: what it chose, and why it is open."""
    found = [f"seed {seed}: {error}" for seed, error in entry["errors"].items()]
    held = [h for claim in entry["claims"] for h in claim["held"].values()]
    if sum(held) < 0.95 * len(held):
        found.append(f"only {sum(held)} of {len(held)} claims x seeds hold")
    for claim in entry["claims"]:
        failed = [seed for seed, h in claim["held"].items() if not h]
        if len(failed) > 1:
            found.append(f"{claim['key']}: fails on seeds {', '.join(failed)}")
    for card in entry["decisions"]:
        book = published.get(card["key"])
        others = {seed: choice for seed, choice in card["chosen"].items() if book and choice != book["chosen"]}
        if len(others) > 1 and not book["open"]:
            shown = ", ".join(f"{choice} on seed {seed}" for seed, choice in others.items())
            found.append(f"{card['key']}: published {book['chosen']}, but {shown}; the card does not say open")
    return found


def published_cards(entry: dict) -> dict[str, dict]:
    """What each card chooses on the published seed, and why it is open, from an entry of robust.json."""
    first = str(SEEDS[0])
    return {c["key"]: dict(chosen=c["chosen"][first], open=c["open"]) for c in entry.get("decisions", []) if first in c["chosen"]}


def seeds_asked(text: str) -> tuple[int, ...]:
    """The value of SEEDS: "" (the fixed ones), "11,12,13", or "fresh:3". Ends the program if it is none of these."""
    if not text:
        return SEEDS
    kind, _, n = text.partition(":")
    if kind == "fresh" and n.isdecimal() and int(n) > 0:
        return tuple(random.SystemRandom().sample(range(100, 1_000_000), int(n)))
    if all(part.strip().isdecimal() for part in text.split(",")):
        return tuple(dict.fromkeys(int(part) for part in text.split(",")))
    raise SystemExit(f"SEEDS: expected a list like 11,12,13 or a number to draw like fresh:3, found {text!r}")


def measure(
    wanted: list[Path], seeds: tuple[int, ...], workers: int, known: Mapping[tuple[Path, int], list[dict]]
) -> Iterator[tuple[Path, dict]]:
    """Run pages on seeds, a process each, with a line of progress each. Yields each page with its entry when it is done.

    known: the records of the runs that there are, by page and seed.
    """
    runs: dict[Path, dict] = {page: {seed: (known[page, seed], None) for seed in seeds if (page, seed) in known} for page in wanted}
    with ProcessPoolExecutor(workers, max_tasks_per_child=1) as pool:
        futures = {pool.submit(run, page, seed): (page, seed) for page in wanted for seed in seeds if seed not in runs[page]}
        for future in as_completed(futures):
            page, seed = futures[future]
            found, error = runs[page][seed] = future.result()
            held = [record["held"] for record in found if record["kind"] == "claim"]
            print(f"{name_of(page)} [seed {seed}]: {sum(held)} of {len(held)} claims held {error or ''}", flush=True)
            if len(runs[page]) == len(seeds):
                yield page, entry_of({seed: runs[page][seed] for seed in seeds})


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m press.robust", description=__doc__.splitlines()[0])
    parser.add_argument("pages", nargs="*", help="default: all")
    parser.add_argument("--force", action="store_true", help="also what is unchanged")
    parser.add_argument("--workers", type=int, default=os.cpu_count() or 1)
    arguments = parser.parse_args()
    chosen = [page_named(name) for name in arguments.pages] or pages()
    seeds = seeds_asked(os.environ.get("SEEDS", ""))
    fixed = seeds == SEEDS
    name = "robust" if fixed else "robust_fresh"
    if not fixed:
        print(f"SEEDS={','.join(map(str, seeds))}", flush=True)
    report = read_report(ROOT, name)
    wanted = [page for page in chosen if arguments.force or not fixed or not is_current(report.get(name_of(page)), page)]
    made_with = {page: fingerprint(page, variables=as_published()) for page in wanted}
    known = as_published_in_the_book(wanted) if fixed and not arguments.force else {}
    for page, entry in measure(wanted, seeds, arguments.workers, known):
        entries = {name_of(page): dict(fingerprint=made_with[page], **entry)}
        report = update_report(ROOT, name, entries, keep=map(name_of, pages()))
    published = read_report(ROOT, "robust")
    found = []
    for page in map(name_of, chosen):
        if page in report:
            found += [f"{page}: {fault}" for fault in faults(report[page], published_cards(published.get(page, {})))]
    print("\n".join(["", *(f"FAULT {fault}" for fault in found)]) if found else "\nno faults")
    return bool(found)


if __name__ == "__main__":
    sys.exit(main())
