"""ETags of documents that are changed: a change names the version that it was made from."""

from __future__ import annotations

from flask import request

from app.errors import PreconditionFailed, PreconditionRequired


def etag(version: object) -> dict[str, str]:
    """The header that names a version of a document."""
    return {"ETag": f'"{version}"'}


def check_match(version: object, *, required: bool = True) -> None:
    """Raises PreconditionRequired without If-Match, PreconditionFailed when it names another version."""
    if not request.if_match:
        if required and "If-Match" not in request.headers:
            raise PreconditionRequired
        if "If-Match" not in request.headers:
            return
    if not request.if_match.contains(str(version)):
        raise PreconditionFailed
