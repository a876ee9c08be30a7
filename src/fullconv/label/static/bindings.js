/** Which key does what. */

/** @import {Crosshair} from "./crosshair.js" */
/** @import {Gestures} from "./gestures.js" */
/** @import {ImageList} from "./images.js" */
/** @import {Key, Note} from "./keys.js" */
/** @import {Pen} from "./pen.js" */
/** @import {Places} from "./places.js" */
/** @import {Outbox} from "./strokes.js" */
/** @import {Viewer} from "./viewer.js" */

import { chooseByIndex, chooseByKey, chooseNext, openDialog } from "./classes.js";
import { byId } from "./dom.js";
import { changeOpacity, chooseTool, resizeBrush, showNext, step, undo, zoom } from "./tools.js";
import { start } from "./training.js";

/** @typedef {{viewer: Viewer, pen: Pen, outbox: Outbox, images: ImageList, places: Places, crosshair: Crosshair,
 *   gestures: Gestures, help: () => void, classUnderPointer: () => number | null}} Parts */

/**
 * @param {string} group
 * @param {boolean} [canvas]
 */
const maker = (group, canvas = false) =>
  (/** @type {string} */ keys, /** @type {string} */ text, /** @type {() => void} */ run) =>
    ({ group, keys: keys.split(" ").map((key) => key.replace("Space", " ")), text, run, canvas });

/**
 * @param {Parts} parts
 * @returns {Key[]}
 */
export function bindings(parts) {
  return [...tools(parts), ...painting(parts), ...classKeys(parts), ...viewing(parts), ...imageKeys(parts), ...cross(parts)];
}

/** @param {Parts} parts */
function tools({ pen }) {
  const key = maker("Tools");
  return [
    key("b", "Brush", () => chooseTool("brush")),
    key("e", "Eraser", () => chooseTool("eraser")),
    key("p", "Polygon", () => chooseTool("polygon")),
    key("f", "Fill an area of one colour", () => chooseTool("fill")),
    key("a", "Accept the prediction; again: a region, or all of a class", () => chooseTool("accept")),
    key("shift+a", "Accept the prediction of the whole image", () => pen.acceptImage()),
    key("s [", "Smaller brush", () => resizeBrush(-1)),
    key("d ]", "Larger brush", () => resizeBrush(1)),
  ];
}

/** @param {Parts} parts */
function painting({ pen, outbox, crosshair }) {
  const key = maker("Strokes");
  const cancel = () => {
    if (!pen.cancel()) crosshair.hide();
    document.body.classList.remove("images-open", "panel-open");
  };
  return [
    key("ctrl+z z", "Undo", () => undo(pen, outbox)),
    key("ctrl+shift+z shift+z ctrl+y", "Redo", () => step(outbox, "redo")),
    key("backspace", "Take back the last corner of the polygon", () => void pen.dropCorner()),
    key("escape", "Give up the unfinished stroke", cancel),
  ];
}

/** @param {Parts} parts */
function classKeys({ classUnderPointer }) {
  const key = maker("Classes");
  const numbers = [..."1234567890"].map((digit, index) => key(digit, "", () => chooseByIndex(index)));
  return [
    ...numbers,
    key(",", "Class before", () => chooseNext(-1)),
    key(".", "Next class", () => chooseNext(1)),
    key("i", "Take the class under the pointer", () => chooseByKey(classUnderPointer())),
    key("c", "Add a class", () => openDialog(null)),
  ];
}

/** @param {Parts} parts */
function viewing({ viewer, help, gestures }) {
  const key = maker("View");
  const space = maker("View", true)("Space", "Hold and drag to move the image", () => gestures.holdSpace(true));
  return [
    key("v", "Labels and prediction, one of them, or the photo", showNext),
    key("j", "Less opacity", () => changeOpacity(-1)),
    key("k", "More opacity", () => changeOpacity(1)),
    key("+ =", "Zoom in", () => zoom(viewer, 1)),
    key("-", "Zoom out", () => zoom(viewer, -1)),
    key("w", "Whole image", () => viewer.fit()),
    key("o", "One pixel to one pixel", () => viewer.move((view) => view.zoom(1))),
    space,
    key("?", "This help", help),
  ];
}

/** @param {Parts} parts */
function imageKeys({ images, places }) {
  const key = maker("Images");
  const list = () => {
    document.body.classList.add("images-open");
    const target = byId("image-list", HTMLElement).querySelector("button[tabindex='0']");
    if (target instanceof HTMLElement) target.focus();
  };
  return [
    key("n", "The image to label next", () => images.openProposed()),
    key("shift+n", "The image before", () => images.openPrevious()),
    key("pagedown", "Next image of the list", () => images.openNeighbour(1)),
    key("pageup", "Image before it in the list", () => images.openNeighbour(-1)),
    key("l", "Go to the list of images", list),
    key("u", "Next uncertain place", () => places.go(1)),
    key("shift+u", "Uncertain place before", () => places.go(-1)),
    key("t", "Train", start),
  ];
}

/** @param {Parts} parts */
function cross({ crosshair }) {
  const key = maker("Without a mouse, on the image", true);
  const directions = /** @type {const} */ (["left", "right", "up", "down"]);
  return [
    ...directions.flatMap((way) => [
      key(`arrow${way}`, "", () => crosshair.move(way)),
      key(`shift+arrow${way}`, "", () => crosshair.move(way, { paint: true })),
      key(`alt+arrow${way}`, "", () => crosshair.move(way, { fine: true })),
      key(`shift+alt+arrow${way}`, "", () => crosshair.move(way, { fine: true, paint: true })),
    ]),
    key("enter", "Use the tool at the cross; twice closes a polygon", () => crosshair.use()),
  ];
}

/** Lines of the help for what has many keys, or none. @type {Note[]} */
export const NOTES = [
  { group: "Classes", keys: ["1 … 9, 0"], text: "The first ten classes" },
  { group: "Without a mouse, on the image", keys: ["↑ ↓ ← →"], text: "Move the cross" },
  { group: "Without a mouse, on the image", keys: ["shift+↑ ↓ ← →"], text: "Paint" },
  { group: "Without a mouse, on the image", keys: ["alt+↑ ↓ ← →"], text: "Move by one pixel" },
  { group: "Mouse, pen and fingers", keys: ["Wheel"], text: "Zoom" },
  { group: "Mouse, pen and fingers", keys: ["Middle button"], text: "Move the image" },
  { group: "Mouse, pen and fingers", keys: ["Right button"], text: "Erase" },
  { group: "Mouse, pen and fingers", keys: ["Two fingers"], text: "Zoom and move" },
];
