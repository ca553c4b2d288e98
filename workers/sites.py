"""Sites: probed in full when registered and once a day, asked for a sign of life in between (step: watch)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from datetime import UTC, datetime, timedelta

from app.db import sites
from app.db.session import session_scope
from app.db.tables import Json, Site
from app.domain.states import SiteState
from app.errors import ForetideError, Permanent, SiteUnavailable, Transient
from app.queue import TaskName
from app.s3 import probe as s3_probe
from app.s3.client import Bucket, connect
from workers.base import JobContext, job_task
from workers.faults import obey_faults

FULL_EVERY = timedelta(days=1)


@job_task(TaskName.PROBE)
def probe(job: JobContext) -> Json:
    """Probes one site in full (args: site), or asks each for a sign of life; a failing site is a finding."""
    obey_faults()
    name = job.args.get("site")
    with session_scope() as session:
        known = sites.listing(session)
        wanted = [sites.get(session, name)] if name else known
    result: Json = {}
    for done, site in enumerate(wanted, start=1):
        result[site.name] = _look_at(site, known, full=name is not None or _is_due(site))
        job.progress(done, len(wanted), "sites")
    return result


def _is_due(site: Site) -> bool:
    return site.probed_at is None or site.probed_at < datetime.now(UTC) - FULL_EVERY


def _look_at(site: Site, known: Sequence[Site], *, full: bool) -> Json:
    """What the site answered, kept in its row with a sample of its latency."""
    try:
        bucket = connect(replace(sites.address(site), class_names=()))
        latency_ms = s3_probe.ping(bucket)
        capabilities = s3_probe.probe(bucket, site.classes) if full else None
        if capabilities and not capabilities.read_only:
            _is_not_known(site, bucket, known)
    except ForetideError as error:
        state = SiteState.UNREACHABLE if isinstance(error, SiteUnavailable) else SiteState.REFUSED
        if not isinstance(error, Transient) or isinstance(error, SiteUnavailable):
            with session_scope() as session:
                sites.record_silence(session, site.id, state, error.reason, error.detail)
        return {"ok": False, "reason": error.reason, "detail": error.detail}
    with session_scope() as session:
        if capabilities:
            sites.record_probe(session, site.id, capabilities)
        sites.record_answer(session, site.id, latency_ms)
    return {"ok": True, "latency_ms": round(latency_ms, 2)}


def _is_not_known(site: Site, bucket: Bucket, known: Sequence[Site]) -> None:
    """Raises Permanent when the bucket is that of a site which was registered before: it would count as two copies."""
    silent = (SiteState.UNREACHABLE, SiteState.REFUSED)
    earlier = [connect(sites.address(other)) for other in known if other.id < site.id and other.state not in silent]
    if twin := s3_probe.same_bucket(bucket, earlier):
        told = f"{site.name} is the bucket of site {twin} under another address; two sites must be two places"
        raise Permanent(f"{told}: foretide sites remove {site.name}", reason=sites.SAME_BUCKET)
