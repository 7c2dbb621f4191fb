"""Shipped and fetched files: what is wrong with one is named, with what was expected and what to do."""

import shutil
import zipfile

import pandas as pd
import pytest

from mlsd import datasets, files, worlds
from mlsd.datasets import DatasetError
from mlsd.worlds import WORLDS, open_world, world_class
from mlsd.worlds.checks import at_random

SHIPPED = [name for name in WORLDS if (datasets.DATA / name / "log.parquet").exists()]


@pytest.fixture
def data(tmp_path, monkeypatch):
    """A private copy of data/, so that a test may damage it."""
    for name in ("checksums.txt", "sources.txt"):
        shutil.copy(datasets.DATA / name, tmp_path / name)
    shutil.copytree(datasets.DATA / "ads", tmp_path / "ads")
    for module in (datasets, files):
        monkeypatch.setattr(module, "DATA", tmp_path)
    worlds._past.cache_clear()
    yield tmp_path
    worlds._past.cache_clear()


@pytest.mark.parametrize("name", SHIPPED)
def test_the_shipped_log_is_what_the_world_generates_today_and_its_past(name, monkeypatch):
    """To the byte; and the day after it is the same, whether the past was served or read."""
    simulated, opened = world_class(name)(), open_world(name)
    pd.testing.assert_frame_equal(datasets.load(name), simulated.log(simulated.LOG_DAYS))
    pd.testing.assert_frame_equal(opened.deploy(at_random, 1), simulated.deploy(at_random, 1))
    assert len(opened._past) == opened.LOG_DAYS


@pytest.mark.parametrize("name", SHIPPED)
def test_the_datasheet_documents_every_column_and_its_type(name):
    log, rows = datasets.load(name), {}
    for line in (datasets.DATA / name / "README.md").read_text().splitlines():
        cells = [cell.strip() for cell in line.split("|")[1:-1]]
        if len(cells) == 3 and cells[0] not in ("column", "---"):
            rows |= dict.fromkeys(cells[0].split(", "), cells[1])
    spoken = {"datetime64[us]": "datetime", "str": "string"}
    assert rows == {name: spoken.get(str(dtype), str(dtype)) for name, dtype in log.dtypes.items()}
    assert f"{len(log):,} rows" in (datasets.DATA / name / "README.md").read_text()


def test_a_package_without_its_repository_says_what_to_do(tmp_path, monkeypatch):
    monkeypatch.setattr(files, "DATA", tmp_path / "data")
    with pytest.raises(DatasetError, match="expected the checksums of the book's data, found none.*pip install -e"):
        datasets.load("ads")


def test_another_seed_generates_another_log(monkeypatch):
    monkeypatch.setenv("MLSD_SEED", "8")
    other = datasets.load("ads")
    monkeypatch.delenv("MLSD_SEED")
    shipped = datasets.load("ads")
    assert list(other.columns) == list(shipped.columns) and len(other) != len(shipped)


def test_all_shipped_data_is_small():
    sizes = [p.stat().st_size for p in datasets.DATA.rglob("*") if p.is_file() and "external" not in p.parts]
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


def test_fetch_without_network_changes_nothing_and_says_what_to_do(data, monkeypatch):
    for name, value in dict(
        INDEX_URL="http://127.0.0.1:9/simple", EXTRA_INDEX_URL="", FIND_LINKS="", RETRIES="0", CONFIG_FILE="/dev/null"
    ).items():
        monkeypatch.setenv(f"PIP_{name}", value)
    with pytest.raises(DatasetError, match="could not fetch open_bandit, .*check the network.*`make data` again"):
        datasets.fetch()
    assert list((data / "external").iterdir()) == []


def test_fetch_refuses_other_bytes_than_were_pinned(data):
    sources = data / "sources.txt"
    sources.write_text(sources.read_text().replace("sha256:87dec9ca", "sha256:00000000"))
    with pytest.raises(DatasetError, match="could not fetch"):
        datasets.fetch()
    assert list((data / "external").iterdir()) == []


def test_an_interrupted_fetch_leaves_whole_folders_or_none_and_the_next_one_repairs(data, monkeypatch):
    read, seen = zipfile.ZipFile.read, []

    def interrupted(archive, member, *rest):
        seen.append(member)
        if "woff" in str(member):
            raise KeyboardInterrupt
        return read(archive, member, *rest)

    monkeypatch.setattr(zipfile.ZipFile, "read", interrupted)
    with pytest.raises(KeyboardInterrupt):
        datasets.fetch()
    monkeypatch.undo()
    monkeypatch.setattr(datasets, "DATA", data)
    assert {p.name for p in (data / "external").iterdir()} == {"open_bandit", "movielens_100k", "mermaid"}
    datasets.fetch()
    assert all(datasets.verified(name) for name in datasets.checksums() if name.startswith("external/"))


def test_a_fetched_file_that_was_altered_is_refused_and_fetched_again(data):
    datasets.fetch()
    path = data / "external" / "movielens_100k" / "ml-100k.user"
    path.write_text(path.read_text() + "\n")
    with pytest.raises(DatasetError, match="altered or cut short; run `make data`"):
        datasets.real("movielens_100k")
    datasets.fetch()
    assert len(datasets.real("movielens_100k")["users"]) == 943


def test_real_tables_are_what_their_owners_published():
    bandit, films = datasets.real("open_bandit"), datasets.real("movielens_100k")
    assert len(bandit["random"]) == len(bandit["bts"]) == 30_000 and bandit["random"].click.sum() + bandit["bts"].click.sum() == 287
    assert films["ratings"].shape[0] == 100_000 and films["ratings"].user_id.nunique() == 943 and films["ratings"].item_id.nunique() == 1682
