"""Sources that a switch has replaced, many at a time: looked at after the grace, and deleted under their guards.

Each has a look and a conditional delete of its own (app/domain/source_deletes.py); what is saved is saved for all.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import Executor
from dataclasses import dataclass
from datetime import timedelta

from sqlalchemy.orm import Session

from app.db import migration_ends as ends
from app.db import migration_work
from app.db.migration_work import Due, Work
from app.db.migrations import Claim
from app.db.session import session_scope
from app.domain.fingerprints import Fingerprint
from app.domain.migrations import RECHECK_S
from app.domain.old_versions import NULL
from app.domain.sites import SiteAddress
from app.domain.source_deletes import DeleteAction, DeleteFacts, DeleteVerdict, may_delete
from app.domain.states import MoveKind, ReplicaState
from app.errors import ConditionFailed, ForetideError, Permanent, SourceChanged, UnknownOutcome
from app.s3 import objects
from app.s3.client import connect
from app.s3.objects import Head
from app.settings import Settings
from workers.migration_copy import pinned
from workers.migration_fingerprints import carried_by
from workers.migration_groups import each

Judged = tuple[Work, tuple[DeleteVerdict, Head | None]]
"""A source with what to do about it, and what a look has found."""


@dataclass(frozen=True)
class Deletes:
    """Replaced sources on their way out. pool: where the requests are made; check and at: as in Mover."""

    settings: Settings
    pool: Executor
    check: Callable[[Claim], None]
    at: Callable[[str], None]

    def run(self, works: Sequence[Work]) -> dict[int, Exception]:
        """One attempt at each; returns what stopped those that did not come to an end, by the migration's id."""
        failed: dict[int, Exception] = {}
        with session_scope() as session:
            due = migration_work.due(session, works)
        judged = each(self.pool, self.check, lambda work: self._judged(work, due[work.claim.id]), works, failed)
        ended = [one for one in judged if one[1][0].action is DeleteAction.GONE]
        ended += self._delete([one for one in judged if one[1][0].action is DeleteAction.DELETE], failed)
        self._save(ended, failed, lambda session, work, verdict, _: ends.source_gone(session, work, verdict))
        for one in judged:
            if one[1][0].action not in (DeleteAction.GONE, DeleteAction.DELETE):
                self._save([one], failed, _save_other)
        return failed

    def _delete(self, judged: Sequence[Judged], failed: dict[int, Exception]) -> list[Judged]:
        """Deletes what may be deleted; returns what was."""
        if not judged:
            return []
        first: dict[int, bool] = {}

        def intend(session: Session, work: Work, verdict: DeleteVerdict, _: Head | None) -> None:
            first[work.claim.id] = ends.intend_delete(session, work, verdict)

        intended = self._save(judged, failed, intend)
        self.at("delete_intended")
        works = [work for work, _ in intended]
        deleted = {work.claim.id for work, _ in each(self.pool, self.check, self._delete_one, works, failed)}
        refused = [
            one
            for one in intended
            if isinstance(failed.get(one[0].claim.id), Permanent | SourceChanged) and first[one[0].claim.id]
        ]
        self._save(refused, {}, lambda session, work, *_: ends.delete_refused(session, work))
        self.at("deleted")
        return [one for one in intended if one[0].claim.id in deleted]

    def _save(
        self,
        judged: Sequence[Judged],
        failed: dict[int, Exception],
        save: Callable[[Session, Work, DeleteVerdict, Head | None], None],
    ) -> list[Judged]:
        """Saves something of each in one transaction; returns those of which it was saved."""
        good: list[Judged] = []
        if not judged:
            return good
        with session_scope() as session:
            migration_work.lock(session, [work for work, _ in judged])
            for work, (verdict, found) in judged:
                try:
                    save(session, work, verdict, found)
                except ForetideError as error:  # before anything of it was changed
                    failed[work.claim.id] = error
                else:
                    good.append((work, (verdict, found)))
        return good

    def _delete_one(self, work: Work) -> None:
        self.check(work.claim)  # a worker that was frozen until now would delete what may have come back since
        source, conditional = connect(work.source), work.facts.source.capabilities.conditional_delete
        try:
            objects.delete(source, work.key, pinned(work), conditional=conditional)
        except ConditionFailed:
            raise SourceChanged("the source was written just before its delete, which did not happen") from None
        except UnknownOutcome:
            if objects.find(source, work.key) is not None:
                raise

    # -- looking ------------------------------------------------------------------------------------------------------

    def _judged(self, work: Work, due: Due) -> tuple[DeleteVerdict, Head | None]:
        found = objects.find(connect(work.source), work.key)
        verdict = self._verdict(work, found, due)
        self.check(work.claim)
        return verdict, found

    def _verdict(self, work: Work, found: Head | None, due: Due) -> DeleteVerdict:
        moved = work.facts.kind is MoveKind.MOVE and not _moved_on(work)
        there = objects.find(connect(work.destination), work.key) if moved else None
        replica, rewritten = work.facts.source_replica, _is_rewritten(work.source, work.key, found, due.copied)
        return may_delete(
            DeleteFacts(
                rules=work.facts.rules,
                now=work.now,
                grace_until=(work.switched_at or work.now) + timedelta(seconds=self.settings.grace_s),
                pinned=pinned(work),
                source_now=found.pin if found else None,
                source_draining=replica is not None and replica.state is ReplicaState.DRAINING,
                destination_pinned=work.result_pin if moved else None,
                destination_now=there.pin if there else None,
                verified_elsewhere=_standing(work, found, due, {work.destination: there} if moved else {}),
                serving_elsewhere=len(due.witnesses),
                locked=found.is_locked(work.now) if found else False,
                site=work.facts.source,
                version_hidden=due.intended and found is None and _hides_a_version(work),
                source_rewritten=rewritten,
                destination_rewritten=rewritten and _is_rewritten(work.destination, work.key, there, due.copied),
            )
        )


def _save_other(session: Session, work: Work, verdict: DeleteVerdict, found: Head | None) -> None:
    if verdict.action is DeleteAction.KEEP:
        ends.source_kept(session, work, verdict)
    elif verdict.action is DeleteAction.WAIT:
        ends.source_waits(session, work, verdict, RECHECK_S)
    else:
        ends.reverse(session, work, verdict, found.pin if found else None)


def _is_rewritten(at: SiteAddress, key: str, found: Head | None, copied: Fingerprint | None) -> bool:
    """Whether what was found carries something else than what was copied; asks for tags where it counts some."""
    if found is None or copied is None:
        return False
    now = carried_by(found, objects.with_tags(connect(at), key, found))
    return bool(copied.differences(now) or now.differences(copied))


def _standing(work: Work, found: Head | None, due: Due, seen: Mapping[SiteAddress, Head | None]) -> int:
    """How many copies of the current version stand elsewhere as they were last seen. seen: looks of just now."""
    looks = [(seen[at] if at in seen else _look(at, work.key), pin) for at, pin in due.witnesses]
    good = [now for now, pin in looks if now and now.pin.same_object(pin)]
    return sum(not (found and _is_itself(now, found)) for now in good)


def _look(address: SiteAddress, key: str) -> Head | None:
    try:
        return objects.find(connect(address), key)
    except ForetideError:
        return None  # what cannot be looked at does not count as a copy


def _hides_a_version(work: Work) -> bool:
    """Whether our delete may have put its marker over what an owner wrote just before, and we did not see it."""
    can = work.facts.source.capabilities
    if can.conditional_delete or not can.versioning:
        return False
    newest = objects.newest_version(connect(work.source), work.key)
    return newest not in (None, pinned(work).version_id or NULL)


def _moved_on(work: Work) -> bool:
    """Whether a later move has taken the object away from where this one brought it: other copies count then."""
    replica = work.facts.destination_replica
    return replica is not None and replica.state in (ReplicaState.DRAINING, ReplicaState.DELETED)


def _is_itself(witness: Head, source: Head) -> bool:
    """Whether what was found at another site may be the source itself: one bucket registered under two addresses."""
    return witness.pin.same_object(source.pin) and witness.intent == source.intent
