"""Access logs of providers: each request that was answered becomes an access, and lines of another form are named."""

from __future__ import annotations

import gzip
import json
from datetime import UTC, datetime
from pathlib import Path

import pytest

from app.errors import Invalid
from app.lab.logs import NAMES
from app.lab.traces import OPS, Trace, read_trace
from ml.history import SECOND

S3 = (
    "79a59df9 bucket [06/Feb/2019:02:00:{second:02} +0200] 192.0.2.3 79a59 3E57 {operation} {key}"
    ' "GET /bucket/x HTTP/1.1" {status} - {sent} {size} 70 10 "-" "S3Console/0.4" - s9lz= SigV4 ECDHE AuthHeader host'
)
GCS = (
    '"{time}","1.2.3.4","1","","{method}","/b/o","{status}","{received}","{sent}","20000","host","",'
    '"agent ""of"", someone","id","GET_Object","b","{key}"'
)
GCS_HEAD = (
    '"time_micros","c_ip","c_ip_type","c_ip_region","cs_method","cs_uri","sc_status","cs_bytes","sc_bytes",'
    '"time_taken_micros","cs_host","cs_referer","cs_user_agent","s_request_id","cs_operation","cs_bucket","cs_object"'
)
AZURE = (
    "1.0;2014-06-19T22:59:23.1967767Z;{operation};AnonymousSuccess;{status};17;16;anonymous;;acc;blob;"
    '"https://acc.blob.core.windows.net/c/d/e%20f.txt?timeout=1";"/acc/c/d/e f.txt";id;0;1.2.3.4:9;2009-09-19;'
    '252;{received};265;{sent};0;;;"&quot;0x8D&quot;";Thursday;;"agent";;"x"'
)
NGINX = '1.2.3.4 - - [17/May/2015:10:05:03 +0000] "{method} {path} HTTP/1.1" {status} {sent} "http://x/" "Mozilla"'
CLOUDFRONT = (
    "2019-12-04\t21:02:31\tLAX1\t{sent}\t192.0.2.100\t{method}\td.cloudfront.net\t{path}\t{status}"
    "\t-\tMozilla\t-\t-\tHit\tid"
)


def read(folder: Path, *lines: str) -> Trace:
    path = folder / "access.log"
    path.write_text("\n".join(lines) + "\n")
    return read_trace(path)


def accesses(trace: Trace) -> list[tuple[str, str, int, int]]:
    """Key, op, bytes and size of each."""
    numbers = zip(trace.object, trace.op, trace.bytes_read, trace.size, strict=True)
    return [(trace.keys[thing], OPS[op], int(moved), int(size)) for thing, op, moved, size in numbers]


def s3(second: int, operation: str, key: str, sent: str = "-", size: str = "-", status: int = 200) -> str:
    return S3.format(second=second, operation=operation, key=key, sent=sent, size=size, status=status)


def test_s3_keys_are_decoded_as_often_as_they_were_encoded(tmp_path: Path):
    trace = read(
        tmp_path,
        s3(1, "REST.PUT.OBJECT", "a%2520b/50%2525", size="400"),
        s3(2, "REST.GET.OBJECT", "a%2520b/50%2525", sent="100", size="400", status=206),
        s3(3, "REST.HEAD.OBJECT", "a%2520b/50%2525", size="400"),
        s3(4, "REST.POST.UPLOADS", "a%2520b/50%2525"),
        s3(5, "REST.GET.OBJECT", "gone", sent="243", status=404),
        s3(6, "REST.GET.VERSIONING", "-", sent="113"),
        s3(7, "S3.EXPIRE.OBJECT", "a%20b/50%25", status=204).replace('"GET /bucket/x HTTP/1.1" 204', '"-" -'),
    )
    key = "a b/50%"
    expected = [(key, "PUT", 400, 400), (key, "GET", 100, 400), (key, "HEAD", 0, 400), (key, "DELETE", 0, 0)]
    assert accesses(trace) == expected
    assert trace.ts[0] == int(datetime(2019, 2, 6, 0, 0, 1, tzinfo=UTC).timestamp()) * SECOND
    assert trace.rejected == []


def test_gcs_usage_logs_begin_with_their_columns(tmp_path: Path):
    first = {"time": 1500000000000001, "status": 200}
    trace = read(
        tmp_path,
        GCS_HEAD,
        GCS.format(method="PUT", key='say ""hi""', received=99, sent=0, **first),
        GCS.format(method="GET", key='say ""hi""', received=0, sent=77, **first),
        GCS.format(method="GET", key="", received=0, sent=500, **first),
    )
    assert accesses(trace) == [('say "hi"', "PUT", 99, 99), ('say "hi"', "GET", 77, 0)]
    assert trace.ts[0] == 1500000000000001


def test_azure_logs_are_read_in_both_forms(tmp_path: Path):
    lines = [
        AZURE.format(operation="PutBlob", status=201, received=120, sent=0),
        AZURE.format(operation="GetBlob", status=200, received=0, sent=100),
        AZURE.format(operation="ListBlobs", status=200, received=0, sent=900),
    ]
    assert accesses(read(tmp_path, *lines)) == [("d/e f.txt", "PUT", 120, 0), ("d/e f.txt", "GET", 100, 0)]
    said = {"objectKey": "/acc/c/d/e%20f.txt", "requestBodySize": 0, "responseBodySize": 12}
    entry = {"time": "2026-01-01T00:00:00.1Z", "operationName": "GetBlob", "statusCode": 200, "properties": said}
    trace = read(tmp_path, json.dumps(entry), json.dumps(entry | {"statusCode": 404}), '{"cut')
    assert accesses(trace) == [("d/e f.txt", "GET", 12, 0)]
    assert [(line.line, line.detail) for line in trace.rejected] == [(3, "not a line of azure-logs")]


def test_web_logs_name_objects_by_their_paths(tmp_path: Path):
    requests = [("GET", "/a%20b.png?v=1", 200, 7), ("HEAD", "/b", 200, 300), ("GET", "/c", 404, 5)]
    named = [dict(zip(("method", "path", "status", "sent"), request, strict=True)) for request in requests]
    web = read(tmp_path, *(NGINX.format(**request) for request in named), "not a request")
    assert accesses(web) == [("a b.png", "GET", 7, 0), ("b", "HEAD", 0, 0)]
    assert [(line.line, line.detail) for line in web.rejected] == [(4, "not a line of nginx")]
    edge = read(tmp_path, "#Version: 1.0", *(CLOUDFRONT.format(**request) for request in named))
    assert accesses(edge) == accesses(web)


def test_accesses_as_the_api_takes_them_are_a_trace_too(tmp_path: Path):
    line = {"ts": "2026-01-01T00:00:00Z", "key": "a", "op": "GET", "bytes": 5, "region": "eu"}
    trace = read(tmp_path, json.dumps(line), json.dumps(line | {"ts": "2026-01-01T00:00:00"}))
    assert (accesses(trace), trace.regions) == ([("a", "GET", 5, 0)], ["", "eu"])
    assert trace.rejected[0].detail == "ts is not a time"


def test_packed_logs_are_unpacked(tmp_path: Path):
    path = tmp_path / "access.log.gz"
    path.write_bytes(gzip.compress(NGINX.format(method="GET", path="/a", status=200, sent=7).encode()))
    assert accesses(read_trace(path)) == [("a", "GET", 7, 0)]


@pytest.mark.parametrize("key", ["%ff%fe", "a" * 1025])
def test_keys_that_cannot_be_are_named(tmp_path: Path, key: str):
    good = NGINX.format(method="GET", path="/a", status=200, sent=7)
    trace = read(tmp_path, good, NGINX.format(method="GET", path=f"/{key}", status=200, sent=7))
    assert (accesses(trace), [line.line for line in trace.rejected]) == ([("a", "GET", 7, 0)], [2])


def test_a_log_of_another_form_than_was_named_is_refused(tmp_path: Path):
    read(tmp_path, NGINX.format(method="GET", path="/a", status=200, sent=7))
    with pytest.raises(Invalid, match="does not begin with a line of gcs-logs, but of nginx"):
        read_trace(tmp_path / "access.log", "gcs-logs")
    (tmp_path / "notes.txt").write_text("hello\n")
    with pytest.raises(Invalid, match=", ".join(NAMES)):
        read_trace(tmp_path / "notes.txt")
