"""As somebody sees it: upload → report → play → song → statement → counterfactual."""

from __future__ import annotations

import re

from playwright.sync_api import expect

from tests.pages.browsing import becomes
from tests.pages.platform import PROMPT

DROP = """([bytes, name]) => {
    const data = new DataTransfer();
    data.items.add(new File([new Uint8Array(bytes)], name, { type: "audio/wav" }));
    const drop = document.querySelector("[data-drop]");
    for (const kind of ["dragenter", "dragover", "drop"]) {
        drop.dispatchEvent(new DragEvent(kind, { dataTransfer: data, bubbles: true, cancelable: true }));
    }
}"""
AT = "side => document.querySelector(`[data-audio=${side}]`).currentTime"
PLAYS = "side => !document.querySelector(`[data-audio=${side}]`).paused"
RESTS = "side => document.querySelector(`[data-audio=${side}]`).paused"


def test_a_dropped_track_is_followed_to_its_report(visit, track):
    page = visit.page
    visit.go("/")
    page.evaluate(DROP, [list(track.read_bytes()), "dropped.wav"])
    expect(page.locator("[data-chosen]")).to_contain_text("dropped.wav")
    page.get_by_label("Prompt").fill(PROMPT)
    page.get_by_role("button", name="Find its songs").click()
    page.wait_for_url(re.compile("/attributions/"))
    expect(page.get_by_role("heading", name="Songs behind this track")).to_be_visible()
    expect(page.get_by_role("heading", level=1)).to_have_text("dropped.wav")
    expect(page.locator(".summary .lead")).to_contain_text("unattributed")
    expect(page.locator(".ranking tbody tr")).to_have_count(9)  # eight songs and what no song explains
    visit.go("/")
    expect(page.get_by_role("link", name="dropped.wav")).to_be_visible()


def test_a_refusal_is_said_and_the_form_stays(visit, tmp_path):
    words = tmp_path / "words.wav"
    words.write_text("these are words")
    page = visit.page
    visit.go("/")
    page.set_input_files("#audio", words)
    page.get_by_label("Prompt").fill("my words")
    page.get_by_role("button", name="Find its songs").click()
    expect(page.get_by_role("alert")).to_contain_text("The file is not audio in a known format")
    expect(page.get_by_label("Prompt")).to_have_value("my words")
    visit.complaints.clear()  # the browser itself says that an answer was 415


def test_a_match_is_heard_on_both_sides(visit, platform):
    page = visit.page
    visit.go(f"/attributions/{platform.result}")
    expect(page.locator("[data-wave] path")).to_have_attribute("d", re.compile("^M"))
    mark = page.locator("[data-match][data-held='1']").first
    track_start, song_start, seconds = (
        float(mark.get_attribute(f"data-{name}")) for name in ("track-start", "song-start", "seconds")
    )
    mark.click()
    becomes(page, PLAYS, "a")
    assert track_start <= page.evaluate(AT, "a") <= track_start + seconds + 0.5
    becomes(page, PLAYS, "b")  # the track's part is over: the song follows by itself
    assert song_start <= page.evaluate(AT, "b") <= song_start + seconds + 0.5
    assert not page.evaluate(PLAYS, "a")
    becomes(page, RESTS, "b")
    page.get_by_role("button", name="A track").click()
    page.get_by_role("button", name="Play").click()
    becomes(page, PLAYS, "a")
    page.get_by_role("button", name="B song").click()
    becomes(page, PLAYS, "b")
    page.get_by_role("button", name="Pause").click()
    becomes(page, RESTS, "b")
    expect(page.locator("[data-wave-b] path")).to_have_attribute("d", re.compile("^M"))


def test_a_row_leads_to_its_seconds(visit, platform):
    page = visit.page
    visit.go(f"/attributions/{platform.result}")
    page.locator("[data-play]").first.click()
    becomes(page, PLAYS, "a")
    expect(page.locator(".lines > li.chosen")).to_have_count(1)


def test_a_song_that_is_not_held_still_says_where_it_matches(visit, platform):
    page = visit.page
    visit.go(f"/attributions/{platform.result}")
    page.locator("[data-match][data-held='0']").first.click()
    expect(page.get_by_role("button", name="B song")).to_be_disabled()
    expect(page.locator("[data-said]")).to_contain_text("not held here")
    expect(page.locator("[data-absent]")).to_be_visible()


def test_a_song_shows_the_tracks_it_was_found_in(visit, platform):
    page = visit.page
    visit.go(f"/attributions/{platform.result}")
    page.locator(".ranking tbody a[href^='/songs/']").first.click()
    expect(page.get_by_role("heading", name="Influence over time")).to_be_visible()
    bars = page.locator(".timeline rect.bar")
    expect(bars.first).to_be_visible()
    page.get_by_label("Bars").select_option("month")
    page.get_by_role("button", name="Show").click()
    expect(page.locator(".timeline rect.bar")).to_have_count(2)
    page.get_by_text("As a table").click()
    expect(page.locator(".timeline table")).to_contain_text("track")


def test_a_holder_reads_the_statement_of_a_month(visit, platform):
    page = visit.page
    visit.go("/songs")
    page.get_by_label("Words").fill("alder")
    page.get_by_role("button", name="Find").click()
    expect(page.locator(".rows tbody tr")).to_have_count(1)
    visit.go("/holders")
    page.get_by_role("link", name="Ada Tiny").click()
    expect(page.get_by_role("heading", name="Shares over time")).to_be_visible()
    page.locator("#statements tbody a").first.click()
    expect(page.get_by_role("heading", name="Recordings")).to_be_visible()
    amounts = page.locator("section:has(h2:text('Recordings')) tbody tr td:last-child").all_inner_texts()
    stated = platform.call("GET", f"/v1/statements/{platform.statement}")
    assert abs(sum(map(float, amounts)) - float(stated["recordings"])) < 1e-3


def test_a_song_is_forgotten_and_the_track_heard_again(visit, platform):
    page = visit.page
    visit.go(f"/attributions/{platform.result}")
    page.locator("#forget-song").select_option(platform.song)
    page.get_by_label("Seed").fill("3")
    page.get_by_role("button", name="Forget it").click()
    expect(page.locator(".trial [data-take]")).to_have_count(3)
    expect(page.locator(".shifts tbody tr")).to_have_count(2)
    takes = page.locator(".trial audio")
    for place in range(3):
        takes.nth(place).evaluate("audio => audio.play()")
        becomes(page, "place => document.querySelectorAll('.trial audio')[place].currentTime > 0", place)
    heard = page.evaluate("[...document.querySelectorAll('.trial audio')].filter(each => !each.paused).length")
    assert heard <= 1


def test_a_row_is_disputed_and_the_review_recorded(visit, platform):
    page = visit.page
    visit.go(f"/attributions/{platform.earlier}")
    page.locator("[data-dispute]").nth(1).click()
    form = page.locator("#dispute form")
    expect(form.get_by_label("Raised by")).to_be_focused()
    form.get_by_label("Raised by").fill("Ada")
    form.get_by_label("Why").fill("the same sample")
    form.get_by_role("button", name="Dispute").click()
    expect(page.locator("#disputes .cards")).to_contain_text("the same sample")
    page.get_by_text("Record the review").click()
    page.get_by_label("Decided by").fill("Bo")
    page.locator("#note-1").fill("heard it")
    page.get_by_role("button", name="Record").click()
    expect(page.locator("#disputes .review")).to_contain_text("Upheld. heard it")
    expect(page.locator(".ranking .state-upheld")).to_have_count(1)
