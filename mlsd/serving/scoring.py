"""A bundle's own code, scoring.py: what it is given, how it is loaded, and how it is tried in a process of its own first.

Code from a bundle may call sys.exit, never end, or crash the interpreter. The service therefore lets a child
process import it and run it on the golden requests (without the model, so the child starts in a fraction of
a second); what goes wrong there goes wrong in the child alone.

    python -m mlsd.serving.scoring bundles/0123456789ab
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from types import ModuleType
from typing import NamedTuple

import numpy as np

_PASSED = "the code of this bundle has run to its end"


class BundleError(RuntimeError):
    """A bundle that must not serve: its name, its files or its scores are not what was promised."""


class BundleUnfinished(BundleError):
    """A file is missing or altered, or the trial took too long: perhaps still on its way, so worth another look."""


class Live(NamedTuple):
    """What changes with every event, for each item of a request. Both have shape (len(items),), int64."""

    total: np.ndarray  # users with an event of the kind that the bundle names in LIVE
    of_friends: np.ndarray  # those among them whom the user's row names in "friends"

    @classmethod
    def of(cls, total: object, of_friends: object) -> Live:
        """From lists, e.g. those of a golden request."""
        return cls(np.asarray(total, np.int64), np.asarray(of_friends, np.int64))


def load_scoring(version: str, source: str) -> ModuleType:
    """Execute scoring.py. Raises whatever it raises, and ValueError if it lacks a function."""
    scoring = ModuleType(f"scoring_{version}")
    exec(compile(source, f"<scoring.py of {version}>", "exec"), scoring.__dict__)
    for needed in ("features", "combine"):
        if not callable(getattr(scoring, needed, None)):
            raise ValueError(f"scoring.py defines no function {needed!r}")
    return scoring


def golden_live(request: Mapping) -> Live:
    """The live counts of a golden request."""
    return Live.of(request["live"]["total"], request["live"]["of_friends"])


def try_scoring(directory: Path, timeout_s: float) -> None:
    """Run the bundle's code in a child process. Raises BundleError with the end of what the child said."""
    command = [sys.executable, "-m", "mlsd.serving.scoring", str(directory)]
    alone = os.environ | dict(OMP_NUM_THREADS="1", OPENBLAS_NUM_THREADS="1")
    try:
        child = subprocess.run(command, stdin=subprocess.DEVNULL, capture_output=True, timeout=timeout_s, env=alone)
    except subprocess.TimeoutExpired as error:
        raise BundleUnfinished(f"{directory}: its code did not end within {timeout_s:g} s in a trial") from error
    except OSError as error:  # no descriptor, no memory: not the bundle's fault
        raise BundleUnfinished(f"{directory}: its code cannot be tried ({error})") from error
    if child.returncode != 0 or _PASSED not in child.stdout.decode(errors="replace"):
        said = child.stderr.decode(errors="replace").strip().splitlines()[-1:] or [f"it ended the process with code {child.returncode}"]
        raise BundleError(f"{directory}: its code fails in a trial: {said[0][:300]}")


def _main(directory: Path) -> None:
    part = {name: json.loads((directory / f"{name}.json").read_text()) for name in ("encoder", "weights", "golden")}
    scoring = load_scoring(directory.name, (directory / "scoring.py").read_text())
    for request in part["golden"]:
        matrix = scoring.features(request["user"], request["items"], golden_live(request), request["now"], part["encoder"])
        scoring.combine(np.zeros(len(matrix)), request["items"], part["weights"])
    print(_PASSED)


if __name__ == "__main__":
    _main(Path(sys.argv[1]))
