"""Changes of class in parts: where an owner's write could be lost, or the copy not be known, there is none."""

from dataclasses import replace

import numpy as np
import pytest

from app.domain.class_changes import admit_in_parts
from app.domain.migrations import SiteFacts, requests_needed
from app.domain.price_books import AWS
from app.domain.prices import IN_PLACE_LIMIT
from app.domain.pricing import transition_usd
from app.domain.sites import Capabilities
from app.domain.states import MoveKind, SiteState
from app.errors import Blocked
from app.settings import Settings

ABLE = Capabilities(conditional_put=True, conditional_complete=True)
SITE = SiteFacts("a", SiteState.READY, ABLE, encrypted=False)


@pytest.mark.parametrize("can", [ABLE, Capabilities(versioning=True)])
def test_a_condition_or_versions_keep_an_owners_write(can):
    admit_in_parts(replace(SITE, capabilities=can), marked=True)


@pytest.mark.parametrize(
    ("can", "marked", "reason"),
    [
        (Capabilities(conditional_put=True), True, "no_conditional_complete"),
        (Capabilities(conditional_complete=True), True, "no_conditional_complete"),
        (ABLE, False, "no_room_for_mark"),
    ],
)
def test_what_could_be_lost_or_not_be_known_is_not_begun(can, marked, reason):
    with pytest.raises(Blocked) as caught:
        admit_in_parts(replace(SITE, capabilities=can), marked=marked)
    assert caught.value.reason == reason


def test_parts_are_counted_and_paid_from_the_limit_of_one_request_on():
    assert Settings.model_fields["in_place_limit"].default == IN_PLACE_LIMIT
    assert [requests_needed(MoveKind.CLASS, IN_PLACE_LIMIT + more) for more in (0, 1)] == [4, 4 + 5 + 597]
    hot, frozen = (AWS.storage_class(name) for name in ("STANDARD", "GLACIER_IR"))
    one, parts = transition_usd(hot, frozen, np.array([IN_PLACE_LIMIT, IN_PLACE_LIMIT + 1.0]))
    assert parts - one == pytest.approx((597 + 2) * 0.02 / 1000)
