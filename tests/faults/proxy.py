"""A fault proxy before an S3 site: passes HTTP on as it is, harms what its rules choose, and logs every request.

Requests reach the server with the Host that the client has signed. The site is registered at the proxy's address.
"""

from __future__ import annotations

import asyncio
import re
import socket
import struct
import threading
import time
from asyncio import StreamReader, StreamWriter
from collections.abc import AsyncIterator, Iterable
from contextlib import suppress
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from email.utils import format_datetime, parsedate_to_datetime
from typing import Self
from urllib.parse import urlsplit

from app.devstack.ports import HOST, Ports
from app.devstack.seaweed import RunningSite
from tests.faults import wire
from tests.faults.rules import IN_PLACE, Fault, Harm, Rule, Rules
from tests.faults.wire import Asked, BrokenOff, Head

EARLY = (
    b"HTTP/1.1 400 Bad Request\r\nContent-Type: application/xml\r\nContent-Length: 44\r\nConnection: close\r\n\r\n"
    b"<Error><Code>EntityTooLarge</Code> </Error>\n"
)
CONTENTS = re.compile(rb"<Contents>.*?</Contents>", re.DOTALL)
DATES = re.compile(rb"<LastModified>([^<]+)</LastModified>")


@dataclass
class Exchange:
    """One request as it went; status None: the client got no answer."""

    operation: str
    key: str
    part: int | None
    at: float
    injected: tuple[str, ...] = ()
    status: int | None = None
    sent: int = 0
    """Bytes of the request's body, as far as they reached the proxy."""
    received: int = 0
    """Bytes of the answer's body that were passed on."""
    line: str = ""
    """The request's first line."""


@dataclass
class Proxy:
    """A context manager: serves from a thread of its own between entering and leaving."""

    behind: RunningSite
    seed: int = 0
    clock_offset: timedelta = timedelta()
    """How far the server's clock seems to be ahead: every date that it tells is that much later."""
    log: list[Exchange] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.port = Ports().choose()
        self.rules = Rules(self.seed)
        parts = urlsplit(self.behind.endpoint_url)
        self._server_at = (parts.hostname or HOST, parts.port or 80)
        self._loop = asyncio.new_event_loop()
        self._open: set[asyncio.Task[None]] = set()

    @property
    def site(self) -> RunningSite:
        """The site as it is to be registered."""
        return replace(self.behind, endpoint_url=f"http://{HOST}:{self.port}")

    def harm(self, *rules: Rule) -> None:
        """From now on exactly these rules hold."""
        self.rules.set(rules)

    def asked(self, operation: str, name: str = "") -> list[Exchange]:
        """The requests so far for an operation, of keys that hold `name`."""
        return [one for one in list(self.log) if one.operation == operation and name in one.key]

    def injected(self, fault: Fault) -> list[Exchange]:
        """The requests so far that met a fault."""
        return [one for one in list(self.log) if fault in one.injected]

    def __enter__(self) -> Self:
        self._server = self._loop.run_until_complete(
            asyncio.start_server(self._accept, HOST, self.port, limit=wire.HEAD_LIMIT)
        )
        self._thread = threading.Thread(target=self._loop.run_forever, daemon=True, name=f"proxy {self.behind.name}")
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        asyncio.run_coroutine_threadsafe(self._stop(), self._loop).result(10)
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()
        self._loop.close()

    async def _stop(self) -> None:
        self._server.close()
        for task in list(self._open):
            task.cancel()
        await asyncio.gather(*self._open, return_exceptions=True)
        await self._loop.shutdown_default_executor()

    async def _accept(self, reader: StreamReader, writer: StreamWriter) -> None:
        task = asyncio.current_task()
        self._open.add(task)
        try:
            await _Connection(self, reader, writer, self._server_at).serve()
        except (BrokenOff, ConnectionError, asyncio.CancelledError):
            _reset(writer)
        finally:
            self._open.discard(task)


@dataclass
class _Connection:
    """One client's connection and the one to the server that goes with it."""

    proxy: Proxy
    reader: StreamReader
    writer: StreamWriter
    server_at: tuple[str, int]
    upstream: tuple[StreamReader, StreamWriter] | None = None

    async def serve(self) -> None:
        try:
            while head := await self._next():
                asked = wire.asked(head)
                harms = self.proxy.rules.choose(asked)
                faults = tuple(str(harm.rule.fault) for harm in harms)
                exchange = Exchange(asked.operation, asked.key, asked.part, time.monotonic(), faults, line=head.line)
                self.proxy.log.append(exchange)
                if not await self._exchange(asked, {harm.rule.fault: harm for harm in harms}, exchange):
                    break
            self.writer.close()
        finally:
            if self.upstream:
                self.upstream[1].close()

    async def _next(self) -> Head | None:
        try:
            return await wire.read_head(self.reader)
        except BrokenOff:
            return None

    async def _exchange(self, asked: Asked, harms: dict[Fault, Harm], exchange: Exchange) -> bool:
        """Sees to one request; returns whether the connection goes on."""
        if late := harms.get(Fault.LATENCY):
            await asyncio.sleep(late.rule.value)
        await self._act(harms.get(Fault.BEFORE))
        if Fault.RESET in harms:
            raise BrokenOff
        if Fault.EARLY in harms:
            self.writer.write(EARLY)
            await self.writer.drain()
            raise BrokenOff
        if Fault.HALF_OPEN in harms:
            while await self.reader.read(wire.PIECE):
                pass  # until the client gives up
            return False
        for fault, answer in IN_PLACE.items():
            if harm := harms.get(fault):
                await self._answer(asked, harm.rule, *answer, exchange)
                return False
        return await self._pass_on(asked, harms, exchange)

    async def _act(self, harm: Harm | None) -> None:
        if harm and harm.rule.act:
            await asyncio.get_running_loop().run_in_executor(None, harm.rule.act)

    async def _answer(self, asked: Asked, rule: Rule, status: int, code: str, exchange: Exchange) -> None:
        """Answers in the server's place."""
        if not asked.awaits_continue:
            async for piece in wire.body(self.reader, asked.head, is_answer=False):
                exchange.sent += len(piece)
        body = f'<?xml version="1.0"?>\n<Error><Code>{code}</Code><Message>injected</Message></Error>'.encode()
        fields = [("Content-Type", "application/xml"), ("Content-Length", str(len(body))), ("Connection", "close")]
        if rule.fault is Fault.SLOW_DOWN:
            fields.append(("Retry-After", f"{rule.value:g}"))
        if rule.where:
            fields.append(("Location", rule.where))
        exchange.status = status
        head = Head(f"HTTP/1.1 {status} Injected", tuple(fields))
        self.writer.write(head.as_bytes() + (b"" if asked.method == "HEAD" else body))
        await self.writer.drain()

    async def _pass_on(self, asked: Asked, harms: dict[Fault, Harm], exchange: Exchange) -> bool:
        reader, writer = await self._connected()
        pace = _Pace(harms[Fault.BANDWIDTH].rule.value) if Fault.BANDWIDTH in harms else None
        writer.write(asked.head.as_bytes())
        sending = asyncio.create_task(self._send(asked, writer, harms.get(Fault.SPOILT), pace, exchange))
        try:
            head = await wire.read_head(reader)
            while head.status < 200:
                self.writer.write(head.as_bytes())
                head = await wire.read_head(reader)
            answer = _Answer(asked.method, head, wire.body(reader, head, is_answer=True))
            if self.proxy.clock_offset:
                answer = await answer.with_clock(self.proxy.clock_offset)
            if hidden := harms.get(Fault.UNLISTED):
                answer = await answer.without(hidden.rule.where.encode())
            if Fault.DROPPED in harms:
                async for _ in answer.body:
                    pass
            await self._act(harms.get(Fault.AFTER))
            if Fault.DROPPED in harms:
                raise BrokenOff
            exchange.status = head.status
            given = await self._give(answer, harms, pace, exchange)
            refused = asked.awaits_continue and not sending.done()  # the body will never come
            if not given or refused or (head.get("connection") or "").lower() == "close":
                return False
            await sending
            return True
        finally:
            sending.cancel()

    async def _connected(self) -> tuple[StreamReader, StreamWriter]:
        if self.upstream is None or self.upstream[0].at_eof():
            self.upstream = await asyncio.open_connection(*self.server_at, limit=wire.HEAD_LIMIT)
        return self.upstream

    async def _send(
        self, asked: Asked, writer: StreamWriter, spoilt: Harm | None, pace: _Pace | None, exchange: Exchange
    ) -> None:
        bit = spoilt.chance.randrange((asked.head.length or 0) * 8) if spoilt and asked.head.length else None
        try:
            async for piece in wire.body(self.reader, asked.head, is_answer=False):
                piece = _turned(piece, exchange.sent, bit)
                exchange.sent += len(piece)
                if pace:
                    await pace.of(len(piece))
                with suppress(ConnectionError):  # the server may answer before it has read all
                    writer.write(piece)
                    await writer.drain()
        except ConnectionError:  # the client is gone
            writer.transport.abort()

    async def _give(self, answer: _Answer, harms: dict[Fault, Harm], pace: _Pace | None, exchange: Exchange) -> bool:
        """Passes an answer on, its body harmed as the rules say; returns whether all of it."""
        length, spoilt = answer.head.length or 0, answer.has_body and (answer.head.length or 0) > 0
        flip = harms[Fault.FLIPPED].chance.randrange(length * 8) if spoilt and Fault.FLIPPED in harms else None
        end = harms[Fault.TRUNCATED].chance.randrange(length) if spoilt and Fault.TRUNCATED in harms else None
        is_unframed = answer.has_body and Fault.UNFRAMED in harms
        self.writer.write((_unframed(answer.head) if is_unframed else answer.head).as_bytes())
        async for piece in answer.body:
            piece = _turned(piece, exchange.received, flip)
            if end is not None and exchange.received + len(piece) > end:
                self.writer.write(piece[: end - exchange.received])
                await self.writer.drain()
                return False
            exchange.received += len(piece)
            if pace:
                await pace.of(len(piece))
            self.writer.write(piece)
            await self.writer.drain()
        await self.writer.drain()
        return not is_unframed


@dataclass
class _Answer:
    """A server's answer on its way to the client."""

    method: str
    head: Head
    pieces: AsyncIterator[bytes]

    @property
    def has_body(self) -> bool:
        return wire.has_body(self.method, self.head)

    @property
    def body(self) -> AsyncIterator[bytes]:
        return self.pieces if self.has_body else _nothing()

    async def with_clock(self, offset: timedelta) -> _Answer:
        """The same from a server whose clock is that much ahead: its headers' dates and those in a listing."""
        head = self.head
        for name in ("date", "last-modified"):
            if told := head.get(name):
                head = head.with_field(name, format_datetime(parsedate_to_datetime(told) + offset, usegmt=True))
        if not self.has_body or "xml" not in (head.get("content-type") or "") or head.length is None:
            return replace(self, head=head)
        whole = b"".join([piece async for piece in self.pieces])

        def later(found: re.Match[bytes]) -> bytes:
            told = datetime.fromisoformat(found[1].decode().replace("Z", "+00:00")) + offset
            return b"<LastModified>" + told.isoformat().replace("+00:00", "Z").encode() + b"</LastModified>"

        return self._of(DATES.sub(later, whole), head)

    async def without(self, name: bytes) -> _Answer:
        """The same listing, but for the keys that hold the name."""
        whole = b"".join([piece async for piece in self.pieces])
        return self._of(CONTENTS.sub(lambda found: b"" if name in found[0] else found[0], whole), self.head)

    def _of(self, whole: bytes, head: Head) -> _Answer:
        return _Answer(self.method, head.with_field("content-length", str(len(whole))), _only(whole))


@dataclass
class _Pace:
    """Lets bytes pass at a rate."""

    rate: float
    begun: float = field(default_factory=time.monotonic)
    passed: int = 0

    async def of(self, size: int) -> None:
        self.passed += size
        await asyncio.sleep(max(0.0, self.begun + self.passed / self.rate - time.monotonic()))


def _unframed(head: Head) -> Head:
    """A head that does not tell how long the body is; for a body that is not in chunks."""
    return Head(head.line, tuple(field for field in head.fields if field[0].lower() != "content-length"))


async def _nothing() -> AsyncIterator[bytes]:
    return
    yield b""


async def _only(whole: bytes) -> AsyncIterator[bytes]:
    yield whole


def _turned(piece: bytes, before: int, bit: int | None) -> bytes:
    """A piece of a body, of which `before` bytes have passed, with that bit of the body turned if it lies in it."""
    if bit is None or not before <= bit // 8 < before + len(piece):
        return piece
    changed = bytearray(piece)
    changed[bit // 8 - before] ^= 1 << bit % 8
    return bytes(changed)


def _reset(writer: StreamWriter) -> None:
    """Ends a connection so that the other side sees it broken off, not ended in order."""
    found: socket.socket | None = writer.get_extra_info("socket")
    if found is not None and found.fileno() >= 0:
        found.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    writer.transport.abort()


def proxied(sites: Iterable[RunningSite], seed: int = 0) -> dict[str, Proxy]:
    """A proxy, not started yet, before each site, by the site's name."""
    return {site.name: Proxy(site, seed) for site in sites}
