"""What may be said to the service, and what it answers: the models behind /openapi.json."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import AfterValidator, BaseModel, BeforeValidator, ConfigDict, Field

MAX_BODY = 512 * 1024  # bytes; the largest valid request is smaller
MAX_CANDIDATES, MAX_QUERIES, MAX_K = 500, 32, 100


def _numbers(value: object) -> object:
    """JSON has numbers, text and booleans; 1.0 is a whole number, "1" and true are not. One call for a list, not one an id."""
    values = value if isinstance(value, list) else [value]
    if not all(type(v) in (int, float, type(None)) for v in values):
        raise ValueError("expected a number" if values is not value else "expected a list of numbers")
    return value


def _distinct(ids: list[int]) -> list[int]:
    if len(ids) != len(set(ids)):
        raise ValueError("expected distinct item ids")
    return ids


_Id = Annotated[int, Field(ge=0, le=2**53 - 1, description="exact in every JSON library")]
Id = Annotated[_Id, BeforeValidator(_numbers)]
K = Annotated[int, Field(ge=1, le=MAX_K), BeforeValidator(_numbers)]


class Strict(BaseModel):
    """Unknown fields are an error: a misspelt option must not be silently ignored."""

    model_config = ConfigDict(extra="forbid", allow_inf_nan=False)


class RankRequest(Strict):
    """Rank these candidates for this user."""

    user_id: Id
    item_ids: Annotated[
        list[_Id],
        Field(min_length=1, max_length=MAX_CANDIDATES, json_schema_extra={"uniqueItems": True}),
        BeforeValidator(_numbers),
        AfterValidator(_distinct),
    ]
    k: K = 10
    as_of: Annotated[
        float | None,
        Field(
            ge=0,
            le=4e9,
            description="Unix seconds: the clock that the features read. Rows and RSVPs are those of now, so this repeats no "
            "answer of the past: what was served then is in the log of served features. Default: now",
        ),
        BeforeValidator(_numbers),
    ] = None


class RankManyRequest(Strict):
    """Several users at once, scored in one model call; for digests and backfills."""

    requests: Annotated[list[RankRequest], Field(min_length=1, max_length=MAX_QUERIES)]


class Scored(BaseModel):
    """An item with its score; null if no model has scored it."""

    item_id: int
    score: float | None


class RankResponse(BaseModel):
    """A ranked list, best first."""

    request_id: str | None = Field(description="send it with clicks and RSVPs: it is the key of the served log; null under overload")
    user_id: int | None = Field(description="null under overload, which is answered before the request is read")
    items: list[Scored]
    source: Literal["online", "batch", "popular", "as_given"]
    model_version: str | None
    generated_at: float = Field(description="Unix seconds")
    fallback: str | None = Field(description="why this is not what was asked for; null if it is")
    unknown_items: int = Field(description="candidates left out: the store does not know them, or their rows cannot be read")


class RankManyResponse(BaseModel):
    """One ranked list a request, in the order of the requests."""

    responses: list[RankResponse]


class Event(Strict):
    """Something that a user did. Send it again under the same event_id if no answer came."""

    event_id: Annotated[str, Field(pattern="^[A-Za-z0-9_-]{1,64}$")]
    kind: Annotated[str, Field(pattern="^[a-z_]{1,32}$")]
    user_id: Id
    item_id: Id


class Accepted(BaseModel):
    """The event is on disk."""

    event_id: str


class Problem(BaseModel):
    """What was wrong, and where."""

    detail: str
    where: list[str] = []


class Health(BaseModel):
    """ready: this process can answer with a model. degraded: why it cannot do all it should."""

    ready: bool
    model_version: str | None
    list_version: str | None
    degraded: list[str]
