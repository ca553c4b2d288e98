"""docker-compose.yml: valid, every service watched, the schema brought up once before what needs it, loopback only."""

from __future__ import annotations

import json
from importlib import resources
from typing import Any

import jsonschema
import pytest
import yaml

from app.cli.root import VERBS
from app.settings import PROJECT_ROOT

OWN = ("api", "worker", "beat", "flower")
SERVERS = ("postgres", "valkey", "site-aws-eu", "site-azure-we", "site-gcp-eu")


@pytest.fixture(scope="module")
def compose() -> dict[str, Any]:
    return yaml.safe_load((PROJECT_ROOT / "docker-compose.yml").read_text())


@pytest.fixture(scope="module")
def services(compose: dict[str, Any]) -> dict[str, Any]:
    return compose["services"]


def test_it_follows_the_compose_specification(compose: dict[str, Any]):
    vendored = resources.files("check_jsonschema.builtin_schemas.vendor") / "compose-spec.json"
    jsonschema.validate(compose, json.loads(vendored.read_text()))


def test_it_has_every_service(services: dict[str, Any]):
    assert set(services) == {*OWN, *SERVERS, "schema"}


@pytest.mark.parametrize("name", [*OWN, *SERVERS])
def test_every_lasting_service_is_watched(services: dict[str, Any], name: str):
    assert services[name]["healthcheck"]["test"]


def test_the_schema_is_brought_up_once(services: dict[str, Any]):
    assert services["schema"]["command"] == ["db", "upgrade"]
    assert services["schema"]["restart"] == "no"
    assert services["schema"]["depends_on"] == {"postgres": {"condition": "service_healthy"}}


@pytest.mark.parametrize("name", OWN)
def test_what_needs_the_schema_waits_for_it(services: dict[str, Any], name: str):
    waits = {other: how["condition"] for other, how in services[name]["depends_on"].items()}
    assert waits == {
        "schema": "service_completed_successfully",
        "postgres": "service_healthy",
        "valkey": "service_healthy",
    }


def test_ports_are_published_on_loopback_only(services: dict[str, Any]):
    published = [port for service in services.values() for port in service.get("ports", [])]
    assert len(published) == len(SERVERS) + 2
    assert [port for port in published if not port.startswith("127.0.0.1:")] == []


def test_no_password_has_a_default(services: dict[str, Any]):
    values = {
        (service, name): value
        for service, definition in services.items()
        for name, value in definition.get("environment", {}).items()
        if any(word in name for word in ("PASSWORD", "SECRET", "_URL", "AUTH"))
    }
    assert len(values) > len(OWN)
    assert {where for where, value in values.items() if ":?" not in value} == set()


@pytest.mark.parametrize("name", [*OWN, "schema"])
def test_commands_are_verbs(services: dict[str, Any], name: str):
    assert services[name]["command"][0] in VERBS


def test_the_broker_keeps_messages(services: dict[str, Any]):
    command = " ".join(services["valkey"]["command"])
    assert "appendonly yes" in command
    assert "maxmemory-policy noeviction" in command


def test_the_image_does_not_run_as_root():
    lines = (PROJECT_ROOT / "deploy/Dockerfile").read_text().splitlines()
    assert [line for line in lines if line.startswith("USER ")][-1] == "USER 10001"
    assert sum(line.startswith("FROM ") for line in lines) == 2
