"""The API over the real database, asked through Flask's test client with a token of each role."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import pytest
from flask import Flask
from werkzeug.test import TestResponse

from app.db import tokens
from app.db.session import session_scope
from app.domain.roles import Role
from app.settings import Settings


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
