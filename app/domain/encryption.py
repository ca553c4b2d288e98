"""How a copy is encrypted at its destination: by the keys that the operator has mapped there, never by less unasked."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from app.errors import Blocked

ANY = "*"
"""Stands for every key that is not named itself."""
OWN = "default"
"""Instead of a key: as the destination's bucket encrypts by itself."""


@dataclass(frozen=True)
class Encryption:
    """What a write asks for. key: an id, alias or ARN at its site."""

    algorithm: str
    key: str

    @property
    def headers(self) -> dict[str, str]:
        """Of PutObject and CreateMultipartUpload."""
        return {
            "x-amz-server-side-encryption": self.algorithm,
            "x-amz-server-side-encryption-aws-kms-key-id": self.key,
        }

    def is_kept(self, algorithm: str | None, key: str | None) -> bool:
        """Whether that is what a look at the copy tells; an alias is told as the key that it stands for."""
        named = key is not None and (key == self.key or key.endswith(f"/{self.key}") or "alias/" in self.key)
        return algorithm == self.algorithm and named


def is_by_key(algorithm: str | None) -> bool:
    """Whether an object is encrypted by a key of KMS, so that its ETag says nothing of its bytes."""
    return (algorithm or "").startswith("aws:kms")


def encryption_at(site: str, keys: Mapping[str, str], algorithm: str | None, key: str | None) -> Encryption | None:
    """How a copy is to be encrypted of what is encrypted so at its source; None: as the bucket does by itself.

    keys: the site's mapping of keys of other sites to its own. An object that is encrypted by no key of its owner's
    goes by the bucket's own encryption, which the security policy may demand. Raises Blocked for a key without a place
    in the mapping: whoever chose it chose who may read the object.
    """
    if algorithm is None or not is_by_key(algorithm):
        return None
    chosen = keys.get(key or "") or keys.get(ANY)
    if chosen is None:
        told = f"the object is encrypted with key {key or 'of no name'}, for which {site} has none; to name one"
        fix = f"foretide sites change {site} 'kms_keys.{key or ANY}=KEY', then foretide migrate retry"
        raise Blocked(f"{told}: {fix}", reason="kms_key_not_mapped")
    return None if chosen == OWN else Encryption(algorithm, chosen)
