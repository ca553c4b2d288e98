"""The whole engine beside rclone: small objects copied by the running worker, each with its row, budget and audit."""

from __future__ import annotations

import time
from collections.abc import Iterator
from datetime import UTC, datetime
from statistics import median

from sqlalchemy import select

from app.db import migration_plans, sites
from app.db.session import session_scope
from app.db.tables import Move, Object, Plan
from app.domain.states import MoveKind, PlanState
from app.errors import Permanent
from app.settings import get_settings
from bench.copy import fill, rclone
from bench.result import Result, more
from bench.rig import Rig

ROUNDS, COUNT, BYTES = 3, 1000, 10_000
BAR = 1.0


def measure(rig: Rig) -> Iterator[Result]:
    """Moves from the job's start to its end; medians of several rounds, each with new objects."""
    source, destination, other = rig.stack.sites
    ours, theirs = [], []
    with rig.client() as client:
        for turn in range(ROUNDS):
            prefix = f"moves/{turn}/"
            fill(source, prefix, COUNT, BYTES)
            client.wait(client.scan(source.name))
            time.sleep(get_settings().growing_age_s + 1)  # until they are no longer taken for still being written
            job = client.wait(client.job(_apply(prefix, source.name, destination.name)))
            if job["result"]["verified"] != COUNT:
                raise Permanent(f"{job['result']} of {COUNT} objects were copied")
            times = [datetime.fromisoformat(job[name]) for name in ("started_at", "finished_at")]
            ours.append((times[1] - times[0]).total_seconds())
            theirs.append(rclone(source, other, prefix))
    yield more("moves", COUNT / median(ours), COUNT / median(theirs), "objects/s", BAR)


def _apply(prefix: str, source: str, destination: str) -> int:
    """Saves and applies a plan that copies every object under the prefix; the sweep rings for its job."""
    with session_scope() as session:
        ids = {site.name: site.id for site in sites.listing(session)}
        first_class = sites.get(session, destination).capabilities["classes"][0]
        found = session.scalars(select(Object).where(Object.key.startswith(prefix))).all()
        plan = Plan(
            state=PlanState.READY, as_of=datetime.now(UTC), cost_before=0, cost_after=0, one_off=0,
            objects=len(found), moves=len(found),
        )  # fmt: skip
        session.add(plan)
        session.flush()
        session.add_all(
            Move(
                plan_id=plan.id, object_id=row.id, object_version=row.version, kind=MoveKind.COPY,
                from_site_id=ids[source], to_site_id=ids[destination], to_class=first_class, bytes=BYTES, one_off=0,
                monthly_delta=0, reason="bench",
            )
            for row in found
        )  # fmt: skip
        session.flush()
        job = migration_plans.apply(session, plan.id, actor="bench")
        job.rung_at = None
        return job.id
