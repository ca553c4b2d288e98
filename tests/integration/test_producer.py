"""The SDK's producer and its spool at unlucky moments: replies that are none, forks, a spool that others touched."""

from __future__ import annotations

import json
import os
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest

from app.client import Client
from app.errors import Conflict, Forbidden, ForetideError, Invalid, Overloaded
from app.spool import Spool

AWAY = "http://127.0.0.1:9"


class Answering(ThreadingHTTPServer):
    """Answers with each of `replies` once, then as the API does; `taken` counts the latter."""

    replies: list[tuple[int, bytes]]
    taken = 0


class Handler(BaseHTTPRequestHandler):
    server: Answering

    def do_POST(self) -> None:
        self.rfile.read(int(self.headers["Content-Length"]))
        if self.server.replies:
            status, body = self.server.replies.pop(0)
        else:
            self.server.taken += 1
            status, body = 200, json.dumps({"first_offset": 0, "errors": []}).encode()
        self.send_response(status)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_: Any) -> None:
        """Nothing."""


@pytest.fixture
def answering() -> Iterator[Answering]:
    with Answering(("127.0.0.1", 0), Handler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield server
        server.shutdown()


def test_events_outlive_replies_that_are_no_answer(answering: Answering):
    answering.replies = [(500, b"<html>"), (200, b"<html>"), (200, b"[]"), (500, b"{}")]
    url = f"http://127.0.0.1:{answering.server_port}"
    with Client(url, "t") as client, client.producer("user", retry_cap_s=0.01) as producer:
        producer.send({"number": 1})
        assert producer.flush(10)
        assert (producer.stats.delivered, producer.stats.retries, answering.taken) == (1, 4, 1)


def test_what_is_sent_while_it_is_closed_is_told_of():
    with Client(AWAY, "t") as client:
        producer = client.producer("user", batch_events=7)
        told: list[object] = []
        begun = threading.Event()

        def send() -> None:
            try:
                while True:
                    producer.send({"number": 1}, told.append)
                    begun.set()
            except Overloaded:
                return

        threads = [threading.Thread(target=send) for _ in range(2)]
        for thread in threads:
            thread.start()
        begun.wait(10)
        producer.close(0.05)
        for thread in threads:
            thread.join(10)
        stats = producer.stats
        assert (stats.waiting, stats.waiting_bytes) == (0, 0)
        assert stats.failed == stats.sent == len(told) > 0
        producer.close()


def test_an_event_larger_than_the_buffer_is_refused_rather_than_awaited():
    with Client(AWAY, "t") as client:
        producer = client.producer("user", buffer_bytes=100)
        with pytest.raises(Invalid, match="more than the buffer"):
            producer.send({"text": "x" * 100})


def test_a_forked_process_takes_nothing_that_nobody_would_deliver(answering: Answering, tmp_path: Path):
    answering.replies = []
    with Client(f"http://127.0.0.1:{answering.server_port}", "t") as client:
        producer = client.producer("user", spool=tmp_path / "spool", linger_s=60)
        producer.send({"number": 1})
        child = os.fork()
        if not child:
            try:
                producer.send({"number": 2})
            except Invalid:
                os._exit(0 if producer.close() is False else 2)
            os._exit(1)
        assert os.waitpid(child, 0)[1] == 0
        assert producer.close()
        assert (producer.stats.delivered, answering.taken) == (1, 1)


def test_a_spool_s_events_go_to_no_other_topic(tmp_path: Path):
    with Client(AWAY, "t") as client:
        producer = client.producer("user", spool=tmp_path)
        producer.send({"number": 1})
        assert not producer.close(0)
        with pytest.raises(Conflict, match="events of topic user"):
            client.producer("errors", spool=tmp_path)
        again = client.producer("user", spool=tmp_path)
        assert again.stats.waiting == 1
        again.close(0)


def test_a_spool_s_file_that_was_taken_away_stops_nobody(answering: Answering, tmp_path: Path):
    answering.replies = [(503, b"{}")]
    told: list[BaseException | None] = []
    url = f"http://127.0.0.1:{answering.server_port}"
    with Client(url, "t") as client, client.producer("user", spool=tmp_path, linger_s=60) as producer:
        producer.send({"number": 1}, lambda future: told.append(future.exception()))
        (file,) = tmp_path.glob("*.ndjson")
        file.unlink()
        assert producer.flush(10)
        producer.send({"number": 2})
        assert producer.flush(10)
        assert (producer.stats.failed, producer.stats.delivered) == (1, 1)
    assert isinstance(told[0], ForetideError)


def test_an_event_that_the_disk_takes_in_part_spoils_no_other(tmp_path: Path):
    import resource
    import signal

    spool = Spool(tmp_path, "user")
    spool.append("k", b'{"number":1}')
    before, limits = signal.signal(signal.SIGXFSZ, signal.SIG_IGN), resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (20, limits[1]))
    try:
        with pytest.raises(Overloaded, match="takes no more"):
            spool.append("k", b'{"number":"2222222222"}')
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
        signal.signal(signal.SIGXFSZ, before)
    spool.append("k", b'{"number":3}')
    assert spool.read("k").split(b"\n") == [b'{"number":1}', b'{"number":3}']
    spool.close()


def test_a_consumer_goes_on_after_replies_that_are_no_answer(answering: Answering):
    answering.replies = [(500, b"<html>"), (500, b"{}"), (403, b"{}")]
    with Client(f"http://127.0.0.1:{answering.server_port}", "t") as client, pytest.raises(Forbidden):
        client.consumer("mine", ["user"], print).run()
    assert not answering.replies
