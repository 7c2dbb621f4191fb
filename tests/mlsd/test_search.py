"""Bad photos, bad vectors and bad index files meet a clear error or the documented fallback."""

import io

import faiss
import numpy as np
import pytest
from PIL import Image

from mlsd.search import IndexFileError, PhotoError, check_photos, decode_photo, index_bytes, load_index, save_index, search

RNG = np.random.default_rng(0)
PIXELS = RNG.integers(0, 256, (40, 60, 3), dtype=np.uint8)


def encoded(image: Image.Image, kind: str = "PNG", **options) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, kind, **options)
    return buffer.getvalue()


def flat(n: int = 50, dimension: int = 8) -> tuple[faiss.Index, np.ndarray]:
    vectors = RNG.normal(size=(n, dimension)).astype(np.float32)
    index = faiss.IndexFlatIP(dimension)
    index.add(vectors)
    return index, vectors


# ---------- photos ----------


@pytest.mark.parametrize("mode", ["RGB", "L", "LA", "P", "RGBA", "CMYK", "1", "I;16"])
def test_every_mode_becomes_rgb_bytes(mode):
    if mode == "I;16":
        image = Image.fromarray(RNG.integers(0, 2**16, (40, 60)).astype(np.uint16))
    else:
        image = Image.fromarray(PIXELS).convert(mode)
    photo = decode_photo(encoded(image, "TIFF" if mode == "CMYK" else "PNG"), 32)
    assert photo.shape == (32, 32, 3) and photo.dtype == np.uint8 and photo.std() > 1


def test_sixteen_bit_keeps_its_brightness():
    grey = Image.fromarray(np.full((20, 20), 2**15, np.uint16))
    assert abs(int(decode_photo(encoded(grey), 16).mean()) - 128) <= 1


def test_transparent_pixels_become_white_and_not_black():
    image = Image.new("RGBA", (32, 32), (0, 0, 0, 0))
    assert (decode_photo(encoded(image), 32) == 255).all()


def test_photo_taken_sideways_is_turned_upright():
    pixels = np.zeros((32, 32, 3), np.uint8)
    pixels[:16] = 255  # white above black
    exif = Image.Exif()
    exif[0x0112] = 6  # turn 90 degrees clockwise to view
    photo = decode_photo(encoded(Image.fromarray(pixels), "JPEG", exif=exif, quality=95), 32)
    assert photo[:, 24:].mean() > 240 and photo[:, :8].mean() < 15


@pytest.mark.parametrize("cut", [0, 10, 100, 700])
@pytest.mark.parametrize("kind", ["JPEG", "PNG"])
def test_file_cut_short_is_refused(kind, cut):
    with pytest.raises(PhotoError, match="complete JPEG"):
        decode_photo(encoded(Image.fromarray(PIXELS), kind)[:cut], 32)


def test_file_that_is_no_image_is_refused():
    with pytest.raises(PhotoError, match="do not decode"):
        decode_photo(b"<html>404 not found</html>", 32)


def test_too_small_and_too_large_photos_are_refused():
    with pytest.raises(PhotoError, match="60 x 8"):
        decode_photo(encoded(Image.new("RGB", (60, 8))), 32)
    bomb = encoded(Image.new("1", (9000, 9000)))  # 81 megapixels in a few kilobytes
    assert len(bomb) < 50_000
    with pytest.raises(PhotoError, match="9000 x 9000"):
        decode_photo(bomb, 32)


@pytest.mark.parametrize(
    "photos, reason",
    [
        (np.zeros((2, 32, 32, 3), np.float32), "uint8"),
        (np.zeros((2, 32, 32, 3), np.int64), "uint8"),
        ([[1, 2]], "list"),
        (np.zeros((32, 32, 3), np.uint8), "shape"),
        (np.zeros((2, 64, 64, 3), np.uint8), "shape"),
        (np.zeros((2, 32, 32), np.uint8), "shape"),
        (np.zeros((2, 32, 32, 4), np.uint8), "shape"),
    ],
)
def test_arrays_that_an_encoder_must_not_see(photos, reason):
    with pytest.raises(PhotoError, match=reason):
        check_photos(photos, 32)


def test_good_arrays_pass_untouched():
    photos = np.zeros((0, 32, 32, 3), np.uint8)
    assert check_photos(photos, 32) is photos


# ---------- search ----------


def test_search_agrees_with_a_matrix_product():
    index, vectors = flat()
    scores, ids = search(index, vectors[:5], 3)
    expected = np.argsort(-(vectors[:5] @ vectors.T), axis=1)[:, :3]
    np.testing.assert_array_equal(ids, expected)
    np.testing.assert_allclose(scores[:, 0], (vectors[:5] @ vectors.T).max(axis=1), rtol=1e-5)


def test_empty_catalogue_answers_with_nothing():
    scores, ids = search(faiss.IndexFlatIP(8), np.zeros((3, 8)), 10)
    assert scores.shape == ids.shape == (3, 0)


def test_k_beyond_the_catalogue_gives_the_catalogue():
    index, vectors = flat(4)
    _, ids = search(index, vectors[:2], 10)
    assert ids.shape == (2, 4) and (np.sort(ids, axis=1) == np.arange(4)).all()


@pytest.mark.parametrize("queries", [np.zeros((2, 7)), np.zeros(8), np.zeros((1, 2, 8))])
def test_wrong_dimension_is_refused(queries):
    with pytest.raises(ValueError, match="dimension of the index"):
        search(flat()[0], queries, 3)


@pytest.mark.parametrize("bad", [np.nan, np.inf])
def test_vectors_that_are_not_numbers_are_refused(bad):
    with pytest.raises(ValueError, match="finite"):
        search(flat()[0], np.full((1, 8), bad), 3)


def test_k_below_one_is_refused():
    with pytest.raises(ValueError, match="at least 1"):
        search(flat()[0], np.zeros((1, 8)), 0)


def test_index_bytes_of_a_flat_index_are_its_vectors():
    index, vectors = flat(1000, 16)
    assert vectors.nbytes <= index_bytes(index) <= vectors.nbytes + 200


# ---------- the index file ----------


def test_index_survives_the_disk(tmp_path):
    index, vectors = flat()
    back = load_index(save_index(tmp_path / "i", index, "v1"), "v1")
    for mine, theirs in zip(search(back, vectors[:3], 5), search(index, vectors[:3], 5), strict=True):
        np.testing.assert_array_equal(mine, theirs)


def test_index_of_another_encoder_is_refused_though_its_dimension_fits(tmp_path):
    path = save_index(tmp_path / "i", flat()[0], "v1")
    with pytest.raises(IndexFileError, match="built with encoder 'v1', but 'v2' is serving"):
        load_index(path, "v2")


@pytest.mark.parametrize("harm", ["cut", "flip", "header", "other"])
def test_damaged_index_file_is_refused(tmp_path, harm):
    path = save_index(tmp_path / "i", flat()[0], "v1")
    data = bytearray(path.read_bytes())
    if harm == "cut":
        data = data[:-10]
    elif harm == "flip":
        data[-5] ^= 1
    elif harm == "header":
        data[14] = 0
    else:
        data = bytearray(b"something else")
    path.write_bytes(data)
    with pytest.raises(IndexFileError, match=path.name):
        load_index(path, "v1")


def test_interrupted_write_leaves_the_old_file(tmp_path, monkeypatch):
    index, _ = flat()
    path = save_index(tmp_path / "i", index, "v1")

    def power_cut(*_):
        raise OSError("power cut")

    monkeypatch.setattr("mlsd.search.os.replace", power_cut)
    with pytest.raises(OSError, match="power cut"):
        save_index(path, index, "v2")
    assert load_index(path, "v1").ntotal == index.ntotal
