"""Compiled loops that write accesses as the lines that POST /v1/accesses takes."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
from numba import njit

from app.lab.log_loops import DAY_US, ID_FROM, ID_TO, MOVED, OP, PART_FROM, PART_TO, TS, Bytes, Ints

Mask = npt.NDArray[np.bool_]

LINE_BYTES = 160
"""At most what a line has beside its key, its id and what is given to be added."""
ESCAPE_BYTES = 6
HEX = np.frombuffer(b"0123456789abcdef", np.uint8)
TS_TEXT, KEY_TEXT, OP_TEXT, SIZE_TEXT, ID_TEXT = (
    np.frombuffer(text, np.uint8) for text in (b'{"ts":"', b'","key":"', b'","op":"', b'","bytes":', b',"event_id":"')
)
OPS = np.frombuffer(b"GET   HEAD  PUT   DELETE", np.uint8).reshape(4, 6)
OP_LENGTHS = np.array([3, 4, 3, 6])


@njit(cache=True, nogil=True)
def _put(b: Bytes, at: int, text: Bytes) -> int:
    for i in range(len(text)):
        b[at + i] = text[i]
    return at + len(text)


@njit(cache=True, nogil=True)
def _number(b: Bytes, at: int, value: int, digits: int) -> int:
    """Writes a number with so many digits at least; where it ends."""
    count, rest = 1, value // 10
    while rest:
        count += 1
        rest //= 10
    count = max(count, digits)
    for i in range(count):
        b[at + count - 1 - i] = 48 + value % 10
        value //= 10
    return at + count


@njit(cache=True, nogil=True)
def _time(b: Bytes, at: int, ts: int) -> int:
    """Writes microseconds since 1970 as 2026-11-20T00:00:03Z, with a fraction where there is one; where it ends."""
    day, rest = ts // DAY_US, ts % DAY_US
    z = day + 719_468
    era = z // 146_097
    of_era = z - era * 146_097
    year = (of_era - of_era // 1460 + of_era // 36_524 - of_era // 146_096) // 365
    of_year = of_era - (365 * year + year // 4 - year // 100)
    of_five = (5 * of_year + 2) // 153
    month = of_five + (3 if of_five < 10 else -9)
    at = _number(b, at, year + era * 400 + (1 if month <= 2 else 0), 4)
    b[at] = 45
    at = _number(b, at + 1, month, 2)
    b[at] = 45
    at = _number(b, at + 1, of_year - (153 * of_five + 2) // 5 + 1, 2)
    b[at] = 84
    second, micros = rest // 1_000_000, rest % 1_000_000
    at = _number(b, at + 1, second // 3600, 2)
    b[at] = 58
    at = _number(b, at + 1, second // 60 % 60, 2)
    b[at] = 58
    at = _number(b, at + 1, second % 60, 2)
    if micros:
        b[at] = 46
        at = _number(b, at + 1, micros, 6)
    b[at] = 90
    return at + 1


@njit(cache=True, nogil=True)
def _text(b: Bytes, at: int, a: Bytes, begin: int, end: int) -> int:
    """Writes bytes as the inside of a JSON string; where it ends."""
    for i in range(begin, end):
        byte = a[i]
        if byte == 34 or byte == 92:
            b[at] = 92
            b[at + 1] = byte
            at += 2
        elif byte < 32:
            at = _put(b, at, ESCAPED)
            b[at] = HEX[byte >> 4]
            b[at + 1] = HEX[byte & 15]
            at += 2
        else:
            b[at] = byte
            at += 1
    return at


ESCAPED = np.frombuffer(b"\\u00", np.uint8)


@njit(cache=True, nogil=True)
def write(
    columns: Ints,
    kept: Mask,
    keys: Bytes,
    key_ends: Ints,
    a: Bytes,
    lead: Bytes,
    digests: Bytes,
    tail: Bytes,
    b: Bytes,
    line_ends: Ints,
) -> int:
    """Writes the kept lines into b; line_ends: where each ends. Returns how many bytes.

    lead: what ids begin with; digests: the ids of lines that name none, in their order; tail: what each line ends with.
    """
    at, begin, unnamed, written = 0, 0, 0, 0
    known, known_begin, known_end = -1, 0, 0
    for row in range(columns.shape[1]):
        key_begin, begin = begin, key_ends[row]
        is_named = columns[ID_TO, row] > columns[ID_FROM, row]
        if not kept[row]:
            unnamed += not is_named
            continue
        at = _put(b, at, TS_TEXT)
        if columns[TS, row] == known:
            for i in range(known_end - known_begin):
                b[at + i] = b[known_begin + i]
            known_begin, known_end, at = at, at + known_end - known_begin, at + known_end - known_begin
        else:
            known, known_begin = columns[TS, row], at
            at = _time(b, at, known)
            known_end = at
        at = _text(b, _put(b, at, KEY_TEXT), keys, key_begin, begin)
        at = _put(b, at, OP_TEXT)
        op = columns[OP, row] & 7
        at = _put(b, at, OPS[op, : OP_LENGTHS[op]])
        at = _number(b, _put(b, at, SIZE_TEXT), max(0, columns[MOVED, row]), 1)
        at = _put(b, _put(b, at, ID_TEXT), lead)
        if not is_named:
            at = _put(b, at, digests[unnamed])
            unnamed += 1
        else:
            at = _text(b, at, a, columns[ID_FROM, row], columns[ID_TO, row])
            if columns[PART_TO, row] > columns[PART_FROM, row]:
                b[at] = 45
                at = _text(b, at + 1, a, columns[PART_FROM, row], columns[PART_TO, row])
        at = _put(b, at, tail)
        line_ends[written] = at
        written += 1
    return at
