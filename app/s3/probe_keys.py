"""Which unusual keys a site keeps as they are, found by writing some of each kind and looking what came of them."""

from __future__ import annotations

import hashlib
from contextlib import suppress

from app.domain.keys import EXAMPLES, KeyTrait
from app.errors import Permanent, SiteFaulty
from app.s3 import objects
from app.s3.client import Bucket
from app.s3.heads import Carried
from app.s3.objects import Target

LIMIT = 64


def kept_keys(bucket: Bucket, folder: str, intent: str) -> tuple[str, ...]:
    """The traits that the site keeps. folder: where all is written, and removed again."""
    return tuple(trait for trait in KeyTrait if _keeps(bucket, f"{folder}{trait}/", EXAMPLES[trait], intent))


def _keeps(bucket: Bucket, folder: str, names: tuple[str, ...], intent: str) -> bool:
    """Whether keys that some servers take for one another are listed as they were written, each with its own bytes."""
    bodies = {folder + name: b"" if name.endswith("/") else str(number).encode() for number, name in enumerate(names)}
    try:
        for key, body in bodies.items():
            if objects.find(bucket, key):
                return False  # one of the others is taken for it
            target = Target(key, "STANDARD", intent, conditional=False)
            objects.put(bucket, target, body, hashlib.sha256(body).hexdigest(), Carried())
        listed = {line.key for page in objects.pages(bucket, folder) for line in page}
        return listed == bodies.keys() and all(
            objects.fetch(bucket, key, LIMIT)[1] == body for key, body in bodies.items()
        )
    except (Permanent, SiteFaulty):
        return False
    finally:
        for key in bodies:
            _remove(bucket, key)


def _remove(bucket: Bucket, key: str) -> None:
    """Removes a key by its own name, since a listing may show another; in a versioned bucket its version."""
    with suppress(Permanent, SiteFaulty):
        if found := objects.find(bucket, key):
            bucket.ask("DELETE", key, query={"versionId": found.pin.version_id}, writes=True)
