"""The world changes at the wrong moment: no newer write is passed over, no last copy given up, no job left hanging."""

from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest

from app.db import changes, jobs, migrations, replicas, reports
from app.db import sites as registered
from app.db.ingest import Write
from app.db.session import session_scope
from app.db.tables import Plan
from app.domain.states import MoveKind, ReplicaState
from app.errors import Conflict
from tests.faults.proxy import Proxy
from tests.faults.rules import Fault, on
from tests.reliability.mortal import Mortal
from tests.world import World

AWS, AZURE, GCP = "aws-eu", "azure-we", "gcp-eu"


def reported(world, site, name, op):
    """An access log tells of a PUT or DELETE a minute from now, by when nothing of ours is younger."""
    with session_scope() as session:
        site_id = registered.get(session, site).id
        later = datetime.now(UTC) + timedelta(minutes=1)
        write = Write(world.object(name).id, world.key(name), op, site_id, later)
        assert reports.follow(session, [write]) == 1


def died_at(world, job_id, point):
    """A worker takes up the job and dies at the point; whether it did."""
    worker = Mortal(named=point)
    return worker.run(lambda: world.work(job_id, at=worker.at))


def held_at(world, name, *names):
    """The object at the first site, with a copy that Foretide made at each of the others."""
    world.put(names[0], name, b"old")
    world.scan(names[0])
    for other in names[1:]:
        world.finish(world.plan((name, MoveKind.COPY, names[0], other, "STANDARD")))
    assert set(world.states(name).values()) == {"serving"}


def test_somebody_elses_object_that_blocked_a_move_is_not_taken_for_the_newest(world):
    world.put(AWS, "a", b"ours")
    world.scan(AWS)
    world.put(GCP, "a", b"theirs")
    world.work(world.move("a", AWS, GCP))
    world.scan(GCP)
    assert world.states("a") == {AWS: "serving", GCP: "stale"}


def test_what_its_owner_writes_where_a_move_came_to_nothing_is_served_when_nothing_else_is(world):
    """A worker died before it wrote at the destination; then the object was deleted, and written anew there."""
    world.put(AWS, "a", b"old")
    world.scan(AWS)
    job_id = world.move("a", AWS, GCP)
    assert died_at(world, job_id, "begun")
    world.delete(AWS, "a")
    world.put(GCP, "a", b"new")
    world.finish(job_id)
    for site in (AWS, AWS, GCP):
        world.scan(site)
    assert (world.object("a").state, world.states("a")) == ("present", {AWS: "deleted", GCP: "serving"})


def test_a_write_where_a_copy_was_deleted_is_newer_than_what_is_moved_there(world):
    """An owner still writes at the old address, and a plan moves the object back before anybody has seen that."""
    world.put(AWS, "a", b"old")
    world.scan(AWS)
    world.finish(world.move("a", AWS, GCP))
    world.put(AWS, "a", b"newest")
    job_id = world.move("a", GCP, AWS)
    world.finish(job_id)
    assert (world.row(job_id).state, world.row(job_id).reason) == ("blocked", "destination_exists")
    world.scan(AWS)
    assert world.states("a") == {AWS: "serving", GCP: "stale"}
    assert world.read(AWS, "a") == b"newest"


def test_a_version_that_may_be_the_newest_is_not_overwritten_when_an_older_write_is_seen_late(world):
    """Its owner wrote at one site, then at another; the second write was seen first, and moved away from its site."""
    world.put(GCP, "a", b"first")
    world.scan(GCP)
    world.work(world.move("a", GCP, AZURE))
    world.put(AZURE, "a", b"second")
    world.put(GCP, "a", b"newest")
    world.scan(GCP)
    assert world.states("a") == {GCP: "serving", AZURE: "stale"}
    world.finish(world.move("a", GCP, AWS))
    assert world.read(GCP, "a") is None, "the only copy of the newest is Foretide's own"
    world.scan(AZURE)
    assert world.states("a") == {GCP: "deleted", AZURE: "serving", AWS: "stale"}
    job_id = world.move("a", AZURE, AWS)
    world.finish(job_id)
    assert (world.row(job_id).state, world.row(job_id).reason) == ("blocked", "destination_exists")
    assert world.read(AWS, "a") == b"newest"


def test_a_copy_of_what_was_surely_overwritten_may_be_replaced(world):
    held_at(world, "a", AWS, AZURE)
    world.put(AWS, "a", b"newest")
    world.scan(AWS)
    assert world.states("a") == {AWS: "serving", AZURE: "stale"}
    world.finish(world.move("a", AWS, AZURE))
    assert world.read(AZURE, "a") == b"newest"


def test_a_copy_that_came_to_nothing_does_not_bring_back_what_its_owner_deleted(world):
    world.put(AWS, "a", b"old")
    world.scan(AWS)
    job_id = world.move("a", AWS, GCP)
    assert died_at(world, job_id, "copied")
    world.delete(AWS, "a")
    with session_scope() as session:
        jobs.cancel(session, job_id)
        changes.delete_seen(session, world.object("a").id, registered.get(session, AWS).id, "delete_event")
    for site in (AWS, AWS, GCP):
        world.scan(site)
    assert world.object("a").state == "gone"
    assert "serving" not in world.states("a").values()


def test_a_write_elsewhere_before_the_copy_begins_is_not_passed_over(world):
    held_at(world, "a", AWS, AZURE)
    job_id = world.move("a", AWS, GCP)
    once = ["pinned"]

    def write(at):
        if at in once:
            once.clear()
            world.put(AZURE, "a", b"newest")
            reported(world, AZURE, "a", "PUT")

    world.work(job_id, at=write)
    world.finish(job_id)
    assert (world.row(job_id).state, world.row(job_id).reason) == ("skipped", "source_not_serving")
    assert [site for site, state in world.states("a").items() if state == "serving"] == [AZURE]


def test_other_bytes_do_not_serve_beside_a_write_that_was_only_reported(world):
    world.put(AWS, "a", b"old")
    world.scan(AWS)
    world.put(AWS, "a", b"newest")
    reported(world, AWS, "a", "PUT")
    world.put(AZURE, "a", b"other")
    world.scan(AZURE)
    assert world.states("a") == {AWS: "serving", AZURE: "stale"}


def test_a_removal_is_given_up_when_the_other_copy_was_lost_meanwhile(world):
    held_at(world, "a", AWS, AZURE)
    job_id = world.plan(("a", MoveKind.REMOVE, AWS, None, None))

    def lose(at):
        if at == "begun":
            with session_scope() as session:
                replicas.set_state(session, world.object("a").id, ReplicaState.LOST, only=[ReplicaState.SERVING],
                                   site_id=registered.get(session, AZURE).id)  # fmt: skip

    world.work(job_id, at=lose)
    assert (world.row(job_id).state, world.row(job_id).reason) == ("blocked", "too_few_replicas")
    assert world.states("a") == {AWS: "serving", AZURE: "lost"}


def test_a_job_ends_though_its_last_move_was_ended_by_the_owner(world):
    world.put(AWS, "a")
    world.scan(AWS)
    job_id = world.move("a", AWS, GCP)
    with session_scope() as session:
        migrations.start(session, job_id)
    reported(world, AWS, "a", "DELETE")
    assert (world.row(job_id).state, world.job(job_id).state) == ("skipped", "running")
    with session_scope() as session:
        assert [bell.job_id for bell in migrations.to_ring(session, 8, first_s=15, cap_s=300)] == [job_id]
    world.work(job_id)
    assert world.job(job_id).state == "succeeded"


def test_an_error_that_nobody_classed_uses_the_attempts_up(world):
    world.put(AWS, "a")
    world.scan(AWS)
    job_id = world.move("a", AWS, GCP)

    def fail(at):
        raise ValueError(at)

    for _ in range(5):
        world.due(job_id)
        if world.row(job_id).state != "dead":
            with pytest.raises(ValueError, match="pinned"):
                world.work(job_id, at=fail)
    row = world.row(job_id)
    assert (row.state, row.reason, row.attempts) == ("dead", "unexpected_error", 5)
    assert world.job(job_id).state == "failed"


def test_a_job_that_was_cancelled_before_it_began_can_be_retried(world):
    world.put(AWS, "a")
    world.scan(AWS)
    job_id = world.move("a", AWS, GCP)
    with session_scope() as session:
        jobs.cancel(session, job_id)
    world.work(job_id)
    with session_scope() as session:
        assert session.get_one(Plan, world.row(job_id).plan_id).state == "applied", "all its moves have ended"
        jobs.retry(session, job_id)
    world.finish(job_id)
    assert (world.row(job_id).state, world.job(job_id).state) == ("done", "succeeded")


def test_a_move_of_a_job_that_was_cancelled_before_it_began_can_be_retried_alone(world):
    world.put(AWS, "a")
    world.scan(AWS)
    job_id = world.move("a", AWS, GCP)
    with session_scope() as session:
        jobs.cancel(session, job_id)
    world.work(job_id)
    with session_scope() as session:
        migrations.retry(session, world.row(job_id).id, "test")
    world.finish(job_id)
    assert (world.row(job_id).state, world.job(job_id).state) == ("done", "succeeded")


def test_a_move_that_was_skipped_for_an_earlier_one_can_be_retried_alone(world):
    world.put(AWS, "a")
    world.scan(AWS)
    world.put(AZURE, "a", b"theirs")
    job_id = world.plan(
        ("a", MoveKind.COPY, AWS, AZURE, "STANDARD"),
        ("a", MoveKind.MOVE, AWS, GCP, "STANDARD"),
    )
    world.work(job_id)
    first, second = world.rows(job_id)
    assert (first.reason, second.reason) == ("destination_exists", "earlier_move_blocked")
    with session_scope() as session:
        migrations.retry(session, second.id, "test")
    world.finish(job_id)
    assert [row.state for row in world.rows(job_id)] == ["blocked", "done"]


def test_a_job_at_work_is_not_retried(world):
    world.put(AWS, "a")
    world.scan(AWS)
    job_id = world.move("a", AWS, GCP)
    with session_scope() as session:
        migrations.start(session, job_id)
    with session_scope() as session, pytest.raises(Conflict):
        jobs.retry(session, job_id)


def test_a_bucket_under_two_names_is_one_copy(world, sites):
    world.put(AWS, "a")
    world.add_site(replace(sites[AWS], name="twin"))
    world.scan(AWS)
    world.scan("twin")
    assert world.states("a") == {AWS: "serving", "twin": "serving"}
    job_id = world.plan(("a", MoveKind.REMOVE, AWS, None, None))
    world.finish(job_id)
    assert (world.row(job_id).state, world.row(job_id).reason) == ("done", "source_kept_too_few_replicas")
    assert world.read(AWS, "a") == b"hello"


def test_what_its_owner_deleted_while_a_worker_looked_does_not_serve_again(sites, clean_database, configure):
    """The copy is missing because its owner deleted it, which is told between the worker's look and its verdict."""
    configure(growing_age_s=0, retry_base_s=0.01)
    with Proxy(sites[GCP]) as proxy:
        world = World({**sites, GCP: proxy.site})
        world.put(AWS, "a")
        world.scan(AWS)
        job_id = world.move("a", AWS, GCP)
        world.work(job_id)
        world.delete(GCP, "a")
        world.due(job_id)
        told = []

        def tell():
            reported(world, GCP, "a", "DELETE")
            told.append(world.states("a"))

        proxy.harm(on("HeadObject", Fault.AFTER, name="a", times=1, act=tell))
        world.work(job_id)
        assert told == [{AWS: "stale", GCP: "deleted"}]
        assert (world.object("a").state, world.states("a")) == ("gone", told[0])
        world.finish(job_id)
    assert (world.row(job_id).state, world.object("a").state, world.states("a")) == ("done", "gone", told[0])
