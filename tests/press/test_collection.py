"""A bare `pytest` collects every suite: two files of one name, in folders that are no packages, would stop it."""

import subprocess
import sys
from collections import Counter

from press import ROOT


def test_files_of_tests_have_names_of_their_own():
    names = Counter(path.stem for path in (ROOT / "tests").rglob("*.py") if path.stem not in ("conftest", "__init__"))
    assert [name for name, n in names.items() if n > 1] == []


def test_every_suite_is_collected():
    done = subprocess.run([sys.executable, "-m", "pytest", "--collect-only", "-q", "tests"], cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout[-3000:] + done.stderr[-3000:]
