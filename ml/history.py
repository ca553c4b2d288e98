"""The columnar access history that every learner reads: rows sorted by object and time, never an object per event.

A row may be one event, an hour's roll-up or a day of a trace: it holds counts and the time of its last access.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Self

import numpy as np
import numpy.typing as npt

Ints = npt.NDArray[np.int64]
Floats = npt.NDArray[np.float64]

SECOND = 1_000_000  # times are integers of microseconds since 1970 UTC
HOUR = 3_600 * SECOND
DAY = 24 * HOUR
STAYS = np.iinfo(np.int64).max
"""The end of an object that is there."""

PREFIX_SEGMENTS = 2
FILE_TYPES: tuple[tuple[str, str], ...] = (
    ("other", ""),
    ("image", "png jpg jpeg gif svg webp ico tif tiff bmp heic"),
    ("media", "mp4 mov mkv webm avi mp3 wav flac m4a ogg"),
    ("web", "html htm css js php xml rss atom map woff woff2"),
    ("log", "log txt out err"),
    ("data", "csv tsv json ndjson parquet avro orc h5 hdf5 nwb npy npz sqlite db arrow"),
    ("archive", "zip gz tgz tar bz2 xz zst 7z bak dump"),
    ("document", "pdf doc docx xls xlsx ppt pptx md odt epub"),
)
_TYPE_OF = {suffix: number for number, (_, suffixes) in enumerate(FILE_TYPES) for suffix in suffixes.split()}


@dataclass(frozen=True)
class History:
    """Accesses of `objects` objects, sorted by (object, ts); the arrays have one element a row."""

    object: Ints
    """Dense index of the object, 0 ≤ index < objects."""
    ts: Ints
    """Time of the row's last access, microseconds since 1970 UTC."""
    reads: Ints
    writes: Ints
    bytes_read: Ints
    partial_uploads: Ints
    objects: int
    begin: int
    """Time since which accesses are known, of these objects or others: the exposure of rates counts from it."""

    @classmethod
    def of(
        cls,
        object: Ints,
        ts: Ints,
        reads: Ints,
        writes: Ints,
        bytes_read: Ints,
        partial_uploads: Ints,
        objects: int,
        begin: int | None = None,
    ) -> Self:
        """Rows in any order; those already sorted are not copied. begin: by default the earliest row."""
        columns = (object, ts, reads, writes, bytes_read, partial_uploads)
        before, after = slice(None, -1), slice(1, None)
        sorted_already = (object[before] < object[after]) | (
            (object[before] == object[after]) & (ts[before] <= ts[after])
        )
        if not sorted_already.all():
            order = np.lexsort((ts, object))
            columns = tuple(column[order] for column in columns)  # type: ignore[assignment]
        if begin is None:
            begin = int(ts.min()) if len(ts) else 0
        return cls(*columns, objects=objects, begin=begin)

    def __len__(self) -> int:
        return len(self.object)

    def before(self, cut: int) -> Self:
        """The rows strictly before a time: what was known at it."""
        return self.where(self.ts < cut)

    def where(self, mask: npt.NDArray[np.bool_]) -> Self:
        """The rows of a mask, of the same objects."""
        return type(self)(
            self.object[mask],
            self.ts[mask],
            self.reads[mask],
            self.writes[mask],
            self.bytes_read[mask],
            self.partial_uploads[mask],
            self.objects,
            self.begin,
        )

    @property
    def daily(self) -> bool:
        """Whether every row stands at midnight UTC, as in traces of daily grain."""
        return bool(len(self)) and not (self.ts % DAY).any()


@dataclass(frozen=True)
class Former:
    """What objects were before they became what they are now; one element a change, sorted by (object, until).

    An object has the size of its first change after a time, and else the one that it has now; so is it with its end.
    """

    object: Ints
    until: Ints
    """When it became what it was next, microseconds since 1970 UTC."""
    size: Floats
    """Bytes until then; 0 where unknown."""
    gone: Ints
    """Since when it had not been there then; `until` where it was there all the time."""

    @classmethod
    def none(cls) -> Self:
        """Nothing has changed."""
        return cls(np.zeros(0, np.int64), np.zeros(0, np.int64), np.zeros(0), np.zeros(0, np.int64))

    @cached_property
    def _times(self) -> Ints:
        return np.unique(self.until)

    @cached_property
    def _codes(self) -> Ints:
        """Object and time as one number: places stand for times, so that none is too large."""
        return self.object * (len(self._times) + 1) + np.searchsorted(self._times, self.until)

    def after(self, owner: Ints, moment: Ints) -> tuple[npt.NDArray[np.bool_], Ints]:
        """Of (object, time) pairs: whether a change came after the time, and the place of the first one (else 0)."""
        rank = np.searchsorted(self._times, moment, side="right")
        place = np.searchsorted(self._codes, owner * (len(self._times) + 1) + rank)
        found = place < len(self.object)
        place = np.where(found, place, 0)
        return found & (self.object[place] == owner), place


@dataclass(frozen=True)
class Catalogue:
    """What is known of the objects beside their accesses; arrays by dense object index."""

    size: Floats
    """Bytes that it has now, or had in the end; 0 where unknown."""
    prefix: Ints
    """Dense number of the key's prefix."""
    file_type: Ints
    """Index into FILE_TYPES."""
    prefixes: tuple[str, ...]
    gone: Ints
    """Since when it is not there any more, microseconds since 1970 UTC; STAYS where it is."""
    former: Former = field(default_factory=Former.none)

    @classmethod
    def of(
        cls,
        keys: Sequence[str],
        sizes: Sequence[int | None] | Floats,
        gone: Ints | None = None,
        former: Former | None = None,
    ) -> Self:
        """One entry a key; sizes in bytes, None or 0 where unknown. gone: by default every object is there."""
        number: dict[str, int] = {}
        prefix = np.fromiter((number.setdefault(prefix_of(key), len(number)) for key in keys), np.int64, len(keys))
        types = np.fromiter((file_type(key) for key in keys), np.int64, len(keys))
        known = np.array([size or 0 for size in sizes], np.float64)
        ends = np.full(len(keys), STAYS) if gone is None else gone
        return cls(known, prefix, types, tuple(number), ends, former or Former.none())

    def size_at(self, owner: Ints, moment: Ints) -> Floats:
        """Bytes of objects as of a time each; what comes at that time or later changes nothing.

        The first size that was ever known counts for all the time before: it was not known yet, but was no other.
        """
        if not len(self.former.object):
            return self.size[owner]
        found, place = self.former.after(owner, moment - 1)
        return np.where(found, self.former.size[place], self.size[owner])

    def there(self, moment: int) -> npt.NDArray[np.bool_]:
        """Of every object, whether it had not ended before a time, or had come back by then."""
        gone = self.gone < moment
        if len(self.former.object):
            found, place = self.former.after(np.arange(len(gone)), np.full(len(gone), moment - 1))
            gone = np.where(found, self.former.gone[place] < moment, gone)
        return ~gone


def prefix_of(key: str) -> str:
    """The folder of a key, cut to its first two segments: `logs/2026-11-06/app.log` is in `logs/2026-11-06`."""
    folder = key.strip("/").split("/")[:-1]
    return "/".join(folder[:PREFIX_SEGMENTS])


def file_type(key: str) -> int:
    """The key's file type as an index into FILE_TYPES, by the suffix after its last dot; a URL's query is left out."""
    name = key.rsplit("/", 1)[-1].split("?", 1)[0]
    return _TYPE_OF.get(name.rsplit(".", 1)[-1].lower(), 0)
