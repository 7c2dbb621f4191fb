"""Weights of a pretrained network: read without running anything, and the network sees what is in a photo."""

import pickle

import cv2
import numpy as np
import pytest
from sklearn.datasets import load_sample_images

from mlsd import pretrained
from mlsd.files import verified
from mlsd.pretrained import STRIDES, WEIGHTS, WeightsError, load_network, read_tensors

FILE = WEIGHTS["efficientnet_lite0"]
DAISY, PALACE = 985, 698  # classes of ImageNet


@pytest.fixture(scope="module")
def network():
    return load_network("efficientnet_lite0")


@pytest.fixture
def weights_file(tmp_path):
    """A file in the form of the real one, from tensors by name; `spoil` is put in the place of its fourth pickle."""

    def write(tensors, spoil=None, cut=0):
        places = b"".join([b"\x80\x02}(", *(_place(name, tensor) for name, tensor in tensors.items()), b"u."])
        parts = [pickle.dumps(x, 2) for x in (pretrained._MAGIC, pretrained._PROTOCOL, {"little_endian": True})]
        parts += [spoil or places, pickle.dumps(list(tensors), 2)]
        parts += [np.int64(tensor.size).tobytes() + tensor.tobytes() for tensor in tensors.values()]
        path = tmp_path / "weights.pth"
        path.write_bytes(b"".join(parts)[: -cut or None])
        return path

    return write


def _place(name, tensor):
    """Opcodes of protocol 2: name -> _rebuild_tensor_v2(the storage of that name, offset 0, shape, strides)."""
    text = lambda s: b"X" + len(s).to_bytes(4, "little") + s.encode()  # noqa: E731
    whole = lambda n: b"J" + int(n).to_bytes(4, "little")  # noqa: E731
    shape = b"(" + b"".join(map(whole, tensor.shape)) + b"t"
    strides = b"(" + b"".join(whole(s // tensor.itemsize) for s in tensor.strides) + b"t"
    storage = b"(" + text("storage") + b"ctorch\nFloatStorage\n" + text(name) + text("cpu") + whole(tensor.size) + b"NtQ"
    return text(name) + b"ctorch._utils\n_rebuild_tensor_v2\n(" + storage + whole(0) + shape + strides + b"tR"


def test_tensors_come_back_by_name_and_in_shape(weights_file):
    tensors = {"a": np.arange(6, dtype=np.float32).reshape(2, 3), "b": np.float32([[7]])}
    found = read_tensors(weights_file(tensors))
    assert list(found) == ["a", "b"]
    for name, tensor in tensors.items():
        np.testing.assert_array_equal(found[name], tensor)


class Runs:
    """What a hostile file would hold: reading it with pickle writes a file."""

    def __init__(self, path):
        self.path = path

    def __reduce__(self):
        return open, (str(self.path), "w")


def test_a_pickle_that_would_run_code_is_refused_and_runs_nothing(weights_file, tmp_path):
    hostile = pickle.dumps(Runs(tmp_path / "ran"), 2)
    with pytest.raises(WeightsError, match=r"tensors only, found the name (io|_io|__builtin__|builtins)\.open"):
        read_tensors(weights_file({"a": np.ones((1, 1), np.float32)}, spoil=hostile))
    assert not (tmp_path / "ran").exists()
    pickle.loads(hostile)
    assert (tmp_path / "ran").exists()  # the file was hostile indeed


@pytest.mark.parametrize("cut", [1, 10, 40])
def test_a_file_cut_short_is_refused(weights_file, cut):
    with pytest.raises(WeightsError, match="does not read|expected"):
        read_tensors(weights_file({"a": np.ones((3, 2), np.float32)}, cut=cut))


def test_a_tensor_beyond_its_storage_is_refused(weights_file):
    wide = np.lib.stride_tricks.as_strided(np.ones(4, np.float32), (2, 2), (40, 4))
    places = b"\x80\x02}(" + _place("a", wide) + b"u."
    with pytest.raises(WeightsError, match="does not read"):
        read_tensors(weights_file({"a": np.ones((2, 2), np.float32)}, spoil=places))


def test_another_kind_of_file_is_refused(tmp_path):
    for content in (b"", b"PK\x03\x04 a zip of newer versions", pickle.dumps("weights")):
        (tmp_path / "other").write_bytes(content)
        with pytest.raises(WeightsError):
            read_tensors(tmp_path / "other")


def test_the_network_says_daisy_to_a_daisy_and_palace_to_a_palace(network):
    china, flower = (cv2.resize(photo[:427, 106:533], (224, 224), interpolation=cv2.INTER_AREA) for photo in load_sample_images().images)
    assert network.classify(np.stack([china, flower])).argmax(axis=1).tolist() == [PALACE, DAISY]


def test_features_of_a_photo_do_not_hang_on_its_company_and_deepen_with_the_blocks(network):
    photos = np.random.default_rng(0).integers(0, 256, (5, 64, 64, 3), dtype=np.uint8)
    together = network.features(photos, (8,), chunk=4)[8]
    assert together.shape == (5, 80)
    np.testing.assert_allclose(network.features(photos[3:4], (8,), chunk=4)[8], together[3:4], rtol=1e-4, atol=1e-5)
    deep = network.features(photos, (5, 8, 11, 16), chunk=4)
    assert {k: found.shape for k, found in deep.items()} == {5: (5, 40), 8: (5, 80), 11: (5, 112), 16: (5, 1280)}
    np.testing.assert_allclose(deep[8], together, rtol=1e-4, atol=1e-5)
    assert network.features(photos[:0], (5,), chunk=4)[5].shape == (0, 40)


def test_what_is_no_photo_is_refused(network):
    with pytest.raises(ValueError, match="expected uint8"):
        network.features(np.zeros((1, 64, 64, 3)))
    with pytest.raises(ValueError, match="side at least 32"):
        network.features(np.zeros((1, 16, 16, 3), np.uint8))
    for blocks in ((17,), (0, 5), ()):
        with pytest.raises(ValueError, match=f"from 1 to {len(STRIDES)}"):
            network.features(np.zeros((1, 64, 64, 3), np.uint8), blocks)


def test_the_real_file_holds_tensors_and_an_unknown_name_is_refused():
    assert sum(tensor.size for tensor in read_tensors(verified(FILE)).values() if tensor.ndim) == pytest.approx(4.69e6, rel=0.01)
    with pytest.raises(ValueError, match="no pretrained network named 'clip'"):
        load_network("clip")
