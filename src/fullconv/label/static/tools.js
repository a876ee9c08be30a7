/** The tools and their settings: buttons, sliders, and the numbers next to them. */

/** @import {Pen} from "./pen.js" */
/** @import {Outbox} from "./strokes.js" */
/** @import {Viewer} from "./viewer.js" */
/** @import {Shown, Tool, Watched} from "./state.js" */

import { byId } from "./dom.js";
import { currentImage, state } from "./state.js";
import { say } from "./notices.js";

const SMALLEST_RADIUS = 0.5;
const LARGEST_RADIUS = 512;
/** The slider of the radius has this many steps for a doubling. */
const STEPS = 4;

/** @type {Shown[]} */
const SHOWN = ["both", "labels", "prediction", "none"];
const SHOWN_NAMES = { both: "Labels and prediction", labels: "Labels only", prediction: "Prediction only", none: "Photo only" };

/**
 * @param {Viewer} viewer
 * @param {Pen} pen
 * @param {Outbox} outbox
 */
export function connectTools(viewer, pen, outbox) {
  radios("tool", state.tool);
  radios("scope", state.scope);
  radios("shown", state.shown);
  slider("radius", state.radius, (radius) => STEPS * Math.log2(radius), (step) => tidy(2 ** (step / STEPS)), (radius) =>
    `${radius} px`);
  slider("tolerance", state.tolerance, Number, Number, String);
  slider("opacity", state.opacity, (share) => share * 100, (value) => value / 100, (share) => `${Math.round(share * 100)} %`);
  state.tool.watch((tool) => {
    for (const row of document.querySelectorAll("[data-for]")) {
      if (row instanceof HTMLElement) row.hidden = !row.dataset.for?.split(" ").includes(tool);
    }
  });
  const buttons = {
    undo: () => undo(pen, outbox),
    redo: () => step(outbox, "redo"),
    "zoom-in": () => zoom(viewer, 1),
    "zoom-out": () => zoom(viewer, -1),
    fit: () => viewer.fit(),
    "accept-image": () => pen.acceptImage(),
    "close-polygon": () => closePolygon(pen),
  };
  for (const [id, run] of Object.entries(buttons)) byId(id, HTMLButtonElement).addEventListener("click", run);
  const zoomed = byId("zoom", HTMLElement);
  viewer.after.push(() => {
    const text = viewer.tiles ? `${tidy(viewer.view.scale * 100)} %` : "";
    if (zoomed.textContent !== text) zoomed.textContent = text;
  });
}

/** @param {Pen} pen */
function closePolygon(pen) {
  if (!pen.closePolygon()) say("Set the corners of the polygon on the image first.");
}

/**
 * Take back the last corner of an unfinished polygon, or else the last stroke.
 * @param {Pen} pen
 * @param {Outbox} outbox
 */
export function undo(pen, outbox) {
  if (!pen.dropCorner()) step(outbox, "undo");
}

/**
 * @param {Outbox} outbox
 * @param {"undo" | "redo"} kind
 */
export function step(outbox, kind) {
  if (currentImage()) outbox.step(state.image.value ?? "", kind);
}

/**
 * @param {Viewer} viewer
 * @param {1 | -1} direction
 */
export function zoom(viewer, direction) {
  viewer.move((view) => view.zoom(view.nextScale(direction)));
}

/**
 * Make the brush larger or smaller.
 * @param {1 | -1} direction
 */
export function resizeBrush(direction) {
  const steps = Math.round(2 * Math.log2(state.radius.value)) + direction;
  state.radius.value = Math.min(LARGEST_RADIUS, Math.max(SMALLEST_RADIUS, tidy(2 ** (steps / 2))));
  say(`Brush: ${state.radius.value} px`);
}

/** @param {1 | -1} direction */
export function changeOpacity(direction) {
  state.opacity.value = Math.min(1, Math.max(0.1, Math.round(state.opacity.value * 10 + direction) / 10));
  say(`Opacity: ${Math.round(state.opacity.value * 100)} %`);
}

/** Show the next of: both, labels, prediction, photo. */
export function showNext() {
  state.shown.value = SHOWN[(SHOWN.indexOf(state.shown.value) + 1) % SHOWN.length];
  say(SHOWN_NAMES[state.shown.value]);
}

/**
 * Choose a tool; "accept" again changes what it accepts.
 * @param {Tool} tool
 */
export function chooseTool(tool) {
  if (tool === "accept" && state.tool.value === "accept") {
    state.scope.value = state.scope.value === "region" ? "class" : "region";
    say(state.scope.value === "region" ? "Accept a region" : "Accept all of a class");
  }
  state.tool.value = tool;
}

/**
 * Three digits are enough for a size.
 * @param {number} number
 */
function tidy(number) {
  return Number(number.toPrecision(number < 100 ? 2 : 3));
}

/**
 * Connect a group of radio buttons with a value.
 * @template {string} T
 * @param {string} name
 * @param {Watched<T>} value
 */
function radios(name, value) {
  for (const input of document.querySelectorAll(`input[name="${name}"]`)) {
    if (!(input instanceof HTMLInputElement)) continue;
    input.addEventListener("change", () => {
      if (input.checked) value.value = /** @type {T} */ (input.value);
    });
    value.watch((current) => {
      input.checked = input.value === current;
    });
  }
}

/**
 * Connect a slider and the text next to it with a value.
 * @param {string} id
 * @param {Watched<number>} value
 * @param {(value: number) => number} toSlider
 * @param {(position: number) => number} fromSlider
 * @param {(value: number) => string} describe
 */
function slider(id, value, toSlider, fromSlider, describe) {
  const input = byId(id, HTMLInputElement);
  const output = byId(`${id}-value`, HTMLElement);
  input.addEventListener("input", () => {
    value.value = fromSlider(input.valueAsNumber);
  });
  value.watch((current) => {
    const position = toSlider(current);
    if (Math.abs(position - input.valueAsNumber) > 0.5) input.valueAsNumber = position;
    output.textContent = describe(current);
    input.setAttribute("aria-valuetext", describe(current));
  });
}
