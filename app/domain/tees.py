"""Which planned copies a reader may write from the bytes that it has just read (a tee), and with which headers."""

from __future__ import annotations

from base64 import b64encode
from collections.abc import Mapping

from app.domain.headers import CARRIED, INTENT, METADATA, METADATA_LIMIT
from app.domain.migrations import COPIES, MoveFacts, admit
from app.domain.pins import Pin
from app.domain.states import ReplicaState
from app.errors import Blocked

NO_REASON = "not_teed"


def check(move: MoveFacts, pin: Pin | None, sha256: str | None, limit: int) -> None:
    """Returns when a reader may write this move's copy. Raises Blocked, Skipped or SiteUnavailable.

    The destination must refuse a second object, nothing may stand there, and the source's ETag or SHA-256 must be able
    to show the engine later that what was written is what the source holds. pin, sha256: as the catalogue has them;
    limit: bytes.
    """
    admit(move)
    to, there = move.destination, move.destination_replica
    if move.kind not in COPIES or to is None:
        raise Blocked("only copies to another site are written by readers", reason=NO_REASON)
    if there and there.state not in (ReplicaState.DELETED, ReplicaState.LOST):
        raise Blocked(f"{to.name} holds something in the key's place", reason=NO_REASON)
    if not to.capabilities.conditional_put:
        raise Blocked(f"{to.name} ignores the condition of a write", reason=NO_REASON)
    held = move.source_replica.storage_class if move.source_replica else None
    if move.to_class in to.archives or held in move.source.archives:
        raise Blocked("it lies in an archive, or is to", reason=NO_REASON)
    if pin is None or (pin.etag_is_of_parts and sha256 is None):
        raise Blocked("no SHA-256 of the source is known, and its ETag is that of its parts", reason=NO_REASON)
    if pin.size > limit:
        raise Blocked(f"more than {limit} bytes", reason=NO_REASON)


def put_headers(read: Mapping[str, str], intent: str, storage_class: str) -> dict[str, str]:
    """The headers of the write, all of which are signed: what the reader was told travels with the bytes.

    read: the headers of its answer, names in lower case; storage_class: as the destination's server calls it. Raises
    Blocked when the mark finds no room beside the metadata, or a value is more than plain ASCII.
    """
    carried = CARRIED.values()
    kept = {name: value for name, value in read.items() if name in carried or name.startswith(METADATA)}
    metadata = {name: value for name, value in kept.items() if name.startswith(METADATA)} | {METADATA + INTENT: intent}
    if sum(len(name) - len(METADATA) + len(value) for name, value in metadata.items()) > METADATA_LIMIT:
        raise Blocked("the metadata leave no room for the mark", reason=NO_REASON)
    if not all(text.isascii() and text.isprintable() for pair in kept.items() for text in pair):
        raise Blocked("a header is more than plain ASCII", reason=NO_REASON)
    return kept | metadata | {"x-amz-storage-class": storage_class, "if-none-match": "*"}


def sha256_header(sha256: str) -> dict[str, str]:
    """The header by which a server refuses another body. sha256: in hexadecimal."""
    return {"x-amz-checksum-sha256": b64encode(bytes.fromhex(sha256)).decode()}
