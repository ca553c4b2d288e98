"""The API over the real database, asked through Flask's test client with a token of each role; worlds of real sites."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import pytest
from flask import Flask
from werkzeug.test import TestResponse

from app.db import tokens
from app.db.session import session_scope
from app.devstack.seaweed import RunningSite
from app.domain.roles import Role
from app.s3.faults import FAULTS
from app.settings import Settings
from tests.world import World
from workers.flow import FLOW


@dataclass
class Api:
    """The application and a token of each role; requests are an admin's unless `role` says otherwise."""

    app: Flask
    tokens: Mapping[Role, str]

    def __call__(
        self,
        method: str,
        path: str,
        *,
        role: Role | None = Role.ADMIN,
        headers: Mapping[str, str] | None = None,
        **options: Any,
    ) -> TestResponse:
        bearer = {"Authorization": f"Bearer {self.tokens[role]}"} if role else {}
        return self.app.test_client().open(path, method=method, headers={**bearer, **(headers or {})}, **options)

    def get(self, path: str, **options: Any) -> TestResponse:
        return self("GET", path, **options)

    def post(self, path: str, json: Any = None, **options: Any) -> TestResponse:
        return self("POST", path, **({"json": json} if json is not None else {}), **options)

    def put(self, path: str, json: Any = None, **options: Any) -> TestResponse:
        return self("PUT", path, **({"json": json} if json is not None else {}), **options)


@pytest.fixture
def make_api(clean_database: str, configure: Callable[..., Settings]) -> Callable[..., Api]:
    """Builds the API with these settings."""
    from app.server import create_app

    def build(**settings: object) -> Api:
        configure(**{"rate_limit": "100000 per minute", **settings})
        with session_scope() as session:
            made = {role: tokens.create(session, role, role)[1] for role in Role}
        return Api(create_app(), made)

    return build


@pytest.fixture
def api(make_api: Callable[..., Api]) -> Api:
    """The API as it is set up by default, without a limit that a test would meet by chance."""
    return make_api()


@pytest.fixture
def make_world(
    sites: Mapping[str, RunningSite], clean_database: str, configure: Callable[..., Settings]
) -> Iterator[Callable[..., World]]:
    """Builds a world of the sites, or of those given, with quick retries, small parts and these settings and rules."""
    quick = {"growing_age_s": 0, "retry_base_s": 0.01, "multipart_threshold": 5 * 2**20, "part_size": 5 * 2**20}

    def build(
        running: Mapping[str, Any] | None = None, *, settings: Mapping[str, object] | None = None, **rules: object
    ) -> World:
        configure(**{**quick, **(settings or {})})
        return World(running or sites, **rules)

    yield build
    FAULTS.load_from(None)
    FLOW.forget()


@pytest.fixture
def world(make_world: Callable[..., World]) -> World:
    """A world of the three sites."""
    return make_world()
