/** The server's events: what other tabs painted, new models, training. Read with fetch, because EventSource sends no token. */

import { RequestError, send } from "./api.js";
import { state } from "./state.js";

/** The server sends a comment every 15 s, so a longer silence means that the connection is dead. */
const SILENCE = 40_000;
const FIRST_WAIT = 500;
const LONGEST_WAIT = 10_000;

/**
 * Read events for as long as the page is open. A lost connection is opened again, after longer and longer waits.
 * @param {{event: (name: string, data: any) => void, opened: () => void}} listener `opened` is called after each start,
 *   because events may have been missed before
 */
export class EventReader {
  constructor(/** @type {{event: (name: string, data: any) => void, opened: () => void}} */ listener) {
    this.listener = listener;
    this.running = false;
    this.wait = FIRST_WAIT;
    /** Ends the wait before the next try. */
    this.hurry = () => {};
  }

  /** Read until the server refuses the token. While this runs, a second call only tries again at once. */
  async run() {
    if (this.running) {
      this.retry();
      return;
    }
    this.running = true;
    for (;;) {
      try {
        await this.readOnce();
      } catch (error) {
        if (error instanceof RequestError && error.status === 401) {
          state.connection.value = "refused";
          this.running = false;
          return;
        }
      }
      state.connection.value = "lost";
      await this.pause();
    }
  }

  /** Try again at once instead of waiting. */
  retry() {
    this.wait = FIRST_WAIT;
    this.hurry();
  }

  /** @returns {Promise<void>} */
  pause() {
    const wait = this.wait * (0.75 + Math.random() / 2);
    this.wait = Math.min(this.wait * 2, LONGEST_WAIT);
    return new Promise((resolve) => {
      const timer = setTimeout(resolve, wait);
      this.hurry = () => {
        clearTimeout(timer);
        resolve();
      };
    });
  }

  async readOnce() {
    const stop = new AbortController();
    let timer = setTimeout(() => stop.abort(), SILENCE);
    try {
      const response = await send("/api/events", { signal: stop.signal });
      if (!response.body) return;
      state.connection.value = "open";
      this.wait = FIRST_WAIT;
      this.listener.opened();
      const reader = response.body.pipeThrough(new TextDecoderStream()).getReader();
      let rest = "";
      for (;;) {
        const { value, done } = await reader.read();
        if (done) return;
        clearTimeout(timer);
        timer = setTimeout(() => stop.abort(), SILENCE);
        rest = this.dispatch(rest + value.replaceAll("\r", ""));
      }
    } finally {
      clearTimeout(timer);
      stop.abort();
    }
  }

  /**
   * Pass on the complete events at the start of the text; return what follows them.
   * @param {string} text
   */
  dispatch(text) {
    const blocks = text.split("\n\n");
    const rest = blocks.pop() ?? "";
    for (const block of blocks) {
      const event = parseEvent(block);
      if (event) this.listener.event(event.name, event.data);
    }
    return rest;
  }
}

/**
 * Read one block of the format text/event-stream; comments give null.
 * @param {string} block
 * @returns {{name: string, data: any} | null}
 */
export function parseEvent(block) {
  let name = "message";
  const data = [];
  for (const line of block.split("\n")) {
    const [, field, value] = /^(\w+): ?(.*)$/.exec(line) ?? [];
    if (field === "event") name = value;
    if (field === "data") data.push(value);
  }
  if (!data.length && name === "message") return null;
  try {
    return { name, data: JSON.parse(data.join("\n") || "{}") };
  } catch {
    return null;
  }
}
