"""For all suites: the environment of a chapter's kernel, and what a skip means.

A check that was skipped has shown nothing, so in CI a skip is a failure.
"""

import json
import os
from pathlib import Path

import pytest

KERNEL = Path(__file__).resolve().parent.parent / "share" / "jupyter" / "kernels" / "mlsd" / "kernel.json"

# Read by libraries when they load, so before any test module does. What the caller has set stays.
for name, value in json.loads(KERNEL.read_text())["env"].items():
    os.environ.setdefault(name, value)


def failed_in_ci(report):
    if report.skipped and not hasattr(report, "wasxfail") and os.environ.get("CI"):
        report.outcome = "failed"
        report.longrepr = f"skipped, and a skip is a failure in CI: {report.longrepr}"


@pytest.hookimpl(hookwrapper=True)
def pytest_runtest_makereport(item, call):
    failed_in_ci((yield).get_result())


@pytest.hookimpl(hookwrapper=True)
def pytest_make_collect_report(collector):
    failed_in_ci((yield).get_result())
