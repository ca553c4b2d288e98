"""What may be a site: its address, what its probe found, and what follows from that for moves to and from it."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass, field, fields
from ipaddress import IPv4Network, IPv6Network, ip_address, ip_network
from typing import Any
from urllib.parse import urlsplit

from app.errors import Invalid, PolicyForbids

SERVERS_NAMES = {
    "HOT": "STANDARD",
    "COOL": "STANDARD_IA",
    "COLD": "GLACIER_IR",
    "NEARLINE": "STANDARD_IA",
    "COLDLINE": "GLACIER_IR",
    "ARCHIVE": "DEEP_ARCHIVE",
}
"""What other providers' classes are called by S3 servers that know AWS's names alone; tried after the own name."""

Networks = tuple[IPv4Network | IPv6Network, ...]


@dataclass(frozen=True)
class SiteAddress:
    """How to reach one bucket. `networks`: where its host may lie beside public addresses."""

    name: str
    endpoint_url: str
    region: str
    bucket: str
    access_key: str
    secret_key: str = field(repr=False)
    networks: Networks = ()
    class_names: tuple[tuple[str, str], ...] = ()
    """Storage classes by their name in the price book, beside the name that the server knows them by."""


@dataclass(frozen=True)
class Capabilities:
    """What the probe saw the site do, found by acting twice: a server may accept a condition and ignore it."""

    conditional_put: bool = False
    """PUT with If-None-Match: * is refused when the object exists, and with If-Match when it differs."""
    conditional_complete: bool = False
    """The same for CompleteMultipartUpload."""
    conditional_delete: bool = False
    """DELETE with If-Match is refused when the object differs."""
    conditional_get: bool = False
    """GET with If-Match is refused when the object differs."""
    conditional_copy: bool = False
    """CopyObject with x-amz-copy-source-if-match is refused when the object differs."""
    conditional_copy_over: bool = False
    """CopyObject with If-Match is refused when what it would replace differs, and done when not."""
    checksum_sha256: bool = False
    """A wrong SHA-256 is refused, and the right one is answered by HEAD."""
    checksum_parts: bool = False
    """The same for the parts of an upload: a wrong one is refused, and HEAD answers that of all parts' SHA-256."""
    metadata: bool = False
    """Content type, encoding, cache control and user metadata come back as they were sent."""
    tags: bool = False
    versioning: bool = False
    object_lock: bool = False
    encrypted: bool = False
    """A plain PUT was answered with x-amz-server-side-encryption, or the bucket has a default encryption."""
    classes: tuple[str, ...] = ()
    """Storage classes, by their names in the price book, that were kept by PUT, HEAD, CopyObject and listing."""
    class_names: Mapping[str, str] = field(default_factory=dict)
    """What the server calls each of them."""
    keys: tuple[str, ...] = ()
    """Of what makes a key unusual (app.domain.keys) that which is kept; usual keys are kept everywhere."""
    clock_offset_s: float = 0.0
    """The server's clock less ours."""
    latency_ms: float | None = None
    """Median of the probe's small reads."""
    read_only: bool = False
    """The credentials may not write: nothing was tried, and the classes are those that were given."""
    warnings: tuple[str, ...] = ()
    """What an operator should know, such as a lifecycle rule that would fight the planner."""

    def as_json(self) -> dict[str, Any]:
        """As it is stored and shown."""
        return asdict(self) | {"classes": list(self.classes), "warnings": list(self.warnings)}

    @staticmethod
    def from_json(found: Mapping[str, Any]) -> Capabilities:
        """From what `as_json` stored; what is missing is not known to work."""
        known = {f.name for f in fields(Capabilities)}
        values: dict[str, Any] = {
            name: tuple(v) if isinstance(v, list) else v for name, v in found.items() if name in known
        }
        return Capabilities(**values)


def is_encrypted(endpoint_url: str, capabilities: Capabilities, *, declared: bool) -> bool:
    """Whether data at the site is encrypted at rest (seen, or declared by the operator) and on its way.

    Plain http counts only on loopback, where nothing leaves the machine.
    """
    parts = urlsplit(endpoint_url)
    private = parts.scheme == "https" or _is_loopback(parts.hostname or "")
    return private and (capabilities.encrypted or declared)


def _is_loopback(host: str) -> bool:
    try:
        return ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


def parse_networks(text: str) -> Networks:
    """Networks from CIDR split by commas. Raises Invalid."""
    try:
        return tuple(ip_network(part.strip()) for part in text.split(",") if part.strip())
    except ValueError as error:
        raise Invalid(f"FORETIDE_SITE_NETWORKS: {error}") from None


def check_endpoint(url: str, networks: Networks) -> None:
    """Raises Invalid or PolicyForbids unless the URL has the form of an S3 endpoint that may be asked.

    A host given as a number is judged here; a name is judged when it is resolved, at each connection.
    """
    try:
        parts = urlsplit(url)
        _ = parts.port  # raises ValueError when it is not a number
    except ValueError as error:
        raise Invalid(f"endpoint_url is not a URL: {error}") from None
    if parts.scheme not in ("http", "https") or not parts.hostname:
        raise Invalid("endpoint_url must be http://HOST[:PORT] or https://HOST[:PORT]")
    if parts.username or parts.password or parts.query or parts.fragment or parts.path not in ("", "/"):
        raise Invalid("endpoint_url must have neither user, path, query nor fragment")
    try:
        literal = str(ip_address(parts.hostname))
    except ValueError:
        return
    check_addresses(parts.hostname, [literal], networks)


def check_addresses(host: str, addresses: Iterable[str], networks: Networks) -> None:
    """Raises PolicyForbids when any address that the host resolves to is internal and in none of `networks`."""
    for text in addresses:
        address = ip_address(text.partition("%")[0])
        mapped = getattr(address, "ipv4_mapped", None)
        address = mapped or address
        public = address.is_global and not address.is_multicast
        if not public and not any(address in network for network in networks):
            raise PolicyForbids(
                f"{host} is at the internal address {address}; to allow it, add its network to FORETIDE_SITE_NETWORKS",
                reason="endpoint_refused",
            )
