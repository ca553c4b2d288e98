from dataclasses import replace
from datetime import UTC, datetime, timedelta
from decimal import Decimal

import pytest
from sqlalchemy import insert, select, update

from app.db import jobs, placement, plans, policies, prices, sites
from app.db.placement import Selection
from app.db.session import session_scope
from app.db.tables import AccessHour, Job, Migration, Move, Object, Plan, Policy, Replica, Site
from app.domain import price_documents
from app.domain.explanation import explain
from app.domain.moves import Times
from app.domain.placement_costs import price
from app.domain.placement_decisions import Verdict, decide
from app.domain.placement_problem import Problem
from app.domain.price_books import shipped
from app.domain.states import JobState, Mode, ObjectState, PlanState, ReplicaState, SiteState
from app.errors import Conflict, Invalid, NotFound, PlanStale, PreconditionFailed
from app.queue import TaskName
from workers.placement import plan as plan_task

NOW = datetime(2026, 5, 1, 12, tzinfo=UTC)
SITES = (
    ("aws-eu", "aws", "eu-west-1", 30.0),
    ("azure-we", "azure", "westeurope", 45.0),
    ("gcp-eu", "gcp", "europe-west1", 60.0),
)
ROUTED = {"default": {"readers": "routed"}}


def add_sites(session):
    for name, provider, region, latency in SITES:
        classes = [entry.name for entry in shipped(provider).classes]
        session.add(
            Site(
                name=name, provider=provider, region=region, endpoint_url="http://127.0.0.1:1", bucket="b",
                access_key="k", secret_key_encrypted=b"s", classes=classes, latency_ms=latency, state=SiteState.READY,
                capabilities={"classes": classes},
            )
        )  # fmt: skip
    session.flush()
    return {site.name: site.id for site in session.scalars(select(Site))}


def add_object(session, site_id, key, reads_a_day=0, size=2**30, days=60, storage_class="STANDARD"):
    since = NOW - timedelta(days=days)
    row = Object(key=key, state=ObjectState.PRESENT, size=size, first_seen_at=since)
    session.add(row)
    session.flush()
    session.add(
        Replica(
            object_id=row.id, site_id=site_id, storage_class=storage_class, state=ReplicaState.SERVING,
            is_origin=True, object_version=1, size=size, class_since=since,
        )
    )  # fmt: skip
    if reads_a_day:
        hours = [NOW - timedelta(days=day, hours=1) for day in range(days)]
        values = {"object_id": row.id, "region": "eu-west-1", "reads": reads_a_day, "writes": 0,
                  "bytes_read": reads_a_day * size, "partial_uploads": 0}  # fmt: skip
        session.execute(insert(AccessHour), [{**values, "hour": hour, "last_ts": hour} for hour in hours])
    return row


def run_plan(**args):
    with session_scope() as session:
        job = jobs.submit(session, TaskName.PLAN, {"as_of": NOW.isoformat(), **args})
    plan_task(job.id)
    with session_scope() as session:
        return session.get(Job, job.id)


@pytest.fixture
def fleet(clean_database):
    with session_scope() as session:
        ids = add_sites(session)
        for number in range(6):
            add_object(session, ids["aws-eu"], f"cold/{number}")
            add_object(session, ids["aws-eu"], f"hot/{number}", reads_a_day=40)
    return ids


def test_a_plan_demotes_what_nobody_reads_and_leaves_the_rest(fleet):
    job = run_plan()
    assert job.state == JobState.SUCCEEDED
    with session_scope() as session:
        plan = plans.get(session, job.result["plan_id"])
        assert (plan.state, plan.objects, plan.moves) == (PlanState.READY, 12, 6)
        assert plan.cost_after < plan.cost_before
        assert plan.baselines["all_hot"] == pytest.approx(float(plan.cost_before))
        assert plan.solver["status"] == "optimal"
        assert plan.solver["closed_form_difference"] < 1e-9
        changes = plans.changes(session, plan.id)
        assert {change.key for change in changes} == {f"cold/{number}" for number in range(6)}
        assert sum(change.move.monthly_delta for change in changes) == pytest.approx(
            plan.cost_after - plan.cost_before, abs=Decimal("1e-9")
        )
        assert all(change.move.kind == "class" and change.from_site == change.to_site == "aws-eu" for change in changes)
        assert all("paid back in" in change.move.reason for change in changes)
        page = plans.changes(session, plan.id, after_id=changes[1].move.id, limit=2)
        assert [change.key for change in page] == [change.key for change in changes[2:4]]


def test_a_direct_prefix_keeps_its_copy_and_the_plan_says_what_that_costs(fleet):
    with session_scope() as session:
        policies.put(session, "sla", {"default": {"readers": "direct"}}, actor="t")
    with session_scope() as session:
        direct = plans.get(session, run_plan().result["plan_id"])
        assert direct.baselines["routed"] <= float(direct.cost_after) + 1e-12
        assert all(change.move.kind in ("class", "copy") for change in plans.changes(session, direct.id))


def test_rules_of_the_request_come_before_the_policy(fleet):
    job = run_plan(rf=2, prefix="hot/")
    with session_scope() as session:
        changes = plans.changes(session, job.result["plan_id"])
        assert {change.move.kind for change in changes} == {"copy"}
        assert len(changes) == 6
        assert all("more copies" in change.move.reason for change in changes)


def test_rf_above_the_providers_is_a_clear_error_and_the_plan_keeps_why(fleet):
    job = run_plan(rf=5)
    assert (job.state, job.error["type"]) == (JobState.FAILED, "infeasible")
    assert "rf 5" in job.error["detail"]
    assert "rf 3" in job.error["detail"]
    with session_scope() as session:
        (plan,) = plans.listing(session)
        assert plan.state == PlanState.INFEASIBLE
        assert plan.infeasible[0]["relaxations"][0]["change"] == "rf 3"
        assert session.scalars(select(Move)).all() == []


@pytest.mark.parametrize(("args", "pointer"), [({"rf": 0}, "/rf"), ({"rf": "two"}, "/rf"), ({"sla_ms": -1}, "/sla_ms")])
def test_wrong_rules_fail_the_job_with_their_field(fleet, args, pointer):
    job = run_plan(**args)
    assert (job.state, job.error["type"]) == (JobState.FAILED, "invalid")
    assert job.error["errors"][0]["pointer"] == pointer


def test_arguments_that_cannot_be_used_fail_the_job_and_say_so(fleet):
    for args, pointer in (({"rf": 0}, "/rf"), ({"rf": "two"}, "/rf"), ({"sla_ms": -1}, "/sla_ms")):
        job = run_plan(**args)
        assert (job.state, job.error["type"]) == (JobState.FAILED, "invalid")
        assert job.error["errors"][0]["pointer"] == pointer
    for args, kind in (
        ({"as_of": "2026-05-01T00:00:00"}, "bad-request"),
        ({"as_of": "yesterday"}, "bad-request"),
        ({"horizon_days": 1e9}, "bad-request"),
        ({"keys": ["nobody"]}, "not-found"),
    ):
        assert run_plan(**args).error["type"] == kind


def test_the_budget_of_a_day_limits_the_plan(fleet):
    with session_scope() as session:
        policies.put(session, "budget", {"moves_per_day": 2}, actor="t")
    job = run_plan()
    assert job.result["moves"] == 2
    with session_scope() as session:
        plan = plans.get(session, job.result["plan_id"])
        assert plan.objects == 12
        assert sum(plan.solver["verdicts"].values()) == 12
        assert sum(c.move.monthly_delta for c in plans.changes(session, plan.id)) == pytest.approx(
            plan.cost_after - plan.cost_before, abs=Decimal("1e-9")
        )


def test_objects_in_motion_are_left_out(fleet):
    with session_scope() as session:
        found = session.scalar(select(Object).where(Object.key == "cold/0"))
        job = jobs.submit(session, TaskName.MIGRATE)
        session.add(Migration(job_id=job.id, object_id=found.id, object_version=1, kind="class", bytes_total=1))
    assert run_plan().result["objects"] == 11


def test_a_plan_counts_what_it_leaves_out_and_says_why(fleet):
    states = {"cold/0": ("draining", None), "cold/1": ("draining", None), "hot/0": ("copying", None)}
    states |= {"hot/1": ("queued", NOW + timedelta(days=36_500)), "hot/2": ("done", None)}
    with session_scope() as session:
        job = jobs.submit(session, TaskName.MIGRATE)
        for key, (state, not_before) in states.items():
            found = session.scalars(select(Object).where(Object.key == key)).one()
            what = {"object_version": 1, "kind": "move", "bytes_total": 1, "state": state, "not_before": not_before}
            session.add(Migration(job_id=job.id, object_id=found.id, **what))

    def left_out(**args):
        with session_scope() as session:
            plan = plans.get(session, run_plan(**args).result["plan_id"])
            return plan.objects, plan.solver["unplanned"]["moving"]

    moving = {"a move of it is under way": 1, "a move for a peak waits for its time": 1}
    assert left_out(prefix="hot/") == (4, moving)
    assert left_out() == (8, {**moving, "what its last move has replaced is still there for its grace": 2})
    with session_scope() as session:
        why = {row.key: placement.why_moving(session, row.id) for row in session.scalars(select(Object))}
    assert {key for key, reason in why.items() if reason} == {"cold/0", "cold/1", "hot/0", "hot/1"}
    assert why["hot/0"] == "a move of it is under way"


def test_approve_and_cancel_compare_the_version(fleet):
    number = run_plan().result["plan_id"]
    with session_scope() as session:
        with pytest.raises(PreconditionFailed):
            plans.approve(session, number, actor="ann", version=7)
        plan = plans.approve(session, number, actor="ann", version=1)
        assert (plan.state, plan.version, plan.approved_by) == (PlanState.APPROVED, 2, "ann")
        plans.cancel(session, number, actor="ann", version=2)
        with pytest.raises(Conflict):
            plans.approve(session, number, actor="ann")
        with pytest.raises(NotFound):
            plans.get(session, 999)


def test_a_stale_plan_names_what_drifted(fleet):
    number = run_plan().result["plan_id"]
    with session_scope() as session:
        plan = plans.get(session, number)
        plans.check_fresh(session, plan)
        policies.set_mode(session, Mode.AUTO, actor="t")
        plans.check_fresh(session, plan)
        session.execute(update(Object).where(Object.key == "cold/1").values(version=2))
        policies.put(session, "residency", {"default": {"sites": ["aws-eu"]}}, actor="t")
        document = price_documents.to_json(shipped("gcp"))
        prices.put(session, "gcp-eu", {**document, "name": "ours"}, actor="t")
        with pytest.raises(PlanStale) as caught:
            plans.check_fresh(session, plan)
    assert {error.pointer for error in caught.value.errors} == {
        "/objects",
        "/inputs/policies/residency",
        "/inputs/prices/gcp-eu",
    }


def test_a_block_takes_the_same_number_of_queries_whatever_its_size(session):
    ids = add_sites(session)
    for number in range(30):
        add_object(session, ids["aws-eu"], f"a/{number}", reads_a_day=number % 3)
    world = placement.world(session, NOW)
    first = placement.block(session, world, Selection(), 0, 20)
    rest = placement.block(session, world, Selection(), first.last_id, 20)
    assert (len(first.items), len(rest.items), rest.last_id) == (20, 10, None)
    assert len({id(item.rules) for item in first.items}) == 1
    busy = next(item for item in first.items if item.key == "a/2")
    assert busy.demand.reads == pytest.approx(2.0, rel=0.35)
    assert busy.demand.regions[0].region == "eu-west-1"


def test_moves_are_saved_as_they_were_decided_whatever_their_words_hold(clean_database):
    told = "a\ttab, a\nline, a \\ and \\N, « ü »"
    with session_scope() as session:
        ids = add_sites(session)
        add_object(session, ids["aws-eu"], "a")
        world = placement.world(session, NOW)
        block = placement.block(session, world, Selection(), 0, 10)
        (decision,) = decide(price(Problem(world.options, block.items)))
        at = Times(ready_by=NOW)
        decision = replace(decision, reason=told, moves=(replace(decision.moves[0], times=at), decision.moves[0]))
        plan = Plan(
            state=PlanState.READY, version=1, as_of=NOW, cost_before=0, cost_after=0, one_off=0, objects=1, moves=2
        )
        number = plans.save(session, plan, [decision], world).id
    with session_scope() as session:
        first, second = (change.move for change in plans.changes(session, number))
    assert [first.reason, second.reason] == [told, told]
    assert [first.ready_by, second.ready_by, first.not_before] == [NOW, None, None]
    assert float(first.monthly_delta) == pytest.approx(decision.moves[0].monthly_delta)
    assert first.payback_days == decision.payback_days
    assert first.explanation["cost_before"] == vars(decision.today_cost)


def test_of_many_objects_an_even_sample_is_put_to_the_program(clean_database):
    with session_scope() as session:
        ids = add_sites(session)
        for number in range(120):
            add_object(session, ids["aws-eu"], f"a/{number}", reads_a_day=number % 3)
    with session_scope() as session:
        plan = plans.get(session, run_plan().result["plan_id"])
        assert plan.objects == 120
        assert plan.solver["checked"] == 60
        assert plan.solver["closed_form_difference"] < 1e-9


def test_a_block_is_built_without_a_transaction(clean_database):
    with session_scope() as session:
        ids = add_sites(session)
        for number in range(3):
            add_object(session, ids["aws-eu"], f"a/{number}", reads_a_day=number)
    with session_scope() as session:
        world = placement.world(session, NOW)
        rows = placement.rows(session, world, Selection(), 0, 10)
        whole = placement.block(session, world, Selection(), 0, 10)
    assert len(whole.items) == 3
    assert rows.block() == whole


def test_what_cannot_be_priced_is_named_and_not_planned(session):
    ids = add_sites(session)
    add_object(session, ids["aws-eu"], "odd", storage_class="FROZEN")
    session.add(Object(key="bare", state=ObjectState.PRESENT, size=1))
    session.flush()
    found = placement.block(session, placement.world(session, NOW), Selection(), 0, 10)
    assert found.items == ()
    assert {key for key, _ in found.unplanned} == {"odd", "bare"}


def test_a_class_that_the_site_does_not_keep_is_not_offered(session):
    add_sites(session)
    session.execute(update(Site).where(Site.name == "aws-eu").values(capabilities={"classes": []}))
    world = placement.world(session, NOW)
    assert next(site.classes for site in world.options if site.name == "aws-eu") == ("STANDARD",)


def test_accesses_after_now_do_not_count(session):
    ids = add_sites(session)
    add_object(session, ids["aws-eu"], "k", reads_a_day=50, days=30)
    early = placement.world(session, NOW - timedelta(days=40))
    (item,) = placement.block(session, early, Selection(), 0, 10).items
    assert item.demand.reads < 1


def test_policies_are_versioned(session):
    assert policies.load(session).rules("x").rf == 1
    first = policies.put(session, "sla", {"default": {"rf": 2}}, actor="ann", expected=0)
    assert (first.version, policies.load(session).rules("x").rf) == (1, 2)
    with pytest.raises(PreconditionFailed):
        policies.put(session, "sla", {}, actor="bob", expected=0)
    policies.put(session, "sla", ROUTED, actor="bob", expected=1)
    assert [row.version for row in policies.versions(session, "sla")] == [2, 1]
    with pytest.raises(Invalid):
        policies.put(session, "sla", {"default": {"rf": 99}}, actor="bob")
    with pytest.raises(Invalid, match="say why"):
        policies.set_mode(session, Mode.PAUSED, actor="bob")
    policies.set_mode(session, Mode.PAUSED, actor="bob", reason="audit")
    assert policies.mode(session) is Mode.PAUSED
    assert session.scalar(select(Policy.created_by).where(Policy.name == "mode")) == "bob"


def test_a_site_may_have_prices_of_its_own(session):
    add_sites(session)
    document = price_documents.to_json(shipped("aws"))
    document["classes"][0]["storage"][0]["usd"] = "9"
    prices.put(session, "aws-eu", document, actor="t")
    assert prices.get(session, "aws-eu").storage_class("STANDARD").first_usd == 9
    assert prices.get(session, "gcp-eu") == shipped("gcp")
    with pytest.raises(Invalid):
        prices.put(session, "aws-eu", {}, actor="t")


def test_sites_without_prices_are_named(session):
    add_sites(session)
    sites.change(session, "gcp-eu", provider="attic")
    assert placement.world(session, NOW).unpriced == ("gcp-eu",)


def test_an_idle_fleet_decides_the_same_when_asked_again(session):
    ids = add_sites(session)
    for number in range(3):
        add_object(session, ids["aws-eu"], f"a/{number}")
    world = placement.world(session, NOW)
    items = placement.block(session, world, Selection(), 0, 10).items
    once, again = (decide(price(Problem(world.options, items))) for _ in range(2))
    assert once == again
    assert {decision.verdict for decision in once} == {Verdict.MOVE}


def test_listing_goes_backwards(session):
    for _ in range(3):
        session.add(Plan(state=PlanState.READY, as_of=NOW, cost_before=1, cost_after=1, one_off=0, objects=0, moves=0))
    session.flush()
    newest = plans.listing(session, limit=2)
    assert [plan.id for plan in plans.listing(session, before_id=newest[-1].id)] == [newest[-1].id - 1]
    assert plans.listing(session, state=PlanState.APPLIED) == []


def test_a_key_is_explained_from_what_is_stored(session):
    ids = add_sites(session)
    add_object(session, ids["aws-eu"], "a/1")
    add_object(session, ids["aws-eu"], "b/2", reads_a_day=50)
    world = placement.world(session, NOW)
    found = placement.block(session, world, Selection(keys=("a/1",), moving=True), 0, 1)
    document = explain(Problem(world.options, found.items))
    assert (document["key"], document["chosen"], document["verdict"]) == ("a/1", ["aws-eu"], "move")
