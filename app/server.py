"""Builds the WSGI application from api and web: the only importer of both. `foretide serve` runs it."""

from __future__ import annotations

from flask import Flask, request
from werkzeug.routing import IntegerConverter, PathConverter, UnicodeConverter

from app import auth
from app.api import errors, exposition, limits, security
from app.api.registry import CHAOS, ROUTERS
from app.settings import get_settings
from app.web import pages


class Id(IntegerConverter):
    """A row's id in a path; one that no row can have is not found."""

    def __init__(self, url_map: object) -> None:
        super().__init__(url_map, min=1, max=2**63 - 1)  # type: ignore[arg-type]


class Name(UnicodeConverter):
    """A name in a path: it has no colon, so that `name:verb` is read as a verb."""

    regex = r"[A-Za-z0-9][A-Za-z0-9._-]{0,62}"


class Key(PathConverter):
    """An object's key in a path, its slashes as they are."""

    regex = ".+"
    part_isolating = False


def create_app() -> Flask:
    """The application. Raises RuntimeError when a route does not say who may call it."""
    app = Flask("foretide", static_folder=None)
    app.url_map.converters.update(id=Id, name=Name, key=Key)
    app.url_map.merge_slashes = False
    errors.install(app)
    security.install(app)
    exposition.install(app)

    @app.before_request
    def authorize() -> None:
        if request.endpoint is not None:
            token = request.cookies.get(pages.COOKIE) if request.blueprint == pages.blueprint.name else auth.bearer()
            auth.authorize(app.view_functions[request.endpoint], token)

    limits.install(app)
    for router in (*ROUTERS, *(CHAOS if get_settings().chaos else ())):
        app.register_blueprint(router.blueprint)
    app.register_blueprint(pages.blueprint)
    auth.check_declared(app)
    return app
