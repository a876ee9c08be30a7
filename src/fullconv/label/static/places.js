/** The places of an image where the model is least certain, one after the other. */

/** @import {Box, Place} from "./api.js" */
/** @import {Overlay} from "./overlay.js" */
/** @import {Viewer} from "./viewer.js" */

import { api } from "./api.js";
import { byId } from "./dom.js";
import { currentImage, state } from "./state.js";
import { overlap } from "./view.js";
import { attempt, say } from "./notices.js";

export class Places {
  /**
   * @param {Viewer} viewer
   * @param {Overlay} overlay
   */
  constructor(viewer, overlay) {
    this.viewer = viewer;
    this.overlay = overlay;
    /** @type {Place[]} */
    this.places = [];
    /** The version of the model that the places are from; they are asked for again when it has changed. */
    this.version = -1;
    /** The places that were shown, the last one at the end. @type {Box[]} */
    this.visited = [];
    state.image.watch(() => this.forget());
    for (const [id, direction] of /** @type {const} */ ([["place-next", 1], ["place-back", -1]])) {
      byId(id, HTMLButtonElement).addEventListener("click", () => this.go(direction));
    }
  }

  forget() {
    this.version = -1;
    this.visited = [];
    this.overlay.frame = null;
  }

  /**
   * Go to the next place, or back to the one before.
   * @param {1 | -1} direction
   */
  go(direction) {
    if (!currentImage() || !this.viewer.tiles) return;
    if (state.model.value.version === 0) say("There is no prediction yet. Paint a little of two classes first.");
    else if (direction > 0) void attempt("places", () => this.next());
    else this.back();
  }

  async next() {
    const image = state.image.value;
    const { version } = state.model.value;
    if (!image) return;
    if (this.version !== version) {
      const places = await api.uncertain(image);
      if (image !== state.image.value) return;
      this.places = places;
      this.version = version;
    }
    // A new version of the model proposes new places; those that were shown are passed over until all were shown.
    const fresh = this.places.find((place) => !this.visited.some((box) => overlap(box, inner(place))));
    if (!fresh && this.visited.length) {
      this.visited = [];
      say("All uncertain places were shown. The next one is the most uncertain one again.");
    } else if (fresh) {
      this.visited.push(frame(fresh));
      const left = this.places.filter((place) => !this.visited.some((box) => overlap(box, inner(place)))).length;
      this.show(frame(fresh), left ? `Uncertain place; ${left} more.` : "The last uncertain place.");
    } else say("The model is certain everywhere on this image.");
  }

  back() {
    this.visited.pop();
    const box = this.visited.at(-1);
    if (box) this.show(box, "The place before.");
    else say("There is no place before this one.");
  }

  /**
   * @param {Box} box
   * @param {string} sentence
   */
  show(box, sentence) {
    this.overlay.frame = box;
    const [x0, y0, x1, y1] = box;
    if (this.overlay.cross) this.overlay.cross = [(x0 + x1) / 2, (y0 + y1) / 2];
    this.viewer.move((view) => view.show(box));
    say(sentence);
  }
}

/** @param {Place} place @returns {Box} */
function frame({ x, y, width, height }) {
  return [x, y, x + width, y + height];
}

/** The middle of a place, so that neighbours do not count as shown. @param {Place} place @returns {Box} */
function inner({ x, y, width, height }) {
  return [x + width / 4, y + height / 4, x + (width * 3) / 4, y + (height * 3) / 4];
}
