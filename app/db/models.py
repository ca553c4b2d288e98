"""Versions of models and their lives: which one serves, which is its shadow, what was (step: learn).

Every change of a life goes through this module, under one lock a name: docs/concepts.md has the table of transitions.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator
from datetime import datetime
from typing import Any

from sqlalchemy import delete, func, select, text
from sqlalchemy.dialects.postgresql import insert
from sqlalchemy.orm import Session

from app.db import audit
from app.db.tables import Json, ModelName, ModelVersion, ShadowScore
from app.domain.model_life import SHADOWED
from app.domain.states import MODEL_TRANSITIONS, ModelState, check_transition
from app.errors import Conflict, NotFound, PreconditionFailed

WORKER = "worker"


def lock(session: Session, name: str) -> None:
    """Holds the lives of a name's versions until the transaction ends: every change of them locks first."""
    session.execute(text("select pg_advisory_xact_lock(hashtext(:name))"), {"name": f"model {name}"})


def add(session: Session, name: str, **values: Any) -> ModelVersion:
    """Adds a candidate as the next version of a model; values are columns of ModelVersion."""
    lock(session, name)
    version = ModelVersion(name=name, version=_next(session, name), state=ModelState.CANDIDATE, **values)
    session.add(version)
    session.flush()
    return version


def _next(session: Session, name: str) -> int:
    """A number that no version of this name has or had: one that is deleted is never given again."""
    counted = insert(ModelName).values(name=name, last_version=1)
    later = {"last_version": ModelName.last_version + 1}
    grown = counted.on_conflict_do_update(index_elements=["name"], set_=later)
    return int(session.scalars(grown.returning(ModelName.last_version)).one())


def in_state(session: Session, name: str, state: ModelState) -> list[ModelVersion]:
    """The versions of a name in a state, the newest first."""
    query = select(ModelVersion).where(ModelVersion.name == name, ModelVersion.state == state)
    return list(session.scalars(query.order_by(ModelVersion.version.desc())))


def champion(session: Session, name: str) -> ModelVersion | None:
    """The version that serves, or None before the first."""
    return next(iter(in_state(session, name, ModelState.CHAMPION)), None)


def shadow(session: Session, name: str) -> ModelVersion | None:
    """The version that scores beside the champion, or None."""
    return next(iter(in_state(session, name, ModelState.SHADOW)), None)


def living(session: Session, name: str) -> list[ModelVersion]:
    """The versions of a name that are not retired, the newest first."""
    query = select(ModelVersion).where(ModelVersion.name == name, ModelVersion.state != ModelState.RETIRED)
    return list(session.scalars(query.order_by(ModelVersion.version.desc())))


def earlier(session: Session, champion: ModelVersion, most: int | None = None) -> Iterator[ModelVersion]:
    """The champions before this one, as rollbacks lead to them. most: so many at most."""
    row, told = champion, 0
    while row.replaced is not None and told != most:
        row, told = get(session, row.name, row.replaced), told + 1
        yield row


# -- Changes of a life


def promote(
    session: Session, version: ModelVersion, reason: str, *, actor: str = WORKER, request_id: str | None = None
) -> None:
    """Makes a version the champion and retires the one before it. Raises Conflict where the table forbids it."""
    lock(session, version.name)
    before = champion(session, version.name)
    _check(version, ModelState.CHAMPION)
    if before is not None:
        _set(session, before, ModelState.RETIRED, f"version {version.version} serves instead")
        _cut_out(session, version, before)
    version.replaced = before.version if before else None
    _serve(session, version, reason)
    _audit(session, "model.promote", version, actor, request_id, {"reason": reason, "replaced": version.replaced})


def _cut_out(session: Session, version: ModelVersion, champion: ModelVersion) -> None:
    """One that has served before leaves its old place among the champions, so that rollbacks never go in a circle."""
    for row in (champion, *earlier(session, champion)):
        if row.replaced == version.version:
            row.replaced = version.replaced
            return


def roll_back(
    session: Session, name: str, reason: str, *, actor: str = WORKER, request_id: str | None = None
) -> ModelVersion:
    """Lets the version before the champion serve again; a second one leads to the one before that. Returns it.

    Raises NotFound before a first champion, Conflict where none served before it.
    """
    lock(session, name)
    now = champion(session, name)
    if now is None:
        raise NotFound(f"no version of model {name} serves")
    if now.replaced is None:
        raise Conflict(f"no version of model {name} served before version {now.version}")
    back = get(session, name, now.replaced)
    _check(back, ModelState.CHAMPION)
    _set(session, now, ModelState.RETIRED, f"rolled back: {reason}")
    _serve(session, back, f"rolled back from version {now.version}: {reason}")
    _audit(session, "model.roll_back", back, actor, request_id, {"reason": reason, "from": now.version})
    return back


def put_in_shadow(
    session: Session, version: ModelVersion, reason: str, *, actor: str = WORKER, request_id: str | None = None
) -> None:
    """Lets a version score beside the champion; one that did so until now is retired. Raises Conflict."""
    lock(session, version.name)
    if version.name not in SHADOWED:
        raise Conflict(f"model {version.name} has no shadow: only {', '.join(sorted(SHADOWED))} can be judged beside")
    if champion(session, version.name) is None:
        raise Conflict(f"no version of model {version.name} serves, so there is nothing to score beside")
    _check(version, ModelState.SHADOW)
    before = shadow(session, version.name)
    if before is not None:
        _set(session, before, ModelState.RETIRED, f"version {version.version} is the shadow instead")
        forget_scores(session, before)
    version.shadow_since = func.now()
    _set(session, version, ModelState.SHADOW, reason)
    _audit(session, "model.shadow", version, actor, request_id, {"reason": reason})


def retire(
    session: Session, version: ModelVersion, reason: str, *, actor: str = WORKER, request_id: str | None = None
) -> None:
    """Takes a version out. Raises Conflict for the champion: something must serve in its place."""
    lock(session, version.name)
    if version.state == ModelState.CHAMPION:
        raise Conflict(f"version {version.version} serves; roll back or promote another instead")
    _check(version, ModelState.RETIRED)
    _set(session, version, ModelState.RETIRED, reason)
    forget_scores(session, version)
    _audit(session, "model.retire", version, actor, request_id, {"reason": reason})


def forget_scores(session: Session, version: ModelVersion) -> None:
    """Drops what a shadow said so far: it was judged, or is no longer beside the same champion."""
    session.execute(delete(ShadowScore).where(ShadowScore.model_version_id == version.id))


def _serve(session: Session, version: ModelVersion, reason: str) -> None:
    version.promoted_at, version.retired_at = func.now(), None
    _set(session, version, ModelState.CHAMPION, reason)
    for row in (version, shadow(session, version.name)):  # a shadow begins anew beside another champion
        if row is not None:
            forget_scores(session, row)


def _check(version: ModelVersion, new: ModelState) -> None:
    check_transition(MODEL_TRANSITIONS, ModelState(version.state), new)


def _set(session: Session, version: ModelVersion, new: ModelState, reason: str) -> None:
    """Written at once: the unique indexes allow one champion and one shadow at each moment."""
    version.state, version.reason, version.revision = new, reason, version.revision + 1
    if new is ModelState.RETIRED:
        version.retired_at = func.now()
    session.flush()


def _audit(
    session: Session, action: str, version: ModelVersion, actor: str, request_id: str | None, data: Json
) -> None:
    audit.append(session, actor, action, f"model {version.name} {version.version}", data, request_id)


# -- Reading


def revision(session: Session, name: str) -> int:
    """A number that grows with each version, change of a life and deletion: the ETag of all documents of a name."""
    living = select(func.coalesce(func.sum(ModelVersion.revision), 0)).where(ModelVersion.name == name)
    gone = select(ModelName.deleted_revisions).where(ModelName.name == name)
    return int(session.scalar(living) or 0) + int(session.scalar(gone) or 0)


def check_revision(session: Session, name: str, expected: int | None) -> None:
    """Locks the name. Raises PreconditionFailed unless its lives are as they were read; None: whatever they are."""
    lock(session, name)
    now = revision(session, name)
    if expected is not None and expected != now:
        raise PreconditionFailed(f"model {name} is at revision {now}, not {expected}; read it again")


def versions(session: Session, name: str, limit: int = 100, *, before: int | None = None) -> list[ModelVersion]:
    """The newest versions of a model, the newest first. before: only older ones than this number."""
    query = select(ModelVersion).where(ModelVersion.name == name).order_by(ModelVersion.version.desc()).limit(limit)
    return list(session.scalars(query.where(ModelVersion.version < before) if before is not None else query))


def get(session: Session, name: str, number: int) -> ModelVersion:
    """One version. Raises NotFound."""
    found = session.scalar(select(ModelVersion).where(ModelVersion.name == name, ModelVersion.version == number))
    if found is None:
        raise NotFound(f"model {name} has no version {number}")
    return found


def numbers(session: Session, ids: Collection[int]) -> dict[int, int]:
    """The numbers of versions by their ids."""
    rows = session.execute(select(ModelVersion.id, ModelVersion.version).where(ModelVersion.id.in_(ids))) if ids else ()
    return {row[0]: row[1] for row in rows}


def names(session: Session) -> list[str]:
    """The names of all models that were ever trained, in order."""
    return list(session.scalars(select(ModelVersion.name).distinct().order_by(ModelVersion.name)))


def describe(version: ModelVersion) -> Json:
    """A version as users see it: everything but its files."""
    return {
        "name": version.name,
        "version": version.version,
        "state": version.state,
        "algorithm": version.algorithm,
        "is_baseline": version.algorithm in version.baselines,
        "data": {"from": _iso(version.data_from), "to": _iso(version.data_to)},
        "rows": version.rows,
        "features": version.features,
        "params": version.params,
        "metrics": version.metrics,
        "baselines": version.baselines,
        "gate": version.gate,
        "libraries": version.libraries,
        "parent": version.parent,
        "replaced": version.replaced,
        "reason": version.reason,
        "job_id": version.job_id,
        "created_at": _iso(version.created_at),
        "shadow_since": _iso(version.shadow_since),
        "promoted_at": _iso(version.promoted_at),
        "retired_at": _iso(version.retired_at),
    }


def _iso(moment: datetime | None) -> str | None:
    return moment.isoformat() if moment else None
