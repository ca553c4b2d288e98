"""Plans a made-up catalogue: `python -m bench.plans_ours fill OBJECTS` on an empty database, then `… plan`.

The second prints as JSON the plan's seconds, those of its process' processor, its largest memory, and what it came to.
Three sites, half a year of accesses that fade with age, of which a part comes back.
"""

from __future__ import annotations

import json
import resource
import sys
import time
from datetime import UTC, datetime

from sqlalchemy import text

from app.db import jobs, plans, schema
from app.db.opinions import NAME
from app.db.session import session_scope
from app.db.tables import Job, Json, Site
from app.domain.price_books import shipped
from app.domain.states import JobState, SiteState
from app.errors import Permanent
from app.queue import TaskName
from app.settings import get_settings
from workers.models import train
from workers.placement import plan

NOW = datetime(2026, 6, 30, 12, tzinfo=UTC)
SITES = (("aws", "eu-west-1"), ("azure", "westeurope"), ("gcp", "europe-west1"))
_OBJECTS = """insert into object (key, state, size, first_seen_at)
select 'set' || g % 50 || '/' || g, 'present', exp(10 + 10 * random())::bigint,
    cast(:now as timestamptz) - random() * interval '180 days' from generate_series(1, :count) g"""
_REPLICAS = """insert into replica
    (object_id, site_id, storage_class, state, is_origin, object_version, size, class_since)
select o.id, s.id, s.classes[1], 'serving', true, 1, o.size, o.first_seen_at
from object o join site s on s.id = 1 + o.id % :sites"""
_READS = """insert into access_hour (object_id, hour, region, reads, writes, bytes_read, partial_uploads, last_ts)
select o.id, h.hour, 'eu-west-1', 1, 0, o.size, 0, h.hour from object o cross join lateral (
    select distinct date_trunc('hour', o.first_seen_at + interval '1 day' *
        case when g % 4 = 0 then 180 * random() else exp(4 * random()) - 1 end + o.id * interval '0') as hour
    from generate_series(1, 16) g) h where h.hour < :now"""
_KNOWN = """insert into access_batch (accepted, ts_min, ts_max, rolled_up_at)
select 0, min(hour), max(hour), now() from access_hour"""


def fill(count: int) -> None:
    """Sites, objects and their accesses."""
    with session_scope() as session:
        for provider, region in SITES:
            classes = [entry.name for entry in shipped(provider).classes]
            session.add(
                Site(
                    name=provider, provider=provider, region=region, endpoint_url="http://127.0.0.1:1", bucket="b",
                    access_key="k", secret_key_encrypted=b"s", classes=classes, latency_ms=30.0,
                    state=SiteState.READY, capabilities={"classes": classes},
                )
            )  # fmt: skip
        session.flush()
        session.execute(text("select setseed(0.5)"))
        session.execute(text(_OBJECTS), {"now": NOW, "count": count})
        session.execute(text(_REPLICAS), {"sites": len(SITES)})
        session.execute(text(_READS), {"now": NOW})
        session.execute(text(_KNOWN))
    with session_scope() as session:
        session.execute(text("analyze"))


def learn() -> None:
    """Lets the voters learn, which a plan would let happen in a job before it."""
    with session_scope() as session:
        number = jobs.submit(session, TaskName.TRAIN, {"model": NAME, "as_of": NOW.isoformat()}).id
    train(number)


def measured() -> Json:
    """What a plan of everything took."""
    with session_scope() as session:
        number = jobs.submit(session, TaskName.PLAN, {"as_of": NOW.isoformat()}).id
    started = time.perf_counter()
    plan(number)
    seconds = time.perf_counter() - started
    with session_scope() as session:
        job = session.get_one(Job, number)
        if job.state != JobState.SUCCEEDED or job.result is None:
            raise Permanent(f"the plan ended as {job.state}: {job.error}")
        made = plans.get(session, job.result["plan_id"])
        return {
            "seconds": seconds,
            "processor_s": time.process_time(),
            "memory_mib": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024,
            "moves": made.moves,
            "checked": made.solver["checked"],
            "decided_by": made.solver["vote"]["decided_by"],
        }


if __name__ == "__main__":
    if sys.argv[1] == "fill":
        schema.upgrade(get_settings().sqlalchemy_url)
        fill(int(sys.argv[2]))
        learn()
    else:
        sys.stdout.write(json.dumps(measured()) + "\n")
