"""What a request may be: size, encoding, depth, text; headers that each response carries; CORS for listed origins."""

from __future__ import annotations

import re
import uuid
import zlib
from collections.abc import Iterable
from typing import Any

import msgspec
import structlog
from flask import Flask, Response, g, request

from app.errors import BadRequest, TooLarge, UnsupportedMedia
from app.settings import get_settings

MAX_DEPTH = 32
_REQUEST_ID = re.compile(r"[A-Za-z0-9._-]{1,64}")
_HEADERS = {
    "X-Content-Type-Options": "nosniff",
    "X-Frame-Options": "DENY",
    "Referrer-Policy": "same-origin",
    "Content-Security-Policy": "default-src 'self'; base-uri 'none'; form-action 'self'; frame-ancestors 'none'",
}


def json_body() -> Any:
    """The request's JSON. Raises UnsupportedMedia, TooLarge or BadRequest."""
    if request.content_encoding:
        raise UnsupportedMedia("this route takes no Content-Encoding")
    if request.mimetype != "application/json" and not request.mimetype.endswith("+json"):
        raise UnsupportedMedia("send JSON with the header Content-Type: application/json")
    return parse_json(request.get_data())


def parse_json(data: bytes) -> Any:
    """Strict JSON of bounded depth without text that Postgres cannot keep. Raises BadRequest."""
    try:
        value = msgspec.json.decode(data)
    except (msgspec.DecodeError, RecursionError) as error:
        raise BadRequest(f"the body is not JSON: {error}") from error
    _check_value(value, 0)
    return value


def _check_value(value: Any, depth: int) -> None:
    if depth > MAX_DEPTH:
        raise BadRequest(f"the body is nested deeper than {MAX_DEPTH} levels")
    if isinstance(value, str):
        check_text([value])
    elif isinstance(value, dict):
        check_text(value)
        for inner in value.values():
            _check_value(inner, depth + 1)
    elif isinstance(value, list):
        for inner in value:
            _check_value(inner, depth + 1)


def check_text(texts: Iterable[str]) -> None:
    """Raises BadRequest for text that is not valid Unicode or holds NUL, which Postgres cannot keep."""
    for text in texts:
        if "\x00" in text:
            raise BadRequest("the request holds a NUL character")
        if not text.isascii() and any("\ud800" <= character <= "\udfff" for character in text):
            raise BadRequest("the request is not valid Unicode")


def unpacked_body(max_bytes: int) -> bytes:
    """The request's body, unpacked when it is gzip (of one member or several) and never more than `max_bytes`.

    The server ends a body where its connection breaks, so its length or its gzip must tell that all has come: half a
    block would be taken for a whole one. Raises TooLarge before more is unpacked, UnsupportedMedia for another
    encoding, BadRequest for broken gzip, for a body that is cut off, and for one that does not say its length.
    """
    request.max_content_length = max_bytes
    encoding = (request.content_encoding or "identity").lower()
    if encoding not in ("identity", "gzip"):
        raise UnsupportedMedia("Content-Encoding may be gzip or nothing")
    length, data = request.content_length, request.get_data()
    if data and length is None and encoding == "identity":
        raise BadRequest("say the Content-Length, or send gzip: nothing else tells whether all has come")
    if length is not None and len(data) < length:
        raise BadRequest(f"the body is cut off: {len(data)} bytes of {length} came")
    return _unpacked(data, max_bytes) if encoding == "gzip" else data


def _unpacked(data: bytes, max_bytes: int) -> bytes:
    """The members of a gzip body, which follow each other."""
    parts, total = [], 0
    while True:
        unpacker = zlib.decompressobj(wbits=16 + zlib.MAX_WBITS)
        try:
            parts.append(unpacker.decompress(data, max_bytes + 1 - total))
        except zlib.error as error:
            raise BadRequest(f"the body is not gzip: {error}") from error
        total += len(parts[-1])
        if total > max_bytes:
            raise TooLarge(f"the body is larger than {max_bytes} bytes when unpacked")
        if not unpacker.eof:
            raise BadRequest("the gzip body is cut off")
        data = unpacker.unused_data
        if not data:
            return b"".join(parts)


def request_id() -> str:
    """The id under which this request stands in logs, jobs and the audit."""
    return str(g.request_id)


def install(app: Flask) -> None:
    """Gives each request an id and each response its headers."""
    app.config["MAX_CONTENT_LENGTH"] = get_settings().max_body_bytes
    app.config["PROVIDE_AUTOMATIC_OPTIONS"] = False
    origins = frozenset(origin.strip() for origin in get_settings().cors_origins.split(",") if origin.strip())

    @app.before_request
    def name_request() -> Response | None:
        sent = request.headers.get("X-Request-Id", "")
        g.request_id = sent if _REQUEST_ID.fullmatch(sent) else uuid.uuid4().hex
        structlog.contextvars.clear_contextvars()
        structlog.contextvars.bind_contextvars(request_id=g.request_id)
        is_preflight = request.method == "OPTIONS" and "Access-Control-Request-Method" in request.headers
        return Response(status=204) if is_preflight and request.origin in origins else None

    @app.after_request
    def add_headers(response: Response) -> Response:
        response.headers["X-Request-Id"] = g.get("request_id", "")
        for name, value in _HEADERS.items():
            response.headers.setdefault(name, value)
        if "Cache-Control" not in response.headers:
            response.headers["Cache-Control"] = "no-store"
        if request.origin in origins:
            _allow(response, str(request.origin))
        return response


def _allow(response: Response, origin: str) -> None:
    response.headers["Access-Control-Allow-Origin"] = origin
    response.headers["Access-Control-Allow-Methods"] = "GET, POST, PUT, PATCH, DELETE"
    response.headers["Access-Control-Allow-Headers"] = "Authorization, Content-Type, Idempotency-Key, If-Match"
    response.headers["Access-Control-Expose-Headers"] = "ETag, Location, Retry-After, X-Request-Id"
    response.headers.add("Vary", "Origin")
