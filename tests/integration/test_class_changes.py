"""A class changed in place: what it must leave as it was, and what a successor makes of an interrupted one."""

import pytest

from app.domain.states import MoveKind
from tests.faults.proxy import Proxy
from tests.faults.rules import Fault, Rule, on
from tests.integration.test_s3_guards import Guarded, versioned
from tests.reliability.mortal import Mortal
from tests.s3servers import SEAWEEDFS
from tests.world import World

AWS, GCP = "aws-eu", "gcp-eu"


@pytest.fixture
def proxy(sites):
    with Proxy(sites[AWS], seed=3) as running:
        yield running


@pytest.fixture
def world(sites, proxy, clean_database, configure):
    configure(growing_age_s=0, retry_base_s=0.01, multipart_threshold=5 * 2**20, part_size=5 * 2**20)
    return World({AWS: proxy.site, GCP: sites[GCP]})


def put(world, body=b"bytes", **parameters):
    world.put(AWS, "a", body, **({"ContentType": "text/x-demo", "Metadata": {"k": "v"}, "Tagging": "a=b"} | parameters))
    world.scan(AWS)


def change(world):
    return world.plan(("a", MoveKind.CLASS, AWS, AWS, "GLACIER_IR"))


def killed_at(world, job_id, point):
    mortal = Mortal(named=point)
    assert mortal.run(lambda: world.work(job_id, at=mortal.at))
    world.due(job_id)


def rewritten(world, **changed):
    """Writes the copy anew with the mark that it has, changed so far: what a faulty site may have left."""
    found = world.head(AWS, "a")
    kept = {
        "ContentType": "text/x-demo", "StorageClass": found.pin.storage_class, "Tagging": "a=b",
        "Metadata": {**found.carried.metadata, "foretide-intent": found.intent},
    }  # fmt: skip
    world.put(AWS, "a", **{"body": b"bytes", **kept, **changed})


def test_a_successor_adopts_a_copy_that_is_what_the_object_was(world, proxy):
    put(world)
    version = world.object("a").version
    job_id = change(world)
    killed_at(world, job_id, "copied")
    world.finish(job_id)
    assert world.row(job_id).state == "done"
    assert world.head(AWS, "a").pin.storage_class == "GLACIER_IR"
    assert world.object("a").version == version + 1, "its own copy is no owner's write"
    assert len(proxy.asked("CopyObject", world.key("a"))) == 1


@pytest.mark.parametrize(
    ("changed", "told"),
    [
        ({"body": b"BYTES"}, "etag"),
        ({"body": b"more bytes"}, "etag, size"),
        ({"ContentType": "text/other"}, "content_type"),
        ({"CacheControl": "no-store", "ContentType": ""}, "content_type"),
        ({"Tagging": "a=c"}, "tags"),
        ({"Tagging": ""}, "tags"),
        ({"StorageClass": "STANDARD"}, "class"),
    ],
)
def test_a_successor_does_not_adopt_what_differs(world, proxy, changed, told):
    put(world)
    job_id = change(world)
    killed_at(world, job_id, "copied")
    rewritten(world, **changed)
    there = world.head(AWS, "a")
    world.finish(job_id)
    row = world.row(job_id)
    assert (row.state, row.reason) == ("failed", "class_change_unproven")
    assert row.error["detail"].endswith(f"differs in {told}")
    assert world.head(AWS, "a") == there or world.head(AWS, "a").pin == there.pin, "nothing else is touched"
    assert len(proxy.asked("CopyObject", world.key("a"))) == 1


def test_lost_metadata_are_found_out_too(world):
    put(world)
    job_id = change(world)
    killed_at(world, job_id, "copied")
    rewritten(world, Metadata={"foretide-intent": world.head(AWS, "a").intent})
    world.finish(job_id)
    assert world.row(job_id).error["detail"].endswith("differs in metadata")


def test_without_room_for_a_mark_an_equal_copy_is_adopted(world, proxy):
    put(world, Metadata={"k": "x" * 2040})
    version = world.object("a").version
    job_id = change(world)
    killed_at(world, job_id, "copied")
    assert world.head(AWS, "a").intent is None
    world.finish(job_id)
    assert world.row(job_id).state == "done"
    assert world.object("a").version == version + 1
    assert len(proxy.asked("CopyObject", world.key("a"))) == 1


def test_without_room_for_a_mark_an_owners_write_is_an_owners_write(world):
    put(world, Metadata={"k": "x" * 2040})
    version = world.object("a").version
    job_id = change(world)
    killed_at(world, job_id, "copied")
    world.put(AWS, "a", b"newest", StorageClass="GLACIER_IR")
    world.finish(job_id)
    assert world.row(job_id).state == "done"
    assert world.read(AWS, "a") == b"newest"
    assert world.object("a").version > version + 1


def test_an_owners_write_during_the_change_is_what_changes_its_class(world, proxy):
    put(world)
    proxy.harm(on("CopyObject", Fault.AFTER, times=1, act=lambda: world.put(AWS, "a", b"newest")))
    job_id = change(world)
    world.finish(job_id)
    assert world.row(job_id).state == "done"
    assert (world.read(AWS, "a"), world.head(AWS, "a").pin.storage_class) == (b"newest", "GLACIER_IR")


def test_a_copy_whose_answer_is_lost_is_found_out_at_once(world, proxy):
    put(world)
    proxy.harm(on("CopyObject", Fault.DROPPED))
    job_id = change(world)
    world.work(job_id)
    row = world.row(job_id)
    assert (row.state, row.retries) == ("done", 0)
    assert world.head(AWS, "a").pin.storage_class == "GLACIER_IR"


def test_a_copy_that_was_never_made_is_tried_again(world, proxy):
    put(world)
    proxy.harm(on("CopyObject", Fault.RESET, times=1))
    job_id = change(world)
    world.finish(job_id)
    row = world.row(job_id)
    assert (row.state, row.retries) == ("done", 1)
    assert len(proxy.asked("CopyObject", world.key("a"))) == 2


class Conditional(Rule):
    """A rule for requests that name what they may replace."""

    def matches(self, asked):
        return super().matches(asked) and asked.head.get("if-match") == asked.head.get("x-amz-copy-source-if-match")


@pytest.mark.parametrize("can", [True, False])
def test_a_copy_names_what_it_may_replace_where_the_site_looks_at_that(world, proxy, can):
    assert world.capabilities(AWS)["conditional_copy_over"]
    world.set_site(AWS, capabilities={**world.capabilities(AWS), "conditional_copy_over": can})
    put(world)
    proxy.harm(Conditional(Fault.RESET, frozenset({"CopyObject"}), times=1))
    job_id = change(world)
    world.finish(job_id)
    assert world.row(job_id).state == "done"
    assert len(proxy.injected(Fault.RESET)) == (1 if can else 0)
    assert world.head(AWS, "a").pin.storage_class == "GLACIER_IR"


@pytest.mark.parametrize("moment", ["pinned", "begun", Fault.BEFORE, Fault.AFTER, "copied", "verified", "switched"])
def test_an_owners_write_at_any_moment_stands_afterwards(world, proxy, moment):
    put(world)
    once = [moment]

    def write(point):
        if point in once:
            once.clear()
            world.put(AWS, "a", b"newest")

    if isinstance(moment, Fault):
        proxy.harm(on("CopyObject", moment, times=1, act=lambda: write(moment)))
    job_id = change(world)
    for _ in range(3):
        world.work(job_id, at=write)
        world.due(job_id)
    assert once == []
    assert (world.row(job_id).state, world.read(AWS, "a")) == ("done", b"newest")


@pytest.mark.parametrize("dies", [False, True])
def test_a_write_that_a_copy_was_put_over_in_a_versioned_bucket_stands_again(site_of, clean_database, configure, dies):
    """The site looks at the condition, an owner writes, and the site writes its copy: no request comes in between."""
    configure(growing_age_s=0, retry_base_s=0.01)
    world = Guarded(site_of(SEAWEEDFS), versioned)
    world.put("a", b"bytes", Metadata={"k": "v"})
    world.scan("guarded")
    job_id = world.plan(("a", MoveKind.CLASS, "guarded", "guarded", "GLACIER_IR"))

    raced = []

    def race(point):
        if point == "begun" and not raced:  # and in no attempt that follows in the same turn
            raced.append(point)
            world.put("a", b"newest")
            row = world.row(job_id)
            mark = {"k": "v", "foretide-intent": f"{row.intent_id}.{row.fence}"}
            world.put("a", b"bytes", Metadata=mark, StorageClass="GLACIER_IR")

    mortal = Mortal(named="copied" if dies else None)

    def at(point):
        race(point)
        mortal.at(point)

    mortal.run(lambda: world.work(job_id, at=at))
    world.finish(job_id)
    assert (world.row(job_id).state, world.guarded.get(world.key("a"))) == ("done", b"newest")
    assert world.head("guarded", "a").pin.storage_class == "GLACIER_IR"
