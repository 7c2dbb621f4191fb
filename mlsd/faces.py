"""CenterFace, a pretrained face detector, run by onnxruntime; and how detections are judged: by what they leave visible.

The network is anchor-free: a heat-map says at every fourth pixel how sure it is that a face is centred there, and two more maps
give its size and the centre's place within the four pixels. Source: Xu, Yan, Yang (2019), "CenterFace: Joint Face Detection and
Alignment Using Face as Point"; the decoding follows its section 3.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from functools import cache
from pathlib import Path

import cv2
import numpy as np
import pandas as pd

from mlsd.files import verified

STRIDE, DEEPEST = 4, 32  # pixels a cell of the maps; sides must be multiples of the deepest stride


# A dimension of a tensor in an ONNX file (protobuf): a number, or a name. An empty name is a dimension of any size, of as many bytes.
_FREE = b"\x0a\x02\x12\x00"
_INPUT = re.compile(rb"\x0a\x02\x08\x0a(\x0a\x02\x08\x03)\x0a\x02\x08\x20\x0a\x02\x08\x20")  # 10, 3, 32, 32
_OUTPUT = re.compile(rb"\x0a\x02\x08\x0a(\x0a\x02\x08[\x01\x02\x0a])\x0a\x02\x08\x08\x0a\x02\x08\x08")  # 10, 1 or 2 or 10, 8, 8


class FrameError(ValueError):
    """A picture that the detector cannot take; the message says what was expected and what was found."""


class CenterFace:
    """`detect` finds faces. One process, one thread: throughput comes from more processes."""

    def __init__(self, path: Path | None = None) -> None:
        """path: another file than the fetched one. Raises DatasetError if that is missing, FrameError for one that is no model."""
        import onnxruntime

        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = options.inter_op_num_threads = 1
        options.log_severity_level = 3  # it warns of hundreds of names that are of no use to anybody
        path = verified("external/centerface/centerface.onnx") if path is None else path
        try:
            model = _of_any_size(Path(path).read_bytes())
            self._session = onnxruntime.InferenceSession(model, options, providers=["CPUExecutionProvider"])
        except Exception as error:  # onnxruntime raises one class a fault, none of them public
            raise FrameError(f"{path}: expected an ONNX model, found a file that onnxruntime refuses: {str(error)[:100]}") from error
        shape = [*self._session.get_inputs()[0].shape]
        if len(shape) != 4 or len(self._session.get_outputs()) < 3 or any(isinstance(side, int) for side in shape[2:]):
            raise FrameError(f"{path}: expected CenterFace, found a model with input {shape}")
        self._name = self._session.get_inputs()[0].name

    def detect(self, image: np.ndarray, least: float = 0.2, scale: float = 1.0, overlap: float = 0.3) -> tuple[np.ndarray, np.ndarray]:
        """Boxes (n, 4) as left, top, width, height in pixels of `image`, and scores (n,), the surest first.

        image: uint8, grey (h, w) or RGB (h, w, 3), each side from 32 to 4,096 pixels after scaling. least: scores below are left
        out. scale: the picture is enlarged by it first, which is how small faces are found. overlap: of two boxes with a
        larger intersection over union the less sure is dropped (1 keeps all). A picture without a face gives no rows.
        Raises FrameError for another type, mode or size, or a threshold outside 0 to 1.
        """
        picture = checked(image)
        if not 0 < least < 1 or not 0 <= overlap <= 1:
            raise FrameError(f"expected 0 < least < 1 and 0 <= overlap <= 1, found {least} and {overlap}")
        height, width = (int(round(side * scale)) for side in picture.shape[:2])
        if not all(DEEPEST <= side <= 4096 for side in (height, width)):
            raise FrameError(f"size: expected sides of 32 to 4,096 pixels, found {height} x {width} (scale {scale:g})")
        if scale != 1:
            picture = cv2.resize(picture, (width, height), interpolation=cv2.INTER_LINEAR)
        padded = np.pad(picture, ((0, -height % DEEPEST), (0, -width % DEEPEST), (0, 0)))
        blob = padded.transpose(2, 0, 1)[None].astype(np.float32)
        heat, size, offset = (output[0] for output in self._session.run(None, {self._name: blob})[:3])
        row, column = np.nonzero(heat[0] > least)
        scores = heat[0][row, column]
        h, w = np.exp(size[0][row, column]) * STRIDE, np.exp(size[1][row, column]) * STRIDE
        y = (row + offset[0][row, column] + 0.5) * STRIDE
        x = (column + offset[1][row, column] + 0.5) * STRIDE
        boxes = np.stack([x - w / 2, y - h / 2, w, h], axis=1) / scale
        kept = suppressed(boxes, scores, overlap)
        return boxes[kept], scores[kept]


def _of_any_size(model: bytes) -> bytes:
    """The file was exported for ten pictures of 32 x 32. Its layers take any number and size; only what it declares is changed."""
    return _OUTPUT.sub(_FREE + rb"\1" + _FREE * 2, _INPUT.sub(_FREE + rb"\1" + _FREE * 2, model))


def checked(image: np.ndarray) -> np.ndarray:
    """The picture as RGB, uint8 (h, w, 3). Raises FrameError for what is none: nothing is guessed, a wrong guess is a face left visible."""
    if not isinstance(image, np.ndarray) or image.dtype != np.uint8:
        found = f"{image.dtype} array" if isinstance(image, np.ndarray) else type(image).__name__
        raise FrameError(f"mode: expected uint8 pixels from 0 to 255, found a {found}")
    if image.ndim == 2:
        return np.repeat(image[..., None], 3, axis=2)
    if image.ndim != 3 or image.shape[2] != 3:
        raise FrameError(f"mode: expected grey (h, w) or RGB (h, w, 3), found shape {image.shape}")
    return image


def suppressed(boxes: np.ndarray, scores: np.ndarray, overlap: float) -> np.ndarray:
    """Rows that non-maximum suppression keeps, the surest first: of two boxes whose intersection over union exceeds `overlap`, the surer.

    boxes: left, top, width, height, (n, 4).
    """
    order, kept = np.argsort(-scores, kind="stable"), []
    low, high, area = boxes[:, :2], boxes[:, :2] + boxes[:, 2:], boxes[:, 2] * boxes[:, 3]
    while len(order):
        first, order = order[0], order[1:]
        kept.append(first)
        common = np.clip(np.minimum(high[first], high[order]) - np.maximum(low[first], low[order]), 0, None).prod(axis=1)
        order = order[common <= overlap * (area[first] + area[order] - common)]
    return np.array(kept, dtype=int)


@cache
def _loaded() -> CenterFace:
    return CenterFace()


def find_faces(image: np.ndarray) -> np.ndarray:
    """Boxes (n, 4) of a frame's faces, for a batch worker: twice enlarged, a low threshold, no suppression (doubles are harmless)."""
    return _loaded().detect(image, least=0.2, scale=2.0, overlap=1.0)[0]


# ---------- how detections are judged: by what stays visible ----------

Found = Sequence[tuple[np.ndarray, np.ndarray]]  # of each frame its boxes (n, 4) and scores (n,)
BOX = ["left", "top", "width", "height"]


def score_map(boxes: np.ndarray, scores: np.ndarray, shape: tuple[int, int], pad: float) -> np.ndarray:
    """The highest score of a box, padded by `pad` of its size on each side, over each pixel; 0 where there is none."""
    best = np.zeros(shape)
    low = np.maximum(np.floor(boxes[:, :2] - pad * boxes[:, 2:]), 0).astype(int)
    high = np.maximum(np.ceil(boxes[:, :2] + (1 + pad) * boxes[:, 2:]), 0).astype(int)
    for k in np.argsort(scores, kind="stable"):
        best[low[k, 1] : high[k, 1], low[k, 0] : high[k, 0]] = scores[k]
    return best


def hidden_up_to(found: Found, things: pd.DataFrame, shape: tuple[int, int], pad: float = 0.2, share: float = 0.9) -> np.ndarray:
    """For each thing the threshold below which blurring all padded boxes covers `share` of its pixels; 0 if nothing does. Shape (n,).

    things: row (of `found`), left, top, width, height in pixels. Recall at a threshold t is the mean of (result > t).
    """
    out = np.zeros(len(things))
    for row, where in things.groupby("row").indices.items():
        best = score_map(*found[row], shape, pad)
        for k, (left, top, width, height) in zip(where, things[BOX].to_numpy(int)[where], strict=True):
            covered = np.sort(best[top : top + height, left : left + width], axis=None)
            out[k] = covered[int(round((1 - share) * (len(covered) - 1)))]
    return out


def false_scores(found: Found, things: pd.DataFrame, kind: int = 0) -> list[np.ndarray]:
    """By frame: the scores of boxes whose centre lies on nothing of this kind, needing a blur or not; of boxes that overlap one counts."""
    out = []
    for row, (boxes, scores) in enumerate(found):
        real = things.loc[(things.row == row) & (things.kind == kind), BOX].to_numpy(float)
        centre = (boxes[:, :2] + boxes[:, 2:] / 2)[:, None]
        on = (centre >= real[:, :2]) & (centre <= real[:, :2] + real[:, 2:])
        off = ~on.all(-1).any(1)
        out.append(scores[off][suppressed(boxes[off], scores[off], 0.3)])
    return out


def best_overlap(found: Found, things: pd.DataFrame, threshold: float) -> np.ndarray:
    """The best intersection over union that a box above the threshold has with each thing, shape (n,)."""
    out = np.zeros(len(things))
    for k, (row, *box) in enumerate(things[["row", *BOX]].to_numpy(float)):
        boxes, low, size = found[int(row)][0][found[int(row)][1] > threshold], np.array(box[:2]), np.array(box[2:])
        common = np.minimum(low + size, boxes[:, :2] + boxes[:, 2:]) - np.maximum(low, boxes[:, :2])
        both = common.clip(0).prod(axis=1)
        out[k] = (both / (size.prod() + boxes[:, 2:].prod(axis=1) - both)).max(initial=0)
    return out


def heat_peaks(heat: np.ndarray, size: np.ndarray, cell: int, least: float) -> tuple[np.ndarray, np.ndarray]:
    """Boxes and scores where a heat-map (h, w) is at least `least` and at its highest. size: log height and width, (h, w, 2)."""
    y, x = np.nonzero((heat >= least) & (heat >= cv2.dilate(np.ascontiguousarray(heat), np.ones((3, 3)))))
    sides = np.exp(size[y, x][:, ::-1])
    return np.hstack([np.stack([x, y], axis=1) * cell + cell / 2 - sides / 2, sides]), heat[y, x]


def outlined(image: np.ndarray, things: pd.DataFrame, enlarge: int = 3) -> np.ndarray:
    """A grey frame in colour, enlarged, with what needs a blur framed in green and what does not in orange."""
    picture = cv2.resize(cv2.cvtColor(image, cv2.COLOR_GRAY2RGB), None, fx=enlarge, fy=enlarge)
    for (left, top, width, height), needed in zip(enlarge * things[BOX].to_numpy(int), things.needs_blur, strict=True):
        cv2.rectangle(picture, (left, top), (left + width, top + height), (0, 158, 115) if needed else (213, 94, 0), 2)
    return picture


def grey_frames(path: str | Path, every: int = 1) -> list[np.ndarray]:
    """Every so many frames of a video as grey pictures, uint8 (h, w). Raises FrameError for a file without a readable frame."""
    video, frames, k = cv2.VideoCapture(str(path)), [], 0
    while (read := video.read())[0]:
        if k % every == 0:
            frames.append(cv2.cvtColor(read[1], cv2.COLOR_BGR2GRAY))
        k += 1
    video.release()
    if not frames:
        raise FrameError(f"{path}: expected a video, found no frame that can be read")
    return frames
