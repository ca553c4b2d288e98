"""ETags of documents that are changed: a change names the version that it was made from."""

from __future__ import annotations

from flask import request

from app.errors import PreconditionFailed, PreconditionRequired


def etag(version: object) -> dict[str, str]:
    """The header that names a version of a document."""
    return {"ETag": f'"{version}"'}


def check_match(version: object) -> None:
    """Raises PreconditionFailed when If-Match names another version of the document than this, its present one."""
    if "If-Match" in request.headers and not request.if_match.contains(str(version)):
        raise PreconditionFailed


def expected_version(*, required: bool = False) -> int | None:
    """The version that If-Match names; None without one, or with `*`.

    Raises PreconditionRequired when it is required and missing, PreconditionFailed when no version has such an ETag.
    """
    if "If-Match" not in request.headers:
        if required:
            raise PreconditionRequired
        return None
    if request.if_match.star_tag:
        return None
    tags = [tag for tag in request.if_match.as_set() if tag.isascii() and tag.isdigit() and len(tag) < 19]
    if len(tags) != 1:
        raise PreconditionFailed
    return int(tags[0])
