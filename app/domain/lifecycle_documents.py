"""Lifecycle rules as providers read them: S3's configuration, Cloud Storage's, Azure's management policy."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import Any

from app.domain.lifecycle import Dialect, Rule


class Format(StrEnum):
    """Whose rules."""

    S3 = "s3-lifecycle"
    GCS = "gcs-lifecycle"
    AZURE = "azure-policy"


AZURE_ACTIONS = {"COOL": "tierToCool", "COLD": "tierToCold", "ARCHIVE": "tierToArchive"}
GCS_CLASSES = ("STANDARD", "NEARLINE", "COLDLINE", "ARCHIVE")
S3_LEAST_DAYS = {"STANDARD_IA": 30, "ONEZONE_IA": 30}
"""S3 changes nothing to these classes before."""
PROVIDERS = {"gcp": Format.GCS, "azure": Format.AZURE}


def format_of(provider: str) -> Format:
    """The rules that a provider's buckets take; whoever is not known speaks S3."""
    return PROVIDERS.get(provider, Format.S3)


@dataclass(frozen=True)
class Writer:
    """How a provider writes rules. knows: whether there is a rule to such a class."""

    dialect: Dialect
    knows: Callable[[str], bool]
    write: Callable[[int, str, Sequence[Rule]], dict[str, Any]]


def _s3(plan_id: int, _bucket: str, rules: Sequence[Rule]) -> dict[str, Any]:
    """As PutBucketLifecycleConfiguration takes it; its sizes are exclusive."""
    return {
        "Rules": [
            {
                "ID": f"foretide-plan-{plan_id}-{number}",
                "Status": "Enabled",
                "Filter": _s3_filter(rule),
                "Transitions": [{"Days": rule.days, "StorageClass": rule.storage_class}],
            }
            for number, rule in enumerate(rules, start=1)
        ]
    }


def _s3_filter(rule: Rule) -> dict[str, Any]:
    parts: dict[str, Any] = {"Prefix": rule.prefix}
    if rule.least_bytes is not None:
        parts["ObjectSizeGreaterThan"] = max(0, rule.least_bytes - 1)
    if rule.most_bytes is not None:
        parts["ObjectSizeLessThan"] = rule.most_bytes + 1
    return parts if len(parts) == 1 else {"And": parts}


def _gcs(_plan_id: int, _bucket: str, rules: Sequence[Rule]) -> dict[str, Any]:
    """As `gcloud storage buckets update --lifecycle-file` takes it."""
    return {
        "lifecycle": {
            "rule": [
                {
                    "action": {"type": "SetStorageClass", "storageClass": rule.storage_class},
                    "condition": {
                        "age": rule.days,
                        "matchesPrefix": [rule.prefix],
                        "matchesStorageClass": list(rule.classes),
                    },
                }
                for rule in rules
            ]
        }
    }


def _azure(plan_id: int, bucket: str, rules: Sequence[Rule]) -> dict[str, Any]:
    """As `az storage account management-policy create` takes it: prefixes begin with the container, days are passed."""
    return {
        "rules": [
            {
                "enabled": True,
                "name": f"foretide-plan-{plan_id}-{number}",
                "type": "Lifecycle",
                "definition": {
                    "actions": {
                        "baseBlob": {
                            AZURE_ACTIONS[rule.storage_class]: {
                                "daysAfterModificationGreaterThan": max(0, rule.days - 1)
                            }
                        }
                    },
                    "filters": {"blobTypes": ["blockBlob"], "prefixMatch": [f"{bucket}/{rule.prefix}"]},
                },
            }
            for number, rule in enumerate(rules, start=1)
        ]
    }


WRITERS: Mapping[Format, Writer] = {
    Format.S3: Writer(
        Dialect(True, 1000, lambda name: S3_LEAST_DAYS.get(name, 1)), lambda name: name != "STANDARD", _s3
    ),
    Format.GCS: Writer(Dialect(False, 100, lambda _: 0), GCS_CLASSES.__contains__, _gcs),
    Format.AZURE: Writer(Dialect(False, 100, lambda _: 0), AZURE_ACTIONS.__contains__, _azure),
}
