"""Sites that are drained and emptied: they receive nothing more, and what they hold goes elsewhere."""

from __future__ import annotations

from flask import Response
from pydantic import Field
from sqlalchemy.orm import Session

from app.api import submit
from app.api.etags import etag
from app.api.plans import who
from app.api.router import Router, reply
from app.api.schemas import In, JobOut
from app.api.sites import SiteOut, show
from app.api.submit import Started
from app.db import evacuation, jobs
from app.db.session import session_scope
from app.domain.roles import Role
from app.domain.tasks import TaskName

router = Router("evacuation")


class EvacuateIn(In):
    """How to evacuate."""

    dry_run: bool = Field(False, description="Only tell what would go where, and what stays.")


@router.post("/sites/<name:name>:drain", Role.OPERATOR, answer=SiteOut)
def drain_site(name: str) -> Response:
    """Lets the site receive nothing more; what it holds stays readable where it is."""
    with session_scope() as session:
        site = evacuation.drain(session, name, **who())
        return reply(show(site), headers=etag(site.version))


@router.post("/sites/<name:name>:undrain", Role.OPERATOR, answer=SiteOut)
def undrain_site(name: str) -> Response:
    """Ends the draining; the site is used again once the probe that this starts has passed."""
    with session_scope() as session:
        site = evacuation.undrain(session, name, **who())
        job = submit.job(session, TaskName.PROBE, {"site": name}, priority=1)
        shown, bell = show(site, job.id), jobs.bell(job)
    submit.ring(bell)
    return reply(shown, headers=etag(site.version))


@router.post("/sites/<name:name>:evacuate", Role.OPERATOR, body=EvacuateIn, answer=JobOut, status=202, starts_work=True)
def evacuate_site(name: str, body: EvacuateIn) -> Response:
    """Drains the site and starts to move what it holds to the cheapest sites that the rules allow."""

    def begin(session: Session) -> Started:
        return Started(evacuation.submit(session, name, **who(), dry_run=body.dry_run))

    return submit.start_with(begin)
