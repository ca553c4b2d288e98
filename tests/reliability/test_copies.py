"""I2: never fewer verified copies than min(RF, what there was): crashes and faults, replayed from the audit log."""

import random
import threading
from collections import Counter
from collections.abc import Iterator
from contextlib import ExitStack

import pytest
from sqlalchemy import select

from app.db.session import session_scope
from app.db.tables import Audit
from app.domain.states import MoveKind
from tests.faults.proxy import Proxy
from tests.faults.rules import Fault, on
from tests.plain import Plain
from tests.reliability.forked import Forked
from tests.world import World

SITES = ("aws-eu", "azure-we", "gcp-eu")
BATCHES, BATCH, ROUNDS = 30, 15, 3
KILLED_WITHIN_S = 0.6
SHARE = 0.03
"""Of all requests to each site, for each fault."""
FAULTS = (Fault.RESET, Fault.DROPPED, Fault.BROKEN, Fault.SLOW_DOWN)


class Harsh(World):
    """A world whose sites stand behind proxies, and whose workers are killed at times of chance."""

    def __init__(self, proxies: dict[str, Proxy]) -> None:
        super().__init__({name: proxy.site for name, proxy in proxies.items()})
        self.policy("limits", {"abort_error_rate": 1.0, "canary_moves": 0})
        self.proxies, self.worker = proxies, Forked(self)
        self.plain = {name: Plain(proxy.behind) for name, proxy in proxies.items()}
        self.kills = 0

    def holders(self, name: str) -> set[str]:
        """The sites that hold the object, by what they list themselves."""
        return {site for site, plain in self.plain.items() if self.key(name) in plain.keys(self.key(name))}

    def serving(self, name: str) -> list[str]:
        return sorted(site for site, state in self.states(name).items() if state == "serving")

    def spread(self, names: list[str], chance: random.Random) -> None:
        """New objects at one site each, and copies of most of them at others."""
        for name in names:
            self.plain[SITES[0]].put(self.key(name), name.encode())
        self.scan(SITES[0], names[0].partition("/")[0] + "/")
        copies = [(name, site) for name in names for site in chance.sample(SITES[1:], chance.randrange(3))]
        self.finish(self.plan(*((name, MoveKind.COPY, SITES[0], site, "STANDARD") for name, site in copies)))

    def suffer(self, job_id: int, chance: random.Random) -> None:
        """The job worked on while requests fail and two workers are killed, then to its end."""
        for proxy in self.proxies.values():
            proxy.harm(*(on("", fault, p=SHARE, value=0) for fault in FAULTS))
        for _ in range(3):
            killer = threading.Timer(chance.uniform(0.05, KILLED_WITHIN_S), self.worker.kill)
            killer.start()
            self.kills += self.worker.work(job_id)
            killer.cancel()
            killer.join()
            self.due(job_id)  # leases have lapsed, graces are over
        for proxy in self.proxies.values():
            proxy.harm()
        self.finish(job_id, turns=12)


@pytest.fixture
def make_harsh(sites, clean_database, configure, seed) -> Iterator:
    configure(growing_age_s=0, retry_base_s=60, max_attempts=20)
    with ExitStack() as stack:
        proxies = {name: stack.enter_context(Proxy(sites[name], seed or 0)) for name in SITES}
        yield lambda: Harsh(proxies)


def next_move(chance: random.Random, name: str, serving: list[str]) -> tuple | None:
    """Some move that could be asked for, also one that would leave too few copies."""
    here = chance.choice(serving)
    free = [site for site in SITES if site not in serving]
    kind = chance.choice([MoveKind.COPY, MoveKind.MOVE, MoveKind.MOVE, MoveKind.CLASS, MoveKind.REMOVE])
    if kind is MoveKind.CLASS:
        return name, kind, here, here, chance.choice(["STANDARD_IA", "GLACIER_IR"])
    if kind is MoveKind.REMOVE:
        return name, kind, here, None, None
    return (name, kind, here, chance.choice(free), "STANDARD") if free else None


def replayed(since: int, copies: dict[str, set[str]]) -> Counter:
    """Follows the audit log from a row on; `copies` are those of each key then, and are brought to its end."""
    done = Counter()
    with session_scope() as session:
        rows = list(session.scalars(select(Audit).where(Audit.id > since).order_by(Audit.id)))
    for row in rows:
        held = copies.get(row.data.get("key", ""))
        if held is None:
            continue
        done[row.action] += 1
        if row.action == "migration.switch" and row.data["kind"] in ("copy", "move"):
            held.add(row.data["to"])
        elif row.action == "replica.delete":
            before = len(held)
            held.discard(row.data["site"])
            assert len(held) >= min(row.data["conditions"]["rf"], before), (row.id, row.data)
            assert row.data["conditions"]["verified_elsewhere"] <= len(held), (row.id, row.data)
        elif row.action == "replica.deleted":
            assert row.data["site"] not in held, (row.id, row.data)
    return done


def test_copies_never_fall_below_what_is_asked_for(make_harsh, rounds, figure, seed):
    chosen = random.randrange(2**32) if seed is None else seed
    print(f"seed {chosen}")
    chance, done, world = random.Random(chosen), Counter(), make_harsh()
    for number in rounds(BATCHES, share=2.0):
        world.policy("sla", {"default": {"readers": "routed", "rf": chance.choice([1, 2, 2, 3])}})
        names = [f"{number}/{n:02}" for n in range(BATCH)]
        world.spread(names, chance)
        with session_scope() as session:
            since = session.scalar(select(Audit.id).order_by(Audit.id.desc()).limit(1)) or 0
        copies = {world.key(name): set(world.serving(name)) for name in names}
        for _ in range(ROUNDS):
            moves = [move for name in names if (move := next_move(chance, name, world.serving(name)))]
            world.suffer(world.plan(*moves), chance)
        done += replayed(since, copies)
        for name in names:
            assert copies[world.key(name)] == world.holders(name), name
            assert set(world.serving(name)) <= copies[world.key(name)], name
    deletes = done["replica.delete"]
    assert deletes
    steps = f"{done.total()} audited steps with {deletes} deletes, {world.kills} workers killed"
    figure("I2", f"{steps}: never under min(RF, what there was); seed {chosen}", deletes)
