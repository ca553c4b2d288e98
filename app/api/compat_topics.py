"""Source 003's routes of its event streaming at the root: thin aliases of /v1/events with its names of topics."""

from __future__ import annotations

from typing import Any

import msgspec
from pydantic import Field

from app.api import topics
from app.api.router import Router
from app.api.schemas import In, Json
from app.domain.roles import Role
from app.domain.topics import TopicName, topic_of
from app.errors import FieldError, Invalid

router = Router("sources-topics", prefix="")
PREFIX = "events."
BARE = frozenset({TopicName.FILE_ACCESS})
"""Topics that the sources name without a prefix."""
MAX_EVENTS = 1000


class PipelinePublishIn(In):
    """An event, or several, for a topic by its name with or without the prefix."""

    topic: str = Field(max_length=64, description="Such as events.analytics, or analytics.")
    event: dict[str, Any] | None = None
    events: list[dict[str, Any]] | None = Field(None, min_length=1, max_length=MAX_EVENTS)


def named(topic: TopicName) -> str:
    """The topic's name in the sources."""
    return str(topic) if topic in BARE else f"{PREFIX}{topic}"


@router.post("/pipeline/publish", Role.OPERATOR, body=PipelinePublishIn)
def pipeline_publish(body: PipelinePublishIn) -> Json:
    """Publishes an event, or several."""
    events = (body.events or []) + ([body.event] if body.event is not None else [])
    if not events:
        raise Invalid(errors=(FieldError("/event", "give an event, or a list of events"),))
    topic = topic_of(body.topic.removeprefix(PREFIX))
    reply = topics.publish(topic, b"\n".join(msgspec.json.encode(event) for event in events))
    status = "published" if not reply["rejected"] else "partial" if reply["accepted"] else "rejected"
    return {"status": status, **reply, "topic": named(topic)}


@router.get("/pipeline/topics", Role.VIEWER)
def pipeline_topics() -> Json:
    """The names of the topics."""
    names = [named(topic) for topic in TopicName]
    return {"topics": names, "count": len(names)}
