import pytest

from app.domain.policies import Policies, Readers, Rules
from app.domain.policy_documents import POLICIES, validate
from app.domain.states import Mode
from app.errors import Invalid, NotFound

SLA = {
    "default": {"rf": 2},
    "prefixes": [
        {"prefix": "demo/", "sla_ms": 80, "readers": "routed"},
        {"prefix": "demo/cold/", "rf": 1, "allow_restore": True},
    ],
}


def test_without_a_policy_the_defaults_hold():
    policies = Policies()
    assert policies.rules("a") == Rules()
    assert Rules().readers is Readers.DIRECT
    assert policies.mode is Mode.OBSERVE
    assert not policies.encryption_enforced


def test_the_longest_prefix_wins_over_the_default():
    policies = Policies({"sla": SLA})
    assert policies.rules("x") == Rules(rf=2)
    assert policies.rules("demo/a") == Rules(rf=2, sla_ms=80, readers=Readers.ROUTED)
    assert policies.rules("demo/cold/a") == Rules(rf=1, allow_restore=True)


def test_a_request_overrides_the_policy():
    assert Policies({"sla": SLA}).rules("demo/a", rf=3, sla_ms=None).rf == 3
    assert Policies({"sla": SLA}).rules("demo/a", rf=3, sla_ms=None).sla_ms == 80


def test_residency_and_encryption_reach_the_rules():
    policies = Policies(
        {"residency": {"prefixes": [{"prefix": "eu/", "sites": ["aws-eu"]}]}, "security": {"enforce": True}}
    )
    assert policies.rules("eu/a").sites == {"aws-eu"}
    assert policies.rules("us/a").sites is None
    assert policies.rules("us/a").encrypted_only


def test_a_tag_confines_beside_the_prefix_and_both_hold():
    document = {
        "prefixes": [{"prefix": "eu/", "sites": ["aws-eu", "gcp-eu"]}],
        "tags": [
            {"tag": "data", "value": "personal", "sites": ["gcp-eu", "azure-we"]},
            {"tag": "held", "sites": ["azure-we"]},
        ],
    }
    policies = Policies({"residency": document})
    assert policies.rules("us/a", {"data": "personal"}).sites == {"gcp-eu", "azure-we"}
    assert policies.rules("eu/a", {"data": "personal"}).sites == {"gcp-eu"}
    assert policies.rules("eu/a", {"data": "open"}).sites == {"aws-eu", "gcp-eu"}
    assert policies.rules("us/a", {"data": "open", "held": "since May"}).sites == {"azure-we"}
    assert policies.rules("eu/a", {"held": "x"}).sites == frozenset(), "nowhere: the plan says that it cannot be"
    assert policies.rules("eu/a", {"data": "personal"}) is policies.rules("eu/b", {"data": "personal", "team": "b"})


def test_a_class_gives_its_rules_under_what_stands_beside_it():
    policies = Policies(
        {
            "sla": {
                "classes": {"gold": {"rf": 3, "sla_ms": 20}, "bronze": {"sla_ms": 500}},
                "default": {"sla_class": "bronze", "rf": 2},
                "prefixes": [{"prefix": "a/", "sla_class": "gold"}, {"prefix": "b/", "sla_class": "gold", "rf": 1}],
            }
        }
    )
    assert (policies.rules("x").sla_ms, policies.rules("x").rf, policies.rules("x").sla_class) == (500, 2, "bronze")
    assert (policies.rules("a/x").sla_ms, policies.rules("a/x").rf) == (20, 3)
    assert (policies.rules("b/x").sla_ms, policies.rules("b/x").rf) == (20, 1)


def test_a_legal_hold_pins():
    rules = Policies({"sla": {"prefixes": [{"prefix": "held/", "legal_hold": True}]}}).rules("held/a")
    assert (rules.pinned, rules.legal_hold) == (True, True)


def test_the_setting_gives_the_first_value_of_encryption_and_the_policy_then_rules():
    assert Policies(encryption_default=True).encryption_enforced
    assert not Policies({"security": {"enforce": False}}, encryption_default=True).encryption_enforced


@pytest.mark.parametrize(
    ("name", "document", "pointers"),
    [
        ("sla", {"default": {"rf": 0}}, {"/default/rf"}),
        ("sla", {"default": {"rf": True, "sla_ms": -1}}, {"/default/rf", "/default/sla_ms"}),
        ("sla", {"default": {"sla_ms": float("nan")}}, {"/default/sla_ms"}),
        ("sla", {"prefixes": [{"rf": 1}]}, {"/prefixes/0/prefix"}),
        ("sla", {"prefixes": [{"prefix": "a"}, {"prefix": "a"}]}, {"/prefixes/1/prefix"}),
        ("sla", {"prefixes": [{"prefix": "a", "readers": "all"}]}, {"/prefixes/0/readers"}),
        ("sla", {"prefixes": [3]}, {"/prefixes/0"}),
        ("sla", {"default": [], "prefix": 1}, {"/default", "/prefix"}),
        ("sla", {"default": {"preferences": {"aws-eu": "high"}}}, {"/default/preferences"}),
        ("residency", {"default": {"sites": []}}, {"/default/sites"}),
        ("residency", {"tags": [{"tag": "a"}, {"sites": None}, 3]}, {"/tags/0/sites", "/tags/1/tag", "/tags/2"}),
        ("residency", {"tags": [{"tag": "", "sites": ["a"], "value": 1}]}, {"/tags/0/tag", "/tags/0/value"}),
        ("residency", {"classes": {}}, {"/classes"}),
        ("sla", {"tags": []}, {"/tags"}),
        ("sla", {"default": {"sla_class": "gold"}}, {"/default/sla_class"}),
        ("sla", {"classes": {"gold": {"rf": 0, "sla_class": "x"}}}, {"/classes/gold/rf", "/classes/gold/sla_class"}),
        ("sla", {"prefixes": [{"prefix": "a", "legal_hold": 1}]}, {"/prefixes/0/legal_hold"}),
        ("security", {"enforce": "yes"}, {"/enforce"}),
        ("security", [], {""}),
        ("budget", {"usd_per_day": -1}, {"/usd_per_day"}),
        ("retention", {"days": 0}, {"/days"}),
        ("retention", {"old_versions_days": -1}, {"/old_versions_days"}),
        ("retention", {"old_versions_days": 1.5}, {"/old_versions_days"}),
        ("mode", {"mode": "wild"}, {"/mode"}),
    ],
)
def test_a_wrong_document_names_its_fields(name, document, pointers):
    with pytest.raises(Invalid) as caught:
        validate(name, document)
    assert {error.pointer for error in caught.value.errors} == pointers


def test_old_versions_stay_unless_a_policy_says_otherwise():
    assert Policies().old_versions_days is None
    for days in (None, 0, 30):
        validate("retention", {"old_versions_days": days})
        assert Policies({"retention": {"old_versions_days": days}}).old_versions_days == days


@pytest.mark.parametrize("name", POLICIES)
def test_an_empty_document_is_valid(name):
    validate(name, {})


def test_an_unknown_policy_is_not_found():
    with pytest.raises(NotFound, match="security"):
        validate("laws", {})


def test_a_full_document_is_valid():
    validate("sla", SLA)
    validate("mode", {"mode": "paused", "reason": "audit"})
    validate("budget", {"usd_per_day": 5, "bytes_per_day": None})
