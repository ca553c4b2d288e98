"""Groups of consumers: a member claims a topic under a lease, commits how far it is, and gives it back (step: consume).

The ETag of a group is its fence: it changes with each claim, so a member whose lease has lapsed commits nothing more.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from datetime import datetime
from typing import Literal

from flask import Response
from pydantic import Field
from sqlalchemy.orm import Session

from app.api.audit import record
from app.api.etags import etag, expected_version
from app.api.router import Router, reply
from app.api.schemas import MAX_ID, In, Json, Name, Out
from app.db import dead_letters, topic_groups, topics
from app.db.session import session_scope
from app.db.tables import TopicGroup
from app.db.topic_groups import Claim, Standing
from app.domain.roles import Role
from app.domain.topics import INTAKE, WORKERS, TopicName, topic_of
from app.errors import Conflict, FieldError, Invalid, LeaseLost, PreconditionFailed, PreconditionRequired

router = Router("events-groups")


class GroupOut(Out):
    """How far a group has handled a topic."""

    name: str
    topic: str
    partition: int
    position: int = Field(description="The offset of the next event to be handled.")
    end_offset: int | None
    lag: int | None = Field(description="Events that are not handled yet.")
    member: str | None
    lease_until: datetime | None
    fence: int
    attempts: int = Field(description="Failures since the position last moved.")
    error: Json | None
    next_attempt_at: datetime
    handled: int
    skipped: int = Field(description="Events that retention removed before they were handled.")
    dead: int = Field(description="Dead letters that wait for a person.")
    retry: int = Field(description="Dead letters to be handled once more.")
    updated_at: datetime


class ClaimIn(In):
    """Who claims, for how long, and where a group that is new begins."""

    member: Name
    lease_s: float = Field(30.0, ge=1, le=3600)
    begin: Literal["earliest", "latest"] = "earliest"


class PositionIn(In):
    """How far the events are handled."""

    position: int = Field(ge=0, le=MAX_ID, description="The offset after the last event that was handled.")
    lease_s: float = Field(30.0, ge=1, le=3600, description="The lease is prolonged by it.")


class LetterIn(In):
    """An event that the member could not handle."""

    offset: int = Field(ge=0, le=MAX_ID)
    type: str = Field("unexpected-error", max_length=200)
    detail: str = Field(max_length=10_000)


COUNTED = (
    "name", "topic", "partition", "position", "member", "lease_until", "fence", "attempts", "error", "next_attempt_at",
    "handled", "skipped", "updated_at",
)  # fmt: skip


def shown(standings: Iterable[Standing], letters: Mapping[tuple[str, str, str], int]) -> list[GroupOut]:
    """Groups as they are shown. letters: how many dead letters there are by group, topic and state."""
    return [
        GroupOut(
            **{name: getattr(each.group, name) for name in COUNTED},
            end_offset=each.end_offset,
            lag=each.lag,
            dead=letters.get((each.group.name, each.group.topic, "dead"), 0),
            retry=letters.get((each.group.name, each.group.topic, "retry"), 0),
        )
        for each in standings
    ]


@router.get("/events/<name:topic>/groups/<name:group>", Role.VIEWER, answer=GroupOut)
def get_group(topic: str, group: str) -> Response:
    """How far a group has handled a topic, who is at it, and how many of its events are dead."""
    with session_scope() as session:
        return _reply(session, topic_groups.get(session, group, topic_of(topic)))


@router.post(
    "/events/<name:topic>/groups/<name:group>:claim", Role.OPERATOR, body=ClaimIn, answer=GroupOut, limited=False
)
def claim_group(topic: str, group: str, body: ClaimIn) -> Response:
    """Gives a member the topic's events to handle, until its lease lapses; 409 while another member has them."""
    name = _others(topic, group)
    with session_scope() as session:
        begin = topics.get(session, name).next_offset if body.begin == "latest" else None
        taken = topic_groups.claim(session, group, name, body.member, body.lease_s, begin=begin)
        if taken is None:
            raise Conflict(f"another member of group {group} is at topic {topic}", reason="held")
        row, lost = taken
        if lost:
            row.attempts += 1
        return _reply(session, row)


@router.put("/events/<name:topic>/groups/<name:group>", Role.OPERATOR, body=PositionIn, answer=GroupOut, limited=False)
def commit_position(topic: str, group: str, body: PositionIn) -> Response:
    """Notes how far the member is that has claimed the topic, and prolongs its lease. If-Match names the claim."""
    claim = _claim(topic, group)
    with session_scope() as session:
        row = _held(session, claim)
        log = topics.get(session, claim.topic)
        if body.position > log.next_offset:
            raise Invalid(errors=(FieldError("/position", f"topic {topic} ends at offset {log.next_offset}"),))
        if row.position < log.first_offset <= body.position:
            topic_groups.skip(row, log.first_offset)
        handled = max(0, body.position - row.position)
        topic_groups.advance(row, body.position, body.lease_s, handled=handled)
        session.flush()
        session.refresh(row)
        return _reply(session, row)


@router.post("/events/<name:topic>/groups/<name:group>:release", Role.OPERATOR, status=204, limited=False)
def release_group(topic: str, group: str) -> None:
    """Gives a claim back, so that another member need not wait for its end. If-Match names the claim."""
    claim = _claim(topic, group)
    with session_scope() as session:
        _held(session, claim)
        topic_groups.release(session, claim)


@router.route("DELETE", "/events/<name:topic>/groups/<name:group>", Role.OPERATOR, status=204)
def remove_group(topic: str, group: str) -> None:
    """Forgets a group that no member is at; its dead letters stay."""
    name = _others(topic, group)
    with session_scope() as session:
        topic_groups.remove(session, group, name)
        record(session, "events.group.remove", f"{group} {topic}")


@router.post(
    "/events/<name:topic>/groups/<name:group>/dead-letters", Role.OPERATOR, body=LetterIn, status=204, limited=False
)
def bury_event(topic: str, group: str, body: LetterIn) -> None:
    """Keeps an event that the member could not handle, with why. If-Match names the claim."""
    claim = _claim(topic, group)
    with session_scope() as session:
        _held(session, claim)
        chunks = topics.read(session, claim.topic, body.offset, 1, 1)
        if not chunks:
            raise Invalid(errors=(FieldError("/offset", f"topic {topic} has no event {body.offset}"),))
        error = {"type": body.type, "detail": body.detail}
        dead_letters.put(session, group, claim.topic, [(body.offset, chunks[0].lines[0], error)])


def _others(topic: str, group: str) -> TopicName:
    """The topic of a group that is not the workers' own."""
    name = topic_of(topic)
    if group in WORKERS or group == INTAKE:
        raise Conflict(f"group {group} is the workers' own", reason="reserved")
    return name


def _claim(topic: str, group: str) -> Claim:
    """The claim that If-Match names."""
    name, fence = _others(topic, group), expected_version(required=True)
    if fence is None:
        raise PreconditionRequired("name the claim: If-Match with the ETag of :claim")
    return Claim(group, name, fence)


def _held(session: Session, claim: Claim) -> TopicGroup:
    try:
        return topic_groups.hold(session, claim)
    except LeaseLost:
        raise PreconditionFailed(f"another member of group {claim.name} has taken topic {claim.topic}") from None


def _reply(session: Session, row: TopicGroup) -> Response:
    end = topics.get(session, TopicName(row.topic)).next_offset
    standing = Standing(row, end if row.end_offset is None else row.end_offset)
    return reply(shown([standing], dead_letters.counts(session, row.name, row.topic))[0], headers=etag(row.fence))
