"""Where flow control meets the requests of a site: each asks the gate before it is sent and tells it how it ended."""

from __future__ import annotations

import threading
from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from typing import Protocol

from app.domain.sites import SiteAddress
from app.errors import ForetideError


class Gate(Protocol):
    """Decides when a request to a site may be sent. One gate serves all threads of a process."""

    def request(self, *, writes: bool, bytes_out: int) -> AbstractContextManager[object]:
        """Held from before a request is sent until its answer is read; entering waits, or raises a ForetideError.

        writes: it changes something; bytes_out: the size of its body.
        """

    def received(self, count: int) -> None:
        """So many bytes of a body were read; may wait."""

    def look(self) -> None:
        """Raises what stops the work that waits for an answer, or reads it, where nothing was written."""

    def ended(self, error: ForetideError | None, seconds: float) -> None:
        """The head of the answer came after so long, or what came in its stead (a Throttled names its Retry-After).

        An answer that says no (ObjectMissing, ConditionFailed, other Permanent errors) is an answer all the same.
        """


class Open:
    """A gate that always stands open."""

    def request(self, *, writes: bool, bytes_out: int) -> AbstractContextManager[object]:  # noqa: ARG002
        """At once."""
        return _NOTHING

    def received(self, count: int) -> None:
        """Nothing waits."""

    def look(self) -> None:
        """Nothing is stopped."""

    def ended(self, error: ForetideError | None, seconds: float) -> None:
        """Nobody asks."""


_NOTHING = nullcontext()


class Gates:
    """The gates of this process, one a site by its name."""

    def __init__(self) -> None:
        self._make: Callable[[SiteAddress], Gate] = lambda _: Open()
        self._gates: dict[str, Gate] = {}
        self._lock = threading.Lock()

    def made_by(self, make: Callable[[SiteAddress], Gate] | None) -> None:
        """From now on `make` is asked for the gate of each site; None: all stand open."""
        with self._lock:
            self._make, self._gates = make or (lambda _: Open()), {}

    def of(self, address: SiteAddress) -> Gate:
        """The gate of a site."""
        found = self._gates.get(address.name)
        if found is None:
            with self._lock:
                found = self._gates.setdefault(address.name, self._make(address))
        return found


GATES = Gates()
