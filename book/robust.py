"""Do the claims hold on other seeds, and do they fail when what they rest on is taken away?

    python book/robust.py seeds [CHAPTER ...]      every chapter over five seeds -> reports/robust.json
    python book/robust.py effects [CHAPTER ...]    every chapter without each effect its claims rest on -> reports/falsify.json

A chapter whose code, modules and lock are unchanged since its entry in the report is not run again;
--force runs it. The exit code is 1 if a claim breaks the rule: at least 95% of claims x seeds hold
and none fails on more than one seed; without its effect, a claim goes red.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import os
import sys
import time
from concurrent.futures import ProcessPoolExecutor, as_completed

import nbformat
from cache import ROOT, records
from nbclient import NotebookClient

SEEDS = (7, 1, 2, 3, 4)


def run(chapter: str, environment: dict[str, str]) -> dict:
    """Execute a chapter with these variables set, claims recorded and not raised. Returns its claims and colophon."""
    os.environ.update(environment, MLSD_CLAIMS="record")
    started = time.monotonic()
    notebook = nbformat.read(ROOT / "chapters" / f"{chapter}.ipynb", as_version=4)
    error = None
    try:
        NotebookClient(notebook, timeout=900, resources={"metadata": {"path": str(ROOT / "chapters")}}).execute()
    except Exception as caught:  # reported below as a run that did not finish: a claim not reached is not a claim refuted
        error = f"{type(caught).__name__}: {str(caught).strip().splitlines()[-1]}"
    return dict(
        claims=records(notebook, "claim"),
        colophon=next(iter(records(notebook, "colophon")), None),
        error=error,
        seconds=round(time.monotonic() - started, 1),
    )


def fingerprint(chapter: str, modules: list[str]) -> str:
    """Hash of all that a chapter's claims depend on: its code, the modules it imported, the lock."""
    notebook = nbformat.read(ROOT / "chapters" / f"{chapter}.ipynb", as_version=4)
    parts = [cell.source for cell in notebook.cells if cell.cell_type == "code"]
    parts += [(ROOT / module).read_text() for module in modules if (ROOT / module).exists()]
    parts.append((ROOT / "requirements.txt").read_text())
    return hashlib.sha256("\0".join(parts).encode()).hexdigest()[:16]


def run_all(jobs: list[tuple[str, str, dict[str, str]]], workers: int) -> dict[tuple[str, str], dict]:
    """Run (chapter, variant, environment) jobs in parallel processes, each in a fresh one, with a line of progress each."""
    results = {}
    with ProcessPoolExecutor(workers, max_tasks_per_child=1) as pool:
        futures = {pool.submit(run, chapter, environment): (chapter, variant) for chapter, variant, environment in jobs}
        for future in as_completed(futures):
            chapter, variant = futures[future]
            result = results[chapter, variant] = future.result()
            held = sum(claim["held"] for claim in result["claims"])
            print(
                f"{chapter} [{variant}]: {held} of {len(result['claims'])} claims held, {result['seconds']} s {result['error'] or ''}",
                flush=True,
            )
    return results


def robust_entry(runs: dict[str, dict]) -> dict:
    """A chapter's row in the report: each claim with the seeds on which it held. `runs` is by seed."""
    longest = max((r["claims"] for r in runs.values()), key=len)
    return dict(
        claims=[
            dict(sentence=claim["sentence"], held={seed: i < len(r["claims"]) and r["claims"][i]["held"] for seed, r in runs.items()})
            for i, claim in enumerate(longest)
        ],
        errors={seed: r["error"] for seed, r in runs.items() if r["error"]},
    )


def robust_faults(entry: dict) -> list[str]:
    held = [h for claim in entry["claims"] for h in claim["held"].values()]
    faults = [f"seed {seed}: {error}" for seed, error in entry["errors"].items()]
    if sum(held) < 0.95 * len(held):
        faults.append(f"only {sum(held)} of {len(held)} claims x seeds hold")
    for claim in entry["claims"]:
        failed = [seed for seed, h in claim["held"].items() if not h]
        if len(failed) > 1:
            faults.append(f"fails on seeds {', '.join(failed)}: {claim['sentence']}")
    return faults


def falsify_entry(baseline: dict, runs: dict[str, dict]) -> dict:
    """A chapter's row in the report: each claim that names effects, and whether it went red without each."""
    rows = []
    for i, claim in enumerate(baseline["claims"]):
        if claim["rests_on"]:
            red = {e: i < len(runs[e]["claims"]) and not runs[e]["claims"][i]["held"] for e in claim["rests_on"]}
            rows.append(dict(sentence=claim["sentence"], red=red))
    return dict(claims=rows, errors={e: r["error"] for e, r in runs.items() if r["error"]})


def falsify_faults(entry: dict) -> list[str]:
    faults = [f"without {effect}: {error}" for effect, error in entry["errors"].items()]
    return faults + [f"stays green without {e}: {c['sentence']}" for c in entry["claims"] for e, red in c["red"].items() if not red]


def is_current(entry: dict | None, chapter: str) -> bool:
    return entry is not None and fingerprint(chapter, entry["modules"]) == entry["fingerprint"]


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("question", choices=("seeds", "effects"))
    parser.add_argument("chapters", nargs="*", help="default: all")
    parser.add_argument("--force", action="store_true")
    parser.add_argument("--workers", type=int, default=2)
    arguments = parser.parse_args()
    everything = sorted(path.stem for path in (ROOT / "chapters").glob("*.ipynb"))
    report_path = ROOT / "reports" / ("robust.json" if arguments.question == "seeds" else "falsify.json")
    report = json.loads(report_path.read_text()) if report_path.exists() else {}
    wanted = [c for c in arguments.chapters or everything if arguments.force or not is_current(report.get(c), c)]

    if arguments.question == "seeds":
        jobs = [(chapter, str(seed), {"MLSD_SEED": str(seed)}) for chapter in wanted for seed in SEEDS]
        results = run_all(jobs, arguments.workers)
        baselines = {c: results[c, str(SEEDS[0])] for c in wanted}
        entries = {c: robust_entry({str(s): results[c, str(s)] for s in SEEDS}) for c in wanted}
    else:
        baselines = {c: r for (c, _), r in run_all([(c, "as published", {}) for c in wanted], arguments.workers).items()}
        effects = {c: sorted({e for claim in b["claims"] for e in claim["rests_on"]}) for c, b in baselines.items()}
        results = run_all([(c, f"without {e}", {"MLSD_WITHOUT": e}) for c in wanted for e in effects[c]], arguments.workers)
        entries = {c: falsify_entry(baselines[c], {e: results[c, f"without {e}"] for e in effects[c]}) for c in wanted}
    for chapter, entry in entries.items():
        modules = (baselines[chapter]["colophon"] or {}).get("modules", [])
        report[chapter] = dict(fingerprint=fingerprint(chapter, modules), modules=modules, **entry)
    # Read again before writing: another chapter may have been measured meanwhile.
    latest = json.loads(report_path.read_text()) if report_path.exists() else {}
    latest.update({chapter: report[chapter] for chapter in entries})
    report_path.parent.mkdir(exist_ok=True)
    report_path.write_text(json.dumps(dict(sorted(latest.items())), indent=1, ensure_ascii=False) + "\n")

    find_faults = robust_faults if arguments.question == "seeds" else falsify_faults
    faults = [f"{c}: {fault}" for c in arguments.chapters or everything if c in latest for fault in find_faults(latest[c])]
    print("\n".join(["", *(f"FAULT {fault}" for fault in faults)]) if faults else "\nno faults")
    return bool(faults)


if __name__ == "__main__":
    sys.exit(main())
