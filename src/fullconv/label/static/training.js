/** Training from the page: the button, the progress, the scores, and the command where PyTorch is missing. */

/** @import {Scores, Training} from "./api.js" */

import { api } from "./api.js";
import { byId, make } from "./dom.js";
import { state } from "./state.js";
import { attempt, say } from "./notices.js";


/** Connect the part "Training" of the page. */
export function connectTraining() {
  byId("train-start", HTMLButtonElement).addEventListener("click", start);
  byId("train-cancel", HTMLButtonElement).addEventListener("click", cancel);
  byId("train-copy", HTMLButtonElement).addEventListener("click", () => void copy());
  state.project.watch((project) => {
    const missing = project !== null && !project.training_available;
    byId("train-missing", HTMLElement).hidden = !missing;
    byId("train-command", HTMLElement).textContent = findCommand(project?.training_help ?? "");
    byId("train-command-row", HTMLElement).hidden = !project?.training_help;
    showTraining(state.training.value);
  });
  state.training.watch(showTraining);
}

/** Ask the server how the training goes. */
export async function refreshTraining() {
  state.training.value = await api.training();
}

/** Start the training, or go to its button while one runs. */
export function start() {
  if (state.training.value?.state === "running" || !state.project.value?.training_available) {
    const button = byId("train-cancel", HTMLButtonElement);
    (button.hidden ? byId("train-copy", HTMLButtonElement) : button).focus();
    return;
  }
  void attempt("training", async () => {
    await api.startTraining();
    await refreshTraining();
    say("The training has started.");
    byId("train-cancel", HTMLButtonElement).focus();
  });
}

function cancel() {
  void attempt("training", async () => {
    await api.cancelTraining();
    await refreshTraining();
    byId("train-start", HTMLButtonElement).focus();
  });
}

async function copy() {
  try {
    await navigator.clipboard.writeText(byId("train-command", HTMLElement).textContent ?? "");
    say("The command is copied.");
  } catch {
    say("The browser does not allow copying. Select the command and copy it.");
  }
}

/** The command at the end of a sentence such as "torch is not installed. Run: pip install …". @param {string} help */
function findCommand(help) {
  return /pip3? install .*$/.exec(help)?.[0] ?? help;
}

/** @param {Training | null} training */
function showTraining(training) {
  const available = state.project.value?.training_available ?? false;
  const running = training?.state === "running";
  const start = byId("train-start", HTMLButtonElement);
  start.hidden = !available || running;
  start.textContent = training && training.state !== "idle" ? "Train again" : "Train on the labels";
  byId("train-cancel", HTMLButtonElement).hidden = !running;
  byId("train-intro", HTMLElement).hidden = !available || (training !== null && training.state !== "idle");
  const progress = byId("train-progress", HTMLProgressElement);
  progress.hidden = !running;
  if (training && training.progress > 0) progress.value = training.progress;
  else progress.removeAttribute("value");
  const message = byId("train-message", HTMLElement);
  message.textContent = training?.message ?? "";
  message.hidden = !training?.message || training.state === "idle";
  message.classList.toggle("failed", training?.state === "failed");
  showScores(training?.scores ?? null);
  byId("train-output", HTMLElement).hidden = !training?.lines.length;
  byId("train-lines", HTMLElement).textContent = training?.lines.join("\n") ?? "";
}

/** @param {Scores | null} scores */
function showScores(scores) {
  const table = byId("train-scores", HTMLTableElement);
  table.hidden = scores === null;
  const rows = scores ? [["mIoU", scores.mean_iou], ...Object.entries(scores.classes)] : [];
  table.tBodies[0].replaceChildren(
    ...rows.map(([name, value]) => make("tr", {}, make("th", { scope: "row" }, String(name)), make("td", {}, score(value)))));
}

/** @param {unknown} value */
function score(value) {
  return typeof value === "number" && Number.isFinite(value) ? `${(value * 100).toFixed(1)} %` : "–";
}
