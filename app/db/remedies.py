"""Plans of moves that an operation asks for: saved like the optimizer's, so that they are shown and applied alike."""

from __future__ import annotations

from collections.abc import Sequence

from sqlalchemy import insert
from sqlalchemy.orm import Session

from app.db.placement import World
from app.db.tables import Json, Move, Plan
from app.domain.moves import PlannedMove
from app.domain.prices import to_usd
from app.domain.remedies import WantedMove, priced
from app.domain.states import PlanState

SOLVER: Json = {"name": "none", "status": "asked for"}


def save(session: Session, world: World, moves: Sequence[WantedMove], *, job_id: int, scope: Json) -> Plan:
    """Adds a plan of exactly these moves, each with its money. scope: which operation asked for it, and of what."""
    options = {option.name: option for option in world.options}
    told = [(move, *priced(move, options)) for move in moves]
    before = sum(storage.before for _, _, storage in told)
    after = sum(storage.after for _, _, storage in told)
    plan = Plan(
        job_id=job_id,
        state=PlanState.READY,
        version=1,
        scope=scope,
        as_of=world.now,
        inputs=world.fingerprint(),
        cost_before=to_usd(before),
        cost_after=to_usd(after),
        baselines={"do_nothing": before},
        one_off=to_usd(sum(planned.one_off for _, planned, _ in told)),
        objects=len({move.object_id for move in moves}),
        moves=len(moves),
        solver=dict(SOLVER),
    )
    session.add(plan)
    session.flush()
    rows = [_row(plan.id, move, planned, world) for move, planned, _ in told]
    if rows:
        session.execute(insert(Move), rows)
    return plan


def _row(plan_id: int, move: WantedMove, planned: PlannedMove, world: World) -> Json:
    return {
        "plan_id": plan_id,
        "object_id": move.object_id,
        "object_version": move.object_version,
        "kind": move.kind.value,
        "from_site_id": world.site_ids[move.from_site],
        "from_class": move.from_class,
        "to_site_id": world.site_ids[move.to_site] if move.to_site else None,
        "to_class": move.to_class,
        "bytes": planned.bytes,
        "one_off": to_usd(planned.one_off),
        "monthly_delta": to_usd(planned.monthly_delta),
        "payback_days": None,
        "reason": move.reason,
    }
