"""Objects in an archive class: whether one can be read now, and how it is asked back."""

from __future__ import annotations

from app.domain.pins import Pin
from app.errors import NotRestored, ObjectMissing, Permanent, SourceChanged
from app.s3 import documents
from app.s3.client import Bucket, Query
from app.s3.heads import Head
from app.s3.outcomes import RESTORE_UNDER_WAY


def is_asleep(bucket: Bucket, key: str, pin: Pin) -> bool:
    """Whether the pinned object has to be restored before it is read: a server may keep a class by its name alone."""
    try:
        with bucket.open(key, {"range": "bytes=0-0"} if pin.size else {}, pin.version_id):
            return False
    except NotRestored:
        return True
    except ObjectMissing:
        raise SourceChanged from None


def restore(bucket: Bucket, key: str, found: Head, days: int) -> None:
    """Asks the site to bring the object that was found back for so many days, unless that was asked already.

    Raises UnknownOutcome when no answer came.
    """
    wanted = documents.restore_request(None if found.is_archived else days)
    query: Query = {"restore": "", "versionId": found.pin.version_id}
    try:
        bucket.ask("POST", key, query=query, body=wanted, writes=True)
    except Permanent as error:
        if error.reason != RESTORE_UNDER_WAY:
            raise
