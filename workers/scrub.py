"""Compares a site with the catalogue: dump, listing, dump; what differs and is confirmed by a look is a finding."""

from __future__ import annotations

from collections import Counter
from datetime import datetime, timedelta

from sqlalchemy.orm import Session

from app.db import findings, jobs, sites
from app.db import scrub as store
from app.db import verification as verified
from app.db.scrub import Line
from app.db.session import session_scope
from app.db.tables import Json, Site
from app.db.verification import Held, Selection
from app.domain.keys import is_own
from app.domain.scrub import FindingKind, Looked, Suspicion, Why, confirm, is_corrupt, suspect
from app.domain.states import SiteState
from app.domain.verification import Judgement, Verdict, may_be_read
from app.errors import Conflict, Permanent, SourceChanged
from app.queue import TaskName
from app.s3 import objects
from app.s3.client import Bucket, connect
from app.s3.clocks import now_at
from app.s3.heads import Head
from app.settings import get_settings
from workers.base import JobContext, job_task
from workers.faults import obey_faults
from workers.verification import check, cost, sha256_of, site_options

BATCH = 1000


@job_task(TaskName.SCRUB)
def scrub(job: JobContext) -> Json | None:
    """Scrubs args.site, or the keys of a prefix there; with deep every replica is read again."""
    obey_faults()
    with session_scope() as session:
        site = sites.get(session, job.args["site"])
    if site.state not in (SiteState.READY, SiteState.DRAINING):
        raise Conflict(f"{site.name} is {site.state}")
    work = Scrub(job, site)
    if "so_far" not in job.args:
        work.compare()
    left_at = work.read_all() if job.args.get("deep") else None
    if left_at is not None:
        with job.postponing("goes on in a moment", 0.0) as session:
            jobs.set_args(session, job.id, job.fence, {**job.args, "after_id": left_at, "so_far": work.result})
        return None
    return work.finish()


class Scrub:
    """One scrub of a site: what it has found so far stands in `result`."""

    def __init__(self, job: JobContext, site: Site) -> None:
        self._job, self._site = job, site
        self._prefix = str(job.args.get("prefix") or "")
        self._dry_run = bool(job.args.get("dry_run"))
        empty: Json = {"replicas": 0, "listed": 0, "dispelled": 0, "read": 0, "found": {}}
        self.result: Json = dict(job.args.get("so_far") or empty)
        self._bucket: Bucket = connect(sites.address(site))
        self._began, self._before = self._times()
        self.result["began"] = self._began.isoformat()
        self._found = Counter[str](self.result["found"])

    def _times(self) -> tuple[datetime, datetime]:
        """When the scrub began, and how old by the server's clock a key must be to be judged.

        What is younger may have been written since the first dump. The first attempt's times hold for the later ones.
        """
        if known := self._job.args.get("times"):
            return datetime.fromisoformat(known[0]), datetime.fromisoformat(known[1])
        with session_scope() as session:
            began: datetime = store.clock(session)
        offset = timedelta(seconds=sites.facts(self._site).capabilities.clock_offset_s)
        before = (now_at(self._bucket) or began + offset) - timedelta(seconds=get_settings().growing_age_s)
        with self._job.saving() as session:
            self._job.args["times"] = [began.isoformat(), before.isoformat()]
            jobs.set_args(session, self._job.id, self._job.fence, self._job.args)
        return began, before

    # -- dump, listing, dump ------------------------------------------------------------------------------------------

    def compare(self) -> None:
        """Finds what the site holds besides or instead of what the catalogue says."""
        with self._job.saving() as session:
            self.result["replicas"] = store.begin(session, self._job.id, self._site.id, self._prefix)
        for page in objects.pages(self._bucket, self._prefix):
            with self._job.saving() as session:
                kept = {line.key: line.pin for line in page if not is_own(line.key)}
                store.add_page(session, self._job.id, kept)
            self.result["listed"] += len(kept)
            self._job.progress(self.result["listed"], 0, "objects")
        after: str | None = None
        while True:
            with session_scope() as session:
                lines = store.lines(session, self._job.id, self._site.id, after, BATCH)
            for line in lines:
                suspicion = suspect(line.first, line.listed, line.second, self._before)
                read_later = suspicion and suspicion.why is Why.BYTES and self._job.args.get("deep")
                if suspicion and not read_later:
                    self._look(line, suspicion)
            if len(lines) < BATCH:
                return
            after = lines[-1].key

    def _look(self, line: Line, suspicion: Suspicion) -> None:
        self._job.check()
        try:
            found = objects.find(self._bucket, line.key)
        except Permanent:  # such as one that is encrypted with a key of its owner's: it is there, and not ours
            if suspicion.kind is FindingKind.DARK and (self._dry_run or self._save(line, suspicion, None)):
                self._count(suspicion)
            return
        with session_scope() as session:
            mark = store.mark_of(session, self._site.id, line.key, found.intent if found else None)
        confirmed = confirm(suspicion, line.listed, Looked(found.pin, mark) if found else None)
        if (
            confirmed
            and found
            and confirmed.kind is FindingKind.CORRUPT
            and not self._is_corrupt(line, confirmed, found)
        ):
            confirmed = None
        if confirmed is None:
            self.result["dispelled"] += 1
        elif self._dry_run or self._save(line, confirmed, found):
            self._count(confirmed)

    def _is_corrupt(self, line: Line, suspicion: Suspicion, found: Head | None) -> bool:
        if line.first is None or line.first.pin is None or found is None:
            return False
        right = None if suspicion.why is Why.BYTES else self._bytes_right(line.key, found)
        return is_corrupt(suspicion, line.first.pin, found.pin, bytes_right=right)

    def _bytes_right(self, key: str, found: Head) -> bool | None:
        """Whether what stands there has the recorded bytes; None when that cannot be told."""
        with session_scope() as session:
            expected = verified.expected(session, key, self._site.id)
        if expected is None:
            return None
        if not may_be_read(site_options().get(self._site.name), found.pin.storage_class):
            return None if found.sha256 is None else found.sha256 == expected
        try:
            return expected in (sha256_of(self._bucket, key, found.pin) for _ in range(2))
        except SourceChanged:
            return None

    def _save(self, line: Line, found: Suspicion, head: Head | None) -> bool:
        pin, intent = (head.pin, head.intent) if head else (None, None)
        with self._job.saving() as session:
            return store.save(session, self._site.id, line, found, pin, intent, self._began)

    def _count(self, found: Suspicion) -> None:
        self._found[found.counts_as] += 1
        self.result["found"] = dict(self._found)

    # -- deep ---------------------------------------------------------------------------------------------------------

    def read_all(self) -> int | None:
        """Reads every replica of the site again; returns where it stands when its turn is over."""
        selection = Selection(prefix=self._prefix or None, site=self._site.name)
        if self._dry_run:
            self.result["reading"] = cost(selection)
            return None
        with session_scope() as session:
            total = verified.count(session, selection)
        after = int(self._job.args.get("after_id") or 0)
        return check(self._job, selection, after, self._read, lambda: (self.result["read"], total))

    def _read(self, session: Session, held: list[Held], judged: dict[str, Judgement]) -> None:
        self.result["read"] += len(held)
        verdicts = verified.save(session, held, judged, store.BY)
        found = Suspicion(FindingKind.CORRUPT, Why.BYTES)
        for each in held:
            wrong = verdicts[each.site] is Verdict.CORRUPT
            if wrong and findings.note(session, self._site.id, each.key, found, each.pin, None, self._began):
                self._count(found)

    # -- end ----------------------------------------------------------------------------------------------------------

    def finish(self) -> Json | None:
        """Resolves what was no longer found and ends the job."""
        result: Json = {"dry_run": self._dry_run}
        with self._job.finishing(result) as session:
            store.end(session, self._job.id)
            if not self._dry_run:
                self.result["found"] = findings.found(session, self._site.id, self._prefix, self._began)
                result["open"] = findings.end_scrub(session, self._site.id, self._prefix, self._began)
            result.update(self.result, **self.result["found"])
        return None
