"""Messages are bells: their number stays small, losing them loses nothing, and a dead broker slows nobody."""

import os
import signal
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from sqlalchemy import func, select, text

from app import queue
from app.db import jobs
from app.db.session import session_scope
from app.db.tables import Job
from app.devstack.ports import Ports
from app.devstack.processes import Child
from app.devstack.stack import Stack
from app.devstack.valkey import Valkey
from app.domain.states import JobState
from app.queue import QueueName, TaskName
from app.settings import Settings, get_settings
from workers.control import sweep_up

READY = 100_000


@pytest.fixture
def own_broker(tmp_path: Path, configure: Callable[..., Settings]) -> Iterator[Child]:
    """A Valkey of this test's own, for it to stop."""
    valkey = Valkey(tmp_path, Ports().choose(), "password")
    valkey.start()
    valkey.await_ready()
    configure(broker_url=valkey.url)
    queue.forget()
    yield valkey.child
    valkey.child.kill()
    queue.forget()


@pytest.fixture
def empty_broker(stack: Stack) -> None:
    queue.broker().flushall()


def many_ready_jobs(number: int) -> None:
    with session_scope() as session:
        session.execute(
            text("insert into job (kind, queue, state) select 'route', 'watch', 'queued' from generate_series(1, :n)"),
            {"n": number},
        )
        session.execute(text("analyze job"))


def test_a_hundred_thousand_ready_jobs_leave_the_brokers_length_flat(clean_database: str, empty_broker: None) -> None:
    many_ready_jobs(READY)
    limit = 4 * get_settings().worker_slots
    for _ in range(5):
        sweep_up.run()
        assert queue.lengths([QueueName.WATCH]) == {QueueName.WATCH: limit}
    for _ in range(50):
        with session_scope() as session:
            bell = jobs.bell(jobs.submit(session, TaskName.ROUTE))
        queue.ring(bell.kind, bell.job_id)
    assert queue.lengths([QueueName.WATCH]) == {QueueName.WATCH: limit}


def test_bells_that_are_lost_are_rung_again(clean_database: str, empty_broker: None) -> None:
    many_ready_jobs(3)
    sweep_up.run()
    assert queue.lengths([QueueName.WATCH])[QueueName.WATCH] == 3
    queue.broker().flushall()
    with session_scope() as session:
        session.execute(text("update job set rung_at = rung_at - interval '16 s'"))
    sweep_up.run()
    assert queue.lengths([QueueName.WATCH])[QueueName.WATCH] == 3


@pytest.mark.parametrize("away", [signal.SIGSTOP, signal.SIGKILL])
def test_a_submission_is_quick_and_kept_while_the_broker_is_away(
    clean_database: str, own_broker: Child, away: signal.Signals
) -> None:
    os.kill(own_broker.pid, away)
    took = []
    for _ in range(200):
        started = time.monotonic()
        with session_scope() as session:
            bell = jobs.bell(jobs.submit(session, TaskName.ROUTE))
        assert not queue.ring(bell.kind, bell.job_id)
        took.append(time.monotonic() - started)
    assert sorted(took)[int(0.95 * len(took))] < 0.1
    with session_scope() as session:
        ready = select(func.count()).select_from(Job).where(Job.state == JobState.QUEUED)
        assert session.scalar(ready) == 200
