"""A pretrained image network without the framework that trained it: its weights are read as data, its forward pass is JAX."""

from __future__ import annotations

import io
import pickle
from collections import OrderedDict
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np

from mlsd.files import verified

WEIGHTS = {"efficientnet_lite0": "external/efficientnet_lite0/efficientnet-lite0-57934424.pth"}
STRIDES = (1, 2, 1, 2, 1, 2, 1, 1, 1, 1, 1, 2, 1, 1, 1, 1)  # of EfficientNet-Lite0's sixteen blocks
BATCH_NORM_EPSILON = 1e-3

# ---------- weights: a pickle that may build tensors and nothing else ----------

_MAGIC = 0x1950A86A20F9469CFC6C  # the first of the pickles that a file of torch.save held before version 1.6
_PROTOCOL = 1001
_TYPES = {"FloatStorage": np.dtype("<f4"), "LongStorage": np.dtype("<i8")}


class WeightsError(ValueError):
    """A file of weights is damaged, or holds something else than tensors."""


@dataclass(frozen=True)
class _Tensor:
    """Where a tensor's numbers will be found, once the storages that follow the pickle are read."""

    storage: str
    type: np.dtype
    offset: int
    shape: tuple[int, ...]
    strides: tuple[int, ...]


def _tensor(storage: tuple, offset: int, shape: tuple[int, ...], strides: tuple[int, ...], *ignored: object) -> _Tensor:
    return _Tensor(storage[0], storage[1], offset, tuple(shape), tuple(strides))


class _TensorsOnly(pickle.Unpickler):
    """Refuses every name but four, and gives for these what cannot run code: pickle itself would import and call anything."""

    ALLOWED = {
        ("collections", "OrderedDict"): OrderedDict,
        ("torch._utils", "_rebuild_tensor_v2"): _tensor,
        **{("torch", name): dtype for name, dtype in _TYPES.items()},
    }

    def find_class(self, module: str, name: str) -> object:
        if (module, name) not in self.ALLOWED:
            raise WeightsError(f"weights: expected tensors only, found the name {module}.{name}, which is not loaded")
        return self.ALLOWED[module, name]

    def persistent_load(self, identity: tuple) -> tuple[str, np.dtype]:
        kind, dtype, key, _, _, view = identity
        if kind != "storage" or not isinstance(dtype, np.dtype) or view is not None:
            raise WeightsError(f"weights: expected a whole storage of numbers, found {kind!r}")
        return key, dtype


def read_tensors(path: str | Path) -> dict[str, np.ndarray]:
    """The tensors of a file that `torch.save` wrote before PyTorch 1.6, by name.

    Such a file is five pickles (a magic number, the version, the machine, the tensors' places, the keys of the storages)
    and then the storages, each a count of numbers and the numbers. A pickle can run any code while it is read, so that
    only dictionaries and tensors of float32 and int64 are let through. Source of the format: torch/serialization.py, `_legacy_load`.
    Raises WeightsError for a file that is cut short, of another form, or that asks for any other name.
    """
    file = io.BytesIO(Path(path).read_bytes())
    try:
        magic, protocol, machine = (_TensorsOnly(file).load() for _ in range(3))
        if (magic, protocol) != (_MAGIC, _PROTOCOL) or not machine["little_endian"]:
            raise WeightsError("weights: expected a file of torch.save in its form before 1.6")
        places, keys = (_TensorsOnly(file).load() for _ in range(2))
        types = {place.storage: place.type for place in places.values()}
        storages = {}
        for key in keys:
            count = int(np.frombuffer(file.read(8), "<i8")[0])
            storages[key] = np.frombuffer(file.read(count * types[key].itemsize), types[key], count)
        return {name: _view(place, storages[place.storage]) for name, place in places.items()}
    except WeightsError:
        raise
    except Exception as error:  # whatever a damaged pickle makes of itself
        raise WeightsError(f"{Path(path).name}: expected a whole file of weights, found one that does not read ({error})") from error


def _view(place: _Tensor, storage: np.ndarray) -> np.ndarray:
    size, within = storage.itemsize, min(place.offset, *place.shape, *place.strides, 1) >= 0
    if not within:
        raise WeightsError(f"weights: expected a tensor within its storage, found one at {place.offset} with strides {place.strides}")
    # numpy raises if the tensor reaches beyond its storage
    found = np.ndarray(place.shape, storage.dtype, storage.data, place.offset * size, tuple(size * stride for stride in place.strides))
    return np.ascontiguousarray(found)


# ---------- the network ----------


def _folded(tensors: dict[str, np.ndarray], convolution: str, norm: str) -> tuple[np.ndarray, np.ndarray]:
    """A convolution and its batch normalisation as one: weights (height, width, in, out) and bias (out,)."""
    scale = tensors[f"{norm}.weight"] / np.sqrt(tensors[f"{norm}.running_var"] + BATCH_NORM_EPSILON)
    weights = tensors[f"{convolution}.weight"].transpose(2, 3, 1, 0)
    return weights * scale, tensors[f"{norm}.bias"] - tensors[f"{norm}.running_mean"] * scale


def _padding(size: int, kernel: int, stride: int) -> tuple[int, int]:
    """TensorFlow's SAME: what is uneven goes to the right."""
    total = max((-(-size // stride) - 1) * stride + kernel - size, 0)
    return total // 2, total - total // 2


def _depthwise(x: jax.Array, weights: jax.Array, stride: int) -> jax.Array:
    """Each channel by its own filter (height, width, 1, channels): a sum of shifted pictures, which a processor does fastest."""
    kernel, size = weights.shape[0], x.shape[1]
    x = jnp.pad(x, ((0, 0), _padding(size, kernel, stride), _padding(size, kernel, stride), (0, 0)))
    reach = (-(-size // stride) - 1) * stride + 1
    windows = ((i, j) for i in range(kernel) for j in range(kernel))
    return sum(x[:, i : i + reach : stride, j : j + reach : stride] * weights[i, j, 0] for i, j in windows)


def _relu6(x: jax.Array) -> jax.Array:
    return jnp.clip(x, 0, 6)


def _pooled(layers: dict, photos: jax.Array, blocks: tuple[int, ...]) -> list[jax.Array]:
    """The mean over the picture of what the first k blocks make of it, (n, channels) for each k; after the last, of what the head makes."""
    x = (photos.astype(jnp.float32) - 127) / 128
    weights, bias = layers["stem"]
    pad = _padding(x.shape[1], 3, 2)
    x = _relu6(jax.lax.conv_general_dilated(x, weights, (2, 2), (pad, pad), dimension_numbers=("NHWC", "HWIO", "NHWC")) + bias)
    found = {}
    for k, (layer, stride) in enumerate(zip(layers["blocks"][: max(blocks)], STRIDES, strict=False), 1):
        inside = x
        if "expand" in layer:
            inside = _relu6(inside @ layer["expand"][0][0, 0] + layer["expand"][1])
        inside = _relu6(_depthwise(inside, layer["depthwise"][0], stride) + layer["depthwise"][1])
        inside = inside @ layer["project"][0][0, 0] + layer["project"][1]
        x = x + inside if inside.shape == x.shape else inside
        found[k] = x
    if len(STRIDES) in found:
        found[len(STRIDES)] = _relu6(x @ layers["head"][0][0, 0] + layers["head"][1])
    return [found[k].mean(axis=(1, 2)) for k in blocks]


_run = jax.jit(_pooled, static_argnames="blocks")


@dataclass(frozen=True)
class Network:
    """EfficientNet-Lite0, trained on ImageNet's thousand classes. Source: Tan and Le (2019), "EfficientNet", in its "lite" form."""

    layers: dict

    def features(self, photos: np.ndarray, blocks: Sequence[int] = (len(STRIDES),), chunk: int = 100) -> dict[int, np.ndarray]:
        """Features of photos: for each k in `blocks` the mean over the picture of the output of the first k blocks, float32 (n, channels).

        photos: uint8 RGB, (n, side, side, 3), any side of at least 32 pixels (it was trained with 224). blocks: from 1 to 16; all
        sixteen end in the head of 1,280 channels. Raises ValueError for photos of another type or form.
        """
        square = photos.ndim == 4 and photos.shape[1:] == (photos.shape[1], photos.shape[1], 3)
        if photos.dtype != np.uint8 or not square or photos.shape[1] < 32:
            raise ValueError(f"photos: expected uint8 (n, side, side, 3), side at least 32, found {photos.dtype} {photos.shape}")
        if not blocks or not 1 <= min(blocks) <= max(blocks) <= len(STRIDES):
            raise ValueError(f"blocks: expected numbers from 1 to {len(STRIDES)}, found {blocks}")
        parts = []
        for begin in range(0, max(len(photos), 1), chunk):
            part = photos[begin : begin + chunk]
            whole = np.pad(part, ((0, chunk - len(part)), (0, 0), (0, 0), (0, 0)))  # each new shape would be compiled anew
            parts.append([np.asarray(found)[: len(part)] for found in _run(self.layers, whole, tuple(blocks))])
        return {k: np.concatenate(found) for k, found in zip(blocks, zip(*parts, strict=True), strict=True)}

    def classify(self, photos: np.ndarray) -> np.ndarray:
        """Scores of ImageNet's thousand classes before the softmax, (n, 1000)."""
        weights, bias = self.layers["classes"]
        return self.features(photos)[len(STRIDES)] @ weights.T + bias


def load_network(name: str) -> Network:
    """The pretrained network "efficientnet_lite0", read from the file that `make data` fetched.

    Raises DatasetError if the file is missing or altered, ValueError for another name.
    """
    if name not in WEIGHTS:
        raise ValueError(f"no pretrained network named {name!r}; there are {sorted(WEIGHTS)}")
    tensors = read_tensors(verified(WEIGHTS[name]))
    blocks = []
    for i in range(len(STRIDES)):
        block = f"_blocks.{i}"
        layer = {"depthwise": _folded(tensors, f"{block}._depthwise_conv", f"{block}._bn1")}
        layer["project"] = _folded(tensors, f"{block}._project_conv", f"{block}._bn2")
        if f"{block}._expand_conv.weight" in tensors:
            layer["expand"] = _folded(tensors, f"{block}._expand_conv", f"{block}._bn0")
        blocks.append(layer)
    layers = {"stem": _folded(tensors, "_conv_stem", "_bn0"), "head": _folded(tensors, "_conv_head", "_bn1"), "blocks": blocks}
    return Network(layers | {"classes": (tensors["_fc.weight"], tensors["_fc.bias"])})
