"""Compiled loops over the bytes of a log: where a line's fields are, when it was and what it says (step: ingest).

What a form of log is made of stands in app/lab/logs.py; here a form is an array of numbers, indexed by the names below.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
from numba import njit

Bytes = npt.NDArray[np.uint8]
Ints = npt.NDArray[np.int64]

FORM = (
    "DELIMITER", "QUOTES", "CLOCK_FIRST", "FIELDS", "CLOCK", "TIME", "TIME_OF_DAY", "OPERATION", "KEY", "KEY_FORM",
    "STATUS", "SENT", "RECEIVED", "SIZE", "ID", "ID_PART",
)  # fmt: skip
(
    DELIMITER, QUOTES, CLOCK_FIRST, FIELDS, CLOCK, TIME, TIME_OF_DAY, OPERATION, KEY, KEY_FORM,
    STATUS, SENT, RECEIVED, SIZE, ID, ID_PART,
) = range(len(FORM))  # fmt: skip
"""DELIMITER: a byte; FIELDS: how many are looked for; TIME to ID_PART: numbers of fields, -1 where there is none."""
BARE, QUOTED, ESCAPED, DOUBLED = range(4)
"""QUOTES: none; `"…"`; the same with backslashes before quotes; the same with quotes doubled."""
NAMED, ISO, MICROS = range(3)
"""CLOCK: 06/Feb/2019:02:00:00 +0200; 2019-02-06T00:00:00.1Z, or a date and a time of day, UTC; µs since 1970."""
REQUEST, TWICE, ROOTED, BUCKET, HTML, BACKSLASHES, RAW = 1, 2, 4, 8, 16, 32, 64
"""KEY_FORM, added: `GET /key?query HTTP/1.1` with the method; percent-encoded twice; a slash before the key;
account and container before it; entities; `\\x22` for bytes and `\\"`; not percent-encoded at all."""
GET, HEAD, PUT, DELETE = range(4)
OPS, ONCE, UNSIZED, SHARED = 7, 8, 16, 32
"""Of a meaning: which bits are the operation; its key is encoded once; its bytes are not the object's; other lines have
the same request's id."""
TAKEN, PASSED, FORM_WRONG, CUT, LONG, TIME_WRONG, NUMBER_WRONG, KEY_LONG, KEY_NUL, KEY_WRONG = range(10)
"""What became of a line: an access; about no object, or not answered well; refused, and why."""
COLUMNS = 11
LINE, TS, OP, MOVED, OBJECT_SIZE, KEY_FROM, KEY_TO, ID_FROM, ID_TO, PART_FROM, PART_TO = range(COLUMNS)
"""Of an access: its line from 0, µs since 1970, its meaning, bytes (-1: not told), where its key and id stand."""
LONGEST_LINE, KEY_BYTES, MOST_BYTES = 2**20, 1024, 2**46
CLOCK_BYTES = 28
DAY_US = 86_400_000_000


@njit(cache=True, nogil=True, inline="always")
def _digit(byte: int) -> bool:
    return 48 <= byte <= 57


@njit(cache=True, nogil=True)
def _number(a: Bytes, begin: int, end: int) -> int:
    """The digits as a number; -1: there is none, or a hyphen; -2: something else."""
    if begin >= end or (end == begin + 1 and a[begin] == 45):
        return -1
    if end - begin > 18:
        return -2
    value = 0
    for i in range(begin, end):
        if not _digit(a[i]):
            return -2
        value = value * 10 + int(a[i]) - 48
    return value


@njit(cache=True, nogil=True)
def _days(year: int, month: int, day: int) -> int:
    """Days since 1970-01-01 of a date of the Gregorian calendar; a wrong one gives less than -1,000,000."""
    if month < 1 or month > 12 or day < 1 or year < 1:
        return -10_000_000
    leap = (year % 4 == 0 and year % 100 != 0) or year % 400 == 0
    longest = 31
    if month == 2:
        longest = 29 if leap else 28
    elif month == 4 or month == 6 or month == 9 or month == 11:
        longest = 30
    if day > longest:
        return -10_000_000
    y = year - (1 if month <= 2 else 0)
    era = y // 400
    of_era = y - era * 400
    of_year = (153 * (month + (-3 if month > 2 else 9)) + 2) // 5 + day - 1
    return int(era * 146_097 + of_era * 365 + of_era // 4 - of_era // 100 + of_year - 719_468)


@njit(cache=True, nogil=True)
def _time_of_day(a: Bytes, begin: int, end: int) -> tuple[int, int]:
    """Microseconds of HH:MM:SS with at most some digits behind a point, and where it ended; -1: it is none."""
    if end - begin < 8 or a[begin + 2] != 58 or a[begin + 5] != 58:
        return -1, begin
    hour, minute, second = (
        _number(a, begin, begin + 2),
        _number(a, begin + 3, begin + 5),
        _number(a, begin + 6, begin + 8),
    )
    if hour < 0 or hour > 23 or minute < 0 or minute > 59 or second < 0 or second > 60:
        return -1, begin
    i, micros, scale = begin + 8, 0, 100_000
    if i < end and a[i] == 46:
        i += 1
        while i < end and _digit(a[i]):
            micros += (int(a[i]) - 48) * scale
            scale //= 10
            i += 1
    return (hour * 3600 + minute * 60 + second) * 1_000_000 + micros, i


@njit(cache=True, nogil=True)
def _zone(a: Bytes, begin: int, end: int) -> int:
    """Microseconds east of UTC of Z, +0200 or +02:00; DAY_US: it is none."""
    if end - begin == 1 and (a[begin] == 90 or a[begin] == 122):
        return 0
    if end - begin < 5 or (a[begin] != 43 and a[begin] != 45):
        return DAY_US
    minutes = begin + (4 if a[begin + 3] == 58 else 3)
    hour, minute = _number(a, begin + 1, begin + 3), _number(a, minutes, end)
    if end - minutes != 2 or hour < 0 or hour > 23 or minute < 0 or minute > 59:
        return DAY_US
    east = (hour * 60 + minute) * 60_000_000
    return int(east if a[begin] == 43 else -east)


@njit(cache=True, nogil=True)
def _named_clock(a: Bytes, begin: int, end: int) -> int:
    """Microseconds since 1970 of 06/Feb/2019:02:00:00 +0200; -1: it is none."""
    if end - begin < 26 or a[begin + 2] != 47 or a[begin + 6] != 47 or a[begin + 11] != 58 or a[begin + 20] != 32:
        return -1
    name = (int(a[begin + 3] | 32) << 16) | (int(a[begin + 4] | 32) << 8) | int(a[begin + 5] | 32)
    month = 0
    for number, known in enumerate(MONTHS):
        if name == known:
            month = number + 1
    day = _days(_number(a, begin + 7, begin + 11), month, _number(a, begin, begin + 2))
    moment, _ = _time_of_day(a, begin + 12, begin + 20)
    east = _zone(a, begin + 21, end)
    if day < -1_000_000 or moment < 0 or east == DAY_US:
        return -1
    return day * DAY_US + moment - east


MONTHS = tuple(
    (ord(name[0]) << 16) | (ord(name[1]) << 8) | ord(name[2])
    for name in ("jan", "feb", "mar", "apr", "may", "jun", "jul", "aug", "sep", "oct", "nov", "dec")
)


@njit(cache=True, nogil=True)
def _iso_clock(a: Bytes, begin: int, end: int, clock_begin: int, clock_end: int) -> int:
    """Microseconds since 1970 of a date and a time of day; with a zone if both stand in one field; -1: it is none."""
    if end - begin < 10 or a[begin + 4] != 45 or a[begin + 7] != 45:
        return -1
    day = _days(_number(a, begin, begin + 4), _number(a, begin + 5, begin + 7), _number(a, begin + 8, begin + 10))
    together = clock_begin == begin
    if together:
        clock_begin, clock_end = begin + 11, end
    elif end - begin != 10:
        return -1
    moment, at = _time_of_day(a, clock_begin, clock_end)
    east = _zone(a, at, clock_end) if together else int(0 if at == clock_end else DAY_US)
    if day < -1_000_000 or moment < 0 or east == DAY_US:
        return -1
    return day * DAY_US + moment - east


@njit(cache=True, nogil=True)
def _locate(a: Bytes, begin: int, end: int, form: Ints, field: Ints) -> int:
    """Writes where fields begin and end; 1: the last ended with the line, unquoted; 0: not; -1: there are fewer."""
    delimiter, quotes, wanted = form[DELIMITER], form[QUOTES], form[FIELDS]
    i, found = begin, 0
    if form[CLOCK_FIRST]:
        while True:
            while i < end and a[i] != 91:
                i += 1
            if end - i < CLOCK_BYTES:
                return -1
            if a[i + 3] == 47 and a[i + 7] == 47:
                break
            i += 1
        field[0, 0], i = i + 1, i + 27
        while i < end and a[i] != 93:
            i += 1
        field[0, 1], found, i = i, 1, i + 2
    bare = 0
    while found < wanted:
        if i > end:
            return -1
        if quotes and i < end and a[i] == 34:
            i += 1
            field[found, 0] = i
            while True:
                while i < end and a[i] != 34:
                    i += 2 if quotes == ESCAPED and a[i] == 92 else 1
                if i >= end:
                    return -1
                if quotes == DOUBLED and i + 1 < end and a[i + 1] == 34:
                    i += 2
                elif i + 1 == end or a[i + 1] == delimiter:
                    break
                elif quotes == QUOTED:
                    i += 1
                else:
                    return -1
            field[found, 1] = i
            i += 1
            bare = 0
        else:
            field[found, 0] = i
            while i < end and a[i] != delimiter:
                i += 1
            field[found, 1] = i
            bare = 1 if i == end else 0
        found += 1
        i += 1
    return bare


@njit(cache=True, nogil=True)
def _meaning(a: Bytes, begin: int, end: int, words: Bytes, word_ends: Ints, meanings: Ints) -> int:
    """What an operation means: one of the words'; -1: none of them."""
    first = 0
    for number in range(len(word_ends)):
        last = word_ends[number]
        if last - first == end - begin:
            same = True
            for i in range(end - begin):
                if a[begin + i] != words[first + i]:
                    same = False
                    break
            if same:
                return int(meanings[number])
        first = last
    return -1


@njit(cache=True, nogil=True)
def _request(a: Bytes, begin: int, end: int) -> tuple[int, int, int]:
    """Of `GET /key HTTP/1.1`: where the method ends, where the path begins and ends; nothing where it is no request."""
    i = begin
    while i < end and a[i] != 32:
        i += 1
    method = i
    last = end
    k = end - 1
    while k > i and a[k] != 32:
        k -= 1
    if k > i and end - k >= 6 and a[k + 1] == 72 and a[k + 2] == 84 and a[k + 3] == 84 and a[k + 4] == 80:
        last = k
    return method, min(i + 1, last), last


@njit(cache=True, nogil=True)
def _when(a: Bytes, form: Ints, field: Ints) -> int:
    """Microseconds since 1970 of the line's time; negative: it says none."""
    begin, end = field[form[TIME], 0], field[form[TIME], 1]
    if form[CLOCK] == NAMED:
        return _named_clock(a, begin, end)
    if form[CLOCK] == ISO:
        other = form[TIME_OF_DAY] if form[TIME_OF_DAY] >= 0 else form[TIME]
        return _iso_clock(a, begin, end, field[other, 0], field[other, 1])
    return _number(a, begin, end)


@njit(cache=True, nogil=True)
def _is_same(a: Bytes, first: int, second: int, length: int) -> bool:
    for i in range(length):  # noqa: SIM110 - numba knows no all() of a generator
        if a[first + i] != a[second + i]:
            return False
    return True


@njit(cache=True, nogil=True)
def _field_number(a: Bytes, form: Ints, field: Ints, name: int) -> int:
    return _number(a, field[form[name], 0], field[form[name], 1]) if form[name] >= 0 else -1


@njit(cache=True, nogil=True)
def _moved(a: Bytes, form: Ints, field: Ints, meaning: int) -> tuple[int, int]:
    """Bytes that were read or written and the object's size: -1: unknown; -2: not a number that can be."""
    sent, received = _field_number(a, form, field, SENT), _field_number(a, form, field, RECEIVED)
    size = _field_number(a, form, field, SIZE)
    if sent == -2 or received == -2 or size == -2 or max(sent, received, size) > MOST_BYTES:
        return -2, -2
    if meaning & UNSIZED:
        return -1, -1
    op = meaning & OPS
    return sent if op == GET else received if op == PUT else -1, size


@njit(cache=True, nogil=True)
def _is_well(status: int, statuses: Ints) -> bool:
    for good in statuses:  # noqa: SIM110 - nor any()
        if status == good:
            return True
    return False


@njit(cache=True, nogil=True)
def read(
    a: Bytes,
    starts: Ints,
    ends: Ints,
    form: Ints,
    words: Bytes,
    word_ends: Ints,
    meanings: Ints,
    statuses: Ints,
    unfinished: bool,
    out: Bytes,
    columns: Ints,
) -> int:
    """Reads the lines of `a`; returns how many are accesses. words: those of `meanings`, one after the other.

    out: what became of each line; columns: a column for each access. unfinished: the last line has no end.
    """
    field = np.zeros((form[FIELDS], 2), np.int64)
    found, known, known_length, ts = 0, 0, -1, -1
    for line in range(len(starts)):
        begin, end = starts[line], ends[line]
        if end > begin and a[end - 1] == 13:
            end -= 1
        if end == begin or a[begin] == 35:
            out[line] = PASSED
            continue
        if end - begin > LONGEST_LINE:
            out[line] = LONG
            continue
        bare = _locate(a, begin, end, form, field)
        if bare < 0 or (bare and unfinished and line == len(starts) - 1):
            out[line] = FORM_WRONG if bare < 0 else CUT
            continue
        time, length = field[form[TIME], 0], field[form[TIME], 1] - field[form[TIME], 0]
        if form[TIME_OF_DAY] >= 0 or length != known_length or not _is_same(a, time, known, length):
            known, known_length, ts = time, length, _when(a, form, field)
        first, last = field[form[OPERATION], 0], field[form[OPERATION], 1]
        key, key_last = field[form[KEY], 0], field[form[KEY], 1]
        if form[KEY_FORM] & REQUEST:
            last, key, key_last = _request(a, first, last)
        status = _field_number(a, form, field, STATUS)
        if status == -2:
            is_head = form[CLOCK] == MICROS and length > 0 and a[time] == 116
            out[line] = PASSED if is_head else FORM_WRONG
            continue
        meaning = _meaning(a, first, last, words, word_ends, meanings)
        no_key = key_last == key or (key_last == key + 1 and a[key] == 45)
        if meaning < 0 or no_key or not _is_well(status, statuses):
            out[line] = PASSED
            continue
        moved, size = _moved(a, form, field, meaning)
        out[line] = TIME_WRONG if ts < 0 else NUMBER_WRONG if moved == -2 else TAKEN
        if out[line] != TAKEN:
            continue
        columns[LINE, found], columns[TS, found], columns[OP, found] = line, ts, meaning
        columns[MOVED, found], columns[OBJECT_SIZE, found] = moved, size
        columns[KEY_FROM, found], columns[KEY_TO, found] = key, key_last
        for part in range(2):
            number = form[ID + part]
            named = number >= 0 and not meaning & SHARED
            columns[ID_FROM + 2 * part, found] = field[number, 0] if named else 0
            columns[ID_TO + 2 * part, found] = field[number, 1] if named else 0
        found += 1
    return found
