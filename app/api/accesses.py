"""Accesses: a block of lines is committed by one COPY before the reply (step: ingest)."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from flask import request
from pydantic import Field

from app import clock
from app.api import security
from app.api.router import Router
from app.api.schemas import In, Out
from app.db import access_bounds, ingest, reports
from app.db.ingest import Written
from app.db.session import session_scope
from app.domain import access_lines
from app.domain.access_lines import Lines
from app.domain.roles import Role
from app.errors import FieldError, Invalid, UnsupportedMedia
from app.settings import get_settings

router = Router("accesses")
TYPES = frozenset(
    {"", "application/json", "application/x-ndjson", "application/ndjson", "application/jsonl", "text/plain"}
)


NDJSON = ("application/x-ndjson", "application/json")


class IngestQuery(In):
    """How a block is taken."""

    strict: bool = Field(False, description="Refuse the whole block for one bad line.")
    source: str | None = Field(None, max_length=200, description="Who sent it, such as a trace's name.")


class LineError(Out):
    """What is wrong with a line; the first of a request is 1."""

    line: int
    pointer: str
    detail: str


class Ingested(Out):
    """What became of a block."""

    accepted: int
    duplicates: int
    rejected: int
    errors: list[LineError]


@router.post("/accesses", Role.OPERATOR, query=IngestQuery, answer=Ingested, limited=False, reads=NDJSON)
def ingest_accesses(query: IngestQuery) -> dict[str, Any]:
    """Takes accesses, as NDJSON or a JSON array, plain or gzip."""
    if request.mimetype not in TYPES:
        raise UnsupportedMedia("send NDJSON with the header Content-Type: application/x-ndjson, or a JSON array")
    settings = get_settings()
    data = security.unpacked_body(settings.ingest_max_bytes)
    with session_scope() as session:
        bounds = access_bounds.load(session, clock.now())
        found = access_lines.read(data, settings.ingest_max_lines, bounds)
        if query.strict and found.errors:
            raise Invalid(f"{len(found.errors)} lines are wrong; nothing was taken", errors=pointers(found.errors))
        block = found.block(bounds.site_ids) if found.lines else None
        found.lines.clear()  # their columns stand in the block: a large one is kept once
        written = ingest.copy_block(session, block, query.source) if block else None
        if written and written.writes:
            reports.follow(session, written.writes)
    return _answer(found, written)


def _answer(found: Lines, written: Written | None) -> dict[str, Any]:
    return {
        "accepted": written.accepted if written else 0,
        "duplicates": written.duplicates if written else 0,
        "rejected": len(found.errors),
        "errors": found.errors,
    }


def pointers(errors: Sequence[dict[str, Any]]) -> tuple[FieldError, ...]:
    """What is wrong with lines, as fields of the request."""
    return tuple(FieldError(f"/{error['line'] - 1}{error['pointer']}", error["detail"]) for error in errors)
