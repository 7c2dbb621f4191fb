"""CenterFace through onnxruntime: it finds what is there, nothing where nothing is, and refuses what it cannot take."""

import numpy as np
import pandas as pd
import pytest

from mlsd.faces import CenterFace, FrameError, best_overlap, false_scores, find_faces, grey_frames, heat_peaks, hidden_up_to, suppressed
from mlsd.files import DatasetError, verified
from mlsd.worlds.streets import StreetRules, StreetWorld


@pytest.fixture(scope="module")
def detector() -> CenterFace:
    try:
        verified("external/photographs/lfw_subset.npy")
        return CenterFace()
    except DatasetError:
        pytest.skip("model and photographs are not fetched: run `make data`")


@pytest.fixture(scope="module")
def frame() -> tuple[np.ndarray, np.ndarray]:
    world = StreetWorld(StreetRules(n_rigs=6, scenes=4, horizon_days=7, night=0.0), seed=1)
    big = world.objects.query("kind == 0 and height > 26 and visible == 100 and not occluded").iloc[0]
    return world.images([big.item_id])[0], big[["left", "top", "width", "height"]].to_numpy(float)


def test_it_finds_a_face_where_it_is(detector, frame):
    image, face = frame
    boxes, scores = detector.detect(image, scale=2.0)
    near = np.abs(boxes[:, :2] + boxes[:, 2:] / 2 - face[:2] - face[2:] / 2).max(axis=1)
    assert near.min() < 4 and (np.diff(scores) <= 0).all() and scores.max() <= 1
    colour, _ = detector.detect(np.repeat(image[..., None], 3, axis=2), scale=2.0)
    np.testing.assert_array_equal(colour, boxes)
    assert len(find_faces(image)) >= len(boxes)


def test_a_frame_without_a_face_has_no_boxes(detector):
    boxes, scores = detector.detect(np.full((50, 70), 128, np.uint8))
    assert boxes.shape == (0, 4) and scores.shape == (0,)


@pytest.mark.parametrize(
    ("image", "words"),
    [
        (np.zeros((50, 50)), "float64"),
        (np.zeros((50, 50, 4), np.uint8), r"found shape \(50, 50, 4\)"),
        (np.zeros((50,), np.uint8), r"found shape \(50,\)"),
        (np.zeros((10, 50), np.uint8), "found 10 x 50"),
        (np.zeros((0, 0), np.uint8), "found 0 x 0"),
        ([[1, 2]], "found a list"),
        (None, "found a NoneType"),
    ],
)
def test_other_pictures_are_refused(detector, image, words):
    with pytest.raises(FrameError, match=words):
        detector.detect(image)


def test_other_thresholds_and_scales_are_refused(detector):
    image = np.zeros((50, 50), np.uint8)
    for wrong in (dict(least=0.0), dict(least=1.0), dict(overlap=-0.1), dict(overlap=2.0)):
        with pytest.raises(FrameError, match="expected 0 < least < 1"):
            detector.detect(image, **wrong)
    with pytest.raises(FrameError, match="sides of 32 to 4,096"):
        detector.detect(image, scale=100.0)


def test_other_files_are_refused(tmp_path):
    path = tmp_path / "model.onnx"
    path.write_bytes(b"no model")
    with pytest.raises(FrameError, match="expected an ONNX model"):
        CenterFace(path)


def test_suppression_keeps_the_surest_of_an_overlap():
    boxes = np.array([[0, 0, 10, 10], [1, 0, 10, 10], [7, 0, 10, 10], [40, 0, 10, 10.0]])
    assert suppressed(boxes, np.array([0.5, 0.9, 0.4, 0.1]), 0.3).tolist() == [1, 2, 3]
    assert suppressed(boxes, np.array([0.5, 0.9, 0.4, 0.1]), 1.0).tolist() == [1, 0, 2, 3]
    assert suppressed(np.zeros((0, 4)), np.zeros(0), 0.3).tolist() == []


THINGS = pd.DataFrame(dict(row=[0, 0, 1], kind=[0, 0, 0], left=[10, 50, 10], top=[10, 10, 10], width=[10, 10, 10], height=[10, 10, 10]))
FOUND = [
    (np.array([[10, 10, 10, 10], [52, 10, 10, 10], [80, 50, 10, 10], [81, 50, 10, 10.0]]), np.array([0.9, 0.6, 0.5, 0.4])),
    (np.zeros((0, 4)), np.zeros(0)),
]


def test_a_thing_is_hidden_up_to_the_score_that_nine_tenths_of_it_reach():
    assert hidden_up_to(FOUND, THINGS, (100, 100), pad=0.0).tolist() == [0.9, 0.0, 0.0]
    assert hidden_up_to(FOUND, THINGS, (100, 100), pad=0.2).tolist() == [0.9, 0.6, 0.0]
    assert hidden_up_to(FOUND, THINGS, (100, 100), pad=0.0, share=0.8).tolist() == [0.9, 0.6, 0.0]


def test_false_boxes_are_counted_once_by_frame():
    first, second = false_scores(FOUND, THINGS)
    assert first.tolist() == [0.5] and len(second) == 0


def test_overlap_is_the_best_above_the_threshold():
    np.testing.assert_allclose(best_overlap(FOUND, THINGS, 0.5), [1, 80 / 120, 0])
    np.testing.assert_allclose(best_overlap(FOUND, THINGS, 0.7), [1, 0, 0])


def test_peaks_of_a_heat_map():
    heat = np.zeros((4, 5))
    heat[1, 2], heat[1, 3] = 0.8, 0.5
    boxes, scores = heat_peaks(heat, np.log(np.full((4, 5, 2), [8.0, 6.0])), 4, 0.1)
    assert scores.tolist() == [0.8]
    np.testing.assert_allclose(boxes, [[10 - 3, 6 - 4, 6, 8]])


def test_a_file_that_is_no_video_is_refused(tmp_path):
    with pytest.raises(FrameError, match="expected a video"):
        grey_frames(tmp_path / "none.mp4")
