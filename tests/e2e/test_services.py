"""The services start, answer, and name the parts in use."""

from __future__ import annotations

import httpx

from app.client import Client
from app.devstack.services import Endpoints


def test_the_api_is_ready_and_names_its_parts(running: Endpoints):
    reply = httpx.get(f"{running.url}/readyz")
    assert reply.status_code == 200
    assert {part["name"] for part in reply.json()["components"]} >= {"database", "broker", "site aws-eu"}


def test_the_sites_are_probed_and_ready(client: Client):
    assert {site["name"]: site["state"] for site in client.sites()} == {
        "aws-eu": "ready",
        "azure-we": "ready",
        "gcp-eu": "ready",
    }


def test_flower_wants_its_password(running: Endpoints):
    assert httpx.get(f"{running.flower_url}/workers").status_code == 401
    known = httpx.get(f"{running.flower_url}/workers?json=1", auth=(running.flower_user, running.flower_password))
    assert known.status_code == 200
