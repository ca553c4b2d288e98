"""Tidies sites: copies that nothing reads any more, uploads that nobody will finish, what deletes leave behind."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence
from datetime import timedelta

from app.db import findings, migration_parts, policies, removal, sites, uploads
from app.db.removal import Left
from app.db.session import session_scope
from app.db.tables import Json, Site
from app.domain.states import SiteState
from app.domain.tidying import Cause, RemovalAction, is_orphan
from app.errors import Permanent, SiteFaulty, SiteUnavailable, Throttled, UnknownOutcome
from app.queue import TaskName
from app.s3 import multipart
from app.s3 import uploads as s3_uploads
from app.s3.client import connect
from app.s3.uploads import Upload
from app.settings import get_settings
from workers.base import JobContext, job_task
from workers.faults import obey_faults
from workers.removal import remove

BATCH = 200
SHOWN = 20


@job_task(TaskName.TIDY)
def tidy(job: JobContext) -> Json:
    """Tidies args.site, or all that are ready; with dry_run it only says what would be removed."""
    obey_faults()
    with session_scope() as session:
        wanted = [sites.get(session, job.args["site"])] if job.args.get("site") else sites.listing(session)
        propagate = bool(policies.load(session).document("retention").get("propagate_deletes"))
    result = _nothing_yet(job)
    for done, site in enumerate(wanted, start=1):
        if site.state in (SiteState.READY, SiteState.DRAINING):
            _Tidy(job, site, result).run(propagate=propagate)
        job.progress(done, len(wanted), "sites")
    return result


@job_task(TaskName.REMOVE_COPIES)
def remove_copies(job: JobContext) -> Json:
    """Removes what is left of the objects of args.keys, which their owner has deleted."""
    obey_faults()
    with session_scope() as session:
        wanted = sites.listing(session)
    result = _nothing_yet(job)
    for site in wanted:
        _Tidy(job, site, result).gone(Cause.OPERATOR, list(job.args["keys"]))
    return result


def _nothing_yet(job: JobContext) -> Json:
    dry_run = bool(job.args.get("dry_run"))
    return {"removed": 0, "uploads_aborted": 0, "kept": {}, "items": [], "dry_run": dry_run}


class _Tidy:
    """One site's turn."""

    def __init__(self, job: JobContext, site: Site, result: Json) -> None:
        self._job, self._site, self._result = job, site, result
        self._prefix = str(job.args.get("prefix") or "")
        self._dry_run = bool(job.args.get("dry_run"))
        self._kept = Counter[str](result["kept"])

    def run(self, *, propagate: bool) -> None:
        """All that is to be tidied. propagate: also the copies of objects that their owner deleted.

        A site that does not answer, or refuses, is left to the next pass and does not keep the others from theirs.
        """
        try:
            self._run(propagate=propagate)
        except (SiteUnavailable, SiteFaulty, Throttled, UnknownOutcome, Permanent) as error:
            self._keep(error.reason)

    def _run(self, *, propagate: bool) -> None:
        if not self._dry_run:
            with session_scope() as session:
                removal.set_grace(session, self._site.id, get_settings().grace_s)
        self._uploads()
        self._each(self._leftovers)
        self._dark()
        if propagate:
            self.gone(Cause.GONE, None)

    def gone(self, cause: Cause, keys: Sequence[str] | None) -> None:
        """Removes the copies of objects that their owner deleted."""

        def load(after: int) -> list[Left]:
            with session_scope() as session:
                return removal.of_gone(session, self._site.id, after, BATCH, cause, keys)

        self._each(load)

    def _leftovers(self, after: int) -> list[Left]:
        with session_scope() as session:
            return removal.leftovers(session, self._site.id, self._prefix, after, BATCH)

    def _each(self, load: Callable[[int], list[Left]]) -> None:
        after = 0
        while batch := load(after):
            for left in batch:
                self._job.check()
                self._told(left, *remove(self._job, left, dry_run=self._dry_run))
            after = batch[-1].object_id
            self._tell_progress()

    def _dark(self) -> None:
        after = 0
        while True:
            with session_scope() as session:
                batch = removal.dark(session, self._site.id, self._prefix, after, BATCH)
            for after, left in batch:
                self._job.check()
                action, reason = remove(self._job, left, dry_run=self._dry_run)
                self._told(left, action, reason)
                if not self._dry_run and action in (RemovalAction.DELETE, RemovalAction.ABSENT):
                    with session_scope() as session:
                        findings.resolve(session, after)
            self._tell_progress()
            if len(batch) < BATCH:
                return

    def _tell_progress(self) -> None:
        self._job.progress(self._result["removed"] + sum(self._kept.values()), 0, "copies")

    def _told(self, left: Left, action: RemovalAction, reason: str) -> None:
        if action is RemovalAction.DELETE:
            self._result["removed"] += 1
            self._item(left.key, "copy", left.cause)
        elif action in (RemovalAction.KEEP, RemovalAction.WAIT):
            self._keep(reason)

    def _keep(self, reason: str) -> None:
        self._kept[reason] += 1
        self._result["kept"] = dict(self._kept)

    def _item(self, key: str, what: str, why: str) -> None:
        if len(self._result["items"]) < SHOWN:
            self._result["items"].append({"site": self._site.name, "key": key, "what": what, "why": why})

    # -- uploads ------------------------------------------------------------------------------------------------------

    def _uploads(self) -> None:
        """Aborts uploads that ended migrations have left, by their stored ids, then those whose id was never stored."""
        with session_scope() as session:
            left = uploads.stored(session, self._site.id)
        for migration_id, key, upload_id in left:
            self._job.check()
            if self._abort(key, upload_id, "stored") and not self._dry_run:
                with session_scope() as session:
                    migration_parts.forget_upload(session, migration_id, upload_id)
        done = {upload_id for _, _, upload_id in left}
        try:
            for page in s3_uploads.pages(connect(sites.address(self._site)), self._prefix):
                self._unstored([upload for upload in page if upload.upload_id not in done])
        except Permanent as error:  # a server that does not list them
            self._keep(error.reason)

    def _unstored(self, page: Sequence[Upload]) -> None:
        with session_scope() as session:
            known = uploads.claimants(session, self._site.id, [upload.key for upload in page])
        offset = timedelta(seconds=sites.facts(self._site).capabilities.clock_offset_s)
        bucket = connect(sites.address(self._site))
        for upload in page:
            self._job.check()
            claimants, initiated = known.get(upload.key, []), upload.initiated - offset
            if not is_orphan(upload.upload_id, initiated, claimants, has_parts=False):
                continue  # parts are asked for only where they decide
            parts = multipart.sent_parts(bucket, upload.key, upload.upload_id)
            if is_orphan(upload.upload_id, initiated, claimants, has_parts=bool(parts)):
                self._abort(upload.key, upload.upload_id, "never_stored")

    def _abort(self, key: str, upload_id: str, why: str) -> bool:
        """Returns whether the upload is gone, or would be; one that the site refuses to end is told."""
        try:
            if not self._dry_run and not multipart.abort(connect(sites.address(self._site)), key, upload_id):
                self._keep("uploads_never_aborted")
                return True
        except (Permanent, UnknownOutcome) as error:
            self._keep(error.reason)
            return False
        self._result["uploads_aborted"] += 1
        self._item(key, "upload", why)
        return True
