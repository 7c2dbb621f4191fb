"""Street imagery: camera cars drive, a detector blurs, auditors look at some of what was published.

Each day every rig drives a few scenes and takes consecutive frames of each. People, cars, statues, posters
and backs of heads stand in them. The company's detector ("v1") blurs what it finds, the frames are published,
and in the evening an auditor opens some of each rig's frames: a policy says which, and in which order. The
outcome is whether the auditor finds something that should have been blurred. Viewers report some, later.

Frames are grey, 160 x 240. Faces are real (25 x 25 patches of Labeled Faces in the Wild), all else is drawn or cut
out of photographs. The tables need no pixel; pixels need the fetched photographs (`make data`). All that is drawn is
whole-number arithmetic (products in double precision, which holds these numbers exactly), so pixels are the same everywhere.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache, lru_cache

import cv2
import numpy as np
import pandas as pd
from PIL import Image
from scipy.special import expit, logit

from mlsd.files import verified
from mlsd.worlds.base import OnlineMetric, Policy, Rules, WorldError, decisive, effect, generator, happens, ranking, scores_of, times
from mlsd.worlds.engine import SimulatedWorld, examined, shown

_RIGS, _SCENES, _TRACKS, _OBJECTS, _AUDIT, _REPORTS, _PAINT, _NOISE, _SAMPLES = range(9)  # random streams
HEIGHT, WIDTH = 160, 240  # of a frame, pixels
KINDS = ("face", "plate", "back of a head", "statue", "poster")
REGIONS = ("north", "south", "island")
PLATES = ((11, 2.2, False), (52, 4.6, False), (33, 3.0, True))  # by region: (of the generator) width over height, light on dark
SHORTEST, TALLEST = 8, 44  # of a face, pixels
LEGIBLE = (8, 5)  # pixels of height from which a face, a plate must be blurred: the rule of this company
DISTRICTS, PEOPLE = 8, 11  # a district a week, with so many people in it and one face on its posters
STEP = 10  # pixels by which the street moves between frames


@dataclass(frozen=True)
class StreetRules(Rules):
    """What is planted in the streets."""

    far: float = effect(
        0.5,
        off=0.0,
        unit="log of height, standard deviation",
        mechanism="People and cars stand near and far, so that many faces are small.",
    )
    night: float = effect(
        0.2, off=0.0, unit="share of a rig's days", mechanism="The rig drives after dark: a third of the light, and noise."
    )
    motion: float = effect(0.3, off=0.0, unit="share of scenes", mechanism="The car is fast, and the frames are smeared along its way.")
    occlusion: float = effect(0.2, off=0.0, unit="share of faces", mechanism="A pole or a scarf hides two fifths of the face.")
    crowds: float = effect(
        0.05, off=0.0, unit="share of scenes", mechanism="Nine more people stand close together, and some hide a part of others."
    )
    lookalikes: float = effect(
        0.9,
        off=0.0,
        unit="mean number a scene",
        mechanism="Statues, posters with faces and backs of heads, which need no blur, stand around.",
    )
    new_plates: float = effect(
        0.3,
        off=0.0,
        unit="share of rigs",
        mechanism="From `new_plates_day` on these rigs drive on the island, whose plates are light on dark.",
    )
    exposure_drift: float = effect(
        0.15, off=0.0, unit="stops a day", mechanism="From `drift_day` on one rig's pictures get darker every day."
    )
    views_spread: float = effect(
        1.2, off=0.0, unit="log of views, standard deviation", mechanism="Some places are looked at far more often than others."
    )
    reports_follow_views: float = effect(
        1.0, off=0.0, unit="power", mechanism="The chance of a report grows with the views of the frame to this power."
    )
    position_bias: float = effect(
        0.3, off=0.0, unit="power", mechanism="Auditors tire: the k-th frame of an audit is looked at with care with probability k^-bias."
    )
    exploration: float = effect(0.1, off=0.0, unit="share of audits", mechanism="These audits open frames at random.")

    n_rigs: int = 20
    scenes: int = 8  # a rig and day
    frames: int = 4  # consecutive ones of a scene
    audits: int = 8  # frames that an auditor opens, of each rig and day
    new_plates_day: int = 28
    drift_day: int = 40
    drift_rig: int = 3
    horizon_days: int = 56


class StreetWorld(SimulatedWorld):
    """Rigs drive, v1 blurs, auditors look. See `base.World`; a "user" is a rig, a "request" one evening's audit of one rig.

    users: user_id, camera (code), created_at. items, one row a frame: item_id, user_id, scene_id, frame (0, 1, ... of its scene),
    district, region (code into REGIONS), night, views (a week, expected), created_at.
    objects: what stands in the frames, the truth that annotators would draw. One row an object and frame: item_id, kind (code into
    KINDS), identity (row of the faces; -1 for plates), track (the same thing in consecutive frames), left, top, width, height
    (pixels), visible (percent of the box that nothing nearer covers), occluded, crowd, needs_blur, blurred (by v1).
    """

    RULES = StreetRules
    OUTCOMES = ("found",)
    AFTERWARDS = ("found",)
    SMALL = dict(n_rigs=8, scenes=5, horizon_days=14)

    objects: pd.DataFrame

    # ---------- what exists ----------

    def _draw(self) -> None:
        r = self.rules
        if not 1 <= r.audits <= r.scenes * r.frames:
            raise WorldError(f"audits: expected 1 to {r.scenes * r.frames}, the frames of a rig and day, found {r.audits}")
        rng = generator(self.seed, _RIGS)
        self.users = pd.DataFrame(
            dict(
                user_id=np.arange(r.n_rigs, dtype=np.int32),
                camera=rng.integers(0, 3, r.n_rigs).astype(np.int8),
                created_at=times(-rng.integers(100, 900, r.n_rigs)),
            )
        )
        self._face_of = rng.permutation(100)  # identity -> row of the fetched faces: other people in another seed
        self._darkness = np.clip(np.arange(r.horizon_days) - r.drift_day + 1, 0, None) * r.exposure_drift  # of the one rig, stops
        self._draw_frames()
        self._draw_objects(self._draw_tracks())
        self.metrics = {
            "found_per_audit": OnlineMetric("found", "request"),
            "found_per_100_frames": OnlineMetric("found", "impression", 100.0),
        }

    def _draw_frames(self) -> None:
        r, rng = self.rules, generator(self.seed, _SCENES)
        shape = (r.horizon_days, r.n_rigs, r.scenes)
        day, rig, scene = (grid.ravel() for grid in np.indices(shape))
        n = len(day)
        moved = (day >= r.new_plates_day) & (rig < round(r.new_plates * r.n_rigs))
        night = np.repeat(happens(rng.random(shape[:2]), r.night).ravel(), r.scenes)
        self._scene = dict(
            day=day,
            rig=rig,
            district=day // 7 % DISTRICTS,
            region=np.where(moved, 2, rig % 2),
            night=night,
            smear=np.where(happens(rng.random(n), r.motion), rng.choice([3, 5, 7], n), 1),
            crowd=happens(rng.random(n), r.crowds),
            views=np.rint(20 * np.exp(r.views_spread * rng.normal(size=n))).astype(np.int32),
            stops=np.where(rig == r.drift_rig, self._darkness[day], 0.0),
            second=(np.where(night, 17, 8) * 3600 + (scene * 7200 / r.scenes)).astype(np.int64),
        )
        self._scene_of = np.repeat(np.arange(n), r.frames)
        frame = np.tile(np.arange(r.frames), n)
        of = {name: values[self._scene_of] for name, values in self._scene.items()}
        self.items = pd.DataFrame(
            dict(
                item_id=np.arange(n * r.frames, dtype=np.int32),
                user_id=of["rig"].astype(np.int32),
                scene_id=self._scene_of.astype(np.int32),
                frame=frame.astype(np.int8),
                district=of["district"].astype(np.int8),
                region=of["region"].astype(np.int8),
                night=of["night"],
                views=of["views"],
                created_at=times(of["day"], of["second"] + frame),
            )
        )

    def _draw_tracks(self) -> dict[str, np.ndarray]:
        """The things of each scene, as they are in its first frame."""
        r, rng, scenes = self.rules, generator(self.seed, _TRACKS), self._scene
        n = len(scenes["day"])
        people, cars = rng.poisson(1.4, n), rng.poisson(0.6, n)
        alike = rng.poisson(r.lookalikes, n)
        counts = (people, np.where(scenes["crowd"], 9, 0), cars, alike)
        scene = np.concatenate([np.repeat(np.arange(n), count) for count in counts])
        sort = np.repeat(np.arange(4), [count.sum() for count in counts])
        m = len(scene)
        kind = np.choose(sort, [np.zeros(m), np.zeros(m), np.ones(m), rng.choice([2, 3, 4], m)]).astype(np.int8)
        size = np.where(kind == 1, 9, np.where(kind == 4, 26, 17)) * np.exp(r.far * rng.normal(size=m))
        in_crowd, place = sort == 1, rng.uniform(0, 1, m)
        size = np.where(in_crowd, rng.uniform(13, 19, m), size)
        # A crowd stands in a row: each a little more than half a face from the next, in this order.
        rank = np.arange(m) - np.searchsorted(scene[in_crowd], scene, side="left") - np.flatnonzero(in_crowd)[:1].sum()
        x = 20 + place * (WIDTH + STEP - 40)
        start = 30 + 90 * (scene * 7919 % 101) / 100
        x = np.where(in_crowd, start + 11 * rank + rng.uniform(-2, 2, m), x)
        y = np.where(kind == 1, rng.uniform(112, 145, m), 62 + rng.uniform(-26, 26, m) + 0.5 * size)
        y = np.where(in_crowd, 70 + rng.uniform(-4, 4, m), y)
        district = scenes["district"][scene] * (PEOPLE + 1)
        who = district + np.where((kind == 3) | (kind == 4), PEOPLE, rng.integers(0, PEOPLE, m))
        return dict(
            scene=scene,
            kind=kind,
            identity=np.where(kind == 1, -1, who),
            size=np.clip(size, np.where(kind == 1, 5, SHORTEST), np.where(kind == 1, 16, TALLEST)),
            x=x,
            y=y,
            nearer=np.exp(rng.normal(0.03, 0.04, m)),  # growth from frame to frame
            walk=rng.normal(0, 2.0, m),  # pixels a frame
            mirror=rng.random(m) < 0.5,
            gain=rng.integers(200, 291, m),  # of 256
            occluder=np.where((kind == 0) & happens(rng.random(m), r.occlusion), rng.integers(1, 4, m), 0),
            crowd=in_crowd,
            paint=rng.integers(0, 2**31, m),
        )

    def _draw_objects(self, tracks: dict[str, np.ndarray]) -> None:
        """Boxes in each frame, and what v1 made of them."""
        r, rng = self.rules, generator(self.seed, _OBJECTS)
        track = np.repeat(np.arange(len(tracks["scene"])), r.frames)
        f = np.tile(np.arange(r.frames), len(tracks["scene"]))
        t = {name: values[track] for name, values in tracks.items()}
        height = np.rint(decisive(np.clip(t["size"] * t["nearer"] ** f, 5, TALLEST))).astype(int)
        wide = np.choose(self._scene["region"][t["scene"]], [plate[1] for plate in PLATES])
        width = np.rint(decisive(height * np.where(t["kind"] == 1, wide, np.where(t["kind"] == 4, 1.0, 0.84)))).astype(int)
        left = np.rint(decisive(t["x"] + f * (t["walk"] - STEP) - width / 2)).astype(int)
        top = np.rint(decisive(t["y"] - height / 2)).astype(int)
        keep = np.flatnonzero((left >= 2) & (left + width <= WIDTH - 2) & (top >= 2) & (top + height <= HEIGHT - 2))
        frame = t["scene"] * r.frames + f
        keep = keep[np.lexsort((keep, frame[keep]))]
        track, f, height, width, left, top, frame = (x[keep] for x in (track, f, height, width, left, top, frame))
        t = {name: values[keep] for name, values in t.items()}
        visible = _visible(frame, t["kind"], left, top, width, height, t["occluder"])
        legible = height >= np.where(t["kind"] == 1, LEGIBLE[1], LEGIBLE[0])
        needs = (t["kind"] <= 1) & legible & (visible >= 50)
        night, smear, stops = (self._scene[name][t["scene"]] for name in ("night", "smear", "stops"))
        # v1 is what it is: the bigger, the brighter and the freer, the surer. It was never shown a plate of the island.
        wide = np.choose(self._scene["region"][t["scene"]], [plate[1] for plate in PLATES])
        ease = 3.4 + 2 * np.log2(height / np.where(t["kind"] == 1, 9, 17)) - 1.5 * night - 0.3 * (smear - 1) - 1.5 * stops
        ease = ease - 1.5 * (t["occluder"] > 0) - 0.04 * (100 - visible) - 4.0 * ((t["kind"] == 1) & (wide == PLATES[2][1]))
        ease = np.where(t["kind"] > 1, np.choose(np.maximum(t["kind"] - 2, 0), [-4.0, -0.5, 0.0]), ease)
        score = ease - logit(np.clip(rng.random(len(track)), 1e-6, 1 - 1e-6))
        notice = expit(1.0 + 2 * np.log2(height / np.where(t["kind"] == 1, 9, 17)) - night)  # by an auditor, where it is not blurred
        self.objects = pd.DataFrame(
            dict(
                item_id=frame.astype(np.int32),
                kind=t["kind"],
                identity=t["identity"].astype(np.int16),
                track=track.astype(np.int32),
                left=left.astype(np.int16),
                top=top.astype(np.int16),
                width=width.astype(np.int16),
                height=height.astype(np.int16),
                visible=visible.astype(np.int8),
                occluded=t["occluder"] > 0,
                crowd=t["crowd"],
                needs_blur=needs,
                blurred=decisive(score) > 0,
            )
        )
        self._paint = {name: t[name] for name in ("mirror", "gain", "occluder", "paint")}
        self._begins = np.searchsorted(frame, np.arange(len(self.items) + 1))
        n, missed = len(self.items), needs & (decisive(score) <= 0)
        doubtful = (decisive(score) <= 0) & (decisive(score) > -2)
        self._blurred, self._doubtful = (np.bincount(frame, x, n).astype(np.int16) for x in (self.objects.blurred, doubtful))
        seen = np.where(missed, notice, 0.0)
        self._exposed_things = np.bincount(frame, seen, n)  # expected number that a careful eye would notice
        self._findable = 1 - np.exp(np.bincount(frame, np.log1p(-np.minimum(seen, 1 - 1e-9)), n))

    # ---------- truth ----------

    def _probability(self, rows: pd.DataFrame, outcome: str) -> np.ndarray:
        return examined(rows, self.rules.position_bias) * self._findable[rows.item_id.to_numpy()]

    def frames_of(self, days: int, start: int = 0) -> np.ndarray:
        """item_id of all frames that were taken on `days` days from day `start` on."""
        self._check_days(days, start)
        per_day = self.rules.n_rigs * self.rules.scenes * self.rules.frames
        return np.arange(start * per_day, (start + days) * per_day)

    def boxes(self, item_ids: np.ndarray) -> pd.DataFrame:
        """The objects of these frames, as patient annotators draw them; `row` says which of `item_ids` each belongs to."""
        ids = np.asarray(item_ids)
        begin, end = self._begins[ids], self._begins[ids + 1]
        rows = np.concatenate([np.arange(b, e) for b, e in zip(begin, end, strict=True)] or [np.zeros(0, int)]).astype(int)
        return self.objects.iloc[rows].assign(row=np.repeat(np.arange(len(ids)), end - begin)).reset_index(drop=True)

    def scenes_with(self, kind: int, days: int, start: int, n: int) -> np.ndarray:
        """Frames of n scenes of these days in which something of this kind needs a blur, all frames of each; drawn by the seed."""
        ids = self.frames_of(days, start)
        needing = self.objects.item_id[self.objects.needs_blur & (self.objects.kind == kind)]
        scenes = np.unique(self._scene_of[ids[np.isin(ids, needing)]])
        chosen = generator(self.seed, _SAMPLES, kind, start).choice(scenes, min(n, len(scenes)), replace=False)
        return ids[np.isin(self._scene_of[ids], chosen)]

    def reports(self, days: int, start: int = 0) -> pd.DataFrame:
        """Viewers' reports of something left visible in frames of these days: item_id, time. One a frame at most, days later."""
        ids, r = self.frames_of(days, start), self.rules
        rng = generator(self.seed, _REPORTS)
        u, delay = rng.random((2, len(self.items)))
        views = self.items.views.to_numpy()[ids] / 20
        reported = happens(u[ids], -np.expm1(-0.1 * views**r.reports_follow_views * self._exposed_things[ids]))
        after = np.rint(-5 * np.log1p(-decisive(delay[ids][reported])) * 86400).astype(np.int64)
        taken = self.items.created_at.to_numpy()[ids][reported]
        return pd.DataFrame(dict(item_id=ids[reported].astype(np.int32), time=taken + after.astype("timedelta64[s]")))

    # ---------- audits ----------

    def _serve_day(self, policy: Policy, day: int, state: None) -> pd.DataFrame:
        r = self.rules
        n, m, k = r.n_rigs, r.scenes * r.frames, r.audits
        ids = self.frames_of(1, day).reshape(n, m)

        def rows(item: np.ndarray) -> pd.DataFrame:
            """One row a candidate: the rigs in order, each with the frames of its row of `item`."""
            rig, frames = np.repeat(np.arange(n), item.shape[1]), item.ravel()
            return pd.DataFrame(
                dict(
                    request_id=np.int64(day * n) + rig,
                    time=times(day, 72_000 + 300 * rig),
                    day=np.full(len(rig), day, np.int32),
                    user_id=rig.astype(np.int32),
                    item_id=frames.astype(np.int32),
                )
                | {name: self.items[name].to_numpy()[frames] for name in ("region", "night", "views")}
                | dict(n_blurred=self._blurred[frames], n_doubtful=self._doubtful[frames])
            )

        ranked = ranking(scores_of(policy, rows(ids)).reshape(n, m), k)  # of equal scores the earlier frame
        rng = generator(self.seed, _AUDIT, day)
        randomised = happens(rng.random(n), r.exploration)
        order = np.where(randomised[:, None], ranking(rng.random((n, m)), k), ranked)
        propensity = (1 - r.exploration) * (order == ranked) + r.exploration / m
        chosen = np.take_along_axis(ids, order, axis=1)
        log = shown(rows(chosen), np.tile(np.arange(1, k + 1), n), propensity.ravel(), np.repeat(randomised, k))
        luck = np.take_along_axis(rng.random((n, m)), order, axis=1).ravel()  # one draw a frame, whoever orders them
        log["found"] = happens(luck, self._probability(log, "found")).astype(np.int8)
        return log

    def oracle(self, candidates: pd.DataFrame) -> np.ndarray:
        """The policy that knows the truth: where a careful eye finds something, first."""
        return self._findable[candidates.item_id.to_numpy()]

    def _incumbent(self, candidates: pd.DataFrame) -> np.ndarray:
        """What people look at most is audited first."""
        return candidates.views.to_numpy(float)

    # ---------- pixels ----------

    def faces(self, identities: np.ndarray, size: int = 25) -> np.ndarray:
        """The faces of people as they look in good light, uint8 (n, size, size). Raises DatasetError without `make data`."""
        patches = _photographs()["faces"][self._face_of[np.asarray(identities)]]
        return np.stack([_resized(patch, size, size) for patch in patches]).astype(np.uint8)

    def images(self, item_ids: np.ndarray) -> np.ndarray:
        """Frames as the camera wrote them, uint8 (n, 160, 240), nothing blurred. About 400 a second on one core."""
        return np.stack([self._image(int(i)) for i in np.asarray(item_ids)])

    def _image(self, item: int) -> np.ndarray:
        scene, frame = int(self._scene_of[item]), item % self.rules.frames
        street = _street(self.seed, scene)
        at = slice(frame * STEP, frame * STEP + WIDTH)
        picture = street[:, at].copy()
        begin, end = self._begins[item], self._begins[item + 1]
        here = self.objects.iloc[begin:end]
        columns = zip(*(here[c].tolist() for c in ("kind", "identity", "left", "top", "width", "height")), strict=True)
        things = [(h, j, box) for j, (*box, h) in enumerate(columns)]
        for h, j, (kind, who, left, top, w) in sorted(things, key=lambda thing: (thing[2][0] != 1, thing[0], thing[1])):
            mirror, gain, occluder, paint = (int(self._paint[name][begin + j]) for name in ("mirror", "gain", "occluder", "paint"))
            if kind == 1:
                _car(picture, left, top, w, h, int(self._scene["region"][scene]), paint)
            elif kind == 4:
                _poster(picture, left, top, h, self._patch(who, mirror), paint)
            else:
                _person(picture, left, top, w, h, kind, self._patch(who, mirror), gain, occluder, paint)
        return self._exposed(picture, item, scene)

    def _patch(self, identity: int, mirror: int) -> np.ndarray:
        patch = _photographs()["faces"][self._face_of[identity]]
        return patch[:, ::-1] if mirror else patch

    def _exposed(self, picture: np.ndarray, item: int, scene: int) -> np.ndarray:
        """What smear, light and the sensor make of a picture."""
        smear, night, stops = (self._scene[name][scene] for name in ("smear", "night", "stops"))
        if smear > 1:
            total = np.cumsum(np.pad(picture, ((0, 0), (smear // 2 + 1, smear // 2)), mode="edge"), axis=1)
            picture = (total[:, smear:] - total[:, :-smear]) // smear
        light = int(round(256 * (0.33 if night else 1.0) * 2.0**-stops))
        noise = generator(self.seed, _NOISE, item).integers(-4, 5, (2, HEIGHT, WIDTH), dtype=np.int8)
        picture = (picture * light >> 8) + noise[0] + (noise[1] if night else 0)
        return np.clip(picture, 0, 255).astype(np.uint8)


def _visible(
    frame: np.ndarray, kind: np.ndarray, left: np.ndarray, top: np.ndarray, width: np.ndarray, height: np.ndarray, occluder: np.ndarray
) -> np.ndarray:
    """Percent of each box that is not covered by what is painted after it: heads, bodies, posters, poles, cars. Frames are sorted."""
    n = len(frame)
    size = np.bincount(frame)[frame]
    first = np.searchsorted(frame, frame)
    a = np.repeat(np.arange(n), size)  # every box with every other of its frame
    b = np.repeat(first, size) + np.arange(len(a)) - np.repeat(np.cumsum(size) - size, size)
    painted = np.where(kind == 1, 0, 10_000) + 10 * height  # plates first, then by height; of equals the later row
    later = (painted[b] > painted[a]) | ((painted[b] == painted[a]) & (b > a))
    a, b = a[later], b[later]
    h, middle, x, y = height[b], (left + width // 2)[b], left[b], top[b]
    poster, car, person = kind[b] == 4, kind[b] == 1, (kind[b] != 4) & (kind[b] != 1)
    covered = np.zeros(n)
    for there, x0, x1, y0, y1 in (
        (person, x - h // 8, x + width[b] + h // 8, y - h // 8, y + h),
        (person, middle - 5 * h // 6, middle + 5 * h // 6, y + h, y + 4 * h),
        (person & (occluder[b] > 1), x, x + 2 * width[b] // 5, 0, HEIGHT),
        (poster, x - h // 6, x + h + h // 6, y - h // 6, y + 10 * h // 6),
        (car, middle - 9 * h // 2, middle + 9 * h // 2, y - 5 * h, y + 2 * h),
    ):
        across = np.minimum(x1, (left + width)[a]) - np.maximum(x0, left[a])
        down = np.minimum(y1, (top + height)[a]) - np.maximum(y0, top[a])
        covered += np.bincount(a, there * np.maximum(across, 0) * np.maximum(down, 0), n)
    return 100 - np.minimum(100, np.ceil(100 * covered / (width * height)))


# ---------- drawing, in whole numbers ----------


@cache
def _photographs() -> dict[str, np.ndarray]:
    """Faces (100, 25, 25) and grey pictures, whole numbers from 0 to 255."""
    grey = {}
    for name in ("brick", "gravel", "grass", "motorcycle_left", "coffee", "chelsea", "page", "text"):
        picture = np.asarray(Image.open(verified(f"external/photographs/{name}.png")).convert("RGB")).astype(np.int64)
        picture = (picture @ [77, 150, 29]) >> 8
        h, w = picture.shape[0] // 2, picture.shape[1] // 2
        grey[name] = picture[: 2 * h, : 2 * w].reshape(h, 2, w, 2).sum(axis=(1, 3)) >> 2
    faces = np.load(verified("external/photographs/lfw_subset.npy"))[:100]
    return grey | dict(faces=np.rint(faces * 255).astype(np.int64))


@lru_cache(maxsize=1000)
def _weights(old: int, new: int) -> np.ndarray:
    """Whole-number weights, of 4096, by which `old` pixels become `new`: shares of area when shrunk, linear when enlarged."""
    if new <= old:
        edges = np.arange(new + 1) * old  # in 1/new of a pixel
        low, high = edges[:-1, None], edges[1:, None]
        pixel = np.arange(old)[None] * new
        share = np.clip(np.minimum(high, pixel + new) - np.maximum(low, pixel), 0, None) * 4096 // old
    else:
        at = np.clip(((2 * np.arange(new) + 1) * old * 2048) // new - 2048, 0, (old - 1) * 4096)  # in 1/4096 of a pixel
        share = np.clip(4096 - np.abs(at[:, None] - 4096 * np.arange(old)[None]), 0, 4096)
    share[np.arange(new), share.argmax(axis=1)] += 4096 - share.sum(axis=1)
    return share.astype(np.float64)


def _resized(picture: np.ndarray, height: int, width: int) -> np.ndarray:
    """A grey picture in another size: whole numbers below 2^53 throughout, so exact in whatever order they are added."""
    rows, columns = _weights(picture.shape[0], height), _weights(picture.shape[1], width)
    return (rows @ picture.astype(np.float64) @ columns.T).astype(np.int64) + (1 << 23) >> 24


@lru_cache(maxsize=2000)
def _ellipse(height: int, width: int) -> np.ndarray:
    """Opacity of an ellipse that fills its box, 0 to 16: the share of 4 x 4 points of each pixel that lie in it."""
    y, x = np.arange(4 * height) * 2 + 1 - 4 * height, np.arange(4 * width) * 2 + 1 - 4 * width
    inside = (y[:, None] * width) ** 2 + (x[None] * height) ** 2 <= (4 * height * width) ** 2
    return inside.reshape(height, 4, width, 4).sum(axis=(1, 3))


def _fill(
    picture: np.ndarray, left: int, top: int, width: int, height: int, value: int | np.ndarray, opacity: np.ndarray | None = None
) -> None:
    """Paint a rectangle, or what `opacity` leaves of it, as far as it is on the picture."""
    y0, x0, y1, x1 = max(top, 0), max(left, 0), min(top + height, picture.shape[0]), min(left + width, picture.shape[1])
    if y0 >= y1 or x0 >= x1:
        return
    part = (slice(y0 - top, y1 - top), slice(x0 - left, x1 - left))
    value = value[part] if isinstance(value, np.ndarray) else value
    into = picture[y0:y1, x0:x1]
    into[:] = value if opacity is None else into + ((value - into) * opacity[part] >> 4)


@lru_cache(maxsize=64)
def _street(seed: int, scene: int) -> np.ndarray:
    """A façade with windows, a shop picture, pavement and road: (160, 240 + 3 or more steps), whole numbers."""
    photos, rng = _photographs(), generator(seed, _PAINT, scene)
    width = WIDTH + 8 * STEP
    texture = photos[("brick", "gravel", "grass")[rng.integers(3)]]
    y, x = rng.integers(0, 256, 2)
    cut = texture[(y + np.arange(HEIGHT))[:, None] % texture.shape[0], (x + np.arange(width)) % texture.shape[1]]
    level, contrast = rng.integers(90, 190), rng.integers(20, 90)
    street = level + ((cut - 128) * contrast >> 7)
    street[: rng.integers(0, 24)] = 215
    across, down, w, h = (int(v) for v in rng.integers([30, 34, 12, 14], [50, 48, 24, 28]))
    glass = int(np.clip(level + rng.choice([-70, -50, 60]), 20, 235))
    for top in range(int(rng.integers(4, 20)), 92, down):
        for left in range(int(rng.integers(-10, 20)), width, across):
            _fill(street, left - 1, top - 1, w + 2, h + 2, 225)
            _fill(street, left, top, w, h, glass + int(rng.integers(-12, 13)))
            _fill(street, left + w // 2, top, 1, h, 225)
    street[108:118] = 150 + ((cut[108:118] - 128) >> 3)
    road = photos["gravel"][:42, (x + np.arange(width)) % 256]
    street[118:] = 85 + ((road - 128) >> 2)
    for _ in range(rng.integers(0, 3)):
        name = ("motorcycle_left", "coffee", "chelsea", "page", "text")[rng.integers(5)]
        w, h = (int(v) for v in rng.integers([24, 20], [60, 44]))
        left, top = int(rng.integers(0, width - w)), int(rng.integers(30, 64))
        _fill(street, left - 2, top - 2, w + 4, h + 4, 235)
        _fill(street, left, top, w, h, _resized(photos[name], h, w))
    return street


def _person(
    picture: np.ndarray, left: int, top: int, w: int, h: int, kind: int, patch: np.ndarray, gain: int, occluder: int, paint: int
) -> None:
    stone = KINDS[kind] == "statue"
    cloth, hair = (150, 150) if stone else (30 + paint % 170, 20 + paint // 170 % 60)
    middle = left + w // 2
    _fill(picture, middle - h // 5, top + h - h // 6, 2 * (h // 5), h // 3 + 1, hair if kind == 2 else 60 + gain // 4)
    _fill(picture, middle - h, top + h + h // 8, 2 * h, 3 * h, cloth, np.maximum(_ellipse(6 * h, 2 * h)[: 3 * h], 0))
    if stone:
        _fill(picture, middle - 2 * h, top + 3 * h, 4 * h, 3 * h, 165)
    else:
        _fill(picture, middle - 3 * h // 4, top + 4 * h, 3 * h // 2, 4 * h, max(cloth - 40, 10))
    around = max(1, h // 8)
    _fill(picture, left - around, top - around, w + 2 * around, h + around, hair, _ellipse(h + around, w + 2 * around))
    face = np.full((h, w), hair + 6) if kind == 2 else _resized(patch[:, 2:23], h, w)
    face = 148 + (face - 120) * 100 // 256 if stone else np.minimum(face * gain >> 8, 250)
    _fill(picture, left, top, w, h, face, _ellipse(h, w))
    if occluder == 1:  # a scarf
        _fill(picture, left - 1, top + h - 2 * h // 5, w + 2, 2 * h // 5 + 2, cloth)
    elif occluder:  # a pole, left or right of the middle
        _fill(picture, left if occluder == 2 else left + w - 2 * w // 5, 0, 2 * w // 5, HEIGHT, 70)


def _poster(picture: np.ndarray, left: int, top: int, h: int, patch: np.ndarray, paint: int) -> None:
    edge = max(2, h // 6)
    _fill(picture, left - edge, top - edge, h + 2 * edge, h + h // 2 + 2 * edge, 240)
    _fill(picture, left, top, h, h, _resized(patch, h, h))
    for line in range(3):
        _fill(picture, left, top + h + 2 + line * max(2, h // 7), h - (paint >> line) % max(2, h // 3), max(1, h // 14), 60)


@lru_cache(maxsize=4000)
def _plate(region: int, paint: int) -> np.ndarray:
    """A plate, large: letters and digits in the format of its region."""
    cipher, wide, inverse = PLATES[region]
    letters, digits = "ABCDEFGHKLMNPRSTUVXYZ", "0123456789"
    form = ("LLLDDD", "LLDDDDLL", "DDDDLL")[region]
    text = "".join((letters, digits)[sign == "D"][paint * cipher // 7**j % (21 if sign == "L" else 10)] for j, sign in enumerate(form))
    ink, ground = (235, 25) if inverse else (25, 235)
    plate = np.full((60, int(60 * wide)), ground, np.uint8)
    step = (plate.shape[1] - 12) // len(text)
    for j, sign in enumerate(text):
        cv2.putText(plate, sign, (8 + j * step, 46), cv2.FONT_HERSHEY_SIMPLEX, min(1.4, step / 22), ink, 4, cv2.LINE_8)
    cv2.rectangle(plate, (0, 0), (plate.shape[1] - 1, 59), ink, 3)
    return plate.astype(np.int64)


def _car(picture: np.ndarray, left: int, top: int, w: int, h: int, region: int, paint: int) -> None:
    body, middle, wide = 40 + paint % 170, left + w // 2, 9 * h
    _fill(picture, middle - wide // 2, top - 5 * h, wide, 7 * h, body)
    _fill(picture, middle - wide * 2 // 5, top - 4 * h, wide * 4 // 5, 2 * h, 50)
    for side in (-1, 1):
        _fill(picture, middle + side * wide * 3 // 8 - h, top - h, 2 * h, h, 225)
        _fill(picture, middle + side * wide * 3 // 8 - h, top + 2 * h, 2 * h, h + h // 2, 15)
    _fill(picture, left, top, w, h, _resized(_plate(region, paint % 1009), h, w))
