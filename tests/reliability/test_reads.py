"""I4: whoever reads by the router's word gets a whole object, whatever moves meanwhile: no torn read at the switch."""

import hashlib
import random
import threading
from collections.abc import Iterator
from contextlib import contextmanager

import pytest
import urllib3

from app.domain.states import MoveKind
from tests.world import World

MIB = 2**20
SITES = ("aws-eu", "azure-we", "gcp-eu")
CLASSES = ("STANDARD_IA", "GLACIER_IR")
OBJECTS, READERS = 10, 4
SWITCHES, READS = 200, 50_000
SIZES = (0, 1, 1000, 40_000, 200_000, 6 * MIB)
Place = tuple[str, str]
"""A site and a class."""


class Epochs:
    """Time that jumps only between reads: as the grace outlasts every address that was given out before a switch."""

    def __init__(self) -> None:
        self._changed = threading.Condition()
        self._readers, self._jumping = 0, False

    @contextmanager
    def reading(self) -> Iterator[None]:
        with self._changed:
            self._changed.wait_for(lambda: not self._jumping)
            self._readers += 1
        try:
            yield
        finally:
            with self._changed:
                self._readers -= 1
                self._changed.notify_all()

    @contextmanager
    def jumping(self) -> Iterator[None]:
        with self._changed:
            self._jumping = True
            self._changed.wait_for(lambda: not self._readers)
            yield
            self._jumping = False
            self._changed.notify_all()


class Readers:
    """Threads that ask the API where to read, read there and compare, until they are stopped."""

    def __init__(self, api, wanted: dict[str, str], epochs: Epochs, chance: random.Random) -> None:
        """wanted: SHA-256 by key."""
        self.reads, self.wrong, self._over = 0, [], threading.Event()
        self._api, self._wanted, self._epochs = api, wanted, epochs
        self._http = urllib3.PoolManager(maxsize=READERS, retries=False)
        seeds = [chance.randrange(2**32) for _ in range(READERS)]
        self._threads = [threading.Thread(target=self._read, args=(random.Random(seed),)) for seed in seeds]

    def __enter__(self):
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(self, *_):
        self._over.set()
        for thread in self._threads:
            thread.join()

    def _read(self, chance: random.Random) -> None:
        keys = list(self._wanted)
        while not self._over.is_set():
            key = chance.choice(keys)
            with self._epochs.reading():
                self._one(key)

    def _one(self, key: str) -> None:
        answer = self._api.get("/v1/read", query_string={"key": key})
        if answer.status_code != 307:
            self.wrong.append((key, answer.status_code, answer.text))
            return
        found = self._http.request("GET", answer.headers["Location"])
        self.reads += 1
        if (found.status, hashlib.sha256(found.data).hexdigest()) != (200, self._wanted[key]):
            self.wrong.append((key, answer.headers["Foretide-Site"], found.status, len(found.data)))


@pytest.fixture
def world(sites, make_api, configure):
    api = make_api(growing_age_s=0, retry_base_s=60, multipart_threshold=5 * MIB, part_size=5 * MIB)
    world = World(sites)
    world.api = api
    return world


def test_a_reader_who_is_sent_somewhere_gets_the_whole_object(world, rounds, figure, full, seed):
    chosen = random.randrange(2**32) if seed is None else seed
    print(f"seed {chosen}")
    chance = random.Random(chosen)
    bodies = {f"{n}": chance.randbytes(SIZES[n % len(SIZES)]) for n in range(OBJECTS)}
    for name, body in bodies.items():
        world.put(SITES[0], name, body)
    world.scan(SITES[0])
    wanted = {world.key(name): hashlib.sha256(body).hexdigest() for name, body in bodies.items()}
    at, epochs, switches = dict.fromkeys(bodies, (SITES[0], "STANDARD")), Epochs(), 0
    with Readers(world.api, wanted, epochs, chance) as readers:
        for _ in rounds(10**6, share=2.0, least=2):
            moves = [(name, *next_move(chance, at, name)) for name in bodies]
            job_id = world.plan(*moves)
            world.work(job_id)
            switches += sum(row.switched_at is not None for row in world.rows(job_id))
            with epochs.jumping():
                world.due(job_id)
            world.work(job_id)
            assert {row.state for row in world.rows(job_id)} == {"done"}
            if full and switches >= SWITCHES and readers.reads >= READS:
                break
    assert readers.wrong == []
    figure("I4", f"{readers.reads:,} reads over {switches} switches, none torn; seed {chosen}", readers.reads)


def next_move(chance: random.Random, at: dict[str, Place], name: str) -> tuple[MoveKind, str, str, str]:
    """Where the object goes next: mostly to another site, else into another class where it is."""
    here, held = at[name]
    if chance.random() < 0.2:
        at[name] = (here, chance.choice([other for other in CLASSES if other != held]))
        return MoveKind.CLASS, here, *at[name]
    at[name] = (chance.choice([site for site in SITES if site != here]), "STANDARD")
    return MoveKind.MOVE, here, *at[name]
