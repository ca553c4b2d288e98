"""Copies that readers write through the SDK: adopted when proven, never believed, never in a reader's way."""

import contextlib
import hashlib
import os
import socket
import subprocess
import sys
import threading
import zlib
from datetime import UTC, datetime, timedelta
from urllib.parse import urlsplit

import httpx
import pytest
from sqlalchemy import update
from werkzeug.serving import make_server

from app import presign
from app.client import Client
from app.db import migrations, reports
from app.db import sites as registered
from app.db.ingest import Write
from app.db.session import session_scope
from app.db.tables import Migration, Replica, Site
from app.domain.roles import Role
from app.domain.states import MoveKind
from app.errors import Conflict, NotFound
from app.settings import PROJECT_ROOT, get_settings
from tests.faults.proxy import Proxy
from tests.faults.rules import Fault, on
from tests.integration.test_scrub import scrubbed
from tests.integration.test_tidying import graces_are_over, tidied
from tests.s3servers import ALL, MOTO

AWS, AZURE, GCP = "aws-eu", "azure-we", "gcp-eu"
BODY = bytes(range(256)) * 40_000
SOURCE_READ = "the source was read a second time"


@contextlib.contextmanager
def serving(api):
    """The API behind a socket, so that the SDK talks to it as it does anywhere."""
    server = make_server("127.0.0.1", 0, api.app, threaded=True)
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.port}"
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


@pytest.fixture
def teeing(make_world, make_api):
    """A world, and clients of its API by the role of their token."""
    world = make_world(settings={"tee_limit": 10**8, "tee_lease_s": 30})
    api = make_api(tee_limit=10**8, tee_lease_s=30)
    with serving(api) as address, contextlib.ExitStack() as stack:

        def client(role: Role = Role.OPERATOR) -> Client:
            return stack.enter_context(Client(address, api.tokens[role]))

        yield world, client


def planned(world, name="a", body=BODY, source=AWS, to=GCP, to_class="STANDARD", **parameters):
    """An object at a site and the job of its move."""
    world.put(source, name, body, **parameters)
    world.scan(source)
    return world.move(name, source, to, to_class)


def read(client, world, name="a", **options) -> bytes:
    with client.read(world.key(name), **options) as blocks:
        return b"".join(blocks)


def reads_at_source(proxy):
    return [exchange for exchange in proxy.log if exchange.operation == "GetObject"]


LONG_AGO = datetime(2020, 1, 1, tzinfo=UTC)


def lapse(job_id):
    with session_scope() as session:
        session.execute(update(Migration).where(Migration.job_id == job_id).values(lease_until=LONG_AGO))


def test_what_a_reader_has_read_is_the_copy_and_the_source_is_read_once(sites, make_world, make_api):
    with Proxy(sites[AWS]) as proxy:
        settings = {"tee_limit": 10**8, "tee_lease_s": 30}
        world = make_world({**sites, AWS: proxy.site}, settings=settings)
        api = make_api(**settings)
        job_id = planned(
            world, to_class="STANDARD_IA", ContentType="text/x-demo", ContentEncoding="gzip",
            CacheControl="max-age=60", Metadata={"owner": "some  one", "n": "1"},
        )  # fmt: skip
        with serving(api) as address, Client(address, api.tokens[Role.OPERATOR]) as client:
            proxy.log.clear()
            assert read(client, world) == BODY
            client.tees.wait(30)
            assert list(client.tees.outcomes) == ["written"]
        assert (world.row(job_id).tee, world.row(job_id).state) == ("written", "copying")
        assert world.states("a") == {AWS: "serving", GCP: "copying"}, "a tee switches nothing"
        world.work(job_id)
        assert (world.row(job_id).tee, world.row(job_id).state) == ("adopted", "switched")
        assert len(reads_at_source(proxy)) == 1, SOURCE_READ
        world.finish(job_id)
        assert world.row(job_id).state == "done"
    assert world.states("a") == {AWS: "deleted", GCP: "serving"}
    assert world.read(GCP, "a") == BODY
    assert world.row(job_id).sha256 == world.replicas("a")[GCP].sha256 == hashlib.sha256(BODY).hexdigest()
    there = world.head(GCP, "a")
    assert there.pin.storage_class == "STANDARD_IA"
    assert there.carried.headers == {
        "content_type": "text/x-demo", "content_encoding": "gzip", "cache_control": "max-age=60"
    }  # fmt: skip
    assert there.carried.metadata == {"owner": "some  one", "n": "1"}


@pytest.mark.parametrize("size", [0, 1, 5 * 2**20, 12 * 2**20])
def test_every_size_is_teed_in_one_piece(teeing, size):
    world, client = teeing
    body = (BODY * 2)[:size]
    job_id = planned(world, body=body)
    one = client()
    assert read(one, world) == body
    one.tees.wait(30)
    world.work(job_id)
    assert (world.row(job_id).tee, world.row(job_id).state) == ("adopted", "switched")
    assert world.read(GCP, "a") == body


@pytest.mark.parametrize("server", ALL)
def test_each_server_takes_a_tee_or_is_offered_none(site_of, sites, make_world, make_api, server):
    settings = {"tee_limit": 10**8, "tee_lease_s": 30}
    there = site_of(server)
    world = make_world({GCP: sites[GCP], there.name: there}, settings=settings)
    api = make_api(**settings)
    job_id = planned(world, source=GCP, to=there.name, Metadata={"owner": "x"})
    with serving(api) as address, Client(address, api.tokens[Role.OPERATOR]) as client:
        assert read(client, world) == BODY
        client.tees.wait(30)
    takes = world.capabilities(there.name)["conditional_put"]
    assert world.row(job_id).tee == ("written" if takes else None)
    world.work(job_id)
    assert (world.row(job_id).state, world.row(job_id).tee) == ("switched", "adopted" if takes else None)
    assert world.read(there.name, "a") == BODY


def test_a_source_that_changes_before_the_write_gets_no_tee(teeing):
    world, client = teeing
    job_id = planned(world)
    one = client()
    with one.read(world.key("a")) as blocks:
        assert next(blocks)
        world.put(AWS, "a", b"newer")
    one.tees.wait(30)
    assert "bytes were read" in one.tees.outcomes[0]
    world.finish(job_id)
    assert (world.row(job_id).tee, world.row(job_id).state) == ("failed", "done")
    assert world.read(GCP, "a") == b"newer"


def test_a_source_that_changes_after_the_write_is_copied_anew(teeing):
    world, client = teeing
    job_id = planned(world)
    one = client()
    assert read(one, world) == BODY
    one.tees.wait(30)
    world.put(AWS, "a", BODY[::-1])
    world.finish(job_id)
    assert (world.row(job_id).tee, world.row(job_id).state) == ("refused", "done")
    assert world.read(GCP, "a") == BODY[::-1]


def offered(world, client, name="a"):
    """An offer as the SDK takes it: migration and fence."""
    answer = client._api.send("GET", "/read", params={"key": world.key(name), "tee": "true"})
    found = answer.headers.get("Foretide-Tee")
    return tuple(map(int, found.split("."))) if found else None


def allowed(world, client, body, offer, etag=None, headers=None):
    """Where a reader may write that says that it has read this body."""
    asked = {
        "fence": offer[1], "etag": etag or world.head(AWS, "a").pin.etag, "size": len(body),
        "sha256": hashlib.sha256(body).hexdigest(),
        "headers": headers or {"content-type": "binary/octet-stream"},
    }  # fmt: skip
    return client._api.change("POST", f"/migrations/{offer[0]}:tee", asked)


@pytest.mark.parametrize("checks", [True, False])
def test_wrong_bytes_of_the_right_size_are_refused_and_copied_over(teeing, checks):
    world, client = teeing
    job_id = planned(world)
    wrong = BODY[:-1] + b"?"
    if not checks:
        world.set_site(GCP, capabilities=world.capabilities(GCP) | {"checksum_sha256": False, "checksum_parts": False})
    one = client()
    offer = offered(world, one)
    to = allowed(world, one, wrong, offer)
    assert httpx.put(to["url"], content=wrong, headers=to["headers"]).status_code == 200
    one._api.change("POST", f"/migrations/{offer[0]}:teed", {"fence": offer[1], "outcome": "written"})
    assert world.read(GCP, "a") == wrong
    assert world.states("a") == {AWS: "serving", GCP: "copying"}, "nobody is sent there"
    world.finish(job_id)
    assert (world.row(job_id).tee, world.row(job_id).state) == ("refused", "done")
    assert world.read(GCP, "a") == BODY


def with_crc32_of(body, other):
    """`other` with four bytes at its end such that its CRC32 is that of `body`."""
    ones = 0xFFFFFFFF
    table = [zlib.crc32(bytes([byte]), ones) ^ ones for byte in range(256)]
    state = zlib.crc32(body) ^ ones
    for _ in range(4):
        byte = [entry >> 24 for entry in table].index(state >> 24)
        state = ((state ^ table[byte]) << 8 | byte) & ones
    return other[:-4] + (state ^ zlib.crc32(other[:-4]) ^ ones).to_bytes(4, "little")


def test_a_crc32_that_was_forged_shows_nothing(site_of, sites, make_world, make_api):
    settings = {"tee_limit": 10**8, "tee_lease_s": 30}
    source = site_of(MOTO)
    world = make_world({GCP: sites[GCP], source.name: source}, settings=settings)
    world.set_site(GCP, capabilities=world.capabilities(GCP) | {"checksum_sha256": False, "checksum_parts": False})
    api = make_api(**settings)
    job_id = planned(world, source=source.name, to=GCP, ChecksumAlgorithm="CRC32", ContentType="text/plain")
    found = world.head(source.name, "a")
    wrong = with_crc32_of(BODY, b"?" * len(BODY))
    assert found.crc32 == zlib.crc32(wrong)
    with serving(api) as address, Client(address, api.tokens[Role.OPERATOR]) as one:
        to = allowed(world, one, wrong, offered(world, one), found.pin.etag, {"content-type": "text/plain"})
        assert httpx.put(to["url"], content=wrong, headers=to["headers"]).status_code == 200
    lapse(job_id)
    world.work(job_id)
    assert (world.row(job_id).tee, world.row(job_id).state) == ("refused", "switched")
    assert world.read(GCP, "a") == BODY


@pytest.mark.parametrize("name", ["content-encoding", "cache-control"])
def test_headers_that_the_source_has_not_are_refused(teeing, name):
    world, client = teeing
    job_id = planned(world, ContentType="text/plain")
    one = client()
    to = allowed(world, one, BODY, offered(world, one), headers={"content-type": "text/plain", name: "x"})
    assert httpx.put(to["url"], content=BODY, headers=to["headers"]).status_code == 200
    lapse(job_id)
    world.work(job_id)
    assert (world.row(job_id).tee, world.row(job_id).state) == ("refused", "switched")
    assert world.head(GCP, "a").carried.headers == {"content_type": "text/plain"}


def test_right_bytes_under_wrong_headers_are_refused_and_copied_over(teeing):
    world, client = teeing
    job_id = planned(world, ContentType="text/x-demo", Metadata={"owner": "x"})
    one = client()
    offer = offered(world, one)
    to = allowed(world, one, BODY, offer)
    assert httpx.put(to["url"], content=BODY, headers=to["headers"]).status_code == 200
    world.due(job_id)
    world.work(job_id)
    assert (world.row(job_id).tee, world.row(job_id).state) == ("refused", "switched")
    there = world.head(GCP, "a")
    assert (there.carried.headers["content_type"], there.carried.metadata) == ("text/x-demo", {"owner": "x"})


def test_another_body_than_was_announced_and_a_second_write_are_refused_by_the_site(teeing):
    world, client = teeing
    planned(world)
    one = client()
    to = allowed(world, one, BODY, offered(world, one))
    assert httpx.put(to["url"], content=BODY[:-1] + b"?", headers=to["headers"]).status_code == 400
    assert world.head(GCP, "a") is None
    others = {**to["headers"], "x-amz-storage-class": "GLACIER_IR"}
    assert httpx.put(to["url"], content=BODY, headers=others).status_code == 403, "each header is signed"
    bare = {name: value for name, value in to["headers"].items() if name != "if-none-match"}
    assert httpx.put(to["url"], content=BODY, headers=bare).status_code in (400, 403)
    assert httpx.put(to["url"], content=BODY, headers=to["headers"]).status_code == 200
    assert httpx.put(to["url"], content=BODY, headers=to["headers"]).status_code == 412


def test_a_partial_body_is_no_copy(sites, make_world, make_api):
    """The site's answer to the write breaks off: what came of it is found out by the engine."""
    settings = {"tee_limit": 10**8, "tee_lease_s": 30}
    with Proxy(sites[GCP]) as proxy:
        world = make_world({**sites, GCP: proxy.site}, settings=settings)
        api = make_api(**settings)
        job_id = planned(world)
        proxy.harm(on("PutObject", Fault.RESET))
        with serving(api) as address, Client(address, api.tokens[Role.OPERATOR]) as client:
            assert read(client, world) == BODY, "the caller does not notice"
            client.tees.wait(30)
            assert "broke off" in client.tees.outcomes[0]
        assert world.row(job_id).tee == "failed"
        proxy.harm()
        world.finish(job_id)
        assert world.row(job_id).state == "done"
        assert world.read(GCP, "a") == BODY


KILLED = """
import os, sys
from app.client import Client
client = Client(sys.argv[1], sys.argv[2])
with client.read(sys.argv[3]) as blocks:
    next(blocks)
    os.kill(os.getpid(), 9)
"""


def test_a_client_that_is_killed_lets_its_lease_run_out_and_a_worker_copies(make_world, make_api):
    settings = {"tee_limit": 10**8, "tee_lease_s": 30}
    world, api = make_world(settings=settings), make_api(**settings)
    job_id = planned(world)
    with serving(api) as address:
        command = [sys.executable, "-c", KILLED, address, api.tokens[Role.OPERATOR], world.key("a")]
        done = subprocess.run(command, cwd=PROJECT_ROOT, check=False, timeout=60)
    assert done.returncode == -9
    world.work(job_id)
    row = world.row(job_id)
    assert (row.state, row.tee, row.fence) == ("copying", "offered", row.tee_fence), "the reader's lease holds"
    assert row.claimed_by == "reader operator"
    with session_scope() as session:
        assert not migrations.any_leased(session), "no worker shows a sign of life by that"
    lapse(job_id)
    world.finish(job_id)
    assert (world.row(job_id).state, world.row(job_id).tee) == ("done", "failed")
    assert world.read(GCP, "a") == BODY


def test_a_write_after_the_lease_harms_nothing(teeing):
    world, client = teeing
    job_id = planned(world)
    one = client()
    offer = offered(world, one)
    to = allowed(world, one, b"?" * len(BODY), offer)
    lapse(job_id)
    late = []

    def write_late(point: str) -> None:
        if point == "begun":
            late.append(httpx.put(to["url"], content=b"?" * len(BODY), headers=to["headers"]).status_code)

    world.work(job_id, at=write_late)
    assert late == [200], "it came between the worker's look and its write"
    assert world.row(job_id).state == "switched"
    assert world.read(GCP, "a") == BODY
    assert httpx.put(to["url"], content=BODY, headers=to["headers"]).status_code in (400, 412)
    for verb in ("tee", "teed"):
        more = {"outcome": "written"} if verb == "teed" else {"etag": "e", "size": 1, "sha256": "0" * 64}
        with pytest.raises(Conflict, match="lease"):
            one._api.change("POST", f"/migrations/{offer[0]}:{verb}", {"fence": offer[1], **more})
    with pytest.raises(NotFound):
        one._api.change("POST", "/migrations/999999:teed", {"fence": 1, "outcome": "failed"})


def test_of_two_clients_at_once_one_is_offered_the_copy(teeing):
    world, client = teeing
    job_id = planned(world)
    clients = [client() for _ in range(4)]
    together = threading.Barrier(len(clients))
    bodies: list[bytes] = []

    def reading(one):
        together.wait()
        bodies.append(read(one, world))

    threads = [threading.Thread(target=reading, args=(one,)) for one in clients]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    for one in clients:
        one.tees.wait(30)
    assert bodies == [BODY] * len(clients)
    assert [outcome for one in clients for outcome in one.tees.outcomes] == ["written"]
    world.work(job_id)
    assert (world.row(job_id).tee, world.row(job_id).state) == ("adopted", "switched")


def test_a_write_is_allowed_once_and_to_the_reader_that_was_offered_it(teeing):
    """Else the lease would never end."""
    world, client = teeing
    job_id = planned(world)
    one, other = client(), client(Role.ADMIN)
    offer = offered(world, one)
    with pytest.raises(Conflict, match="another reader"):
        allowed(world, other, BODY, offer)
    allowed(world, one, BODY, offer)
    until = world.row(job_id).lease_until
    with pytest.raises(Conflict, match="already"):
        allowed(world, one, BODY, offer)
    assert world.row(job_id).lease_until == until
    one._api.change("POST", f"/migrations/{offer[0]}:teed", {"fence": offer[1], "outcome": "failed"})
    world.finish(job_id)
    assert (world.row(job_id).tee, world.row(job_id).state) == ("failed", "done")


def test_a_read_that_stops_early_gives_the_move_back_at_once(teeing):
    world, client = teeing
    job_id = planned(world)
    one = client()
    with one.read(world.key("a")) as blocks:
        assert next(blocks)
    one.tees.wait(30)
    assert "bytes were read" in one.tees.outcomes[0]
    world.work(job_id)
    assert (world.row(job_id).tee, world.row(job_id).state) == ("failed", "switched")


def test_nothing_is_offered_where_it_must_not_be(teeing, configure):
    world, client = teeing
    planned(world)
    one = client()
    assert offered(world, client(Role.VIEWER)) is None, "a viewer may write nothing"
    with session_scope() as session:
        session.execute(update(Site).where(Site.name == GCP).values(capabilities={}))
    assert offered(world, one) is None, "a site that ignores conditions"


@pytest.mark.parametrize(
    "policy",
    [("sla", {"default": {"readers": "routed", "pinned": True}}), ("residency", {"default": {"sites": [AWS]}}),
     ("security", {"enforce": True}), ("mode", {"mode": "paused", "reason": "quiet"}),
     ("budget", {"bytes_per_day": 1})],
)  # fmt: skip
def test_rules_and_budgets_hold_for_tees_as_for_workers(teeing, policy):
    world, client = teeing
    job_id = planned(world)
    world.policy(*policy)
    assert offered(world, client()) is None
    row = world.row(job_id)
    assert (row.tee, row.lease_until, row.attempts) == (None, None, 0)
    assert world.head(GCP, "a") is None


def test_it_is_off_unless_it_is_set(make_world, make_api):
    world, api = make_world(), make_api()
    assert get_settings().tee_limit == 0
    job_id = planned(world)
    with serving(api) as address, Client(address, api.tokens[Role.OPERATOR]) as client:
        assert read(client, world) == BODY
        assert not client.tees.outcomes
    assert world.row(job_id).fence == 0


def test_what_a_read_does_not_tell_is_not_teed(teeing):
    """Tags: a worker carries them."""
    world, client = teeing
    job_id = planned(world, Tagging="team=red")
    one = client()
    assert read(one, world) == BODY
    one.tees.wait(30)
    assert "tags" in one.tees.outcomes[0]
    world.work(job_id)
    assert world.row(job_id).state == "switched"
    assert world.head(GCP, "a").tag_count == 1


def test_changes_of_class_are_left_to_workers(teeing):
    world, client = teeing
    world.put(AWS, "a")
    world.scan(AWS)
    world.plan(("a", MoveKind.CLASS, AWS, AWS, "STANDARD_IA"))
    assert offered(world, client()) is None


def test_an_object_in_parts_is_teed_once_its_sha256_is_known(teeing):
    """The engine itself has written it in parts: its ETag tells nothing, what was recorded does."""
    world, client = teeing
    world.finish(planned(world, to=GCP))
    assert world.head(GCP, "a").pin.etag_is_of_parts
    recorded = world.replicas("a")[GCP].sha256
    with session_scope() as session:
        session.execute(update(Replica).values(sha256=None))
    job_id = world.move("a", GCP, AZURE)
    assert offered(world, client()) is None
    with session_scope() as session:
        session.execute(update(Replica).values(sha256=recorded))
    one = client()
    assert read(one, world) == BODY
    one.tees.wait(30)
    world.finish(job_id)
    assert (world.row(job_id).tee, world.row(job_id).state) == ("adopted", "done")
    assert world.read(AZURE, "a") == BODY


def test_a_client_that_is_killed_while_it_writes_leaves_no_part_of_it(teeing):
    world, client = teeing
    job_id = planned(world)
    one = client()
    to = allowed(world, one, BODY, offered(world, one))
    at = urlsplit(to["url"])
    lines = [f"PUT {at.path}?{at.query} HTTP/1.1", f"Host: {at.netloc}", f"Content-Length: {len(BODY)}"]
    lines += [f"{name}: {value}" for name, value in to["headers"].items()]
    with socket.create_connection((at.hostname, at.port)) as connection:
        connection.sendall("\r\n".join([*lines, "", ""]).encode() + BODY[: len(BODY) // 2])
    lapse(job_id)
    world.finish(job_id)
    assert (world.row(job_id).tee, world.row(job_id).state) == ("failed", "done")
    assert world.read(GCP, "a") == BODY


def test_a_write_that_comes_too_late_is_refused_by_the_site(teeing):
    world, client = teeing
    planned(world)
    one = client()
    to = allowed(world, one, BODY, offered(world, one))
    with session_scope() as session:
        address = registered.address(registered.get(session, GCP))
    an_hour_ago = datetime.now(UTC) - timedelta(hours=1)
    url = presign.put_url(address, world.key("a"), to["headers"], expires_s=60, now=an_hour_ago)
    assert httpx.put(url, content=BODY, headers=to["headers"]).status_code == 403
    assert world.head(GCP, "a") is None


NO_SPACE = """
import resource, signal, sys
from app.client import Client
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
with Client(sys.argv[1], sys.argv[2]) as client:
    resource.setrlimit(resource.RLIMIT_FSIZE, (1000, 1000))
    with client.read(sys.argv[3]) as blocks:
        size = sum(map(len, blocks))
    client.tees.wait(30)
    print(size, *client.tees.outcomes)
"""


def test_a_reader_without_room_on_its_disk_reads_all_the_same(make_world, make_api):
    settings = {"tee_limit": 10**8, "tee_lease_s": 30}
    world, api = make_world(settings=settings), make_api(**settings)
    job_id = planned(world)
    with serving(api) as address:
        command = [sys.executable, "-c", NO_SPACE, address, api.tokens[Role.OPERATOR], world.key("a")]
        told = subprocess.run(command, cwd=PROJECT_ROOT, check=True, timeout=60, capture_output=True, text=True).stdout
    assert told.startswith(f"{len(BODY)} it could not be kept")
    world.work(job_id)
    assert (world.row(job_id).tee, world.row(job_id).state) == ("failed", "switched")


NO_THREAD = """
import sys, threading
from app.client import Client
with Client(sys.argv[1], sys.argv[2]) as client:
    with client.read(sys.argv[3]) as blocks:
        size = sum(map(len, blocks))
        threading.stack_size(2**44)
    print(size, client.tees.has_room, *client.tees.outcomes)
"""


def test_a_reader_that_can_start_no_thread_reads_all_the_same(make_world, make_api):
    settings = {"tee_limit": 10**8, "tee_lease_s": 30}
    world, api = make_world(settings=settings), make_api(**settings)
    planned(world)
    with serving(api) as address:
        command = [sys.executable, "-c", NO_THREAD, address, api.tokens[Role.OPERATOR], world.key("a")]
        told = subprocess.run(command, cwd=PROJECT_ROOT, check=True, timeout=60, capture_output=True, text=True).stdout
    assert told == f"{len(BODY)} True can't start new thread\n"


def test_scans_and_scrubs_in_between_take_a_tee_for_what_it_is(teeing):
    """No owner's write at the destination, and nothing that nobody knows."""
    world, client = teeing
    job_id = planned(world)
    one = client()
    assert read(one, world) == BODY
    one.tees.wait(30)
    version = world.object("a").version
    for _ in range(2):
        found = world.scan(GCP)
        assert (found["new"], found["changed"]) == (0, 0), found
    assert scrubbed(world)["found"] == {}
    assert (world.object("a").version, world.states("a")) == (version, {AWS: "serving", GCP: "copying"})
    world.work(job_id)
    assert (world.row(job_id).tee, world.row(job_id).state) == ("adopted", "switched")


def test_cancelling_a_move_that_a_reader_has_takes_its_copy_away(teeing):
    world, client = teeing
    job_id = planned(world)
    one = client()
    assert read(one, world) == BODY
    one.tees.wait(30)
    with session_scope() as session:
        migrations.cancel(session, world.row(job_id).id, "test")
    world.finish(job_id)
    assert world.row(job_id).state == "cancelled"
    assert world.head(GCP, "a") is None
    assert world.read(AWS, "a") == BODY


@pytest.mark.parametrize("wrote_before", [False, True])
def test_a_write_that_ends_after_its_move_was_given_up_is_no_owners(teeing, wrote_before):
    """Neither a listing nor a log takes it for the newest version; it is tidied away."""
    world, client = teeing
    job_id = planned(world)
    one = client()
    wrong = BODY[:-1] + b"?"
    to = allowed(world, one, wrong, offered(world, one))
    if wrote_before:
        assert httpx.put(to["url"], content=wrong, headers=to["headers"]).status_code == 200
    lapse(job_id)
    with session_scope() as session:
        migrations.cancel(session, world.row(job_id).id, "test")
    world.finish(job_id)
    assert world.row(job_id).state == "cancelled"
    assert world.head(GCP, "a") is None
    tidied(world)
    assert httpx.put(to["url"], content=wrong, headers=to["headers"]).status_code == 200
    there = world.replicas("a")[GCP]
    log = Write(there.object_id, world.key("a"), "PUT", there.site_id, datetime.now(UTC) + timedelta(minutes=1))
    with session_scope() as session:
        assert reports.follow(session, [log]) == 0
    found = world.scan(GCP)
    assert (found["new"], found["changed"]) == (0, 0), found
    assert world.states("a") == {AWS: "serving", GCP: "stale"}
    graces_are_over()
    assert tidied(world)["removed"] == 1
    assert (world.head(GCP, "a"), world.read(AWS, "a")) == (None, BODY)
    world.finish(world.move("a", AWS, GCP))
    assert world.read(GCP, "a") == BODY


@pytest.mark.parametrize(
    ("tee", "said"), [("adopted", "by tee"), ("offered", "offered to a reader"), ("refused", "the tee was refused")]
)
def test_the_command_line_says_who_copied(teeing, tee, said):
    world, client = teeing
    job_id = planned(world)
    with session_scope() as session:
        session.execute(update(Migration).where(Migration.job_id == job_id).values(tee=tee))
    one = client()
    token, url = one._api._http.headers["Authorization"].removeprefix("Bearer "), one._api.url
    shown = subprocess.run(
        [sys.executable, "-m", "app", "migrate", "show", str(world.row(job_id).id)], cwd=PROJECT_ROOT, check=True,
        capture_output=True, text=True, env={**os.environ, "FORETIDE_URL": url, "FORETIDE_TOKEN": token},
    )  # fmt: skip
    (line,) = [line for line in shown.stdout.splitlines() if line.startswith("COPIED")]
    assert said in line
