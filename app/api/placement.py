"""Placement: where an object's copies lie, why, and what would be under other rules."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from flask import Response
from pydantic import Field
from sqlalchemy.orm import Session

from app import clock
from app.api import computed, models, submit
from app.api.objects import prediction, show
from app.api.router import Router
from app.api.schemas import In, JobOut, Json, Key, KeyQuery, Name
from app.api.submit import Started
from app.db import objects, peaks, placement, policies, predictions, prices, sites
from app.db.placement import Selection
from app.db.session import session_scope
from app.domain.placement_problem import DEFAULT_HORIZON_DAYS, Problem
from app.domain.policies import MAX_RF
from app.domain.roles import Role
from app.domain.tasks import TaskName
from app.domain.what_if import MOST_TIMES, Scenario, read, words
from app.errors import ArtifactRefused, Conflict, FieldError, Invalid, NotFound, pointer_to

router = Router("placement")
MAX_KEYS = 10_000
MAX_HORIZON_DAYS = 3650
OTHERWISE = ("rf", "sla_ms", "residency", "lost", "reads_times", "prices")


class Scope(In):
    """What to plan, and rules that differ from the policies for this plan alone."""

    prefix: str | None = Field(None, max_length=1024)
    keys: list[Key] | None = Field(None, min_length=1, max_length=MAX_KEYS)
    rf: int | None = Field(None, ge=1, le=MAX_RF, description="Replicas of each object.")
    sla_ms: float | None = Field(None, gt=0, le=1e9, description="Latency that one replica must meet.")
    horizon_days: float | None = Field(None, gt=0, le=MAX_HORIZON_DAYS, description="What a move must pay back within.")


class Explain(KeyQuery):
    """An object, and rules that differ from the policies for this answer alone."""

    rf: int | None = Field(None, ge=1, le=MAX_RF)
    sla_ms: float | None = Field(None, gt=0, le=1e9)
    horizon_days: float = Field(DEFAULT_HORIZON_DAYS, gt=0, le=MAX_HORIZON_DAYS)


class WhatIf(Scope):
    """What would be otherwise, and for which objects; what is left out stays as it is."""

    key: Key | None = Field(None, description="One object: short for keys.")
    lost: list[Name] | None = Field(None, min_length=1, max_length=100, description="Sites gone with their copies.")
    residency: list[Name] | None = Field(None, min_length=1, max_length=100, description="Copies lie only there.")
    reads_times: float = Field(1.0, ge=0, le=MOST_TIMES, description="Every object is read so many times as often.")
    prices: dict[Name, str | Json] | None = Field(
        None, max_length=100, description="By site: a provider whose shipped book holds there, or a price book."
    )


@router.get("/placements", Role.VIEWER, query=KeyQuery)
def get_placement(query: KeyQuery) -> Json:
    """Where an object lies, and its newest prediction."""
    with session_scope() as session:
        row = objects.by_key(session, query.key)
        shown = show(row, objects.replicas_of(session, [row.id])[row.id])
        return shown | {"prediction": prediction(predictions.of(session, row.id))}


@router.get("/explanation", Role.VIEWER, query=Explain)
def get_explanation(query: Explain) -> Json:
    """Why an object lies where it lies: every candidate set with its cost and what rules it out.

    `left_out` says why plans leave it out for now, null where they do not; `peaks` what plans have for its peaks;
    `prediction` has the features that set the object apart, each with what it adds to the log-odds of being read.
    """
    with session_scope() as session:
        problem = problem_of(session, query.key, rf=query.rf, sla_ms=query.sla_ms, horizon_days=query.horizon_days)
        number = problem.items[0].id
        left_out, coming = placement.why_moving(session, number), peaks.coming(session, number, clock.now())
        newest, values = prediction(predictions.of(session, number)), predictions.made_from(session, number)
    told = newest | {"reasons": _reasons(values)} if newest and values else newest
    return computed.explanation(problem) | {"left_out": left_out, "peaks": coming, "prediction": told}


def _reasons(values: list[float]) -> list[Json] | None:
    """What sets the object apart for the model that serves; None where none can be asked."""
    try:
        found = models.serving.of("tier")
    except (NotFound, ArtifactRefused):
        return None
    return computed.why(found.opened, values, found.version.reference)


@router.post("/what-if", Role.OPERATOR, body=WhatIf, answer=JobOut, status=202, starts_work=True)
def what_if(body: WhatIf) -> Response:
    """Starts to compare the plan as it would be with that under other prices, rules or reads, or without some sites.

    The job's result holds both and their difference; nothing else is changed.
    """
    if body.key and body.keys:
        raise Invalid(errors=(FieldError("/key", "give either key or keys"),))
    asked = arguments(body) | ({"keys": [body.key]} if body.key else {})
    asked.pop("key", None)
    if not words(asked):
        raise Invalid(f"nothing would be otherwise: give one at least of {', '.join(OTHERWISE)}")

    def begin(session: Session) -> Started:
        rows = sites.listing(session)
        priced = prices.books(session, rows)
        unpriced = [site.name for site in rows if site.name not in priced]
        scenario = read(asked, priced, policies.load(session), unpriced)
        _check_prices(session, {site.name: site.id for site in rows}, scenario)
        return Started(submit.job(session, TaskName.WHAT_IF, asked))

    return submit.start_with(begin)


def _check_prices(session: Session, site_ids: Mapping[str, int], scenario: Scenario) -> None:
    """Raises Invalid, naming the classes, unless each book prices those in which copies lie at its site."""
    errors = tuple(
        FieldError(pointer_to("prices", site) + error.pointer, error.detail)
        for site, book in scenario.books.items()
        if site not in scenario.lost
        for error in prices.lacking(session, site_ids[site], book)
    )
    if errors:
        raise Invalid("the what-if is not valid", errors=errors)


@router.post("/optimize", Role.OPERATOR, body=Scope, answer=JobOut, status=202, starts_work=True)
def optimize(body: Scope) -> Response:
    """Makes a plan and, when the mode says so, applies it: a run from plan to migrate."""
    return submit.start(TaskName.RUN, arguments(body) | {"from": "plan", "to": "migrate"})


def arguments(scope: Scope) -> Json:
    """The scope as a job's arguments."""
    return scope.model_dump(exclude_none=True)


def problem_of(
    session: Session,
    key: str,
    *,
    rf: int | None = None,
    sla_ms: float | None = None,
    horizon_days: float = DEFAULT_HORIZON_DAYS,
) -> Problem:
    """One object as the planner sees it. Raises NotFound, or Conflict with what keeps it from being planned."""
    objects.by_key(session, key)
    world = placement.world(session, clock.now())
    selection = Selection(keys=(key,), rf=rf, sla_ms=sla_ms, moving=True)
    block = placement.block(session, world, selection, 0, 1)
    if not block.items:
        why = dict[str, Any](block.unplanned).get(key, "it is unknown to every site; scan them: foretide objects scan")
        raise Conflict(f"the object cannot be placed: {why}", reason="not_plannable")
    return Problem(world.options, block.items, horizon_days)
