"""The command line against the running API: what it prints, what it asks, how it ends."""

import json

import pytest

from app.client import Client
from app.errors import ExitCode


def test_lists_are_json_or_lines(foretide):
    listed = foretide("sites", "list", "--json")
    assert {site["state"] for site in json.loads(listed.stdout)} == {"ready"}
    lines = foretide("sites", "list").stdout.decode().splitlines()
    assert lines[0].split("\t")[:2] == ["NAME", "STATE"]
    assert len(lines) == 4


def test_a_job_is_followed_to_its_end_with_progress_apart_from_the_answer(foretide):
    done = foretide("objects", "scan", "--json", "--timeout", "60")
    assert done.returncode == ExitCode.OK, done.stderr
    assert json.loads(done.stdout)["state"] == "succeeded"
    assert b"scan" in done.stderr
    job = json.loads(foretide("objects", "scan", "--no-wait", "--json").stdout)
    assert foretide("jobs", "wait", str(job["id"]), "--timeout", "60").returncode == ExitCode.OK


def test_a_wait_that_is_over_says_so(foretide):
    assert foretide("objects", "scan", "--timeout", "0").returncode == ExitCode.TIMEOUT


def test_refused_lines_are_named_and_make_it_partial(foretide):
    lines = b'{"ts": "2026-01-01T00:00:00", "key": "a", "op": "GET"}\n{"key": "b"}\n'
    done = foretide("ingest", "ndjson", "-", stdin=lines)
    assert done.returncode == ExitCode.PARTIAL
    assert b"accepted 0, duplicates 0, rejected 2" in done.stdout
    assert b"line 1: /ts" in done.stderr


def test_errors_are_one_line_and_an_exit_code(foretide):
    for arguments, code in [
        (("jobs", "show", "999999999"), ExitCode.NOT_FOUND),
        (("explain", "no-such-key"), ExitCode.NOT_FOUND),
        (("sites", "show", "nowhere"), ExitCode.NOT_FOUND),
        (("mode", "set", "paused"), ExitCode.USAGE),
        (("policy", "set", "sla", "default.rf=0", "--yes"), ExitCode.USAGE),
    ]:
        done = foretide(*arguments)
        assert done.returncode == code, (arguments, done.stderr)
        assert b"Traceback" not in done.stderr
        assert done.stdout == b""


def test_fields_that_are_wrong_are_named(foretide):
    assert b"/default/rf: " in foretide("policy", "set", "sla", "default.rf=0", "--yes").stderr


def test_a_site_that_does_not_answer_is_shown_with_its_reason(foretide, client: Client):
    given = ["--provider", "aws", "--region", "eu-west-1", "--bucket", "b", "--access-key", "k", "--secret-key", "s"]
    added = foretide("sites", "add", "down", *given, "--endpoint-url", "http://127.0.0.1:9", "--timeout", "60")
    assert added.returncode != ExitCode.OK
    assert added.stderr
    assert client.site("down")["state"] != "ready"
    wanted = ("sites", "change", "down", "latency_ms=20", "kms_keys.*=alias/cold")
    assert foretide(*wanted, "--dry-run").returncode == ExitCode.OK
    assert client.site("down")["kms_keys"] == {}
    assert foretide(*wanted, "--yes", "--json").returncode == ExitCode.OK
    assert (client.site("down")["kms_keys"], client.site("down")["latency_ms"]) == ({"*": "alias/cold"}, 20)
    limits = ("sites", "change", "down", "--capacity", "1.5TiB", "--max-request-rate", "20", "--yes")
    assert foretide(*limits).returncode == ExitCode.OK
    assert foretide("sites", "change", "down", "max_request_rate=null", "--yes").returncode == ExitCode.OK
    assert (client.site("down")["capacity_bytes"], client.site("down")["max_request_rate"]) == (3 * 2**39, None)
    assert b"500GB" in foretide("sites", "change", "down", "--capacity", "much", "--yes").stderr
    assert b"/colour" in foretide("sites", "change", "down", "colour=red", "--yes").stderr
    assert foretide("sites", "remove", "down", "--dry-run").returncode == ExitCode.OK
    assert foretide("sites", "remove", "down", "--yes").returncode == ExitCode.OK
    assert foretide("sites", "show", "down").returncode == ExitCode.NOT_FOUND


def test_a_token_is_shown_once_and_opens_what_its_role_allows(foretide):
    made = json.loads(foretide("tokens", "create", "reader", "--role", "viewer", "--json").stdout)
    assert foretide("sites", "list", token=made["token"]).returncode == ExitCode.OK
    assert foretide("objects", "scan", token=made["token"]).returncode == ExitCode.POLICY
    assert made["token"].encode() not in foretide("tokens", "list").stdout
    assert foretide("tokens", "revoke", str(made["id"]), "--yes").returncode == ExitCode.OK


def test_a_plan_of_an_empty_catalogue_holds_no_changes(foretide):
    planned = foretide("plan", "--prefix", "nothing-is-here/", "--json", "--detailed-exitcode", "--timeout", "60")
    assert planned.returncode == ExitCode.OK, planned.stderr
    assert json.loads(planned.stdout)["changes"] == []


def test_chaos_begins_tells_and_ends(foretide):
    told = foretide("chaos", "latency", "gcp-eu", "--ms", "1", "--dry-run")
    assert (told.returncode, json.loads(foretide("chaos", "status", "--json").stdout)) == (ExitCode.OK, [])
    assert b"Would slow gcp-eu down by 1 ms in 100% of the requests for 300 s" in told.stderr
    begun = foretide("chaos", "latency", "gcp-eu", "--ms", "1", "--ttl", "30", "--p", "0.5", "--json")
    (fault,) = json.loads(begun.stdout)
    assert (fault["site"], fault["kind"], fault["p"], fault["ms"]) == ("gcp-eu", "latency", 0.5, 1)
    assert foretide("chaos", "recover", "gcp-eu").returncode == ExitCode.OK
    assert json.loads(foretide("chaos", "clear", "--json").stdout) == []
    assert foretide("chaos", "fail", "nowhere").returncode == ExitCode.NOT_FOUND


@pytest.mark.parametrize(
    "command",
    [
        "objects verify --dry-run", "objects repair --dry-run", "sites scrub gcp-eu --deep --dry-run",
        "sites tidy gcp-eu --dry-run", "sites evacuate gcp-eu --dry-run",
    ],
)  # fmt: skip
def test_whole_life_operations_tell_what_they_would_do(foretide, command):
    done = foretide(*command.split(), "--json", "--timeout", "120")
    assert done.returncode in (ExitCode.OK, ExitCode.PARTIAL), done.stderr
    job = json.loads(done.stdout)
    assert (job["state"], job["result"]["dry_run"]) == ("succeeded", True)


def test_whole_life_operations_refuse_what_is_not_there(foretide):
    for arguments, code in [
        (("plan", "rollback", "999999", "--yes"), ExitCode.NOT_FOUND),
        (("migrate", "verify", "999999"), ExitCode.NOT_FOUND),
        (("sites", "findings", "nowhere"), ExitCode.NOT_FOUND),
        (("sites", "drain", "nowhere", "--yes"), ExitCode.NOT_FOUND),
        (("sites", "evacuate", "gcp-eu"), ExitCode.USAGE),
        (("objects", "remove-copies", "no-such-key", "--yes"), ExitCode.NOT_FOUND),
    ]:
        done = foretide(*arguments)
        assert done.returncode == code, (arguments, done.stderr)
    assert foretide("sites", "findings", "gcp-eu", "--json").returncode == ExitCode.OK
