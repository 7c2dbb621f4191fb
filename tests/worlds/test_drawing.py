"""Pictures: colours are those of the standard, crops and thumbnails say what they should, and all of it in reasonable time."""

import time

import cv2
import numpy as np
import pytest

from mlsd.worlds import world_class
from mlsd.worlds.checks import small
from mlsd.worlds.drawing import _lab_to_rgb, crop, random_lab, thumbnails


def test_colours_are_those_of_opencv():
    lab = random_lab(np.random.default_rng(0), 500)
    np.testing.assert_allclose(_lab_to_rgb(lab), cv2.cvtColor(lab.astype(np.float32)[None], cv2.COLOR_Lab2RGB)[0], atol=2e-3)


def test_a_crop_is_that_of_opencv_but_for_rounding():
    photos = np.random.default_rng(0).integers(0, 256, (20, 64, 64, 3), np.uint8)
    photos = np.stack([cv2.GaussianBlur(photo, (0, 0), 3) for photo in photos])
    boxes = np.random.default_rng(1).uniform([0, 0, 0.5, 0.5], [0.4, 0.4, 1, 1], (20, 4))
    for photo, box, found in zip(photos, boxes, crop(photos, boxes, 32), strict=True):
        left, top, right, bottom = 64 * box
        matrix = np.array([[(right - left) / 32, 0, left], [0, (bottom - top) / 32, top]])
        flags = dict(flags=cv2.INTER_LINEAR | cv2.WARP_INVERSE_MAP, borderMode=cv2.BORDER_REPLICATE)
        expected = cv2.warpAffine(photo, matrix, (32, 32), **flags)
        assert np.abs(found.astype(int) - expected).max() <= 2
    np.testing.assert_array_equal(crop(photos, np.tile([0, 0, 1, 1], (20, 1)), 64), photos)


def test_thumbnails_have_no_brightness_and_no_contrast():
    photos = np.random.default_rng(0).integers(50, 150, (5, 32, 32, 3), np.uint8)
    small_ones = thumbnails(photos)
    np.testing.assert_allclose(np.linalg.norm(small_ones, axis=1), 1, rtol=1e-6)
    np.testing.assert_allclose(thumbnails(photos + np.uint8(40)), small_ones, atol=1e-6)
    assert not thumbnails(np.full((1, 32, 32, 3), 7, np.uint8)).any()
    with pytest.raises(ValueError, match="expected a multiple of 8 pixels, found 30"):
        thumbnails(photos[:, :30, :30])


def test_photos_render_by_the_hundred_a_second(yardstick):
    """About a quarter of a yardstick, with ten times the slack."""
    world, started = small(world_class("products"))(), time.process_time()
    world.studio_photos(np.arange(100))
    world.query_photos(np.arange(40))
    assert time.process_time() - started < 2.5 * yardstick
