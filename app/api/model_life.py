"""Changes of a model's life by hand, each with its reason: into the shadow, to serve, back, out."""

from __future__ import annotations

from collections.abc import Callable

from flask import Response
from pydantic import Field
from sqlalchemy.orm import Session

from app import auth
from app.api import security
from app.api.etags import etag, expected_version
from app.api.router import Router, reply
from app.api.schemas import In
from app.db import model_files, models
from app.db.session import session_scope
from app.db.tables import ModelVersion
from app.domain.roles import Role
from app.errors import Conflict

router = Router("model-life")


class ChangeIn(In):
    """Why."""

    reason: str = Field(min_length=1, max_length=500, description="It stands in the version and in the audit.")


@router.post("/models/<name:name>/versions/<id:number>:promote", Role.OPERATOR, body=ChangeIn)
def promote_version(name: str, number: int, body: ChangeIn) -> Response:
    """Lets a version serve from the next pass of predictions on, and retires the one that does (If-Match)."""
    return _change(name, number, lambda session, version: models.promote(session, version, body.reason, **_who()))


@router.post("/models/<name:name>/versions/<id:number>:shadow", Role.OPERATOR, body=ChangeIn)
def shadow_version(name: str, number: int, body: ChangeIn) -> Response:
    """Lets a version score beside the champion, to be judged on what then happens (If-Match)."""
    return _change(name, number, lambda session, version: models.put_in_shadow(session, version, body.reason, **_who()))


@router.post("/models/<name:name>/versions/<id:number>:retire", Role.OPERATOR, body=ChangeIn)
def retire_version(name: str, number: int, body: ChangeIn) -> Response:
    """Takes a version out that does not serve (If-Match)."""

    def change(session: Session, version: ModelVersion) -> None:
        models.retire(session, version, body.reason, **_who())

    return _change(name, number, change, opens=False)


@router.post("/models/<name:name>:rollback", Role.OPERATOR, body=ChangeIn)
def roll_back_model(name: str, body: ChangeIn) -> Response:
    """Lets the version serve again that served before the champion (If-Match); a second one goes back further."""
    with session_scope() as session:
        champion = models.champion(session, name)
    if champion is None or champion.replaced is None:
        raise Conflict(f"no version of model {name} served before the one that does")

    def change(session: Session, _: ModelVersion) -> None:
        models.roll_back(session, name, body.reason, **_who())

    return _change(name, champion.replaced, change)


def _change(name: str, number: int, change: Callable[[Session, ModelVersion], None], *, opens: bool = True) -> Response:
    """The version after its change. opens: refuses one whose files are not what was sealed, which raises an alert."""
    expected = expected_version(required=True)
    with session_scope() as session:
        version = models.get(session, name, number)
        models.check_revision(session, name, expected)
        refused = model_files.refusal(session, version) if opens else None
        if refused is None:
            change(session, version)
            body, tag = models.describe(version), etag(models.revision(session, name))
    if refused is not None:
        raise refused
    return reply(body, headers=tag)


def _who() -> dict[str, str]:
    return {"actor": auth.identity().name, "request_id": security.request_id()}
