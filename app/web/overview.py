"""What the Overview page shows: read in one transaction, as the API reads it."""

from __future__ import annotations

import json
from typing import Any

from sqlalchemy.orm import Session

from app.db import alerts, jobs, migrations, models, plans, policies, sites, sweep
from app.db.tables import Json, ModelVersion, Plan
from app.domain.states import MIGRATION_FINAL, MigrationState
from app.settings import get_settings

JOBS = 10
MODEL = "tier"


def read(session: Session) -> Json:
    """Everything on the page; None or empty where there is nothing yet."""
    settings = get_settings()
    plan = next(iter(plans.listing(session, limit=1)), None)
    counts = migrations.counts_by_state(session)
    return {
        "environment": settings.environment,
        "mode": policies.mode(session),
        "plan": plan,
        "figures": _figures(plan),
        "migrations": [
            (state, counts[state], state in MIGRATION_FINAL) for state in MigrationState if counts.get(state)
        ],
        "sites": sites.listing(session),
        "model": _model(models.champion(session, MODEL)),
        "alerts": alerts.open_alerts(session),
        "jobs": jobs.listing(session, limit=JOBS),
        "components": json.loads(settings.components or "[]"),
        "late": sweep.late_queues(session, settings.tick_late_s),
    }


def _figures(plan: Plan | None) -> list[tuple[str, str]]:
    values: dict[str, Any] = {"cost now": None, "cost planned": None, "cost all hot": None, "one-off": None}
    if plan:
        found = (plan.cost_before, plan.cost_after, plan.baselines.get("all_hot"), plan.one_off)
        values = dict(zip(values, found, strict=True))
    return [(name, "–" if value is None else f"${float(value):,.2f}") for name, value in values.items()]


def _model(version: ModelVersion | None) -> Json | None:
    """The model that serves beside its baselines, best first."""
    if version is None:
        return None
    rows = [(f"{MODEL} {version.algorithm}-{version.version}", version.metrics), *version.baselines.items()]
    measured = [(name, metrics.get("auc"), metrics.get("pr_auc")) for name, metrics in rows]
    return {"version": version, "rows": sorted(measured, key=lambda row: -(row[1] or 0.0))}
