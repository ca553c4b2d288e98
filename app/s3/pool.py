"""Connections to one endpoint: its host resolved once, the address checked, that address connected to, TLS verified.

Idle ones are kept for the next request. Proxies of the environment are not asked.
"""

from __future__ import annotations

import os
import socket
import ssl
import time
from collections import deque
from functools import lru_cache
from pathlib import Path
from urllib.parse import urlsplit

import botocore

from app.domain.sites import Networks, check_addresses
from app.s3.wire import Answer, Connection, Unsent

IDLE_S = 60.0
"""An idle connection that is older may have been forgotten on its way without a word."""


class Pool:
    """Hands out connections; as many are open as requests are under way, `keep` of them stay when these end."""

    def __init__(self, endpoint_url: str, networks: Networks, *, connect_s: float, read_s: float, keep: int) -> None:
        """connect_s, read_s: seconds given to connect, and to the server for each read."""
        parts = urlsplit(endpoint_url)
        self._host, self._networks = parts.hostname or "", networks
        self._is_tls = parts.scheme == "https"
        self._port = parts.port or (443 if self._is_tls else 80)
        self._connect_s, self._read_s, self._keep = connect_s, read_s, keep
        self._idle: deque[tuple[Connection, float]] = deque()
        self._process = os.getpid()

    def take(self, *, fresh: bool = False) -> Connection:
        """A connection, an idle one unless it must be fresh. Raises Unsent, or PolicyForbids for an address."""
        if self._process != os.getpid():  # a fork's connections are its parent's
            self._idle, self._process = deque(), os.getpid()
        while self._idle and not fresh:
            try:
                connection, since = self._idle.pop()
            except IndexError:  # another thread was faster
                break
            if time.monotonic() - since < IDLE_S and connection.is_quiet():
                return connection
            connection.close()
        return Connection(self._secured(self._connected()))

    def give(self, answer: Answer) -> None:
        """Takes back the connection over which an answer came."""
        if answer.is_complete and len(self._idle) < self._keep:
            self._idle.append((answer.connection, time.monotonic()))
        else:
            answer.connection.close()

    def _connected(self) -> socket.socket:
        try:
            found = socket.getaddrinfo(self._host, self._port, type=socket.SOCK_STREAM)
        except (OSError, UnicodeError) as error:
            raise Unsent(f"the host cannot be resolved: {error}") from error
        check_addresses(self._host, [str(entry[4][0]) for entry in found], self._networks)
        failed: OSError | None = None
        for family, kind, protocol, _, address in found:
            made = socket.socket(family, kind, protocol)
            try:
                made.settimeout(self._connect_s)
                made.connect(address)
                made.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            except OSError as error:
                made.close()
                failed = error
            else:
                return made
        raise Unsent(str(failed)) from failed

    def _secured(self, connected: socket.socket) -> socket.socket:
        try:
            if self._is_tls:
                connected = trusted().wrap_socket(connected, server_hostname=self._host)
            connected.settimeout(self._read_s)
        except OSError as error:
            connected.close()
            raise Unsent(str(error)) from error
        return connected


@lru_cache(maxsize=1)
def trusted() -> ssl.SSLContext:
    """TLS as this machine trusts it, and as botocore does: a machine may have no certificates of its own."""
    context = ssl.create_default_context()
    context.load_verify_locations(Path(str(botocore.__file__)).with_name("cacert.pem"))
    return context
