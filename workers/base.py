"""The one Task class: claims the job, renews its lease, fences its writes, logs, and classes what went wrong."""

from __future__ import annotations

import os
import random
import signal
import socket
import threading
import time
import traceback
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import FrameType
from typing import Any

import structlog
from celery import Task
from celery.exceptions import SoftTimeLimitExceeded
from sqlalchemy.orm import Session

from app import queue
from app.db import jobs
from app.db.jobs import Bell
from app.db.session import session_scope
from app.db.tables import Job, Json
from app.domain.jobs import RetryPolicy, after_error
from app.errors import Cancelled, DatabaseUnavailable, ForetideError, LeaseLost, Transient
from app.queue import TASKS, TaskName
from app.settings import get_settings
from workers.celery import app

log = structlog.get_logger()
CHAIN_S = 1.0
"""A task goes on with the next ready job of its kind for this long, which saves a message each."""
PROGRESS_EVERY_S = 0.5
LOOK_S = 0.5
"""So often it is looked whether a long call of a library must stop."""
AGAIN_S = 5.0


class JobContext:
    """What a task may know and do about the job it works on."""

    def __init__(self, job: Job, lease: Lease) -> None:
        self.id = job.id
        self.fence = job.fence
        self.args: Json = dict(job.args)
        self.actor = job.created_by or "system"
        self.request_id = job.request_id
        self.done = False
        self._lease = lease
        self._told = 0.0

    def check(self) -> None:
        """Raises Cancelled or LeaseLost when the work must stop; call it at each step."""
        self._lease.check()

    def progress(self, done: int, total: int, unit: str) -> None:
        """Tells how far the job is; written at most twice a second and at the end. Raises as `check` does."""
        self.check()
        now = time.monotonic()
        if done < total and now - self._told < PROGRESS_EVERY_S:
            return
        self._told = now
        with session_scope() as session:
            jobs.set_progress(session, self.id, self.fence, {"done": done, "total": total, "unit": unit})

    @contextmanager
    def stoppable(self) -> Iterator[None]:
        """In it one long call of a library is stopped in its midst, as `check` would: for what has no effects alone.

        The library's own loops see it when they are back in Python. Only a main thread, in which workers run their
        tasks, can be stopped so.
        """
        if threading.current_thread() is not threading.main_thread():
            yield
            return

        def look(_: int, frame: FrameType | None) -> None:
            if _must_not_break(frame):
                return
            try:
                self.check()
            except ForetideError:
                signal.setitimer(signal.ITIMER_REAL, AGAIN_S, AGAIN_S)  # a library that swallows it hears it again
                raise

        before = signal.signal(signal.SIGALRM, look)
        signal.setitimer(signal.ITIMER_REAL, LOOK_S, LOOK_S)
        try:
            yield
        finally:
            signal.setitimer(signal.ITIMER_REAL, 0)
            signal.signal(signal.SIGALRM, before)

    @contextmanager
    def saving(self) -> Iterator[Session]:
        """A transaction whose effects happen only while the claim is still ours. Raises LeaseLost."""
        with session_scope() as session:
            jobs.hold(session, self.id, self.fence)
            yield session

    @contextmanager
    def finishing(self, result: Json) -> Iterator[Session]:
        """The last transaction: its effects and the job's success are committed together, so they happen once.

        `result` may be filled while the transaction is open.
        """
        with session_scope() as session:
            jobs.hold(session, self.id, self.fence)
            yield session
            bell = jobs.succeed(session, self.id, self.fence, result)
        self.done = True
        ring_all([bell])

    @contextmanager
    def postponing(self, reason: str, delay_s: float) -> Iterator[Session]:
        """The last transaction of this attempt: the job waits for `delay_s` seconds, or until a child ends if sooner.

        Children submitted in it cannot end before the job waits for them.
        """
        with session_scope() as session:
            jobs.hold(session, self.id, self.fence)
            yield session
            jobs.postpone(session, self.id, self.fence, delay_s, reason=reason)
        self.done = True


def _must_not_break(frame: FrameType | None) -> bool:
    """Whether a module is being imported, which must not stay half done, or progress is told, which looks itself."""
    while frame is not None:
        if frame.f_code is JobContext.progress.__code__ or frame.f_code.co_filename.startswith("<frozen importlib"):
            return True
        frame = frame.f_back
    return False


class Lease:
    """Renews a claim in a thread of its own while the task works."""

    def __init__(self, renew: Callable[[], bool], every_s: float) -> None:
        self._renew = renew
        self._every_s = every_s
        self._stop = threading.Event()
        self._problem: ForetideError | None = None
        self._thread = threading.Thread(target=self._run, daemon=True, name="lease")

    def __enter__(self) -> Lease:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        self._thread.join()

    def check(self) -> None:
        """Raises what the last renewal found: Cancelled or LeaseLost."""
        if self._problem:
            raise self._problem

    def _run(self) -> None:
        while self._problem is None and not self._stop.wait(self._every_s):
            try:
                if self._renew():
                    self._problem = Cancelled()
            except LeaseLost as lost:
                self._problem = lost
            except DatabaseUnavailable as error:
                log.warning("lease not renewed", error=error.detail)  # the lease itself says when that is too late


class Work(Task[Any, Any]):
    """Base of every task: binds what is worked on to the log and lets no error escape without being classed."""

    abstract = True

    def __call__(self, *args: Any) -> None:
        """Runs the task with its name, arguments and worker in every line that it logs."""
        with structlog.contextvars.bound_contextvars(task=self.name, args=args, worker=worker_name()):
            try:
                self.run(*args)
            except LeaseLost:
                log.info("taken over by another worker")
            except Transient as error:
                log.warning("given back", reason=error.reason, detail=error.detail)
            except Exception:
                log.exception("failed outside of a job")
                raise


def raw_task(name: TaskName) -> Callable[[Callable[..., None]], Any]:
    """Registers a task that claims no job row: it must be harmless to run twice or not at all."""
    return _register(name)


def job_task(name: TaskName) -> Callable[[Callable[[JobContext], Json | None]], Any]:
    """Registers a function as the task of a kind of job.

    It gets the claimed job and returns its result. Transient errors are tried again with back-off, permanent ones fail
    the job, and an error nobody classed is tried again until the job is dead.
    """

    def decorate(function: Callable[[JobContext], Json | None]) -> Any:
        def run(job_id: int) -> None:
            work_off(name, function, job_id)

        run.__name__, run.__doc__ = function.__name__, function.__doc__
        return _register(name)(run)

    return decorate


def _register(name: TaskName) -> Callable[[Callable[..., None]], Any]:
    spec = TASKS[name]
    register: Any = app.task  # its stubs have no form for a base class without bind
    return register(name=name, base=Work, soft_time_limit=spec.soft_limit_s, time_limit=spec.hard_limit_s)  # type: ignore[no-any-return]


def work_off(name: TaskName, function: Callable[[JobContext], Json | None], job_id: int) -> None:
    """Works on the job that was rung for, then on further ready ones of its kind for a moment, then rings for the rest.

    A message is a bell: it may be late, doubled or for a job that was taken already.
    """
    started = time.monotonic()
    with session_scope() as session:
        job = jobs.claim(session, job_id, worker_name(), get_settings().lease_s)
    while job is not None:
        work(job, function)
        job = None
        with session_scope() as session:
            if time.monotonic() - started < CHAIN_S:
                job = jobs.claim_next(session, name, worker_name(), get_settings().lease_s)
            successor = None if job else jobs.next_ready(session, TASKS[name].queue)
        ring_all([successor])


def work(job: Job, function: Callable[[JobContext], Json | None]) -> None:
    """One attempt at a claimed job, to its end."""
    settings = get_settings()

    def renew() -> bool:
        with session_scope() as session:
            return jobs.renew(session, job.id, job.fence, settings.lease_s)

    bound = structlog.contextvars.bound_contextvars(job_id=job.id, request_id=job.request_id)
    with bound, Lease(renew, settings.lease_renew_s) as lease:
        context = JobContext(job, lease)
        try:
            result = function(context)
            if not context.done:
                with context.finishing(result or {}):
                    pass
        except LeaseLost:
            raise
        except Exception as error:
            _failed(job, error)


def tried(act: Callable[[], None]) -> Exception | None:
    """What went wrong, None when nothing did. Raises LeaseLost and the end of the task's time: they are no failure."""
    try:
        act()
    except (LeaseLost, SoftTimeLimitExceeded):
        raise
    except Exception as error:
        return error
    return None


def _failed(job: Job, error: Exception) -> None:
    settings = get_settings()
    policy = RetryPolicy(settings.retry_base_s, settings.retry_cap_s, settings.max_attempts)
    verdict = after_error(error, job.attempts, policy, random.random())  # noqa: S311  # jitter, not a secret
    log.warning("job not done", state=verdict.state, reason=verdict.reason, exc_info=not _is_classed(error))
    with session_scope() as session:
        bell = jobs.fail(session, job, verdict, problem(error))
    ring_all([bell])


def _is_classed(error: Exception) -> bool:
    return isinstance(error, ForetideError)


def problem(error: Exception) -> Json:
    """The error as it stands in a job's row: type, detail and, for one nobody classed, where it was raised."""
    if isinstance(error, ForetideError):
        return {"type": error.slug, "detail": error.detail, "errors": [vars(e) for e in error.errors]}
    if isinstance(error, SoftTimeLimitExceeded):
        return {"type": "time-limit", "detail": "the task's time limit was reached"}
    where = traceback.extract_tb(error.__traceback__)[-1:]
    at = f" at {os.path.basename(where[0].filename)}:{where[0].lineno}" if where else ""  # noqa: PTH119
    return {"type": "unexpected-error", "detail": f"{type(error).__name__}{at}; the worker's log has the rest"}


def ring_all(bells: list[Bell | None]) -> None:
    """Rings after a transaction; what does not reach the broker is rung by the sweep."""
    for bell in bells:
        if bell and not queue.ring(bell.kind, bell.job_id, bell.priority):
            with session_scope() as session:
                jobs.not_rung(session, bell.job_id)


def worker_name() -> str:
    """This process, as it stands in claims and ticks."""
    return f"{socket.gethostname()}:{os.getpid()}"
