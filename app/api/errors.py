"""Every error as problem+json (RFC 9457): the one place where a request's unknown error is caught."""

from __future__ import annotations

import math
from http import HTTPStatus

import structlog
from flask import Flask, Response, g
from flask_limiter import RateLimitExceeded
from pydantic_core import to_json
from werkzeug.exceptions import HTTPException

from app.errors import ForetideError, Transient

log = structlog.get_logger()
TYPE = "/problems/"
DEFAULT_RETRY_S = 1.0


def problem(status: int, slug: str, detail: str, **members: object) -> Response:
    """The response for an error; members: further fields of the document."""
    document = {
        "type": TYPE + slug,
        "title": HTTPStatus(status).phrase,
        "status": status,
        "detail": detail,
        "instance": f"urn:foretide:request:{g.get('request_id', '')}",
        **members,
    }
    return Response(to_json(document), status, content_type="application/problem+json")


def on_foretide(error: ForetideError) -> Response:
    """An error of our own tree: its class says everything."""
    errors = [{"pointer": each.pointer, "detail": each.detail} for each in error.errors]
    response = problem(error.status, error.slug, error.detail, reason=error.reason, errors=errors)
    if isinstance(error, Transient):
        response.headers["Retry-After"] = str(math.ceil(error.retry_after_s or DEFAULT_RETRY_S))
    if error.status == HTTPStatus.UNAUTHORIZED:
        response.headers["WWW-Authenticate"] = "Bearer"
    return response


def on_http(error: HTTPException) -> Response:
    """An error that Flask raised: 404, 405, 413 and their like."""
    if error.response is not None or error.code is None or error.code < HTTPStatus.BAD_REQUEST:
        return Response(status=error.code or 500, headers=error.get_headers())
    if isinstance(error, RateLimitExceeded):
        response = problem(429, "throttled", f"more than {error.limit.limit} requests", reason="throttled", errors=[])
        response.headers["Retry-After"] = str(error.limit.limit.get_expiry())
        return response
    slug = HTTPStatus(error.code).phrase.lower().replace(" ", "-")
    response = problem(error.code, slug, error.description or slug, reason=slug.replace("-", "_"), errors=[])
    for name, value in error.get_headers():
        if name.lower() not in ("content-type", "content-length"):
            response.headers[name] = value
    return response


def on_unexpected(error: Exception) -> Response:
    """An error that nobody classed: logged whole, told without its text, which might hold a secret."""
    log.error("request failed", exc_info=error)
    return problem(500, "unexpected-error", "an unexpected error; the log has it under this request id", errors=[])


def install(app: Flask) -> None:
    """Registers the handlers."""
    app.register_error_handler(ForetideError, on_foretide)
    app.register_error_handler(HTTPException, on_http)
    app.register_error_handler(Exception, on_unexpected)
