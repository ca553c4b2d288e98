"""Every fault at every request of a move, once each: the move ends well all the same, and nothing is lost or left."""

from contextlib import ExitStack
from dataclasses import replace

import pytest

from app.domain.states import MoveKind
from tests import s3servers
from tests.faults.proxy import Proxy
from tests.faults.rules import Fault, on
from tests.plain import Plain
from tests.world import World

MIB = 2**20
SMALL = ("GetObject", "HeadObject", "GetObjectTagging", "PutObject", "DeleteObject")
PARTS = ("GetObject", "CreateMultipartUpload", "UploadPart", "CompleteMultipartUpload")
FAULTS = (
    Fault.RESET, Fault.DROPPED, Fault.HALF_OPEN, Fault.TRUNCATED, Fault.FLIPPED, Fault.THROTTLED, Fault.BROKEN,
    Fault.SLOW_DOWN, Fault.ERROR_IN_200, Fault.REDIRECT_301, Fault.REDIRECT_307,
)  # fmt: skip
REDIRECTS = (Fault.REDIRECT_301, Fault.REDIRECT_307)
"""Nobody is followed elsewhere: the move fails, and its source is untouched."""
SOURCE, DESTINATION = "source", "destination"


class Harmed(World):
    """A world whose source and destination stand behind proxies; it is looked at directly."""

    def __init__(self, source, destination, trap):
        self.proxies, self.trap = {SOURCE: source, DESTINATION: destination}, trap
        super().__init__({name: replace(proxy.site, name=name) for name, proxy in self.proxies.items()})
        self.plain = {name: Plain(proxy.behind) for name, proxy in self.proxies.items()}

    def moved(self, bodies, rules, **parameters):
        """Puts the objects, lets the rules hold, moves all; returns what became of each."""
        for name, body in bodies.items():
            self.plain[SOURCE].put(self.key(name), body, **parameters)
        self.scan(SOURCE)
        for proxy in self.proxies.values():
            proxy.harm(*rules)
        job_id = self.plan(*((name, MoveKind.MOVE, SOURCE, DESTINATION, "STANDARD") for name in bodies))
        self.finish(job_id, turns=20)
        rows = {row.object_id: row for row in self.rows(job_id)}
        return {name: rows[self.object(name).id] for name in bodies}


@pytest.fixture(params=["azure-we", s3servers.RCLONE])
def harmed(request, sites, site_of, clean_database, configure):
    configure(
        growing_age_s=0, retry_base_s=0.01, multipart_threshold=5 * MIB, part_size=5 * MIB, s3_read_timeout_s=0.5,
        lease_s=30, lease_renew_s=10,  # nobody takes over here, however slow the machine
    )  # fmt: skip
    destination = sites.get(request.param) or site_of(request.param)
    with ExitStack() as stack:
        proxies = [Proxy(site) for site in (sites["aws-eu"], destination, sites["gcp-eu"])]
        world = Harmed(*(stack.enter_context(proxy) for proxy in proxies))
        world.policy("limits", {"abort_error_rate": 1.0, "canary_moves": 0})
        yield world


def cases(operations):
    """Which fault is tried at which request: only an object's bytes are read again where one bit of them was turned."""
    return {
        f"{operation}/{fault}": (operation, fault)
        for operation in operations
        for fault in FAULTS
        if fault is not Fault.FLIPPED or operation == "GetObject"
    }


def ends_well(world, tried, bodies, rows):
    for name, (operation, fault) in tried.items():
        found = (name, str(rows[name].state))
        if fault in REDIRECTS and operation != "DeleteObject" and rows[name].state == "failed":
            assert world.plain[SOURCE].get(world.key(name)) == bodies[name], name
            assert world.states(name)[SOURCE] == "serving", name
            continue
        assert found == (name, "done"), (rows[name].reason, rows[name].error)
        assert world.plain[DESTINATION].get(world.key(name)) == bodies[name], name
        assert world.plain[SOURCE].get(world.key(name)) is None, name
    assert world.trap.log == [], "nobody was led elsewhere"


def was_harmed(world, tried):
    """The names whose fault was met."""
    log = [one for proxy in world.proxies.values() for one in proxy.log if one.injected]
    return {name for name in tried for one in log if one.key == world.key(name)}


def test_small_moves(harmed):
    tried = cases(SMALL)
    bodies = {name: f"body of {name}".encode() * 50 for name in tried}
    where = harmed.trap.site.endpoint_url
    rules = [on(operation, fault, name=name, times=1, where=where) for name, (operation, fault) in tried.items()]
    tags = {"Tagging": "a=b"} if harmed.capabilities(DESTINATION)["tags"] else {}
    rows = harmed.moved(bodies, rules, Metadata={"k": "v"}, **tags)
    ends_well(harmed, tried, bodies, rows)
    untouched = {name for name, (operation, _) in tried.items() if not tags and operation == "GetObjectTagging"}
    assert was_harmed(harmed, tried) == tried.keys() - untouched


def test_moves_in_parts(harmed):
    tried = cases(PARTS)
    bodies = {name: bytes([number]) * (5 * MIB + 1000) for number, name in enumerate(tried)}
    where = harmed.trap.site.endpoint_url
    rules = [on(operation, fault, name=name, times=1, where=where) for name, (operation, fault) in tried.items()]
    rows = harmed.moved(bodies, rules)
    ends_well(harmed, tried, bodies, rows)
    assert was_harmed(harmed, tried) == tried.keys()
    unknown = {harmed.key(f"CreateMultipartUpload/{fault}") for fault in (Fault.DROPPED, Fault.TRUNCATED)}
    left = harmed.plain[DESTINATION].uploads(harmed.folder)
    assert set(left.values()) <= unknown, "an upload whose id was never told holds no part"
