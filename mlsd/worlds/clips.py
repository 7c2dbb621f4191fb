"""A site of videos with a search box: people ask in words, in two languages, and videos answer.

What a video is about (a thing, what is done to it, a product, a channel, an event) is hidden; its title, description,
transcript and frames tell of it, in words that its maker chose. So a word may be missing where its meaning is there,
and there where it is not: synonyms, titles that lie, speech recognition that mishears names. One request shows ten videos.
"""

from __future__ import annotations

import copy
import dataclasses
import functools
import re
from collections.abc import Callable
from typing import Self

import numpy as np
import pandas as pd
from scipy.sparse import csr_matrix
from scipy.special import expit

from mlsd.worlds.base import OnlineMetric, Policy, Rules, WorldError, effect, generator, happens, ranking, scores_of, times
from mlsd.worlds.engine import SimulatedWorld, examined, shown

SLOTS = 10  # videos that a request shows
RECALLED = 40  # videos that production recalls for a request
LONG_WATCH_S = 60  # seconds from which a watch counts as long
SHORT_S = 90  # a video below this may answer a question in its preview
BURST_DAYS = 1.0  # half-life of the interest in an event
LANGUAGES = ("en", "de")
INTENTS = ("navigational", "entity", "how-to", "vague", "fresh", "no answer")
SHARES = (0.14, 0.2, 0.42, 0.18, 0.0, 0.06)  # of the queries; fresh ones come from events
VISUAL = 24  # numbers that describe the frames of a video

# Independent random streams.
_CATALOGUE, _WORDS, _QUERIES, _USERS, _EVENTS, _REQUESTS, _CLICKS = range(7)

# ---------- the vocabulary: domain -> things and actions, English and German, synonyms with a bar ----------

_FIX, _BUY, _CLEAN = "fix|repair|mend=reparieren|richten", "choose|buy|select=kaufen|auswählen", "clean|wash=reinigen|putzen"
_SWAP, _CUT = "replace|swap|change=austauschen|wechseln", "trim|cut|prune=schneiden|stutzen"
_TRAIN, _LEARN = "train|practise|exercise=trainieren|üben", "learn|study|master=lernen|beherrschen"
_STORE, _MAKE = "store|keep|put away=aufbewahren|lagern", "make|build|create=bauen|basteln"
VOCABULARY = {
    "home=haushalt": (
        "tap|faucet=wasserhahn|hahn;drill|power drill=bohrmaschine|bohrer;door handle|doorknob=türgriff|klinke;"
        "fridge|refrigerator=kühlschrank;toilet|lavatory=toilette|klo;ceiling lamp|light fixture=deckenlampe|leuchte;"
        "vacuum cleaner|hoover=staubsauger;radiator|heater=heizkörper|heizung;window blind|roller shade=rollo|jalousie",
        (_FIX, _CLEAN, "install|mount|fit=einbauen|montieren", _BUY, _SWAP),
    ),
    "cooking=küche": (
        "aubergine|eggplant=aubergine|melanzani;courgette|zucchini=zucchini|zucchetti;pancake|flapjack=pfannkuchen|eierkuchen;"
        "cookie|biscuit=keks|plätzchen;fries|chips=pommes|fritten;prawn|shrimp=garnele|krabbe;coriander|cilantro=koriander;"
        "bread|loaf=brot|laib;dumpling|pierogi=knödel|kloß",
        (
            "cook|prepare=kochen|zubereiten",
            "freeze=einfrieren|tiefkühlen",
            "season|flavour=würzen|abschmecken",
            "chop|slice=hacken|würfeln",
            _STORE,
        ),
    ),
    "garden=garten": (
        "lawn|grass=rasen|gras;hedge|bushes=hecke|sträucher;tomato plant|tomatoes=tomatenpflanze|tomaten;"
        "slug|snail=nacktschnecke|schnecke;fruit tree|orchard tree=obstbaum;flower bed|border=blumenbeet|beet;"
        "greenhouse|glasshouse=gewächshaus|treibhaus;pond|water garden=teich|weiher;garden path|walkway=gartenweg|pfad",
        (
            "grow|plant=anbauen|pflanzen",
            _CUT,
            "remove|get rid of=entfernen|loswerden",
            "water|irrigate=gießen|bewässern",
            "protect|cover=schützen|abdecken",
        ),
    ),
    "car=auto": (
        "tyre|tire=reifen|pneu;bonnet|hood=motorhaube;boot|trunk=kofferraum|heckraum;"
        "windscreen|windshield=windschutzscheibe|frontscheibe;gearbox|transmission=getriebe;bicycle|bike=fahrrad|rad;"
        "petrol engine|gasoline motor=benzinmotor|motor;number plate|license plate=nummernschild|kennzeichen;"
        "lorry|truck=lastwagen|lkw",
        (_FIX, _CLEAN, _SWAP, _BUY, "paint|spray=lackieren|streichen"),
    ),
    "fitness=sport": (
        "push up|press up=liegestütz;running|jogging=laufen|joggen;back pain|sore back=rückenschmerzen|rückenweh;"
        "belly fat|stomach fat=bauchfett|bauchspeck;squat|knee bend=kniebeuge;stretching|flexibility=dehnen|beweglichkeit;"
        "swimming|front crawl=schwimmen|kraulen;jump rope|skipping rope=springseil|hüpfseil;"
        "handstand|headstand=handstand|kopfstand",
        (_TRAIN, _LEARN, "avoid|prevent=vermeiden|verhindern", "improve|boost=verbessern|steigern", "measure|track=messen|verfolgen"),
    ),
    "computer=technik": (
        "hard disk|hard drive=festplatte|platte;password|passcode=passwort|kennwort;wifi|wireless network=wlan|funknetz;"
        "mobile phone|cell phone=handy|smartphone;spreadsheet|worksheet=tabelle|arbeitsblatt;photo|picture=foto|bild;"
        "printer|laser printer=drucker;graphics card|gpu=grafikkarte|grafikchip;laptop|notebook=laptop|klapprechner",
        (_FIX, "set up|configure=einrichten|konfigurieren", "delete|erase=löschen|entfernen", _BUY, "back up|save=sichern|speichern"),
    ),
    "clothes=mode": (
        "jumper|sweater=pullover|pulli;trousers|pants=hose|beinkleid;curtain|drape=vorhang|gardine;scarf|shawl=schal|halstuch;"
        "purse|handbag=handtasche|tasche;trainers|sneakers=turnschuhe|sportschuhe;"
        "quilt|patchwork blanket=steppdecke|flickendecke;candle|wax light=kerze;present|gift=geschenk|präsent",
        (_MAKE, _CLEAN, _BUY, _FIX, "decorate|adorn=verzieren|schmücken"),
    ),
    "pets=tiere": (
        "puppy|young dog=welpe|junghund;kitten|baby cat=kätzchen|katzenkind;rabbit|bunny=kaninchen|hase;"
        "budgie|parakeet=wellensittich|sittich;tortoise|turtle=schildkröte;aquarium|fish tank=aquarium|fischbecken;"
        "pony|horse=pony|pferd;dog lead|leash=hundeleine|leine;chicken|hen=huhn|henne",
        ("feed|nourish=füttern|ernähren", _TRAIN, _BUY, _CLEAN, "calm|soothe=beruhigen|besänftigen"),
    ),
    "music=musik": (
        "violin|fiddle=geige|violine;drums|drum kit=schlagzeug|trommeln;piano|keyboard=klavier|flügel;"
        "guitar chord|guitar grip=gitarrengriff|akkord;singing|vocals=singen|gesang;sheet music|score=noten|partitur;"
        "recorder|flute=blockflöte|flöte;trumpet|horn=trompete|horn;accordion|squeezebox=akkordeon|ziehharmonika",
        ("play|perform=spielen|vortragen", "tune|adjust=stimmen|einstellen", _LEARN, _BUY, _CLEAN),
    ),
}
TITLES = dict(
    en=("how to {a} {t}", "{a} {t} in {n} minutes", "{t}: {a} it yourself", "{n} ways to {a} {t}", "best way to {a} a {t}"),
    de=("{t} {a}", "wie man {t} richtig {a}", "{t} {a} in {n} minuten", "{t} einfach {a}", "{n} tipps: {t} {a}"),
)
REVIEWS = dict(
    en=("{e} {t} review", "{e} test: should you buy it", "unboxing the {e} {t}"),
    de=("{e} {t} im test", "{e}: lohnt sich das", "{e} {t} ausgepackt"),
)
NEWS = dict(en=("{e}: what we know", "{e} live report", "{e} explained"), de=("{e}: was wir wissen", "{e} im bericht", "{e} erklärt"))
QUERIES = dict(
    en={
        "how-to": ("how to {a} {t}", "{a} {t}", "{a} {t} at home"),
        "vague": ("{t}", "{t} ideas", "{t} for beginners"),
        "entity": ("{e}", "{e} review", "{e} {t}"),
    },
    de={
        "how-to": ("wie {t} {a}", "{t} {a}", "{t} selbst {a}"),
        "vague": ("{t}", "{t} ideen", "{t} für anfänger"),
        "entity": ("{e}", "{e} test", "{e} {t}"),
    },
)
FILLER = dict(
    en=(
        "today we show you this step first then really quick easy again look here what happens next "
        "time of course little bit much better always ready done work start hand look close watch good "
        "question people often ask why"
    ).split(),
    de=(
        "heute zeigen wir euch diesen schritt zuerst dann wirklich schnell einfach nochmal schaut hier was passiert nächstes "
        "mal natürlich kleines bisschen viel besser immer fertig arbeit anfang hand genau gute frage leute fragen oft "
        "warum"
    ).split(),
)
EVENTS = (
    ("storm", "sturm"),
    ("launch", "start"),
    ("final", "finale"),
    ("strike", "streik"),
    ("festival", "festival"),
    ("rescue", "rettung"),
)
_SOUNDS = ("ba bri do fen gar hol ka lin mar nor os pel qui ros sol tar ul vik wen zor".split(), "da lo mi ne ra ska ti va xa ber".split())

_WORD = re.compile(r"\w+")


def words_of(text: str) -> list[str]:
    """The words of a text, in small letters, as production cuts them."""
    return _WORD.findall(text.lower())


@dataclasses.dataclass(frozen=True)
class ClipRules(Rules):
    """Planted effects and sizes of the video search world."""

    position_bias: float = effect(0.9, off=0.0, unit="power", mechanism="A result at position k is looked at with probability k^-bias.")
    relevance_pull: float = effect(4.5, off=0.0, unit="log-odds", mechanism="What looks like an answer is clicked more often.")
    title_draws: float = effect(
        0.5,
        off=0.0,
        unit="share",
        mechanism="So much of what looks like an answer is the query's words in the title, the rest is what the video is about.",
    )
    synonyms: float = effect(
        0.8, off=0.0, unit="probability", mechanism="A maker or a searcher takes any of the words for a thing, else the most common one."
    )
    title_stuffing: float = effect(
        0.12, off=0.0, unit="share of videos", mechanism="A title carries two popular things that the video does not show."
    )
    asr_errors: float = effect(
        0.12,
        off=0.0,
        unit="probability a word",
        mechanism="Speech recognition writes another word, and three times as often where a name was said.",
    )
    second_language: float = effect(0.35, off=0.0, unit="share", mechanism="Users and channels speak German, the others English.")
    language_gap: float = effect(1.0, off=0.0, unit="grades", mechanism="A video in the other language is worth less to who asked.")
    length_pull: float = effect(
        1.0, off=0.0, unit="power", mechanism="Who is content watches for a time that grows with the length of the video to this power."
    )
    good_abandonment: float = effect(
        0.4,
        off=0.0,
        unit="probability",
        mechanism="The preview of a short video that answers a how-to question answers it, without a click.",
    )
    quality_spread: float = effect(
        0.7, off=0.0, unit="log-odds", mechanism="Of two videos on one matter one is better made and contents more people."
    )
    burst: float = effect(0.12, off=0.0, unit="share of requests", mechanism="An event draws this share of requests, halving each day.")
    index_lag: float = effect(24.0, off=0.0, unit="hours", mechanism="Production's index takes in new videos only every so many hours.")
    zipf: float = effect(0.8, off=0.0, unit="power", mechanism="The n-th most popular query is asked in proportion to n^-zipf.")

    n_users: int = 1200
    n_videos: int = 1000  # on day 0
    uploads_per_day: int = 8
    n_channels: int = 40
    n_products: int = 40
    n_queries: int = 1000
    n_events: int = 13  # over the horizon
    requests_per_day: int = 300
    absent_things: int = 8  # things that people ask for and no video shows
    transcripts_until: int = 10**6  # day from which the speech recogniser writes nothing for new videos
    exploration: float = 0.1  # share of requests whose ten results are shown in random order
    horizon_days: int = 49  # days for which videos and events are drawn


class ClipWorld(SimulatedWorld):
    """People type queries, production recalls forty videos, a policy shows ten. See `base.World`.

    items: item_id, channel, title, description, transcript, language, length_s, created_at,
        views (in thousands, on another site before it came here).
    users: user_id, language, created_at.
    queries: query_id, text, language, intent (one of INTENTS, as a labelling team would say).
    frames: what an image network sees in each video, float32 (n_items, VISUAL): the thing and the action, not names.
    The candidates of a request are the RECALLED videos of production's index that share most (and rarest) words with the query;
    term_overlap is 0 for those that only fill up, popular ones. `with_retrieval` gives other candidates.
    Truth needs query_id, item_id. Clicks change nothing that a later request depends on.
    """

    RULES = ClipRules
    LOG_DAYS = 28
    OUTCOMES = ("click", "long_watch")
    AFTERWARDS = ("click", "long_watch", "watch_s", "reformulated")
    SMALL = dict(
        n_users=100,
        n_videos=200,
        uploads_per_day=4,
        n_channels=8,
        n_products=8,
        n_queries=150,
        n_events=5,
        requests_per_day=50,
        horizon_days=14,
    )

    # ---------- what exists ----------

    def _draw(self) -> None:
        r, rng = self.rules, generator(self.seed, _CATALOGUE)
        self._retrieve: Callable[[pd.DataFrame], np.ndarray] | None = None
        self._thing, self._action, self._domain_of = _concepts()
        self._n_actions = len(next(iter(VOCABULARY.values()))[1])
        n_things, n_common = len(self._thing), r.n_videos + r.uploads_per_day * r.horizon_days
        self._absent = np.zeros(n_things, bool)
        self._absent[rng.permutation(n_things)[: r.absent_things]] = True
        self._appeal = np.where(self._absent, 0, rng.lognormal(0, 0.8, n_things))  # how much people care for a thing
        names = _names(rng, r.n_channels + r.n_products + r.n_events)
        self._channel = [f"{name} {('studio', 'tv', 'channel')[i % 3]}" for i, name in enumerate(names[: r.n_channels])]
        german = rng.random(r.n_channels) < r.second_language
        speciality = rng.integers(0, len(VOCABULARY), r.n_channels)
        brand = names[r.n_channels : r.n_channels + r.n_products]
        self._product = [f"{brand[i // 4]} {rng.integers(2, 98) * 10}" for i in range(r.n_products)]  # four models a brand
        self._product_thing = self._draw_things(rng, r.n_products)
        self._draw_events(names[-r.n_events :])

        # Common videos first, then those of events; ids by time of upload.
        count = np.full(r.n_events, 10)
        event = np.concatenate([np.full(n_common, -1), np.repeat(np.arange(r.n_events), count)])
        n = len(event)
        day = np.concatenate([-rng.integers(1, 400, r.n_videos), np.repeat(np.arange(r.horizon_days), r.uploads_per_day)])
        seconds = day * 86400 + rng.integers(0, 86400, n_common)
        late = np.rint(rng.exponential(6 * 3600, n - n_common)).astype(np.int64)
        seconds = np.concatenate([seconds, self._event_s[event[n_common:]] + late])
        order = np.argsort(seconds, kind="stable")
        event, self._created_s = event[order], seconds[order]
        channel = rng.integers(0, r.n_channels, n)
        special = self._draw_things(rng, n, speciality[channel])
        thing = np.where(rng.random(n) < 0.8, special, self._draw_things(rng, n))
        product = np.where((rng.random(n) < 0.2) & (event < 0), rng.integers(0, r.n_products, n), -1)
        thing = np.where(event >= 0, -1, np.where(product >= 0, self._product_thing[product], thing))
        action = np.where((event >= 0) | (product >= 0), -1, rng.integers(0, self._n_actions, n))
        short = rng.random(n) < 0.35
        length = np.where(short, rng.integers(20, SHORT_S, n), np.exp(rng.normal(5.9, 0.7, n)).clip(120, 3000)).astype(np.int32)
        self._quality = rng.normal(0, 1, n)
        self._german = german[channel]
        self._about = dict(thing=thing, action=action, product=product, channel=channel, event=event)
        title, description, transcript = self._write(length)
        self.items = pd.DataFrame(
            dict(
                item_id=np.arange(n),
                channel=[self._channel[c] for c in channel],
                title=title,
                description=description,
                transcript=transcript,
                language=np.where(self._german, "de", "en"),
                length_s=length,
                views=np.rint(np.exp(rng.normal(2, 1, n) + 0.5 * self._quality)).astype(np.int32),
                created_at=times(0, self._created_s),
            )
        )
        look = rng.normal(0, 1, (n_things + len(VOCABULARY) * self._n_actions + 1, VISUAL)).astype(np.float32)
        deed = np.where(action >= 0, n_things + self._domain_of[thing] * self._n_actions + action, -1)
        self.frames = (look[thing] + 0.6 * look[deed] + rng.normal(0, 0.8, (n, VISUAL))).astype(np.float32)
        self._draw_queries()
        rng = generator(self.seed, _USERS)
        self._user_german = rng.random(r.n_users) < r.second_language
        language = np.where(self._user_german, "de", "en")
        self.users = pd.DataFrame(dict(user_id=np.arange(r.n_users), language=language, created_at=times(-rng.integers(1, 900, r.n_users))))
        self._activity = rng.lognormal(0, 0.8, r.n_users)
        self.metrics = {
            "clicks_per_request": OnlineMetric("click", per="request"),
            "long_watches_per_request": OnlineMetric("long_watch", per="request"),
            "watch_minutes_per_request": OnlineMetric("watch_s", per="request", scale=1 / 60),
            "reformulations_per_request": OnlineMetric("reformulated", per="request", higher_is_better=False),
        }

    def _draw_things(self, rng: np.random.Generator, n: int, domain: np.ndarray | None = None) -> np.ndarray:
        """n things by their appeal, of the given domains where they are given."""
        score = np.log(np.maximum(self._appeal, 1e-12)) - np.log(-np.log(rng.random((n, len(self._appeal))) + 1e-12) + 1e-12)
        if domain is not None:
            score = np.where(self._domain_of == domain[:, None], score, -50)
        return ranking(score, 1)[:, 0]

    def _draw_events(self, names: list[str]) -> None:
        """When each event begins, and what it is called in either language."""
        r, rng = self.rules, generator(self.seed, _EVENTS)
        days = np.linspace(2, r.horizon_days - 1, r.n_events).astype(np.int64)
        self._event_s = days * 86400 + rng.integers(6 * 3600, 18 * 3600, r.n_events)
        kind = rng.integers(0, len(EVENTS), r.n_events)
        self._event = [[f"{name} {EVENTS[k][side]}" for side in (0, 1)] for name, k in zip(names, kind, strict=True)]

    def _word(self, kind: str, concept: int, german: bool, u: float) -> str:
        words = (self._thing if kind == "t" else self._action)[concept][int(german)]
        s = self.rules.synonyms
        return words[0] if u >= s else words[int(u / s * len(words))]

    def _write(self, length: np.ndarray) -> tuple[list[str], list[str], list[str]]:
        """Title, description and transcript of each video. Each has draws of its own, so that one rule changes no other draw."""
        r, titles, descriptions, transcripts = self.rules, [], [], []
        head = np.argsort(-self._appeal, kind="stable")[:12]
        draws = generator(self.seed, _WORDS).random((len(length), 160))
        for i, u in enumerate(draws):
            de, about = bool(self._german[i]), {name: int(ids[i]) for name, ids in self._about.items()}
            language = LANGUAGES[de]
            t = a = e = ""
            if about["thing"] >= 0:
                t = self._word("t", about["thing"], de, u[0])
                other = self._word("t", about["thing"], de, u[1])
            if about["action"] >= 0:
                deed = self._domain_of[about["thing"]] * self._n_actions + about["action"]
                a = self._word("a", deed, de, u[2])
            form = TITLES
            if about["event"] >= 0:
                e, form, other = self._event[about["event"]][de], NEWS, ""
            elif about["product"] >= 0:
                e, form = self._product[about["product"]], REVIEWS
            forms = form[language]
            title = forms[int(u[3] * len(forms))].format(a=a, t=t, e=e, n=2 + int(u[4] * 9))
            lies = [self._thing[head[int(x * len(head))]][de][0] for x in u[5:7]]
            titles.append(title + (f" | {lies[0]} {lies[1]}" if u[7] < r.title_stuffing else ""))
            name = self._channel[about["channel"]]
            # a speaker keeps to their word, and says the other one now and then
            say = [f"{name}:", "folge" if de else "episode", e or a, t if u[8] > 0.15 else other]
            descriptions.append(" ".join(word for word in say if word))
            topic = [a, t, a, t, t if u[9] > 0.3 else other, *([e, e] if e else []), name]
            domain = self._domain_of[about["thing"]] if about["thing"] >= 0 else int(u[10] * len(VOCABULARY))
            aside = np.flatnonzero((self._domain_of == domain) & ~self._absent)
            topic.append(self._thing[aside[int(u[11] * len(aside))]][de][0])
            names = {*e.split(), *name.split()}
            spoken = [w for phrase in topic for w in phrase.split()]
            filler = FILLER[language]
            spoken += [filler[int(x * len(filler))] for x in u[20 : 20 + 12 + int(u[12] * 12)]]
            heard = [
                filler[int(x * 997) % len(filler)] if x < r.asr_errors * (3 if w in names else 1) else w
                for w, x in zip(spoken, u[60:160], strict=False)
            ]
            there = self._created_s[i] < r.transcripts_until * 86400
            transcripts.append(" ".join(heard[j] for j in np.argsort(u[100 : 100 + len(heard)], kind="stable")) if there else "")
        return titles, descriptions, transcripts

    # ---------- queries ----------

    def _draw_queries(self) -> None:
        r, rng = self.rules, generator(self.seed, _QUERIES)
        n = r.n_queries
        intent = rng.choice(len(INTENTS), n, p=np.array(SHARES) / sum(SHARES))
        german = rng.random(n) < r.second_language
        product, channel = rng.integers(0, r.n_products, n), rng.integers(0, r.n_channels, n)
        thing, u = self._draw_things(rng, n), rng.random((n, 6))
        absent = np.flatnonzero(self._absent)
        thing = np.where(intent == 5, absent[rng.integers(0, max(len(absent), 1), n)] if len(absent) else thing, thing)
        thing = np.where(intent == 1, self._product_thing[product], thing)
        action = rng.integers(0, self._n_actions, n)
        text = [self._query_text(*row) for row in zip(intent, german, product, channel, thing, action, u, strict=True)]
        event = np.repeat(np.arange(r.n_events), 2)  # one query an event and language
        text += [self._event[e][side] for e, side in zip(event, np.arange(2 * r.n_events) % 2, strict=True)]
        german = np.append(german, np.arange(2 * r.n_events) % 2 == 1)
        pad = np.full(2 * r.n_events, -1)
        what = dict(intent=np.append(intent, pad + 5), thing=np.append(thing, pad), action=np.append(action, pad))
        what |= dict(product=np.append(product, pad), channel=np.append(channel, pad), event=np.append(np.full(n, -1), event))
        # the same words are the same query: the first one stays
        first = pd.Series(text).duplicated().to_numpy()
        keep = ~first | (what["event"] >= 0)
        self._asked = {name: values[keep] for name, values in what.items()} | dict(german=german[keep])
        names = np.array(INTENTS)[self._asked["intent"]]
        self.queries = pd.DataFrame(
            dict(
                query_id=np.arange(keep.sum()),
                text=np.array(text, object)[keep],
                language=np.where(german[keep], "de", "en"),
                intent=pd.Categorical(names, INTENTS),
            )
        )
        common = np.flatnonzero(self._asked["event"] < 0)
        self._popular = np.zeros(len(self.queries))
        self._popular[common] = (1 + rng.permutation(len(common))) ** -r.zipf

    def _query_text(self, intent: int, german: bool, product: int, channel: int, thing: int, action: int, u: np.ndarray) -> str:
        side = bool(german)
        t, e = self._word("t", thing, side, u[0]), self._product[product]
        if intent == 0:
            return self._channel[channel] if u[1] < 0.6 else f"{self._channel[channel]} {t}"
        a = self._word("a", self._domain_of[thing] * self._n_actions + action, side, u[2])
        forms = QUERIES[LANGUAGES[side]][{1: "entity", 3: "vague"}.get(intent, "how-to")]
        return forms[int(u[3] * len(forms))].format(a=a, t=t, e=e)

    @functools.cached_property
    def _grades(self) -> np.ndarray:
        """Grade of every query and video, int8 (n_queries, n_items)."""
        v, domain = self._about, np.append(self._domain_of, -1)  # of an event: none
        grades = np.zeros((len(self.queries), len(self.items)), np.int8)
        for i, intent in enumerate(INTENTS):
            rows = np.flatnonzero(self._asked["intent"] == i)
            q = {name: values[rows, None] for name, values in self._asked.items()}
            thing = q["thing"] == v["thing"]
            if intent == "navigational":
                grade = 3 * (q["channel"] == v["channel"])
            elif intent == "entity":
                grade = np.where(q["product"] == v["product"], 3, 1 * thing)
            elif intent == "how-to":
                grade = np.where(thing & (q["action"] == v["action"]), 3, 1 * thing)
            elif intent == "vague":
                grade = np.where(thing, 3, 1 * ((domain[q["thing"]] == domain[v["thing"]]) & (v["event"] < 0)))
            elif intent == "fresh":
                grade = 3 * (q["event"] == v["event"])
            else:
                continue
            other = (q["german"] != self._german) & (intent != "navigational")
            grades[rows] = np.maximum(grade - other * self.rules.language_gap, 0).round()
        return grades

    def grades(self, query_ids: np.ndarray, item_ids: np.ndarray | None = None) -> np.ndarray:
        """What a patient judge would answer, 0 (off) to 3 (what was meant), int8 (n_queries, n_items). For evaluation, never a feature.

        Every video is graded, whether it is there yet or not. item_ids: default all.
        """
        rows = self._grades[np.asarray(query_ids)]
        return rows if item_ids is None else rows[:, np.asarray(item_ids)]

    # ---------- words: production's index ----------

    def _bags(self, texts: pd.Series) -> csr_matrix:
        """Which word of the vocabulary of the queries stands in which text: 0 or 1, (n_texts, n_words)."""
        rows = [sorted({self._place[w] for w in words_of(text) if w in self._place}) for text in texts]
        ends = np.cumsum([0, *map(len, rows)])
        return csr_matrix((np.ones(ends[-1], np.int64), np.concatenate([*rows, []]).astype(np.int64), ends), (len(rows), len(self._place)))

    @functools.cached_property
    def _place(self) -> dict[str, int]:
        words = {w for text in self.queries.text for w in words_of(text)}
        return {w: i for i, w in enumerate(sorted(words - {"how", "to", "wie", "at", "home", "for"}))}

    @functools.cached_property
    def _overlap(self) -> np.ndarray:
        """Whole-number weight of the words that query and video share, int32 (n_queries, n_items): rare words weigh more."""
        text = self.items.title + " " + self.items.description + " " + self.items.transcript
        asked, written = self._bags(self.queries.text), self._bags(text)
        rarity = np.rint(100 * np.log(len(text) / (1 + np.asarray(written.sum(axis=0)).ravel()))).clip(1).astype(np.int64)
        return (asked.multiply(rarity).tocsr() @ written.T).astype(np.int32).toarray()

    @functools.cached_property
    def _in_title(self) -> np.ndarray:
        """Share of a query's words that stand in a title, (n_queries, n_items)."""
        asked = self._bags(self.queries.text)
        return (asked @ self._bags(self.items.title).T).toarray() / np.maximum(np.asarray(asked.sum(axis=1)), 1)

    # ---------- truth ----------

    def _parts(self, rows: pd.DataFrame) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
        """Of each row: P(looked at), P(answered by the preview | looked at), P(click | looked at), P(content | clicked)."""
        r, query, item = self.rules, rows.query_id.to_numpy(), rows.item_id.to_numpy()
        grade = self._grades[query, item]
        looks_right = (1 - r.title_draws) * grade / 3 + r.title_draws * self._in_title[query, item]
        brief = (grade == 3) & (self._asked["intent"][query] == 2) & (self.items.length_s.to_numpy()[item] < SHORT_S)
        answered = r.good_abandonment * brief
        click = (1 - answered) * expit(-3.2 + r.relevance_pull * looks_right)
        content = expit(-2.2 + 1.5 * grade + r.quality_spread * self._quality[item])
        return np.broadcast_to(examined(rows, r.position_bias), len(rows)), answered, click, content

    def _watch_means(self, item: np.ndarray) -> tuple[np.ndarray, np.ndarray, float]:
        """Length, and mean seconds that who is content and who is not would watch, if the video did not end."""
        length = self.items.length_s.to_numpy()[item].astype(float)
        return length, 250 * (length / 300) ** self.rules.length_pull, 12.0

    def _probability(self, rows: pd.DataFrame, outcome: str) -> np.ndarray:
        looked, _, click, content = self._parts(rows)
        if outcome == "click":
            return looked * click
        length, glad, not_glad = self._watch_means(rows.item_id.to_numpy())
        long = content * np.exp(-LONG_WATCH_S / glad) + (1 - content) * np.exp(-LONG_WATCH_S / not_glad)
        return looked * click * long * (length >= LONG_WATCH_S)

    def satisfaction(self, rows: pd.DataFrame) -> np.ndarray:
        """P(this row contents the user, by its preview or by a click | everything), shape (n,). For evaluation, never a feature.

        A request is satisfied with probability 1 - product of (1 - this) over its rows.
        """
        looked, answered, click, content = self._parts(rows)
        return looked * (answered + click * content)

    # ---------- requests ----------

    def requests(self, days: int, start: int = 0) -> pd.DataFrame:
        """The requests of `days` days: request_id, time, day, user_id, query_id. The same whatever policy serves."""
        self._check_days(days, start)
        return pd.concat([self._requests(day) for day in range(start, start + days)], ignore_index=True)

    def _requests(self, day: int) -> pd.DataFrame:
        r, rng = self.rules, generator(self.seed, _REQUESTS, day)
        n = r.requests_per_day
        user = rng.choice(r.n_users, n, p=self._activity / self._activity.sum())
        second = np.rint(np.sort(np.clip(rng.normal(15, 5, n), 0, 23.99)) * 3600).astype(np.int64)
        speaks, u = self._user_german[user], rng.random((n, 3))
        query = np.zeros(n, np.int64)
        for german in (False, True):  # people ask in their own language, popular queries first
            weight = np.cumsum(np.where(self._asked["german"] == german, self._popular, 0))
            if weight[-1]:
                drawn = np.searchsorted(weight, u[:, 0] * weight[-1], side="right")
                query = np.where(speaks == german, drawn, query)
        age = (day * 86400 + second[:, None] - self._event_s) / 86400
        interest = np.cumsum(np.where(age >= 0, r.burst * 0.5 ** (np.maximum(age, 0) / BURST_DAYS), 0), axis=1)
        event = (u[:, 1:2] >= interest).sum(axis=1)
        of_event = len(self.queries) - 2 * r.n_events + 2 * np.minimum(event, r.n_events - 1) + speaks
        query = np.where(event < r.n_events, of_event, query)
        ids = dict(request_id=day * n + np.arange(n), time=times(day, second), day=np.full(n, day, np.int32))
        return pd.DataFrame(ids | dict(user_id=user, query_id=query))

    # ---------- serving ----------

    def with_retrieval(self, retrieve: Callable[[pd.DataFrame], np.ndarray]) -> Self:
        """This world, past included, with other candidates from here on.

        retrieve: requests (request_id, time, day, user_id, query_id) -> item ids, whole numbers (n_requests, k), k at least 3, each row
        without repeats. Raises WorldError while serving for other shapes, unknown ids, repeats, or videos that are not uploaded yet.
        """
        self._grades, self._overlap, self._in_title  # once, for both  # noqa: B018
        other = copy.copy(self)  # of one past
        other._retrieve = retrieve
        return other

    def recalled(self, requests: pd.DataFrame, k: int = RECALLED, lag_hours: float | None = None) -> np.ndarray:
        """Production's candidates: item ids (n_requests, k), most and rarest shared words first, then popular ones.

        lag_hours: of the index; default `ClipRules.index_lag`.
        """
        lag = self.rules.index_lag if lag_hours is None else lag_hours
        seconds = (requests.time.to_numpy() - np.datetime64(self.start, "us")).astype("timedelta64[s]").astype(np.int64)
        until = seconds if lag == 0 else seconds // int(lag * 3600) * int(lag * 3600)
        popularity = np.argsort(np.argsort(self.items.views.to_numpy(), kind="stable"), kind="stable")
        score = self._overlap[requests.query_id.to_numpy()].astype(np.int64) * len(self.items) + popularity
        indexed = self._created_s <= until[:, None]
        return ranking(np.where(indexed, score, -1.0), min(k, int(indexed.sum(axis=1).min())))

    def _checked(self, found: np.ndarray, requests: pd.DataFrame) -> np.ndarray:
        found = np.asarray(found)
        whole = found.ndim == 2 and len(found) == len(requests) and found.shape[1] >= 3 and np.issubdtype(found.dtype, np.integer)
        if not whole:
            raise WorldError(f"retrieve: expected whole numbers ({len(requests)}, at least 3), found {found.dtype} {found.shape}")
        if found.min() < 0 or found.max() >= len(self.items):
            raise WorldError(f"retrieve: expected item ids from 0 to {len(self.items) - 1}, found {found.min()} to {found.max()}")
        if (np.diff(np.sort(found, axis=1), axis=1) == 0).any():
            raise WorldError("retrieve: expected each video once in the candidates of a request, found repeats")
        if (self.items.created_at.to_numpy()[found] > requests.time.to_numpy()[:, None]).any():
            raise WorldError("retrieve: expected videos that exist when they are asked for, found some that are uploaded later")
        return found

    def _serve_day(self, policy: Policy, day: int, state: None) -> pd.DataFrame:
        r, requests = self.rules, self._requests(day)
        found = self.recalled(requests) if self._retrieve is None else self._checked(self._retrieve(requests), requests)
        n, k = len(requests), min(SLOTS, found.shape[1])
        created = self.items.created_at.to_numpy()

        def rows(item: np.ndarray) -> pd.DataFrame:
            of, item = np.repeat(np.arange(n), item.shape[1]), item.ravel()
            columns = {name: requests[name].array[of] for name in ("request_id", "time", "day", "user_id")}
            query = requests.query_id.to_numpy()[of]
            age = (columns["time"] - created[item]) / np.timedelta64(1, "D")
            more = dict(query_id=query, term_overlap=self._overlap[query, item].astype(np.int32), age_days=np.asarray(age).astype(np.int16))
            return pd.DataFrame(columns | dict(item_id=item) | more)

        best = ranking(scores_of(policy, rows(found)).reshape(n, -1), k)
        rng = generator(self.seed, _CLICKS, day)
        randomised = happens(rng.random(n), r.exploration)
        order = np.where(randomised[:, None], ranking(rng.random((n, k))), np.arange(k))
        item = np.take_along_axis(found, np.take_along_axis(best, order, axis=1), axis=1)
        propensity = (1 - r.exploration) * (order == np.arange(k)) + r.exploration / k
        position = np.tile(np.arange(1, k + 1), n)
        log = shown(rows(item), position, propensity.ravel(), np.repeat(randomised, k))
        return self._outcomes(log, rng, n, k)

    def _outcomes(self, log: pd.DataFrame, rng: np.random.Generator, n: int, k: int) -> pd.DataFrame:
        """What users do. One draw a request and video, whoever ranks."""
        item = log.item_id.to_numpy()
        luck = [np.take_along_axis(rng.random((n, len(self.items))), item.reshape(n, k), axis=1).ravel() for _ in range(3)]
        looked, answered, click, content = self._parts(log)
        clicked = happens(luck[0], looked * click)
        read = ~clicked & (luck[0] >= 1 - looked * answered)  # the other end of the same draw: never both
        glad = happens(luck[1], content)
        length, mean_glad, mean_not = self._watch_means(item)
        watch = np.minimum(length, -np.log1p(-luck[2]) * np.where(glad, mean_glad, mean_not))
        log["click"] = clicked.astype(np.int8)
        log["long_watch"] = (clicked & (length >= LONG_WATCH_S) & (np.round(watch, 6) >= LONG_WATCH_S)).astype(np.int8)
        log["watch_s"] = np.where(clicked, np.floor(np.round(watch, 6)), 0).astype(np.int16)
        satisfied = (read | (clicked & glad)).reshape(n, k).any(axis=1)
        again = happens(rng.random(n), np.where(satisfied, 0.04, 0.45))
        log["reformulated"] = (np.repeat(again, k) & (log.position.to_numpy() == 1)).astype(np.int8)
        return log

    # ---------- policies the world brings ----------

    def oracle(self, candidates: pd.DataFrame) -> np.ndarray:
        """The policy that knows the truth: rank by the chance to content."""
        return self.satisfaction(candidates.drop(columns="position", errors="ignore"))

    def _incumbent(self, candidates: pd.DataFrame) -> np.ndarray:
        """Shared words, rare ones weighing more; of equal ones the more viewed."""
        views = self.items.views.to_numpy()[candidates.item_id.to_numpy()]
        return candidates.term_overlap.to_numpy() + 1e-6 * np.minimum(views, 10**5)


def _concepts() -> tuple[list, list, np.ndarray]:
    """Things and actions as (English words, German words), and the domain of each thing."""

    def read(text: str) -> tuple[list[str], ...]:
        return tuple(side.split("|") for side in text.split("="))

    things = [[read(t) for t in things.split(";")] for things, _ in VOCABULARY.values()]
    actions = [read(a) for _, actions in VOCABULARY.values() for a in actions]
    return sum(things, []), actions, np.repeat(np.arange(len(things)), [len(t) for t in things])


def _names(rng: np.random.Generator, n: int) -> list[str]:
    """n invented names, all different."""
    first, second = _SOUNDS
    u, names = rng.random((20 * n, 3)), {}
    for x, y, z in u:
        names.setdefault(first[int(x * len(first))] + second[int(y * len(second))] + (first[int(z * len(first))] if z < 0.4 else ""), None)
    return list(names)[:n]
