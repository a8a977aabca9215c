"""Pictures of the pages for the documentation, taken in a real Chromium of a service that runs.

`python -m bench.screenshots URL` shows the first pages, and the newest report, song and rights-holder that it finds.
"""

import argparse
import io
import os
import shutil
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import httpx
from PIL import Image
from playwright.sync_api import Browser, Page, sync_playwright

IMAGES = Path(__file__).parent.parent / "docs" / "images"
FLAGS = ("--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--mute-audio")
MOST_BYTES = 250_000
COLOURS = 128
SETTLING_MS = 1_500


@dataclass(frozen=True)
class Picture:
    """A page to be shown: under which name, how wide, in which colours, and from which part on."""

    name: str
    path: str
    width: int = 1280
    height: int = 900
    scheme: str = "light"
    part: str | None = None
    play: bool = False


def pictures(report: str, song: str, holder: str | None) -> Iterator[Picture]:
    """Yield what is shown."""
    yield Picture("upload", "/")
    yield Picture("report", f"/attributions/{report}", height=1250)
    yield Picture("report-dark", f"/attributions/{report}", height=1250, scheme="dark")
    yield Picture("report-phone", f"/attributions/{report}", width=360, height=1200)
    yield Picture("listen", f"/attributions/{report}", height=760, part="#listen", play=True)
    yield Picture("song", f"/songs/{song}", height=1300)
    yield Picture("songs", "/songs", height=800)
    if holder:
        yield Picture("holder", f"/holders/{holder}", height=1000)


def take(browser: Browser, url: str, wanted: Picture) -> bytes:
    """Return a picture as a PNG of few colours."""
    size = {"width": wanted.width, "height": wanted.height}
    scheme = "dark" if wanted.scheme == "dark" else "light"
    context = browser.new_context(viewport=size, color_scheme=scheme, device_scale_factor=1)  # type: ignore[arg-type]
    page = context.new_page()
    page.goto(url + wanted.path, wait_until="networkidle")
    _settle(page, wanted)
    raw = page.screenshot()
    context.close()
    return _small(raw)


def _settle(page: Page, wanted: Picture) -> None:
    if wanted.play:
        page.locator("[data-match][data-held='1'], [data-match]").first.click()
        page.wait_for_timeout(SETTLING_MS)
    if wanted.part:
        page.evaluate("part => document.querySelector(part)?.scrollIntoView({ behavior: 'instant' })", wanted.part)
    page.wait_for_timeout(SETTLING_MS)


def _small(raw: bytes) -> bytes:
    image = Image.open(io.BytesIO(raw)).convert("RGB").quantize(COLOURS, dither=Image.Dither.NONE)
    file = io.BytesIO()
    image.save(file, "PNG", optimize=True)
    assert file.tell() < MOST_BYTES, "a picture has become too large to be committed"
    return file.getvalue()


def newest(url: str) -> tuple[str, str, str | None]:
    """Return the newest report, its first song, and one of the song's rights-holders where it names any."""
    with httpx.Client(base_url=url, timeout=30) as client:
        done = client.get("/v1/attributions", params={"status": "succeeded", "limit": 50}).json()["items"]
        report = next(each["id"] for each in done if each["result"]["abstained"] is None)
        song = client.get(f"/v1/attributions/{report}/influences").json()["items"][0]["song"]["id"]
        holders = client.get("/v1/holders").json()["items"]
    return report, song, holders[0]["id"] if holders else None


def main(arguments: Sequence[str] | None = None) -> None:
    """Write every picture to docs/images."""
    parser = argparse.ArgumentParser(prog="bench.screenshots", description=main.__doc__)
    parser.add_argument("url", nargs="?", default="http://127.0.0.1:8000")
    for name in ("report", "song", "holder"):
        parser.add_argument(f"--{name}", help="its id; by default, the newest")
    given = parser.parse_args(arguments)
    report, song, holder = newest(given.url)
    chosen = pictures(given.report or report, given.song or song, given.holder or holder)
    with sync_playwright() as playwright:
        path = os.environ.get("CHROMIUM") or shutil.which("chromium")
        browser = playwright.chromium.launch(executable_path=path, args=[*FLAGS])
        for wanted in chosen:
            file = IMAGES / f"page-{wanted.name}.png"
            file.write_bytes(take(browser, given.url, wanted))
            print(f"{file.name}: {file.stat().st_size / 1000:.0f} kB")
        browser.close()


if __name__ == "__main__":
    main()
