/** What lies over the image and is not part of it: the brush's outline, an unfinished polygon, a frame, the keyboard's cross. */

/** @import {Box, Point} from "./api.js" */
/** @import {Pen} from "./pen.js" */
/** @import {Viewer} from "./viewer.js" */

import { byId } from "./dom.js";
import { state } from "./state.js";
import { context2d } from "./viewer.js";

const CROSS = 10;

export class Overlay {
  /**
   * @param {Viewer} viewer
   * @param {Pen} pen
   */
  constructor(viewer, pen) {
    this.viewer = viewer;
    this.pen = pen;
    this.context = context2d(byId("overlay", HTMLCanvasElement));
    /** The position of the pointer on the canvas. @type {Point | null} */
    this.pointer = null;
    /** The position of the keyboard's cross in the image. @type {Point | null} */
    this.cross = null;
    /** A place that is shown to the user. @type {Box | null} */
    this.frame = null;
    this.scheduled = false;
    viewer.after.push(() => this.draw());
    for (const value of [state.tool, state.radius, state.class]) value.watch(() => this.redraw());
  }

  redraw() {
    if (this.scheduled) return;
    this.scheduled = true;
    requestAnimationFrame(() => {
      this.scheduled = false;
      this.draw();
    });
  }

  draw() {
    const { canvas } = this.context;
    const { width, height } = this.viewer.canvas;
    if (canvas.width !== width || canvas.height !== height) [canvas.width, canvas.height] = [width, height];
    this.context.setTransform(1, 0, 0, 1, 0, 0);
    this.context.clearRect(0, 0, width, height);
    const { density } = this.viewer;
    this.context.scale(density, density);
    if (!this.viewer.tiles) return;
    if (this.frame) this.drawFrame(this.frame);
    if (this.pen.corners.length) this.drawPolygon(this.pen.corners);
    if (this.cross) this.drawCross(this.viewer.view.toCanvas(this.cross));
    if (this.pointer) this.drawTip(this.pointer);
  }

  /** Draw the current path twice, dark under light, so that it is seen on every photo. */
  line() {
    const { context } = this;
    context.lineWidth = 3;
    context.strokeStyle = "rgb(0 0 0 / 0.6)";
    context.stroke();
    context.lineWidth = 1.25;
    context.strokeStyle = "#ffffff";
    context.stroke();
  }

  /** @param {Box} frame */
  drawFrame([x0, y0, x1, y1]) {
    const [left, top] = this.viewer.view.toCanvas([x0, y0]);
    const [right, bottom] = this.viewer.view.toCanvas([x1, y1]);
    this.context.beginPath();
    this.context.setLineDash([6, 4]);
    this.context.rect(left - 3, top - 3, right - left + 6, bottom - top + 6);
    this.line();
    this.context.setLineDash([]);
  }

  /** @param {Point[]} corners */
  drawPolygon(corners) {
    const { context } = this;
    const places = corners.map((corner) => this.viewer.view.toCanvas(corner));
    const end = this.pen.freehand ? null : this.pointer ?? (this.cross && this.viewer.view.toCanvas(this.cross));
    context.beginPath();
    for (const [x, y] of end ? [...places, end] : places) context.lineTo(x, y);
    context.save();
    context.globalAlpha = 0.35;
    context.fillStyle = this.viewer.colors.css(state.class.value ?? 0);
    context.fill("evenodd");
    context.restore();
    this.line();
    const [x, y] = places[0];
    context.beginPath();
    context.arc(x, y, 5, 0, 2 * Math.PI);
    context.fillStyle = "#ffffff";
    context.fill();
    this.line();
  }

  /** @param {Point} place */
  drawCross([x, y]) {
    const { context } = this;
    context.beginPath();
    for (const [dx, dy] of [[1, 0], [-1, 0], [0, 1], [0, -1]]) {
      context.moveTo(x + 3 * dx, y + 3 * dy);
      context.lineTo(x + CROSS * dx, y + CROSS * dy);
    }
    this.line();
    this.drawTip([x, y]);
  }

  /** Draw the outline of the brush. @param {Point} place */
  drawTip([x, y]) {
    if (state.tool.value !== "brush" && state.tool.value !== "eraser") return;
    const radius = Math.max(1, state.radius.value * this.viewer.view.scale);
    this.context.beginPath();
    this.context.arc(x, y, radius, 0, 2 * Math.PI);
    this.line();
  }
}
