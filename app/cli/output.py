"""What commands print: JSON for programs, tables on a terminal, fields elsewhere; hostile names are escaped."""

from __future__ import annotations

import json
import sys
import unicodedata
from collections.abc import Callable, Iterable, Mapping
from datetime import datetime
from typing import Any

import click

Json = dict[str, Any]
Cell = str | Callable[[Json], object]
"""What a column shows of an item: the name of a field or a function of the item."""
Columns = Mapping[str, Cell]
"""What a listing or an item shows, by title."""

ESCAPED = frozenset({"Cc", "Cf", "Cs", "Co", "Cn", "Zl", "Zp"})
"""Unicode categories that move the cursor, reorder text or show nothing."""
FOLDED = 20
"""Cells a table's column may not go below for its longest word, which is folded when it is longer."""
GAP, EDGES = 3, 2
"""Cells between two columns of a table, and at both its ends."""


def json_option(command: Callable[..., Any]) -> Callable[..., Any]:
    """Adds --json: nothing but JSON on stdout."""
    return click.option("--json", "as_json", is_flag=True, help="Print JSON and nothing else.")(command)


def safe(value: object) -> str:
    """The value as text that cannot steer a terminal: control, bidirectional and invisible characters are escaped."""
    if value is None:
        return "–"
    if isinstance(value, float):
        return f"{value:.4g}"
    return "".join(_escape(c) if unicodedata.category(c) in ESCAPED else c for c in str(value))


def _escape(character: str) -> str:
    return character.encode("unicode_escape").decode("ascii")


def print_json(value: object) -> None:
    """One JSON document on stdout."""
    click.echo(json.dumps(value, indent=2, ensure_ascii=True))


def print_rows(items: Iterable[Json], columns: Columns, *, as_json: bool, nothing: str) -> None:
    """A listing; nothing: what to say, and which command is next, when it is empty."""
    if as_json:
        print_json(list(items))
        return
    rows = [[safe(_cell(item, cell)) for cell in columns.values()] for item in items]
    if not rows:
        click.echo(nothing, err=True)
    elif sys.stdout.isatty():
        _table(list(columns), rows)
    else:
        for row in [list(columns), *rows]:
            click.echo("\t".join(row))


def _table(titles: list[str], rows: list[list[str]]) -> None:
    """A table where the terminal is wide enough for whole words, else a line a field."""
    from rich import box
    from rich.cells import cell_len
    from rich.console import Console
    from rich.table import Column, Table
    from rich.text import Text

    console, columns = Console(), zip(titles, *rows, strict=True)
    least = [min(FOLDED, max(map(cell_len, " ".join(column).split()), default=0)) for column in columns]
    if sum(least) + GAP * (len(least) - 1) + EDGES > console.width:
        for row in rows:
            _fields(titles, row)
        return
    heads = [Column(title, min_width=width) for title, width in zip(titles, least, strict=True)]
    table = Table(*heads, box=box.SIMPLE_HEAD, pad_edge=False)
    for row in rows:
        table.add_row(*(Text(cell, overflow="fold") for cell in row))
    console.print(table)


def _fields(titles: list[str], row: list[str]) -> None:
    """A row as a line a field, after an empty line; what is empty is left out."""
    width = max(map(len, titles))
    click.echo()
    for title, cell in zip(titles, row, strict=True):
        if cell:
            click.echo(f"{title:<{width}}  {cell}")


def print_item(item: Json, fields: Columns, *, as_json: bool) -> None:
    """One thing, a line a field."""
    if as_json:
        print_json(item)
        return
    width = max(map(len, fields))
    for title, cell in fields.items():
        click.echo(f"{title:<{width}}  {safe(_cell(item, cell))}")


def _cell(item: Json, cell: Cell) -> object:
    if callable(cell):
        return cell(item)
    value = item.get(cell)
    return json.dumps(value, ensure_ascii=False) if isinstance(value, dict | list) else value


def money(value: object) -> str:
    """Dollars with as many digits as a small amount needs; – when unknown."""
    if value is None:
        return "–"
    amount = float(str(value))
    figure = f"{abs(amount):,.2f}" if abs(amount) >= 1 or amount == 0 else f"{abs(amount):.4g}"
    return f"{'-' if amount < 0 else ''}${figure}"


def money_of(field: str) -> Cell:
    """A column of dollars."""
    return lambda item: money(item.get(field))


def size(count: int | None) -> str:
    """Bytes in binary units; – when unknown."""
    if count is None:
        return "–"
    amount = float(count)
    for unit in ("B", "KiB", "MiB", "GiB", "TiB"):
        if amount < 1024 or unit == "TiB":
            break
        amount /= 1024
    return f"{amount:.0f} {unit}" if unit == "B" else f"{amount:.1f} {unit}"


def size_of(field: str) -> Cell:
    """A column of bytes."""
    return lambda item: size(item.get(field))


def when(value: str) -> str:
    """A time in this machine's zone, to the second."""
    return f"{datetime.fromisoformat(value).astimezone():%Y-%m-%d %H:%M:%S}"


def when_of(field: str) -> Cell:
    """A column of times, in this machine's zone, to the second."""

    def shown(item: Json) -> str | None:
        value = item.get(field)
        return when(value) if value else None

    return shown
