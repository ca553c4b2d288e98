"""The whole of Foretide, running: API, worker, beat and Flower over the test database, with three sites registered."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from itertools import count
from pathlib import Path
from typing import Any

import httpx
import pytest

from app.client import Client
from app.devstack import demo_data
from app.devstack.demo_data import DemoData, address
from app.devstack.services import Endpoints
from app.devstack.sites import register
from app.devstack.stack import Stack
from app.s3.client import Bucket, connect
from app.settings import PROJECT_ROOT, adopt, get_settings

PATIENCE_S = 180.0
QUICK = {
    "FORETIDE_CHAOS": "true",
    "FORETIDE_GROWING_AGE_S": "2",
    "FORETIDE_ROLLUP_EVERY_S": "5",
    "FORETIDE_PROBE_EVERY_S": "5",
    "FORETIDE_PREDICT_EVERY_S": "20",
}


@pytest.hookimpl(tryfirst=True)  # pytest-xdist reads the marks in the same hook
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    for item in items:
        if item.path.parent == Path(__file__).parent:  # demos bring their own stack: another process may run them
            item.add_marker(pytest.mark.xdist_group("demo" if item.path.stem == "test_demo" else "running"))


@pytest.fixture(scope="session")
def running(stack: Stack, database_url: str) -> Endpoints:
    """Where it answers, and an administrator's token; shared by all e2e tests, which keep to keys of their own."""
    adopt(QUICK)
    endpoints = stack.serve()
    register(endpoints, stack.sites)
    stack.await_services()
    stack.supervise(print)
    return endpoints


@pytest.fixture(scope="session")
def client(running: Endpoints) -> Iterator[Client]:
    """The SDK with an administrator's token."""
    with Client(running.url, running.token) as connected:
        yield connected


@pytest.fixture(scope="session")
def http(running: Endpoints) -> Iterator[httpx.Client]:
    """Plain HTTP to the API with an administrator's token, as curl would send it."""
    headers = {"Authorization": f"Bearer {running.token}"}
    with httpx.Client(base_url=running.url, headers=headers, timeout=60) as connected:
        yield connected


@pytest.fixture
def foretide(running: Endpoints) -> Callable[..., subprocess.CompletedProcess[bytes]]:
    """The command line as a process of its own, against the running API."""

    def run(*arguments: str, stdin: bytes = b"", token: str | None = None) -> subprocess.CompletedProcess[bytes]:
        own = {"FORETIDE_URL": running.url, "FORETIDE_TOKEN": token or running.token}
        command = [sys.executable, "-m", "app", *arguments]
        return subprocess.run(
            command, cwd=PROJECT_ROOT, env=os.environ | own, input=stdin, capture_output=True, check=False, timeout=120
        )

    return run


@pytest.fixture
def mode(client: Client) -> Iterator[Callable[[str], object]]:
    """Sets how far Foretide goes by itself; afterwards it observes again."""
    yield lambda name: client.set_mode(name, "a test")
    client.set_mode("observe", "test over")


@dataclass
class Folder:
    """A prefix of a test's own: its objects at the sites themselves, and what the API makes of them."""

    prefix: str
    client: Client
    buckets: Mapping[str, Bucket]
    written: dict[str, bytes] = field(default_factory=dict)
    """What each object must be, by key."""
    last_put: float = 0.0

    def put(self, name: str, body: bytes, *sites: str) -> str:
        """Stores an object, as its owner would; its key."""
        key = self.prefix + name
        self.written[key] = body
        for site in sites:
            bucket = self.buckets[site]
            bucket.client.put_object(Bucket=bucket.bucket, Key=key, Body=body)
        self.last_put = time.monotonic()
        return key

    def at(self, site: str, key: str) -> bytes | None:
        """What the site itself gives; None when it has no such object."""
        bucket = self.buckets[site]
        try:
            return bucket.client.get_object(Bucket=bucket.bucket, Key=key)["Body"].read()
        except bucket.client.exceptions.NoSuchKey:
            return None

    def copies(self, key: str) -> dict[str, bytes]:
        """What each site that has the object gives."""
        return {site: body for site in self.buckets if (body := self.at(site, key)) is not None}

    def holders(self, key: str) -> set[str]:
        """The sites that hold the object with the right bytes."""
        return {site for site, body in self.copies(key).items() if body == self.written[key]}

    def read(self, key: str) -> bytes:
        """The object through the API's redirect."""
        with self.client.read(key) as chunks:
            return b"".join(chunks)

    def scanned(self) -> None:
        """Brings the catalogue in line with the sites, once the uploads are so old that they are taken to be over."""
        time.sleep(max(0.0, self.last_put + get_settings().growing_age_s + 1 - time.monotonic()))
        self.client.wait(self.client.scan(), timeout_s=120)

    def require(self, **rules: object) -> None:
        """Makes these the rules of the prefix; of an empty one, the default."""
        document, etag = self.client.policy("sla")
        own = {"readers": "routed", **rules}
        if not self.prefix:
            self.client.set_policy("sla", {**document, "default": own}, etag)
            return
        others = [entry for entry in document.get("prefixes", []) if entry["prefix"] != self.prefix]
        prefixes = [*others, {"prefix": self.prefix, **own}]
        self.client.set_policy("sla", {**document, "prefixes": prefixes}, etag)

    def plan(self, **scope: Any) -> tuple[dict[str, Any], str]:
        """A plan of the prefix and its ETag."""
        done = self.client.wait(self.client.make_plan(prefix=self.prefix, **scope), timeout_s=120)
        return self.client.plan(done["result"]["plan_id"])

    def migrations(self, plan: Mapping[str, Any]) -> list[dict[str, Any]]:
        """The migrations of a plan."""
        return list(self.client.migrations(plan_id=plan["id"]))


def buckets(stack: Stack) -> dict[str, Bucket]:
    """The sites by name, as their owners reach them."""
    return {site.name: connect(address(site)) for site in stack.sites}


_folders = count(1)


@pytest.fixture
def folder(client: Client, stack: Stack) -> Folder:
    """A new, empty folder."""
    return Folder(f"e2e-{next(_folders)}/", client, buckets(stack))


@pytest.fixture
def everywhere(folder: Folder) -> Folder:
    """Every object of the sites: the folder without a name."""
    return replace(folder, prefix="")


@pytest.fixture(scope="session")
def month(client: Client, stack: Stack) -> DemoData:
    """A made-up month: its objects stored at the sites, its accesses ingested; nothing is planned yet."""
    data = demo_data.load(None, objects=30, seed=11)
    demo_data.store(data, stack.sites, 11, lambda *_: None)
    lines = (line for block in data.trace.ndjson("month") for line in block.splitlines())
    report = client.ingest(lines)
    assert (report.accepted, report.rejected) == (len(data.trace), 0)
    return data


@pytest.fixture(scope="session")
def await_true() -> Callable[[Callable[[], bool], str], None]:
    """Waits until a condition holds; `what` it is stands in the failure otherwise."""

    def wait(condition: Callable[[], bool], what: str) -> None:
        deadline = time.monotonic() + PATIENCE_S
        while not condition():
            assert time.monotonic() < deadline, f"waited in vain for {what}"
            time.sleep(0.05)

    return wait
