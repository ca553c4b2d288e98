"""Declares routes: who may call, what is read and answered; the OpenAPI document is made of the same declarations."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import wraps
from typing import Any

from flask import Blueprint, Flask, Response, request
from pydantic import BaseModel, ValidationError
from pydantic_core import to_json

from app.api import security
from app.auth import Access, declare
from app.errors import FieldError, Invalid, pointer_to

View = Callable[..., Any]
_ROUTE = "foretide_route"


@dataclass(frozen=True)
class Route:
    """One operation as it is declared. `limit`: counts against the token's rate limit."""

    method: str
    rule: str
    tag: str
    access: Access
    view: View
    query: type[BaseModel] | None
    body: type[BaseModel] | None
    answer: Any
    status: int
    media: str
    limited: bool
    starts_work: bool
    reads: tuple[str, ...]
    reads_as: type[BaseModel] | None
    takes_key: bool


class Router:
    """The routes of one noun."""

    def __init__(self, tag: str, prefix: str = "/v1") -> None:
        self.tag = tag
        self.blueprint = Blueprint(tag, __name__, url_prefix=prefix or None)
        self.prefix = prefix

    def route(
        self,
        method: str,
        rule: str,
        access: Access,
        *,
        query: type[BaseModel] | None = None,
        body: type[BaseModel] | None = None,
        answer: Any = None,
        status: int = 200,
        media: str = "application/json",
        limited: bool = True,
        starts_work: bool = False,
        reads: tuple[str, ...] = (),
        reads_as: type[BaseModel] | None = None,
        takes_key: bool = False,
    ) -> Callable[[View], View]:
        """Registers a view under the rule.

        query and body: models that the view gets as keyword arguments of these names, checked; reads: media types of
        a body that the view reads itself, which may be none where reads_as is the model of its JSON; answer: the model
        of what it returns with `status`, as `media`; limited: counts against the token's rate limit; starts_work:
        takes an Idempotency-Key, as with takes_key.
        """

        def decorate(view: View) -> View:
            @wraps(view)
            def respond(**path: Any) -> Response:
                security.check_text(part for part in path.values() if isinstance(part, str))
                if query:
                    path["query"] = parse_query(query)
                if body:
                    path["body"] = parse(body, security.json_body(), strict=True)
                return reply(view(**path), status)

            described = (query, body, answer, status, media, limited, starts_work, reads, reads_as, takes_key)
            declare(respond, access)
            setattr(respond, _ROUTE, Route(method, self.prefix + rule, self.tag, access, view, *described))
            self.blueprint.add_url_rule(rule, view.__name__, respond, methods=[method])
            return view

        return decorate

    def get(self, rule: str, access: Access, **options: Any) -> Callable[[View], View]:
        """Registers a GET; options as in `route`."""
        return self.route("GET", rule, access, **options)

    def post(self, rule: str, access: Access, **options: Any) -> Callable[[View], View]:
        """Registers a POST; options as in `route`."""
        return self.route("POST", rule, access, **options)

    def put(self, rule: str, access: Access, **options: Any) -> Callable[[View], View]:
        """Registers a PUT; options as in `route`."""
        return self.route("PUT", rule, access, **options)


def routes(app: Flask) -> list[Route]:
    """Every declared route of the application."""
    return [route for view in app.view_functions.values() if (route := route_of(view))]


def route_of(view: View | None) -> Route | None:
    """The declaration behind a view function; None for pages and files."""
    return getattr(view, _ROUTE, None)


def parse_query(model: type[BaseModel]) -> BaseModel:
    """The query string as the model says. Raises Invalid with a pointer for each field that is wrong."""
    values = request.args.to_dict(flat=False)
    security.check_text([*values, *(value for found in values.values() for value in found)])
    repeated = [name for name, found in values.items() if len(found) > 1]
    if repeated:
        raise Invalid(
            "a query parameter stands twice",
            errors=tuple(FieldError(pointer_to(name), "give it once") for name in repeated),
        )
    return parse(model, {name: found[0] for name, found in values.items()})


def parse(model: type[BaseModel], value: Any, *, strict: bool = False) -> BaseModel:
    """The value as the model says. Raises Invalid with a pointer for each field that is wrong.

    strict: a field has the JSON type that is asked for, and is not made of another one.
    """
    try:
        return model.model_validate_json(to_json(value), strict=True) if strict else model.model_validate(value)
    except ValidationError as error:
        found = tuple(
            FieldError(pointer_to(*each["loc"]), each["msg"].removeprefix("Value error, "))
            for each in error.errors(include_url=False, include_input=False, include_context=False)
        )
    raise Invalid(errors=found)


def reply(value: Any, status: int = 200, headers: Mapping[str, str] | None = None) -> Response:
    """A JSON response of models, rows of them and plain values; a Response passes as it is."""
    if isinstance(value, Response):
        return value
    if status == 204:
        return Response(status=204, headers=headers)
    return Response(to_json(value, inf_nan_mode="null"), status, headers, content_type="application/json")
