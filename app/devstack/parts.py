"""What the embedded parts have in common, and how a part is shown."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, Protocol
from urllib.parse import urlsplit

from app.devstack.processes import Child


class Part(Protocol):
    """An embedded server: started first, awaited later, so that all of them boot side by side."""

    child: Child | None

    @property
    def name(self) -> str:
        """What it is to the stack: database, broker or a site."""
        ...

    @property
    def setting(self) -> str:
        """The variable that names an external one instead."""
        ...

    @property
    def url(self) -> str:
        """Where it answers."""
        ...

    def start(self) -> None:
        """Start the process. Raises PartFailed."""
        ...

    def await_ready(self) -> str:
        """Wait until it has done real work; its product and version. Raises PartFailed."""
        ...


@dataclass(frozen=True)
class Component:
    """A part in use: shown when the stack starts and in /readyz."""

    name: str
    mode: Literal["embedded", "external"]
    version: str
    address: str
    why: str


def embedded(part: Part, version: str) -> Component:
    """How an embedded part is shown."""
    return Component(part.name, "embedded", version, address(part.url), f"{part.setting} is not set")


def external(name: str, setting: str, url: str, version: str) -> Component:
    """How an external part is shown."""
    return Component(name, "external", version, address(url), f"{setting} is set")


def address(url: str) -> str:
    """Host and port of a URL, without the password."""
    parts = urlsplit(url)
    return f"{parts.hostname}:{parts.port}" if parts.port else str(parts.hostname)
