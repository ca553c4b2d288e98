"""Price books: a site's own where one was given, else the shipped one of its provider."""

from __future__ import annotations

from collections.abc import Iterable

from sqlalchemy import func, select
from sqlalchemy.orm import Session

from app.db import audit, sites
from app.db.tables import PriceBook as Row
from app.db.tables import Replica, Site
from app.domain import price_documents
from app.domain.price_books import SHIPPED, shipped
from app.domain.prices import PriceBook
from app.domain.states import ReplicaState
from app.errors import FieldError, Invalid


def books(session: Session, rows: Iterable[Site]) -> dict[str, PriceBook]:
    """The book of each site, by its name; a site whose provider has none and that was given none is left out."""
    wanted = {site.name: site for site in rows}
    ids = {site.price_book_id for site in wanted.values() if site.price_book_id is not None}
    own = {row.id: row for row in session.scalars(select(Row).where(Row.id.in_(ids)))} if ids else {}
    return {
        name: price_documents.from_json(own[site.price_book_id].book) if site.price_book_id else SHIPPED[site.provider]
        for name, site in wanted.items()
        if site.price_book_id or site.provider in SHIPPED
    }


def get(session: Session, site_name: str) -> PriceBook:
    """The book of one site. Raises NotFound for the site, Invalid when it has no book."""
    site = sites.get(session, site_name)
    return books(session, [site]).get(site_name) or shipped(site.provider)


def in_use(session: Session) -> list[tuple[PriceBook, list[str]]]:
    """Every book that there is: the shipped ones, then sites' own, each with the sites whose prices it holds."""
    rows = sites.listing(session)
    found = books(session, rows)
    shown = [(book, [row.name for row in rows if found.get(row.name) is book]) for book in SHIPPED.values()]
    return shown + [(found[row.name], [row.name]) for row in rows if row.price_book_id and row.name in found]


def forget(session: Session, site_name: str, *, actor: str, request_id: str | None = None) -> PriceBook:
    """Gives a site the shipped book of its provider again.

    Raises NotFound, Invalid when there is none or it lacks a class in which copies lie.
    """
    site = sites.get(session, site_name)
    book = shipped(site.provider)
    _check_covers(session, site, book)
    sites.change(session, site_name, price_book_id=None)
    audit.append(session, actor, "site.prices", site_name, {"book": book.name, "as_of": str(book.as_of)}, request_id)
    return book


def put(session: Session, site_name: str, document: object, *, actor: str, request_id: str | None = None) -> PriceBook:
    """Gives a site a book of its own.

    Raises NotFound for the site, Invalid with the fields that are wrong or the classes that it lacks.
    """
    book = price_documents.from_json(document)
    _check_covers(session, sites.get(session, site_name), book)
    row = Row(name=book.name, source=book.source, as_of=book.as_of, book=price_documents.to_json(book))
    session.add(row)
    session.flush()
    sites.change(session, site_name, price_book_id=row.id)
    audit.append(session, actor, "site.prices", site_name, {"book": book.name, "as_of": str(book.as_of)}, request_id)
    return book


def lacking(session: Session, site_id: int, book: PriceBook) -> list[FieldError]:
    """The classes in which copies lie at a site and that a book does not price."""
    there = (Replica.site_id == site_id, Replica.state.not_in((ReplicaState.DELETED, ReplicaState.LOST)))
    rows = session.execute(
        select(Replica.storage_class, func.count())
        .where(*there, Replica.storage_class.not_in(list(book.by_name)))
        .group_by(Replica.storage_class)
        .order_by(Replica.storage_class)
    )
    return [FieldError("/classes", f"{name} is not priced, but {count} copies lie in it") for name, count in rows]


def _check_covers(session: Session, site: Site, book: PriceBook) -> None:
    errors = lacking(session, site.id, book)
    if errors:
        raise Invalid(f"the book does not price every class in which copies lie at {site.name}", errors=tuple(errors))
