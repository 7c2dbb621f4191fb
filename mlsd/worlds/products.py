"""A shop with visual search: photograph a thing, get listings that look like it.

Every photo is rendered from attributes (shape, pattern, colours, material; view, background,
light), so the true similarity of any two products is known and has degrees. Listings carry studio
photos; customers send phone photos. One request shows ten listings.
"""

from __future__ import annotations

import dataclasses
from functools import cached_property

import cv2
import numpy as np
import pandas as pd

from mlsd.worlds.base import DEFAULT_SEED, START, OnlineMetric, Policy, Rules, WorldError, check_days, effect, generator, scores_of

CATEGORIES = ("bottle", "vase", "lamp", "mug", "bag", "dress", "shirt", "hat")
PATTERNS = ("plain", "horizontal", "vertical", "diagonal", "checks", "dots", "chevron", "block")
MATERIALS = ("matte", "glossy", "woven", "metallic")
SLOTS = 10  # results a request shows
PHONE_SIZE = 64  # pixels: side of a phone photo as it arrives
STUDIO_SIZE = 32  # pixels: side of a studio photo as it is stored
NEW_DAYS = 7  # a listing younger than this counts as new

# Independent random streams.
_DESIGNS, _LISTINGS, _USERS, _REVIEWS, _STUDIO, _REQUESTS, _CLICKS = range(7)


@dataclasses.dataclass(frozen=True)
class ProductRules(Rules):
    """Planted effects and sizes of the visual search world."""

    position_bias: float = effect(0.8, off=0.0, unit="power", mechanism="A result at position k is looked at with probability k^-bias.")
    style_match: float = effect(
        6.0,
        off=0.0,
        unit="log-odds per unit of similarity",
        mechanism="The more a result resembles the thing in the photo, the likelier a click.",
    )
    exact_match: float = effect(
        1.5, off=0.0, unit="log-odds", mechanism="Many users want this very product: its listings get an extra lift over lookalikes."
    )
    domain_gap: float = effect(
        1.0,
        off=0.0,
        unit="share of full strength",
        mechanism="Phone photos are tilted, badly framed, lit by lamps and taken at home; studio photos are not.",
    )
    clutter: float = effect(0.5, off=0.0, unit="probability", mechanism="A second thing stands in the frame of a phone photo.")
    old_phones: float = effect(0.3, off=0.0, unit="share of users", mechanism="Old phones blur and add noise.")
    relisting: float = effect(
        0.25, off=0.0, unit="share of listings", mechanism="Several sellers list the same product, each with photos of their own."
    )
    lookalikes: float = effect(
        0.7, off=0.0, unit="share of products", mechanism="Makers copy a style that sells: same category, close in all attributes."
    )
    churn: float = effect(0.02, off=0.0, unit="share of listings a day", mechanism="Listings sell out and others replace them.")

    n_users: int = 2000
    n_live: int = 3000  # listings for sale on any day
    n_styles: int = 250  # styles that lookalikes copy
    requests_per_day: int = 200
    in_catalogue: float = 0.7  # share of photographed things that are for sale that day
    reviews_per_listing: float = 2.0  # mean number of customer photos attached to reviews
    box_error: float = 0.06  # standard deviation of each side of the detector's box, as share of the object
    exploration: float = 0.1  # share of requests whose ten results are shown in random order
    horizon_days: int = 60  # days for which listings are drawn


class ProductWorld:
    """Users photograph things, the shop answers with ten listings, users click. See `base.World`.

    items: item_id, product_id (the maker's number, shared by relistings), category, created_at, expires_at.
    users: user_id, phone ("old" or "new"), created_at.
    reviews: review_id, item_id, product_id: customer photos whose product is known.
    """

    LOG_DAYS = 7

    def __init__(self, rules: ProductRules | None = None, seed: int = DEFAULT_SEED) -> None:
        self.rules = rules or ProductRules()
        self.seed = seed
        r = self.rules
        rng = generator(seed, _LISTINGS)
        n_new = round(r.churn * r.n_live)
        n_items = r.n_live + n_new * (r.horizon_days - 1)
        # Listings form a queue: each day the oldest n_new leave and as many enter, so the order of arrival is the id.
        product = np.arange(n_items)
        relisted = np.flatnonzero(rng.random(n_items) < r.relisting)
        window = max(n_items // 8, 1)  # a relisting follows its original within about one turnover, so both are often live
        product[relisted] = np.maximum(relisted - rng.integers(1, window + 1, len(relisted)), 0)
        for i in relisted:  # originals come first, so one pass in order resolves chains
            product[i] = product[product[i]]
        self._days: dict[int, dict] = {}
        self._n_new = n_new
        self._design_of_item = product
        self._n_unlisted = n_items // 3
        self.designs = self._draw_designs(n_items + self._n_unlisted)
        created_day, expires_day = self._lifetimes(n_items)
        self.items = pd.DataFrame(
            dict(
                item_id=np.arange(n_items),
                product_id=product,
                category=pd.Categorical.from_codes(self.designs.category.to_numpy()[product], CATEGORIES),
                created_at=START + pd.to_timedelta(created_day, unit="D"),
                expires_at=START + pd.to_timedelta(expires_day, unit="D"),
            )
        )
        rng = generator(seed, _USERS)
        self.users = pd.DataFrame(
            dict(
                user_id=np.arange(r.n_users),
                phone=np.where(rng.random(r.n_users) < r.old_phones, "old", "new"),
                created_at=START - pd.to_timedelta(rng.integers(1, 900, r.n_users), unit="D"),
            )
        )
        self._activity = rng.lognormal(0, 0.8, r.n_users)
        rng = generator(seed, _REVIEWS)
        item = np.repeat(np.arange(n_items), rng.poisson(r.reviews_per_listing, n_items))
        self.reviews = pd.DataFrame(dict(review_id=np.arange(len(item)), item_id=item, product_id=product[item]))
        self._review_shots = self._draw_phone_shots(rng, product[item], rng.random(len(item)) < r.old_phones)
        self.metrics = {
            "clicks_per_request": OnlineMetric("click", per="request"),
            "click_rate": OnlineMetric("click"),
            "new_listing_share": OnlineMetric("is_new"),
        }
        self.incumbent = self._thumbnail_search
        self.oracle = self._truly_similar

    # ---------- what exists ----------

    def _draw_designs(self, n: int) -> pd.DataFrame:
        """Hidden attributes of n products: lookalikes jitter a shared style, the others are drawn afresh."""
        r, rng = self.rules, generator(self.seed, _DESIGNS)

        def fresh(size: int) -> dict[str, np.ndarray]:
            return dict(
                category=rng.integers(0, len(CATEGORIES), size),
                shape=rng.random((size, 3)).astype(np.float32),
                pattern=rng.integers(0, len(PATTERNS), size),
                frequency=rng.uniform(1.1, 2.6, size),
                lab=_random_lab(rng, size),
                accent_lab=_random_lab(rng, size),
                material=rng.integers(0, len(MATERIALS), size),
            )

        design, style = fresh(n), fresh(r.n_styles)
        copies = rng.random(n) < r.lookalikes
        of = rng.integers(0, r.n_styles, n)
        for name in design:
            copied = style[name][of]
            design[name] = np.where(copies if copied.ndim == 1 else copies[:, None], copied, design[name])
        # A copy is close, not equal: nudge every attribute, and change the discrete ones now and then.
        nudge = copies[:, None]
        design["shape"] = np.clip(design["shape"] + nudge * rng.normal(0, 0.12, (n, 3)), 0, 1)
        design["lab"] = design["lab"] + nudge * rng.normal(0, 7, (n, 3))
        design["accent_lab"] = design["accent_lab"] + nudge * rng.normal(0, 7, (n, 3))
        design["frequency"] = np.clip(design["frequency"] * np.exp(copies * rng.normal(0, 0.1, n)), 1.1, 2.6)
        for name, n_values in (("pattern", len(PATTERNS)), ("material", len(MATERIALS))):
            design[name] = np.where(copies & (rng.random(n) < 0.25), rng.integers(0, n_values, n), design[name])
        frame = pd.DataFrame({k: design[k] for k in ("category", "pattern", "frequency", "material")})
        frame[["shape_a", "shape_b", "shape_c"]] = design["shape"]
        frame[["l", "a", "b"]] = design["lab"]
        frame[["accent_l", "accent_a", "accent_b"]] = design["accent_lab"]
        frame["popularity"] = rng.lognormal(0, 0.7, n)
        return frame

    def _lifetimes(self, n_items: int) -> tuple[np.ndarray, np.ndarray]:
        """Day on which each listing appears and day on which it is gone."""
        r, order = self.rules, np.arange(n_items)
        if self._n_new == 0:
            return np.full(n_items, -90), np.full(n_items, r.horizon_days)
        arrival = (order - r.n_live) // self._n_new + 1  # negative for listings that were there on day 0
        return arrival, arrival + int(np.ceil(r.n_live / self._n_new))

    def live(self, day: int) -> np.ndarray:
        """item_id of the listings for sale on `day`, shape (n_live,). Raises WorldError beyond the horizon."""
        if not 0 <= day < self.rules.horizon_days:
            raise WorldError(f"day: expected 0 to {self.rules.horizon_days - 1} (ProductRules.horizon_days), found {day}")
        first = self._n_new * day
        return np.arange(first, first + self.rules.n_live)

    # ---------- photos ----------

    def studio_photos(self, item_ids: np.ndarray, view: int = 0, size: int = STUDIO_SIZE) -> np.ndarray:
        """Studio photos of listings, uint8 (n, size, size, 3). View 0 is the front; others turn, tilt and zoom a little."""
        item_ids = np.asarray(item_ids)
        rng = generator(self.seed, _STUDIO, view)
        n = len(self.items)
        turned = float(view > 0)
        shots = dict(
            cx=rng.normal(0, 0.03, n),
            cy=rng.normal(0, 0.03, n),
            scale=0.86 * (1 - turned * rng.uniform(0, 0.2, n)),
            angle=turned * rng.normal(0, 0.1, n),
            yaw=1 - turned * rng.uniform(0, 0.35, n),
            mirror=np.where(turned * rng.random(n) > 0.5, -1.0, 1.0),
            gain=np.exp(rng.normal(0, 0.04, (n, 1))) * np.ones((1, 3)),
            backdrop=np.clip(rng.normal(0.96, 0.02, n), 0.88, 1.0)[:, None] * np.ones((1, 3)),
        )
        shots = {k: v[item_ids] for k, v in shots.items()}
        return _render(self.designs, self._design_of_item[item_ids], shots, size)

    def review_photos(self, review_ids: np.ndarray, size: int = PHONE_SIZE) -> np.ndarray:
        """Customer photos from reviews, uint8 (n, size, size, 3)."""
        return self._phone_photos(self._review_shots, np.asarray(review_ids), size)

    def query_photos(self, request_ids: np.ndarray, size: int = PHONE_SIZE) -> np.ndarray:
        """The phone photos that came with requests, uint8 (n, size, size, 3)."""
        shots, rows = self._shots_of_requests(request_ids)
        return self._phone_photos(shots, rows, size)

    def review_boxes(self, review_ids: np.ndarray, error: float | None = None) -> np.ndarray:
        """The detector's box around the thing in each review photo; see `query_boxes`."""
        return self._boxes(self._review_shots, np.asarray(review_ids), error)

    def query_boxes(self, request_ids: np.ndarray, error: float | None = None) -> np.ndarray:
        """The detector's box around the thing in each query photo: left, top, right, bottom as shares of the frame, (n, 4).

        error: standard deviation of each side as share of the object's size; default `ProductRules.box_error`.
        """
        shots, rows = self._shots_of_requests(request_ids)
        return self._boxes(shots, rows, error)

    def _boxes(self, shots: dict, rows: np.ndarray, error: float | None) -> np.ndarray:
        error = self.rules.box_error if error is None else error
        half = shots["scale"][rows]  # half the side of the object's square, the frame being 2 wide
        centre = np.stack([shots["cx"][rows], shots["cy"][rows]] * 2, axis=1)
        sides = centre + half[:, None] * np.array([-1, -1, 1, 1])
        sides = np.clip((sides + 2 * half[:, None] * error * shots["box_noise"][rows] + 1) / 2, 0, 1)
        smallest = 0.1  # the detector never answers with an empty box
        sides[:, 2:] = np.maximum(sides[:, 2:], np.minimum(sides[:, :2], 1 - smallest) + smallest)
        sides[:, :2] = np.minimum(sides[:, :2], sides[:, 2:] - smallest)
        return sides

    def _phone_photos(self, shots: dict, rows: np.ndarray, size: int) -> np.ndarray:
        chosen = {k: v[rows] for k, v in shots.items()}
        return _render(self.designs, chosen.pop("design"), chosen, size)

    def _draw_phone_shots(self, rng: np.random.Generator, design: np.ndarray, old_phone: np.ndarray) -> dict[str, np.ndarray]:
        """Framing, light, background and camera of phone photos; `domain_gap` 0 gives the studio's."""
        n, gap, r = len(design), self.rules.domain_gap, self.rules
        scale = 0.86 * (1 - gap * rng.uniform(0.1, 0.5, n))
        room = 1 - scale  # how far the thing may sit from the middle and still be in the frame
        worse = 1 + 1.5 * old_phone
        return dict(
            design=design,
            cx=gap * rng.uniform(-1, 1, n) * room,
            cy=gap * rng.uniform(-1, 1, n) * room,
            scale=scale,
            angle=gap * rng.normal(0, 0.2, n),
            yaw=1 - gap * rng.uniform(0, 0.35, n),
            mirror=np.ones(n),
            gain=np.exp(gap * (rng.normal(-0.1, 0.2, (n, 1)) + rng.normal(0, 0.1, (n, 3)))),
            gradient=gap * rng.uniform(0, 0.35, n),
            gradient_angle=rng.uniform(0, 2 * np.pi, n),
            backdrop=0.96 + gap * (rng.uniform(0.2, 0.95, (n, 1)) + rng.normal(0, 0.1, (n, 3)) - 0.96),
            texture=gap * rng.uniform(0.02, 0.2, n),
            planks=gap * 0.12 * (rng.random(n) < 0.4),
            texture_seed=rng.integers(0, 2**31, n),
            neighbour=np.where(rng.random(n) < r.clutter, rng.integers(0, len(self.designs), n), -1),
            neighbour_side=rng.uniform(0, 2 * np.pi, n),
            noise=gap * 0.015 * worse,
            blur=gap * rng.uniform(0.0, 0.5, n) * worse,
            box_noise=rng.normal(0, 1, (n, 4)),
        )

    # ---------- requests ----------

    def _day(self, day: int) -> dict:
        """Who asks, when, with a photo of what: the same whatever policy serves. Drawn once a day."""
        if day not in self._days:
            self._days[day] = self._draw_day(day)
        return self._days[day]

    def _draw_day(self, day: int) -> dict:
        r, rng = self.rules, generator(self.seed, _REQUESTS, day)
        n = r.requests_per_day
        user = rng.choice(r.n_users, n, p=self._activity / self._activity.sum())
        hour = np.clip(rng.normal(16, 4.5, n), 0, 23.99)
        items = self.live(day)
        weight = self.designs.popularity.to_numpy()[self._design_of_item[items]]
        listed = self._design_of_item[rng.choice(items, n, p=weight / weight.sum())]
        unlisted = len(self.items) + rng.integers(0, self._n_unlisted, n)
        design = np.where(rng.random(n) < r.in_catalogue, listed, unlisted)
        old = self.users.phone.to_numpy()[user] == "old"
        return dict(user=user, seconds=np.sort(hour) * 3600, shots=self._draw_phone_shots(rng, design, old))

    def requests(self, days: int, start: int = 0) -> pd.DataFrame:
        """The requests of `days` days: request_id, time, day, user_id, phone."""
        check_days(days)
        n = self.rules.requests_per_day
        frames = []
        for day in range(start, start + days):
            who = self._day(day)
            frames.append(
                pd.DataFrame(
                    dict(
                        request_id=day * n + np.arange(n),
                        time=START + pd.to_timedelta(day, unit="D") + pd.to_timedelta(who["seconds"].round(), unit="s"),
                        day=day,
                        user_id=who["user"],
                        phone=self.users.phone.to_numpy()[who["user"]],
                    )
                )
            )
        return pd.concat(frames, ignore_index=True)

    def _shots_of_requests(self, request_ids: np.ndarray) -> tuple[dict[str, np.ndarray], np.ndarray]:
        days, rows = np.divmod(np.asarray(request_ids), self.rules.requests_per_day)
        needed, which = np.unique(days, return_inverse=True)
        by_day = [self._day(int(day))["shots"] for day in needed]
        shots = {k: np.concatenate([s[k] for s in by_day]) for k in by_day[0]}
        return shots, which * self.rules.requests_per_day + rows

    # ---------- truth ----------

    def relevance(self, request_ids: np.ndarray, item_ids: np.ndarray) -> np.ndarray:
        """True similarity of the photographed thing and each listing, in [0, 1], float32 (n_requests, n_items).

        1 is the same product. It is what a patient labelling team would answer: for evaluation, never a feature.
        """
        shots, rows = self._shots_of_requests(request_ids)
        return similarity(self.designs, shots["design"][rows], self._design_of_item[np.asarray(item_ids)])

    def product_of_request(self, request_ids: np.ndarray) -> np.ndarray:
        """product_id of the photographed thing, -1 where it was never listed. For evaluation, never a feature."""
        shots, rows = self._shots_of_requests(request_ids)
        design = shots["design"][rows]
        return np.where(design < len(self.items), design, -1)

    def _p_click(self, similar: np.ndarray, position: np.ndarray) -> np.ndarray:
        r = self.rules
        appeal = -3.0 + r.style_match * (similar - 0.7) + r.exact_match * (similar > 0.9999)
        return position ** -float(r.position_bias) / (1 + np.exp(-appeal))

    def truth(self, impressions: pd.DataFrame) -> np.ndarray:
        """P(click) of each row of a log, shape (n,). Never a feature."""
        shots, rows = self._shots_of_requests(impressions.request_id.to_numpy())
        items = self._design_of_item[impressions.item_id.to_numpy()]
        return self._p_click(_similarity_rows(self.designs, shots["design"][rows], items), impressions.position.to_numpy(float))

    # ---------- serving ----------

    def log(self, days: int) -> pd.DataFrame:
        """Days 0 to days-1 as recorded while the incumbent served: one row a result shown."""
        return self.deploy(self.incumbent, days, start=0)

    def deploy(self, policy: Policy, days: int, start: int | None = None) -> pd.DataFrame:
        """Serve `policy` for `days` days from day `start` on (default: LOG_DAYS). Columns as in the log.

        The candidates of a request are all listings live that day. Clicks change nothing that a later
        request depends on, so no state has to be carried over from the days before `start`.
        """
        check_days(days)
        start = self.LOG_DAYS if start is None else start
        learns = hasattr(policy, "learn")
        before = [self.log(start)] if learns and start else []
        served: list[pd.DataFrame] = []
        for day in range(start, start + days):
            if learns and (before or served):
                policy.learn(pd.concat(before + served, ignore_index=True))
            served.append(self._serve_day(policy, day))
        return pd.concat(served, ignore_index=True)

    def _serve_day(self, policy: Policy, day: int) -> pd.DataFrame:
        r, items = self.rules, self.live(day)
        requests = self.requests(1, start=day)
        n, k = len(requests), min(SLOTS, len(items))
        age_days = day - (self.items.created_at.to_numpy()[items] - np.datetime64(START)) / np.timedelta64(1, "D")
        listing = dict(item_id=items, item_age_days=age_days.astype(np.float32), is_new=(age_days < NEW_DAYS).astype(np.int8))
        shown = []
        for begin in range(0, n, 50):  # fifty requests at a time keep the table of candidates small
            asked = requests.iloc[begin : begin + 50]
            candidates = pd.DataFrame({name: np.repeat(asked[name].to_numpy(), len(items)) for name in asked})
            for name, values in listing.items():
                candidates[name] = np.tile(values, len(asked))
            scores = scores_of(policy, candidates).reshape(len(asked), len(items))
            shown.append(np.argsort(-scores, axis=1, kind="stable")[:, :k])
        shown = np.concatenate(shown)

        rng = generator(self.seed, _CLICKS, day)
        shuffled = rng.random(n) < r.exploration
        order = np.where(shuffled[:, None], np.argsort(rng.random((n, k)), axis=1), np.arange(k))
        shown = np.take_along_axis(shown, order, axis=1)
        position = np.arange(1, k + 1)
        similar = similarity(self.designs, self._day(day)["shots"]["design"], self._design_of_item[items])
        p_click = self._p_click(np.take_along_axis(similar, shown, axis=1), position)
        luck = rng.random((n, len(items)), dtype=np.float32)  # one draw a request and listing, whoever ranks
        click = np.take_along_axis(luck, shown, axis=1) < p_click

        log = pd.DataFrame({name: np.repeat(requests[name].to_numpy(), k) for name in requests})
        for name, values in listing.items():
            log[name] = values[shown].ravel()
        log["position"] = np.tile(position, n)
        in_order = order == np.arange(k)
        log["propensity"] = ((1 - r.exploration) * in_order + r.exploration / k).ravel()
        log["click"] = click.ravel().astype(np.int8)
        return log

    # ---------- policies the world brings ----------

    def _truly_similar(self, candidates: pd.DataFrame) -> np.ndarray:
        """The oracle: rank by true similarity."""
        request, item = candidates.request_id.to_numpy(), candidates.item_id.to_numpy()
        shots, rows = self._shots_of_requests(request)
        return _similarity_rows(self.designs, shots["design"][rows], self._design_of_item[item])

    def _thumbnail_search(self, candidates: pd.DataFrame) -> np.ndarray:
        """The incumbent: compare 8 x 8 thumbnails of the detector's crop and of the front studio photo."""
        requests, rows = np.unique(candidates.request_id.to_numpy(), return_inverse=True)
        items, columns = np.unique(candidates.item_id.to_numpy(), return_inverse=True)
        photos = crop(self.query_photos(requests), self.query_boxes(requests), STUDIO_SIZE)
        return (thumbnails(photos) @ self._studio_thumbnails[items].T)[rows, columns]

    @cached_property
    def _studio_thumbnails(self) -> np.ndarray:
        return thumbnails(self.studio_photos(np.arange(len(self.items))))


def crop(photos: np.ndarray, boxes: np.ndarray, size: int) -> np.ndarray:
    """Cut each box out of its photo and scale it to size x size: uint8 (n, size, size, 3).

    boxes: left, top, right, bottom as shares of the frame, (n, 4).
    """
    out = np.empty((len(photos), size, size, 3), np.uint8)
    pixels = np.asarray(boxes) * photos.shape[1]
    for i, (left, top, right, bottom) in enumerate(pixels):
        to_photo = np.array([[(right - left) / size, 0, left], [0, (bottom - top) / size, top]])
        out[i] = cv2.warpAffine(
            photos[i], to_photo, (size, size), flags=cv2.INTER_LINEAR | cv2.WARP_INVERSE_MAP, borderMode=cv2.BORDER_REPLICATE
        )
    return out


def thumbnails(photos: np.ndarray, side: int = 8) -> np.ndarray:
    """Each photo shrunk to side x side, brightness and contrast removed: float32 (n, side * side * 3), rows of length 1.

    Source: Torralba, Fergus, Freeman (2008), "80 Million Tiny Images", section 3.
    """
    small = np.stack([cv2.resize(photo, (side, side), interpolation=cv2.INTER_AREA) for photo in photos])
    flat = small.reshape(len(photos), -1).astype(np.float32)
    flat -= flat.mean(axis=1, keepdims=True)
    return flat / np.maximum(np.linalg.norm(flat, axis=1, keepdims=True), 1e-6)


# ---------- true similarity ----------

_WEIGHTS = dict(shape=0.3, colour=0.3, pattern=0.3, material=0.1)
_OTHER_CATEGORY = 0.2  # a bag in the colours of the dress is still a little like it


def _similarity_rows(designs: pd.DataFrame, one: np.ndarray, other: np.ndarray) -> np.ndarray:
    """Similarity of designs pairwise by row, in [0, 1]; broadcasts over leading axes. See `similarity`."""
    d = {name: designs[name].to_numpy() for name in ("category", "pattern", "frequency", "material")}
    shape = designs[["shape_a", "shape_b", "shape_c"]].to_numpy(np.float32)
    lab = designs[["l", "a", "b"]].to_numpy(np.float32)
    accent = designs[["accent_l", "accent_a", "accent_b"]].to_numpy(np.float32)

    def distance(values: np.ndarray) -> np.ndarray:
        return np.sqrt(sum((values[one, j] - values[other, j]) ** 2 for j in range(3)))

    patterned = (d["pattern"][one] > 0) & (d["pattern"][other] > 0)
    colour = np.exp(-((distance(lab) / 30) ** 2))
    colour = np.where(patterned, 0.7 * colour + 0.3 * np.exp(-((distance(accent) / 30) ** 2)), colour)
    stripes = (d["pattern"] >= 1) & (d["pattern"] <= 3)  # stripes of any direction resemble each other somewhat
    pattern = np.where(d["pattern"][one] == d["pattern"][other], 1.0, 0.4 * (stripes[one] & stripes[other]))
    finer = np.abs(np.log(d["frequency"][one] / d["frequency"][other]))
    pattern = pattern * np.where(patterned, np.exp(-finer), 1.0)
    parts = dict(
        shape=np.exp(-distance(shape) / 0.5),
        colour=colour,
        pattern=pattern,
        material=d["material"][one] == d["material"][other],
    )
    total = sum(weight * parts[name] for name, weight in _WEIGHTS.items())
    total = np.where(d["category"][one] == d["category"][other], total, _OTHER_CATEGORY * total)
    return total.astype(np.float32)


def similarity(designs: pd.DataFrame, one: np.ndarray, other: np.ndarray) -> np.ndarray:
    """True similarity of every design in `one` with every design in `other`, float32 (n_one, n_other), in [0, 1].

    A weighted mean of shape, colour (CIE76 distance in Lab), pattern and material, times 0.2 across categories.
    """
    one, other = np.asarray(one), np.asarray(other)
    out = np.empty((len(one), len(other)), np.float32)
    for begin in range(0, len(one), 100):  # a hundred rows at a time keep the temporary arrays small
        rows = slice(begin, begin + 100)
        out[rows] = _similarity_rows(designs, one[rows, None], other[None, :])
    return out


# ---------- rendering ----------


def _random_lab(rng: np.random.Generator, n: int) -> np.ndarray:
    """Colours as shops stock them: greys and muted tones are common, vivid ones rarer. CIE Lab, (n, 3)."""
    hue, chroma = rng.uniform(0, 2 * np.pi, n), rng.gamma(3.0, 14.0, n).clip(0, 75)
    return np.stack([rng.uniform(25, 85, n), chroma * np.cos(hue), chroma * np.sin(hue)], axis=1)


def _lab_to_rgb(lab: np.ndarray) -> np.ndarray:
    return cv2.cvtColor(lab.astype(np.float32)[None], cv2.COLOR_Lab2RGB)[0]


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
            width = 0.22 + 0.2 * a + (0.1 + 0.25 * b) * np.sin(np.pi * (0.5 + 1.2 * c) * (v + 1.2))
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
        return _ramp(0.5 + 2.5 * np.sin(2 * np.pi * f * t))

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
            return _ramp(0.5 + 3 * np.sin(2 * np.pi * f * 0.8 * u) * np.sin(2 * np.pi * f * 0.8 * v))
        case "dots":
            return _ramp(3.5 * (np.cos(2 * np.pi * f * u) + np.cos(2 * np.pi * f * v)) - 2.5)
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
            return 1.0 - 0.35 * u**2, 0.55 * np.exp(-(((u + 0.2) / 0.12) ** 2 + ((v + 0.1) / 0.5) ** 2))
        case "woven":
            return 0.93 + 0.14 * np.sin(26 * u) * np.sin(26 * v) - 0.1 * u**2, np.zeros_like(u)
        case _:  # metallic
            return 0.85 + 0.3 * np.cos(7 * u + 0.8), 0.12 * _ramp(np.cos(7 * u + 0.8))


def _things(designs: pd.DataFrame, which: np.ndarray, shots: dict, X: np.ndarray, Y: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Opacity (n, s, s) and colour (n, s, s, 3) of each thing on its frame."""
    column = {k: np.asarray(shots[k], np.float32)[:, None, None] for k in ("cx", "cy", "scale", "angle", "yaw", "mirror")}
    dx, dy = X - column["cx"], Y - column["cy"]
    cos, sin = np.cos(column["angle"]), np.sin(column["angle"])
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


def _render(designs: pd.DataFrame, which: np.ndarray, shots: dict, size: int, chunk: int = 128) -> np.ndarray:
    """Photos of the designs `which`, taken as `shots` say: uint8 (n, size, size, 3). The frame spans [-1, 1]."""
    which = np.asarray(which)
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
                image[i] = cv2.GaussianBlur(image[i], (0, 0), sigma)
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
