"""HTTP/1.1 over one connection: as much of it as an S3 server speaks, and nothing believed of a broken one.

Measured beside http.client and urllib3: a third of their processor time a request, most of which is the parsing of
headers as if they were an e-mail's.
"""

from __future__ import annotations

import select
import socket
import ssl
import sys
import time
from collections.abc import Callable
from typing import Final

HEAD_LIMIT: Final = 1 << 15
"""Bytes of an answer's status line and headers; S3's own limits come to a third of it."""
LINE_LIMIT: Final = 1 << 10
"""Bytes of a chunk's size line or a trailer."""
JOINED: Final = 1 << 16
"""A body up to this size is sent in one piece with its head."""
LOOK_S: Final = 0.25
"""How often it is looked whether somebody still waits for an answer."""
NEVER_S: Final = 1e6
INTERIM: Final = 8
"""Interim answers (1xx) before one that counts."""

Buffer = bytes | bytearray | memoryview


class WireError(Exception):
    """The exchange of a request and its answer failed below HTTP."""


class Unsent(WireError):
    """The server never had the whole request, so that it surely did nothing."""


class Stale(Unsent):
    """The server had closed the connection before it had the whole request."""


class Cut(Unsent):
    """The server stopped reading the request on a connection that was made for it, and said nothing."""


class Silent(WireError):
    """The server closed the connection before the first byte of an answer."""


class Lost(WireError):
    """The answer broke off, or did not come in time."""


class Garbled(WireError):
    """What came is not HTTP."""


class Connection:
    """One connection to a server, used by one thread at a time."""

    def __init__(self, connected: socket.socket) -> None:
        self._socket = connected
        self._buffer = bytearray(HEAD_LIMIT)
        self._view = memoryview(self._buffer)
        self._start = self._end = 0
        self._poll = select.poll()
        self._poll.register(connected, select.POLLIN)
        self._give_s = connected.gettimeout() or NEVER_S
        self._look: Callable[[], None] | None = None
        self.is_used = False
        """Whether an answer has come over it before."""

    def is_quiet(self) -> bool:
        """Whether it may be used again: an idle connection on which something comes was closed by the server."""
        held_by_tls = self._socket.pending() if isinstance(self._socket, ssl.SSLSocket) else 0
        return not held_by_tls and not self._poll.poll(0)

    def close(self) -> None:
        """Ends it."""
        self._socket.close()

    def exchange(self, method: str, head: bytes, body: Buffer, look: Callable[[], None] | None = None) -> Answer:
        """Sends a request and reads the head of its answer. Raises Stale, Cut, Silent, Lost or Garbled.

        look: called now and then while nothing comes, also of the body; it raises when nobody waits for it any more.
        """
        self._look = look
        self._socket.settimeout(self._give_s)
        try:
            if len(body) <= JOINED:
                self._socket.sendall(head + body)
            else:
                self._socket.sendall(head)
                self._socket.sendall(body)
        except ConnectionError as error:
            return self._refusal(method, error)
        except OSError as error:  # above all TimeoutError
            raise Lost(str(error)) from error
        if look:
            self._socket.settimeout(min(LOOK_S, self._give_s))
        return self._answer(method)

    def _refusal(self, method: str, error: OSError) -> Answer:
        """What a server said before it stopped reading the request, such as that it may not be made."""
        try:
            answer = self._answer(method)
        except WireError:
            raise (Stale if self.is_used else Cut)(str(error)) from error
        answer.is_last = True
        return answer

    def _answer(self, method: str) -> Answer:
        for _ in range(INTERIM):
            lines = self._head().split("\r\n")
            status = _status(lines[0])
            if status >= 200:
                self.is_used = True
                return Answer(self, method, lines[0], status, _headers(lines))
        raise Garbled("nothing but interim answers")

    def _head(self) -> str:
        begun = self._start < self._end
        while (end := self._buffer.find(b"\r\n\r\n", self._start, self._end)) < 0:
            try:
                received = self._fill()
            except ConnectionError as error:
                raise (Lost if begun else Silent)(str(error)) from error
            if not received:
                raise (Lost if begun else Silent)("the connection was closed")
            begun = True
        head = str(self._view[self._start : end], "latin-1")
        if "\0" in head:
            raise Garbled("a head with a zero byte")
        self._start = end + 4
        return head

    def _fill(self) -> int:
        """Receives into the buffer; 0 at the end."""
        if self._start == self._end:
            self._start = self._end = 0
        elif self._end == HEAD_LIMIT:
            if self._start == 0:
                raise Garbled(f"a head of more than {HEAD_LIMIT} bytes")
            kept = bytes(self._view[self._start : self._end])
            self._view[: len(kept)] = kept
            self._start, self._end = 0, len(kept)
        count = self._receive(self._view[self._end :])
        self._end += count
        return count

    def _receive(self, into: memoryview) -> int:
        since = time.monotonic()
        while True:
            try:
                return self._socket.recv_into(into)
            except ConnectionError:
                raise
            except OSError as error:
                if not (isinstance(error, TimeoutError) and self._look and time.monotonic() - since < self._give_s):
                    raise Lost(str(error)) from error
                self._look()

    def read_into(self, into: memoryview) -> int:
        """Some of what comes next; 0 at the end. Raises Lost."""
        if (held := self._end - self._start) > 0:
            count = min(held, len(into))
            into[:count] = self._view[self._start : self._start + count]
            self._start += count
            return count
        try:
            return self._receive(into)
        except ConnectionError as error:
            raise Lost(str(error)) from error

    def read_line(self) -> bytes:
        """A line of a chunked body, without its end. Raises Lost or Garbled."""
        while (end := self._buffer.find(b"\r\n", self._start, self._end)) < 0:
            if self._end - self._start > LINE_LIMIT:
                raise Garbled("a chunk's line is too long")
            try:
                received = self._fill()
            except ConnectionError as error:
                raise Lost(str(error)) from error
            if not received:
                raise Lost("the connection was closed")
        line = bytes(self._view[self._start : end])
        self._start = end + 2
        return line

    @property
    def is_drained(self) -> bool:
        """Whether nothing is left of what was received."""
        return self._start == self._end


class Answer:
    """An answer's head, and its body as it comes. Close it when done: the connection may then be used again."""

    def __init__(self, connection: Connection, method: str, line: str, status: int, headers: dict[str, str]) -> None:
        self.status, self.headers = status, headers
        """Names in lower case; values as bytes (Latin-1), a name's several values joined by commas."""
        self.connection = connection
        self.is_last = not line.startswith("HTTP/1.1") or "close" in headers.get("connection", "").lower()
        """Whether the connection is of no use after it."""
        self._is_chunked = self._in_chunks = False
        self._left = self._framed(method)
        self.tells_end = self._is_chunked or self._left != sys.maxsize
        """Whether the server says where the body ends; else it ends with the connection, whatever ended that."""
        self.length = None if self._is_chunked or self._left == sys.maxsize else self._left
        """The body's size, where the server told it."""

    def _framed(self, method: str) -> int:
        """How many bytes the body has (RFC 9112, 6.3); for the first chunk of a chunked one, 0."""
        if method == "HEAD" or self.status in (204, 304):
            return 0
        if coding := self.headers.get("transfer-encoding"):
            if coding.lower() != "chunked":
                raise Garbled(f"transfer coding {coding}")
            self._is_chunked = self._in_chunks = True
            self.is_last = self.is_last or "content-length" in self.headers
            return 0
        told = self.headers.get("content-length")
        if told is None:
            self.is_last = True
            return sys.maxsize
        return _number(told)

    def readinto(self, into: memoryview) -> int:
        """Some of the body; 0 at its end. Raises Lost when it breaks off, Garbled."""
        if self._left == 0 and not (self._in_chunks and self._next_chunk()):
            return 0
        count = self.connection.read_into(into[: self._left])
        if count:
            self._left -= count
            if self._is_chunked and self._left == 0 and self.connection.read_line():
                raise Garbled("a chunk does not end where it should")
            return count
        if self.length is None and not self._is_chunked:
            self._left = 0
            return 0
        raise Lost(f"the answer ended {self._left} bytes early")

    def _next_chunk(self) -> bool:
        """Reads the next chunk's size; False at the last, whose trailers are passed over."""
        self._left = _number(self.connection.read_line().partition(b";")[0].strip().decode("latin-1"), 16)
        if self._left == 0:
            self._in_chunks = False
            while self.connection.read_line():
                pass
        return self._left > 0

    def read(self, limit: int) -> bytes:
        """The whole body. Raises Lost when it breaks off, Garbled when it has more than `limit` bytes."""
        if self._left == 0 and not self._in_chunks:
            return b""
        body, view = bytearray(), memoryview(bytearray(min(limit, self.length or HEAD_LIMIT) + 1))
        while count := self.readinto(view):
            body += view[:count]
            if len(body) > limit:
                raise Garbled(f"a body of more than {limit} bytes")
        return bytes(body)

    @property
    def is_complete(self) -> bool:
        """Whether the connection stands at the end of the answer and may be used again."""
        return self._left == 0 and not self._in_chunks and not self.is_last and self.connection.is_drained


def _status(line: str) -> int:
    code = line[9:12]
    if not line.startswith("HTTP/1.") or line[8:9] != " " or not (code.isascii() and code.isdigit()) or code < "100":
        raise Garbled("no status line")
    return int(code)


def _headers(lines: list[str]) -> dict[str, str]:
    headers: dict[str, str] = {}
    for line in lines[1:]:
        name, colon, value = line.partition(":")
        if not colon or not name or " " in name:
            raise Garbled("a line that is no header")
        name, value = name.lower(), value.strip(" \t")
        headers[name] = f"{headers[name]}, {value}" if name in headers else value
    return headers


def _number(text: str, base: int = 10) -> int:
    digits = "0123456789abcdefABCDEF" if base == 16 else "0123456789"
    if not 0 < len(text) <= 16 or text.strip(digits):
        raise Garbled(f"{text[:20]!r} is no size")
    return int(text, base)
