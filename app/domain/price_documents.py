"""Price books as JSON: the form stored in price_book.book and sent to PUT /v1/sites/{name}/prices.

Money stands as decimal strings, so that nothing is rounded on the way; numbers are read too.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import MISSING, dataclass, field, fields
from datetime import date
from decimal import Decimal, InvalidOperation
from typing import Any

from app.domain.prices import Band, Egress, IdleStep, PriceBook, StorageClass
from app.errors import FieldError, Invalid

_LARGEST = Decimal(1_000_000_000)


def to_json(book: PriceBook) -> dict[str, Any]:
    """The document that `from_json` reads back equal."""
    return {entry.name: _plain(getattr(book, entry.name)) for entry in fields(book) if entry.init}


def from_json(document: object) -> PriceBook:
    """The book a document describes. Raises Invalid with a pointer and a sentence for every field that is wrong."""
    reader = _Reader()
    values = reader.record(PriceBook, document, "")
    if not reader.errors and not values["classes"]:
        reader.wrong("/classes", "at least one storage class")
    names = [entry.name for entry in values.get("classes") or ()]
    for index, name in enumerate(names):
        if name in names[:index]:
            reader.wrong(f"/classes/{index}/name", f"{name} stands twice")
    if reader.errors:
        raise Invalid("the price book is not valid", errors=tuple(reader.errors))
    return PriceBook(**values)


def fingerprint(book: PriceBook) -> str:
    """A book in twelve characters: another for whatever is changed in it."""
    return hashlib.sha256(json.dumps(to_json(book), sort_keys=True).encode()).hexdigest()[:12]


def _plain(value: object) -> Any:
    if isinstance(value, Decimal | date):
        return str(value)
    if isinstance(value, tuple):
        return [_plain(item) for item in value]
    if isinstance(value, Band | Egress | IdleStep | StorageClass):
        return {entry.name: _plain(getattr(value, entry.name)) for entry in fields(value) if entry.init}
    return value


@dataclass
class _Reader:
    """Reads a document by the annotations of the dataclasses above, collecting what is wrong."""

    errors: list[FieldError] = field(default_factory=list)

    def wrong(self, pointer: str, wanted: str) -> None:
        self.errors.append(FieldError(pointer, wanted))

    def record(self, kind: Any, value: object, pointer: str) -> dict[str, Any]:
        """Constructor arguments of `kind` from an object; what was wrong stands in `errors`."""
        if not isinstance(value, Mapping):
            self.wrong(pointer, "an object is expected")
            return {}
        known = {entry.name: entry for entry in fields(kind) if entry.init}
        for name in value:
            if name not in known:
                self.wrong(f"{pointer}/{name}", "there is no such field")
        result: dict[str, Any] = {}
        for name, entry in known.items():
            if name in value:
                result[name] = self.value(str(entry.type), value[name], f"{pointer}/{name}")
            elif entry.default is MISSING:
                self.wrong(f"{pointer}/{name}", "this field is needed")
        return result

    def value(self, kind: str, value: object, pointer: str) -> Any:
        """One field's value, by the text of its annotation."""
        if kind.endswith("| None"):
            return None if value is None else self.value(kind.removesuffix(" | None"), value, pointer)
        if kind.startswith("tuple["):
            return self.rows(_RECORDS[kind.removeprefix("tuple[").split(",")[0]], value, pointer)
        if kind == "Egress":
            before = len(self.errors)
            values = self.record(Egress, value, pointer)
            return Egress(**values) if len(self.errors) == before else None
        return self.scalar(kind, value, pointer)

    def rows(self, kind: Any, value: object, pointer: str) -> tuple[Any, ...]:
        if not isinstance(value, list):
            self.wrong(pointer, "a list is expected")
            return ()
        result = []
        for index, item in enumerate(value):
            before = len(self.errors)
            values = self.record(kind, item, f"{pointer}/{index}")
            if len(self.errors) == before:
                if kind is StorageClass:
                    self.bands(values["storage"], f"{pointer}/{index}/storage")
                if len(self.errors) == before:
                    result.append(kind(**values))
        return tuple(result)

    def bands(self, bands: Sequence[Band], pointer: str) -> None:
        """Volume bands must rise, and only the last be without end: else some bytes would cost nothing."""
        if not bands:
            self.wrong(pointer, "at least one price")
        below = Decimal(0)
        for index, band in enumerate(bands):
            is_last, top = index == len(bands) - 1, band.up_to_gb
            if is_last != (top is None) or (top is not None and top <= below):
                wanted = "null, since the last band has no end" if is_last else f"more than {below} GB"
                self.wrong(f"{pointer}/{index}/up_to_gb", f"{wanted} is expected")
            below = top or below

    def scalar(self, kind: str, value: object, pointer: str) -> Any:
        if kind == "Decimal":
            return self.money(value, pointer)
        if kind == "date":
            try:
                return date.fromisoformat(str(value))
            except ValueError:
                self.wrong(pointer, "a date such as 2025-11-01 is expected")
                return None
        wanted = {"str": str, "int": int, "bool": bool}[kind]
        if type(value) is not wanted or value == "" or (wanted is int and not 0 <= int(str(value)) <= _LARGEST):
            self.wrong(
                pointer,
                {"str": "a text is", "int": "a number from 0 to a billion is", "bool": "true or false is"}[kind]
                + " expected",
            )
            return None
        return value

    def money(self, value: object, pointer: str) -> Decimal | None:
        """Dollars from 0, finite and below what any provider would ask, so that a slip is noticed."""
        try:
            amount = Decimal(str(value)) if not isinstance(value, bool) else Decimal("nan")
        except InvalidOperation:
            amount = Decimal("nan")
        if not amount.is_finite() or not 0 <= amount <= _LARGEST:
            self.wrong(pointer, "dollars from 0 are expected, as a text such as 0.023")
            return None
        return amount


_RECORDS: Mapping[str, Any] = {"Band": Band, "IdleStep": IdleStep, "StorageClass": StorageClass}
