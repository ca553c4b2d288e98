"""I12 and I13: whoever comes at the same moment, one request starts one job and one migration has an object."""

import threading
from collections import Counter
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime

import pytest
from sqlalchemy import func, select, text

from app.db import migration_plans, migrations
from app.db.session import session_scope
from app.db.tables import Job, Migration, Move, Object, Plan
from app.domain.migrations import EARLY
from app.domain.states import MigrationState, MoveKind, PlanState
from app.errors import Conflict

RACERS = 10
APPLIERS, OBJECTS = 4, 6


def race(racers: int, run: Callable[[int], None]) -> None:
    """Runs as many threads that all begin in the same moment; the first error of any is raised."""
    barrier = threading.Barrier(racers)

    def start(number: int) -> None:
        barrier.wait()
        run(number)

    with ThreadPoolExecutor(racers) as pool:
        for done in [pool.submit(start, number) for number in range(racers)]:
            done.result()


def test_one_key_starts_one_job(make_api, rounds, figure):
    """Ten at once: each is answered 202 with the same job, after 409 only while the first has not committed."""
    api, early = make_api(), Counter()
    done = 0
    for number in rounds(1000, share=0.6):
        answers = []

        def submit(racer: int, key: str = f"race-{number}", answers: list = answers) -> None:
            headers = {"Idempotency-Key": key}
            while (answer := api.post("/v1/plans", {"rf": 1}, headers=headers)).status_code == 409:
                assert answer.json["type"] == "/problems/conflict"
                early["409"] += 1
            answers.append((answer.status_code, answer.json["id"], answer.headers["Location"]))

        race(RACERS, submit)
        assert len(answers) == RACERS
        assert len(set(answers)) == 1
        assert answers[0][0] == 202
        done += 1
    with session_scope() as session:
        assert session.scalar(select(func.count()).select_from(Job)) == done
    other = api.post("/v1/plans", {"rf": 2}, headers={"Idempotency-Key": "race-0"})
    assert other.status_code == 422
    figure("I12", f"one job a key of {RACERS} requests at once, {early['409']} asked to wait", done)


@pytest.fixture
def objects(clean_database: str) -> list[int]:
    """Objects at a first site that could be moved to a second."""
    with session_scope() as session:
        for name in ("one", "two"):
            session.execute(
                text(
                    "insert into site (name, provider, region, endpoint_url, bucket, access_key, secret_key_encrypted,"
                    " classes, latency_ms) values (:name, 'aws', 'r', 'http://127.0.0.1', 'b', 'k', '', '{}', 1)"
                ),
                {"name": name},
            )
        found = [Object(key=f"o{number}", state="present", size=1) for number in range(OBJECTS)]
        session.add_all(found)
        session.flush()
        return [row.id for row in found]


def make_plan(objects: list[int]) -> int:
    with session_scope() as session:
        site_ids = list(session.scalars(text("select id from site order by id")))
        plan = Plan(
            state=PlanState.READY, as_of=datetime.now(UTC), cost_before=0, cost_after=0, one_off=0, objects=1, moves=1
        )
        session.add(plan)
        session.flush()
        session.add_all(
            Move(
                plan_id=plan.id, object_id=object_id, object_version=1, kind=MoveKind.MOVE, from_site_id=site_ids[0],
                to_site_id=site_ids[1], to_class="STANDARD", bytes=1, one_off=0, monthly_delta=0, reason="test",
            )
            for object_id in objects
        )  # fmt: skip
        return plan.id


def end_all() -> None:
    with session_scope() as session:
        session.execute(text("update migration set state = 'failed', finished_at = now() where state <> 'skipped'"))


def active() -> dict[int, int]:
    with session_scope() as session:
        held = select(Migration.object_id, func.count()).where(Migration.state.in_(EARLY)).group_by(Migration.object_id)
        return dict(session.execute(held).all())


def test_one_migration_has_an_object(objects, rounds, figure):
    """Plans over the same objects are applied at once, and what had failed is retried in the same moment."""
    done, failed = 0, list[int]()
    for _ in rounds(500, share=0.6):
        plans = [make_plan(objects) for _ in range(APPLIERS)]

        def act(racer: int, plans: list = plans, failed: list = failed) -> None:
            if racer < APPLIERS:
                with session_scope() as session:
                    migration_plans.apply(session, plans[racer], actor="test")
            for migration_id in failed if racer >= APPLIERS else ():
                try:
                    with session_scope() as session:
                        migrations.retry(session, migration_id, "test")
                except Conflict:
                    continue

        race(APPLIERS + 1, act)
        assert active() == dict.fromkeys(objects, 1)
        with session_scope() as session:
            states = session.scalars(select(Migration.state).where(Migration.plan_id.in_(plans))).all()
        assert len(states) == APPLIERS * OBJECTS, "each move is seen, if only as skipped"
        assert set(states) <= {MigrationState.QUEUED, MigrationState.SKIPPED}
        end_all()
        with session_scope() as session:
            ended = select(Migration.id).where(Migration.plan_id.in_(plans), Migration.state == MigrationState.FAILED)
            failed = list(session.scalars(ended))
        done += 1
    figure("I13", f"one active migration an object, {APPLIERS} plans of {OBJECTS} objects applied at once", done)
