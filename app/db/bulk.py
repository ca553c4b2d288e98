"""Many rows at once: lists as tables, for statements that are always of one form, and the driver's cursor for COPY."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from sqlalchemy import ARRAY, Table, TableValuedAlias, bindparam, cast, column, func
from sqlalchemy.orm import Session
from sqlalchemy.types import TypeEngine

from app.db.tables import Base


def listed(name: str, **columns: TypeEngine[Any]) -> TableValuedAlias:
    """A table of this name whose columns are lists of equal length, given when the statement is executed.

    The lists are given as `lists` makes them; JSON is given as text and cast where it is used.
    """
    given = [cast(bindparam(f"{field}_list", type_=ARRAY(kind)), ARRAY(kind)) for field, kind in columns.items()]
    shape = [column(field, kind) for field, kind in columns.items()]
    return func.unnest(*given).table_valued(*shape, name=name).render_derived()


def lists(columns: Mapping[str, Sequence[object]]) -> dict[str, object]:
    """The parameters of a statement over a listed table, by its columns' names."""
    return {f"{field}_list": list(values) for field, values in columns.items()}


def table(model: type[Base]) -> Table:
    """The model's table: given a model, the session would take the parameters for the rows themselves."""
    found = model.__table__
    assert isinstance(found, Table)  # noqa: S101  # a mapped class always has one
    return found


def cursor(session: Session) -> Any:
    """The driver's own cursor of the session's transaction: COPY has no form in SQLAlchemy."""
    return session.connection().connection.cursor()
