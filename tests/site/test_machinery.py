"""What the README, the workflows and Binder name is there."""

import json
import os
import re
import subprocess
from pathlib import Path

import pytest
import yaml

ROOT = Path(__file__).resolve().parents[2]
TARGETS = set(re.findall(r"^([a-z-]+):", (ROOT / "Makefile").read_text(), re.M))
WORKFLOWS = sorted((ROOT / ".github" / "workflows").glob("*.yml"))
TEXTS = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", ROOT / "index.md", *sorted((ROOT / "pages").glob("*.md"))]
SCRIPTS = [".ci/run", "postBuild", "press/binder.sh"]


@pytest.mark.parametrize("path", [*TEXTS, *WORKFLOWS, ROOT / ".ci" / "run"], ids=lambda path: path.name)
def test_every_make_target_that_is_named_exists(path):
    text = path.read_text()
    quoted = re.findall(r"`make ([^`]+)`", text) + re.findall(r"^(?:\s*- run: |step )?\s*make (.+)$", text, re.M)
    named = {word for command in quoted for word in command.partition("#")[0].split() if re.fullmatch(r"[a-z-]+", word)}
    assert named <= TARGETS


def test_every_path_that_contributing_names_exists():
    """NAME stands for each world; a path with another word in capitals is a template."""
    named = re.findall(r"`((?:mlsd|press|tests|data|chapters|share|pages)/[\w/.]+)`", (ROOT / "CONTRIBUTING.md").read_text())
    assert len(named) > 20
    for_worlds = [name.replace("NAME", world) for name in named if "NAME" in name for world in ("ads", "events")]
    for_worlds = [path for path in for_worlds if not path.startswith("chapters/")]
    assert [path for path in [*(n for n in named if "NAME" not in n), *for_worlds] if not (ROOT / path).exists()] == []


@pytest.mark.parametrize("script", SCRIPTS)
def test_scripts_can_be_run(script):
    assert os.access(ROOT / script, os.X_OK)
    subprocess.run(["bash", "-n", ROOT / script], check=True)


@pytest.mark.parametrize("path", WORKFLOWS, ids=lambda path: path.name)
def test_workflows_may_read_and_only_the_publisher_may_write(path):
    workflow = yaml.safe_load(path.read_text())
    assert workflow["permissions"] == {"contents": "read"}
    allowed = {name: job["permissions"] for name, job in workflow["jobs"].items() if "permissions" in job}
    assert allowed == ({"publish": {"pages": "write", "id-token": "write"}} if path.stem == "book" else {})
    for job in workflow["jobs"].values():
        assert job["timeout-minutes"] <= 180
        assert all(("run" in step) != ("uses" in step) for step in job["steps"])


def test_the_workflows_run_what_ci_runs():
    for path in WORKFLOWS:
        steps = yaml.safe_load(path.read_text())["jobs"]["test"]["steps"]
        assert "bash .ci/run" in [step.get("run") for step in steps]


def test_a_launch_lands_on_the_workshop_page():
    """What postBuild copies into Jupyter's own folder of settings; a page that is text shows as it reads, not as it is written."""
    settings = ROOT / "press" / "assets" / "binder"
    assert "press/assets/binder/." in (ROOT / "postBuild").read_text()
    found = {path.relative_to(settings).as_posix(): json.loads(path.read_text()) for path in settings.rglob("*.json")}
    lands = {found["jupyter_lab_config.json"]["LabApp"]["default_url"]}
    lands |= {found["jupyter_server_config.d/landing.json"]["ServerApp"]["default_url"]}
    assert lands == {"/lab/tree/pages/workshop.md"} and (ROOT / "pages" / "workshop.md").exists()
    viewers = found["labconfig/default_setting_overrides.json"]["@jupyterlab/docmanager-extension:plugin"]["defaultViewers"]
    assert viewers == {"markdown": "Markdown Preview"}


def test_binder_has_a_python_that_the_package_supports():
    major, minor = map(int, re.fullmatch(r"python-(\d+)\.(\d+)\n", (ROOT / "runtime.txt").read_text()).groups())
    assert (major, minor) >= (3, 11)
    assert "libgomp1" in (ROOT / "apt.txt").read_text().split()
