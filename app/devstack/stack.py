"""One running stack: Postgres, Valkey and the sites, embedded or external, as demo, up and the tests need it."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from dataclasses import asdict, dataclass, field
from types import TracebackType
from typing import Self

from app.devstack.guard import Orphaned
from app.devstack.parts import Component, Part, address, embedded, external
from app.devstack.ports import Ports
from app.devstack.postgres import Postgres
from app.devstack.processes import Child
from app.devstack.seaweed import SITES, Seaweed, SiteSpec, choose_ports, external_sites
from app.devstack.services import FIRST, LATER, Endpoints, Service, await_all
from app.devstack.state import StateFolder, secret
from app.devstack.supervisor import Supervisor
from app.devstack.valkey import Valkey
from app.devstack.valkey import version as valkey_version
from app.errors import BrokerUnavailable, DatabaseUnavailable
from app.settings import Settings, adopt, environment_with, get_settings

LOOPBACK = "127.0.0.0/8"


@dataclass
class Stack:
    """A context manager: entering starts every part side by side, leaving stops them in order.

    It is entered by the main thread (see app.devstack.processes). Database modules are imported where they are used:
    the servers boot meanwhile. URLs, `sites` and `environment()` are known before;
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
        self._services: list[Service] = []
        self._supervisor: Supervisor | None = None
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
        with ExitStack() as undo:
            undo.callback(self.stop)
            self._start()
            undo.pop_all()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Stop every part; at once when nobody waits for it."""
        self.stop(hurry=kind is Orphaned)

    def stop(self, *, hurry: bool = False) -> None:
        """Stop the services, then the parts they need, and release the folder; in a hurry, or at Ctrl-C, by killing."""
        if self._supervisor:
            self._supervisor.pause()
        parts = [part.child for part in self._parts if part.child]
        services = [service.child for service in self._services if service.child]
        try:
            if not hurry:
                stop_all(services)
                stop_all(parts)
        finally:
            for child in (*services, *parts):
                child.kill()
            if self._supervisor:
                self._supervisor.release()
            self._ports.release()
            self.state.release()

    def adopt(self, **changed: str) -> None:
        """Make this stack's URLs and secrets the settings of this process, and so of the children it starts later."""
        networks = ",".join(part for part in (self.settings.site_networks, LOOPBACK) if part)
        variables = {
            "FORETIDE_DATABASE_URL": self.database_url,
            "FORETIDE_BROKER_URL": self.broker_url,
            "FORETIDE_SECRET_KEY": self.secret_key,
            "FORETIDE_SITES": json.dumps([site.as_dict() for site in self.sites]),
            "FORETIDE_SITE_NETWORKS": networks,
        }
        adopt(variables | changed)

    def serve(self) -> Endpoints:
        """Bring the schema up to date, then start Foretide's own processes; this process has adopted first.

        The API is awaited; beat and Flower start after it and are not (see `await_services`). The API and Flower take
        the ports of the settings, or others when those are in use. Raises PartFailed.
        """
        from app.db import schema

        settings = get_settings()
        schema.upgrade(settings.sqlalchemy_url)
        endpoints = Endpoints(
            port=self._port("api", settings.port),
            flower_port=self._port("flower", settings.flower_port),
            flower_user=settings.flower_user,
            flower_password=settings.flower_password or self._secret("flower", 12),
            token=self._token(),
        )
        self.state.remember(self._kept)
        environment = environment_with(
            **endpoints.variables(),
            FORETIDE_COMPONENTS=json.dumps([asdict(component) for component in self.components]),
            FORETIDE_STATE_DIR=str(self.state.path),
        )
        for names in (FIRST, LATER):
            started = [Service(name, self.state.folder("services"), environment) for name in names]
            self._services += started
            for service in started:
                service.start()
            if names is FIRST:
                await_all(started)
        return endpoints

    def await_services(self) -> None:
        """Wait until all of Foretide's own processes are ready. Raises PartFailed."""
        await_all(self._services)

    def part(self, name: str) -> Part:
        """The embedded part of this name: database, broker or a site. Raises KeyError where an external one is used."""
        return {part.name: part for part in self._parts}[name]

    def supervise(self, say: Callable[[str], None]) -> None:
        """From now on start again what dies; `say` is told of it."""
        self._supervisor = Supervisor([*self._parts, *self._services], say)

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
            yield external("database", "FORETIDE_DATABASE_URL", url, f"Postgres {version}")
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
        return Postgres(
            self.state.folder("postgres"), self._port("postgres"), self._secret("postgres"), durable=durable
        )

    def _valkey(self) -> Valkey:
        return Valkey(self.state.folder("valkey"), self._port("valkey"), self._secret("valkey"))

    def _seaweed(self, spec: SiteSpec) -> Seaweed:
        ports = self._kept[spec.name] = choose_ports(self._ports, self._kept.get(spec.name, {}))
        keys = (self._secret(f"{spec.name} access key", 12), self._secret(f"{spec.name} secret key"))
        return Seaweed(spec, self.state.folder(spec.name), ports, keys)

    def _port(self, name: str, wished: int | None = None) -> int:
        """A free port: the wished one, else the one of the last start, else any."""
        kept: dict[str, int] = self._kept.setdefault("ports", {})
        kept[name] = self._ports.choose(wished or kept.get(name))
        return kept[name]

    def _secret(self, name: str, length: int = 32) -> str:
        kept: dict[str, str] = self._kept.setdefault("secrets", {})
        return kept.setdefault(name, secret(length))

    def _token(self) -> str:
        """An administrator's token: that of the last start while it is valid, else a new one."""
        from app.db import tokens
        from app.db.session import session_scope
        from app.domain.roles import Role

        kept: dict[str, str] = self._kept.setdefault("secrets", {})
        with session_scope() as session:
            if "token" not in kept or not tokens.find(session, tokens.digest(kept["token"])):
                kept["token"] = tokens.create(session, "devstack", Role.ADMIN)[1]
        return kept["token"]


def stop_all(children: list[Child]) -> None:
    """Ask all of them to stop, the last started first, then wait for each."""
    for child in reversed(children):
        child.ask_to_stop()
    for child in reversed(children):
        child.stop()
