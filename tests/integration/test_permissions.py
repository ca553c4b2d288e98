"""What a site's credentials must be allowed, held against the requests that real runs make through a proxy."""

from __future__ import annotations

import os
from dataclasses import replace

import pytest

from app.domain.permissions import OPERATIONS, Scope, actions
from app.domain.states import Mode, MoveKind, SiteState
from app.domain.tasks import TaskName
from tests import jobs
from tests.faults.proxy import Proxy
from tests.faults.rules import Fault, on
from tests.integration.test_restores import Archive
from tests.integration.test_s3_guards import versioned
from tests.plain import Plain
from tests.reliability.mortal import Mortal
from tests.s3servers import MOTO
from tests.world import World
from workers.objects import scan
from workers.scrub import scrub
from workers.sites import probe
from workers.tidying import tidy

MIB = 2**20
AWS, GCP = "aws-eu", "gcp-eu"
WRITES = "PutObject CopyObject DeleteObject CreateMultipartUpload UploadPart UploadPartCopy CompleteMultipartUpload"


@pytest.fixture
def quick(clean_database, configure):
    configure(
        growing_age_s=0, retry_base_s=0.01, multipart_threshold=5 * MIB, part_size=5 * MIB, in_place_limit=6 * MIB
    )


@pytest.fixture
def behind(sites):
    """Both sites behind proxies; the first one's bucket keeps versions."""
    guarded = replace(sites[AWS], bucket=f"{sites[AWS].bucket}-{versioned.__name__}")
    client = Plain(sites[AWS]).client
    if not any(bucket["Name"] == guarded.bucket for bucket in client.list_buckets()["Buckets"]):
        versioned(client, guarded.bucket)
    with Proxy(guarded, seed=1) as aws, Proxy(sites[GCP], seed=2) as gcp:
        yield {AWS: aws, GCP: gcp}


def needed(proxies):
    """Each request that was let through, as (operation, whether it names a version of an object)."""
    return {
        (one.operation, bool(one.key) and "versionId=" in one.line)
        for proxy in proxies
        for one in list(proxy.log)
        if one.status not in (403, None)
    }


def missing(seen, mode, *, allow_restore=True, versioning=True):
    """What was asked for and is not allowed in a mode."""
    allowed = {
        name for names in actions(mode, allow_restore=allow_restore, versioning=versioning).values() for name in names
    }
    wanted = {
        (operation, action)
        for operation, versions in seen
        for action in (OPERATIONS[operation].versioned if versions else OPERATIONS[operation].actions)
    }
    return {entry for entry in wanted if entry[1] not in allowed}


def everything(behind, site_of, sites):
    """A life of objects: probed, listed, moved small and large, given other classes, scrubbed, tidied, restored."""
    world = World({name: proxy.site for name, proxy in behind.items()})
    direct = {name: Plain(proxy.behind) for name, proxy in behind.items()}
    for name in behind:
        jobs.run(probe, TaskName.PROBE, {"site": name})
    direct[AWS].put(world.key("small"), b"bytes", Tagging="a=b", Metadata={"k": "v"})
    direct[AWS].put(world.key("large"), os.urandom(11 * MIB))
    direct[AWS].put(world.key("class"), b"bytes")
    direct[AWS].put(world.key("parts"), os.urandom(12 * MIB))
    direct[AWS].put(world.key("left"), os.urandom(11 * MIB))
    world.scan(AWS)
    for name in ("small", "large"):
        world.finish(world.move(name, AWS, GCP))
        assert world.states(name)[GCP] == "serving"
    for name in ("class", "parts"):
        job = world.plan((name, MoveKind.CLASS, AWS, AWS, "GLACIER_IR"))
        world.finish(job)
        assert world.row(job).state == "done", world.row(job).error
    abandoned = world.move("left", AWS, GCP)
    mortal = Mortal(named="part_sent")
    assert mortal.run(lambda: world.work(abandoned, at=mortal.at))
    world.due(abandoned)
    world.finish(abandoned)
    again = world.plan(("large", MoveKind.COPY, GCP, AWS, "STANDARD"))
    mortal = Mortal(named="upload_begun")
    assert mortal.run(lambda: world.work(again, at=mortal.at))
    direct[GCP].put(world.key("large"), b"another")
    world.due(again)
    world.finish(again)
    world.scan(GCP)
    for name in behind:
        jobs.run(scrub, TaskName.SCRUB, {"site": name, "deep": True, "prefix": world.folder})
    jobs.run(tidy, TaskName.TIDY, {"prefix": world.folder})
    with Proxy(site_of(MOTO), seed=5) as cold:
        archive = Archive(site_of(MOTO), sites["azure-we"], cold, allow_restore=True)
        archive.archived()
        asked = archive.move("a", "cold", GCP)
        archive.work(asked, at=archive.begun)
        return needed([*behind.values(), cold])


def test_all_that_real_runs_ask_for_is_allowed_and_nothing_more(quick, behind, site_of, sites):
    seen = everything(behind, site_of, sites)
    assert {operation for operation, _ in seen} == set(OPERATIONS), "each request is known, and each known one is made"
    assert missing(seen, Mode.AUTO) == set()
    assert missing(seen, Mode.APPROVE) == set()
    looked = {entry[0] for entry in missing(seen, Mode.OBSERVE)}
    assert {"PutObject", "DeleteObject", "CopyObject", "CompleteMultipartUpload", "RestoreObject"} <= looked
    assert {entry[1] for entry in missing(seen, Mode.AUTO, allow_restore=False)} == {"s3:RestoreObject"}
    assert {entry[1] for entry in missing(seen, Mode.AUTO, versioning=False)} == {
        "s3:DeleteObjectVersion", "s3:GetObjectVersion", "s3:GetObjectVersionTagging",
    }  # fmt: skip


def test_credentials_that_only_observe_are_enough_to_observe(quick, behind, sites):
    for proxy in behind.values():
        proxy.harm(on(WRITES, Fault.FORBIDDEN))
    world = World({name: proxy.behind for name, proxy in behind.items()})
    for name, proxy in behind.items():
        world.set_site(name, endpoint_url=proxy.site.endpoint_url, state=SiteState.PROBING)
        found = jobs.run(probe, TaskName.PROBE, {"site": name}).result[name]
        assert found["ok"], found
        known = world.capabilities(name)
        assert (known["read_only"], known["classes"]) == (True, ["STANDARD", "STANDARD_IA", "GLACIER_IR"])
        assert "may not write" in known["warnings"][0]
    Plain(behind[AWS].behind).put(world.key("a"), b"bytes", Tagging="a=b")
    jobs.run(scan, TaskName.SCAN, {"site": AWS, "prefix": world.folder})
    assert missing(needed(behind.values()), Mode.OBSERVE) == set()
    written = [one.operation for proxy in behind.values() for one in proxy.log if one.operation in WRITES.split()]
    assert set(written) == {"PutObject"}, "it asks whether it may write, is refused, and asks no more"
    job = world.plan(("a", MoveKind.CLASS, AWS, AWS, "GLACIER_IR"))
    world.finish(job)
    assert (world.row(job).state, world.row(job).reason) == ("blocked", "site_read_only")


def test_aws_gets_a_document_others_their_roles(api):
    site = {
        "name": "one", "provider": "aws", "region": "r", "endpoint_url": "http://127.0.0.1:9", "bucket": "data",
        "access_key": "k", "secret_key": "s",
    }  # fmt: skip
    for name, provider in (("one", "aws"), ("two", "gcp"), ("three", "azure"), ("four", "minio")):
        assert api.post("/v1/sites", site | {"name": name, "provider": provider}).status_code == 201

    def asked(name, mode, **query):
        return api.get(f"/v1/sites/{name}/policy", query_string={"mode": mode, **query}).json

    document = asked("one", "observe")["policy"]
    assert document["Version"] == "2012-10-17"
    bucket, objects = document["Statement"]
    assert (bucket["Resource"], objects["Resource"]) == ("arn:aws:s3:::data", "arn:aws:s3:::data/*")
    assert "s3:ListBucket" in bucket["Action"]
    assert not [name for name in objects["Action"] if "Put" in name or "Delete" in name]
    assert "s3:RestoreObject" not in asked("one", "auto")["s3_actions"][Scope.OBJECTS]
    api.put("/v1/policies/sla", {"prefixes": [{"prefix": "old/", "allow_restore": True}]})
    auto = asked("one", "auto", principal="arn:aws:iam::1:role/foretide")
    assert {"s3:PutObject", "s3:DeleteObject", "s3:RestoreObject"} <= set(auto["s3_actions"]["objects"])
    assert {entry["Principal"]["AWS"] for entry in auto["policy"]["Statement"]} == {"arn:aws:iam::1:role/foretide"}
    assert asked("two", "observe")["roles"] == ["roles/storage.objectViewer", "roles/storage.legacyBucketReader"]
    assert asked("two", "auto")["policy"] is None
    assert asked("three", "auto")["roles"] == ["Storage Blob Data Contributor"]
    assert "gateway" in asked("three", "auto")["notes"][0]
    assert asked("four", "approve")["policy"]["Statement"]
    assert api.get("/v1/sites/one/policy?mode=wild").status_code == 422
    assert api.get("/v1/sites/nowhere/policy").status_code == 404
