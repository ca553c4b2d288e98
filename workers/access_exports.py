"""The `export` task: closed days of accesses become Parquet at a site, each proven before it counts (step: batch).

A day is exported again when accesses of it came late. Retention waits for it. Interrupted, the next run begins the day
anew: its key holds the old file or the new one, and nothing is recorded before it was read back.
"""

from __future__ import annotations

from datetime import date, datetime, timedelta
from pathlib import Path

from app import clock
from app.db import access_days, access_exports, alerts, policies, sites
from app.db.access_exports import Exported
from app.db.session import session_scope
from app.db.tables import Json, Site
from app.domain.keys import EXPORTS
from app.domain.states import SiteState
from app.errors import (
    Cancelled,
    Conflict,
    ForetideError,
    LeaseLost,
    NotFound,
    PolicyForbids,
    SettingsError,
    SiteUnavailable,
)
from app.queue import TaskName
from app.s3 import files
from app.s3.client import connect
from app.settings import get_settings
from workers.base import JobContext, job_task
from workers.faults import obey_faults

ALERT = "export_failed"


@job_task(TaskName.EXPORT)
def export(job: JobContext) -> Json:
    """Exports the days that are due; the result names them, and says so where exports are off."""
    obey_faults()
    name = get_settings().export_site
    if not name:
        return {"site": None, "days": [], "rows": 0, "reason": "FORETIDE_EXPORT_SITE is not set"}
    try:
        done = _export_due(job, name)
    except (Cancelled, LeaseLost):
        raise
    except ForetideError as error:
        with session_scope() as session:
            alerts.raise_alert(session, ALERT, "critical", f"accesses are not exported: {error.detail}", subject=name)
        raise
    with session_scope() as session:
        alerts.clear(session, ALERT, name)
    return done


def _export_due(job: JobContext, name: str) -> Json:
    moment = _as_of(job)
    site = _site(name)
    with session_scope() as session:
        days = access_exports.due(session, moment - timedelta(days=get_settings().export_after_days))
    told: Json = {"site": name, "days": [], "rows": 0}
    for number, day in enumerate(days, 1):
        told["rows"] += export_day(job, site, day)
        told["days"].append(day.isoformat())
        job.progress(number, len(days), "days")
    return told


def _as_of(job: JobContext) -> datetime:
    given = job.args.get("as_of")
    return datetime.fromisoformat(given) if given else clock.now()


def _site(name: str) -> Site:
    """The site, if accesses may be written there now."""
    with session_scope() as session:
        try:
            site = sites.get(session, name)
        except NotFound:
            raise SettingsError(f"FORETIDE_EXPORT_SITE names {name}, which is no site") from None
        enforced, facts = policies.load(session).encryption_enforced, sites.facts(site)
    if enforced and not facts.encrypted:
        raise PolicyForbids(f"{name} does not encrypt, and the security policy asks for it")
    if site.state in (SiteState.REFUSED, SiteState.DRAINING):
        raise Conflict(f"{name} is {SiteState(site.state).value}: {site.reason or 'it receives nothing more'}")
    if site.state != SiteState.READY:
        raise SiteUnavailable(f"{name} is {SiteState(site.state).value}")
    return site


def export_day(job: JobContext, site: Site, day: date) -> int:
    """Writes the day's file, proves it and records it; returns its number of accesses."""
    from workers.batch_files import accesses_from_database, workspace

    settings, facts = get_settings(), sites.facts(site)
    key = f"{EXPORTS}{day}/accesses.parquet"
    with session_scope() as session:
        blocks, _ = access_days.blocks(session, day)  # before the rows: what comes between makes the export outdated
    with workspace() as folder:
        path: Path = folder / "accesses.parquet"
        rows = accesses_from_database(access_days.whole(day), path)
        sha256, etag = files.upload(
            connect(sites.address(site)),
            key,
            path,
            storage_class=site.classes[0],
            part_size=settings.part_size,
            conditional=facts.capabilities.conditional_put and facts.capabilities.conditional_complete,
            check=job.check,
        )
        exported = Exported(day, rows, path.stat().st_size, blocks, sha256, etag)
    with job.saving() as session:
        access_exports.save(session, site.id, key, exported)
    return rows
