import shutil

import pytest
from playwright.sync_api import sync_playwright
from views import SITE, served, without_scripts

QUIET = ["--no-sandbox", "--disable-background-networking", "--disable-component-update", "--disable-sync", "--no-first-run"]
ALONE = "--host-resolver-rules=MAP * ~NOTFOUND , EXCLUDE 127.0.0.1"  # whatever a page asks of another host stays unanswered


@pytest.fixture(scope="session")
def browser():
    chromium = shutil.which("chromium")
    if not chromium:
        pytest.skip("Chromium is not installed: apt-get install chromium")
    with sync_playwright() as playwright, playwright.chromium.launch(executable_path=chromium, args=[*QUIET, ALONE]) as browser:
        yield browser


@pytest.fixture(scope="session")
def scriptless(browser):
    with without_scripts(browser) as view:
        yield view


@pytest.fixture(scope="session")
def site():
    """The address of the built site, served on this machine."""
    assert SITE.exists(), "the book is not built; run `make book`"
    with served(SITE) as url:
        yield url
