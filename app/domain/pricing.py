"""What storing, reading and moving objects costs: arithmetic over the price book for many of them at once.

The functions work in float64 US dollars and take arrays as well as numbers; the book is in app/domain/prices.py.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from app.domain.prices import GB, IN_PLACE_LIMIT, MONTH_DAYS, StorageClass

MULTIPART_THRESHOLD = 16 * 2**20
PART_SIZE = 8 * 2**20

Floats = NDArray[np.float64]


def billable_gb(entry: StorageClass, size: Floats) -> Floats:
    """GB billed for objects of `size` bytes: at least the minimum, plus the overhead."""
    return (np.maximum(size, entry.min_bytes) + entry.overhead_bytes) / GB


def object_month(
    entry: StorageClass,
    hot: StorageClass,
    size: Floats,
    rate: Floats,
    idle: Floats,
    days: float,
    volume_gb: float = 0.0,
) -> Floats:
    """$ a month, the mean over the next `days`, for keeping objects in a class.

    size: bytes; rate: reads a day; idle: days since the last read (0 for an object that is written now); both matter
    in managed classes alone. volume_gb: what the site's class holds already, which decides the volume band.
    """
    usd = entry.marginal_usd(volume_gb)
    cost = billable_gb(entry, size) * usd + entry.hot_overhead_bytes / GB * hot.first_usd
    managed = size >= entry.managed_from_bytes
    if entry.idle_steps:
        for cheaper, dearer in zip(entry.idle_steps, (None, *entry.idle_steps[:-1]), strict=True):
            drop = (usd if dearer is None else float(dearer.usd)) - float(cheaper.usd)
            cost = cost - managed * size / GB * drop * idle_share(rate, idle, float(cheaper.after_days), days)
    return cost + managed * float(entry.monitoring_per_1k) / 1000


def idle_share(rate: Floats, idle: Floats, after: float, days: float) -> Floats:
    """The expected share of the next `days` in which a Poisson-read object has been idle for at least `after` days."""
    rate = np.maximum(rate, 1e-12)
    start = np.maximum(0.0, after - idle)
    end = min(after, days)
    before = np.maximum(0.0, np.exp(-rate * start) - np.exp(-rate * end)) / rate
    share: Floats = (before + max(0.0, days - after) * np.exp(-rate * after)) / days
    return share


def read_usd(entry: StorageClass, reads: Floats, bytes_read: Floats) -> tuple[Floats, Floats]:
    """$ for requests and $ for retrieval of so many reads and bytes."""
    return reads * float(entry.get_per_1k) / 1000, bytes_read / GB * float(entry.retrieval_per_gb)


def put_requests(size: Floats) -> Floats:
    """Requests that writing objects takes: one, or one a part and two around them."""
    return np.where(size < MULTIPART_THRESHOLD, 1.0, np.ceil(size / PART_SIZE) + 2)


def copy_usd(source: StorageClass, target: StorageClass, size: Floats, egress: float) -> Floats:
    """$ for a verified copy to another site, worked beside the target.

    Source: LIST (a thousandth), two HEADs, GET, retrieval, egress. Target: PUTs, HEAD and the re-read that verifies it.
    """
    head = 3 * float(source.get_per_1k) + 2 * float(target.get_per_1k)
    requests = (head + float(source.list_per_1k) / 1000 + put_requests(size) * float(target.put_per_1k)) / 1000
    return requests + size / GB * (float(source.retrieval_per_gb) + float(target.retrieval_per_gb) + egress)


def transition_usd(source: StorageClass, target: StorageClass, size: Floats) -> Floats:
    """$ for a change of class in place: two HEADs, the copy onto itself and the retrieval of what is rewritten.

    What is too large for one request pays for its parts.
    """
    change = target.put_per_1k if target.transition_per_1k is None else target.transition_per_1k
    heads = float(source.get_per_1k) + float(target.get_per_1k)
    in_parts = np.where(size > IN_PLACE_LIMIT, put_requests(size) * float(target.put_per_1k), 0.0)
    return (float(change) + heads + in_parts) / 1000 + size / GB * float(source.retrieval_per_gb)


def early_deletion_usd(entry: StorageClass, size: Floats, age_days: Floats, volume_gb: float = 0.0) -> Floats:
    """$ for leaving a class before its minimum days are over: the days that are left, at its storage price."""
    left = np.maximum(0.0, entry.min_days - age_days)
    return billable_gb(entry, size) * entry.marginal_usd(volume_gb) * left / MONTH_DAYS


def old_version_usd(entry: StorageClass, size: Floats, days: float, volume_gb: float = 0.0) -> Floats:
    """$ for the version that a move leaves in a versioned bucket, stored for so many days more.

    A fee for leaving the class early is part of it, as far as it lasts.
    """
    return billable_gb(entry, size) * entry.marginal_usd(volume_gb) * days / MONTH_DAYS
