"""Real workers and a beat, each a process of its own, over the test's database and a broker that may be killed."""

from __future__ import annotations

import os
import signal
import sys
import time
from collections.abc import Callable, Collection, Sequence
from contextlib import suppress
from pathlib import Path

import psutil
from sqlalchemy import text

from app import queue
from app.db import jobs
from app.db.session import session_scope
from app.db.tables import Json
from app.devstack.processes import Child, Command
from app.devstack.valkey import Valkey
from app.domain.tasks import TaskName
from app.errors import DatabaseUnavailable
from app.settings import PROJECT_ROOT, environment_with

OBSERVED = """
create table observed (job_id bigint, fence bigint, state text, at timestamptz not null default clock_timestamp());
create function observe() returns trigger language plpgsql as $$
begin
  insert into observed values (new.id, new.fence, new.state);
  return new;
end $$;
create trigger observe after update of state on job for each row
  when (new.state is distinct from old.state) execute function observe();
"""
"""Every change of a job's state with its time: what the workers did, by the database's own word."""


class Fleet:
    """Workers by number and a beat; the caller starts, kills and stops them, in its main thread."""

    def __init__(self, folder: Path, broker: Valkey, **settings: object) -> None:
        self.broker, self._folder = broker, folder
        quiet = {"log_level": "WARNING", "probe_every_s": 86_400}  # beat does not look at the sites meanwhile
        changed = {f"FORETIDE_{name.upper()}": str(value) for name, value in (quiet | settings).items()}
        self._environment = environment_with(**changed)
        self.workers: dict[int, Child] = {}
        self.beats: dict[int, Child] = {}
        with session_scope() as session:
            session.execute(text(OBSERVED))

    # -- processes ----------------------------------------------------------------------------------------------------

    def start_worker(self, number: int, *options: str) -> Child:
        """Starts a worker anew; it is a process group of its own, prefork children included."""
        self.workers[number] = self._celery(f"worker-{number}", "worker", f"--hostname=w{number}@%h", *options)
        return self.workers[number]

    def start_beat(self, number: int = 0) -> Child:
        """Starts a beat anew."""
        self.beats[number] = self._celery(f"beat-{number}", "beat")
        return self.beats[number]

    def _celery(self, name: str, *arguments: str) -> Child:
        return Child(
            Command(
                name=name,
                argv=(sys.executable, "-P", "-m", "celery", "-A", "workers", *arguments),
                cwd=PROJECT_ROOT,
                log=self._folder / f"{name}.log",
                env=self._environment,
                stop_s=15.0,
            )
        )

    def children(self) -> list[psutil.Process]:
        """The prefork children of all workers."""
        found = []
        for worker in self.workers.values():
            with suppress(psutil.NoSuchProcess):
                found += psutil.Process(worker.pid).children()
        return found

    def await_work(self, timeout_s: float = 60.0) -> None:
        """Waits until the workers have done a first job."""
        await_true(lambda: self._done(self.submit(TaskName.PLAN, 1)[0]), "a first job", timeout_s)

    def _done(self, job_id: int) -> bool:
        with suppress(TimeoutError):
            await_true(lambda: states([job_id]).get("succeeded") == 1, "it", 1.0)
            return True
        return False

    def stop(self) -> None:
        """Ends them all at once."""
        for child in (*self.workers.values(), *self.beats.values()):
            child.kill()

    # -- work ---------------------------------------------------------------------------------------------------------

    def submit(self, kind: TaskName, number: int, args: Json | None = None) -> list[int]:
        """Accepts jobs as the API does: the rows are committed, then the bells are rung. Returns their ids."""
        with session_scope() as session:
            bells = [jobs.bell(jobs.submit(session, kind, args)) for _ in range(number)]
        for bell in bells:
            if not queue.ring(bell.kind, bell.job_id, bell.priority):
                with session_scope() as session:
                    jobs.not_rung(session, bell.job_id)
        return [bell.job_id for bell in bells]


def await_true(condition: Callable[[], bool], what: str, timeout_s: float = 60.0) -> float:
    """Waits until a condition holds, a database that is away being waited for too; returns the seconds it took."""
    began = time.monotonic()
    while True:
        with suppress(DatabaseUnavailable):
            if condition():
                return time.monotonic() - began
        if time.monotonic() - began > timeout_s:
            raise TimeoutError(f"waited {timeout_s:.0f} s for {what}")
        time.sleep(0.02)


def states(job_ids: Sequence[int]) -> dict[str, int]:
    """How many of the jobs are in each state."""
    with session_scope() as session:
        counted = text("select state, count(*) from job where id = any(:ids) group by state")
        return dict(session.execute(counted, {"ids": list(job_ids)}).all())


def running() -> list[tuple[int, int, int]]:
    """What is being worked on now: job, fence and the process that has claimed it."""
    with session_scope() as session:
        claimed = text("select id, fence, claimed_by from job where state = 'running' and lease_until > now()")
        return [(job_id, fence, int(by.rpartition(":")[2])) for job_id, fence, by in session.execute(claimed)]


def holds(job_id: int, fence: int) -> bool:
    """Whether the claim is still the job's last, and not ended."""
    with session_scope() as session:
        held = text("select 1 from job where id = :id and fence = :fence and state = 'running'")
        return session.execute(held, {"id": job_id, "fence": fence}).first() is not None


def hit(
    number: signal.Signals, but: Collection[int], feed: Callable[[], object], timeout_s: float = 30.0
) -> tuple[int, int, int]:
    """Sends a signal to a worker's child in the midst of a job; returns the job, its fence and the process.

    Tried until the claim turns out to have been held when the signal came; other signals hit idle children. but:
    processes that are to be left alone; feed: keeps the workers at work.
    """
    until = time.monotonic() + timeout_s
    while time.monotonic() < until:
        feed()
        for job_id, fence, pid in [claim for claim in running() if claim[2] not in but]:
            with suppress(ProcessLookupError):
                os.kill(pid, number)
                if holds(job_id, fence):
                    return job_id, fence, pid
                if number is signal.SIGSTOP:
                    os.kill(pid, signal.SIGCONT)
    raise TimeoutError("no worker was met at work")
