/** The image on its canvas: photo, prediction, labels, and the strokes that are on their way. */

/** @import {Box, ImageRow, Layer, Point, Stroke} from "./api.js" */
/** @import {Tiles, Address} from "./tiles.js" */

import { Colors } from "./colors.js";
import { byId } from "./dom.js";
import { drawStroke } from "./ink.js";
import { state } from "./state.js";
import { TILE, View, overlap } from "./view.js";

/** How strong the prediction is next to labels, when both are shown. */
const FAINT = 0.55;
/** Above this scale, pixels of the image are shown as squares. */
const SQUARES = 2;

/** Two dimensions of a canvas that always exist. @param {HTMLCanvasElement} canvas */
export function context2d(canvas) {
  const context = canvas.getContext("2d");
  if (!context) throw new Error("this browser cannot draw on a canvas");
  return context;
}

export class Viewer {
  /** @param {(image: string | null) => Stroke[]} strokes returns the strokes to draw over the labels of an image */
  constructor(strokes) {
    this.strokes = strokes;
    this.canvas = byId("canvas", HTMLCanvasElement);
    this.context = context2d(this.canvas);
    this.labels = context2d(document.createElement("canvas"));
    this.prediction = context2d(document.createElement("canvas"));
    this.outline = context2d(document.createElement("canvas"));
    this.view = new View();
    this.colors = new Colors();
    /** @type {Tiles | null} */
    this.tiles = null;
    this.scheduled = false;
    this.fitted = false;
    /** Called after every drawing, with the size and place of the image as they are now. @type {(() => void)[]} */
    this.after = [];
    new ResizeObserver(() => this.resize()).observe(this.canvas);
    for (const value of [state.shown, state.opacity]) value.watch(() => this.redraw());
  }

  get density() {
    return devicePixelRatio || 1;
  }

  /**
   * Show another image, or none.
   * @param {ImageRow | null} row
   * @param {Tiles | null} tiles
   */
  open(row, tiles) {
    this.tiles?.close();
    this.tiles = tiles;
    this.view.image = { width: row?.width ?? 0, height: row?.height ?? 0 };
    this.fitted = false;
    if (tiles) this.fit();
    this.redraw();
  }

  fit() {
    this.view.fit();
    this.fitted = true;
    this.redraw();
  }

  /**
   * Change the view and draw it.
   * @param {(view: View) => void} change
   */
  move(change) {
    if (!this.tiles) return;
    change(this.view);
    this.fitted = false;
    this.redraw();
  }

  resize() {
    const { clientWidth, clientHeight } = this.canvas;
    if (!clientWidth || !clientHeight) return;
    const before = this.view.canvas;
    this.view.canvas = { width: clientWidth, height: clientHeight };
    for (const { canvas } of [this.context, this.labels, this.prediction, this.outline]) {
      canvas.width = Math.round(clientWidth * this.density);
      canvas.height = Math.round(clientHeight * this.density);
    }
    if (this.tiles && this.fitted) this.view.fit();
    else this.view.pan((clientWidth - before.width) / 2, (clientHeight - before.height) / 2);
    this.draw();
  }

  redraw() {
    if (this.scheduled) return;
    this.scheduled = true;
    requestAnimationFrame(() => {
      this.scheduled = false;
      this.draw();
    });
  }

  get level() {
    return this.view.level(this.density);
  }

  draw() {
    const { context, tiles } = this;
    const area = this.view.visible();
    clear(context);
    if (tiles && area) {
      tiles.want(this.needed(area));
      this.clipped(context, () => this.drawLayer(context, "photo", area));
      const { labels, prediction } = this.visible;
      if (labels) this.drawLabels(area);
      if (prediction) this.drawPrediction(area, labels);
      if (labels) this.blend(this.labels, state.opacity.value);
      if (labels) this.drawOutline();
    }
    for (const after of this.after) after();
  }

  /** The layers that are drawn over the photo. Without a model, tiles of an earlier one may still be there. */
  get visible() {
    const shown = state.shown.value;
    const prediction = (shown === "both" || shown === "prediction") && state.model.value.version > 0;
    return { labels: shown === "both" || shown === "labels", prediction };
  }

  /**
   * All tiles for this view, photos first.
   * @param {Box} area
   */
  needed(area) {
    const { labels, prediction } = this.visible;
    /** @type {Layer[]} */
    const layers = ["photo"];
    if (labels) layers.push("labels");
    if (prediction) layers.push("prediction");
    const addresses = this.view.tiles(area, this.level);
    return layers.flatMap((layer) => addresses.map((address) => ({ layer, address })));
  }

  /** @param {Box} area */
  drawLabels(area) {
    const { labels } = this;
    clear(labels);
    this.clipped(labels, () => {
      this.drawLayer(labels, "labels", area);
      const { scale, left, top } = this.view;
      const density = this.density;
      labels.setTransform(scale * density, 0, 0, scale * density, left * density, top * density);
      for (const stroke of this.strokes(state.image.value)) drawStroke(labels, stroke, this.colors);
    });
  }

  /**
   * @param {Box} area
   * @param {boolean} labels whether labels are drawn over it
   */
  drawPrediction(area, labels) {
    const { prediction } = this;
    clear(prediction);
    this.clipped(prediction, () => this.drawLayer(prediction, "prediction", area));
    if (labels) {
      prediction.globalCompositeOperation = "destination-out";
      prediction.drawImage(this.labels.canvas, 0, 0);
      prediction.globalCompositeOperation = "source-over";
    }
    this.blend(prediction, state.opacity.value * (labels ? FAINT : 1));
  }

  /** Draw a white line around what is painted, so that it differs from the prediction without any colour. */
  drawOutline() {
    const { outline, labels } = this;
    const width = Math.max(1, Math.round(this.density));
    clear(outline);
    for (const [x, y] of [[width, 0], [-width, 0], [0, width], [0, -width]]) outline.drawImage(labels.canvas, x, y);
    outline.globalCompositeOperation = "destination-out";
    outline.drawImage(labels.canvas, 0, 0);
    outline.globalCompositeOperation = "source-in";
    outline.fillStyle = "#ffffff";
    outline.fillRect(0, 0, outline.canvas.width, outline.canvas.height);
    outline.globalCompositeOperation = "source-over";
    this.blend(outline, Math.min(1, state.opacity.value * 1.5));
  }

  /**
   * @param {CanvasRenderingContext2D} layer
   * @param {number} opacity
   */
  blend(layer, opacity) {
    this.context.globalAlpha = opacity;
    this.context.drawImage(layer.canvas, 0, 0);
    this.context.globalAlpha = 1;
  }

  /**
   * Draw within the borders of the image, because tiles may reach beyond them.
   * @param {CanvasRenderingContext2D} context
   * @param {() => void} draw
   */
  clipped(context, draw) {
    const [x0, y0] = this.device([0, 0]);
    const [x1, y1] = this.device([this.view.image.width, this.view.image.height]);
    context.save();
    context.beginPath();
    context.rect(x0, y0, x1 - x0, y1 - y0);
    context.clip();
    draw();
    context.restore();
  }

  /**
   * Where a point of the image lies, in whole device pixels.
   * @param {Point} point
   * @returns {Point}
   */
  device(point) {
    const [x, y] = this.view.toCanvas(point);
    return [Math.round(x * this.density), Math.round(y * this.density)];
  }

  /**
   * Draw the tiles of a layer. Where one is not there yet, draw its part of a coarser one.
   * @param {CanvasRenderingContext2D} context
   * @param {Layer} layer
   * @param {Box} area
   */
  drawLayer(context, layer, area) {
    const scale = this.view.scale * this.density * 2 ** this.level;
    context.imageSmoothingEnabled = layer === "photo" ? scale < SQUARES : scale < 1;
    for (const address of this.view.tiles(area, this.level)) {
      const tile = this.tiles?.find(layer, address);
      if (tile?.picture) this.drawTile(context, tile.picture, address, address);
      else if (!tile?.ready) this.drawCoarser(context, layer, address);
    }
  }

  /**
   * @param {CanvasRenderingContext2D} context
   * @param {Layer} layer
   * @param {Address} address
   */
  drawCoarser(context, layer, address) {
    for (let up = 1; address.level + up <= this.view.levels; up++) {
      const above = { level: address.level + up, column: address.column >> up, row: address.row >> up };
      const picture = this.tiles?.find(layer, above)?.picture;
      if (picture) {
        this.drawTile(context, picture, above, address);
        return;
      }
    }
  }

  /**
   * Draw the part of a tile's picture that lies inside another tile of the same or a finer level.
   * @param {CanvasRenderingContext2D} context
   * @param {ImageBitmap | HTMLCanvasElement} picture
   * @param {Address} address the tile of the picture
   * @param {Address} target the tile to fill
   */
  drawTile(context, picture, address, target) {
    const parts = 2 ** (address.level - target.level);
    const part = TILE / parts;
    const left = (target.column - address.column * parts) * part;
    const top = (target.row - address.row * parts) * part;
    const width = Math.min(part, picture.width - left);
    const height = Math.min(part, picture.height - top);
    if (width <= 0 || height <= 0) return;
    const pixel = 2 ** address.level;
    const [x, y] = [address.column * TILE + left, address.row * TILE + top];
    const [x0, y0] = this.device([x * pixel, y * pixel]);
    const [x1, y1] = this.device([(x + width) * pixel, (y + height) * pixel]);
    context.drawImage(picture, left, top, width, height, x0, y0, x1 - x0, y1 - y0);
  }

  /**
   * Whether the canvas shows the newest labels inside a box.
   * @param {Box} box
   */
  shows(box) {
    const area = this.view.visible();
    if (!this.tiles || !area || !overlap(area, box) || !this.visible.labels) return true;
    return this.view.tiles(area, this.level).every((address) => {
      const tile = this.tiles?.find("labels", address);
      return tile ? !overlap(box, tile.box) || (tile.ready && !tile.stale && !tile.loading) : false;
    });
  }
}

/** @param {CanvasRenderingContext2D} context */
function clear(context) {
  context.setTransform(1, 0, 0, 1, 0, 0);
  context.clearRect(0, 0, context.canvas.width, context.canvas.height);
}
