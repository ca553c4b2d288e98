"""Replicas are read again: right ones are recorded, wrong ones never read any more, and nothing else is touched."""

import hashlib

import pytest
from sqlalchemy import update

from app.db import alerts, routing
from app.db.session import session_scope
from app.db.tables import Replica
from app.domain.states import MoveKind
from app.domain.tasks import TaskName
from tests import jobs
from tests.damage import rewrite, rot
from tests.faults.proxy import Proxy
from tests.faults.rules import Fault, on
from tests.world import World
from workers.verification import verify

AWS, AZURE, GCP = "aws-eu", "azure-we", "gcp-eu"


def verified(world, **args):
    return jobs.run(verify, TaskName.VERIFY, {"prefix": world.folder, **args}).result


def copied(world, name="a", to=GCP, body=b"the bytes"):
    """An object of its owner at one site with a copy that Foretide made at another; the copy's job."""
    world.put(AWS, name, body)
    world.scan(AWS)
    job_id = world.plan((name, MoveKind.COPY, AWS, to, "STANDARD"))
    world.finish(job_id)
    assert world.states(name) == {AWS: "serving", to: "serving"}
    return job_id


def open_alerts():
    with session_scope() as session:
        return {(alert.kind, alert.subject) for alert in alerts.open_alerts(session)}


def test_good_replicas_are_recorded_and_stay(world):
    copied(world)
    sha256 = hashlib.sha256(b"the bytes").hexdigest()
    assert [row.sha256 for row in world.replicas("a").values()].count(sha256) == 1, "of the copy alone"
    result = verified(world)
    assert (result["replicas"], result["good"], result["recorded"]) == (2, 1, 1)
    held = world.replicas("a").values()
    assert {row.sha256 for row in held} == {sha256}
    assert all(row.checked_at for row in held)
    assert verified(world)["good"] == 2
    assert world.replicas("a")[AWS].verified_at is None, "its owner's original does not become Foretide's"


def test_two_that_agree_are_recorded_and_one_alone_proves_nothing(world):
    for site in (AWS, GCP):
        world.put(site, "two", b"same")
    world.put(AWS, "one", b"alone")
    for site in (AWS, GCP):
        world.scan(site)
    result = verified(world)
    assert (result["recorded"], result["unproven"]) == (2, 1)
    assert world.replicas("one")[AWS].sha256 is None


@pytest.mark.parametrize("body", [b"the bytes", b"", b"x" * (20 * 2**20)])
def test_a_rotten_replica_is_never_read_again(world, body):
    copied(world, body=body)
    rot(world, GCP, "a")
    version = world.object("a").version
    result = verified(world)
    assert (result["corrupt"], result["keys"]) == (
        1, [{"key": world.key("a"), "site": GCP, "verdict": "corrupt"}]
    )  # fmt: skip
    assert world.states("a") == {AWS: "serving", GCP: "corrupt"}
    with session_scope() as session:
        assert list(routing.readable(session, world.key("a")).sites) == [AWS]
    assert world.object("a").version > version, "a copy that is being made of it cannot switch"
    assert ("replica_corrupt", world.key("a")) in open_alerts()
    (told,) = world.audit("replica.corrupt")
    assert (told.data["site"], told.data["found_by"]) == (GCP, "verify")
    assert verified(world)["corrupt"] == 1
    assert len(world.audit("replica.corrupt")) == 1, "it is found again, not told again"


def test_what_was_taken_for_corrupt_serves_when_its_bytes_are_right(world):
    copied(world)
    with session_scope() as session:
        row = world.replicas("a")[GCP]
        session.execute(update(Replica).where(Replica.id == row.id).values(state="corrupt"))
    assert verified(world)["good"] >= 1
    assert world.states("a")[GCP] == "serving"


def test_only_one_site_is_read_and_what_is_known_elsewhere_counts(world):
    copied(world)
    result = verified(world, site=AWS)
    assert (result["replicas"], result["recorded"]) == (1, 1)
    rot(world, AWS, "a")
    assert verified(world, site=AWS)["corrupt"] == 1


def test_a_missing_copy_is_lost_and_a_missing_original_is_left_to_scans(world):
    copied(world, "a")
    copied(world, "b")
    world.delete(GCP, "a")
    world.delete(AWS, "b")
    assert verified(world)["missing"] == 2
    assert world.states("a") == {AWS: "serving", GCP: "lost"}
    assert world.states("b") == {AWS: "serving", GCP: "serving"}


def test_an_owners_write_is_no_corruption(world):
    copied(world)
    world.put(AWS, "a", b"newer bytes")
    rewrite(world, GCP, "a", b"newer still")
    assert verified(world)["changed"] == 2
    assert world.states("a") == {AWS: "serving", GCP: "serving"}


def test_a_switch_to_what_has_rotten_is_reversed(world):
    world.put(AWS, "a", b"the bytes")
    world.scan(AWS)
    job_id = world.move("a", AWS, GCP)
    world.work(job_id)
    rot(world, GCP, "a")
    assert verified(world)["corrupt"] == 1
    assert world.states("a") == {AWS: "serving", GCP: "corrupt"}
    assert (world.row(job_id).state, world.row(job_id).reason) == ("rolled_back", "destination_corrupt")
    world.finish(job_id)
    assert world.read(AWS, "a") == b"the bytes"


def test_a_copy_of_what_turns_out_to_be_rotten_does_not_switch(world):
    copied(world, to=AZURE)
    rot(world, AZURE, "a")
    job_id = world.plan(("a", MoveKind.COPY, AZURE, GCP, "STANDARD"))
    found = []

    def look(at):
        if at == "verified" and not found:
            found.append(verified(world))

    world.work(job_id, at=look)
    world.finish(job_id)
    assert found[0]["corrupt"] == 1
    assert (world.row(job_id).state, world.row(job_id).reason) == ("skipped", "source_not_serving")
    assert "serving" not in {world.states("a").get(AZURE), world.states("a").get(GCP)}


def test_a_way_that_flips_bytes_is_not_taken_for_a_rotten_replica(make_world, sites):
    with Proxy(sites[GCP]) as proxy:
        world = make_world({**sites, GCP: proxy.site})
        copied(world)
        proxy.harm(on("GetObject", Fault.FLIPPED))
        result = verified(world)
        assert (result["misread"], result.get("corrupt")) == (1, None)
        proxy.harm(on("GetObject", Fault.FLIPPED, times=1))
        assert verified(world)["good"] == 2, "read again, it is right"
        proxy.harm(on("GetObject HeadObject", Fault.RESET))
        assert verified(world)["silent"] == 1
        proxy.harm(on("HeadObject", Fault.FORBIDDEN))
        assert verified(world) | {"good": 1, "silent": 1} == verified(world), "the others are looked at all the same"
    assert world.states("a") == {AWS: "serving", GCP: "serving"}


def test_sleeping_classes_are_looked_at_and_not_read(make_world, sites):
    with Proxy(sites[GCP]) as proxy:
        world = make_world({**sites, GCP: proxy.site})
        copied(world)
        with session_scope() as session:
            row = world.replicas("a")[GCP]
            session.execute(update(Replica).where(Replica.id == row.id).values(storage_class="INTELLIGENT_TIERING"))
        proxy.log.clear()
        assert verified(world)["good"] == 1
        assert (len(proxy.asked("GetObject")), len(proxy.asked("HeadObject"))) == (0, 1)
        cost = verified(world, dry_run=True)
    assert (cost["replicas"], cost["looked_at"], cost["bytes"]) == (2, 1, len(b"the bytes"))


def test_a_dry_run_tells_the_cost_and_reads_nothing(make_world, sites):
    with Proxy(sites[AWS]) as proxy:
        world = make_world({**sites, AWS: proxy.site})
        world.put(AWS, "a", b"x" * 2**20)
        world.scan(AWS)
        proxy.log.clear()
        cost = verified(world, dry_run=True)
        assert not proxy.log
    get, internet = 0.0004 / 1000, 0.09
    assert cost["usd"] == pytest.approx(get + internet / 1024, rel=1e-4)
    assert (cost["bytes"], cost["unpriced"], cost["dry_run"]) == (2**20, 0, True)


def test_the_api_starts_it_for_keys_a_prefix_or_a_migration(make_api, sites):
    api = make_api(growing_age_s=0)
    world = World(sites)
    job_id = copied(world)
    migration = world.row(job_id).id
    for path, body in [
        (f"/v1/migrations/{migration}:verify", {}),
        ("/v1/objects:verify", {"keys": [world.key("a")], "site": GCP}),
        ("/v1/objects:verify", {"prefix": world.folder, "dry_run": True}),
    ]:
        started = api.post(path, body)
        assert started.status_code == 202, path
        assert jobs.finish(verify, started.json["id"]).result["replicas"] in (1, 2)
    assert api.post("/v1/migrations/999:verify", {}).status_code == 404
    assert api.post("/v1/objects:verify", {"site": "nowhere"}).status_code == 404
    assert api.post("/v1/objects:verify", {"keys": []}).json["errors"][0]["pointer"] == "/keys"
    assert [row["action"] for row in api.get("/v1/audit?action=verify").json["items"]] == ["verify", "verify"]


def test_a_job_goes_on_from_where_its_turn_ended(world):
    copied(world, "a")
    copied(world, "b")
    so_far = {"verdicts": {"good": 2, "corrupt": 1}, "keys": [], "bytes": 7}
    result = verified(world, after_id=world.object("a").id, so_far=so_far)
    assert (result["replicas"], result["good"], result["corrupt"]) == (5, 3, 1)
