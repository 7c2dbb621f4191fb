"""Bundles: what may serve and what may not, and a watcher that lives through everything that is published."""

from __future__ import annotations

import json
import os
import shutil
import threading
from pathlib import Path
from types import SimpleNamespace

import pytest
from serving_parts import (
    CANDIDATES,
    ENCODER,
    SCORING,
    counted,
    degraded,
    eventually,
    lists,
    new_bundle,
    put_rows,
    rank,
    rank_calls,
    serve_bundle,
    shown,
)

from mlsd.serving import bundle as bundles
from mlsd.serving.bundle import FILES, BundleSource, encoder_version, publish_bundle, read_bundle
from mlsd.serving.load import Load
from mlsd.serving.scoring import BundleError


def flip_a_byte(path) -> None:
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(content)


@pytest.mark.parametrize("name", FILES)
def test_one_flipped_bit_in_any_part_is_found(tmp_path, name):
    version = new_bundle(tmp_path, 1)
    flip_a_byte(tmp_path / version / name)
    with pytest.raises(BundleError, match=rf"{name}: expected sha256 \w+, found \w+; write the bundle again"):
        read_bundle(tmp_path / version)


def test_parts_of_two_bundles_cannot_be_mixed(tmp_path):
    first, second = new_bundle(tmp_path, 1), new_bundle(tmp_path, 2)
    manifests = [json.loads((tmp_path / v / "manifest.json").read_text()) for v in (first, second)]
    (tmp_path / first / "weights.json").write_bytes((tmp_path / second / "weights.json").read_bytes())
    with pytest.raises(BundleError, match="weights.json: expected sha256"):
        read_bundle(tmp_path / first)
    manifests[0]["sha256"]["weights.json"] = manifests[1]["sha256"]["weights.json"]  # somebody "fixes" the manifest too
    (tmp_path / first / "manifest.json").write_text(json.dumps(manifests[0]))
    with pytest.raises(BundleError, match="parts of two bundles were mixed"):
        read_bundle(tmp_path / first)


@pytest.mark.parametrize("missing", ["manifest.json", "model.txt"])
def test_a_missing_file_is_named(tmp_path, missing):
    version = new_bundle(tmp_path, 1)
    (tmp_path / version / missing).unlink()
    with pytest.raises(BundleError, match=f"{missing}: cannot be read"):
        publish_bundle(tmp_path, version)
    assert not (tmp_path / "CURRENT").exists()


@pytest.mark.parametrize(
    "parts, message",
    [
        (dict(scoring="def features(:"), "SyntaxError"),
        (dict(scoring="x = 1"), "defines no function 'features'"),
        (dict(scoring=SCORING.replace('item["price"]', 'item["cost"]')), "KeyError: 'cost'"),
        (dict(calibrator=([0, 1], [1, 0])), "rising curve"),
        (dict(golden=[]), "at least one golden request"),
    ],
)
def test_a_bundle_whose_parts_do_not_fit_is_never_written(tmp_path, parts, message):
    with pytest.raises(BundleError, match=message):
        new_bundle(tmp_path, 1, **parts)
    assert not list(tmp_path.glob("*/manifest.json"))


def test_a_bundle_that_scores_otherwise_here_than_where_it_was_made_is_refused(tmp_path):
    version = new_bundle(tmp_path, 1, scoring="import os\n" + SCORING.replace("p + ", "p + len(os.environ.get('ELSEWHERE', '')) + "))
    os.environ["ELSEWHERE"] = "another library version"
    try:
        with pytest.raises(BundleError, match="golden request 0 gives .* the libraries differ"):
            read_bundle(tmp_path / version)
    finally:
        del os.environ["ELSEWHERE"]


@pytest.mark.parametrize("name", ["../../evil/0123456789ab", "/etc", "", ".", "0123456789AB", "0123456789ab/"])
def test_a_name_that_is_none_is_never_followed(tmp_path, name):
    root = tmp_path / "a" / "bundles"
    evil = new_bundle(tmp_path / "evil", 1, scoring=f"open({str(tmp_path / 'ran')!r}, 'w')\n" + SCORING)
    shutil.move(tmp_path / "evil" / evil, tmp_path / "evil" / "0123456789ab")
    (tmp_path / "ran").unlink()
    root.mkdir(parents=True)
    with pytest.raises(BundleError, match="expected the name of a bundle"):
        publish_bundle(root, name)
    (root / "CURRENT").write_text(name)
    source = BundleSource(root)
    assert source.refresh() and source.bundle is None and "expected the name of a bundle" in source.error
    assert not (tmp_path / "ran").exists(), "its code must not have run"


def test_writers_of_the_same_bundle_do_not_disturb_each_other(tmp_path):
    found, errors = set(), []

    def write() -> None:
        try:
            found.add(new_bundle(tmp_path, 1))
        except Exception as error:
            errors.append(error)

    writers = [threading.Thread(target=write) for _ in range(4)]
    for writer in writers:
        writer.start()
    for writer in writers:
        writer.join()
    assert not errors and len(found) == 1 and read_bundle(tmp_path / found.pop())
    assert len(list(tmp_path.iterdir())) == 1, "nothing half written stays"


# ---------- the watcher ----------


def reforge(root: Path, version: str, name: str, text: str) -> str:
    """Replace a file of a bundle and make all hashes right again, as only its owner can; returns the new version."""
    manifest = json.loads((root / version / "manifest.json").read_text())
    (root / version / name).write_text(text)
    manifest["sha256"][name] = bundles._hash(text.encode())
    forged = manifest["version"] = bundles._version_of(manifest["sha256"])
    (root / version / "manifest.json").write_text(json.dumps(manifest))
    os.replace(root / version, root / forged)
    return forged


TORN = {
    "not UTF-8": (b"\xff\xfe\x00bad", "expected the name of a bundle"),
    "torn": (b"0123", "expected the name of a bundle"),
    "empty": (b"", "expected the name of a bundle"),
    "unknown": (b"0123456789ab", "manifest.json: cannot be read"),
}
FORGED = {
    "golden without scores": ("golden.json", '[{"user": {}}]', "its code fails in a trial: KeyError"),
    "golden no JSON": ("golden.json", "not json", "its code fails in a trial: .*JSONDecodeError"),
    "golden empty": ("golden.json", "[]", "at least one golden request"),
    "golden with other scores": ("golden.json", None, "golden request 0 gives"),
    "popular no JSON": ("popular.json", "][", "cannot be put together"),
    "no trees": ("model.txt", "tree\nversion=v4\n", "cannot be put together"),
    "sys.exit": ("scoring.py", "import sys; sys.exit(3)\n" + SCORING, "fails in a trial"),
    "sys.exit with a good face": ("scoring.py", "import sys; sys.exit(0)\n" + SCORING, "fails in a trial"),
    "abort": ("scoring.py", "import os; os.abort()\n" + SCORING, "ended the process with code"),
    "endless import": ("scoring.py", "while True: pass\n" + SCORING, "did not end within"),
}


def test_the_watcher_lives_through_everything_and_loads_the_next_good_bundle(tmp_path):
    """One source, every accident in turn; between them the first bundle serves on, and after all of them a new one is loaded."""
    source = BundleSource(tmp_path, trial_s=120.0)
    first = serve_bundle(tmp_path, 1)
    assert source.refresh() and source.error is None and source.bundle.version == first
    for name, (content, message) in TORN.items():
        (tmp_path / "CURRENT").write_bytes(content)
        assert source.refresh() and message in source.error, name
        assert source.bundle.version == first
    for i, (name, (file, text, message)) in enumerate(FORGED.items()):
        version = new_bundle(tmp_path, 10 + i)
        if text is None:
            golden = json.loads((tmp_path / version / file).read_text())
            text = json.dumps([golden[0] | dict(scores=[0.0] * len(golden[0]["scores"]))])
        (tmp_path / "CURRENT").write_text(reforge(tmp_path, version, file, text))
        source._trial_s = 3.0 if name == "endless import" else 120.0
        assert source.refresh(), name
        with pytest.raises(AssertionError, match=message):
            raise AssertionError(source.error)
        assert source.bundle.version == first
    good = serve_bundle(tmp_path, 2)
    assert source.refresh() and source.error is None and source.bundle.version == good


def test_a_file_that_is_missing_for_a_moment_is_looked_for_again(tmp_path, monkeypatch):
    version, now = serve_bundle(tmp_path, 1), [100.0]
    monkeypatch.setattr(bundles, "time", SimpleNamespace(monotonic=lambda: now[0]))
    os.rename(tmp_path / version / "model.txt", tmp_path / "model.txt")
    source = BundleSource(tmp_path)
    assert source.refresh() and "model.txt: cannot be read" in source.error
    assert not source.refresh(), "not again at once"
    os.rename(tmp_path / "model.txt", tmp_path / version / "model.txt")
    now[0] += 1.1
    assert source.refresh() and source.error is None
    assert source.bundle.version == version and not source.refresh()


def test_in_the_service_a_pointer_that_is_garbage_stops_nothing(own):
    (own.root / "CURRENT").write_bytes(b"\xff\xfe")
    eventually(lambda: "expected the name of a bundle" in degraded(own.service))
    assert rank(own.service)["model_version"] == own.version
    killing = reforge(own.root, new_bundle(own.root, 7), "scoring.py", "import sys; sys.exit(3)\n" + SCORING)
    (own.root / "CURRENT").write_text(killing)
    eventually(lambda: "fails in a trial" in degraded(own.service))
    assert rank(own.service)["model_version"] == own.version
    own.service.wait_for(model_version=serve_bundle(own.root, 2), degraded=[])


def test_a_corrupt_new_model_is_refused_and_the_old_one_serves_on(own):
    broken = new_bundle(own.root, 2)
    flip_a_byte(own.root / broken / "model.txt")
    with pytest.raises(BundleError, match="model.txt"):
        publish_bundle(own.root, broken)
    (own.root / "CURRENT").write_text(broken)  # as somebody does who goes round the tool
    eventually(lambda: counted(own.service, "bundles_total", outcome="refused") >= 1)
    assert rank(own.service)["model_version"] == own.version
    assert "model.txt: expected sha256" in degraded(own.service)
    assert serve_bundle(own.root, 2) == broken, "the same content has the same version, and mends it"
    own.service.wait_for(model_version=broken, degraded=[])


def test_a_process_that_starts_with_a_corrupt_model_serves_lists_and_says_so(own):
    flip_a_byte(own.root / own.version / "model.txt")
    own.service.kill()
    own.service.start()
    answer = rank(own.service, user_id=5)
    assert answer["fallback"] == "no_model" and answer["source"] == "batch" and answer["model_version"] == "v1"
    assert not own.service.health()["ready"]
    assert counted(own.service, reason="no_model", status=200) == 1


@pytest.mark.parametrize(
    "change, reason",
    [
        (('now, encoder):\n', 'now, encoder):\n    if now > 0: raise KeyError("price")\n'), "scoring_failed"),
        (('weights["offset"]', 'np.where(weights["offset"] + len(p) > 106, np.nan, 1)'), "bad_scores"),
    ],
)  # fmt: skip
def test_code_that_misbehaves_only_in_production_is_a_counted_fallback(own, change, reason):
    bad = serve_bundle(own.root, 1, scoring=SCORING.replace(*change))  # its golden request, with now = 0 and 5 items, passes
    own.service.wait_for(model_version=bad)
    answer = rank(own.service, user_id=4)
    assert answer["fallback"] == reason and answer["source"] == "batch" and answer["model_version"] == "v1"
    assert shown(answer) == [i for i, _ in lists(1)[4] if i in CANDIDATES][:10]
    assert counted(own.service, reason=reason, source="batch") == 1


def test_an_encoder_upgrade_has_stairs_and_no_fallback_on_the_way(own):
    """Rows under the new version too, then the bundle, then away with the old rows: under load, all answers stay online."""
    new = dict(name="enc-2")
    load = Load(own.service.url, rank_calls(), 100_000, concurrency=4, rate=200, keep_bodies=True)
    load.wait_until_started()
    try:
        put_rows(own.store, encoder_version(new))
        version = serve_bundle(own.root, 2, encoder=new)
        own.service.wait_for(model_version=version)
        eventually(lambda: counted(own.service, route="rank", version=version) > 50)
        for kind in ("user", "item"):
            own.store.drop_rows(kind, ENCODER)
        before = counted(own.service, route="rank", version=version)
        eventually(lambda: counted(own.service, route="rank", version=version) > before + 300)
        for source in ("batch", "popular", "as_given"):
            assert counted(own.service, route="rank", source=source) == 0, "no fallback on the way"
        assert counted(own.service, version=own.version) > 0 and counted(own.service, version=version) > 0
    finally:
        load.stop()


def test_without_its_rows_a_new_encoder_is_a_fallback_that_health_explains(own):
    version = serve_bundle(own.root, 2, encoder=dict(name="enc-2"))  # the first step was left out
    own.service.wait_for(model_version=version)
    answers = [rank(own.service) for _ in range(4)]
    assert {(a["source"], a["fallback"]) for a in answers} == {("batch", "unknown_items")}
    assert "not filled for this encoder" in degraded(own.service)
