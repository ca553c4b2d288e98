"""One simulated hour: owners, plans, workers that die, sites that fail, all from one seed; then rest, and a look."""

from __future__ import annotations

import random
import re
from collections.abc import Callable, Mapping
from concurrent.futures import Executor, Future
from contextlib import nullcontext
from dataclasses import dataclass, field
from functools import partial
from typing import Any

from sqlalchemy import func, select, text

from app.db import jobs, migrations, sweep
from app.db.session import session_scope
from app.db.tables import Audit, Budget, Migration, Object
from app.domain.migrations import EARLY
from app.domain.states import JOB_FINAL, MIGRATION_FINAL, JobState, MoveKind, ReplicaState
from app.domain.tasks import QueueName, TaskName
from app.settings import get_settings
from tests.reliability.mortal import Mortal
from tests.reliability.reference import Owned
from tests.simulation.clock import Clock
from tests.simulation.site import Faults, Site
from tests.simulation.store import Asked
from tests.world import World
from workers.migrations import Batch
from workers.objects import scan

HOUR_S = 3600.0
KEYS = 16
LARGE = 5 * 2**20 + 1
SWEEP_S = 30.0
ROOM = 8
CLASSES = ("STANDARD", "STANDARD_IA")


class AtOnce(Executor):
    """Does each work where it is handed in: two threads would meet in another order each time."""

    def __init__(self, number: int, name: str) -> None:
        """As for a pool of threads, of which there is none."""

    def submit(self, work: Callable[..., Any], /, *args: Any, **named: Any) -> Future[Any]:
        """Done already when it returns."""
        future: Future[Any] = Future()
        try:
            future.set_result(work(*args, **named))
        except BaseException as error:  # noqa: BLE001  # as a pool of threads does: whoever waits is told
            future.set_exception(error)
        return future


@dataclass
class Tale:
    """What happened, for the figure and to see that a seed tells the same tale twice."""

    lines: list[str] = field(default_factory=list)
    writes: int = 0
    deaths: int = 0
    turns: int = 0
    requests: int = 0
    moves: int = 0


class Hour:
    """The world of one seed."""

    def __init__(self, seed: int, world: World, sites: Mapping[str, Site], clock: Clock) -> None:
        self.tale = Tale()
        self._chance = chance = random.Random(seed)
        self._world, self._sites, self._clock = world, sites, clock
        self._owned = {f"key {number}": Owned() for number in range(KEYS)}
        self._jobs: list[int] = []
        self._bells: list[int] = []
        self._body = 0
        self._rf = chance.choice([1, 1, 2])
        self._meddles = chance.choice([0.0, 0.01, 0.03])
        """How often an owner acts just before a request."""
        self._worker: Mortal | None = None
        self._dies_in: int | None = None
        random.seed(seed)  # the jitter of retries
        for site in sites.values():
            site.on_request, site.tell = self._before, self._tell
            site.faults = Faults(
                seed, throttled=chance.choice([0, 0.02, 0.1]), failed=chance.choice([0, 0.02]),
                dropped_before=chance.choice([0, 0.01]), dropped_after=chance.choice([0, 0.01, 0.03]),
                error_in_200=chance.choice([0, 0.1]), slow=chance.choice([0, 0.005]),
            )  # fmt: skip

    def run(self) -> Tale:
        """The hour, and what follows until nothing moves any more. Raises AssertionError for what must not be."""
        self._begin()
        for moment, act in sorted(self._agenda(), key=lambda entry: entry[0]):
            self._clock.pass_s(max(0.0, moment - self._clock.seconds()))
            act()
            self._look()
        self._rest()
        return self.tale

    def _begin(self) -> None:
        chance = self._chance
        self._world.policy(
            "sla", {"default": {"readers": chance.choice(["routed", "routed", "direct"]), "rf": self._rf}}
        )
        self._world.policy("budget", {"moves_per_day": chance.choice([10, 1000, 1000]), "bytes_per_day": 10**9})
        quiet = [replace_faults(site) for site in self._sites.values()]
        for number, name in enumerate(self._owned):
            self._write(name, chance.choice(list(self._sites)), large=number == 0)
        self._clock.pass_s(60)  # long enough that nothing is taken for growing
        self._scan_all()
        for restore in quiet:
            restore()

    def _agenda(self) -> list[tuple[float, Callable[[], None]]]:
        chance, some = self._chance, []
        some += [(chance.uniform(0, HOUR_S), self._owner) for _ in range(25)]
        some += [(chance.uniform(0, HOUR_S), partial(self._scan, name)) for name in self._sites for _ in range(3)]
        some += [(chance.uniform(0, 0.9 * HOUR_S), self._plan) for _ in range(16)]
        some += [(chance.uniform(0, HOUR_S), self._cancel) for _ in range(2)]
        for name in chance.sample(list(self._sites), 2):
            down = chance.uniform(0, HOUR_S - 400)
            some.append((down, partial(self._set_down, name, True)))
            some.append((down + chance.uniform(20, 400), partial(self._set_down, name, False)))
        return some + [(moment, self._sweep) for moment in frange(0, HOUR_S, SWEEP_S)]

    # -- the owner ----------------------------------------------------------------------------------------------------

    def _owner(self) -> None:
        name = self._chance.choice(list(self._owned))
        holders = [site for site in self._sites if self._world.key(name) in self._sites[site].store.objects]
        site = self._chance.choice(holders if holders and self._chance.random() < 0.8 else list(self._sites))
        self._meddle(name, site, self._chance)

    def _write(self, name: str, site: str, *, large: bool) -> None:
        self._body += 1
        body = b"%d of %s " % (self._body, name.encode()) + (b"." * LARGE if large else b"")
        with session_scope() as session:
            replica = session.execute(
                text(
                    "select replica.state, replica.pin from replica join object on object.id = object_id"
                    " join site on site.id = site_id where key = :key and site.name = :site"
                ),
                {"key": self._world.key(name), "site": site},
            ).one_or_none()
        known = replica is not None and (bool(replica.pin) or replica.state == ReplicaState.DELETED)
        metadata = {"x_amz_meta_number": str(self._body), "content_type": "text/plain"}
        self._sites[site].store.put(self._world.key(name), body, **metadata)
        self._owned[name].write(site, body, known=known)
        self.tale.writes += 1
        self._tell(f"write {name} {site} {self._body}{'' if known else ', unknown there'}")

    def _delete(self, name: str, site: str) -> None:
        gone = self._sites[site].store.objects.pop(self._world.key(name), None)
        self._owned[name].delete(site, gone.body if gone else None)
        self._tell(f"delete {name} {site}")

    # -- the sites ----------------------------------------------------------------------------------------------------

    def _set_down(self, name: str, is_down: bool) -> None:
        self._sites[name].is_down = is_down
        self._tell(f"{name} down {is_down}")

    def _before(self, site: Site, asked: Asked) -> bool:
        """Called before each request: the worker may be dead, or die, and an owner may act. Whether anybody asks."""
        if self._worker and self._worker.dead:
            return False
        self.tale.requests += 1
        if self._dies_in is not None:
            self._dies_in -= 1
            if self._dies_in == 0 and self._worker:
                self._worker.dead = True
        chance = random.Random(f"{site.faults.seed} meddles {self.tale.requests}")
        name = asked.key.removeprefix(self._world.folder)
        if name in self._owned and chance.random() < self._meddles:
            with self._worker.spared() if self._worker else nullcontext():
                self._meddle(name, site.name if chance.random() < 0.6 else chance.choice(list(self._sites)), chance)
        return True

    def _meddle(self, name: str, site: str, chance: random.Random) -> None:
        if chance.random() < 0.15:
            self._delete(name, site)
        else:
            self._write(name, site, large=False)

    # -- operators ----------------------------------------------------------------------------------------------------

    def _plan(self) -> None:
        moves = [move for name in self._chance.sample(list(self._owned), 5) if (move := self._move(name))]
        if moves:
            self._jobs.append(self._world.plan(*moves))
            self._bells.append(self._jobs[-1])
            self.tale.moves += len(moves)
            for move in moves:
                self._tell(f"plan {' '.join(map(str, move))}")

    def _move(self, name: str) -> tuple[str, MoveKind, str, str | None, str | None] | None:
        """Something to do with an object that the catalogue takes for served."""
        replicas = self._world.replicas(name)
        served = sorted(site for site, row in replicas.items() if row.state == ReplicaState.SERVING)
        if not served:
            return None
        source, others = self._chance.choice(served), sorted(self._sites.keys() - set(served))
        kinds = [MoveKind.CLASS]
        kinds += [MoveKind.MOVE] * 4 + [MoveKind.COPY] if others else []
        kinds += [MoveKind.REMOVE] * 2 if len(served) > 1 else []
        kind = self._chance.choice(kinds)
        if kind is MoveKind.REMOVE:
            return name, kind, source, None, None
        if kind is MoveKind.CLASS:
            return name, kind, source, source, next(c for c in CLASSES if c != replicas[source].storage_class)
        return name, kind, source, self._chance.choice(others), self._chance.choice(CLASSES)

    def _cancel(self) -> None:
        for job_id in self._chance.sample(self._jobs, min(1, len(self._jobs))):
            with session_scope() as session:
                if jobs.get(session, job_id).state not in JOB_FINAL:
                    jobs.cancel(session, job_id)

    def _scan_all(self) -> None:
        for name in self._sites:
            self._scan(name)

    def _scan(self, name: str) -> None:
        if self._scanned(name):
            for key, owned in self._owned.items():
                if not self._is_moving(key):
                    owned.scanned(name)
        for key, owned in self._owned.items():
            owned.learned(self._held(key), is_gone=self._state(key) == "gone")

    def _scanned(self, name: str) -> bool:
        with session_scope() as session:
            job_id = jobs.submit(session, TaskName.SCAN, {"site": name, "prefix": self._world.folder}).id
        scan(job_id)
        with session_scope() as session:
            job = jobs.get(session, job_id)
            job.state, job.finished_at = (job.state if job.state in JOB_FINAL else JobState.FAILED), func.now()
            return job.state == JobState.SUCCEEDED

    def _is_moving(self, name: str) -> bool:
        moving = select(Migration.id).join(Object).where(
            Object.key == self._world.key(name), Migration.state.in_(EARLY), Migration.fence > 0
        )  # fmt: skip
        with session_scope() as session:
            return session.scalar(moving.limit(1)) is not None

    def _state(self, name: str) -> str | None:
        with session_scope() as session:
            return session.scalar(select(Object.state).where(Object.key == self._world.key(name)))

    # -- workers ------------------------------------------------------------------------------------------------------

    def _sweep(self) -> None:
        """Gives back what lapsed, rings for what is ready, and lets workers answer the bells; some are lost."""
        settings = get_settings()
        with session_scope() as session:
            sweep.release_lapsed(session, settings.max_attempts)
        with session_scope() as session:
            due = sweep.to_ring(session, QueueName.MIGRATE, ROOM, settings.ring_again_s, settings.ring_again_cap_s)
            due += migrations.to_ring(session, ROOM, settings.ring_again_s, settings.ring_again_cap_s)
        self._bells += [bell.job_id for bell in due]
        bells, self._bells = self._bells, []
        for job_id in bells:
            if self._chance.random() >= 0.1:
                self._turn(job_id)
                self._look()
                self._budgets_add_up()

    def _turn(self, job_id: int) -> None:
        fate, chance = self._chance.random(), self._chance
        worker = Mortal(
            points=chance.randrange(1, 16) if fate < 0.1 else None,
            statements=chance.randrange(5, 80) if 0.1 <= fate < 0.25 else None,
        )
        self._dies_in = chance.randrange(1, 30) if 0.25 <= fate < 0.35 else None
        freezes = [chance.randrange(1, 10)] if 0.35 <= fate < 0.4 else []

        def at(point: str) -> None:
            worker.at(point)
            if freezes:
                freezes[0] -= 1
                if freezes[0] == 0:
                    freezes.clear()
                    self._freeze(job_id, worker)

        self._worker = worker
        died = worker.run(lambda: Batch(job_id, get_settings(), at, self._clock.seconds, AtOnce).run())
        self._worker = self._dies_in = None
        self.tale.turns += 1
        self.tale.deaths += died
        self._tell(f"turn {job_id} died {died}")

    def _freeze(self, job_id: int, frozen: Mortal) -> None:
        """The worker stands still for longer than its lease, while another takes its work over."""
        self._clock.pass_s(get_settings().lease_s + 5)
        self._worker = None
        Batch(job_id, get_settings(), now=self._clock.seconds, threads=AtOnce).run()
        self._worker = frozen

    # -- what must hold -----------------------------------------------------------------------------------------------

    def _tell(self, line: str) -> None:
        self.tale.lines.append(f"{self._clock.seconds():.3f} {line}")

    def _held(self, name: str) -> dict[str, bytes]:
        key = self._world.key(name)
        return {site: found.body for site in self._sites if (found := self._sites[site].store.objects.get(key))}

    def _look(self) -> None:
        proven = self._proven()
        for name, owned in self._owned.items():
            wrong = owned.look(self._held(name), proven.get(self._world.key(name), ()), self._rf)
            assert not wrong, self._story(name, wrong)

    def _proven(self) -> dict[str, list[str]]:
        """By key, the sites whose copies the catalogue counts."""
        counted = text(
            "select key, array_agg(site.name) from object join replica on object_id = object.id"
            " join site on site.id = site_id where replica.state in ('serving', 'draining') group by key"
        )
        with session_scope() as session:
            return dict(session.execute(counted).all())

    def _budgets_add_up(self) -> None:
        with session_scope() as session:
            reserved, spent = session.execute(
                select(func.sum(Budget.reserved), func.sum(Budget.spent)).where(Budget.unit == "moves")
            ).one()
            held = session.scalar(select(func.count()).where(Migration.reserved_on.is_not(None)))
            switched = session.scalar(select(func.count()).where(Audit.action == "migration.switch"))
        told, wanted = (int(reserved or 0), int(spent or 0)), (held, switched)
        assert told == wanted, f"budgets do not add up: reserved and spent are {told}, not {wanted}"

    def _rest(self) -> None:
        """Everything works again and time goes by: every move ends."""
        for site in self._sites.values():
            site.faults, site.is_down = Faults(site.faults.seed), False
        self._meddles = 0.0
        for day in range(12):
            self._clock.pass_s(600 if day < 6 else 86_400)
            self._sweep_calmly()
            self._scan_all()
            self._look()
            if not self._open():
                break
        self._scan_all()
        self._scan_all()
        assert not self._open(), self._open()
        for name, owned in self._owned.items():
            self._at_rest(name, owned)

    def _sweep_calmly(self) -> None:
        for _ in range(4):
            for job_id in self._jobs:
                self._clock.pass_s(30)
                Batch(job_id, get_settings(), now=self._clock.seconds, threads=AtOnce).run()

    def _open(self) -> list[tuple[int, str, str | None]]:
        """Moves that have not ended, but those whose source waits for more copies."""
        with session_scope() as session:
            rows = session.scalars(select(Migration).where(Migration.state.not_in(MIGRATION_FINAL)))
            return [(row.id, str(row.state), row.reason) for row in rows if row.reason != "too_few_replicas"]

    def _at_rest(self, name: str, owned: Owned) -> None:
        held, key = self._held(name), self._world.key(name)
        with session_scope() as session:
            version = session.scalar(select(Object.version).where(Object.key == key))
        found = {site: self._sites[site].store.objects.get(key) for site in self._sites}
        serving = {
            site: bool((there := found[site]) and there.etag == (replica.pin or {}).get("etag"))
            for site, replica in self._world.replicas(name).items()
            if replica.state == ReplicaState.SERVING and replica.object_version == version
        }
        wrong = owned.at_rest(held, serving, is_gone=self._state(name) == "gone")
        wrong += [
            f"{site} has lost the metadata"
            for site, there in found.items()
            if there and not there.body.startswith(there.headers.get("x-amz-meta-number", "?").encode() + b" ")
        ]
        assert not wrong, self._story(name, wrong)

    def _story(self, name: str, wrong: list[str]) -> str:
        with session_scope() as session:
            rows = session.scalars(
                select(Migration).join(Object).where(Object.key == self._world.key(name)).order_by(Migration.id)
            ).all()
        moves = [(row.id, row.job_id, row.kind, str(row.state), row.reason) for row in rows]
        held = {site: body[:12] for site, body in self._held(name).items()}
        told = [line for line in self.tale.lines if re.search(rf"{name}\b", line)]
        return f"{name}: {wrong}\n{held}\n{self._world.states(name)}\n{moves}\n" + "\n".join(told)


def replace_faults(site: Site) -> Callable[[], None]:
    """Lets nothing go wrong at a site until what is returned is called."""
    kept, hook = site.faults, site.on_request
    site.faults, site.on_request = Faults(kept.seed), lambda *_: True

    def restore() -> None:
        site.faults, site.on_request = kept, hook

    return restore


def frange(first: float, last: float, step: float) -> list[float]:
    """first, first + step, … below last."""
    return [first + step * number for number in range(int((last - first) / step))]
