"""A chapter opened in JupyterLab reads the same as its page. Needs `make book`."""

import json
import os
import re
import socket
import subprocess
import sys
import time
import urllib.request

import nbformat
import pytest
from nbformat.v4 import new_output
from playwright.sync_api import expect
from tiny_chapter import cell_holding, tiny_chapter
from views import opened

from press import ROOT, cache, folding

CHAPTERS = sorted((ROOT / "chapters").glob("*.ipynb"))
pytestmark = pytest.mark.xdist_group("JupyterLab")  # on one worker: it is slow to start
PATIENCE = 180_000  # milliseconds for JupyterLab to draw or run a notebook, on a busy machine


@pytest.fixture(scope="module")
def lab(tmp_path_factory):
    """The address of a JupyterLab of its own, in a folder with the executed chapters and a tiny one that was not run."""
    home = tmp_path_factory.mktemp("lab")
    work = home / "chapters"
    work.mkdir()
    execution_cache = cache.open_cache(ROOT)
    for path in CHAPTERS:
        nbformat.write(cache.executed(path, execution_cache), work / path.name)
    nbformat.write(tiny_chapter(), work / "not_run.ipynb")
    broken = tiny_chapter()
    cell_holding(broken, "## 1. Clarify").source += "\n\n:::{admonition} Left open\n\n:::{bogus}\nText.\n:::\n\n{nonsense}`x`"
    cell_holding(broken, "colophon()").outputs = [new_output("error", ename="ClaimFailed", evalue="no", traceback=["ClaimFailed: no"])]
    nbformat.write(broken, work / "broken.ipynb")
    # All cells are drawn, also those out of sight.
    settings = home / "settings" / "@jupyterlab" / "notebook-extension" / "tracker.jupyterlab-settings"
    settings.parent.mkdir(parents=True)
    settings.write_text(json.dumps({"windowingMode": "none"}))
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    options = ["--no-browser", "--allow-root", "--ServerApp.ip=127.0.0.1", f"--ServerApp.port={port}", f"--ServerApp.root_dir={work}"]
    options += ["--IdentityProvider.token=", "--LabApp.news_url=None", "--LabApp.expose_app_in_browser=True"]
    options += ["--LabApp.check_for_updates_class=jupyterlab.NeverCheckForUpdate"]
    places = {f"JUPYTER_{kind}_DIR": str(home / kind.lower()) for kind in ("CONFIG", "DATA", "RUNTIME")}
    environment = os.environ | places | {"JUPYTERLAB_SETTINGS_DIR": str(home / "settings"), "JUPYTERLAB_WORKSPACES_DIR": str(home)}
    log = (home / "log.txt").open("w")
    server = subprocess.Popen([sys.executable, "-m", "jupyterlab", *options], env=environment, stdout=log, stderr=log)
    url = f"http://127.0.0.1:{port}"
    try:
        deadline = time.monotonic() + 120
        while True:
            try:
                urllib.request.urlopen(f"{url}/api", timeout=10).close()
                break
            except OSError:
                assert server.poll() is None and time.monotonic() < deadline, (home / "log.txt").read_text()
                time.sleep(0.5)
        yield url
    finally:
        server.terminate()
        server.wait(30)


def notebook(view):
    """The panel of the notebook, once it is drawn to its end."""
    panel = view.page.locator(".jp-Notebook")
    panel.get_by_role("heading", name="14. Further reading").wait_for(timeout=PATIENCE)
    return panel


def shown_errors(panel):
    kinds = [f"[data-mime-type='application/vnd.jupyter.{kind}']" for kind in ("error", "stderr")]
    return panel.locator(", ".join([*kinds, ".katex-error"])).all_inner_texts()


def raw_markup(panel):
    """Lines of prose or output that are still Markdown, or that JupyterLab could not make sense of."""
    texts = panel.locator(".jp-MarkdownCell .myst, .jp-OutputArea-output").all_inner_texts()
    assert len(texts) > 10
    return [
        line for text in texts for line in text.splitlines() if re.search(r":::|^```|^:\w+: |\{\w+\}`|Unknown Directive|Unknown Role", line)
    ]


@pytest.fixture(scope="module")
def started(browser, lab):
    """JupyterLab as it comes, which takes longer to start than to open a chapter in."""
    with opened(browser, f"{lab}/lab?reset") as view:
        view.page.wait_for_function("window.jupyterapp !== undefined")
        view.page.evaluate("window.jupyterapp.restored")
        yield view


@pytest.mark.parametrize("path", CHAPTERS, ids=lambda path: path.stem)
def test_a_chapter_reads_as_on_its_page(started, path):
    started.page.evaluate(
        """async (path) => {
            window.chapter?.dispose(); // closing it would ask whether to save
            window.chapter = await window.jupyterapp.commands.execute("docmanager:open", { path });
        }""",
        path.name,
    )
    panel = notebook(started)
    boxes = panel.locator(".jp-MarkdownCell :is(aside, details)").count()  # a claim has a fold of its own
    text = path.read_text()
    assert boxes == text.count(":::{admonition}") + text.count(":::{exercise}") + text.count(":::{solution}")
    expect(panel.locator(".myst figure svg[id^=mermaid]")).to_have_count(text.count("```mermaid"), timeout=PATIENCE)
    assert panel.locator(".mlsd-claim").count() >= 6
    assert raw_markup(panel) == []
    assert shown_errors(panel) == []
    assert started.foreign == []


def test_boxes_differ_and_what_reports_is_collapsed(browser, lab):
    """Before anything is run: no style of the book's reaches JupyterLab, so a box's own classes must do."""
    with opened(browser, f"{lab}/lab/tree/not_run.ipynb?reset") as view:
        panel = notebook(view)
        seen = "(box) => getComputedStyle(box).borderLeftColor + getComputedStyle(box).borderLeftWidth + box.querySelector('svg').outerHTML"
        looks = {name: panel.locator(f"aside.{name}").first.evaluate(seen) for name in folding.LOOKS}
        assert len(set(looks.values())) == len(looks) == 4, looks
        collapsed = sum(folding.reporting(tiny_chapter()))
        assert panel.locator(".jp-CodeCell .jp-InputPlaceholder").count() == collapsed > 10
        assert "To run it: make lab" in panel.inner_text()


def test_a_chapter_runs_with_run_all_cells(browser, lab):
    with opened(browser, f"{lab}/lab/tree/not_run.ipynb?reset") as view:
        panel = notebook(view)
        assert panel.locator(".mlsd-claim").count() == 0
        view.page.evaluate(  # not before the kernel has answered, or nothing runs; and nobody waits here for the cells
            """async () => {
                const { sessionContext } = window.jupyterapp.shell.currentWidget;
                await sessionContext.ready;
                await sessionContext.session.kernel.info;
                void window.jupyterapp.commands.execute("notebook:run-all-cells");
            }"""
        )
        panel.locator(".mlsd-colophon").wait_for(timeout=4 * PATIENCE)
        expect(panel.locator(".mlsd-claim")).to_have_count(6)
        border = "(card) => getComputedStyle(card).borderLeftColor"
        claim, card = (panel.locator(name).first.evaluate(border) for name in (".mlsd-claim", ".mlsd-decision"))
        assert (claim, card) == ("rgb(0, 158, 115)", "rgb(184, 117, 0)")
        assert panel.locator("img.jp-RenderedImage, .jp-RenderedImage img").count() == 1
        assert raw_markup(panel) == []
        assert shown_errors(panel) == []


def test_raw_markup_and_errors_are_noticed(browser, lab):
    with opened(browser, f"{lab}/lab/tree/broken.ipynb?reset") as view:
        panel = notebook(view)
        assert raw_markup(panel)
        assert shown_errors(panel)
