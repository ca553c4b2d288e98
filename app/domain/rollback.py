"""What a plan's rollback does about each of its moves: nothing, switch back, give a copy up, move back, or leave it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum

from app.domain.migrations import EARLY, SWITCHED, ReplicaFacts
from app.domain.policies import Readers, Rules
from app.domain.states import MigrationState, MoveKind, ObjectState, ReplicaState, SiteState


class UndoAction(StrEnum):
    """What is done about one move."""

    NOTHING = "nothing"
    """It came to nothing, or was reversed already."""
    WAIT = "wait"
    """A worker is at work on it."""
    REVERSE = "reverse"
    """The source still stands: one transaction puts it in service again, and the new copy out of it."""
    RETIRE = "retire"
    """The copy that was added goes out of service: the others suffice."""
    MOVE_BACK = "move_back"
    """Something was deleted or rewritten: a new plan brings it back."""
    KEEP = "keep"
    """It stays as it is, for the reason given."""


@dataclass(frozen=True)
class Done:
    """A move of the plan and how far its migration came."""

    kind: MoveKind
    state: MigrationState
    delete_intended: bool
    """A worker may have sent the delete of the source: only the engine may end it now."""
    from_site: str
    """Empty when the site was forgotten since."""
    from_class: str | None
    to_site: str | None
    to_class: str | None


@dataclass(frozen=True)
class Now:
    """The object as it is. sites: the state of each; busy: a migration of another plan has it."""

    state: ObjectState
    rules: Rules
    replicas: Mapping[str, ReplicaFacts]
    sites: Mapping[str, SiteState]
    busy: bool = False

    def serving(self) -> list[str]:
        """The sites that serve the current version."""
        return [site for site, found in self.replicas.items() if found.state is ReplicaState.SERVING and found.current]


@dataclass(frozen=True)
class Undo:
    """What to do about a move, and why. kind, source, target, to_class: the move back, where it is one."""

    action: UndoAction
    reason: str = ""
    kind: MoveKind | None = None
    source: str | None = None
    target: str | None = None
    to_class: str | None = None


NOTHING = Undo(UndoAction.NOTHING)


def undo(move: Done, now: Now) -> Undo:
    """What a rollback does about one move of an object as it is now."""
    if move.state in EARLY:
        return Undo(UndoAction.WAIT, "move_is_stopping")
    if move.state is not MigrationState.DONE and move.state not in SWITCHED:
        return NOTHING
    if move.state in SWITCHED and move.delete_intended:
        return Undo(UndoAction.WAIT, "delete_under_way")
    forbidden = _forbidden(move, now)
    if forbidden:
        return _keep(forbidden)
    source = now.replicas.get(move.from_site)
    if move.kind is not MoveKind.COPY and source and source.state is ReplicaState.DRAINING:
        return Undo(UndoAction.REVERSE)
    if move.state in SWITCHED:
        return _keep("changed_since")
    if move.kind is MoveKind.COPY or (source and source.state is ReplicaState.SERVING and move.kind is MoveKind.MOVE):
        return _retire(move.to_site or "", now)
    return _back(move, now)


def _forbidden(move: Done, now: Now) -> str | None:
    if now.state is not ObjectState.PRESENT:
        return "object_gone"
    if now.rules.pinned:
        return "pinned"
    if now.busy:
        return "object_is_moving"
    returns = move.kind is not MoveKind.COPY
    if returns and move.from_site not in now.sites:
        return "site_forgotten"
    if returns and now.rules.sites is not None and move.from_site not in now.rules.sites:
        return "residency"
    if returns and now.sites.get(move.from_site) is SiteState.DRAINING:
        return "site_draining"
    return None


def _retire(site: str, now: Now) -> Undo:
    serving = now.serving()
    added = now.replicas.get(site)
    if site not in serving or added is None or not added.ours:
        return _keep("changed_since")
    if now.rules.readers is Readers.DIRECT:
        return _keep("readers_direct")
    if len(serving) - 1 < max(1, now.rules.rf):
        return _keep("too_few_replicas")
    return Undo(UndoAction.RETIRE)


def _back(move: Done, now: Now) -> Undo:
    """The move that undoes one whose source is gone or rewritten."""
    serving, there = now.serving(), now.replicas.get(move.from_site)
    if move.from_class is None:
        return _keep("class_unknown")
    if move.kind is MoveKind.CLASS:
        as_left = there and move.from_site in serving and there.storage_class == move.to_class
        if not as_left:
            return _keep("changed_since")
        return Undo(UndoAction.MOVE_BACK, "", MoveKind.CLASS, move.from_site, move.from_site, move.from_class)
    if move.from_site in serving:
        return NOTHING  # it is back already
    if move.kind is MoveKind.MOVE:
        if move.to_site not in serving:
            return _keep("changed_since")
        return Undo(UndoAction.MOVE_BACK, "", MoveKind.MOVE, move.to_site, move.from_site, move.from_class)
    if not serving:
        return _keep("changed_since")
    return Undo(UndoAction.MOVE_BACK, "", MoveKind.COPY, serving[0], move.from_site, move.from_class)


def _keep(reason: str) -> Undo:
    return Undo(UndoAction.KEEP, reason)
