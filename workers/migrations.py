"""Executes moves: claims a job's migrations in batches and works on several at a time (step: migrate)."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import FIRST_COMPLETED, Executor, Future, ThreadPoolExecutor, wait
from functools import partial

import structlog
from sqlalchemy.orm import Session

from app.db import migration_counts, migration_limits, migration_work, migrations, peaks
from app.db.jobs import Bell
from app.db.migration_work import Work
from app.db.migrations import Claim, Claimable
from app.db.session import session_scope
from app.domain.limits import Limits
from app.domain.migrations import SWITCHED
from app.errors import Cancelled, DatabaseUnavailable, ForetideError, HeldBack, LeaseLost
from app.queue import TaskName
from app.settings import Settings, get_settings
from workers import shutdown
from workers.base import raw_task, ring_all, worker_name
from workers.faults import obey_faults
from workers.flow import FLOW
from workers.migration_attempts import Attempts
from workers.migration_groups import GROUP, groups, is_small

log = structlog.get_logger()
TICK_S = 1.0
"""How often a task looks whether its work is to be stopped, and writes how far the job is."""
TURN_S = 600.0
"""A task claims nothing more after this long, so that other jobs get their turn."""
Running = dict["Future[Exception | None]", list[Work]]


@raw_task(TaskName.MIGRATE)
def migrate(job_id: int) -> None:
    """Works on a job's ready migrations until none is ready: what waits for a time is rung for by the sweep.

    Several workers may work on the same job. Also after the job has ended: what it has switched is deleted after the
    grace.
    """
    obey_faults()
    FLOW.install()
    Batch(job_id, get_settings()).run()


class Batch:
    """The claims of one task: taken, renewed, worked on in threads, given back."""

    def __init__(
        self,
        job_id: int,
        settings: Settings,
        at: Callable[[str], None] = lambda _: None,
        now: Callable[[], float] = time.monotonic,
        threads: Callable[[int, str], Executor] = ThreadPoolExecutor,
    ) -> None:
        """at: called at each point where a crash must do no harm; now: seconds by which leases are held.

        threads: what works is done in, from how many there are and their name.
        """
        self._job_id, self._settings, self._now = job_id, settings, now
        self._held: dict[int, Claim] = {}
        self._stopped: dict[int, Callable[[], ForetideError]] = {}
        self._limits = Limits()
        self._waves = True
        self._failures = 0
        self._leased_until = 0.0
        self._renewed = 0.0
        self._ticked = 0.0
        self._requests = threads(settings.migrate_concurrency, "request")
        self._movers = threads(settings.migrate_concurrency, "migrate")
        self._attempts = Attempts(job_id, settings, self._requests, self._check, at)

    def run(self) -> None:
        """To the end of what is ready. Raises the first error that nobody classed, after all else is done."""
        with session_scope() as session:
            job = migrations.start(session, self._job_id)
            if job.cancel_requested:
                migrations.cancel_all(session, self._job_id)
            bell = Bell(TaskName.MIGRATE, self._job_id, job.priority)
        self._limits = FLOW.load()
        running: Running = {}
        unexpected: BaseException | None = None
        until = self._now() + TURN_S
        try:
            while self._fill(running, until, bell):
                done, _ = wait(running, timeout=TICK_S, return_when=FIRST_COMPLETED)
                for future in done:
                    works = running.pop(future)
                    if len(works) > 1 and isinstance(future.exception(), Exception):
                        # one of them must not harm the others: each goes alone
                        running |= {self._movers.submit(self._attempts.work_on, [work]): [work] for work in works}
                        continue
                    error = self._ended(works, future)
                    unexpected = unexpected or error
                if self._now() - self._ticked >= TICK_S:
                    self._tick()
            if unexpected:
                raise unexpected
        finally:
            self._stop(self._held, LeaseLost)
            self._movers.shutdown(wait=True, cancel_futures=True)
            self._requests.shutdown(wait=True, cancel_futures=True)
            self._give_back(bell)

    def _ended(self, works: Sequence[Work], future: Future[Exception | None]) -> BaseException | None:
        """Takes works off the list; returns an error that nobody classed.

        Such an error counts as a failed attempt: without that it would be met again for ever.
        """
        for work in works:
            self._held.pop(work.claim.id, None)
        error = future.exception()
        if isinstance(error, Exception):
            for work in works:
                self._attempts.not_moved(work, error)
        return error or future.result()

    def _fill(self, running: Running, until: float, bell: Bell) -> bool:
        """Claims more when threads would run dry; returns whether anything is being worked on."""
        room = self._settings.claim_batch - len(self._held)
        if room >= self._settings.claim_batch / 2 and self._now() < until:
            claimed = self._claim(room)
            for works in self._shared_out(claimed):
                running[self._movers.submit(self._attempts.work_on, works)] = works
            if len(claimed) == room:
                ring_all([bell])  # there may be more than this worker should have alone
        return bool(running)

    def _claim(self, limit: int) -> list[Work]:
        asked_at = self._now()
        if shutdown.requested():
            return []
        with session_scope() as session:
            least, limit = self._claimable(session, limit)
            lease_s = self._settings.lease_s
            claims = migrations.claim(session, self._job_id, worker_name(), lease_s, limit, only=least)
            works = migration_work.load(session, claims)
        if not self._held:
            self._leased(asked_at)
        for work in works:
            self._stopped.pop(work.claim.id, None)
            self._held[work.claim.id] = work.claim
        return works

    def _shared_out(self, works: Sequence[Work]) -> Iterator[list[Work]]:
        """Small copies together, replaced sources together, everything else by itself."""
        small = {work.claim.id: work for work in works if is_small(work, self._settings)}
        replaced = [work for work in works if work.state in SWITCHED]
        yield from groups(small.values(), self._settings)
        yield from (replaced[start : start + GROUP] for start in range(0, len(replaced), GROUP))
        yield from ([work] for work in works if work.claim.id not in small and work.state not in SWITCHED)

    def _claimable(self, session: Session, limit: int) -> tuple[Claimable, int]:
        """Which migrations may be taken now, and how many."""
        if self._attempts.failures > self._failures:
            self._failures = self._attempts.failures
            migration_limits.stop_on_errors(session, self._job_id, self._limits)
        if migration_limits.why_paused(session, self._job_id):
            return Claimable.CANCELLED, limit
        room = migration_limits.room(session, self._job_id, self._limits) if self._waves else None
        self._waves = room is not None
        return (Claimable.STARTED, limit) if room == 0 else (Claimable.ANY, min(limit, room or limit))

    def _leased(self, asked_at: float) -> None:
        """Every lease held now ends no sooner than this clock will say."""
        self._renewed, self._leased_until = asked_at, asked_at + self._settings.lease_s

    def _tick(self) -> None:
        """Renews the leases, learns what is to be stopped, tells how far the job is."""
        self._ticked = self._now()
        try:
            self._limits = FLOW.load()
            with session_scope() as session:
                asked = migrations.asked_to_stop(session, self._job_id, self._held.values())
                paused = migration_limits.why_paused(session, self._job_id)
            if paused:
                self._stop(self._held, partial(HeldBack, paused, reason=migration_limits.PAUSED))
            if shutdown.requested():
                self._stop(self._held, partial(HeldBack, "the worker is ending", reason="worker_stopping"))
            self._stop(asked, Cancelled)
            if self._held and self._now() - self._renewed >= self._settings.lease_renew_s:
                self._renew()
            self._settle()
        except DatabaseUnavailable as error:
            log.warning("lease not renewed", error=error.detail)  # `check` says when that is too late

    def _stop(self, migration_ids: Iterable[int], why: Callable[[], ForetideError]) -> None:
        self._stopped |= dict.fromkeys(migration_ids, why)

    def _renew(self) -> None:
        asked_at = self._now()
        with session_scope() as session:
            alive = migrations.renew(session, self._held.values(), self._settings.lease_s)
        self._stop(self._held.keys() - alive, LeaseLost)
        self._leased(asked_at)

    def _settle(self) -> None:
        with session_scope() as session:
            bell = migration_counts.settle_job(session, self._job_id)
            migration_limits.stop_on_errors(session, self._job_id, self._limits)
        ring_all([bell])

    def _give_back(self, bell: Bell) -> None:
        with session_scope() as session:
            migrations.release(session, self._held.values())
        with session_scope() as session:
            parent = migration_counts.settle_job(session, self._job_id)
            migration_limits.stop_on_errors(session, self._job_id, self._limits)
            migration_counts.watch_backlog(session)
            peaks.watch(session)
        ring_all([parent, bell if shutdown.requested() else None])

    def _check(self, claim: Claim) -> None:
        """Asked in the threads: raises LeaseLost, Cancelled or HeldBack when the work on this claim must stop."""
        if self._now() > self._leased_until:
            raise LeaseLost
        stopped = self._stopped.get(claim.id)
        if stopped:
            raise stopped()
