"""Builds the WSGI application from api and web: the only importer of both. `foretide serve` runs it."""

from __future__ import annotations

import ctypes
import gc
import os
import signal
import typing
from threading import Thread

from flask import Flask, request
from werkzeug.routing import IntegerConverter, PathConverter, UnicodeConverter

from app import auth, logs
from app.api import errors, jobs, limits, metrics, security
from app.api.registry import ROUTERS
from app.settings import get_settings
from app.web import pages

PR_SET_PDEATHSIG = 1


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
    metrics.install(app)

    @app.before_request
    def authorize() -> None:
        if request.endpoint is not None:
            auth.authorize(app.view_functions[request.endpoint], auth.bearer())

    limits.install(app)
    for router in ROUTERS:
        app.register_blueprint(router.blueprint)
    app.register_blueprint(pages.blueprint)
    auth.check_declared(app)
    return app


def serving_app() -> Flask:
    """The application in a process that serves it: logs, ends with its parent, and tells whoever waits that it ends."""
    ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGTERM)
    logs.configure(get_settings().log_level)
    _tell_of_shutdown()
    app = create_app()
    typing.clear_overloads()  # redis-py's alone are 12 MiB, and nothing asks for them while serving
    gc.collect()
    return app


def _tell_of_shutdown() -> None:
    """Sets `jobs.stopping` when SIGTERM comes: the server's own handler, set after this, says nothing to the app."""
    ours, handlers = os.pipe()
    os.set_blocking(handlers, False)
    signal.set_wakeup_fd(handlers, warn_on_full_buffer=False)

    def wait() -> None:
        while os.read(ours, 1)[0] not in (signal.SIGTERM, signal.SIGINT):
            pass
        jobs.stopping.set()

    Thread(target=wait, daemon=True, name="shutdown").start()
