"""A site is drained and emptied: nothing more comes, what may go goes where rules and prices say, the rest is told."""

from concurrent.futures import ThreadPoolExecutor

import pytest

from app.db import evacuation, routing, sites
from app.db import jobs as rows
from app.db.session import session_scope
from app.db.tables import Job
from app.domain.states import JOB_FINAL, MoveKind, SiteState
from app.domain.tasks import TaskName
from app.errors import Conflict
from tests import jobs
from tests.integration.test_tidying import graces_are_over, rolled_back
from tests.integration.test_verification import copied
from tests.world import World
from workers.evacuation import evacuate
from workers.placement import plan
from workers.tidying import tidy

AWS, AZURE, GCP = "aws-eu", "azure-we", "gcp-eu"


@pytest.fixture
def api(make_api):
    return make_api(growing_age_s=0, retry_base_s=0.01)


@pytest.fixture
def world(api, sites):
    made = World(sites)
    azure_classes(made)
    return made


def azure_classes(world):
    """As the probe finds them with the classes of the price book."""
    with session_scope() as session:
        can = dict(sites.get(session, AZURE).capabilities)
    can |= {"classes": ["HOT", "COOL"], "class_names": {"HOT": "STANDARD", "COOL": "STANDARD_IA"}}
    world.set_site(AZURE, classes=["HOT", "COOL"], capabilities=can)


def put(world, site, *names, body=b"x" * 1000):
    for name in names:
        world.put(site, name, body)
    world.scan(site)


def children(job_id):
    with session_scope() as session:
        return [(child.id, child.kind) for child in rows.children(session, job_id) if child.state not in JOB_FINAL]


def empty(world, job_id, turns=12):
    """The evacuation, its moves and tidy passes worked on by turns until it ends, every grace being over at once."""
    for _ in range(turns):
        job = jobs.turn(evacuate, job_id)
        if job.state in JOB_FINAL:
            break
        graces_are_over()
        for child, kind in children(job_id):
            if kind == TaskName.MIGRATE:
                world.work(child)
            else:
                jobs.turn(tidy, child)
        with session_scope() as session:
            mine = [child.id for child in rows.children(session, job_id) if child.kind == TaskName.MIGRATE]
        for child in mine:
            world.due(child)
            world.work(child)
    assert job.state == "succeeded", (job.state, job.reason, job.error)
    return job.result


def start(api, site=AWS, **body):
    started = api.post(f"/v1/sites/{site}:evacuate", body)
    assert started.status_code == 202, started.json
    return started.json["id"]


def test_a_draining_site_receives_nothing_more_and_stays_readable(api, world):
    put(world, AWS, "a")
    put(world, GCP, "b")
    assert api.post(f"/v1/sites/{AWS}:drain").json["state"] == "draining"
    assert api.post(f"/v1/sites/{AWS}:drain").status_code == 200, "it may be said again"
    job_id = world.move("b", GCP, AWS)
    world.work(job_id)
    assert (world.row(job_id).state, world.row(job_id).reason) == ("blocked", "destination_not_ready")
    with session_scope() as session:
        assert list(routing.readable(session, world.key("a")).sites) == [AWS]
    assert api.get(f"/v1/sites/{AWS}").json["evacuation"] is None
    back = api.post(f"/v1/sites/{AWS}:undrain")
    assert (back.json["state"], back.json["job_id"] is not None) == ("probing", True)
    assert api.post(f"/v1/sites/{AWS}:undrain").status_code == 409
    actions = [row["action"] for row in api.get("/v1/audit").json["items"]]
    assert [action for action in actions if action.startswith("site.")] == ["site.undrain", "site.drain"]


def test_a_site_is_emptied_and_then_forgotten(api, world):
    put(world, AWS, "a", "b", "c")
    assert api("DELETE", f"/v1/sites/{AWS}").status_code == 409
    job_id = start(api)
    jobs.turn(evacuate, job_id)
    told = api.get(f"/v1/sites/{AWS}").json["evacuation"]
    assert (told["job_id"], told["objects_left"], told["bytes_left"], told["eta_s"]) == (job_id, 3, 3000, None)
    ((child, _),) = children(job_id)
    world.work(child)
    for name in ("a", "b", "c"):
        assert world.read(AWS, name) == b"x" * 1000, "until the grace is over"
    told = api.get(f"/v1/sites/{AWS}").json["evacuation"]
    assert told["eta_s"] > 0
    assert api("DELETE", f"/v1/sites/{AWS}").status_code == 409
    result = empty(world, job_id)
    assert (result["objects_left"], result["moved"], result["blocked"]) == (0, 3, {})
    for name in ("a", "b", "c"):
        (site,) = [site for site, state in world.states(name).items() if state == "serving"]
        assert site != AWS
        assert world.read(site, name) == b"x" * 1000
        assert world.read(AWS, name) is None
    assert api.get(f"/v1/sites/{AWS}").json["evacuation"]["objects_left"] == 0
    assert api("DELETE", f"/v1/sites/{AWS}").status_code == 204
    assert api.get(f"/v1/sites/{AWS}").status_code == 404
    assert api.get("/v1/migrations").json["items"][0]["from_site"] is None
    assert set(world.states("a")) == {site for site, state in world.states("a").items() if state == "serving"}


def test_rules_say_where_things_go(api, world):
    put(world, AWS, "eu", "two")
    world.finish(world.plan(("two", MoveKind.COPY, AWS, GCP, "STANDARD")))
    world.policy("residency", {"prefixes": [{"prefix": world.key("eu"), "sites": [AWS, AZURE]}]})
    world.policy("sla", {"default": {"readers": "routed"}, "prefixes": [{"prefix": world.key("two"), "rf": 2}]})
    told = jobs.finish(evacuate, start(api, dry_run=True)).result
    assert (told["objects"], told["blocked"]) == (2, {})
    assert told["one_off"] > 0
    assert api.get(f"/v1/sites/{AWS}").json["state"] == "ready", "nothing was changed"
    assert empty(world, start(api))["blocked"] == {}
    assert world.states("eu") == {AWS: "deleted", AZURE: "serving"}
    assert world.states("two") == {AWS: "deleted", AZURE: "serving", GCP: "serving"}


def test_what_may_not_go_stays_and_is_told(api, world):
    put(world, AWS, "direct", "pinned", "nowhere", "taken", "goes")
    put(world, GCP, "taken-too")
    world.put(GCP, "taken", b"somebody else's")
    world.put(AZURE, "taken", b"somebody else's")
    world.policy("residency", {"prefixes": [{"prefix": world.key("nowhere"), "sites": [AWS]}]})
    by_prefix = [{"prefix": world.key("direct"), "readers": "direct"}, {"prefix": world.key("pinned"), "pinned": True}]
    world.policy("sla", {"default": {"readers": "routed"}, "prefixes": by_prefix})
    result = empty(world, start(api))
    blocked = {"readers_direct": 1, "pinned": 1, "no_site_allowed": 1, "destination_exists": 1}
    assert (result["blocked"], result["objects_left"], result["moved"]) == (blocked, 4, 1)
    told = api.get(f"/v1/sites/{AWS}").json["evacuation"]
    assert (told["blocked"], told["objects_left"], told["state"]) == (blocked, 4, "succeeded")
    for name in ("direct", "pinned", "nowhere", "taken"):
        assert world.states(name)[AWS] == "serving"
        with session_scope() as session:
            assert AWS in routing.readable(session, world.key(name)).sites
    assert api("DELETE", f"/v1/sites/{AWS}").status_code == 409


def test_leftovers_at_the_site_are_tidied_as_part_of_it(api, world):
    rolled_back(world)
    put(world, GCP, "own")
    result = empty(world, start(api, GCP))
    assert (result["objects_left"], result["blocked"]) == (0, {})
    assert world.read(GCP, "a") is None
    assert api("DELETE", f"/v1/sites/{GCP}").status_code == 204
    assert world.read(AWS, "a") == b"bytes of a"


def test_what_tidying_leaves_again_is_not_waited_for(api, world):
    rolled_back(world)
    world.set_site(GCP, capabilities=world.capabilities(GCP) | {"conditional_delete": False, "versioning": False})
    result = empty(world, start(api, GCP))
    assert (result["objects_left"], result["blocked"]) == (1, {"not_removed": 1})
    assert world.states("a")[GCP] == "stale"


def test_plans_leave_a_draining_site_out(api, world):
    put(world, AWS, "a")
    api.post(f"/v1/sites/{GCP}:drain")
    world.policy("sla", {"default": {"readers": "routed", "rf": 2}})
    made = jobs.run(plan, TaskName.PLAN, {"prefix": world.folder}).result
    moves = api.get(f"/v1/plans/{made['plan_id']}/changes").json["items"]
    assert [(move["kind"], move["to_site"]) for move in moves] == [("copy", AZURE)]


def test_a_draining_site_that_is_changed_goes_on_draining(api, world):
    api.post(f"/v1/sites/{AWS}:drain")
    changed = api("PATCH", f"/v1/sites/{AWS}", json={"region": "eu-west-3"})
    assert (changed.json["state"], changed.json["job_id"] is not None) == ("draining", True)


def test_one_evacuation_at_a_time_and_none_is_undone_under_way(api, world):
    put(world, AWS, "a")
    job_id = start(api)
    assert api.post(f"/v1/sites/{AWS}:evacuate", {}).status_code == 409
    assert api.post(f"/v1/sites/{AWS}:undrain").status_code == 409
    assert api.post(f"/v1/jobs/{job_id}:cancel").json["state"] == "cancelled"
    assert api.post(f"/v1/sites/{AWS}:undrain").status_code == 200
    assert api.post("/v1/sites/nowhere:evacuate", {}).status_code == 404
    assert api.post("/v1/sites/nowhere:drain").status_code == 404


def test_of_many_that_begin_at_once_one_empties_the_site(api, world):
    api.post(f"/v1/sites/{AWS}:drain")

    def begin(_):
        try:
            with session_scope() as session:
                return evacuation.submit(session, AWS, actor="test", request_id=None, dry_run=False).id
        except Conflict:
            return None

    with ThreadPoolExecutor(4) as threads:
        assert sum(found is not None for found in threads.map(begin, range(8))) == 1


def test_cancelling_stops_its_moves(api, world):
    put(world, AWS, "a")
    job_id = start(api)
    jobs.turn(evacuate, job_id)
    ((child, _),) = children(job_id)
    api.post(f"/v1/jobs/{job_id}:cancel")
    world.work(child)
    assert world.row(child).state == "cancelled"
    assert world.states("a") == {AWS: "serving"}
    with session_scope() as session:
        assert session.get_one(Job, job_id).state == "cancelled"
        assert sites.get(session, AWS).state == SiteState.DRAINING


def test_a_site_that_a_migration_uses_is_not_forgotten(api, world):
    copied(world)
    world.plan(("a", MoveKind.COPY, AWS, AZURE, "HOT"))
    assert "uses azure-we" in api("DELETE", f"/v1/sites/{AZURE}").json["detail"]
