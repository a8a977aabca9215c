// Sends the form in the background, so that progress shows and a refusal does not cost the file that was chosen.

const form = document.querySelector("[data-upload]");
const drop = form.querySelector("[data-drop]");
const input = form.querySelector("input[type=file]");
const chosen = form.querySelector("[data-chosen]");
const progress = form.querySelector("progress");
const button = form.querySelector("button");

for (const element of form.querySelectorAll(".scripted")) element.hidden = false;

for (const name of ["dragenter", "dragover"]) {
  drop.addEventListener(name, (event) => {
    event.preventDefault();
    drop.classList.add("over");
  });
}
for (const name of ["dragleave", "drop"]) drop.addEventListener(name, () => drop.classList.remove("over"));
drop.addEventListener("drop", (event) => {
  event.preventDefault();
  if (!event.dataTransfer.files.length) return;
  input.files = event.dataTransfer.files;
  input.dispatchEvent(new Event("change"));
});
input.addEventListener("change", () => {
  const [file] = input.files;
  if (file) chosen.textContent = `${file.name}, ${(file.size / 1e6).toFixed(1)} MB`;
  refuse("", "");
});

form.addEventListener("submit", (event) => {
  event.preventDefault();
  refuse("", "");
  busy(true);
  const request = new XMLHttpRequest();
  request.upload.addEventListener("progress", ({ loaded, total }) => { progress.value = total ? loaded / total : 0; });
  request.addEventListener("load", () => answered(request));
  request.addEventListener("error", () => refuse("The service does not answer", "Nothing was sent; try again."));
  request.addEventListener("loadend", () => busy(false));
  request.open("POST", "/v1/attributions");
  request.setRequestHeader("Accept", "application/json");
  request.send(filled());
});

function filled() {
  const data = new FormData(form);
  for (const [name, value] of [...data]) if (value === "") data.delete(name);
  return data;
}

function answered(request) {
  const answer = parsed(request.responseText);
  if (request.status === 202) location.assign(`/attributions/${answer.id}`);
  else if (request.status === 401) location.assign("/sign-in?next=/");
  else refuse(answer.title ?? "The service refused", answer.detail === answer.title ? "" : answer.detail ?? "");
}

function parsed(text) {
  try {
    return JSON.parse(text);
  } catch {
    return {};
  }
}

function refuse(title, detail) {
  form.querySelector("[data-error-title]").textContent = title;
  form.querySelector("[data-error-detail]").textContent = detail;
  form.querySelector("[data-error]").hidden = !title;
}

function busy(sending) {
  button.disabled = sending;
  progress.hidden = !sending;
  if (sending) progress.value = 0;
}
