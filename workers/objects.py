"""Inventory: brings the catalogue in line with a site's listing, page by page (step: ingest)."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor
from datetime import datetime

from app.db import absence, objects, sites
from app.db.objects import Scanned
from app.db.session import session_scope
from app.db.tables import Json, Site
from app.domain.keys import is_own
from app.domain.pins import Pin
from app.domain.states import SiteState
from app.errors import Conflict, ForetideError, ObjectMissing
from app.queue import TaskName
from app.s3 import objects as s3_objects
from app.s3.client import Bucket, connect
from app.settings import get_settings
from workers.base import JobContext, job_task
from workers.faults import obey_faults

LOOKS = 200
"""Absent objects that are looked for before what was found is saved."""


@job_task(TaskName.SCAN)
def scan(job: JobContext) -> Json:
    """Lists one site, or all that are ready, and counts what is there, new, changed and absent.

    args: site, prefix, believe_absent (however much is absent at once), tags (reads them too).
    """
    obey_faults()
    prefix = str(job.args.get("prefix") or "")
    with session_scope() as session:
        wanted = [sites.get(session, job.args["site"])] if job.args.get("site") else sites.listing(session)
    if job.args.get("site") and wanted[0].state == SiteState.PROBING:
        raise Conflict(f"{wanted[0].name} has not been probed yet")
    ready = [site for site in wanted if site.state in (SiteState.READY, SiteState.DRAINING)]
    result: Json = {"objects": 0, "bytes": 0, "new": 0, "changed": 0, "absent": 0, "gone": 0}
    result |= {"tags_read": 0, "tags_unread": 0} if job.args.get("tags") else {}
    for site in ready:
        for name, number in _scan_site(job, site, prefix, result["objects"]).items():
            result[name] += number
    return result


def _scan_site(job: JobContext, site: Site, prefix: str, before: int) -> Json:
    with session_scope() as session:
        began = objects.clock(session)
    total, tagged = Scanned(), Counter[str]()
    bucket = connect(sites.address(site))
    for page in s3_objects.pages(bucket, prefix):
        listed = {line.key: line.pin for line in page if not is_own(line.key)}
        marked = _marked(site, listed)
        with job.saving() as session:
            total.add(objects.save_page(session, site.id, listed, began, marked))
        if job.args.get("tags"):
            tagged += _save_tags(job, bucket, list(listed))
        job.progress(before + total.objects, 0, "objects")
    with job.saving() as session:
        absent = absence.count_missed(session, site.id, prefix, began)
        doubted = absence.doubt(session, site.id)
    believed = not doubted or bool(job.args.get("believe_absent"))
    gone = _gone(job, site, prefix, began) if absent and believed else 0
    return {**vars(total), "absent": absent, "gone": gone, **tagged}


def _save_tags(job: JobContext, bucket: Bucket, keys: list[str]) -> Counter[str]:
    """Reads the tags of some objects and keeps them; how many were told, and how many the site did not tell."""
    with ThreadPoolExecutor(get_settings().migrate_concurrency, thread_name_prefix="tags") as pool:
        found = dict(zip(keys, pool.map(lambda key: _tags(bucket, key), keys), strict=True))
    told = {key: tags for key, tags in found.items() if tags is not None}
    with job.saving() as session:
        objects.save_tags(session, told)
    return Counter(tags_read=len(told), tags_unread=len(found) - len(told))


def _tags(bucket: Bucket, key: str) -> dict[str, str] | None:
    """The object's tags; None where the site does not tell them."""
    try:
        return s3_objects.tags(bucket, key)
    except ForetideError:
        return None


def _gone(job: JobContext, site: Site, prefix: str, began: datetime) -> int:
    """Looks for each object that several listings did not show: a listing may leave out what is there."""
    bucket, gone, after = connect(sites.address(site)), 0, 0
    with ThreadPoolExecutor(get_settings().migrate_concurrency, thread_name_prefix="look") as pool:
        while True:
            with session_scope() as session:
                batch = absence.candidates(session, site.id, prefix, began, after, LOOKS)
            looks = list(pool.map(lambda each: _look(bucket, each.key), batch))
            found = {each.key: pin for each, (pin, _) in zip(batch, looks, strict=True) if pin}
            missing = [each.object_id for each, (_, is_missing) in zip(batch, looks, strict=True) if is_missing]
            with job.saving() as session:
                objects.save_page(session, site.id, found, began)
            with job.saving() as session:
                gone += absence.gone(session, site.id, missing, began)
            job.check()
            if len(batch) < LOOKS:
                return gone
            after = batch[-1].object_id


def _look(bucket: Bucket, key: str) -> tuple[Pin | None, bool]:
    """What stands there, and whether it is surely missing; what the site does not tell is asked again after a scan."""
    try:
        return s3_objects.head(bucket, key).pin, False
    except ObjectMissing:
        return None, True
    except ForetideError:
        return None, False


def _marked(site: Site, listed: Iterable[str]) -> set[str]:
    """Of the keys where migrations had begun to write and came to nothing, those whose object is a migration's own."""
    with session_scope() as session:
        doubtful = objects.unfinished(session, site.id, listed)
    bucket = connect(sites.address(site))
    return {key for key in doubtful if (found := s3_objects.find(bucket, key)) and found.intent}
