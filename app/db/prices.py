"""Price books: a site's own where one was given, else the shipped one of its provider."""

from __future__ import annotations

from collections.abc import Iterable

from sqlalchemy import select
from sqlalchemy.orm import Session

from app.db import audit, sites
from app.db.tables import PriceBook as Row
from app.db.tables import Site
from app.domain import price_documents
from app.domain.price_books import SHIPPED, shipped
from app.domain.prices import PriceBook


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
    """Gives a site the shipped book of its provider again. Raises NotFound, Invalid when there is none."""
    book = shipped(sites.get(session, site_name).provider)
    sites.change(session, site_name, price_book_id=None)
    audit.append(session, actor, "site.prices", site_name, {"book": book.name, "as_of": str(book.as_of)}, request_id)
    return book


def put(session: Session, site_name: str, document: object, *, actor: str, request_id: str | None = None) -> PriceBook:
    """Gives a site a book of its own. Raises NotFound for the site, Invalid with the fields that are wrong."""
    book = price_documents.from_json(document)
    row = Row(name=book.name, source=book.source, as_of=book.as_of, book=price_documents.to_json(book))
    session.add(row)
    session.flush()
    sites.change(session, site_name, price_book_id=row.id)
    audit.append(session, actor, "site.prices", site_name, {"book": book.name, "as_of": str(book.as_of)}, request_id)
    return book
