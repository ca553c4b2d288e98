"""The dashboard's pages: rendered on the server, readable without JavaScript, nothing from other hosts."""

from __future__ import annotations

from pathlib import Path

from flask import Blueprint, redirect, send_from_directory
from werkzeug.wrappers import Response

from app.auth import OPEN, declare

STATIC = Path(__file__).parent / "static"
blueprint = Blueprint("web", __name__, template_folder="templates")


@blueprint.get("/")
def home() -> Response:
    """The dashboard."""
    return redirect("/ui/")


@blueprint.get("/ui/static/<path:name>")
def static(name: str) -> Response:
    """A style sheet, script or icon of the pages."""
    return send_from_directory(STATIC, name, max_age=3600)


declare(home, OPEN)
declare(static, OPEN)
