"""Copies a site's objects to another in a process of its own: `python -m bench.copy_ours ours|boto3 FROM TO`.

Reads from stdin what to copy and what the destination can do; prints its seconds, processor seconds and largest memory
as JSON. `ours` takes the very steps of a migration: pin, read under the pin, hash, write under a condition, look at the
source again, prove. `boto3` is a plain script: get, upload, nothing proven.
"""

from __future__ import annotations

import json
import resource
import sys
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

from app.domain.sites import Capabilities, SiteAddress, parse_networks
from app.errors import SourceChanged
from app.s3 import evidence, multipart, objects, transfer
from app.s3.client import Bucket, connect
from app.s3.heads import Head
from app.s3.multipart import SentPart
from app.s3.objects import Target
from app.s3.transfer import Copied
from app.settings import get_settings

Copy = Callable[[str, int], None]


class Forgetful:
    """A ledger that keeps nothing: what Postgres adds is measured by other benchmarks."""

    def check(self) -> None:
        """Never stops."""

    def started(self, upload_id: str) -> None:
        """Notes the upload, which `complete` needs."""
        self.upload_id = upload_id

    def sent(self, part: SentPart) -> None:
        """Notes the part."""
        self.etags = [*getattr(self, "etags", []), part.etag]


def ours(source_site: dict[str, Any], destination_site: dict[str, Any], can: Capabilities) -> Copy:
    """The steps of a migration, without its rows."""
    source, destination = connect(_address(source_site)), connect(_address(destination_site))
    threshold = get_settings().multipart_threshold

    def copy(key: str, size: int) -> None:
        by_checksum = can.checksum_sha256 if size < threshold else can.checksum_parts
        target = Target(key, "STANDARD", f"bench-{key}", conditional=can.conditional_put, checksum=by_checksum)
        found, copied = (_whole if size < threshold else _in_parts)(source, destination, target)
        if not objects.head(source, key).pin.same_object(found.pin):
            raise SourceChanged
        transfer.prove(destination, key, copied, found.pin, found.carried, by_checksum=by_checksum)

    return copy


def _whole(source: Bucket, destination: Bucket, target: Target) -> tuple[Head, Copied]:
    found, body = objects.fetch(source, target.key, get_settings().multipart_threshold)
    if body is None:
        raise SourceChanged
    sha256 = evidence.sha256_of(source, target.key, found, body)
    objects.put(destination, target, body, sha256, found.carried)
    return found, Copied(sha256, (sha256,), max(1, found.pin.size))


def _in_parts(source: Bucket, destination: Bucket, target: Target) -> tuple[Head, Copied]:
    found, ledger, size = objects.head(source, target.key), Forgetful(), get_settings().part_size
    copied = transfer.copy_parts(
        source, destination, found, target, found.carried, size, None, (), ledger, lambda _: None
    )
    multipart.complete(destination, target, ledger.upload_id, ledger.etags, copied.parts)
    return found, copied


def plain(source_site: dict[str, Any], destination_site: dict[str, Any]) -> Copy:
    """What a script does with boto3."""
    (source, source_bucket), (destination, bucket) = _client(source_site), _client(destination_site)

    def copy(key: str, _: int) -> None:
        body = source.get_object(Bucket=source_bucket, Key=key)["Body"]
        destination.upload_fileobj(body, bucket, key)

    return copy


def _client(site: dict[str, Any]) -> tuple[Any, str]:
    import boto3  # the other engine does without
    from botocore.config import Config

    config = Config(signature_version="s3v4", s3={"addressing_style": "path"}, max_pool_connections=32)
    client = boto3.client(
        "s3",
        endpoint_url=site["endpoint_url"],
        region_name=site["region"],
        aws_access_key_id=site["access_key"],
        aws_secret_access_key=site["secret_key"],
        config=config,
    )
    return client, site["bucket"]


def _address(site: dict[str, Any]) -> SiteAddress:
    named = {name: site[name] for name in ("name", "endpoint_url", "region", "bucket", "access_key", "secret_key")}
    return SiteAddress(**named, networks=parse_networks(get_settings().site_networks))


def main(engine: str, source: str, destination: str) -> None:
    """Copies the objects named, eight at a time."""
    told = json.load(sys.stdin)
    sites = {site["name"]: site for site in json.loads(get_settings().sites)}
    can = Capabilities.from_json(told["capabilities"])
    ends = sites[source], sites[destination]
    copy = ours(*ends, can) if engine == "ours" else plain(*ends)
    before = _most_memory_mib()
    started, cpu = time.perf_counter(), time.process_time()
    with ThreadPoolExecutor(get_settings().migrate_concurrency) as pool:
        list(pool.map(lambda entry: copy(*entry), told["objects"]))
    seconds, cpu = time.perf_counter() - started, time.process_time() - cpu
    memory = _most_memory_mib()
    print(json.dumps({"seconds": seconds, "cpu_seconds": cpu, "memory_mib": memory, "memory_before_mib": before}))


def _most_memory_mib() -> float:
    """The largest memory of this program; what getrusage tells has its parent's in it, from before it was this one."""
    status = Path("/proc/self/status")
    if status.exists():
        told = dict(line.split(":", 1) for line in status.read_text().splitlines())
        return int(told["VmHWM"].split()[0]) / 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20  # in bytes where there is no /proc


if __name__ == "__main__":
    main(*sys.argv[1:])
