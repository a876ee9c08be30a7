/** The way of strokes to the server: in order, one at a time, and none is lost when a request fails. */

/** @import {Box, Stroke, StrokeAnswer} from "./api.js" */

import { api, RequestError } from "./api.js";
import { count } from "./dom.js";
import { state } from "./state.js";
import { clearProblem, say, showProblem } from "./notices.js";

/** @typedef {{kind: "stroke" | "undo" | "redo", image: string, stroke: Stroke | null, box: Box | null, number: number}} Change */

const FIRST_WAIT = 1000;
const LONGEST_WAIT = 10_000;

export class Outbox {
  /**
   * @param {string} client
   * @param {{drawn: () => void, applied: (image: string, box: Box) => void}} listener `drawn` is called when the strokes to draw
   *   change, `applied` when the server has changed labels
   */
  constructor(client, listener) {
    this.client = client;
    this.listener = listener;
    /** What the server does not have yet. @type {Change[]} */
    this.queue = [];
    /** Strokes that the server has, while the canvas still waits for the new labels. @type {Change[]} */
    this.settling = [];
    this.sending = false;
    /** Whether nothing is sent, because the address of the page may lead to another folder. */
    this.held = false;
    /** The number of the next change. It begins with the time, because an earlier tab may have had the same client. */
    this.number = Date.now();
    this.wait = FIRST_WAIT;
    /** @type {ReturnType<typeof setTimeout> | undefined} */
    this.timer = undefined;
    addEventListener("beforeunload", (event) => {
      if (this.queue.length) event.preventDefault();
    });
  }

  /**
   * The strokes of an image that have to be drawn over its labels, in order.
   * @param {string | null} image
   * @returns {Stroke[]}
   */
  pending(image) {
    const changes = [...this.settling, ...this.queue].filter((change) => change.image === image);
    return changes.flatMap((change) => (change.stroke ? [change.stroke] : []));
  }

  /**
   * @param {string} image
   * @param {Stroke} stroke
   */
  add(image, stroke) {
    this.push({ kind: "stroke", image, stroke, box: null, number: this.number++ });
  }

  /**
   * Take back the last stroke, or bring it again.
   * @param {string} image
   * @param {"undo" | "redo"} kind
   */
  step(image, kind) {
    this.push({ kind, image, stroke: null, box: null, number: this.number++ });
  }

  /** @param {Change} change */
  push(change) {
    this.queue.push(change);
    this.listener.drawn();
    this.update();
    if (this.timer === undefined) void this.work();
  }

  update() {
    state.waiting.value = this.queue.length;
  }

  /** Send what waits, now. */
  retry() {
    clearTimeout(this.timer);
    this.timer = undefined;
    this.wait = FIRST_WAIT;
    void this.work();
  }

  async work() {
    if (this.sending) return;
    this.sending = true;
    try {
      while (this.queue.length && !this.held) {
        const change = this.queue[0];
        const answer = await this.request(change);
        this.queue = this.queue.filter((other) => other !== change); // it may have been discarded meanwhile
        clearProblem("strokes");
        this.wait = FIRST_WAIT;
        this.apply(change, answer);
        this.update();
      }
    } catch (error) {
      this.fail(error instanceof RequestError ? error : new RequestError(String(error), 0));
    } finally {
      this.sending = false;
    }
  }

  /**
   * @param {Change} change
   * @returns {Promise<StrokeAnswer>}
   */
  request({ kind, image, stroke, number }) {
    const by = { client: this.client, number };
    return stroke ? api.stroke(image, stroke, by) : api.step(image, kind === "redo" ? "redo" : "undo", by);
  }

  /**
   * @param {Change} change
   * @param {StrokeAnswer} answer
   */
  apply(change, answer) {
    if (change.stroke && answer.box) {
      change.box = answer.box;
      this.settling.push(change);
    }
    if (answer.box) this.listener.applied(change.image, answer.box);
    this.listener.drawn();
    if (change.kind === "stroke") {
      if (answer.pixels === 0) say(nothing(change.stroke));
    } else if (answer.stroke === null) say(`There is nothing to ${change.kind} on this image.`);
    else say(change.kind === "undo" ? "Undone." : "Done again.");
  }

  /** @param {RequestError} error */
  fail(error) {
    this.update();
    if (!this.queue.length) return; // it was discarded before the answer came
    const again = { label: "Try again", run: () => this.retry() };
    const discard = { label: "Discard this change", run: () => this.discard() };
    if (error.passing) {
      this.timer = setTimeout(() => {
        this.timer = undefined;
        void this.work();
      }, this.wait);
      this.wait = Math.min(this.wait * 2, LONGEST_WAIT);
      if (state.connection.value === "lost") return; // one sentence is enough
      const kept = `${count(this.queue.length, "change")} ${this.queue.length === 1 ? "waits" : "wait"} here and will be sent.`;
      showProblem("strokes", `${error.message} ${kept}`, error.waits ? [again] : [again, discard]);
    } else showProblem("strokes", error.message, error.status === 401 ? [again] : [again, discard]);
  }

  /** Give up the change that the server refuses, and go on with the next one. */
  discard() {
    this.queue.shift();
    clearProblem("strokes");
    this.listener.drawn();
    this.update();
    this.retry();
  }

  /**
   * Stop drawing the strokes whose labels are on the canvas.
   * @param {string} image
   * @param {(box: Box) => boolean} shown
   */
  settle(image, shown) {
    const before = this.settling.length;
    this.settling = this.settling.filter((change) => change.image === image && change.box && !shown(change.box));
    return this.settling.length !== before;
  }
}

/**
 * The sentence for a stroke that changed no pixel.
 * @param {Stroke | null} stroke
 */
function nothing(stroke) {
  if (stroke?.tool === "accept") return "There was nothing to accept: the place is painted, or has no prediction.";
  return "This changed no pixel.";
}
