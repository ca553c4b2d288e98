"""What the voters last said of each object, so that explanations need no learner; written only when it changed."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from itertools import takewhile

from sqlalchemy import select, text
from sqlalchemy.orm import Session

from app.db import models
from app.db.accesses import known_days
from app.db.tables import Job, Json, ObjectOpinion
from app.domain.states import JobState
from app.domain.tasks import TaskName
from app.domain.votes import UNKNOWN_CLASS, Ballot, Opinion, Speaker, silent

NAME = "placement"
"""The model that voters learn."""
LEAST_DAYS = 90
"""Days of accesses that voters learn from at least: the longest minimum duration."""
LESSONS = 10
"""Lessons that are looked back at."""
_UPSERT = text(
    """insert into object_opinion as o (object_id, model_version_id, as_of, ballots, back_at)
    select s.id, :model, :now, cast(s.ballots as jsonb), case when s.back then cast(:now as timestamptz) end
    from unnest(cast(:ids as bigint[]), cast(:ballots as text[]), cast(:back as bool[])) as s (id, ballots, back)
    join object on object.id = s.id order by s.id
    on conflict (object_id) do update set model_version_id = excluded.model_version_id, as_of = excluded.as_of,
        ballots = excluded.ballots, back_at = coalesce(excluded.back_at, o.back_at)
    where o.as_of <= excluded.as_of
        and (o.ballots <> excluded.ballots or o.model_version_id <> excluded.model_version_id)"""
)


@dataclass(frozen=True)
class Voting:
    """Who speaks at which site, by which version of what was learned; or why nobody does."""

    speakers: Mapping[str, Speaker] = field(default_factory=dict)
    model_id: int | None = None
    version: int = 0
    silence: str = ""

    @property
    def model(self) -> str:
        """The version, as people call it."""
        return f"{NAME} {self.version}" if self.version else ""


def voting(session: Session, now: datetime) -> Voting:
    """Who speaks as of a time: nobody who has learned from later days."""
    champion = models.champion(session, NAME)
    if champion is None:
        days = known_days(session, now)
        few = f"{days} days of accesses are known, it needs {LEAST_DAYS}"
        why = few if days < LEAST_DAYS else "the voters have not learned yet"
        return Voting(silence=f"no vote, since {why}: what is expected of its own rate and its cohort's decides")
    if champion.data_to is not None and champion.data_to > now:
        return Voting(silence="no vote, since the voters have learned from later days")
    speakers = {
        site: Speaker(entry["name"], entry["voting"], tuple(entry["stands_for"]), entry["coldest"])
        for site, entry in champion.params["sites"].items()
    }
    return Voting(speakers, champion.id, champion.version)


def failed_lessons(session: Session) -> list[Job]:
    """The voters' lessons that failed after the last one that did not, the newest first."""
    lessons = select(Job).where(Job.kind == TaskName.TRAIN, Job.args["model"].as_string() == NAME)
    ended = lessons.where(Job.state.in_((JobState.SUCCEEDED, JobState.FAILED, JobState.DEAD)))
    newest = session.scalars(ended.order_by(Job.id.desc()).limit(LESSONS))
    return list(takewhile(lambda job: job.state != JobState.SUCCEEDED, newest))


def load(session: Session, who: Voting, ids: Sequence[int]) -> dict[int, Opinion]:
    """The newest opinions on some objects; of each that has none, why."""
    if who.model_id is None:
        return dict.fromkeys(ids, silent(who.silence))
    found = dict.fromkeys(ids, silent("no vote yet: it is asked for with the next plan"))
    rows = select(ObjectOpinion).where(ObjectOpinion.object_id.in_(ids), ObjectOpinion.model_version_id == who.model_id)
    for row in session.scalars(rows):
        found[row.object_id] = opinion(who, row.ballots, row.as_of)
    return found


def opinion(who: Voting, ballots: Mapping[str, Json], as_of: datetime) -> Opinion:
    """An opinion out of its stored form."""
    if not ballots:
        return silent(UNKNOWN_CLASS)
    return Opinion(
        {
            site: Ballot(
                who.speakers[site],
                entry["standing"],
                tuple(entry["targets"]),
                tuple(entry["gains"]),
                entry["target"],
                entry["expects"],
                entry["rest"],
                entry["back"],
            )
            for site, entry in ballots.items()
        },
        who.model,
        as_of,
    )


def returned(session: Session, ids: Sequence[int]) -> dict[int, datetime]:
    """When reads last brought back each object that they had made too dear in a colder class."""
    rows = select(ObjectOpinion.object_id, ObjectOpinion.back_at).where(
        ObjectOpinion.object_id.in_(ids), ObjectOpinion.back_at.is_not(None)
    )
    return {number: moment for number, moment in session.execute(rows) if moment is not None}


def save(session: Session, who: Voting, now: datetime, ballots: Mapping[int, Mapping[str, Json]]) -> None:
    """Keeps what is said now; what is newer already stays."""
    ids = sorted(ballots)
    session.execute(
        _UPSERT,
        {
            "model": who.model_id,
            "now": now,
            "ids": ids,
            "ballots": [json.dumps(ballots[number]) for number in ids],
            "back": [any(entry["back"] for entry in ballots[number].values()) for number in ids],
        },
    )
