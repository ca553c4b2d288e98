"""One object's class changed in place: copied onto itself and proven to be what it was; a successor adopts the copy."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from app.db import migration_class
from app.db import migration_steps as steps
from app.db.migration_work import Work
from app.db.session import session_scope
from app.domain.class_changes import admit_in_parts
from app.domain.fingerprints import Fingerprint
from app.domain.migrations import Owner, owner, part_size
from app.domain.old_versions import NULL
from app.domain.pins import Pin
from app.errors import (
    Blocked,
    ConditionFailed,
    LeaseLost,
    ObjectMissing,
    Permanent,
    SiteFaulty,
    SourceChanged,
    UnknownOutcome,
)
from app.s3 import multipart, objects
from app.s3.client import Bucket, connect
from app.s3.objects import Carried, Head, Target
from app.s3.outcomes import UPLOAD_MISSING
from app.settings import Settings
from workers.migration_copy import may_be_read, pinned
from workers.migration_fingerprints import fingerprint_of
from workers.migration_ledger import Ledger
from workers.migration_restore import await_restored


@dataclass(frozen=True)
class ClassChange:
    """The change of class of an admitted migration. check and at: as in Mover."""

    work: Work
    settings: Settings
    check: Callable[[], None]
    at: Callable[[str], None]

    @property
    def bucket(self) -> Bucket:
        """Where the object lies."""
        return connect(self.work.source)

    @property
    def to_class(self) -> str:
        """The class that is wanted."""
        return self.work.facts.to_class or "STANDARD"

    def run(self, found: Head) -> tuple[Work, Pin]:
        """Changes the class of the object that was found, or adopts what an earlier claim has made of it.

        Returns the migration, begun, and the object's new pin. Raises Skipped, Blocked, SourceChanged, LeaseLost or
        Cancelled; Permanent when the object is not what it was but for its class.
        """
        before = self._kept()
        if before and self._is_this_copy(self.work, found, before):
            self._uncover_a_write(self.work, found)
            return self.work, self._proven(found, before)
        may_be_read(found, self.settings.growing_age_s)
        if found.is_locked(found.server_date or self.work.now):
            raise Blocked("object lock protects this version and would not protect its copy", reason="object_lock")
        if self._in_parts(found):
            admit_in_parts(self.work.facts.source, marked=found.carried.has_room(self.work.intent))
        await_restored(self.work, found, self.check, self.at)
        carried = objects.with_tags(self.bucket, self.work.key, found)
        before = fingerprint_of(found, carried)
        work = self._begin(found, before)
        unanswered = self._copy(work, found, carried)
        self.at("copied")
        after = objects.head(self.bucket, work.key)
        if not self._is_this_copy(work, after, before):
            raise unanswered or SourceChanged
        self._uncover_a_write(work, after)
        return work, self._proven(after, before)

    def _kept(self) -> Fingerprint | None:
        """What the object was before an earlier claim may have copied it; None when none has come so far."""
        if self.work.pin is None:
            return None
        with session_scope() as session:
            kept = migration_class.fingerprint(session, self.work.claim)
        return kept or Fingerprint.of_pin(self.work.pin)

    def _begin(self, found: Head, before: Fingerprint) -> Work:
        self.check()
        self.at("pinned")
        if self.work.upload_id and self.work.pin and not found.pin.same_object(self.work.pin):
            multipart.abort(self.bucket, self.work.key, self.work.upload_id)
        with session_scope() as session:
            begun = steps.only(steps.begin(session, [(self.work, found.pin)]))
            migration_class.keep_fingerprint(session, begun.claim, before)
        self.at("begun")
        return begun

    def _in_parts(self, found: Head) -> bool:
        return found.pin.size > self.settings.in_place_limit

    def _copy(self, work: Work, found: Head, carried: Carried) -> UnknownOutcome | None:
        """Returns why it is not known whether the site has done it."""
        copy = self._copy_in_parts if self._in_parts(found) else self._copy_at_once
        try:
            copy(work, found, carried)
        except ConditionFailed:
            raise SourceChanged from None
        except UnknownOutcome as unknown:
            return unknown
        return None

    def _copy_at_once(self, work: Work, found: Head, carried: Carried) -> None:
        over = found.pin.etag if work.facts.source.capabilities.conditional_copy_over else None
        objects.change_class(self.bucket, work.key, found, carried, self.to_class, work.intent, over)

    def _copy_in_parts(self, work: Work, found: Head, carried: Carried) -> None:
        can, pin = work.facts.source.capabilities, found.pin
        ledger = Ledger(work, pin, part_size(pin.size, self.settings.part_size), self.check)
        done = ledger.resume(self.bucket)
        conditional = can.conditional_put and can.conditional_complete
        target = Target(work.key, self.to_class, work.intent, replaces=pin.etag, conditional=conditional)
        try:
            multipart.copy_in_place(
                self.bucket, found, target, carried, ledger.part_size, ledger.upload_id, done, ledger, self.at
            )
        except ObjectMissing as missing:
            if missing.reason != UPLOAD_MISSING:
                raise SourceChanged("the object is gone while its class was changed") from None
            raise SiteFaulty("the upload is gone and is begun anew", reason=UPLOAD_MISSING) from None

    def _is_this_copy(self, work: Work, found: Head, before: Fingerprint) -> bool:
        """Whether what stands there is what this migration has made of the object that it has pinned.

        Its mark says so. Where that found no room beside the object's metadata, an equal object in the wanted class is
        taken for it: that it is equal is all that counts.
        """
        written_by = owner(work.intent_id, work.claim.fence, found.intent)
        if written_by is Owner.SUCCESSOR:
            raise LeaseLost
        if written_by is Owner.OURS:
            return True
        pin = pinned(work)
        untouched = found.pin.same_object(pin) and found.pin.storage_class == pin.storage_class
        if untouched or found.intent is not None or found.pin.storage_class != self.to_class:
            return False
        return before.proves_equal(self._fingerprint(found))

    def _uncover_a_write(self, work: Work, after: Head) -> None:
        """Takes the copy away where it was put over what an owner wrote between the site's own look and its write.

        Only a versioned bucket still has that write, between copy and pinned version. Raises SourceChanged then.
        """
        pinned_id, copy_id = pinned(work).version_id or NULL, after.pin.version_id
        if not work.facts.source.capabilities.versioning or copy_id is None:
            return
        versions = objects.versions(self.bucket, work.key)
        copies: list[str] = []
        for version_id in versions[: versions.index(pinned_id)] if pinned_id in versions else []:
            found = after if version_id == copy_id else objects.find(self.bucket, work.key, version_id)
            if found is after or (found and owner(work.intent_id, work.claim.fence, found.intent) is Owner.OURS):
                copies.append(version_id)
                continue
            for copied in copies:
                objects.delete_version(self.bucket, work.key, copied)
            raise SourceChanged("an owner wrote the object while its class was changed; that write stands again")

    def _proven(self, after: Head, before: Fingerprint) -> Pin:
        """The copy's pin. Raises Permanent unless it is what the object was, in the wanted class."""
        lost = before.differences(self._fingerprint(after))
        if after.pin.storage_class != self.to_class:
            lost.append("class")
        if lost:
            told = f"after its class was changed the object differs in {', '.join(lost)}"
            raise Permanent(told, reason="class_change_unproven")
        return after.pin

    def _fingerprint(self, found: Head) -> Fingerprint:
        return fingerprint_of(found, objects.with_tags(self.bucket, self.work.key, found))
