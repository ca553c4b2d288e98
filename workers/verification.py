"""Reads replicas again and compares them with what was recorded; wrong ones are never read any more."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field, replace

from sqlalchemy.orm import Session

from app import clock
from app.db import jobs, placement
from app.db import verification as store
from app.db.session import session_scope
from app.db.tables import Json
from app.db.verification import Held, Selection
from app.domain.pins import Pin
from app.domain.placement_problem import SiteOption
from app.domain.verification import Judgement, Look, ReadCost, Seen, Verdict, judge, may_be_read
from app.errors import ChecksumMismatch, Permanent, SiteFaulty, SiteUnavailable, SourceChanged, Throttled
from app.queue import TaskName
from app.s3 import objects
from app.s3.client import Bucket, connect
from app.settings import get_settings
from workers.base import JobContext, job_task
from workers.faults import obey_faults

BATCH = 200
TURN_S = 1800.0
"""A job goes on in a new attempt after this long, from where it was, well before its time limit."""
SHOWN = 20
BY = "verify"


@dataclass
class Findings:
    """What was found so far; `keys` are those of the first replicas that are not as they should be."""

    verdicts: Counter[str] = field(default_factory=Counter)
    keys: list[Json] = field(default_factory=list)
    bytes: int = 0

    def add(self, held: Sequence[Held], saved: dict[str, Verdict]) -> None:
        """Counts the replicas of one object."""
        for each in held:
            verdict = saved[each.site]
            self.verdicts[verdict] += 1
            self.bytes += each.size
            if verdict in (Verdict.CORRUPT, Verdict.MISSING, Verdict.MISREAD) and len(self.keys) < SHOWN:
                self.keys.append({"key": each.key, "site": each.site, "verdict": verdict})

    def as_json(self) -> Json:
        """As it stands in the job's result, and in its arguments when it goes on later."""
        return {"verdicts": dict(self.verdicts), "keys": self.keys, "bytes": self.bytes}

    @staticmethod
    def from_json(stored: Json | None) -> Findings:
        """From what `as_json` stored."""
        if not stored:
            return Findings()
        return Findings(Counter(stored["verdicts"]), list(stored["keys"]), stored["bytes"])


@job_task(TaskName.VERIFY)
def verify(job: JobContext) -> Json | None:
    """Verifies the replicas of args: prefix, keys, site, migration_id; with dry_run only tells what reading costs."""
    obey_faults()
    selection = _selection(job.args)
    with session_scope() as session:
        store.check(session, selection)
        total = store.count(session, selection)
    if job.args.get("dry_run"):
        return cost(selection)
    findings, after = Findings.from_json(job.args.get("so_far")), int(job.args.get("after_id") or 0)

    def save(session: Session, held: list[Held], judged: dict[str, Judgement]) -> None:
        findings.add(held, store.save(session, held, judged, BY))

    left_at = check(job, selection, after, save, lambda: (findings.verdicts.total(), total))
    if left_at is not None:
        with job.postponing("goes on in a moment", 0.0) as session:
            later = {**job.args, "after_id": left_at, "so_far": findings.as_json()}
            jobs.set_args(session, job.id, job.fence, later)
        return None
    return {"replicas": findings.verdicts.total(), **findings.verdicts, "bytes": findings.bytes, "keys": findings.keys}


def _selection(args: Json) -> Selection:
    keys = args.get("keys")
    return Selection(
        args.get("prefix"), tuple(keys) if keys is not None else None, args.get("site"), args.get("migration_id")
    )


def site_options() -> dict[str, SiteOption]:
    """The sites with their price books, by name."""
    with session_scope() as session:
        return {option.name: option for option in placement.world(session, clock.now()).options}


def cost(selection: Selection) -> Json:
    """What reading would cost at most: worked out from the catalogue, nothing is read."""
    told, options = ReadCost(), site_options()
    with session_scope() as session:
        for site, storage_class, sizes in store.classes(session, selection):
            told.add(options.get(site), storage_class, sizes)
    return {"dry_run": True, **vars(told), "usd": round(told.usd, 9)}


Save = Callable[[Session, list[Held], dict[str, Judgement]], None]


def check(
    job: JobContext, selection: Selection, after: int, save: Save, progress: Callable[[], tuple[int, int]]
) -> int | None:
    """Looks at the replicas of the objects after `after`; returns where it stands when its turn ends before they do.

    save: what is done with the verdicts on one object's replicas; progress: how many of how many are done.
    """
    until, options = time.monotonic() + TURN_S, site_options()
    with ThreadPoolExecutor(get_settings().migrate_concurrency, thread_name_prefix="verify") as pool:
        while True:
            with session_scope() as session:
                batch = store.batch(session, selection, after, BATCH)
            for held, looks in zip(batch, pool.map(lambda each: looked_at(each, options), batch), strict=True):
                with job.saving() as session:
                    save(session, held, judge(looks, held[0].elsewhere))
                done, total = progress()
                job.progress(min(done, total), total, "replicas")
            if len(batch) < BATCH:
                return None
            after = batch[-1][0].object_id
            if time.monotonic() > until:
                return after


def looked_at(held: Iterable[Held], options: dict[str, SiteOption]) -> dict[str, Look]:
    """A look at each replica of an object, by site."""
    looks: dict[str, Look] = {}
    for each in held:
        found = _look(each, read=may_be_read(options.get(each.site), each.storage_class))
        looks[each.site] = replace(found, current=each.current)
    return looks


def _look(held: Held, *, read: bool) -> Look:
    bucket = connect(held.address)
    try:
        found = objects.find(bucket, held.key)
        if found is None:
            return Look(Seen.ABSENT, held.sha256)
        if not found.pin.same_object(held.pin):
            return Look(Seen.OTHER, held.sha256)
        if not read or found.customer_key:
            wrong = found.sha256 is not None and held.sha256 is not None and found.sha256 != held.sha256
            return Look(Seen.WRONG if wrong else Seen.LOOKED, held.sha256)
        return _read(held)
    except SourceChanged:
        return Look(Seen.OTHER, held.sha256)
    except (SiteUnavailable, SiteFaulty, Throttled, Permanent):
        return Look(Seen.SILENT, held.sha256)  # and the other replicas are looked at all the same


def _read(held: Held) -> Look:
    """All of the replica, twice when it is not as expected: the way may be at fault instead of the site."""
    bucket = connect(held.address)
    first = sha256_of(bucket, held.key, held.pin)
    if first is not None and held.expected in (None, first):
        return Look(Seen.READ, held.sha256, first)
    second = sha256_of(bucket, held.key, held.pin)
    if second is not None and second == held.expected:
        return Look(Seen.READ, held.sha256, second)
    if first != second:
        return Look(Seen.MISREAD, held.sha256)
    return Look(Seen.READ if second else Seen.WRONG, held.sha256, second)


def sha256_of(bucket: Bucket, key: str, pin: Pin) -> str | None:
    """SHA-256 of all that is read of the pinned object; None when it ends early. Raises SourceChanged."""
    try:
        return objects.hashes(bucket, key, pin, max(1, pin.size))[0]
    except ChecksumMismatch:
        return None
