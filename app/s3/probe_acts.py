"""What a probe makes of an act that a site may refuse, or not know at all."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager

from app.errors import ConditionFailed, Permanent, SiteFaulty, SourceChanged


def refused(act: Callable[[], object]) -> bool:
    """Whether the site refuses an act whose condition does not hold."""
    try:
        act()
    except (ConditionFailed, SourceChanged):
        return True
    except (Permanent, SiteFaulty):
        return False  # the site does not know the condition at all
    return False


@contextmanager
def unsupported() -> Iterator[list[bool]]:
    """Collects findings; stops quietly where the site refuses to do the thing at all."""
    findings: list[bool] = []
    try:
        yield findings
    except (Permanent, SiteFaulty):
        findings.append(False)
