"""The whole service with a tiny model, as `rootnote up` starts it, and a browser in front of it."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
from playwright.sync_api import sync_playwright

from tests.pages.browsing import FLAGS, Visit, chromium, visiting
from tests.pages.platform import Platform, begin
from tests.test_end_to_end import serving

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from playwright.sync_api import Browser


@pytest.fixture(scope="session")
def browser() -> Iterator[Browser]:
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=chromium(), args=[*FLAGS])
        yield browser
        browser.close()


@pytest.fixture(scope="session")
def platform(tiny_folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Platform]:
    """A running service with songs to hear, rights in them, a result, and a month that is closed."""
    with serving(tiny_folder, tmp_path_factory.mktemp("pages")) as service:
        platform = Platform(service)
        platform.fill()
        yield platform


@pytest.fixture
def visit(browser: Browser, platform: Platform) -> Iterator[Visit]:
    with visiting(browser, platform.address) as visit:
        yield visit


@pytest.fixture(scope="session")
def track(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A file to send."""
    path = tmp_path_factory.mktemp("sent") / "night.wav"
    path.write_bytes(begin(2.5))
    return path
