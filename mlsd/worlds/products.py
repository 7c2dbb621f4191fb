"""A shop with visual search: photograph a thing, get listings that look like it.

Every photo is rendered from attributes (shape, pattern, colours, material; view, background,
light), so the true similarity of any two products is known and has degrees. Listings carry studio
photos; customers send phone photos. One request shows ten listings.
"""

from __future__ import annotations

import dataclasses
from functools import cached_property

import numpy as np
import pandas as pd
from scipy.special import expit

from mlsd.worlds.base import OnlineMetric, Policy, Rules, WorldError, effect, generator, happens, ranking, scores_of, times
from mlsd.worlds.drawing import CATEGORIES, MATERIALS, PATTERNS, STUDIO_SIZE, crop, random_lab, render, thumbnails
from mlsd.worlds.engine import SimulatedWorld, examined, shown

SLOTS = 10  # results a request shows
PHONE_SIZE = 64  # pixels: side of a phone photo as it arrives; a studio photo is stored at STUDIO_SIZE
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


class ProductWorld(SimulatedWorld):
    """Users photograph things, the shop answers with ten listings, users click. See `base.World`.

    items: item_id, product_id (the maker's number, shared by relistings), category, created_at, expires_at.
    users: user_id, phone ("old" or "new"), created_at.
    reviews: review_id, item_id, product_id: customer photos whose product is known.
    The candidates of a request are all listings live that day. Clicks change nothing that a later
    request depends on. Truth needs request_id, item_id.
    """

    RULES = ProductRules
    LOG_DAYS = 7
    OUTCOMES = ("click",)
    AFTERWARDS = ("click",)
    SMALL = dict(n_users=100, n_live=100, n_styles=12, requests_per_day=40, horizon_days=14)

    # ---------- what exists ----------

    def _draw(self) -> None:
        r, seed = self.rules, self.seed
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
        self._created_day, expires_day = self._lifetimes(n_items)
        self.items = pd.DataFrame(
            dict(
                item_id=np.arange(n_items),
                product_id=product,
                category=pd.Categorical.from_codes(self.designs.category.to_numpy()[product], CATEGORIES),
                created_at=times(self._created_day),
                expires_at=times(expires_day),
            )
        )
        rng = generator(seed, _USERS)
        self.users = pd.DataFrame(
            dict(
                user_id=np.arange(r.n_users),
                phone=np.where(rng.random(r.n_users) < r.old_phones, "old", "new"),
                created_at=times(-rng.integers(1, 900, r.n_users)),
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

    def _draw_designs(self, n: int) -> pd.DataFrame:
        """Hidden attributes of n products: lookalikes jitter a shared style, the others are drawn afresh."""
        r, rng = self.rules, generator(self.seed, _DESIGNS)

        def fresh(size: int) -> dict[str, np.ndarray]:
            return dict(
                category=rng.integers(0, len(CATEGORIES), size),
                shape=rng.random((size, 3)).astype(np.float32),
                pattern=rng.integers(0, len(PATTERNS), size),
                frequency=rng.uniform(1.1, 2.6, size),
                lab=random_lab(rng, size),
                accent_lab=random_lab(rng, size),
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
        return render(self.designs, self._design_of_item[item_ids], shots, size)

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
        return render(self.designs, chosen.pop("design"), chosen, size)

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
        self._check_days(days, start)
        return pd.concat([self._requests(day) for day in range(start, start + days)], ignore_index=True)

    def _requests(self, day: int) -> pd.DataFrame:
        who, n = self._day(day), self.rules.requests_per_day
        return pd.DataFrame(
            dict(
                request_id=day * n + np.arange(n),
                time=times(day, np.rint(who["seconds"]).astype(np.int64)),
                day=np.full(n, day, np.int32),
                user_id=who["user"],
                phone=self.users.phone.to_numpy()[who["user"]],
            )
        )

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

    def _wanted(self, similar: np.ndarray) -> np.ndarray:
        """P(click | looked at), given the true similarity."""
        r = self.rules
        return expit(-3.0 + r.style_match * (similar - 0.7) + r.exact_match * (similar > 0.9999))

    def _probability(self, rows: pd.DataFrame, outcome: str) -> np.ndarray:
        return examined(rows, self.rules.position_bias) * self._wanted(self.oracle(rows))

    # ---------- serving ----------

    def _serve_day(self, policy: Policy, day: int, state: None) -> pd.DataFrame:
        r, items, requests = self.rules, self.live(day), self._requests(day)
        n, k = len(requests), min(SLOTS, len(items))
        age_days = (day - self._created_day[items]).astype(np.float32)
        is_new = (age_days < NEW_DAYS).astype(np.int8)

        def rows(of: np.ndarray, column: np.ndarray) -> pd.DataFrame:
            """One row a candidate: the requests `of`, each with the live listings of its row of `column`."""
            of, column = np.repeat(of, column.shape[1]), column.ravel()
            return pd.DataFrame(
                {name: requests[name].array[of] for name in ("request_id", "time", "day", "user_id")}
                | dict(item_id=items[column], phone=requests.phone.array[of], item_age_days=age_days[column], is_new=is_new[column])
            )

        found = []
        for begin in range(0, n, 50):  # fifty requests at a time keep the table of candidates small
            of = np.arange(begin, min(begin + 50, n))
            candidates = rows(of, np.tile(np.arange(len(items)), (len(of), 1)))
            found.append(ranking(scores_of(policy, candidates).reshape(len(of), -1), k))  # of equal scores the older listing

        rng = generator(self.seed, _CLICKS, day)
        randomised = happens(rng.random(n), r.exploration)
        order = np.where(randomised[:, None], ranking(rng.random((n, k))), np.arange(k))
        column = np.take_along_axis(np.concatenate(found), order, axis=1)
        propensity = (1 - r.exploration) * (order == np.arange(k)) + r.exploration / k
        position = np.tile(np.arange(1, k + 1), n)
        log = shown(rows(np.arange(n), column), position, propensity.ravel(), np.repeat(randomised, k))
        luck = rng.random((n, len(items)), dtype=np.float32)  # one draw a request and listing, whoever ranks
        log["click"] = happens(np.take_along_axis(luck, column, axis=1).ravel(), self._probability(log, "click")).astype(np.int8)
        return log

    # ---------- policies the world brings ----------

    def oracle(self, candidates: pd.DataFrame) -> np.ndarray:
        """The policy that knows the truth: rank by true similarity."""
        request, item = candidates.request_id.to_numpy(), candidates.item_id.to_numpy()
        shots, rows = self._shots_of_requests(request)
        return _similarity_rows(self.designs, shots["design"][rows], self._design_of_item[item])

    def _incumbent(self, candidates: pd.DataFrame) -> np.ndarray:
        """Thumbnail search: compare 8 x 8 thumbnails of the detector's crop and of the front studio photo."""
        requests, rows = np.unique(candidates.request_id.to_numpy(), return_inverse=True)
        items, columns = np.unique(candidates.item_id.to_numpy(), return_inverse=True)
        photos = crop(self.query_photos(requests), self.query_boxes(requests), STUDIO_SIZE)
        return (thumbnails(photos).astype(np.float64) @ self._studio_thumbnails[items].T)[rows, columns]

    @cached_property
    def _studio_thumbnails(self) -> np.ndarray:
        return thumbnails(self.studio_photos(np.arange(len(self.items)))).astype(np.float64)


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
        return np.sqrt(sum((values[one, j] - values[other, j]) ** 2 for j in range(3))).astype(np.float64)  # what follows is in double

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
