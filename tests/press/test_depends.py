"""What makes a page stale, and what does not."""

import nbformat
import pytest
from nbformat.v4 import new_code_cell, new_markdown_cell, new_notebook

from press import ROOT, depends, page_named

FILES = {
    "requirements.txt": "numpy==2.0",
    "mlsd/__init__.py": "",
    "mlsd/figures.py": "",
    "mlsd/estimates.py": "",
    "mlsd/datasets.py": "from mlsd.worlds import open_world\ndef load(name):\n    return open_world(name)",
    "mlsd/worlds/__init__.py": 'WORLDS = {"ads": "mlsd.worlds.ads", "products": "mlsd.worlds.products"}\ndef open_world(name): ...',
    "mlsd/worlds/base.py": "",
    "mlsd/worlds/ads.py": "from .base import effect\n",
    "mlsd/worlds/products.py": '"""Products."""\nfrom mlsd.worlds.base import effect\n',
    "mlsd/serving/__init__.py": "",
    "mlsd/serving/process.py": '"""See python -m mlsd.figures."""\ndef start():\n    command = ["-m", "mlsd.serving.service"]',
    "mlsd/serving/service.py": "def run():\n    from mlsd.serving import ranker",
    "mlsd/serving/ranker.py": "",
    "data/checksums.txt": "1  ads/log.parquet\n2  products/log.parquet\n3  external/open_bandit/x.csv\n4  external/mathjax/y.js\n",
    "data/ads/log.parquet": "ads",
    "data/ads/README.md": "ads",
    "data/products/log.parquet": "products",
    "data/external/open_bandit/x.csv": "bandit",
    "data/external/mathjax/y.js": "maths",
}
CODE = """from mlsd.estimates import mean
from mlsd.worlds import open_world
from mlsd import datasets
from mlsd.serving.process import start
world, log = open_world("ads"), datasets.load("ads")
real = datasets.real("open_bandit")"""


def write(page, code=CODE, prose="Prose."):
    page.parent.mkdir(parents=True, exist_ok=True)
    nbformat.write(new_notebook(cells=[new_markdown_cell(prose), new_code_cell(code)]), page)


@pytest.fixture
def book(tmp_path):
    for name, text in FILES.items():
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text(text)
    write(tmp_path / "chapters" / "page.ipynb")
    return tmp_path


def fingerprint(root, variables=None):
    return depends.fingerprint(root / "chapters" / "page.ipynb", root, variables or {})


def changes(root, name, before, after):
    was = fingerprint(root)
    text = (root / name).read_text()
    assert before in text
    (root / name).write_text(text.replace(before, after))
    return fingerprint(root) != was


def test_it_leads_to_modules_and_data(book):
    modules, names = depends.reached(book / "chapters" / "page.ipynb", book)
    assert {path.relative_to(book).as_posix().removeprefix("mlsd/") for path in modules} == {
        "__init__.py",
        "estimates.py",
        "datasets.py",
        "worlds/__init__.py",
        "worlds/ads.py",
        "worlds/base.py",
        "serving/__init__.py",
        "serving/process.py",
        "serving/service.py",  # by its name in a string: it runs in a process of its own
        "serving/ranker.py",  # imported inside a function
    }
    assert {"ads", "open_bandit"} <= names and not names & {"products", "mathjax"}


@pytest.mark.parametrize(
    ("name", "before", "after"),
    [
        ("mlsd/estimates.py", "", "changed = 1"),
        ("mlsd/worlds/ads.py", "", "changed = 1"),
        ("mlsd/worlds/base.py", "", "changed = 1"),  # by a relative import
        ("mlsd/serving/service.py", "def run", "changed = 1\ndef run"),
        ("mlsd/serving/ranker.py", "", "changed = 1"),
        ("data/ads/log.parquet", "ads", "cut"),
        ("data/checksums.txt", "1  ads", "9  ads"),
        ("data/checksums.txt", "3  external", "9  external"),
        ("requirements.txt", "2.0", "2.1"),
    ],
)
def test_it_is_stale_when_what_it_uses_changes(book, name, before, after):
    assert changes(book, name, before, after)


@pytest.mark.parametrize(
    ("name", "before", "after"),
    [
        ("mlsd/worlds/products.py", "Products.", "All products."),
        ("mlsd/figures.py", "", "changed = 1"),  # named in a docstring only
        ("data/products/log.parquet", "products", "cut"),
        ("data/checksums.txt", "2  products", "9  products"),
        ("data/checksums.txt", "4  external", "9  external"),
        ("data/ads/README.md", "ads", "The ads."),
        ("mlsd/serving/ranker.py", "", "# a comment"),
        ("mlsd/serving/process.py", "See python", "Look at python"),
    ],
)
def test_it_is_not_stale_when_something_else_changes(book, name, before, after):
    assert not changes(book, name, before, after)


def test_its_code_counts_and_its_prose_does_not(book):
    was = fingerprint(book)
    write(book / "chapters" / "page.ipynb", prose="Other prose.")
    assert fingerprint(book) == was
    write(book / "chapters" / "page.ipynb", code=CODE + "\nx = 1")
    assert fingerprint(book) != was


@pytest.mark.parametrize("variable", ["MLSD_SEED", "MLSD_CLAIMS"])
def test_its_environment_counts(book, variable):
    assert fingerprint(book, {variable: "5"}) != fingerprint(book)


def test_a_variable_that_is_not_set_has_the_value_of_the_book(book):
    assert fingerprint(book, {"KERAS_BACKEND": "torch", "HOME": "/elsewhere"}) == fingerprint(book)  # the kernel sets its own


def test_a_world_that_is_opened_in_a_roundabout_way_counts(book):
    write(book / "chapters" / "page.ipynb", 'from mlsd.worlds import open_world\nworlds = {n: open_world(n) for n in ["products"]}')
    assert changes(book, "mlsd/worlds/products.py", "from", "changed = 1\nfrom")
    write(book / "chapters" / "page.ipynb", "from mlsd.worlds import open_world\nworld = open_world(''.join(['a', 'ds']))")
    assert changes(book, "mlsd/worlds/ads.py", "from", "changed = 1\nfrom")


@pytest.mark.parametrize(("page", "uses", "does_not"), [
    ("ad_click_prediction", "mlsd/worlds/ads.py", "mlsd/worlds/products.py"),
    ("batch_and_online_serving", "mlsd/serving/service.py", "mlsd/worlds/feed.py"),
    ("visual_search", "mlsd/worlds/products.py", "mlsd/serving/service.py"),
])  # fmt: skip
def test_the_chapters_depend_on_what_they_run(page, uses, does_not):
    modules, _ = depends.reached(page_named(page))
    assert ROOT / uses in modules
    assert ROOT / does_not not in modules
