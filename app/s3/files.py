"""Files of Foretide's own at a site: written whole or in parts, proven to be there, read back (step: batch)."""

from __future__ import annotations

import hashlib
import mmap
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

from app.domain.pins import Pin
from app.errors import ChecksumMismatch, ConditionFailed, UnknownOutcome
from app.s3 import multipart, objects, transfer, uploads
from app.s3.client import Bucket
from app.s3.heads import Carried, Head
from app.s3.objects import Target
from app.s3.transfer import Copied

CARRIED = Carried({"content_type": "application/vnd.apache.parquet"})
INTENT = "export"


def upload(
    bucket: Bucket,
    key: str,
    path: Path,
    *,
    storage_class: str,
    part_size: int,
    conditional: bool,
    check: Callable[[], None],
) -> tuple[str, str]:
    """Puts a file there in place of what its key may hold; the file's SHA-256, and the ETag of what was proven.

    The key is Foretide's own. What an upload that was interrupted has left there is removed first; readers see the old
    file or the new one, never a part. check: asked between the parts. Raises ChecksumMismatch when what lies there is
    not the file, and what the site answers.
    """
    _forget_uploads(bucket, key)
    standing = objects.find(bucket, key)
    target = Target(key, storage_class, INTENT, standing.pin.etag if standing else None, conditional)
    whole = _mapped(path)
    copied = _digests(whole, part_size)
    with suppress(ConditionFailed, UnknownOutcome):  # an answer may be lost after the write was done
        _write(bucket, target, whole, copied, check)
    found = _proven(bucket, key, copied, len(whole))
    assert copied.sha256  # noqa: S101 - summed up above
    return copied.sha256, found.pin.etag


def _mapped(path: Path) -> memoryview:
    """The file's bytes, in memory only as they are looked at; let go with the last view of them, whatever happens."""
    with path.open("rb") as file:
        return memoryview(mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ))


def _digests(whole: memoryview, part_size: int) -> Copied:
    parts = (whole[start : start + part_size] for start in range(0, len(whole), part_size))
    return Copied(
        hashlib.sha256(whole).hexdigest(), tuple(hashlib.sha256(part).hexdigest() for part in parts), part_size
    )


def _write(bucket: Bucket, target: Target, whole: memoryview, copied: Copied, check: Callable[[], None]) -> None:
    if len(whole) <= copied.part_size:
        objects.put(bucket, target, whole, copied.sha256 or "", CARRIED)
        return
    upload_id = multipart.begin(bucket, target, CARRIED)
    etags = []
    for number, sha256 in enumerate(copied.parts, 1):
        check()
        part = whole[(number - 1) * copied.part_size : number * copied.part_size]
        etags.append(multipart.send_part(bucket, target.key, upload_id, number, part, sha256))
    multipart.complete(bucket, target, upload_id, etags)


def _proven(bucket: Bucket, key: str, copied: Copied, size: int) -> Head:
    """What lies there, read back whole: an export may be the only one to hold what retention drops."""
    found = objects.head(bucket, key)
    proof = None
    if found.pin.size == size:
        proof = transfer.proof_at(bucket, key, found, copied, by_checksum=False)
    if proof is None:
        raise ChecksumMismatch(f"{bucket.name} does not hold what was written to {key}")
    return found


def _forget_uploads(bucket: Bucket, key: str) -> None:
    for page in uploads.pages(bucket, key):
        for left in page:
            if left.key == key:
                multipart.abort(bucket, key, left.upload_id)


def download(bucket: Bucket, key: str, etag: str, sha256: str, path: Path, check: Callable[[], None]) -> None:
    """Reads a file that was uploaded. Raises SourceChanged, ChecksumMismatch when it is another, ObjectMissing."""
    found = objects.head(bucket, key)
    pin = Pin(etag, found.pin.size, found.pin.last_modified, found.pin.version_id)
    digest, buffer = hashlib.sha256(), memoryview(bytearray(objects.CHUNK))
    with objects.reading(bucket, key, pin) as stream, path.open("wb") as file:
        while count := stream.readinto(buffer):
            check()
            digest.update(buffer[:count])
            file.write(buffer[:count])
    if digest.hexdigest() != sha256:
        raise ChecksumMismatch(f"{bucket.name}: {key} does not hold what was exported")
