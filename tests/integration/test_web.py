"""The Overview page: behind a login, complete without data, safe against hostile names."""

from __future__ import annotations

from werkzeug.test import TestResponse

from app.db import alerts
from app.db.session import session_scope
from app.domain.roles import Role
from tests.integration.conftest import Api

SAME = {"Origin": "http://localhost"}


def login(api: Api, client, token: str, headers: dict[str, str] = SAME) -> TestResponse:
    return client.post("/ui/login", data={"token": token}, headers=headers)


def test_the_overview_stands_behind_a_login(api: Api):
    client = api.app.test_client()
    assert client.get("/").headers["Location"] == "/ui/"
    assert client.get("/ui/").headers["Location"] == "/ui/login"
    assert client.get("/ui/login").status_code == 200
    assert login(api, client, "ft_wrong").status_code == 401
    entered = login(api, client, api.tokens[Role.VIEWER])
    assert entered.status_code == 303
    cookie = entered.headers["Set-Cookie"]
    assert all(part in cookie for part in ("HttpOnly", "SameSite=Strict", "Path=/ui/"))
    page = client.get("/ui/")
    assert page.status_code == 200
    assert "mode: observe" in page.text
    assert "./foretide sites add" in page.text
    assert "$0" not in page.text
    assert "default-src 'self'" in page.headers["Content-Security-Policy"]
    client.post("/ui/logout", headers=SAME)
    assert client.get("/ui/").status_code == 303


def test_the_cookie_is_no_key_to_the_api(api: Api):
    client = api.app.test_client()
    login(api, client, api.tokens[Role.ADMIN])
    assert client.get("/v1/jobs").status_code == 401


def test_forms_of_other_sites_are_refused(api: Api):
    client = api.app.test_client()
    for headers in ({}, {"Origin": "https://example.com"}, {"Origin": "null"}):
        assert login(api, client, api.tokens[Role.ADMIN], headers).status_code == 403


def test_hostile_names_are_text(api: Api):
    with session_scope() as session:
        alerts.raise_alert(session, "test", "critical", "<script>alert(1)</script>")
    client = api.app.test_client()
    login(api, client, api.tokens[Role.VIEWER])
    page = client.get("/ui/").text
    assert "<script>" not in page
    assert "&lt;script&gt;" in page
