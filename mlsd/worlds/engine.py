"""What every world shares: its days and their order, the past, the mornings on which policies learn, its siblings.

A world's own file says what exists (`_draw`), what people do (`_probability`), and how one day is
served (`_serve_day`). The rest is here, once.
"""

from __future__ import annotations

import dataclasses
from abc import ABC, abstractmethod
from collections.abc import Callable
from typing import Any, ClassVar, Self

import numpy as np
import pandas as pd

from mlsd.worlds.base import DEFAULT_SEED, START, OnlineMetric, Policy, Rules, WorldError

# What the ranking decided about a row. In every log these columns follow item_id, and no policy sees them.
SHOWN = ("position", "propensity", "randomised")


class SimulatedWorld(ABC):
    """A product day by day; see `base.World` for what it promises.

    A subclass sets the class attributes below, and implements the methods without a body. State is what
    the past leaves behind for the next request (counters, who has seen what). It has to follow from the
    log: `_record` of each day's rows, in order, on `_new_state()` is the state of the next morning.
    """

    RULES: ClassVar[type[Rules]]
    LOG_DAYS: ClassVar[int] = 28  # days of the shipped log
    OUTCOMES: ClassVar[tuple[str, ...]]  # what `truth` knows the chance of; the first is its default
    AFTERWARDS: ClassVar[tuple[str, ...]]  # columns of the log that do not exist before something is shown
    KNOWN_LATER: ClassVar[dict[str, tuple[str, ...]]] = {}  # column with a time -> outcomes that become known then
    SMALL: ClassVar[dict[str, Any]]  # changes of the rules at which the protocol's checks run (see `checks`)

    users: pd.DataFrame
    items: pd.DataFrame
    metrics: dict[str, OnlineMetric]

    def __init__(self, rules: Rules | None = None, seed: int = DEFAULT_SEED) -> None:
        self.rules = self.RULES() if rules is None else rules
        self.seed = seed
        self._past: list[pd.DataFrame] = []  # the days that the incumbent has served
        self._read_past: Callable[[], pd.DataFrame] | None = None
        self._draw()

    # ---------- a world implements ----------

    @abstractmethod
    def _draw(self) -> None:
        """Draw what exists, from the rules and the seed: users, items, metrics, what is hidden."""

    @abstractmethod
    def _probability(self, rows: pd.DataFrame, outcome: str) -> np.ndarray:
        """P(outcome | everything) of each row, shape (n,); rows without a position count as on top."""

    @abstractmethod
    def _serve_day(self, policy: Policy, day: int, state: Any) -> pd.DataFrame:
        """One day of the product: its rows of the log. Brings `state` up to the end of the day, in place."""

    @abstractmethod
    def _incumbent(self, candidates: pd.DataFrame) -> np.ndarray:
        """The policy that wrote the log."""

    @abstractmethod
    def oracle(self, candidates: pd.DataFrame) -> np.ndarray:
        """The policy that knows the truth."""

    def _new_state(self) -> Any:
        """The state in the morning of day 0. A world whose days do not depend on each other has none."""
        return None

    def _record(self, served: pd.DataFrame, state: Any) -> None:
        """Bring `state` up to the end of rows that were served, in place."""
        return None

    # ---------- what every world has ----------

    @property
    def start(self) -> pd.Timestamp:
        """When day 0 begins."""
        return START

    @property
    def incumbent(self) -> Policy:
        """The policy that serves before a deployment. A new one serves from the end of this world's past on."""
        return self._incumbent

    @incumbent.setter
    def incumbent(self, policy: Policy) -> None:
        self.adopt(list(self._past))  # not shared any more: from here on this world goes its own way
        self._incumbent = policy

    def without(self, *effects: str) -> Self:
        """This world without the named planted effects, same seed. Raises WorldError for an unknown name."""
        return type(self)(self.rules.without(*effects), self.seed)

    def with_rules(self, **changes: Any) -> Self:
        """This world with other values of some rules, same seed. Raises WorldError for an unknown rule."""
        known = [field.name for field in dataclasses.fields(self.rules)]
        for name in changes:
            if name not in known:
                raise WorldError(f"no rule {name!r} in {type(self.rules).__name__}; it has {known}")
        return type(self)(dataclasses.replace(self.rules, **changes), self.seed)

    def truth(self, impressions: pd.DataFrame, outcome: str | None = None) -> np.ndarray:
        """P(outcome = 1 | everything) of each row, shape (n,); rows without a position count as on top. Never a feature.

        outcome: one of OUTCOMES, default the first. Raises WorldError for another.
        """
        outcome = self.OUTCOMES[0] if outcome is None else outcome
        if outcome not in self.OUTCOMES:
            raise WorldError(f"outcome: expected one of {', '.join(map(repr, self.OUTCOMES))}, found {outcome!r}")
        return self._probability(impressions, outcome)

    # ---------- days ----------

    def log(self, days: int) -> pd.DataFrame:
        """Days 0 to days-1 as production recorded them. data/NAME/README.md tells the columns."""
        self._check_days(days)
        self._serve_past(days)
        return pd.concat(self._past[:days], ignore_index=True)

    def deploy(self, policy: Policy, days: int, start: int | None = None) -> pd.DataFrame:
        """Serve `policy` for `days` days from day `start` on (default LOG_DAYS). Before `start` the incumbent served.

        `policy.learn(log)`, where it exists, is called each morning with all days so far `as_known` then.
        Raises WorldError for days that are not drawn, PolicyError for scores that cannot rank.
        """
        start = self._check_days(days, self.LOG_DAYS if start is None else start)
        learns = hasattr(policy, "learn")
        needs_past = learns or self._new_state() is not None
        state, served = self._serve_past(start) if needs_past else None, []
        for day in range(start, start + days):
            if learns:
                so_far = [*self._past[:start], *served] or [self._no_rows()]
                policy.learn(self.as_known(pd.concat(so_far, ignore_index=True), day))
            served.append(self._serve_day(policy, day, state))
        return pd.concat(served, ignore_index=True)

    def adopt(self, past: list[pd.DataFrame], read: Callable[[], pd.DataFrame] | None = None) -> None:
        """Take `past` as the days that the incumbent has served, and keep it up to date: worlds of the same rules and seed may share one.

        read: gives the log of the first days where it is known; called once, when `past` is empty and first needed.
        """
        self._past, self._read_past = past, read

    def as_known(self, log: pd.DataFrame, day: int) -> pd.DataFrame:
        """The log as it could be read in the morning of `day`: no later rows; what was not known yet, and when it would be, is missing."""
        seen = log[log.day < day].reset_index(drop=True)
        morning = START + pd.Timedelta(day, "D")
        for known_at, outcomes in self.KNOWN_LATER.items():
            known = seen[known_at] <= morning
            seen = seen.assign(**{column: seen[column].where(known) for column in (*outcomes, known_at)})
        return seen

    def _check_days(self, days: int, start: int = 0) -> int:
        """Returns start. Raises WorldError unless both are whole numbers and days `start` to `start + days - 1` are drawn."""
        horizon = self.rules.horizon_days
        whole = [isinstance(n, int | np.integer) and not isinstance(n, bool) for n in (days, start)]
        if not whole[0] or not 1 <= days <= horizon:
            raise WorldError(f"days: expected a whole number from 1 to {horizon} ({self.RULES.__name__}.horizon_days), found {days!r}")
        if not whole[1] or not 0 <= start <= horizon - days:
            raise WorldError(f"start: expected 0 to {horizon - days} for {days} days, found {start!r}")
        return int(start)

    def _serve_past(self, day: int) -> Any:
        """Let the incumbent serve the days before `day` that it has not served yet. Returns the state of that morning."""
        if self._read_past and not self._past:
            log = self._read_past()
            ends = np.searchsorted(log.day, np.arange(log.day.iloc[-1] + 1), side="right")
            self._past.extend(log.iloc[begin:end] for begin, end in zip([0, *ends], ends, strict=False))
        state = self._new_state()
        for served in self._past[:day]:
            self._record(served, state)
        while len(self._past) < day:
            self._past.append(self._serve_day(self.incumbent, len(self._past), state))
        return state

    def _no_rows(self) -> pd.DataFrame:
        """The log before anything was shown: the columns of day 0, none of its rows."""
        self._serve_past(1)
        return self._past[0].iloc[:0]


def shown(rows: pd.DataFrame, position: np.ndarray, propensity: np.ndarray, randomised: np.ndarray) -> pd.DataFrame:
    """Rows of candidates that were shown, with what decided it: the columns SHOWN, after item_id.

    position: 1 is the top. propensity: probability that this item got this place. randomised: chance put it there. Shapes (n,).
    """
    decided = zip(SHOWN, (position.astype(np.int16), propensity.astype(np.float64), randomised.astype(bool)), strict=True)
    columns = [(name, rows[name]) for name in rows]
    after = rows.columns.get_loc("item_id") + 1
    return pd.DataFrame(dict([*columns[:after], *decided, *columns[after:]]))


def examined(rows: pd.DataFrame, position_bias: float) -> np.ndarray | float:
    """P(looked at) of each row: position^-bias, and 1 for candidates, which have no position yet."""
    return rows.position.to_numpy(np.float64) ** -position_bias if "position" in rows else 1.0
