"""Price books: what there is, and a site's own given up for the shipped one again."""

from __future__ import annotations

from typing import Any

from app import auth
from app.api import security
from app.api.router import Router
from app.api.schemas import Json, Page
from app.db import prices
from app.db.session import session_scope
from app.domain import price_documents
from app.domain.price_books import SHIPPED
from app.domain.roles import Role

router = Router("prices")


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


@router.route("DELETE", "/sites/<name:name>/prices", Role.ADMIN)
def delete_prices(name: str) -> Json:
    """Gives the site the shipped book of its provider again; plans made before are stale."""
    with session_scope() as session:
        book = prices.forget(session, name, actor=auth.identity().name, request_id=security.request_id())
        return price_documents.to_json(book)
