"""A scrub of a real site: what is kept of it, what it leaves alone, what it costs."""

import threading
import uuid

from app.db import jobs as submissions
from app.db.session import session_scope
from app.domain.headers import INTENT
from app.domain.states import MoveKind
from app.domain.tasks import TaskName
from app.s3.clocks import now_at
from tests import jobs
from tests.damage import rewrite, rot
from tests.faults.proxy import Proxy
from tests.faults.rules import Fault, on
from tests.integration.test_verification import copied, open_alerts
from tests.reliability.mortal import Mortal
from workers.scrub import scrub

AWS, GCP = "aws-eu", "gcp-eu"


def a_second_passes(world):
    bucket = world.buckets[GCP]
    began = now_at(bucket)
    while now_at(bucket) == began:
        threading.Event().wait(0.05)


def scrubbed(world, site=GCP, **args):
    return jobs.run(scrub, TaskName.SCRUB, {"site": site, "prefix": world.folder, **args}).result


def listed(api, **query):
    told = "&".join(f"{name}={value}" for name, value in query.items())
    return {row["key"].rpartition("/")[2]: row for row in api.get(f"/v1/sites/{GCP}/findings?{told}").json["items"]}


def test_a_site_as_the_catalogue_has_it_gives_nothing(world):
    copied(world)
    result = scrubbed(world, deep=True)
    assert (result["found"], result["open"], result["replicas"], result["listed"], result["read"]) == ({}, 0, 1, 1, 1)


def test_findings_are_kept_with_first_and_last_seen_until_they_are_over(world, api):
    copied(world, "a")
    copied(world, "b")
    rewrite(world, GCP, "a", b"something else")
    world.delete(GCP, "b")
    world.put(GCP, "dark", b"nobody's")
    a_second_passes(world)
    result = scrubbed(world)
    assert result["found"] == {"corrupt": 1, "missing": 1, "dark_unknown": 1}
    first = listed(api)
    assert {name: (row["kind"], row["why"]) for name, row in first.items()} == {
        "a": ("corrupt", "rewritten"), "b": ("missing", "absent"), "dark": ("dark", "unknown")
    }  # fmt: skip
    assert world.states("a")[GCP] == "corrupt"
    assert world.states("b")[GCP] == "lost"
    assert ("scrub_findings", GCP) in open_alerts()
    assert set(listed(api, kind="dark")) == {"dark"}

    scrubbed(world)
    again = listed(api)
    assert {name: row["first_seen_at"] for name, row in again.items()} == {
        name: row["first_seen_at"] for name, row in first.items()
    }
    assert all(again[name]["last_seen_at"] > first[name]["last_seen_at"] for name in first)

    world.delete(GCP, "dark")
    world.finish(world.plan(("a", MoveKind.COPY, AWS, GCP, "STANDARD"), ("b", MoveKind.COPY, AWS, GCP, "STANDARD")))
    assert scrubbed(world)["open"] == 0
    assert listed(api) == {}
    assert set(listed(api, resolved="true")) == {"a", "b", "dark"}
    assert ("scrub_findings", GCP) not in open_alerts()


def test_leftovers_are_told_from_what_nobody_knows(world, api):
    copied(world, "a")
    mark = world.head(GCP, "a").intent
    world.put(GCP, "left", b"x", Metadata={INTENT: f"{uuid.uuid4()}.1"})
    world.put(GCP, "users-copy", b"x", Metadata={INTENT: mark})
    world.put(GCP, "nobodys", b"x")
    a_second_passes(world)
    scrubbed(world)
    assert {name: row["why"] for name, row in listed(api).items()} == {
        "left": "leftover", "users-copy": "unknown", "nobodys": "unknown"
    }  # fmt: skip


def test_an_owners_write_is_left_to_the_next_scan(world):
    copied(world)
    world.put(GCP, "a", b"newer bytes")
    world.put(AWS, "own", b"x")
    world.scan(AWS)
    world.put(AWS, "own", b"newer")
    for site in (GCP, AWS):
        result = scrubbed(world, site, deep=True)
        assert (result["found"], result["dispelled"]) == ({}, 1)
    assert world.states("a")[GCP] == "serving"


def test_the_same_bytes_under_another_etag_are_no_corruption(world, configure):
    """What a change of class that came to nothing may leave: the object in one piece that was written in parts."""
    configure(growing_age_s=0, multipart_threshold=5 * 2**20, part_size=5 * 2**20)
    body = b"x" * (6 * 2**20)
    copied(world, body=body)
    before = world.head(GCP, "a")
    rewrite(world, GCP, "a", body)
    after = world.head(GCP, "a")
    assert (after.intent, after.pin.etag != before.pin.etag) == (before.intent, True)
    result = scrubbed(world)
    assert (result["found"], result["dispelled"]) == ({}, 1)
    assert world.states("a")[GCP] == "serving"


def test_what_a_migration_has_in_hand_is_not_judged(world):
    copied(world)
    job_id = world.plan(("a", MoveKind.CLASS, GCP, GCP, "STANDARD_IA"))
    worker = Mortal(named="copied")
    assert worker.run(lambda: world.work(job_id, at=worker.at))
    result = scrubbed(world)
    assert (result["found"], result["dispelled"]) == ({}, 0)


def test_a_dry_run_keeps_and_marks_nothing(world, api):
    copied(world, "a")
    copied(world, "b")
    rot(world, GCP, "a")
    world.delete(GCP, "b")
    result = scrubbed(world, dry_run=True, deep=True)
    assert (result["found"], result["read"]) == ({"missing": 1}, 0)
    assert result["reading"]["replicas"] == 2
    assert world.states("a")[GCP] == world.states("b")[GCP] == "serving"
    assert listed(api) == {}


def test_only_a_deep_scrub_finds_bytes_that_rot_under_their_etag(world, api):
    copied(world)
    rot(world, GCP, "a")
    assert scrubbed(world)["found"] == {}
    assert scrubbed(world, deep=True)["found"] == {"corrupt": 1}
    assert listed(api)["a"]["why"] == "bytes"
    assert scrubbed(world)["found"] == {"corrupt": 1}, "it stays until it is mended"


def test_the_api_starts_it_and_names_what_is_wrong(world, api):
    started = api.post(f"/v1/sites/{GCP}:scrub", {"prefix": world.folder})
    assert started.status_code == 202
    assert jobs.finish(scrub, started.json["id"]).state == "succeeded"
    assert api.post("/v1/sites/nowhere:scrub", {}).status_code == 404
    assert api.get("/v1/sites/nowhere/findings").status_code == 404
    assert api.get(f"/v1/sites/{GCP}/findings?kind=odd").json["errors"][0]["pointer"] == "/kind"
    assert api.post(f"/v1/sites/{GCP}:scrub", {"shallow": True}).json["errors"][0]["pointer"] == "/shallow"
    assert [row["action"] for row in api.get("/v1/audit?action=site.scrub").json["items"]] == ["site.scrub"]


def test_what_may_not_be_looked_at_is_told_as_unknown_and_holds_up_nothing(api, sites, make_world):
    with Proxy(sites[GCP]) as proxy:
        world = make_world({**sites, GCP: proxy.site})
        for name in ("locked", "open"):
            world.put(GCP, name)
        a_second_passes(world)
        proxy.harm(on("HeadObject", Fault.FORBIDDEN, name="locked"))
        assert scrubbed(world)["found"] == {"dark_unknown": 2}
    assert set(listed(api, kind="dark")) == {"locked", "open"}


def test_a_second_attempt_tells_what_the_first_one_would_have_told(api, sites, make_world):
    """What the first has marked keeps its reason; what was written since it began is left to the next scrub."""
    with Proxy(sites[GCP]) as proxy:
        world = make_world({**sites, GCP: proxy.site})
        for name in "ab":
            copied(world, name)
            rewrite(world, GCP, name, b"something else")
        a_second_passes(world)
        proxy.harm(on("HeadObject", Fault.THROTTLED, name="b"))
        with session_scope() as session:
            args = {"site": GCP, "prefix": world.folder, "deep": True}
            job_id = submissions.submit(session, TaskName.SCRUB, args, actor="test").id
        assert jobs.turn(scrub, job_id).state == "waiting"
        assert world.states("a")[GCP] == "corrupt"
        proxy.harm()
        world.put(GCP, "new")
        a_second_passes(world)
        result = jobs.finish(scrub, job_id).result
    assert result["found"] == {"corrupt": 2}
    assert {name: row["why"] for name, row in listed(api).items()} == {"a": "rewritten", "b": "rewritten"}
