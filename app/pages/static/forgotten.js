// Follows songs being forgotten, and lets one recording be heard at a time.

const PAUSE = 2000;

export function follow(section) {
  for (const take of section.querySelectorAll("[data-take]")) {
    take.addEventListener("play", () => {
      for (const other of document.querySelectorAll("audio")) if (other !== take) other.pause();
    });
  }
  for (const trial of section.querySelectorAll("[data-waiting]")) look(trial);
}

async function look(trial) {
  try {
    const answer = await fetch(`/v1/counterfactuals/${trial.dataset.trial}`);
    if (answer.ok) {
      const { status, stage, progress } = await answer.json();
      if (!["queued", "running"].includes(status)) {
        location.hash = "forgotten";
        location.reload();
        return;
      }
      trial.querySelector(".state").textContent = status === "running" && stage ? stage : status;
      trial.querySelector("progress").value = progress;
    }
  } finally {
    setTimeout(() => look(trial), PAUSE);
  }
}
