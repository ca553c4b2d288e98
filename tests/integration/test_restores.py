"""Sources in an archive: asked back once, within policy and budget, awaited, and then moved like any other."""

import json
import math
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from urllib.request import Request, urlopen

import pytest

from app.db import migrations
from app.db.session import session_scope
from app.db.tables import Budget
from app.domain import restores
from app.domain.states import MoveKind
from tests.faults.proxy import Proxy
from tests.faults.rules import Fault, on
from tests.reliability.mortal import Mortal
from tests.s3servers import MOTO
from tests.world import World

MIB = 2**20
COLD, WARM = "cold", "gcp-eu"
CLASSES = ["STANDARD", "STANDARD_IA", "GLACIER", "DEEP_ARCHIVE"]
FEES = {"GLACIER": (0.05 / 1000, 0.01), "DEEP_ARCHIVE": (0.1 / 1000, 0.02)}
"""$ for the request and for a GB, as the shipped price book has them."""
BODIES = {"small": b"cold bytes", "parts": b"0123456789abcdef" * (6 * MIB // 16)}


class Archive(World):
    """A world of an archive at moto's server, which restores when it is told to, and a SeaweedFS site."""

    def __init__(self, cold, warm, proxy, **rules):
        super().__init__({COLD: replace(proxy.site, name=COLD), WARM: warm}, **rules)
        self.endpoint_url, self.proxy = cold.endpoint_url, proxy
        for name in (COLD, WARM):
            known = self.capabilities(name)
            classes = {"classes": CLASSES, "class_names": {entry: entry for entry in CLASSES}}
            self.set_site(name, provider="aws", capabilities=known | classes | {"conditional_copy": True})

    def step(self, *, more):
        """What was asked for goes a step further, seen by a HEAD: to be on its way, then to be restored."""
        self._steps_after(-1)
        self.head(COLD, "a")
        self._steps_after(3600 if more else -1)

    def _steps_after(self, seconds):
        wanted = {"model_name": "s3::keyrestore", "transition": {"progression": "time", "seconds": seconds}}
        url = f"{self.endpoint_url}/moto-api/state-manager/set-transition"
        with urlopen(Request(url, json.dumps(wanted).encode(), {"Content-Type": "application/json"})) as answer:
            assert answer.status == 201

    def archived(self, body=b"cold bytes", storage_class="GLACIER", **parameters):
        self.put(COLD, "a", body, StorageClass=storage_class, **parameters)
        self.scan(COLD)

    def begun(self, point):
        """To be handed to a worker as its `at`: a restore that is asked for is on its way."""
        if point == "restore_asked":
            self.step(more=True)

    def asked(self):
        return len(self.proxy.asked("RestoreObject", self.key("a")))

    def budget(self, unit):
        with session_scope() as session:
            row = session.query(Budget).filter_by(unit=unit).one_or_none()
            return (row.reserved, row.spent) if row else (0, 0)


@pytest.fixture
def archive(site_of, sites, clean_database, configure):
    configure(growing_age_s=0, retry_base_s=0.01, multipart_threshold=5 * MIB, part_size=5 * MIB)
    with Proxy(site_of(MOTO), seed=5) as proxy:
        yield lambda **rules: Archive(site_of(MOTO), sites[WARM], proxy, **rules)


def fee(storage_class, size):
    """Nano-dollars, rounded up."""
    request, gb = FEES[storage_class]
    return math.ceil(round((request + gb * size / 2**30) * 1e9, 6))


def ended(row):
    return row.state, row.reason


@pytest.mark.parametrize("storage_class", FEES)
@pytest.mark.parametrize("body", BODIES.values(), ids=BODIES)
def test_an_archived_source_is_asked_back_once_awaited_and_moved(archive, body, storage_class):
    world = archive(allow_restore=True)
    world.archived(body, storage_class, Metadata={"k": "v"})
    job_id = world.move("a", COLD, WARM)
    world.work(job_id, at=world.begun)
    row = world.row(job_id)
    assert (*ended(row), row.attempts) == ("waiting", "restoring", 0)
    assert timedelta(seconds=restores.LOOK_S / 2) < row.next_attempt_at - datetime.now(UTC)
    for _ in range(8):  # more often than a move may fail
        world.due(job_id)
        world.work(job_id)
    row = world.row(job_id)
    assert (*ended(row), row.attempts, world.asked()) == ("waiting", "restoring", 0, 1)
    assert world.read(WARM, "a") is None
    world.step(more=False)
    world.due(job_id)
    world.finish(job_id)
    assert ended(world.row(job_id)) == ("done", None)
    assert (world.read(WARM, "a"), world.head(WARM, "a").carried.metadata) == (body, {"k": "v"})
    assert (world.head(COLD, "a"), world.asked()) == (None, 1)
    assert float(row.restore_usd) * 1e9 == pytest.approx(fee(storage_class, len(body)), abs=1)
    assert world.budget("nano_usd") == (0, fee(storage_class, len(body)))


def test_a_class_is_left_in_place_after_a_restore(archive):
    world = archive(allow_restore=True)
    world.archived(ContentType="text/x-demo", Metadata={"k": "v"})
    job_id = world.plan(("a", MoveKind.CLASS, COLD, COLD, "STANDARD_IA"))
    world.work(job_id, at=world.begun)
    assert ended(world.row(job_id)) == ("waiting", "restoring")
    world.step(more=False)
    world.due(job_id)
    world.finish(job_id)
    assert (ended(world.row(job_id)), world.asked()) == (("done", None), 1)
    after = world.head(COLD, "a")
    assert (after.pin.storage_class, after.carried.metadata) == ("STANDARD_IA", {"k": "v"})
    assert world.read(COLD, "a") == b"cold bytes"


@pytest.mark.parametrize("body", BODIES.values(), ids=BODIES)
def test_without_the_policys_leave_nothing_is_asked(archive, body):
    world = archive()
    world.archived(body)
    job_id = world.move("a", COLD, WARM)
    world.finish(job_id)
    row = world.row(job_id)
    assert (*ended(row), world.asked()) == ("blocked", "restore_not_allowed", 0)
    assert "foretide policy set sla default.allow_restore=true" in row.error["detail"]
    assert (world.budget("nano_usd"), world.states("a")) == ((0, 0), {COLD: "serving"})


def test_what_somebody_else_has_restored_is_moved_without_leave_or_fee(archive):
    world = archive()
    world.archived()
    bucket = world.buckets[COLD]
    bucket.client.restore_object(Bucket=bucket.bucket, Key=world.key("a"), RestoreRequest={"Days": 1})
    world.step(more=False)
    job_id = world.move("a", COLD, WARM)
    world.finish(job_id)
    assert (ended(world.row(job_id)), world.row(job_id).restore_usd) == (("done", None), None)
    assert world.read(WARM, "a") == b"cold bytes"


def test_the_fee_is_set_aside_before_the_restore_is_asked(archive):
    world = archive(allow_restore=True)
    world.archived()
    world.policy("budget", {"usd_per_day": (fee("GLACIER", 10) - 1) / 1e9})
    job_id = world.move("a", COLD, WARM)
    world.work(job_id)
    assert (*ended(world.row(job_id)), world.asked()) == ("waiting", "over_budget", 0)
    assert world.budget("nano_usd") == (0, 0)
    world.policy("budget", {"usd_per_day": (fee("GLACIER", 10) + 1) / 1e9})
    world.due(job_id)
    before = []

    def note(point):
        if point.startswith("restore"):
            before.append((point, world.budget("nano_usd")[0]))
        world.begun(point)

    world.work(job_id, at=note)
    assert before == [("restore_intended", fee("GLACIER", 10)), ("restore_asked", fee("GLACIER", 10))]
    assert world.budget("nano_usd") == (0, fee("GLACIER", 10)), "it is spent, whatever becomes of the move"
    world.step(more=False)
    world.due(job_id)
    world.finish(job_id)
    assert ended(world.row(job_id)) == ("done", None)


@pytest.mark.parametrize("point", ["restore_intended", "restore_asked"])
def test_a_successor_neither_asks_nor_pays_twice(archive, point):
    world = archive(allow_restore=True)
    world.policy("budget", {"usd_per_day": 1})
    world.archived()
    job_id = world.move("a", COLD, WARM)
    mortal = Mortal(named=point)
    assert mortal.run(lambda: world.work(job_id, at=mortal.at))
    if world.asked():
        world.step(more=True)
    world.due(job_id)
    world.work(job_id, at=world.begun)
    assert (*ended(world.row(job_id)), world.asked()) == ("waiting", "restoring", 1)
    assert world.budget("nano_usd") == (0, fee("GLACIER", 10))


def test_a_request_whose_answer_is_lost_is_found_out_at_once(archive):
    world = archive(allow_restore=True)
    world.archived()
    world.proxy.harm(on("RestoreObject", Fault.DROPPED))
    job_id = world.move("a", COLD, WARM)
    world.work(job_id, at=world.begun)
    row = world.row(job_id)
    assert (*ended(row), row.attempts, world.asked()) == ("waiting", "restoring", 0, 1)
    assert world.budget("nano_usd") == (0, fee("GLACIER", 10))


def test_a_request_that_never_arrived_is_made_again_and_paid_once(archive):
    world = archive(allow_restore=True)
    world.policy("budget", {"usd_per_day": 1})
    world.archived()
    world.proxy.harm(on("RestoreObject", Fault.RESET, times=1))
    job_id = world.move("a", COLD, WARM)
    world.work(job_id, at=world.begun)  # and again, where the wait for that is over soon enough
    world.due(job_id)
    world.work(job_id, at=world.begun)
    assert (*ended(world.row(job_id)), world.row(job_id).attempts) == ("waiting", "restoring", 1)
    assert world.asked() == 2, "the one that was reset and the one that arrived"
    assert world.budget("nano_usd") == (0, fee("GLACIER", 10))


def test_a_move_that_waits_for_a_restore_is_cancelled_and_gives_nothing_more_out(archive):
    world = archive(allow_restore=True)
    world.archived()
    job_id = world.move("a", COLD, WARM)
    world.work(job_id, at=world.begun)
    with session_scope() as session:
        migrations.cancel(session, world.row(job_id).id, "test")
    world.work(job_id)
    assert ended(world.row(job_id)) == ("cancelled", "cancelled")
    assert (world.job(job_id).state, world.states("a")) == ("cancelled", {COLD: "serving"})


def falls_asleep(world, body=b"cold bytes"):
    """As when the days of a restored copy are over, which moto does not tell: it can be read no more."""
    world.put(COLD, "a", body, StorageClass="GLACIER")
    assert world.head(COLD, "a").restoring is None


def restored(world):
    """A move whose source was asked back and stands to be read."""
    world.policy("budget", {"usd_per_day": 1})
    job_id = world.move("a", COLD, WARM)
    world.work(job_id, at=world.begun)
    world.step(more=False)
    world.due(job_id)
    return job_id


def test_a_restored_copy_that_is_gone_before_the_move_is_asked_for_by_a_retry_alone(archive):
    world = archive(allow_restore=True)
    world.archived()
    job_id = restored(world)
    falls_asleep(world)
    world.finish(job_id)
    row = world.row(job_id)
    assert (*ended(row), world.asked()) == ("blocked", "restore_needed", 1)
    assert "foretide migrate retry" in row.error["detail"]
    assert (world.budget("nano_usd"), world.states("a")) == ((0, fee("GLACIER", 10)), {COLD: "serving"})
    with session_scope() as session:
        migrations.retry(session, row.id, "test")
    world.work(job_id, at=world.begun)
    assert (*ended(world.row(job_id)), world.asked()) == ("waiting", "restoring", 2)
    world.step(more=False)
    world.due(job_id)
    world.finish(job_id)
    assert (ended(world.row(job_id)), world.read(WARM, "a")) == (("done", None), b"cold bytes")
    assert world.budget("nano_usd") == (0, 2 * fee("GLACIER", 10)), "each was asked for once and paid once"


@pytest.mark.parametrize("body", BODIES.values(), ids=BODIES)
def test_a_restored_copy_that_comes_to_its_end_during_the_copy_blocks_the_move(archive, body):
    world = archive(allow_restore=True)
    world.archived(body)
    job_id = restored(world)
    once = ["begun"]

    def at(point):
        if point in once:
            once.clear()
            falls_asleep(world, body)

    world.work(job_id, at=at)
    world.finish(job_id)
    assert (once, world.asked(), world.uploads(WARM)) == ([], 1, {})
    if len(body) < 5 * MIB and world.row(job_id).state == "done":  # its one GET was already under way
        assert world.read(WARM, "a") == body
        return
    assert ended(world.row(job_id)) == ("blocked", "restore_needed")
    assert (world.head(WARM, "a"), world.states("a")[COLD]) == (None, "serving")


# -- Into an archive, and classes that are none but by their name ------------------------------------------------------


def test_a_class_that_must_be_restored_is_entered_with_the_policys_leave_alone(archive):
    world = archive()
    world.put(WARM, "a", b"soon cold")
    world.scan(WARM)
    changed = world.plan(("a", MoveKind.CLASS, WARM, WARM, "DEEP_ARCHIVE"))
    world.finish(changed)
    assert ended(world.row(changed)) == ("blocked", "restore_not_allowed")
    assert world.head(WARM, "a").pin.storage_class == "STANDARD"
    world.policy("sla", {"default": {"readers": "routed", "allow_restore": True}})
    again = world.plan(("a", MoveKind.CLASS, WARM, WARM, "DEEP_ARCHIVE"))
    world.finish(again)
    assert ended(world.row(again)) == ("done", None)
    assert world.head(WARM, "a").pin.storage_class == "DEEP_ARCHIVE"


def test_a_copy_that_could_not_be_read_back_goes_only_where_its_checksum_is_told(archive):
    world = archive(allow_restore=True)
    world.put(WARM, "a", b"soon cold")
    world.scan(WARM)
    job_id = world.move("a", WARM, COLD, "GLACIER")
    world.finish(job_id)
    assert ended(world.row(job_id)) == ("blocked", "archive_unproven")
    assert world.head(COLD, "a") is None


def test_a_successor_ends_a_copy_into_an_archive_by_what_the_site_tells_of_its_parts(sites, clean_database, configure):
    """Moto tells no checksums, and SeaweedFS archives nothing: that it cannot be read is said in its place."""
    configure(growing_age_s=0, retry_base_s=0.01, multipart_threshold=5 * MIB, part_size=5 * MIB)
    with Proxy(sites[WARM]) as proxy:
        world = World({"aws-eu": sites["aws-eu"], WARM: proxy.site})
        world.put("aws-eu", "a", BODIES["parts"])
        world.scan("aws-eu")
        job_id = world.move("a", "aws-eu", WARM)
        mortal = Mortal(named="copied")
        assert mortal.run(lambda: world.work(job_id, at=mortal.at))
        proxy.harm(on("GetObject", Fault.ARCHIVED))
        world.due(job_id)
        world.work(job_id)
        row = world.row(job_id)
        assert (row.state, row.reason, row.sha256) == ("switched", None, None)
        assert (world.states("a")[WARM], world.replicas("a")[WARM].sha256) == ("serving", None)
        assert len(proxy.asked("UploadPart", world.key("a"))) == 2, "no part is sent again"
        proxy.harm()
        assert world.read(WARM, "a") == BODIES["parts"]


@pytest.mark.parametrize("body", BODIES.values(), ids=BODIES)
def test_a_server_that_keeps_the_class_by_its_name_alone_is_read_at_once(archive, body):
    world = archive()
    world.put(WARM, "a", body, StorageClass="DEEP_ARCHIVE")
    world.scan(WARM)
    job_id = world.move("a", WARM, COLD, "STANDARD")
    world.finish(job_id)
    assert (ended(world.row(job_id)), world.read(COLD, "a")) == (("done", None), body)
