"""A plan is rolled back: sources serve again, what was deleted comes back, and no worker deletes what serves."""

import random
import threading
from functools import partial

import pytest
from sqlalchemy import update

from app.db import migration_plans, plans, rollback
from app.db import sites as registered
from app.db.session import session_scope
from app.db.tables import Job, Move
from app.domain.states import MoveKind
from app.errors import Conflict
from tests import jobs
from tests.faults.proxy import Proxy
from tests.faults.rules import Fault, on
from tests.world import World
from workers.rollback import rollback as task

AWS, AZURE, GCP = "aws-eu", "azure-we", "gcp-eu"


def planned(world, *moves):
    """Applies a plan of moves as World.plan does, each knowing the class that it leaves; its id and its job's."""
    job_id = world.plan(*moves)
    with session_scope() as session:
        plan_id = session.get_one(Job, job_id).args["plan_id"]
        session.execute(update(Move).where(Move.plan_id == plan_id).values(from_class="STANDARD"))
    return plan_id, job_id


def moved(world, name="a", kind=MoveKind.MOVE, to=GCP, to_class="STANDARD"):
    world.put(AWS, name, b"bytes of " + name.encode())
    world.scan(AWS)
    return planned(world, (name, kind, AWS, to, to_class))


def submit(plan_id, **args):
    with session_scope() as session:
        return rollback.submit(session, plan_id, actor="test", request_id=None, args=args).id


def roll_back(plan_id, **args):
    return jobs.finish(task, submit(plan_id, **args)).result


def state_of(plan_id):
    with session_scope() as session:
        return str(plans.get(session, plan_id).state)


def apply(world, plan_id):
    with session_scope() as session:
        job_id = migration_plans.apply(session, plan_id, actor="test").id
    world.finish(job_id)
    return world.rows(job_id)


def test_before_the_delete_the_source_serves_again_at_once(world):
    plan_id, job_id = moved(world)
    world.work(job_id)
    assert world.states("a") == {AWS: "draining", GCP: "serving"}
    version = world.object("a").version
    result = roll_back(plan_id)
    assert result["rolled_back"] == 1
    assert (result["moved_back_by_plan"], result["kept"]) == (None, {})
    assert world.states("a") == {AWS: "serving", GCP: "stale"}
    assert world.object("a").version == version + 1
    assert world.replicas("a")[AWS].object_version == version + 1
    assert (world.row(job_id).state, world.row(job_id).reason) == ("rolled_back", "plan_rolled_back")
    assert state_of(plan_id) == "rolled_back"
    world.finish(job_id)
    assert world.read(AWS, "a") == b"bytes of a", "nothing deletes it any more"
    assert [row.data["key"] for row in world.audit("migration.roll_back")] == [world.key("a")]


def test_what_was_rolled_back_can_be_moved_again(world):
    plan_id, job_id = moved(world)
    world.work(job_id)
    roll_back(plan_id)
    again = world.move("a", AWS, GCP)
    world.finish(again)
    assert world.row(again).state == "done"
    assert world.states("a") == {AWS: "deleted", GCP: "serving"}
    assert world.read(GCP, "a") == b"bytes of a"


def test_after_the_delete_a_new_plan_moves_it_back(world):
    plan_id, job_id = moved(world)
    world.finish(job_id)
    result = roll_back(plan_id)
    assert (result["rolled_back"], result["moves_back"]) == (0, 1)
    (row,) = apply(world, result["moved_back_by_plan"])
    assert row.state == "done"
    assert world.states("a") == {AWS: "serving", GCP: "deleted"}
    assert world.read(AWS, "a") == b"bytes of a"
    with session_scope() as session:
        back = plans.get(session, result["moved_back_by_plan"])
        assert back.scope == {"rollback_of": plan_id}
        assert back.one_off > 0


def test_the_plan_that_moves_back_is_carried_out_when_asked(world):
    plan_id, job_id = moved(world)
    world.finish(job_id)
    result = roll_back(plan_id, apply=True)
    world.finish(result["apply_job_id"])
    assert world.states("a") == {AWS: "serving", GCP: "deleted"}


def test_open_moves_are_stopped_without_any_worker(world):
    for name in ("a", "b"):
        world.put(AWS, name)
    world.scan(AWS)
    plan_id, job_id = planned(
        world, ("a", MoveKind.COPY, AWS, AZURE, "STANDARD"), ("a", MoveKind.MOVE, AWS, GCP, "STANDARD"),
        ("b", MoveKind.MOVE, AWS, GCP, "STANDARD"),
    )  # fmt: skip
    result = roll_back(plan_id)
    assert (result["cancelled"], result["rolled_back"]) == (3, 0)
    assert {row.state for row in world.rows(job_id)} == {"cancelled"}
    world.finish(job_id)
    assert world.job(job_id).state == "cancelled"
    assert world.states("a") == world.states("b") == {AWS: "serving"}


@pytest.mark.parametrize("point", ["pinned", "begun", "copied", "proven", "verified"])
def test_a_move_that_a_worker_has_in_hand_is_waited_for(world, point):
    plan_id, job_id = moved(world)
    told = []

    def during(at):
        if at == point and not told:
            told.append(jobs.turn(task, submit(plan_id)))

    world.work(job_id, at=during)
    (waiting,) = told
    assert (waiting.state, waiting.reason) == ("waiting", "waiting for moves to stop: 1 left")
    for _ in range(3):
        world.work(job_id)
        ended = jobs.turn(task, waiting.id)
    assert ended.state == "succeeded"
    assert world.row(job_id).state in ("cancelled", "rolled_back")
    assert [site for site, state in world.states("a").items() if state == "serving"] == [AWS]
    assert world.read(AWS, "a") == b"bytes of a"


def test_a_delete_that_is_under_way_ends_before_anything_is_undone(world):
    plan_id, job_id = moved(world)
    world.work(job_id)
    world.due(job_id)
    told = []

    def during(at):
        if at == "delete_intended":
            told.append(jobs.turn(task, submit(plan_id)))
            assert world.states("a") == {AWS: "draining", GCP: "serving"}

    world.work(job_id, at=during)
    (waiting,) = told
    assert waiting.state == "waiting"
    assert "delete_under_way" in waiting.reason
    result = jobs.finish(task, waiting.id).result
    assert (result["rolled_back"], result["moves_back"]) == (0, 1)
    assert world.states("a") == {AWS: "deleted", GCP: "serving"}


def test_no_worker_deletes_what_a_rollback_put_in_service(world, rounds):
    """A worker whose grace is over and a rollback start at the same time; whichever comes first, reads succeed."""
    ends = set()
    for number in rounds(100, least=6):
        plan_id, job_id = moved(world, f"race-{number}")
        world.work(job_id)
        world.due(job_id)
        job = submit(plan_id)
        together, chance = threading.Barrier(2), random.Random(number)

        def after(wait_s, act, together=together):
            together.wait()
            threading.Event().wait(wait_s)
            act()

        worker = threading.Thread(target=after, args=(chance.random() / 50, partial(world.work, job_id)))
        worker.start()
        after(chance.random() / 50, partial(jobs.turn, task, job))
        worker.join()
        world.finish(job_id)
        for _ in range(4):
            if jobs.turn(task, job).state == "succeeded":
                break
        (serving,) = [site for site, state in world.states(f"race-{number}").items() if state == "serving"]
        assert world.read(serving, f"race-{number}") is not None
        ends.add(serving)
    print(f"n {number + 1}, ended at {sorted(ends)}")


@pytest.mark.parametrize(
    ("rules", "kept", "state"),
    [
        ({}, {}, "stale"),
        ({"rf": 2}, {"too_few_replicas": 1}, "serving"),
        ({"readers": "direct"}, {"readers_direct": 1}, "serving"),
        ({"pinned": True}, {"pinned": 1}, "serving"),
    ],
)
def test_an_added_copy_is_given_up_where_the_rules_let_it_go(make_world, rules, kept, state):
    world = make_world()
    plan_id, job_id = moved(world, kind=MoveKind.COPY)
    world.finish(job_id)
    world.policy("sla", {"default": {"readers": "routed", **rules}})
    assert roll_back(plan_id)["kept"] == kept
    assert world.states("a") == {AWS: "serving", GCP: state}


def test_classes_and_removals_are_undone_by_a_new_plan(world):
    world.put(AWS, "a", b"x")
    world.put(AWS, "b", b"x")
    world.scan(AWS)
    world.finish(world.plan(("b", MoveKind.COPY, AWS, GCP, "STANDARD")))
    plan_id, job_id = planned(
        world, ("a", MoveKind.CLASS, AWS, AWS, "GLACIER_IR"), ("b", MoveKind.REMOVE, AWS, None, None)
    )
    world.finish(job_id)
    result = roll_back(plan_id)
    assert result["moves_back"] == 2
    assert {row.state for row in apply(world, result["moved_back_by_plan"])} == {"done"}
    assert world.replicas("a")[AWS].storage_class == "STANDARD"
    assert world.states("b") == {AWS: "serving", GCP: "serving"}


def test_a_removal_in_its_grace_is_undone_at_once(world):
    world.put(AWS, "a", b"x")
    world.scan(AWS)
    world.finish(world.plan(("a", MoveKind.COPY, AWS, GCP, "STANDARD")))
    plan_id, job_id = planned(world, ("a", MoveKind.REMOVE, AWS, None, None))
    world.work(job_id)
    assert world.states("a") == {AWS: "draining", GCP: "serving"}
    assert roll_back(plan_id)["rolled_back"] == 1
    assert world.states("a") == {AWS: "serving", GCP: "serving"}


def test_what_its_owner_wrote_at_the_source_meanwhile_is_what_serves(world):
    plan_id, job_id = moved(world)
    world.work(job_id)
    world.put(AWS, "a", b"newest")
    roll_back(plan_id)
    assert world.states("a") == {AWS: "serving", GCP: "stale"}
    assert world.row(job_id).reason == "source_changed_after_switch"
    assert world.read(AWS, "a") == b"newest"


def test_a_source_that_is_missing_is_not_put_in_service(world):
    plan_id, job_id = moved(world)
    world.work(job_id)
    world.delete(AWS, "a")
    assert roll_back(plan_id)["kept"] == {"source_missing": 1}
    assert world.states("a") == {AWS: "draining", GCP: "serving"}


def test_a_source_that_may_not_be_looked_at_stays_as_it_is_and_the_others_come_back(sites, make_world):
    with Proxy(sites[AWS]) as proxy:
        world = make_world({**sites, AWS: proxy.site})
        for name in ("a", "b"):
            world.put(AWS, name)
        world.scan(AWS)
        plan_id, job_id = planned(world, *((name, MoveKind.MOVE, AWS, GCP, "STANDARD") for name in ("a", "b")))
        world.work(job_id)
        proxy.harm(on("HeadObject", Fault.FORBIDDEN, name="a"))
        assert roll_back(plan_id)["kept"] == {"access_denied": 1}
    assert world.states("a") == {AWS: "draining", GCP: "serving"}
    assert world.states("b") == {AWS: "serving", GCP: "stale"}


def test_what_moved_on_since_stays(world):
    plan_id, job_id = moved(world)
    world.finish(job_id)
    world.finish(world.move("a", GCP, AZURE))
    assert roll_back(plan_id)["kept"] == {"changed_since": 1}
    assert world.states("a")[AZURE] == "serving"


def test_a_site_that_was_forgotten_gets_nothing_back(world):
    plan_id, job_id = moved(world)
    world.finish(job_id)
    with session_scope() as session:
        registered.remove(session, AWS)
    assert roll_back(plan_id)["kept"] == {"site_forgotten": 1}


def test_a_dry_run_changes_nothing(world):
    plan_id, job_id = moved(world)
    world.work(job_id)
    result = roll_back(plan_id, dry_run=True)
    assert (result["rolled_back"], result["dry_run"]) == (1, True)
    assert world.states("a") == {AWS: "draining", GCP: "serving"}
    assert state_of(plan_id) == "applied"


def test_only_an_applied_plan_is_rolled_back_and_only_once(world):
    plan_id, _ = moved(world)
    submit(plan_id)
    with pytest.raises(Conflict, match="already"):
        submit(plan_id)
    other, job_id = moved(world, "b")
    world.work(job_id)
    roll_back(other)
    with pytest.raises(Conflict, match="rolled_back"):
        submit(other)


def test_the_api_starts_it(make_api, sites):
    api = make_api(growing_age_s=0)
    world = World(sites)
    plan_id, job_id = moved(world)
    world.work(job_id)
    started = api.post(f"/v1/plans/{plan_id}:rollback", {})
    assert started.status_code == 202
    jobs.finish(task, started.json["id"])
    done = api.get(started.headers["Location"]).json
    assert (done["kind"], done["result"]["rolled_back"]) == ("rollback", 1)
    assert api.get(f"/v1/plans/{plan_id}").json["state"] == "rolled_back"
    assert api.post(f"/v1/plans/{plan_id}:rollback", {}).status_code == 409
    assert api.post("/v1/plans/999:rollback", {}).status_code == 404
    assert api.post(f"/v1/plans/{plan_id}:rollback", {"force": 1}).json["errors"][0]["pointer"] == "/force"
