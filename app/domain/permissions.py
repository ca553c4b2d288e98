"""The least that a site's credentials must be allowed, by mode: as AWS policies, or as roles of other providers.

OPERATIONS says which S3 requests are made in which mode, and what each needs. A test holds it against the requests that
real runs make, so that it cannot drift from the engine.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from typing import Any

from app.domain.states import Mode


class Scope(StrEnum):
    """What an action is allowed on."""

    BUCKET = "bucket"
    OBJECTS = "objects"


@dataclass(frozen=True)
class Needs:
    """What one S3 request needs. `versioned`: instead, when it names a version; `observe`: that mode makes it too."""

    actions: tuple[str, ...]
    versioned: tuple[str, ...] = ()
    observe: bool = False
    restore: bool = False
    """Only where a policy says allow_restore."""
    on_bucket: bool = False


def _on_bucket(*actions: str, observe: bool = True) -> Needs:
    return Needs(actions, observe=observe, on_bucket=True)


READ = ("s3:GetObject", "s3:GetObjectTagging", "s3:GetObjectRetention", "s3:GetObjectLegalHold")
"""The last three: else a HEAD does not tell how many tags an object has, nor that it is locked."""
WRITE = ("s3:PutObject", "s3:PutObjectTagging")
OPERATIONS: dict[str, Needs] = {
    "ListObjectsV2": _on_bucket("s3:ListBucket"),
    "ListObjectVersions": _on_bucket("s3:ListBucketVersions"),
    "GetBucketVersioning": _on_bucket("s3:GetBucketVersioning"),
    "GetBucketEncryption": _on_bucket("s3:GetEncryptionConfiguration"),
    "GetBucketLifecycleConfiguration": _on_bucket("s3:GetLifecycleConfiguration"),
    "GetBucketReplication": _on_bucket("s3:GetReplicationConfiguration"),
    "GetObjectLockConfiguration": _on_bucket("s3:GetBucketObjectLockConfiguration"),
    "ListMultipartUploads": _on_bucket("s3:ListBucketMultipartUploads", observe=False),
    "HeadObject": Needs(READ, ("s3:GetObjectVersion", *READ[1:]), observe=True),
    "GetObject": Needs(("s3:GetObject",), ("s3:GetObjectVersion",), observe=True),
    "GetObjectTagging": Needs(("s3:GetObjectTagging",), ("s3:GetObjectVersionTagging",), observe=True),
    "PutObject": Needs(WRITE),
    "CopyObject": Needs(("s3:GetObject", "s3:GetObjectTagging", *WRITE)),
    "CreateMultipartUpload": Needs(WRITE),
    "UploadPart": Needs(("s3:PutObject",)),
    "UploadPartCopy": Needs(("s3:GetObject", "s3:PutObject")),
    "CompleteMultipartUpload": Needs(("s3:PutObject",)),
    "AbortMultipartUpload": Needs(("s3:AbortMultipartUpload",)),
    "ListParts": Needs(("s3:ListMultipartUploadParts",)),
    "DeleteObject": Needs(("s3:DeleteObject",), ("s3:DeleteObjectVersion",)),
    "RestoreObject": Needs(("s3:RestoreObject",), restore=True),
}


def actions(mode: Mode, *, allow_restore: bool, versioning: bool) -> dict[Scope, tuple[str, ...]]:
    """The actions that a mode needs, by what they are allowed on. paused needs what observe does.

    versioning: whether the bucket keeps versions; where it does not, versions are deleted nowhere.
    """
    moves = mode in (Mode.APPROVE, Mode.AUTO)
    found: dict[Scope, set[str]] = {Scope.BUCKET: set(), Scope.OBJECTS: set()}
    for needs in OPERATIONS.values():
        if not (needs.observe or moves) or (needs.restore and not allow_restore):
            continue
        scope = Scope.BUCKET if needs.on_bucket else Scope.OBJECTS
        found[scope].update(needs.actions, needs.versioned if versioning else ())
    return {scope: tuple(sorted(names)) for scope, names in found.items() if names}


def aws_policy(bucket: str, by_scope: dict[Scope, tuple[str, ...]], principal: str | None = None) -> dict[str, Any]:
    """A policy document; principal: an ARN, which makes it a bucket policy."""
    where = {Scope.BUCKET: f"arn:aws:s3:::{bucket}", Scope.OBJECTS: f"arn:aws:s3:::{bucket}/*"}
    whom = {"Principal": {"AWS": principal}} if principal else {}
    statements = [
        {"Sid": f"Foretide{scope.title()}", "Effect": "Allow", **whom, "Action": list(names), "Resource": where[scope]}
        for scope, names in by_scope.items()
    ]
    return {"Version": "2012-10-17", "Statement": statements}


ROLES: dict[str, tuple[tuple[str, ...], tuple[str, ...]]] = {
    "gcp": (
        ("roles/storage.objectViewer", "roles/storage.legacyBucketReader"),
        ("roles/storage.objectUser", "roles/storage.legacyBucketReader"),
    ),
    "azure": (("Storage Blob Data Reader",), ("Storage Blob Data Contributor",)),
    "cloudflare": (("Object Read only",), ("Object Read & Write",)),
}
"""By provider: the predefined roles to only look, and to move."""
NOTES: dict[str, tuple[str, ...]] = {
    "aws": (
        "Objects encrypted with a KMS key also need kms:Decrypt, and kms:GenerateDataKey to be written, on that key.",
    ),
    "gcp": (
        "Grant the roles on the bucket to a service account and register the site with an HMAC key of that account.",
        "objectUser allows what S3's Put, Copy, Delete and multipart requests need; no smaller predefined role does.",
    ),
    "azure": (
        "Azure Blob Storage speaks no S3: the endpoint is a gateway, whose own identity needs the roles there.",
        "The site is registered with the gateway's own key: limit it by the gateway's means to `s3_actions`.",
    ),
    "cloudflare": ("Make an R2 API token with this permission for the one bucket; R2 has no smaller parts.",),
}
OTHER = ("The provider is not known: servers that read AWS's policies take `policy` as it is.",)


def document(
    mode: Mode, provider: str, bucket: str, *, allow_restore: bool, versioning: bool, principal: str | None = None
) -> dict[str, Any]:
    """What to grant, as JSON: for AWS and servers like it a policy, for other providers their roles; and what to know.

    `s3_actions` are AWS's names of what is done, whoever the provider is.
    """
    by_scope = actions(mode, allow_restore=allow_restore, versioning=versioning)
    moves = mode in (Mode.APPROVE, Mode.AUTO)
    notes = [*NOTES.get(provider, OTHER)]
    if mode is Mode.APPROVE:
        notes.append("approve needs what auto does: what a person has approved is carried out with these credentials.")
    if not moves:
        notes.append("With these the probe finds the site read-only: plans are made, and nothing can be moved there.")
    if moves and not allow_restore:
        notes.append("No policy says allow_restore, so that nothing is asked back from an archive.")
    return {
        "mode": mode.value,
        "provider": provider,
        "bucket": bucket,
        "roles": list(ROLES[provider][moves]) if provider in ROLES else [],
        "policy": None if provider in ROLES else aws_policy(bucket, by_scope, principal),
        "s3_actions": {scope.value: list(names) for scope, names in by_scope.items()},
        "notes": notes,
    }
