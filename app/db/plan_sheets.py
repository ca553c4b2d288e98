"""The moves of a plan while it is made: kept in a file, so that memory does not grow with them, then saved by COPY."""

from __future__ import annotations

import io
import json
import tempfile
from collections.abc import Iterable
from itertools import islice
from typing import TYPE_CHECKING, Any, Self

from sqlalchemy.orm import Session

from app.db.bulk import cursor
from app.domain.moves import Times
from app.domain.prices import to_usd

if TYPE_CHECKING:
    from app.db.placement import World
    from app.domain.placement_decisions import Decision

AT_ONCE = 5000
COLUMNS = (
    "plan_id", "object_id", "object_version", "kind", "from_site_id", "from_class", "to_site_id", "to_class", "bytes",
    "one_off", "monthly_delta", "payback_days", "reason", "explanation", "not_before", "ready_by", "useful_until",
)  # fmt: skip
_ESCAPES = str.maketrans({"\\": "\\\\", "\t": "\\t", "\n": "\\n", "\r": "\\r"})


class Sheet:
    """Moves as lines of COPY's text form, without the plan's id; use it as a context manager."""

    def __init__(self, world: World) -> None:
        """world: whose site ids the moves name."""
        self._world = world
        self._file = tempfile.TemporaryFile()  # noqa: SIM115  # closed by __exit__

    def __enter__(self) -> Self:
        """Empty."""
        return self

    def __exit__(self, *_: object) -> None:
        """The file is gone."""
        self._file.close()

    def write(self, decisions: Iterable[Decision]) -> None:
        """Adds the moves of some decisions."""
        self._file.writelines(line for decision in decisions for line in _lines(decision, self._world))

    def save(self, session: Session, plan_id: int) -> None:
        """Adds the moves to a plan, in their order."""
        self._file.seek(0)
        head = f"{plan_id}\t".encode()
        while some := list(islice(self._file, AT_ONCE)):
            body = io.BytesIO(b"".join(head + line for line in some))
            with cursor(session) as driver:
                driver.copy_expert(f"copy move ({', '.join(COLUMNS)}) from stdin", body)


def _lines(decision: Decision, world: World) -> list[bytes]:
    if not decision.moves:
        return []
    explanation = {
        "verdict": decision.verdict.value,
        "breaches": list(decision.breaches),
        "probability": decision.probability,
        "reads_a_month": decision.item.demand.reads * 30,
        "cost_before": vars(decision.today_cost),
        "cost_after": vars(decision.cost),
        "horizon_days": decision.horizon_days,
    }
    told = (decision.payback_days, decision.reason, json.dumps(explanation))
    found = []
    for move in decision.moves:
        times = move.times or Times()
        values = (
            decision.item.id, decision.item.version, move.kind.value,
            None if move.from_site is None else world.site_ids[move.from_site], move.from_class,
            None if move.to_site is None else world.site_ids[move.to_site], move.to_class, move.bytes,
            to_usd(move.one_off), to_usd(move.monthly_delta), *told,
            times.not_before, times.ready_by, times.useful_until,
        )  # fmt: skip
        found.append(("\t".join(map(_field, values)) + "\n").encode())
    return found


def _field(value: Any) -> str:
    return "\\N" if value is None else str(value).translate(_ESCAPES)
