"""The fault proxy: passes S3 on unharmed, harms as its rules say, the same again for the same seed, and logs it."""

import os
import time
from contextlib import suppress
from datetime import timedelta
from email.utils import parsedate_to_datetime

import pytest
from botocore.exceptions import ClientError, ConnectionClosedError, ReadTimeoutError, ResponseStreamingError

from tests import s3servers
from tests.faults.proxy import Proxy
from tests.faults.rules import Fault, on
from tests.plain import Plain

KEYS = ["plain", "with space", "plus+percent%20", "é/🎉", "\u202ertl", "<script>"]


@pytest.fixture(params=s3servers.REAL)
def proxy(request, site_of):
    with Proxy(site_of(request.param), seed=7) as running:
        yield running


@pytest.fixture
def client(proxy):
    return Plain(proxy.site).client


def put(client, proxy, key, body=b"0123456789" * 1000):
    client.put_object(Bucket=proxy.site.bucket, Key=f"proxy/{key}", Body=body, Metadata={"k": "v"})
    return body


def get(client, proxy, key):
    return client.get_object(Bucket=proxy.site.bucket, Key=f"proxy/{key}")["Body"].read()


def test_what_is_not_harmed_passes_as_it_is(proxy, client):
    for key in KEYS:
        body = put(client, proxy, key, key.encode() * 1000)
        assert get(client, proxy, key) == body
    big = os.urandom(6 * 2**20 + 1)
    put(client, proxy, "empty", b"")
    assert get(client, proxy, "empty") == b""
    put(client, proxy, "big", big)
    assert get(client, proxy, "big") == big
    head = client.head_object(Bucket=proxy.site.bucket, Key="proxy/big")
    metadata = {name.lower(): value for name, value in head["Metadata"].items()}  # rclone writes K
    assert (head["ContentLength"], metadata) == (len(big), {"k": "v"})
    listed = client.list_objects_v2(Bucket=proxy.site.bucket, Prefix="proxy/")["Contents"]
    assert {entry["Key"] for entry in listed} >= {f"proxy/{key}" for key in KEYS}
    assert [one.status for one in proxy.asked("GetObject", "big")] == [200]
    assert proxy.asked("PutObject", "big")[0].sent == proxy.asked("GetObject", "big")[0].received == len(big)
    assert proxy.asked("ListObjectsV2")


def test_a_multipart_upload_is_seen_part_by_part(proxy, client):
    where = {"Bucket": proxy.site.bucket, "Key": "proxy/parts"}
    upload = {**where, "UploadId": client.create_multipart_upload(**where)["UploadId"]}
    etags = [client.upload_part(**upload, PartNumber=n, Body=b"x" * 5 * 2**20)["ETag"] for n in (1, 2)]
    parts = [{"PartNumber": n, "ETag": etag} for n, etag in enumerate(etags, start=1)]
    client.complete_multipart_upload(**upload, MultipartUpload={"Parts": parts})
    assert [one.part for one in proxy.asked("UploadPart", "parts")] == [1, 2]
    assert len(proxy.asked("CreateMultipartUpload")) == len(proxy.asked("CompleteMultipartUpload")) == 1


@pytest.mark.parametrize(
    ("fault", "status", "code"),
    [
        (Fault.THROTTLED, 429, "TooManyRequests"),
        (Fault.BROKEN, 500, "InternalError"),
        (Fault.SLOW_DOWN, 503, "SlowDown"),
        (Fault.ERROR_IN_200, 500, "InternalError"),  # botocore itself takes such a 200 for a 500
    ],
)
def test_errors_are_answered_in_the_servers_place(proxy, client, fault, status, code):
    put(client, proxy, "kept")
    proxy.harm(on("CopyObject PutObject", fault, value=3))
    source = f"{proxy.site.bucket}/proxy/kept"
    with pytest.raises(ClientError) as refused:
        client.copy_object(Bucket=proxy.site.bucket, Key="proxy/copied", CopySource=source)
    told = refused.value.response
    assert (told["ResponseMetadata"]["HTTPStatusCode"], told["Error"]["Code"]) == (status, code)
    assert told["ResponseMetadata"]["HTTPHeaders"].get("retry-after") == ("3" if fault is Fault.SLOW_DOWN else None)
    proxy.harm()
    with pytest.raises(client.exceptions.NoSuchKey):
        get(client, proxy, "copied")


@pytest.mark.parametrize("fault", [Fault.REDIRECT_301, Fault.REDIRECT_307])
def test_redirects_name_the_place_that_the_rule_says(proxy, client, fault):
    proxy.harm(on("PutObject", fault, where="http://127.0.0.1:9/elsewhere", times=1))
    with pytest.raises(ClientError) as refused:
        put(client, proxy, "moved")
    told = refused.value.response["ResponseMetadata"]
    assert told["HTTPStatusCode"] == int(fault)
    assert told["HTTPHeaders"]["location"] == "http://127.0.0.1:9/elsewhere"


def test_a_dropped_answer_leaves_the_work_done_and_a_reset_does_not(proxy, client):
    proxy.harm(on("PutObject", Fault.DROPPED, name="dropped"), on("PutObject", Fault.RESET, name="reset"))
    for key in ("dropped", "reset"):
        with pytest.raises(ConnectionClosedError):
            put(client, proxy, key, key.encode())
    assert get(client, proxy, "dropped") == b"dropped"
    with pytest.raises(client.exceptions.NoSuchKey):
        get(client, proxy, "reset")
    assert [one.status for one in proxy.asked("PutObject")] == [None, None]


def test_a_half_open_connection_is_never_answered(proxy):
    impatient = Plain(proxy.site, read_timeout_s=0.3).client
    proxy.harm(on("HeadObject", Fault.HALF_OPEN))
    with pytest.raises(ReadTimeoutError):
        impatient.head_object(Bucket=proxy.site.bucket, Key="proxy/silent")
    assert len(proxy.injected(Fault.HALF_OPEN)) == 1


def test_bodies_are_cut_and_changed_by_one_bit(proxy, client):
    body = put(client, proxy, "body")
    proxy.harm(on("GetObject", Fault.FLIPPED))
    found = get(client, proxy, "body")
    assert sum((a ^ b).bit_count() for a, b in zip(found, body, strict=True)) == 1
    proxy.harm(on("PutObject", Fault.SPOILT))
    with suppress(ClientError):  # a server that checks what it is sent refuses it
        put(client, proxy, "spoilt", body)
        proxy.harm()
        assert sum((a ^ b).bit_count() for a, b in zip(get(client, proxy, "spoilt"), body, strict=True)) == 1
    proxy.harm(on("GetObject", Fault.TRUNCATED))
    with pytest.raises(ResponseStreamingError):
        get(client, proxy, "body")


def test_time_is_taken_by_latency_and_bandwidth(proxy, client):
    def seconds(*rules):
        proxy.harm(*rules)
        begun = time.monotonic()
        get(client, proxy, "slow")
        return time.monotonic() - begun

    put(client, proxy, "slow", b"x" * 200_000)
    assert seconds(on("GetObject", Fault.LATENCY, value=0.3)) >= 0.3
    assert seconds(on("GetObject", Fault.BANDWIDTH, value=500_000)) >= 0.35
    assert seconds() < 0.3


def test_acts_happen_before_the_request_and_after_the_work(proxy, client):
    direct, seen = Plain(proxy.behind).client, []

    def look():
        found = direct.list_objects_v2(Bucket=proxy.site.bucket, Prefix="proxy/acted")
        seen.append(len(found.get("Contents", [])))

    proxy.harm(*(on("PutObject", moment, name="acted", act=look) for moment in (Fault.BEFORE, Fault.AFTER)))
    put(client, proxy, "acted")
    assert seen == [0, 1]


@pytest.mark.parametrize("hours", [-1, 1])
def test_the_servers_clock_can_be_off(proxy, client, hours):
    put(client, proxy, "dated")
    where = {"Bucket": proxy.site.bucket}
    true = client.head_object(**where, Key="proxy/dated")
    proxy.clock_offset = timedelta(hours=hours)
    shifted = client.head_object(**where, Key="proxy/dated")
    (listed,) = client.list_objects_v2(**where, Prefix="proxy/dated")["Contents"]
    assert shifted["LastModified"] - true["LastModified"] == timedelta(hours=hours)
    assert listed["LastModified"].replace(microsecond=0) == shifted["LastModified"]
    dates = [parsedate_to_datetime(one["ResponseMetadata"]["HTTPHeaders"]["date"]) for one in (shifted, true)]
    assert abs(dates[0] - dates[1] - timedelta(hours=hours)) < timedelta(minutes=1)


def test_the_same_seed_harms_the_same_requests_whatever_their_order(site_of):
    def harmed(seed, names):
        with Proxy(site_of(s3servers.SEAWEEDFS), seed) as proxy:
            proxy.harm(on("HeadObject", Fault.BROKEN, p=0.5))
            client = Plain(proxy.site).client
            for name in names:
                with pytest.raises(ClientError):  # not there, or harmed
                    client.head_object(Bucket=proxy.site.bucket, Key=f"run-{seed}/{name}")
            return {one.key.partition("/")[2] for one in proxy.injected(Fault.BROKEN)}

    names = [f"key{n}" for n in range(40)]
    first = harmed(1, names)
    assert harmed(1, names[::-1]) == first
    assert harmed(2, names) != first
    assert 8 <= len(first) <= 32


def test_rules_spare_and_stop_as_they_say(proxy, client):
    proxy.harm(on("HeadObject", Fault.BROKEN, skip=2, times=1))
    put(client, proxy, "counted")
    statuses = []
    for _ in range(5):
        with suppress(ClientError):
            client.head_object(Bucket=proxy.site.bucket, Key="proxy/counted")
        statuses.append(proxy.log[-1].status)
    assert statuses == [200, 200, 500, 200, 200]
