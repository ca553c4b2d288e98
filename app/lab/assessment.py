"""What Foretide would save, and how sure that is: from logs by a replay, from an inventory alone by assumed reads.

Nothing is written anywhere. Ranges hold 90 of a hundred resamples of the objects (with chances of a fixed seed).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from app.domain import pricing
from app.domain.prices import GB, MONTH_DAYS, PriceBook, StorageClass, storage_month
from app.lab.days import MOST_CELLS, by_day
from app.lab.inventory import Inventory
from app.lab.replay import Replay, replay
from app.lab.traces import OPS, Trace
from ml.history import DAY
from ml.tiering_types import Floats, Ints

RESAMPLES = 1000
MOST_DRAWS = 40_000_000
LOW, HIGH = 5, 95
HORIZON_DAYS = 90.0
READS_A_MONTH = (0.0, 0.1, 0.5, 1.0, 2.0, 5.0)
"""How often every object may be read whole, where no log says it."""
ORDER = (
    "foretide", "foretide_managed", "lifecycle_30_90", "lifecycle_30_90_promote", "lifecycle_tuned",
    "intelligent_tiering", "heat_thresholds", "clairvoyant",
)  # fmt: skip


@dataclass(frozen=True)
class Saving:
    """$ a month saved of `usd_a_month` paid before, with the range of the resamples."""

    usd: float
    percent: float
    low_percent: float
    high_percent: float
    usd_a_month: float

    def document(self) -> dict[str, float]:
        """As JSON."""
        scale = self.usd_a_month / 100
        return {
            "saves_usd_a_month": self.usd,
            "saves_percent": self.percent,
            "low_percent": self.low_percent,
            "high_percent": self.high_percent,
            "low_usd_a_month": self.low_percent * scale,
            "high_usd_a_month": self.high_percent * scale,
        }


def saving(before: Floats, after: Floats, months: float, seed: int = 7) -> Saving:
    """What each object costs before and after, over so many months, as a saving; objects are drawn anew (Poisson)."""
    total = float(before.sum())
    if total <= 0:
        return Saving(0.0, 0.0, 0.0, 0.0, 0.0)
    chance = np.random.default_rng(seed)
    draws = max(50, min(RESAMPLES, MOST_DRAWS // len(before)))
    shares = np.empty(draws)
    for draw in range(draws):
        weight = chance.poisson(1.0, len(before))
        shares[draw] = 100 * (1 - (weight @ after) / max(float(weight @ before), 1e-30))
    low, high = np.percentile(shares, [LOW, HIGH])
    gained = total - float(after.sum())
    return Saving(gained / months, 100 * gained / total, float(low), float(high), total / months)


# -- From logs --------------------------------------------------------------------------------------------------------


def joined(traces: Sequence[Trace]) -> Trace:
    """Several traces as one, in order of time."""
    if len(traces) == 1:
        return traces[0]
    keys = sorted({key for trace in traces for key in trace.keys})
    number = {key: index for index, key in enumerate(keys)}
    regions = sorted({region for trace in traces for region in trace.regions if region})
    area = {"": 0, **{region: index for index, region in enumerate(regions, start=1)}}
    parts = [
        replace(
            trace,
            object=np.array([number[key] for key in trace.keys], np.int64)[trace.object],
            region=np.array([area[region] for region in trace.regions], np.int32)[trace.region],
            count=np.ones(len(trace), np.int64) if trace.count is None else trace.count,
        )
        for trace in traces
    ]
    order = np.argsort(np.concatenate([part.ts for part in parts]), kind="stable")
    columns = ("object", "ts", "op", "bytes_read", "size", "region", "partial_upload", "count")
    together = {name: np.concatenate([getattr(part, name) for part in parts])[order] for name in columns}
    rejected = [line for part in parts for line in part.rejected]
    return Trace(
        keys=keys, regions=["", *regions], rejected=rejected,
        rejected_total=sum(part.rejected_total for part in parts), **together,
    )  # fmt: skip


def with_inventory(trace: Trace, inventory: Inventory) -> Trace:
    """The trace with every object of the inventory and its size, those that were never read too."""
    number = {key: index for index, key in enumerate(trace.keys)}
    added = [key for key in inventory.keys if key not in number]
    number |= {key: index for index, key in enumerate(added, start=len(trace.keys))}
    rows = len(inventory.keys)
    begin, end = int(trace.ts[0]), int(trace.ts[-1])
    ts = np.concatenate([np.clip(inventory.modified, begin, end), trace.ts])
    order = np.argsort(ts, kind="stable")
    count = np.ones(len(trace), np.int64) if trace.count is None else trace.count
    nothing = np.zeros(rows, np.int64)

    def both(mine: Any, theirs: Any) -> Any:
        return np.concatenate([mine, theirs])[order]

    return replace(
        trace,
        keys=[*trace.keys, *added],
        object=both(np.array([number[key] for key in inventory.keys], np.int64), trace.object),
        ts=ts[order],
        op=both(np.full(rows, OPS.index("HEAD"), np.int8), trace.op),
        bytes_read=both(nothing, trace.bytes_read),
        size=both(inventory.size, trace.size),
        region=both(nothing.astype(np.int32), trace.region),
        partial_upload=both(nothing.astype(bool), trace.partial_upload),
        count=both(nothing, count),
    )


def thinned(trace: Trace, most: int = MOST_CELLS) -> tuple[Trace, float]:
    """The trace with as many of its objects, drawn by chance, as a replay holds; and the share that they are."""
    days = int(trace.ts[-1] // DAY - trace.ts[0] // DAY) + 1
    room = max(1, most // days)
    if len(trace.keys) <= room:
        return trace, 1.0
    kept = np.sort(np.random.default_rng(7).choice(len(trace.keys), room, replace=False))
    number = np.full(len(trace.keys), -1, np.int64)
    number[kept] = np.arange(room)
    rows = number[trace.object] >= 0
    columns = ("ts", "op", "bytes_read", "size", "region", "partial_upload")
    left = {name: getattr(trace, name)[rows] for name in columns}
    count = None if trace.count is None else trace.count[rows]
    keys = [trace.keys[index] for index in kept]
    return replace(trace, keys=keys, object=number[trace.object][rows], count=count, **left), room / len(trace.keys)


def from_logs(
    trace: Trace, book: PriceBook, inventory: Inventory | None = None, read_fraction: float = 1.0,
    tell: Callable[[str, int, int], None] | None = None,
) -> dict[str, Any]:  # fmt: skip
    """The report of logs, with the inventory's sizes and unread objects where there is one. Raises Invalid."""
    whole, share = thinned(trace if inventory is None else with_inventory(trace, inventory))
    played = replay(by_day(whole, read_fraction), book, HORIZON_DAYS, tell)
    months = (played.days.days - played.split) / MONTH_DAYS * share
    sampled = [] if share == 1 else [f"one in {1 / share:.1f} objects was drawn and stands for the others"]
    hot = played.outcomes["all_hot"]
    shown = played.document("")
    return {
        "kind": "logs",
        "objects": len(played.days.size),
        "bytes": int(played.days.size.sum()),
        "share_of_objects": share,
        **{name: shown[name] for name in ("begin", "split", "end", "prices")},
        "assumed": [*shown["assumed"], *_assumed(inventory), *sampled],
        "today": None if inventory is None else today(inventory, book),
        "all_hot_usd_a_month": hot.cost / months,
        "policies": [_policy(played, name, months) for name in ORDER if name in played.outcomes],
        "notes": [
            "Policies learn on the first half of the days and are judged on the second, all objects in the first class "
            "at its beginning; early deletion that is still owed at the end is charged.",
            f"Ranges hold 90 of a hundred resamples of the {len(played.days.size):,} objects; they say nothing of "
            "habits that change after the logs.",
            "clairvoyant is the least that was possible; it knew every read beforehand.",
        ],
    }


def _policy(played: Replay, name: str, months: float) -> dict[str, Any]:
    outcome, hot = played.outcomes[name], played.outcomes["all_hot"]
    found = saving(hot.usd.sum(axis=1), outcome.usd.sum(axis=1), months)
    return {
        "name": name,
        "usd_a_month": outcome.cost / months,
        **found.document(),
        "moves": int(outcome.moves.sum()),
        "fees_usd_a_month": played.row(outcome)["fees"] / months,
        "decided_by": outcome.spoke,
    }


def _assumed(inventory: Inventory | None) -> list[str]:
    if inventory is None:
        return ["objects that the logs never name are not counted; an inventory beside them adds them"]
    passed = f"{inventory.rejected:,} lines of the inventory passed over: folders, old versions, markers, no size"
    return [passed] if inventory.rejected else []


# -- From an inventory alone ------------------------------------------------------------------------------------------


def from_inventory(inventory: Inventory, book: PriceBook, as_of: int, *, archives: bool = False) -> dict[str, Any]:
    """The report of an inventory: what each object's cheapest class would save if it were read so or so often.

    as_of: microseconds since 1970 UTC, the inventory's own time; archives: classes to be restored from may be used.
    """
    held, unknown = _held(inventory, book)
    size = inventory.size.astype(float)
    age = np.where(inventory.modified > 0, np.maximum(0, as_of - inventory.modified) / DAY, 0.0)
    rows = [_scenario(book, held, size, age, reads, archives=archives) for reads in READS_A_MONTH]
    savings = [row["saves_usd_a_month"] for row in rows]
    return {
        "kind": "inventory",
        "objects": len(size),
        "bytes": int(inventory.size.sum()),
        "prices": {"book": book.name, "source": book.source, "as_of": str(book.as_of), "sample": book.sample},
        "assumed": [*_assumed(inventory), *unknown],
        "today": today(inventory, book),
        "scenarios": rows,
        "range": {"low_usd_a_month": min(savings), "high_usd_a_month": max(savings)},
        "notes": [
            "An inventory says nothing of reads: each line assumes that every object is read whole so often a month.",
            "Over 90 days, changes of class and early deletion paid; objects go where that is cheapest, or stay.",
            "Logs beside it tell which line is yours: foretide assess --inventory … --logs …",
        ],
    }


def _held(inventory: Inventory, book: PriceBook) -> tuple[Ints, list[str]]:
    """The class of each object, by its number in the book; a class that it does not price counts as its first."""
    number = {name: book.classes.index(entry) for name, entry in book.by_name.items()}
    held = np.array([number.get(name, -1) for name in inventory.storage_class], np.int64)
    unknown = sorted({name for name, index in zip(inventory.storage_class, held, strict=True) if index < 0})
    said = [f"objects in {', '.join(unknown)}, which {book.name} does not price, as if in {book.classes[0].name}"]
    return np.maximum(held, 0), said if unknown else []


def _scenario(
    book: PriceBook, held: Ints, size: Floats, age: Floats, reads: float, *, archives: bool
) -> dict[str, Any]:  # fmt: skip
    """Everything read so often: the cheapest class of each object, and what all of them save together."""
    months = HORIZON_DAYS / MONTH_DAYS
    offered = [index for index, entry in enumerate(book.classes) if archives or not (entry.archive or entry.restore)]
    stay = np.choose(held, [_months(book, entry, size, age, reads, kept=True) * months for entry in book.classes])
    cost, to = stay.copy(), held.copy()
    for index in offered:
        change = np.choose(held, [_change(entry, book.classes[index], size, age) for entry in book.classes])
        total = _months(book, book.classes[index], size, age, reads, kept=False) * months + change
        total += pricing.early_deletion_usd(book.classes[index], size, np.full_like(size, HORIZON_DAYS))
        better = (total < cost) & (held != index)
        cost, to = np.where(better, total, cost), np.where(better, index, to)
    moved = to != held
    return {
        "reads_a_month": reads,
        "usd_a_month": float(cost.sum()) / months,
        **saving(stay, cost, months).document(),
        "moves": int(moved.sum()),
        "to_class": {book.classes[index].name: int((moved & (to == index)).sum()) for index in offered},
    }


def _months(book: PriceBook, entry: StorageClass, size: Floats, age: Floats, reads: float, *, kept: bool) -> Floats:
    """$ a month in a class at so many whole reads a month."""
    idle = age if kept and reads == 0 else np.zeros_like(age)
    rate = np.full_like(size, reads / MONTH_DAYS)
    stored = pricing.object_month(entry, book.classes[0], size, rate, idle, HORIZON_DAYS)
    requests, retrieval = pricing.read_usd(entry, np.full_like(size, reads), reads * size)
    return stored + requests + retrieval


def _change(source: StorageClass, target: StorageClass, size: Floats, age: Floats) -> Floats:
    return pricing.transition_usd(source, target, size) + pricing.early_deletion_usd(source, size, age)


def today(inventory: Inventory, book: PriceBook) -> dict[str, Any]:
    """What is stored in which class, and $ a month for that storage through the book's volume bands."""
    held, _ = _held(inventory, book)
    size, rows = inventory.size.astype(float), []
    for index, entry in enumerate(book.classes):
        mine = size[held == index]
        if len(mine):
            gb = float(pricing.billable_gb(entry, mine).sum())
            usd = storage_month(entry, gb) + len(mine) * entry.hot_overhead_bytes / GB * book.classes[0].first_usd
            rows.append({"class": entry.name, "objects": len(mine), "bytes": int(mine.sum()), "usd_a_month": usd})
    return {"storage_usd_a_month": sum(row["usd_a_month"] for row in rows), "classes": rows}
