/** Mouse, pen and fingers on the canvas. One paints; two fingers, the wheel, the space bar or the middle button move the view. */

/** @import {Point} from "./api.js" */
/** @import {Pen} from "./pen.js" */
/** @import {Viewer} from "./viewer.js" */

/** A second finger within this time starts a pinch; what the first one painted was not meant. */
const PINCH_WITHIN = 350;
const WHEEL_STEP = 0.0016;
const PINCH_STEP = 0.01;
const ERASER_BUTTON = 32;

export class Gestures {
  /**
   * @param {Viewer} viewer
   * @param {Pen} pen
   * @param {(at: Point | null) => void} hover called with the position of the pointer on the canvas, or null
   */
  constructor(viewer, pen, hover) {
    this.viewer = viewer;
    this.pen = pen;
    this.hover = hover;
    /** The pointers that are down, with their positions on the canvas. @type {Map<number, Point>} */
    this.down = new Map();
    /** @type {"none" | "paint" | "pan" | "pinch"} */
    this.mode = "none";
    this.startedAt = 0;
    /** Whether the space bar is held. */
    this.space = false;
    this.listen(viewer.canvas);
  }

  /** @param {HTMLCanvasElement} canvas */
  listen(canvas) {
    canvas.addEventListener("pointerdown", (event) => this.press(event));
    canvas.addEventListener("pointermove", (event) => this.drag(event));
    canvas.addEventListener("pointerup", (event) => this.release(event));
    canvas.addEventListener("pointercancel", (event) => this.release(event));
    canvas.addEventListener("pointerleave", () => this.hover(null));
    canvas.addEventListener("dblclick", () => this.pen.closePolygon());
    canvas.addEventListener("contextmenu", (event) => event.preventDefault());
    canvas.addEventListener("wheel", (event) => this.turn(event), { passive: false });
    addEventListener("keyup", (event) => {
      if (event.key === " ") this.holdSpace(false);
    });
    addEventListener("blur", () => this.holdSpace(false));
  }

  /** @param {boolean} held */
  holdSpace(held) {
    this.space = held;
    this.viewer.canvas.classList.toggle("grab", held);
  }

  /**
   * @param {PointerEvent | WheelEvent} event
   * @returns {Point}
   */
  position(event) {
    const { left, top } = this.viewer.canvas.getBoundingClientRect();
    return [event.clientX - left, event.clientY - top];
  }

  /** @param {PointerEvent} event */
  press(event) {
    event.preventDefault();
    const { canvas, view } = this.viewer;
    canvas.focus({ preventScroll: true });
    canvas.setPointerCapture(event.pointerId);
    const at = this.position(event);
    this.down.set(event.pointerId, at);
    this.hover(event.pointerType === "touch" ? null : at);
    if (this.down.size === 1) {
      this.startedAt = event.timeStamp;
      if (this.space || event.button === 1) this.mode = "pan";
      else {
        this.mode = "paint";
        this.pen.down(view.toImage(...at), event.button === 2 || (event.buttons & ERASER_BUTTON) !== 0);
      }
    } else if (this.down.size === 2 && this.mode !== "pan") this.startPinch(event);
  }

  /** @param {PointerEvent} event */
  startPinch(event) {
    if (this.mode === "paint") {
      if (event.timeStamp - this.startedAt < PINCH_WITHIN) this.pen.giveUp();
      else this.pen.up();
    }
    this.mode = "pinch";
  }

  /** @param {PointerEvent} event */
  drag(event) {
    const at = this.position(event);
    if (event.pointerType !== "touch") this.hover(at);
    const before = this.down.get(event.pointerId);
    if (!before) return;
    if (this.mode === "paint") {
      const moves = event.getCoalescedEvents?.() ?? [];
      const points = (moves.length ? moves : [event]).map((move) => this.viewer.view.toImage(...this.position(move)));
      this.pen.move(points);
    } else if (this.mode === "pan") this.viewer.move((view) => view.pan(at[0] - before[0], at[1] - before[1]));
    else if (this.mode === "pinch") this.pinch(event.pointerId, before, at);
    this.down.set(event.pointerId, at);
  }

  /**
   * Move one of two fingers: the pixels of the image stay under both.
   * @param {number} pointer
   * @param {Point} before
   * @param {Point} at
   */
  pinch(pointer, before, at) {
    const other = [...this.down].find(([id]) => id !== pointer)?.[1];
    if (!other) return;
    const away = (/** @type {Point} */ point) => Math.max(1, Math.hypot(point[0] - other[0], point[1] - other[1]));
    const middle = [(at[0] + other[0]) / 2, (at[1] + other[1]) / 2];
    this.viewer.move((view) => {
      view.pan((at[0] - before[0]) / 2, (at[1] - before[1]) / 2);
      view.zoom((view.scale * away(at)) / away(before), middle[0], middle[1]);
    });
  }

  /** @param {PointerEvent} event */
  release(event) {
    if (!this.down.delete(event.pointerId)) return;
    if (this.mode === "paint") {
      if (event.type === "pointercancel") this.pen.giveUp();
      else this.pen.up();
    }
    // The finger that is left of a pinch neither paints nor moves the view.
    if (this.down.size === 0) this.mode = "none";
  }

  /** @param {WheelEvent} event */
  turn(event) {
    event.preventDefault();
    const lines = event.deltaMode === WheelEvent.DOM_DELTA_LINE ? 20 : 1;
    const [x, y] = [event.deltaX * lines, event.deltaY * lines];
    const at = this.position(event);
    if (event.shiftKey || Math.abs(x) > Math.abs(y)) this.viewer.move((view) => view.pan(-(x || y), 0));
    else {
      const factor = Math.exp(-y * (event.ctrlKey ? PINCH_STEP : WHEEL_STEP));
      this.viewer.move((view) => view.zoom(view.scale * factor, ...at));
    }
    this.hover(at);
  }
}
