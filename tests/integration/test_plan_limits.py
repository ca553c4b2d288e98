"""Plans under sites' capacities and request rates."""

from collections import Counter

import pytest
from sqlalchemy import select, update

from app.db import plans, policies
from app.db.session import session_scope
from app.db.tables import Object, Replica, Site
from app.domain.states import JobState, PlanState, ReplicaState
from tests.integration.test_plans import NOW, ROUTED, add_object, add_sites, run_plan

GIB = 2**30


@pytest.fixture
def fleet(clean_database):
    with session_scope() as session:
        ids = add_sites(session)
        for number in range(6):
            add_object(session, ids["aws-eu"], f"k/{number}")
        policies.put(session, "sla", ROUTED, actor="t")
    return ids


def limit(name, **values):
    with session_scope() as session:
        session.execute(update(Site).where(Site.name == name).values(values))


def planned(**args):
    """The plan, and the bytes that its moves bring to each site."""
    job = run_plan(**args)
    assert job.state == JobState.SUCCEEDED, job.error
    with session_scope() as session:
        plan = plans.get(session, job.result["plan_id"])
        assert plan.state == PlanState.READY
        arriving = Counter()
        for change in plans.changes(session, plan.id):
            if change.move.kind in ("copy", "move"):
                arriving[change.to_site] += change.move.bytes
        return plan, arriving


def test_no_site_gets_more_than_it_may_hold(fleet):
    _, free = planned(rf=2)
    (favourite,) = free
    assert free[favourite] == 6 * GIB
    limit(favourite, capacity_bytes=2 * GIB + 1)
    plan, arriving = planned(rf=2)
    assert arriving[favourite] == 2 * GIB
    assert sum(arriving.values()) == 6 * GIB, "the others go elsewhere"
    (row,) = plan.solver["coupling"]["rows"]
    assert (row["name"], row["used"], row["binds"]) == (f"capacity_bytes of {favourite}", 2 * GIB, True)


def test_what_stands_there_counts_whoever_owns_it_and_until_it_is_deleted(fleet):
    _, free = planned(rf=2, prefix="k/")
    (favourite,) = free
    limit(favourite, capacity_bytes=4 * GIB)
    with session_scope() as session:
        add_object(session, fleet[favourite], "other/large", size=GIB)
        left = add_object(session, fleet["aws-eu"], "other/moved", size=GIB)
        site = {"site_id": fleet[favourite], "storage_class": "STANDARD", "state": ReplicaState.DRAINING}
        session.add(Replica(object_id=left.id, object_version=1, size=GIB, class_since=NOW, **site))
    _, arriving = planned(rf=2, prefix="k/")
    assert arriving[favourite] == 2 * GIB


def test_a_site_over_its_capacity_gets_nothing_and_loses_nothing_for_it(fleet):
    _, free = planned(rf=2)
    (favourite,) = free
    limit(favourite, capacity_bytes=1)
    limit("aws-eu", capacity_bytes=1)
    plan, arriving = planned(rf=2)
    assert arriving[favourite] == arriving["aws-eu"] == 0
    assert sum(arriving.values()) == 6 * GIB
    assert "conflict" not in plan.solver


def test_capacities_that_leave_too_little_are_named_with_the_cheapest_relaxation(fleet):
    for name in ("azure-we", "gcp-eu"):
        limit(name, capacity_bytes=2 * GIB)
    plan, arriving = planned(rf=2)
    assert all(size <= 2 * GIB for size in arriving.values())
    assert sum(arriving.values()) >= 2 * GIB, "what fits is planned"
    assert "capacity_bytes of " in plan.solver["conflict"]
    assert "the cheapest relaxation is capacity_bytes of " in plan.solver["conflict"]


@pytest.mark.parametrize("budget", [{"moves_per_day": 5}, {"bytes_per_day": 5 * GIB}, {"usd_per_day": 0.25}])
def test_what_rules_demand_keeps_to_the_days_budget_where_it_does_not_suffice(fleet, budget):
    """Each object takes a copy, and a change of class of the one that is read no more."""
    with session_scope() as session:
        policies.put(session, "budget", budget, actor="t")
    plan, arriving = planned(rf=2)
    assert "conflict" in plan.solver
    copies = sum(arriving.values()) // GIB
    with session_scope() as session:
        bytes_ = sum(change.move.bytes for change in plans.changes(session, plan.id))
    used = {"moves_per_day": plan.moves, "bytes_per_day": bytes_, "usd_per_day": float(plan.one_off)}
    ((name, limit),) = budget.items()
    assert 0 < copies < 6
    assert used[name] <= limit < used[name] * (copies + 1) / copies, "as many as fit"


def test_reads_go_where_there_is_room_for_them(clean_database):
    with session_scope() as session:
        ids = add_sites(session)
        for number in range(4):
            add_object(session, ids["gcp-eu"], f"hot/{number}", reads_a_day=2000, size=2**20)
        policies.put(session, "sla", ROUTED, actor="t")
        add_object(session, ids["aws-eu"], "other", reads_a_day=86_400, size=1)
    _, free = planned(prefix="hot/")
    assert set(free) <= {"aws-eu", "azure-we"}
    assert sum(free.values()) == 4 * 2**20
    (favourite,) = free
    rate = (1.0 if favourite == "aws-eu" else 0.0) + 1.5 * 2000 / 86_400
    limit(favourite, max_request_rate=rate)
    _, arriving = planned(prefix="hot/")
    assert 0 < arriving[favourite] <= 2**20
    with session_scope() as session:
        assert session.scalars(select(Object).where(Object.key == "other")).one()
