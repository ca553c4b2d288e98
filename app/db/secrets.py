"""Sites' secret keys at rest: encrypted with a key that is derived from FORETIDE_SECRET_KEY, outside the database."""

from __future__ import annotations

import base64
from functools import lru_cache
from typing import TYPE_CHECKING

from sqlalchemy import select
from sqlalchemy.orm import Session

from app.db.keys import Resealed, derived
from app.db.tables import Site
from app.errors import SettingsError

if TYPE_CHECKING:
    from cryptography.fernet import MultiFernet


def encrypt(secret: str) -> bytes:
    """The secret as it is stored, under the current key. Raises SettingsError without FORETIDE_SECRET_KEY."""
    return _fernet(_keys()).encrypt(secret.encode())


def decrypt(stored: bytes) -> str:
    """The secret again. Raises SettingsError when it was stored under another key than those that are set."""
    from cryptography.fernet import InvalidToken

    try:
        return _fernet(_keys()).decrypt(stored).decode()
    except InvalidToken:
        raise SettingsError("a site's secret was stored under another FORETIDE_SECRET_KEY") from None


def reseal(session: Session) -> Resealed:
    """Encrypts every site's secret anew where it is not under the current key."""
    renewed, refused, kept = 0, [], 0
    current = _keys()[:1]
    for site in session.scalars(select(Site).order_by(Site.name).with_for_update()):
        if _opens(site.secret_key_encrypted, current):
            kept += 1
        elif _opens(site.secret_key_encrypted, _keys()):
            site.secret_key_encrypted = encrypt(decrypt(site.secret_key_encrypted))
            renewed += 1
        else:
            refused.append(f"site {site.name}")
    session.flush()
    return Resealed(renewed, kept, tuple(refused))


def _opens(stored: bytes, keys: tuple[bytes, ...]) -> bool:
    from cryptography.fernet import InvalidToken

    try:
        _fernet(keys).decrypt(stored)
    except InvalidToken:
        return False
    return True


def _keys() -> tuple[bytes, ...]:
    return derived(b"site-secrets", 32)


@lru_cache(maxsize=4)
def _fernet(keys: tuple[bytes, ...]) -> MultiFernet:
    from cryptography.fernet import Fernet, MultiFernet

    return MultiFernet([Fernet(base64.urlsafe_b64encode(key)) for key in keys])
