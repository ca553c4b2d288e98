"""A copy that a reader wrote from the bytes it had read: looked at, proven by the source's own word, or copied over.

The reader is believed nothing: its copy is adopted only as one of an earlier claim would be (docs/guarantees.md).
"""

from __future__ import annotations

import hashlib
from dataclasses import replace

import structlog

from app.db import tees
from app.db.migration_work import Work
from app.db.session import session_scope
from app.domain.pins import Pin
from app.domain.states import TeeState
from app.errors import ChecksumMismatch, Permanent
from app.s3 import objects
from app.s3.client import connect
from app.s3.objects import CHUNK, Head
from app.s3.transfer import Copied
from workers.migration_copy import Copy

log = structlog.get_logger()
Proven = tuple[Pin, str | None]


def adopt(copy: Copy) -> tuple[Copy, Proven | None]:
    """The reader's copy, its pin and SHA-256, if it is all that the pinned source is; None where a worker must copy.

    What stands there then, and is not, the copy that comes back writes over. Raises what the sites answer.
    """
    work = copy.work
    there = objects.find(connect(work.destination), work.key)
    if there is None or there.intent != f"{work.intent_id}.{work.tee_fence}":
        return replace(copy, work=_note(work, TeeState.FAILED)), None
    try:
        return copy, _proven(copy, there)
    except (ChecksumMismatch, Permanent) as refused:
        log.warning("a reader's copy is refused", key=work.key, site=work.destination.name, detail=refused.detail)
        return replace(copy, work=_note(work, TeeState.REFUSED), over=there.pin.etag), None


def _note(work: Work, outcome: TeeState) -> Work:
    with session_scope() as session:
        return tees.settled(session, work, outcome)


def _proven(copy: Copy, there: Head) -> Proven:
    if added := there.carried.headers.keys() - copy.carried.headers.keys():
        raise Permanent(f"the source has no {', '.join(sorted(added))}", reason="not_kept_as_sent")
    sha256 = copy.found.sha256 or _recorded(copy) or _read_back(copy, there)
    return copy.prove(Copied(sha256, (sha256,), max(1, copy.pin.size)))


def _recorded(copy: Copy) -> str | None:
    """The source's SHA-256 as the engine has found it before, if the source is still what it was then."""
    source = copy.work.facts.source_replica
    return copy.work.source_sha256 if source and source.pin and copy.pin.same_object(source.pin) else None


def _read_back(copy: Copy, there: Head) -> str:
    """The SHA-256 of the bytes at the destination. Raises ChecksumMismatch unless the source's ETag is their MD5.

    A CRC32 would not do: bytes can be made to have a given one.
    """
    destination = connect(copy.work.destination)
    md5, whole = hashlib.md5(usedforsecurity=False), hashlib.sha256()
    buffer = memoryview(bytearray(CHUNK))
    with objects.reading(destination, copy.work.key, there.pin) as stream:
        while count := stream.readinto(buffer):
            md5.update(buffer[:count])
            whole.update(buffer[:count])
    if md5.hexdigest() != copy.pin.etag:
        raise ChecksumMismatch(f"{destination.name}: nothing shows that a reader wrote what the source holds")
    return whole.hexdigest()
