"""The street world: each effect in frames, boxes and audits, and gone when off; pixels the same whoever asks, and on other processors."""

import os
import subprocess
import sys

import numpy as np
import pandas as pd
import pytest
from numpy._core._multiarray_umath import __cpu_dispatch__, __cpu_features__

from mlsd.files import DatasetError, verified
from mlsd.worlds.base import WorldError
from mlsd.worlds.streets import HEIGHT, KINDS, WIDTH, StreetRules, StreetWorld

SMALL = StreetRules(n_rigs=10, scenes=6, horizon_days=42)


def small(*off: str, seed: int = 3, **sizes) -> StreetWorld:
    return StreetWorld(StreetRules(**{**vars(SMALL), **sizes}).without(*off), seed)


@pytest.fixture(scope="module")
def world() -> StreetWorld:
    return small()


@pytest.fixture(scope="module")
def pixels() -> None:
    try:
        verified("external/photographs/lfw_subset.npy")
    except DatasetError:
        pytest.skip("the photographs are not fetched: run `make data`")


def faces(world: StreetWorld) -> pd.DataFrame:
    return world.objects[world.objects.kind == 0].merge(world.items, on="item_id")


# What each effect leaves in the tables: a number that is clearly above the second when on, and at most the third when off.
STATISTICS = {
    "far": (lambda w: faces(w).query("~crowd and frame == 0").height.std(), 5, 0.01),
    "night": (lambda w: w.items.night.mean(), 0.1, 0.0),
    "motion": (lambda w: (w._scene["smear"] > 1).mean(), 0.2, 0.0),
    "occlusion": (lambda w: faces(w).occluded.mean(), 0.15, 0.0),
    "crowds": (lambda w: faces(w).crowd.mean(), 0.1, 0.0),
    "lookalikes": (lambda w: (w.objects.kind > 1).mean(), 0.1, 0.0),
    "new_plates": (lambda w: (w.items.region == 2).mean(), 0.05, 0.0),
    "exposure_drift": (lambda w: w._scene["stops"].max(), 0.2, 0.0),
    "views_spread": (lambda w: np.log(w.items.views + 1.0).std(), 0.8, 1e-9),
}


@pytest.mark.parametrize("name", STATISTICS)
def test_effect_is_there_and_vanishes(world, name):
    statistic, there, gone = STATISTICS[name]
    assert statistic(world) > there
    assert statistic(small(name)) <= gone


def test_every_effect_has_a_test():
    tested = {*STATISTICS, "reports_follow_views", "position_bias", "exploration"}
    assert tested == set(StreetRules.effects())


def test_reports_follow_views_and_do_not_when_off(world):
    for w, least, most in ((world, 2.0, 99.0), (small("reports_follow_views"), 0.6, 1.6)):
        views = w.items.views.to_numpy()
        visible = w._exposed_things / w._exposed_things.sum()
        ratio = views[w.reports(42).item_id].mean() / (views * visible).sum()
        assert least < ratio < most


def test_auditors_tire(world):
    def found(world):
        log = world.deploy(world.oracle, days=28, start=0)
        log["careful"] = world.truth(log.assign(position=1))
        ends = [log[log.position == k] for k in (1, 8)]
        return [end.found.sum() / end.careful.sum() for end in ends]

    first, last = found(world)
    assert last < 0.75 * first
    first, last = found(small("position_bias"))
    assert abs(last - first) < 0.15


def test_exploration_opens_frames_that_the_ranking_would_not(world):
    log = world.log(28)
    assert log.views[log.randomised].mean() < 0.6 * log.views[~log.randomised].mean()
    assert not small("exploration").log(5).randomised.any()


def test_boxes_are_in_the_frame_and_people_change_with_the_district(world):
    boxes = world.objects
    assert (boxes.left >= 0).all() and (boxes.left + boxes.width <= WIDTH).all()
    assert (boxes.top >= 0).all() and (boxes.top + boxes.height <= HEIGHT).all()
    assert (boxes.kind[boxes.needs_blur] <= 1).all() and (boxes.visible[boxes.needs_blur] >= 50).all()
    people = faces(world).groupby("district").identity.unique()
    assert not set(people[0]) & set(people[3]) and all(len(ids) == 11 for ids in people)
    assert faces(world).groupby("track").identity.nunique().eq(1).all()


def test_boxes_of_chosen_frames_and_of_a_frame_without_any(world):
    empty = np.setdiff1d(world.items.item_id, world.objects.item_id)[0]
    ids = np.array([world.objects.item_id.iloc[40], empty, 7])
    boxes = world.boxes(ids)
    assert set(boxes.row) <= {0, 2} and (boxes.item_id.to_numpy() == ids[boxes.row]).all()
    assert len(boxes) == world.objects.item_id.isin(ids).sum()
    assert len(world.boxes(np.array([empty]))) == 0 and len(world.boxes(np.array([], int))) == 0


def test_days_beyond_the_horizon_are_refused(world):
    with pytest.raises(WorldError, match="days: expected"):
        world.frames_of(99)
    with pytest.raises(WorldError, match="audits"):
        small(audits=25)


# ---------- pixels ----------


def test_pixels_do_not_depend_on_which_others_are_asked_for(world, pixels):
    ids = np.array([5, 1700, 3])
    images = world.images(ids)
    assert images.shape == (3, HEIGHT, WIDTH) and images.dtype == np.uint8
    np.testing.assert_array_equal(images[1], world.images([1700])[0])
    np.testing.assert_array_equal(images[2], small().images([3])[0])
    assert (images[0] != small(seed=4).images([5])[0]).mean() > 0.5


def test_night_and_drift_are_dark(world, pixels):
    items = world.items
    late, rig = items.item_id >= world.frames_of(1, 41)[0], items.user_id == world.rules.drift_rig
    day, night = (world.images(items.item_id[items.night == dark][:40]).mean() for dark in (False, True))
    assert night < 0.5 * day
    drifted = world.images(items.item_id[late & rig][::6]).mean()
    still = small("exposure_drift").images(items.item_id[late & rig][::6]).mean()
    assert 0.7 < drifted / still < 0.9  # two days of 0.15 stops


def test_smear_blurs_along_the_way(world, pixels):
    moving = np.flatnonzero((world._scene["smear"] == 7)[world._scene_of] & ~world.items.night)[:20]
    smeared, sharp = world.images(moving).astype(float), small("motion").images(moving).astype(float)
    assert np.abs(np.diff(smeared, axis=2)).mean() < 0.85 * np.abs(np.diff(sharp, axis=2)).mean()
    assert np.abs(np.diff(smeared, axis=1)).mean() > 0.6 * np.abs(np.diff(sharp, axis=1)).mean()


def test_what_stands_in_a_box_is_what_the_table_says(world, pixels):
    """A face in its box resembles the face of its identity more than those of others; a statue of it less than the face itself."""
    big = world.objects.query("height >= 24 and visible == 100 and not occluded and not crowd")
    likeness = {}
    for kind in (0, 3):
        hits = []
        for row in big[(big.kind == kind)].drop_duplicates("track").head(40).itertuples():
            image = world.images([row.item_id])[0][row.top : row.top + row.height, row.left : row.left + row.width]
            gallery = world.faces(np.arange(96), row.height)[:, :, (row.height - row.width) // 2 :][:, :, : row.width]
            both = [gallery, gallery[:, :, ::-1]]
            close = [np.abs([np.corrcoef(image.ravel(), face.ravel())[0, 1] for face in faces]) for faces in both]
            hits.append(np.argmax(np.maximum(*close)) == row.identity)
        likeness[kind] = np.mean(hits)
    assert likeness[0] > 0.5 and KINDS[3] == "statue"


PIXELS = """
import hashlib, numpy as np
from mlsd.worlds.streets import StreetWorld
world = StreetWorld()
print(hashlib.sha256(world.images(np.arange(0, 30_000, 601)).tobytes() + world.faces(np.arange(9), 31).tobytes()).hexdigest())
"""


def test_the_processor_decides_no_pixel(pixels):
    def digest(**environment):
        done = subprocess.run([sys.executable, "-c", PIXELS], env={**os.environ, **environment}, capture_output=True, text=True)
        assert done.returncode == 0, done.stderr
        return done.stdout

    old = dict(
        NPY_DISABLE_CPU_FEATURES=" ".join(feature for feature in __cpu_dispatch__ if __cpu_features__[feature]),
        OPENBLAS_CORETYPE="Nehalem",
        OPENCV_CPU_DISABLE="AVX512-SKX,AVX2,AVX,FMA3,FP16,SSE4.2,SSE4.1",
        OPENCV_IPP="disabled",
    )
    assert digest(OMP_NUM_THREADS="1") == digest(OMP_NUM_THREADS="2", **old)
