"""A recurring peak: planned for, copied before it begins, gone after it, and told of when it comes too late."""

from datetime import UTC, datetime, timedelta

import pytest
from sqlalchemy import delete, func, insert, select, update

from app.db import jobs, plans, policies, rollback
from app.db.session import session_scope
from app.db.tables import AccessHour, Job, Migration, Object, Plan, Site
from app.domain.peaks import HOUR, WEEK
from app.domain.prices import GB
from app.queue import TaskName
from tests import jobs as jobrun
from workers.placement import plan as plan_task
from workers.prewarming import prewarming
from workers.rollback import rollback as roll_back

AWS, GCP = "aws-eu", "gcp-eu"


@pytest.fixture
def world(world):
    world.put(AWS, "a")
    world.put(AWS, "calm")
    world.scan(AWS)
    return world


def next_hour(hours=1):
    return datetime.now(UTC).replace(minute=0, second=0, microsecond=0) + hours * HOUR


def iso(moment):
    return moment.isoformat().replace("+00:00", "Z")


def read_weekly(world, name, first, weeks=4, reads=500):
    """Reads of whole large objects by readers beside GCP's site, in the two hours from `first` on in weeks before."""
    values = {"region": "europe-west1", "reads": reads, "writes": 0, "bytes_read": reads * GB, "partial_uploads": 0}
    with session_scope() as session:
        object_id = session.scalar(select(Object.id).where(Object.key == world.key(name)))
        hours = [first - week * WEEK + step * HOUR for week in range(1, weeks + 1) for step in range(2)]
        rows = [{**values, "object_id": object_id, "hour": hour, "last_ts": hour} for hour in hours]
        session.execute(insert(AccessHour), rows)


def auto():
    with session_scope() as session:
        policies.put(session, "mode", {"mode": "auto"}, actor="t")


def prewarmed(**args):
    return jobrun.run(prewarming, TaskName.PREWARM, args).result


def plan_of(result):
    with session_scope() as session:
        changes = plans.changes(session, result["plan_id"])
        return [(change.key.rpartition("/")[2], change.move.kind, change.to_site) for change in changes]


def migrations(world, name="a"):
    with session_scope() as session:
        rows = session.scalars(
            select(Migration).join(Object).where(Object.key == world.key(name)).order_by(Migration.id)
        ).all()
        return [(row.kind, row.state, row.reason) for row in rows]


def migrate_job():
    with session_scope() as session:
        return session.scalars(select(Job.id).where(Job.kind == TaskName.MIGRATE)).one()


def set_times(**values):
    with session_scope() as session:
        session.execute(update(Migration).where(Migration.not_before.is_not(None)).values(**values))


def test_a_copy_is_there_before_the_peak_and_gone_after_it(world, api):
    peak = next_hour()
    read_weekly(world, "a", peak)
    auto()
    result = prewarmed()
    assert (result["objects"], result["applied"], result["peaks"]) == (1, True, 1)
    assert plan_of(result) == [("a", "copy", GCP), ("a", "remove", None)]
    job_id = migrate_job()
    (shown,) = api.get(f"/v1/explanation?key={world.key('a')}").json["peaks"]
    assert (shown["site"], shown["state"], shown["kind"]) == (GCP, "queued", "copy")
    assert [datetime.fromisoformat(shown[name]) for name in ("begins", "ends")] == [peak, peak + 2 * HOUR]
    assert shown["usd_a_month"] < 0
    assert "until it ends saves" in shown["reason"]
    assert api.get(f"/v1/explanation?key={world.key('calm')}").json["peaks"] == []
    world.work(job_id)
    assert world.states("a") == {AWS: "serving", GCP: "serving"}, "begun at once: it is less than an hour away"
    assert [row[:2] for row in migrations(world)] == [("copy", "done"), ("remove", "queued")]
    world.work(job_id)
    shown = {row["kind"]: row for row in api.get("/v1/migrations").json["items"]}
    assert (shown["remove"]["state"], shown["remove"]["reason"]) == ("queued", "not_before")
    assert datetime.fromisoformat(shown["copy"]["ready_by"]) == peak
    assert world.states("a")[GCP] == "serving"
    assert prewarmed()["plan_id"] is None, "a migration has the object in hand"
    set_times(not_before=datetime.now(UTC) - timedelta(seconds=1))
    world.finish(job_id)
    assert world.states("a") == {AWS: "serving", GCP: "deleted"}
    assert world.read(AWS, "a")
    with session_scope() as session:
        assert jobs.get(session, job_id).state == "succeeded"


def copied_for_a_peak(world):
    read_weekly(world, "a", next_hour())
    auto()
    prewarmed()
    job_id = migrate_job()
    world.work(job_id)
    assert world.states("a") == {AWS: "serving", GCP: "serving"}
    return job_id


def peak_is_over(world, job_id):
    set_times(not_before=datetime.now(UTC) - timedelta(seconds=1))
    world.finish(job_id)


def test_the_copy_stays_where_more_copies_are_asked_for_meanwhile(world):
    job_id = copied_for_a_peak(world)
    world.policy("sla", {"default": {"readers": "routed", "rf": 2}})
    peak_is_over(world, job_id)
    assert world.states("a") == {AWS: "serving", GCP: "serving"}
    assert migrations(world)[1][1] in ("skipped", "blocked")


def test_the_copy_stays_where_it_has_become_the_only_one(world):
    job_id = copied_for_a_peak(world)
    world.delete(AWS, "a")
    world.scan(AWS)
    peak_is_over(world, job_id)
    assert world.read(GCP, "a") == b"hello"


def test_what_was_written_anew_at_its_address_outlives_the_copy(world):
    job_id = copied_for_a_peak(world)
    world.put(AWS, "a", b"newer")
    peak_is_over(world, job_id)
    assert world.read(AWS, "a") == b"newer"


def test_a_plan_is_rolled_back_while_the_removal_waits(world):
    copied_for_a_peak(world)
    with session_scope() as session:
        plan_id = session.scalar(select(Plan.id))
        job_id = rollback.submit(session, plan_id, actor="t", request_id=None, args={}).id
    jobrun.finish(roll_back, job_id)
    assert world.states("a") == {AWS: "serving", GCP: "stale"}, "nobody reads it any more"
    assert [row[1:] for row in migrations(world)] == [
        ("rolled_back", "plan_rolled_back"), ("cancelled", "plan_rolled_back"),
    ]  # fmt: skip
    assert world.read(AWS, "a") == b"hello"


def test_what_is_not_due_is_not_begun(world):
    read_weekly(world, "a", next_hour(6))
    auto()
    assert prewarmed()["objects"] == 1
    job_id = migrate_job()
    world.work(job_id)
    assert world.states("a") == {AWS: "serving"}
    assert migrations(world)[0][:2] == ("copy", "queued")


def test_a_plan_that_waits_is_not_made_twice_and_nothing_is_moved(world, api):
    read_weekly(world, "a", next_hour(2))
    started = api.post("/v1/plans", {"peaks": True})
    assert started.status_code == 202
    job = jobrun.finish(prewarming, started.json["id"])
    assert (job.result["objects"], job.result["applied"]) == (1, False)
    assert prewarmed()["plan_id"] is None
    assert migrations(world) == []
    plan = api.get(f"/v1/plans/{job.result['plan_id']}").json
    assert plan["scope"] == {"peaks": True}
    assert plan["cost_after"] < plan["cost_before"] / 10
    (copy, remove) = api.get(f"/v1/plans/{plan['id']}/changes").json["items"]
    assert copy["ready_by"] < remove["not_before"]
    assert "busy in 4 of 4 weeks" in copy["reason"]


def test_a_copy_stays_for_a_second_peak_that_comes_before_another_could_be_made(world, api):
    for hours in (2, 5):
        read_weekly(world, "a", next_hour(hours))
    plan = api.get(f"/v1/plans/{prewarmed()['plan_id']}/changes").json["items"]
    assert [(move["kind"], move["not_before"]) for move in plan][1:] == [("remove", iso(next_hour(7)))]
    assert prewarmed()["plan_id"] is None, "the plan that waits is for both"


@pytest.mark.parametrize(("room", "planned"), [(0, 0), (1, 1), (2, 2)])
def test_a_copy_for_a_peak_keeps_to_the_sites_capacity(world, room, planned):
    world.policy("residency", {"default": {"sites": [AWS, GCP]}})
    for name, reads in (("a", 500), ("calm", 900)):
        read_weekly(world, name, next_hour(2), reads=reads)
    with session_scope() as session:
        size = session.scalar(select(func.max(Object.size)))
        session.execute(update(Site).where(Site.name == GCP).values(capacity_bytes=room * size))
    result = prewarmed()
    assert result["objects"] == planned
    if planned == 1:
        assert plan_of(result)[0] == ("calm", "copy", GCP), "it saves more"


def test_peaks_take_no_horizon(api):
    answer = api.post("/v1/plans", {"peaks": True, "horizon_days": 30})
    assert (answer.status_code, answer.json["errors"][0]["pointer"]) == (422, "/horizon_days")


def test_an_unknown_key_is_told(world, api):
    started = api.post("/v1/plans", {"peaks": True, "keys": ["no such"]})
    job = jobrun.turn(prewarming, started.json["id"])
    assert (job.state, job.error["type"]) == ("failed", "not-found")


def test_only_what_is_selected_is_looked_at(world):
    read_weekly(world, "a", next_hour(2))
    read_weekly(world, "calm", next_hour(2))
    assert prewarmed(prefix="elsewhere/")["looked_at"] == 0
    assert prewarmed(keys=[world.key("a")])["objects"] == 1
    assert prewarmed()["objects"] == 1, "the other one"


def test_a_copy_that_comes_too_late_is_told_and_one_whose_peak_is_over_is_not_made(world, api):
    for name in ("a", "calm"):
        read_weekly(world, name, next_hour(2))
    result = prewarmed()
    answer = api.post(f"/v1/plans/{result['plan_id']}:apply", headers={"If-Match": '"1"'})
    assert answer.status_code == 202
    now = datetime.now(UTC)
    set_times(not_before=now - timedelta(hours=3))
    with session_scope() as session:
        late = select(Object.id).where(Object.key == world.key("a")).scalar_subquery()
        is_copy = (Migration.kind == "copy",)
        session.execute(update(Migration).where(*is_copy).values(ready_by=now - timedelta(hours=2)))
        session.execute(
            update(Migration).where(*is_copy, Migration.object_id != late).values(useful_until=now - timedelta(hours=1))
        )
    world.work(migrate_job())
    assert migrations(world, "a")[0][:2] == ("copy", "done")
    assert migrations(world, "calm") == [
        ("copy", "skipped", "peak_over"), ("remove", "skipped", "earlier_move_skipped"),
    ]  # fmt: skip
    (alert,) = api.get("/v1/alerts").json["items"]
    assert (alert["kind"], alert["data"]["objects"]) == ("prewarm_late", 2)


def test_what_a_peak_brings_is_no_move_that_ordinary_changes_wait_for(world):
    copied_for_a_peak(world)
    assert (world.object("a").moved_at, world.object("a").version) == (None, 2)
    world.work(world.move("calm", AWS, GCP))
    assert world.object("calm").moved_at is not None, "another move is one"


def test_copies_for_peaks_keep_to_the_sites_request_rate(world, api):
    """Five hundred reads an hour each, and room for six hundred at the same time."""
    world.policy("residency", {"default": {"sites": [AWS, GCP]}})
    for name in ("a", "calm"):
        read_weekly(world, name, next_hour(2))
    world.set_site(GCP, max_request_rate=600 / 3600)
    result = prewarmed()
    assert (result["peaks"], result["objects"]) == (2, 1)
    assert prewarmed()["objects"] == 0, "the plan that waits will bring as many"
    assert api.post(f"/v1/plans/{result['plan_id']}:cancel", headers={"If-Match": '"1"'}).status_code == 200
    (kept,) = {name for name, *_ in plan_of(result)}
    other = prewarmed()
    assert {name for name, *_ in plan_of(other)} == {"a", "calm"} - {kept}, "what was cancelled is not planned again"


def test_peaks_recur_on_the_clocks_that_the_policy_names(world, api):
    """Eight o'clock in Berlin is 06:00 UTC until the clocks change on 25 October 2026, and 07:00 after that."""
    peak = datetime(2026, 10, 26, 7, tzinfo=UTC)
    read_weekly(world, "a", peak - HOUR)
    as_of = (peak - timedelta(hours=4)).isoformat()
    world.policy("sla", {"default": {"readers": "routed"}, "prefixes": [{"prefix": "w", "time_zone": "Europe/Berlin"}]})
    local = api.get(f"/v1/plans/{prewarmed(as_of=as_of)['plan_id']}/changes").json["items"]
    assert local[0]["ready_by"] == iso(peak)
    assert "Mon 26 Oct 08:00 to 10:00 Europe/Berlin" in local[0]["reason"]
    world.policy("sla", {"default": {"readers": "routed"}})
    by_utc = api.get(f"/v1/plans/{prewarmed(as_of=as_of)['plan_id']}/changes").json["items"]
    assert by_utc[0]["ready_by"] == iso(peak - HOUR)


@pytest.mark.parametrize("zone", ["Europe", "Mars/Olympus", "../etc/passwd", "", 1])
def test_a_time_zone_that_nobody_knows_is_refused(api, zone):
    answer = api.put("/v1/policies/sla", {"default": {"time_zone": zone}})
    assert (answer.status_code, answer.json["errors"][0]["pointer"]) == (422, "/default/time_zone")


def test_a_copy_whose_removal_was_cancelled_goes_by_the_next_plan(world):
    """Nothing but money decides: that it was made for a peak an hour ago holds nothing back."""
    job_id = copied_for_a_peak(world)
    with session_scope() as session:
        jobs.cancel(session, job_id)
        policies.put(session, "mode", {"mode": "observe"}, actor="t")
    world.work(job_id)
    assert migrations(world)[1][:2] == ("remove", "cancelled")
    assert world.states("a") == {AWS: "serving", GCP: "serving"}
    with session_scope() as session:
        session.execute(delete(AccessHour))
    job = jobrun.run(plan_task, TaskName.PLAN, {"keys": [world.key("a")]})
    assert ("a", "remove", None) in plan_of(job.result), "nobody reads it there"


def test_a_copy_for_a_peak_that_does_not_fit_goes_to_the_next_best_site(world):
    read_weekly(world, "a", next_hour(2))
    world.set_site(GCP, max_request_rate=0.0)
    assert plan_of(prewarmed())[0] == ("a", "copy", "azure-we")
