"""Seals model files and opens only those that match their seal and hold only trusted types (step: learn).

Estimators travel by skops, packed arrays by npz; nothing is ever unpickled.
"""

from __future__ import annotations

import hashlib
import hmac
import zipfile
from dataclasses import dataclass
from typing import Any

from app.errors import ArtifactRefused

# Types beyond those that skops itself knows as harmless: the node arrays of fitted trees.
TRUSTED_TYPES: tuple[str, ...] = (
    "sklearn.ensemble._hist_gradient_boosting.predictor.TreePredictor",
    "sklearn.tree._tree.Tree",
)


@dataclass(frozen=True)
class Seal:
    """What is kept beside a model file: its SHA-256, and an HMAC over that and the file's name."""

    sha256: str
    hmac: str


def seal(body: bytes, name: str, key: str) -> Seal:
    """name: what the bytes are, such as `tier/3/packed`, so that no file can stand in for another. key: the secret."""
    digest = hashlib.sha256(body).hexdigest()
    return Seal(digest, _sign(digest, name, key))


def check(body: bytes, name: str, key: str, expected: Seal) -> None:
    """Raises ArtifactRefused unless the bytes are those that were sealed under this name with this key."""
    digest = hashlib.sha256(body).hexdigest()
    if not hmac.compare_digest(digest, expected.sha256):
        raise ArtifactRefused(f"the bytes of {name} do not match their SHA-256")
    if not hmac.compare_digest(_sign(digest, name, key), expected.hmac):
        raise ArtifactRefused(f"{name} was not signed with this installation's FORETIDE_SECRET_KEY")


def dump_estimator(estimator: Any) -> bytes:
    """A fitted estimator as skops bytes."""
    import skops.io

    body: bytes = skops.io.dumps(estimator)
    return body


def load_estimator(body: bytes) -> Any:
    """The estimator of skops bytes whose seal was checked. Raises ArtifactRefused for any type that is not trusted."""
    import skops.io
    from skops.io.exceptions import UntrustedTypesFoundException

    try:
        return skops.io.loads(body, trusted=list(TRUSTED_TYPES))
    except UntrustedTypesFoundException as error:
        raise ArtifactRefused(f"the model file holds types that are not trusted: {error}") from error
    except (zipfile.BadZipFile, KeyError, ValueError, TypeError) as error:
        raise ArtifactRefused("the bytes are not a skops model") from error


def _sign(digest: str, name: str, key: str) -> str:
    return hmac.new(key.encode(), f"{name}\n{digest}".encode(), hashlib.sha256).hexdigest()
