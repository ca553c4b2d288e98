"""A scrub finds exactly what was planted, while owners write, delete and create, and moves go in and out."""

from __future__ import annotations

import threading
import uuid
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from itertools import count

import pytest

from app.db import findings, reports
from app.db import sites as registered
from app.db.ingest import Write
from app.db.session import session_scope
from app.domain.headers import INTENT
from app.domain.states import MoveKind
from app.domain.tasks import TaskName
from app.s3.clocks import now_at
from tests import jobs
from tests.damage import rewrite, rot
from tests.world import World
from workers.scrub import scrub

AWS, AZURE, GCP = "aws-eu", "azure-we", "gcp-eu"
EACH = 5
"""Planted of each of six sorts."""
BUSY = 16
"""Objects that writers and moves have in hand."""


@pytest.fixture
def make_world(sites, clean_database, configure):
    configure(growing_age_s=0, retry_base_s=0.01)
    worlds: list[World] = []

    def build():
        if not worlds:
            worlds.append(World(sites))
        world = worlds[0]
        world.folder = f"{world.folder.partition('/')[0]}/{uuid.uuid4().hex}/"
        return world

    return build


def names(sort: str, number: int = EACH) -> list[str]:
    return [f"{sort}-{i}" for i in range(number)]


def furnish(world: World) -> None:
    """Objects of their owner at AWS with copies of Foretide's at GCP, and originals at GCP."""
    copied = [*names("gone-copy"), *names("rewritten"), *names("rotten"), *names("busy", BUSY), *names("calm")]
    for name in [*copied, *names("leftover"), *names("to-come", BUSY)]:
        world.put(AWS, name, f"bytes of {name}".encode())
    for name in [*names("gone-original"), *names("own", BUSY)]:
        world.put(GCP, name, f"bytes of {name}".encode())
    for site in (AWS, GCP):
        world.scan(site)
    world.finish(world.plan(*[(name, MoveKind.COPY, AWS, GCP, "STANDARD") for name in copied]))


def plant(world: World) -> dict[str, str]:
    """Damages the site behind the catalogue's back; what a scrub must find, by key."""
    planted: dict[str, str] = {}
    for name in names("unknown"):
        world.put(GCP, name, b"nobody's")
        planted[world.key(name)] = "dark unknown"
    for name in names("leftover"):
        world.put(GCP, name, b"half a move", Metadata={INTENT: f"{uuid.uuid4()}.1"})
        planted[world.key(name)] = "dark leftover"
    for name in [*names("gone-copy"), *names("gone-original")]:
        world.delete(GCP, name)
        planted[world.key(name)] = "missing absent"
    for name in names("rewritten"):
        rewrite(world, GCP, name, b"something else")
        planted[world.key(name)] = "corrupt rewritten"
    for name in names("rotten"):
        rot(world, GCP, name)
        planted[world.key(name)] = "corrupt bytes"
    return planted


def a_second_passes(world: World) -> None:
    """Until what was written is old by the site's own clock, which tells whole seconds."""
    bucket = world.buckets[GCP]
    began = now_at(bucket)
    while now_at(bucket) == began:
        threading.Event().wait(0.05)


@contextmanager
def running(*acts: Callable[[int], object]) -> Iterator[None]:
    """Each act again and again in a thread of its own, told how often it was called before."""
    stop, errors = threading.Event(), list[BaseException]()

    def repeat(act: Callable[[int], object]) -> None:
        for number in count():
            if stop.is_set():
                return
            try:
                act(number)
            except BaseException as error:  # noqa: BLE001  # told below, in the test's own thread
                errors.append(error)
                return

    threads = [threading.Thread(target=repeat, args=(act,)) for act in acts]
    for thread in threads:
        thread.start()
    try:
        yield
    finally:
        stop.set()
        for thread in threads:
            thread.join()
    assert not errors, errors


def owner_deletes(world: World, name: str) -> None:
    """As an owner does whose log is read at once."""
    if world.head(GCP, name) is None:
        return
    world.delete(GCP, name)
    with session_scope() as session:
        site_id = registered.get(session, GCP).id
        later = datetime.now(UTC) + timedelta(minutes=1)
        reports.follow(session, [Write(world.object(name).id, world.key(name), "DELETE", site_id, later)])


def test_exactly_what_was_planted_is_found(make_world, rounds, figure):
    planted_in_all = 0
    for _ in rounds(10):
        world = make_world()
        furnish(world)
        planted = plant(world)
        a_second_passes(world)
        own, busy = names("own", BUSY), names("busy", BUSY)

        def overwrite(number, world=world, busy=busy):
            world.put(GCP, busy[number % (BUSY // 2)], f"newer {number}".encode())

        def create(number, world=world):
            world.put(GCP, f"new-{number}", b"just written")

        def delete(number, world=world, own=own):
            if number < BUSY // 2:
                owner_deletes(world, own[number])

        def move(number, world=world, busy=busy, own=own):
            if number < BUSY // 2:
                at = BUSY // 2 + number
                job_id = world.plan(
                    (busy[at], MoveKind.MOVE, GCP, AZURE, "STANDARD"),
                    (own[at], MoveKind.CLASS, GCP, GCP, "GLACIER_IR"),
                    (f"to-come-{number}", MoveKind.MOVE, AWS, GCP, "STANDARD"),
                )
                world.finish(job_id)

        with running(overwrite, create, delete, move):
            result = jobs.run(scrub, TaskName.SCRUB, {"site": GCP, "prefix": world.folder, "deep": True}).result
        with session_scope() as session:
            rows = findings.listing(session, registered.get(session, GCP).id, limit=500)
            found = {row.key: f"{row.kind} {row.why}" for row in rows if row.key.startswith(world.folder)}
        assert found == planted, result
        assert sum(result["found"].values()) == len(planted)
        planted_in_all += len(planted)
    figure(
        "I19", f"every planted dark, missing or corrupt replica and no other ({len(planted)} a round)", planted_in_all
    )
