"""I1: a worker is killed at each point of each kind of move while owners write and delete: the newest version survives.

Each scenario is one object between two sites: a move is taken to a named point, where its worker is killed, an owner
acts, or both; a successor ends it, the sites are scanned. An observer reads all the time.
"""

import hashlib
import random
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import product

import pytest

from app.domain.states import MoveKind
from tests import s3servers
from tests.plain import Plain
from tests.reliability.forked import Forked
from tests.reliability.observer import Observer
from tests.world import World

WEED, OTHER, RCLONE = "aws-eu", "azure-we", s3servers.RCLONE
PAIRS = ((WEED, OTHER), (WEED, RCLONE), (RCLONE, WEED))
MIB = 2**20
BODIES = {"small": b"small object", "parts": b"0123456789abcdef" * (11 * 2**16)}
NEWER = b"what the owner wrote since"
DELETING = ("delete_intended", "deleted")
"""Points that are never come to where the source's delete is not guarded."""
NOTHING, WRITES, DELETES = "nothing", "writes", "deletes"


@dataclass(frozen=True)
class Kind:
    """One kind of move of an object of one size."""

    move: MoveKind
    body: str
    guarded_only: bool = False
    """Only where a copy in place is guarded."""


KINDS = {
    "move": Kind(MoveKind.MOVE, "small"),
    "move in parts": Kind(MoveKind.MOVE, "parts"),
    "copy": Kind(MoveKind.COPY, "small"),
    "copy in parts": Kind(MoveKind.COPY, "parts"),
    "class": Kind(MoveKind.CLASS, "small", guarded_only=True),
    "removal": Kind(MoveKind.REMOVE, "small"),
}


@dataclass(frozen=True)
class Scenario:
    """What happens when a move comes to a point for the hit-th time: `owner` acts at `site`, the worker dies."""

    kind: str
    pair: tuple[str, str]
    point: str
    hit: int
    owner: str
    site: str
    dies: bool


class Arena(World):
    """A world whose objects are watched, and whose owners tell the observer what they do."""

    def __init__(self, running, observer: Observer) -> None:
        super().__init__(running)
        self.observer = observer
        self.plain = {name: Plain(site) for name, site in running.items()}
        self.was: dict[str, str | None] = {}
        """What the catalogue held of an object at the site where its owner acted, just before that."""

    def prepare(self, name: str, kind: Kind, source: str, destination: str) -> int:
        """An object where the kind of move needs it; returns the move's job."""
        body = BODIES[kind.body]
        self.plain[source].put(self.key(name), body, Metadata={"k": "v"})
        self.scan(source, name)
        to_class = "STANDARD"
        if kind.move is MoveKind.REMOVE:
            self.finish(self.plan((name, MoveKind.COPY, source, destination, "STANDARD")))
            destination = None
        elif kind.move is MoveKind.CLASS:
            destination, to_class = source, "STANDARD_IA"
        self.observer.watch(self.key(name), hashlib.sha256(body).hexdigest())
        return self.plan((name, kind.move, source, destination, to_class))

    def owner(self, name: str, owner: str, site: str) -> None:
        """An owner writes or deletes at a site. What he deletes where it serves needs to be nowhere any more."""
        self.was[name] = self.states(name).get(site)
        if owner == WRITES:
            with self.observer.writing(self.key(name), hashlib.sha256(NEWER).hexdigest()):
                self.plain[site].put(self.key(name), NEWER)
        elif owner == DELETES:
            others = [state for other, state in self.states(name).items() if other != site]
            self.observer.deleting(self.key(name), site, needed=self.was[name] != "serving" or "serving" in others)
            self.plain[site].delete(self.key(name))

    def settle(self, name: str, job_id: int, pair: tuple[str, str]) -> None:
        """All that is left to do, and what scans bring with it."""
        self.due(job_id)  # the lease has lapsed
        self.finish(job_id)
        for _ in range(2):
            for site in pair:
                self.scan(site, name)
        self.finish(job_id)


@pytest.fixture
def arena(sites, site_of, clean_database, configure, tmp_path) -> Iterator[Arena]:
    configure(growing_age_s=0, retry_base_s=0.01, multipart_threshold=5 * MIB, part_size=5 * MIB)
    running = {WEED: sites[WEED], OTHER: sites[OTHER], RCLONE: site_of(RCLONE)}
    with Observer(tmp_path, list(running.values())) as observer:
        yield Arena(running, observer)


def points(arena: Arena, kind: str) -> list[tuple[str, int]]:
    """Every point that such a move comes to, with how often it has come there."""
    name, reached = f"points {kind}/a", []
    job_id = arena.prepare(name, KINDS[kind], *PAIRS[0])
    for _ in range(3):
        arena.work(job_id, at=reached.append)
        arena.due(job_id)
    assert arena.observer.stop(arena.key(name)).violations == []
    return [(point, reached[: number + 1].count(point)) for number, point in enumerate(reached)]


def scenarios(arena: Arena) -> list[Scenario]:
    """Each point of each kind of move between each pair, with all that may happen there."""
    found = []
    for name, kind in KINDS.items():
        for (point, hit), pair in product(points(arena, name), PAIRS):
            if pair[0] == RCLONE and (kind.guarded_only or point in DELETING):
                continue
            acts = [(NOTHING, pair[0]), *product((WRITES, DELETES), pair)]
            for (owner, site), dies in product(acts, (True, False)):
                if dies or owner != NOTHING:
                    found.append(Scenario(name, pair, point, hit, owner, site, dies))
    return found


def play(arena: Arena, number: int, scenario: Scenario) -> None:
    """Plays a scenario and asserts what must hold after it; what must hold all the time is what the observer says."""
    name = f"{number}/a"
    job_id = arena.prepare(name, KINDS[scenario.kind], *scenario.pair)
    left, worker = [scenario.hit], Forked(arena)

    def comes_there(point: str) -> bool:
        left[0] -= point == scenario.point
        return point == scenario.point and left[0] == 0

    def die(point: str) -> None:
        if comes_there(point):
            worker.kill()

    def act(point: str) -> None:
        if comes_there(point):
            arena.owner(name, scenario.owner, scenario.site)

    for _ in range(4):  # what comes after the grace needs turns of its own
        if scenario.dies and worker.work(job_id, at=die):
            arena.owner(name, scenario.owner, scenario.site)
            break
        if not scenario.dies:
            arena.work(job_id, at=act)
            if left[0] <= 0:
                break
        arena.due(job_id)
    else:
        pytest.fail(f"no worker came to {scenario.point}")
    arena.settle(name, job_id, scenario.pair)
    judge(arena, name, job_id, scenario)


def judge(arena: Arena, name: str, job_id: int, scenario: Scenario) -> None:
    seen = arena.observer.stop(arena.key(name))
    assert seen.violations == [], scenario
    row, states = arena.row(job_id), arena.states(name)
    assert row.finished_at, (scenario, row.state, row.reason)
    serving = {site: arena.plain[site].get(arena.key(name)) for site, state in states.items() if state == "serving"}
    if scenario.owner == NOTHING:
        assert (row.state, set(serving.values())) == ("done", {BODIES[KINDS[scenario.kind].body]}), scenario
        if scenario.point != "upload_begun":  # nobody could know the upload's id yet
            assert arena.plain[scenario.pair[1]].uploads(arena.key(name)) == {}, scenario
    elif scenario.owner == WRITES:
        assert NEWER in [arena.plain[site].get(arena.key(name)) for site in scenario.pair], scenario
        if arena.was[name] in ("serving", "draining"):  # elsewhere it may as well be another's object of the same key
            assert set(serving.values()) == {NEWER}, (scenario, states, row.state, row.reason)
    else:
        assert None not in serving.values(), (scenario, states, row.state, row.reason)


def test_the_newest_version_is_readable_at_every_instant(arena, rounds, figure, seed, full):
    """Without --full as many scenarios as the budget allows, in an order of chance that changes from run to run."""
    every = scenarios(arena)
    chosen = random.randrange(2**32) if seed is None else seed
    random.Random(chosen).shuffle(every)
    n = 0
    for n, scenario in zip(rounds(len(every), share=2.0), every, strict=False):
        play(arena, n, scenario)
    n += 1
    different = len({(one.kind, one.pair, one.point, one.hit) for one in every})
    looks = f"{arena.observer.rounds:,} looks at the sites"
    figure("I1", f"of {len(every)} scenarios at {different} points none lost anything in {looks}, seed {chosen}", n)
    assert n == len(every) or not full
