/** The line of status: whether everything is saved, the model's version, and what lies under the pointer. */

/** @import {Point} from "./api.js" */
/** @import {Viewer} from "./viewer.js" */

import { NO_LABEL } from "./api.js";
import { byId } from "./dom.js";
import { classes, state } from "./state.js";

/** Connect the values with the elements that show them. */
export function connectStatus() {
  const saved = byId("saved", HTMLElement);
  const show = () => {
    const waiting = state.waiting.value;
    const lost = state.connection.value === "lost" || state.connection.value === "refused";
    const opening = state.connection.value === "opening";
    saved.className = lost ? "lost" : waiting || opening ? "saving" : "";
    if (opening) saved.textContent = "Connecting …";
    else if (lost) saved.textContent = waiting ? `Not connected, ${waiting} not saved` : "Not connected";
    else saved.textContent = waiting ? "Saving …" : "Saved";
  };
  state.waiting.watch(show);
  state.connection.watch(show);
  const model = byId("model", HTMLElement);
  state.model.watch(({ version, seconds }) => {
    const time = seconds === null ? "" : `, fitted in ${seconds.toFixed(2)} s`;
    model.textContent = version ? `Model ${version}${time}` : "No model yet";
  });
  state.project.watch((project) => {
    byId("project-name", HTMLElement).textContent = project?.name ?? "";
  });
}

/**
 * The class at a position on the canvas: the label, or else the prediction.
 * @param {Viewer} viewer
 * @param {Point} at
 */
export function classAt({ tiles, view, level }, at) {
  const [x, y] = view.toImage(...at);
  if (!tiles || x < 0 || y < 0 || x >= view.image.width || y >= view.image.height) return null;
  for (const layer of /** @type {const} */ (["labels", "prediction"])) {
    if (layer === "prediction" && !state.model.value.version) break;
    const key = tiles.keyAt(layer, level, Math.floor(x), Math.floor(y));
    if (key !== null && key !== NO_LABEL) return { key, layer };
  }
  return null;
}

/**
 * Show the pixel under the pointer, and its class.
 * @param {Viewer} viewer
 * @param {Point | null} at
 */
export function showPixel(viewer, at) {
  const output = byId("pixel", HTMLElement);
  const [x, y] = at ? viewer.view.toImage(...at).map(Math.floor) : [-1, -1];
  const { width, height } = viewer.view.image;
  if (!at || x < 0 || y < 0 || x >= width || y >= height) {
    output.textContent = "";
    return;
  }
  const found = classAt(viewer, at);
  const name = found && classes().find((entry) => entry.key === found.key)?.name;
  output.textContent = `${x}, ${y}${name ? ` · ${name}${found.layer === "prediction" ? " (predicted)" : ""}` : ""}`;
}
