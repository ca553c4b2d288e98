import threading
from datetime import UTC, datetime, timedelta

import pytest
from sqlalchemy import func, text, update
from sqlalchemy.orm import Session

from app.db import alerts, jobs, schedules, sweep
from app.db.session import session_scope
from app.db.tables import Job
from app.domain.jobs import Verdict
from app.domain.states import JobState
from app.errors import Conflict, LeaseLost, NotFound, Overloaded
from app.queue import SCHEDULES, QueueName, TaskName
from app.settings import get_settings

LEASE_S = 30.0


def submit(session: Session, kind: TaskName = TaskName.TRAIN, **more: object) -> Job:
    return jobs.submit(session, kind, **more)


def claim(session: Session, job: Job) -> Job:
    claimed = jobs.claim(session, job.id, "worker", LEASE_S)
    assert claimed is not None
    return claimed


def lapse(session: Session, job: Job) -> None:
    session.execute(update(Job).where(Job.id == job.id).values(lease_until=func.now() - timedelta(seconds=1)))


def test_a_claim_is_had_once_and_raises_the_fence(session: Session) -> None:
    job = submit(session)
    claimed = claim(session, job)
    assert (claimed.state, claimed.fence) == (JobState.RUNNING, 1)
    assert jobs.claim(session, job.id, "other", LEASE_S) is None


def test_the_most_urgent_then_oldest_job_is_next(session: Session) -> None:
    later, first, urgent = submit(session, priority=5), submit(session), submit(session, priority=0)
    taken = [jobs.claim_next(session, TaskName.TRAIN, "w", LEASE_S) for _ in range(4)]
    assert [job.id if job else None for job in taken] == [urgent.id, first.id, later.id, None]


def test_a_lapsed_claim_is_given_back_and_the_old_worker_fenced_off(session: Session) -> None:
    job = claim(session, submit(session))
    lapse(session, job)
    sweep.release_lapsed(session, max_attempts=5)
    session.refresh(job)
    assert (job.state, job.attempts, job.reason) == (JobState.QUEUED, 1, "worker_lost")
    for write in (
        lambda: jobs.renew(session, job.id, 1, LEASE_S),
        lambda: jobs.hold(session, job.id, 1),
        lambda: jobs.succeed(session, job.id, 1, {}),
        lambda: jobs.set_progress(session, job.id, 1, {}),
    ):
        with pytest.raises(LeaseLost):
            write()


def test_a_job_that_kills_its_workers_is_dead_after_five_attempts_and_alerts(session: Session) -> None:
    job = submit(session)
    for _ in range(5):
        lapse(session, claim(session, job))
        sweep.release_lapsed(session, max_attempts=5)
        session.refresh(job)
    assert job.state is JobState.DEAD
    assert [alert.kind for alert in alerts.open_alerts(session)] == ["job_dead"]
    retried = jobs.retry(session, job.id)
    assert (retried.state, retried.attempts) == (JobState.QUEUED, 0)
    assert alerts.open_alerts(session) == []


def test_a_failure_waits_in_the_row_and_the_next_claim_is_not_before(session: Session) -> None:
    job = claim(session, submit(session))
    jobs.fail(session, job, Verdict(JobState.WAITING, "site_unavailable", delay_s=60), {"type": "site-unavailable"})
    session.refresh(job)
    assert (job.state, job.attempts, job.reason) == (JobState.WAITING, 1, "site_unavailable")
    assert jobs.claim(session, job.id, "w", LEASE_S) is None


def test_a_child_that_ends_wakes_its_parent(session: Session) -> None:
    parent = claim(session, submit(session, TaskName.RUN))
    child = submit(session, parent_id=parent.id)
    jobs.postpone(session, parent.id, parent.fence, 3600, reason="waiting for step train")
    bell = jobs.succeed(session, child.id, claim(session, child).fence, {})
    assert bell == jobs.Bell(TaskName.RUN, parent.id, 4)
    assert claim(session, parent).attempts == 0


def test_a_run_that_is_retried_takes_its_failed_step_up_again(session: Session) -> None:
    run = claim(session, submit(session, TaskName.RUN))
    done, failed = (submit(session, parent_id=run.id) for _ in range(2))
    jobs.succeed(session, done.id, claim(session, done).fence, {})
    jobs.fail(session, claim(session, failed), Verdict(JobState.DEAD, "site_unavailable"), {})
    jobs.fail(session, run, Verdict(JobState.FAILED, "site_unavailable"), {})
    session.expire_all()
    assert jobs.retry(session, run.id).state is JobState.QUEUED
    assert [job.state for job in jobs.children(session, run.id)] == [JobState.SUCCEEDED, JobState.QUEUED]
    assert alerts.open_alerts(session) == []
    assert failed.id in {bell.job_id for bell in sweep.to_ring(session, QueueName.LEARN, 5, 15, 300)}


def test_cancel_is_at_once_for_a_ready_job_and_asked_of_a_running_one(session: Session) -> None:
    ready, running = submit(session), claim(session, submit(session))
    assert jobs.cancel(session, ready.id).state is JobState.CANCELLED
    assert jobs.cancel(session, running.id).state is JobState.RUNNING
    assert jobs.renew(session, running.id, running.fence, LEASE_S) is True
    with pytest.raises(Conflict):
        jobs.cancel(session, ready.id)
    with pytest.raises(NotFound):
        jobs.cancel(session, 987654321)


def test_a_cancelled_job_whose_worker_died_is_not_started_again(session: Session) -> None:
    job = claim(session, submit(session))
    jobs.cancel(session, job.id)
    lapse(session, job)
    sweep.release_lapsed(session, max_attempts=5)
    session.refresh(job)
    assert job.state is JobState.CANCELLED


def test_the_sweep_rings_the_most_urgent_and_leaves_the_rest_for_later(session: Session) -> None:
    waiting = [submit(session, priority=p) for p in (7, 0, 3)]
    session.execute(update(Job).values(rung_at=None, rings=0))
    rung = sweep.to_ring(session, QueueName.LEARN, room=2, first_s=15, cap_s=300)
    assert {bell.job_id for bell in rung} == {waiting[1].id, waiting[2].id}
    again = sweep.to_ring(session, QueueName.LEARN, room=2, first_s=15, cap_s=300)
    assert [bell.job_id for bell in again] == [waiting[0].id]
    assert sweep.to_ring(session, QueueName.LEARN, room=5, first_s=15, cap_s=300) == []
    session.execute(update(Job).values(rung_at=func.now() - timedelta(seconds=16)))
    assert len(sweep.to_ring(session, QueueName.LEARN, room=5, first_s=15, cap_s=300)) == 3


def test_rings_of_a_row_double_their_distance(session: Session) -> None:
    job = submit(session)
    session.execute(update(Job).values(rings=3, rung_at=func.now() - timedelta(seconds=45)))
    assert sweep.to_ring(session, QueueName.LEARN, room=5, first_s=15, cap_s=300) == []
    session.execute(update(Job).values(rings=3, rung_at=func.now() - timedelta(seconds=61)))
    assert [bell.job_id for bell in sweep.to_ring(session, QueueName.LEARN, 5, 15, 300)] == [job.id]


def test_a_process_frozen_in_a_transaction_keeps_its_locks_no_longer_than_a_lease(session: Session) -> None:
    told = session.scalar(text("show idle_in_transaction_session_timeout"))
    assert told == f"{get_settings().lease_s:g}s"


def test_submissions_beyond_the_queue_limit_are_refused(session: Session) -> None:
    submit(session, limit=2)
    submit(session, limit=2)
    with pytest.raises(Overloaded):
        submit(session, limit=2)


def test_a_slot_is_fired_once_by_many_beats(clean_database: str) -> None:
    fired: list[int] = []

    def beat() -> None:
        with session_scope() as session:
            job = schedules.fire(session, "train", SCHEDULES["train"], 86_400, catch_up=False)
            if job:
                fired.append(job.id)

    beats = [threading.Thread(target=beat) for _ in range(8)]
    for thread in beats:
        thread.start()
    for thread in beats:
        thread.join()
    assert len(fired) == 1


def test_a_first_start_fires_nothing_and_a_missed_slot_is_caught_up(session: Session) -> None:
    schedule = SCHEDULES["train"]
    assert schedules.fire(session, "train", schedule, 86_400, catch_up=True) is None
    assert schedules.fire(session, "train", schedule, 3_600, catch_up=True) is not None


def test_a_schedule_does_not_pile_up_behind_its_unfinished_job(session: Session) -> None:
    schedule = SCHEDULES["predict"]
    assert schedules.fire(session, "predict", schedule, 3_600, catch_up=False) is not None
    assert schedules.fire(session, "predict", schedule, 60, catch_up=False) is None


def test_slots_start_at_multiples_of_the_interval() -> None:
    now = datetime(2026, 1, 1, 10, 7, 31, tzinfo=UTC)
    assert schedules.slot_of(now, 300) == datetime(2026, 1, 1, 10, 5, tzinfo=UTC)


def test_twelve_threads_claim_each_job_once(clean_database: str) -> None:
    with session_scope() as session:
        for _ in range(40):
            submit(session)
    claimed: list[int] = []

    def work() -> None:
        while True:
            with session_scope() as session:
                job = jobs.claim_next(session, TaskName.TRAIN, "w", LEASE_S)
            if job is None:
                return
            claimed.append(job.id)

    workers = [threading.Thread(target=work) for _ in range(12)]
    for thread in workers:
        thread.start()
    for thread in workers:
        thread.join()
    assert len(claimed) == len(set(claimed)) == 40


def test_queues_without_a_sign_of_life_are_late(session: Session) -> None:
    sweep.tick(session, QueueName.LEARN, "w")
    claim(session, submit(session, TaskName.PLAN))
    late = sweep.late_queues(session, late_s=75)
    assert QueueName.LEARN not in late
    assert QueueName.OPTIMIZE not in late
    assert QueueName.MIGRATE in late
