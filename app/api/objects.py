"""Objects: the catalogue, its replicas, and the inventory that fills it."""

from __future__ import annotations

import hashlib
import json
from typing import Annotated, Any, Literal

from flask import Response, request
from pydantic import Field
from sqlalchemy.orm import Session

from app.api import security, submit
from app.api.accesses import TYPES, Ingested
from app.api.audit import record
from app.api.etags import check_match, etag
from app.api.pages import PageQuery, page
from app.api.router import Router, reply
from app.api.schemas import In, JobOut, Json, Key, Name, Page
from app.api.submit import Started
from app.db import objects, predictions, sites
from app.db.session import session_scope
from app.db.tables import Object, Prediction, Replica
from app.domain import inventory_lines
from app.domain.roles import Role
from app.domain.states import ObjectState
from app.domain.tasks import TaskName
from app.errors import UnsupportedMedia
from app.settings import get_settings

router = Router("objects")
LINES = ("application/x-ndjson",)
TagName = Annotated[str, Field(min_length=1, max_length=128)]
TagValue = Annotated[str, Field(max_length=256)]
"""As long as S3 allows."""


class ObjectsQuery(PageQuery):
    """Which objects."""

    site: Name | None = Field(None, description="A site that serves them.")
    tier: Literal["hot", "warm", "cold"] | None = None
    prefix: str | None = Field(None, max_length=1024)
    key: Key | None = None
    state: ObjectState | None = Field(None, description="gone: deleted by their owner, with what copies are left.")


class ObjectIn(In):
    """What may be set of an object."""

    tags: dict[TagName, TagValue] = Field(max_length=50)


class ScanIn(In):
    """What to list."""

    site: Name | None = Field(None, description="One site; all that are ready if it is left out.")
    prefix: str | None = Field(None, max_length=1024)
    believe_absent: bool = Field(
        False, description="What two scans missed counts as deleted, however much it is; else an alert asks first."
    )
    tags: bool = Field(False, description="Also read each object's tags, a request each, for residency by tag.")


@router.get("/objects", Role.VIEWER, query=ObjectsQuery, answer=Page)
def list_objects(query: ObjectsQuery) -> dict[str, Any]:
    """Objects that all the filters hold for."""
    filters = query.model_dump(include={"site", "tier", "prefix", "key", "state"})
    with session_scope() as session:
        rows = objects.listing(session, **filters, after_id=query.after_id(), limit=query.limit + 1)
        replicas = objects.replicas_of(session, [row.id for row in rows])
        return page(rows, query.limit, lambda row: show(row, replicas[row.id]), lambda row: row.id)


@router.get("/objects/<id:object_id>", Role.VIEWER)
def get_object(object_id: int) -> Response:
    """One object with its replicas and its newest prediction."""
    with session_scope() as session:
        return _document(session, objects.get(session, object_id))


@router.put("/objects/<id:object_id>", Role.OPERATOR, body=ObjectIn)
def put_object(object_id: int, body: ObjectIn) -> Response:
    """Sets an object's tags."""
    with session_scope() as session:
        row = objects.get(session, object_id, lock=True)
        check_match(_version(row))
        row.tags = dict(body.tags)
        record(session, "object.tags", row.key, {"tags": row.tags})
        return _document(session, row)


@router.post("/objects:scan", Role.OPERATOR, body=ScanIn, answer=JobOut, status=202, starts_work=True)
def scan(body: ScanIn) -> Response:
    """Starts an inventory of one site or of all."""

    def begin(session: Session) -> Started:
        if body.site:
            sites.get(session, body.site)
        return Started(submit.job(session, TaskName.SCAN, body.model_dump(exclude_defaults=True)))

    return submit.start_with(begin)


@router.post("/sites/<name>/inventory", Role.OPERATOR, answer=Ingested, limited=False, reads=LINES)
def import_inventory(name: str) -> dict[str, Any]:
    """Adds objects that an inventory tells of, as NDJSON of key, size, etag, last_modified and storage_class.

    What the catalogue knows at the site already counts as a duplicate and stays as it is.
    """
    if request.mimetype not in TYPES - {"application/json"}:
        raise UnsupportedMedia("send NDJSON with the header Content-Type: application/x-ndjson")
    settings = get_settings()
    data = security.unpacked_body(settings.ingest_max_bytes)
    with session_scope() as session:
        site = sites.get(session, name)
        found = inventory_lines.read(data, settings.ingest_max_lines, sites.classes_told(site))
        added = objects.add_page(session, site.id, found.pins) if found.pins else objects.Scanned()
        if added.new:
            record(session, "objects.import", site.name, {"added": added.new})
    return {
        "accepted": added.new,
        "duplicates": found.right - added.new,
        "rejected": len(found.errors),
        "errors": found.errors,
    }


def show(row: Object, replicas: list[tuple[Replica, str]]) -> Json:
    """The object as it is shown."""
    return {
        "id": row.id,
        "key": row.key,
        "state": row.state,
        "version": row.version,
        "size": row.size,
        "tags": row.tags,
        "tier": row.tier,
        "first_seen_at": row.first_seen_at,
        "moved_at": row.moved_at,
        "replicas": [_replica(replica, site, row.version) for replica, site in replicas],
    }


def _replica(row: Replica, site: str, version: int) -> Json:
    return {
        "site": site,
        "storage_class": row.storage_class,
        "state": row.state,
        "current": row.object_version == version,
        "is_origin": row.is_origin,
        "size": row.size,
        "etag": row.pin.get("etag"),
        "sha256": row.sha256,
        "verified_at": row.verified_at,
        "draining_until": row.draining_until,
    }


def _document(session: Session, row: Object) -> Response:
    shown = show(row, objects.replicas_of(session, [row.id])[row.id])
    shown["prediction"] = prediction(predictions.of(session, row.id))
    return reply(shown, headers=etag(_version(row)))


def _version(row: Object) -> str:
    """Changes with the object's bytes and with its tags."""
    tags = json.dumps(row.tags, sort_keys=True).encode()
    return f"{row.version}-{hashlib.sha256(tags).hexdigest()[:12]}"


def prediction(row: Prediction | None) -> Json | None:
    """The newest prediction as it is shown; None before the first."""
    if row is None:
        return None
    names = ("p_raw", "p_hot", "p_low", "p_high", "tier", "as_of", "model_version_id")
    demand = ("demand_version_id", "reads_1d", "reads_7d", "reads_30d", "bytes_1d", "bytes_7d", "bytes_30d")
    spread = ("reads_30d_low", "reads_30d_high")
    return {name: getattr(row, name) for name in (*names, *demand, *spread)}
