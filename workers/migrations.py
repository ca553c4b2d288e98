"""Executes moves: claims a job's migrations in batches and works on several at a time (step: migrate)."""

from __future__ import annotations

import random
import time
from collections.abc import Callable
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from contextlib import suppress

import structlog

from app.db import migration_counts, migrations, policies
from app.db import migration_ends as ends
from app.db import migration_steps as steps
from app.db.jobs import Bell
from app.db.migration_steps import Work
from app.db.migrations import Claim
from app.db.session import session_scope
from app.domain.jobs import RetryPolicy
from app.domain.migrations import EARLY, Setback, after_failure
from app.domain.states import MIGRATION_FINAL, MigrationState, Mode
from app.errors import Cancelled, ChecksumMismatch, DatabaseUnavailable, ForetideError, LeaseLost, SourceChanged
from app.queue import TaskName
from app.s3.outcomes import UPLOAD_MISSING
from app.settings import Settings, get_settings
from workers.base import problem, raw_task, ring_all, worker_name
from workers.faults import obey_faults
from workers.migration_steps import Mover

log = structlog.get_logger()
TICK_S = 1.0
"""How often a task looks whether its work is to be stopped, and writes how far the job is."""
TURN_S = 600.0
"""A task claims nothing more after this long, so that other jobs get their turn."""


@raw_task(TaskName.MIGRATE)
def migrate(job_id: int) -> None:
    """Works on a job's ready migrations until none is ready: what waits for a time is rung for by the sweep.

    Several workers may work on the same job. Also after the job has ended: what it has switched is deleted after the
    grace.
    """
    settings = get_settings()
    obey_faults()
    Batch(job_id, settings).run()


class Batch:
    """The claims of one task: taken, renewed, worked on in threads, given back."""

    def __init__(self, job_id: int, settings: Settings, at: Callable[[str], None] = lambda _: None) -> None:
        """at: called at each point where a crash must do no harm."""
        self._job_id, self._settings, self._at = job_id, settings, at
        self._held: dict[int, Claim] = {}
        self._works: dict[int, Work] = {}
        self._stopped: dict[int, type[ForetideError]] = {}
        self._leased_until = 0.0
        self._renewed = 0.0
        self._ticked = 0.0

    def run(self) -> None:
        """To the end of what is ready. Raises the first error that nobody classed, after all else is done."""
        with session_scope() as session:
            job = migrations.start(session, self._job_id)
            if job.cancel_requested:
                migrations.cancel_all(session, self._job_id)
            bell = Bell(TaskName.MIGRATE, self._job_id, job.priority)
        running: dict[Future[None], Claim] = {}
        unexpected: BaseException | None = None
        until = time.monotonic() + TURN_S
        pool = ThreadPoolExecutor(self._settings.migrate_concurrency, thread_name_prefix="migrate")
        try:
            while self._fill(pool, running, until, bell):
                done, _ = wait(running, timeout=TICK_S, return_when=FIRST_COMPLETED)
                for future in done:
                    claim, error = running.pop(future), future.exception()
                    self._held.pop(claim.id)
                    unexpected = unexpected or error
                    self._ended(claim, error)
                if time.monotonic() - self._ticked >= TICK_S:
                    self._tick()
            if unexpected:
                raise unexpected
        finally:
            self._stop_all()
            pool.shutdown(wait=True, cancel_futures=True)
            self._give_back()

    def _ended(self, claim: Claim, error: BaseException | None) -> None:
        """An error that nobody classed counts as a failed attempt; without that it would be met again for ever."""
        work = self._works.pop(claim.id, None)
        if work and isinstance(error, Exception):
            log.error("unexpected error", migration_id=claim.id, exc_info=error)
            with suppress(LeaseLost, DatabaseUnavailable):
                self._set_back(self._mover(work), work, self._judge(work, error), error)

    def _fill(self, pool: ThreadPoolExecutor, running: dict[Future[None], Claim], until: float, bell: Bell) -> bool:
        """Claims more when threads would run dry; returns whether anything is being worked on."""
        if len(running) < self._settings.migrate_concurrency and time.monotonic() < until:
            claimed = self._claim(self._settings.claim_batch - len(running))
            running |= {pool.submit(self._work_on, claim): claim for claim in claimed}
            if len(claimed) == self._settings.claim_batch:
                ring_all([bell])  # there may be more than this worker should have alone
        return bool(running)

    def _claim(self, limit: int) -> list[Claim]:
        asked_at = time.monotonic()
        with session_scope() as session:
            if policies.mode(session) is Mode.PAUSED:
                return []
            claimed = migrations.claim(session, self._job_id, worker_name(), self._settings.lease_s, limit)
        if not self._held:
            self._leased(asked_at)
        for claim in claimed:
            self._stopped.pop(claim.id, None)
            self._held[claim.id] = claim
        return claimed

    def _leased(self, asked_at: float) -> None:
        """Every lease held now ends no sooner than this clock will say."""
        self._renewed, self._leased_until = asked_at, asked_at + self._settings.lease_s

    def _tick(self) -> None:
        """Renews the leases, learns what is to be stopped, tells how far the job is."""
        self._ticked = time.monotonic()
        try:
            with session_scope() as session:
                asked = migrations.asked_to_stop(session, self._job_id, self._held.values())
            self._stopped |= dict.fromkeys(asked, Cancelled)
            if self._held and time.monotonic() - self._renewed >= self._settings.lease_renew_s:
                self._renew()
            self._settle()
        except DatabaseUnavailable as error:
            log.warning("lease not renewed", error=error.detail)  # `check` says when that is too late

    def _renew(self) -> None:
        asked_at = time.monotonic()
        with session_scope() as session:
            alive = migrations.renew(session, self._held.values(), self._settings.lease_s)
        self._stopped |= dict.fromkeys(self._held.keys() - alive, LeaseLost)
        self._leased(asked_at)

    def _settle(self) -> None:
        with session_scope() as session:
            bell = migration_counts.settle_job(session, self._job_id)
        ring_all([bell])

    def _stop_all(self) -> None:
        self._stopped |= dict.fromkeys(self._held, LeaseLost)

    def _give_back(self) -> None:
        with session_scope() as session:
            migrations.release(session, self._held.values())
            bell = migration_counts.settle_job(session, self._job_id)
            migration_counts.watch_backlog(session)
        ring_all([bell])

    # -- in a thread --------------------------------------------------------------------------------------------------

    def _check(self, claim: Claim) -> None:
        """Raises LeaseLost or Cancelled when the work on this claim must stop."""
        if time.monotonic() > self._leased_until:
            raise LeaseLost
        stopped = self._stopped.get(claim.id)
        if stopped:
            raise stopped

    def _work_on(self, claim: Claim) -> None:
        with structlog.contextvars.bound_contextvars(job_id=self._job_id, migration_id=claim.id):
            try:
                self._check(claim)
                with session_scope() as session:
                    work = self._works[claim.id] = steps.load(session, claim)
                self._attempt(work)
            except LeaseLost:
                log.info("taken over by another worker")
            except DatabaseUnavailable as error:
                log.warning("given up until the lease lapses", reason=error.reason)

    def _attempt(self, work: Work) -> None:
        mover = self._mover(work)
        try:
            if work.state in EARLY and work.attempts >= self._settings.max_attempts:
                self._set_back(mover, work, Setback(MigrationState.DEAD, "worker_lost", counts=False), LeaseLost())
                return
            if work.state in EARLY and work.cancel_requested:
                raise Cancelled
            mover.run(work)
        except (LeaseLost, DatabaseUnavailable):
            raise
        except ForetideError as error:
            self._set_back(mover, work, self._judge(work, error), error)

    def _mover(self, work: Work) -> Mover:
        return Mover(self._settings, lambda: self._check(work.claim), self._at)

    def _judge(self, work: Work, error: Exception) -> Setback:
        chosen = self._settings
        policy = RetryPolicy(chosen.retry_base_s, chosen.retry_cap_s, chosen.max_attempts)
        jitter = random.random()  # noqa: S311  # spreads retries, no secret
        return after_failure(error, work.attempts, work.retries, work.mismatches, policy, jitter)

    def _set_back(self, mover: Mover, work: Work, setback: Setback, error: Exception) -> None:
        told = problem(error)
        log.info("migration not done", state=setback.state, reason=setback.reason, detail=told["detail"])
        fresh = isinstance(error, SourceChanged | ChecksumMismatch) or setback.reason == UPLOAD_MISSING
        with session_scope() as session:
            upload_id = ends.set_back(session, work, setback, told, fresh=fresh)
        over = setback.state in MIGRATION_FINAL and work.state in EARLY
        if upload_id or over:
            mover.discard(work, upload_id, written=over)
