/** What the canvas shows: an image, or one sentence why there is none. */

/** @import {ImageRow} from "./api.js" */
/** @import {ImageList} from "./images.js" */
/** @import {Viewer} from "./viewer.js" */

import { api, asSentence, token } from "./api.js";
import { byId, icon, make, problemOf } from "./dom.js";
import { classes, currentImage, state } from "./state.js";
import { clearProblem, showProblem } from "./notices.js";
import { Tiles } from "./tiles.js";

const BUSY_AFTER = 350;
const ASK_AGAIN = 1000;

export class Stage {
  /**
   * @param {Viewer} viewer
   * @param {ImageList} images
   */
  constructor(viewer, images) {
    this.viewer = viewer;
    this.images = images;
    /** The image that the canvas shows, and the size that it was opened with. */
    this.opened = "";
    /** Whether the list of images could not be read. */
    this.failed = false;
    /** @type {ReturnType<typeof setTimeout> | undefined} */
    this.timer = undefined;
    /** @type {ReturnType<typeof setTimeout> | undefined} */
    this.busyTimer = undefined;
    viewer.after.push(() => this.showBusy());
    for (const value of [state.image, state.images, state.connection]) value.watch(() => this.update());
    for (const value of [state.project, state.model, state.images]) value.watch(() => this.showHint());
  }

  update() {
    const row = currentImage();
    const key = row && !row.error && row.width ? `${row.id} ${row.photo} ${row.width}x${row.height}` : "";
    if (key !== this.opened) {
      this.opened = key;
      this.viewer.open(key ? row : null, key && row ? this.makeTiles(row) : null);
    }
    this.describe(row);
    this.showMessage(row);
    if (row && !row.error && !row.width) this.askSize(row);
  }

  /** @param {ImageRow} row */
  makeTiles(row) {
    clearProblem("tiles");
    const tiles = new Tiles(row, this.viewer.colors, () => this.viewer.redraw(), (error) => {
      const again = { label: "Try again", run: () => { clearProblem("tiles"); tiles.retry(); } };
      if (!tiles.closed) showProblem("tiles", `A part of the image is missing. ${error.message}`, [again]);
    });
    return tiles;
  }

  /** The canvas as screen readers describe it. @param {ImageRow | null} row */
  describe(row) {
    const name = byId("image-name", HTMLElement);
    name.textContent = row?.name ?? "";
    name.title = row ? [row.name, row.reason].filter(Boolean).join("\n") : "";
    const size = row?.width ? `, ${row.width} × ${row.height} pixels` : "";
    byId("canvas", HTMLElement).setAttribute("aria-label", row ? `Image ${row.name}${size}` : "No image");
    document.title = row ? `${row.name} – fullconv label` : "fullconv label";
  }

  /** The size of an image is not known before it is opened: open it, then ask again. @param {ImageRow} row */
  askSize(row) {
    clearTimeout(this.timer);
    this.timer = setTimeout(async () => {
      if (state.image.value !== row.id) return;
      try {
        await api.tile(row, "photo", { level: 0, column: 0, row: 0 });
        await this.images.refresh();
      } catch {
        // The list has the sentence once the server has found out what is wrong.
      }
      if (currentImage()?.width === 0) this.askSize(row);
    }, this.timer === undefined ? 0 : ASK_AGAIN);
  }

  /** @param {ImageRow | null} row */
  showMessage(row) {
    const images = state.images.value;
    if (!token()) this.say("key", "This address is not complete.", "Open the address that fullconv label has printed, with #token= at its end.");
    else if (state.connection.value === "refused") this.say("key", "This address is no longer valid.",
      "The server was started again. Open the address that it has printed.");
    else if (images === null && this.failed) this.say("warning", "The images could not be opened.", "");
    else if (images === null) this.say("wait", "Opening the images …", "");
    else if (!images.length) this.say("images", "There are no images in this folder.", "Stop the server, and start it with a folder that holds photos: fullconv label PHOTOS");
    else if (row?.error) this.say("warning", `${row.name} cannot be opened.`, asSentence(problemOf(row) ?? ""));
    else if (row && !row.width) this.say("wait", `Opening ${row.name} …`, "");
    else byId("message", HTMLElement).hidden = true;
  }

  /**
   * @param {string} symbol
   * @param {string} title
   * @param {string} text
   */
  say(symbol, title, text) {
    const message = byId("message", HTMLElement);
    const picture = symbol === "wait" ? make("span", { class: "spinner", "aria-hidden": "true" }) : icon(symbol);
    message.replaceChildren(picture, make("h2", {}, title), make("p", {}, text));
    message.hidden = false;
  }

  /** The first steps, for as long as there is no model. */
  showHint() {
    const hint = byId("hint", HTMLElement);
    const ready = state.project.value !== null && (state.images.value?.length ?? 0) > 0;
    const number = classes().length;
    hint.hidden = !ready || state.model.value.version > 0;
    if (number < 2) hint.textContent = "Add two or more classes, for example “leaf” and “background”.";
    else hint.textContent = "Paint a little of two classes. The model then predicts the rest, and learns from every stroke.";
  }

  /** Show a moving line if tiles take long. */
  showBusy() {
    const bar = byId("busy", HTMLElement);
    if (!this.viewer.tiles?.busy) {
      clearTimeout(this.busyTimer);
      this.busyTimer = undefined;
      bar.hidden = true;
    } else this.busyTimer ??= setTimeout(() => { bar.hidden = false; }, BUSY_AFTER);
  }
}
