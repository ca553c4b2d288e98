"""What would be under other prices, rules or reads, or with sites lost: the planner's own problem, changed.

The what-if task decides both problems and app/domain/comparisons.py tells them apart; nothing is saved.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from app.domain.placement_problem import Item, Problem, SiteOption
from app.domain.policies import Policies, Rules
from app.domain.policy_documents import validate
from app.domain.price_books import SHIPPED
from app.domain.price_documents import from_json
from app.domain.prices import PriceBook
from app.errors import FieldError, Invalid, pointer_to

MOST_TIMES = 1e6
"""The largest factor of reads."""


@dataclass(frozen=True)
class Scenario:
    """What is otherwise; a field at its default changes nothing. `policies` are those that would be in force."""

    policies: Policies = field(default_factory=Policies)
    books: Mapping[str, PriceBook] = field(default_factory=dict)
    lost: frozenset[str] = frozenset()
    """Sites that are gone with every copy that lies there."""
    residency: frozenset[str] | None = None
    reads_times: float = 1.0
    rf: int | None = None
    sla_ms: float | None = None
    _confined: dict[int, Rules] = field(default_factory=dict, init=False, repr=False, compare=False)

    def sites(self, options: Sequence[SiteOption]) -> tuple[SiteOption, ...]:
        """The sites that are left, at the scenario's prices, with what is then left of old versions."""
        return tuple(self._site(option) for option in options if option.name not in self.lost)

    @property
    def is_unheard_of(self) -> bool:
        """Whether reads or prices are supposed that voters have not learned from."""
        return bool(self.books) or self.reads_times != 1

    def items(self, items: Sequence[Item]) -> tuple[Item, ...]:
        """The objects as they would be, in their order; those whose every copy is lost hold none."""
        return tuple(map(self._item, items))

    def apply(self, problem: Problem, changed: Sequence[Item] | None = None) -> tuple[Problem, tuple[Item, ...]]:
        """The problem as it would be, and the objects whose every copy lay at a lost site, as they are today.

        changed: its objects as `items` gave them, with what voters say of them then.
        """
        pairs = list(zip(problem.items, self.items(problem.items) if changed is None else changed, strict=True))
        gone = tuple(item for item, after in pairs if item.held and not after.held)
        left = tuple(after for item, after in pairs if after.held or not item.held)
        return Problem(self.sites(problem.sites), left, problem.horizon_days), gone

    def _site(self, option: SiteOption) -> SiteOption:
        if option.versioned:
            option = replace(option, old_versions_days=self.policies.days_of_old_versions)
        book = self.books.get(option.name)
        if book is None:
            return option
        priced = tuple(name for name in option.classes if name in book.by_name)
        return replace(option, book=book, classes=priced or (book.classes[0].name,))

    def _item(self, item: Item) -> Item:
        times, demand = self.reads_times, item.demand
        if times != 1:
            demand = demand.times(times)
        held = tuple(copy for copy in item.held if copy.site not in self.lost) if self.lost else item.held
        return replace(item, held=held, demand=demand, rules=self.rules(item))

    def rules(self, item: Item) -> Rules:
        """The rules that would hold for an object; equal ones are the very same, by which the planner groups them."""
        rules = self.policies.rules(item.key, item.tags, rf=self.rf, sla_ms=self.sla_ms)
        if self.residency is None:
            return rules
        return self._confined.setdefault(id(rules), replace(rules, sites=self.residency))


def read(
    args: Mapping[str, Any], sites: Collection[str], policies: Policies, unpriced: Collection[str] = ()
) -> Scenario:
    """The scenario of a request: lost, residency, prices, reads_times, rf, sla_ms, policies; the last by name.

    sites: the names of those that plans know; unpriced: of those that they do not for want of prices. Raises Invalid
    with a pointer for each field that is wrong.
    """
    errors: list[FieldError] = []
    for name in ("lost", "residency"):
        errors += [
            FieldError(f"/{name}/{index}", _unknown(site, unpriced))
            for index, site in enumerate(args.get(name) or ())
            if site not in sites
        ]
    given = args.get("prices") or {}
    errors += [FieldError(pointer_to("prices", site), _unknown(site, unpriced)) for site in given if site not in sites]
    books = _books({site: book for site, book in given.items() if site in sites}, errors)
    documents = args.get("policies") or {}
    for name, document in documents.items():
        validate(name, document)
    if set(args.get("lost") or ()) >= set(sites) and sites:
        errors.append(FieldError("/lost", "one site at least has to be left"))
    if errors:
        raise Invalid("the what-if is not valid", errors=tuple(errors))
    residency = args.get("residency")
    return Scenario(
        policies=replace(policies, documents={**policies.documents, **documents}),
        books=books,
        lost=frozenset(args.get("lost") or ()),
        residency=None if residency is None else frozenset(residency),
        reads_times=float(args.get("reads_times", 1.0)),
        rf=args.get("rf"),
        sla_ms=args.get("sla_ms"),
    )


def _unknown(site: str, unpriced: Collection[str]) -> str:
    if site in unpriced:
        return f"{site} has no prices, so that no plan knows it: give it a price book first"
    return f"there is no site {site}"


def _books(given: Mapping[str, Any], errors: list[FieldError]) -> dict[str, PriceBook]:
    """A book for each site: a provider's shipped one by its name, or a document."""
    found: dict[str, PriceBook] = {}
    for site, wanted in given.items():
        pointer = f"/prices/{site}"
        if isinstance(wanted, str) and wanted not in SHIPPED:
            errors.append(FieldError(pointer, f"no price book is shipped for {wanted}, only for {', '.join(SHIPPED)}"))
        elif isinstance(wanted, str):
            found[site] = SHIPPED[wanted]
        else:
            try:
                found[site] = from_json(wanted)
            except Invalid as error:
                errors += [FieldError(pointer + entry.pointer, entry.detail) for entry in error.errors]
    return found


def words(args: Mapping[str, Any]) -> list[str]:
    """The scenario as a person would say it, a line a change."""
    said = [f"{site} is lost" for site in args.get("lost") or ()]
    if args.get("rf") is not None:
        said.append(f"{args['rf']} copies of each object")
    if args.get("sla_ms") is not None:
        said.append(f"a latency SLA of {args['sla_ms']:g} ms")
    if args.get("residency") is not None:
        said.append(f"copies only at {', '.join(args['residency'])}")
    if args.get("reads_times", 1) != 1:
        said.append(f"reads × {args['reads_times']:g}")
    said += [f"other prices at {site}" for site in args.get("prices") or {}]
    return said + [f"another {name} policy" for name in args.get("policies") or {}]
