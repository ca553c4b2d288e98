"""The JSON of the API: what bodies and queries may hold, and what rows look like when they are shown."""

from __future__ import annotations

from datetime import datetime
from typing import Annotated, Any

from pydantic import AfterValidator, AliasChoices, BaseModel, ConfigDict, Field

from app.domain.accesses import MAX_KEY_BYTES
from app.domain.states import JobState

MAX_ID = 2**63 - 1
Json = dict[str, Any]


def check_key(key: str) -> str:
    """An object's key: 1 to 1,024 bytes of UTF-8."""
    if not 0 < len(key.encode()) <= MAX_KEY_BYTES:
        raise ValueError(f"a key has 1 to {MAX_KEY_BYTES} bytes of UTF-8")
    return key


Key = Annotated[str, AfterValidator(check_key), Field(json_schema_extra={"minLength": 1, "maxLength": MAX_KEY_BYTES})]
Name = Annotated[str, Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]{0,62}$")]


class In(BaseModel):
    """Something that is sent: a field that is not known is an error."""

    model_config = ConfigDict(extra="forbid")


class Out(BaseModel):
    """Something that is shown, read from a row."""

    model_config = ConfigDict(from_attributes=True)


class Nothing(In):
    """An empty object."""


class Page(BaseModel):
    """A page of a list."""

    items: list[Json]
    next_cursor: str | None = Field(description="Where the next page begins; null on the last.")


class KeyQuery(In):
    """Which object."""

    key: Key


class JobOut(Out):
    """What was submitted and is polled."""

    id: int
    kind: str
    queue: str
    state: JobState
    reason: str | None
    progress: Json
    result: Json | None
    problem: Json | None = Field(None, validation_alias=AliasChoices("error", "problem"))
    args: Json
    priority: int
    attempts: int
    parent_id: int | None
    created_by: str | None
    request_id: str | None
    created_at: datetime | None
    started_at: datetime | None
    finished_at: datetime | None
    next_attempt_at: datetime | None
