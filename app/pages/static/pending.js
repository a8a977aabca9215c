// Follows an attribution to its end: asks with the last ETag, as often as the service says, and then shows the report.

const section = document.querySelector("[data-pending]");
const said = section.querySelector("[data-said]");
const progress = section.querySelector("[data-progress]");
const stages = [...section.querySelectorAll("[data-stage]")];
const address = `/v1/attributions/${section.dataset.pending}`;
let etag = "";
let wait = 1;

async function look() {
  try {
    const answer = await fetch(address, { headers: etag ? { "If-None-Match": etag } : {} });
    wait = Number(answer.headers.get("Retry-After")) || 1;
    if (answer.ok) {
      etag = answer.headers.get("ETag") ?? "";
      show(await answer.json());
    } else if (answer.status !== 304) {
      throw new Error(String(answer.status));
    }
  } catch {
    said.textContent = "The service does not answer; asking again.";
    wait = 5;
  }
  setTimeout(look, wait * 1000);
}

function show({ status, stage, progress: part }) {
  if (!["queued", "running"].includes(status)) {
    location.reload();
    return;
  }
  const now = stages.findIndex((each) => each.dataset.stage === stage);
  stages.forEach((each, place) => {
    each.classList.toggle("done", place < now);
    each.classList.toggle("now", place === now);
    if (place === now) each.setAttribute("aria-current", "step");
    else each.removeAttribute("aria-current");
  });
  progress.value = part;
  const words = now < 0 ? "Waiting for a worker." : `Now ${stage}.`;
  if (said.textContent !== words) said.textContent = words;
}

look();
