"""Seals model files, so that only those that this installation wrote are opened (step: learn)."""

from __future__ import annotations

import hashlib
import hmac
from collections.abc import Sequence
from dataclasses import dataclass

from app.errors import ArtifactRefused


@dataclass(frozen=True)
class Seal:
    """What is kept beside a model file: its SHA-256, and an HMAC over that and the file's name."""

    sha256: str
    hmac: str


def seal(body: bytes, name: str, key: bytes) -> Seal:
    """name: what the bytes are, such as `tier/3/packed`, so that no file can stand in for another. key: the secret."""
    digest = hashlib.sha256(body).hexdigest()
    return Seal(digest, _sign(digest, name, key))


def check(body: bytes, name: str, keys: Sequence[bytes], expected: Seal) -> int:
    """Which of the keys sealed exactly these bytes under this name. Raises ArtifactRefused where none did."""
    digest = hashlib.sha256(body).hexdigest()
    if not hmac.compare_digest(digest, expected.sha256):
        raise ArtifactRefused(f"the bytes of {name} do not match their SHA-256; train it anew: {_train(name)}")
    for place, key in enumerate(keys):
        if hmac.compare_digest(_sign(digest, name, key), expected.hmac):
            return place
    raise ArtifactRefused(
        f"{name} was not signed with this installation's FORETIDE_SECRET_KEY; train it anew: {_train(name)}"
    )


def _train(name: str) -> str:
    return f"foretide models train {name.partition('/')[0]}"


def _sign(digest: str, name: str, key: bytes) -> str:
    return hmac.new(key, f"{name}\n{digest}".encode(), hashlib.sha256).hexdigest()
