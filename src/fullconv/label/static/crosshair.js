/** Painting with the keyboard: a cross that the arrow keys move over the image. */

/** @import {Point} from "./api.js" */
/** @import {Overlay} from "./overlay.js" */
/** @import {Pen} from "./pen.js" */
/** @import {Viewer} from "./viewer.js" */

import { state } from "./state.js";

/** How far an arrow key moves the cross, in screen pixels. */
const STEP = 16;
/** The cross stays this far inside the canvas; the image moves instead. */
const MARGIN = 40;

const DIRECTIONS = { left: [-1, 0], right: [1, 0], up: [0, -1], down: [0, 1] };

export class Crosshair {
  /**
   * @param {Viewer} viewer
   * @param {Pen} pen
   * @param {Overlay} overlay
   */
  constructor(viewer, pen, overlay) {
    this.viewer = viewer;
    this.pen = pen;
    this.overlay = overlay;
    /** Whether Shift holds the pen down. */
    this.painting = false;
    addEventListener("keyup", (event) => {
      if (event.key === "Shift") this.lift();
    });
    viewer.canvas.addEventListener("blur", () => {
      this.lift();
      this.hide();
    });
    state.image.watch(() => this.hide());
  }

  hide() {
    this.overlay.cross = null;
    this.overlay.redraw();
  }

  /** The place of the cross; it appears in the middle of the canvas. */
  get place() {
    const { width, height } = this.viewer.view.canvas;
    this.overlay.pointer = null;
    this.overlay.cross ??= middle(this.viewer.view.toImage(width / 2, height / 2));
    return this.overlay.cross;
  }

  /**
   * Move the cross, by a step or by one pixel of the image, and paint on the way if asked.
   * @param {keyof typeof DIRECTIONS} direction
   * @param {{fine?: boolean, paint?: boolean}} [how]
   */
  move(direction, { fine = false, paint = false } = {}) {
    const { view, tiles } = this.viewer;
    if (!tiles) return;
    const [x, y] = this.place;
    const [dx, dy] = DIRECTIONS[direction];
    const step = fine ? 1 : Math.max(1, Math.round(STEP / view.scale));
    const brush = state.tool.value === "brush" || state.tool.value === "eraser";
    if (paint && brush && !this.painting) {
      this.painting = true;
      this.pen.down([x, y]);
    }
    const { width, height } = view.image;
    /** @type {Point} */
    const place = [Math.min(width - 0.5, Math.max(0.5, x + dx * step)), Math.min(height - 0.5, Math.max(0.5, y + dy * step))];
    this.overlay.cross = place;
    if (this.painting) this.pen.move([place]);
    this.follow(place);
    this.overlay.redraw();
  }

  /** Move the image if the cross comes close to the edge of the canvas. @param {Point} place */
  follow(place) {
    const { view } = this.viewer;
    const [x, y] = view.toCanvas(place);
    const beyond = (/** @type {number} */ at, /** @type {number} */ size) =>
      Math.min(0, size - MARGIN - at) + Math.max(0, MARGIN - at);
    const [dx, dy] = [beyond(x, view.canvas.width), beyond(y, view.canvas.height)];
    if (dx || dy) this.viewer.move(() => view.pan(dx, dy));
  }

  lift() {
    if (!this.painting) return;
    this.painting = false;
    this.pen.up();
  }

  /** Use the tool at the cross. The same corner twice closes a polygon. */
  use() {
    if (!this.viewer.tiles) return;
    if (this.pen.corners.length && !this.overlay.cross) {
      this.pen.closePolygon(); // its corners are from a mouse
      return;
    }
    const place = this.place;
    const last = this.pen.corners.at(-1);
    if (last && last[0] === place[0] && last[1] === place[1]) this.pen.closePolygon();
    else {
      this.pen.down(place);
      this.pen.up();
    }
    this.overlay.redraw();
  }
}

/** The middle of a pixel. @param {Point} point @returns {Point} */
function middle([x, y]) {
  return [Math.floor(x) + 0.5, Math.floor(y) + 0.5];
}
