"""Harm done to replicas behind Foretide's back: bytes that rot under an unchanged pin, copies that vanish."""

from __future__ import annotations

from sqlalchemy import update

from app.db.session import session_scope
from app.db.tables import Replica
from app.domain.headers import INTENT
from app.s3 import objects
from tests.world import World


def rewrite(world: World, site: str, name: str, body: bytes) -> None:
    """Other bytes under the key, with the metadata that stood there: no owner's write, as far as one can see."""
    found = world.head(site, name)
    metadata = found.carried.metadata | ({INTENT: found.intent} if found.intent else {})
    world.put(site, name, body, Metadata=metadata)


def rot(world: World, site: str, name: str) -> None:
    """The replica's bytes are others from now on, though its ETag and time seem to be what they were.

    No S3 server lets bytes rot on demand, so it is the catalogue that is made to know the ETag and time of the others.
    """
    body = world.read(site, name)
    rewrite(world, site, name, bytes(byte ^ 1 for byte in body) or b"?")
    pin = objects.head(world.buckets[site], world.key(name)).pin
    with session_scope() as session:
        row = world.replicas(name)[site]
        session.execute(update(Replica).where(Replica.id == row.id).values(pin=pin.as_json()))
