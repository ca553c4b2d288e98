"""Moves between real sites: what is copied, what is left alone, and what happens when the world changes meanwhile."""

import pytest

from app.db import faults, jobs, migrations, sites
from app.db.session import session_scope
from app.domain.states import MoveKind
from app.s3 import objects
from app.s3.faults import FAULTS
from workers.migrations import migrate

AWS, AZURE, GCP = "aws-eu", "azure-we", "gcp-eu"


def test_a_move_copies_proves_switches_and_deletes_after_the_grace(world):
    metadata = {"owner": "someone", "note": "a b"}
    world.put(
        AWS, "a", b"bytes", ContentType="text/x-demo", ContentEncoding="gzip", CacheControl="max-age=60",
        ContentDisposition="attachment", Metadata=metadata, Tagging="team=red&x=y%20z",
    )  # fmt: skip
    world.scan(AWS)
    job_id = world.move("a", AWS, GCP, "STANDARD_IA")
    world.work(job_id)

    assert world.row(job_id).state == "switched"
    assert world.states("a") == {AWS: "draining", GCP: "serving"}
    assert world.job(job_id).state == "succeeded"
    assert world.read(AWS, "a") == world.read(GCP, "a") == b"bytes"
    world.work(job_id)
    assert world.read(AWS, "a") == b"bytes", "the grace is not over"

    world.due(job_id)
    world.work(job_id)
    assert world.row(job_id).state == "done"
    assert world.states("a") == {AWS: "deleted", GCP: "serving"}
    assert world.read(AWS, "a") is None
    there = world.head(GCP, "a")
    assert there.pin.storage_class == "STANDARD_IA"
    assert there.carried.metadata == metadata
    assert there.carried.headers == {
        "content_type": "text/x-demo", "content_encoding": "gzip", "cache_control": "max-age=60",
        "content_disposition": "attachment",
    }  # fmt: skip
    assert there.tag_count == 2
    (deleted,) = world.audit("replica.delete")
    conditions = deleted.data["conditions"]
    assert conditions["source_unchanged"]
    assert conditions["destination_unchanged"]
    assert conditions["grace_over"]
    assert conditions["verified_elsewhere"] == 1


@pytest.mark.parametrize("size", [0, 1, 5 * 2**20, 8 * 2**20 - 1, 8 * 2**20, 8 * 2**20 + 1, 21 * 2**20])
def test_every_size_arrives_whole(make_world, size):
    world = make_world(settings={"multipart_threshold": 8 * 2**20, "part_size": 8 * 2**20})
    body = (b"0123456789abcdef" * (size // 16 + 1))[:size]
    world.put(AWS, "big", body)
    world.scan(AWS)
    job_id = world.move("big", AWS, AZURE)
    world.finish(job_id)
    assert world.row(job_id).state == "done"
    assert world.read(AZURE, "big") == body
    assert world.uploads(AZURE) == {}


def test_a_class_changes_in_place(world):
    world.put(AWS, "a", b"bytes", ContentType="text/x-demo", Metadata={"k": "v"}, Tagging="a=b")
    world.scan(AWS)
    job_id = world.plan(("a", MoveKind.CLASS, AWS, AWS, "GLACIER_IR"))
    world.work(job_id)
    assert world.row(job_id).state == "done"
    found = world.head(AWS, "a")
    assert (found.pin.storage_class, found.carried.metadata, found.tag_count) == ("GLACIER_IR", {"k": "v"}, 1)
    assert world.replicas("a")[AWS].storage_class == "GLACIER_IR"
    assert world.read(AWS, "a") == b"bytes"
    assert world.scan(AWS)["changed"] == 0, "the catalogue knows its own work"


def test_a_direct_prefix_never_loses_its_source(make_world):
    world = make_world(readers="direct")
    world.put(AWS, "a")
    world.scan(AWS)
    job_id = world.move("a", AWS, GCP)
    world.finish(job_id)
    row = world.row(job_id)
    assert (row.state, row.reason) == ("done", "source_kept_readers_direct")
    assert world.states("a") == {AWS: "serving", GCP: "serving"}
    assert world.read(AWS, "a") == b"hello"

    removal = world.plan(("a", MoveKind.REMOVE, AWS, None, None))
    world.finish(removal)
    assert (world.row(removal).state, world.row(removal).reason) == ("blocked", "readers_direct")
    assert world.read(AWS, "a") == b"hello"


def test_a_prefix_that_turns_direct_during_the_grace_keeps_its_source(world):
    world.put(AWS, "a")
    world.scan(AWS)
    job_id = world.move("a", AWS, GCP)
    world.work(job_id)
    world.policy("sla", {"default": {"readers": "direct"}})
    world.finish(job_id)
    assert world.row(job_id).reason == "source_kept_readers_direct"
    assert world.states("a") == {AWS: "serving", GCP: "serving"}
    assert world.read(AWS, "a") == b"hello"


def test_a_write_before_the_copy_is_what_is_moved(world):
    world.put(AWS, "a", b"old")
    world.scan(AWS)
    job_id = world.move("a", AWS, GCP)
    world.put(AWS, "a", b"newer")
    version = world.object("a").version
    world.finish(job_id)
    assert world.row(job_id).state == "done"
    assert world.read(GCP, "a") == b"newer"
    assert world.object("a").version > version


@pytest.mark.parametrize("point", ["begun", "copied", "proven", "verified"])
def test_a_write_during_the_copy_is_never_lost(world, point):
    world.put(AWS, "a", b"old")
    world.scan(AWS)
    job_id = world.move("a", AWS, GCP)
    once = [point]

    def write(at):
        if at in once:
            once.clear()
            world.put(AWS, "a", b"newest")

    world.work(job_id, at=write)
    world.finish(job_id)
    readable = [world.read(site, "a") for site, state in world.states("a").items() if state == "serving"]
    assert readable == [b"newest"]


def test_a_write_after_the_switch_reverses_it(world):
    world.put(AWS, "a", b"old")
    world.scan(AWS)
    job_id = world.move("a", AWS, GCP)
    world.work(job_id)
    world.put(AWS, "a", b"newest")
    world.finish(job_id)
    row = world.row(job_id)
    assert (row.state, row.reason) == ("rolled_back", "source_changed_after_switch")
    assert world.states("a") == {AWS: "serving", GCP: "stale"}
    assert world.read(AWS, "a") == b"newest"

    again = world.move("a", AWS, GCP)  # the stale copy is Foretide's own and may be replaced
    world.finish(again)
    assert world.row(again).state == "done"
    assert world.read(GCP, "a") == b"newest"


def _tag(world, site, **tags):
    bucket, told = world.buckets[site], [{"Key": name, "Value": value} for name, value in tags.items()]
    bucket.client.put_object_tagging(Bucket=bucket.bucket, Key=world.key("a"), Tagging={"TagSet": told})


def _tags(world, site):
    return objects.tags(world.buckets[site], world.key("a"))


@pytest.mark.parametrize("had", [{}, {"Tagging": "k=old"}])
@pytest.mark.parametrize("size", [5, 9 * 2**20])
def test_tags_put_on_the_source_after_its_copy_reverse_the_switch(world, had, size):
    """No ETag tells them: they are compared with what was copied."""
    world.put(AWS, "a", b"x" * size, **had)
    world.scan(AWS)
    job_id = world.move("a", AWS, GCP)
    world.work(job_id)
    _tag(world, AWS, k="new")
    world.finish(job_id)
    row = world.row(job_id)
    assert (row.state, row.reason) == ("rolled_back", "source_changed_after_switch")
    assert (world.states("a"), _tags(world, AWS)) == ({AWS: "serving", GCP: "stale"}, {"k": "new"})
    assert len(world.alerts("source_changed_after_switch")) == 1

    again = world.move("a", AWS, GCP)
    world.finish(again)
    assert (world.row(again).state, world.read(AWS, "a")) == ("done", None)
    assert _tags(world, GCP) == {"k": "new"}


def test_metadata_written_with_equal_bytes_after_the_switch_are_not_lost(world):
    world.put(AWS, "a", Metadata={"k": "old"})
    world.scan(AWS)
    job_id = world.move("a", AWS, GCP)
    world.work(job_id)
    world.put(AWS, "a", Metadata={"k": "new"})
    world.finish(job_id)
    assert world.row(job_id).reason == "source_changed_after_switch"
    assert world.head(AWS, "a").carried.metadata == {"k": "new"}


def test_tags_put_on_both_ends_keep_the_source(world):
    world.put(AWS, "a", Tagging="k=old")
    world.scan(AWS)
    job_id = world.move("a", AWS, GCP)
    world.work(job_id)
    _tag(world, AWS, k="one")
    _tag(world, GCP, k="another")
    world.finish(job_id)
    assert (world.row(job_id).state, world.row(job_id).reason) == ("done", "source_kept_both_changed")
    assert (_tags(world, AWS), _tags(world, GCP)) == ({"k": "one"}, {"k": "another"})


def test_tags_put_on_the_copy_alone_let_the_source_go(world):
    world.put(AWS, "a", Tagging="k=old")
    world.scan(AWS)
    job_id = world.move("a", AWS, GCP)
    world.work(job_id)
    _tag(world, GCP, k="new")
    world.finish(job_id)
    assert (world.row(job_id).state, world.read(AWS, "a"), _tags(world, GCP)) == ("done", None, {"k": "new"})


def test_a_scan_sees_a_write_after_the_switch(world):
    world.put(AWS, "a", b"old")
    world.scan(AWS)
    job_id = world.move("a", AWS, GCP)
    world.work(job_id)
    world.put(AWS, "a", b"newest")
    assert world.scan(AWS)["changed"] == 1
    assert world.states("a") == {AWS: "serving", GCP: "stale"}
    assert world.row(job_id).state == "rolled_back"


def test_a_lost_destination_reverses_the_switch(world):
    world.put(AWS, "a")
    world.scan(AWS)
    job_id = world.move("a", AWS, GCP)
    world.work(job_id)
    world.delete(GCP, "a")
    world.finish(job_id)
    assert (world.row(job_id).state, world.row(job_id).reason) == ("rolled_back", "destination_lost")
    assert world.states("a") == {AWS: "serving", GCP: "lost"}
    assert world.read(AWS, "a") == b"hello"


def test_an_absent_object_is_gone_after_two_scans_and_not_moved(world):
    world.put(AWS, "a")
    world.scan(AWS)
    world.delete(AWS, "a")
    world.scan(AWS)
    assert world.object("a").state == "present"
    job_id = world.move("a", AWS, GCP)
    world.work(job_id)
    assert (world.row(job_id).state, world.row(job_id).reason) == ("skipped", "source_missing")
    world.scan(AWS)
    assert world.object("a").state == "gone"
    world.put(AWS, "a", b"back")
    world.scan(AWS)
    assert (world.object("a").state, world.states("a")) == ("present", {AWS: "serving"})


def test_what_was_heard_is_rung_for_again_as_soon_as_it_is_ready(world):
    world.put(AWS, "a")
    world.scan(AWS)
    job_id = world.move("a", AWS, GCP)
    with session_scope() as session:
        migrations.start(session, job_id)
        migrations.claim(session, job_id, "killed soon", 30, 1)

    def rung() -> list[int]:
        with session_scope() as session:
            return [bell.job_id for bell in migrations.to_ring(session, 8, first_s=15, cap_s=300)]

    assert rung() == []
    world.due(job_id)
    assert rung() == [job_id]
    assert rung() == []  # not heard yet


def test_a_growing_object_is_skipped(make_world):
    world = make_world(settings={"growing_age_s": 3600})
    world.put(AWS, "a")
    world.scan(AWS)
    job_id = world.move("a", AWS, GCP)
    world.work(job_id)
    assert (world.row(job_id).state, world.row(job_id).reason) == ("skipped", "file_growing")
    assert world.read(GCP, "a") is None
    assert world.job(job_id).state == "succeeded"


def test_encryption_policy_blocks_an_unencrypted_destination(world):
    world.policy("security", {"enforce": True})
    world.put(AWS, "a")
    world.scan(AWS)
    job_id = world.move("a", AWS, GCP)
    world.work(job_id)
    assert (world.row(job_id).state, world.row(job_id).reason) == ("blocked", "destination_not_encrypted")
    assert world.read(GCP, "a") is None

    world.set_site(GCP, encryption_declared=True)
    again = world.move("a", AWS, GCP)
    world.work(again)
    assert world.row(again).state == "switched"


def test_somebody_elses_object_at_the_destination_is_left_alone(world):
    world.put(AWS, "a", b"ours")
    world.scan(AWS)
    world.put(GCP, "a", b"theirs")
    job_id = world.move("a", AWS, GCP)
    world.work(job_id)
    assert (world.row(job_id).state, world.row(job_id).reason) == ("blocked", "destination_exists")
    assert (world.read(AWS, "a"), world.read(GCP, "a")) == (b"ours", b"theirs")


def test_throttling_is_retried_no_sooner_than_asked(make_world):
    world = make_world(settings={"chaos": True})
    world.put(AWS, "a")
    world.scan(AWS)
    job_id = world.move("a", AWS, GCP)
    with session_scope() as session:
        faults.inject(session, sites.get(session, GCP).id, "throttle", 60)
    migrate(job_id)
    row = world.row(job_id)
    assert (row.state, row.reason, row.attempts, row.retries) == ("waiting", "throttled", 1, 1)
    waited = row.next_attempt_at - row.created_at
    assert waited.total_seconds() >= 1, "Retry-After: 1"
    with session_scope() as session:
        faults.clear(session)
    FAULTS.load_from(None)
    world.finish(job_id)
    assert world.row(job_id).state == "done"
    assert world.job(job_id).result["retried"] == 1


def test_a_throttled_move_is_dead_after_five_attempts_and_can_be_retried(make_world):
    world = make_world(settings={"chaos": True})
    world.put(AWS, "a")
    world.scan(AWS)
    job_id = world.move("a", AWS, GCP)
    with session_scope() as session:
        faults.inject(session, sites.get(session, GCP).id, "throttle", 60)
    for _ in range(5):
        world.due(job_id)
        migrate(job_id)
    assert world.row(job_id).state == "dead"
    assert world.job(job_id).state == "failed"
    assert world.states("a")[AWS] == "serving"
    with session_scope() as session:
        faults.clear(session)
        migrations.retry(session, world.row(job_id).id, "test")
    FAULTS.load_from(None)
    world.finish(job_id)
    assert world.row(job_id).state == "done"
    assert world.job(job_id).state == "succeeded"


def test_a_silent_site_is_waited_for_without_using_attempts_up(make_world):
    world = make_world(settings={"chaos": True})
    world.put(AWS, "a")
    world.scan(AWS)
    job_id = world.move("a", AWS, GCP)
    with session_scope() as session:
        faults.inject(session, sites.get(session, GCP).id, "fail", 60)
    for _ in range(7):
        world.due(job_id)
        migrate(job_id)
    row = world.row(job_id)
    assert (row.state, row.reason, row.attempts) == ("waiting", "site_unavailable", 0)
    assert world.job(job_id).state == "running"


def test_a_source_at_a_site_without_guards_is_kept_and_reported(world):
    capabilities = {**_capabilities(world, AWS), "conditional_delete": False, "versioning": False}
    world.set_site(AWS, capabilities=capabilities)
    world.put(AWS, "a")
    world.scan(AWS)
    job_id = world.move("a", AWS, GCP)
    world.finish(job_id)
    assert (world.row(job_id).state, world.row(job_id).reason) == ("done", "source_kept_no_guarded_delete")
    assert world.states("a") == {AWS: "draining", GCP: "serving"}
    assert world.read(AWS, "a") == b"hello"


def _capabilities(world, name):
    with session_scope() as session:
        return dict(sites.get(session, name).capabilities)


def test_moves_of_one_object_follow_one_another(make_world):
    world = make_world(rf=2)
    world.put(AWS, "a")
    world.scan(AWS)
    job_id = world.plan(
        ("a", MoveKind.MOVE, AWS, GCP, "STANDARD_IA"),
        ("a", MoveKind.COPY, AWS, AZURE, "GLACIER_IR"),
    )
    assert [row.kind for row in world.rows(job_id)] == ["copy", "move"]
    world.finish(job_id)
    assert [row.state for row in world.rows(job_id)] == ["done", "done"]
    assert world.states("a") == {AWS: "deleted", AZURE: "serving", GCP: "serving"}
    assert world.job(job_id).result["verified"] == 2


def test_a_source_stays_while_too_few_other_copies_serve(make_world):
    world = make_world(rf=2)
    world.put(AWS, "a")
    world.scan(AWS)
    job_id = world.move("a", AWS, GCP)
    world.work(job_id)
    world.due(job_id)
    world.work(job_id)
    assert (world.row(job_id).state, world.row(job_id).reason) == ("done", "source_kept_too_few_replicas")
    assert world.read(AWS, "a") == b"hello"


def test_an_object_that_is_being_moved_is_skipped_and_said_so(world):
    world.put(AWS, "a")
    world.scan(AWS)
    world.move("a", AWS, GCP)
    second = world.move("a", AWS, AZURE)
    assert (world.row(second).state, world.row(second).reason) == ("skipped", "object_is_moving")
    world.work(second)
    assert world.job(second).state == "succeeded"
    assert world.job(second).result["skipped"] == 1


def test_a_cancelled_job_moves_nothing_more(world):
    for name in "ab":
        world.put(AWS, name)
    world.scan(AWS)
    job_id = world.plan(*((name, MoveKind.MOVE, AWS, GCP, "STANDARD") for name in "ab"))
    with session_scope() as session:
        migrations.cancel(session, world.rows(job_id)[0].id, "test")
    world.work(job_id)
    assert [row.state for row in world.rows(job_id)] == ["cancelled", "switched"]
    assert (world.read(GCP, "a"), world.read(GCP, "b")) == (None, b"hello")

    second = world.move("a", AWS, GCP)
    with session_scope() as session:
        jobs.cancel(session, second)
    world.work(second)
    assert (world.row(second).state, world.job(second).state) == ("cancelled", "cancelled")
    assert world.read(GCP, "a") is None


def test_what_was_copied_is_removed_when_a_move_is_given_up(world):
    world.put(AWS, "a")
    world.scan(AWS)
    job_id = world.move("a", AWS, GCP)
    _attempts(world, job_id, 4)
    once = ["copied"]

    def write(at):  # the source changes, so that the last attempt comes to nothing after its copy was written
        if at in once:
            once.clear()
            world.put(AWS, "a", b"newest")

    world.work(job_id, at=write)
    assert (world.row(job_id).state, world.row(job_id).reason) == ("dead", "source_changed")
    assert world.read(GCP, "a") is None
    assert world.states("a") == {AWS: "serving", GCP: "deleted"}


def _attempts(world, job_id, number):
    with session_scope() as session:
        migrations.get(session, world.row(job_id).id).attempts = number


HOSTILE = [
    "with space", " leading", "two  spaces", "plus+plus", "percent%20", "100%", "%2F", "#hash?query&amp=", "'quote'\"",
    "<script>alert(1)</script>", "{curly}[square]|^`", "semi;colon:@$!*()", "tab\there", "🎉.png", "é", "e\u0301",
    "\u202ertl\u202c", "עברית", "日本語", "zero\u200bwidth", "x" * 255,
]  # fmt: skip


def test_hostile_keys_arrive_under_their_own_name(world):
    for number, name in enumerate(HOSTILE):
        world.put(AWS, name, f"body {number}".encode())
    world.scan(AWS)
    job_id = world.plan(*((name, MoveKind.MOVE, AWS, GCP, "STANDARD") for name in HOSTILE))
    world.finish(job_id)
    assert {row.state for row in world.rows(job_id)} == {"done"}
    for number, name in enumerate(HOSTILE):
        assert world.read(GCP, name) == f"body {number}".encode(), name
        assert world.read(AWS, name) is None, name
