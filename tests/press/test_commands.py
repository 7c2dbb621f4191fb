"""The commands that README, CONTRIBUTING and the Makefile give do what is said of them."""

import collections
import json
import os
import re
import shutil
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from pathlib import Path

import nbformat
import pytest
from jupyter_client.kernelspec import get_kernel_spec
from nbclient import NotebookClient
from nbformat.v4 import new_code_cell, new_notebook
from tiny_chapter import tiny_chapter

from press import preflight

ROOT = Path(__file__).resolve().parents[2]
PAGES = sorted((ROOT / "chapters").glob("**/*.ipynb"))
BIN = Path(sys.executable).parent
OF_MAKE = ("MAKEFLAGS", "MAKELEVEL", "MFLAGS")  # `make test` passes them on, and a make within a make says where it is


def recipe(target, **variables):
    """The commands of a target of the Makefile, as make would run them (less what the target needs first)."""
    settings = [f"{name}={value}" for name, value in variables.items()]
    command = ["make", "-n", "-o", ".venv/installed", "-o", "data", target, *settings]
    own = {name: value for name, value in os.environ.items() if name not in OF_MAKE}
    shown = subprocess.run(command, cwd=ROOT, env=own, capture_output=True, text=True)
    assert shown.returncode == 0, shown.stderr
    return shown.stdout.strip().splitlines()


def run(command, cwd):
    return subprocess.run(command, shell=True, cwd=cwd, env=os.environ | {"PATH": f"{BIN}{os.pathsep}{os.environ['PATH']}"}, check=True)


def test_ci_runs_every_block_of_the_readme():
    text, script = (ROOT / "README.md").read_text(), (ROOT / ".ci" / "run").read_text()
    titles = re.findall(r"step readme \"(.+?)\"", script)
    blocks = [subprocess.run([ROOT / ".ci" / "readme", title], check=True, capture_output=True, text=True).stdout for title in titles]
    assert sorted(blocks) == sorted(re.findall(r"^```sh\n(.*?)^```$", text, flags=re.M | re.S)) != []


def test_a_block_that_is_not_there_ends_ci():
    done = subprocess.run([ROOT / ".ci" / "readme", "With ninja"], capture_output=True, text=True)
    assert done.returncode == 1 and "expected a section 'With ninja', found" in done.stderr


@pytest.mark.parametrize("command", ["check", "format --check"])
def test_ruff_finds_nothing_in_programs_and_chapters(command):
    done = subprocess.run([BIN / "ruff", *command.split(), "--output-format=concise", "."], cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, f"run `make tidy`:\n{done.stdout}{done.stderr}"


def test_names_of_test_files_and_their_helpers_are_unique():
    names = collections.Counter(path.name for path in (ROOT / "tests").rglob("*.py") if path.name not in ("conftest.py", "__init__.py"))
    assert [name for name, n in names.items() if n > 1] == [], "pytest imports test files by their bare names"


def test_tidy_strips_outputs_and_keeps_ids(tmp_path):
    (tmp_path / "chapters").mkdir()
    for name in ("pyproject.toml", "chapters/ruff.toml"):
        shutil.copy(ROOT / name, tmp_path / name)
    page = tmp_path / "chapters" / "tiny.ipynb"
    before = tiny_chapter()
    before.cells[-1].metadata.pop("tags")
    code = next(cell for cell in before.cells if cell.cell_type == "code")
    code.outputs, code.execution_count = [nbformat.v4.new_output("stream", text="left behind")], 7
    nbformat.write(before, page)
    for command in recipe("tidy"):
        run(command, tmp_path)
    after = nbformat.read(page, as_version=4)
    assert [cell.id for cell in after.cells] == [cell.id for cell in before.cells]
    assert "hide-input" in after.cells[-1].metadata.tags
    assert all(not cell.get("outputs") and cell.get("execution_count") is None for cell in after.cells)


# ---------- the kernel ----------


def test_a_kernel_has_its_variables_without_any_from_its_caller():
    wanted = get_kernel_spec("mlsd").env
    assert wanted == json.loads((ROOT / "share" / "jupyter" / "kernels" / "mlsd" / "kernel.json").read_text())["env"]
    page = new_notebook(cells=[new_code_cell(f"import os; print({{name: os.environ.get(name) for name in {list(wanted)}}} == {wanted})")])
    page.metadata.kernelspec = dict(name="mlsd", display_name="", language="python")
    bare = {name: value for name, value in os.environ.items() if name not in wanted}
    NotebookClient(page).execute(env=bare)
    assert page.cells[0].outputs[0].text == "True\n"


def test_the_variables_stand_in_one_place():
    for name in ("Makefile", "README.md", "postBuild", ".ci/run", *(str(page.relative_to(ROOT)) for page in PAGES)):
        assert not re.search("KERAS_BACKEND|MALLOC_ARENA_MAX|ARROW_DEFAULT_MEMORY_POOL", (ROOT / name).read_text()), name


def test_preflight_tells_a_kernel_that_is_missing_or_another(tmp_path):
    assert preflight.kernel().ok
    assert preflight.kernel(prefix=tmp_path).found == "none named mlsd"
    other = tmp_path / preflight.KERNEL
    other.parent.mkdir(parents=True)
    other.write_text(json.dumps({"env": {"KERAS_BACKEND": "torch"}}))
    found = preflight.kernel(prefix=tmp_path)
    assert not found.ok and found.found == "mlsd, with other variables" and "pip install -e ." in found.remedy


# ---------- make lab ----------


@pytest.fixture(scope="module")
def lab(tmp_path_factory):
    """The address of what `make lab` starts, without a browser. As root if we are."""
    home = tmp_path_factory.mktemp("lab")
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    options = f" --no-browser --ServerApp.ip=127.0.0.1 --ServerApp.port={port} --IdentityProvider.token= --LabApp.news_url=None"
    places = {f"JUPYTER_{kind}_DIR": str(home / kind.lower()) for kind in ("CONFIG", "DATA", "RUNTIME")}
    environment = os.environ | places | {"PATH": f"{BIN}{os.pathsep}{os.environ['PATH']}"}
    with (home / "log.txt").open("w") as log:
        server = subprocess.Popen("exec " + recipe("lab")[-1] + options, shell=True, cwd=ROOT, env=environment, stdout=log, stderr=log)
    try:
        deadline = time.monotonic() + 120
        while True:
            try:
                urllib.request.urlopen(f"http://127.0.0.1:{port}/api/status", timeout=10).close()
                break
            except OSError:
                assert server.poll() is None and time.monotonic() < deadline, (home / "log.txt").read_text()
                time.sleep(0.2)
        yield f"http://127.0.0.1:{port}"
    finally:
        server.terminate()
        try:
            server.wait(60)
        except subprocess.TimeoutExpired:  # it waits for something that it started
            server.kill()
            raise


def found(address, path):
    try:
        with urllib.request.urlopen(f"{address}/api/contents/{path}?content=0", timeout=60) as answer:
            return answer.status == 200
    except urllib.error.HTTPError:
        return False


def test_links_of_chapters_lead_somewhere_in_jupyterlab(lab):
    assert found(lab, "chapters") and not found(lab, "no_such_page.md")
    links = set()
    for page in PAGES:
        text = "\n".join(cell.source for cell in nbformat.read(page, as_version=4).cells if cell.cell_type == "markdown")
        text = re.sub(r"^```.*?^```", "", text, flags=re.M | re.S)  # code has calls that look like links
        for target in re.findall(r"\]\(([^)#\s:]+)(?:#[^)]*)?\)", text):
            links.add(os.path.relpath((page.parent / target).resolve(), ROOT))
    assert len(links) >= 5
    assert [link for link in sorted(links) if not found(lab, link)] == []
