"""One object copied to another site and proven equal: in one piece or in parts that a successor can go on with."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import cached_property

from app.db.migration_work import Work
from app.domain.encryption import Encryption, encryption_at
from app.domain.migrations import Owner, is_growing, owner, part_size
from app.domain.pins import Pin
from app.domain.sites import Capabilities
from app.errors import (
    Blocked,
    ConditionFailed,
    LeaseLost,
    ObjectMissing,
    Permanent,
    SiteFaulty,
    Skipped,
    SourceChanged,
    UnknownOutcome,
)
from app.s3 import evidence, multipart, objects, transfer
from app.s3.client import connect
from app.s3.objects import Carried, Head, Target
from app.s3.outcomes import UPLOAD_MISSING
from app.s3.transfer import Copied
from app.settings import Settings
from workers.migration_ledger import Ledger

THIS = "this copy"
"""What `_standing` answers when the destination holds these very bytes already."""


def pinned(work: Work) -> Pin:
    """The source as this migration has pinned it. Raises SourceChanged when it has not."""
    if work.pin is None:
        raise SourceChanged("the source was not pinned yet")
    return work.pin


def capabilities(work: Work) -> Capabilities:
    """What the destination's probe found."""
    return (work.facts.destination or work.facts.source).capabilities


def may_be_read(found: Head, growing_age_s: float) -> None:
    """Raises Blocked or Skipped when the source, as a look has found it, is not to be moved now."""
    if found.customer_key:
        raise Blocked("the object is encrypted with its owner's key", reason="customer_key")
    if is_growing(found.pin.last_modified, found.server_date, growing_age_s):
        raise Skipped("the object is still being written", reason="file_growing")


def unchanged(work: Work) -> None:
    """Raises SourceChanged unless the source still is what was pinned."""
    found = objects.find(connect(work.source), work.key)
    if found is None or work.pin is None or not found.pin.same_object(work.pin):
        raise SourceChanged


@dataclass(frozen=True)
class Copy:
    """The copy of a begun migration. check and at: as in Mover."""

    work: Work
    found: Head
    """The source as it was pinned."""
    carried: Carried
    settings: Settings
    check: Callable[[], None]
    at: Callable[[str], None]
    over: str | None = None
    """The ETag of what a reader has left at the destination, which is not this copy."""

    @property
    def pin(self) -> Pin:
        """What the source is to stay."""
        return self.found.pin

    @property
    def by_checksum(self) -> bool:
        """Whether the destination checks and keeps the SHA-256 of what it is sent."""
        can = capabilities(self.work)
        return can.checksum_sha256 if self.pin.size < self.settings.multipart_threshold else can.checksum_parts

    @cached_property
    def encryption(self) -> Encryption | None:
        """How the copy is to be encrypted beside what the destination does by itself. Raises Blocked."""
        to = self.work.facts.destination or self.work.facts.source
        return encryption_at(to.name, to.kms_keys, self.found.encryption, self.found.kms_key)

    def write_whole(self, body: bytes | bytearray) -> Copied:
        """Writes the pinned object, all of which is `body`, or adopts it where an earlier claim has; returns its hash.

        Raises Blocked when somebody else's object stands there, ChecksumMismatch when the body was misread, LeaseLost,
        Cancelled or what the sites answer.
        """
        destination = connect(self.work.destination)
        digest = evidence.sha256_of(connect(self.work.source), self.work.key, self.found, body)
        copied = Copied(digest, (digest,), max(1, self.pin.size))
        self.check()
        self._write(lambda target: objects.put(destination, target, body, digest, self.carried), copied)
        return copied

    def write_parts(self) -> Copied:
        """Reads the pinned bytes and writes them in parts; the rest is as `write_whole`. Raises SourceChanged too."""
        work, destination = self.work, connect(self.work.destination)
        ledger = Ledger(work, self.pin, part_size(self.pin.size, self.settings.part_size), self.check)
        done = ledger.resume(destination)
        try:
            copied = transfer.copy_parts(
                connect(work.source), destination, self.found, self._target(), self.carried, ledger.part_size,
                ledger.upload_id, done, ledger, self.at,
            )  # fmt: skip
        except ObjectMissing:  # of the destination: a source that is gone is SourceChanged
            raise SiteFaulty("the upload is gone and is begun anew", reason=UPLOAD_MISSING) from None
        self.check()
        upload_id = ledger.upload_id or ""
        written = self._write(
            lambda target: multipart.complete(destination, target, upload_id, ledger.etags, copied.parts), copied
        )
        if not written:
            multipart.abort(destination, work.key, upload_id)
        return copied

    def prove(self, copied: Copied) -> tuple[Pin, str | None]:
        """The destination's pin and SHA-256, if that is known, once it is shown to hold all that the source does.

        Raises ChecksumMismatch, or Permanent when class, headers, metadata or tags were not kept.
        """
        work = self.work
        destination = connect(work.destination)
        found, sha256 = transfer.prove(
            destination, work.key, copied, self.pin, self.carried, by_checksum=self.by_checksum
        )
        if found.pin.storage_class != work.facts.to_class:
            raise Permanent(f"{destination.name} did not keep class {work.facts.to_class}", reason="class_not_kept")
        if self.encryption and not self.encryption.is_kept(found.encryption, found.kms_key):
            told = f"{destination.name} did not encrypt the copy with key {self.encryption.key}"
            raise Permanent(told, reason="encryption_not_kept")
        return found.pin, sha256

    def _target(self) -> Target:
        work, can = self.work, capabilities(self.work)
        there = work.facts.destination_replica
        older = there.may_be_replaced if there else None
        return Target(
            key=work.key,
            storage_class=work.facts.to_class or "STANDARD",
            intent=work.intent,
            replaces=self.over or (older.etag if older else None),
            conditional=can.conditional_put and can.conditional_complete,
            checksum=self.by_checksum,
            encrypting=self.encryption.headers if self.encryption else {},
        )

    def _write(self, write: Callable[[Target], None], copied: Copied) -> bool:
        """Writes on the condition that nothing stands there, or what may be replaced; adopts what is this already.

        Returns whether it was written now. Where no answer came and nothing new stands there, what was sent may still
        arrive: that is for the next attempt, whose condition it cannot pass.
        """
        target = self._target()
        if not target.conditional and self._standing(copied) == THIS:
            return False
        try:
            write(target)
        except (ConditionFailed, ObjectMissing, UnknownOutcome) as refused:
            standing = self._standing(copied)
            if standing == THIS:
                return False
            if isinstance(refused, UnknownOutcome):
                raise
            if refused.reason == UPLOAD_MISSING:
                raise SiteFaulty("the upload is gone, and its object is not there", reason=UPLOAD_MISSING) from None
            self._write_over(write, replace(target, replaces=standing))
        return True

    def _write_over(self, write: Callable[[Target], None], target: Target) -> None:
        try:
            write(target)
        except ConditionFailed:  # by what no look shows: a folder of that name, or what somebody is writing
            name = self.work.destination.name
            raise Blocked(f"{name} has something else in the key's place", reason="destination_exists") from None

    def _standing(self, copied: Copied) -> str | None:
        """What stands at the destination: None nothing, THIS these very bytes, else the ETag of what may be replaced.

        An object without a mark is taken for ours where the mark found no room and it is equal in all else. Raises
        Blocked when it is somebody else's, LeaseLost when a later claim wrote it.
        """
        work, destination = self.work, connect(self.work.destination)
        found = objects.find(destination, work.key)
        if found is None:
            return None
        there = work.facts.destination_replica
        if there and (older := there.may_be_replaced) and found.pin.same_object(older):
            return found.pin.etag
        written_by = owner(work.intent_id, work.claim.fence, found.intent)
        if written_by is Owner.SUCCESSOR:
            raise LeaseLost
        may_be_ours = written_by is Owner.OURS or (found.intent is None and self._has_no_room())
        alike = found.pin.size == self.pin.size and not transfer.not_kept(found, self.carried)
        if may_be_ours and alike and self._holds(found, copied):
            return THIS
        if written_by is Owner.OTHER:
            raise Blocked(f"{destination.name} holds another object of this key", reason="destination_exists")
        return found.pin.etag

    def _has_no_room(self) -> bool:
        return not self.carried.has_room(self.work.intent)

    def _holds(self, found: Head, copied: Copied) -> bool:
        destination = connect(self.work.destination)
        proof = transfer.proof_at(destination, self.work.key, found, copied, by_checksum=self.by_checksum)
        return proof is not None
