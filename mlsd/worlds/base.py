"""What a world is declared with: its rules, what a policy and a metric are, and how chance decides.

A world is a product whose truth is known. It is driven by `Rules`: a frozen dataclass in which
each field is one planted effect, documented with its mechanism, its unit and the value that
switches it off. Everything else about a world follows from its rules and its seed, to the byte,
on every processor: see "Chance and order".
"""

from __future__ import annotations

import dataclasses
import os
from typing import Any, Protocol, Self

import numpy as np
import pandas as pd

DEFAULT_SEED = 7
START = pd.Timestamp("2025-03-03")  # day 0 of every world: a Monday, so weekday = day % 7


class PolicyError(ValueError):
    """A policy returned something that cannot rank its candidates."""


class WorldError(ValueError):
    """A world was asked for something it cannot do."""


def effect(default: Any, *, off: Any, unit: str, mechanism: str) -> Any:
    """Declare a planted effect: a field of a `Rules` dataclass.

    default: value in the book; off: value at which the mechanism does nothing; unit: of the value;
    mechanism: one sentence that says how the effect acts on users.
    """
    return dataclasses.field(default=default, metadata=dict(off=off, unit=unit, mechanism=mechanism))


@dataclasses.dataclass(frozen=True)
class Rules:
    """Base of all rules. Subclasses add fields made by `effect` (switchable) or plain ones (sizes)."""

    @classmethod
    def effects(cls) -> dict[str, dataclasses.Field]:
        """The planted effects by name; fields without an off value are sizes and are left out."""
        return {f.name: f for f in dataclasses.fields(cls) if "off" in f.metadata}

    def without(self, *names: str) -> Self:
        """The same rules with the named effects switched off. Raises WorldError for an unknown name."""
        known = self.effects()
        for name in names:
            if name not in known:
                raise WorldError(f"no planted effect {name!r} in {type(self).__name__}; it has {sorted(known)}")
        return dataclasses.replace(self, **{name: known[name].metadata["off"] for name in names})

    def table(self) -> pd.DataFrame:
        """One row an effect: value, unit, off value, mechanism. Meant to be shown to a reader."""
        rows = {
            name: dict(value=getattr(self, name), unit=f.metadata["unit"], off=f.metadata["off"], mechanism=f.metadata["mechanism"])
            for name, f in self.effects().items()
        }
        return pd.DataFrame.from_dict(rows, orient="index").rename_axis("effect")


class Policy(Protocol):
    """Anything that scores candidates; higher is better. Plain functions are policies.

    A policy may also have a method `learn(log)`. The world calls it at the start of each served
    day with the log so far, in which outcomes that are not known yet are missing (NaN). On the
    first morning of a product the log has its columns and no rows.
    """

    def __call__(self, candidates: pd.DataFrame) -> np.ndarray: ...


@dataclasses.dataclass(frozen=True)
class OnlineMetric:
    """How an experiment turns log rows into one number: sum(column) / count of `per` x `scale`.

    column: a column of the log (missing counts as 0).
    per: "impression", "request" or "user": what the sum is divided by.
    higher_is_better: False for guardrails such as hides.
    """

    column: str
    per: str = "impression"
    scale: float = 1.0
    higher_is_better: bool = True


class World(Protocol):
    """A simulated product, as policies and experiments see it. Same rules and seed: same bytes. Implemented in `engine`.

    users, items: what the company knows (items have created_at and, where they end, expires_at).
    metrics: the product's online metrics by name. start: when day 0 begins.
    incumbent: the policy that wrote the log. oracle: the policy that knows the truth.
    """

    rules: Rules
    seed: int
    start: pd.Timestamp
    users: pd.DataFrame
    items: pd.DataFrame
    metrics: dict[str, OnlineMetric]
    incumbent: Policy
    oracle: Policy

    def log(self, days: int) -> pd.DataFrame:
        """Days 0 to days-1 as production recorded them while the incumbent served."""

    def as_known(self, log: pd.DataFrame, day: int) -> pd.DataFrame:
        """The log as it could be read in the morning of `day`."""

    def truth(self, impressions: pd.DataFrame, outcome: str | None = None) -> np.ndarray:
        """P(outcome = 1 | everything) for each row of a log, shape (n,). Never a feature."""

    def deploy(self, policy: Policy, days: int, start: int | None = None) -> pd.DataFrame:
        """Serve `policy` for `days` days from day `start` on (default: the end of the shipped log).

        Before `start` the incumbent served. Same columns as the log.
        """


def times(day: np.ndarray | int, second: np.ndarray | int = 0) -> np.ndarray:
    """When it is `second` seconds into `day`: datetime64[us], the type of every time of every world."""
    return np.datetime64(START, "us") + (np.asarray(day, np.int64) * 86400 + second).astype("timedelta64[s]")


# ---------- chance and order ----------
#
# exp, log, sums and matrix products differ in their last bits between processors, and float32 ones in the
# seventh digit. Where many items are alike, such a bit would choose which is shown, and the next day builds on
# that. So whatever decides is computed in double precision, rounded, and equals fall by a stated rule.


def generator(seed: int, *path: int) -> np.random.Generator:
    """A random stream for one purpose, e.g. generator(seed, DAY_STREAM, day).

    Streams are independent, so changing how much randomness one part of a world draws leaves the
    others alone, and two policies meet the same requests (common random numbers).
    """
    return np.random.default_rng([seed, *path])


def decisive(x: np.ndarray) -> np.ndarray:
    """Numbers fit to be compared: float64, rounded to 32 significant bits, between nine and ten digits.

    Whole-number arithmetic on the bits of the double, so the same everywhere: half of the last kept bit is
    added to the 52-bit mantissa and the 21 bits below it are cut.
    """
    bits = np.asarray(x, np.float64).view(np.int64)
    return ((bits + 2**20) & -(2**21)).view(np.float64)


def happens(uniform: np.ndarray, p: np.ndarray) -> np.ndarray:
    """True with probability p, given uniform draws; shapes broadcast."""
    return uniform < decisive(p)


def ranking(scores: np.ndarray, k: int | None = None) -> np.ndarray:
    """Columns of the k highest scores of each row (default all), best first. Scores (n, m); returns (n, min(k, m)).

    Scores are compared as `decisive`; of equal ones the lower column is first.
    """
    scores = decisive(scores)
    n, m = scores.shape
    if k is None or k >= m:
        return np.argsort(-scores, axis=1, kind="stable")
    # The k-th value is the same in whatever order a partition leaves the rest. Above it all are in, and the first of its equals.
    kth = -np.partition(-scores, k - 1, axis=1)[:, k - 1 : k]
    above, equal = scores > kth, scores == kth
    chosen = above | (equal & (np.cumsum(equal, axis=1) <= k - above.sum(axis=1, keepdims=True)))
    column = np.nonzero(chosen)[1].reshape(n, k)
    order = np.argsort(-np.take_along_axis(scores, column, axis=1), axis=1, kind="stable")
    return np.take_along_axis(column, order, axis=1)


def gumbel(uniform: np.ndarray) -> np.ndarray:
    """Standard Gumbel noise from uniform draws: the k highest of log-weight + noise are k draws without replacement.

    Source: Vieira (2014), "Gumbel-max trick and weighted reservoir sampling".
    """
    return -np.log(-np.log(np.asarray(uniform, np.float64) + 1e-9))


def scores_of(policy: Policy, candidates: pd.DataFrame) -> np.ndarray:
    """Call a policy and check its answer. Returns the scores as they decide (see `decisive`), shape (len(candidates),).

    Raises PolicyError if the number of scores differs from the number of candidates, or if a score
    is NaN or infinite: a ranking with such scores would be arbitrary, silently.
    """
    scores = np.asarray(policy(candidates), dtype=float)
    name = getattr(policy, "__name__", type(policy).__name__)
    if scores.shape != (len(candidates),):
        raise PolicyError(f"policy {name}: expected one score a row, shape ({len(candidates)},), found {scores.shape}")
    n_bad = int((~np.isfinite(scores)).sum())
    if n_bad:
        raise PolicyError(f"policy {name}: {n_bad} of {len(scores)} scores are NaN or infinite; fill missing features before scoring")
    return decisive(scores)


# ---------- the environment ----------


def seed_from_environment() -> int:
    """MLSD_SEED if set, else the seed of the shipped logs. Raises WorldError if it is no whole number."""
    text = os.environ.get("MLSD_SEED", str(DEFAULT_SEED))
    if not text.isdecimal():
        raise WorldError(f"MLSD_SEED: expected a whole number of at least 0, found {text!r}")
    return int(text)


def effects_off_from_environment() -> tuple[str, ...]:
    """The planted effects named in MLSD_WITHOUT (comma-separated); `make falsify` sets it."""
    return tuple(name for name in os.environ.get("MLSD_WITHOUT", "").split(",") if name)
