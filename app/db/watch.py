"""What probes and metrics ask: the schema's revision, work by state, totals."""

from __future__ import annotations

from dataclasses import dataclass

from sqlalchemy import func, select, text
from sqlalchemy.dialects.postgresql import insert
from sqlalchemy.orm import Session

from app.db import drift, peaks
from app.db.drift import Gauge
from app.db.tables import Counter, Job, Migration
from app.domain.states import MIGRATION_FINAL, MigrationState
from app.settings import PROJECT_ROOT

SIMULATED = "simulate_events_total"
_S = MigrationState
RESULTS: dict[str, tuple[MigrationState, ...]] = {
    "copied": (_S.SWITCHED, _S.DRAINING, _S.DONE),
    "skipped": (_S.SKIPPED,),
    "blocked": (_S.BLOCKED,),
    "failed": (_S.FAILED, _S.DEAD),
}
"""Results of migration_jobs_total, and the states that count as each."""


@dataclass(frozen=True)
class Totals:
    """Work by state and events by counter."""

    jobs: dict[str, int]
    migrations: dict[str, int]
    counters: dict[str, int]
    prewarmed: dict[str, int]
    """Copies and classes for recurring peaks: ready, late."""
    models: list[Gauge]
    """Versions that serve and are watched."""

    def results(self) -> dict[str, int]:
        """Migrations that have come to a result, by result."""
        return {name: sum(self.migrations.get(state, 0) for state in states) for name, states in RESULTS.items()}

    def in_flight(self) -> dict[str, int]:
        """Migrations that have not ended, by state."""
        return {state: self.migrations.get(state, 0) for state in MigrationState if state not in MIGRATION_FINAL}


def totals(session: Session) -> Totals:
    """Counts of everything that /metrics shows."""
    jobs = session.execute(select(Job.state, func.count()).group_by(Job.state)).all()
    migrations = session.execute(select(Migration.state, func.count()).group_by(Migration.state)).all()
    counters = session.execute(select(Counter.name, Counter.value)).all()
    counts = [{str(name): int(count) for name, count in rows} for rows in (jobs, migrations, counters)]
    return Totals(
        jobs=counts[0],
        migrations=counts[1],
        counters=counts[2],
        prewarmed=peaks.results(session),
        models=drift.gauges(session),
    )


def count(session: Session, name: str, by: int) -> None:
    """Adds to a counter that survives every process."""
    statement = insert(Counter).values(name=name, value=by)
    added = {"value": Counter.value + by}
    session.execute(statement.on_conflict_do_update(index_elements=["name"], set_=added))


def counted(session: Session, name: str) -> int:
    """What a counter stands at; 0 before the first."""
    return int(session.scalar(select(Counter.value).where(Counter.name == name)) or 0)


def expected_revision() -> str | None:
    """The newest schema revision of this program, by the numbers of its files: Alembic itself costs the API 6 MiB."""
    files = (PROJECT_ROOT / "migrations" / "versions").glob("[0-9]*.py")
    return max((file.name.partition("_")[0] for file in files), default=None)


def revision(session: Session) -> str | None:
    """The revision at which the database stands; None before the first."""
    if session.scalar(select(func.to_regclass("alembic_version"))) is None:
        return None
    found: str | None = session.scalar(text("select version_num from alembic_version"))
    return found
