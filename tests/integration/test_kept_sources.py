"""Sources that may not be deleted for now: reported once, looked at again, deleted when nothing forbids it any more."""

import pytest

from app.db import migration_kept
from app.db.session import session_scope
from app.domain.states import MoveKind
from app.domain.tasks import TaskName
from tests import jobs as jobrun
from tests.damage import rot
from tests.integration.test_s3_guards import Guarded, locked, versioned
from tests.reliability.mortal import Mortal
from tests.s3servers import MOTO, SEAWEEDFS
from tests.world import World
from workers.repair import repair
from workers.verification import verify

AWS, AZURE, GCP = "aws-eu", "azure-we", "gcp-eu"


@pytest.fixture
def settings(clean_database, configure):
    configure(growing_age_s=0, retry_base_s=0.01)


@pytest.fixture
def world(sites, settings):
    return World(sites)


@pytest.fixture
def guarded(request, site_of, settings):
    return lambda make: Guarded(site_of(getattr(request, "param", SEAWEEDFS)), make)


def taken_up():
    """How many sources the sweep lets the engine look at again."""
    with session_scope() as session:
        return migration_kept.take_up(session)


def looked_at_again(world, job_id):
    """Once the time for it has come."""
    world.due(job_id)
    assert taken_up() == 1
    world.work(job_id)
    return world.row(job_id)


def open_alerts(world):
    return [alert for alert in world.alerts("source_kept") if alert.state != "resolved"]


def judged(world, job_id):
    """The object is moved, its grace is over, and what becomes of its source is decided."""
    world.work(job_id)
    world.due(job_id)
    world.work(job_id)
    return job_id


def moved(world):
    world.put(AWS, "a")
    world.scan(AWS)
    return judged(world, world.move("a", AWS, GCP))


@pytest.mark.parametrize("guarded", [MOTO], indirect=True)
def test_a_source_goes_once_its_lock_is_lifted(guarded):
    """SeaweedFS tells another LastModified once a lock is lifted, which is taken for an owner's write."""
    world = guarded(locked)
    world.put("a", b"locked")
    where = {"Bucket": world.guarded.bucket, "Key": world.key("a")}
    world.client.put_object_legal_hold(**where, LegalHold={"Status": "ON"})
    world.scan("guarded")
    job_id = judged(world, world.move("a", "guarded", "plain"))
    assert (world.row(job_id).state, world.row(job_id).reason) == ("done", "source_kept_object_lock")
    assert taken_up() == 0, "its time has not come"

    row = looked_at_again(world, job_id)
    assert (row.state, row.reason) == ("done", "source_kept_object_lock")
    (alert,) = open_alerts(world)
    assert (alert.count, len(world.audit("replica.kept"))) == (1, 1), "it was told once"

    world.client.put_object_legal_hold(**where, LegalHold={"Status": "OFF"})
    row = looked_at_again(world, job_id)
    assert (row.state, row.reason) == ("done", "old_version_kept")
    assert world.states("a") == {"guarded": "deleted", "plain": "serving"}
    assert world.guarded.get(world.key("a")) is None
    taken_up()
    assert open_alerts(world) == []


def test_a_source_goes_as_soon_as_the_operator_allows_it(world):
    world.set_site(AWS, capabilities={**world.capabilities(AWS), "conditional_delete": False, "versioning": False})
    job_id = moved(world)
    assert (world.row(job_id).state, world.row(job_id).reason) == ("done", "source_kept_no_guarded_delete")
    assert taken_up() == 0
    world.set_site(AWS, allow_unguarded_delete=True)
    assert taken_up() == 1
    world.work(job_id)
    assert (world.row(job_id).state, world.row(job_id).reason) == ("done", None)
    assert world.read(AWS, "a") is None


def test_a_source_goes_as_soon_as_no_policy_pins_it(world):
    world.put(AWS, "a")
    world.scan(AWS)
    job_id = world.move("a", AWS, GCP)
    world.work(job_id)
    world.policy("sla", {"default": {"readers": "routed", "pinned": True}})
    world.finish(job_id)
    assert (world.row(job_id).state, world.row(job_id).reason) == ("done", "source_kept_pinned")
    assert world.read(AWS, "a") == b"hello"
    world.policy("sla", {"default": {"readers": "routed"}})
    assert taken_up() == 1
    world.work(job_id)
    assert world.states("a") == {AWS: "deleted", GCP: "serving"}


def test_an_object_whose_source_is_kept_gets_the_copies_that_it_lacks_and_then_the_source_goes(world):
    world.put(AWS, "a")
    world.scan(AWS)
    job_id = world.move("a", AWS, GCP)
    world.work(job_id)
    world.policy("sla", {"default": {"readers": "routed", "rf": 2}})
    world.finish(job_id)
    assert (world.row(job_id).state, world.row(job_id).reason) == ("done", "source_kept_too_few_replicas")
    assert world.read(AWS, "a") == b"hello"

    copy = world.plan(("a", MoveKind.COPY, GCP, AZURE, "STANDARD"))
    world.finish(copy)
    assert world.row(copy).state == "done"
    row = looked_at_again(world, job_id)
    assert (row.state, row.reason) == ("done", None)
    assert world.states("a") == {AWS: "deleted", AZURE: "serving", GCP: "serving"}


def test_a_source_goes_though_the_object_was_moved_on(world):
    capabilities = world.capabilities(AWS)
    world.set_site(AWS, capabilities={**capabilities, "conditional_delete": False, "versioning": False})
    job_id = moved(world)
    onward = world.move("a", GCP, AZURE)
    world.finish(onward)
    assert world.states("a") == {AWS: "draining", AZURE: "serving", GCP: "deleted"}
    world.set_site(AWS, capabilities=capabilities)
    row = looked_at_again(world, job_id)
    assert (row.state, row.reason) == ("done", None)
    assert world.states("a") == {AWS: "deleted", AZURE: "serving", GCP: "deleted"}
    assert world.read(AZURE, "a") == b"hello"


def test_a_source_is_left_alone_while_another_move_has_its_object(world):
    world.set_site(AWS, capabilities={**world.capabilities(AWS), "conditional_delete": False, "versioning": False})
    job_id = moved(world)
    onward = world.move("a", GCP, AZURE)
    world.set_site(AWS, allow_unguarded_delete=True)
    assert taken_up() == 0
    assert world.row(job_id).state == "done"
    world.finish(onward)
    looked_at_again(world, job_id)
    assert world.states("a") == {AWS: "deleted", AZURE: "serving", GCP: "deleted"}


def test_a_source_that_serves_again_is_not_looked_at(world):
    world.set_site(AWS, capabilities={**world.capabilities(AWS), "conditional_delete": False, "versioning": False})
    job_id = moved(world)
    world.put(AWS, "a", b"newest")
    world.scan(AWS)
    assert world.states("a") == {AWS: "serving", GCP: "stale"}
    world.set_site(AWS, allow_unguarded_delete=True)
    assert taken_up() == 0
    assert world.row(job_id).state == "done"
    assert world.read(AWS, "a") == b"newest"


def test_a_write_that_a_marker_may_hide_is_reported_and_serves_when_the_marker_goes(guarded):
    """No condition can be sent with the delete, and the worker died before it saw what its marker stands over."""
    world = guarded(versioned)
    world.set_site("guarded", capabilities={**world.capabilities("guarded"), "conditional_delete": False})
    world.put("a", b"old")
    world.scan("guarded")
    job_id = world.move("a", "guarded", "plain")
    world.work(job_id)
    world.due(job_id)
    where = {"Bucket": world.guarded.bucket, "Key": world.key("a")}
    markers = []

    def die(at):
        if at == "delete_intended":
            world.put("a", b"newest")
            markers.append(world.client.delete_object(**where)["VersionId"])
        mortal.at(at)

    mortal = Mortal(named="delete_intended")
    assert mortal.run(lambda: world.work(job_id, at=die))
    world.due(job_id)
    world.work(job_id)
    assert (world.row(job_id).state, world.row(job_id).reason) == ("done", "source_kept_version_hidden")
    (alert,) = open_alerts(world)
    assert "version_hidden" in alert.message

    world.client.delete_object(**where, VersionId=markers[0])
    row = looked_at_again(world, job_id)
    assert (row.state, row.reason) == ("rolled_back", "source_changed_after_switch")
    assert world.states("a") == {"guarded": "serving", "plain": "stale"}
    assert world.guarded.get(world.key("a")) == b"newest"


def test_a_source_serves_again_when_its_copy_is_found_corrupt_after_its_delete_was_intended(world):
    world.put(AWS, "a")
    world.scan(AWS)
    job_id = world.move("a", AWS, GCP)
    world.work(job_id)
    world.due(job_id)
    mortal = Mortal(named="delete_intended")
    assert mortal.run(lambda: world.work(job_id, at=mortal.at))
    rot(world, GCP, "a")
    jobrun.run(verify, TaskName.VERIFY, {"prefix": world.folder})
    assert world.states("a") == {AWS: "draining", GCP: "corrupt"}
    world.due(job_id)
    world.work(job_id)
    assert (world.row(job_id).state, world.row(job_id).reason) == ("rolled_back", "last_copy")
    assert world.states("a") == {AWS: "serving", GCP: "corrupt"}
    result = jobrun.run(repair, TaskName.REPAIR, {"prefix": world.folder, "apply": True}).result
    world.finish(result["apply_job_id"])
    assert world.states("a") == {AWS: "serving", GCP: "serving"}
    assert world.read(GCP, "a") == b"hello"


def test_a_removed_copy_serves_again_when_it_is_the_last_good_one(world):
    world.put(AWS, "a")
    world.scan(AWS)
    world.finish(world.plan(("a", MoveKind.COPY, AWS, GCP, "STANDARD")))
    job_id = world.plan(("a", MoveKind.REMOVE, AWS, None, None))
    world.work(job_id)
    rot(world, GCP, "a")
    jobrun.run(verify, TaskName.VERIFY, {"prefix": world.folder})
    assert world.states("a") == {AWS: "draining", GCP: "corrupt"}
    world.finish(job_id)
    assert (world.row(job_id).state, world.row(job_id).reason) == ("rolled_back", "last_copy")
    assert (world.states("a"), world.read(AWS, "a")) == ({AWS: "serving", GCP: "corrupt"}, b"hello")
