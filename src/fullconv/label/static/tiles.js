/** The tiles of one image: read in the order of need, kept within bounds, read again where something changed. */

/** @import {Box, ImageRow, Layer} from "./api.js" */
/** @import {Colors} from "./colors.js" */

import { api, RequestError, TIMEOUT } from "./api.js";
import { paintKeys } from "./colors.js";
import { overlap, TILE } from "./view.js";

/** @typedef {{level: number, column: number, row: number}} Address */

const AT_ONCE = 6;
const MOST_TILES = 320;
const MOST_TRIES = 3;

/** What is known of one tile. */
class Tile {
  /**
   * @param {Layer} layer
   * @param {Address} address
   */
  constructor(layer, address) {
    this.layer = layer;
    this.address = address;
    /** @type {ImageBitmap | HTMLCanvasElement | null} */
    this.picture = null;
    /** The class keys of its pixels, row by row. @type {Uint8Array | null} */
    this.keys = null;
    this.width = 0;
    /** Whether an answer has come, which may be that there is nothing to show. */
    this.ready = false;
    /** Whether the server has something newer. */
    this.stale = false;
    /** @type {AbortController | null} */
    this.loading = null;
    this.failures = 0;
    this.retryAt = 0;
    this.usedAt = 0;
  }

  /** The box of the image that the tile covers; at the right and bottom edge it may reach beyond the image. @returns {Box} */
  get box() {
    const { level, column, row } = this.address;
    const size = TILE * 2 ** level;
    return [column * size, row * size, (column + 1) * size, (row + 1) * size];
  }

  get needed() {
    return (!this.ready || this.stale) && !this.loading && this.failures < MOST_TRIES && performance.now() >= this.retryAt;
  }

  /** Forget a picture that may own memory outside the script's heap. */
  release() {
    this.loading?.abort();
    if (this.picture instanceof ImageBitmap) this.picture.close();
    this.picture = null;
  }
}

export class Tiles {
  /**
   * @param {ImageRow} image
   * @param {Colors} colors
   * @param {() => void} changed called when there is something new to draw
   * @param {(error: RequestError) => void} failed called when a tile could not be read after some tries
   */
  constructor(image, colors, changed, failed) {
    this.image = image;
    this.colors = colors;
    this.changed = changed;
    this.failed = failed;
    /** @type {Map<string, Tile>} */
    this.cache = new Map();
    /** @type {Tile[]} */
    this.queue = [];
    this.loading = 0;
    this.frame = 0;
    this.closed = false;
    /** The version of the model whose prediction came last. */
    this.version = 0;
  }

  /**
   * The tile at an address, if it is known.
   * @param {Layer} layer
   * @param {Address} address
   */
  find(layer, { level, column, row }) {
    return this.cache.get(`${layer}/${level}/${column}/${row}`);
  }

  /**
   * Read these tiles, the first ones first. Tiles that an earlier call wanted and this one does not are given up.
   * @param {{layer: Layer, address: Address}[]} wanted
   */
  want(wanted) {
    this.frame++;
    this.queue = [];
    for (const { layer, address } of wanted) {
      const tile = this.find(layer, address) ?? this.add(layer, address);
      tile.usedAt = this.frame;
      if (tile.needed) this.queue.push(tile);
    }
    for (const tile of this.cache.values()) {
      if (tile.loading && tile.usedAt !== this.frame) tile.loading.abort();
    }
    this.shrink();
    this.work();
  }

  /**
   * @param {Layer} layer
   * @param {Address} address
   */
  add(layer, address) {
    const tile = new Tile(layer, address);
    this.cache.set(`${layer}/${address.level}/${address.column}/${address.row}`, tile);
    return tile;
  }

  /** Forget the tiles that were not drawn for the longest time. */
  shrink() {
    if (this.cache.size <= MOST_TILES) return;
    const idle = [...this.cache].filter(([, tile]) => tile.usedAt !== this.frame && !tile.loading);
    idle.sort(([, one], [, other]) => one.usedAt - other.usedAt);
    for (const [key, tile] of idle.slice(0, this.cache.size - MOST_TILES)) {
      tile.release();
      this.cache.delete(key);
    }
  }

  work() {
    while (this.loading < AT_ONCE && !this.closed) {
      const tile = this.queue.shift();
      if (!tile) return;
      if (tile.needed) void this.load(tile);
    }
  }

  /** @param {Tile} tile */
  async load(tile) {
    const stop = new AbortController();
    const timer = setTimeout(() => stop.abort(new DOMException("", "TimeoutError")), TIMEOUT);
    tile.loading = stop;
    tile.stale = false;
    this.loading++;
    try {
      await this.fill(tile, stop.signal);
      tile.ready = true;
      tile.failures = 0;
    } catch (error) {
      tile.stale = tile.ready;
      if (error instanceof RequestError || !stop.signal.aborted) this.noteFailure(tile, error);
    } finally {
      clearTimeout(timer);
      tile.loading = null;
      this.loading--;
      if (!this.closed) this.changed();
    }
  }

  /**
   * @param {Tile} tile
   * @param {AbortSignal} signal
   */
  async fill(tile, signal) {
    const response = await api.tile(this.image, tile.layer, tile.address, signal);
    if (response.status === 204) {
      tile.release();
      tile.keys = null;
      return;
    }
    if (tile.layer === "photo") {
      const picture = await createImageBitmap(await response.blob());
      if (this.closed) return picture.close();
      tile.picture = picture;
      tile.width = picture.width;
      return;
    }
    const keys = new Uint8Array(await response.arrayBuffer());
    const [width, height] = (response.headers.get("X-Tile") ?? "").split("x").map(Number);
    if (width * height !== keys.length) throw new RequestError("A tile from the server is not complete.", 0);
    tile.keys = keys;
    tile.width = width;
    tile.picture = paintKeys(keys, width, this.colors, tile.picture);
    if (tile.layer === "prediction") this.version = Number(response.headers.get("X-Version") ?? this.version);
  }

  /**
   * @param {Tile} tile
   * @param {unknown} error
   */
  noteFailure(tile, error) {
    tile.failures++;
    const wait = 500 * 2 ** tile.failures;
    tile.retryAt = performance.now() + wait;
    if (tile.failures < MOST_TRIES) setTimeout(() => this.closed || this.changed(), wait + 10);
    else this.failed(error instanceof RequestError ? error : new RequestError("A part of the image is damaged.", 0));
  }

  /** Try the tiles again that could not be read. */
  retry() {
    for (const tile of this.cache.values()) tile.failures = tile.retryAt = 0;
    this.changed();
  }

  /**
   * Mark what changed inside a box, or everywhere. Tiles out of sight are forgotten; others stay until the new ones are there.
   * @param {Layer} layer
   * @param {Box | null} box
   */
  invalidate(layer, box = null) {
    for (const [key, tile] of this.cache) {
      if (tile.layer !== layer || (box && !overlap(box, tile.box))) continue;
      if (tile.usedAt === this.frame || tile.loading) {
        tile.stale = true;
        tile.failures = tile.retryAt = 0;
      } else {
        tile.release();
        this.cache.delete(key);
      }
    }
    this.changed();
  }

  /** Draw the tiles of class keys again in new colours. */
  recolor() {
    for (const tile of this.cache.values()) {
      if (tile.keys) tile.picture = paintKeys(tile.keys, tile.width, this.colors, tile.picture);
    }
    this.changed();
  }

  /**
   * The class key at a pixel of the image, from the tiles that are there; null if it is not known.
   * @param {Layer} layer
   * @param {number} level
   * @param {number} x
   * @param {number} y
   */
  keyAt(layer, level, x, y) {
    const size = TILE * 2 ** level;
    const address = { level, column: Math.floor(x / size), row: Math.floor(y / size) };
    const tile = this.find(layer, address);
    if (!tile?.keys) return null;
    const column = Math.floor((x - address.column * size) / 2 ** level);
    const row = Math.floor((y - address.row * size) / 2 ** level);
    return tile.keys[row * tile.width + column] ?? null;
  }

  /** Whether tiles are being read. */
  get busy() {
    return this.loading > 0;
  }

  close() {
    this.closed = true;
    for (const tile of this.cache.values()) tile.release();
    this.cache.clear();
  }
}
