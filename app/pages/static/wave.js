// Draws how loud a recording is over time, and which part of it is chosen.

const WIDTH = 480;
const MIDDLE = 50;
const RETRIES = 4;

export async function peaks(address) {
  for (let attempt = 0; attempt < RETRIES; attempt += 1) {
    const answer = await fetch(address);
    if (answer.ok) return answer.json();
    if (answer.status !== 503) return null;
    await new Promise((resolve) => { setTimeout(resolve, 700 * (attempt + 1)); });
  }
  return null;
}

export function draw(svg, found) {
  const path = svg.querySelector("path");
  if (!found) {
    path.setAttribute("d", "");
    return;
  }
  const loudest = Math.max(...found.peaks, 0.05);
  const step = WIDTH / found.peaks.length;
  const parts = found.peaks.map((peak, place) => {
    const half = Math.max(0.6, (46 * peak) / loudest);
    return `M${(place * step).toFixed(2)} ${(MIDDLE - half).toFixed(2)}h${(step * 0.72).toFixed(2)}v${(2 * half).toFixed(2)}h${(-step * 0.72).toFixed(2)}z`;
  });
  path.setAttribute("d", parts.join(""));
}

export function choose(svg, start, seconds, whole) {
  const span = svg.querySelector(".span");
  span.setAttribute("x", (WIDTH * start) / whole);
  span.setAttribute("width", Math.max(0, (WIDTH * Math.min(seconds, whole - start)) / whole));
}
