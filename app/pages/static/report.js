// A report: rows lead to the seconds that match, and to the form that disputes them.

import { follow } from "./forgotten.js";
import { listen } from "./listen.js";

const section = document.querySelector("[data-listen]");
const hear = section ? listen(section) : () => false;
follow(document.querySelector("[data-forgotten]"));

for (const link of document.querySelectorAll("[data-play]")) {
  link.addEventListener("click", (event) => {
    if (!event.ctrlKey && !event.metaKey && hear(link.dataset.play)) event.preventDefault();
  });
}
for (const link of document.querySelectorAll("[data-dispute]")) {
  link.addEventListener("click", (event) => {
    event.preventDefault();
    const details = document.querySelector("#dispute");
    details.open = true;
    details.querySelector("select").value = link.dataset.dispute;
    details.scrollIntoView({ block: "center" });
    details.querySelector("input").focus({ preventScroll: true });
  });
}
