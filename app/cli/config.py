"""`foretide config`: the settings in force, and the API's OpenAPI document."""

from __future__ import annotations

import json
from urllib.parse import urlsplit, urlunsplit

import click

HIDDEN = frozenset({"secret_key", "token", "flower_password", "sites"})
URLS = frozenset({"database_url", "broker_url"})


@click.group()
def config() -> None:
    """Show the settings in force, or the API's OpenAPI document."""


@config.command()
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
def show(as_json: bool) -> None:
    """Show every setting; secrets are left out."""
    from app.settings import Settings, get_settings

    settings = get_settings()
    values = {name: _shown(name, getattr(settings, name)) for name in Settings.model_fields}
    if as_json:
        click.echo(json.dumps(values, indent=2))
        return
    for name, field in Settings.model_fields.items():
        click.echo(f"FORETIDE_{name.upper()}={values[name]}  # {field.description}")


@config.command()
@click.option("--json", "as_json", is_flag=True, help="Print JSON, which is the only form there is.")
def openapi(as_json: bool) -> None:  # noqa: ARG001 - every verb takes --json
    """Print the OpenAPI document."""
    from app.api.openapi import document
    from app.server import create_app

    click.echo(json.dumps(document(create_app()), indent=2))


def _shown(name: str, value: object) -> object:
    if name in HIDDEN:
        return "(set)" if value else ""
    if name in URLS and value:
        parts = urlsplit(str(value))
        place = (parts.hostname or "") + (f":{parts.port}" if parts.port else "")
        return urlunsplit(parts._replace(netloc=place))
    return value if isinstance(value, bool | int | float) else str(value)
