"""The whole of Foretide, running: API, worker, beat and Flower over the test database, with three sites registered."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from app.client import Client
from app.devstack.services import Endpoints
from app.devstack.sites import register
from app.devstack.stack import Stack


@pytest.fixture(scope="session")
def running(stack: Stack, database_url: str) -> Endpoints:
    """Where it answers, and an administrator's token; shared by all e2e tests, which keep to keys of their own."""
    endpoints = stack.serve()
    register(endpoints, stack.sites)
    stack.await_services()
    return endpoints


@pytest.fixture(scope="session")
def client(running: Endpoints) -> Iterator[Client]:
    """The SDK with an administrator's token."""
    with Client(running.url, running.token) as connected:
        yield connected
