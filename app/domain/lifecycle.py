"""A plan's demotions in place as rules by prefix, size and age, for a team that lets its provider do them.

A rule is made for the widest folder in which age, or size, tells the objects that the plan moves from those that stay;
what cannot be told apart so is left out, with its reason. app/domain/lifecycle_documents.py writes providers' JSON.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field


@dataclass(frozen=True)
class Group:
    """Objects in one folder (a key up to its last slash), in one class, with one fate. target: None, they stay."""

    folder: str
    storage_class: str
    target: str | None
    objects: int
    bytes: int
    youngest_days: float
    oldest_days: float
    smallest: int
    largest: int


@dataclass(frozen=True)
class Rule:
    """Objects under a prefix change to a class at an age in whole days. Sizes in bytes, inclusive; None: any."""

    prefix: str
    storage_class: str
    days: int
    least_bytes: int | None
    most_bytes: int | None
    objects: int
    bytes: int
    classes: tuple[str, ...]
    """In which the objects lie today."""
    later: int
    """Objects that the plan leaves and that come under the rule once they are so old."""


@dataclass
class LeftOut:
    """What no rule says, and why."""

    reason: str
    objects: int = 0
    bytes: int = 0
    prefixes: list[str] = field(default_factory=list)


@dataclass(frozen=True)
class Dialect:
    """What a provider's rules can say. least_days: by class, the age below which it changes nothing."""

    sizes: bool
    most_rules: int
    least_days: Callable[[str], int]


SAME_PLACE = "objects of the same age and size stay under the same prefix; no rule tells them apart"
SIZE_ONLY = "only their size tells them from objects that stay, and the provider's rules know no sizes"
TOO_MANY = "the provider allows no more rules for a bucket"
SHOWN = 20


def rules(groups: Sequence[Group], order: Sequence[str], dialect: Dialect) -> tuple[list[Rule], list[LeftOut]]:
    """Rules for the groups of a bucket, those that cover most bytes first, and what is left out.

    order: the bucket's classes, the hottest first; a group's target is colder than its class.
    """
    found: list[Rule] = []
    left: dict[str, LeftOut] = {}
    for target in reversed(order):
        mine = [group for group in groups if group.target == target]
        others = [group for group in groups if _would_be_moved(group, target, order)]
        heads = {_head(group.folder, "") for group in mine}
        for name in [""] if "" in heads else sorted(heads):
            _express(name, _under(mine, name), _under(others, name), target, dialect, found, left)
    found.sort(key=lambda rule: (-rule.bytes, rule.prefix))
    for rule in found[dialect.most_rules :]:
        _leave(left, TOO_MANY, rule.prefix, rule.objects, rule.bytes)
    return found[: dialect.most_rules], list(left.values())


def _would_be_moved(group: Group, target: str, order: Sequence[str]) -> bool:
    """Whether a rule to the target would also move a group which is to stay hotter."""
    fate = group.storage_class if group.target is None else group.target
    return order.index(fate) < order.index(target)


def _express(
    prefix: str, mine: Sequence[Group], others: Sequence[Group], target: str, dialect: Dialect, found: list[Rule],
    left: dict[str, LeftOut],
) -> None:  # fmt: skip
    """A rule for the whole prefix if it can be told, else for each folder below, else it is left out."""
    rule = _rule(prefix, mine, others, target, dialect)
    if isinstance(rule, Rule):
        found.append(rule)
        return
    here = [group for group in mine if group.folder == prefix]
    if here:
        _leave(left, rule, prefix, sum(group.objects for group in here), sum(group.bytes for group in here))
    for name in sorted({_head(group.folder, prefix) for group in mine if group.folder != prefix}):
        _express(name, _under(mine, name), _under(others, name), target, dialect, found, left)


def _rule(prefix: str, mine: Sequence[Group], others: Sequence[Group], target: str, dialect: Dialect) -> Rule | str:
    """The rule that moves mine and none of the others today, or why there is none."""
    days = max(int(min(group.youngest_days for group in mine)), dialect.least_days(target))
    old = [group for group in others if int(group.oldest_days) >= days]
    least, most = min(group.smallest for group in mine), max(group.largest for group in mine)
    sizes: tuple[int | None, int | None] = (None, None)
    if old:
        above, below = all(group.largest < least for group in old), all(group.smallest > most for group in old)
        if not (above or below):
            return SAME_PLACE
        if not dialect.sizes:
            return SIZE_ONLY
        sizes = (least, None) if above else (None, most)
    return Rule(
        prefix=prefix,
        storage_class=target,
        days=days,
        least_bytes=sizes[0],
        most_bytes=sizes[1],
        objects=sum(group.objects for group in mine),
        bytes=sum(group.bytes for group in mine),
        classes=tuple(sorted({group.storage_class for group in mine})),
        later=sum(group.objects for group in others if group not in old),
    )


def _leave(left: dict[str, LeftOut], reason: str, prefix: str, objects: int, size: int) -> None:
    entry = left.setdefault(reason, LeftOut(reason))
    entry.objects += objects
    entry.bytes += size
    if len(entry.prefixes) < SHOWN:
        entry.prefixes.append(prefix)


def _head(folder: str, prefix: str) -> str:
    """The folder one step below the prefix in which another lies; itself where it has no step more."""
    head, slash, _ = folder[len(prefix) :].partition("/")
    return prefix + head + slash


def _under(groups: Iterable[Group], prefix: str) -> list[Group]:
    return [group for group in groups if group.folder.startswith(prefix)]
