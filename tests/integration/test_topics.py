"""Topics: published once, read in order, consumed once with their effects, poison set aside, pruned and told so."""

from __future__ import annotations

import gzip
import json
import threading
import time
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from prometheus_client import CollectorRegistry, generate_latest
from sqlalchemy import func, select, update

from app.api.exposition_topics import Topics
from app.db import topic_groups, topics
from app.db.session import session_scope
from app.db.tables import Access, Alert, DeadLetter, Object, TopicBlock, TopicGroup
from app.domain.roles import Role
from app.domain.tasks import TaskName
from app.domain.topics import TopicName
from app.errors import Unavailable
from tests import jobs
from tests.integration.conftest import Api
from workers.control import prune
from workers.topic_handlers import HANDLERS
from workers.topics import Turn, consume

NOW = datetime.now(UTC).replace(microsecond=0) - timedelta(hours=1)
NDJSON = {"Content-Type": "application/x-ndjson"}
USER = TopicName.USER


def event(number: int, **fields: Any) -> dict[str, Any]:
    return {"number": number, **fields}


def access(number: int, **fields: Any) -> dict[str, Any]:
    return {"ts": NOW.isoformat(), "key": f"topics/{number}", "op": "GET", "bytes": 10, **fields}


def lines(events: list[dict[str, Any]]) -> bytes:
    return b"\n".join(json.dumps(each).encode() for each in events)


def publish(api: Api, topic: str, events: list[dict[str, Any]] | bytes, **headers: str) -> Any:
    body = events if isinstance(events, bytes) else lines(events)
    return api.post(f"/v1/events/{topic}", role=Role.OPERATOR, data=body, headers=NDJSON | headers)


def numbers(api: Api, topic: str = "user", query: str = "limit=5000") -> list[int]:
    return [item["event"]["number"] for item in api.get(f"/v1/events/{topic}?{query}").json["items"]]


def group(api: Api, topic: str = "file_access", name: str = "accesses") -> dict[str, Any]:
    return api.get(f"/v1/events/{topic}/groups/{name}").json


def stored() -> int:
    with session_scope() as session:
        return session.scalar(select(func.count()).select_from(Access)) or 0


# -- publish and read -------------------------------------------------------------------------------------------------


def test_events_get_offsets_in_order_and_are_read_from_any(api: Api):
    first = publish(api, "user", [event(n) for n in range(3)]).json
    assert (first["first_offset"], first["next_offset"], first["accepted"], first["errors"]) == (0, 3, 3, [])
    packed = gzip.compress(lines([event(n) for n in range(3, 5)]) + b"\n\n")
    assert publish(api, "user", packed, **{"Content-Encoding": "gzip"}).json["first_offset"] == 3
    array = json.dumps([event(5), event(6, text="ünïcode \u0000 \n")], indent=1).encode()
    assert publish(api, "user", array, **{"Content-Type": "application/json"}).json["next_offset"] == 7
    assert numbers(api) == list(range(7))
    assert numbers(api, query="offset=4&limit=2") == [4, 5]
    page = api.get("/v1/events/user?limit=2").json
    assert (page["next_offset"], page["first_offset"], page["end_offset"]) == (2, 0, 7)
    assert numbers(api, query=f"cursor={page['next_cursor']}") == [2, 3, 4, 5, 6]
    last = api.get("/v1/events/user?offset=6").json
    assert (last["next_cursor"], last["items"][0]["event"]["text"]) == (None, "ünïcode \u0000 \n")
    assert api.get("/v1/events/devices").json["items"] == []


def test_what_is_wrong_is_named_and_the_rest_taken(api: Api):
    wrong = [b"{", b"[1]", b'"text"', b'{"a": "\xff"}', b"{" + b" " * 2**18 + b"}", b'{"a":' + b"[" * 3000]
    body = b"\n".join([b'{"number": 1}', *wrong, b"", b'{"number": 2}'])
    answer = publish(api, "errors", body).json
    assert (answer["accepted"], answer["rejected"]) == (2, len(wrong))
    assert [error["line"] for error in answer["errors"]] == [2, 3, 4, 5, 6, 7]
    assert all(error["detail"] for error in answer["errors"])
    assert numbers(api, "errors") == [1, 2]
    strict = api.post("/v1/events/errors?strict=true", data=body, headers=NDJSON)
    assert (strict.status_code, strict.json["errors"][0]["pointer"]) == (422, "/1")
    assert publish(api, "nothing", b"{}").status_code == 404
    assert publish(api, "user", b"\n").json["accepted"] == 0
    assert api.get("/v1/events/user?offset=1").status_code == 422
    assert api.get("/v1/events/user?cursor=%21").status_code == 422
    assert publish(api, "user", b"{}", **{"Content-Type": "application/xml"}).status_code == 415


def test_a_batch_that_is_sent_again_is_stored_once(api: Api):
    key = {"Idempotency-Key": "producer-1"}
    first = publish(api, "user", [event(1), event(2)], **key).json
    again = publish(api, "user", [event(1), event(2)], **key).json
    assert (again["first_offset"], again["next_offset"]) == (first["first_offset"], first["next_offset"])
    assert (again["accepted"], again["duplicates"]) == (0, 2)
    other = publish(api, "user", [event(3)], **key)
    assert (other.status_code, other.json["reason"]) == (422, "idempotency_key_reused")
    assert numbers(api) == [1, 2]
    topic = next(each for each in api.get("/v1/events").json["items"] if each["name"] == "user")
    assert (topic["next_offset"], topic["duplicates"]) == (2, 2)


def test_readers_never_pass_an_event_that_is_committed_later(api: Api):
    """Publishers in parallel, each batch sent by two at the same time; a reader follows with what it has seen."""
    seen: list[int] = []
    over = threading.Event()

    def send(writer: int) -> None:
        for turn in range(10):
            body = [event(writer % 2 * 1000 + turn * 10 + n) for n in range(3)]
            publish(api, "user", body, **{"Idempotency-Key": f"{writer % 2}-{turn}"})

    def follow() -> None:
        offset = 0
        while not over.is_set() or offset < api.get("/v1/events/user").json["end_offset"]:
            page = api.get(f"/v1/events/user?offset={offset}&limit=50&wait=1").json
            seen.extend(item["event"]["number"] for item in page["items"])
            offset = page["next_offset"]

    reader = threading.Thread(target=follow)
    reader.start()
    writers = [threading.Thread(target=send, args=(n,)) for n in range(4)]
    for thread in writers:
        thread.start()
    for thread in writers:
        thread.join()
    over.set()
    reader.join()
    assert len(seen) == len(set(seen)) == 2 * 10 * 3


def test_a_reader_waits_for_an_event(api: Api):
    timer = threading.Timer(0.2, publish, (api, "user", [event(1)]))
    timer.start()
    began = time.monotonic()
    page = api.get("/v1/events/user?wait=10").json
    assert [item["event"]["number"] for item in page["items"]] == [1]
    assert time.monotonic() - began < 5
    timer.join()


# -- the workers' own group -------------------------------------------------------------------------------------------


def test_accesses_are_stored_once_with_their_position(api: Api):
    sent = [access(n) for n in range(4)] + [access(9, event_id="mine"), access(9, event_id="mine")]
    answer = publish(api, "file_access", [*sent, access(5, ts="2026-01-01T00:00:00"), access(6, site="nowhere")]).json
    assert (answer["accepted"], answer["rejected"]) == (6, 2)
    assert [(error["line"], error["pointer"]) for error in answer["errors"]] == [(7, "/ts"), (8, "/site")]
    assert group(api)["lag"] == 6
    consume("accesses")
    assert stored() == 5
    found = group(api)
    assert (found["position"], found["lag"], found["handled"], found["member"]) == (6, 0, 6, None)
    with session_scope() as session:
        session.execute(update(TopicGroup).values(position=0))
    consume("accesses")  # set back: what was stored is known again
    assert (stored(), group(api)["position"]) == (5, 6)


def test_an_event_that_is_no_access_any_more_is_dead_and_can_be_tried_again(api: Api):
    with session_scope() as session:
        topics.publish(session, TopicName.FILE_ACCESS, [json.dumps(access(1)).encode(), b'{"no": "access"}'])
    consume("accesses")
    assert stored() == 1
    (letter,) = api.get("/v1/dead-letters?group=accesses").json["items"]
    assert (letter["offset"], letter["state"], letter["event"]) == (1, "dead", '{"no": "access"}')
    assert letter["error"]["detail"]
    assert group(api)["dead"] == 1
    alerts = [alert for alert in api.get("/v1/alerts").json["items"] if alert["kind"] == "dead_letters"]
    assert "accesses" in alerts[0]["message"]
    with session_scope() as session:  # what was wrong is mended
        session.execute(update(DeadLetter).values(event=json.dumps(access(2)).encode()))
    assert api.post(f"/v1/dead-letters/{letter['id']}:retry").json["state"] == "retry"
    consume("accesses")
    assert stored() == 2
    assert api.get("/v1/dead-letters").json["items"][0]["state"] == "done"
    assert api.post(f"/v1/dead-letters/{letter['id']}:discard").status_code == 409
    with session_scope() as session:
        assert session.scalar(select(Alert.state).where(Alert.kind == "dead_letters")) == "resolved"


@pytest.fixture
def handler() -> Any:
    """Lets a test handle the accesses group's events."""
    kept = dict(HANDLERS)
    yield lambda handle: HANDLERS.__setitem__("accesses", handle)
    HANDLERS.clear()
    HANDLERS.update(kept)


def test_a_poison_event_is_found_by_halves_and_the_group_goes_on(api: Api, handler: Callable[..., None]):
    handled: list[int] = []

    def poisoned(_: Any, chunks: Any) -> list[Any]:
        offsets = [n for chunk in chunks for n in range(chunk.first_offset, chunk.next_offset)]
        if 37 in offsets:
            raise ZeroDivisionError
        handled.extend(offsets)
        return []

    with session_scope() as session:
        for _ in range(5):
            topics.publish(session, TopicName.FILE_ACCESS, [json.dumps(access(n)).encode() for n in range(20)])
    handler(poisoned)
    for _ in range(10):
        consume("accesses")
        with session_scope() as session:
            session.execute(update(TopicGroup).values(next_attempt_at=func.now()))
    assert handled == [n for n in range(100) if n != 37]
    (letter,) = api.get("/v1/dead-letters").json["items"]
    assert (letter["offset"], letter["error"]["type"]) == (37, "unexpected-error")
    assert "ZeroDivisionError" in letter["error"]["detail"]


def test_a_part_that_is_away_is_waited_for_and_nothing_is_dead(api: Api, handler: Callable[..., None]):
    def away(*_: Any) -> list[Any]:
        raise Unavailable("it is away")

    publish(api, "file_access", [access(1)])
    handler(away)
    consume("accesses")
    found = group(api)
    assert (found["lag"], found["attempts"], found["error"]["detail"], found["member"]) == (1, 1, "it is away", None)
    assert api.get("/v1/dead-letters").json["items"] == []


def test_a_worker_that_was_killed_is_followed_and_one_that_wakes_late_changes_nothing(api: Api):
    publish(api, "file_access", [access(n) for n in range(3)])
    frozen = Turn.begin("accesses")
    assert frozen is not None
    with session_scope() as session:
        session.execute(update(TopicGroup).values(member="another", lease_until=func.now() - timedelta(seconds=1)))
    consume("accesses")
    assert stored() == 3
    publish(api, "file_access", [access(n) for n in range(3, 5)])
    with pytest.raises(Exception, match="taken this work over"):
        frozen.run(time.monotonic() + 5)
    assert (stored(), group(api)["lag"]) == (3, 2)


def test_an_event_that_kills_its_worker_each_time_is_set_aside(api: Api, configure: Callable[..., Any]):
    configure(max_attempts=3)
    publish(api, "file_access", [access(n) for n in range(2)])
    for turn in range(30):
        if Turn.begin("accesses") is None:
            break
        with session_scope() as session:
            row = topic_groups.get(session, "accesses", TopicName.FILE_ACCESS)
            row.member, row.lease_until = f"killed {turn}", datetime.now(UTC) - timedelta(seconds=1)
            if row.position == 1:
                break
    (letter,) = api.get("/v1/dead-letters").json["items"]
    assert (letter["offset"], letter["error"]["type"]) == (0, "worker-lost")


# -- retention --------------------------------------------------------------------------------------------------------


def test_pruned_events_are_told_of(api: Api):
    for n in range(3):
        publish(api, "file_access", [access(n)])
    with session_scope() as session:
        old = func.now() - timedelta(days=8)
        session.execute(update(TopicBlock).where(TopicBlock.base_offset < 2).values(received_at=old))
        assert topics.prune(session, TopicName.FILE_ACCESS, timedelta(days=7), 2**40) == 2
    gone = api.get("/v1/events/file_access?offset=0")
    assert (gone.status_code, gone.json["type"]) == (410, "/problems/offset-gone")
    assert "goes on at 2" in gone.json["detail"]
    assert [item["offset"] for item in api.get("/v1/events/file_access").json["items"]] == [2]
    consume("accesses")
    found = group(api)
    assert (found["skipped"], found["position"], stored()) == (2, 3, 1)
    kinds = [alert["kind"] for alert in api.get("/v1/alerts").json["items"]]
    assert "events_lost" in kinds
    with session_scope() as session:
        assert topics.prune(session, TopicName.FILE_ACCESS, timedelta(days=7), 0) == 1
        row = topics.get(session, TopicName.FILE_ACCESS)
        assert (row.bytes, row.first_offset, row.next_offset) == (0, 3, 3)


# -- consumers outside ------------------------------------------------------------------------------------------------


def claim(api: Api, member: str, **body: Any) -> Any:
    return api.post("/v1/events/user/groups/readers:claim", {"member": member, **body}, role=Role.OPERATOR)


def test_one_member_at_a_time_has_a_topic(api: Api):
    publish(api, "user", [event(n) for n in range(5)])
    mine = claim(api, "one")
    assert (mine.status_code, mine.json["lag"], mine.json["member"]) == (200, 5, "one")
    held = claim(api, "two")
    assert (held.status_code, held.json["reason"]) == (409, "held")
    path, tag = "/v1/events/user/groups/readers", {"If-Match": mine.headers["ETag"]}
    assert api.put(path, {"position": 3}, headers=tag).json["lag"] == 2
    assert api.put(path, {"position": 6}, headers=tag).json["errors"][0]["pointer"] == "/position"
    assert api.put(path, {"position": 3}).status_code == 428
    letter = api.post(f"{path}/dead-letters", {"offset": 3, "detail": "cannot"}, headers=tag)
    assert letter.status_code == 204
    with session_scope() as session:
        session.execute(update(TopicGroup).values(lease_until=func.now() - timedelta(seconds=1)))
    taken = claim(api, "two")
    assert (taken.status_code, taken.json["position"], taken.json["attempts"]) == (200, 3, 1)
    assert api.put(path, {"position": 4}, headers=tag).status_code == 412
    tag = {"If-Match": taken.headers["ETag"]}
    assert api.put(path, {"position": 5}, headers=tag).json["attempts"] == 0
    assert api("DELETE", path).status_code == 404  # a member is at it
    assert api.post(f"{path}:release", headers=tag).status_code == 204
    assert api.get(path).json["dead"] == 1
    assert api("DELETE", path).status_code == 204
    assert api.get(path).status_code == 404
    assert claim(api, "three", begin="latest").json["position"] == 5
    reserved = api.post("/v1/events/file_access/groups/accesses:claim", {"member": "me"})
    assert (reserved.status_code, reserved.json["reason"]) == (409, "reserved")


def test_a_group_outside_shows_what_retention_removed(api: Api):
    for n in range(3):
        publish(api, "user", [event(n)])
    tag = {"If-Match": claim(api, "one").headers["ETag"]}
    with session_scope() as session:
        topics.prune(session, USER, timedelta(days=7), 70)
        first = topics.get(session, USER).first_offset
    found = api.put("/v1/events/user/groups/readers", {"position": 3}, headers=tag).json
    assert first > 0
    assert (found["skipped"], found["handled"], found["lag"]) == (first, 3 - first, 0)


def test_objects_of_accesses_are_known(api: Api):
    publish(api, "file_access", [access(1, key="ключ/😀 \t")])
    consume("accesses")
    with session_scope() as session:
        assert session.scalar(select(Object.key)) == "ключ/😀 \t"


def test_the_sources_routes_take_both_forms_of_a_name(api: Api):
    assert api.get("/pipeline/topics").json["topics"][0] == "events.analytics"
    first = api.post("/pipeline/publish", {"topic": "events.user", "event": event(1)}).json
    assert (first["status"], first["topic"], first["next_offset"]) == ("published", "events.user", 1)
    assert api.post("/pipeline/publish", {"topic": "user", "events": [event(2), event(3)]}).json["accepted"] == 2
    assert numbers(api) == [1, 2, 3]
    wrong = api.post("/pipeline/publish", {"topic": "file_access", "event": {"key": "a"}}).json
    assert (wrong["status"], wrong["rejected"]) == ("rejected", 1)
    mixed = [{"key": "a", "op": "GET", "bytes": 1, "ts": datetime.now(UTC).isoformat()}, {"key": "a"}]
    part = api.post("/pipeline/publish", {"topic": "file_access", "events": mixed}).json
    assert (part["status"], part["accepted"], part["rejected"]) == ("partial", 1, 1)
    assert api.post("/pipeline/publish", {"topic": "user"}).status_code == 422
    assert api.post("/pipeline/publish", {"topic": "events.no", "event": {}}).status_code == 404


def told() -> str:
    """What a collector says that has not looked before."""
    registry = CollectorRegistry()
    registry.register(Topics())
    return generate_latest(registry).decode()


def test_prometheus_is_told_what_was_published_refused_and_is_not_handled(api: Api):
    publish(api, "file_access", [access(1), access(2), {"no": "access"}])
    claim(api, "one", begin="latest")
    publish(api, "user", [event(1)])
    text = told()
    for line in (
        'foretide_events_published_total{topic="file_access"} 2.0',
        'foretide_events_failed_total{topic="file_access"} 1.0',
        'foretide_consumer_lag{group="accesses",topic="file_access"} 2.0',
        'foretide_consumer_lag{group="readers",topic="user"} 1.0',
        'foretide_broker_up{broker="topics"} 1.0',
    ):
        assert line in text
    consume("accesses")
    text = told()
    assert 'foretide_consumer_lag{group="accesses",topic="file_access"} 0.0' in text
    assert 'foretide_events_handled_total{group="accesses",topic="file_access"} 2.0' in text
    assert 'foretide_consumer_batches_total{group="accesses",topic="file_access"} 1.0' in text


def test_old_events_go_with_the_rest_that_is_past_its_retention(api: Api, configure: Callable[..., Any]):
    publish(api, "user", [event(1)])
    publish(api, "user", [event(2)])
    with session_scope() as session:
        kept = session.scalar(select(TopicBlock.packed).where(TopicBlock.base_offset == 1))
    configure(events_bytes=kept)
    assert jobs.run(prune, TaskName.PRUNE).result["events"] == 1
    assert numbers(api) == [2]


def test_samples_of_the_topic_metrics_are_added(api: Api):
    recently = (datetime.now(UTC) - timedelta(seconds=20)).isoformat()
    sent = [{"name": "latency", "value": 2.0, "group": "api", "ts": recently}, {"name": "latency", "value": 4.0}]
    publish(api, "metrics", [*sent, {"name": "latency"}, {"name": "no name", "value": 1.0}])
    publish(api, "metrics", [{"name": "latency", "value": 6.0}])
    consume("metrics")
    found = api.get("/v1/metrics/latency?window=300").json
    assert (found["count"], found["sum"], found["max"]) == (3, 12.0, 6.0)
    letters = api.get("/v1/dead-letters?group=metrics").json["items"]
    assert [letter["offset"] for letter in letters] == [2, 3]
    assert all(letter["error"]["detail"] for letter in letters)
    assert group(api, "metrics", "metrics")["lag"] == 0
