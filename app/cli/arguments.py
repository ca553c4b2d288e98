"""Types of arguments that click does not have: numbers that are finite, and files that can be written."""

from __future__ import annotations

import math
import os
from pathlib import Path
from typing import Any

import click


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
