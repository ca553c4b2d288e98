"""Sites that leave things out: listings without what is there, bodies that end early, bodies that are not taken."""

import pytest

from app.db import sites as registered
from app.db.session import session_scope
from app.db.sites import NewSite
from app.queue import TaskName
from app.settings import get_settings
from tests import jobs as jobrun
from tests.faults.proxy import Proxy
from tests.faults.rules import Fault, on
from tests.world import World
from workers.sites import probe

AWS, GCP = "aws-eu", "gcp-eu"


@pytest.fixture
def proxies(sites):
    with Proxy(sites[AWS], seed=5) as aws, Proxy(sites[GCP], seed=5) as gcp:
        yield {AWS: aws, GCP: gcp}


@pytest.fixture
def world(proxies, clean_database, configure):
    configure(growing_age_s=0, retry_base_s=0.01)
    return World({name: proxy.site for name, proxy in proxies.items()})


def unlisted(proxies, name):
    proxies[AWS].harm(on("ListObjectsV2", Fault.UNLISTED, where=name))


def scans(world, count=2):
    for _ in range(count):
        found = world.scan(AWS)
    return found["absent"], found["gone"]


def test_what_two_listings_leave_out_is_not_gone_while_it_is_there(world, proxies):
    for name in ("hidden", "deleted", "listed"):
        world.put(AWS, name)
    world.scan(AWS)
    world.delete(AWS, "deleted")
    unlisted(proxies, "hidden")
    assert scans(world) == (2, 1)
    assert [str(world.object(name).state) for name in ("hidden", "deleted", "listed")] == ["present", "gone", "present"]
    assert world.states("hidden") == {AWS: "serving"}
    assert world.replicas("hidden")[AWS].absent_scans == 0
    world.put(AWS, "hidden", b"newer")
    assert scans(world) == (1, 0)
    assert world.replicas("hidden")[AWS].size == 5, "a look tells of an owner's write too"


def test_what_cannot_be_looked_for_is_not_gone(world, proxies):
    world.put(AWS, "a")
    world.scan(AWS)
    world.delete(AWS, "a")
    proxies[AWS].harm(on("HeadObject", Fault.BROKEN))
    assert scans(world) == (1, 0)
    assert world.states("a") == {AWS: "serving"}
    proxies[AWS].harm()
    assert scans(world, 1) == (1, 1)
    assert world.object("a").state == "gone"


def test_when_much_of_a_site_disappears_at_once_an_alert_asks_first(world, proxies):
    names = [f"n{number}" for number in range(101)]
    for name in names:
        world.put(AWS, name)
    world.scan(AWS)
    for name in names:
        world.delete(AWS, name)
    assert scans(world) == (101, 0)
    assert world.object("n0").state == "present"
    assert proxies[AWS].asked("HeadObject", world.folder) == [], "nor is each of them looked for"
    (alert,) = world.alerts("objects_disappeared")
    assert "101 of the 101 objects" in alert.message
    assert f"foretide objects scan --site {AWS} --believe-absent" in alert.message
    assert world.scan(AWS, believe_absent=True)["gone"] == 101
    assert world.object("n0").state == "gone"
    world.scan(AWS)
    assert world.alerts("objects_disappeared") == []


def test_a_body_that_ends_early_without_a_told_size_is_no_owners_write(world, proxies):
    world.put(AWS, "a", b"all of these bytes")
    world.scan(AWS)
    version = world.object("a").version
    job_id = world.move("a", AWS, GCP)
    proxies[AWS].harm(on("GetObject", Fault.UNFRAMED, times=1), on("GetObject", Fault.TRUNCATED, times=1))
    world.finish(job_id)
    assert (world.row(job_id).state, world.row(job_id).retries) == ("done", 1)
    assert world.object("a").version == version + 1, "the switch alone"
    assert world.read(GCP, "a") == b"all of these bytes"


def test_a_whole_body_without_a_told_size_is_taken(world, proxies):
    world.put(AWS, "a", b"all of these bytes")
    world.scan(AWS)
    job_id = world.move("a", AWS, GCP)
    proxies[AWS].harm(on("GetObject", Fault.UNFRAMED))
    world.finish(job_id)
    assert (world.row(job_id).state, world.row(job_id).retries) == ("done", 0)
    assert world.read(GCP, "a") == b"all of these bytes"


def test_a_large_body_that_a_server_does_not_take_uses_the_attempts_up(world, proxies):
    world.put(AWS, "a", b"0123456789abcdef" * 2**18)
    world.scan(AWS)
    job_id = world.move("a", AWS, GCP)
    proxies[GCP].harm(on("PutObject", Fault.RESET))
    world.finish(job_id)
    row = world.row(job_id)
    assert row.state == "dead"
    assert row.reason in ("body_refused", "unknown_outcome"), "whether the reset meets the sending or the wait after it"
    assert row.attempts == get_settings().max_attempts
    assert world.states("a")[AWS] == "serving"


def test_a_site_that_is_down_uses_no_attempt_up(world, proxies):
    world.put(AWS, "a", b"0123456789abcdef" * 2**18)
    world.scan(AWS)
    job_id = world.move("a", AWS, GCP)
    proxies[GCP].harm(on("", Fault.RESET))
    world.work(job_id)
    row = world.row(job_id)
    assert (row.state, row.reason, row.attempts) == ("waiting", "site_unavailable", 0)
    proxies[GCP].harm()
    world.finish(job_id)
    assert world.row(job_id).state == "done"


def test_what_a_server_says_before_it_stops_reading_is_read(world, proxies):
    world.put(AWS, "a", b"0123456789abcdef" * 2**18)
    world.scan(AWS)
    job_id = world.move("a", AWS, GCP)
    proxies[GCP].harm(on("PutObject", Fault.EARLY))
    world.work(job_id)
    assert (world.row(job_id).state, world.row(job_id).reason) == ("failed", "entity_too_large")


def add(site, name):
    with session_scope() as session:
        registered.add(
            session,
            NewSite(
                name=name, provider=site.provider, region=site.region, endpoint_url=site.endpoint_url,
                bucket=site.bucket, access_key=site.access_key, secret_key=site.secret_key, classes=("STANDARD",),
            ),
        )  # fmt: skip


def state(name):
    with session_scope() as session:
        found = registered.get(session, name)
        return str(found.state), found.reason


def test_a_bucket_under_a_second_address_is_refused(world, sites):
    add(sites[AWS], "twin")
    add(sites["azure-we"], "other")
    for name in ("twin", "other", AWS):
        found = jobrun.run(probe, TaskName.PROBE, {"site": name}).result[name]
        assert (found["ok"], found.get("reason")) == ((False, "same_bucket") if name == "twin" else (True, None))
    refused = "twin is the bucket of site aws-eu under another address; two sites must be two places"
    assert state("twin") == ("refused", f"{refused}: foretide sites remove twin")
    jobrun.run(probe, TaskName.PROBE)
    assert [state(name)[0] for name in ("twin", "other", AWS)] == ["refused", "ready", "ready"]
    left = world.buckets[AWS].client.list_object_versions(Bucket=sites[AWS].bucket, Prefix=".foretide-probe/")
    assert left.get("Versions", []) == []
