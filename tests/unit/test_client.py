"""The SDK against a real HTTP server on loopback that answers from a script."""

import gzip
import json
import threading
from collections import deque
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest

from app import errors
from app.blocks import BLOCK_LINES
from app.client import Client
from app.transport import Retry

JOB = {"id": 7, "kind": "plan", "state": "succeeded", "result": {"plan_id": 3}}


class Server:
    """Answers requests in order from `script`, the last entry again and again; notes what it was asked."""

    def __init__(self):
        self.script = deque()
        self.asked = []
        outer = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def handle_any(self):
                body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
                outer.asked.append((self.command, self.path, self.headers, body))
                status, headers, content = outer.script.popleft() if len(outer.script) > 1 else outer.script[0]
                self.send_response(status)
                for name, value in headers.items():
                    self.send_header(name, value)
                self.send_header("Content-Length", str(len(content)))
                self.end_headers()
                self.wfile.write(content)

            do_GET = do_POST = do_PUT = do_DELETE = handle_any

            def log_message(self, *_):
                pass

        self.http = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self.http.server_port}"
        threading.Thread(target=self.http.serve_forever, args=(0.01,), daemon=True).start()

    def say(self, status, body=None, **headers):
        content = body if isinstance(body, bytes) else json.dumps(body).encode()
        named = {name.replace("_", "-"): value for name, value in headers.items()}
        self.script.append((status, {"Content-Type": "application/json", **named}, content))

    def refuse(self, status, slug, detail="", retry_after=None, **members):
        document = {"type": f"/problems/{slug}", "status": status, "detail": detail, **members}
        self.say(status, document, **({"Retry_After": retry_after} if retry_after is not None else {}))


@pytest.fixture
def server():
    found = Server()
    yield found
    found.http.shutdown()
    found.http.server_close()


@pytest.fixture
def client(server):
    with Client(server.url, "secret", retry=Retry(base_s=0.001)) as opened:
        yield opened


def test_sends_the_token_and_reads_json(server, client):
    server.say(200, JOB)
    assert client.job(7) == JOB
    method, path, headers, _ = server.asked[0]
    assert (method, path, headers["Authorization"]) == ("GET", "/v1/jobs/7", "Bearer secret")


@pytest.mark.parametrize(
    ("status", "slug", "kind"),
    [
        (404, "not-found", errors.NotFound),
        (409, "plan-stale", errors.PlanStale),
        (409, "policy", errors.PolicyForbids),
        (422, "invalid", errors.Invalid),
        (422, "infeasible", errors.Infeasible),
        (503, "database-unavailable", errors.DatabaseUnavailable),
        (412, "a-slug-of-a-newer-server", errors.PreconditionFailed),
        (502, "from-a-proxy", errors.Unavailable),
        (500, "unexpected-error", errors.ForetideError),
    ],
)
def test_a_problem_is_the_error_it_stands_for(server, client, status, slug, kind):
    server.refuse(status, slug, "it is so")
    with pytest.raises(kind, match="it is so") as caught:
        client.job(1)
    assert type(caught.value) is kind


def test_a_problem_keeps_its_pointers(server, client):
    server.refuse(422, "invalid", "not valid", errors=[{"pointer": "/rf", "detail": "at most 3"}])
    with pytest.raises(errors.Invalid) as caught:
        client.make_plan(rf=9)
    assert caught.value.errors == (errors.FieldError("/rf", "at most 3"),)


def test_a_reply_that_is_no_problem_is_classed_by_its_status(server, client):
    server.say(404, b"<html>gone</html>")
    with pytest.raises(errors.NotFound, match="404"):
        client.job(1)


def test_a_refused_get_is_sent_again(server, client):
    server.refuse(503, "overloaded", retry_after="0")
    server.refuse(429, "throttled", retry_after="0")
    server.say(200, JOB)
    assert client.job(7) == JOB
    assert len(server.asked) == 3


def test_a_post_that_starts_work_keeps_its_idempotency_key(server, client):
    server.refuse(503, "database-unavailable", retry_after="0")
    server.say(202, JOB)
    client.make_plan(prefix="a/")
    client.make_plan(prefix="a/")
    keys = [headers["Idempotency-Key"] for _, _, headers, _ in server.asked]
    assert keys[0] == keys[1] != keys[2]
    assert json.loads(server.asked[0][3]) == {"prefix": "a/"}


def test_a_post_without_a_key_is_not_repeated_when_it_may_have_worked(server, client):
    server.refuse(503, "database-unavailable", retry_after="0")
    with pytest.raises(errors.DatabaseUnavailable):
        client.decide_route("k")
    assert len(server.asked) == 1


def test_a_post_without_a_key_is_repeated_when_it_was_refused(server, client):
    server.refuse(429, "throttled", retry_after="0")
    server.say(200, {"site": "a"})
    assert client.decide_route("k") == {"site": "a"}


def test_tries_end(server, client):
    server.refuse(503, "overloaded", retry_after="0")
    with pytest.raises(errors.Overloaded):
        client.job(1)
    assert len(server.asked) == Retry().attempts


def test_retry_after_is_honoured_in_seconds_and_as_a_date(server, client):
    for value, least in (("90", 90), ("Fri, 31 Dec 2199 23:59:59 GMT", 1e6)):
        server.script.clear()
        server.refuse(503, "overloaded", retry_after=value)
        with pytest.raises(errors.Overloaded) as caught:
            client.job(1)
        assert caught.value.retry_after_s >= least
    assert len(server.asked) == 2, "more patience than the client has is not tried at all"


def test_the_delay_grows_with_jitter_on_top_of_what_was_asked():
    retry = Retry(base_s=1, cap_s=4)
    asked = errors.Throttled(retry_after_s=10)
    assert all(10 <= retry.delay(1, asked) <= 12 for _ in range(100))
    assert all(0 <= retry.delay(4, errors.Unavailable()) <= 4 for _ in range(100))
    assert retry.delay(5, asked) is None


@pytest.mark.parametrize("scope", [{"prefix": "\udcff"}, {"horizon_days": float("nan")}])
def test_what_no_request_can_hold_is_refused_before_it_is_sent(server, client, scope):
    with pytest.raises(errors.Invalid, match="cannot be sent"):
        client.make_plan(**scope)
    with pytest.raises(errors.Invalid, match="cannot be sent"):
        client.explanation("logs/\udcff")
    assert not server.asked


def test_nothing_listens_is_said_with_the_next_command():
    client = Client("http://127.0.0.1:9", "t", retry=Retry(attempts=1))
    with client, pytest.raises(errors.Unavailable, match="foretide up"):
        client.job(1)


def test_wait_polls_until_the_end_and_tells_of_each_change(server, client):
    server.say(200, JOB | {"state": "queued"})
    server.say(200, JOB | {"state": "running"})
    server.say(200, JOB)
    seen = []
    assert client.wait(7, on_change=lambda job: seen.append(job["state"])) == JOB
    assert seen == ["queued", "running", "succeeded"]
    assert [path for _, path, _, _ in server.asked] == ["/v1/jobs/7", "/v1/jobs/7?wait=30", "/v1/jobs/7?wait=30"]


def test_wait_gives_up_after_its_time(server, client):
    server.say(200, JOB | {"state": "running"})
    with pytest.raises(errors.WaitTimeout, match="goes on"):
        client.wait(7, timeout_s=0)


@pytest.mark.parametrize(
    ("job", "kind"),
    [
        ({"state": "failed", "problem": {"type": "infeasible", "detail": "rf"}}, errors.Infeasible),
        ({"state": "dead", "problem": {"type": "site-unavailable", "detail": "x"}}, errors.SiteUnavailable),
        ({"state": "failed", "problem": {"type": "unexpected-error", "detail": "x"}}, errors.ForetideError),
        ({"state": "cancelled"}, errors.Cancelled),
    ],
)
def test_wait_raises_what_ended_the_job(server, client, job, kind):
    server.say(200, JOB | job)
    with pytest.raises(kind):
        client.wait(7)


def test_pages_follow_the_cursor(server, client):
    server.say(200, {"items": [{"id": 1}], "next_cursor": "abc"})
    server.say(200, {"items": [{"id": 2}], "next_cursor": None})
    assert list(client.jobs(state="queued")) == [{"id": 1}, {"id": 2}]
    assert [path for _, path, _, _ in server.asked] == ["/v1/jobs?state=queued", "/v1/jobs?state=queued&cursor=abc"]


def test_ingest_sends_gzip_blocks_and_counts_lines_over_all_of_them(server, client):
    server.say(200, {"accepted": BLOCK_LINES, "duplicates": 0, "rejected": 0, "errors": []})
    bad = [{"line": 2, "pointer": "/ts", "detail": "naive"}]
    server.say(200, {"accepted": 1, "duplicates": 1, "rejected": 1, "errors": bad})
    lines = ['{"key": "a"}\n', {"key": "b"}, b'{"key": "c"}'] * (BLOCK_LINES // 3 + 2)
    report = client.ingest(lines[: BLOCK_LINES + 3])
    assert (report.accepted, report.duplicates, report.rejected) == (BLOCK_LINES + 1, 1, 1)
    assert report.errors == [{"line": BLOCK_LINES + 2, "pointer": "/ts", "detail": "naive"}]
    sent = [gzip.decompress(body).split(b"\n") for _, _, _, body in server.asked]
    assert [len(block) for block in sent] == [BLOCK_LINES, 3]
    assert sent[0][:3] == [b'{"key": "a"}', b'{"key": "b"}', b'{"key": "c"}']
    assert server.asked[0][2]["Content-Encoding"] == "gzip"


def test_ingest_keeps_blocks_below_the_size_of_a_request(server, client):
    server.say(200, {"accepted": 0, "duplicates": 0, "rejected": 0, "errors": []})
    client.ingest([b"x" * 2**20] * 25)
    assert max(len(gzip.decompress(body)) for _, _, _, body in server.asked) <= 12 * 2**20 + 16


def test_read_follows_to_the_site_without_the_token(server, client):
    server.say(307, b"", Location=f"{server.url}/bucket/key?X-Amz-Signature=1", Foretide_Decision="d1")
    server.say(200, b"content")
    server.say(200, {})
    with client.read("a/b c") as blocks:
        assert b"".join(blocks) == b"content"
    decided, fetched, outcome = server.asked
    assert decided[1] == "/v1/read?key=a%2Fb+c&tee=true"
    assert fetched[1] == "/bucket/key?X-Amz-Signature=1"
    assert fetched[2]["Authorization"] is None
    assert outcome[1] == "/v1/routing/decisions/d1/outcome"
    assert json.loads(outcome[3])["bytes"] == 7


def test_names_in_paths_cannot_leave_their_place(server, client):
    server.say(200, {})
    client.site("../jobs?x=1")
    assert server.asked[0][1] == "/v1/sites/..%2Fjobs%3Fx%3D1"


def test_changes_name_the_version_they_were_made_from(server, client):
    server.say(200, {"enforce": False}, ETag='"3"')
    document, etag = client.policy("security")
    client.set_policy("security", document | {"enforce": True}, etag)
    assert server.asked[1][2]["If-Match"] == '"3"'
    client.set_prices("aws-eu", *client.price_document("aws-eu"))
    assert server.asked[3][2]["If-Match"] == '"3"'


def test_presigned_urls_are_not_logged(server, client, caplog):
    server.say(200, {"items": []})
    with caplog.at_level("DEBUG"):
        list(client.sites())
        signed = f"{server.url}/bucket/key?X-Amz-Date=now&X-Amz-Signature=secret"
        with client._api.fetch(signed) as answer:
            answer.read()
        client._api.write(signed, {}, iter([b"x"]), 1)
    assert "/v1/sites" in caplog.text
    assert "Signature" not in caplog.text
