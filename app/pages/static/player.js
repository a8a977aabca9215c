// Two recordings side by side: A, the track, and B, the song. A match names the seconds of both; either side can be
// heard at any moment of it, and changing sides keeps the moment.

export class Player {
  constructor(a, b, changed) {
    this.audio = { a, b };
    this.changed = changed;
    this.side = "a";
    this.match = null;
    this.inTurn = false;
    for (const side of ["a", "b"]) {
      this.audio[side].addEventListener("timeupdate", () => this.passed(side));
      for (const name of ["play", "pause", "ended", "loadedmetadata", "seeked"]) {
        this.audio[side].addEventListener(name, () => this.changed(this));
      }
    }
  }

  get heard() {
    return this.audio[this.side];
  }

  get playing() {
    return !this.heard.paused;
  }

  get both() {
    return Boolean(this.match?.held);
  }

  start(side) {
    return side === "a" ? this.match.trackStart : this.match.songStart;
  }

  choose(match) {
    this.stop();
    this.match = match;
    this.side = "a";
    this.audio.b.removeAttribute("src");
    if (match.held) this.audio.b.src = `/v1/songs/${match.song}/audio`;
    this.seek("a", match.trackStart);
    if (match.held) this.seek("b", match.songStart);
    this.inTurn = true;
    this.play();
  }

  seek(side, seconds) {
    const audio = this.audio[side];
    const go = () => { audio.currentTime = seconds; };
    if (audio.readyState > 0) go();
    else {
      audio.addEventListener("loadedmetadata", go, { once: true });
      audio.load();
    }
    this.changed(this);
  }

  play() {
    const started = this.heard.play();
    started?.catch(() => this.changed(this));
  }

  stop() {
    this.audio.a.pause();
    this.audio.b.pause();
  }

  toggle() {
    if (this.playing) {
      this.inTurn = false;
      this.stop();
    } else this.play();
  }

  listen(side) {
    if (side === this.side || (side === "b" && !this.both)) return;
    const was = this.playing;
    const into = this.match ? this.heard.currentTime - this.start(this.side) : this.heard.currentTime;
    this.stop();
    this.inTurn = false;
    this.side = side;
    if (this.match) this.seek(side, this.start(side) + Math.min(Math.max(into, 0), this.match.seconds));
    if (was) this.play();
    this.changed(this);
  }

  passed(side) {
    this.changed(this);
    if (!this.match || side !== this.side || !this.playing || !this.inTurn) return;
    if (this.heard.currentTime < this.start(side) + this.match.seconds) return;
    this.stop();
    if (side === "a" && this.both) {
      this.side = "b";
      this.seek("b", this.match.songStart);
      this.play();
    } else this.inTurn = false;
    this.changed(this);
  }
}
