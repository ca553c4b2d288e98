"""Transactions lock in one order (app/db/locks.py): none waits in a circle; and if one did, it would be tried again."""

import random
import threading
import time
from contextlib import suppress
from datetime import UTC, datetime

import pytest
from psycopg2.errors import DeadlockDetected
from sqlalchemy import select, text, update

from app.db import (
    absence,
    changes,
    jobs,
    migration_counts,
    migration_ends,
    migration_limits,
    migration_steps,
    migration_work,
    migrations,
    objects,
    tees,
)
from app.db import sites as registered
from app.db.session import session_scope
from app.db.tables import Job, Migration
from app.domain.migrations import Setback
from app.domain.pins import Pin
from app.domain.states import JobState, MigrationState, MoveKind, TeeState
from app.errors import DatabaseUnavailable, ForetideError
from app.queue import TaskName
from tests.world import World

AWS, GCP = "aws-eu", "gcp-eu"
MOVES = 60


@pytest.fixture
def world(sites, clean_database, configure):
    configure(growing_age_s=0, retry_base_s=0.01, multipart_threshold=5 * 2**20, part_size=5 * 2**20)
    return World(sites)


class Acts:
    """What workers, scans, users and probes do to the same rows, again and again, each in a thread of its own."""

    def __init__(self, world, job_id, keys):
        self.world, self.job_id, self.keys = world, job_id, keys
        self.ids = [row.id for row in world.rows(job_id)]
        self.chance = random.Random(7)
        with session_scope() as session:
            self.sites = {row.name: row.id for row in registered.listing(session)}
            self.parent = jobs.submit(session, TaskName.RUN).id
        with session_scope() as session:
            session.execute(update(Job).where(Job.id == job_id).values(parent_id=self.parent))

    def _shuffled(self, things):
        return self.chance.sample(list(things), len(things))

    def attempt(self):
        """A worker's attempt at a group, which comes to nothing."""
        with session_scope() as session:
            claims = migrations.claim(session, self.job_id, "w", 30, 16)
            works = {work.claim.id: work for work in migration_work.load(session, claims)}
        pin = Pin("e", 3, datetime.now(UTC), "STANDARD")
        with session_scope() as session:
            begun = migration_steps.begin(session, [(work, pin) for work in self._shuffled(works.values())])
        failed = Setback(self.chance.choice([MigrationState.WAITING, MigrationState.FAILED]), "tried", counts=False)
        for migration_id in self._shuffled(begun):
            with session_scope() as session, suppress(ForetideError):
                migration_ends.set_back(session, works[migration_id], lambda _: failed, {}, fresh=True)
        with session_scope() as session:
            migrations.release(session, self._shuffled(claims))

    def scan(self):
        """A listing in which the owner has written all anew, half of the time."""
        now = datetime.now(UTC)
        etag = self.chance.choice(["e", "f"])
        listed = {key: Pin(etag, 3, now, "STANDARD") for key in self._shuffled(self.keys)}
        with session_scope() as session:
            objects.save_page(session, self.sites[AWS], listed, now)
        with session_scope() as session:
            absence.count_missed(session, self.sites[AWS], "", now)

    def retry(self):
        for migration_id in self._shuffled(self.ids)[:20]:
            with suppress(ForetideError), session_scope() as session:
                migrations.retry(session, migration_id, "test")

    def start(self):
        with session_scope() as session:
            session.execute(update(Job).where(Job.id == self.job_id).values(state=JobState.QUEUED))
        with session_scope() as session:
            migrations.start(session, self.job_id)

    def pause(self):
        with session_scope() as session:
            migration_limits.pause(session, "a look", actor="test")
        with suppress(ForetideError), session_scope() as session:
            migration_limits.resume(session, actor="test")

    def probe(self):
        with session_scope() as session:
            registered.record_answer(session, self.sites[GCP], 1.0)

    def settle(self):
        with session_scope() as session:
            session.execute(update(Job).where(Job.id == self.parent).values(state=JobState.WAITING))
        with session_scope() as session:
            migration_counts.settle_job(session, self.job_id)

    def cancel(self):
        for act in (jobs.cancel, jobs.retry):
            with suppress(ForetideError), session_scope() as session:
                act(session, self.parent)

    def tee(self):
        """A reader that is offered copies, and writes none."""
        for key in self._shuffled(self.keys)[:20]:
            with session_scope() as session:
                offer = tees.offer(session, key, self.sites[AWS], tees.Limits(10**6, 30, 5), "r")
            if offer:
                with suppress(ForetideError), session_scope() as session:
                    tees.told(session, offer.migration_id, offer.fence, TeeState.FAILED, "", "r")
                with session_scope() as session:
                    again = update(Migration).where(Migration.id == offer.migration_id)
                    session.execute(again.values(tee=None, attempts=0, state=MigrationState.WAITING))


def is_deadlock(error):
    return isinstance(getattr(error.__cause__, "orig", None), DeadlockDetected)


def test_no_transaction_waits_in_a_circle(world, budget_s):
    names = [f"m{number}" for number in range(MOVES)]
    for name in names:
        world.put(AWS, name)
    world.scan(AWS)
    job_id = world.plan(*[(name, MoveKind.MOVE, AWS, GCP, "STANDARD") for name in names])
    acts = Acts(world, job_id, [world.key(name) for name in names])
    until, done, circles, others = time.monotonic() + budget_s, [], [], []

    def repeat(act):
        while time.monotonic() < until:
            try:
                act()
                done.append(1)
            except DatabaseUnavailable as error:
                (circles if is_deadlock(error) else others).append((act.__name__, error))

    chosen = [
        acts.attempt,
        acts.scan,
        acts.retry,
        acts.start,
        acts.pause,
        acts.probe,
        acts.settle,
        acts.cancel,
        acts.tee,
    ]
    threads = [threading.Thread(target=repeat, args=(act,)) for act in (*chosen, acts.attempt, acts.scan)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not circles, f"{len(circles)} deadlocks beside {len(done)} acts: {sorted({name for name, _ in circles})}"
    assert not others
    assert len(done) > len(threads)


def test_a_deadlock_counts_as_no_attempt(world, configure):
    """Somebody holds the migration and then asks for its object, while the switch holds the object."""
    configure(retry_base_s=300)
    world.put(AWS, "a")
    world.scan(AWS)
    job_id = world.move("a", AWS, GCP)
    holds, let_go = threading.Event(), threading.Event()

    def against_the_order():
        with session_scope() as session:
            session.scalars(select(Migration).where(Migration.job_id == job_id).with_for_update()).one()
            holds.set()
            waits = "select count(*) from pg_locks where not granted and pg_backend_pid() = any(pg_blocking_pids(pid))"
            while not session.scalar(text(waits)) and not let_go.wait(0.02):
                pass
            changes.lock(session, world.object("a").id)

    other = threading.Thread(target=against_the_order)

    def at(point):
        if point == "verified" and not holds.is_set():
            other.start()
            assert holds.wait(5)

    world.work(job_id, at=at)
    let_go.set()
    other.join(5)
    row = world.row(job_id)
    assert (row.state, row.reason, row.attempts) == ("waiting", "deadlocked", 0)
    world.due(job_id)
    world.finish(job_id)
    assert world.row(job_id).state == "done"
