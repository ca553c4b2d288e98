"""The SDK's side of a tee: what a read hands on is kept aside, and written where a plan wants it. Used by app.client.

A reader is never slowed or failed by it: bytes are spooled to a file, the write is a thread's, errors are only noted.
"""

from __future__ import annotations

import hashlib
import tempfile
import threading
import time
from collections import deque
from collections.abc import Iterator
from typing import IO

import httpx

from app.errors import ForetideError
from app.transport import Json, Transport

IN_MEMORY = 8 * 2**20
"""Bytes of one read that are kept in memory; more lie in a temporary file."""
AT_ONCE = 4
"""About so many reads are kept or written at a time; the others are reads and nothing more."""
CHUNK = 1 << 20
NOTED = 100
"""Outcomes that are remembered."""


class Tees:
    """What one client keeps and writes."""

    def __init__(self, api: Transport) -> None:
        self._api = api
        self._kept: set[Kept] = set()
        self._threads: list[threading.Thread] = []
        self.outcomes: deque[str] = deque(maxlen=NOTED)
        """What came of the last ones, oldest first: `written`, or why not."""

    @property
    def has_room(self) -> bool:
        """Whether one more read may be kept now."""
        return len(self._kept) < AT_ONCE

    def begin(self, offer: str | None, answer: httpx.Response) -> Kept | None:
        """Keeps the bytes of an answer. offer: as the API gave it, migration and fence; None: there is none."""
        if offer is None:
            return None
        migration_id, _, fence = offer.partition(".")
        kept = Kept(self, int(migration_id), int(fence), answer)
        self._kept.add(kept)
        return kept

    def end(self, kept: Kept) -> None:
        """Writes what was kept, in a thread that ends with the process."""
        thread = threading.Thread(target=self._write, args=(kept,), name="tee", daemon=True)
        try:
            thread.start()
        except RuntimeError as error:  # the process has no thread left, or ends
            self.outcomes.append(str(error))
            self._forget(kept)
            return
        self._threads = [running for running in self._threads if running.is_alive()] + [thread]

    def wait(self, timeout_s: float) -> None:
        """Waits for what is being written; what takes longer is left to the workers when its lease runs out."""
        until = time.monotonic() + timeout_s
        for thread in self._threads:
            thread.join(max(0.0, until - time.monotonic()))

    def _write(self, kept: Kept) -> None:
        try:
            problem = kept.problem or self._try(kept)
            self.outcomes.append(problem or "written")
            told = {"fence": kept.fence, "outcome": "failed" if problem else "written", "detail": problem[:500]}
            self._api.change("POST", f"/migrations/{kept.migration_id}:teed", told)
        except (ForetideError, RuntimeError) as error:  # RuntimeError: the client was closed meanwhile
            self.outcomes.append(str(error))
        finally:
            self._forget(kept)

    def _forget(self, kept: Kept) -> None:
        kept.close()
        self._kept.discard(kept)

    def _try(self, kept: Kept) -> str:
        """Writes; returns why it came to nothing, or an empty text."""
        try:
            asked = kept.read_as(self._sha256(kept.file))
            to = self._api.change("POST", f"/migrations/{kept.migration_id}:tee", asked)
            kept.file.seek(0)
            self._api.write(to["url"], to["headers"], _chunks(kept.file), kept.size)
        except (ForetideError, OSError) as error:
            return str(error) or type(error).__name__
        return ""

    @staticmethod
    def _sha256(file: IO[bytes]) -> str:
        file.seek(0)
        whole = hashlib.sha256()
        for chunk in _chunks(file):
            whole.update(chunk)
        return whole.hexdigest()


class Kept:
    """The bytes of one read."""

    def __init__(self, tees: Tees, migration_id: int, fence: int, answer: httpx.Response) -> None:
        self.migration_id, self.fence = migration_id, fence
        self._tees, self._kept = tees, 0
        self._headers = {name.lower(): value for name, value in answer.headers.items()}
        length = self._headers.get("content-length", "")
        self.size = int(length) if length.isascii() and length.isdigit() else -1
        self.file: IO[bytes] = tempfile.SpooledTemporaryFile(max_size=IN_MEMORY)  # noqa: SIM115  # `close` closes it
        self.problem = self._why_not(answer.status_code)

    def _why_not(self, status: int) -> str:
        """Why this answer cannot be written anew as it is; an empty text when it can."""
        told = self._headers
        if status != 200 or self.size < 0 or "etag" not in told:
            return "the site told no ETag or size, or sent a part only"
        if told.get("x-amz-tagging-count", "0") != "0":
            return "the object has tags, which a read does not tell"
        if "kms" in told.get("x-amz-server-side-encryption", ""):
            return "the object is encrypted with a key of KMS"
        return ""

    def pieces(self, body: Iterator[bytes]) -> Iterator[bytes]:
        """The body as it comes, each piece kept on its way."""
        for piece in body:
            if not self.problem:
                self._keep(piece)
            yield piece

    def _keep(self, piece: bytes) -> None:
        self._kept += len(piece)
        try:
            if self._kept <= self.size:
                self.file.write(piece)
        except OSError as error:
            self.problem = f"it could not be kept: {error}"

    def end(self) -> None:
        """The read is over: what was kept is written if it is all."""
        if not self.problem and self._kept != self.size:
            self.problem = f"{self._kept} of {self.size} bytes were read"
        self._tees.end(self)

    def read_as(self, sha256: str) -> Json:
        """What the API is told of the read."""
        etag = self._headers["etag"].strip('"')
        return {"fence": self.fence, "etag": etag, "size": self.size, "sha256": sha256, "headers": self._carried()}

    def _carried(self) -> dict[str, str]:
        """Headers that may travel with the bytes; the API chooses among them."""
        others = {"date", "server", "connection", "etag", "last-modified", "content-length", "accept-ranges"}
        return {name: value for name, value in self._headers.items() if name not in others}

    def close(self) -> None:
        """Forgets the bytes."""
        self.file.close()


def _chunks(file: IO[bytes]) -> Iterator[bytes]:
    while chunk := file.read(CHUNK):
        yield chunk
