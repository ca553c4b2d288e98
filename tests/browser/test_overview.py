"""The pages as a person meets them: the login, the overview, the API's reference."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field

import pytest
from playwright.sync_api import Browser, Page

from app.devstack.services import Endpoints


@dataclass
class Visit:
    """A page and what the browser complained about."""

    page: Page
    complaints: list[str] = field(default_factory=list)
    requests: list[str] = field(default_factory=list)


@pytest.fixture(params=["light", "dark"])
def scheme(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture(params=[390, 820, 1440])
def visit(request: pytest.FixtureRequest, browser: Browser, running: Endpoints, scheme: str) -> Iterator[Visit]:
    """A fresh visitor with a screen of this width."""
    context = browser.new_context(
        base_url=running.url, color_scheme=scheme, viewport={"width": request.param, "height": 900}
    )
    visit = Visit(context.new_page())
    visit.page.on("console", lambda line: visit.complaints.append(line.text) if line.type == "error" else None)
    visit.page.on("pageerror", lambda error: visit.complaints.append(str(error)))
    visit.page.on("request", lambda sent: visit.requests.append(sent.url))
    yield visit
    context.close()


def log_in(page: Page, token: str) -> None:
    page.goto("/")
    page.get_by_label("Token").fill(token)
    page.get_by_role("button", name="Log in").click()


def test_a_person_logs_in_and_sees_the_overview(visit: Visit, running: Endpoints) -> None:
    log_in(visit.page, running.token)
    visit.page.get_by_role("heading", name="Overview").wait_for()
    for title in ("Cost a month", "Alerts", "Migrations", "Sites", "Recent jobs", "Components"):
        assert visit.page.get_by_role("heading", name=title).is_visible()
    assert visit.page.get_by_text("azure-we", exact=True).first.is_visible()
    width = visit.page.evaluate("document.documentElement.scrollWidth - document.documentElement.clientWidth")
    assert width <= 0, "the page scrolls sideways"
    assert visit.complaints == []
    assert all(url.startswith(running.url) for url in visit.requests)
    assert all(cookie["httpOnly"] and cookie["sameSite"] == "Strict" for cookie in visit.page.context.cookies())


def test_a_wrong_token_is_told_and_lets_nobody_in(browser: Browser, running: Endpoints) -> None:
    page = browser.new_page(base_url=running.url)
    log_in(page, "ft_wrong")
    page.get_by_role("alert").wait_for()
    page.goto("/ui/")
    assert page.get_by_label("Token").is_visible()


def test_the_reference_stands_without_another_server(browser: Browser, running: Endpoints) -> None:
    page = browser.new_page(base_url=running.url, java_script_enabled=False)
    sent: list[str] = []
    page.on("request", lambda request: sent.append(request.url))
    page.goto("/docs")
    assert page.get_by_text("/v1/accesses").first.is_visible()
    assert all(url.startswith(running.url) for url in sent)
