"""Topics against hostile events and unlucky moments: nothing blocks a group, nothing is passed over in silence."""

from __future__ import annotations

from datetime import timedelta

import pytest
from sqlalchemy import update

from app.db import topic_groups, topics
from app.db.session import session_scope
from app.db.tables import TopicGroup
from app.domain.topics import TopicName
from tests.integration.conftest import Api
from tests.integration.test_topics import access, group, publish, stored
from workers.topics import consume


@pytest.mark.parametrize("wrong", [{"na\0me": 1}, {"name": "a\0b", "value": 1}, {"name": "a", "value": "x\0"}])
def test_a_nul_character_in_a_sample_blocks_nobody(api: Api, wrong: dict[str, object]):
    good = {"name": "latency", "value": 1.5}
    publish(api, "metrics", [good, wrong, good])
    consume("metrics")
    found = group(api, "metrics", "metrics")
    assert (found["position"], found["handled"], found["dead"]) == (3, 2, 1)


@pytest.mark.parametrize("events", [0, 3])
def test_workers_lost_while_nothing_can_be_read_pass_over_no_event(api: Api, events: int):
    """At the log's end, and where retention has removed what the lost one was at."""
    if events:
        publish(api, "file_access", [access(n) for n in range(events)])
    with session_scope() as session:
        topic_groups.claim(session, "accesses", TopicName.FILE_ACCESS, "lost", 0.0)
        session.execute(update(TopicGroup).values(attempts=9, suspect_until=1))
    if events:
        with session_scope() as session:
            topics.prune(session, TopicName.FILE_ACCESS, timedelta(days=9), 0)
    consume("accesses")
    publish(api, "file_access", [access(n) for n in range(7, 9)])
    with session_scope() as session:
        session.execute(update(TopicGroup).values(next_attempt_at=TopicGroup.created_at))
    consume("accesses")
    assert stored() == 2
    assert group(api)["position"] == events + 2
