"""What is unusual in a key, and that each example of it is."""

import pytest

from app.domain.keys import EXAMPLES, KeyTrait, not_kept, traits


@pytest.mark.parametrize(
    ("key", "found"),
    [
        ("a", set()),
        ("folder/file.txt", set()),
        ("é/日本語/🎉 \u202ertl <b>%2F+", set()),
        (".hidden/..x/x..", set()),
        ("x" * 300, set()),
        ("/a", {"empty_part"}),
        ("a//b", {"empty_part"}),
        ("a/", {"folder"}),
        ("a//", {"empty_part", "folder"}),
        ("./a", {"dot_part"}),
        ("a/..", {"dot_part"}),
        ("a\\b", {"backslash"}),
        ("a\x7f", {"control"}),
        ("e\u0301\n", {"decomposed", "control"}),
    ],
)
def test_traits_of_keys(key, found):
    assert traits(key) == found


@pytest.mark.parametrize("trait", KeyTrait)
def test_the_first_example_has_the_trait_and_no_other(trait):
    assert traits(EXAMPLES[trait][0]) == {trait}


def test_a_key_is_kept_where_all_its_traits_are():
    assert not_kept("plain", ()) == []
    assert not_kept("a//b\n", ("control",)) == ["empty_part"]
    assert not_kept("a//b\n", ("control", "empty_part")) == []
