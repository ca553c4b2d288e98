"""Days of accesses that lie at a site as Parquet: listed, and exported now instead of at the next pass."""

from __future__ import annotations

from datetime import date

from flask import Response

from app.api import submit
from app.api.pages import PageQuery, page
from app.api.router import Router
from app.api.schemas import JobOut, Json, Page
from app.db import access_exports
from app.db.session import session_scope
from app.db.tables import AccessExport
from app.domain.roles import Role
from app.domain.tasks import TaskName
from app.errors import Conflict, FieldError, Invalid
from app.settings import get_settings

router = Router("exports-of-accesses")


@router.get("/exports", Role.VIEWER, query=PageQuery, answer=Page)
def list_exports(query: PageQuery) -> Json:
    """Days that were exported and proven to lie where they should, the newest first."""
    after = query.after_text()
    try:
        before = date.fromisoformat(after) if after else None
    except ValueError:
        raise Invalid(errors=(FieldError("/cursor", "is none of this list"),)) from None
    with session_scope() as session:
        rows = access_exports.listing(session, before, query.limit + 1)
        return page(rows, query.limit, lambda row: _show(*row), lambda row: row[0].day)


def _show(export: AccessExport, site: str) -> Json:
    names = ("day", "key", "version", "rows", "bytes", "sha256", "exported_at")
    return {"site": site} | {name: getattr(export, name) for name in names}


@router.post("/exports:run", Role.OPERATOR, answer=JobOut, status=202, starts_work=True)
def run_export() -> Response:
    """Starts to export the days that are due."""
    if not get_settings().export_site:
        raise Conflict("FORETIDE_EXPORT_SITE is not set: accesses are not exported")
    return submit.start(TaskName.EXPORT)
