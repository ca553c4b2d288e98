"""Which request meets which fault: rules with a seed, so that the same seed harms the same requests again."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from enum import StrEnum
from random import Random
from threading import Lock

from tests.faults.wire import Asked


class Fault(StrEnum):
    """What is done to a request or to its answer."""

    LATENCY = "latency"
    """It waits `value` seconds before it is passed on."""
    BANDWIDTH = "bandwidth"
    """Bodies pass at `value` bytes a second."""
    RESET = "reset"
    """The connection is reset before the server sees the request."""
    HALF_OPEN = "half_open"
    """It is taken and never answered."""
    TRUNCATED = "truncated"
    """The answer's body ends somewhere before its end, and with it the connection."""
    FLIPPED = "flipped"
    """One bit of the answer's body is another."""
    SPOILT = "spoilt"
    """One bit of the request's body is another when it comes to the server."""
    FORBIDDEN = "403"
    """403 AccessDenied in the server's place."""
    ARCHIVED = "archived"
    """403 InvalidObjectState in the server's place: it lies in an archive."""
    UNKNOWN = "405"
    """405 MethodNotAllowed in the server's place: it knows no such request."""
    THROTTLED = "429"
    """429 TooManyRequests in the server's place."""
    BROKEN = "500"
    """500 InternalError in the server's place."""
    SLOW_DOWN = "503"
    """503 SlowDown in the server's place, with Retry-After: `value`."""
    ERROR_IN_200 = "error_in_200"
    """200 with an <Error> for a body, the work not done: what Complete and Copy may answer."""
    DROPPED = "dropped"
    """The server does the work; its answer never arrives."""
    UNLISTED = "unlisted"
    """A listing leaves out what is there: the keys that hold `where`."""
    EARLY = "early"
    """400 EntityTooLarge in the server's place while the body is on its way, which is not read; then a reset."""
    UNFRAMED = "unframed"
    """No header tells the size of the answer's body: it ends where the connection does."""
    REDIRECT_301 = "301"
    """Sent to `where`, for good."""
    REDIRECT_307 = "307"
    """Sent to `where`, for now."""
    BEFORE = "before"
    """`act` is done before the request is passed on."""
    AFTER = "after"
    """`act` is done when the server has answered, before the client learns of it."""


IN_PLACE = {
    Fault.FORBIDDEN: (403, "AccessDenied"),
    Fault.ARCHIVED: (403, "InvalidObjectState"),
    Fault.UNKNOWN: (405, "MethodNotAllowed"),
    Fault.THROTTLED: (429, "TooManyRequests"),
    Fault.BROKEN: (500, "InternalError"),
    Fault.SLOW_DOWN: (503, "SlowDown"),
    Fault.ERROR_IN_200: (200, "InternalError"),
    Fault.REDIRECT_301: (301, "PermanentRedirect"),
    Fault.REDIRECT_307: (307, "TemporaryRedirect"),
}
"""Status and code of the faults that are answered in the server's place."""


@dataclass(frozen=True)
class Rule:
    """One kind of harm: to requests of these operations (all when empty) whose name holds `name`, by chance `p`."""

    fault: Fault
    operations: frozenset[str] = frozenset()
    name: str = ""
    p: float = 1.0
    skip: int = 0
    """How many that match are spared first."""
    times: int | None = None
    """How often at most."""
    value: float = 1.0
    where: str = ""
    act: Callable[[], None] | None = None

    def matches(self, asked: Asked) -> bool:
        return (not self.operations or asked.operation in self.operations) and self.name in asked.name


def on(operations: str, fault: Fault, **how: object) -> Rule:
    """A rule for operations named in one string: on("GetObject HeadObject", Fault.RESET, p=0.1)."""
    return Rule(fault, frozenset(operations.split()), **how)  # type: ignore[arg-type]


@dataclass(frozen=True)
class Harm:
    """A rule that a request meets, with the chance numbers that its harm is made of."""

    rule: Rule
    chance: Random


@dataclass
class Rules:
    """The rules in force and what they have done so far."""

    seed: int
    _rules: tuple[Rule, ...] = ()
    _met: Counter[int] = field(default_factory=Counter)
    _asked: Counter[tuple[object, ...]] = field(default_factory=Counter)
    _lock: Lock = field(default_factory=Lock)

    def set(self, rules: Iterable[Rule]) -> None:
        """From now on these rules hold, counted from the start."""
        with self._lock:
            self._rules, self._met, self._asked = tuple(rules), Counter(), Counter()

    def choose(self, asked: Asked) -> list[Harm]:
        """What the request meets. Chance goes by seed, rule and how often this very thing was asked before.

        So it does not matter which of several clients comes first.
        """
        with self._lock:
            which = (asked.operation, asked.name, asked.part, asked.range)
            self._asked[which] += 1
            return [
                harm
                for number, rule in enumerate(self._rules)
                if rule.matches(asked)
                for harm in [Harm(rule, Random(f"{self.seed} {number} {which} {self._asked[which]}"))]
                if harm.chance.random() < rule.p and self._still(number, rule)
            ]

    def _still(self, number: int, rule: Rule) -> bool:
        self._met[number] += 1
        after = self._met[number] - rule.skip
        return after > 0 and (rule.times is None or after <= rule.times)
