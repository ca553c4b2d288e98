"""A source that lies in an archive: asked back once, within policy and budget, and looked at until it can be read."""

from __future__ import annotations

from collections.abc import Callable

from app.db import migration_restore
from app.db.migration_work import Work
from app.db.session import session_scope
from app.domain import restores
from app.domain.restores import RESTORING, check_allowed
from app.errors import Blocked, HeldBack, UnknownOutcome
from app.s3 import archive, objects
from app.s3.client import connect
from app.s3.objects import Head


def await_restored(work: Work, found: Head, check: Callable[[], None], at: Callable[[str], None]) -> None:
    """Returns once the source, as a look has found it, can be read; check and at: as in Mover.

    Raises HeldBack while its site restores it, Blocked when the policy allows no restore or the restored copy has come
    to its end, OverBudget when the day's
    budget does not, LeaseLost, Cancelled or what the site answers.
    """
    source = connect(work.source)
    if found.restoring is not None:
        _was_asked(work)
    elif _is_asleep(work, found):
        _is_first(work)
        check_allowed(work.facts.rules, f"{work.source.name} lets nobody read class {found.pin.storage_class}")
        check()
        with session_scope() as session:
            migration_restore.intend(session, work, found.pin)
        at("restore_intended")
        try:
            archive.restore(source, work.key, found, restores.DAYS)
        except UnknownOutcome:
            if objects.head(source, work.key).restoring is None:
                raise
        at("restore_asked")
        _was_asked(work)
    else:
        return
    if found.restoring is not False:
        told = f"{work.source.name} restores the object from class {found.pin.storage_class}, which takes hours"
        raise HeldBack(told, reason=RESTORING, retry_after_s=restores.LOOK_S)


def _is_asleep(work: Work, found: Head) -> bool:
    may_be = found.is_archived or found.pin.storage_class in work.facts.source.archives
    return may_be and archive.is_asleep(connect(work.source), work.key, found.pin)


def _is_first(work: Work) -> None:
    """Raises Blocked when a restore was paid for already: the next would not be in time for the copy either."""
    with session_scope() as session:
        if not migration_restore.is_paid(session, work):
            return
    told = f"{work.source.name} has restored the object, and that copy came to its end before the move"
    raise Blocked(f"{told}; to ask and pay for another: foretide migrate retry", reason=restores.NEEDED)


def _was_asked(work: Work) -> None:
    with session_scope() as session:
        migration_restore.asked(session, work)
