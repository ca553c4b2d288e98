"""What moves leave in versioned buckets: noted, removed by its own id when a policy says, and nothing else with it."""

from datetime import UTC, datetime, timedelta

import pytest
from sqlalchemy import select, update

from app.db import jobs
from app.db.session import session_scope
from app.db.tables import OldVersion, Replica
from app.domain.states import MoveKind
from app.queue import TaskName
from tests.integration.test_s3_guards import Guarded, locked, versioned
from tests.s3servers import MOTO, SEAWEEDFS
from workers.old_versions import expire

MIB = 2**20


@pytest.fixture(params=[SEAWEEDFS, MOTO])
def guarded(request, site_of, clean_database, configure):
    configure(growing_age_s=0, retry_base_s=0.01, multipart_threshold=5 * MIB, part_size=5 * MIB)
    return lambda make=versioned: Guarded(site_of(request.param), make)


def history(world, *bodies):
    """Puts one version after the other and tells the catalogue; returns their ids, the oldest first."""
    for body in bodies:
        world.put("a", body)
    world.scan("guarded")
    return version_ids(world)[::-1]


def moved(world):
    job_id = world.move("a", "guarded", "plain")
    world.finish(job_id)
    assert world.row(job_id).state == "done"
    return world.row(job_id)


def reclassed(world):
    job_id = world.plan(("a", MoveKind.CLASS, "guarded", "guarded", "STANDARD_IA"))
    world.finish(job_id)
    assert world.row(job_id).state == "done"
    return world.row(job_id)


def let_go(world, days=0):
    world.policy("retention", {"old_versions_days": days})


def expired(days_ago=1):
    """One pass over what was left so long ago."""
    with session_scope() as session:
        session.execute(update(OldVersion).values(left_at=datetime.now(UTC) - timedelta(days=days_ago)))
        job_id = jobs.submit(session, TaskName.EXPIRE, {}).id
    expire(job_id)
    with session_scope() as session:
        job = jobs.get(session, job_id)
        assert job.state == "succeeded", job.error
        return job.result


def left():
    with session_scope() as session:
        return session.scalars(select(OldVersion)).one()


def version_ids(world):
    """Those that stand, the newest first."""
    return [version["VersionId"] for version in world.versions("a")[0]]


def test_without_a_policy_the_version_stays_and_the_move_says_so(guarded):
    world = guarded()
    ids = history(world, b"1", b"2", b"3")
    assert moved(world).reason == "old_version_kept"
    result = expired(days_ago=10_000)
    assert result == {"looked_at": {}, "standing": {"versions": 1, "bytes": 1}}
    assert version_ids(world) == ids[::-1]
    assert (left().version_id, left().ended_at) == (ids[2], None)


def test_of_three_versions_the_moved_one_goes_and_none_comes_back(guarded):
    world = guarded()
    ids = history(world, b"1", b"2", b"3")
    let_go(world)
    assert moved(world).reason is None
    assert expired()["looked_at"] == {"removed": 1}
    assert version_ids(world) == [ids[1], ids[0]]
    assert world.guarded.get(world.key("a")) is None, "the marker stands over the older versions"
    assert world.plain.get(world.key("a")) == b"3"
    assert [row.data["version_id"] for row in world.audit("version.remove")] == [ids[2]]
    assert len(world.audit("version.removed")) == 1
    assert world.alerts("older_version_read") == []
    assert expired()["looked_at"] == {}, "it is looked at once"


def test_a_version_stays_as_long_as_the_policy_says(guarded):
    world = guarded()
    history(world, b"1", b"2")
    let_go(world, days=7)
    moved(world)
    assert expired(days_ago=6)["looked_at"] == {}
    assert len(version_ids(world)) == 2
    assert expired(days_ago=8)["looked_at"] == {"removed": 1}
    assert len(version_ids(world)) == 1


def test_a_version_that_its_owner_reads_again_is_left_for_good(guarded):
    world = guarded()
    ids = history(world, b"1", b"2", b"3")
    let_go(world)
    moved(world)
    (marker,) = world.versions("a")[1]
    world.client.delete_object(Bucket=world.guarded.bucket, Key=world.key("a"), VersionId=marker["VersionId"])
    assert world.guarded.get(world.key("a")) == b"3"
    assert expired()["looked_at"] == {"current_again": 1}
    assert version_ids(world) == ids[::-1]
    assert expired()["looked_at"] == {}


def test_a_version_that_its_owner_removed_is_gone(guarded):
    world = guarded()
    ids = history(world, b"1", b"2")
    let_go(world)
    moved(world)
    world.client.delete_object(Bucket=world.guarded.bucket, Key=world.key("a"), VersionId=ids[1])
    assert expired()["looked_at"] == {"version_gone": 1}
    assert version_ids(world) == [ids[0]]


def test_a_version_that_is_the_last_copy_but_for_too_few_waits(guarded):
    world = guarded()
    history(world, b"1", b"2")
    let_go(world)
    moved(world)
    with session_scope() as session:
        session.execute(update(Replica).where(Replica.state == "serving").values(state="lost"))
    assert expired()["looked_at"] == {"too_few_replicas": 1}
    assert len(version_ids(world)) == 2


def test_a_locked_version_waits(guarded):
    world = guarded(locked)
    ids = history(world, b"1", b"2")
    let_go(world)
    moved(world)
    where = {"Bucket": world.guarded.bucket, "Key": world.key("a"), "VersionId": ids[1]}
    world.client.put_object_legal_hold(**where, LegalHold={"Status": "ON"})
    assert expired()["looked_at"] == {"object_lock": 1}
    assert (left().reason, left().ended_at) == ("object_lock", None)
    world.client.put_object_legal_hold(**where, LegalHold={"Status": "OFF"})
    assert expired()["looked_at"] == {"removed": 1}
    assert version_ids(world) == [ids[0]]


@pytest.mark.parametrize("guarded", [SEAWEEDFS], indirect=True)
def test_a_change_of_class_leaves_the_old_version_until_the_policy_lets_it_go(guarded):
    world = guarded()
    ids = history(world, b"1", b"2")
    assert reclassed(world).reason == "old_version_kept"
    newest = version_ids(world)[0]
    assert version_ids(world) == [newest, ids[1], ids[0]]
    let_go(world)
    assert expired()["looked_at"] == {"removed": 1}
    assert version_ids(world) == [newest, ids[0]]
    assert world.guarded.get(world.key("a")) == b"2"
    assert world.head("guarded", "a").pin.storage_class == "STANDARD_IA"
    assert world.scan("guarded")["changed"] == 0


@pytest.mark.parametrize("guarded", [SEAWEEDFS], indirect=True)
def test_an_object_from_before_versioning_is_known_by_its_null_version(guarded, site_of):
    world = guarded()
    suspended = {"Bucket": world.guarded.bucket, "VersioningConfiguration": {"Status": "Suspended"}}
    world.client.put_bucket_versioning(**suspended)
    world.put("a", b"1")
    world.client.put_bucket_versioning(**suspended | {"VersioningConfiguration": {"Status": "Enabled"}})
    world.scan("guarded")
    let_go(world)
    moved(world)
    assert left().version_id == "null"
    assert expired()["looked_at"] == {"removed": 1}
    assert version_ids(world) == []
