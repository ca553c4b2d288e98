"""Arguments that click does not have: numbers that are finite, files that can be written, files of rows."""

from __future__ import annotations

import json
import math
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any, BinaryIO

import click

from app.errors import Invalid


class Finite(click.FloatRange):
    """A number in a range; nan, which no range keeps out, is refused."""

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> float:
        """The number. Fails when it is none or outside the range."""
        number: float = super().convert(value, param, ctx)
        if not math.isfinite(number):
            self.fail(f"{value} is not a finite number.", param, ctx)
        return number


class NewFile(click.Path):
    """A file to write: its folder is there, so that nobody waits for what cannot be saved."""

    def __init__(self) -> None:
        """A Path, of a file that need not be there yet."""
        super().__init__(path_type=Path, dir_okay=False, writable=True)

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        """The path. Fails when it cannot be written."""
        path = Path(os.fsdecode(super().convert(value, param, ctx)))
        if not (path.parent.is_dir() and os.access(path.parent, os.W_OK)):
            self.fail(f"{path.parent} is no folder that can be written to.", param, ctx)
        return path


BLOCK_ROWS, BLOCK_BYTES = 10_000, 4 * 2**20
"""Of rows that are sent at once; the API takes 8 MiB."""


def rows_of(file: BinaryIO) -> list[dict[str, Any]]:
    """Rows of a file, one JSON object a line. Raises Invalid with the line's number."""
    return [row for _, row in _rows(file)]


def blocks_of(file: BinaryIO) -> Iterator[tuple[int, list[dict[str, Any]]]]:
    """Rows of a file that need not fit into memory, some at a time, each block with the number of its first row.

    Raises Invalid with the line's number, and where there are no rows.
    """
    block: list[dict[str, Any]] = []
    first, size = 1, 0
    for length, row in _rows(file):
        if len(block) == BLOCK_ROWS or (block and size + length > BLOCK_BYTES):
            yield first, block
            first, size, block = first + len(block), 0, []
        block.append(row)
        size += length
    if not block:
        raise Invalid("the file holds no rows")
    yield first, block


def _rows(file: BinaryIO) -> Iterator[tuple[int, dict[str, Any]]]:
    """Each row with the bytes of its line."""
    for number, line in enumerate(file, 1):
        try:
            row = json.loads(line)
        except ValueError as error:
            raise Invalid(f"line {number} is not JSON: {error}") from error
        yield len(line), row
