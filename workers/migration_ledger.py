"""An upload's progress, kept under the claim's fence: a killed worker's successor goes on with the parts that stand."""

from __future__ import annotations

from collections.abc import Callable

from app.db import migration_parts as parts
from app.db.migration_parts import Part
from app.db.migration_work import Work
from app.db.session import session_scope
from app.domain.pins import Pin
from app.s3 import multipart, transfer
from app.s3.client import Bucket
from app.s3.multipart import SentPart


class Ledger:
    """An upload's progress in the database, under the claim's fence."""

    def __init__(self, work: Work, pin: Pin, size: int, check: Callable[[], None]) -> None:
        self._work, self._pin, self._new_size, self.check = work, pin, size, check
        self.part_size = work.part_size or size
        self.upload_id = work.upload_id
        self.etags: list[str] = []

    def resume(self, destination: Bucket) -> list[SentPart]:
        """The parts of an earlier claim's upload, if the site still has them."""
        if self.upload_id is None:
            return []
        with session_scope() as session:
            kept = parts.parts(session, self._work.claim.id)
        done = [SentPart(part.number, part.etag, part.size, part.sha256) for part in kept]
        if not done:  # it may hold parts of an attempt that was given up, which not every server lets be replaced
            multipart.abort(destination, self._work.key, self.upload_id)
            self.upload_id, self.part_size = None, self._new_size
            return []
        all_sent = sum(part.size for part in done) == self._pin.size  # then it may have been completed, and be gone
        if not all_sent and not transfer.upload_is_there(destination, self._work.key, self.upload_id, done):
            multipart.abort(destination, self._work.key, self.upload_id)  # it may be there without some of the parts
            self.upload_id, self.part_size = None, self._new_size
            return []
        self.etags = [part.etag for part in done]
        return done

    def started(self, upload_id: str) -> None:
        """Keeps the upload's id before any part is sent."""
        self.upload_id = upload_id
        with session_scope() as session:
            parts.set_upload(session, self._work.claim, upload_id, self.part_size)

    def sent(self, part: SentPart) -> None:
        """Keeps a finished part before the next is sent."""
        self.etags.append(part.etag)
        with session_scope() as session:
            parts.add_part(session, self._work.claim, Part(part.number, part.etag, part.size, part.sha256))
