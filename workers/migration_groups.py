"""Small objects copied many at a time: read, begun in one transaction, written and proven, switched in one transaction.

The protocol is that of workers/migration_steps.py; only what is saved for one there is saved for all here.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import Executor
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from typing import TypeVar

from app.db import migration_steps as steps
from app.db import migration_switch
from app.db.migration_work import Work
from app.db.migrations import Claim
from app.db.session import session_scope
from app.domain.migrations import COPIES, EARLY, admit
from app.errors import ForetideError, NotRestored, ObjectMissing, Skipped
from app.s3 import objects
from app.s3.client import connect
from app.s3.objects import Carried, Head
from app.settings import Settings
from workers.flow import LOOK_S, stopping
from workers.migration_copy import Copy, may_be_read, unchanged
from workers.migration_fingerprints import carried_by

T = TypeVar("T")
GROUP = 32
"""Objects that are copied together."""
GROUPS_IN_MEMORY = 2
"""Of the largest groups by their bytes, so many are copied at the same time."""


def is_small(work: Work, settings: Settings) -> bool:
    """Whether the work is a copy that has not been begun in parts or by a reader, nor proven, and fits in memory."""
    fresh = work.state in EARLY and not work.verified and work.upload_id is None and not work.may_be_teed
    return work.facts.kind in COPIES and fresh and work.size < settings.multipart_threshold


def groups(works: Iterable[Work], settings: Settings) -> Iterator[list[Work]]:
    """Small copies together, up to GROUP of them and the bytes of one that is not small."""
    group, size = list[Work](), 0
    for work in works:
        if group and (len(group) == GROUP or size + work.size > settings.multipart_threshold):
            yield group
            group, size = [], 0
        group.append(work)
        size += work.size
    if group:
        yield group


class Room:
    """So many bytes of bodies are in a process's memory at the same time; a group that alone has more goes alone."""

    def __init__(self) -> None:
        self._taken = 0
        self._left = threading.Condition()

    @contextmanager
    def held(self, size: int, most: int, is_over: Callable[[], bool]) -> Iterator[None]:
        """Waits until there is room for `size` of `most` bytes; nobody who has room waits for more.

        is_over: whether nothing will be read any more, so that no room is needed.
        """
        with self._left:
            while not (has_room := self._taken == 0 or self._taken + size <= most) and not is_over():
                self._left.wait(LOOK_S)
            taken = size if has_room else 0
            self._taken += taken
        try:
            yield
        finally:
            with self._left:
                self._taken -= taken
                self._left.notify_all()


ROOM = Room()


def each(
    pool: Executor,
    check: Callable[[Claim], None],
    act: Callable[[Work], T],
    works: Sequence[Work],
    failed: dict[int, Exception],
) -> list[tuple[Work, T]]:
    """Acts on all at the same time; returns what came of those that did well. check: as in Mover, by claim."""

    def watched(work: Work) -> T:
        with stopping(partial(check, work.claim)):
            return act(work)

    done = []
    for work, future in [(work, pool.submit(watched, work)) for work in works]:
        error = future.exception()
        if isinstance(error, Exception):
            failed[work.claim.id] = error
        else:
            done.append((work, future.result()))
    return done


@dataclass(frozen=True)
class Fetched:
    """A small source: what one answer said of it, and all its bytes."""

    head: Head
    carried: Carried
    body: bytes | bytearray


@dataclass(frozen=True)
class Group:
    """Small copies on their way together. pool: where the requests are made; check and at: as in Mover."""

    settings: Settings
    pool: Executor
    check: Callable[[Claim], None]
    at: Callable[[str], None]

    def run(self, works: Sequence[Work]) -> tuple[dict[int, Exception], list[Work]]:
        """Takes them as far as they go.

        Returns what stopped those that did not switch, by the migration's id, and those that go alone: they are not
        small any more, or lie in an archive.
        """
        size, most = sum(work.size for work in works), GROUPS_IN_MEMORY * self.settings.multipart_threshold
        with ROOM.held(size, most, lambda: all(map(self._is_stopped, works))):
            return self._run(works)

    def _is_stopped(self, work: Work) -> bool:
        try:
            self.check(work.claim)
        except ForetideError:
            return True
        return False

    def _run(self, works: Sequence[Work]) -> tuple[dict[int, Exception], list[Work]]:
        failed: dict[int, Exception] = {}
        found = each(self.pool, self.check, self._fetch, works, failed)
        fetched = [(work, source) for work, source in found if source]
        self._switch(fetched, failed)
        return failed, [work for work, source in found if not source]

    def _switch(self, fetched: Sequence[tuple[Work, Fetched]], failed: dict[int, Exception]) -> None:
        self.at("pinned")
        with session_scope() as session:
            begun = steps.begin(session, [(work, source.head.pin) for work, source in fetched])
        self.at("begun")
        bodies = {work.claim.id: source for work, source in fetched}
        good = _good(begun, failed)
        placed = each(self.pool, self.check, lambda work: self._place(work, bodies[work.claim.id]), good, failed)
        with session_scope() as session:
            proven = steps.verified(session, [one for _, one in placed])
        self.at("verified")
        with session_scope() as session:
            switched = migration_switch.switch(session, _good(proven, failed), self.settings.grace_s)
        _good(switched, failed)
        self.at("switched")

    def _fetch(self, work: Work) -> Fetched | None:
        """The source; None when there is more than fits in memory, or it has to be restored first."""
        self.check(work.claim)
        admit(work.facts)
        source = connect(work.source)
        try:
            found, body = objects.fetch(source, work.key, self.settings.multipart_threshold)
        except ObjectMissing:
            raise Skipped(f"{work.source.name} does not hold the object", reason="source_missing") from None
        except NotRestored:
            return None
        may_be_read(found, self.settings.growing_age_s)
        return None if body is None else Fetched(found, objects.with_tags(source, work.key, found), body)

    def _place(self, work: Work, found: Fetched) -> steps.Proven:
        check = partial(self.check, work.claim)
        copy = Copy(work, found.head, found.carried, self.settings, check, self.at)
        copied = copy.write_whole(found.body)
        self.at("copied")
        unchanged(work)
        proven = copy.prove(copied)
        self.at("proven")
        check()
        return steps.Proven(work, *proven, carried_by(found.head, found.carried))


def _good(outcomes: dict[int, steps.Outcome], failed: dict[int, Exception]) -> list[Work]:
    """Those that go on; the others' errors are noted."""
    failed |= {claim_id: error for claim_id, error in outcomes.items() if isinstance(error, ForetideError)}
    return [work for work in outcomes.values() if isinstance(work, Work)]
