"""The reference model: what an object's owner did, and what may therefore be found at the sites. No engine in it."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass, field

Held = Mapping[str, bytes]
"""What each site that has the object gives, by site."""


@dataclass
class Owned:
    """One key as its owner knows it."""

    written: set[bytes] = field(default_factory=set)
    newest: bytes | None = None
    """The last write that a site acknowledged; None: never written, or its owner deleted a copy of it since."""
    current: set[bytes] = field(default_factory=set)
    """What may be taken for the newest: several, when nobody saw in which order several sites were written."""
    known: bool = True
    """Whether the catalogue knew of a copy where the newest was written: elsewhere other bytes wait for an operator."""
    unseen: dict[str, bytes] = field(default_factory=dict)
    """The writes that no scan has seen yet, by site."""
    was_deleted: bool = False
    """Whether its owner ever deleted a copy: the engine learns that late, and may take it for newer than a write."""
    touched: bool = False
    """Whether the owner did something since the last look."""
    holders: int = 0
    """How many proven copies of the newest there were at the last look."""
    gone_with: frozenset[str] | None = None
    """Who held a copy when the engine learned that its owner had deleted the object; None while it has not."""

    def write(self, site: str, body: bytes, *, known: bool) -> None:
        """The owner wrote at a site. known: the catalogue knows of a copy there, so that this must count as newer."""
        self.known = known
        self.unseen.pop(site, None)
        self.current = {body, *self.unseen.values(), *(() if known else self.current)}
        self.unseen[site] = body
        self.written.add(body)
        self.newest, self.gone_with, self.touched = body, None, True

    def delete(self, site: str, before: bytes | None) -> None:
        """The owner deleted what a site had: it need not be served any more, and the newest version may be no more."""
        self.touched = True
        self.unseen.pop(site, None)
        if before is not None:
            self.known, self.was_deleted = False, True
        if before == self.newest:
            self.newest = None

    def scanned(self, site: str) -> None:
        """A scan has seen what was written at the site."""
        self.unseen.pop(site, None)

    def learned(self, held: Held, *, is_gone: bool) -> None:
        """Whether the engine takes the object for deleted, and who still had a copy when it learned that."""
        if not is_gone:
            self.gone_with = None
        elif self.gone_with is None:
            self.gone_with = frozenset(held)

    # -- what must hold -----------------------------------------------------------------------------------------------

    def look(self, held: Held, proven: Collection[str], rf: int) -> list[str]:
        """What is wrong with what the sites hold now; empty when all is well.

        proven: the sites whose copies the catalogue counts, as they serve or have served.
        """
        wrong = [f"{site} holds bytes that nobody wrote" for site, body in held.items() if body not in self.written]
        holders = sum(body == self.newest for site, body in held.items() if site in proven)
        if self.newest is not None and self.newest not in held.values():
            wrong.append("the newest version is at no site")
        is_certain = self.known and len(self.current) == 1 and not self.was_deleted
        if is_certain and not self.touched and holders < min(rf, self.holders):
            wrong.append(f"{holders} copies of the newest version, of {self.holders} before, at rf {rf}")
        self.holders, self.touched = holders, False
        return wrong

    def at_rest(self, held: Held, serving: Mapping[str, bool], *, is_gone: bool) -> list[str]:
        """The same once every migration has ended and every site was scanned.

        serving: the sites that reads are sent to, and whether the catalogue's pin is what stands there.
        """
        wrong = [f"reads go to {site}, which holds another object" for site, same in serving.items() if not same]
        if is_gone and self.gone_with is not None and not set(held) <= self.gone_with:
            wrong.append(f"its owner deleted it, yet it came to {', '.join(set(held) - self.gone_with)}")
        if self.newest is None:
            return wrong
        if not serving and self.known:
            wrong.append("no site serves the newest version")
        return wrong + [f"{site} serves an old version" for site in serving if held.get(site) not in self.current]
