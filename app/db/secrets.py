"""Sites' secret keys at rest: encrypted with a key that is derived from FORETIDE_SECRET_KEY, outside the database."""

from __future__ import annotations

import base64
import hashlib
from functools import lru_cache
from typing import TYPE_CHECKING

from app.errors import SettingsError
from app.settings import get_settings

if TYPE_CHECKING:
    from cryptography.fernet import Fernet


def encrypt(secret: str) -> bytes:
    """The secret as it is stored. Raises SettingsError without FORETIDE_SECRET_KEY."""
    return _fernet(get_settings().secret_key).encrypt(secret.encode())


def decrypt(stored: bytes) -> str:
    """The secret again. Raises SettingsError when it was stored under another key."""
    from cryptography.fernet import InvalidToken

    try:
        return _fernet(get_settings().secret_key).decrypt(stored).decode()
    except InvalidToken:
        raise SettingsError("a site's secret was stored under another FORETIDE_SECRET_KEY") from None


@lru_cache(maxsize=4)
def _fernet(secret_key: str) -> Fernet:
    from cryptography.fernet import Fernet

    if not secret_key:
        raise SettingsError("FORETIDE_SECRET_KEY is not set; sites' secrets cannot be kept without it")
    derived = hashlib.blake2b(secret_key.encode(), digest_size=32, person=b"site-secrets").digest()
    return Fernet(base64.urlsafe_b64encode(derived))
