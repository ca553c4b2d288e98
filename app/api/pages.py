"""Pages of lists: an opaque cursor names where the next one begins."""

from __future__ import annotations

import base64
import binascii
from collections.abc import Callable, Sequence
from typing import Any, TypeVar

from pydantic import BaseModel, ConfigDict, Field

from app.errors import FieldError, Invalid

MAX_LIMIT = 500
T = TypeVar("T")


class PageQuery(BaseModel):
    """Which page of a list."""

    model_config = ConfigDict(extra="forbid")
    cursor: str | None = Field(None, max_length=4096, description="`next_cursor` of the page before.")
    limit: int = Field(50, ge=1, le=MAX_LIMIT, description="Items of a page.")

    def after_text(self) -> str | None:
        """What the cursor holds. Raises Invalid."""
        return decode(self.cursor) if self.cursor else None

    def after_id(self) -> int | None:
        """The id that the cursor holds. Raises Invalid."""
        text = self.after_text()
        if text is None:
            return None
        if not (text.isascii() and text.isdigit() and len(text) < 19):
            raise _invalid()
        return int(text)


def encode(text: str) -> str:
    """The cursor that holds this text."""
    return base64.urlsafe_b64encode(text.encode()).decode().rstrip("=")


def decode(cursor: str) -> str:
    """The text that a cursor holds. Raises Invalid."""
    try:
        text = base64.b64decode(cursor + "=" * (-len(cursor) % 4), altchars=b"-_", validate=True).decode()
    except (binascii.Error, ValueError):
        raise _invalid() from None
    if "\x00" in text:
        raise _invalid()
    return text


def _invalid() -> Invalid:
    return Invalid(errors=(FieldError("/cursor", "not a cursor of this list"),))


def page(rows: Sequence[T], limit: int, show: Callable[[T], Any], position: Callable[[T], object]) -> dict[str, Any]:
    """The page of up to `limit` rows; the reader fetches one row more, which tells that there is a next page."""
    shown = rows[:limit]
    more = len(rows) > limit
    return {"items": [show(row) for row in shown], "next_cursor": encode(str(position(shown[-1]))) if more else None}
