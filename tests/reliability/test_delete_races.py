"""I5: a source is deleted only after proof, grace and unchanged, whoever writes to it at whichever moment."""

import hashlib
import random
import threading
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from dataclasses import dataclass, replace

import pytest

from app.domain.states import MoveKind
from tests.faults.proxy import Proxy
from tests.faults.rules import Fault, Rule, on
from tests.plain import Plain
from tests.reliability.observer import Observer
from tests.world import World

SOURCE, VERSIONED, DESTINATION = "aws-eu", "versioned", "azure-we"
RACES, BATCH = 100, 20
OLD, NEWER = b"what was moved", b"what the owner wrote since"
MOMENTS = (
    ("HeadObject", Fault.BEFORE), ("HeadObject", Fault.AFTER),
    ("DeleteObject", Fault.BEFORE), ("DeleteObject", Fault.AFTER),
)  # fmt: skip
"""Of the last look at the source and of its delete: just before and just after the server does it."""
CONDITIONS = ("grace_over", "readers_routed", "not_pinned", "source_unchanged", "source_draining",
              "destination_unchanged", "not_locked", "guarded")  # fmt: skip
"""What an audit row must say of every delete, beside how many verified copies there are elsewhere."""


@dataclass(frozen=True)
class Race:
    """A writer at a moment of a request; None: he writes at a time of his own, or not at all."""

    name: str
    moment: tuple[str, Fault] | None
    after_s: float | None


class Track(World):
    """A world whose sources stand behind proxies, so that a writer may come between any two requests."""

    def __init__(self, behind, proxies: dict[str, Proxy], observer: Observer) -> None:
        self.proxies, self.observer = proxies, observer
        super().__init__({name: proxy.site for name, proxy in proxies.items()} | {DESTINATION: behind[DESTINATION]})
        self.policy("limits", {"abort_error_rate": 1.0, "canary_moves": 0})
        self.plain = {name: Plain(site) for name, site in behind.items()}

    def write(self, source: str, name: str) -> Callable[[], None]:
        def act() -> None:
            with self.observer.writing(self.key(name), hashlib.sha256(NEWER).hexdigest()):
                self.plain[source].put(self.key(name), NEWER)

        return act

    def deletes(self, source: str, name: str) -> list[float]:
        """When a DELETE of the source was asked for that the server did; not of a marker that hid a newer version."""
        asked = self.proxies[source].asked("DeleteObject", self.key(name))
        return [one.at for one in asked if one.status == 204 and "versionId" not in one.line]


@pytest.fixture
def track(sites, clean_database, configure, tmp_path) -> Iterator[Track]:
    configure(growing_age_s=0, retry_base_s=60)
    client = Plain(sites[SOURCE]).client
    versioned = replace(sites[SOURCE], name=VERSIONED, bucket=f"{sites[SOURCE].bucket}-races")
    client.create_bucket(Bucket=versioned.bucket)
    client.put_bucket_versioning(Bucket=versioned.bucket, VersioningConfiguration={"Status": "Enabled"})
    behind = {SOURCE: sites[SOURCE], VERSIONED: versioned, DESTINATION: sites[DESTINATION]}
    with ExitStack() as stack:
        proxies = {name: stack.enter_context(Proxy(behind[name])) for name in (SOURCE, VERSIONED)}
        observer = stack.enter_context(Observer(tmp_path, list(behind.values())))
        yield Track(behind, proxies, observer)


def races(number: int, source: str, chance: random.Random) -> list[Race]:
    """Mostly at the four moments, some at a time of the writer's own, some without a writer.

    Where the bucket has versions no write overlaps the delete: SeaweedFS lets a marker hide a version that comes later.
    """
    found = []
    for n in range(BATCH):
        kind = chance.random()
        moment = chance.choice(MOMENTS) if kind < 0.7 else None
        own_time = 0.7 <= kind < 0.9 and source != VERSIONED
        found.append(Race(f"{number}/{n:02}", moment, chance.uniform(0, 0.15) if own_time else None))
    return found


def run(track: Track, number: int, source: str, chance: random.Random) -> int:
    """A batch of races at one source; returns how many sources were deleted."""
    batch = races(number, source, chance)
    for race in batch:
        track.plain[source].put(track.key(race.name), OLD)
        track.observer.watch(track.key(race.name), hashlib.sha256(OLD).hexdigest())
    track.scan(source, f"{number}/")
    job_id = track.plan(*((race.name, MoveKind.MOVE, source, DESTINATION, "STANDARD") for race in batch))
    for _ in range(3):
        track.work(job_id)
    assert {row.state for row in track.rows(job_id)} == {"switched"}
    assert not any(track.proxies[source].asked("DeleteObject", track.key(race.name)) for race in batch), "in the grace"

    track.proxies[source].harm(*_rules(track, source, batch))
    writers = [
        threading.Timer(race.after_s, track.write(source, race.name)) for race in batch if race.after_s is not None
    ]
    track.due(job_id)
    for writer in writers:
        writer.start()
    track.work(job_id)
    for writer in writers:
        writer.join()
    track.proxies[source].harm()
    track.finish(job_id)
    for _ in range(2):
        for site in (source, DESTINATION):
            track.scan(site, f"{number}/")
    track.finish(job_id)
    return sum(judge(track, source, race) for race in batch)


def _rules(track: Track, source: str, batch: list[Race]) -> list[Rule]:
    return [
        on(race.moment[0], race.moment[1], name=race.name, times=1, act=track.write(source, race.name))
        for race in batch
        if race.moment
    ]


def judge(track: Track, source: str, race: Race) -> bool:
    """What must hold after a race; returns whether Foretide deleted the source."""
    assert track.observer.stop(track.key(race.name)).violations == [], race
    wrote = race.after_s is not None or any(
        race.moment and race.moment[1] in one.injected
        for one in track.proxies[source].log
        if one.key == track.key(race.name)
    )
    states = track.states(race.name)
    serving = {track.plain[site].get(track.key(race.name)) for site, state in states.items() if state == "serving"}
    assert serving == {NEWER if wrote else OLD}, (race, states)
    deletes = track.deletes(source, race.name)
    if race.moment is None and race.after_s is None:
        assert len(deletes) == 1, race
    assert len(deletes) <= 1, race
    told = [row for row in track.audit("replica.delete") if row.data["key"] == track.key(race.name)]
    assert len(told) >= len(deletes), race
    for row in told:
        conditions = row.data["conditions"]
        assert [name for name in CONDITIONS if conditions[name] is not True] == [], race
        assert conditions["verified_elsewhere"] >= max(1, conditions["rf"]), race
        assert conditions["source_pin"]["size"] == len(OLD), race
    return bool(deletes)


def test_a_source_goes_only_when_every_condition_holds(track, rounds, figure, seed):
    chosen = random.randrange(2**32) if seed is None else seed
    print(f"seed {chosen}")
    chance, deleted, n = random.Random(chosen), 0, 0
    for number in rounds(RACES // BATCH, share=2.0, least=2):
        deleted += run(track, number, (SOURCE, VERSIONED)[number % 2], chance)
        n += BATCH
    assert deleted
    found = f"0 newer versions deleted; an audit row proves each of {deleted} deletes"
    figure("I5", f"{found}; {track.observer.rounds:,} looks, seed {chosen}", n)
