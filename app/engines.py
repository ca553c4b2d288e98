"""Looks for what Spark needs on this machine, without loading any of it (step: batch)."""

from __future__ import annotations

import re
import subprocess
from importlib.metadata import PackageNotFoundError, version

from app.domain.batch import Spark
from app.settings import get_settings, java_command

LOOK_S = 10.0
_VERSION = re.compile(r'version "(\d+)(?:\.(\d+))?')


def spark() -> Spark:
    """What there is of Spark here; where no master is set nothing is looked for."""
    settings = get_settings()
    if not settings.spark_master:
        return Spark("")
    has_folder = settings.batch_dir is not None
    return Spark(settings.spark_master, _version("pyspark"), _version("pandas"), _java(), has_folder)


def _version(package: str) -> str | None:
    try:
        return version(package)
    except PackageNotFoundError:
        return None


def _java() -> int | None:
    """Its major version, by its own word: 8 calls itself 1.8."""
    try:
        told = subprocess.run([java_command(), "-version"], capture_output=True, text=True, timeout=LOOK_S, check=True)  # noqa: S603
    except (OSError, subprocess.SubprocessError):
        return None
    found = _VERSION.search(told.stderr + told.stdout)
    if found is None:
        return None
    first, second = found.groups()
    return int(second) if first == "1" and second else int(first)
