"""Copies that readers write from the bytes that they have just read: the write allowed, its outcome taken."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Literal

from pydantic import Field

from app import auth, presign
from app.api import submit
from app.api.router import Router
from app.api.schemas import In, Out
from app.db import tees
from app.db.session import session_scope
from app.domain.roles import Role
from app.domain.states import TeeState
from app.domain.tees import put_headers, sha256_header
from app.settings import get_settings

router = Router("tees")
MOST_HEADERS = 200


class TeeIn(In):
    """What a reader was answered and has kept."""

    fence: int = Field(ge=1, le=2**63 - 1, description="That of the offer.")
    etag: str = Field(min_length=1, max_length=200, description="The answer's, without quotation marks.")
    size: int = Field(ge=0, le=5 * 10**9)
    sha256: str = Field(pattern="^[0-9a-f]{64}$", description="Of all bytes that were read.")
    headers: dict[str, str] = Field({}, max_length=MOST_HEADERS, description="The answer's, names in lower case.")


class TeeOut(Out):
    """How the copy is to be written: one PUT with exactly these headers."""

    url: str
    headers: dict[str, str]
    expires_at: datetime


class TeedIn(In):
    """What came of it."""

    fence: int = Field(ge=1, le=2**63 - 1)
    outcome: Literal["written", "failed"]
    detail: str = Field("", max_length=500)


@router.post("/migrations/<id:migration_id>:tee", Role.OPERATOR, body=TeeIn, answer=TeeOut, limited=False)
def tee(migration_id: int, body: TeeIn) -> TeeOut:
    """Lets a reader that was offered a planned copy write it: by a presigned PUT, refused where something stands."""
    lease_s = get_settings().tee_lease_s
    read = (body.etag, body.size)
    with session_scope() as session:
        to = tees.allow(session, migration_id, body.fence, read, lease_s, auth.identity().name)
        headers = put_headers(body.headers, to.intent, to.to_class)
    if to.checks_sha256:
        headers |= sha256_header(body.sha256)
    left_s = max(1, int((to.expires_at - datetime.now(UTC)).total_seconds()))
    url = presign.put_url(to.destination, to.key, headers, expires_s=left_s)
    return TeeOut(url=url, headers=headers, expires_at=to.expires_at)


@router.post("/migrations/<id:migration_id>:teed", Role.OPERATOR, body=TeedIn, status=204, limited=False)
def teed(migration_id: int, body: TeedIn) -> None:
    """Takes what came of the write: the engine looks at it, or copies."""
    with session_scope() as session:
        outcome, actor = TeeState(body.outcome), auth.identity().name
        bell = tees.told(session, migration_id, body.fence, outcome, body.detail, actor)
    submit.ring(bell)
