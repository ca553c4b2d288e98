"""The owners of the soak's objects: they write and delete at the sites themselves, and know what must be readable."""

from __future__ import annotations

import hashlib
import math
import random
import threading
from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from datetime import UTC, datetime

from sqlalchemy import text

from app.db.session import session_scope
from app.devstack.seaweed import RunningSite
from app.domain.states import ReplicaState
from app.errors import DatabaseUnavailable
from tests.plain import Plain
from tests.reliability.reference import Owned
from tests.soak.report import Report
from tests.world import World

LARGE = 20 * 2**20
LOOKS = 3
"""Times that an object is looked for before it is held to be lost: it may move between two looks."""


class Owners:
    """What was written where; one thing at a time is done to a key."""

    def __init__(self, sites: Iterable[RunningSite], world: World, chance: random.Random, report: Report) -> None:
        self.plain = {site.name: Plain(site) for site in sites}
        self._world, self._chance, self._report = world, chance, report
        self.names: list[str] = []
        self._owned: dict[str, Owned] = {}
        self._locks: dict[str, threading.Lock] = {}
        self._sizes: dict[str, int] = {}
        self._told: dict[str, list[str]] = {}
        """What its owner did to each key after the first write."""
        self._number = 0

    def fill(self, objects: int, max_size: int, large: int, say: Callable[[int], None]) -> None:
        """Stores the first version of every object."""
        chance, magnitude = self._chance, math.log1p(max_size)
        for number in range(objects + large):
            name = f"{number:06d}"
            self.names.append(name)
            self._owned[name], self._locks[name] = Owned(), threading.Lock()
            self._sizes[name] = LARGE if number < large else int(math.expm1(chance.uniform(0, magnitude)))
        places = [(name, chance.choice(list(self.plain))) for name in self.names]
        with ThreadPoolExecutor(16) as pool:
            for done, _ in enumerate(pool.map(lambda place: self.write(*place, known=True), places), 1):
                if done % 10_000 == 0:
                    say(done)

    def _body(self, name: str) -> bytes:
        self._number += 1
        head = b"%d of %s " % (self._number, name.encode())
        return head + bytes(max(0, self._sizes[name] - len(head)))

    def write(self, name: str, site: str, *, known: bool | None = None) -> None:
        """The owner writes at a site."""
        with self._locks[name]:
            certain = self._is_known(name, site) if known is None else known
            body = self._body(name)
            self.plain[site].put(self._world.key(name), body, Metadata={"digest": digest(body).hex()})
            self._owned[name].write(site, digest(body), known=certain)
            if known is None:
                self._tell(name, f"wrote {digest(body).hex()[:6]} at {site}{'' if certain else ', unknown there'}")
        self._report.count("writes")

    def delete(self, name: str, site: str) -> None:
        """The owner deletes at a site."""
        with self._locks[name]:
            before = self.plain[site].get(self._world.key(name))
            self._owned[name].delete(site, None if before is None else digest(before))
            self.plain[site].client.delete_object(Bucket=self.plain[site].bucket, Key=self._world.key(name))
            self._tell(name, f"deleted at {site}")
        self._report.count("deletes")

    def _tell(self, name: str, what: str) -> None:
        self._told.setdefault(name, []).append(f"{datetime.now(UTC):%H:%M:%S.%f} {what}")

    def act(self) -> None:
        """Something that an owner may do: mostly writes where the object is served."""
        name = self._chance.choice(self.names)
        site = self._served_at(name) if self._chance.random() < 0.9 else self._chance.choice(list(self.plain))
        if self._chance.random() < 0.03:
            self.delete(name, site)
        else:
            self.write(name, site)

    def _served_at(self, name: str) -> str:
        found = [site for site, state, _ in self._replicas(name) if state == ReplicaState.SERVING]
        return self._chance.choice(found or list(self.plain))

    def _is_known(self, name: str, site: str) -> bool:
        there = [(state, pin) for at, state, pin in self._replicas(name) if at == site]
        return bool(there) and (bool(there[0][1]) or there[0][0] == ReplicaState.DELETED)

    def _replicas(self, name: str) -> list[tuple[str, str, object]]:
        known = text(
            "select site.name, replica.state, replica.pin from object join replica on object_id = object.id"
            " join site on site.id = site_id where key = :key"
        )
        with suppress(DatabaseUnavailable), session_scope() as session:
            return [tuple(row) for row in session.execute(known, {"key": self._world.key(name)})]
        return []

    # -- what must hold -----------------------------------------------------------------------------------------------

    def held(self, name: str) -> dict[str, bytes]:
        """What each site that has the object gives, by its digest."""
        found = {site: plain.get(self._world.key(name)) for site, plain in self.plain.items()}
        return {site: digest(body) for site, body in found.items() if body is not None}

    def look(self) -> None:
        """Looks at one object: the newest version is readable, and nobody's bytes are anywhere."""
        name = self._chance.choice(self.names)
        with self._locks[name]:
            for _ in range(LOOKS):
                wrong = self._owned[name].look(self.held(name), (), 0)
                if not wrong:
                    break
            else:
                self._report.violation(f"{name}: {'; '.join(wrong)}\n{self._story(name)}")
        self._report.count("looks")

    def check(self, name: str) -> None:
        """The last look at an object, once nothing moves any more and every site was scanned."""
        owned, held = self._owned[name], self.held(name)
        wrong = owned.look(held, (), 0)
        replicas = {site: (state, pin) for site, state, pin in self._replicas(name)}
        serving = {site: site in held for site, (state, _) in replicas.items() if state == ReplicaState.SERVING}
        wrong += owned.at_rest(held, serving, is_gone=False)
        if wrong:
            self._report.violation(f"at rest, {name}: {'; '.join(wrong)}\n{self._story(name)}")

    def _story(self, name: str) -> str:
        """All that is known of a key, line by line."""
        lines = [*self._told.get(name, []), f"held: { {site: d.hex()[:6] for site, d in self.held(name).items()} }"]
        rows = {
            "replica": "select site.name, r.state, object_version, r.pin->>'last_modified', seen_at, deleted_at"
            " from replica r join object o on o.id = object_id join site on site.id = site_id where key = :key",
            "migration": "select m.id, kind, f.name, t.name, m.state, m.reason, m.started_at, switched_at, finished_at"
            " from migration m join object o on o.id = object_id join site f on f.id = from_site_id"
            " left join site t on t.id = to_site_id where key = :key order by m.id",
        }
        with session_scope() as session:
            for what, asked in rows.items():
                found = session.execute(text(asked), {"key": self._world.key(name)})
                lines += [f"{what} {', '.join(map(str, row))}" for row in found]
        return "\n".join(f"    {line}" for line in lines)

    def check_all(self) -> None:
        """The last look at every object."""
        with ThreadPoolExecutor(16) as pool:
            for _ in pool.map(self.check, self.names):
                self._report.count("last looks")


def digest(body: bytes) -> bytes:
    """By which bodies are told apart."""
    return hashlib.sha256(body).digest()
