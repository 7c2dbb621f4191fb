"""Everything that turns rows into a score, under one version: code, encoder, model, calibrator, weights.

A bundle is a directory of plain files whose version is the hash of their contents, so two bundles that
differ in one byte have different names, and parts of two bundles cannot be mixed unnoticed:

    scoring.py       features(user, items, live, now, encoder) -> matrix; combine(p, items, weights) -> scores;
                     LIVE = "rsvp" if `features` wants `live`, the counts of such events for each item
    encoder.json     what `features` needs from training: vocabularies, means, the order of columns; its hash is the
                     version under which the store keeps the rows that were made with it
    model.txt        LightGBM, in its own text format
    calibrator.json  {"raw": [...], "calibrated": [...]}: a monotone curve, read by linear interpolation
    weights.json     how `combine` weighs probabilities and business terms
    popular.json     item ids to show when nothing better can be had
    golden.json      a few inputs with the scores they must give: run at every load
    manifest.json    the hash of each file and the version

An upgrade of the encoder has stairs: write all rows under the new encoder's version too (`encoder_version`), publish
the bundle, and drop the old rows when nobody reads them. At no step does a model meet another encoder's rows.

The code is executed on load. The hashes protect against accidents, not against somebody who can write to
the directory: that is the job of its permissions.
"""

from __future__ import annotations

import hashlib
import json
import math
import os
import re
import shutil
import threading
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType

import lightgbm as lgb
import numpy as np

from mlsd.serving.scoring import BundleError, BundleUnfinished, Live, golden_live, load_scoring, try_scoring

FILES = ("scoring.py", "encoder.json", "model.txt", "calibrator.json", "weights.json", "popular.json", "golden.json")


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
    encoder_version: str  # selects the rows in the store

    @property
    def live(self) -> str | None:
        """The kind of event that `features` wants counted as `live`; None if it uses none."""
        return getattr(self.scoring, "LIVE", None)

    def features(self, user: dict, items: Sequence[dict], live: Live, now: float) -> np.ndarray:
        """Model inputs, one row a candidate, shape (len(items), n_features), float64."""
        return np.asarray(self.scoring.features(user, items, live, now, self.encoder), dtype=float)

    def predict(self, matrix: np.ndarray) -> np.ndarray:
        """Calibrated probabilities, shape (len(matrix),). One call on one thread, whatever the number of rows."""
        if not len(matrix):
            return np.empty(0)
        return np.interp(self.model.predict(matrix, num_threads=1), *self.calibrator)

    def combine(self, p: np.ndarray, items: Sequence[dict]) -> np.ndarray:
        """What the ranking sorts by, shape (len(items),)."""
        return np.asarray(self.scoring.combine(p, items, self.weights), dtype=float)

    def score(self, user: dict, items: Sequence[dict], live: Live, now: float) -> np.ndarray:
        """All steps for one request: features, model, calibrator, weights."""
        return self.combine(self.predict(self.features(user, items, live, now)), items)


def encoder_version(encoder: dict) -> str:
    """The name of this encoder's rows in the store: the hash of the file that `write_bundle` makes of it."""
    return _hash(json.dumps(encoder).encode())[:12]


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
    golden: requests as dict(user=..., items=[...], live=dict(total=[...], of_friends=[...]), now=...); their scores are
    computed here. Raises BundleError if the parts do not work together: the promise is tested before it is made.
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
    staged = Path(root) / f".{version}.{os.getpid()}.{threading.get_ident()}"
    staged.mkdir(parents=True)
    for name, text in texts.items():
        (staged / name).write_bytes(text.encode())
    manifest = dict(version=version, created_at=time.time(), lightgbm=lgb.__version__, sha256=hashes)
    (staged / "manifest.json").write_text(json.dumps(manifest, indent=1))
    _install(staged, Path(root) / version)
    return version


def _install(staged: Path, target: Path) -> None:
    """Move a written bundle to its place. The same content has the same name: what is there stays if it is intact, so that
    nobody who reads it meets a gap, and is mended if it is not."""
    for attempt in range(5):
        try:
            _read_texts(target)
            return shutil.rmtree(staged)
        except BundleError:
            pass  # not there, or broken
        try:
            if target.exists():
                broken = staged.with_name(f"{staged.name}.broken{attempt}")
                os.replace(target, broken)
                shutil.rmtree(broken)
            return os.replace(staged, target)
        except OSError as error:  # another writer of the same bundle was faster
            last = error
    raise BundleError(f"{target}: cannot be put in place ({last})")


def read_bundle(directory: str | Path) -> Bundle:
    """Load and prove a bundle: every hash, the version, and the golden scores.

    Raises BundleError that names the file, what was expected and what was found.
    """
    directory = Path(directory)
    texts, manifest = _read_texts(directory)
    bundle = _assemble(manifest["version"], texts)
    try:
        golden = [(request, np.array(request["scores"], float)) for request in json.loads(texts["golden.json"])]
    except (ValueError, TypeError, KeyError) as error:
        raise BundleError(f"{directory / 'golden.json'}: expected requests with their scores ({type(error).__name__}: {error})") from error
    if not golden:
        raise BundleError(f"{directory / 'golden.json'}: expected at least one golden request, found none")
    for i, (request, promised) in enumerate(golden):
        found = _golden_scores(bundle, request)
        if found.shape != promised.shape or not np.allclose(found, promised, rtol=1e-9, atol=1e-12):
            raise BundleError(
                f"{directory}: golden request {i} gives {found[:3]}, promised {promised[:3]} (written with LightGBM "
                f"{manifest.get('lightgbm')}, running {lgb.__version__}); the libraries differ from those of training"
            )
    return bundle


def _read_texts(directory: Path) -> tuple[dict[str, str], dict]:
    """The files of a bundle, proved by their hashes, and its manifest."""
    _check_name(directory.name)
    try:
        manifest = json.loads((directory / "manifest.json").read_bytes())
        hashes, version = {name: manifest["sha256"][name] for name in FILES}, manifest["version"]
    except (OSError, ValueError) as error:
        raise BundleUnfinished(f"{directory / 'manifest.json'}: cannot be read ({error}); write the bundle again") from error
    except (KeyError, TypeError) as error:
        raise BundleError(f"{directory / 'manifest.json'}: expected a version and the hash of {', '.join(FILES)}") from error
    texts = {}
    for name, expected in hashes.items():
        try:
            content = (directory / name).read_bytes()
        except OSError as error:
            raise BundleUnfinished(f"{directory / name}: cannot be read ({error}); write the bundle again") from error
        if _hash(content) != expected:
            found = _hash(content)[:12]
            raise BundleUnfinished(f"{directory / name}: expected sha256 {str(expected)[:12]}, found {found}; write the bundle again")
        try:
            texts[name] = content.decode()
        except UnicodeDecodeError as error:
            raise BundleError(f"{directory / name}: expected UTF-8 ({error})") from error
    if version != _version_of(hashes) or version != directory.name:
        raise BundleError(f"{directory}: its parts make version {_version_of(hashes)}, not {version}; parts of two bundles were mixed")
    return texts, manifest


def publish_bundle(root: str | Path, version: str) -> None:
    """Point `root`/CURRENT at a version, in one step. Raises BundleError, and changes nothing, if it cannot serve."""
    _check_name(version)
    read_bundle(Path(root) / version)
    temporary = Path(root) / f".CURRENT.{os.getpid()}.{threading.get_ident()}"
    temporary.write_text(version)
    os.replace(temporary, Path(root) / "CURRENT")


class BundleSource:
    """The bundle that `root`/CURRENT names, reloaded when the name changes.

    A version that cannot be loaded is refused and the one before goes on serving; `error` says why. What may
    only be unfinished (a file on its way, a trial on a busy machine) is tried again after 1, 2, 4, ... 60 seconds.
    trial_s: how long the bundle's code may take in its trial, see `scoring.try_scoring`.
    """

    def __init__(self, root: str | Path, trial_s: float = 20.0) -> None:
        self._root, self._trial_s = Path(root), trial_s
        self._tried: tuple[bytes, int] | None = None
        self._again_at, self._pause_s = math.inf, 1.0
        self.bundle: Bundle | None = None
        self.error: str | None = "not loaded yet"

    def refresh(self) -> bool:
        """Look for a new version; True if one was tried. Raises nothing. Not thread-safe: one caller at a time."""
        pointer = self._root / "CURRENT"
        try:
            seen = (pointer.read_bytes(), pointer.stat().st_mtime_ns)
        except OSError as error:
            self.error = f"{pointer}: cannot be read ({error}); publish a bundle"
            return False
        if seen != self._tried:
            self._tried, self._pause_s = seen, 1.0
        elif time.monotonic() < self._again_at:
            return False
        self._again_at = math.inf
        try:
            name = seen[0].decode(errors="replace").strip()
            _check_name(name)
            _read_texts(self._root / name)
            try_scoring(self._root / name, self._trial_s)
            self.bundle, self.error = read_bundle(self._root / name), None
        except BundleUnfinished as error:
            self.error, self._again_at = str(error), time.monotonic() + self._pause_s
            self._pause_s = min(2 * self._pause_s, 60.0)
        except BundleError as error:
            self.error = str(error)
        except (Exception, SystemExit) as error:  # whatever else: the watcher must live to load the next one
            self.error = f"{self._root / name}: {type(error).__name__}: {error}"
        return True


def _assemble(version: str, texts: Mapping[str, str]) -> Bundle:
    try:
        scoring = load_scoring(version, texts["scoring.py"])
        curve = json.loads(texts["calibrator.json"])
        raw, calibrated = np.array(curve["raw"], float), np.array(curve["calibrated"], float)
        if len(raw) < 2 or len(raw) != len(calibrated) or (np.diff(raw) <= 0).any() or (np.diff(calibrated) < 0).any():
            raise ValueError("the calibrator must be a rising curve of at least two points")
        return Bundle(
            version=version,
            scoring=scoring,
            encoder=json.loads(texts["encoder.json"]),
            model=lgb.Booster(model_str=texts["model.txt"]),
            calibrator=(raw, calibrated),
            weights=json.loads(texts["weights.json"]),
            popular=tuple(int(i) for i in json.loads(texts["popular.json"])),
            encoder_version=_hash(texts["encoder.json"].encode())[:12],
        )
    except Exception as error:  # whatever the bundle's own code raises
        raise BundleError(f"bundle {version} cannot be put together: {type(error).__name__}: {error}") from error


def _golden_scores(bundle: Bundle, request: Mapping) -> np.ndarray:
    try:
        return bundle.score(request["user"], request["items"], golden_live(request), request["now"])
    except Exception as error:  # the bundle's own code again
        raise BundleError(f"bundle {bundle.version}: a golden request fails with {type(error).__name__}: {error}") from error


def _hash(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()


def _version_of(hashes: Mapping[str, str]) -> str:
    return _hash(json.dumps(sorted(hashes.items())).encode())[:12]


def _check_name(version: str) -> None:
    """A version is 12 hex digits: no path leads out of the root, and no torn or foreign pointer is followed."""
    if not re.fullmatch("[0-9a-f]{12}", version):
        raise BundleError(f"expected the name of a bundle, 12 hex digits, found {version[:40]!r}; publish a bundle")
