"""A real Chromium, and what it complains about."""

from __future__ import annotations

import os
import shutil
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

from axe_playwright_python.sync_playwright import Axe
from playwright.sync_api import expect

from tests.processes import until

if TYPE_CHECKING:
    from collections.abc import Iterator

    from playwright.sync_api import Browser, BrowserContext, Page

FLAGS = (
    *("--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--mute-audio"),
    *("--disable-background-networking", "--disable-component-update", "--disable-sync"),
)
PATIENCE_MS = 120_000
expect.set_options(timeout=PATIENCE_MS)
SERIOUS = frozenset({"serious", "critical"})


def chromium() -> str:
    """Where the browser is: where the environment says, or on the path."""
    found = os.environ.get("CHROMIUM") or shutil.which("chromium") or shutil.which("chromium-browser")
    assert found, "these tests need a Chromium: install it, or name it in CHROMIUM"
    return found


@dataclass
class Visit:
    """A page in a browser, and everything that went wrong on it: script errors, refusals of its policy, other hosts."""

    page: Page
    address: str
    complaints: list[str] = field(default_factory=list)

    def go(self, path: str) -> None:
        """Open a page of the service."""
        self.page.goto(self.address + path)

    def listen(self) -> None:
        """Note whatever goes wrong from now on."""
        self.page.on("pageerror", lambda error: self.complaints.append(f"error: {error}"))
        self.page.on("console", self._said)
        self.page.on("request", self._asked)

    def _said(self, message: Any) -> None:
        if message.type in {"error", "warning"}:
            self.complaints.append(f"{message.type}: {message.text}")

    def _asked(self, request: Any) -> None:
        if urlsplit(request.url).netloc != urlsplit(self.address).netloc and not request.url.startswith("data:"):
            self.complaints.append(f"another host: {request.url}")


@contextmanager
def visiting(browser: Browser, address: str, **how: Any) -> Iterator[Visit]:
    """A visit in a browser of its own; whatever went wrong fails the block that ends without another failure."""
    context: BrowserContext = browser.new_context(**({"viewport": {"width": 1280, "height": 900}} | how))
    context.set_default_timeout(PATIENCE_MS)
    try:
        visit = Visit(context.new_page(), address)
        visit.listen()
        yield visit
        assert visit.complaints == []
    finally:
        context.close()


def becomes(page: Page, script: str, argument: Any = None) -> None:
    """Wait until a script says yes; asked from outside, because the page's own policy lets no text be a script."""
    until(lambda: page.evaluate(script, argument), PATIENCE_MS / 1000)


def findings(page: Page) -> list[str]:
    """What an accessibility checker finds on a page that is serious or critical."""
    found = Axe().run(page).response["violations"]
    return [
        f"{each['impact']}: {each['id']}: {node['html'][:160]}"
        for each in found
        if each["impact"] in SERIOUS
        for node in each["nodes"]
    ]
