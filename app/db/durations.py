"""How long work has taken, for /metrics."""

from __future__ import annotations

from sqlalchemy import func, select
from sqlalchemy.dialects.postgresql import distinct_on
from sqlalchemy.orm import Session

from app.db.tables import Job
from app.domain.states import JobState
from app.domain.tasks import TaskName


def of_trainings(session: Session) -> dict[str, float]:
    """Seconds of each model's last training that ended well, by the model's name."""
    model = func.coalesce(Job.args["model"].as_string(), "tier")
    took = func.extract("epoch", Job.finished_at - Job.started_at)
    ended = (Job.kind == TaskName.TRAIN, Job.state == JobState.SUCCEEDED)
    newest = select(model, took).where(*ended).ext(distinct_on(model)).order_by(model, Job.id.desc())
    return {name: float(seconds) for name, seconds in session.execute(newest)}
