"""A table of cases for each form of log: what a line says, as the API takes it, or why it is refused or passed over."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from app.errors import Invalid
from app.lab.imports import parts
from app.lab.parts import Part, Place, Source

PASSED, REFUSED = "passed over", "refused"
OWNER = "79a59df900b949e55d96a1e698fbacedfd6e09d98eacf8f8d5218e7cd47ef2be"
END = '41 28 "-" "S3Console/0.4" - s9lzHYrFp76ZVxRc+5cjA= SigV4 ECDHE-RSA-AES128 AuthHeader b.s3.eu TLSV1.2 - -'
URI = '"GET /b/x HTTP/1.1"'


def imported(folder: Path, kind: str, data: bytes | str, source: str = "", site: str | None = None) -> list[Part]:
    path = folder / "access.log"
    path.write_bytes(data if isinstance(data, bytes) else data.encode())
    return list(parts(path, Source(kind, source, site), Place(), 0))


def lines(found: list[Part]) -> list[dict[str, Any]]:
    """The lines as the API takes them; their numbers and ends must fit."""
    for part in found:
        assert len(part.ends) == len(part.lines)
        assert [part.body[end - 1 : end] for end in part.ends] == [b"\n"] * len(part.ends)
    return [json.loads(line) for part in found for line in part.body.splitlines()]


def verdict(folder: Path, kind: str, good: str | bytes, line: str | bytes) -> Any:
    """What becomes of a line below a good one: key, op, bytes and ts, PASSED, or REFUSED with pointer and detail."""
    data = b"\n".join(each if isinstance(each, bytes) else each.encode() for each in (good, line)) + b"\n"
    (part,) = imported(folder, kind, data)
    if part.refused:
        (refused,) = part.refused
        return REFUSED, refused.pointer, refused.detail
    if len(part.lines) == 1:
        return PASSED
    told = lines([part])[1]
    return told["key"], told["op"], told["bytes"], told["ts"]


def s3(
    operation: str, key: str, rest: str = "200 - 100 400", *, uri: str = URI, time: str = "06/Feb/2019:02:00:01 +0000"
) -> str:
    return (
        f"{OWNER} bucket [{time}] 192.0.2.3 arn:aws:iam::1:user/a 3E57427F3EXAMPLE {operation} {key} {uri} {rest} {END}"
    )


T = "2019-02-06T02:00:01Z"
S3 = [
    (s3("REST.GET.OBJECT", "a/b.txt"), ("a/b.txt", "GET", 100, T)),
    (s3("REST.GET.OBJECT", "a%252520b/50%252525"), ("a%20b/50%25", "GET", 100, T)),
    (s3("REST.GET.OBJECT", "a%2520b+c%253D"), ("a b+c=", "GET", 100, T)),
    (s3("REST.GET.OBJECT", "%25C3%25A9"), ("é", "GET", 100, T)),
    (s3("REST.GET.OBJECT", "k", "206 - 10 400"), ("k", "GET", 10, T)),
    (s3("REST.GET.OBJECT", "k", "304 - - 400"), ("k", "GET", 0, T)),
    (s3("REST.GET.OBJECT", "k", "404 NoSuchKey 243 -"), PASSED),
    (s3("REST.GET.OBJECT", "k", "403 AccessDenied 243 -"), PASSED),
    (s3("REST.GET.VERSIONING", "-"), PASSED),
    (s3("REST.GET.OBJECT_TAGGING", "k"), PASSED),
    (s3("REST.HEAD.OBJECT", "k", "200 - - 400"), ("k", "HEAD", 0, T)),
    (s3("REST.PUT.OBJECT", "k", "200 - - 400"), ("k", "PUT", 400, T)),
    (s3("REST.POST.UPLOAD", "k", "200 - 300 400"), ("k", "PUT", 400, T)),
    (s3("REST.PUT.PART", "k", "200 - - 400"), PASSED),
    (s3("REST.POST.UPLOADS", "k", "200 - 300 -"), PASSED),
    (s3("REST.COPY.OBJECT", "k", "200 - 300 400"), ("k", "PUT", 400, T)),
    (s3("REST.COPY.OBJECT_GET", "src", "200 - - 400", uri="-"), ("src", "GET", 0, T)),
    (s3("REST.DELETE.OBJECT", "k", "204 - - 400"), ("k", "DELETE", 0, T)),
    (s3("BATCH.DELETE.OBJECT", "a%20b", "204 - - 400", uri="-"), ("a b", "DELETE", 0, T)),
    (s3("S3.EXPIRE.OBJECT", "a%20b", "- - - 400", uri='"-"'), ("a b", "DELETE", 0, T)),
    (s3("S3.CREATE.DELETEMARKER", "k", "- - - -", uri='"-"'), ("k", "DELETE", 0, T)),
    (s3("S3.TRANSITION_SIA.OBJECT", "k", "- - - 400", uri='"-"'), PASSED),
    (s3("REST.GET.OBJECT", "k", uri='"GET /b/x?q="y"&z HTTP/1.1"'), ("k", "GET", 100, T)),
    (s3("REST.GET.OBJECT", "k", time="06/Feb/2019:02:00:01 +0200"), ("k", "GET", 100, "2019-02-06T00:00:01Z")),
    (s3("REST.GET.OBJECT", "k", time="31/Feb/2019:02:00:01 +0000"), (REFUSED, "/ts", "ts is not a time")),
    (s3("REST.GET.OBJECT", "k", "200 - many 400"), (REFUSED, "/bytes", f"bytes is not a number from 0 to {2**46}")),
    (s3("REST.GET.OBJECT", "%25ff%25fe"), (REFUSED, "/key", "the key is not UTF-8")),
    (s3("REST.GET.OBJECT", "a%2500b"), (REFUSED, "/key", "the key holds a NUL character")),
    (s3("REST.GET.OBJECT", "k" * 1025), (REFUSED, "/key", "the key is longer than 1024 bytes")),
    (s3("REST.GET.OBJECT", "k" * 1024), ("k" * 1024, "GET", 100, T)),
    (s3("REST.GET.OBJECT", "k") + "\r", ("k", "GET", 100, T)),
    (s3("REST.GET.OBJECT", "k") + " new fields -", ("k", "GET", 100, T)),
    (s3("REST.GET.OBJECT", "k").partition(" 200")[0], (REFUSED, "", "not a line of s3-access-logs")),
    ("nonsense", (REFUSED, "", "not a line of s3-access-logs")),
    ("", PASSED),
    (b"\xff\xfe " + s3("REST.GET.OBJECT", "k").encode(), ("k", "GET", 100, T)),
    (b"\0" * 5000 + s3("REST.GET.OBJECT", "k").encode(), ("k", "GET", 100, T)),
]  # fmt: skip


@pytest.mark.parametrize(("line", "expected"), S3)
def test_server_access_logs_of_s3(tmp_path: Path, line: str | bytes, expected: Any):
    assert verdict(tmp_path, "s3-access-logs", s3("REST.GET.OBJECT", "good"), line) == expected


def web(
    request: str, rest: str = "200 7", *, head: str = "1.2.3.4 - -", time: str = "17/May/2015:10:05:03 +0000"
) -> str:
    return f'{head} [{time}] "{request}" {rest}'


W = "2015-05-17T10:05:03Z"
AGENT = ' "http://x/" "Mozilla/5.0 (a; \\"b\\")"'
WEB = [
    (web("GET /a.png HTTP/1.1") + AGENT, ("a.png", "GET", 7, W)),
    (web("GET /a.png HTTP/1.1"), ("a.png", "GET", 7, W)),
    (web("GET /a.png HTTP/1.1") + AGENT + ' 0.003 "-" rt=1', ("a.png", "GET", 7, W)),
    (web("GET /a%20b%2Fc+d?x=/y%20z HTTP/2.0") + AGENT, ("a b/c+d", "GET", 7, W)),
    (web("GET /with space.txt HTTP/1.1"), ("with space.txt", "GET", 7, W)),
    (web("GET /\\xC3\\xA9 HTTP/1.1"), ("é", "GET", 7, W)),
    (web('GET /say\\"hi\\" HTTP/1.1') + AGENT, ('say"hi"', "GET", 7, W)),
    (web("GET /back\\\\slash HTTP/1.1"), ("back\\slash", "GET", 7, W)),
    (web("GET /100% HTTP/1.1"), ("100%", "GET", 7, W)),
    (web("GET /a"), ("a", "GET", 7, W)),
    (web("GET http://host:8080/a/b?c HTTP/1.1"), ("a/b", "GET", 7, W)),
    (web("GET / HTTP/1.1"), PASSED),
    (web("GET /?x=1 HTTP/1.1"), PASSED),
    (web("HEAD /a HTTP/1.1", "200 -"), ("a", "HEAD", 0, W)),
    (web("HEAD /a HTTP/1.1", "200 0"), ("a", "HEAD", 0, W)),
    (web("GET /a HTTP/1.1", "206 3"), ("a", "GET", 3, W)),
    (web("GET /a HTTP/1.1", "304 -"), ("a", "GET", 0, W)),
    (web("PUT /a HTTP/1.1", "201 3"), ("a", "PUT", 0, W)),
    (web("DELETE /a HTTP/1.1", "204 -"), ("a", "DELETE", 0, W)),
    (web("OPTIONS /a HTTP/1.1"), PASSED),
    (web("GET /a HTTP/1.1", "404 5"), PASSED),
    (web("GET /a HTTP/1.1", "301 5"), PASSED),
    (web("-", "400 0"), PASSED),
    (web("", "400 0"), PASSED),
    (web("\\x16\\x03\\x01\\x02", "400 157"), PASSED),
    (web("GET /a HTTP/1.1", head="2001:db8::1 - -"), ("a", "GET", 7, W)),
    (web("GET /a HTTP/1.1", head="www.example.com:80 1.2.3.4 - john"), ("a", "GET", 7, W)),
    (web("GET /a HTTP/1.1", head="[::1]:80 ::1 - a user [x]"), ("a", "GET", 7, W)),
    (web("GET /a HTTP/1.1", time="29/Mar/2026:03:30:00 +0200"), ("a", "GET", 7, "2026-03-29T01:30:00Z")),
    (web("GET /a HTTP/1.1", time="29/Mar/2026:01:59:59 +0100"), ("a", "GET", 7, "2026-03-29T00:59:59Z")),
    (web("GET /a HTTP/1.1", time="31/Dec/2025:23:00:00 -0130"), ("a", "GET", 7, "2026-01-01T00:30:00Z")),
    (web("GET /a HTTP/1.1", time="29/Feb/2024:00:00:00 +0000"), ("a", "GET", 7, "2024-02-29T00:00:00Z")),
    (web("GET /a HTTP/1.1", time="29/Feb/2023:00:00:00 +0000"), (REFUSED, "/ts", "ts is not a time")),
    (web("GET /a HTTP/1.1", time="29/Foo/2023:00:00:00 +0000"), (REFUSED, "/ts", "ts is not a time")),
    (web("GET /%C3 HTTP/1.1"), (REFUSED, "/key", "the key is not UTF-8")),
    (web("GET /%00 HTTP/1.1"), (REFUSED, "/key", "the key holds a NUL character")),
    (web("GET /a HTTP/1.1", "abc 5"), (REFUSED, "", "not a line of nginx")),
    (web("GET /a HTTP/1.1").replace('"', "'"), (REFUSED, "", "not a line of nginx")),
    (web("GET /" + "a" * 2**20 + " HTTP/1.1"), (REFUSED, "", "the line is longer than 1048576 bytes")),
]  # fmt: skip


@pytest.mark.parametrize(("line", "expected"), WEB)
@pytest.mark.parametrize("kind", ["nginx", "apache"])
def test_access_logs_of_nginx_and_apache(tmp_path: Path, kind: str, line: str, expected: Any):
    assert verdict(tmp_path, kind, web("GET /good HTTP/1.1"), line) == expected


EDGE = (
    "date time x-edge-location sc-bytes c-ip cs-method cs(Host) cs-uri-stem sc-status cs(Referer) cs(User-Agent)"
    " cs-uri-query cs(Cookie) x-edge-result-type x-edge-request-id x-host-header"
)


def edge(path: str, status: str = "200", method: str = "GET", sent: str = "392", time: str = "21:02:31") -> str:
    return (
        f"2019-12-04\t{time}\tLAX1\t{sent}\t192.0.2.100\t{method}\td111.cloudfront.net\t{path}\t{status}\t-\tMozilla\tq=1\t-"
        "\tHit\tSOX4xwn4XV6Q4rgb7XiVGOHms_BGlTAC4KyHmureZmBNrjGdRLiNIQ==\td111.cloudfront.net"
    )  # fmt: skip


C = "2019-12-04T21:02:31Z"
CLOUDFRONT = [
    (edge("/index.html"), ("index.html", "GET", 392, C)),
    (edge("/a%2520b/%25C3%25A9"), ("a b/é", "GET", 392, C)),
    (edge("/a%20b"), ("a b", "GET", 392, C)),
    (edge("/a", method="HEAD"), ("a", "HEAD", 0, C)),
    (edge("/a", method="PUT"), PASSED),
    (edge("/a", "304"), ("a", "GET", 392, C)),
    (edge("/a", "000"), PASSED),
    (edge("/"), PASSED),
    (edge("/a", time="25:00:00"), (REFUSED, "/ts", "ts is not a time")),
    (edge("/a", sent="-"), ("a", "GET", 0, C)),
    ("#Version: 1.0", PASSED),
    ("2019-12-04\t21:02:31\tLAX1", (REFUSED, "", "not a line of cloudfront")),
]


@pytest.mark.parametrize(("line", "expected"), CLOUDFRONT)
def test_standard_logs_of_cloudfront(tmp_path: Path, line: str, expected: Any):
    assert verdict(tmp_path, "cloudfront", edge("/good"), line) == expected


def test_the_fields_of_a_log_of_cloudfront_are_found_by_their_names(tmp_path: Path):
    some = "#Version: 1.0\n#Fields: cs-uri-stem sc-status date cs-method sc-bytes time x-edge-request-id\n"
    text = some + "/a\t200\t2019-12-04\tGET\t5\t21:02:31\tid1\n" + f"#Fields: {EDGE}\n" + edge("/b") + "\n"
    found = lines(imported(tmp_path, "cloudfront", text))
    assert [(line["key"], line["bytes"], line["ts"], line["event_id"][:6]) for line in found] == [
        ("a", 5, C, "cf-id1"),
        ("b", 392, C, "cf-SOX"),
    ]
    with pytest.raises(Invalid, match="lack cs-method, sc-status"):
        imported(tmp_path, "cloudfront", "#Fields: date time cs-uri-stem sc-bytes\n")


def test_json_logs_of_cloudfront(tmp_path: Path):
    entry = {
        "date": "2025-01-02", "time": "03:04:05", "sc-bytes": "7", "cs-method": "GET", "cs-uri-stem": "/a%2520b",
        "sc-status": "200", "x-edge-request-id": "e1",
    }  # fmt: skip
    texts = [json.dumps(entry), json.dumps(entry | {"sc-status": "404"}), json.dumps({"cs-uri-stem": 1}), '{"cut']
    (part,) = imported(tmp_path, "cloudfront", "\n".join(texts) + "\n")
    assert lines([part]) == [{"ts": "2025-01-02T03:04:05Z", "key": "a b", "op": "GET", "bytes": 7, "event_id": "cf-e1"}]
    assert (part.passed, [(each.line, each.text) for each in part.refused]) == (2, [(4, '{"cut')])


def gcs(
    method: str, key: str, status: str = "200", received: str = "0", sent: str = "77", time: str = "1500000000000001"
) -> str:
    return (
        f'"{time}","1.2.3.4","1","","{method}","/b/o?x=""y""","{status}","{received}","{sent}","20000","host","",'
        f'"agent ""of"", someone","AEnB2Uo","GET_Object","b","{key}"'
    )


G = "2017-07-14T02:40:00.000001Z"
GCS = [
    (gcs("GET", "a b%20c"), ("a b%20c", "GET", 77, G)),
    (gcs("GET", 'say ""hi""'), ('say "hi"', "GET", 77, G)),
    (gcs("GET", "é"), ("é", "GET", 77, G)),
    (gcs("PUT", "k", received="99"), ("k", "PUT", 99, G)),
    (gcs("POST", "k", received="99"), ("k", "PUT", 99, G)),
    (gcs("HEAD", "k"), ("k", "HEAD", 0, G)),
    (gcs("DELETE", "k", "204"), ("k", "DELETE", 0, G)),
    (gcs("GET", ""), PASSED),
    (gcs("GET", "k", "404"), PASSED),
    (gcs("GET", "k").replace('"', "", 2), ("k", "GET", 77, G)),
    (
        '"time_micros","c_ip","c_ip_type","c_ip_region","cs_method","cs_uri","sc_status","cs_bytes","sc_bytes",'
        '"time_taken_micros","cs_host","cs_referer","cs_user_agent","s_request_id","cs_operation","cs_bucket","cs_object"',
        PASSED,
    ),
    (gcs("GET", "k", time="yesterday"), (REFUSED, "/ts", "ts is not a time")),
    (gcs("GET", "k")[:-8], (REFUSED, "", "not a line of gcs-logs")),
]  # fmt: skip


@pytest.mark.parametrize(("line", "expected"), GCS)
def test_usage_logs_of_cloud_storage(tmp_path: Path, line: str, expected: Any):
    assert verdict(tmp_path, "gcs-logs", gcs("GET", "good"), line) == expected


def azure(
    operation: str,
    key: str = "/acc/c/d/e%20f.txt",
    status: str = "200",
    received: str = "120",
    sent: str = "100",
    version: str = "1.0",
) -> str:
    return (
        f"{version};2014-06-19T22:59:23.1967767Z;{operation};AnonymousSuccess;{status};17;16;anonymous;;acc;blob;"
        f'"https://acc.blob.core.windows.net/c/d?a=1&amp;b=&quot;;";"{key}";bb5dd0f1-801e-0000;0;1.2.3.4:9;2009-09-19;'
        f'252;{received};265;{sent};0;;;"&quot;0x8D&quot;";Thursday;;"agent";;"x"'
    )


A = "2014-06-19T22:59:23.196776Z"
AZURE = [
    (azure("GetBlob"), ("d/e f.txt", "GET", 100, A)),
    (azure("GetBlob", version="2.0") + ";;;;;;", ("d/e f.txt", "GET", 100, A)),
    (azure("GetBlob", "/acc/c/a&amp;b&quot;c;d"), ('a&b"c;d', "GET", 100, A)),
    (azure("GetBlobProperties"), ("d/e f.txt", "HEAD", 0, A)),
    (azure("PutBlob", status="201"), ("d/e f.txt", "PUT", 120, A)),
    (azure("PutBlockList", status="201"), ("d/e f.txt", "PUT", 0, A)),
    (azure("DeleteBlob", status="202"), ("d/e f.txt", "DELETE", 0, A)),
    (azure("PutBlock", status="201"), PASSED),
    (azure("ListBlobs", "/acc/c"), PASSED),
    (azure("GetBlob", "/acc/c"), PASSED),
    (azure("GetBlob", status="404"), PASSED),
    (azure("GetBlob", status="Unknown"), (REFUSED, "", "not a line of azure-logs")),
]


@pytest.mark.parametrize(("line", "expected"), AZURE)
def test_analytics_logs_of_azure(tmp_path: Path, line: str, expected: Any):
    assert verdict(tmp_path, "azure-logs", azure("GetBlob", "/acc/c/good"), line) == expected


def test_resource_logs_of_azure(tmp_path: Path):
    said = {"objectKey": "/acc/c/d/e%20f.txt", "requestBodySize": 0, "responseBodySize": 12}
    entry = {
        "time": "2026-01-01T00:00:00.1Z", "operationName": "GetBlob", "statusCode": 200, "properties": said,
        "correlationId": "8b6ddce5",
    }  # fmt: skip
    texts = [json.dumps(entry), json.dumps(entry | {"statusCode": 404}), '{"cut', json.dumps(entry | {"time": "now"})]
    (part,) = imported(tmp_path, "azure-logs", "\n".join(texts) + "\n")
    assert lines([part]) == [
        {"ts": "2026-01-01T00:00:00.100000Z", "key": "d/e f.txt", "op": "GET", "bytes": 12, "event_id": "az-8b6ddce5"}
    ]
    assert (part.passed, [(each.line, each.detail) for each in part.refused]) == (
        1,
        [(3, "not a line of azure-logs"), (4, "ts is not a time")],
    )


@pytest.mark.parametrize(
    ("kind", "line", "expected"),
    [
        ("s3-access-logs", s3("REST.GET.OBJECT", "k"), "s3-3E57427F3EXAMPLE"),
        ("cloudfront", edge("/a"), "cf-SOX4xwn4XV6Q4rgb7XiVGOHms_BGlTAC4KyHmureZmBNrjGdRLiNIQ=="),
        ("gcs-logs", gcs("GET", "k"), "gcs-AEnB2Uo"),
        ("azure-logs", azure("GetBlob"), "az-bb5dd0f1-801e-0000-0"),
    ],
)
def test_an_event_is_named_by_its_request(tmp_path: Path, kind: str, line: str, expected: str):
    assert [each["event_id"] for each in lines(imported(tmp_path, kind, f"{line}\n"))] == [expected]


def test_lines_of_one_request_are_events_of_their_own(tmp_path: Path):
    text = "\n".join(s3("BATCH.DELETE.OBJECT", key, "204 - - 4", uri="-") for key in ("a", "b")) + "\n"
    text += s3("REST.COPY.OBJECT", "c") + "\n" + s3("REST.COPY.OBJECT_GET", "d", uri="-") + "\n"
    assert len({each["event_id"] for each in lines(imported(tmp_path, "s3-access-logs", text))}) == 4


def test_the_site_stands_in_each_line_where_it_is_named(tmp_path: Path):
    (line,) = lines(imported(tmp_path, "nginx", web("GET /a HTTP/1.1") + "\n", site='a"b'))
    assert line["site"] == 'a"b'


def test_a_last_line_that_is_cut_within_what_is_needed_is_refused(tmp_path: Path):
    whole = web("GET /a HTTP/1.1", "200 712")
    (part,) = imported(tmp_path, "nginx", f"{whole}\n{whole[:-2]}")
    assert [(each.line, each.detail) for each in part.refused] == [
        (2, "the file ends within what is needed of its last line")
    ]
    (part,) = imported(tmp_path, "nginx", f"{whole}\n{whole}{AGENT}"[:-9])
    assert (len(lines([part])), part.refused) == (2, [])


def test_a_byte_order_mark_and_line_ends_of_windows_change_no_line(tmp_path: Path):
    plain = f"{web('GET /a HTTP/1.1')}\n{web('GET /b HTTP/1.1')}\n"
    marked = b"\xef\xbb\xbf" + plain.replace("\n", "\r\n").encode()
    assert lines(imported(tmp_path, "nginx", marked)) == lines(imported(tmp_path, "nginx", plain))
