"""Everything that turns rows into a score, under one version: code, encoder, model, calibrator, weights.

A bundle is a directory of plain files whose version is the hash of their contents, so two bundles that
differ in one byte have different names, and parts of two bundles cannot be mixed unnoticed:

    scoring.py       features(user, items, who, now, encoder) -> matrix; combine(p, items, weights) -> scores;
                     LIVE = "rsvp" if `features` wants to know who has sent such an event for each item
    encoder.json     what `features` needs from training: vocabularies, means, the order of columns
    model.txt        LightGBM, in its own text format
    calibrator.json  {"raw": [...], "calibrated": [...]}: a monotone curve, read by linear interpolation
    weights.json     how `combine` weighs probabilities and business terms
    popular.json     item ids to show when nothing better can be had
    golden.json      a few inputs with the scores they must give: run at every load
    manifest.json    the hash of each file and the version

The code is executed on load. The hashes protect against accidents, not against somebody who can write to
the directory: that is the job of its permissions.
"""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType

import lightgbm as lgb
import numpy as np

FILES = ("scoring.py", "encoder.json", "model.txt", "calibrator.json", "weights.json", "popular.json", "golden.json")


class BundleError(RuntimeError):
    """A bundle that must not serve: a file is missing, altered, or does not give the scores it promised."""


@dataclass(frozen=True)
class Bundle:
    """A loaded bundle. It never changes: a request that starts with it ends with it."""

    version: str
    scoring: ModuleType
    encoder: dict
    model: lgb.Booster
    calibrator: tuple[np.ndarray, np.ndarray]
    weights: dict
    popular: tuple[int, ...]

    @property
    def live(self) -> str | None:
        """The kind of event whose users `features` wants as `who`; None if it uses none."""
        return getattr(self.scoring, "LIVE", None)

    def features(self, user: dict, items: Sequence[dict], who: Sequence[set[int]], now: float) -> np.ndarray:
        """Model inputs, one row a candidate, shape (len(items), n_features), float64."""
        return np.asarray(self.scoring.features(user, items, who, now, self.encoder), dtype=float)

    def predict(self, matrix: np.ndarray) -> np.ndarray:
        """Calibrated probabilities, shape (len(matrix),). One call on one thread, whatever the number of rows."""
        if not len(matrix):
            return np.empty(0)
        return np.interp(self.model.predict(matrix, num_threads=1), *self.calibrator)

    def combine(self, p: np.ndarray, items: Sequence[dict]) -> np.ndarray:
        """What the ranking sorts by, shape (len(items),)."""
        return np.asarray(self.scoring.combine(p, items, self.weights), dtype=float)

    def score(self, user: dict, items: Sequence[dict], who: Sequence[set[int]], now: float) -> np.ndarray:
        """All steps for one request: features, model, calibrator, weights."""
        return self.combine(self.predict(self.features(user, items, who, now)), items)


def write_bundle(
    root: str | Path,
    scoring: str,
    encoder: dict,
    model: lgb.Booster,
    calibrator: tuple[Sequence[float], Sequence[float]],
    weights: dict,
    popular: Sequence[int],
    golden: Sequence[Mapping],
) -> str:
    """Write a bundle under `root` and return its version. It is not served until `publish_bundle`.

    scoring: Python source that defines `features` and `combine`. calibrator: (raw, calibrated), both rising.
    golden: requests as dict(user=..., items=[...], who=[[...], ...], now=...); their scores are computed here.
    Raises BundleError if the parts do not work together: the promise is tested before it is made.
    """
    if not golden:
        raise BundleError("expected at least one golden request: a bundle that promises nothing cannot be checked")
    raw, calibrated = (list(map(float, side)) for side in calibrator)
    texts = {
        "scoring.py": scoring,
        "encoder.json": json.dumps(encoder),
        "model.txt": model.model_to_string(),
        "calibrator.json": json.dumps(dict(raw=raw, calibrated=calibrated)),
        "weights.json": json.dumps(weights),
        "popular.json": json.dumps([int(i) for i in popular]),
    }
    loaded = _assemble("new", texts)
    examples = [dict(request, scores=list(_golden_scores(loaded, request))) for request in golden]
    texts["golden.json"] = json.dumps(examples)
    hashes = {name: _hash(texts[name].encode()) for name in FILES}
    version = _version_of(hashes)
    staged = Path(root) / f".{version}.{os.getpid()}"
    staged.mkdir(parents=True)
    for name, text in texts.items():
        (staged / name).write_bytes(text.encode())
    manifest = dict(version=version, created_at=time.time(), lightgbm=lgb.__version__, sha256=hashes)
    (staged / "manifest.json").write_text(json.dumps(manifest, indent=1))
    target = Path(root) / version
    if target.exists():  # the same content has the same name: mend it rather than trust it
        shutil.rmtree(target)
    os.replace(staged, target)
    return version


def read_bundle(directory: str | Path) -> Bundle:
    """Load and prove a bundle: every hash, the version, and the golden scores.

    Raises BundleError that names the file, what was expected and what was found.
    """
    directory = Path(directory)
    manifest = _read_json(directory / "manifest.json")
    try:
        hashes, version = {name: manifest["sha256"][name] for name in FILES}, manifest["version"]
    except (KeyError, TypeError) as error:
        raise BundleError(f"{directory / 'manifest.json'}: expected a version and the hash of {', '.join(FILES)}") from error
    texts = {}
    for name, expected in hashes.items():
        try:
            content = (directory / name).read_bytes()
        except OSError as error:
            raise BundleError(f"{directory / name}: cannot be read ({error}); write the bundle again") from error
        if _hash(content) != expected:
            raise BundleError(f"{directory / name}: expected sha256 {expected[:12]}, found {_hash(content)[:12]}; write the bundle again")
        texts[name] = content.decode()
    if version != _version_of(hashes) or version != directory.name:
        raise BundleError(f"{directory}: its parts make version {_version_of(hashes)}, not {version}; parts of two bundles were mixed")
    bundle = _assemble(version, texts)
    for i, request in enumerate(json.loads(texts["golden.json"])):
        found = _golden_scores(bundle, request)
        if not np.allclose(found, request["scores"], rtol=1e-9, atol=1e-12):
            raise BundleError(
                f"{directory}: golden request {i} gives {found[:3]}, promised {request['scores'][:3]} (written with LightGBM "
                f"{manifest.get('lightgbm')}, running {lgb.__version__}); the libraries differ from those of training"
            )
    return bundle


def publish_bundle(root: str | Path, version: str) -> None:
    """Point `root`/CURRENT at a version, in one step. Raises BundleError, and changes nothing, if it cannot serve."""
    read_bundle(Path(root) / version)
    temporary = Path(root) / f".CURRENT.{os.getpid()}"
    temporary.write_text(version)
    os.replace(temporary, Path(root) / "CURRENT")


class BundleSource:
    """The bundle that `root`/CURRENT names, reloaded when the name changes.

    A version that cannot be loaded is refused and the one before goes on serving. `error` says why.
    """

    def __init__(self, root: str | Path) -> None:
        self._root = Path(root)
        self._tried: tuple[str, int] | None = None
        self.bundle: Bundle | None = None
        self.error: str | None = "not loaded yet"

    def refresh(self) -> bool:
        """Look for a new version; True if one was tried. Not thread-safe: one caller at a time."""
        try:
            version = (self._root / "CURRENT").read_text().strip()
            published_at = (self._root / "CURRENT").stat().st_mtime_ns
        except OSError as error:
            self.error = f"{self._root / 'CURRENT'}: cannot be read ({error}); publish a bundle"
            return False
        if (version, published_at) == self._tried:
            return False
        self._tried = (version, published_at)
        try:
            self.bundle, self.error = read_bundle(self._root / version), None
        except BundleError as error:
            self.error = str(error)
        return True


def _assemble(version: str, texts: Mapping[str, str]) -> Bundle:
    scoring = ModuleType(f"scoring_{version}")
    try:
        exec(compile(texts["scoring.py"], f"<scoring.py of {version}>", "exec"), scoring.__dict__)
        curve = json.loads(texts["calibrator.json"])
        raw, calibrated = np.array(curve["raw"], float), np.array(curve["calibrated"], float)
        if len(raw) < 2 or len(raw) != len(calibrated) or (np.diff(raw) <= 0).any() or (np.diff(calibrated) < 0).any():
            raise ValueError("the calibrator must be a rising curve of at least two points")
        for needed in ("features", "combine"):
            if not callable(getattr(scoring, needed, None)):
                raise ValueError(f"scoring.py defines no function {needed!r}")
        return Bundle(
            version=version,
            scoring=scoring,
            encoder=json.loads(texts["encoder.json"]),
            model=lgb.Booster(model_str=texts["model.txt"]),
            calibrator=(raw, calibrated),
            weights=json.loads(texts["weights.json"]),
            popular=tuple(json.loads(texts["popular.json"])),
        )
    except Exception as error:  # whatever the bundle's own code raises
        raise BundleError(f"bundle {version} cannot be put together: {type(error).__name__}: {error}") from error


def _golden_scores(bundle: Bundle, request: Mapping) -> np.ndarray:
    try:
        return bundle.score(request["user"], request["items"], [set(w) for w in request["who"]], request["now"])
    except Exception as error:  # the bundle's own code again
        raise BundleError(f"bundle {bundle.version}: a golden request fails with {type(error).__name__}: {error}") from error


def _hash(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()


def _version_of(hashes: Mapping[str, str]) -> str:
    return _hash(json.dumps(sorted(hashes.items())).encode())[:12]


def _read_json(path: Path) -> dict:
    try:
        return json.loads(path.read_text())
    except (OSError, ValueError) as error:
        raise BundleError(f"{path}: cannot be read ({error}); write the bundle again") from error
