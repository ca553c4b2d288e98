"""What moves leave behind is tidied away; what is a user's, is read, or is the last good copy never is."""

import random
import threading
import uuid
from datetime import UTC, datetime, timedelta
from functools import partial

import pytest
from sqlalchemy import event, update

from app.db import changes
from app.db import jobs as job_rows
from app.db import session as database
from app.db import sites as registered
from app.db.session import session_scope
from app.db.tables import Job, Migration, Replica
from app.domain.headers import INTENT
from app.domain.states import MigrationState, MoveKind
from app.domain.tasks import TaskName
from tests import jobs
from tests.faults.proxy import Proxy
from tests.faults.rules import Fault, on
from tests.integration.test_rollback import moved, roll_back
from tests.integration.test_scrub import a_second_passes, scrubbed
from tests.integration.test_verification import copied
from tests.reliability.mortal import Mortal
from tests.world import World
from workers.tidying import remove_copies, tidy

AWS, AZURE, GCP = "aws-eu", "azure-we", "gcp-eu"
MIB = 2**20


def tidied(world, site=GCP, **args):
    return jobs.run(tidy, TaskName.TIDY, {"site": site, "prefix": world.folder, **args}).result


def graces_are_over():
    with session_scope() as session:
        long_ago = datetime.now(UTC) - timedelta(days=1)
        session.execute(update(Replica).where(Replica.draining_until.is_not(None)).values(draining_until=long_ago))


def dies_at(world, job_id, point):
    worker = Mortal(named=point)
    assert worker.run(lambda: world.work(job_id, at=worker.at))


def given_up(job_id, state=MigrationState.DEAD):
    """The migrations of a job end while nobody is at work on them, as when their object changes or is deleted."""
    with session_scope() as session:
        for row in session.query(Migration).filter(Migration.job_id == job_id):
            changes.end(session, row.id, state, "test")


def rolled_back(world, name="a"):
    """The copy of a move that was rolled back: out of service, Foretide's own, still there."""
    plan_id, job_id = moved(world, name)
    world.work(job_id)
    roll_back(plan_id)
    assert world.states(name) == {AWS: "serving", GCP: "stale"}


def test_the_copy_of_a_rolled_back_move_goes_after_its_grace(world):
    rolled_back(world)
    assert tidied(world)["kept"] == {"grace": 1}
    graces_are_over()
    told = tidied(world, dry_run=True)
    assert (told["removed"], told["items"]) == (
        1, [{"site": GCP, "key": world.key("a"), "what": "copy", "why": "leftover"}]
    )  # fmt: skip
    assert world.read(GCP, "a") is not None
    assert tidied(world)["removed"] == 1
    assert (world.read(GCP, "a"), world.states("a")) == (None, {AWS: "serving", GCP: "deleted"})
    assert world.read(AWS, "a") == b"bytes of a"
    (told,) = world.audit("replica.delete")
    assert (told.data["conditions"]["witnesses"], told.data["conditions"]["unchanged"]) == (1, True)
    assert tidied(world)["removed"] == 0
    assert world.scan(GCP)["new"] == 0


def test_an_older_version_goes_after_a_grace_of_its_own(world):
    copied(world)
    world.put(AWS, "a", b"newest")
    world.scan(AWS)
    assert world.states("a") == {AWS: "serving", GCP: "stale"}
    assert tidied(world)["kept"] == {"grace": 1}, "readers may still hold its address"
    graces_are_over()
    assert tidied(world)["removed"] == 1
    assert world.read(AWS, "a") == b"newest"


@pytest.mark.parametrize("point", ["begun", "copied", "proven"])
def test_what_a_move_that_was_given_up_has_written_goes(world, point):
    world.put(AWS, "a", b"bytes")
    world.scan(AWS)
    job_id = world.move("a", AWS, GCP)
    dies_at(world, job_id, point)
    assert tidied(world)["removed"] == 0, "while the migration may be gone on with"
    given_up(job_id)
    tidied(world)
    assert (world.read(GCP, "a"), world.states("a")) == (None, {AWS: "serving", GCP: "deleted"})


def test_somebody_elses_object_at_a_destination_stays(world):
    world.put(AWS, "a", b"ours")
    world.scan(AWS)
    world.put(GCP, "a", b"theirs")
    job_id = world.move("a", AWS, GCP)
    world.finish(job_id)
    assert world.row(job_id).reason == "destination_exists"
    assert tidied(world)["kept"] == {"not_ours": 1}
    assert world.read(GCP, "a") == b"theirs"


def test_nothing_goes_when_no_other_site_truly_holds_the_object(world):
    rolled_back(world)
    graces_are_over()
    world.delete(AWS, "a")
    assert tidied(world)["kept"] == {"no_good_copy": 1}
    world.put(AWS, "a", b"another write")
    assert tidied(world)["kept"] == {"no_good_copy": 1}
    assert world.read(GCP, "a") == b"bytes of a"


@pytest.mark.parametrize(
    ("rules", "site", "reason"),
    [
        ({"pinned": True}, {}, "pinned"),
        ({"readers": "direct"}, {}, "readers_direct"),
        ({}, {"capabilities": {"classes": ["STANDARD"]}}, "no_guarded_delete"),
    ],
)
def test_what_rules_or_the_site_protect_stays(make_world, rules, site, reason):
    world = make_world()
    rolled_back(world)
    graces_are_over()
    world.policy("sla", {"default": {"readers": "routed", **rules}})
    if site:
        world.set_site(GCP, **site)
    assert tidied(world)["kept"] == {reason: 1}
    assert world.read(GCP, "a") == b"bytes of a"


def test_what_its_owner_wrote_over_a_leftover_stays(world):
    rolled_back(world)
    graces_are_over()
    world.put(GCP, "a", b"its owner's")
    assert tidied(world)["kept"] == {"changed": 1}
    assert world.read(GCP, "a") == b"its owner's"


def test_a_removal_that_broke_off_is_ended_by_the_next_pass(world):
    rolled_back(world)
    graces_are_over()
    statements = 8
    while True:
        worker = Mortal(statements=statements)
        worker.run(lambda: tidied(world))
        if world.states("a")[GCP] == "removing":
            break
        assert world.states("a")[GCP] == "stale", "it never got so far as to claim it"
        statements += 1
    job_id = world.move("a", AWS, GCP)
    world.finish(job_id)
    assert (world.row(job_id).state, world.row(job_id).reason) == ("skipped", "destination_draining")
    assert tidied(world)["kept"] == {"object_is_changing": 1}, "as far as one knows its worker lives"
    with session_scope() as session:
        session.execute(update(Job).values(state="dead"))
    tidied(world)
    assert (world.read(GCP, "a"), world.states("a")[GCP]) == (None, "deleted")


def test_a_frozen_worker_that_wakes_deletes_nothing(world):
    """Its job was taken over, the removal ended by the other, and a new copy made there, before it goes on."""
    rolled_back(world)
    graces_are_over()
    held, go_on = threading.Event(), threading.Event()
    told = {}

    def asked(connection, cursor, statement, *_):
        if threading.current_thread().name == "frozen" and "replica.delete" in str(_[0]) and not held.is_set():
            told["claimed"] = True

    def committed(connection):
        if threading.current_thread().name == "frozen" and told.get("claimed") and not held.is_set():
            told["after"] = True

    def begun(connection):
        if threading.current_thread().name == "frozen" and told.get("after") and not held.is_set():
            held.set()
            go_on.wait(60)

    engine = database.engine()
    handlers = {"before_cursor_execute": asked, "commit": committed, "begin": begun}
    for name, handler in handlers.items():
        event.listen(engine, name, handler)
    with session_scope() as session:
        job_id = job_rows.submit(session, TaskName.TIDY, {"site": GCP, "prefix": world.folder}).id
    frozen = threading.Thread(target=tidy, args=(job_id,), name="frozen")
    frozen.start()
    assert held.wait(60)
    try:
        with session_scope() as session:
            session.execute(update(Job).where(Job.id == job_id).values(fence=Job.fence + 1, state="dead"))
        assert tidied(world)["removed"] == 1
        copy = world.plan(("a", MoveKind.COPY, AWS, GCP, "STANDARD"))
        world.finish(copy)
        assert world.states("a") == {AWS: "serving", GCP: "serving"}
    finally:
        go_on.set()
        frozen.join()
        for name, handler in handlers.items():
            event.remove(engine, name, handler)
    assert world.read(GCP, "a") == b"bytes of a"
    assert world.states("a")[GCP] == "serving"


def test_no_removal_meets_a_copy_that_is_being_made_there(world, rounds):
    """A pass and a move to the very place start at the same time: whatever serves afterwards is there."""
    for number in rounds(60, least=5):
        name, chance = f"race-{number}", random.Random(number)
        rolled_back(world, name)
        graces_are_over()
        together = threading.Barrier(2)

        def after(wait_s, act, together=together):
            together.wait()
            threading.Event().wait(wait_s)
            act()

        def move(name=name):
            world.work(world.plan((name, MoveKind.COPY, AWS, GCP, "STANDARD")))

        mover = threading.Thread(target=after, args=(chance.random() / 30, move))
        mover.start()
        after(chance.random() / 30, partial(tidied, world))
        mover.join()
        for site, state in world.states(name).items():
            if state == "serving":
                assert world.read(site, name) is not None, (number, site)
    print(f"n {number + 1}")


def test_leftovers_that_a_scrub_found_go_and_what_nobody_knows_stays(world):
    copied(world, "known")
    world.put(AWS, "a", b"bytes")
    world.scan(AWS)
    world.put(GCP, "a", b"half a move", Metadata={INTENT: f"{uuid.uuid4()}.1"})
    world.put(GCP, "users-copy", b"x", Metadata={INTENT: world.head(GCP, "known").intent})
    world.put(GCP, "no-object", b"x", Metadata={INTENT: f"{uuid.uuid4()}.1"})
    a_second_passes(world)
    assert scrubbed(world)["found"] == {"dark_leftover": 2, "dark_unknown": 1}
    assert tidied(world)["removed"] == 1
    assert world.read(GCP, "a") is None
    assert world.read(GCP, "users-copy") == world.read(GCP, "no-object") == b"x"
    assert scrubbed(world)["open"] == 2
    assert world.read(AWS, "a") == b"bytes"


# -- uploads ----------------------------------------------------------------------------------------------------------


def large(world, name="big"):
    world.put(AWS, name, b"x" * (12 * MIB))
    world.scan(AWS)
    return world.move(name, AWS, GCP)


def users_upload(world, name, parts=0):
    bucket = world.buckets[GCP]
    where = {"Bucket": bucket.bucket, "Key": world.key(name)}
    upload = {**where, "UploadId": bucket.client.create_multipart_upload(**where)["UploadId"]}
    for number in range(1, parts + 1):
        bucket.client.upload_part(**upload, PartNumber=number, Body=b"x")
    return upload["UploadId"]


def test_an_upload_whose_id_was_never_stored_goes_and_users_uploads_stay(world):
    users = {users_upload(world, "big"), users_upload(world, "other"), users_upload(world, "other", parts=1)}
    threading.Event().wait(2.5)  # no event tells that a user's upload is older than a migration by more than clocks err
    job_id = large(world)
    dies_at(world, job_id, "upload_begun")
    (lost,) = set(world.uploads(GCP)) - users
    users.add(users_upload(world, "big", parts=1))
    assert tidied(world)["uploads_aborted"] == 0, "its worker might be about to store it"
    world.due(job_id)
    told = tidied(world, dry_run=True)
    assert told["items"] == [{"site": GCP, "key": world.key("big"), "what": "upload", "why": "never_stored"}]
    assert set(world.uploads(GCP)) == users | {lost}
    assert tidied(world)["uploads_aborted"] == 1
    assert set(world.uploads(GCP)) == users
    world.finish(job_id)
    assert world.row(job_id).state == "done"
    assert set(world.uploads(GCP)) == users
    assert tidied(world)["uploads_aborted"] == 0


def test_an_upload_that_is_gone_on_with_is_not_aborted(world):
    job_id = large(world)
    dies_at(world, job_id, "part_sent")
    before = world.uploads(GCP)
    assert len(before) == 1
    assert tidied(world)["uploads_aborted"] == 0
    world.due(job_id)
    assert tidied(world)["uploads_aborted"] == 0
    world.finish(job_id)
    assert world.row(job_id).state == "done"


def test_an_upload_of_a_migration_that_ended_goes_by_its_stored_id(world):
    job_id = large(world)
    dies_at(world, job_id, "part_sent")
    given_up(job_id)
    told = tidied(world)
    assert (told["uploads_aborted"], told["items"][0]["why"]) == (1, "stored")
    assert world.uploads(GCP) == {}
    assert world.row(job_id).upload_id is None
    assert tidied(world)["uploads_aborted"] == 0


# -- deleted by their owner -------------------------------------------------------------------------------------------


def gone(world, name="a"):
    copied(world, name)
    world.delete(AWS, name)
    with session_scope() as session:
        changes.delete_seen(session, world.object(name).id, registered.get(session, AWS).id, "delete_event")
    assert world.object(name).state == "gone"


def test_copies_of_what_its_owner_deleted_stay_unless_the_policy_says_otherwise(world):
    gone(world)
    tidied(world)
    graces_are_over()
    assert tidied(world)["removed"] == 0
    assert world.read(GCP, "a") == b"the bytes"
    world.policy("retention", {"propagate_deletes": True})
    assert tidied(world)["removed"] == 1
    assert (world.read(GCP, "a"), world.states("a")) == (None, {AWS: "deleted", GCP: "deleted"})
    assert world.audit("replica.delete")[0].data["conditions"]["cause"] == "gone"


def test_what_was_written_anew_where_a_copy_lay_is_not_deleted(world):
    gone(world)
    world.put(GCP, "a", b"anew")
    tidied(world)
    graces_are_over()
    world.policy("retention", {"propagate_deletes": True})
    assert tidied(world)["kept"] == {"changed": 1}
    assert world.read(GCP, "a") == b"anew"


def test_an_operator_removes_what_is_left(make_api, sites):
    api = make_api(growing_age_s=0)
    world = World(sites)
    gone(world, "a")
    copied(world, "b")
    assert [row["key"] for row in api.get("/v1/objects?state=gone").json["items"]] == [world.key("a")]
    refused = api.post("/v1/objects:remove-copies", {"keys": [world.key("a"), world.key("b")]})
    assert (refused.status_code, refused.json["errors"][0]["pointer"]) == (409, "/keys/1")
    assert api.post("/v1/objects:remove-copies", {"keys": ["no-such"]}).status_code == 404
    for dry_run in (True, False):
        started = api.post("/v1/objects:remove-copies", {"keys": [world.key("a")], "dry_run": dry_run})
        assert started.status_code == 202
        assert jobs.finish(remove_copies, started.json["id"]).result["removed"] == 1
        assert (world.read(GCP, "a") is None) is not dry_run
    assert world.read(GCP, "b") == b"the bytes"
    started = api.post(f"/v1/sites/{GCP}:tidy", {"prefix": world.folder})
    assert jobs.finish(tidy, started.json["id"]).state == "succeeded"
    assert api.post("/v1/sites/nowhere:tidy", {}).status_code == 404
    actions = {row["action"] for row in api.get("/v1/audit").json["items"]}
    assert {"objects.remove_copies", "site.tidy", "replica.delete", "replica.deleted"} <= actions


def test_a_site_that_does_not_answer_is_left_to_the_next_pass(world):
    rolled_back(world)
    graces_are_over()
    world.set_site(GCP, endpoint_url="http://127.0.0.1:9")
    result = tidied(world)
    assert (result["removed"], result["kept"]) == (0, {"site_unavailable": 1})


def test_a_copy_that_a_site_refuses_to_delete_stays_and_holds_up_nothing(sites, make_world):
    with Proxy(sites[GCP]) as proxy:
        world = make_world({**sites, GCP: proxy.site})
        for name in ("a", "b"):
            rolled_back(world, name)
        graces_are_over()
        proxy.harm(on("DeleteObject", Fault.FORBIDDEN, name="a"))
        result = tidied(world)
        assert (result["removed"], result["kept"]) == (1, {"access_denied": 1})
        assert (world.states("a")[GCP], world.states("b")[GCP]) == ("stale", "deleted")
        proxy.harm()
        assert tidied(world)["removed"] == 1


@pytest.mark.parametrize(
    ("fault", "reason", "kept"),
    [(Fault.FORBIDDEN, "access_denied", True), (Fault.UNKNOWN, "uploads_never_aborted", False)],
)
def test_an_upload_that_a_site_does_not_end_is_told_and_holds_up_nothing(sites, make_world, fault, reason, kept):
    with Proxy(sites[GCP]) as proxy:
        world = make_world({**sites, GCP: proxy.site})
        rolled_back(world)
        job_id = large(world)
        dies_at(world, job_id, "part_sent")
        given_up(job_id)
        graces_are_over()
        proxy.harm(on("AbortMultipartUpload", fault))
        result = tidied(world)
        assert (result["removed"], result["uploads_aborted"], result["kept"]) == (1, 0, {reason: 1})
        assert (world.row(job_id).upload_id is not None) is kept, "what may be tried again is not forgotten"


def test_a_site_that_refuses_its_credentials_does_not_keep_the_others_from_their_turn(world):
    job_id = large(world)
    dies_at(world, job_id, "part_sent")
    given_up(job_id)
    world.put(AZURE, "b")
    rolled_back(world)
    graces_are_over()
    with session_scope() as session:
        azure = registered.get(session, AZURE).id
        session.execute(update(Migration).where(Migration.job_id == job_id).values(to_site_id=azure))
    world.set_site(AZURE, secret_key="wrong")
    result = jobs.run(tidy, TaskName.TIDY, {"prefix": world.folder}).result
    assert (result["removed"], result["kept"]["access_denied"]) == (1, 2)
