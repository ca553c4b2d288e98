"""Moves between every pair of S3 servers: what arrives, what is done where a server lacks a guard, what is told."""

import hashlib
from contextlib import suppress
from dataclasses import replace
from datetime import UTC, datetime
from itertools import permutations

import pytest
from botocore.exceptions import ClientError

from app.domain.keys import not_kept
from app.domain.states import MoveKind
from app.s3 import objects
from app.s3.objects import Carried, Target
from tests import keys, s3servers
from tests.plain import Plain
from tests.s3servers import MOTO, RCLONE, SEAWEEDFS
from tests.world import World

MIB = 2**20
GUARDED = (SEAWEEDFS, MOTO)
"""Servers whose delete is refused when the object is another."""
HEADERS = {
    "ContentType": "text/x-demo",
    "ContentEncoding": "gzip",  # the bytes are no gzip: nobody may try to decode them
    "CacheControl": "max-age=60",
}
FULL = {f"k{n:02}": "v" * 125 for n in range(16)}
"""2,048 bytes of metadata."""


class Between(World):
    """A world of one site at each of two servers, looked at by plain boto3."""

    def __init__(self, site_of, source, destination):
        sites = {name: replace(site_of(name), name=name) for name in (source, destination)}
        super().__init__(sites)
        self.source, self.destination = source, destination
        self.plain = {name: Plain(site) for name, site in sites.items()}

    def at(self, site, name):
        return self.plain[site].get(self.key(name))

    def moved(self, *names, to_class="STANDARD"):
        """Scans the source and moves these objects; returns what became of each: its migration's row."""
        self.scan(self.source)
        moves = [(name, MoveKind.MOVE, self.source, self.destination, to_class) for name in names]
        job_id = self.plan(*moves)
        self.finish(job_id)
        by_object = {row.object_id: row for row in self.rows(job_id)}
        return {name: by_object[self.object(name).id] for name in names}


@pytest.fixture
def between(site_of, clean_database, configure):
    """Makes a world of a source and a destination."""
    configure(growing_age_s=0, retry_base_s=0.01, multipart_threshold=5 * MIB, part_size=5 * MIB)
    return lambda source, destination: Between(site_of, source, destination)


@pytest.fixture(params=list(permutations(s3servers.ALL, 2)), ids="-to-".join)
def pair(request, between):
    return between(*request.param)


# -- Bytes and what travels with them ---------------------------------------------------------------------------------


def test_objects_arrive_whole_and_the_source_goes_where_its_delete_is_guarded(pair):
    bodies = {"empty": b"", "one": b"x", "small": b"not gzip at all", "parts": b"0123456789abcdef" * (11 * MIB // 16)}
    for name, body in bodies.items():
        pair.plain[pair.source].put(pair.key(name), body, Metadata={"k": "v", "upper": "V w"}, **HEADERS)
    rows = pair.moved(*bodies)
    guarded = pair.source in GUARDED
    for name, body in bodies.items():
        assert (rows[name].state, rows[name].reason) == (
            "done",
            None if guarded else "source_kept_no_guarded_delete",
        )
        assert pair.at(pair.destination, name) == body
        head = pair.plain[pair.destination].head(pair.key(name))
        assert {header: head[header] for header in HEADERS} == HEADERS
        assert head["Metadata"].items() >= {"k": "v", "upper": "V w"}.items()
        assert pair.at(pair.source, name) == (None if guarded else body)
        assert pair.states(name) == {pair.source: "deleted" if guarded else "draining", pair.destination: "serving"}
    assert pair.plain[pair.destination].uploads(pair.folder) == {}


@pytest.mark.parametrize("size", [5, 6 * MIB])
@pytest.mark.parametrize(("destination", "ended"), [(MOTO, "done"), (RCLONE, "failed")])
def test_the_time_of_expiry_arrives_or_the_source_stays(between, destination, ended, size):
    world = between(SEAWEEDFS, destination)
    expires = datetime(2031, 5, 1, 12, tzinfo=UTC)
    world.plain[SEAWEEDFS].put(world.key("a"), b"x" * size, Expires=expires)
    row = world.moved("a")["a"]
    assert (row.state, row.reason) == (ended, None if ended == "done" else "not_kept_as_sent")
    standing = world.plain[destination if ended == "done" else SEAWEEDFS].head(world.key("a"))
    assert (standing["Expires"], standing["ContentLength"]) == (expires, size)


def test_a_kept_source_is_reported_and_goes_when_the_operator_allows_it(between):
    world = between(RCLONE, SEAWEEDFS)
    for name in ("kept", "allowed"):
        world.plain[RCLONE].put(world.key(name))
    assert world.moved("kept")["kept"].reason == "source_kept_no_guarded_delete"
    (alert,) = world.alerts("source_kept")
    assert world.key("kept") in alert.message
    world.set_site(RCLONE, allow_unguarded_delete=True)
    row = world.moved("allowed")["allowed"]
    assert (row.state, row.reason) == ("done", None)
    assert (world.at(RCLONE, "kept"), world.at(RCLONE, "allowed")) == (b"hello", None)


def test_tags_arrive_or_the_move_fails_and_touches_nothing(pair):
    tags = {f"key {n}": f"value+{n}=/é" if n else "" for n in range(10)}
    tagging = "&".join(f"key%20{n}={'value%2B' + str(n) + '%3D%2F%C3%A9' if n else ''}" for n in range(10))
    pair.plain[pair.source].put(pair.key("tagged"), Tagging=tagging)
    row = pair.moved("tagged")["tagged"]
    if pair.source == RCLONE:  # it never kept them
        assert row.state == "done"
    elif pair.destination == RCLONE:
        assert (row.state, row.reason) == ("failed", "not_kept_as_sent")
        assert pair.at(pair.source, "tagged") == b"hello"
        assert pair.states("tagged")[pair.source] == "serving"
        assert pair.job(row.job_id).state == "failed"
    else:
        assert row.state == "done"
        assert pair.plain[pair.destination].tags(pair.key("tagged")) == tags


@pytest.mark.parametrize(("source", "destination"), list(permutations((SEAWEEDFS, MOTO))))
def test_2_kb_of_metadata_arrive_although_they_leave_no_room_for_a_mark(between, source, destination):
    world = between(source, destination)
    body = b"x" * 6 * MIB  # copied in parts, so that its ETag tells it from its source
    world.plain[source].put(world.key("full"), body, Metadata=FULL)
    assert world.moved("full")["full"].state == "done"
    assert world.plain[destination].head(world.key("full"))["Metadata"] == FULL
    assert (world.at(source, "full"), world.at(destination, "full")) == (None, body)


def test_metadata_that_are_too_large_for_a_server_fail_and_touch_nothing(between):
    world = between(SEAWEEDFS, RCLONE)
    world.plain[SEAWEEDFS].put(world.key("full"), Metadata=FULL)
    row = world.moved("full")["full"]
    assert (row.state, row.reason) == ("failed", "metadata_too_large")
    assert world.at(SEAWEEDFS, "full") == b"hello"
    assert world.states("full")[SEAWEEDFS] == "serving"


def test_metadata_that_are_not_ascii_arrive_byte_by_byte(pair):
    """boto3 cannot send them; other programs do, as UTF-8, as Latin-1, or encoded as AWS answers them."""
    sent = {"utf": "é🎉".encode(), "latin": b"\xe9", "encoded": b"=?UTF-8?B?w6k=?="}
    target = Target(pair.key("foreign"), "STANDARD", "other.1", conditional=False)
    carried = Carried({}, {name: value.decode("latin-1") for name, value in sent.items()})
    objects.put(pair.buckets[pair.source], target, b"x", hashlib.sha256(b"x").hexdigest(), carried)
    assert pair.plain[pair.source].raw_metadata(pair.key("foreign")).items() >= sent.items()
    assert pair.moved("foreign")["foreign"].state == "done"
    assert pair.plain[pair.destination].raw_metadata(pair.key("foreign")).items() >= sent.items()


def test_somebody_elses_object_is_left_alone(pair):
    pair.plain[pair.source].put(pair.key("a"), b"ours")
    pair.plain[pair.destination].put(pair.key("a"), b"theirs")
    row = pair.moved("a")["a"]
    assert (row.state, row.reason) == ("blocked", "destination_exists")
    assert (pair.at(pair.source, "a"), pair.at(pair.destination, "a")) == (b"ours", b"theirs")


# -- Classes ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("server", "state", "reason"),
    [
        (SEAWEEDFS, "done", None),
        (RCLONE, "blocked", "class_not_kept"),
        (MOTO, "blocked", "no_conditional_copy"),
    ],
)
def test_a_class_changes_in_place_only_where_it_is_kept_and_the_copy_is_guarded(between, server, state, reason):
    world = between(server, SEAWEEDFS if server != SEAWEEDFS else MOTO)
    world.plain[server].put(world.key("a"), Metadata={"k": "v"}, ContentType="text/x-demo")
    world.scan(server)
    job_id = world.plan(("a", MoveKind.CLASS, server, server, "STANDARD_IA"))
    world.finish(job_id)
    assert (world.row(job_id).state, world.row(job_id).reason) == (state, reason)
    head = world.plain[server].head(world.key("a"))
    assert head.get("StorageClass", "STANDARD") == ("STANDARD_IA" if state == "done" else "STANDARD")
    assert (head["ContentType"], head["Metadata"]["k"]) == ("text/x-demo", "v")
    assert world.at(server, "a") == b"hello"


def test_no_object_is_moved_into_a_class_that_its_site_would_not_keep(between):
    world = between(SEAWEEDFS, RCLONE)
    world.plain[SEAWEEDFS].put(world.key("a"))
    row = world.moved("a", to_class="STANDARD_IA")["a"]
    assert (row.state, row.reason) == ("blocked", "class_not_kept")
    assert world.at(RCLONE, "a") is None


# -- Keys -------------------------------------------------------------------------------------------------------------


def test_unusual_keys_arrive_under_their_own_name_or_are_refused_before_anything_is_written(pair):
    """Moto keeps nearly every key; the others refuse some and rewrite others, and none of that may cost an object."""
    source, destination = pair.plain[pair.source], pair.plain[pair.destination]
    keeps = pair.capabilities(pair.destination)["keys"]
    bodies = {}
    for name in (*keys.HOSTILE, *keys.PATHS, keys.longest(pair.folder, 1024)):
        body = b"" if name.endswith("/") else f"body of {name}".encode()
        with suppress(ClientError):  # the source itself may refuse it
            source.put(pair.key(name), body)
            bodies[name] = body
    listed = source.keys(pair.folder)
    there = [name for name in bodies if pair.key(name) in listed and pair.at(pair.source, name) == bodies[name]]
    assert len(there) > len(keys.HOSTILE)
    rows = pair.moved(*there)
    for name in there:
        found = (str(rows[name].state), rows[name].reason)
        if not_kept(name, keeps):
            assert (name, found) == (name, ("blocked", "key_not_kept"))
            assert pair.at(pair.source, name) == bodies[name], name
        else:
            # A marker carries no sign of who wrote it: written in the same second, it may be the source itself.
            assert found[0] in (("done", "draining") if name.endswith("/") else ("done",)), (name, found)
            assert pair.at(pair.destination, name) == bodies[name], name
    arrived = {pair.key(name) for name in there if rows[name].state in ("done", "draining")}
    assert destination.keys(pair.folder) == arrived, "nothing else was written, nor anything under another name"


@pytest.mark.parametrize("destination", [SEAWEEDFS, RCLONE])
@pytest.mark.parametrize("name", ["too long", "folder with bytes/"])
def test_what_only_one_server_allows_fails_with_a_reason_and_costs_nothing(between, destination, name):
    world = between(MOTO, destination)
    name = keys.longest(world.folder, 1025) if name == "too long" else name
    world.plain[MOTO].put(world.key(name), b"bytes")
    row = world.moved(name)[name]
    told = {"failed": ("key_too_long_error",), "blocked": ("key_not_kept", "destination_exists")}
    assert row.reason in told[row.state]
    assert world.at(MOTO, name) == b"bytes"
    assert world.states(name)[MOTO] == "serving"
    assert not world.at(destination, name), "SeaweedFS may keep a marker without the bytes"


def test_a_key_that_is_a_folder_there_is_refused_for_that_reason(between):
    world = between(MOTO, SEAWEEDFS)
    world.plain[MOTO].put(world.key("folder"), b"ours")
    world.plain[SEAWEEDFS].put(world.key("folder/theirs"), b"theirs")
    row = world.moved("folder")["folder"]
    assert (row.state, row.reason) == ("blocked", "destination_exists")
    assert (world.at(MOTO, "folder"), world.at(SEAWEEDFS, "folder/theirs")) == (b"ours", b"theirs")
