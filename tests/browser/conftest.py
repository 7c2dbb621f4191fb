import shutil

import pytest
from playwright.sync_api import sync_playwright
from views import SITE, served


@pytest.fixture(scope="session")
def browser():
    chromium = shutil.which("chromium")
    if not chromium:
        pytest.skip("Chromium is not installed: apt-get install chromium")
    quiet = ["--no-sandbox", "--disable-background-networking", "--disable-component-update", "--disable-sync", "--no-first-run"]
    with sync_playwright() as playwright, playwright.chromium.launch(executable_path=chromium, args=quiet) as browser:
        yield browser


@pytest.fixture(scope="session")
def site():
    """The address of the built site, served on this machine."""
    assert SITE.exists(), "the book is not built; run `make book`"
    with served(SITE) as url:
        yield url
