"""What a soak has seen: counted while it runs, told at its end."""

from __future__ import annotations

import threading
import time
from collections import Counter
from typing import TYPE_CHECKING

from sqlalchemy import text

from app.db.session import session_scope

if TYPE_CHECKING:
    from tests.soak.owners import Owners
    from tests.world import World

KEPT = 200
DONE = ("done", "rolled_back", "skipped", "blocked", "failed", "dead", "cancelled")


class Report:
    """Counts by name, and what must not have been."""

    def __init__(self, seed: int) -> None:
        self._began, self._lock = time.monotonic(), threading.Lock()
        self._counts: Counter[str] = Counter()
        self.states: dict[str, int] = {}
        self.violations: list[str] = []
        self.document: dict[str, object] = {"seed": seed}

    def count(self, name: str, by: int = 1) -> None:
        """One more of these."""
        with self._lock:
            self._counts[name] += by

    def violation(self, what: str) -> None:
        """Something that must not be."""
        with self._lock:
            if len(self.violations) < KEPT:
                self.violations.append(what)
        print(f"VIOLATION {what}", flush=True)

    def line(self) -> str:
        """Where it stands."""
        counts, ended = self._counts, sum(self.states.get(state, 0) for state in DONE)
        acts = sum(n for name, n in counts.items() if name not in ("writes", "deletes", "looks", "moves", "last looks"))
        return (
            f"{time.monotonic() - self._began:7.0f} s  {ended:,} of {counts['moves']:,} moves ended"
            f"  {counts['writes']:,} writes  {counts['looks']:,} looks  {acts} acts  {len(self.violations)} violations"
        )

    def finish(self, owners: Owners, world: World) -> None:
        """The last looks, once all is at rest."""
        owners.check_all()
        for site in owners.plain:
            if parts := sum(world.uploads(site).values()):
                self.violation(f"{site} holds {parts} parts of uploads that nobody ends")
        with session_scope() as session:
            open_jobs = "select count(*) from job where kind = 'migrate' and state not in"
            left = session.scalar(text(f"{open_jobs} ('succeeded','failed','dead','cancelled')"))
            reasons = text("select state, reason, count(*) from migration group by state, reason order by 3 desc")
            ends = [tuple(row) for row in session.execute(reasons)]
        if left:
            self.violation(f"{left} migrate jobs have not ended")
        self.document |= {
            "seconds": round(time.monotonic() - self._began),
            "counts": dict(self._counts),
            "migrations": [{"state": s, "reason": r, "number": n} for s, r, n in ends],
            "violations": self.violations,
        }

    def text(self) -> str:
        """The report for a reader."""
        lines = [f"soak of {self.document['seconds']} s, seed {self.document['seed']}"]
        lines += [f"  {name:14} {number:,}" for name, number in sorted(self._counts.items())]
        lines += ["moves by end:"]
        lines += [f"  {end['number']:8,} {end['state']} {end['reason'] or ''}" for end in self.document["migrations"]]  # type: ignore[attr-defined]
        lines += [f"VIOLATION {what}" for what in self.violations] or ["nothing was found that must not be"]
        return "\n".join(lines)
