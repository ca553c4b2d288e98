"""A store behind HTTP: each request may be slow, refused, broken off or answered by nobody, as its seed says."""

from __future__ import annotations

import random
import socket
import threading
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

from tests.simulation.clock import Clock
from tests.simulation.store import Asked, Refused, Reply, Store, asked, http


@dataclass
class Faults:
    """How often what goes wrong, as probabilities a request; a request's fate depends on the seed and itself alone."""

    seed: int = 0
    throttled: float = 0.0
    failed: float = 0.0
    dropped_before: float = 0.0
    dropped_after: float = 0.0
    error_in_200: float = 0.0
    slow: float = 0.0
    """Takes 5 to 45 s."""


@dataclass
class Site:
    """One simulated site; `endpoint_url` answers while it runs."""

    name: str
    clock: Clock
    store: Store = field(init=False)
    faults: Faults = field(default_factory=Faults)
    is_down: bool = False
    on_request: Callable[[Site, Asked], bool] = lambda *_: True
    """Called before each request; whether anybody asks: a dead worker's request never was."""
    tell: Callable[[str], None] = lambda _: None
    """Told of each request and what came of it."""
    requests: int = 0

    def __post_init__(self) -> None:
        self.reset()
        self._server = ThreadingHTTPServer(("127.0.0.1", 0), self._handler())
        self._server.daemon_threads = True
        self.endpoint_url = f"http://127.0.0.1:{self._server.server_port}"
        threading.Thread(target=self._server.serve_forever, daemon=True, name=f"site {self.name}").start()

    def reset(self, faults: Faults | None = None) -> None:
        """An empty store with these faults."""
        self.store = Store(lambda: self.clock.now)
        self.faults, self.is_down, self.requests = faults or Faults(), False, 0
        self.on_request = lambda *_: True
        self._lock = threading.RLock()
        self._seen: Counter[tuple[str, str]] = Counter()

    def close(self) -> None:
        """Ends the server."""
        self._server.shutdown()
        self._server.server_close()

    def answer(self, request: Asked) -> Reply | None:
        """What the client gets; None: the connection breaks."""
        with self._lock:
            if not self.on_request(self, request):
                return None
            reply = self._answer(request)
            etag = self.store.objects[request.key].etag[:6] if request.key in self.store.objects else "nothing"
            query = "&".join(request.query)
            told = reply.status if reply else "broken off"
            self.tell(f"{self.name} {request.method} {request.key} {query}: {told}, then {etag}")
            return reply

    def _answer(self, request: Asked) -> Reply | None:
        chance = self._chance(request)
        if self.is_down or chance.random() < self.faults.dropped_before:
            return None
        is_slow = chance.random() < self.faults.slow
        self.clock.pass_s(chance.uniform(5, 45) if is_slow else chance.uniform(0.01, 0.1))
        if chance.random() < self.faults.throttled:
            retry_after = chance.choice([{}, {"retry-after": str(chance.randrange(1, 30))}])
            return Refused(503, "SlowDown", **retry_after).reply
        if chance.random() < self.faults.failed:
            return Refused(500, "InternalError").reply
        if request.method == "POST" and chance.random() < self.faults.error_in_200:
            return Reply(200, Refused(500, "InternalError").reply.body)
        reply = self.store.answer(request)
        return None if chance.random() < self.faults.dropped_after else reply

    def _chance(self, request: Asked) -> random.Random:
        name = (request.method, f"{request.key}?{sorted(set(request.query) - {'uploadId'})}")
        self._seen[name] += 1
        self.requests += 1
        return random.Random(f"{self.faults.seed} {self.name} {name} {self._seen[name]}")

    def _handler(self) -> type[BaseHTTPRequestHandler]:
        site = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"
            disable_nagle_algorithm = True
            wbufsize = -1

            def handle_any(self) -> None:
                body = self.rfile.read(int(self.headers.get("content-length") or 0))
                headers = {name.lower(): value for name, value in self.headers.items()}
                reply = site.answer(asked(self.command, self.path, headers, body))
                if reply is None:
                    self.close_connection = True
                    self.connection.shutdown(socket.SHUT_RDWR)
                    return
                self.send_response_only(reply.status)
                for name, value in {**reply.headers, "date": http(site.clock.now)}.items():
                    self.send_header(name, value)
                self.send_header("content-length", str(len(reply.body)))
                self.send_header("connection", "close")  # whether one is idle hangs on the hours before
                self.end_headers()
                if self.command != "HEAD":
                    self.wfile.write(reply.body)
                self.wfile.flush()

            def handle_expect_100(self) -> bool:
                going_on = super().handle_expect_100()
                self.wfile.flush()
                return going_on

            do_GET = do_HEAD = do_PUT = do_POST = do_DELETE = handle_any

            def log_message(self, *_: object) -> None:
                pass

        return Handler
