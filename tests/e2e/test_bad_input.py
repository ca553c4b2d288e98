"""What is wrong is refused with its place and its reason; nothing is lost, nothing is half-written."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from datetime import UTC, datetime, timedelta
from pathlib import Path

import httpx
import psutil
import pytest

from app.client import Client
from app.devstack.stack import Stack
from app.errors import ExitCode, ForetideError
from app.settings import PROJECT_ROOT

NOW = datetime.now(UTC) - timedelta(minutes=5)
NDJSON = {"Content-Type": "application/x-ndjson"}


def line(**fields: object) -> bytes:
    return json.dumps({"ts": NOW.isoformat(), "key": "bad-input/a", "op": "GET", **fields}).encode()


WRONG: dict[bytes, str] = {
    line(site="nowhere"): "/site",
    line()[:-20]: "",
    line(ts="2026-01-01T00:00:00"): "/ts",
    line(ts=(NOW + timedelta(days=1)).isoformat()): "/ts",
    line(ts="1999-01-01T00:00:00Z"): "/ts",
    line(bytes=-1): "/bytes",
    line(key="k" * 1025): "/key",
    line(key="ü" * 513): "/key",
    line(op="COPY"): "/op",
    line(colour="red"): "/colour",
}


def test_lines_that_are_wrong_are_named_and_the_others_taken(http: httpx.Client):
    good = [line(event_id=f"good-{number}", key="k" * 1024) for number in range(2)]
    body = b"\n".join([good[0], *WRONG, good[1]])
    refused = http.post("/v1/accesses", params={"strict": "true"}, content=body, headers=NDJSON)
    assert refused.status_code == 422
    assert [error["pointer"] for error in refused.json()["errors"]] == [
        f"/{number}{pointer}" for number, pointer in enumerate(WRONG.values(), 1)
    ]
    taken = http.post("/v1/accesses", content=body, headers=NDJSON).json()
    assert (taken["accepted"], taken["duplicates"], taken["rejected"]) == (2, 0, len(WRONG))  # strict took nothing
    assert [(error["line"], error["pointer"]) for error in taken["errors"]] == [
        (number, pointer) for number, pointer in enumerate(WRONG.values(), 2)
    ]
    assert all(error["detail"] for error in taken["errors"])
    again = http.post("/v1/accesses", content=body, headers=NDJSON).json()
    assert (again["accepted"], again["duplicates"]) == (0, 2)  # the first time was the whole time


def test_unknown_sites_are_not_found(client: Client, http: httpx.Client):
    assert http.get("/v1/sites/nowhere").status_code == 404
    assert http.post("/v1/sites/nowhere:probe", json={}).status_code == 404
    with pytest.raises(ForetideError, match="nowhere") as caught:
        client.wait(client.scan("nowhere"), timeout_s=60)
    assert caught.value.exit_code == ExitCode.NOT_FOUND


@pytest.mark.parametrize(
    ("changed", "state", "reason"),
    [
        ({"bucket": "no-such-bucket"}, "refused", "bucket_missing"),
        ({"secret_key": "wrong"}, "refused", "access_denied"),
        ({"endpoint_url": "http://127.0.0.1:9"}, "unreachable", "site_unavailable"),
    ],
)
def test_a_site_that_cannot_be_used_says_why_and_is_not_used(
    changed, state: str, reason: str, client: Client, http: httpx.Client, stack: Stack, folder
):
    name = f"is-{reason}"
    added = http.post("/v1/sites", json={**stack.sites[0].as_dict(), "name": name, **changed})
    assert (added.status_code, added.json()["state"]) == (201, "probing")
    assert "secret_key" not in added.json()
    try:
        found = client.wait(added.json()["job_id"], timeout_s=60)["result"][name]
        assert (found["ok"], found["reason"]) == (False, reason)
        site = client.site(name)
        assert (site["state"], site["reason"], site["probed_at"]) == (state, found["detail"], None)
        folder.put("one", b"1", "aws-eu")
        folder.require(rf=3)
        folder.scanned()  # the others are listed all the same
        plan, _ = folder.plan()
        assert {change["to_site"] for change in client.changes(plan["id"])} == {"azure-we", "gcp-eu"}
    finally:
        client.remove_site(name)


def test_endpoints_inside_the_network_are_refused(http: httpx.Client, stack: Stack):
    inside = {**stack.sites[0].as_dict(), "name": "metadata", "endpoint_url": "http://169.254.169.254"}
    refused = http.post("/v1/sites", json=inside)
    assert refused.status_code == 422
    assert [error["pointer"] for error in refused.json()["errors"]] == ["/endpoint_url"]
    assert http.get("/v1/sites/metadata").status_code == 404


def test_more_copies_than_providers_are_infeasible_and_move_nothing(folder, client: Client, http: httpx.Client):
    key = folder.put("one", b"1", "aws-eu")
    folder.scanned()
    with pytest.raises(ForetideError, match="rf 4") as caught:
        folder.plan(rf=4)
    assert caught.value.exit_code == ExitCode.POLICY
    assert [error.pointer for error in caught.value.errors] == ["/infeasible/0"]
    assert folder.holders(key) == {"aws-eu"}
    newest = next(client.plans())
    assert (newest["state"], newest["moves"], newest["infeasible"][0]["keys"]) == ("infeasible", 0, [key])
    refused = http.post("/v1/plans", json={"rf": 17})
    assert refused.status_code == 422
    assert [error["pointer"] for error in refused.json()["errors"]] == ["/rf"]


GARBAGE: dict[str, tuple[bytes, str]] = {
    "garbage.parquet": (b"PAR1 this is not one", "cannot be read"),
    "no-columns.csv": (b"a,b\n1,2\n", "has no column"),
    "naive.csv": (b"ts,object,op,bytes\n2026-01-01T00:00:00,a,GET,1\n", "no usable row"),
    "negative.csv": (b"ts,object,op,bytes\n2026-01-01T00:00:00Z,a,GET,-1\n", "no usable row"),
    "trace.txt": (b"ts,object,op,bytes\n", ".parquet or .csv"),
}


@pytest.mark.parametrize("name", [*GARBAGE, "absent.csv"])
def test_an_unreadable_trace_ends_the_demo_before_anything_is_started(name: str, tmp_path: Path):
    content, told = GARBAGE.get(name, (b"", "there is no trace file"))
    if content:
        (tmp_path / name).write_bytes(content)
    own = {"FORETIDE_STATE_DIR": str(tmp_path / "state")}
    done = demo("--trace", str(tmp_path / name), env=own)
    assert done.returncode == ExitCode.USAGE
    assert done.stdout == ""
    (problem,) = [row for row in done.stderr.splitlines() if row.startswith("error: ")]
    assert told in problem
    assert "Traceback" not in done.stderr
    assert list((tmp_path / "state").glob("*")) == []
    assert not running_with(str(tmp_path))


def demo(*arguments: str, env: dict[str, str]) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "app", "demo", "--exit", "--json", *arguments]
    return subprocess.run(
        command, cwd=PROJECT_ROOT, env=os.environ | env, capture_output=True, text=True, check=False, timeout=60
    )


def running_with(text: str) -> list[psutil.Process]:
    """Processes that were started with this text."""
    found = psutil.process_iter(["cmdline"])
    return [process for process in found if text in " ".join(process.info["cmdline"] or [])]
