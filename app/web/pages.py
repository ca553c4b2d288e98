"""The dashboard's pages: rendered on the server, readable without JavaScript, nothing from other hosts."""

from __future__ import annotations

from pathlib import Path
from urllib.parse import urlsplit

from flask import Blueprint, make_response, redirect, render_template, request, send_from_directory
from flask import Response as FlaskResponse
from werkzeug.wrappers import Response

from app import auth
from app.auth import OPEN, declare
from app.db.session import session_scope
from app.domain.roles import Role
from app.errors import Forbidden, Throttled, Unauthorized
from app.web import overview

STATIC = Path(__file__).parent / "static"
COOKIE = "foretide_token"
COOKIE_AGE_S = 12 * 3600
LOGINS = 10
LOGINS_WINDOW_S = 60.0

blueprint = Blueprint("web", __name__, template_folder="templates")
_failed = auth.Failures(LOGINS, LOGINS_WINDOW_S)


@blueprint.get("/")
def home() -> Response:
    """The dashboard."""
    return redirect("/ui/")


@blueprint.get("/ui/static/<path:name>")
def static(name: str) -> Response:
    """A style sheet or icon of the pages."""
    return send_from_directory(STATIC, name, max_age=3600)


@blueprint.get("/ui/")
def show_overview() -> str:
    """What is going on, on one page."""
    with session_scope() as session:
        return render_template("overview.html", **overview.read(session), user=auth.identity())


@blueprint.get("/ui/login")
def show_login() -> str:
    """Asks for a token."""
    return render_template("login.html", problem=None)


@blueprint.post("/ui/login")
def login() -> FlaskResponse:
    """Keeps the token in a cookie that only these pages get; it is checked anew with each request."""
    _check_same_origin()
    token = request.form.get("token", "").strip()
    try:
        auth.identify(token)
    except (Unauthorized, Throttled):
        _failed.add(request.remote_addr or "")
        page = render_template("login.html", problem="This token is unknown, expired or revoked.")
        return make_response(page, Unauthorized.status)
    answer = make_response(redirect("/ui/", 303))
    answer.set_cookie(
        COOKIE, token, max_age=COOKIE_AGE_S, path="/ui/", httponly=True, samesite="Strict", secure=request.is_secure
    )
    return answer


@blueprint.post("/ui/logout")
def logout() -> FlaskResponse:
    """Forgets the cookie."""
    _check_same_origin()
    answer = make_response(redirect("/ui/login", 303))
    answer.delete_cookie(COOKIE, path="/ui/")
    return answer


@blueprint.errorhandler(Unauthorized)
def ask_to_log_in(_: Unauthorized) -> Response:
    """Nobody is logged in, or no longer."""
    return redirect("/ui/login", 303)


def _check_same_origin() -> None:
    """Raises Forbidden for a form that another site has sent (CSRF)."""
    origin = request.headers.get("Origin")
    if origin is None or urlsplit(origin).netloc != request.host:
        raise Forbidden("this form must be sent by the page itself", reason="cross_origin")


for _view in (home, static, show_login, login, logout):
    declare(_view, OPEN)
declare(show_overview, Role.VIEWER)
