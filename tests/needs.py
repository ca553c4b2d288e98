"""The one list of what some tests need beyond the project; where it is absent they are not run, and the run says so."""

from __future__ import annotations

import importlib.util
import shutil
from collections.abc import Callable

from app.settings import PROJECT_ROOT

CHROMIUM = ("chromium", "chromium-browser", "google-chrome")
TRACES = PROJECT_ROOT.parent / "shared" / "data"
NEEDS: dict[str, tuple[Callable[[], bool], str]] = {
    "chromium": (lambda: any(map(shutil.which, CHROMIUM)), "apt install chromium"),
    "playwright": (
        lambda: importlib.util.find_spec("playwright") is not None,
        ".venv/bin/python -m pip install playwright",
    ),
    "Spark": (
        lambda: importlib.util.find_spec("pyspark") is not None and shutil.which("java") is not None,
        "apt install openjdk-17-jre-headless && .venv/bin/python -m pip install 'pyspark>=4.1,<5' 'pandas<3'",
    ),
    "../shared/data": (TRACES.is_dir, "ls ../shared/data/trace_weblog.parquet"),
}
"""By name: whether it is here, and what brings or checks it. A test names its need by @pytest.mark.needs(name)."""
GROUPS = {"browser": ("chromium", "playwright")}
"""What a whole group of tests needs."""


def lacking(name: str, group: str) -> str | None:
    """Why what has this need cannot run, and how to run it; None when it can."""
    is_here, how = NEEDS[name]
    return None if is_here() else f"no {name}; run it with: {how} && ./foretide test {group}"


def group_lacking(group: str) -> str | None:
    """The same for a whole group of tests."""
    return next((reason for name in GROUPS.get(group, ()) if (reason := lacking(name, group))), None)
