"""What a site can do, found by acting and acting again: a server may accept a condition and ignore it.

Everything is written under PROBES and removed again. Runs when a site is registered and in the periodic probe.
"""

from __future__ import annotations

import base64
import hashlib
import time
import uuid
from collections.abc import Iterable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import partial
from statistics import median

from app.domain.keys import PROBES
from app.domain.sites import SERVERS_NAMES, Capabilities
from app.errors import (
    AccessDenied,
    ChecksumMismatch,
    ForetideError,
    Permanent,
)
from app.s3 import declared, multipart, objects, transfer
from app.s3.client import Bucket, Query
from app.s3.heads import Carried
from app.s3.objects import Target
from app.s3.probe_acts import refused, unsupported
from app.s3.probe_keys import kept_keys

INTENT = "probe"
FIRST, SECOND = b"foretide probe, first", b"foretide probe, second"
CARRIED = Carried(
    {"content_type": "text/x-foretide", "content_encoding": "identity", "cache_control": "max-age=7"}, {"probe": "a b"}
)
READS = 5
READ_ONLY = "the credentials may not write: what the site does was not tried, and nothing is moved there"


def ping(bucket: Bucket) -> float:
    """Milliseconds of one small request, the cheapest that needs bucket and credentials.

    Raises BucketMissing, AccessDenied or SiteUnavailable.
    """
    started = time.perf_counter()
    bucket.ask("GET", None, query={"list-type": 2, "prefix": PROBES, "max-keys": 1})
    return (time.perf_counter() - started) * 1000


def probe(bucket: Bucket, classes: Sequence[str]) -> Capabilities:
    """Finds out what the site does. classes: the price book's storage classes that are to be tried.

    bucket: connected without names of classes.

    Raises BucketMissing, AccessDenied, SiteUnavailable or what else keeps the site from being used at all.
    """
    ping(bucket)
    trial = _Trial(bucket, f"{PROBES}{uuid.uuid4().hex}/")
    try:
        return trial.run(classes) if trial.may_write() else trial.read_only(classes)
    finally:
        trial.clean_up()


def same_bucket(bucket: Bucket, others: Iterable[Bucket]) -> str | None:
    """The name of a site that shows what is written to this one: one bucket under two addresses is one copy.

    A site that cannot be asked is passed over. Raises as `probe`.
    """
    trial = _Trial(bucket, f"{PROBES}{uuid.uuid4().hex}/")
    try:
        return trial.shown_by(others)
    finally:
        trial.clean_up()


@dataclass
class _Trial:
    bucket: Bucket
    folder: str

    def run(self, classes: Sequence[str]) -> Capabilities:
        latency_ms = round(median(ping(self.bucket) for _ in range(READS)), 2)  # before there is anything to list
        encrypted, checksum = self._plain()
        head = objects.head(self.bucket, self._key("plain"))
        now = datetime.now(UTC)
        names = self._class_names(classes)
        versioning = declared.keeps_versions(self.bucket)
        return Capabilities(
            conditional_put=self._refuses_put("put"),
            conditional_complete=self._refuses_complete("complete"),
            conditional_delete=self._refuses_delete("delete"),
            conditional_get=self._refuses_get(),
            conditional_copy=self._refuses_copy("copy"),
            conditional_copy_over=self._refuses_copy_over("over"),
            checksum_sha256=checksum,
            checksum_parts=self._checks_parts("parts"),
            metadata=head.carried.headers == CARRIED.headers and head.carried.metadata == CARRIED.metadata,
            tags=self._keeps_tags("tags"),
            versioning=versioning,
            object_lock=declared.has_object_lock(self.bucket),
            encrypted=encrypted or declared.encrypts(self.bucket),
            classes=tuple(names),
            class_names=names,
            keys=kept_keys(self.bucket, self._key("keys/"), INTENT),
            clock_offset_s=round((head.server_date - now).total_seconds(), 1) if head.server_date else 0.0,
            latency_ms=latency_ms,
            warnings=declared.warnings(self.bucket),
        )

    def may_write(self) -> bool:
        """Whether the credentials may write at all: those that only observe may not."""
        try:
            self._put(self._key("plain"), FIRST)
        except AccessDenied:
            return False
        return True

    def read_only(self, classes: Sequence[str]) -> Capabilities:
        """What can be seen by looking alone; the classes are taken as they were given."""
        return Capabilities(
            read_only=True,
            versioning=declared.keeps_versions(self.bucket),
            object_lock=declared.has_object_lock(self.bucket),
            encrypted=declared.encrypts(self.bucket),
            classes=tuple(classes),
            class_names={name: name for name in classes},
            latency_ms=round(median(ping(self.bucket) for _ in range(READS)), 2),
            warnings=(READ_ONLY, *declared.warnings(self.bucket)),
        )

    def shown_by(self, others: Iterable[Bucket]) -> str | None:
        """The first of other sites at which a mark is found that is written here."""
        key = self._key("mark")
        self._put(key, FIRST)
        for other in others:
            with suppress(ForetideError):
                if objects.find(other, key):
                    return other.name
        return None

    def _key(self, name: str) -> str:
        return self.folder + name

    def _put(
        self,
        key: str,
        body: bytes,
        carried: Carried = CARRIED,
        *,
        storage_class: str = "STANDARD",
        conditional: bool = False,
        replaces: str | None = None,
        checksum: bool = False,
    ) -> None:
        target = Target(key, storage_class, INTENT, replaces, conditional, checksum)
        objects.put(self.bucket, target, body, hashlib.sha256(body).hexdigest(), carried)

    def _plain(self) -> tuple[bool, bool]:
        """Whether a PUT is encrypted unasked, and whether a SHA-256 sent along is checked and kept."""
        key, wrong = self._key("plain"), base64.b64encode(hashlib.sha256(SECOND).digest()).decode()
        self._put(key, FIRST)
        answer = self.bucket.call("put_object", writes=True, Key=key, Body=FIRST, Metadata={"probe": "x"})
        encrypted = bool(answer.get("ServerSideEncryption"))
        try:
            self.bucket.call("put_object", writes=True, Key=key, Body=FIRST, ChecksumSHA256=wrong)
        except (ChecksumMismatch, Permanent):
            self._put(key, FIRST, checksum=True)
            kept = objects.head(self.bucket, key).sha256
            return encrypted, kept == hashlib.sha256(FIRST).hexdigest()
        self._put(key, FIRST)
        return encrypted, False

    def _refuses_put(self, name: str) -> bool:
        key = self._key(name)
        self._put(key, FIRST)
        none_match = refused(lambda: self._put(key, SECOND, conditional=True))
        match = refused(lambda: self._put(key, SECOND, conditional=True, replaces="0" * 32))
        return none_match and match

    def _refuses_complete(self, name: str) -> bool:
        target = Target(self._key(name), "STANDARD", INTENT)
        self._put(target.key, FIRST)
        try:
            upload_id = multipart.begin(self.bucket, target, CARRIED)
        except Permanent:
            return False
        try:
            sha256 = hashlib.sha256(SECOND).hexdigest()
            etag = multipart.send_part(self.bucket, target.key, upload_id, 1, SECOND, sha256)
            return refused(lambda: multipart.complete(self.bucket, target, upload_id, [etag]))
        finally:
            multipart.abort(self.bucket, target.key, upload_id)

    def _checks_parts(self, name: str) -> bool:
        """Whether a part with another SHA-256 than was sent along is refused, and that of the parts kept."""
        target = Target(self._key(name), "STANDARD", INTENT, conditional=False, checksum=True)
        right, wrong = hashlib.sha256(FIRST).hexdigest(), objects.sha256_header(hashlib.sha256(SECOND).hexdigest())
        with unsupported() as supported:
            upload_id = multipart.begin(self.bucket, target, CARRIED)
            part: Query = {"partNumber": 1, "uploadId": upload_id}
            try:
                self.bucket.ask("PUT", target.key, wrong, query=part, body=FIRST, writes=True)
            except (ChecksumMismatch, Permanent):
                etag = multipart.send_part(self.bucket, target.key, upload_id, 1, FIRST, right, checksum=True)
                multipart.complete(self.bucket, target, upload_id, [etag], [right])
                kept = objects.head(self.bucket, target.key).sha256_of_parts
                supported.append(kept == transfer.sha256_of_parts([right]))
            finally:
                multipart.abort(self.bucket, target.key, upload_id)
        return supported == [True]

    def _refuses_delete(self, name: str) -> bool:
        key = self._key(name)
        self._put(key, FIRST)
        old = objects.head(self.bucket, key).pin
        self._put(key, SECOND)
        return refused(lambda: objects.delete(self.bucket, key, old, conditional=True))

    def _get(self, key: str, etag: str) -> None:
        with self.bucket.open(key, {"if-match": etag}):
            pass

    def _refuses_get(self) -> bool:
        key, wrong = self._key("plain"), f'"{"0" * 32}"'
        return refused(lambda: self._get(key, wrong))

    def _refuses_copy(self, name: str) -> bool:
        key = self._key(name)
        self._put(key, FIRST)
        found = objects.head(self.bucket, key)
        self._put(key, SECOND)
        return refused(lambda: objects.change_class(self.bucket, key, found, CARRIED, "STANDARD", INTENT))

    def _refuses_copy_over(self, name: str) -> bool:
        key = self._key(name)
        self._put(key, FIRST)
        found = objects.head(self.bucket, key)
        copy = partial(objects.change_class, self.bucket, key, found, CARRIED, "STANDARD")
        if not refused(lambda: copy(INTENT, "0" * 32)) or refused(lambda: copy(name, found.pin.etag)):
            return False
        return objects.head(self.bucket, key).intent == name

    def _keeps_tags(self, name: str) -> bool:
        wanted = Carried(tags={"probe": "a b"})
        with unsupported() as supported:
            self._put(self._key(name), FIRST, wanted)
            supported.append(objects.tags(self.bucket, self._key(name)) == wanted.tags)
        return supported == [True]

    def _class_names(self, classes: Sequence[str]) -> dict[str, str]:
        """The classes that the server keeps, with the name that it knows each by."""
        found: dict[str, str] = {}
        for name in classes:
            for theirs in dict.fromkeys((name, SERVERS_NAMES.get(name, name))):
                if name not in found and theirs not in found.values() and self._keeps_class(theirs):
                    found[name] = theirs
        return found

    def _keeps_class(self, storage_class: str) -> bool:
        """PUT, HEAD, CopyObject in place, HEAD and the listing must all agree on the class."""
        key = self._key(f"class-{storage_class}")
        with unsupported() as agreed:
            self._put(key, FIRST, storage_class=storage_class)
            agreed.append(objects.head(self.bucket, key).pin.storage_class == storage_class)
            self._put(key, FIRST)
            if storage_class != "STANDARD":
                found = objects.head(self.bucket, key)
                objects.change_class(self.bucket, key, found, CARRIED, storage_class, INTENT)
            agreed.append(objects.head(self.bucket, key).pin.storage_class == storage_class)
            listed = [line for page in objects.pages(self.bucket, key) for line in page if line.key == key]
            agreed.append([line.pin.storage_class for line in listed] == [storage_class])
        return agreed == [True, True, True]

    def clean_up(self) -> None:
        """Removes all that the trial wrote, every version of it."""
        versions = declared.setting(self.bucket, "list_object_versions", Prefix=self.folder)
        entries = [*versions.get("Versions", []), *versions.get("DeleteMarkers", [])]
        for entry in entries:
            self.bucket.call("delete_object", writes=True, Key=entry["Key"], VersionId=entry["VersionId"])
        for page in objects.pages(self.bucket, self.folder):
            for line in page:
                self.bucket.call("delete_object", writes=True, Key=line.key)
