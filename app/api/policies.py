"""Policies and the mode: documents with versions; a change may name the version that it was made from."""

from __future__ import annotations

from typing import Any

from flask import Response
from pydantic import Field, RootModel

from app import auth
from app.api import security, submit
from app.api.etags import etag, expected_version
from app.api.router import Router, reply
from app.api.schemas import MAX_ID, In, JobOut, Json, Page
from app.db import policies
from app.db.session import session_scope
from app.db.tables import Policy
from app.domain.documents import differences
from app.domain.policy_documents import validate
from app.domain.roles import Role
from app.domain.states import Mode
from app.domain.tasks import TaskName

router = Router("policies")


class Document(RootModel[Json]):
    """A policy's document; its fields depend on the policy, and each wrong one is named."""


class ModeIn(In):
    """The mode to set."""

    mode: Mode
    reason: str = Field("", max_length=500, description="Needed for paused.")


class DiffQuery(In):
    """Which two versions; the newest and the one before it if they are left out."""

    old: int | None = Field(None, alias="from", ge=0, le=MAX_ID)
    new: int | None = Field(None, alias="to", ge=0, le=MAX_ID)


@router.get("/policies", Role.VIEWER, answer=Page)
def list_policies() -> dict[str, Any]:
    """Every policy that was written, with its version."""
    with session_scope() as session:
        found = policies.load(session)
    items = [
        {"name": name, "version": found.versions[name], "document": found.document(name)} for name in found.versions
    ]
    return {"items": items, "next_cursor": None}


@router.get("/policies/<name:name>", Role.VIEWER)
def get_policy(name: str) -> Response:
    """The document in force; empty while the defaults hold."""
    validate(name, {})
    with session_scope() as session:
        found = policies.load(session)
    return reply(found.document(name), headers=etag(found.versions.get(name, 0)))


@router.put("/policies/<name:name>", Role.ADMIN, body=Document)
def put_policy(name: str, body: Document) -> Response:
    """Writes the next version."""
    with session_scope() as session:
        row = policies.put(
            session,
            name,
            body.root,
            actor=auth.identity().name,
            expected=expected_version(),
            request_id=security.request_id(),
        )
        return reply(row.document, headers=etag(row.version))


@router.post("/policies/<name:name>:preview", Role.OPERATOR, body=Document, answer=JobOut, status=202, starts_work=True)
def preview_policy(name: str, body: Document) -> Response:
    """Starts to tell what a document would change if it were put; nothing is written.

    The job's result is that of /v1/what-if: the objects that other rules would hold for, those that could no longer be
    placed, moves and money by prefix, with examples.
    """
    validate(name, body.root)
    return submit.start(TaskName.WHAT_IF, {"policies": {name: body.root}})


@router.get("/policies/<name:name>/diff", Role.VIEWER, query=DiffQuery)
def get_diff(name: str, query: DiffQuery) -> Json:
    """What differs between two versions, field by field: pointer, old and new value; version 0 is the defaults."""
    with session_scope() as session:
        older, newer = policies.two_versions(session, name, query.old, query.new)
    changes = differences(older[1], newer[1])
    return {"name": name, "from": older[0], "to": newer[0], "changes": [vars(change) for change in changes]}


@router.get("/policies/<name:name>/versions", Role.VIEWER, answer=Page)
def list_versions(name: str) -> dict[str, Any]:
    """Every version, the newest first."""
    with session_scope() as session:
        return {"items": [_version(row) for row in policies.versions(session, name)], "next_cursor": None}


@router.get("/mode", Role.VIEWER)
def get_mode() -> Response:
    """How far Foretide goes by itself, who set it and why."""
    with session_scope() as session:
        newest = next(iter(policies.versions(session, "mode")), None)
        return reply(_mode(newest), headers=etag(newest.version if newest else 0))


@router.put("/mode", Role.ADMIN, body=ModeIn)
def put_mode(body: ModeIn) -> Response:
    """Sets the mode; paused is the kill switch and needs a reason."""
    with session_scope() as session:
        row = policies.put(
            session,
            "mode",
            {"mode": body.mode.value, "reason": body.reason},
            actor=auth.identity().name,
            expected=expected_version(),
            request_id=security.request_id(),
        )
        session.refresh(row)
        return reply(_mode(row), headers=etag(row.version))


def _version(row: Policy) -> Json:
    return {
        "version": row.version,
        "document": row.document,
        "created_by": row.created_by,
        "created_at": row.created_at,
    }


def _mode(row: Policy | None) -> Json:
    return {
        "mode": row.document.get("mode", Mode.OBSERVE) if row else Mode.OBSERVE,
        "reason": row.document.get("reason", "") if row else "",
        "created_by": row.created_by if row else None,
        "created_at": row.created_at if row else None,
    }
