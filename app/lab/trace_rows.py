"""Reads Parquet and CSV files as lines that the API takes, some rows at a time (step: ingest)."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from itertools import accumulate
from pathlib import Path
from typing import TYPE_CHECKING

from app.errors import Invalid
from app.lab.blocks import Refused
from app.lab.parts import Part, Place, Source
from app.lab.traces import OFFLINE, judged

if TYPE_CHECKING:
    from duckdb import DuckDBPyConnection

SUFFIXES = (".parquet", ".csv", ".csv.gz", ".csv.zst")
ROWS = 50_000
_LINE = """'{"ts":"' || strftime(make_timestamp(epoch_us(ts)), '%Y-%m-%dT%H:%M:%S.%fZ') || '","key":' || to_json(object)
    || ',"op":"' || op || '","bytes":' || greatest(bytes, 0)
    || case when region <> '' then ',"region":' || to_json(region) else '' end
    || case when partial_upload then ',"partial_upload":true' else '' end
    || ',"event_id":"t-' || md5(concat_ws('|', epoch_us(ts), object, op, bytes, size, region))[:16] || '-' || line"""


def check_table(path: Path) -> None:
    """Raises Invalid for a file that cannot be read, a missing column and times without a zone."""
    with _opened(path) as connection:
        judged(connection, path, None)


def table_parts(path: Path, source: Source, start: Place) -> Iterator[Part]:
    """The rows behind the one that `start` names. An event_id is made of what a row says and of its number."""
    site = "" if source.site is None else f" || ',\"site\":' || to_json({_quoted(source.site)})"
    size = path.stat().st_size
    with _opened(path) as connection:
        text = f"{_LINE} || '\"'{site} || '}}' || chr(10)"
        reader = connection.sql(
            f"""select line, problem, case when count > 1 and problem is null then count - 1 else 0 end as uncounted,
                case when problem is null then {text} end as text from ({judged(connection, path, None)})
                where line > {start.offset}"""  # noqa: S608 - of this module, and a text in quotes
        ).to_arrow_reader(ROWS)
        for batch in reader or ():
            texts, numbers = batch["text"].to_pylist(), batch["line"].to_pylist()
            lines = [text.encode() for text in texts if text is not None]
            problems = zip(numbers, batch["problem"].to_pylist(), strict=True)
            yield Part(
                b"".join(lines), list(accumulate(map(len, lines))),
                [number for number, text in zip(numbers, texts, strict=True) if text is not None],
                [Refused(number, "", problem, "") for number, problem in problems if problem is not None],
                0, len(texts), Place(numbers[-1], numbers[-1]), numbers[-1], size, sum(batch["uncounted"].to_pylist()),
            )  # fmt: skip


def _quoted(text: str) -> str:
    return "'" + text.replace("'", "''") + "'"


@contextmanager
def _opened(path: Path) -> Iterator[DuckDBPyConnection]:
    import duckdb

    if not path.name.lower().endswith(SUFFIXES):
        raise Invalid(f"{path.name} is neither a .parquet nor a .csv file")
    connection = duckdb.connect(config=OFFLINE | {"threads": 1})
    try:
        yield connection
    except (duckdb.Error, OSError) as error:
        raise Invalid(f"{path.name} cannot be read: {str(error).splitlines()[0]}") from error
    finally:
        connection.close()
