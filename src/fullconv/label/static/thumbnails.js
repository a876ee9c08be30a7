/** Small pictures for the rows of the list that are in sight; one request at a time, so that strokes never wait for them. */

/** @import {ImageRow} from "./api.js" */

import { api } from "./api.js";
import { TILE } from "./view.js";

/** Larger images are not opened for a thumbnail alone. */
const MOST_PIXELS = 40_000_000;

export class Thumbnails {
  /** @param {HTMLElement} list */
  constructor(list) {
    /** @type {WeakMap<Element, ImageRow>} */
    this.rows = new WeakMap();
    /** @type {Set<HTMLElement>} */
    this.wanted = new Set();
    this.working = false;
    this.observer = new IntersectionObserver((entries) => this.notice(entries), { root: list.parentElement, rootMargin: "100px" });
  }

  /**
   * Draw the thumbnail of a row once the row is in sight.
   * @param {HTMLElement} item
   * @param {ImageRow} row
   */
  watch(item, row) {
    if (item.dataset.thumbnail || row.error || !row.width || row.width * row.height > MOST_PIXELS) return;
    if (!this.rows.has(item)) this.observer.observe(item);
    this.rows.set(item, row);
  }

  /** @param {IntersectionObserverEntry[]} entries */
  notice(entries) {
    for (const { target, isIntersecting } of entries) {
      if (!(target instanceof HTMLElement)) continue;
      if (isIntersecting) this.wanted.add(target);
      else this.wanted.delete(target);
    }
    if (!this.working) void this.work();
  }

  async work() {
    this.working = true;
    for (const item of this.wanted) {
      this.wanted.delete(item);
      this.observer.unobserve(item);
      const row = this.rows.get(item);
      if (row && !item.dataset.thumbnail) await this.draw(item, row);
    }
    this.working = false;
  }

  /**
   * @param {HTMLElement} item
   * @param {ImageRow} row
   */
  async draw(item, row) {
    const canvas = item.querySelector("canvas");
    const context = canvas?.getContext("2d");
    if (!canvas || !context) return;
    const level = Math.max(0, Math.ceil(Math.log2(Math.max(row.width, row.height) / TILE)));
    item.dataset.thumbnail = "asked";
    try {
      const response = await api.tile(row, "photo", { level, column: 0, row: 0 });
      const picture = await createImageBitmap(await response.blob());
      const scale = Math.max(canvas.width / picture.width, canvas.height / picture.height);
      const [width, height] = [picture.width * scale, picture.height * scale];
      context.imageSmoothingQuality = "high";
      context.drawImage(picture, (canvas.width - width) / 2, (canvas.height - height) / 2, width, height);
      picture.close();
      canvas.classList.add("drawn");
    } catch {
      // The row stays without a picture. The image itself says what is wrong when it is opened.
    }
  }
}
