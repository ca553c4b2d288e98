"""What a token may do: three roles, each including the ones before it."""

from __future__ import annotations

from enum import StrEnum


class Role(StrEnum):
    """The role of a token."""

    VIEWER = "viewer"
    """Reads everything that is not secret."""
    OPERATOR = "operator"
    """Also sends data, starts work and answers alerts."""
    ADMIN = "admin"
    """Also changes sites, policies, the mode and tokens."""

    def includes(self, needed: Role) -> bool:
        """Whether this role may do what `needed` may."""
        order = list(Role)
        return order.index(self) >= order.index(needed)
