"""I6: an object that is still being written is never moved torn, with the servers' clocks an hour off either way."""

import hashlib
import random
import threading
from collections.abc import Iterator
from contextlib import ExitStack
from datetime import timedelta
from itertools import product

import pytest

from app.domain.states import MoveKind
from tests.faults.proxy import Proxy
from tests.plain import Plain
from tests.reliability.observer import Observer
from tests.world import World

MIB = 2**20
SOURCE, DESTINATION = "aws-eu", "azure-we"
OBJECTS, BATCH = 200, 10
HOURS = tuple(product((-1, 0, 1), repeat=2))
"""How far the clocks of the source and of the destination are off."""
LINE = b"one more line of a log that somebody is still writing\n"


class Field(World):
    """A world whose servers' clocks may be off, with owners whose objects grow."""

    def __init__(self, behind, proxies: dict[str, Proxy], observer: Observer) -> None:
        self.proxies, self.observer = proxies, observer
        super().__init__({name: proxy.site for name, proxy in proxies.items()})
        self.policy("limits", {"abort_error_rate": 1.0, "canary_moves": 0})
        self.plain = {name: Plain(site) for name, site in behind.items()}

    def grow(self, name: str, body: bytes) -> None:
        """The owner writes the object anew, longer than it was."""
        with self.observer.writing(self.key(name), hashlib.sha256(body).hexdigest()):
            self.plain[SOURCE].put(self.key(name), body)

    def moves(self, names: list[str]) -> int:
        return self.plan(*((name, MoveKind.MOVE, SOURCE, DESTINATION, "STANDARD") for name in names))


class Writer(threading.Thread):
    """Appends to objects in turn, at times of chance, until all have grown so many times."""

    def __init__(self, field: Field, bodies: dict[str, bytes], times: int, chance: random.Random) -> None:
        super().__init__()
        self._field, self.bodies, self._times, self._chance = field, bodies, times, chance

    def run(self) -> None:
        for name in self._chance.choices(list(self.bodies), k=self._times * len(self.bodies)):
            self.bodies[name] += LINE * self._chance.randrange(1, 50)
            self._field.grow(name, self.bodies[name])


@pytest.fixture
def field(sites, clean_database, tmp_path) -> Iterator[Field]:
    behind = {name: sites[name] for name in (SOURCE, DESTINATION)}
    with ExitStack() as stack:
        proxies = {name: stack.enter_context(Proxy(site)) for name, site in behind.items()}
        yield Field(behind, proxies, stack.enter_context(Observer(tmp_path, list(behind.values()))))


def test_no_object_is_moved_torn_while_it_grows(field, configure, rounds, figure, seed):
    chosen = random.randrange(2**32) if seed is None else seed
    print(f"seed {chosen}")
    chance, n, skipped, moved = random.Random(chosen), 0, 0, 0
    for number in rounds(OBJECTS // BATCH, share=2.0, least=2):
        offsets = HOURS[number % len(HOURS)] if number else (1, -1)
        for site, hours in zip((SOURCE, DESTINATION), offsets, strict=True):
            field.proxies[site].clock_offset = timedelta(hours=hours)
        names = [f"{number}/{one}" for one in range(BATCH)]
        skipped += too_young(field, configure, names)
        moved += grown(field, configure, names, chance)
        n += BATCH
    assert moved  # of one round, each may have grown after its switch
    found = f"{skipped} growing ones skipped, {moved} moved whole while they grew"
    figure("I6", f"{found}; clocks −1, 0 and +1 h; {field.observer.rounds:,} looks, seed {chosen}", n)


def too_young(field: Field, configure, names: list[str]) -> int:
    """What was written less than an hour ago is skipped, also where its date says that it is more than an hour old."""
    configure(growing_age_s=3600, retry_base_s=60, multipart_threshold=5 * MIB, part_size=5 * MIB)
    for name in names:
        field.plain[SOURCE].put(field.key(name), LINE)
        field.observer.watch(field.key(name), hashlib.sha256(LINE).hexdigest())
    field.scan(SOURCE, names[0].partition("/")[0] + "/")
    job_id = field.moves(names)
    field.work(job_id)
    assert {(row.state, row.reason) for row in field.rows(job_id)} == {("skipped", "file_growing")}
    assert field.plain[DESTINATION].keys(field.key(names[0])) == set()
    return len(names)


def grown(field: Field, configure, names: list[str], chance: random.Random) -> int:
    """The age filter let them pass, and they grow while they are moved: the pin is the guard."""
    configure(growing_age_s=0, retry_base_s=60, multipart_threshold=5 * MIB, part_size=5 * MIB)
    large = names[:2]
    bodies = {name: LINE * (110_000 if name in large else 10) for name in names}
    for name, body in bodies.items():
        field.grow(name, body)
    field.scan(SOURCE, names[0].partition("/")[0] + "/")
    job_id, writer = field.moves(names), Writer(field, bodies, 4, chance)
    writer.start()
    field.work(job_id)
    while writer.is_alive():
        field.due(job_id)
        field.work(job_id)
    writer.join()
    field.finish(job_id)
    for _ in range(2):
        for site in (SOURCE, DESTINATION):
            field.scan(site, names[0].partition("/")[0] + "/")
    field.finish(job_id)
    for name in names:
        assert field.observer.stop(field.key(name)).violations == [], name
        states = field.states(name)
        serving = {field.plain[site].get(field.key(name)) for site, state in states.items() if state == "serving"}
        assert serving == {bodies[name]}, (name, states)
    return sum(row.state == "done" for row in field.rows(job_id))
