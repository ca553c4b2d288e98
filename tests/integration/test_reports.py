"""A block of reported writes does to the catalogue what its lines would do one by one, in few statements."""

import random
from datetime import UTC, datetime, timedelta

import pytest
from sqlalchemy import event, func, select, text, update

from app.db import changes, jobs, replicas, reports
from app.db import session as database
from app.db.ingest import Write
from app.db.session import session_scope
from app.db.tables import Migration, Object, ObjectFormer, Replica
from app.domain.objects import delete_is_news, write_is_news
from app.domain.pins import Pin
from app.domain.states import MigrationState, ObjectState, ReplicaState
from app.queue import TaskName
from tests.integration.test_plans import add_sites

NOW = datetime(2026, 6, 1, tzinfo=UTC)
ROWS = {
    "object": "id",
    "object_former": "object_id, until",
    "replica": "id",
    "migration": "id",
    "audit": "action, subject, data::text",
    "alert": "kind, subject",
}
NUMBERED = ("audit", "alert")
"""Their ids and hashes come from sequences, which no rollback takes back."""


def one_by_one(session, writes):
    """What each report means by itself: the rule that a block has to keep."""
    news = 0
    for write in sorted(writes, key=lambda write: write.object_id):
        session.expire_all()
        held = replicas.of_object(session, write.object_id)
        held = [row for row in held if write.site_id in (None, row.site_id)]
        if write.site_id is None:
            held = [row for row in held if row.state == ReplicaState.SERVING]
        if len(held) != 1:
            continue
        (replica,) = held
        state, pin = ReplicaState(replica.state), Pin.from_json(replica.pin)
        if write.op == "PUT" and write_is_news(write.ts, state, pin, replica.draining_until):
            changes.put_seen(session, write.object_id, replica.site_id, None)
            told_at(session, write, ObjectFormer.until == func.now())
        elif write.op == "DELETE" and delete_is_news(write.ts, state, pin):
            changes.delete_seen(session, write.object_id, replica.site_id, "delete_event")
            told_at(session, write)
        else:
            continue
        news += 1
        session.flush()
    return news


def told_at(session, write, *former):
    """What a report tells of happened when the report says."""
    session.flush()
    if former:
        until = func.greatest(write.ts, ObjectFormer.gone_at)
        session.execute(
            update(ObjectFormer).where(ObjectFormer.object_id == write.object_id, *former).values(until=until)
        )
    else:
        ended = update(Object).where(Object.id == write.object_id, Object.gone_at == func.now())
        session.execute(ended.values(gone_at=write.ts))


def catalogue(session):
    """Every row of what reports may change."""
    found = {}
    for name, order in ROWS.items():
        rows = session.execute(text(f"select to_jsonb(t) from {name} t order by {order}")).scalars()
        left_out = {"id", "hash", "previous"} if name in NUMBERED else set()
        found[name] = [{key: value for key, value in row.items() if key not in left_out} for row in rows]
    return found


def moment(chance, hours=6):
    return NOW + timedelta(minutes=chance.randrange(-60 * hours, 60 * hours))


def furnish(session, chance, objects=60):
    """Objects with copies in every state, of every age, some with a move in hand."""
    site_ids = list(add_sites(session).values())
    job = jobs.submit(session, TaskName.MIGRATE)
    for number in range(objects):
        version = chance.randrange(1, 4)
        state = chance.choice([ObjectState.PRESENT] * 4 + [ObjectState.GONE, ObjectState.UNKNOWN])
        thing = Object(key=f"k{number}", state=state, version=version, size=5, written_at=moment(chance))
        session.add(thing)
        session.flush()
        for site_id in chance.sample(site_ids, chance.randrange(len(site_ids) + 1)):
            seen, pinned = moment(chance), chance.random() < 0.7
            pin = Pin("e", 5, moment(chance)).as_json() if pinned else {}
            session.add(
                Replica(
                    object_id=thing.id, site_id=site_id, storage_class="STANDARD", size=5, pin=pin, sha256="a" * 64,
                    state=chance.choice([*ReplicaState, ReplicaState.SERVING, ReplicaState.SERVING]),
                    object_version=version - chance.choice([0, 0, 1]), seen_at=seen, class_since=NOW,
                    verified_at=chance.choice([None, NOW]), deleted_at=chance.choice([None, None, moment(chance)]),
                    draining_until=chance.choice([None, NOW]), absent_scans=chance.randrange(2),
                )
            )  # fmt: skip
        if chance.random() < 0.4:
            source, destination = chance.sample(site_ids, 2)
            session.add(
                Migration(
                    job_id=job.id, object_id=thing.id, object_version=version, kind="move", bytes_total=5,
                    state=chance.choice(list(MigrationState)), from_site_id=source, to_site_id=destination,
                    lease_until=chance.choice([None, datetime.now(UTC) + timedelta(hours=1)]),
                )
            )  # fmt: skip
    session.flush()
    return site_ids


@pytest.mark.parametrize("seed", range(12))
def test_a_block_does_what_its_lines_do_one_by_one(session, seed):
    chance = random.Random(seed)
    site_ids = furnish(session, chance)
    things = session.scalars(select(Object)).all()
    writes = [
        Write(thing.id, thing.key, chance.choice(["PUT", "PUT", "DELETE"]), chance.choice([None, *site_ids]),
              moment(chance))
        for thing in chance.choices(things, k=150)
    ]  # fmt: skip
    before = catalogue(session)
    with session.begin_nested() as point:
        wanted = one_by_one(session, writes), catalogue(session)
        point.rollback()
    session.expire_all()
    assert catalogue(session) == before
    assert (reports.follow(session, writes, at_once=chance.choice([7, 1000])), catalogue(session)) == wanted
    assert wanted[0] > 20


def reported(count, op="PUT"):
    """A site with so many objects, and a report of each at it an hour after it was last seen."""
    with session_scope() as session:
        site_id = add_sites(session)["aws-eu"]
        pin = Pin("e", 5, NOW).as_json()
        things = [Object(key=f"k{number}", state=ObjectState.PRESENT, size=5) for number in range(count)]
        session.add_all(things)
        session.flush()
        session.add_all(
            Replica(
                object_id=thing.id, site_id=site_id, storage_class="STANDARD", size=5, pin=pin, class_since=NOW,
                state=ReplicaState.SERVING, object_version=1,
            )
            for thing in things
        )  # fmt: skip
        return [Write(thing.id, thing.key, op, site_id, NOW + timedelta(hours=1)) for thing in things]


@pytest.mark.parametrize("op", ["PUT", "DELETE"])
def test_a_block_of_many_objects_takes_few_statements(clean_database, op):
    writes, statements = reported(900, op), []

    def count(*arguments):
        statements.append(arguments[2])

    engine = database.engine()
    event.listen(engine, "before_cursor_execute", count)
    try:
        with session_scope() as session:
            assert reports.follow(session, writes) == 900
    finally:
        event.remove(engine, "before_cursor_execute", count)
    assert len(statements) <= 12
    with session_scope() as session:
        state = ObjectState.PRESENT if op == "PUT" else ObjectState.GONE
        which = (Object.version == 2, Object.state == state)
        assert session.scalar(select(func.count()).select_from(Object).where(*which)) == 900


def test_objects_of_which_nothing_is_news_are_not_locked(clean_database):
    """A log tells of Foretide's own writes too: whoever moves those objects is not held up."""
    old = [Write(write.object_id, write.key, "PUT", write.site_id, NOW) for write in reported(3)]
    with session_scope() as holder:
        changes.lock(holder, old[0].object_id)
        with session_scope() as session:
            session.execute(text("set local lock_timeout = '100ms'"))
            assert reports.follow(session, old) == 0
