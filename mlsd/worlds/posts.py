"""A social network whose posts are reviewed: what reviewers look at, in which order, and what it prevents.

Each hour a reviewer has time for a few posts (a request). The candidates are the posts of the last day that nobody has decided
on; the policy ranks them; the first few are decided. Three policies can be violated: scams (common, mild, copied by campaigns),
collages (a harmless caption on a harmless picture, which together are not) and threats (rare, severe, in words that a dialect
uses kindly). Posts gather views while they wait, so a late decision prevents little. Campaigns that were caught change their spelling.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np
import pandas as pd

from mlsd.worlds.base import OnlineMetric, Policy, Rules, WorldError, decisive, effect, generator, happens, ranking, scores_of, times
from mlsd.worlds.engine import SimulatedWorld, shown

_AUTHORS, _POSTS, _WORDS, _IMAGES, _REPORTS, _LUCK, _SHIFTS, _CAMPAIGNS = range(8)  # random streams
POLICIES = ("scam", "collage", "threat")
SEVERITY = np.array([1.0, 3.0, 10.0])  # of a view of each, as the company weighs it
LIFE_HOURS, APPEAL_DAYS = 24, 7
N_CAMPAIGNS, N_SPELLINGS = 13, 16  # twelve of scams and one of threats; four tricks, each used or not
N_WORDS, N_TOPICS, N_MOTIFS, IMAGE_SIZE = 9, 12, 8, 16
# The vocabulary, in ranges of word ids: common words, 20 a topic, and four small ones.
TOPIC, SCAM, THREAT, TARGET, DIALECT, END = 400, 640, 680, 704, 716, 756
_TRICKS = (("o", "0"), ("i", "1"), ("e", "3"), ("a", "aa"))


@dataclass(frozen=True)
class PostRules(Rules):
    """What is planted in the network."""

    innocent_halves: float = effect(
        1.0,
        off=0.0,
        unit="relative frequency",
        mechanism="The captions and the pictures of collages are as common in innocent posts as any others.",
    )
    copies: float = effect(0.6, off=0.0, unit="share of scams", mechanism="A campaign posts its template again, a word or two changed.")
    evasion: float = effect(
        0.5,
        off=0.0,
        unit="probability",
        mechanism="A campaign of which posts were removed spells its words in a new way from the next day on.",
    )
    repeat_offenders: float = effect(
        0.7,
        off=0.0,
        unit="share of collages and threats",
        mechanism="Most collages and threats come from a few authors, who do it again.",
    )
    outrage: float = effect(1.8, off=1.0, unit="relative views", mechanism="Collages and threats are shared more than other posts.")
    brigading: float = effect(
        8.0,
        off=0.0,
        unit="posts a day",
        mechanism="A crowd agrees to report innocent posts, a dozen times or more within their first hours.",
    )
    report_noise: float = effect(
        0.0002, off=0.0, unit="reports a view", mechanism="Readers report what they dislike, whether or not it violates anything."
    )
    report_lag: float = effect(2.0, off=0.0, unit="hours", mechanism="A report is made so long after the view, on average.")
    reviewer_misses: float = effect(0.12, off=0.0, unit="probability", mechanism="A reviewer takes a violation for innocent.")
    reviewer_false_alarms: float = effect(
        0.006, off=0.0, unit="probability", mechanism="A reviewer takes an innocent post for a violation."
    )
    reclaimed_words: float = effect(
        0.03,
        off=0.0,
        unit="share of words",
        mechanism="Speakers of the dialect use the words of threats among friends, who are not threatened.",
    )
    dialect_misread: float = effect(
        0.25,
        off=0.0,
        unit="probability",
        mechanism="A reviewer takes an innocent post for a threat if it is in the dialect and has a word of threats in it.",
    )
    appeal_reluctance: float = effect(
        0.67, off=0.0, unit="share", mechanism="Speakers of the dialect appeal so much less often when their innocent post was removed."
    )
    appeal_delay: float = effect(
        2.0, off=0.0, unit="days", mechanism="An appeal is decided so long after the removal on average, a week at most."
    )
    exploration: float = effect(
        0.1, off=0.0, unit="share of requests", mechanism="These shifts review posts drawn evenly from all that wait."
    )
    prevalence: tuple[float, float, float] = (0.01, 0.002, 0.0005)  # of scams, collages, threats among posts
    posts_per_day: int = 8000
    reviews_an_hour: int = 10
    n_authors: int = 6000
    n_users: int = 40  # reviewers
    horizon_days: int = 56


@dataclass
class _State:
    """What the past leaves behind: by post whether it was decided and how it is spelled; by author removals; by campaign its spelling."""

    decided: np.ndarray
    spelling: np.ndarray
    strikes: np.ndarray
    campaign: np.ndarray


class PostWorld(SimulatedWorld):
    """Posts that wait for review, whose truth is known. See `PostRules` for what is planted.

    users: user_id of each reviewer, team. authors: author_id, followers, joined (days before START), dialect (from a survey).
    items: item_id, author_id, created_at, expires_at (a day later: an older post is no longer reviewed).
    keywords: the company's old list of words. `posts` is the stream of all posts of some days; `text` and `images` are what
    they show. Truth: `harmful`, `views_left`,
    `prevented`, and P(outcome) of a decision. Truth needs item_id alone.
    """

    RULES = PostRules
    OUTCOMES = ("violates", *POLICIES, "overturned")
    AFTERWARDS = (*POLICIES, "violates", "appealed", "overturned", "appeal_known_at")
    KNOWN_LATER = {"appeal_known_at": ("appealed", "overturned")}
    SMALL = dict(posts_per_day=1200, reviews_an_hour=16, n_authors=600, horizon_days=14, prevalence=(0.06, 0.05, 0.04))

    # ---------- what exists ----------

    def _draw(self) -> None:
        r = self.rules
        if not 0 < r.reviews_an_hour <= r.posts_per_day // 48:
            raise WorldError(f"expected reviews_an_hour from 1 to posts_per_day / 48, found {r.reviews_an_hour} and {r.posts_per_day}")
        self.users = pd.DataFrame(dict(user_id=np.arange(r.n_users, dtype=np.int32), team=(np.arange(r.n_users) % 4).astype(np.int8)))
        self._draw_authors()
        self._draw_posts()
        self._draw_words()
        self._today: dict[tuple[str, int], np.ndarray | tuple] = {}
        self.metrics = {
            "violations_per_shift": OnlineMetric("violates", "request"),
            "overturned_per_shift": OnlineMetric("overturned", "request", higher_is_better=False),
        }

    def _draw_authors(self) -> None:
        rng, n = generator(self.seed, _AUTHORS), self.rules.n_authors
        role = rng.permutation(n) / n  # who is what does not show in the id
        self._scammers, self._collagists, self._threateners = (
            np.flatnonzero((role >= low) & (role < low + share)) for low, share in ((0, 0.02), (0.02, 0.01), (0.03, 0.01))
        )
        followers = decisive(np.exp(5.0 + 1.2 * rng.normal(size=n))).astype(np.int32)
        activity = rng.gamma(0.7, size=n)
        joined = rng.integers(30, 1500, n)
        young = rng.integers(0, 40, n)
        joined[self._scammers] = np.where(rng.random(len(self._scammers)) < 0.8, young[self._scammers], joined[self._scammers])
        self._activity = np.cumsum(activity / activity.sum())
        self.authors = pd.DataFrame(
            dict(author_id=np.arange(n, dtype=np.int32), followers=followers, joined=joined.astype(np.int16), dialect=rng.random(n) < 0.12)
        )
        self._dialect = self.authors.dialect.to_numpy()

    def _draw_posts(self) -> None:
        """All posts, numbered by creation, from the day before day 0 on."""
        r, rng = self.rules, generator(self.seed, _POSTS)
        n = r.posts_per_day * (r.horizon_days + 1)
        self._day = np.repeat(np.arange(-1, r.horizon_days), r.posts_per_day)
        second = np.sort(rng.integers(0, 86400, (r.horizon_days + 1, r.posts_per_day)), axis=1).ravel()
        self._second = self._day * np.int64(86400) + second
        self._kind = np.searchsorted(np.cumsum(r.prevalence), rng.random(n)).astype(np.int8)  # 3 is innocent
        again, pick, topic, motif, spread, speed = rng.random(6 * n).reshape(6, n)
        author = np.searchsorted(self._activity, pick).clip(max=r.n_authors - 1)
        for kind, group, share in (
            (0, self._scammers, 1.0),
            (1, self._collagists, r.repeat_offenders),
            (2, self._threateners, r.repeat_offenders),
        ):
            repeated = (self._kind == kind) & (again < share)
            author[repeated] = group[(pick[repeated] * len(group)).astype(np.int64)]
        self._author = author.astype(np.int32)
        self._campaign = np.full(n, -1, np.int8)
        self._campaign[self._kind == 0] = self._author[self._kind == 0] % (N_CAMPAIGNS - 1)
        self._campaign[(self._kind == 2) & (again < r.repeat_offenders)] = N_CAMPAIGNS - 1
        self._draw_topics(topic, motif, rng.random(n))
        normal = rng.normal(size=(2, n))
        views = (10 + 0.3 * self.authors.followers.to_numpy()[author]) * np.exp(0.9 * normal[0])
        self._views = decisive(np.where((self._kind == 1) | (self._kind == 2), r.outrage, 1.0) * views)
        self._hours = decisive(5 * np.exp(0.6 * normal[1]))  # of the decay of attention
        self.items = pd.DataFrame(
            dict(
                item_id=np.arange(n, dtype=np.int32),
                author_id=self._author,
                created_at=times(0, self._second),
                expires_at=times(0, self._second + LIFE_HOURS * 3600),
            )
        )

    def _draw_topics(self, topic: np.ndarray, motif: np.ndarray, apart: np.ndarray) -> None:
        """Topic of the text and motif of the picture. The pairs (0, 0) and (1, 1) are collages, and hardly ever anything else."""
        collage, half = self._kind == 1, self.rules.innocent_halves
        weight = np.r_[half, half, np.ones(N_TOPICS - 2)]
        innocent = np.searchsorted(np.cumsum(weight / weight.sum()), topic).clip(max=N_TOPICS - 1)
        self._topic = np.where(collage, topic < 0.5, innocent).astype(np.int8)
        self._motif = np.where(collage, self._topic, motif * N_MOTIFS).astype(np.int8)
        clash = ~collage & (self._topic < 2) & (self._motif == self._topic) & (apart < 0.95)
        self._motif[clash] = 2 + self._motif[clash]

    def _draw_words(self) -> None:
        """Invented words, their spellings, the company's old list of keywords, templates of campaigns, centres of motifs."""
        rng = generator(self.seed, _CAMPAIGNS)
        syllables = [c + v for c in "bdfgklmnprstvz" for v in "aeiou"]
        names = ["".join(np.array(syllables)[rng.integers(0, len(syllables), 3)]) for _ in range(2 * END)]
        words = list(dict.fromkeys(names))[:END]
        self._spellings = np.array([[_spelled(word, way) for way in range(N_SPELLINGS)] for word in words], dtype=object)
        self._listed = np.zeros(END, bool)
        self._listed[SCAM:THREAT:2] = self._listed[THREAT:TARGET:2] = True
        self.keywords = self._spellings[self._listed, 0].tolist()
        self._own_words = SCAM + rng.permuted(np.tile(np.arange(THREAT - SCAM), (N_CAMPAIGNS, 1)), axis=1)[:, :10]
        filler = _zipf(rng.random((N_CAMPAIGNS, N_WORDS - 4)))
        self._templates = np.concatenate([self._own_words[:, :4], filler], axis=1)
        self._centres = 0.7 * rng.normal(size=(N_MOTIFS, IMAGE_SIZE))

    # ---------- what a post shows ----------

    def _range(self, day: int) -> slice:
        return slice((day + 1) * self.rules.posts_per_day, (day + 2) * self.rules.posts_per_day)

    def _kept(self, what: str, day: int, draw):  # drawn once a day and kept
        if (what, day) not in self._today:
            self._today[what, day] = draw(day)
        return self._today[what, day]

    def _words_of(self, day: int) -> np.ndarray:
        """Word ids of a day's posts, shape (posts_per_day, N_WORDS)."""
        r, rng, rows = self.rules, generator(self.seed, _WORDS, day + 1), self._range(day)
        kind, author, topic, campaign = (
            column[rows].astype(np.int64) for column in (self._kind, self._author, self._topic, self._campaign)
        )
        n = len(kind)
        word, special, which = rng.random((3, n, N_WORDS))
        tokens = _zipf(word)
        tokens[:, 5:] = TOPIC + 20 * topic[:, None] + (which[:, 5:] * 20).astype(np.int16)
        speaks = self._dialect[author][:, None]
        tokens = np.where(speaks & (special > 0.7), DIALECT + (which * (END - DIALECT)).astype(np.int16), tokens)
        threat_word, target = THREAT + (which * (TARGET - THREAT)).astype(np.int16), TARGET + (which * (DIALECT - TARGET)).astype(np.int16)
        tokens = np.where((special > 0.5) & (special < 0.55), target, tokens)
        tokens = np.where(special < 0.003, SCAM + (which * (THREAT - SCAM)).astype(np.int16), tokens)
        tokens = np.where((special > 0.003) & (special < 0.005), threat_word, tokens)
        tokens = np.where(speaks & (special > 0.1) & (special < 0.1 + r.reclaimed_words), threat_word, tokens)
        scam, threat = np.flatnonzero(kind == 0), np.flatnonzero(kind == 2)
        tokens[threat, :2], tokens[threat, 2] = threat_word[threat, :2], target[threat, 2]
        tokens[scam, :4] = self._own_words[campaign[scam, None], (which[scam, :4] * 10).astype(np.int16)]
        copied = scam[happens(rng.random(n)[scam], r.copies)]
        kept = rng.random((len(copied), N_WORDS)) > 0.12
        tokens[copied] = np.where(kept, self._templates[campaign[copied]], tokens[copied])
        return tokens.astype(np.int16)

    def _tokens(self, items: np.ndarray) -> np.ndarray:
        items = np.asarray(items, np.int64)
        found, day = np.empty((len(items), N_WORDS), np.int16), self._day[items]
        for d in np.unique(day):
            found[day == d] = self._kept("words", int(d), self._words_of)[items[day == d] - self._range(int(d)).start]
        return found

    def _way(self, text_key: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Post and spelling of a text. Keys are shifted by a number that is the post's own, so that they say nothing by themselves."""
        item = np.asarray(text_key, np.int64) // N_SPELLINGS
        return item, (np.asarray(text_key, np.int64) - item * 7919 // 3) % N_SPELLINGS

    def _text_key(self, item: np.ndarray, spelling: np.ndarray) -> np.ndarray:
        item = np.asarray(item, np.int64)
        return item * N_SPELLINGS + (spelling + item * 7919 // 3) % N_SPELLINGS

    def text(self, text_key: np.ndarray) -> list[str]:
        """The words of posts, with spaces between: one string a key, as it stands in a log or in `posts`."""
        item, way = self._way(text_key)
        tokens = self._tokens(item)
        way = np.where((tokens >= SCAM) & (tokens < TARGET), way[:, None], 0)
        return [" ".join(words) for words in self._spellings[tokens, way]]

    def images(self, item_id: np.ndarray) -> np.ndarray:
        """The picture of each post as a vector, as some encoder gives it: float32, shape (n, IMAGE_SIZE)."""
        items = np.asarray(item_id, np.int64)
        found, day = np.empty((len(items), IMAGE_SIZE), np.float32), self._day[items]
        for d in np.unique(day):
            noise = self._kept(
                "images", int(d), lambda d: generator(self.seed, _IMAGES, d + 1).normal(size=(self.rules.posts_per_day, IMAGE_SIZE))
            )
            here = items[day == d]
            found[day == d] = self._centres[self._motif[here]] + noise[here - self._range(int(d)).start]
        return found

    def posts(self, days: Iterable[int], log: pd.DataFrame | None = None) -> pd.DataFrame:
        """All posts of some days, reviewed or not: item_id, author_id, time, day, text_key.

        log: what was served until then, on which spellings depend; default is the shipped log.
        Raises WorldError for days that it does not reach.
        """
        days = np.asarray(list(days), np.int64)
        log = self.log(self.LOG_DAYS) if log is None else log
        if len(days) == 0 or days.min() < -1 or days.max() > log.day.max() + 1 or days.max() >= self.rules.horizon_days:
            raise WorldError(f"days: expected -1 to {log.day.max() + 1}, the morning after the log ends, found {days.tolist()[:5]}")
        state = self._new_state()
        for _, served in log[log.day < days.max()].groupby("day"):
            self._record(served, state)
        rows = np.flatnonzero(np.isin(self._day, days))
        key = self._text_key(rows, state.spelling[rows])
        columns = dict(item_id=rows.astype(np.int32), author_id=self._author[rows], time=times(0, self._second[rows]))
        return pd.DataFrame(columns | dict(day=self._day[rows].astype(np.int32), text_key=key))

    # ---------- truth ----------

    def harmful(self, item_id: np.ndarray) -> np.ndarray:
        """Which policies each post violates, bool, shape (n, 3) in the order of POLICIES. Never a feature."""
        return self._kind[np.asarray(item_id)][:, None] == np.arange(3)

    def _seen(self, item: np.ndarray, second: np.ndarray | int) -> np.ndarray:
        """Views of each post until `second` (since START), not rounded."""
        age = np.maximum(second - self._second[item], 0) / 3600
        return self._views[item] * -np.expm1(-age / self._hours[item])

    def views_left(self, item_id: np.ndarray, time: pd.Series | np.datetime64) -> np.ndarray:
        """Views that each post will still get after `time` if nobody removes it, shape (n,). Never a feature."""
        item = np.asarray(item_id)
        return self._views[item] - self._seen(
            item, (np.asarray(time, "datetime64[s]") - times(0)).astype("timedelta64[s]").astype(np.int64)
        )

    def prevented(self, log: pd.DataFrame) -> np.ndarray:
        """Harmful views that each decision of a log prevented, weighted by severity, shape (n,). Never a feature."""
        kind = self._kind[log.item_id.to_numpy()]
        weight = np.r_[SEVERITY, 0.0][kind] * log.violates.to_numpy()
        return weight * self.views_left(log.item_id, log.time)

    def _chances(self, item: np.ndarray) -> np.ndarray:
        """P(a reviewer decides for each policy), shape (n, 3)."""
        r, kind = self.rules, self._kind[item]
        p = np.where(kind[:, None] == np.arange(3), 1 - r.reviewer_misses, r.reviewer_false_alarms * np.array([0.4, 0.2, 0.4]))
        p[(kind < 3)[:, None] & (kind[:, None] != np.arange(3))] = 0.0
        risky = np.flatnonzero((kind == 3) & self._dialect[self._author[item]])
        tokens = self._tokens(item[risky])
        misread = risky[((tokens >= THREAT) & (tokens < TARGET)).any(axis=1)]
        p[misread, 2] += r.dialect_misread
        return p

    def _appeals(self, item: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """P(appeal | removed), P(overturned | appealed)."""
        innocent = self._kind[item] == 3
        reluctant = self.rules.appeal_reluctance * self._dialect[self._author[item]]
        return np.where(innocent, 0.3 * (1 - reluctant), 0.05), np.where(innocent, 0.9, 0.05)

    def _probability(self, rows: pd.DataFrame, outcome: str) -> np.ndarray:
        item = rows.item_id.to_numpy()
        chances = self._chances(item)
        if outcome in POLICIES:
            return chances[:, POLICIES.index(outcome)]
        removed = chances.sum(axis=1)
        return removed if outcome == "violates" else removed * np.prod(self._appeals(item), axis=0)

    def oracle(self, candidates: pd.DataFrame) -> np.ndarray:
        """The policy that knows which posts are harmful and how many views each will still get."""
        item = candidates.item_id.to_numpy()
        return np.r_[SEVERITY, 0.0][self._kind[item]] * self.views_left(item, candidates.time)

    # ---------- serving ----------

    def _new_state(self) -> _State:
        n = len(self.items)
        return _State(np.zeros(n, bool), np.zeros(n, np.int8), np.zeros(self.rules.n_authors, np.int16), np.zeros(N_CAMPAIGNS, np.int8))

    def _record(self, served: pd.DataFrame, state: _State) -> None:
        """End a day: what was decided, whose posts were removed, and how campaigns will spell tomorrow."""
        item, removed, day = served.item_id.to_numpy(), served.violates.to_numpy() > 0, int(served.day.iloc[0])
        state.decided[item] = True
        np.add.at(state.strikes, self._author[item[removed]], 1)
        caught = np.bincount(self._campaign[item[removed]] + 1, minlength=N_CAMPAIGNS + 1)[1:] > 0
        moves = caught & happens(generator(self.seed, _CAMPAIGNS, day).random(N_CAMPAIGNS), self.rules.evasion)
        state.campaign[moves] = (state.campaign[moves] + 1) % N_SPELLINGS
        if day + 1 < self.rules.horizon_days:
            campaign = self._campaign[self._range(day + 1)]
            state.spelling[self._range(day + 1)] = np.where(campaign >= 0, state.campaign[campaign], 0)

    def _reports_of(self, day: int) -> tuple[np.ndarray, np.ndarray]:
        """Posts and seconds of all reports on a day's posts, by post."""
        r, rng, rows = self.rules, generator(self.seed, _REPORTS, day + 1), self._range(day)
        kind, n = self._kind[rows], r.posts_per_day
        rate = r.report_noise + np.array([0.004, 0.004, 0.01, 0.0])[kind]
        number = rng.poisson(decisive(rate * self._views[rows]))
        attacked = np.flatnonzero((kind == 3) & (rng.random(n) < r.brigading / n))
        crowd = np.zeros(n, np.int64)
        crowd[attacked] = rng.integers(12, 40, len(attacked))
        post = np.repeat(np.arange(n), number + crowd) + rows.start
        nth = np.arange(len(post)) - np.repeat(np.cumsum(number + crowd) - (number + crowd), number + crowd)
        viewed, lag = rng.random((2, len(post)))
        hours = np.where(nth < crowd[post - rows.start], 3 * viewed, -self._hours[post] * np.log1p(-viewed))
        hours = decisive(hours - r.report_lag * np.log1p(-lag))
        return post, self._second[post] + (hours * 3600).astype(np.int64)

    def _reports(self, first: int, last: int, second: int) -> np.ndarray:
        """Reports until `second` on the posts first to last - 1."""
        count = np.zeros(last - first, np.int64)
        for day in range(self._day[first], self._day[last - 1] + 1):
            post, at = self._kept("reports", day, self._reports_of)
            seen = (at <= second) & (post >= first) & (post < last)
            count += np.bincount(post[seen] - first, minlength=last - first)
        return count

    def _keywords_of(self, day: int, state: _State) -> np.ndarray:
        """How many words of each of a day's posts are on the company's list, as they are spelled."""
        tokens, way = self._kept("words", day, self._words_of), state.spelling[self._range(day)]
        plain = self._spellings[tokens, np.where(self._listed[tokens], way[:, None], 0)] == self._spellings[tokens, 0]
        return (self._listed[tokens] & plain).sum(axis=1).astype(np.int8)

    def _serve_day(self, policy: Policy, day: int, state: _State) -> pd.DataFrame:
        r, rng = self.rules, generator(self.seed, _SHIFTS, day)
        reviewer, explored = rng.integers(0, r.n_users, 24), happens(rng.random(24), r.exploration)
        keywords = np.concatenate([self._keywords_of(d, state) for d in (day - 1, day)])
        base, hours = self._range(day - 1).start, []
        for hour in range(24):
            now = day * 86400 + hour * 3600
            first, last = np.searchsorted(self._second, [now - LIFE_HOURS * 3600 + 1, now + 1])
            waiting = np.flatnonzero(~state.decided[first:last]) + first
            views, reports = self._seen(waiting, now), self._reports(first, last, now)[waiting - first]
            n = len(waiting)
            candidates = pd.DataFrame(
                dict(
                    request_id=np.full(n, day * 24 + hour, np.int64),
                    time=np.full(n, times(day, hour * 3600)),
                    day=np.full(n, day, np.int32),
                    user_id=np.full(n, reviewer[hour], np.int32),
                    item_id=waiting.astype(np.int32),
                    author_id=self._author[waiting],
                    text_key=self._text_key(waiting, state.spelling[waiting]),
                    age_hours=((now - self._second[waiting]) / 3600).astype(np.float32),
                    views=decisive(views).astype(np.int32),
                    reports=reports.astype(np.int16),
                    keywords=keywords[waiting - base],
                    strikes=state.strikes[self._author[waiting]],
                )
            )
            score, k = scores_of(policy, candidates), r.reviews_an_hour
            best = ranking(score[None], k)[0]
            chosen = ranking(rng.random((1, n)), k)[0] if explored[hour] else best
            if not explored[hour]:
                rng.random(n)  # so that later hours draw the same, whoever serves
            propensity = (1 - r.exploration) * (chosen == best) + r.exploration / n
            hours.append(shown(candidates.iloc[chosen], np.arange(1, k + 1), propensity, np.full(k, explored[hour])))
            state.decided[waiting[chosen]] = True
        log = pd.concat(hours, ignore_index=True)
        self._add_outcomes(log)
        self._record(log, state)
        return log

    def _add_outcomes(self, log: pd.DataFrame) -> None:
        """What reviewers decided and what came of it: the luck is the post's own, whoever decides and when."""
        item = log.item_id.to_numpy()
        luck = np.empty((4, len(item)))
        for day in np.unique(self._day[item]):
            drawn = self._kept("luck", int(day), lambda d: generator(self.seed, _LUCK, d + 1).random((4, self.rules.posts_per_day)))
            here = self._day[item] == day
            luck[:, here] = drawn[:, item[here] - self._range(int(day)).start]
        edges = decisive(np.cumsum(self._chances(item), axis=1))
        decided = (luck[0][:, None] >= edges).sum(axis=1)  # 3: innocent
        for k, name in enumerate(POLICIES):
            log[name] = (decided == k).astype(np.int8)
        removed = decided < 3
        p_appeal, p_overturn = self._appeals(item)
        appealed = removed & happens(luck[1], p_appeal)
        log["violates"] = removed.astype(np.int8)
        log["appealed"] = appealed.astype(np.float32)
        log["overturned"] = (appealed & happens(luck[2], p_overturn)).astype(np.float32)
        wait = np.minimum(-self.rules.appeal_delay * np.log1p(-luck[3]), APPEAL_DAYS)
        window = APPEAL_DAYS if self.rules.appeal_delay else 0
        days = decisive(np.where(appealed, wait, np.where(removed, window, 0)))
        log["appeal_known_at"] = log.time + (days * 86400).astype("timedelta64[s]")

    def _incumbent(self, candidates: pd.DataFrame) -> np.ndarray:
        """The rule of the first years: most reported first, listed words as half a report each, oldest first among equals."""
        return candidates.reports.to_numpy(np.float64) + 0.5 * candidates.keywords.to_numpy()


def _zipf(uniform: np.ndarray) -> np.ndarray:
    """Common words by rank, from uniform draws."""
    share = 1 / (np.arange(TOPIC) + 10.0)
    return np.searchsorted(np.cumsum(share / share.sum()), uniform).clip(max=TOPIC - 1).astype(np.int16)


def _spelled(word: str, way: int) -> str:
    for bit, (letter, instead) in enumerate(_TRICKS):
        if way >> bit & 1:
            word = word.replace(letter, instead)
    return word
