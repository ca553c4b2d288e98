"""Arguments that click does not have: numbers that are finite, files that can be written, files of rows."""

from __future__ import annotations

import json
import math
import os
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


def rows_of(file: BinaryIO) -> list[dict[str, Any]]:
    """Rows of a file, one JSON object a line. Raises Invalid with the line's number."""
    rows = []
    for number, line in enumerate(file, 1):
        try:
            rows.append(json.loads(line))
        except ValueError as error:
            raise Invalid(f"line {number} is not JSON: {error}") from error
    return rows
