"""Sites: registered, probed, shown without their secrets, changed, forgotten."""

from __future__ import annotations

from datetime import datetime
from typing import Annotated, Any

from flask import Response
from pydantic import Field
from sqlalchemy.orm import Session

from app.api import submit
from app.api.audit import record
from app.api.etags import etag, expected_version
from app.api.router import Router, reply
from app.api.schemas import MAX_ID, In, JobOut, Json, Name, Out, Page
from app.api.submit import Started
from app.db import evacuation, jobs, sites
from app.db.session import session_scope
from app.db.sites import NewSite
from app.db.tables import Site
from app.domain.roles import Role
from app.domain.sites import check_endpoint, is_encrypted, parse_networks
from app.domain.states import SiteState
from app.domain.tasks import TaskName
from app.errors import FieldError, Invalid, PolicyForbids, PreconditionFailed
from app.settings import get_settings

router = Router("sites")
MAY_BE_NULL = frozenset({"capacity_bytes", "max_request_rate"})
"""What a change may take away: null means no limit."""
REACHED_BY = frozenset({"endpoint_url", "region", "bucket", "access_key", "secret_key", "classes"})
"""What a probe has to look at again when it changes."""
Text = Annotated[str, Field(min_length=1, max_length=255)]
KmsKey = Annotated[str, Field(pattern=r"^[\x21-\x7e]{1,2048}$")]
KmsKeys = dict[KmsKey, KmsKey]
Capacity = Annotated[
    int | None,
    Field(gt=0, le=MAX_ID, strict=True, description="Bytes that all copies there may take together; null: no limit."),
]
RequestRate = Annotated[
    float | None,
    Field(gt=0, le=1e9, description="Reads a second that plans give it at most, by the day's average; null: no limit."),
]
Classes = Annotated[list[Text], Field(min_length=1, max_length=20)]


class SiteIn(In):
    """A site to register."""

    name: Name
    provider: Text
    region: Text
    endpoint_url: Text
    bucket: Text
    access_key: Text
    secret_key: Text
    classes: Classes | None = None
    latency_ms: float = Field(50.0, gt=0, le=1e6, description="What a read takes where nothing was measured yet.")
    capacity_bytes: Capacity = None
    max_request_rate: RequestRate = None


class SitePatch(In):
    """What to change of a site; what is left out stays."""

    provider: Text | None = None
    region: Text | None = None
    endpoint_url: Text | None = None
    bucket: Text | None = None
    access_key: Text | None = None
    secret_key: Text | None = None
    classes: Classes | None = None
    latency_ms: float | None = Field(None, gt=0, le=1e6)
    capacity_bytes: Capacity = None
    max_request_rate: RequestRate = None
    encryption_declared: bool | None = Field(None, description="The operator says that data is encrypted at rest.")
    allow_unguarded_delete: bool | None = Field(None, description="Delete where the site offers no condition.")
    kms_keys: KmsKeys | None = Field(
        None,
        max_length=1000,
        description="Keys of KMS that objects of other sites are encrypted with (* for all others), and what stands "
        "for each here: a key, or `default` for the bucket's own encryption.",
    )


class SiteOut(Out):
    """A site; its secret key is never shown."""

    name: str
    provider: str
    region: str
    endpoint_url: str
    bucket: str
    access_key: str
    classes: list[str]
    latency_ms: float
    capacity_bytes: int | None
    max_request_rate: float | None
    state: SiteState
    reason: str | None
    capabilities: Json
    encrypted: bool = False
    encryption_declared: bool
    allow_unguarded_delete: bool
    kms_keys: dict[str, str]
    probed_at: datetime | None
    created_at: datetime
    version: int
    job_id: int | None = Field(None, description="The probe that this request started.")
    evacuation: Json | None = Field(None, description="What is left, when it will be gone, and what stays and why.")


def show(site: Site, job_id: int | None = None) -> SiteOut:
    """The site as it is shown."""
    shown = SiteOut.model_validate(site)
    shown.encrypted, shown.job_id = sites.facts(site).encrypted, job_id
    return shown


@router.get("/sites", Role.VIEWER, answer=Page)
def list_sites() -> dict[str, Any]:
    """All sites, by name."""
    with session_scope() as session:
        return {"items": [show(site) for site in sites.listing(session)], "next_cursor": None}


@router.post("/sites", Role.ADMIN, body=SiteIn, answer=SiteOut, status=201, starts_work=True)
def add_site(body: SiteIn) -> Response:
    """Registers a site in state probing and starts its probe; it is used only after that has passed."""
    _check_endpoint(body.endpoint_url)

    def begin(session: Session) -> Started:
        given = body.model_dump(exclude_none=True)
        site = sites.add(session, NewSite(**given | ({"classes": tuple(body.classes)} if body.classes else {})))
        record(session, "site.add", site.name, {"endpoint_url": site.endpoint_url, "bucket": site.bucket})
        return _probing(session, site, 201)

    return submit.start_with(begin)


@router.get("/sites/<name:name>", Role.VIEWER, answer=SiteOut)
def get_site(name: str) -> Response:
    """One site; while it is being emptied, how far that is."""
    with session_scope() as session:
        site = sites.get(session, name)
        shown = show(site)
        shown.evacuation = evacuation.status(session, site, get_settings().grace_s)
        return reply(shown, headers=etag(site.version))


@router.put("/sites/<name:name>", Role.ADMIN, body=SiteIn, answer=SiteOut)
def put_site(name: str, body: SiteIn) -> Response:
    """Replaces a site's address and credentials; it is probed again."""
    if body.name != name:
        raise Invalid(errors=(FieldError("/name", "a site keeps its name"),))
    return _change(name, body.model_dump(exclude_none=True, exclude={"name"}))


@router.route("PATCH", "/sites/<name:name>", Role.ADMIN, body=SitePatch, answer=SiteOut)
def patch_site(name: str, body: SitePatch) -> Response:
    """Changes some of a site; it is probed again when it may be another place now."""
    values = body.model_dump(exclude_unset=True)
    return _change(name, {field: to for field, to in values.items() if to is not None or field in MAY_BE_NULL})


@router.route("DELETE", "/sites/<name:name>", Role.ADMIN, status=204)
def delete_site(name: str) -> None:
    """Forgets a site that holds no replica any more."""
    with session_scope() as session:
        sites.remove(session, name)
        record(session, "site.remove", name)


@router.post("/sites/<name:name>:probe", Role.OPERATOR, answer=JobOut, status=202, starts_work=True)
def probe_site(name: str) -> Response:
    """Starts a full probe."""

    def begin(session: Session) -> Started:
        sites.get(session, name)
        return Started(submit.job(session, TaskName.PROBE, {"site": name}, priority=1))

    return submit.start_with(begin)


@router.get("/sites/<name:name>/capabilities", Role.VIEWER)
def get_capabilities(name: str) -> dict[str, Any]:
    """What the last probe saw the site do."""
    with session_scope() as session:
        site = sites.get(session, name)
        declared = is_encrypted(site.endpoint_url, sites.facts(site).capabilities, declared=site.encryption_declared)
        return {**site.capabilities, "encrypted_or_declared": declared, "probed_at": site.probed_at}


def _change(name: str, values: dict[str, Any]) -> Response:
    if "endpoint_url" in values:
        _check_endpoint(values["endpoint_url"])
        values["endpoint_url"] = values["endpoint_url"].rstrip("/")
    expected = expected_version()
    probed = not REACHED_BY.isdisjoint(values)
    with session_scope() as session:
        before = sites.get(session, name, lock=True)
        if expected not in (None, before.version):
            raise PreconditionFailed
        again = probed and before.state != SiteState.DRAINING
        site = sites.change(session, name, **values, **({"state": SiteState.PROBING} if again else {}))
        record(session, "site.change", name, {"fields": sorted(values)})
        started = _probing(session, site, 200) if probed else None
        shown, version = show(site, started.job.id if started else None), site.version
        bell = jobs.bell(started.job) if started else None
    if bell:
        submit.ring(bell)
    return reply(shown, headers=etag(version))


def _probing(session: Session, site: Site, status: int) -> Started:
    job = submit.job(session, TaskName.PROBE, {"site": site.name}, priority=1)
    session.refresh(site)
    return Started(job, show(site, job.id), status, f"/v1/sites/{site.name}")


def _check_endpoint(url: str) -> None:
    try:
        check_endpoint(url, parse_networks(get_settings().site_networks))
    except (Invalid, PolicyForbids) as error:
        raise Invalid(error.detail, reason=error.reason, errors=(FieldError("/endpoint_url", error.detail),)) from None
