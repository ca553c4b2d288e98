"""What topics there are, who consumes them here, and what a group does about events that cannot be handled."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum

from app.domain.jobs import RetryPolicy
from app.errors import ForetideError, NotFound, Transient


class TopicName(StrEnum):
    """The logs that events are published to."""

    ANALYTICS = "analytics"
    """Analytics."""
    DEVICES = "devices"
    """Devices."""
    REALITY = "reality"
    """What is observed of the world."""
    ERRORS = "errors"
    """Errors and exceptions."""
    METRICS = "metrics"
    """Samples of metrics, as POST /v1/metrics takes them."""
    USER = "user"
    """What users do."""
    FILE_ACCESS = "file_access"
    """Accesses, as POST /v1/accesses takes them."""


WORKERS: Mapping[str, TopicName] = {"accesses": TopicName.FILE_ACCESS, "metrics": TopicName.METRICS}
"""Groups whose members are the workers of this program; no other consumer may take such a name."""
INTAKE = "kafka"
"""The workers' group that takes events from Kafka into the logs; its partitions and offsets are Kafka's."""
MAX_EVENT = 2**18
"""Bytes of one event."""
MOST_LINES, MOST_BYTES = 10_000, 4 * 2**20
"""What a group handles in one transaction, at most; bytes are counted unpacked, and one batch is always taken."""


def topic_of(name: str) -> TopicName:
    """The topic of this name. Raises NotFound."""
    try:
        return TopicName(name)
    except ValueError:
        raise NotFound(f"there is no topic {name}; there are {', '.join(TopicName)}") from None


def at_once(position: int, suspect_until: int | None) -> int:
    """How many events to handle in one transaction: half of those among which one is to be found, else all."""
    if suspect_until is None or suspect_until <= position:
        return MOST_LINES
    return max(1, (suspect_until - position) // 2)


@dataclass(frozen=True)
class Setback:
    """What a failure at some events leads to.

    is_dead: the first of them, which is alone then, becomes a dead letter and the group goes on; else the same position
    is tried again after `delay_s` seconds, in smaller batches as far as `suspect_until` where that is known.
    """

    attempts: int
    suspect_until: int | None = None
    delay_s: float = 0.0
    is_dead: bool = False


def after_failure(
    error: Exception, position: int, lines: int, attempts: int, suspect: int | None, policy: RetryPolicy, jitter: float
) -> Setback:
    """What follows when the `lines` events from `position` on raised `error`, after `attempts` failures there before.

    A transient error is nobody's fault: all wait. Others are an event's: it is searched for by halves, and dead at once
    when its error is permanent, else after the policy's attempts. jitter: uniform in [0, 1).
    """
    failed = attempts + 1
    if isinstance(error, Transient):
        return Setback(failed, suspect, policy.delay_s(failed, jitter, error.retry_after_s))
    if lines > 1:
        return Setback(attempts, position + lines)
    if isinstance(error, ForetideError) or failed >= policy.max_attempts:
        return Setback(failed, is_dead=True)
    return Setback(failed, position + 1, policy.delay_s(failed, jitter))


def after_loss(position: int, attempts: int, suspect: int | None, max_attempts: int) -> Setback:
    """What follows when a member vanished at its work: from the second time on an event is suspected of it."""
    failed = attempts + 1
    if failed < 2:
        return Setback(failed, suspect)
    tried = at_once(position, suspect)
    return Setback(failed, position + tried, is_dead=tried == 1 and failed >= max_attempts)
