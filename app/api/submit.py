"""The one way to start work: the job is committed, then rung; a request sent twice with one key starts it once."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from dataclasses import dataclass

from flask import Response, request
from pydantic_core import to_json, to_jsonable_python
from sqlalchemy.orm import Session

from app import auth, queue
from app.api import security
from app.api.router import reply
from app.api.schemas import JobOut
from app.db import idempotency, jobs
from app.db.jobs import Bell
from app.db.session import session_scope
from app.db.tables import Job, Json
from app.domain.tasks import TaskName
from app.errors import BadRequest
from app.settings import get_settings

RETRY_AFTER_S = "1"
MAX_KEY = 255


@dataclass(frozen=True)
class Started:
    """What a request started: its job and, where the reply is not the job, the reply's body, status and location."""

    job: Job
    body: object = None
    status: int = 202
    location: str | None = None


def job(session: Session, kind: TaskName, args: Json | None = None, *, priority: int = 4) -> Job:
    """Adds a job in the name of the request. Raises Overloaded when its queue is full."""
    return jobs.submit(
        session,
        kind,
        args,
        priority=priority,
        actor=auth.identity().name,
        request_id=security.request_id(),
        limit=get_settings().queue_limit,
    )


def start(kind: TaskName, args: Json | None = None, *, priority: int = 4) -> Response:
    """Starts one job and answers 202 with it."""
    return start_with(lambda session: Started(job(session, kind, args, priority=priority)))


def start_with(begin: Callable[[Session], Started], *, sent: object = None) -> Response:
    """Calls `begin` in the transaction that commits its job, rings after it, and answers.

    With an Idempotency-Key the reply is stored in that same transaction, and given again for the same request.
    sent: what stands for the body of a request that was read already.
    """
    key = idempotency_key()
    sha256 = _request_sha256(sent) if key else ""
    token_id = auth.identity().token_id
    with session_scope() as session:
        stored = idempotency.begin(session, token_id, key, sha256) if key else None
        if stored:
            return _response(stored.body, stored.status or 202, stored.location or "")
        started = begin(session)
        body = to_jsonable_python(started.body or JobOut.model_validate(started.job))
        location = started.location or f"/v1/jobs/{started.job.id}"
        if key:
            idempotency.finish(session, token_id, key, sha256, started.status, body, location)
        bell = jobs.bell(started.job)
    ring(bell)
    return _response(body, started.status, location)


def once(sent: str, act: Callable[[Session], Json]) -> Response:
    """Calls `act` in one transaction and answers 200 with what it returns; with an Idempotency-Key only the first time.

    sent: what stands for the body of the request.
    """
    key = idempotency_key()
    sha256 = _request_sha256(sent) if key else ""
    token_id = auth.identity().token_id
    with session_scope() as session:
        stored = idempotency.begin(session, token_id, key, sha256) if key else None
        if stored:
            return reply(stored.body)
        body = act(session)
        if key:
            idempotency.finish(session, token_id, key, sha256, 200, body, "")
    return reply(body)


def ring(bell: Bell) -> None:
    """Rings for committed work; what does not reach the broker is rung by the sweep."""
    if not queue.ring(bell.kind, bell.job_id, bell.priority):
        with session_scope() as session:
            jobs.not_rung(session, bell.job_id)


def idempotency_key() -> str | None:
    """The request's Idempotency-Key. Raises BadRequest."""
    key = request.headers.get("Idempotency-Key")
    if key is not None and not (0 < len(key) <= MAX_KEY and key.isascii() and key.isprintable()):
        raise BadRequest(f"an Idempotency-Key has 1 to {MAX_KEY} printable ASCII characters")
    return key


def _request_sha256(sent: object) -> str:
    body = sent or (security.parse_json(request.get_data()) if request.get_data() else None)
    asked = [request.method, request.path, sorted(request.args.items(multi=True)), body]
    return hashlib.sha256(to_json(_sorted(asked))).hexdigest()


def _sorted(value: object) -> object:
    """The value with every object's fields in order: the same body, however it was written."""
    if isinstance(value, dict):
        return {name: _sorted(value[name]) for name in sorted(value)}
    return [_sorted(inner) for inner in value] if isinstance(value, list | tuple) else value


def _response(body: object, status: int, location: str) -> Response:
    return reply(body, status, {"Location": location, "Retry-After": RETRY_AFTER_S})
