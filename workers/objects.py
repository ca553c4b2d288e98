"""Inventory: brings the catalogue in line with a site's listing, page by page (step: ingest)."""

from __future__ import annotations

from collections.abc import Iterable

from app.db import changes, objects, sites
from app.db.objects import Scanned
from app.db.session import session_scope
from app.db.tables import Json, Site
from app.domain.states import SiteState
from app.errors import Conflict
from app.queue import TaskName
from app.s3 import objects as s3_objects
from app.s3.client import connect
from app.s3.probe import PREFIX
from workers.base import JobContext, job_task
from workers.faults import obey_faults


@job_task(TaskName.SCAN)
def scan(job: JobContext) -> Json:
    """Lists one site (args: site, prefix), or all that are ready, and counts what is there, new, changed and absent."""
    obey_faults()
    prefix = str(job.args.get("prefix") or "")
    with session_scope() as session:
        wanted = [sites.get(session, job.args["site"])] if job.args.get("site") else sites.listing(session)
    if job.args.get("site") and wanted[0].state == SiteState.PROBING:
        raise Conflict(f"{wanted[0].name} has not been probed yet")
    ready = [site for site in wanted if site.state in (SiteState.READY, SiteState.DRAINING)]
    result: Json = {"objects": 0, "bytes": 0, "new": 0, "changed": 0, "absent": 0, "gone": 0}
    for site in ready:
        for name, number in _scan_site(job, site, prefix, result["objects"]).items():
            result[name] += number
    return result


def _scan_site(job: JobContext, site: Site, prefix: str, before: int) -> Json:
    with session_scope() as session:
        began = objects.clock(session)
    total = Scanned()
    for page in s3_objects.pages(connect(sites.address(site)), prefix):
        listed = {line.key: line.pin for line in page if not line.key.startswith(PREFIX)}
        marked = _marked(site, listed)
        with job.saving() as session:
            total.add(objects.save_page(session, site.id, listed, began, marked))
        job.progress(before + total.objects, 0, "objects")
    with job.saving() as session:
        absent, gone = changes.absent(session, site.id, prefix, began)
    return {**vars(total), "absent": absent, "gone": gone}


def _marked(site: Site, listed: Iterable[str]) -> set[str]:
    """Of the keys where migrations had begun to write and came to nothing, those whose object is a migration's own."""
    with session_scope() as session:
        doubtful = objects.unfinished(session, site.id, listed)
    bucket = connect(sites.address(site))
    return {key for key in doubtful if (found := s3_objects.find(bucket, key)) and found.intent}
