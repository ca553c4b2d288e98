"""The `route` step: reads a few objects as a client would, so that routing knows each site's latency."""

from __future__ import annotations

import time
from statistics import quantiles

import httpx

from app import presign
from app.db import routing, sites
from app.db.session import session_scope
from app.db.tables import Json, Replica, Site
from app.queue import TaskName
from app.settings import get_settings
from workers.base import JobContext, job_task

READS_PER_SITE = 10
FIRST_BYTES = 64 * 1024


@job_task(TaskName.ROUTE)
def sample_reads(job: JobContext) -> Json:
    """Reads the beginning of up to ten objects a site; every read is a sample of that site."""
    with session_scope() as session:
        chosen = routing.some_serving(session, READS_PER_SITE)
    rows: list[Json] = []
    with httpx.Client(timeout=get_settings().s3_read_timeout_s) as client:
        for done, (key, site, replica) in enumerate(chosen, 1):
            rows.append(_read(client, key, site, replica))
            job.progress(done, len(chosen), "reads")
    with job.finishing(_summary(rows)) as session:
        routing.add_samples(session, rows)
    return {}


def _read(client: httpx.Client, key: str, site: Site, replica: Replica) -> Json:
    row: Json = {"site_id": site.id, "source": "read", "ok": False}
    started = time.monotonic()
    try:
        url = presign.get_url(sites.address(site), key, expires_s=get_settings().presign_ttl_s)
        answer = client.get(url, headers={"Range": f"bytes=0-{FIRST_BYTES - 1}"} if replica.size else {})
        row |= {"ok": answer.status_code < 400, "latency_ms": (time.monotonic() - started) * 1000}
    except httpx.HTTPError as error:
        row["error"] = type(error).__name__
    return row


def _summary(rows: list[Json]) -> Json:
    latencies = [row["latency_ms"] for row in rows if row["ok"]]
    if len(latencies) < 2:
        return {"reads": len(rows), "failed": len(rows) - len(latencies)}
    cuts = quantiles(latencies, n=20)
    return {"reads": len(rows), "failed": len(rows) - len(latencies), "p50_ms": cuts[9], "p95_ms": cuts[18]}
