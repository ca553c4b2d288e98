"""Logs to lines for the API on one core, against a limit, a loop of `re` and DuckDB's reader of CSV; into Postgres.

Rates of reading are lines a second of processor time of this process, which uses one thread. The loop of `re` makes the
same lines; DuckDB only finds the fields and counts them, which is less than what is needed.
"""

from __future__ import annotations

import json
import re
import tempfile
import time
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from hashlib import blake2b
from pathlib import Path
from urllib.parse import unquote

from app.blocks import BLOCK_LINES
from app.cli.importing import Import
from app.client import Client
from app.lab.imports import parts
from app.lab.parts import Place, Source
from bench.result import Result, more
from bench.rig import Rig

LINES, LOOP_LINES, SENT_LINES = 300_000, 30_000, 150_000
LIMIT, LOOP_BAR, CSV_BAR, SENT_BAR = 300_000.0, 2.0, 0.5, 0.9
TURNS = 3
FORMS = {
    "s3-access-logs": (
        "79a59df900b949e55d96a1e698fbacedfd6e09d98eacf8f8d5218e7cd47ef2be bucket [{clf}] 192.0.2.{byte} arn:a"
        " {id:016X} REST.GET.OBJECT logs/{some}/part%2520{number}.parquet"
        ' "GET /bucket/logs/{some}/part%2520{number}.parquet?x-id=GetObject HTTP/1.1" 200 - {bytes} {bytes} 41 28 "-"'
        ' "aws-sdk-java/2.20.1 Linux/5.10 OpenJDK_64-Bit_Server_VM/17" - s9lzHYrFp76ZVxRcpX9+5cjAnEH2ROuNkd2BHfIa6UkF='
        " SigV4 ECDHE-RSA-AES128-GCM-SHA256 AuthHeader bucket.s3.us-west-1.amazonaws.com TLSV1.2 - -\n"
    ),
    "nginx": (
        '192.0.2.{byte} - - [{clf}] "GET /static/{some}/pic%20{number}.png?v={byte} HTTP/1.1" 200 {bytes}'
        ' "https://www.example.com/gallery/{some}" "Mozilla/5.0 (Windows NT 10.0; Win64; x64) AppleWebKit/537.36"\n'
    ),
    "cloudfront": (
        "{date}\t{clock}\tSEA19-C1\t{bytes}\t192.0.2.{byte}\tGET\td111.cloudfront.net\t/assets/{some}/view%2520{number}.jpg"
        "\t200\thttps://www.example.com/\tMozilla/5.0%20(Windows%20NT%2010.0;%20Win64;%20x64)%20AppleWebKit/537.36\t-\t-"
        "\tHit\t{id:040x}_LAfg==\twww.example.com\thttps\t23\t0.001\t-\tTLSv1.2\tECDHE-RSA\tHit\tHTTP/2.0\t-\t-\t11040\n"
    ),
}  # fmt: skip
PATTERNS = {
    "s3-access-logs": r"\S+ \S+ \[(?P<time>[^\]]+)\] \S+ \S+ (?P<id>\S+) (?P<op>\S+) (?P<key>\S+)"
    r' (?:"[^"]*"|-) (?P<status>\d+|-) \S+ (?P<bytes>\d+|-) ',
    "nginx": r'\S+ \S+ .*?\[(?P<time>[^\]]+)\] "(?P<op>[A-Z]+) /(?P<key>[^ ?]+)\S* HTTP/[\d.]+"'
    r" (?P<status>\d+) (?P<bytes>\d+|-)",
    "cloudfront": r"(?P<time>\d{4}-\d\d-\d\d\t\d\d:\d\d:\d\d)\t\S+\t(?P<bytes>\d+)\t\S+\t(?P<op>[A-Z]+)\t\S+"
    r"\t/(?P<key>\S+)\t(?P<status>\d+)\t[^\t]*\t[^\t]*\t[^\t]*\t[^\t]*\t[^\t]*\t(?P<id>[^\t]*)",
}  # fmt: skip


def measure(rig: Rig) -> Iterator[Result]:
    """Lines a second: read on one core by form, then read and committed."""
    with tempfile.TemporaryDirectory() as folder:
        for kind, form in FORMS.items():
            path = _log(Path(folder) / kind, form, LINES)
            ours = max(_rate(lambda path=path, kind=kind: _read(path, kind)) for _ in range(TURNS))  # type: ignore[misc]
            yield more(f"ingest-logs, {kind}", ours, LIMIT, "lines/s", 1)
            yield more(f"ingest-logs, {kind}, re", ours, _rate(lambda: _loop(path, kind)), "lines/s", LOOP_BAR)  # noqa: B023
            yield more(f"ingest-logs, {kind}, read_csv", ours, _rate(lambda: _csv(path, kind)), "lines/s", CSV_BAR)  # noqa: B023
        yield _sent(rig, Path(folder))


def _log(path: Path, form: str, lines: int) -> Path:
    begin = datetime.now(UTC) - timedelta(hours=2)
    with path.open("w") as file:
        for number in range(lines):
            ts = begin + timedelta(seconds=number // 3000)
            file.write(
                form.format(
                    clf=f"{ts:%d/%b/%Y:%H:%M:%S} +0000", date=f"{ts:%Y-%m-%d}", clock=f"{ts:%H:%M:%S}", number=number,
                    some=number % 5000, byte=number % 250, id=number, bytes=number * 7919 % 10**7,
                )
            )  # fmt: skip
    return path


def _rate(act: Callable[[], int]) -> float:
    """Lines a second of processor time."""
    started = time.process_time()
    return act() / (time.process_time() - started)


def _read(path: Path, kind: str) -> int:
    found = list(parts(path, Source(kind), Place(), 0))
    sent = sum(len(part.lines) for part in found)
    assert sent == LINES
    return sent


def _loop(path: Path, kind: str) -> int:
    match, clock = (
        re.compile(PATTERNS[kind]).match,
        "%Y-%m-%d\t%H:%M:%S" if kind == "cloudfront" else "%d/%b/%Y:%H:%M:%S %z",
    )
    made, known = [], {}
    with path.open() as file:
        for _, line in zip(range(LOOP_LINES), file, strict=False):
            found = match(line)
            assert found
            told = found.groupdict()
            if told["time"] not in known:
                known[told["time"]] = datetime.strptime(told["time"], clock).replace(tzinfo=UTC).isoformat()
            event_id = told.get("id") or blake2b(line.encode(), digest_size=12).hexdigest()
            access = {
                "ts": known[told["time"]],
                "key": unquote(unquote(told["key"])),
                "op": told["op"].split(".")[-1][:3],
            }
            made.append(json.dumps({**access, "bytes": int(told["bytes"]), "event_id": event_id}))
    return len("\n".join(made).splitlines())


def _csv(path: Path, kind: str) -> int:
    import duckdb

    delimiter = "\t" if kind == "cloudfront" else " "
    with duckdb.connect(config={"threads": 1}) as connection:
        count = connection.execute(
            "select count(column08), max(column10) from read_csv(?, delim = ?, quote = '\"', escape = '\"',"
            " header = false,"
            " all_varchar = true, null_padding = true, strict_mode = false, auto_detect = false, columns = "
            + json.dumps({f"column{number:02}": "VARCHAR" for number in range(40)}).replace('"', "'")
            + ")",
            [str(path), delimiter],
        ).fetchone()
    assert count
    return LINES


def _sent(rig: Rig, folder: Path) -> Result:
    """The whole way into Postgres, by the clock, against ready-made lines sent in blocks of the same size, in turns."""
    ours, peer = 0.0, 0.0
    source = Source("s3-access-logs")
    with Client(rig.endpoints.url, rig.endpoints.token) as client:
        for turn in range(2):
            paths = [_log(folder / f"{name}-{turn}", _few_keys(f"{turn}{name}"), SENT_LINES) for name in ("A", "B")]
            lines = [line + b"\n" for part in parts(paths[0], source, Place(), 0) for line in part.body.splitlines()]
            started = time.perf_counter()
            for first in range(0, len(lines), BLOCK_LINES):
                client.ingest_block(b"".join(lines[first : first + BLOCK_LINES]))
            peer = max(peer, SENT_LINES / (time.perf_counter() - started))
            started = time.perf_counter()
            work = Import(paths[1:], source, client, None)
            list(work.run())
            assert work.report.accepted == SENT_LINES
            ours = max(ours, SENT_LINES / (time.perf_counter() - started))
    return more("ingest-logs, sent", ours, peer, "lines/s", SENT_BAR)


def _few_keys(mark: str) -> str:
    """Server access logs of 5,000 objects; mark: two hexadecimal digits that make the requests' ids others."""
    form = FORMS["s3-access-logs"].replace("part%2520{number}", "part").replace("logs/", f"bench-{mark}/")
    return form.replace("{id:016X}", f"{mark}{{id:014X}}")
