"""Objects get the copies back that their rules ask for; nothing that is only its owner's is overwritten."""

import pytest

from app.db import changes, migration_plans, plans
from app.db import sites as registered
from app.db.session import session_scope
from app.domain.states import MoveKind, SiteState
from app.domain.tasks import TaskName
from tests import jobs
from tests.damage import rewrite, rot
from tests.integration.test_scrub import scrubbed
from tests.integration.test_verification import copied, verified
from tests.world import World
from workers.repair import repair

AWS, AZURE, GCP = "aws-eu", "azure-we", "gcp-eu"


@pytest.fixture
def world(sites, clean_database, configure):
    configure(growing_age_s=0, retry_base_s=0.01)
    made = World(sites)
    with session_scope() as session:
        can = dict(registered.get(session, AZURE).capabilities)
    can |= {"classes": ["HOT", "COOL"], "class_names": {"HOT": "STANDARD", "COOL": "STANDARD_IA"}}
    made.set_site(AZURE, classes=["HOT", "COOL"], capabilities=can)
    return made


def repaired(world, **args):
    return jobs.run(repair, TaskName.REPAIR, {"prefix": world.folder, **args}).result


def apply(world, plan_id):
    with session_scope() as session:
        plan = plans.get(session, plan_id)
        plans.check_fresh(session, plan)
        job_id = migration_plans.apply(session, plan_id, actor="test").id
    world.finish(job_id)
    assert {row.state for row in world.rows(job_id)} == {"done"}, [(r.state, r.reason) for r in world.rows(job_id)]


def test_a_corrupt_copy_is_made_anew_over_what_stands_there(world):
    copied(world)
    rot(world, GCP, "a")
    verified(world)
    result = repaired(world)
    assert (result["broken"], result["copies"], result["kept"]) == (1, 1, {})
    assert result["one_off"] > 0
    assert world.states("a")[GCP] == "corrupt", "nothing is moved before the plan is applied"
    apply(world, result["plan_id"])
    assert world.states("a") == {AWS: "serving", GCP: "serving"}
    assert world.read(GCP, "a") == b"the bytes"
    again = repaired(world)
    assert (again["objects"], again["broken"], again["plan_id"]) == (1, 0, None)


def test_a_copy_that_a_scrub_found_rewritten_is_made_anew(world):
    copied(world)
    rewrite(world, GCP, "a", b"something else")
    scrubbed(world)
    assert world.states("a")[GCP] == "corrupt"
    apply(world, repaired(world)["plan_id"])
    assert world.read(GCP, "a") == b"the bytes"


def test_what_is_written_over_a_corrupt_copy_meanwhile_is_not_overwritten(world):
    copied(world)
    rot(world, GCP, "a")
    verified(world)
    plan_id = repaired(world)["plan_id"]
    world.put(GCP, "a", b"its owner's newest")
    with session_scope() as session:
        job_id = migration_plans.apply(session, plan_id, actor="test").id
    world.finish(job_id)
    assert (world.row(job_id).state, world.row(job_id).reason) == ("blocked", "destination_exists")
    assert world.read(GCP, "a") == b"its owner's newest"


def test_a_lost_copy_is_made_anew(world):
    copied(world)
    world.delete(GCP, "a")
    verified(world)
    assert world.states("a")[GCP] == "lost"
    apply(world, repaired(world)["plan_id"])
    assert world.states("a") == {AWS: "serving", GCP: "serving"}


def test_copies_that_the_rules_ask_for_go_where_they_are_cheapest(world):
    for name in ("a", "b"):
        world.put(AWS, name, b"x" * 1000)
    world.scan(AWS)
    world.policy("sla", {"default": {"readers": "routed", "rf": 2}})
    world.policy("residency", {"prefixes": [{"prefix": world.key("a"), "sites": [AWS, AZURE]}]})
    result = repaired(world)
    assert (result["broken"], result["copies"]) == (2, 2)
    apply(world, result["plan_id"])
    assert world.states("a") == {AWS: "serving", AZURE: "serving"}
    assert list(world.states("b").values()) == ["serving", "serving"]


def test_a_damaged_copy_counts_before_others_are_added(world):
    copied(world)
    world.policy("sla", {"default": {"readers": "routed", "rf": 3}})
    rot(world, GCP, "a")
    verified(world)
    result = repaired(world)
    assert result["copies"] == 2
    apply(world, result["plan_id"])
    assert world.states("a") == {AWS: "serving", AZURE: "serving", GCP: "serving"}


def test_what_cannot_be_mended_is_told_and_left_alone(world):
    copied(world, "original")
    rot(world, AWS, "original")
    world.put(AWS, "alone", b"x")
    world.scan(AWS)
    verified(world)
    rot(world, AWS, "alone")
    result = repaired(world)
    assert result["kept"] == {"original_corrupt": 1}
    assert (result["copies"], result["plan_id"]) == (0, None)
    assert world.states("original") == {AWS: "corrupt", GCP: "serving"}
    assert world.read(AWS, "original") != b"the bytes"


def test_where_rules_or_the_site_forbid_it_no_copy_is_made_anew(world):
    for name in ("a", "b"):
        copied(world, name)
        rot(world, GCP, name)
    verified(world)
    world.policy("residency", {"prefixes": [{"prefix": world.key("a"), "sites": [AWS]}]})
    world.set_site(GCP, state=SiteState.DRAINING)
    result = repaired(world)
    assert result["kept"] == {"residency": 1, "site_draining": 1}
    assert result["plan_id"] is None


def test_rules_that_no_site_meets_are_told(world):
    world.put(AWS, "a", b"x")
    world.scan(AWS)
    world.policy("sla", {"default": {"readers": "routed", "rf": 2}})
    world.policy("residency", {"default": {"sites": [AWS]}})
    assert repaired(world)["kept"] == {"no_site_allowed": 1}


def test_what_its_owner_deleted_is_never_made_again(world):
    copied(world)
    world.delete(AWS, "a")
    with session_scope() as session:
        changes.delete_seen(session, world.object("a").id, registered.get(session, AWS).id, "delete_event")
    world.policy("sla", {"default": {"readers": "routed", "rf": 3}})
    result = repaired(world)
    assert (result["objects"], result["plan_id"]) == (0, None)


def test_what_a_migration_has_in_hand_is_left_to_it(world):
    copied(world)
    rot(world, GCP, "a")
    verified(world)
    world.plan(("a", MoveKind.COPY, AWS, AZURE, "STANDARD"))
    assert repaired(world)["kept"] == {"object_is_moving": 1}


def test_a_dry_run_plans_nothing_and_apply_carries_it_out(world):
    copied(world)
    rot(world, GCP, "a")
    verified(world)
    told = repaired(world, dry_run=True)
    assert (told["copies"], told["plan_id"]) == (1, None)
    done = repaired(world, apply=True)
    world.finish(done["apply_job_id"])
    assert world.read(GCP, "a") == b"the bytes"


def test_the_api_starts_it(make_api, sites):
    api = make_api(growing_age_s=0)
    world = World(sites)
    copied(world)
    started = api.post("/v1/objects:repair", {"keys": [world.key("a")]})
    assert started.status_code == 202
    assert jobs.finish(repair, started.json["id"]).result["objects"] == 1
    assert api.post("/v1/objects:repair", {"rf": 3}).json["errors"][0]["pointer"] == "/rf"
    assert [row["action"] for row in api.get("/v1/audit?action=objects.repair").json["items"]] == ["objects.repair"]
