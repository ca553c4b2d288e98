"""Chaos: faults begin, strike and end; absent unless enabled, always with an end, never in production."""

import time

import pytest

from app.db import audit, faults, sites
from app.db.session import session_scope
from app.domain.faults import MAX_TTL_S, FaultKind
from app.domain.roles import Role
from app.errors import SettingsError, SiteUnavailable, Throttled
from app.s3 import objects
from app.s3.faults import FAULTS
from app.settings import get_settings
from tests.world import World
from workers.faults import obey_faults

SITE = "aws-eu"
PATH = f"/v1/chaos/sites/{SITE}"
ROUTES = [
    ("GET", "/v1/chaos"), ("PUT", PATH), ("DELETE", PATH), ("DELETE", "/v1/chaos"), ("GET", "/chaos/status"),
    ("POST", f"/chaos/fail/{SITE}"), ("POST", f"/chaos/recover/{SITE}"), ("POST", "/chaos/clear"),
]  # fmt: skip


@pytest.fixture
def api(make_api, sites):
    asked = make_api(chaos=True)
    World({SITE: sites[SITE]})
    return asked


@pytest.fixture
def world(sites, clean_database, configure):
    configure(chaos=True)
    yield World({SITE: sites[SITE]})
    FAULTS.load_from(None)


def kinds(answer):
    return {fault["kind"]: fault for fault in answer.json["items"]}


def test_faults_begin_with_an_end_and_are_ended(api):
    begun = kinds(api.put(PATH, {"fail": True, "latency": True, "throttle": True, "ms": 20, "status": 429, "ttl": 60}))
    assert set(begun) == {"fail", "latency", "throttle"}
    assert (begun["latency"]["ms"], begun["throttle"]["status"], begun["fail"]["p"]) == (20, 429, 1)
    assert all(55 < fault["ttl"] <= 60 for fault in begun.values())
    left = kinds(api.put(PATH, {"fail": False, "corrupt": True, "p": 0.5}))
    assert set(left) == {"latency", "throttle", "corrupt"}, "what is left out stays"
    assert left["corrupt"]["p"] == 0.5
    assert api("DELETE", PATH).status_code == 204
    assert api.get("/v1/chaos").json["items"] == []
    with session_scope() as session:
        written = [row.action for row in audit.listing(session)]
    assert written[:3] == ["chaos.recover", "chaos.put", "chaos.put"]


def test_the_sources_routes_show_their_fields(api):
    assert api.post(f"/chaos/fail/{SITE}").json["failed_endpoints"] == [SITE]
    api.put(PATH, {"latency": True, "ms": 2000})
    told = api.get("/chaos/status").json
    assert (told["failed_endpoints"], told["latency_ms"], len(told["faults"])) == ([SITE], 2000, 2)
    assert api.post(f"/chaos/recover/{SITE}").json == {"failed_endpoints": [], "latency_ms": 0, "faults": []}
    api.post(f"/chaos/fail/{SITE}")
    assert api.post("/chaos/clear").json["faults"] == []
    assert api.post("/chaos/fail/nowhere").status_code == 404


@pytest.mark.parametrize(
    ("body", "pointers"),
    [
        ({}, [""]),
        ({"fail": True, "kill": True}, ["/kill"]),
        ({"fail": True, "ttl": MAX_TTL_S + 1}, ["/ttl"]),
        ({"fail": True, "ttl": 0}, ["/ttl"]),
        ({"fail": True, "p": 1.5}, ["/p"]),
        ({"fail": True, "ms": 5, "status": 503}, ["/ms", "/status"]),
        ({"throttle": True, "status": 500}, ["/status"]),
        ({"latency": True, "ms": 10**9}, ["/ms"]),
    ],
)
def test_bad_faults_are_named(api, body, pointers):
    refused = api.put(PATH, body)
    assert (refused.status_code, [error["pointer"] for error in refused.json["errors"]]) == (422, pointers)
    assert api.get("/v1/chaos").json["items"] == []


def test_only_who_may_change_begins_faults(api):
    for method, path in ROUTES:
        changes = method != "GET"
        assert api(method, path, role=None).status_code == 401, path
        asked = api(method, path, role=Role.VIEWER, json={"fail": True} if method == "PUT" else None)
        assert (asked.status_code == 403) == changes, path
    assert api("DELETE", "/v1/chaos", role=Role.OPERATOR).status_code == 204
    assert api("DELETE", "/v1/chaos/sites/nowhere").status_code == 404


def test_there_is_no_chaos_unless_it_is_enabled(make_api):
    api = make_api()
    assert {api(method, path).status_code for method, path in ROUTES} == {404}
    assert not [path for path in api.get("/openapi.json").json["paths"] if "chaos" in path]


def test_production_refuses_chaos(configure):
    with pytest.raises(SettingsError, match="exclude each other"):
        configure(chaos=True, environment="production", secret_key="x" * 32)


def begin(kind, **values):
    with session_scope() as session:
        faults.inject(session, sites.get(session, SITE).id, kind, values.pop("ttl", 60), **values)
    obey_faults()


def test_each_fault_strikes_and_ends(world):
    key = world.put(SITE, "a", b"0123456789")
    bucket = world.buckets[SITE]

    def read():
        _, body = objects.fetch(bucket, key, 100)
        return bytes(body)

    begin(FaultKind.FAIL)
    with pytest.raises(SiteUnavailable):
        objects.head(bucket, key)
    with session_scope() as session:
        faults.clear(session)

    for status in (429, 503):
        begin(FaultKind.THROTTLE, status=status)
        with pytest.raises(Throttled) as refused:
            objects.head(bucket, key)
        assert refused.value.retry_after_s == 1
    with session_scope() as session:
        faults.clear(session)

    begin(FaultKind.LATENCY, latency_ms=150)
    started = time.monotonic()
    objects.head(bucket, key)
    assert time.monotonic() - started >= 0.15
    with session_scope() as session:
        faults.clear(session)

    begin(FaultKind.CORRUPT)
    wrong = read()
    assert sum(a != b for a, b in zip(wrong, b"0123456789", strict=True)) == 1
    begin(FaultKind.CORRUPT, ttl=0.2)
    until = time.monotonic() + 10
    while read() != b"0123456789":
        assert time.monotonic() < until, "a fault has an end"


def test_faults_are_not_obeyed_where_chaos_is_off(world, configure):
    begin(FaultKind.FAIL)
    configure(chaos=False)
    obey_faults()
    assert objects.find(world.buckets[SITE], world.key("nothing")) is None
    assert not get_settings().chaos
