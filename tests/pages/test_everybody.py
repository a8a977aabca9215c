"""For everybody: by keyboard, without a script, on a phone, on paper, in light and dark, for a screen reader."""

from __future__ import annotations

import re

import pytest
from playwright.sync_api import expect

from tests.pages.browsing import becomes, findings, visiting

PAGES = {
    "upload": "/",
    "tracks": "/attributions",
    "report": "/attributions/{result}",
    "songs": "/songs",
    "song": "/songs/{song}",
    "song by month": "/songs/{song}?by=month",
    "holders": "/holders",
    "holder": "/holders/{holder}",
    "statement": "/statements/{statement}",
    "models": "/models",
    "sign-in": "/sign-in",
    "nothing there": "/songs/nothing",
}
PLAYS = "side => !document.querySelector(`[data-audio=${side}]`).paused"
RESTS = "side => document.querySelector(`[data-audio=${side}]`).paused"
LABELS = "cells => cells.map(each => getComputedStyle(each, '::before').content)"
FOCUSED = "document.activeElement.matches(':focus-visible')"


def path(platform, name):
    return PAGES[name].format_map(vars(platform))


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("name", PAGES)
def test_an_accessibility_checker_finds_nothing_serious(browser, platform, name, scheme):
    with visiting(browser, platform.address, color_scheme=scheme) as visit:
        visit.go(path(platform, name))
        visit.page.evaluate("for (const each of document.querySelectorAll('details')) each.open = true")
        visit.complaints.clear()  # of a page that is not there the browser itself says so
        assert findings(visit.page) == []


@pytest.mark.parametrize("name", PAGES)
def test_nothing_is_wider_than_a_phone(browser, platform, name):
    with visiting(browser, platform.address, viewport={"width": 360, "height": 740}) as visit:
        visit.go(path(platform, name))
        assert visit.page.evaluate("document.scrollingElement.scrollWidth") <= 360
        visit.complaints.clear()


@pytest.mark.parametrize("name", ["tracks", "songs", "song", "holder", "statement", "models"])
def test_numbers_say_what_they_are_where_columns_have_no_heads(browser, platform, name):
    with visiting(browser, platform.address, viewport={"width": 360, "height": 740}) as visit:
        visit.go(path(platform, name))
        said = visit.page.locator(".rows td.number").evaluate_all(LABELS)
        assert said
        assert "none" not in said


def test_a_report_is_worked_by_keyboard_alone(visit, platform):
    page = visit.page
    visit.go(f"/attributions/{platform.result}")
    page.keyboard.press("Tab")
    expect(page.get_by_text("Skip to the content")).to_be_focused()
    page.keyboard.press("Enter")
    assert page.evaluate("document.activeElement.id") == "main"
    reached = False
    for _ in range(80):
        page.keyboard.press("Tab")
        assert page.evaluate(FOCUSED)
        reached = page.evaluate("document.activeElement.matches('[data-match][data-held=\"1\"]')")
        if reached:
            break
    assert reached
    page.keyboard.press("Enter")
    becomes(page, PLAYS, "a")
    page.keyboard.press("b")
    becomes(page, PLAYS, "b")
    page.locator("[data-toggle]").focus()
    page.keyboard.press("Space")
    becomes(page, RESTS, "b")
    seek = page.locator("[data-seek=a]")
    seek.focus()
    before = float(seek.input_value())
    page.keyboard.press("ArrowRight")
    assert float(seek.input_value()) != before


def test_a_track_is_sent_by_keyboard_alone(visit, track):
    page = visit.page
    visit.go("/")
    page.set_input_files("#audio", track)
    page.locator("#audio").focus()
    for name in ("prompt", "model", "method"):
        page.keyboard.press("Tab")
        assert page.evaluate("document.activeElement.id") == name
    page.keyboard.press("Tab")
    page.keyboard.press("Enter")
    page.wait_for_url(re.compile("/attributions/"))


def test_everything_works_without_a_script(browser, platform, track):
    with visiting(browser, platform.address, java_script_enabled=False) as visit:
        page = visit.page
        visit.go("/")
        page.set_input_files("#audio", track)
        page.get_by_role("button", name="Find its songs").click()
        expect(page.get_by_role("heading", name="Songs behind this track")).to_be_visible()
        expect(page.locator("audio[data-audio=a]")).to_be_visible()
        expect(page.locator("[data-match]").first).to_have_attribute("href", re.compile(r"/audio#t=[\d.]+,[\d.]+$"))
        page.locator("#dispute summary").click()
        page.locator("#by").fill("Ada")
        page.locator("#reason").fill("without a script")
        page.locator("#dispute button").click()
        expect(page.locator("#disputes .cards")).to_contain_text("without a script")


@pytest.mark.parametrize("name", ["report", "statement"])
def test_paper_shows_the_document_and_not_its_controls(visit, platform, name):
    page = visit.page
    visit.go(path(platform, name))
    page.emulate_media(media="print", color_scheme="dark")
    for part in ("nav", "form", "button", ".unprinted"):
        for each in page.locator(part).all():
            expect(each).to_be_hidden()
    expect(page.get_by_role("heading", level=1)).to_be_visible()
    assert page.evaluate("getComputedStyle(document.body).backgroundColor") == "rgb(255, 255, 255)"
    assert page.pdf(prefer_css_page_size=True).startswith(b"%PDF")


def test_a_moving_page_stands_still_for_who_asks_for_it(browser, platform):
    with visiting(browser, platform.address, reduced_motion="reduce") as visit:
        visit.go("/")
        assert visit.page.evaluate("getComputedStyle(document.documentElement).scrollBehavior") == "auto"
