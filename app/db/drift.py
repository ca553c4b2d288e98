"""The newest report of drift of each version, and what of it Prometheus sees (step: watch)."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime, timedelta

from sqlalchemy import Interval, cast, func, select
from sqlalchemy.dialects.postgresql import insert
from sqlalchemy.orm import Session

from app.db.tables import Job, Json, ModelDrift, ModelVersion
from app.domain.model_life import SHADOWED
from app.domain.states import JOB_FINAL, ModelState
from app.domain.tasks import TaskName


@dataclass(frozen=True)
class Gauge:
    """What Prometheus sees of the version that serves."""

    name: str
    version: int
    age_s: float
    """Since the newest access that it learned from."""
    psi_max: float | None
    features_over: int | None
    calibration_gap: float | None
    coverage_gap: float | None


def save(session: Session, version: ModelVersion, as_of: datetime, report: Json) -> None:
    """Keeps a version's newest report."""
    row = {"model_version_id": version.id, "as_of": as_of, "report": report}
    statement = insert(ModelDrift).values(row)
    session.execute(
        statement.on_conflict_do_update(
            index_elements=["model_version_id"],
            set_={"as_of": as_of, "report": report},
            where=ModelDrift.as_of <= as_of,
        )
    )


def newest(session: Session, version: ModelVersion) -> ModelDrift | None:
    """The version's report, or None before the first."""
    return session.get(ModelDrift, version.id)


def last_training(session: Session, name: str) -> tuple[timedelta | None, bool]:
    """How long ago the newest training of a model was asked for, and whether one is under way."""
    mine = (Job.kind == TaskName.TRAIN, func.coalesce(Job.args["model"].astext, "tier") == name)
    since: timedelta | None = session.scalar(select(cast(func.now() - func.max(Job.created_at), Interval)).where(*mine))
    busy = session.scalar(select(Job.id).where(*mine, Job.state.not_in(JOB_FINAL)).limit(1))
    return since, busy is not None


def gauges(session: Session) -> list[Gauge]:
    """One of each model that is watched and serves: never more than there are such names."""
    rows = session.execute(
        select(ModelVersion, ModelDrift.report, func.extract("epoch", func.now() - ModelVersion.data_to))
        .outerjoin(ModelDrift, ModelDrift.model_version_id == ModelVersion.id)
        .where(ModelVersion.state == ModelState.CHAMPION, ModelVersion.name.in_(SHADOWED))
        .order_by(ModelVersion.name)
    )
    return [_gauge(version, report or {}, age) for version, report, age in rows]


def _gauge(version: ModelVersion, report: Json, age_s: object) -> Gauge:
    features = report.get("features")
    return Gauge(
        name=version.name,
        version=version.version,
        age_s=float(str(age_s or 0)),
        psi_max=max((row["psi"] for row in features), default=0.0) if features is not None else None,
        features_over=sum(row["over"] for row in features) if features is not None else None,
        calibration_gap=_gap(report.get("calibration")),
        coverage_gap=_gap(report.get("coverage")),
    )


def _gap(watch: Json | None) -> float | None:
    return watch["happened"] - watch["predicted"] if watch else None
