"""The ledger of what changes of class have saved, and the guard that stops demotions which lost money."""

from datetime import UTC, datetime, timedelta

import pytest
from sqlalchemy import insert, select, update

from app.db import jobs, placement, policies, savings
from app.db.placement import Selection
from app.db.session import session_scope
from app.db.tables import AccessHour, Alert, Job, Migration, Move, Plan, Replica, Saving, Site
from app.domain.placement_costs import price
from app.domain.placement_decisions import Verdict, decide
from app.domain.placement_problem import Problem
from app.domain.prices import GB
from app.domain.states import MigrationState, PlanState
from app.queue import TaskName
from tests.integration.test_plans import add_object, add_sites
from workers.placement import plan as plan_task
from workers.savings import accrue

NOW = datetime(2026, 5, 1, 12, tzinfo=UTC)
MOVED = NOW - timedelta(days=70)


@pytest.fixture
def sites(clean_database) -> dict[str, int]:
    with session_scope() as session:
        ids = add_sites(session)
        classes = ["STANDARD", "STANDARD_IA", "GLACIER_IR"]
        session.execute(update(Site).where(Site.name == "aws-eu").values(classes=classes))
        return ids


def moved(
    site_id: int, key: str, reads_a_day: int = 0, days_ago: int = 70, to_class: str = "GLACIER_IR", **plan_values
) -> int:
    """An object that was changed from STANDARD, and how it has been read since; its migration's id."""
    at = NOW - timedelta(days=days_ago)
    with session_scope() as session:
        row = add_object(session, site_id, key, days=200, storage_class=to_class)
        session.execute(update(Replica).where(Replica.object_id == row.id).values(class_since=at))
        plan = Plan(
            state=PlanState.READY, as_of=at, cost_before=0, cost_after=0, one_off=0, objects=1, moves=1, **plan_values
        )
        session.add(plan)
        session.flush()
        move = Move(
            plan_id=plan.id, object_id=row.id, object_version=1, kind="class", from_site_id=site_id,
            from_class="STANDARD", to_site_id=site_id, to_class=to_class, bytes=GB, one_off=0, monthly_delta=0,
            reason="",
        )  # fmt: skip
        session.add(move)
        session.flush()
        done = Migration(
            job_id=jobs.submit(session, TaskName.MIGRATE).id, plan_id=plan.id, move_id=move.id, object_id=row.id,
            object_version=1, kind="class", state=MigrationState.DONE, from_site_id=site_id, to_site_id=site_id,
            to_class=to_class, bytes_total=GB, finished_at=at,
        )  # fmt: skip
        session.add(done)
        if reads_a_day:
            hours = [at + timedelta(days=day, hours=1) for day in range(days_ago)]
            values = {"object_id": row.id, "region": "", "reads": reads_a_day, "writes": 0,
                      "bytes_read": reads_a_day * GB, "partial_uploads": 0}  # fmt: skip
            session.execute(insert(AccessHour), [{**values, "hour": hour, "last_ts": hour} for hour in hours])
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
