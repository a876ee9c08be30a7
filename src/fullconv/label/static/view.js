/** Where the image lies on the canvas: pure geometry. Pixel i of the image covers the coordinates from i to i + 1. */

/** @import {Box, Point} from "./api.js" */

export const TILE = 512;
/** The largest and the smallest number of screen pixels for a pixel of the image. */
const LARGEST = 64;
const SMALLEST = 1 / 512;
/** How much of the image stays in sight when it is moved out of the canvas, in screen pixels. */
const GRIP = 48;

export class View {
  constructor() {
    /** The size of the image. */
    this.image = { width: 0, height: 0 };
    /** The size of the canvas in CSS pixels. */
    this.canvas = { width: 1, height: 1 };
    /** CSS pixels for one pixel of the image. */
    this.scale = 1;
    /** The CSS position of the image's corner. */
    this.left = 0;
    this.top = 0;
  }

  /** The scale at which the whole image fits into the canvas. */
  get fitting() {
    const margin = 0.96;
    const { width, height } = this.image;
    return Math.min((this.canvas.width * margin) / width, (this.canvas.height * margin) / height, LARGEST);
  }

  /** The number of the level at which one tile holds the whole image. */
  get levels() {
    return Math.max(0, Math.ceil(Math.log2(Math.max(this.image.width, this.image.height) / TILE)));
  }

  /** Show the whole image. */
  fit() {
    this.scale = this.fitting;
    this.left = Math.round((this.canvas.width - this.image.width * this.scale) / 2);
    this.top = Math.round((this.canvas.height - this.image.height * this.scale) / 2);
  }

  /**
   * The position in the image of a position on the canvas.
   * @param {number} x
   * @param {number} y
   * @returns {Point}
   */
  toImage(x, y) {
    return [(x - this.left) / this.scale, (y - this.top) / this.scale];
  }

  /**
   * The position on the canvas of a position in the image.
   * @param {Point} point
   * @returns {Point}
   */
  toCanvas([x, y]) {
    return [x * this.scale + this.left, y * this.scale + this.top];
  }

  /**
   * Change the scale so that a position on the canvas keeps its pixel of the image.
   * @param {number} scale
   * @param {number} x
   * @param {number} y
   */
  zoom(scale, x = this.canvas.width / 2, y = this.canvas.height / 2) {
    const smallest = Math.min(Math.max(SMALLEST, this.fitting / 4), 1);
    const [imageX, imageY] = this.toImage(x, y);
    this.scale = Math.min(LARGEST, Math.max(smallest, scale));
    this.left = x - imageX * this.scale;
    this.top = y - imageY * this.scale;
    this.settle();
  }

  /**
   * The next scale of 12.5 %, 25 %, 50 %, 100 %, 200 % ...
   * @param {1 | -1} direction
   */
  nextScale(direction) {
    const power = Math.log2(this.scale);
    const next = direction > 0 ? Math.floor(power + 1.01) : Math.ceil(power - 1.01);
    return 2 ** next;
  }

  /**
   * Move the image on the canvas.
   * @param {number} x
   * @param {number} y
   */
  pan(x, y) {
    this.left += x;
    this.top += y;
    this.settle();
  }

  /**
   * Bring a box of the image to the centre, with its surroundings.
   * @param {Box} box
   */
  show([x0, y0, x1, y1]) {
    const { width, height } = this.canvas;
    const wanted = Math.min(width / Math.max(1, x1 - x0), height / Math.max(1, y1 - y0)) / 3;
    this.scale = Math.min(LARGEST / 8, Math.max(this.fitting, wanted));
    this.left = width / 2 - ((x0 + x1) / 2) * this.scale;
    this.top = height / 2 - ((y0 + y1) / 2) * this.scale;
    this.settle();
  }

  /** Keep a part of the image in sight, and its pixels on whole screen pixels. */
  settle() {
    const keep = (/** @type {number} */ at, /** @type {number} */ image, /** @type {number} */ canvas) =>
      Math.round(Math.min(canvas - GRIP, Math.max(GRIP - image, at)));
    this.left = keep(this.left, this.image.width * this.scale, this.canvas.width);
    this.top = keep(this.top, this.image.height * this.scale, this.canvas.height);
  }

  /**
   * The level whose pixels are not larger on the screen than the screen's own, if there is one.
   * @param {number} density device pixels for a CSS pixel
   */
  level(density) {
    return Math.min(this.levels, Math.max(0, Math.floor(-Math.log2(this.scale * density) + 0.01)));
  }

  /**
   * The part of the image that is on the canvas, in whole pixels; null if there is none.
   * @returns {Box | null}
   */
  visible() {
    const [x0, y0] = this.toImage(0, 0);
    const [x1, y1] = this.toImage(this.canvas.width, this.canvas.height);
    const { width, height } = this.image;
    /** @type {Box} */
    const box = [Math.max(0, Math.floor(x0)), Math.max(0, Math.floor(y0)), Math.min(width, Math.ceil(x1)),
      Math.min(height, Math.ceil(y1))];
    return box[0] < box[2] && box[1] < box[3] ? box : null;
  }

  /**
   * The tiles of a level that a box of the image touches, from its centre outwards.
   * @param {Box} box
   * @param {number} level
   */
  tiles([x0, y0, x1, y1], level) {
    const size = TILE * 2 ** level;
    const found = [];
    for (let row = Math.floor(y0 / size); row * size < y1; row++) {
      for (let column = Math.floor(x0 / size); column * size < x1; column++) found.push({ level, column, row });
    }
    const away = (/** @type {{column: number, row: number}} */ { column, row }) =>
      Math.hypot((column + 0.5) * size - (x0 + x1) / 2, (row + 0.5) * size - (y0 + y1) / 2);
    return found.sort((one, other) => away(one) - away(other));
  }
}

/**
 * Whether two boxes have pixels in common.
 * @param {Box} one
 * @param {Box} other
 */
export function overlap(one, other) {
  return one[0] < other[2] && other[0] < one[2] && one[1] < other[3] && other[1] < one[3];
}
