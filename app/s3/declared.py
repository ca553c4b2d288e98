"""What a bucket says of itself, by boto3: versions, locks, encryption, and rules that would fight the planner."""

from __future__ import annotations

from typing import Any

from app.errors import Permanent, SiteFaulty
from app.s3.client import Bucket


def setting(bucket: Bucket, operation: str, field: str | None = None, **parameters: Any) -> dict[str, Any]:
    """One answer, or a field of it; empty when there is nothing, or the site does not know or allow the question."""
    try:
        answer = bucket.call(operation, **parameters)
    except (Permanent, SiteFaulty):
        return {}
    return dict(answer.get(field) or {}) if field else answer


def keeps_versions(bucket: Bucket) -> bool:
    """Whether versioning is enabled."""
    return setting(bucket, "get_bucket_versioning").get("Status") == "Enabled"


def has_object_lock(bucket: Bucket) -> bool:
    """Whether objects may be locked."""
    return bool(setting(bucket, "get_object_lock_configuration", "ObjectLockConfiguration"))


def encrypts(bucket: Bucket) -> bool:
    """Whether there is a default encryption."""
    return bool(setting(bucket, "get_bucket_encryption", "ServerSideEncryptionConfiguration").get("Rules"))


def warnings(bucket: Bucket) -> tuple[str, ...]:
    """What an operator should know."""
    found = []
    if setting(bucket, "get_bucket_lifecycle_configuration").get("Rules"):
        found.append("the bucket has lifecycle rules, which may move or delete what Foretide has placed")
    if setting(bucket, "get_bucket_replication", "ReplicationConfiguration").get("Rules"):
        found.append("the bucket has replication rules, which make copies that Foretide does not know")
    return tuple(found)
