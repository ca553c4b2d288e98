import random

import pytest

from app.domain.lifecycle import SAME_PLACE, SIZE_ONLY, TOO_MANY, Dialect, Group, rules
from app.domain.lifecycle_documents import WRITERS, Format, format_of

ORDER = ("STANDARD", "INTELLIGENT_TIERING", "STANDARD_IA", "ONEZONE_IA", "GLACIER_IR")
S3, GCS = WRITERS[Format.S3].dialect, WRITERS[Format.GCS].dialect
MIB = 2**20


def group(folder, target=None, ages=(40, 60), sizes=(MIB, 2 * MIB), objects=3, storage_class="STANDARD"):
    return Group(folder, storage_class, target, objects, objects * MIB, *ages, *sizes)


def told(*groups, dialect=S3):
    found, left = rules(groups, ORDER, dialect)
    return [(rule.prefix, rule.storage_class, rule.days, rule.least_bytes, rule.most_bytes) for rule in found], left


def test_a_folder_that_goes_as_a_whole_is_one_rule():
    found, left = told(group("logs/2025/", "GLACIER_IR", (100, 200)), group("logs/2026/", "GLACIER_IR", (95, 99)))
    assert (found, left) == ([("logs/", "GLACIER_IR", 95, None, None)], [])


def test_age_tells_apart_what_is_younger_and_says_what_comes_later():
    stays = group("logs/2026/", None, (0, 20), objects=7)
    (rule,), left = rules([group("logs/2025/", "GLACIER_IR", (100, 200)), stays], ORDER, S3)
    assert (rule.prefix, rule.days, rule.later, left) == ("logs/", 100, 7, [])


def test_where_age_does_not_tell_the_rule_goes_into_the_folder():
    found, left = told(group("a/cold/", "GLACIER_IR"), group("a/hot/", None, (50, 300)), group("b/", "STANDARD_IA"))
    assert (found, left) == ([("a/cold/", "GLACIER_IR", 40, None, None), ("b/", "STANDARD_IA", 40, None, None)], [])


def test_size_tells_apart_where_the_provider_knows_it():
    groups = [group("a/", "GLACIER_IR"), group("a/", None, (50, 300), sizes=(1, 1000))]
    assert told(*groups) == ([("a/", "GLACIER_IR", 40, MIB, None)], [])
    larger = [group("a/", "GLACIER_IR"), group("a/", None, (50, 300), sizes=(3 * MIB, 9 * MIB))]
    assert told(*larger) == ([("a/", "GLACIER_IR", 40, None, 2 * MIB)], [])
    found, (left,) = told(*groups, dialect=GCS)
    assert (found, left.reason, left.objects, left.prefixes) == ([], SIZE_ONLY, 3, ["a/"])


def test_what_nothing_tells_apart_is_left_out():
    found, (left,) = told(group("a/", "GLACIER_IR"), group("a/", None, (50, 300)))
    assert (found, left.reason, left.objects) == ([], SAME_PLACE, 3)


def test_files_beside_folders_and_in_no_folder():
    found, left = told(group("", "GLACIER_IR"), group("a/", "GLACIER_IR"))
    assert (found, left) == ([("", "GLACIER_IR", 40, None, None)], [])
    found, (left,) = told(group("", "GLACIER_IR"), group("a/", None, (50, 300)), group("b/", "GLACIER_IR"))
    assert (found, left.prefixes) == ([("b/", "GLACIER_IR", 40, None, None)], [""])


def test_two_steps_by_age():
    found, left = told(group("a/", "STANDARD_IA", (35, 80)), group("a/", "GLACIER_IR", (95, 300)))
    assert left == []
    assert sorted(found) == [("a/", "GLACIER_IR", 95, None, None), ("a/", "STANDARD_IA", 35, None, None)]


def test_a_class_has_its_least_age_and_a_bucket_its_most_rules():
    assert told(group("a/", "STANDARD_IA", (3, 80)))[0][0][2] == 30
    few = Dialect(True, 2, lambda _: 0)
    groups = [group(f"{n}/", "GLACIER_IR", objects=n) for n in range(1, 5)] + [group("", None, (99, 99))]
    found, (left,) = told(*groups, dialect=few)
    assert [rule[0] for rule in found] == ["4/", "3/"]
    assert (left.reason, left.objects) == (TOO_MANY, 3)


def test_no_rule_ever_moves_what_the_plan_leaves():
    chance = random.Random(7)
    for _ in range(300):
        groups = [
            group(
                chance.choice(["", "a/", "a/b/", "a/c/", "d/e/f/"]),
                chance.choice([None, None, "STANDARD_IA", "GLACIER_IR"]),
                tuple(sorted((chance.randint(0, 200), chance.randint(0, 200)))),
                tuple(sorted((chance.randint(1, 9), chance.randint(1, 9)))),
            )
            for _ in range(chance.randint(1, 7))
        ]
        found, left = rules(groups, ORDER, chance.choice([S3, GCS]))
        for rule in found:
            for other in groups:
                fate = other.target or other.storage_class
                if ORDER.index(fate) >= ORDER.index(rule.storage_class) or not other.folder.startswith(rule.prefix):
                    continue
                old = int(other.oldest_days) >= rule.days
                large = rule.least_bytes is None or other.largest >= rule.least_bytes
                small = rule.most_bytes is None or other.smallest <= rule.most_bytes
                assert not (old and large and small), (rule, other)
        moved = sum(entry.objects for entry in groups if entry.target)
        assert sum(rule.objects for rule in found) + sum(entry.objects for entry in left) == moved


@pytest.mark.parametrize(("provider", "form"), [("aws", Format.S3), ("gcp", Format.GCS), ("azure", Format.AZURE)])
def test_documents_have_the_providers_form(provider, form):
    assert format_of(provider) is form
    order = {"aws": ORDER, "gcp": ("STANDARD", "NEARLINE", "ARCHIVE"), "azure": ("HOT", "COOL", "ARCHIVE")}[provider]
    found, _ = rules([group("logs/", order[-1], storage_class=order[0])], order, WRITERS[form].dialect)
    document = WRITERS[form].write(7, "data", found)
    if form is Format.S3:
        (rule,) = document["Rules"]
        assert rule == {
            "ID": "foretide-plan-7-1", "Status": "Enabled", "Filter": {"Prefix": "logs/"},
            "Transitions": [{"Days": 40, "StorageClass": "GLACIER_IR"}],
        }  # fmt: skip
    elif form is Format.GCS:
        (rule,) = document["lifecycle"]["rule"]
        assert rule["action"] == {"type": "SetStorageClass", "storageClass": "ARCHIVE"}
        assert rule["condition"] == {"age": 40, "matchesPrefix": ["logs/"], "matchesStorageClass": ["STANDARD"]}
    else:
        (rule,) = document["rules"]
        assert (rule["enabled"], rule["type"], rule["name"]) == (True, "Lifecycle", "foretide-plan-7-1")
        assert rule["definition"]["actions"] == {
            "baseBlob": {"tierToArchive": {"daysAfterModificationGreaterThan": 39}}
        }
        assert rule["definition"]["filters"] == {"blobTypes": ["blockBlob"], "prefixMatch": ["data/logs/"]}
