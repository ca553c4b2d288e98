"""One running stack: Postgres, Valkey and the sites, embedded or external, as demo, up and the tests need it."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import asdict, dataclass, field
from types import TracebackType
from typing import Self

from app.devstack.guard import Orphaned
from app.devstack.parts import Component, Part, address, embedded, external
from app.devstack.ports import Ports
from app.devstack.postgres import Postgres
from app.devstack.processes import Child
from app.devstack.seaweed import SITES, Seaweed, SiteSpec, choose_ports, external_sites
from app.devstack.state import StateFolder, secret
from app.devstack.valkey import Valkey
from app.devstack.valkey import version as valkey_version
from app.errors import BrokerUnavailable, DatabaseUnavailable
from app.settings import Settings, environment_with, get_settings

LOOPBACK = "127.0.0.0/8"


@dataclass
class Stack:
    """A context manager: entering starts every part side by side, leaving stops them in order.

    It is entered by the main thread (see app.devstack.processes). URLs, `sites` and `environment()` are known before;
    `components` is filled while it starts.
    """

    state: StateFolder
    settings: Settings = field(default_factory=get_settings)
    specs: tuple[SiteSpec, ...] = SITES
    components: list[Component] = field(default_factory=list)

    def __post_init__(self) -> None:
        """Choose ports and secrets, those of the last start if they are kept, so that every URL is known."""
        self._ports = Ports()
        self._kept = self.state.remembered()
        self._services: list[Child] = []
        self.secret_key = self.settings.secret_key or self._secret("secret_key")
        postgres = None if self.settings.database_url else self._postgres()
        valkey = None if self.settings.broker_url else self._valkey()
        seaweeds = [] if self.settings.sites else [self._seaweed(spec) for spec in self.specs]
        self._parts: list[Part] = [part for part in (postgres, valkey, *seaweeds) if part]
        self.database_url = postgres.url if postgres else self.settings.database_url
        self.broker_url = valkey.url if valkey else self.settings.broker_url
        self.sites = [seaweed.site for seaweed in seaweeds] or external_sites(self.settings.sites)
        self.state.remember(self._kept)

    def __enter__(self) -> Self:
        """Start and await every part. Raises PartFailed or SettingsError; nothing is left running then."""
        try:
            self._start()
        except BaseException:
            self.stop()
            raise
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Stop every part; at once when nobody waits for it."""
        self.stop(hurry=kind is Orphaned)

    def stop(self, *, hurry: bool = False) -> None:
        """Stop the services, then the parts they need, and release the folder; in a hurry, or at Ctrl-C, by killing."""
        parts = [part.child for part in self._parts if part.child]
        try:
            if not hurry:
                stop_all(self._services)
                stop_all(parts)
        finally:
            for child in (*self._services, *parts):
                child.kill()
            self.state.release()

    def environment(self) -> dict[str, str]:
        """The environment of processes that use this stack: this process's own, with the parts' URLs and secrets."""
        networks = ",".join(part for part in (self.settings.site_networks, LOOPBACK) if part)
        return environment_with(
            FORETIDE_DATABASE_URL=self.database_url,
            FORETIDE_BROKER_URL=self.broker_url,
            FORETIDE_SECRET_KEY=self.secret_key,
            FORETIDE_SITES=json.dumps([site.as_dict() for site in self.sites]),
            FORETIDE_SITE_NETWORKS=networks,
            FORETIDE_COMPONENTS=json.dumps([asdict(component) for component in self.components]),
        )

    def serve(self, service: Child) -> Child:
        """Take over a child that works on this stack: it is stopped before the parts that it needs."""
        self._services.append(service)
        return service

    def _start(self) -> None:
        for part in self._parts:
            part.start()
        self.components += [embedded(part, part.await_ready()) for part in self._parts]
        self.components += self._external()

    def _external(self) -> Iterator[Component]:
        from app.db.server import server_version

        if url := self.settings.database_url:
            version = server_version(url)
            if version is None:
                raise DatabaseUnavailable(f"the database of FORETIDE_DATABASE_URL does not answer at {address(url)}")
            yield external("state", "FORETIDE_DATABASE_URL", url, f"Postgres {version}")
        if url := self.settings.broker_url:
            product = valkey_version(url)
            if product is None:
                raise BrokerUnavailable(f"the broker of FORETIDE_BROKER_URL does not answer at {address(url)}")
            yield external("broker", "FORETIDE_BROKER_URL", url, product)
        if self.settings.sites:
            for site in self.sites:
                yield external(f"site {site.name}", "FORETIDE_SITES", site.endpoint_url, "S3")

    def _postgres(self) -> Postgres:
        durable = not self.state.temporary
        return Postgres(self.state.folder("postgres"), self.port("postgres"), self._secret("postgres"), durable=durable)

    def _valkey(self) -> Valkey:
        return Valkey(self.state.folder("valkey"), self.port("valkey"), self._secret("valkey"))

    def _seaweed(self, spec: SiteSpec) -> Seaweed:
        ports = self._kept[spec.name] = choose_ports(self._ports, self._kept.get(spec.name, {}))
        keys = (self._secret(f"{spec.name} access key", 12), self._secret(f"{spec.name} secret key"))
        return Seaweed(spec, self.state.folder(spec.name), ports, keys)

    def port(self, name: str, wished: int | None = None) -> int:
        """A free port: the wished one, else the one of the last start, else any."""
        kept: dict[str, int] = self._kept.setdefault("ports", {})
        kept[name] = self._ports.choose(wished or kept.get(name))
        return kept[name]

    def _secret(self, name: str, length: int = 32) -> str:
        kept: dict[str, str] = self._kept.setdefault("secrets", {})
        return kept.setdefault(name, secret(length))


def stop_all(children: list[Child]) -> None:
    """Ask all of them to stop, the last started first, then wait for each."""
    for child in reversed(children):
        child.ask_to_stop()
    for child in reversed(children):
        child.stop()
