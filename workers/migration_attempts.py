"""Attempts at claimed migrations, each in a thread: may it begin, how far did it get, what does its error mean."""

from __future__ import annotations

import random
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import Executor
from contextlib import suppress
from dataclasses import dataclass
from functools import partial

import structlog

from app.db import migration_ends as ends
from app.db.migration_work import Work
from app.db.migrations import Claim
from app.db.session import session_scope
from app.domain.jobs import RetryPolicy
from app.domain.migrations import EARLY, SWITCHED, Setback, after_failure, wait_for_site_s
from app.domain.states import MIGRATION_FINAL, MigrationState
from app.errors import (
    Cancelled,
    ChecksumMismatch,
    DatabaseUnavailable,
    Deadlocked,
    ForetideError,
    HeldBack,
    LeaseLost,
    SourceChanged,
)
from app.s3.outcomes import UPLOAD_MISSING
from app.settings import Settings
from workers.base import problem
from workers.flow import FLOW, SiteGate, stopping
from workers.migration_deletes import Deletes
from workers.migration_groups import Group, is_small
from workers.migration_steps import Mover

log = structlog.get_logger()
RETRY_WAIT_S = 1.0
"""How long a retry waits at least that is not within its site's budget of retries."""


@dataclass
class Attempts:
    """What a task's threads do. requests: where small copies make theirs; check and at: as in Mover, check by claim."""

    job_id: int
    settings: Settings
    requests: Executor
    check: Callable[[Claim], None]
    at: Callable[[str], None]
    failures: int = 0
    """Moves that were given up."""

    def work_on(self, works: Sequence[Work]) -> Exception | None:
        """Takes one migration, or a group of small copies or of replaced sources, as far as it goes.

        Returns an error that nobody classed.
        """
        with structlog.contextvars.bound_contextvars(job_id=self.job_id):
            ready = [work for work in works if self._may_begin(work)]
            if ready and ready[0].state in SWITCHED:
                return self._delete_sources(ready)
            if len(ready) == 1 and not is_small(ready[0], self.settings):
                self._move(ready[0])
                return None
            return self._move_group(ready) if ready else None

    def _may_begin(self, work: Work) -> bool:
        try:
            self.check(work.claim)
            if work.state in EARLY and work.cancel_requested:
                raise Cancelled
            if work.retries and work.state in EARLY:
                self._may_retry(work)
        except ForetideError as error:
            self.not_moved(work, error)
            return False
        if work.state in EARLY and work.attempts >= self.settings.max_attempts:
            lost = Setback(MigrationState.DEAD, "worker_lost", counts=False)
            self._set_back(work, lambda _: lost, LeaseLost())
            return False
        return True

    def _may_retry(self, work: Work) -> None:
        """Raises HeldBack while retries at one of its sites are more than their share; the other's is not used then."""
        taken: list[SiteGate] = []
        for site in sorted({work.source.name, work.destination.name}):
            gate = FLOW.of(site)
            if gate.may_retry():
                taken.append(gate)
                continue
            for other in taken:
                other.not_retried()
            wait_s = RETRY_WAIT_S + wait_for_site_s(work.retries, self._policy, _jitter())
            raise HeldBack(f"{site}: too many retries", reason="retry_budget", retry_after_s=wait_s)

    def _move(self, work: Work) -> None:
        mover = self._mover(work)
        with structlog.contextvars.bound_contextvars(migration_id=work.claim.id):
            try:
                with stopping(mover.check):
                    mover.run(work)
            except ForetideError as error:
                self.not_moved(work, error)

    def _move_group(self, works: Sequence[Work]) -> Exception | None:
        group = Group(self.settings, self.requests, self.check, self.at)
        try:
            failed, larger = group.run(works)
        except DatabaseUnavailable as error:
            return self._give_up(works, {work.claim.id: error for work in works})
        unexpected = self._give_up(works, failed)
        for work in larger:
            self._move(work)
        return unexpected

    def _delete_sources(self, works: Sequence[Work]) -> Exception | None:
        try:
            failed = Deletes(self.settings, self.requests, self.check, self.at).run(works)
        except DatabaseUnavailable as error:
            failed = {work.claim.id: error for work in works}
        return self._give_up(works, failed)

    def _give_up(self, works: Sequence[Work], failed: Mapping[int, Exception]) -> Exception | None:
        """Saves what stopped those that did not get to their end; returns an error that nobody classed."""
        for work in works:
            if stopped_by := failed.get(work.claim.id):
                self.not_moved(work, stopped_by)
        return next((error for error in failed.values() if not isinstance(error, ForetideError)), None)

    def not_moved(self, work: Work, error: Exception) -> None:
        """Saves what the error means for the migration; what another worker holds, or no database, is left alone."""
        if isinstance(error, LeaseLost):
            log.info("taken over by another worker", migration_id=work.claim.id)
        elif isinstance(error, DatabaseUnavailable) and not isinstance(error, Deadlocked):
            log.warning("given up until the lease lapses", migration_id=work.claim.id, reason=error.reason)
        else:
            if not isinstance(error, ForetideError):
                log.error("unexpected error", migration_id=work.claim.id, exc_info=error)
            with suppress(LeaseLost, DatabaseUnavailable):
                self._set_back(work, partial(self._judge, work, error), error)

    def _mover(self, work: Work) -> Mover:
        return Mover(self.settings, lambda: self.check(work.claim), self.at)

    def _judge(self, work: Work, error: Exception, attempts: int) -> Setback:
        return after_failure(error, attempts, work.retries, work.mismatches, self._policy, _jitter())

    @property
    def _policy(self) -> RetryPolicy:
        chosen = self.settings
        return RetryPolicy(chosen.retry_base_s, chosen.retry_cap_s, chosen.max_attempts)

    def _set_back(self, work: Work, judge: Callable[[int], Setback], error: Exception) -> None:
        told = problem(error)
        upload_is_gone = isinstance(error, ForetideError) and error.reason == UPLOAD_MISSING
        fresh = isinstance(error, SourceChanged | ChecksumMismatch) or upload_is_gone
        with session_scope() as session:
            setback, upload_id = ends.set_back(session, work, judge, told, fresh=fresh)
        log.info("migration not done", state=setback.state, reason=setback.reason, detail=told["detail"])
        self.failures += setback.state in (MigrationState.FAILED, MigrationState.DEAD)
        if setback.state in MIGRATION_FINAL and work.state in EARLY:
            self._mover(work).discard(work, upload_id)


def _jitter() -> float:
    return random.random()  # noqa: S311  # spreads retries, no secret
