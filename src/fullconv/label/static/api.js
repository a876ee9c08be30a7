/** Requests to the server that `fullconv label` runs. Its answers are described in the types here. */

import { read, write } from "./state.js";

/** @typedef {{key: number, name: string, color: string}} ClassEntry */
/** @typedef {{name: string, session: string, images: number, classes: ClassEntry[], version: number, start: string | null,
 *   training_available: boolean, training_help: string}} Project `session` is the id of the folder with the labels */
/** @typedef {{id: string, photo: string, name: string, width: number, height: number, painted: number, score: number | null,
 *   reason: string, error: string | null}} ImageRow `photo` is the version of the photo; empty before its size is known */
/** @typedef {[x0: number, y0: number, x1: number, y1: number]} Box */
/** @typedef {[x: number, y: number]} Point */
/** @typedef {{x: number, y: number, width: number, height: number, score: number}} Place */
/** @typedef {{tool: "brush" | "polygon" | "fill" | "accept", class: number, points: Point[], radius: number,
 *   tolerance: number, scope: "region" | "class" | "image"}} Stroke */
/** @typedef {{client: string, number: number}} Sender who asks, and the number of the request, which is the same if it is sent again */
/** @typedef {{stroke: number | string | null, box: Box | null, pixels?: number}} StrokeAnswer */
/** @typedef {{mean_iou: number, classes: Record<string, number>}} Scores */
/** @typedef {{state: "idle" | "running" | "done" | "failed" | "cancelled", message: string, progress: number,
 *   scores: Scores | null, lines: string[]}} Training */
/** @typedef {{action: "add", name: string, color?: string} | {action: "rename", key: number, name: string} |
 *   {action: "recolour", key: number, color: string} | {action: "merge", key: number, into: number} |
 *   {action: "delete", key: number}} ClassChange */
/** @typedef {"photo" | "labels" | "prediction"} Layer */

/** The class key of pixels without a label. */
export const NO_LABEL = 255;

/** Milliseconds after which a request has failed. */
export const TIMEOUT = 60_000;

/** A request that failed, with one sentence for the user. */
export class RequestError extends Error {
  /**
   * @param {string} message
   * @param {number} status the HTTP status; 0 if no answer came
   */
  constructor(message, status) {
    super(message);
    this.name = "RequestError";
    this.status = status;
  }

  /** Whether the same request succeeds later: the connection, a full queue or a full disk is the cause. */
  get waits() {
    return [0, 408, 429, 503, 507].includes(this.status);
  }

  /** Whether the same request may succeed later without any change. */
  get passing() {
    return this.waits || this.status >= 500;
  }
}

/** The secret in the address; the server answers only requests that carry it. */
export function token() {
  return new URLSearchParams(location.hash.slice(1)).get("token") ?? "";
}

/**
 * Send a request, and raise RequestError unless the answer is a success.
 * @param {string} path
 * @param {{method?: string, body?: unknown, signal?: AbortSignal, cache?: RequestCache}} [options]
 */
export async function send(path, { method = "GET", body, signal, cache = "no-store" } = {}) {
  /** @type {Record<string, string>} */
  const headers = { Authorization: `Bearer ${token()}` };
  if (body !== undefined) headers["Content-Type"] = "application/json";
  /** @type {Response} */
  let response;
  try {
    const text = body === undefined ? undefined : JSON.stringify(body);
    response = await fetch(path, { method, headers, body: text, signal, cache });
  } catch (error) {
    if (signal?.aborted && signal.reason?.name !== "TimeoutError") throw error;
    throw new RequestError("The server does not answer.", 0);
  }
  if (!response.ok) throw new RequestError(await sentence(response), response.status);
  return response;
}

/**
 * The sentence of an error answer.
 * @param {Response} response
 * @returns {Promise<string>}
 */
async function sentence(response) {
  try {
    const { message } = await response.json();
    if (typeof message === "string" && message) return asSentence(message);
  } catch {
    // Not JSON, so the answer is not from fullconv.
  }
  return `The server answered with the error ${response.status}.`;
}

/**
 * Begin with a capital letter, unless the text begins with the name of a file, and end with a full stop.
 * @param {string} text
 */
export function asSentence(text) {
  const start = /^[a-z]+[ ,]/.test(text) ? text[0].toUpperCase() + text.slice(1) : text;
  return /[\p{L}\p{N})\]”]$/u.test(start) ? `${start}.` : start;
}

/**
 * @param {string} path
 * @param {{method?: string, body?: unknown}} [options]
 * @returns {Promise<any>}
 */
async function json(path, options = {}) {
  const response = await send(path, { ...options, signal: AbortSignal.timeout(TIMEOUT) });
  try {
    return await response.json();
  } catch {
    throw new RequestError("The answer of the server broke off.", 0);
  }
}

/** @param {string} image */
const at = (image) => `/api/images/${encodeURIComponent(image)}`;

export const api = {
  /** @returns {Promise<Project>} */
  project: () => json("/api/project"),

  /** @returns {Promise<ImageRow[]>} */
  images: async () => (await json("/api/images")).images,

  /**
   * @param {string} image
   * @returns {Promise<Place[]>}
   */
  uncertain: async (image) => (await json(`${at(image)}/uncertain`)).places,

  /**
   * @param {string} image
   * @param {Stroke} stroke
   * @param {Sender} by
   * @returns {Promise<StrokeAnswer>}
   */
  stroke: (image, stroke, by) => json(`${at(image)}/strokes`, { method: "POST", body: { ...by, ...stroke } }),

  /**
   * @param {string} image
   * @param {"undo" | "redo"} direction
   * @param {Sender} by
   * @returns {Promise<StrokeAnswer>}
   */
  step: (image, direction, by) => json(`${at(image)}/${direction}`, { method: "POST", body: by }),

  /**
   * @param {ClassChange} change
   * @returns {Promise<Project>}
   */
  changeClasses: (change) => json("/api/classes", { method: "POST", body: change }),

  /** @returns {Promise<Training>} */
  training: () => json("/api/training"),

  startTraining: () => json("/api/training", { method: "POST", body: {} }),

  cancelTraining: () => send("/api/training", { method: "DELETE", signal: AbortSignal.timeout(TIMEOUT) }),

  /**
   * Read one tile. The answer has status 204 where there is nothing to show.
   * @param {ImageRow} row
   * @param {Layer} layer
   * @param {{level: number, column: number, row: number}} tile
   * @param {AbortSignal} [signal]
   */
  tile: ({ id, photo }, layer, { level, column, row }, signal = AbortSignal.timeout(TIMEOUT)) => {
    const kept = layer === "photo" && photo !== "";
    const version = kept ? `?version=${encodeURIComponent(photo)}` : "";
    return send(`${at(id)}/${layer}/${level}/${column}/${row}${version}`, { signal, cache: kept ? "default" : "no-store" });
  },
};

/**
 * Choose the id of this tab, under which the server keeps what can be undone. A new tab takes the id of a closed one, so
 * undo goes on after the page was closed; a lock that lives as long as the tab keeps two open tabs apart.
 * @returns {Promise<string>}
 */
export async function claimClient() {
  const key = "fullconv-label-clients";
  const stored = (read(key) ?? "").split(" ").filter((id) => /^[0-9a-f]{16}$/.test(id));
  const fresh = [...crypto.getRandomValues(new Uint8Array(8))].map((byte) => byte.toString(16).padStart(2, "0")).join("");
  if (!navigator.locks) return fresh;
  for (const id of [...stored, fresh]) {
    if (await hold(`fullconv-label-${id}`)) {
      write(key, [id, ...stored.filter((other) => other !== id)].slice(0, 16).join(" "));
      return id;
    }
  }
  return fresh;
}

/**
 * Take a lock until the tab closes; the answer is false if another tab has it.
 * @param {string} name
 * @returns {Promise<boolean>}
 */
function hold(name) {
  return new Promise((resolve) => {
    void navigator.locks.request(name, { ifAvailable: true }, (lock) => {
      resolve(lock !== null);
      return lock ? new Promise(() => {}) : undefined;
    });
  });
}
