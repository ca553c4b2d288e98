"""What voters say of an object: which class at each site, what they expect of it, and what each goes by.

They learn in ml; here they are values, which app/domain/placement_votes.py counts (economics.md, "a vote of three").
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Any

VOTERS = ("rate", "timeouts", "values")
UNKNOWN_CLASS = "no vote: it is new, or it lies in a class that the voters do not know"


LESSON_FIRST = timedelta(hours=1)
LESSON_LONGEST = timedelta(days=1)


def patience(failures: int) -> timedelta:
    """How long plans do without the voters learning after so many lessons in a row that failed, 1 at least."""
    return min(LESSON_LONGEST, LESSON_FIRST * 2.0 ** min(failures - 1, 10))


@dataclass(frozen=True)
class Speaker:
    """What decides at a site: the vote of three, or the rule that history showed to be cheaper than it."""

    name: str
    voting: bool
    stands_for: tuple[str, ...]
    """What each voter goes by, in words, in the order of VOTERS."""
    coldest: str
    """The last class that voters know; archives lie beyond it."""


@dataclass(frozen=True)
class Ballot:
    """What is said of an object at one site. Where it has no copy there: of one that would begin in its first class."""

    speaker: Speaker
    standing: str
    """The class that it was asked about."""
    targets: tuple[str, ...]
    """The class of each voter, in the order of VOTERS."""
    gains: tuple[float, ...]
    """$ that each expects to save over the horizon by its class, the change paid."""
    target: str
    """What is decided at this site."""
    expects: float
    """$ that what decided expects of it; where that was the vote, see `gain`."""
    rest: str
    """Where it lies while voters differ: the managed class where one is on offer, else where it stands."""
    back: bool = False
    """Reads in the colder class have cost enough to bring it back, on a day with an alarm less: every voter does."""

    def gain(self, target: str) -> float | None:
        """$ that those who want a class expect of it on average; None when nobody wants it."""
        if not self.speaker.voting:
            return self.expects if target == self.target else None
        found = [gain for wanted, gain in zip(self.targets, self.gains, strict=True) if wanted == target]
        return sum(found) / len(found) if found else None

    def document(self) -> dict[str, Any]:
        """As explanations show it."""
        rows = zip(VOTERS, self.targets, self.gains, self.speaker.stands_for, strict=True)
        return {
            "standing": self.standing,
            "target": self.target,
            "decided_by": self.speaker.name,
            "back": self.back,
            "votes": [
                {"voter": voter, "target": target, "gain_usd": gain, "goes_by": why}
                for voter, target, gain, why in rows
            ],
        }


@dataclass(frozen=True)
class Opinion:
    """What is said of one object at each site, and by which version of what was learned; or why nothing is."""

    ballots: Mapping[str, Ballot]
    model: str = ""
    as_of: datetime | None = None
    silence: str = ""
    """Why there is no vote."""

    def at(self, site: str, standing: str) -> Ballot | None:
        """The ballot of a site, if it was asked about the class in which the object stands there."""
        ballot = self.ballots.get(site)
        return ballot if ballot is not None and ballot.standing == standing else None

    def document(self) -> dict[str, Any]:
        """As explanations show it."""
        return {
            "model": self.model or None,
            "as_of": None if self.as_of is None else self.as_of.isoformat(),
            "no_vote": self.silence or None,
            "sites": {site: ballot.document() for site, ballot in self.ballots.items()},
        }


@dataclass
class Turnout:
    """On how many objects of a plan there was a vote, what decided, and why there was none on the others."""

    decided_by: Counter[str] = field(default_factory=Counter)
    silent: Counter[str] = field(default_factory=Counter)

    def add(self, said: Iterable[tuple[Opinion | None, Ballot | None]]) -> None:
        """Counts objects in by their opinion and the ballot that was followed."""
        for opinion, ballot in said:
            if ballot is not None:
                self.decided_by[ballot.speaker.name] += 1
            else:
                self.silent[(opinion.silence if opinion else "") or UNKNOWN_CLASS] += 1

    def document(self, model: str, speakers: Mapping[str, Speaker], unlearned: str = "") -> dict[str, Any]:
        """As the plan shows it. unlearned: why the voters did not learn although they should have."""
        return {
            "model": model or None,
            "unlearned": unlearned or None,
            "sites": {site: speaker.name for site, speaker in speakers.items()},
            "decided_by": dict(self.decided_by),
            "no_vote": dict(self.silent),
        }


def silent(why: str) -> Opinion:
    """No vote, and why."""
    return Opinion({}, silence=why)
