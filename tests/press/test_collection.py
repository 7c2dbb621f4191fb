"""A bare `pytest` collects every suite."""

import subprocess
import sys

from press import ROOT


def test_every_suite_is_collected():
    done = subprocess.run([sys.executable, "-m", "pytest", "--collect-only", "-q", "tests"], cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout[-3000:] + done.stderr[-3000:]
