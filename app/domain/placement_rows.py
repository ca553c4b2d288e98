"""The rows that couple objects: what all of them together may use of a site or of the day's budget.

Each copy uses something at its pair, or the copy that is read does; the fleet solver and the reference count the same.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from enum import StrEnum

import numpy as np

from app.domain.placement_costs import Costs
from app.domain.placement_kernel import CLOSED, Batch, Choice, Picks, Rows, Term, Today
from app.domain.placement_sets import Structure
from app.domain.pricing import Floats

DAY_S = 86_400


class Use(StrEnum):
    """What a row limits."""

    CAPACITY = "capacity_bytes"
    """Bytes that lie at a site, or there in one class."""
    REQUESTS = "max_request_rate"
    """Reads a second that a site serves, on the average of the day."""
    USD = "usd_per_day"
    """Dollars that all changes cost at once."""
    BYTES = "bytes_per_day"
    """Bytes that all moves bring in."""
    MOVES = "moves_per_day"
    """Copies that all moves bring in."""


@dataclass(frozen=True)
class Row:
    """usage ≤ limit over all objects of the problem; `site` (and `storage_class`) where it is a site's.

    standing: what is used already whatever the choices are. Of a capacity given so, only copies that are brought to
    the site count besides: a copy that is replaced stands until it is deleted.
    """

    use: Use
    limit: float
    site: str | None = None
    storage_class: str | None = None
    standing: float | None = None

    @property
    def name(self) -> str:
        """As plans and explanations call it."""
        at = "" if self.site is None else f" of {self.site}"
        return f"{self.use}{at}{'' if self.storage_class is None else f' {self.storage_class}'}"


@dataclass(frozen=True)
class Counted:
    """at [pair] or [pair, object] × weight [object], of copies or (`read`) of the one read; base [object] besides."""

    at: Floats
    weight: Floats
    read: bool
    base: Floats

    @property
    def table(self) -> Floats:
        """[object, pair] what a copy, or the copy read, uses there."""
        at = self.at if self.at.ndim == 2 else self.at[:, None]
        table: Floats = (at * self.weight).T
        return table


@dataclass(frozen=True)
class Coupled:
    """Objects of one structure (`objects`: their rows in Costs) as arrays."""

    objects: Rows
    batch: Batch


def counted(costs: Costs, rows: Sequence[Row]) -> list[Counted]:
    """What each row counts. Rows that count alike share their arrays."""
    items = costs.problem.items
    size = np.array([item.size for item in items], float)
    rate = np.array([item.demand.reads / DAY_S for item in items])
    one, none = np.ones(len(items)), np.zeros(len(items))
    brought = np.ascontiguousarray(~costs.keeps.T, float)
    result = []
    for row in rows:
        if row.use is Use.USD:
            result.append(Counted(_money(costs), one, False, costs.base))
        elif row.use in (Use.BYTES, Use.MOVES):
            result.append(Counted(brought, size if row.use is Use.BYTES else one, False, none))
        elif row.use is Use.CAPACITY and row.standing is not None:
            result.append(Counted(_arriving(costs, row), size, False, none))
        else:
            at = np.array([float(_applies(costs, row, column)) for column in range(len(costs.pairs))])
            reads = row.use is Use.REQUESTS
            result.append(Counted(at, rate if reads else size, reads, none))
    return result


def _money(costs: Costs) -> Floats:
    """[pair, object] what bringing a copy costs, less the fee of leaving that keeping it spares."""
    sites = np.array([pair.site for pair in costs.pairs], int)
    money: Floats = np.ascontiguousarray((costs.move - np.where(costs.keeps, costs.leave[:, sites], 0.0)).T)
    return money


def _arriving(costs: Costs, row: Row) -> Floats:
    """[pair, object] 1 where a copy would be brought to a site that has none of the object."""
    here = np.array([_applies(costs, row, column) for column in range(len(costs.pairs))])
    arriving: Floats = np.multiply.outer(here, ~costs.keeps[:, here].any(axis=1)).astype(float)
    return arriving


def _applies(costs: Costs, row: Row, column: int) -> bool:
    pair = costs.pairs[column]
    return costs.problem.sites[pair.site].name == row.site and row.storage_class in (None, pair.name)


def used(costs: Costs, rows: Sequence[Row], held: Picks, read: Picks) -> Floats:
    """[row, object] what sets use; held and read [object, pair] say where their copies lie and which are read."""
    return np.array(
        [(entry.table * (read if entry.read else held)).sum(axis=1) + entry.base for entry in counted(costs, rows)]
    ).reshape(len(rows), len(held))


def batches(
    costs: Costs,
    shapes: Sequence[Structure],
    standing: Sequence[tuple[tuple[int, ...], int] | None],
    rows: Sequence[Row] = (),
) -> list[Coupled]:
    """The objects as batches, one a structure.

    standing: of objects that may keep more copies than any set holds, those copies and the one that is read.
    """
    groups: dict[Structure, list[int]] = {}
    for row, shape in enumerate(shapes):
        groups.setdefault(shape, []).append(row)
    sites = range(len(costs.problem.sites))
    whole = Batch(
        sets=(),
        reading=(),
        columns=tuple(tuple(c for c, pair in enumerate(costs.pairs) if pair.site == site) for site in sites),
        hold=np.minimum(costs.hold, CLOSED).T,
        serve=np.minimum(costs.reading, CLOSED).T,
        terms=tuple(
            Term(row, entry.at, entry.weight, entry.read)
            for row, entry in enumerate(counted(costs, rows) if rows else ())
        ),
    )
    result = []
    for shape, members in groups.items():
        objects = np.array(members)
        reading = tuple(tuple(site for site in chosen if site in shape.primaries) for chosen in shape.sets)
        now = _today([standing[row] for row in members], len(costs.pairs))
        result.append(Coupled(objects, replace(whole.take(objects), sets=shape.sets, reading=reading, today=now)))
    return result


def _today(standing: Sequence[tuple[tuple[int, ...], int] | None], pairs: int) -> Today | None:
    if not any(standing):
        return None
    held, read = np.zeros((pairs, len(standing)), bool), np.zeros((pairs, len(standing)), bool)
    for index, copies in enumerate(standing):
        if copies is not None:
            held[list(copies[0]), index] = True
            read[copies[1], index] = True
    return Today(Choice(held, read), np.asarray(read.any(axis=0)))
