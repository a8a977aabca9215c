// The part of a report that is heard: marks, two decks, and what is said about them.

import { Player } from "./player.js";
import { choose, draw, peaks } from "./wave.js";

export function listen(section) {
  const find = (name) => section.querySelector(`[data-${name}]`);
  const marks = [...section.querySelectorAll("[data-match]")];
  const seeks = { a: section.querySelector("[data-seek=a]"), b: section.querySelector("[data-seek=b]") };
  const clocks = { a: section.querySelector("[data-clock=a]"), b: section.querySelector("[data-clock=b]") };
  const audio = { a: section.querySelector("[data-audio=a]"), b: section.querySelector("[data-audio=b]") };
  const sides = [...section.querySelectorAll("[data-side]")];
  const toggle = find("toggle");
  const player = new Player(audio.a, audio.b, show);
  let drawn = null;

  audio.a.controls = false;
  find("controls").hidden = false;
  seeks.a.hidden = false;
  const track = section.querySelector("[data-wave]");
  peaks(track.dataset.wave).then((found) => draw(track, found));

  toggle.addEventListener("click", () => player.toggle());
  for (const side of sides) side.addEventListener("click", () => player.listen(side.dataset.side));
  for (const side of ["a", "b"]) {
    seeks[side].addEventListener("input", () => {
      player.inTurn = false;
      player.seek(side, Number(seeks[side].value));
    });
  }
  for (const mark of marks) {
    mark.addEventListener("click", (event) => {
      if (event.ctrlKey || event.metaKey || event.shiftKey) return;
      event.preventDefault();
      take(mark);
    });
  }
  section.addEventListener("keydown", (event) => {
    if (event.ctrlKey || event.metaKey || event.altKey) return;
    if (event.key === "a" || event.key === "b") player.listen(event.key);
  });

  function take(mark) {
    const { song, title, held, length, trackStart, songStart, seconds } = mark.dataset;
    const match = {
      song, title, held: held === "1", length: Number(length),
      trackStart: Number(trackStart), songStart: Number(songStart), seconds: Number(seconds),
    };
    for (const each of marks) {
      const same = each.dataset.song === song && each.dataset.trackStart === trackStart;
      each.classList.toggle("chosen", same && each.dataset.songStart === songStart);
    }
    for (const line of section.querySelectorAll(".lines > li")) line.classList.toggle("chosen", line.dataset.song === song);
    player.choose(match);
    showSong(match);
    choose(track, match.trackStart, match.seconds, Number(seeks.a.max));
  }

  async function showSong(match) {
    const wave = find("wave-b");
    find("song-name").textContent = match.title;
    find("absent").hidden = match.held;
    seeks.b.hidden = !match.held;
    seeks.b.max = match.length;
    sides[1].disabled = !match.held;
    choose(wave, match.songStart, match.seconds, match.length);
    if (drawn === match.song) return;
    drawn = match.song;
    draw(wave, null);
    if (!match.held) return;
    const found = await peaks(`/v1/songs/${match.song}/waveform`);
    if (drawn === match.song) draw(wave, found);
  }

  function show({ side, playing, match }) {
    toggle.textContent = playing ? "Pause" : "Play";
    for (const each of sides) each.setAttribute("aria-pressed", String(each.dataset.side === side));
    for (const each of ["a", "b"]) {
      const at = audio[each].currentTime;
      if (document.activeElement !== seeks[each] || playing) seeks[each].value = at;
      seeks[each].setAttribute("aria-valuetext", spoken(at));
      clocks[each].textContent = each === "b" && !match?.held ? "" : spoken(at);
    }
    if (match) find("said").textContent = words(match, side, playing);
  }

  function words(match, side, playing) {
    const heard = playing ? `Hearing the ${side === "a" ? "track" : "song"}. ` : "";
    const both = `${spoken(match.trackStart)}–${spoken(match.trackStart + match.seconds)} of the track, `
      + `${spoken(match.songStart)}–${spoken(match.songStart + match.seconds)} of “${match.title}”`;
    return `${heard}${both}${match.held ? "" : "; the song's audio is not held here"}`;
  }

  return (song) => {
    const mark = marks.find((each) => each.dataset.song === song);
    if (!mark) return false;
    take(mark);
    section.scrollIntoView({ block: "start" });
    return true;
  };
}

function spoken(seconds) {
  const whole = Math.round(seconds || 0);
  return `${Math.floor(whole / 60)}:${String(whole % 60).padStart(2, "0")}`;
}
