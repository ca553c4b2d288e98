"""What the rows of a recorded trace tell of its objects' sizes and ends, so that learning sees each time as it was."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from ml.history import STAYS, Floats, Former, Ints

Mask = npt.NDArray[np.bool_]


def told(owner: Ints, ts: Ints, size: Ints, written: Mask, deleted: Mask, objects: int) -> tuple[Floats, Ints, Former]:
    """Each object's size and end as they are last, and what it was before; rows in order of time.

    owner: dense index of the object. size: bytes that a row states, 0 where it does not. written, deleted: whether the
    owner wrote or deleted it; other rows are reads. An object is gone from a DELETE until it is written anew, or read
    at a later time: then it is there, whoever wrote it. At one time, such as a day of a daily trace, reads say nothing.
    """
    order = np.argsort(owner, kind="stable")
    owner, ts, size, written, deleted = owner[order], ts[order], size[order], written[order], deleted[order]
    row, bounds = np.arange(len(owner)), np.searchsorted(owner, np.arange(objects + 1))
    first = bounds[owner]
    before = np.maximum(row - 1, first)
    known = _known(owner, size, first, objects)
    delete = _last(deleted)
    there = ~deleted & (written | (delete < first) | (ts > ts[delete]))
    gone = deleted[_last(deleted | there)]
    was_gone = gone[before] & (row > first)
    since = ts[_last(gone & ~was_gone)]  # of those that are gone
    at = np.flatnonzero((known != known[before]) | (was_gone & ~gone))
    ended = np.where(was_gone[at], since[before[at]], ts[at])
    former = Former(owner[at], ts[at], known[before[at]].astype(float), ended)
    sizes, ends = np.zeros(objects), np.full(objects, STAYS)
    seen = np.flatnonzero(np.diff(bounds))
    last = bounds[1:][seen] - 1
    sizes[seen], ends[seen] = known[last], np.where(gone[last], since[last], STAYS)
    return sizes, ends, former


def _known(owner: Ints, size: Ints, first: Ints, objects: int) -> Ints:
    """The size that was stated last, and before any the first one: it was not known yet, but was no other."""
    stated = np.flatnonzero(size > 0)
    named, place = np.unique(owner[stated], return_index=True)
    earliest = np.zeros(objects, np.int64)
    earliest[named] = size[stated[place]]
    last = _last(size > 0)
    return np.where(last >= first, size[last], earliest[owner])


def _last(mask: Mask) -> Ints:
    """The place up to each where a mask held last; −1 before the first."""
    return np.maximum.accumulate(np.where(mask, np.arange(len(mask)), -1))
