"""Policy documents: every version is kept, the newest of a name is in force."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from sqlalchemy import func, select
from sqlalchemy.dialects.postgresql import distinct_on
from sqlalchemy.orm import Session

from app.db import audit, migration_kept
from app.db.tables import Policy
from app.domain.policies import Policies
from app.domain.policy_documents import validate
from app.domain.states import Mode
from app.errors import Invalid, NotFound, PreconditionFailed
from app.settings import get_settings

LOCK = 7_201_001  # of writers of policies, so that versions follow one another


def load(session: Session) -> Policies:
    """All policies in force."""
    newest = select(Policy).ext(distinct_on(Policy.name)).order_by(Policy.name, Policy.version.desc())
    rows = session.scalars(newest).all()
    return Policies(
        {row.name: row.document for row in rows},
        {row.name: row.version for row in rows},
        get_settings().encryption_enforced,
    )


def mode(session: Session) -> Mode:
    """How far Foretide goes by itself."""
    return load(session).mode


def versions(session: Session, name: str) -> Sequence[Policy]:
    """Every version of a policy, the newest first; empty while its defaults hold. Raises NotFound for another name."""
    validate(name, {})
    return session.scalars(select(Policy).where(Policy.name == name).order_by(Policy.version.desc())).all()


def two_versions(
    session: Session, name: str, older: int | None = None, newer: int | None = None
) -> tuple[tuple[int, Mapping[str, Any]], tuple[int, Mapping[str, Any]]]:
    """Two versions of a policy with their numbers: the newest and the one before it unless told otherwise.

    Version 0 stands for the defaults, an empty document. Raises NotFound for a version that there is not.
    """
    found = {0: {}, **{row.version: row.document for row in versions(session, name)}}
    second = max(found) if newer is None else newer
    first = max(0, second - 1) if older is None else older
    for version in (first, second):
        if version not in found:
            raise NotFound(f"policy {name} has no version {version}; its newest is {max(found)}")
    return (first, found[first]), (second, found[second])


def put(
    session: Session,
    name: str,
    document: Mapping[str, Any],
    *,
    actor: str,
    expected: int | None = None,
    request_id: str | None = None,
) -> Policy:
    """Writes the next version of a policy. expected: the version that it replaces (0: none yet).

    Raises Invalid with the fields that are wrong, NotFound for a name that is no policy, PreconditionFailed when
    another version is in force.
    """
    validate(name, document)
    if name == "mode" and not document.get("reason") and document.get("mode") == Mode.PAUSED:
        raise Invalid("say why Foretide is paused in `reason`")
    session.execute(select(func.pg_advisory_xact_lock(LOCK)))
    newest = session.scalar(select(Policy.version).where(Policy.name == name).order_by(Policy.version.desc()).limit(1))
    if expected is not None and expected != (newest or 0):
        raise PreconditionFailed(f"policy {name} is at version {newest or 0}, not {expected}")
    row = Policy(name=name, version=(newest or 0) + 1, document=dict(document), created_by=actor)
    session.add(row)
    if name == "sla":
        for reason in ("pinned", "too_few_replicas"):
            migration_kept.look_again(session, reason)
    audit.append(session, actor, f"policy.{name}", f"policy {name}", {"document": dict(document)}, request_id)
    session.flush()
    return row


def set_mode(session: Session, mode: Mode, *, actor: str, reason: str = "") -> Policy:
    """Sets how far Foretide goes by itself; raises Invalid when it is paused without a reason."""
    return put(session, "mode", {"mode": mode.value, "reason": reason}, actor=actor)
