/** Class keys to pictures. */

/** @import {ClassEntry} from "./api.js" */

/** The colour of each class key as the four bytes of a pixel in an ImageData; 0 is transparent. */
export class Colors {
  constructor() {
    this.table = new Uint32Array(256);
    /** @type {Map<number, string>} */
    this.names = new Map();
  }

  /**
   * Take the colours of the classes; return whether one has changed.
   * @param {ClassEntry[]} classes
   */
  set(classes) {
    const table = new Uint32Array(256);
    for (const { key, color } of classes) table[key] = 0xff000000 | swapBytes(color);
    const changed = table.some((value, key) => value !== this.table[key]);
    this.table = table;
    this.names = new Map(classes.map(({ key, color }) => [key, color]));
    return changed;
  }

  /**
   * The colour of a class as CSS writes it.
   * @param {number} key
   */
  css(key) {
    return this.names.get(key) ?? "#808080";
  }
}

/**
 * "#rrggbb" as the number 0xbbggrr, the order of an ImageData on every machine that browsers run on.
 * @param {string} color
 */
function swapBytes(color) {
  const value = Number.parseInt(color.slice(1), 16);
  return ((value & 0xff) << 16) | (value & 0xff00) | ((value >> 16) & 0xff);
}

/**
 * Draw the class keys of a tile.
 * @param {Uint8Array} keys
 * @param {number} width
 * @param {Colors} colors
 * @param {ImageBitmap | HTMLCanvasElement | null} previous a picture that may be drawn over
 */
export function paintKeys(keys, width, colors, previous) {
  const height = keys.length / width;
  const canvas = previous instanceof HTMLCanvasElement ? previous : document.createElement("canvas");
  if (canvas.width !== width || canvas.height !== height) [canvas.width, canvas.height] = [width, height];
  const image = new ImageData(width, height);
  const pixels = new Uint32Array(image.data.buffer);
  for (let index = 0; index < keys.length; index++) pixels[index] = colors.table[keys[index]];
  canvas.getContext("2d")?.putImageData(image, 0, 0);
  return canvas;
}

/**
 * Whether black or white reads better on a colour.
 * @param {string} color
 */
export function inkOn(color) {
  const value = Number.parseInt(color.slice(1), 16);
  const [red, green, blue] = [value >> 16, (value >> 8) & 0xff, value & 0xff].map((byte) => {
    const part = byte / 255;
    return part <= 0.04045 ? part / 12.92 : ((part + 0.055) / 1.055) ** 2.4;
  });
  return 0.2126 * red + 0.7152 * green + 0.0722 * blue > 0.18 ? "#000000" : "#ffffff";
}
