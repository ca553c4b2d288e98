"""Whether this process lives, may be sent requests, and what is degraded; its version; its numbers for Prometheus."""

from __future__ import annotations

import json
from functools import lru_cache
from typing import Any

from flask import Response
from prometheus_client import CONTENT_TYPE_LATEST

from app import kafka, queue
from app.api import exposition, waiting
from app.api.router import Router, reply
from app.auth import LOOPBACK, OPEN
from app.db import sweep, watch
from app.db.session import session_scope
from app.domain.tasks import QueueName
from app.errors import BrokerUnavailable, DatabaseUnavailable
from app.settings import PROJECT_ROOT, get_settings

router = Router("health", prefix="")


@router.get("/livez", OPEN)
def livez() -> dict[str, str]:
    """The process answers; nothing else is asked."""
    return {"status": "ok"}


@router.get("/readyz", OPEN)
def readyz() -> Response:
    """Whether requests may be sent here: 503 only for database, schema or shutdown. Degraded parts are named."""
    return _ready_reply(*readiness())


@router.get("/health", OPEN)
def health() -> Response:
    """The same as /readyz, under the name that the sources use."""
    return _ready_reply(*readiness())


@router.get("/version", OPEN)
def show_version() -> dict[str, str]:
    """Which program answers."""
    return {"name": "foretide", "version": program_version(), "environment": get_settings().environment}


@router.get("/metrics", LOOPBACK, media=CONTENT_TYPE_LATEST.partition(";")[0])
def show_metrics() -> Response:
    """Numbers for Prometheus. From this machine no token is needed."""
    return Response(exposition.text(), content_type=CONTENT_TYPE_LATEST)


def readiness() -> tuple[dict[str, Any], bool]:
    """The body of /readyz and whether the process is ready."""
    body: dict[str, Any] = {"status": "ok", "degraded": [], "components": components()}
    problem = "shutting_down" if waiting.stopping.is_set() else None
    try:
        with session_scope() as session:
            found, expected = watch.revision(session), watch.expected_revision()
            late = sweep.late_queues(session, get_settings().tick_late_s)
    except DatabaseUnavailable:
        return body | {"status": "unavailable", "reason": problem or "database"}, False
    if problem is None and found != expected:
        problem = f"schema: the database is at {found}, the program at {expected}; run ./foretide db upgrade"
    if problem:
        return body | {"status": "unavailable", "reason": problem}, False
    body["degraded"] = _broker() + _kafka() + [f"queue {name}: no worker consumes it" for name in late]
    return body | {"status": "degraded" if body["degraded"] else "ok"}, True


def _ready_reply(body: dict[str, Any], ready: bool) -> Response:
    return reply(body, 200 if ready else 503, None if ready else {"Retry-After": "1"})


def _broker() -> list[str]:
    try:
        queue.lengths([QueueName.CONTROL])
    except BrokerUnavailable:
        return ["broker: does not answer; work is accepted and rung later"]
    return []


def _kafka() -> list[str]:
    if kafka.enabled() and not kafka.answers():
        return ["kafka: does not answer; events are refused until it does"]
    return []


def components() -> list[dict[str, Any]]:
    """The parts in use and why, as demo or up told; else what the settings name."""
    settings = get_settings()
    named = [("database", settings.database_url), ("broker", settings.broker_url), ("kafka", settings.kafka_url)]
    told: list[dict[str, Any]] = json.loads(settings.components) if settings.components else []
    return told + [
        {"name": name, "mode": "external", "why": f"FORETIDE_{name.upper()}_URL is set"}
        for name, url in (named[2:] if told else named)  # what was started here tells of the first two itself
        if url
    ]


@lru_cache(maxsize=1)
def program_version() -> str:
    """The program's version, as pyproject.toml has it."""
    import tomllib

    with (PROJECT_ROOT / "pyproject.toml").open("rb") as file:
        return str(tomllib.load(file)["project"]["version"])
