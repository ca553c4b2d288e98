"""I17: random owners, plans, workers and crashes; after each step the sites hold what the reference model allows."""

from __future__ import annotations

import itertools
import random
from typing import ClassVar

import hypothesis
import pytest
from hypothesis import HealthCheck, strategies
from hypothesis.stateful import (
    RuleBasedStateMachine,
    initialize,
    invariant,
    precondition,
    rule,
    run_state_machine_as_test,
)
from sqlalchemy import func, select

from app.db import jobs, migrations
from app.db.session import session_scope
from app.db.tables import Audit, Budget, Migration
from app.domain.migrations import EARLY
from app.domain.states import JOB_FINAL, MIGRATION_FINAL, MoveKind, ReplicaState
from app.errors import Conflict
from tests.reliability.mortal import Mortal
from tests.reliability.reference import Owned
from tests.world import World

STEPS, MACHINES, BATCH = 30, 1000, 5
SITES = ("aws-eu", "azure-we", "gcp-eu")
NAMES = ("a", "b")
CLASSES = ("STANDARD", "STANDARD_IA")
LARGE = b"." * (5 * 2**20)
FOLDERS = itertools.count(1)

names, sites_of = strategies.sampled_from(NAMES), strategies.sampled_from(SITES)
moments = strategies.integers(1, 10)


class Engine(RuleBasedStateMachine):
    """What may happen, in any order; `world` is set by the test."""

    world: ClassVar[World]
    steps_taken: ClassVar[int] = 0
    bodies: ClassVar[itertools.count[int]] = itertools.count(1)

    def __init__(self) -> None:
        super().__init__()
        self.world.folder = f"model-{next(FOLDERS)}/"
        self.owned = {name: Owned() for name in NAMES}
        self.jobs: list[int] = []

    @initialize(rf=strategies.integers(1, 2), readers=strategies.sampled_from(["routed", "routed", "direct"]))
    def begin(self, rf: int, readers: str) -> None:
        self.rf = rf
        self.world.policy("sla", {"default": {"readers": readers, "rf": rf}})
        for name in NAMES:
            self._write(name, SITES[0], large=False)
        self._scan(SITES[0])

    # -- the owner ----------------------------------------------------------------------------------------------------

    @rule(name=names, site=sites_of, large=strategies.sampled_from([False] * 7 + [True]))
    def write(self, name: str, site: str, large: bool) -> None:
        self._write(name, site, large=large)

    @rule(name=names, site=sites_of)
    def delete(self, name: str, site: str) -> None:
        self._delete(name, site)

    def _write(self, name: str, site: str, *, large: bool) -> None:
        replica = self.world.replicas(name).get(site)
        known = replica is not None and (bool(replica.pin) or replica.state == ReplicaState.DELETED)
        body = b"%d of %s " % (next(self.bodies), name.encode()) + (LARGE if large else b"")
        self.world.put(site, name, body, Metadata={"digest": str(hash(body))})
        self.owned[name].write(site, body, known=known)

    def _delete(self, name: str, site: str) -> None:
        self.owned[name].delete(site, self.world.read(site, name))
        self.world.delete(site, name)

    # -- the operator -------------------------------------------------------------------------------------------------

    @rule(site=sites_of)
    def scan(self, site: str) -> None:
        self._scan(site)

    @rule(
        name=names, kind=strategies.sampled_from([MoveKind.MOVE, MoveKind.MOVE, *MoveKind]), to=sites_of,
        to_class=strategies.sampled_from(CLASSES), both=strategies.booleans(),
    )  # fmt: skip
    def apply(self, name: str, kind: MoveKind, to: str, to_class: str, both: bool) -> None:
        moves = []
        for chosen in NAMES if both else (name,):
            served = [site for site, state in sorted(self.world.states(chosen).items()) if state == "serving"]
            if served and not (kind in (MoveKind.MOVE, MoveKind.COPY) and served == [to]):
                source = next(site for site in served if site != to) if served != [to] else to
                end = {MoveKind.CLASS: source, MoveKind.REMOVE: None}.get(kind, to)
                moves.append((chosen, kind, source, end, to_class if end else None))
        if moves:
            self.jobs.append(self.world.plan(*moves))

    @precondition(lambda self: self.jobs)
    @rule(which=strategies.integers(0, 9))
    def cancel(self, which: int) -> None:
        job_id = self.jobs[which % len(self.jobs)]
        with session_scope() as session:
            if jobs.get(session, job_id).state not in JOB_FINAL:
                jobs.cancel(session, job_id)

    @precondition(lambda self: self.jobs)
    @rule(which=strategies.integers(0, 9))
    def retry(self, which: int) -> None:
        with session_scope() as session:
            failed = [row for row in self._rows() if row.state in migrations.RETRIABLE]
        for row in failed[which % len(failed) :][:1] if failed else ():
            with session_scope() as session:
                try:
                    migrations.retry(session, row.id, "test")
                except Conflict:
                    session.rollback()

    # -- the workers --------------------------------------------------------------------------------------------------

    @precondition(lambda self: self.jobs)
    @rule(which=strategies.integers(0, 9))
    def work(self, which: int) -> None:
        self.world.work(self._job(which))

    @precondition(lambda self: self.jobs)
    @rule(which=strategies.integers(0, 9))
    def wait(self, which: int) -> None:
        self.world.due(self._job(which))

    @precondition(lambda self: self.jobs)
    @rule(which=strategies.integers(0, 9), point=moments)
    def die_at_a_point(self, which: int, point: int) -> None:
        worker = Mortal(points=point)
        worker.run(lambda: self.world.work(self._job(which), at=worker.at))

    @precondition(lambda self: self.jobs)
    @rule(which=strategies.integers(0, 9), statement=strategies.integers(5, 120))
    def die_at_a_statement(self, which: int, statement: int) -> None:
        worker = Mortal(statements=statement)
        worker.run(lambda: self.world.work(self._job(which)))

    @precondition(lambda self: self.jobs)
    @rule(which=strategies.integers(0, 9), point=moments, name=names, site=sites_of, deletes=strategies.booleans())
    def owner_meets_worker(self, which: int, point: int, name: str, site: str, deletes: bool) -> None:
        def act() -> None:
            if deletes:
                self._delete(name, site)
            else:
                self._write(name, site, large=False)

        self.world.work(self._job(which), at=_once_at(point, act))

    @precondition(lambda self: self.jobs)
    @rule(which=strategies.integers(0, 9), point=moments)
    def freeze(self, which: int, point: int) -> None:
        """A worker stands still at a point until another has done its work, then it wakes."""
        job_id = self._job(which)

        def others_go_on() -> None:
            self.world.due(job_id)
            self.world.work(job_id)

        self.world.work(job_id, at=_once_at(point, others_go_on))

    def _job(self, which: int) -> int:
        return self.jobs[-1 - which % len(self.jobs)]

    # -- what must hold -----------------------------------------------------------------------------------------------

    @invariant()
    def the_sites_hold_what_the_model_allows(self) -> None:
        type(self).steps_taken += 1
        for name, owned in self.owned.items():
            held = self._held(name)
            proven = {site for site, state in self.world.states(name).items() if state in ("serving", "draining")}
            wrong = owned.look(held, proven, getattr(self, "rf", 1))
            assert wrong == [], (name, _short(held), self._story(name))

    def teardown(self) -> None:
        if not hasattr(self, "rf"):
            return
        for _ in range(2):
            for job_id in self.jobs:
                self.world.finish(job_id)
            for site in SITES:
                self._scan(site)
                self._scan(site)
        for name, owned in self.owned.items():
            self._at_rest(name, owned)
        assert all(row.state in MIGRATION_FINAL or row.reason for row in self._rows()), self._rows()
        assert [sum(self.world.uploads(site).values()) for site in SITES] == [0, 0, 0], "parts were left behind"
        _budgets_add_up()

    def _at_rest(self, name: str, owned: Owned) -> None:
        held, found = self._held(name), self.world.object(name)
        heads = {site: self.world.head(site, name) for site in SITES}
        serving = {
            site: bool((there := heads[site]) and there.pin.etag == (replica.pin or {}).get("etag"))
            for site, replica in self.world.replicas(name).items()
            if replica.state == ReplicaState.SERVING and replica.object_version == found.version
        }
        wrong = owned.at_rest(held, serving, is_gone=found.state == "gone")
        for site, body in held.items():
            if heads[site] and heads[site].carried.metadata != {"digest": str(hash(body))}:
                wrong.append(f"{site} has lost the metadata")
        assert wrong == [], (name, _short(held), self._story(name))

    def _held(self, name: str) -> dict[str, bytes]:
        found = {site: self.world.read(site, name) for site in SITES}
        return {site: body for site, body in found.items() if body is not None}

    def _scan(self, site: str) -> None:
        self.world.scan(site)
        for name, owned in self.owned.items():
            if not self._is_moving(name):
                owned.scanned(site)
            with session_scope() as session:
                state = session.scalar(
                    select(migrations.Object.state).where(migrations.Object.key == self.world.key(name))
                )
            owned.learned(self._held(name), is_gone=state == "gone")

    def _is_moving(self, name: str) -> bool:
        return any(row.state in EARLY and row.fence for row in self._rows(name))

    def _rows(self, name: str | None = None) -> list[Migration]:
        rows = [row for job_id in self.jobs for row in self.world.rows(job_id)]
        if name is None:
            return rows
        object_id = self.world.object(name).id
        return [row for row in rows if row.object_id == object_id]

    def _story(self, name: str) -> object:
        moves = [(row.kind, str(row.state), row.reason) for row in self._rows(name)]
        return self.world.states(name), moves, {body[:12] for body in self.owned[name].current}


def _once_at(point: int, act):
    left = [point]

    def at(_: str) -> None:
        left[0] -= 1
        if not left[0]:
            act()

    return at


def _short(held: dict[str, bytes]) -> dict[str, bytes]:
    return {site: body[:12] for site, body in held.items()}


def _budgets_add_up() -> None:
    """Reserved is what unfinished moves hold, spent what was switched: whatever crashed in between."""
    with session_scope() as session:
        reserved, spent = session.execute(
            select(func.sum(Budget.reserved), func.sum(Budget.spent)).where(Budget.unit == "moves")
        ).one()
        held = session.scalar(select(func.count()).where(Migration.reserved_on.is_not(None)))
        switched = session.scalar(select(func.count()).where(Audit.action == "migration.switch"))
    assert (reserved or 0, spent or 0) == (held, switched)


@pytest.fixture
def world(sites, clean_database, configure):
    configure(
        growing_age_s=0, retry_base_s=0.01, multipart_threshold=5 * 2**20, part_size=5 * 2**20, max_attempts=50,
        migrate_concurrency=1,
    )  # fmt: skip
    made = World(sites)
    made.policy("budget", {"moves_per_day": 10**6})
    return made


def test_the_engine_does_what_the_reference_model_allows(world, rounds, seed, figure):
    machine = type("Engine", (Engine,), {"world": world})
    first = random.randrange(10**9) if seed is None else seed
    machines = 0
    for number in rounds(MACHINES // BATCH, share=3):
        print(f"seed {first + number}: pytest {__file__.rpartition('/tests/')[2]} --seed {first + number}")
        run_state_machine_as_test(
            hypothesis.seed(first + number)(machine),
            settings=hypothesis.settings(
                max_examples=BATCH, stateful_step_count=STEPS, deadline=None, database=None,
                suppress_health_check=list(HealthCheck),
            ),
        )  # fmt: skip
        machines += BATCH
    figure("I17", f"as the model allows, {machine.steps_taken:,} steps, from seed {first}", machines)
