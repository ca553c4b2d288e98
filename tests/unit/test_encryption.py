"""With which key a copy is encrypted, and whether it was."""

import pytest

from app.domain.encryption import Encryption, encryption_at
from app.errors import Blocked

ARN = "arn:aws:kms:eu-west-1:1:key/a"


@pytest.mark.parametrize(
    ("keys", "algorithm", "key", "wanted"),
    [
        ({}, None, None, None),
        ({"*": "b"}, "AES256", None, None),
        ({ARN: "b", "*": "c"}, "aws:kms", ARN, Encryption("aws:kms", "b")),
        ({ARN: "b", "*": "c"}, "aws:kms:dsse", "another", Encryption("aws:kms:dsse", "c")),
        ({"*": "c"}, "aws:kms", None, Encryption("aws:kms", "c")),
        ({ARN: "default", "*": "c"}, "aws:kms", ARN, None),
    ],
)
def test_the_key_that_stands_for_the_sources(keys, algorithm, key, wanted):
    assert encryption_at("to", keys, algorithm, key) == wanted


@pytest.mark.parametrize("keys", [{}, {"another": "b"}])
def test_a_key_without_a_place_blocks_and_says_what_to_do(keys):
    with pytest.raises(Blocked, match=f"foretide sites change to 'kms_keys.{ARN}=KEY'") as blocked:
        encryption_at("to", keys, "aws:kms", ARN)
    assert blocked.value.reason == "kms_key_not_mapped"


def test_a_key_is_known_by_its_id_its_arn_or_an_alias():
    for asked, told, kept in [
        (ARN, ARN, True), ("a", ARN, True), ("alias/cold", ARN, True), ("b", ARN, False), (ARN, None, False),
    ]:  # fmt: skip
        assert Encryption("aws:kms", asked).is_kept("aws:kms", told) is kept, (asked, told)
    assert not Encryption("aws:kms", "a").is_kept("AES256", ARN)
