"""One claimed migration taken as far as its switch: pin, copy, prove, switch; what was left is tidied away.

Each step looks at the world again, decides by app.domain.migrations, acts at the sites with no transaction open, and
saves under the claim's fence (docs/guarantees.md has the protocol).
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import structlog

from app.db import migration_ends as ends
from app.db import migration_parts as parts
from app.db import migration_steps as steps
from app.db import migration_switch, tees
from app.db.migration_work import Work
from app.db.session import session_scope
from app.domain.migrations import (
    COPIES,
    Owner,
    admit,
    owner,
)
from app.domain.pins import Pin
from app.domain.states import MoveKind, TeeState
from app.errors import ForetideError, ObjectMissing, Skipped, UnknownOutcome
from app.s3 import multipart, objects
from app.s3.client import connect
from app.s3.objects import Head
from app.settings import Settings
from workers.migration_class import ClassChange
from workers.migration_copy import Copy, capabilities, may_be_read, unchanged
from workers.migration_fingerprints import carried_by
from workers.migration_restore import await_restored
from workers.migration_tee import adopt

log = structlog.get_logger()


@dataclass(frozen=True)
class Mover:
    """Takes one migration through its steps.

    check: raises LeaseLost or Cancelled when the work must stop. at: called with the name of each point at which a
    crash must do no harm; tests crash there.
    """

    settings: Settings
    check: Callable[[], None]
    at: Callable[[str], None] = lambda _: None

    def run(self, work: Work) -> None:
        """One attempt. Raises what set_back is to be told of."""
        admit(work.facts)
        if work.verified and self._still_proven(work):
            self._switch(work)
        elif work.facts.kind in COPIES:
            self._switch(self._copy(work))
        elif work.facts.kind is MoveKind.CLASS:
            self._switch(self._change_class(work))
        else:
            self._switch(self._begin(work, self._look(work)))

    # -- pin ----------------------------------------------------------------------------------------------------------

    def _look(self, work: Work) -> Head:
        """The source as it is, if it may be moved now."""
        found = self._found(work)
        may_be_read(found, self.settings.growing_age_s)
        return found

    def _found(self, work: Work) -> Head:
        try:
            return objects.head(connect(work.source), work.key)
        except ObjectMissing:
            raise Skipped(f"{work.source.name} does not hold the object", reason="source_missing") from None

    def _begin(self, work: Work, found: Head) -> Work:
        self.check()
        self.at("pinned")
        if work.upload_id and work.pin and not found.pin.same_object(work.pin):
            multipart.abort(connect(work.destination), work.key, work.upload_id)
        with session_scope() as session:
            begun = steps.only(steps.begin(session, [(work, found.pin)]))
        self.at("begun")
        return begun

    def _still_proven(self, work: Work) -> bool:
        """Whether an earlier claim's proof still holds: neither end has changed since."""
        ends_at = {work.source: work.pin, work.destination: work.result_pin or work.pin}
        if work.facts.kind is MoveKind.CLASS:
            ends_at = {work.source: work.result_pin}
        found = {address: objects.find(connect(address), work.key) for address in ends_at}
        return all(pin and (there := found[address]) and there.pin.same_object(pin) for address, pin in ends_at.items())

    # -- copy and prove -----------------------------------------------------------------------------------------------

    def _copy(self, work: Work) -> Work:
        found = self._look(work)
        await_restored(work, found, self.check, self.at)
        carried = objects.with_tags(connect(work.source), work.key, found)
        work = self._begin(work, found)
        copy = Copy(work, found, carried, self.settings, self.check, self.at)
        teed = None
        if work.may_be_teed:
            copy, teed = adopt(copy)
        proven = teed or self._copied(copy)
        if teed:
            unchanged(work)  # a reader's copy may be older than the look at the source
        self.at("proven")
        with session_scope() as session:
            work = steps.only(steps.verified(session, [steps.Proven(copy.work, *proven, carried_by(found, carried))]))
            if teed:
                work = tees.settled(session, work, TeeState.ADOPTED)
        self.at("verified")
        return work

    def _copied(self, copy: Copy) -> tuple[Pin, str | None]:
        copied = copy.write_parts()
        self.at("copied")
        unchanged(copy.work)
        return copy.prove(copied)

    def _change_class(self, work: Work) -> Work:
        change = ClassChange(work, self.settings, self.check, self.at)
        work, pin = change.run(self._found(work))
        with session_scope() as session:
            work = steps.only(steps.verified(session, [steps.Proven(work, pin, None, None)]))
        self.at("verified")
        return work

    # -- switch -------------------------------------------------------------------------------------------------------

    def _switch(self, work: Work) -> None:
        self.check()
        with session_scope() as session:
            switched = steps.only(migration_switch.switch(session, [work], self.settings.grace_s))
            if work.facts.kind is MoveKind.CLASS:
                ends.class_changed(session, switched)
        self.at("switched")

    # -- giving up ----------------------------------------------------------------------------------------------------

    def discard(self, work: Work, upload_id: str | None) -> None:
        """Removes what a migration that was given up has left, as far as the sites let it.

        The object that it wrote at the destination goes where the site has conditional deletes, else it stays in the
        catalogue as stale. The id of an upload that could not be aborted stays in the migration's row.
        """
        try:
            if upload_id:
                multipart.abort(connect(work.destination), work.key, upload_id)
                with session_scope() as session:
                    parts.forget_upload(session, work.claim.id, upload_id)
            if work.facts.kind in COPIES:
                self._remove_copy(work)
        except ForetideError as error:
            log.warning("not tidied up", key=work.key, site=work.destination.name, reason=error.reason)

    def _remove_copy(self, work: Work) -> None:
        destination = connect(work.destination)
        found = objects.find(destination, work.key)
        if found:
            ours = owner(work.intent_id, work.claim.fence, found.intent) is Owner.OURS
            if not (ours and capabilities(work).conditional_delete):
                return
            with session_scope() as session:
                if not ends.is_over(session, work):
                    return
            try:
                objects.delete(destination, work.key, found.pin, conditional=True)
            except UnknownOutcome:
                if objects.find(destination, work.key) is not None:
                    raise
        with session_scope() as session:
            ends.nothing_left(session, work, found.pin if found else None)
