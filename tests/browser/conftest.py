"""A real Chromium, headless, on the pages of a running Foretide."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator

import pytest
from playwright.sync_api import Browser, sync_playwright

from tests.e2e.conftest import running  # noqa: F401 - the same stack, served to a browser
from tests.needs import CHROMIUM

QUIET = ["--disable-gpu", "--disable-background-networking", "--disable-component-update", "--no-first-run"]


@pytest.fixture(scope="session")
def browser() -> Iterator[Browser]:
    """The browser that is installed; as root it has no sandbox to go into."""
    arguments = [*QUIET, *(["--no-sandbox"] if os.geteuid() == 0 else [])]
    with sync_playwright() as playwright:
        path = next(filter(None, map(shutil.which, CHROMIUM)))
        with playwright.chromium.launch(executable_path=path, args=arguments) as launched:
            yield launched
