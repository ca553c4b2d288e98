"""Who may call what: every route with no token, a bad one and one of each role; limits; errors; headers."""

from __future__ import annotations

import re
import time
from collections.abc import Callable

import pytest
from flask import Flask

from app import auth
from app.api.router import Route, routes
from app.auth import LOOPBACK, OPEN
from app.db import tokens
from app.db.session import session_scope
from app.domain.roles import Role
from tests.integration.conftest import Api

SAMPLES = {"id": "999999", "name": "nothing", "key": "no/such key"}


def url(route: Route) -> str:
    """A path of the route, to something that does not exist."""
    return re.sub(r"<(?:(\w+):)?\w+>", lambda part: SAMPLES[part[1] or "name"], route.rule)


def test_every_route_knows_its_role(api: Api):
    for route in routes(api.app):
        bodiless = api(route.method, url(route), role=None)
        bad = api(route.method, url(route), role=None, headers={"Authorization": "Bearer ft_bad"})
        if route.access in (OPEN, LOOPBACK):
            assert bodiless.status_code < 400, route
        else:
            assert (bodiless.status_code, bad.status_code) == (401, 401), route
            assert bad.headers["WWW-Authenticate"] == "Bearer"
        for role in Role:
            answer = api(route.method, url(route), role=role)
            forbidden = isinstance(route.access, Role) and not role.includes(route.access)
            assert (answer.status_code == 403) == forbidden, (route, role, answer.text)
            assert answer.status_code < 500, (route, role, answer.text)
            if answer.status_code >= 400:
                assert answer.content_type == "application/problem+json", (route, role)


def test_a_route_without_a_role_keeps_the_application_from_starting(api: Api):
    app = Flask("silent")
    app.add_url_rule("/silent", view_func=lambda: "")
    with pytest.raises(RuntimeError, match="/silent"):
        auth.check_declared(app)


def test_metrics_need_a_token_from_elsewhere(api: Api):
    assert api.get("/metrics", role=None).status_code == 200
    elsewhere = {"environ_overrides": {"REMOTE_ADDR": "192.0.2.1"}}
    assert api.get("/metrics", role=None, **elsewhere).status_code == 401
    assert api.get("/metrics", role=Role.VIEWER, **elsewhere).status_code == 200


def test_a_token_is_shown_once_and_refused_within_a_second_of_its_end(api: Api):
    made = api.post("/v1/tokens", {"name": "ci", "role": "viewer", "expires_in_days": 1})
    assert made.status_code == 201
    bearer = {"Authorization": f"Bearer {made.json['token']}"}
    assert api.get("/v1/jobs", role=None, headers=bearer).status_code == 200
    listed = api.get("/v1/tokens")
    assert made.json["token"] not in listed.text
    assert listed.json["items"][0]["prefix"] == made.json["token"][: tokens.SHOWN]
    assert api("DELETE", f"/v1/tokens/{made.json['id']}").status_code == 204
    deadline = time.monotonic() + auth.CACHE_S + 0.2
    while api.get("/v1/jobs", role=None, headers=bearer).status_code == 200:
        assert time.monotonic() < deadline
    actions = [entry["action"] for entry in api.get("/v1/audit").json["items"]]
    assert actions[:2] == ["token.revoke", "token.create"]


def test_an_expired_token_is_refused(api: Api):
    with session_scope() as session:
        row, token = tokens.create(session, "old", Role.ADMIN)
        row.expires_at = row.created_at
    assert api.get("/v1/jobs", role=None, headers={"Authorization": f"Bearer {token}"}).status_code == 401


def test_failed_logins_are_limited_and_valid_tokens_are_not_held_up(api: Api):
    def guess() -> int:
        return api.get("/v1/jobs", role=None, headers={"Authorization": "Bearer ft_guess"}).status_code

    for _ in range(auth.FAILURES + 1):
        if guess() == 429:
            break
    assert guess() == 429
    assert api.get("/v1/jobs").status_code == 200


def test_a_token_has_a_rate_limit_and_ingest_has_none(make_api: Callable[..., Api]):
    api = make_api(rate_limit="5 per minute")
    codes = [api.get("/v1/jobs", role=Role.VIEWER).status_code for _ in range(7)]
    assert codes == [200] * 5 + [429] * 2
    limited = api.get("/v1/jobs", role=Role.VIEWER)
    assert int(limited.headers["Retry-After"]) > 0
    assert limited.content_type == "application/problem+json"
    assert api.get("/v1/jobs", role=Role.ADMIN).status_code == 200
    lines = [
        api.post("/v1/accesses", role=Role.OPERATOR, data=b"", content_type="application/x-ndjson") for _ in range(7)
    ]
    assert {answer.status_code for answer in lines} == {200}


def test_errors_are_problems(api: Api):
    cases = {
        ("GET", "/nowhere"): 404,
        ("DELETE", "/v1/jobs"): 405,
        ("GET", "/v1/jobs?limit=0"): 422,
        ("GET", "/v1/jobs?limit=1&limit=2"): 422,
        ("GET", "/v1/jobs?nothing=1"): 422,
        ("GET", "/v1/objects?prefix=%00"): 400,
        ("GET", "/v1/placements?key=" + "a" * 1025): 422,
        ("OPTIONS", "/v1/jobs"): 405,
    }
    for (method, path), status in cases.items():
        answer = api(method, path)
        assert answer.status_code == status, path
        assert answer.content_type == "application/problem+json"
        if method != "HEAD":
            assert {"type", "title", "status", "detail", "instance", "errors"} <= answer.json.keys()
            assert answer.json["status"] == status
            assert answer.headers["X-Request-Id"] in answer.json["instance"]
    assert api("DELETE", "/v1/jobs").headers["Allow"]


def test_bodies_have_limits(api: Api):
    post = lambda **options: api("POST", "/v1/plans", **options)  # noqa: E731
    assert post(data=b"{", content_type="application/json").status_code == 400
    assert post(data=b"{}", content_type="text/plain").status_code == 415
    assert post(data=b"{}", content_type="application/json", headers={"Content-Encoding": "gzip"}).status_code == 415
    assert post(data=b'{"keys": ["' + b"a" * 2**20 + b'"]}', content_type="application/json").status_code == 413
    assert post(data=b"[" * 100_000, content_type="application/json").status_code == 400
    assert post(json={"prefix": "a\x00"}).status_code == 400
    assert post(data=rb'{"prefix": "\ud800"}', content_type="application/json").status_code == 400
    wrong = post(json={"rf": 0, "other": 1})
    assert wrong.status_code == 422
    assert {error["pointer"] for error in wrong.json["errors"]} == {"/rf", "/other"}


def test_cors_is_off_unless_origins_are_listed(make_api: Callable[..., Api]):
    origin = {"Origin": "https://example.com", "Access-Control-Request-Method": "GET"}
    api = make_api()
    assert "Access-Control-Allow-Origin" not in api.get("/v1/jobs", headers=origin).headers
    api = make_api(cors_origins="https://example.com")
    assert api.get("/v1/jobs", headers=origin).headers["Access-Control-Allow-Origin"] == "https://example.com"
    assert api("OPTIONS", "/v1/jobs", role=None, headers=origin).status_code == 204
    other = {"Origin": "https://example.org"}
    assert "Access-Control-Allow-Origin" not in api.get("/v1/jobs", headers=other).headers
