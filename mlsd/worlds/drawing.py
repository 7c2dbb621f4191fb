"""Pictures of things, rendered from attributes: a thing on a backdrop, seen by a studio camera or by a phone.

A thing is a row of a `designs` table: category, pattern, material (codes into CATEGORIES, PATTERNS,
MATERIALS), frequency of the pattern, shape_a to shape_c (0 to 1), and two colours in CIE Lab: l, a, b
and accent_l, accent_a, accent_b. A shot says how it is photographed; see `render`.

The same bytes on every processor: plain arithmetic is float32, where IEEE 754 leaves no choice; sines,
exponentials, powers and blurs, in which libraries differ, are computed in double precision and rounded.
"""

from __future__ import annotations

from collections.abc import Callable

import cv2
import numpy as np
import pandas as pd

CATEGORIES = ("bottle", "vase", "lamp", "mug", "bag", "dress", "shirt", "hat")
PATTERNS = ("plain", "horizontal", "vertical", "diagonal", "checks", "dots", "chevron", "block")
MATERIALS = ("matte", "glossy", "woven", "metallic")
STUDIO_SIZE = 32  # pixels: side of a picture at which a blur of 1 has a standard deviation of one pixel


def _in_double(function: Callable[[np.ndarray], np.ndarray]) -> Callable[[np.ndarray], np.ndarray]:
    return lambda x: function(np.asarray(x, np.float64)).astype(np.float32)


_sin, _cos, _exp = map(_in_double, (np.sin, np.cos, np.exp))


def random_lab(rng: np.random.Generator, n: int) -> np.ndarray:
    """Colours as shops stock them: greys and muted tones are common, vivid ones rarer. CIE Lab, (n, 3)."""
    hue, chroma = rng.uniform(0, 2 * np.pi, n), rng.gamma(3.0, 14.0, n).clip(0, 75)
    return np.stack([rng.uniform(25, 85, n), chroma * np.cos(hue), chroma * np.sin(hue)], axis=1)


def _lab_to_rgb(lab: np.ndarray) -> np.ndarray:
    """sRGB in [0, 1] of CIE Lab colours under D65, (n, 3). Source: IEC 61966-2-1."""
    fy = (lab[:, 0] + 16) / 116
    f = np.stack([fy + lab[:, 1] / 500, fy, fy - lab[:, 2] / 200], axis=1)
    xyz = np.where(f > 6 / 29, f**3, 3 * (6 / 29) ** 2 * (f - 4 / 29)) * [0.950456, 1.0, 1.088754]
    to_rgb = np.array([[3.240479, -1.53715, -0.498535], [-0.969256, 1.875991, 0.041556], [0.055648, -0.204043, 1.057311]])
    linear = np.clip(xyz @ to_rgb.T, 0, 1)
    return np.where(linear > 0.0031308, 1.055 * linear ** (1 / 2.4) - 0.055, 12.92 * linear).astype(np.float32)


def _ramp(x: np.ndarray) -> np.ndarray:
    return np.clip(x, 0, 1)


def _silhouette(category: int, u: np.ndarray, v: np.ndarray, shape: np.ndarray) -> np.ndarray:
    """Signed distance (about) to the outline, positive inside; u, v in [-1, 1] with v downwards, (n, s, s)."""
    a, b, c = (shape[:, j, None, None] for j in range(3))
    x = np.abs(u)

    def slab(top: np.ndarray | float, bottom: np.ndarray | float) -> np.ndarray:
        return np.minimum(v - top, bottom - v)

    def ring(x0: np.ndarray | float, y0: np.ndarray | float, radius: np.ndarray, thickness: float) -> np.ndarray:
        return thickness - np.abs(np.sqrt((u - x0) ** 2 + (v - y0) ** 2) - radius)

    match CATEGORIES[category]:
        case "bottle":
            neck, body = 0.1 + 0.1 * b, 0.28 + 0.35 * a
            width = neck + (body - neck) * _ramp((v + 0.6 - 0.6 * c) / 0.3)
            return np.minimum(width - x, slab(-0.95, 0.95))
        case "vase":
            width = 0.22 + 0.2 * a + (0.1 + 0.25 * b) * _sin(np.pi * (0.5 + 1.2 * c) * (v + 1.2))
            return np.minimum(width - x, slab(-0.9, 0.92))
        case "lamp":
            edge = 0.35 * c - 0.15
            shade = 0.15 + 0.3 * a + (0.25 + 0.2 * b) * _ramp((v + 0.95) / (edge + 0.95))
            stand = np.maximum(np.minimum(0.06 - x, slab(-0.2, 0.9)), np.minimum(0.35 - x, slab(0.8, 0.95)))
            return np.maximum(np.minimum(shade - x, slab(-0.95, edge)), stand)
        case "mug":
            width, height = 0.4 + 0.2 * a, 0.45 + 0.4 * b
            body = np.minimum(width - np.abs(u + 0.15), height - np.abs(v))
            return np.maximum(body, np.where(u > width - 0.15, ring(width - 0.1, 0.0, 0.2 + 0.15 * c, 0.09), -1))
        case "bag":
            width = 0.45 + 0.2 * a + (0.05 + 0.25 * b) * v
            body = np.minimum(width - x, slab(-0.2, 0.85))
            return np.maximum(body, np.where(v < -0.15, ring(0.0, -0.2, 0.28 + 0.25 * c, 0.08), -1))
        case "dress":
            waist = 0.3 * c - 0.3
            width = np.where(v < waist, 0.3 + 0.12 * a, 0.25 + (0.15 + 0.5 * b) * _ramp((v - waist) / (0.95 - waist)))
            neck = np.sqrt(u**2 + (v + 0.95) ** 2) - 0.18
            return np.minimum(np.minimum(width - x, slab(-0.95, 0.95)), neck)
        case "shirt":
            torso = np.minimum(0.4 + 0.15 * a - x, slab(-0.75, 0.5 + 0.4 * b))
            sleeve = np.minimum(v + 0.75 - 0.45 * (x - 0.3), -0.2 + 0.55 * c - v + 0.3 * (x - 0.3))
            sleeve = np.minimum(sleeve, 0.95 - x)
            neck = np.sqrt(u**2 + (v + 0.8) ** 2) - 0.17
            return np.minimum(np.maximum(torso, sleeve), neck)
        case _:  # hat
            dome = 1 - np.sqrt((u / (0.4 + 0.2 * a)) ** 2 + ((v - 0.25) / (0.5 + 0.4 * b)) ** 2)
            brim = np.minimum(0.6 + 0.35 * c - x, slab(0.2, 0.42))
            return np.maximum(np.minimum(0.4 * dome, 0.3 - v), brim)


def _pattern(pattern: int, u: np.ndarray, v: np.ndarray, frequency: np.ndarray) -> np.ndarray:
    """Share of the accent colour in each pixel, 0 to 1, (n, s, s)."""
    f = frequency[:, None, None]

    def stripes(t: np.ndarray) -> np.ndarray:
        return _ramp(0.5 + 2.5 * _sin(2 * np.pi * f * t))

    match PATTERNS[pattern]:
        case "plain":
            return np.zeros_like(u)
        case "horizontal":
            return stripes(v)
        case "vertical":
            return stripes(u)
        case "diagonal":
            return stripes((u + v) * 0.7071)
        case "checks":
            return _ramp(0.5 + 3 * _sin(2 * np.pi * f * 0.8 * u) * _sin(2 * np.pi * f * 0.8 * v))
        case "dots":
            return _ramp(3.5 * (_cos(2 * np.pi * f * u) + _cos(2 * np.pi * f * v)) - 2.5)
        case "chevron":
            return stripes(v + 0.25 * np.abs((u * 2.5 + 0.5) % 2 - 1))
        case _:  # block: the lower part in another colour, the finer the pattern the higher it starts
            return _ramp(0.5 + 8 * (v - (1.2 - 0.6 * f)))


def _shading(material: int, u: np.ndarray, v: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Brightness factor and added highlight of each pixel, (n, s, s) each."""
    match MATERIALS[material]:
        case "matte":
            return 1.0 - 0.15 * u**2, np.zeros_like(u)
        case "glossy":
            return 1.0 - 0.35 * u**2, 0.55 * _exp(-(((u + 0.2) / 0.12) ** 2 + ((v + 0.1) / 0.5) ** 2))
        case "woven":
            return 0.93 + 0.14 * _sin(26 * u) * _sin(26 * v) - 0.1 * u**2, np.zeros_like(u)
        case _:  # metallic
            return 0.85 + 0.3 * _cos(7 * u + 0.8), 0.12 * _ramp(_cos(7 * u + 0.8))


def _things(designs: pd.DataFrame, which: np.ndarray, shots: dict, X: np.ndarray, Y: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Opacity (n, s, s) and colour (n, s, s, 3) of each thing on its frame."""
    column = {k: np.asarray(shots[k], np.float32)[:, None, None] for k in ("cx", "cy", "scale", "angle", "yaw", "mirror")}
    dx, dy = X - column["cx"], Y - column["cy"]
    cos, sin = _cos(column["angle"]), _sin(column["angle"])
    u = (cos * dx + sin * dy) / (column["scale"] * column["yaw"]) * column["mirror"]
    v = (cos * dy - sin * dx) / column["scale"]
    shape = designs[["shape_a", "shape_b", "shape_c"]].to_numpy(np.float32)[which]
    frequency = designs.frequency.to_numpy(np.float32)[which]
    distance, accent, light, shine = (np.empty_like(u) for _ in range(4))
    for values, compute in (
        (designs.category, lambda k, rows: (distance, _silhouette(k, u[rows], v[rows], shape[rows]))),
        (designs.pattern, lambda k, rows: (accent, _pattern(k, u[rows], v[rows], frequency[rows]))),
    ):
        chosen = values.to_numpy()[which]
        for k in np.unique(chosen):
            rows = np.flatnonzero(chosen == k)
            into, result = compute(int(k), rows)
            into[rows] = result
    material = designs.material.to_numpy()[which]
    for k in np.unique(material):
        rows = np.flatnonzero(material == k)
        light[rows], shine[rows] = _shading(int(k), u[rows], v[rows])
    pixel = 2 / X.shape[-1]
    opacity = _ramp(distance * column["scale"] / pixel + 0.5)
    base = _lab_to_rgb(designs[["l", "a", "b"]].to_numpy()[which])[:, None, None]
    second = _lab_to_rgb(designs[["accent_l", "accent_a", "accent_b"]].to_numpy()[which])[:, None, None]
    colour = (base + accent[..., None] * (second - base)) * light[..., None] + shine[..., None]
    return opacity, colour


def _textures(shots: dict, X: np.ndarray, Y: np.ndarray, size: int) -> np.ndarray:
    """Deviation of a home's background from its mean colour, (n, s, s): blotches, and planks in some homes."""
    coarse = 6
    blotch = np.stack([np.random.default_rng(int(s)).normal(0, 1, (coarse, coarse)) for s in shots["texture_seed"]])
    position = np.linspace(0, coarse - 1, size)
    spread = np.clip(1 - np.abs(position[:, None] - np.arange(coarse)), 0, 1)  # linear interpolation, (size, coarse)
    smooth = np.einsum("sc,ncd,td->nst", spread, blotch, spread, optimize=True)
    direction = (shots["texture_seed"] % 628 / 100)[:, None, None]
    planks = np.sin(11 * (np.cos(direction) * X + np.sin(direction) * Y))
    return shots["texture"][:, None, None] * smooth + shots["planks"][:, None, None] * planks


def render(designs: pd.DataFrame, which: np.ndarray, shots: dict[str, np.ndarray], size: int, chunk: int | None = None) -> np.ndarray:
    """Pictures of the designs `which`, taken as `shots` say: uint8 (n, size, size, 3). The frame spans [-1, 1].

    shots, arrays over the n pictures. Of every picture: cx, cy (centre), scale (half the side of the thing's
    square), angle (radians), yaw (1 seen from the front, less when turned), mirror (1 or -1), gain and backdrop (RGB, (n, 3)).
    Of phone pictures, known by "texture": also texture and planks (strength of the background's), texture_seed,
    gradient and gradient_angle (of the light), neighbour (design of a second thing, -1 for none) and
    neighbour_side (radians), noise (standard deviation), blur (standard deviation in pixels of a STUDIO_SIZE picture).
    """
    which = np.asarray(which)
    chunk = chunk or 128 * max(1, STUDIO_SIZE // size) ** 2  # small pictures many at a time: the same memory, fewer rounds
    out = np.empty((len(which), size, size, 3), np.uint8)
    axis = (np.arange(size, dtype=np.float32) + 0.5) * (2 / size) - 1
    X, Y = (grid[None] for grid in np.meshgrid(axis, axis))
    for begin in range(0, len(which), chunk):
        rows = slice(begin, begin + chunk)
        out[rows] = _render_chunk(designs, which[rows], {k: v[rows] for k, v in shots.items()}, X, Y, size)
    return out


def _render_chunk(designs: pd.DataFrame, which: np.ndarray, shots: dict, X: np.ndarray, Y: np.ndarray, size: int) -> np.ndarray:
    n = len(which)
    image = np.broadcast_to(shots["backdrop"].astype(np.float32)[:, None, None], (n, size, size, 3)).copy()
    phone = "texture" in shots
    if phone:
        image += _textures(shots, X, Y, size)[..., None]
        _add_neighbours(image, designs, shots, X, Y)
    opacity, colour = _things(designs, which, shots, X, Y)
    image += opacity[..., None] * (colour - image)
    image *= shots["gain"][:, None, None]
    if phone:
        angle = shots["gradient_angle"][:, None, None]
        image *= (1 + shots["gradient"][:, None, None] * (np.cos(angle) * X + np.sin(angle) * Y))[..., None]
        for i in range(n):
            noise = np.random.default_rng(int(shots["texture_seed"][i]) + 1)
            if shots["blur"][i] > 0.2:
                sigma = float(shots["blur"][i]) * size / STUDIO_SIZE
                image[i] = cv2.GaussianBlur(image[i].astype(np.float64), (0, 0), sigma)
            if shots["noise"][i] > 0:
                image[i] += shots["noise"][i] * noise.standard_normal(image[i].shape, dtype=np.float32)
    return (_ramp(image) * 255 + 0.5).astype(np.uint8)


def _add_neighbours(image: np.ndarray, designs: pd.DataFrame, shots: dict, X: np.ndarray, Y: np.ndarray) -> None:
    """Paint a second thing behind the first, to one side of it, in the photos that have one."""
    rows = np.flatnonzero(shots["neighbour"] >= 0)
    if len(rows) == 0:
        return
    side, scale = shots["neighbour_side"][rows], shots["scale"][rows]
    beside = dict(
        cx=shots["cx"][rows] + 1.5 * scale * np.cos(side),
        cy=shots["cy"][rows] + 1.5 * scale * np.sin(side),
        scale=scale,
        angle=np.zeros(len(rows)),
        yaw=np.ones(len(rows)),
        mirror=np.ones(len(rows)),
    )
    opacity, colour = _things(designs, shots["neighbour"][rows], beside, X, Y)
    image[rows] += opacity[..., None] * (colour - image[rows])


def crop(photos: np.ndarray, boxes: np.ndarray, size: int) -> np.ndarray:
    """Cut each box out of its photo and scale it to size x size, linearly between pixels: uint8 (n, size, size, 3).

    photos: uint8 (n, side, side, 3). boxes: left, top, right, bottom as shares of the frame, (n, 4).
    """
    side, boxes = photos.shape[1], np.asarray(boxes, np.float64)
    steps = np.arange(size) / size
    out = np.empty((len(photos), size, size, 3), np.uint8)
    for i, (left, top, right, bottom) in enumerate(boxes):
        lines = photos[i]
        for begin, end in ((top, bottom), (left, right)):  # down the rows, then, turned, along the columns
            at = np.clip((begin + (end - begin) * steps) * side, 0, side - 1)
            first = np.minimum(at.astype(np.int64), side - 2)
            share = (at - first)[:, None, None]
            lines = (lines[first] * (1 - share) + lines[first + 1] * share).transpose(1, 0, 2)
        out[i] = lines + 0.5
    return out


def thumbnails(photos: np.ndarray, side: int = 8) -> np.ndarray:
    """Each photo shrunk to side x side, brightness and contrast removed: float32 (n, side * side * 3), rows of length 1.

    photos: uint8 (n, s, s, 3), s a multiple of `side`. Source: Torralba, Fergus, Freeman (2008), "80 Million Tiny Images", section 3.
    """
    n, s = photos.shape[:2]
    if s % side:
        raise ValueError(f"photos: expected a multiple of {side} pixels, found {s}")
    flat = photos.reshape(n, side, s // side, side, s // side, 3).mean(axis=(2, 4)).reshape(n, -1)
    flat -= flat.mean(axis=1, keepdims=True)
    return (flat / np.maximum(np.linalg.norm(flat, axis=1, keepdims=True), 1e-6)).astype(np.float32)
