"""The voters, asked of a block of objects as they lie (step: plan): the replay's own decisions for one day."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from app.db import daily, model_files, models, opinions
from app.db.accesses import day_of
from app.db.opinions import NAME, Voting
from app.db.placement import World
from app.db.session import session_scope
from app.db.tables import Json
from app.domain.placement_problem import Item, SiteOption
from app.errors import ArtifactRefused
from app.lab.ladders import ladder
from ml.tiering_past import Past

if TYPE_CHECKING:
    from ml.tiering_votes import Panel, Voters

FORM = "voters"
HELD_DAYS = 30
"""What reads brought back is not demoted again for so long."""


class Known(NamedTuple):
    """Of some objects: their days, and whether each has rested since reads last brought it back."""

    past: Past
    rested: Any

    def times(self, k: float) -> Known:
        """The same with k times as many reads."""
        return self._replace(past=self.past.times(k))


@dataclass(frozen=True)
class Bench:
    """The voters, ready to be asked."""

    who: Voting
    voters: Voters
    alarms: frozenset[str] = frozenset()
    """Sites whose colder classes are read far more than was expected: nothing is demoted there today."""

    @classmethod
    def open(cls, world: World) -> Bench | None:
        """None while nobody speaks, or what they learned is gone. Raises ArtifactRefused for any tampering."""
        with session_scope() as session:
            who = opinions.voting(session, world.now)
            champion = models.champion(session, NAME)
            if who.model_id is None or champion is None or not model_files.has(session, champion, FORM):
                return None
            body = model_files.read(session, champion, FORM)
        from ml.tiering_votes import Voters  # takes seconds, which no transaction waits for

        found = Voters.from_bytes(body)
        if set(found.panels) != set(who.speakers):
            raise ArtifactRefused(f"{NAME} version {champion.version} speaks of other sites than its file")
        return cls(who, found, _alarms(found, world))

    def look(self, now: datetime, items: Sequence[Item]) -> Known:
        """What the voters must know of some objects, in their order (by id)."""
        ids = [item.id for item in items]
        with session_scope() as session:
            past = daily.past(session, now, daily.subjects(session, ids), self.voters.means.cohorts)
            returned = opinions.returned(session, ids)
        since = {number: day_of(now) - day_of(moment) for number, moment in returned.items()}
        rested = [since.get(number, HELD_DAYS) >= HELD_DAYS for number in ids]
        return Known(past, np.array(rested, bool))

    def ask(
        self, world: World, items: Sequence[Item], known: Known
    ) -> tuple[tuple[Item, ...], dict[int, dict[str, Json]]]:
        """The objects with what is said of each, and by id the same as it is stored. Takes no transaction."""
        from ml.tiering_grid import now as as_of_today

        today = as_of_today(known.past, self.voters.means)
        said: dict[int, dict[str, Json]] = {item.id: {} for item in items}
        for option in world.options:
            panel = self.voters.panels.get(option.name)
            if panel is not None:
                self._ask_site(world, option, panel, items, (known, today), said)
        for row in np.flatnonzero(known.past.birth >= known.past.today).tolist():
            said[items[row].id] = {}
        heard = (replace(i, opinion=opinions.opinion(self.who, said[i.id], world.now)) for i in items)
        return tuple(heard), said

    def _ask_site(
        self,
        world: World,
        option: SiteOption,
        panel: Panel,
        items: Sequence[Item],
        known: Any,
        said: dict[int, dict[str, Json]],
    ) -> None:
        from ml.tiering_alarm import hasty
        from ml.tiering_votes import Standing, ask, regrets

        (past, rested), today = known
        if option.name in self.alarms:
            panel = hasty(panel)
        size = np.array([max(item.size, 1) for item in items], np.int64)
        steps = ladder(option.book, size, panel.managed, set(option.classes))
        number = {name: index for index, name in enumerate(panel.classes)}
        copies = [next((copy for copy in item.held if copy.site == option.name), None) for item in items]
        names = [
            panel.classes[0] if copy is None else option.book.storage_class(copy.storage_class).name for copy in copies
        ]
        c = np.array([number.get(name, -1) for name in names], np.int64)
        since = np.array([0 if copy is None else _days_in(world.now, copy.days_in_class) for copy in copies], np.int64)
        at = np.maximum(c, 0)
        left = np.where([copy is None for copy in copies], 0, np.maximum(0, steps.min_days[at] - since))
        standing = Standing(at, left, since, regrets(past, steps, at, since), rested)
        votes = ask(panel, today, steps, size / 2**30, standing, self.voters.horizon_days)
        targets, gains, back = votes.target.tolist(), votes.gain.tolist(), votes.back.tolist()
        for row in np.flatnonzero(c >= 0).tolist():
            to = [panel.classes[index] for index in targets[row]]
            said[items[row].id][option.name] = {
                "standing": names[row], "targets": to[:3], "target": to[3], "rest": to[4], "back": back[row],
                "gains": [_short(gain) for gain in gains[row][:3]], "expects": _short(gains[row][3]),
            }  # fmt: skip


def _alarms(voters: Voters, world: World) -> frozenset[str]:
    """The sites with an alarm, by a sample of all objects."""
    from ml.tiering_alarm import rings_today

    with session_scope() as session:
        subjects = daily.sample(session)
        past = daily.past(session, world.now, subjects, voters.means.cohorts)
        lying = daily.lying(session, [subject.id for subject in subjects])
    size = np.array([max(subject.size, 1) for subject in subjects], np.int64)
    place = {subject.id: row for row, subject in enumerate(subjects)}
    found = set()
    for option in world.options:
        panel = voters.panels.get(option.name)
        if panel is None or not subjects:
            continue
        c, since = np.zeros((2, len(subjects)), np.int64)
        for number, site, name, moment in lying:
            entry = option.book.by_name.get(name) if site == option.name else None
            if entry is not None and entry.name in panel.classes:
                c[place[number]] = panel.classes.index(entry.name)
                since[place[number]] = max(0, day_of(world.now) - day_of(moment))
        if rings_today(ladder(option.book, size, panel.managed, set(option.classes)), past, voters.means, c, since):
            found.add(option.name)
    return frozenset(found)


def _days_in(now: datetime, days: float) -> int:
    """Whole UTC days since a class was entered, both days by their dates."""
    return day_of(now) - day_of(now - timedelta(days=days))


def _short(usd: float) -> float:
    """Three significant digits: what is stored changes no more often than what it says."""
    return float(f"{usd:.3g}") if usd else 0.0
