"""Compiled loops that decode the keys that a log names, as app/lab/log_loops.py found them.

They call none of another module: what numba keeps of a loop is not made anew when one that it calls has changed there.
"""

from __future__ import annotations

import numpy as np
from numba import njit

from app.lab.log_loops import (
    BACKSLASHES,
    BUCKET,
    DOUBLED,
    HTML,
    KEY_BYTES,
    KEY_FORM,
    KEY_FROM,
    KEY_LONG,
    KEY_NUL,
    KEY_TO,
    LINE,
    ONCE,
    OP,
    PASSED,
    QUOTES,
    RAW,
    ROOTED,
    TAKEN,
    TWICE,
    Bytes,
    Ints,
)


@njit(cache=True, nogil=True)
def _hex(byte: np.uint8) -> int:
    if 48 <= byte <= 57:
        return int(byte) - 48
    low = int(byte) | 32
    return low - 87 if 97 <= low <= 102 else 255


@njit(cache=True, nogil=True)
def _unquote(b: Bytes, begin: int, end: int) -> int:
    """Decodes %HH in place; the new end. What is no such code stays as it is."""
    out = begin
    i = begin
    while i < end:
        if b[i] == 37 and i + 2 < end and _hex(b[i + 1]) < 16 and _hex(b[i + 2]) < 16:
            b[out] = _hex(b[i + 1]) * 16 + _hex(b[i + 2])
            i += 3
        else:
            b[out] = b[i]
            i += 1
        out += 1
    return out


@njit(cache=True, nogil=True)
def _unescape(b: Bytes, begin: int, end: int) -> int:
    """Decodes \\xHH, \\" and \\\\ in place; the new end."""
    out = begin
    i = begin
    while i < end:
        if b[i] == 92 and i + 3 < end and b[i + 1] == 120 and _hex(b[i + 2]) < 16 and _hex(b[i + 3]) < 16:
            b[out] = _hex(b[i + 2]) * 16 + _hex(b[i + 3])
            i += 4
        elif b[i] == 92 and i + 1 < end:
            b[out] = b[i + 1]
            i += 2
        else:
            b[out] = b[i]
            i += 1
        out += 1
    return out


@njit(cache=True, nogil=True)
def _entities(b: Bytes, begin: int, end: int) -> int:
    """Decodes &quot; &amp; &lt; &gt; and numbers below 128 in place; the new end."""
    out = begin
    i = begin
    while i < end:
        byte, length = b[i], 1
        if byte == 38:
            rest = end - i
            if rest >= 5 and b[i + 1] == 97 and b[i + 2] == 109 and b[i + 3] == 112 and b[i + 4] == 59:
                length = 5
            elif (
                rest >= 6
                and b[i + 1] == 113
                and b[i + 2] == 117
                and b[i + 3] == 111
                and b[i + 4] == 116
                and b[i + 5] == 59
            ):
                byte, length = np.uint8(34), 6
            elif rest >= 4 and (b[i + 1] == 108 or b[i + 1] == 103) and b[i + 2] == 116 and b[i + 3] == 59:
                byte, length = np.uint8(60 if b[i + 1] == 108 else 62), 4
            elif rest >= 5 and b[i + 1] == 35 and 48 <= b[i + 2] <= 57 and 48 <= b[i + 3] <= 57 and b[i + 4] == 59:
                byte, length = np.uint8((b[i + 2] - 48) * 10 + b[i + 3] - 48), 5
        b[out] = byte
        out += 1
        i += length
    return out


@njit(cache=True, nogil=True)
def _key(a: Bytes, begin: int, end: int, form: Ints, once: int, b: Bytes, at: int) -> int:
    """Writes the key that a field names into b from `at`; its end; at: it names none."""
    kind = form[KEY_FORM]
    for i in range(end - begin):
        b[at + i] = a[begin + i]
    last = at + end - begin
    if kind & BACKSLASHES:
        last = _unescape(b, at, last)
    if kind & HTML:
        last = _entities(b, at, last)
    first = at
    if kind & ROOTED:
        first = _path(b, first, last)
        for i in range(first, last):
            if b[i] == 63:
                last = i
                break
    if kind & BUCKET:
        slashes = 0
        while first < last and slashes < 3:
            slashes += b[first] == 47
            first += 1
        if slashes < 3:
            return at
    if first > at:
        for i in range(last - first):
            b[at + i] = b[first + i]
        last = at + last - first
    if form[QUOTES] == DOUBLED:
        out = at
        i = at
        while i < last:
            b[out] = b[i]
            i += 2 if b[i] == 34 else 1
            out += 1
        last = out
    if not kind & RAW:
        last = _unquote(b, at, last)
        if kind & TWICE and not once:
            last = _unquote(b, at, last)
    return last


@njit(cache=True, nogil=True)
def _path(b: Bytes, first: int, last: int) -> int:
    """Where the path of /key or of http://host/key begins, behind its slash; `last`: nowhere."""
    if first < last and b[first] == 47:
        return first + 1
    for i in range(first, last - 2):
        if b[i] == 58 and b[i + 1] == 47 and b[i + 2] == 47:
            for k in range(i + 3, last):
                if b[k] == 47:
                    return k + 1
            return last
    return last


@njit(cache=True, nogil=True)
def _problem(b: Bytes, begin: int, end: int) -> int:
    if end == begin:
        return PASSED
    if end - begin > KEY_BYTES:
        return KEY_LONG
    for i in range(begin, end):
        if b[i] == 0:
            return KEY_NUL
    return TAKEN


@njit(cache=True, nogil=True)
def decode(a: Bytes, columns: Ints, form: Ints, out: Bytes, keys: Bytes, key_ends: Ints) -> int:
    """Decodes the keys of the rows of `columns`, which it moves up where a key is refused (`out` of its line says why).

    keys: one after the other; key_ends: where each ends. Returns how many rows are left.
    """
    left, at = 0, 0
    for row in range(columns.shape[1]):
        end = _key(a, columns[KEY_FROM, row], columns[KEY_TO, row], form, columns[OP, row] & ONCE, keys, at)
        problem = _problem(keys, at, end)
        out[columns[LINE, row]] = problem
        if problem == TAKEN:
            for name in range(columns.shape[0]):
                columns[name, left] = columns[name, row]
            at = end
            key_ends[left] = at
            left += 1
    return left
