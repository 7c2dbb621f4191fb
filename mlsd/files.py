"""The files of data/, each with a recorded checksum."""

from __future__ import annotations

import hashlib
from pathlib import Path

DATA = Path(__file__).resolve().parent.parent / "data"


class DatasetError(RuntimeError):
    """A data file is unknown, missing, altered or could not be fetched. The message says which, and what to do."""


def sha256(path: Path) -> str:
    """The digest of a file, in hexadecimal."""
    return hashlib.sha256(path.read_bytes()).hexdigest()


def checksums() -> dict[str, str]:
    """The recorded SHA-256 of each data file, by its path below data/. Raises DatasetError if there is no record."""
    path = DATA / "checksums.txt"
    if not path.exists():
        raise DatasetError(
            f"{path}: expected the checksums of the book's data, found none. The package stands without its repository: "
            "clone the repository and run `pip install -e .` in it, or restore the file with `git checkout -- data`"
        )
    lines = path.read_text().split("\n")
    return {name: digest for digest, _, name in (line.partition("  ") for line in lines if line)}


def is_shipped(name: str) -> bool:
    """Whether a data file belongs to this installation. A package without its repository has none."""
    return (DATA / "checksums.txt").exists() and name in checksums()


def record(names: list[str]) -> None:
    """Write down the checksums of data files as they are now."""
    known = checksums() if (DATA / "checksums.txt").exists() else {}
    known.update({name: sha256(DATA / name) for name in names})
    (DATA / "checksums.txt").write_text("".join(f"{known[name]}  {name}\n" for name in sorted(known)))


def verified(name: str) -> Path:
    """The path of a data file, after comparing its checksum. Raises DatasetError if it is missing or altered."""
    path, expected = DATA / name, checksums().get(name)
    remedy = "run `make data`" if name.startswith("external/") else f"restore it with `git checkout -- data/{name}`"
    if expected is None:
        raise DatasetError(f"data/{name}: no such file is known to this book; data/checksums.txt lists those that are")
    if not path.exists():
        raise DatasetError(f"data/{name}: expected a file with SHA-256 {expected[:12]}…, found none; {remedy}")
    found = sha256(path)
    if found != expected:
        raise DatasetError(
            f"data/{name}: expected SHA-256 {expected[:12]}…, found {found[:12]}… ({path.stat().st_size:,} bytes): "
            f"the file was altered or cut short; {remedy}"
        )
    return path
