"""Price books: what there is, a site's own put, and given up for the shipped one again."""

from __future__ import annotations

from typing import Any

from flask import Response
from pydantic import RootModel
from sqlalchemy.orm import Session

from app import auth
from app.api import security
from app.api.etags import check_match, etag
from app.api.router import Router, reply
from app.api.schemas import Json, Page
from app.db import prices, sites
from app.db.session import session_scope
from app.domain import price_documents
from app.domain.price_books import SHIPPED
from app.domain.prices import PriceBook
from app.domain.roles import Role

router = Router("prices")


class PriceBookIn(RootModel[Json]):
    """A price book, in the form that GET shows; each wrong field is named."""


@router.get("/prices", Role.VIEWER, answer=Page)
def list_prices() -> dict[str, Any]:
    """Every price book, shipped or a site's own, with its source, its date and the sites that it holds for."""
    shipped = set(map(id, SHIPPED.values()))
    with session_scope() as session:
        found = prices.in_use(session)
    items = [
        {"shipped": id(book) in shipped, "sites": names, "book": price_documents.to_json(book)} for book, names in found
    ]
    return {"items": items, "next_cursor": None}


@router.get("/sites/<name:name>/prices", Role.VIEWER)
def get_prices(name: str) -> Response:
    """The price book that plans use for this site."""
    with session_scope() as session:
        return _document(prices.get(session, name))


@router.put("/sites/<name:name>/prices", Role.ADMIN, body=PriceBookIn)
def put_prices(name: str, body: PriceBookIn) -> Response:
    """Gives the site a price book of its own, which prices every class in which copies lie there."""
    with session_scope() as session:
        _check_match(session, name)
        book = prices.put(session, name, body.root, actor=auth.identity().name, request_id=security.request_id())
        return _document(book)


@router.route("DELETE", "/sites/<name:name>/prices", Role.ADMIN)
def delete_prices(name: str) -> Response:
    """Gives the site the shipped book of its provider again; plans made before are stale."""
    with session_scope() as session:
        _check_match(session, name)
        return _document(prices.forget(session, name, actor=auth.identity().name, request_id=security.request_id()))


def _check_match(session: Session, name: str) -> None:
    """Locks the site. Raises NotFound, PreconditionFailed."""
    book = prices.books(session, [sites.get(session, name, lock=True)]).get(name)
    check_match(price_documents.fingerprint(book) if book else "none")


def _document(book: PriceBook) -> Response:
    return reply(price_documents.to_json(book), headers=etag(price_documents.fingerprint(book)))
