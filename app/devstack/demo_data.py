"""What the demo works on: a made-up month or a given trace, its objects really stored at the sites."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from pathlib import Path

import numpy as np

from app.devstack.seaweed import RunningSite
from app.domain.sites import SiteAddress, parse_networks
from app.errors import Invalid
from app.lab.synthetic import generate
from app.lab.traces import Trace, read_trace
from app.settings import get_settings

MAX_OBJECTS = 2000
"""Objects of a trace that are stored here: those most accessed. Accesses of the rest are ingested all the same."""
MAX_OBJECT_BYTES = 8 * 2**20
TOTAL_BYTES = 192 * 2**20
UPLOADS = 8
MAX_PART_BYTES = 255
"""Of what stands between two slashes of a key: the sites' servers refuse more."""


@dataclass(frozen=True)
class DemoData:
    """A trace whose sizes fit on this machine, the objects to store, and what was assumed on the way."""

    trace: Trace
    stored: Sequence[int]
    """Indices of the objects that are stored."""
    assumed: tuple[str, ...]

    @property
    def clock_offset_s(self) -> float:
        """What to add to the wall clock so that the trace ends now."""
        return self.trace.end / 1e6 - datetime.now(UTC).timestamp()

    @property
    def days(self) -> int:
        """Whole days that the trace spans, one more for its first."""
        return int((self.trace.end - int(self.trace.ts[0])) / 86_400e6) + 1


def load(path: Path | None, *, objects: int, seed: int) -> DemoData:
    """The demo's data: of the trace file, or made up from the seed. Raises Invalid for a file that cannot be read."""
    trace = read_trace(path) if path else generate(datetime.now(UTC), seed, objects=objects)
    if not len(trace):
        raise Invalid("the trace holds no access")
    assumed = []
    if trace.rejected_total:
        assumed.append(f"{trace.rejected_total} rows were left out; the first: {trace.rejected[0].detail}")
    if trace.uncounted:
        assumed.append(f"each row is one access: {trace.uncounted} more that its count tells of are left out")
    keys = list(storable(trace.keys))
    if renamed := sum(a != b for a, b in zip(keys, trace.keys, strict=True)):
        assumed.append(f"{renamed} objects have another key here, since S3 servers refuse or rewrite theirs")
    trace = replace(trace, keys=keys)
    reads = np.bincount(trace.object, minlength=len(trace.keys))
    stored = np.argsort(-reads, kind="stable")[:MAX_OBJECTS]
    if len(stored) < len(trace.keys):
        assumed.append(f"{len(stored)} of {len(trace.keys)} objects are stored here, the most accessed ones")
    trace, scale = _fitted(trace, stored)
    if scale < 1:
        assumed.append(f"sizes are scaled to {scale:.3g} of the trace's, and no object is over 8 MiB, to fit here")
    return DemoData(trace, sorted(stored.tolist()), tuple(assumed))


def storable(keys: Sequence[str]) -> Iterator[str]:
    """For each key one that the sites' servers keep as it is: paths of a web log as they stand are no such keys.

    These servers drop a leading slash, join slashes, take a/ for a folder, refuse long or dotted parts, and refuse a
    conditional write of an object that is named like a folder.
    """
    leading = int(all(key.startswith("/") for key in keys))
    names = ["/".join(_part(part) for part in key[leading:].split("/")) for key in keys]
    taken = {name[:place] for name in names for place, letter in enumerate(name) if letter == "/"}
    for name in names:
        while name in taken:
            name += "_"
        taken.add(name)
        yield name


def _part(part: str) -> str:
    data = part.encode()
    if len(data) > MAX_PART_BYTES:
        return data[: MAX_PART_BYTES // 2].decode(errors="ignore") + hashlib.sha256(data).hexdigest()
    return f"_{part}" if part in ("", ".", "..") else part


def _fitted(trace: Trace, stored: np.ndarray) -> tuple[Trace, float]:
    """The trace with no object over 8 MiB and all together at most TOTAL_BYTES; reads shrink with their object."""
    sizes = np.maximum(trace.sizes(), 1)
    capped = np.minimum(sizes, MAX_OBJECT_BYTES)
    capped = np.maximum(capped * min(1.0, TOTAL_BYTES / capped[stored].sum()), 1).astype(np.int64)
    factor = (capped / sizes)[trace.object]
    shrunk = np.minimum(np.ceil(trace.bytes_read * factor), capped[trace.object]).astype(np.int64)
    return replace(trace, bytes_read=shrunk, size=capped[trace.object]), float(capped.sum() / sizes.sum())


def place(index: int, sites: Sequence[RunningSite]) -> list[RunningSite]:
    """Where an object lies at first: nine in ten at two sites, the tenth at one, so that a copy is missing."""
    first = sites[index % len(sites)]
    second = sites[(index + 1) % len(sites)]
    return [first] if index % 10 == 9 or first is second else [first, second]


def store(data: DemoData, sites: Sequence[RunningSite], seed: int, on_stored: Callable[[int, int], None]) -> int:
    """Stores the objects at their first places; returns their bytes. on_stored: told how many of how many are done."""
    from app.s3.client import connect

    buckets = {site.name: connect(address(site)) for site in sites}
    noise = np.random.default_rng(seed).bytes(2 * MAX_OBJECT_BYTES)
    sizes = data.trace.sizes()

    def put(index: int) -> int:
        size = int(sizes[index])
        body = noise[index % MAX_OBJECT_BYTES :][:size]
        for site in place(index, sites):
            buckets[site.name].call("put_object", writes=True, Key=data.trace.keys[index], Body=body)
        return size

    total = 0
    with ThreadPoolExecutor(UPLOADS) as pool:
        for done, size in enumerate(pool.map(put, data.stored), 1):
            total += size
            on_stored(done, len(data.stored))
    return total


def address(site: RunningSite) -> SiteAddress:
    """How this process reaches a running site."""
    return SiteAddress(
        name=site.name,
        endpoint_url=site.endpoint_url,
        region=site.region,
        bucket=site.bucket,
        access_key=site.access_key,
        secret_key=site.secret_key,
        networks=parse_networks(get_settings().site_networks),
    )
