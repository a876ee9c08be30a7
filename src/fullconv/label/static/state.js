/** Values that several parts of the page share. Each part watches the values that it shows. */

/** @import {ImageRow, Project, Training} from "./api.js" */

/**
 * A value and those that want to know when it changes.
 * @template T
 */
export class Watched {
  /** @param {T} value */
  constructor(value) {
    this.current = value;
    /** @type {((value: T) => void)[]} */
    this.watchers = [];
  }

  get value() {
    return this.current;
  }

  set value(value) {
    if (Object.is(value, this.current)) return;
    this.current = value;
    for (const watcher of this.watchers) watcher(value);
  }

  /**
   * Call a function now and after every change.
   * @param {(value: T) => void} watcher
   */
  watch(watcher) {
    this.watchers.push(watcher);
    watcher(this.current);
  }
}

/**
 * A number that this browser keeps for the next visit.
 * @param {string} name
 * @param {number} initial
 */
function remembered(name, initial) {
  const key = `fullconv-label-${name}`;
  const stored = Number.parseFloat(read(key) ?? "");
  const value = new Watched(Number.isFinite(stored) ? stored : initial);
  value.watch((number) => write(key, String(number)));
  return value;
}

/**
 * Read from the browser's storage, which may be switched off.
 * @param {string} key
 */
export function read(key) {
  try {
    return localStorage.getItem(key);
  } catch {
    return null;
  }
}

/**
 * Write to the browser's storage, which may be switched off or full.
 * @param {string} key
 * @param {string} text
 */
export function write(key, text) {
  try {
    localStorage.setItem(key, text);
  } catch {
    // The page works without it; only the next visit starts with the defaults.
  }
}

/** @typedef {"brush" | "eraser" | "polygon" | "fill" | "accept"} Tool */
/** @typedef {"both" | "labels" | "prediction" | "none"} Shown */

export const state = {
  /** @type {Watched<Project | null>} */
  project: new Watched(/** @type {Project | null} */ (null)),
  /** The list of images in the server's order; null before it has come. */
  images: new Watched(/** @type {ImageRow[] | null} */ (null)),
  /** The id of the image on the canvas. */
  image: new Watched(/** @type {string | null} */ (null)),
  tool: new Watched(/** @type {Tool} */ ("brush")),
  /** The key of the class to paint with. */
  class: new Watched(/** @type {number | null} */ (null)),
  /** What the tool "accept" accepts. */
  scope: new Watched(/** @type {"region" | "class"} */ ("region")),
  shown: new Watched(/** @type {Shown} */ ("both")),
  /** The radius of the brush in pixels of the image. */
  radius: remembered("radius", 8),
  /** How far a colour may be from the clicked one when an area is filled. */
  tolerance: remembered("tolerance", 16),
  opacity: remembered("opacity", 0.6),
  connection: new Watched(/** @type {"opening" | "open" | "lost" | "refused"} */ ("opening")),
  /** The version of the live model, and the seconds of its last fit if they are known. */
  model: new Watched({ version: 0, seconds: /** @type {number | null} */ (null) }),
  training: new Watched(/** @type {Training | null} */ (null)),
  /** How many strokes and undos the server does not have yet. */
  waiting: new Watched(0),
};

/** The image on the canvas as the list describes it. */
export function currentImage() {
  return state.images.value?.find((row) => row.id === state.image.value) ?? null;
}

/** The classes of the project, in their order. */
export function classes() {
  return state.project.value?.classes ?? [];
}
