"""Which classes must be restored, what that costs, and who allows it."""

import pytest

from app.domain import restores
from app.domain.policies import Rules
from app.domain.price_books import AWS, AZURE, GCP, R2
from app.domain.prices import GB, read_once_usd
from app.errors import Blocked


def test_the_price_book_says_which_classes_must_be_restored():
    assert restores.archives(None) == {"GLACIER", "DEEP_ARCHIVE"}
    assert restores.archives(AWS) == {"GLACIER", "DEEP_ARCHIVE"}
    assert restores.archives(AZURE) - restores.USUAL == {"ARCHIVE"}
    assert "ARCHIVE" not in restores.archives(GCP)
    assert "STANDARD" not in restores.archives(R2)


def test_a_restore_costs_its_request_and_the_retrieval():
    frozen = AWS.storage_class("DEEP_ARCHIVE")
    assert read_once_usd(frozen, 0) == pytest.approx(0.1 / 1000)
    assert read_once_usd(frozen, 50 * GB) == pytest.approx(0.1 / 1000 + 50 * 0.02)


def test_only_the_policy_allows_a_restore():
    restores.check_allowed(Rules(allow_restore=True), "it cannot be read")
    with pytest.raises(Blocked, match="it cannot be read without a restore") as blocked:
        restores.check_allowed(Rules(), "it cannot be read")
    assert blocked.value.reason == "restore_not_allowed"
