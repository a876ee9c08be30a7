/** What the page has to say: short messages that go away, and problems that stay until they are solved. */

import { byId, icon, make } from "./dom.js";

/** @typedef {{label: string, run: () => void}} Action */

const SECONDS = 4;

/** @type {ReturnType<typeof setTimeout> | undefined} */
let timer;

/**
 * Show one sentence for some seconds; screen readers read it out.
 * @param {string} sentence
 */
export function say(sentence) {
  const toast = byId("toast", HTMLElement);
  toast.textContent = sentence;
  toast.classList.add("shown");
  clearTimeout(timer);
  timer = setTimeout(() => toast.classList.remove("shown"), SECONDS * 1000);
}

/**
 * Show a problem with what can be done about it. A problem of the same kind is replaced.
 * @param {string} kind
 * @param {string} sentence
 * @param {Action[]} actions
 */
export function showProblem(kind, sentence, actions) {
  const problems = byId("problems", HTMLElement);
  const shown = problems.querySelector(`[data-kind="${kind}"]`);
  const text = shown?.querySelector("p");
  const labels = [...(shown?.querySelectorAll("button") ?? [])].map((button) => button.textContent);
  if (text && labels.join() === actions.map((action) => action.label).join()) {
    if (text.textContent !== sentence) text.textContent = sentence;
    return;
  }
  shown?.remove();
  const problem = make("div", { class: "problem", "data-kind": kind, role: "alert" }, icon("warning"), make("p", {}, sentence));
  for (const action of actions) {
    const button = make("button", { type: "button" }, action.label);
    button.addEventListener("click", action.run);
    problem.append(button);
  }
  problems.append(problem);
}

/**
 * Take away a problem that is solved.
 * @param {string} kind
 */
export function clearProblem(kind) {
  const problem = byId("problems", HTMLElement).querySelector(`[data-kind="${kind}"]`);
  if (!problem) return;
  const focused = problem.contains(document.activeElement);
  problem.remove();
  if (focused) byId("canvas", HTMLElement).focus();
}

/**
 * Do something that asks the server. If it fails, show why and offer to try again.
 * @param {string} kind
 * @param {() => Promise<void>} work
 * @returns whether it succeeded at once
 */
export async function attempt(kind, work) {
  try {
    await work();
    clearProblem(kind);
    return true;
  } catch (error) {
    const sentence = error instanceof Error ? error.message : String(error);
    const again = () => {
      clearProblem(kind);
      void attempt(kind, work);
    };
    showProblem(kind, sentence, [{ label: "Try again", run: again }, { label: "Dismiss", run: () => clearProblem(kind) }]);
    return false;
  }
}
