"""What a server may do to the wire: cut off, chunked, garbled, closed, slow, redirecting. None is a stack trace."""

import gzip
import hashlib
import os
import queue
import socket
import ssl
import threading
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec

from app.domain.faults import FaultKind
from app.domain.sites import SiteAddress, parse_networks
from app.errors import (
    AccessDenied,
    ChecksumMismatch,
    ObjectMissing,
    Permanent,
    SiteFaulty,
    SiteUnavailable,
    Throttled,
    UnknownOutcome,
)
from app.s3 import evidence, multipart, objects, pool
from app.s3.client import connect
from app.s3.faults import FAULTS, Fault
from app.s3.gate import GATES
from app.s3.objects import Carried, Target

BODY = b"0123456789"
OBJECT = (
    b'HTTP/1.1 200 OK\r\nETag: "abc"\r\nLast-Modified: Fri, 01 May 2026 12:00:00 GMT\r\nContent-Type: text/plain\r\n'
)
WHOLE = OBJECT + b"Content-Length: 10\r\n\r\n" + BODY
DONE = b'HTTP/1.1 200 OK\r\nContent-Length: 0\r\nETag: "p"\r\n\r\n'
TARGET = Target("key", "STANDARD", "test.1", conditional=False)
SILENCE = None


class Server:
    """Answers each request with what it was told, byte for byte, and then closes the connection if it was told so."""

    def __init__(self, tls=None):
        self.answers, self.requests = queue.SimpleQueue(), []
        self.connections, self.ended = 0, queue.SimpleQueue()
        self._tls = tls
        self._listening = socket.create_server(("127.0.0.1", 0))
        self.port = self._listening.getsockname()[1]
        self._open = []
        threading.Thread(target=self._accept, daemon=True).start()

    def will(self, answer, *, close=False):
        self.answers.put((answer, close))

    def close(self):
        self._listening.close()
        for connection in self._open:
            connection.close()

    def _accept(self):
        while True:
            try:
                connection, _ = self._listening.accept()
            except OSError:
                return
            self.connections += 1
            self._open.append(connection)
            threading.Thread(target=self._serve, args=(connection,), daemon=True).start()

    def _serve(self, connection):
        try:
            if self._tls:
                connection = self._tls.wrap_socket(connection, server_side=True)
            stream = connection.makefile("rb")
            while request := self._request(stream):
                self.requests.append(request)
                answer, close = self.answers.get()
                if answer is not SILENCE:
                    connection.sendall(answer)
                if close:
                    connection.shutdown(socket.SHUT_RDWR)
                    self.ended.put(True)
                    return
        except OSError:
            return

    def _request(self, stream):
        lines = []
        while (line := stream.readline()) not in (b"\r\n", b""):
            lines.append(line.decode("latin-1").rstrip("\r\n"))
        if not lines:
            return None
        headers = dict(line.split(": ", 1) for line in lines[1:])
        return lines[0], headers, stream.read(int(headers.get("content-length", 0)))


@pytest.fixture
def server():
    made = Server()
    yield made
    made.close()


@pytest.fixture
def bucket(server, configure):
    configure(s3_read_timeout_s=0.5)
    return connect(address_of(server))


def address_of(server, scheme="http"):
    networks = parse_networks("127.0.0.0/8")
    return SiteAddress(f"wire-{server.port}", f"{scheme}://127.0.0.1:{server.port}", "r", "b", "a", "s", networks)


def put(bucket, body=BODY):
    objects.put(bucket, TARGET, body, hashlib.sha256(body).hexdigest(), Carried())


# -- bodies -----------------------------------------------------------------------------------------------------------


def test_a_whole_answer_is_read_with_its_head(bucket, server):
    server.will(WHOLE)
    head, body = objects.fetch(bucket, "key", 10)
    assert (bytes(body), head.pin.etag, head.pin.size) == (BODY, "abc", 10)
    assert head.carried.headers == {"content_type": "text/plain"}


def test_a_larger_body_than_wanted_is_not_read(bucket, server):
    server.will(WHOLE)
    server.will(DONE)
    head, body = objects.fetch(bucket, "key", 9)
    assert (body, head.pin.size) == (None, 10)
    put(bucket)
    assert server.connections == 2


@pytest.mark.parametrize(
    "chunks",
    [
        b"a\r\n0123456789\r\n0\r\n\r\n",
        b"3\r\n012\r\n7;name=value\r\n3456789\r\n0\r\nTrailer: x\r\nOther: y\r\n\r\n",
        b"00A\r\n0123456789\r\n0\r\n\r\n",
    ],
)
def test_a_body_in_chunks_is_read_and_the_connection_used_again(bucket, server, chunks):
    server.will(OBJECT + b"Transfer-Encoding: chunked\r\n\r\n" + chunks)
    server.will(WHOLE)
    for _ in range(2):
        head, body = objects.fetch(bucket, "key", 100)
        assert (bytes(body), head.pin.size) == (BODY, 10)
    assert server.connections == 1


def test_a_body_that_ends_with_the_connection_is_read(bucket, server):
    for size in (b"10", b"11"):
        server.will(OBJECT + b"Connection: close\r\n\r\n" + BODY, close=True)
        server.will(OBJECT + b"Connection: close\r\nContent-Length: " + size + b"\r\n\r\n", close=True)  # of a HEAD
    assert bytes(objects.fetch(bucket, "key", 100)[1]) == BODY
    with pytest.raises(SiteFaulty):
        objects.fetch(bucket, "key", 100)


@pytest.mark.parametrize(
    "cut",
    [
        OBJECT + b"Content-Length: 10\r\n\r\n01234",
        OBJECT + b"Transfer-Encoding: chunked\r\n\r\na\r\n01234",
        OBJECT + b"Transfer-Encoding: chunked\r\n\r\na\r\n0123456789\r\n",
        OBJECT + b"Content-Len",
        b"",
    ],
)
def test_an_answer_that_breaks_off_is_noticed(bucket, server, cut):
    for _ in range(2):  # a connection that was closed before the answer is tried once more, if it had been used
        server.will(cut, close=True)
    with pytest.raises(SiteUnavailable):
        objects.fetch(bucket, "key", 100)


@pytest.mark.parametrize(
    "garbage",
    [
        b"\x00\xff\xfe not HTTP at all\r\n\r\n",
        b"HTTP/1.1 OK\r\n\r\n",
        b"HTTP/1.1 999999\r\n\r\nx" + b"a" * 40_000,
        b"HTTP/1.1 200 OK\r\nno colon\r\n\r\n",
        b"HTTP/1.1 200 OK\r\n folded: x\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nX: " + b"a" * 40_000 + b"\r\n\r\n",
        OBJECT + b"Content-Length: 10\r\nContent-Length: 11\r\n\r\n" + BODY,
        OBJECT + b"Content-Length: -1\r\n\r\n",
        OBJECT + "Content-Length: ²\r\n\r\n".encode("latin-1"),
        OBJECT + b"Transfer-Encoding: gzip\r\n\r\n",
        OBJECT + b"Transfer-Encoding: chunked\r\n\r\nxyz\r\n",
        OBJECT + b"Transfer-Encoding: chunked\r\n\r\n-1\r\n",
        OBJECT + b"Transfer-Encoding: chunked\r\n\r\n" + b"1" * 4000,
        OBJECT + b"Transfer-Encoding: chunked\r\n\r\n1\r\n0123\r\n",
        b"HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\n" + BODY,
        b"HTTP/1.1 200 OK\r\nETag: x\r\nLast-Modified: soon\r\nContent-Length: 10\r\n\r\n" + BODY,
        b"HTTP/1.1 100 Continue\r\n\r\n" * 20,
    ],
)
def test_garbage_is_a_fault_of_the_site(bucket, server, garbage):
    server.will(garbage)
    with pytest.raises(SiteFaulty):
        objects.fetch(bucket, "key", 100)


def test_garbage_after_a_write_leaves_its_outcome_unknown(bucket, server):
    server.will(b"\x00\xff\r\n\r\n")
    with pytest.raises(UnknownOutcome):
        put(bucket)


def test_content_stays_encoded(bucket, server):
    packed = gzip.compress(BODY)
    server.will(OBJECT + b"Content-Encoding: gzip\r\nContent-Length: %d\r\n\r\n" % len(packed) + packed)
    head, body = objects.fetch(bucket, "key", 100)
    assert (bytes(body), head.carried.headers["content_encoding"]) == (packed, "gzip")
    assert server.requests[0][1]["accept-encoding"] == "identity"


# -- connections ------------------------------------------------------------------------------------------------------


def test_a_connection_is_used_again_unless_the_server_ends_it(bucket, server):
    for _ in range(3):
        server.will(DONE)
        put(bucket)
    assert server.connections == 1
    server.will(DONE.replace(b"\r\n\r\n", b"\r\nConnection: close\r\n\r\n"))
    server.will(DONE)
    put(bucket)
    put(bucket)
    assert server.connections == 2


def test_a_stale_connection_is_replaced_for_a_read_but_not_for_a_write(bucket, server):
    server.will(WHOLE)
    objects.fetch(bucket, "key", 100)
    server.will(b"", close=True)
    server.will(WHOLE)
    assert bytes(objects.fetch(bucket, "key", 100)[1]) == BODY
    assert len(server.requests) == 3
    server.will(b"", close=True)
    with pytest.raises(UnknownOutcome):
        put(bucket)
    assert len(server.requests) == 4


def test_a_connection_that_was_closed_while_idle_is_not_used_for_a_write(bucket, server):
    server.will(WHOLE, close=True)
    objects.fetch(bucket, "key", 100)
    server.ended.get(timeout=5)
    server.will(DONE)
    put(bucket)
    assert (len(server.requests), server.connections) == (2, 2)


def test_a_new_connection_that_stays_silent_is_not_tried_again(bucket, server):
    server.will(b"", close=True)
    with pytest.raises(SiteUnavailable):
        objects.fetch(bucket, "key", 100)
    assert len(server.requests) == 1


def test_a_slow_answer_is_waited_for_as_long_as_the_settings_say(bucket, server):
    server.will(SILENCE)
    with pytest.raises(SiteUnavailable):
        objects.fetch(bucket, "key", 100)
    server.will(SILENCE)
    with pytest.raises(UnknownOutcome):
        put(bucket)
    assert len(server.requests) == 2


def test_a_refusal_in_the_midst_of_a_large_body_is_heard(configure):
    configure(s3_read_timeout_s=5)
    with socket.create_server(("127.0.0.1", 0)) as listening:

        def refuse():
            connection, _ = listening.accept()
            connection.recv(1000)
            connection.sendall(b"HTTP/1.1 403 Forbidden\r\nContent-Length: 0\r\nConnection: close\r\n\r\n")
            connection.shutdown(socket.SHUT_WR)
            while connection.recv(1 << 16):
                pass
            connection.close()

        threading.Thread(target=refuse, daemon=True).start()
        port = listening.getsockname()[1]
        address = SiteAddress("early", f"http://127.0.0.1:{port}", "r", "b", "a", "s", parse_networks("127.0.0.0/8"))
        with pytest.raises(AccessDenied):
            put(connect(address), b"x" * 2**23)


def test_interim_answers_are_passed_over(bucket, server):
    server.will(b"HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 103 Early Hints\r\nLink: x\r\n\r\n" + WHOLE)
    assert bytes(objects.fetch(bucket, "key", 100)[1]) == BODY


def test_the_environments_proxies_are_not_asked(bucket, server, monkeypatch):
    for name in ("http_proxy", "HTTP_PROXY", "ALL_PROXY"):
        monkeypatch.setenv(name, "http://127.0.0.1:1")
    server.will(DONE)
    put(bucket)
    assert len(server.requests) == 1


# -- answers that say no ----------------------------------------------------------------------------------------------


def refused(status, code="", *headers):
    body = f"<?xml version='1.0'?>\n<Error><Code>{code}</Code><Message>m</Message></Error>".encode() if code else b""
    lines = [f"HTTP/1.1 {status} Said", f"Content-Length: {len(body)}", *headers]
    return "\r\n".join(lines).encode() + b"\r\n\r\n" + body


@pytest.mark.parametrize("status", [301, 302, 307, 308])
def test_a_redirect_is_not_followed(bucket, server, status):
    server.will(refused(status, "", f"Location: http://127.0.0.1:{server.port}/elsewhere"))
    with pytest.raises(Permanent) as caught:
        objects.fetch(bucket, "key", 100)
    assert caught.value.reason == f"http_{status}"
    assert len(server.requests) == 1


@pytest.mark.parametrize("status", [429, 503])
def test_retry_after_is_heard(bucket, server, status):
    server.will(refused(status, "SlowDown", "Retry-After: 7"))
    with pytest.raises(Throttled) as caught:
        put(bucket)
    assert caught.value.retry_after_s == 7


def test_an_error_document_that_breaks_off_is_classed_by_its_status(bucket, server):
    server.will(b"HTTP/1.1 503 Slow\r\nContent-Length: 100\r\n\r\n<Err", close=True)
    with pytest.raises(Throttled):
        put(bucket)


@pytest.mark.parametrize(
    ("code", "error"),
    [
        ("InternalError", SiteFaulty),
        ("SlowDown", Throttled),
        ("NoSuchUpload", ObjectMissing),
        ("AccessDenied", AccessDenied),
    ],
)
def test_a_yes_that_turns_into_a_no_is_a_no(bucket, server, code, error):
    act = [
        lambda: multipart.complete(bucket, TARGET, "u", ["e"]),
        lambda: objects.change_class(bucket, "key", found, Carried(), "STANDARD", "i"),
    ]
    server.will(WHOLE)
    found, _ = objects.fetch(bucket, "key", 100)
    for request in act:
        server.will(refused(200, code))
        with pytest.raises(error):
            request()


@pytest.mark.parametrize("body", [b"", b"<Complete", b"<!DOCTYPE x [<!ENTITY a 'b'>]><x>&a;</x>", b"\xff\xfe"])
def test_a_yes_without_its_document_leaves_the_outcome_unknown(bucket, server, body):
    server.will(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n" % len(body) + body)
    with pytest.raises(UnknownOutcome):
        multipart.complete(bucket, TARGET, "u", ["e"])


def test_a_refused_clock_is_set_by_the_servers_once(bucket, server):
    theirs = datetime.now(UTC) + timedelta(hours=1)
    date = f"Date: {format_datetime(theirs, usegmt=True)}"
    server.will(refused(403, "RequestTimeTooSkewed", date))
    server.will(DONE)
    put(bucket)
    server.will(DONE)
    put(bucket)
    signed = [datetime.strptime(request[1]["x-amz-date"], "%Y%m%dT%H%M%S%z") for request in server.requests]
    assert abs(signed[0] - datetime.now(UTC)) < timedelta(seconds=30)
    assert all(abs(moment - theirs) < timedelta(seconds=30) for moment in signed[1:])


def test_a_clock_that_is_refused_again_is_an_error(bucket, server):
    for hours in (1, 2):
        date = f"Date: {format_datetime(datetime.now(UTC) + timedelta(hours=hours), usegmt=True)}"
        server.will(refused(403, "RequestTimeTooSkewed", date))
    with pytest.raises(SiteFaulty):
        put(bucket)
    assert len(server.requests) == 2


def test_a_line_break_in_a_header_is_never_sent(bucket, server):
    for value in ("a\r\nx-evil: 1", "a\nb", "a\0b", "☃"):
        with pytest.raises(Permanent) as caught:
            objects.put(bucket, TARGET, BODY, "0" * 64, Carried({}, {"name": value}))
        assert caught.value.reason == "unsendable_request"
    assert server.requests == []


# -- TLS --------------------------------------------------------------------------------------------------------------


@pytest.fixture
def tls(tmp_path, configure):
    """A server with a certificate of its own making, and the file that would make it trusted."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "localhost")])
    now = datetime.now(UTC)
    certificate = (
        x509.CertificateBuilder().subject_name(name).issuer_name(name).public_key(key.public_key())
        .serial_number(1).not_valid_before(now - timedelta(days=1)).not_valid_after(now + timedelta(days=1))
        .add_extension(x509.SubjectAlternativeName([x509.DNSName("localhost")]), critical=False)
        .add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
        .sign(key, hashes.SHA256())
    )  # fmt: skip
    chain, private = tmp_path / "chain.pem", tmp_path / "key.pem"
    chain.write_bytes(certificate.public_bytes(serialization.Encoding.PEM))
    private.write_bytes(
        key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
    )
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    context.load_cert_chain(chain, private)
    made = Server(context)
    pool.trusted.cache_clear()
    yield made, chain
    made.close()
    pool.trusted.cache_clear()


def test_a_certificate_that_nobody_vouches_for_is_refused(tls):
    server, _ = tls
    bucket = connect(replace(address_of(server), endpoint_url=f"https://localhost:{server.port}"))
    with pytest.raises(SiteUnavailable):
        put(bucket)
    assert server.requests == []


def test_a_trusted_certificate_must_be_that_of_the_host(tls, monkeypatch):
    server, chain = tls
    monkeypatch.setenv("SSL_CERT_FILE", str(chain))
    bucket = connect(replace(address_of(server), endpoint_url=f"https://localhost:{server.port}"))
    for _ in range(2):
        server.will(DONE)
        put(bucket)
    assert server.connections == 1
    server.will(WHOLE)
    assert bytes(objects.fetch(bucket, "key", 100)[1]) == BODY
    multipart_part = b"x" * 2**20
    server.will(DONE)
    multipart.send_part(bucket, "key", "u", 1, multipart_part)
    assert server.requests[-1][1]["x-amz-content-sha256"] == "UNSIGNED-PAYLOAD"
    assert server.requests[-1][2] == multipart_part
    with pytest.raises(SiteUnavailable):
        put(connect(address_of(server, "https")))


# -- faults and the gate ----------------------------------------------------------------------------------------------


@pytest.fixture
def faulty(bucket):
    """Injects one fault at the site."""

    def inject(kind, **values):
        soon = datetime.now(UTC) + timedelta(minutes=1)
        FAULTS.load_from(lambda: [Fault(bucket.name, kind, 1.0, 0.0, soon, **values)])

    yield inject
    FAULTS.load_from(None)


def test_an_injected_throttle_answers_as_it_is_told(bucket, server, faulty):
    for status in (429, 503):
        faulty(FaultKind.THROTTLE, status=status)
        with pytest.raises(Throttled) as caught:
            put(bucket)
        assert caught.value.retry_after_s == 1
    assert server.requests == []


def test_an_injected_failure_sends_nothing(bucket, server, faulty):
    faulty(FaultKind.FAIL)
    with pytest.raises(SiteUnavailable):
        put(bucket)
    assert server.requests == []


def test_an_injected_corruption_turns_one_byte_of_what_is_read_and_none_of_what_is_written(bucket, server, faulty):
    faulty(FaultKind.CORRUPT)
    server.will(WHOLE)
    head, body = objects.fetch(bucket, "key", 100)
    assert sum(ours != theirs for ours, theirs in zip(body, BODY, strict=True)) == 1
    server.will(DONE)
    put(bucket)
    assert server.requests[-1][2] == BODY
    server.will(WHOLE)  # the source names no checksum, so that it is read again, and misread again
    with pytest.raises(ChecksumMismatch):
        evidence.sha256_of(bucket, "key", head, bytes(reversed(BODY)))


class Watching:
    """A gate that notes all it is told."""

    def __init__(self):
        self.noted, self.open = [], 0

    def request(self, *, writes, bytes_out):
        self.noted.append(("request", writes, bytes_out))
        return self

    def __enter__(self):
        self.open += 1

    def __exit__(self, *_):
        self.open -= 1

    def received(self, count):
        assert self.open
        self.noted.append(("received", count))

    def look(self):
        """Nobody stops anything."""

    def ended(self, error, seconds):
        assert self.open
        assert seconds >= 0
        self.noted.append(("ended", type(error).__name__ if error else None))


@pytest.fixture
def gate():
    made = Watching()
    GATES.made_by(lambda _: made)
    yield made
    GATES.made_by(None)


def test_every_request_passes_the_gate_and_tells_how_it_ended(bucket, server, gate):
    server.will(WHOLE)
    objects.fetch(bucket, "key", 100)
    server.will(refused(503, "SlowDown"))
    with pytest.raises(Throttled):
        put(bucket)
    server.will(refused(200, "InternalError"))
    with pytest.raises(SiteFaulty):
        multipart.complete(bucket, TARGET, "u", ["e"])
    server.will(OBJECT + b"Content-Length: 10\r\n\r\n01234", close=True)
    with pytest.raises(SiteUnavailable):
        objects.fetch(bucket, "key", 100)
    ends = [entry[1] for entry in gate.noted if entry[0] == "ended"]
    assert ends == [None, "Throttled", "SiteFaulty", "SiteUnavailable"]
    assert gate.noted[:3] == [("request", False, 0), ("received", 10), ("ended", None)]
    assert ("request", True, 10) in gate.noted
    assert gate.open == 0


def test_connections_are_not_shared_with_a_fork(bucket, server):
    server.will(DONE)
    put(bucket)
    child = os.fork()
    if child == 0:
        try:
            put(bucket)
        finally:
            os._exit(0)
    server.will(DONE)
    assert os.waitpid(child, 0)[1] == 0
    assert server.connections == 2
