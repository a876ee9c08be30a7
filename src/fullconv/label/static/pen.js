/** What the tools do with positions in the image, whether they come from a mouse, a pen, a finger or the keyboard. */

/** @import {Point, Stroke} from "./api.js" */
/** @import {Outbox} from "./strokes.js" */
/** @import {Viewer} from "./viewer.js" */

import { NO_LABEL } from "./api.js";
import { currentImage, state } from "./state.js";
import { say } from "./notices.js";

/** A finger or mouse closer than this to the first corner closes the polygon, in screen pixels. */
const CLOSING = 10;
/** Points that are closer than this to the one before are left out: in screen pixels, and as a share of the radius. */
const STEP = 0.75;
const STEP_OF_RADIUS = 0.05;
/** The server takes 20,000 points a stroke; a longer one goes on as the next stroke. */
const MOST_POINTS = 10_000;

export class Pen {
  /**
   * @param {Outbox} outbox
   * @param {Viewer} viewer
   * @param {() => void} changed called when the unfinished stroke has changed
   */
  constructor(outbox, viewer, changed) {
    this.outbox = outbox;
    this.viewer = viewer;
    this.changed = changed;
    /** The stroke under the pen. @type {Stroke | null} */
    this.stroke = null;
    /** The corners of the polygon that is not closed yet. @type {Point[]} */
    this.corners = [];
    /** Whether a polygon is drawn freehand at the moment. */
    this.freehand = false;
    /** How many corners there were before the pen was put down. */
    this.before = 0;
    state.tool.watch(() => this.dropPolygon());
    state.image.watch(() => this.cancel());
  }

  /** The class that is painted; null after asking for one, if there is none. */
  get key() {
    if (state.tool.value === "eraser") return NO_LABEL;
    if (state.class.value === null) say("Add a class first.");
    return state.class.value;
  }

  /** Whether the pen is on the image at the moment. */
  get drawing() {
    return this.stroke !== null || this.freehand;
  }

  /**
   * Put the pen down.
   * @param {Point} point
   * @param {boolean} erase whether to erase with any tool
   */
  down(point, erase = false) {
    if (!currentImage() || !this.viewer.tiles) return;
    this.before = this.corners.length;
    const tool = state.tool.value;
    if (erase || tool === "brush" || tool === "eraser") {
      const key = erase ? NO_LABEL : this.key;
      if (key === null) return;
      this.stroke = { ...this.plain(key), tool: "brush", points: [round(point)] };
    } else if (tool === "polygon") this.addCorner(point);
    else if (tool === "fill") this.fill(point);
    else this.accept(state.scope.value, point);
    this.changed();
  }

  /**
   * Draw on with the pen down.
   * @param {Point[]} points
   */
  move(points) {
    const target = this.stroke?.points ?? (this.freehand ? this.corners : null);
    if (!target) return;
    const least = Math.max(STEP / this.viewer.view.scale, this.stroke ? this.stroke.radius * STEP_OF_RADIUS : 0);
    for (const point of points) {
      const last = target[target.length - 1];
      if (!last || Math.hypot(point[0] - last[0], point[1] - last[1]) >= least) target.push(round(point));
    }
    if (this.stroke && this.stroke.points.length > MOST_POINTS) {
      const next = { ...this.stroke, points: this.stroke.points.slice(-1) };
      this.up();
      this.stroke = next;
    }
    this.changed();
  }

  /** Lift the pen: the stroke goes to the server. */
  up() {
    const { stroke } = this;
    this.stroke = null;
    this.freehand = false;
    if (stroke && state.image.value) this.outbox.add(state.image.value, stroke);
    this.changed();
  }

  /** Lift the pen, and take back what was drawn since it was put down. */
  giveUp() {
    this.stroke = null;
    if (this.freehand) this.corners.length = this.before;
    this.up();
  }

  /** Take back what is not finished; the answer is false if there was nothing. */
  cancel() {
    const any = this.drawing || this.corners.length > 0;
    this.stroke = null;
    this.dropPolygon();
    return any;
  }

  dropPolygon() {
    this.corners = [];
    this.freehand = false;
    this.changed();
  }

  /** Take back the last corner of an unfinished polygon; the answer is false if there is none. */
  dropCorner() {
    const any = this.corners.pop() !== undefined;
    this.changed();
    return any;
  }

  /** @param {Point} point */
  addCorner(point) {
    if (this.key === null) return;
    const [first] = this.corners;
    const { view } = this.viewer;
    const near = first && Math.hypot(point[0] - first[0], point[1] - first[1]) * view.scale < CLOSING;
    if (near && this.corners.length > 2) {
      this.closePolygon();
      return;
    }
    this.corners.push(round(point));
    this.freehand = true;
  }

  /** Paint the polygon; the answer is false if there is none. */
  closePolygon() {
    const { corners, key } = this;
    if (!corners.length || key === null) return false;
    this.dropPolygon();
    if (corners.length > 2) this.send({ ...this.plain(key), tool: "polygon", points: corners });
    else say("A polygon needs three corners.");
    return true;
  }

  /** @param {Point} point */
  fill(point) {
    const { key } = this;
    if (key !== null && this.inside(point)) this.send({ ...this.plain(key), tool: "fill", points: [round(point)] });
  }

  /**
   * Make the shown prediction a label.
   * @param {"region" | "class" | "image"} scope
   * @param {Point} point
   */
  accept(scope, point) {
    if (state.model.value.version === 0) say("There is no prediction yet. Paint a little of two classes first.");
    else if (scope === "image" || this.inside(point)) {
      this.send({ ...this.plain(NO_LABEL), tool: "accept", points: [round(point)], scope });
    }
  }

  /** Accept the prediction wherever nothing is painted yet. */
  acceptImage() {
    if (currentImage() && this.viewer.tiles) this.accept("image", [0, 0]);
  }

  /** @param {Stroke} stroke */
  send(stroke) {
    if (state.image.value) this.outbox.add(state.image.value, stroke);
  }

  /** @param {Point} point */
  inside([x, y]) {
    const { width, height } = this.viewer.view.image;
    return x >= 0 && y >= 0 && x < width && y < height;
  }

  /**
   * The fields that every stroke has.
   * @param {number} key
   */
  plain(key) {
    const [radius, tolerance] = [state.radius.value, state.tolerance.value];
    return { class: key, radius, tolerance, scope: /** @type {const} */ ("region") };
  }
}

/**
 * Round to hundredths of a pixel, which keeps requests short.
 * @param {Point} point
 * @returns {Point}
 */
function round([x, y]) {
  return [Math.round(x * 100) / 100, Math.round(y * 100) / 100];
}
