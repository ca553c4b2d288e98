"""What a training hands over, and where the new version stands in its life (step: learn)."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from sqlalchemy.orm import Session

from app.db import model_files, models
from app.db.tables import Json, ModelVersion
from app.domain.model_life import SHADOWED, Verdict, enter, judge
from app.domain.states import ModelState
from workers.base import JobContext


@dataclass(frozen=True)
class Learned:
    """What a training hands over to the model's life; `values` are columns of ModelVersion."""

    values: Mapping[str, Any]
    files: Mapping[str, bytes]
    beside: int | None
    """The version that it was compared with; None when nothing served that can be."""
    found: Json | None
    """That comparison, of ml.judging; None where they have no later rows in common."""
    mends: int | None = None
    """The champion whose file is refused: anything sound may take its place at once."""
    told: Json = field(default_factory=dict)
    """What else the job's result tells."""


def keep(job: JobContext, name: str, learned: Learned) -> Json:
    """Saves the new version and gives it its place, in the transaction that ends the job; returns the job's result."""
    result: Json = {}
    with job.finishing(result) as session:
        models.lock(session, name)
        champion = models.champion(session, name)
        served = champion.version if champion else None
        gate = {"training": learned.found} if learned.found else {}
        added = models.add(session, name, **learned.values, parent=served, gate=gate, job_id=job.id)
        for form, body in learned.files.items():
            model_files.add(session, added, form, body)
        _place(session, added, _verdict(learned, served))
        result |= {
            "name": f"{name} {added.algorithm}-{added.version}",
            "version": added.version,
            "state": added.state,
            "reason": added.reason,
            **learned.told,
        }
    return result


def _verdict(learned: Learned, served: int | None) -> Verdict | None:
    """Of the gate against the champion that serves now; None where nothing sound serves."""
    if served is None or served == learned.mends:
        return None
    if served != learned.beside:
        return Verdict(True, f"version {served} began to serve while it was trained, and is compared with it as shadow")
    if learned.found is None:
        return Verdict(True, f"of no later rows could it be compared with version {served}, and is as shadow")
    return judge(learned.found)


def _place(session: Session, added: ModelVersion, gate: Verdict | None) -> None:
    learned = added.reason
    state, reason = enter(
        gate, shadowed=added.name in SHADOWED, has_shadow=models.shadow(session, added.name) is not None
    )
    told = f"{reason}; {learned}"
    if state is ModelState.CHAMPION:
        models.promote(session, added, told)
    elif state is ModelState.SHADOW:
        models.put_in_shadow(session, added, told)
    elif state is ModelState.RETIRED:
        models.retire(session, added, told)
    else:
        added.reason = told
        for older in models.in_state(session, added.name, ModelState.CANDIDATE):
            if older is not added:
                models.retire(session, older, f"version {added.version} waits in its place")
