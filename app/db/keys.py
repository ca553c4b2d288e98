"""The keys that model files are sealed and sites' secrets encrypted with, and the change from one to the next."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass

from app.errors import SettingsError
from app.settings import get_settings


@dataclass(frozen=True)
class Resealed:
    """What a pass over everything under a key has found, by kind."""

    renewed: int = 0
    as_they_were: int = 0
    refused: tuple[str, ...] = ()
    """Names of what no key opens."""


def derived(purpose: bytes, size: int = 64) -> tuple[bytes, ...]:
    """A key for a purpose of each of FORETIDE_SECRET_KEY's, apart from those of other purposes; the first is current.

    Raises SettingsError without one.
    """
    secrets = get_settings().secret_keys
    if not secrets:
        raise SettingsError("FORETIDE_SECRET_KEY is not set; site secrets and model files cannot be kept without it")
    return tuple(hashlib.blake2b(secret.encode(), digest_size=size, person=purpose).digest() for secret in secrets)
