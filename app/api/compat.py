"""The sources' own routes at the root: thin aliases of /v1 with the fields and names that the sources show."""

from __future__ import annotations

import math

from flask import Response
from pydantic import Field
from sqlalchemy.orm import Session

from app import auth, clock
from app.api import alerts as alert_views
from app.api import computed, submit
from app.api import faults as fault_views
from app.api import policies as policy_views
from app.api.audit import record
from app.api.migrations import site_names
from app.api.objects import show
from app.api.placement import problem_of
from app.api.router import Router
from app.api.schemas import In, JobOut, Json, Key
from app.api.submit import Started
from app.db import accesses, alerts, ingest, migrations, models, objects, policies, predictions, watch
from app.db.session import session_scope
from app.db.tables import Migration, Prediction
from app.domain.accesses import Block
from app.domain.faults import FaultKind
from app.domain.roles import Role
from app.domain.tasks import TaskName
from app.errors import Conflict, Forbidden

router = Router("sources", prefix="")
chaos = Router("sources-chaos", prefix="")
"""Registered only where chaos is enabled."""
HEAT_FULL = 1000
"""So many reads in 24 hours are a heat of 1 (source 004)."""
HOT, COLD = 0.7, 0.3
TASKS = 500


class SimulateQuery(In):
    """A burst of reads."""

    key: Key
    events: int = Field(100, ge=1, le=10_000)


class DebugQuery(In):
    """Whether to plan at once."""

    run: bool = False


class Enforce(In):
    """Whether destinations must be encrypted."""

    enforce: bool


@router.post("/simulate", Role.OPERATOR, query=SimulateQuery, status=202, starts_work=True)
def simulate(query: SimulateQuery) -> Response:
    """Adds reads of an object as of now, and starts what follows from them: predict, plan, migrate."""

    def begin(session: Session) -> Started:
        ingest.copy_block(session, _burst(query.key, query.events), "simulate")
        accesses.roll_up(session)
        watch.count(session, watch.SIMULATED, query.events)
        record(session, "simulate", query.key, {"events": query.events})
        job = submit.job(session, TaskName.RUN, {"keys": [query.key], "from": "predict", "to": "migrate"})
        hour, day = accesses.recent_reads(session, objects.by_key(session, query.key).id, clock.now())
        body = {"key": query.key, "events": query.events, "access_1h": hour, "access_24h": day, "job_id": job.id}
        return Started(job, body)

    return submit.start_with(begin)


def _burst(key: str, events: int) -> Block:
    now = accesses.microseconds(clock.now()) - 1  # windows end before the present
    return Block(
        ts=[now] * events,
        key=[key] * events,
        op=["GET"] * events,
        site_id=[None] * events,
        bytes_read=[0] * events,
        status=[200] * events,
        event_id=[None] * events,
        region=[None] * events,
        client=["simulate"] * events,
        partial_upload=[False] * events,
    )


@router.get("/explain/<key:key>", Role.VIEWER)
def explain_key(key: str) -> Json:
    """Why the object lies where it lies."""
    with session_scope() as session:
        problem = problem_of(session, key)
    return computed.explanation(problem)


@router.get("/debug/placement/<key:key>", Role.VIEWER, query=DebugQuery)
def debug_placement(key: str, query: DebugQuery) -> Json:
    """What led to the object's placement; with `run` it is optimized too, which an operator may."""
    started = _optimize(key) if query.run else None
    with session_scope() as session:
        row = objects.by_key(session, key)
        hour, day = accesses.recent_reads(session, row.id, clock.now())
        found = predictions.of(session, row.id)
        heat, explained = _heat(day, found), _explained(session, key)
        read = next((site["name"] for site in explained["sites"] if site["read"]), None) if explained else None
        return {
            "key": key,
            "db_before": show(row, objects.replicas_of(session, [row.id])[row.id]),
            "windows": {"c1": hour, "c24": day},
            "prediction": {"p": found.p_raw if found else None, "p_adj": found.p_hot if found else None},
            "heat": heat,
            "recommended": {"tier": _tier(found, heat["boosted"]), "primary": read},
            "vote": explained["vote"] if explained else None,
            "importances": _importances(session),
            "job": started.get_json() if started else None,
        }


@router.post("/optimize/<key:key>", Role.OPERATOR, answer=JobOut, status=202, starts_work=True)
def optimize_key(key: str) -> Response:
    """Plans one object and, when the mode says so, moves it."""
    return _optimize(key)


@router.get("/tasks", Role.VIEWER)
def list_tasks() -> list[Json]:
    """The newest migrations."""
    with session_scope() as session:
        names = site_names(session)
        return [_task(row.Migration, row.key, names) for row in migrations.listing(session, limit=TASKS)]


@router.get("/policy/security", Role.VIEWER)
def get_security() -> Json:
    """Whether destinations must be encrypted."""
    with session_scope() as session:
        return {"enforce": policies.load(session).encryption_enforced}


@router.post("/policy/security", Role.ADMIN, body=Enforce)
def set_security(body: Enforce) -> Json:
    """Sets whether destinations must be encrypted."""
    policy_views.put_policy("security", policy_views.Document(body.model_dump()))
    return {"enforce": body.enforce}


@router.get("/alerts", Role.VIEWER)
def list_open_alerts() -> list[alert_views.AlertOut]:
    """Alerts that stand, newest first."""
    with session_scope() as session:
        return [alert_views.AlertOut.model_validate(row) for row in alerts.open_alerts(session)]


@router.post("/alerts/<id:alert_id>/ack", Role.OPERATOR, answer=alert_views.AlertOut)
def ack(alert_id: int) -> alert_views.AlertOut:
    """Notes that somebody has seen it."""
    found: alert_views.AlertOut = alert_views.ack_alert(alert_id)
    return found


@router.post("/alerts/clear", Role.OPERATOR)
def clear_alerts() -> Json:
    """Closes every alert that stands."""
    with session_scope() as session:
        cleared = alerts.resolve_all(session)
        record(session, "alert.clear", "alerts", {"cleared": cleared})
    return {"cleared": cleared}


@chaos.get("/chaos/status", Role.VIEWER)
def chaos_status() -> Json:
    """The sites that are made to fail, the longest latency that is injected, and every fault in force."""
    with session_scope() as session:
        return _chaos(session)


@chaos.post("/chaos/fail/<name:name>", Role.OPERATOR)
def chaos_fail(name: str) -> Json:
    """Makes a site fail for five minutes."""
    with session_scope() as session:
        fault_views.change(session, name, fault_views.FaultsIn(fail=True))
        return _chaos(session)


@chaos.post("/chaos/recover/<name:name>", Role.OPERATOR)
def chaos_recover(name: str) -> Json:
    """Ends every fault of a site."""
    with session_scope() as session:
        fault_views.recover(session, name)
        return _chaos(session)


@chaos.post("/chaos/clear", Role.OPERATOR)
def chaos_clear() -> Json:
    """Ends every fault."""
    with session_scope() as session:
        fault_views.clear(session)
        return _chaos(session)


def _chaos(session: Session) -> Json:
    found = fault_views.in_force(session)
    return {
        "failed_endpoints": [fault["site"] for fault in found if fault["kind"] == FaultKind.FAIL],
        "latency_ms": max((fault["ms"] for fault in found if fault["kind"] == FaultKind.LATENCY), default=0),
        "faults": found,
    }


def _optimize(key: str) -> Response:
    if not auth.identity().role.includes(Role.OPERATOR):
        raise Forbidden("to optimize needs a token of role operator")

    def begin(session: Session) -> Started:
        objects.by_key(session, key)
        return Started(submit.job(session, TaskName.RUN, {"keys": [key], "from": "plan", "to": "migrate"}))

    return submit.start_with(begin)


def _heat(reads_24h: int, found: Prediction | None) -> dict[str, float]:
    score = min(1.0, math.log1p(reads_24h) / math.log1p(HEAT_FULL))
    return {"score": score, "boosted": max(score, found.p_hot if found else 0.0)}


def _tier(found: Prediction | None, boosted: float) -> str:
    if found:
        return found.tier
    return "hot" if boosted > HOT else "cold" if boosted < COLD else "warm"


def _explained(session: Session, key: str) -> Json | None:
    """Why it lies where it lies; None when it cannot be placed."""
    try:
        return computed.explanation(problem_of(session, key))
    except Conflict:
        return None


def _importances(session: Session) -> Json:
    champion = models.champion(session, "tier")
    found: Json = champion.metrics.get("importances", {}) if champion else {}
    return found


def _task(row: Migration, key: str, names: dict[int, str]) -> Json:
    """A migration with the words of source 004; `error` is always a text, so that it can be searched."""
    detail = (row.error or {}).get("detail", "")
    return {
        "id": row.id,
        "key": key,
        "src": names.get(row.from_site_id or 0),
        "dst": names.get(row.to_site_id or 0),
        "status": row.state,
        "reason": row.reason,
        "error": ": ".join(part for part in (row.reason, detail) if part),
        "retries": row.retries,
        "created_at": row.created_at,
        "finished_at": row.finished_at,
    }
