"""Copies a site's objects to another in a process of its own: `python -m bench.copy_ours ours|boto3 FROM TO PREFIX`.

Prints its seconds, processor seconds and largest memory as JSON. `ours` takes the very steps of a migration: pin, read
under the pin, hash, write under a condition, prove. `boto3` is a plain script: get, upload, nothing proven.
"""

from __future__ import annotations

import json
import resource
import sys
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import boto3
from botocore.config import Config

from app.domain.sites import SiteAddress, parse_networks
from app.s3 import multipart, objects, transfer
from app.s3.client import connect
from app.s3.objects import Target
from app.s3.transfer import SentPart
from app.settings import get_settings

Copy = Callable[[str], None]


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


def ours(source_site: dict[str, Any], destination_site: dict[str, Any]) -> Copy:
    """The steps of a migration, without its rows."""
    settings = get_settings()
    source, destination = connect(_address(source_site)), connect(_address(destination_site))

    def copy(key: str) -> None:
        found = objects.head(source, key)
        target = Target(key, "STANDARD", f"bench-{key}")
        if found.pin.size < settings.multipart_threshold:
            body, copied = transfer.read_whole(source, key, found.pin)
            objects.put(destination, target, body, copied.sha256 or "", found.carried)
        else:
            ledger = Forgetful()
            copied = transfer.copy_parts(
                source,
                destination,
                found.pin,
                target,
                found.carried,
                settings.part_size,
                None,
                (),
                ledger,
                lambda _: None,
            )
            multipart.complete(destination, target, ledger.upload_id, ledger.etags)
        transfer.prove(destination, key, copied, found.pin, found.carried, by_checksum=False)

    return copy


def plain(source_site: dict[str, Any], destination_site: dict[str, Any]) -> Copy:
    """What a script does with boto3."""
    (source, source_bucket), (destination, bucket) = _client(source_site), _client(destination_site)

    def copy(key: str) -> None:
        body = source.get_object(Bucket=source_bucket, Key=key)["Body"]
        destination.upload_fileobj(body, bucket, key)

    return copy


def _client(site: dict[str, Any]) -> tuple[Any, str]:
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


def main(engine: str, source: str, destination: str, prefix: str) -> None:
    """Copies all objects under the prefix, eight at a time."""
    sites = {site["name"]: site for site in json.loads(get_settings().sites)}
    client, bucket = _client(sites[source])
    keys = [entry["Key"] for entry in client.list_objects_v2(Bucket=bucket, Prefix=prefix)["Contents"]]
    copy = (ours if engine == "ours" else plain)(sites[source], sites[destination])
    started, cpu = time.perf_counter(), time.process_time()
    with ThreadPoolExecutor(get_settings().migrate_concurrency) as pool:
        list(pool.map(copy, keys))
    seconds, cpu = time.perf_counter() - started, time.process_time() - cpu
    memory = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    print(json.dumps({"objects": len(keys), "seconds": seconds, "cpu_seconds": cpu, "memory_mib": memory}))


if __name__ == "__main__":
    main(*sys.argv[1:])
