"""The ledger of what changes of class have saved, and the guard that stops demotions which lost money."""

from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta

import pytest
from sqlalchemy import Date, cast, delete, func, insert, select, text, update

from app.db import jobs, placement, policies, savings
from app.db.placement import Selection
from app.db.session import session_scope
from app.db.tables import AccessHour, Alert, Job, Migration, Move, OldVersion, Plan, Replica, Saving, Site
from app.domain.placement_costs import price
from app.domain.placement_decisions import Verdict, decide
from app.domain.placement_problem import Problem
from app.domain.prices import GB
from app.domain.states import MigrationState, PlanState
from app.queue import TaskName
from tests.integration.test_plans import add_object, add_sites
from workers.placement import plan as plan_task
from workers.savings import _account, accrue

NOW = datetime(2026, 5, 1, 12, tzinfo=UTC)
MOVED = NOW - timedelta(days=70)


@pytest.fixture
def sites(clean_database) -> dict[str, int]:
    """Sites, and the logs of some object or other on every day."""
    with session_scope() as session:
        ids = add_sites(session)
        classes = ["STANDARD", "STANDARD_IA", "GLACIER_IR"]
        session.execute(update(Site).where(Site.name == "aws-eu").values(classes=classes))
        logged(session, range(1, 200))
        return ids


def logged(session, days_ago) -> None:
    """What was read on some days, of an object that nobody moves."""
    row = add_object(session, session.scalar(select(Site.id).where(Site.name == "gcp-eu")), f"logs/{days_ago}")
    read(session, row.id, [NOW - timedelta(days=day) for day in days_ago], 1, "")


def read(session, object_id: int, days, reads: int, region: str) -> None:
    values = {"object_id": object_id, "region": region, "reads": reads, "writes": 0,
              "bytes_read": reads * GB, "partial_uploads": 0}  # fmt: skip
    session.execute(insert(AccessHour), [{**values, "hour": hour, "last_ts": hour} for hour in days])


def moved(
    site_id: int, key: str, reads_a_day: int = 0, days_ago: int = 70, to_class: str = "GLACIER_IR", *,
    region: str = "", **plan_values,
) -> int:  # fmt: skip
    """An object that was changed from STANDARD, and how it has been read since; its migration's id."""
    at = NOW - timedelta(days=days_ago)
    with session_scope() as session:
        row = add_object(session, site_id, key, days=200, storage_class=to_class)
        session.execute(update(Replica).where(Replica.object_id == row.id).values(class_since=at))
        if reads_a_day:
            read(session, row.id, [at + timedelta(days=day, hours=1) for day in range(days_ago)], reads_a_day, region)
        return change(session, row.id, at, site_id, site_id, "STANDARD", to_class, **plan_values)


def change(session, object_id: int, at: datetime, source: int, to: int, from_class: str, to_class: str, **plan) -> int:
    """A change that was made, of the class or the site."""
    made = Plan(state=PlanState.READY, as_of=at, cost_before=0, cost_after=0, one_off=0, objects=1, moves=1, **plan)
    session.add(made)
    session.flush()
    kind = "class" if source == to else "move"
    move = Move(
        plan_id=made.id, object_id=object_id, object_version=1, kind=kind, from_site_id=source, from_class=from_class,
        to_site_id=to, to_class=to_class, bytes=GB, one_off=0, monthly_delta=0, reason="",
    )  # fmt: skip
    session.add(move)
    session.flush()
    done = Migration(
        job_id=jobs.submit(session, TaskName.MIGRATE).id, plan_id=made.id, move_id=move.id, object_id=object_id,
        object_version=1, kind=kind, state=MigrationState.DONE, from_site_id=source, to_site_id=to,
        to_class=to_class, bytes_total=GB, switched_at=at, finished_at=at,
    )  # fmt: skip
    session.add(done)
    session.flush()
    return done.id


def run(now: datetime = NOW) -> Job:
    with session_scope() as session:
        number = jobs.submit(session, TaskName.ACCRUE, {"as_of": now.isoformat()}).id
    accrue(number)
    with session_scope() as session:
        done = session.get_one(Job, number)
        assert done.state == "succeeded", done.error
        return done


def account(number: int) -> Saving:
    with session_scope() as session:
        return session.get_one(Saving, number)


def test_an_account_says_what_a_bill_would_and_counts_each_day_once(sites):
    number = moved(sites["aws-eu"], "quiet/1")
    first = run(NOW - timedelta(days=40))
    assert first.result["recorded"] == 1
    run()
    again = run()
    assert (again.result["recorded"], again.result["accrued"]) == (0, 0)
    found = account(number)
    assert (found.moved_on, found.through, found.ended_on) == (MOVED.date(), NOW.date() - timedelta(days=1), None)
    assert float(found.stayed) == pytest.approx(70 * 0.023 / 30)
    assert float(found.actual) == pytest.approx(70 * 0.004 / 30)
    assert float(found.owed) == pytest.approx(20 * 0.004 / 30)
    assert float(found.fee) == pytest.approx((0.02 + 0.0004 + 0.01) / 1000)


def test_an_account_ends_when_the_copy_lies_elsewhere(sites):
    number = moved(sites["aws-eu"], "quiet/1", days_ago=30)
    with session_scope() as session:
        session.execute(update(Replica).values(storage_class="STANDARD", class_since=NOW))
    run()
    assert account(number).ended_on == NOW.date()
    assert float(account(number).owed) == pytest.approx(60 * 0.004 / 30), "leaving cost what was left"


def test_what_comes_back_after_a_peak_is_no_demotion_to_be_judged(sites):
    """It was warm for hours, and will be again: what that costs was weighed with the peak."""
    moved(sites["aws-eu"], "peaks/1", scope={"peaks": True})
    stays = moved(sites["aws-eu"], "quiet/1", scope={"prefix": "quiet/"})
    assert run(NOW - timedelta(days=1)).result["recorded"] == 1
    with session_scope() as session:
        made = session.scalar(select(Migration).join(Plan).where(Plan.scope["prefix"].is_not(None)))
        row = {name: getattr(made, name) for name in ("job_id", "object_id", "from_site_id", "to_site_id", "to_class")}
        plan = session.scalar(select(Migration.plan_id).join(Plan).where(Plan.scope["peaks"].as_boolean()))
        session.add(
            Migration(**row, plan_id=plan, object_version=2, kind="class", state="done", bytes_total=1, finished_at=NOW)
        )
    run()
    assert account(stays).ended_on is None, "it lies where it was put, but for the hours of a peak"


def test_a_cohort_whose_demotions_lost_money_demotes_no_more_and_says_so(sites):
    for key in ("busy/1", "quiet/1"):
        moved(sites["aws-eu"], key)
    with session_scope() as session:
        policies.put(session, "sla", {"default": {"readers": "direct", "payback": 0, "confidence": 0}}, actor="t")
        for key in ("busy/2", "quiet/2"):
            add_object(session, sites["aws-eu"], key, days=200)
    run()
    with session_scope() as session:
        session.execute(update(Saving).where(Saving.cohort == "aws-eu/busy").values(actual=1))
    assert set(run().result["stopped"]) == {"aws-eu/busy", ""}, "so much was lost that all stop"
    with session_scope() as session:
        assert {alert.subject for alert in session.scalars(select(Alert))} == {"aws-eu/busy", ""}
        session.execute(update(Saving).where(Saving.cohort == "aws-eu/quiet").values(stayed=9))
    assert set(run().result["stopped"]) == {"aws-eu/busy"}
    with session_scope() as session:
        assert {a.subject for a in session.scalars(select(Alert).where(Alert.state != "resolved"))} == {"aws-eu/busy"}
        world = placement.world(session, NOW)
        block = placement.block(session, world, Selection(keys=("busy/2", "quiet/2")), 0, 10)
    found = {d.item.key: d for d in decide(price(Problem(world.options, block.items)))}
    assert found["busy/2"].verdict is Verdict.HELD
    assert "have lost" in found["busy/2"].gate[-1]
    assert found["quiet/2"].verdict is Verdict.MOVE


def test_a_young_demotion_counts_only_with_what_its_reads_have_lost(sites):
    """Fees are paid first and earned back later: that alone stops nobody."""
    moved(sites["aws-eu"], "young/1", days_ago=5)
    assert run().result["stopped"] == {}
    moved(sites["aws-eu"], "read/1", reads_a_day=2, days_ago=5)
    assert "aws-eu/read" in run().result["stopped"]


def test_what_was_lost_is_past_after_its_time(sites):
    moved(sites["aws-eu"], "busy/1", reads_a_day=3)
    assert run().result["stopped"]
    with session_scope() as session:
        assert savings.no_demotions(session, NOW + timedelta(days=60)) == {}


def test_the_api_tells_the_ledger_by_cohort(sites, api):
    moved(sites["aws-eu"], "quiet/1")
    moved(sites["aws-eu"], "busy/1", reads_a_day=3)
    run()
    found = api.get("/v1/savings").json
    rows = {row["cohort"]: row for row in found["cohorts"]}
    assert rows["aws-eu/quiet"]["saved"] > 0 > rows["aws-eu/busy"]["saved"]
    for row in (*rows.values(), found["total"]):
        assert row["saved"] == pytest.approx(row["stayed"] - row["actual"] - row["fee"] - row["owed"])
    assert found["total"]["moves"] == 2


def test_the_plan_tells_where_nothing_is_demoted(sites):
    moved(sites["aws-eu"], "busy/1", reads_a_day=3)
    run()
    with session_scope() as session:
        number = jobs.submit(session, TaskName.PLAN, {"as_of": NOW.isoformat()}).id
    plan_task(number)
    with session_scope() as session:
        made = session.get_one(Plan, session.get_one(Job, number).result["plan_id"])
        assert set(made.solver["no_harm"]["no_demotions"]) == {"aws-eu/busy", ""}


def between_sites(sites, key="data/1", days_ago=10, deleted_after=0.0, region="eu-west-1") -> int:
    """A GB that went from aws-eu to gcp-eu and is read once a day; its source stood for some days more."""
    at = NOW - timedelta(days=days_ago)
    with session_scope() as session:
        row = add_object(session, sites["gcp-eu"], key, days=200)
        session.add(
            Replica(
                object_id=row.id, site_id=sites["aws-eu"], storage_class="STANDARD", state="deleted", object_version=1,
                size=GB, deleted_at=at + timedelta(days=deleted_after),
            )
        )  # fmt: skip
        read(session, row.id, [at + timedelta(days=day, hours=1) for day in range(days_ago)], 1, region)
        number = change(session, row.id, at, sites["aws-eu"], sites["gcp-eu"], "STANDARD", "STANDARD")
        session.get_one(Migration, number).finished_at = at + timedelta(days=deleted_after)
        return number


def test_a_move_between_sites_counts_egress_to_its_readers_on_both_sides(sites):
    """Ten days of one read of a GB from eu-west-1, where aws-eu lies, so that AWS asks nothing and Google $0.12.

    At gcp-eu: 10 × (0.020/30 + 0.0004/1000 + 0.12) = $1.206671; at aws-eu: 10 × (0.023/30 + 0.0004/1000) = $0.007671.
    The copy: 130 PUTs of 0.005/1000, 3 + 2 looks, a thousandth of a LIST, and $0.09 to leave AWS = $0.090652.
    """
    number = between_sites(sites)
    run()
    found = account(number)
    assert float(found.actual) == pytest.approx(1.206671, abs=1e-6)
    assert float(found.stayed) == pytest.approx(0.007671, abs=1e-6)
    assert float(found.fee) == pytest.approx(0.090652005, abs=1e-9)
    assert (found.cohort, found.from_site, found.site, found.demotion) == ("aws-eu/data", "aws-eu", "gcp-eu", False)
    assert run().result["stopped"] == {}, "it is told, and not judged"


def test_a_move_back_ends_the_account_on_its_day(sites):
    """Four days: 4 × (0.020/30 + 0.0004/1000 + 0.12) = $0.482668, and 4 × (0.023/30 + 0.0004/1000 + 0.09) = $0.363068.

    From the fifth day on the account of the way back counts: six days at aws-eu against six at gcp-eu.
    """
    number = between_sites(sites, region="")
    back_at = NOW - timedelta(days=6)
    with session_scope() as session:
        moved_object = session.get_one(Migration, number).object_id
        back = change(session, moved_object, back_at, sites["gcp-eu"], sites["aws-eu"], "STANDARD", "STANDARD")
        mine = update(Replica).where(Replica.object_id == moved_object)
        session.execute(mine.where(Replica.site_id == sites["gcp-eu"]).values(state="deleted", deleted_at=back_at))
        session.execute(mine.where(Replica.site_id == sites["aws-eu"]).values(state="serving", deleted_at=None))
    run()
    there, home = account(number), account(back)
    assert (there.ended_on, there.through) == (back_at.date(), back_at.date() - timedelta(days=1))
    assert float(there.actual) == pytest.approx(0.482668, abs=1e-6)
    assert float(there.stayed) == pytest.approx(0.363068, abs=1e-6)
    assert float(home.stayed) == pytest.approx(6 * (0.020 / 30 + 0.0004 / 1000 + 0.12))
    assert float(home.actual) == pytest.approx(6 * (0.023 / 30 + 0.0004 / 1000 + 0.09))


def test_the_source_counts_in_its_grace(sites):
    """Two and a half days of STANDARD at aws-eu beside: 2.5 × 0.023/30 = $0.0019167 more, however often it is run."""
    number = between_sites(sites, deleted_after=2.5)
    run(NOW - timedelta(days=8))
    run(NOW - timedelta(days=3))
    run()
    assert float(account(number).actual) == pytest.approx(1.206671 + 0.0019167, abs=1e-6)
    assert float(account(number).stayed) == pytest.approx(0.007671, abs=1e-6)


def test_a_source_that_still_drains_counts_until_it_goes(sites):
    """All ten days: 10 × 0.023/30 = $0.0076667 more."""
    number = between_sites(sites)
    with session_scope() as session:
        where = Replica.site_id == sites["aws-eu"], Replica.state == "deleted"
        session.execute(update(Replica).where(*where).values(state="draining", deleted_at=None))
        session.get_one(Migration, number).state = MigrationState.DRAINING
    run()
    assert float(account(number).actual) == pytest.approx(1.206671 + 0.0076667, abs=1e-6)


def test_an_older_version_counts_while_it_stands_less_what_leaving_early_has_paid(sites):
    """IA left after 20 days: 10 days of 0.0125/30 are in the fee. Its version stands for 15, so that 5 are counted."""
    at = NOW - timedelta(days=40)
    with session_scope() as session:
        row = add_object(session, sites["aws-eu"], "kept/1", days=60, storage_class="GLACIER_IR")
        number = change(session, row.id, at, sites["aws-eu"], sites["aws-eu"], "STANDARD_IA", "GLACIER_IR")
        session.add(
            OldVersion(
                object_id=row.id, site_id=sites["aws-eu"], migration_id=number, version_id="v", pin={}, size=GB,
                left_at=at, ended_at=at + timedelta(days=15),
            )
        )  # fmt: skip
    run()
    found = account(number)
    assert float(found.fee) == pytest.approx(0.010031 + 10 * 0.0125 / 30)
    assert float(found.actual) == pytest.approx(40 * 0.004 / 30 + 5 * 0.0125 / 30)
    assert float(found.stayed) == pytest.approx(40 * 0.0125 / 30)


def test_leaving_early_is_counted_once_from_class_to_class(sites):
    """STANDARD, after 160 days IA for 10, then Glacier Instant for 30: 20 days of IA are owed, by one account alone.

    IA: 10 × 0.0125/30 against 10 × 0.023/30, owed 20 × 0.0125/30 = $0.008333. Glacier Instant: fee $0.010031, which
    is its transition (0.02 + 0.001 + 0.01)/1000 and a GB of retrieval at 0.01; owed 60 × 0.004/30 = $0.008.
    """
    site, first, second = sites["aws-eu"], NOW - timedelta(days=40), NOW - timedelta(days=30)
    with session_scope() as session:
        row = add_object(session, site, "down/1", days=200, storage_class="GLACIER_IR")
        to_ia = change(session, row.id, first, site, site, "STANDARD", "STANDARD_IA")
        to_ir = change(session, row.id, second, site, site, "STANDARD_IA", "GLACIER_IR")
    run()
    one, two = account(to_ia), account(to_ir)
    assert (one.ended_on, one.through) == (second.date(), second.date() - timedelta(days=1))
    assert float(one.actual) == pytest.approx(10 * 0.0125 / 30)
    assert float(one.stayed) == pytest.approx(10 * 0.023 / 30)
    assert float(one.owed) == pytest.approx(20 * 0.0125 / 30)
    assert float(two.fee) == pytest.approx(0.010031)
    assert float(two.actual) == pytest.approx(30 * 0.004 / 30)
    assert float(two.stayed) == pytest.approx(30 * 0.0125 / 30)
    assert float(two.owed) == pytest.approx(60 * 0.004 / 30)


def test_without_prices_an_account_waits_and_says_so(sites, api):
    """What was not counted meanwhile is counted when they are back: 70 × 0.004/30 against 70 × 0.023/30."""
    old, new = moved(sites["aws-eu"], "quiet/1"), moved(sites["aws-eu"], "quiet/2", days_ago=20)
    run(NOW - timedelta(days=40))
    with session_scope() as session:
        session.execute(update(Site).where(Site.name == "aws-eu").values(provider="other"))
    run(NOW - timedelta(days=1))
    for number, through in ((old, 41), (new, 21)):
        found = account(number)
        assert (found.ended_on, found.reason) == (None, "no prices are known for class STANDARD at aws-eu")
        assert found.through == (NOW - timedelta(days=through)).date()
    assert account(new).fee is None
    (told,) = api.get("/v1/savings").json["cohorts"]
    assert (told["waiting"], told["reason"]) == (2, "no prices are known for class STANDARD at aws-eu")
    with session_scope() as session:
        session.execute(update(Site).where(Site.name == "aws-eu").values(provider="aws"))
    run()
    assert (account(old).reason, account(new).reason) == (None, None)
    assert float(account(old).actual) == pytest.approx(70 * 0.004 / 30)
    assert float(account(old).stayed) == pytest.approx(70 * 0.023 / 30)
    assert float(account(new).fee) == pytest.approx((0.02 + 0.0004 + 0.01) / 1000)
    assert account(new).demotion


def test_days_without_any_access_are_unknown_and_save_nothing(sites, api):
    """Of 70 days 31 to 40 days ago are missing: 60 × 0.023/30 against 60 × 0.004/30, and 10 unknown days."""
    silence(range(31, 41))
    number = moved(sites["aws-eu"], "quiet/1")
    run()
    found = account(number)
    assert (found.unknown_days, found.reason, found.through) == (10, None, NOW.date() - timedelta(days=1))
    assert float(found.actual) == pytest.approx(60 * 0.004 / 30)
    assert float(found.stayed) == pytest.approx(60 * 0.023 / 30)
    assert api.get("/v1/savings").json["total"]["unknown_days"] == 10


def test_logs_that_are_late_are_waited_for(sites):
    """The last 5 of 70 days: 65 are counted; reads that come late cost 5 × (0.01/1000 + 0.03) in Glacier Instant."""
    silence(range(1, 6))
    number = moved(sites["aws-eu"], "quiet/1")
    run()
    found, last = account(number), NOW.date() - timedelta(days=6)
    assert (found.through, found.unknown_days, found.reason) == (last, 0, f"no access is known since {last}")
    assert float(found.actual) == pytest.approx(65 * 0.004 / 30)
    with session_scope() as session:
        read(session, found.object_id, [NOW - timedelta(days=day) for day in range(1, 6)], 1, "")
    run()
    assert (account(number).reason, account(number).unknown_days) == (None, 0)
    assert float(account(number).actual) == pytest.approx(70 * 0.004 / 30 + 5 * (0.01 / 1000 + 0.03))


@pytest.mark.parametrize("known", [range(1, 3), range(69, 71)])
def test_a_demotion_of_which_little_is_known_is_not_judged(sites, known):
    """Two known days save 2 × 0.019/30 = $0.0013, less than the $0.0027 that leaving after 70 days costs."""
    silence(set(range(1, 200)) - set(known))
    number = moved(sites["aws-eu"], "quiet/1")
    assert run().result["stopped"] == {}
    found = account(number)
    assert float(found.stayed - found.actual) == pytest.approx(2 * 0.019 / 30)
    assert float(found.stayed - found.actual) < float(found.owed)


def silence(days_ago) -> None:
    days = [(NOW - timedelta(days=day)).date() for day in days_ago]
    with session_scope() as session:
        session.execute(delete(AccessHour).where(cast(func.timezone("UTC", AccessHour.hour), Date).in_(days)))


def test_two_jobs_at_once_open_each_account_once_and_count_each_day_once(sites):
    """The one is held while its accounts are not committed yet; the other waits for it and finds them there."""
    number = moved(sites["aws-eu"], "quiet/1")
    with ThreadPoolExecutor(2) as pool, session_scope() as held:
        found = savings.unrecorded(held, 10)
        assert savings.record(held, [_account(row, timedelta()) for row in found]) == 1
        others = [pool.submit(run), pool.submit(run)]
        with session_scope() as watching:
            while watching.scalar(text("select count(*) from pg_locks where not granted")) < 2:
                assert not any(other.done() for other in others)
                watching.execute(text("select pg_sleep(0.02)"))
        held.commit()
        results = [other.result(timeout=60).result for other in others]
    assert [result["recorded"] for result in results] == [0, 0]
    assert sorted(result["accrued"] for result in results) == [0, 1]
    assert float(account(number).actual) == pytest.approx(70 * 0.004 / 30)
