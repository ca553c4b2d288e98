"""Changes of class in parts, for objects that no site copies onto themselves in one request: where they are safe."""

from __future__ import annotations

from app.domain.migrations import SiteFacts
from app.errors import Blocked


def admit_in_parts(site: SiteFacts, *, marked: bool) -> None:
    """Returns when an object may be replaced by parts copied of it. marked: whether a mark finds room in its metadata.

    Between the last look and the moment when the parts take its place an owner may write: either the site refuses them
    then, or it keeps that version. Its ETag being another one, the copy is known by its mark alone. Raises Blocked.
    """
    can = site.capabilities
    if not can.versioning and not (can.conditional_put and can.conditional_complete):
        why = f"{site.name} ignores the condition under which parts replace an object, and keeps no versions"
        raise Blocked(why, reason="no_conditional_complete")
    if not marked:
        why = "the metadata of an object that is too large for one request leave no room for the mark of its copy"
        raise Blocked(why, reason="no_room_for_mark")
