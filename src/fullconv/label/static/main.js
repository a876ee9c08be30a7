/** The page of `fullconv label`: make the parts, and connect them with each other and with the server. */

/** @import {Box, Point} from "./api.js" */

import { api, claimClient, token } from "./api.js";
import { bindings, NOTES } from "./bindings.js";
import { connectClasses } from "./classes.js";
import { Crosshair } from "./crosshair.js";
import { byId, count } from "./dom.js";
import { EventReader } from "./events.js";
import { Gestures } from "./gestures.js";
import { ImageList } from "./images.js";
import { Keys } from "./keys.js";
import { attempt, clearProblem, showProblem } from "./notices.js";
import { Overlay } from "./overlay.js";
import { Pen } from "./pen.js";
import { Places } from "./places.js";
import { Stage } from "./stage.js";
import { state } from "./state.js";
import { classAt, connectStatus, showPixel } from "./status.js";
import { Outbox } from "./strokes.js";
import { connectTools } from "./tools.js";
import { connectTraining, refreshTraining } from "./training.js";
import { Viewer } from "./viewer.js";

/** The list of images is asked for at most this often after strokes, in milliseconds. */
const LIST_EVERY = 1500;

class Page {
  /** @param {string} client the id of this tab */
  constructor(client) {
    this.outbox = new Outbox(client, {
      drawn: () => this.viewer.redraw(),
      applied: (image, box) => this.refreshLabels(image, box),
    });
    this.viewer = new Viewer((image) => [...this.outbox.pending(image), ...(this.pen.stroke ? [this.pen.stroke] : [])]);
    this.pen = new Pen(this.outbox, this.viewer, () => this.redraw());
    this.overlay = new Overlay(this.viewer, this.pen);
    this.gestures = new Gestures(this.viewer, this.pen, (at) => this.hover(at));
    this.crosshair = new Crosshair(this.viewer, this.pen, this.overlay);
    this.images = new ImageList();
    this.places = new Places(this.viewer, this.overlay);
    this.stage = new Stage(this.viewer, this.images);
    this.events = new EventReader({ event: (name, data) => this.receive(name, data), opened: () => void this.load() });
    this.keys = new Keys(bindings({ ...this, help: () => this.keys.help(), classUnderPointer: () => this.pointed() }), NOTES);
    /** @type {ReturnType<typeof setTimeout> | undefined} */
    this.listTimer = undefined;
    /** The id of the folder that the page shows; empty before it is known. */
    this.session = "";
    this.connect();
  }

  connect() {
    connectTools(this.viewer, this.pen, this.outbox);
    connectClasses();
    connectTraining();
    connectStatus();
    connectDrawers();
    this.viewer.after.push(() => {
      const image = state.image.value;
      if (image && this.outbox.settle(image, (box) => this.viewer.shows(box))) this.viewer.redraw();
    });
    state.project.watch((project) => {
      if (project && this.viewer.colors.set(project.classes)) this.viewer.tiles?.recolor();
    });
    state.images.watch((rows) => this.chooseImage(rows?.map((row) => row.id) ?? []));
    state.image.watch(keepInAddress);
    state.connection.watch((connection) => this.showConnection(connection));
    const buttons = { "image-next": () => this.images.openProposed(), "image-back": () => this.images.openPrevious() };
    for (const [id, run] of Object.entries(buttons)) byId(id, HTMLButtonElement).addEventListener("click", run);
  }

  redraw() {
    this.viewer.redraw();
    // The pen is made before the overlay.
    this.overlay?.redraw();
  }

  /** @param {Point | null} at */
  hover(at) {
    this.overlay.pointer = at;
    if (at) this.overlay.cross = null;
    this.overlay.redraw();
    showPixel(this.viewer, at);
  }

  /** The class at the pointer, or at the keyboard's cross. */
  pointed() {
    const { cross, pointer } = this.overlay;
    const at = cross ? this.viewer.view.toCanvas(cross) : pointer;
    return at && (classAt(this.viewer, at)?.key ?? null);
  }

  /** Ask for everything, because events may have been missed. */
  async load() {
    this.stage.failed = !await attempt("project", async () => {
      const [project, images] = await Promise.all([api.project(), api.images(), refreshTraining()]);
      if (this.session && project.session !== this.session) return this.leave();
      this.session = project.session;
      this.outbox.held = false;
      this.outbox.retry();
      state.project.value = project;
      if (project.version !== state.model.value.version) state.model.value = { version: project.version, seconds: null };
      state.images.value = images;
      for (const layer of /** @type {const} */ (["labels", "prediction"])) this.viewer.tiles?.invalidate(layer);
    });
    this.stage.update();
    this.viewer.tiles?.retry();
  }

  /** The address leads to another folder now: show that one. What waits belongs to the one before, so it is not sent. */
  leave() {
    const waiting = this.outbox.queue.length;
    const question = `This address leads to another folder. Discard ${count(waiting, "change")} of the folder before?`;
    if (waiting && !confirm(question)) {
      history.back();
      return;
    }
    this.outbox.queue = [];
    location.reload();
  }

  /** Open the image of the address, or the first one of the list. @param {string[]} ids */
  chooseImage(ids) {
    if (!ids.length || ids.includes(state.image.value ?? "")) return;
    const asked = new URLSearchParams(location.hash.slice(1)).get("image") ?? "";
    this.images.open(ids.includes(asked) ? asked : ids[0]);
  }

  /**
   * @param {string} name
   * @param {any} data
   */
  receive(name, data) {
    if (name === "stroke") {
      if (data.client !== this.outbox.client) this.refreshLabels(data.image, data.box);
    } else if (name === "model") {
      state.model.value = { version: data.version, seconds: data.seconds ?? null };
      this.viewer.tiles?.invalidate("prediction");
    } else if (name === "classes") {
      void attempt("project", async () => {
        state.project.value = await api.project();
        for (const layer of /** @type {const} */ (["labels", "prediction"])) this.viewer.tiles?.invalidate(layer);
      });
    } else if (name === "images") this.refreshList();
    else if (name === "training") state.training.value = data;
  }

  /**
   * @param {string} image
   * @param {Box | null} box
   */
  refreshLabels(image, box) {
    if (image === state.image.value) this.viewer.tiles?.invalidate("labels", box);
    this.refreshList();
  }

  refreshList() {
    this.listTimer ??= setTimeout(() => {
      this.listTimer = undefined;
      void attempt("list", () => this.images.refresh());
    }, LIST_EVERY);
  }

  /** @param {string} connection */
  showConnection(connection) {
    if (connection === "lost") {
      if (this.outbox.timer !== undefined) clearProblem("strokes"); // one sentence is enough
      const again = { label: "Try again", run: () => this.events.retry() };
      showProblem("connection", "The connection to the server is lost. You can go on painting; it will be sent later.", [again]);
    } else if (connection === "open") clearProblem("connection");
  }
}

/** The lists at the sides are drawers on narrow screens. */
function connectDrawers() {
  for (const name of ["images", "panel"]) {
    const button = byId(`${name}-toggle`, HTMLButtonElement);
    const toggle = (/** @type {boolean} */ open) => {
      document.body.classList.toggle(`${name}-open`, open);
      button.setAttribute("aria-expanded", String(open));
    };
    button.addEventListener("click", () => toggle(!document.body.classList.contains(`${name}-open`)));
  }
  byId("canvas", HTMLElement).addEventListener("pointerdown", () => {
    for (const name of ["images", "panel"]) {
      document.body.classList.remove(`${name}-open`);
      byId(`${name}-toggle`, HTMLElement).setAttribute("aria-expanded", "false");
    }
  });
}

/** Keep the open image in the address, so that it is open again after a reload. @param {string | null} image */
function keepInAddress(image) {
  if (!image) return;
  const values = new URLSearchParams(location.hash.slice(1));
  values.set("image", image);
  history.replaceState(null, "", `#${values}`);
}

const page = new Page(await claimClient());
let known = token();
if (known) void page.events.run();
// The address of a server that was started again differs only after the #, so the browser does not load the page again.
addEventListener("hashchange", () => {
  if (token() === known) return;
  known = token();
  page.outbox.held = true;
  if (state.connection.value === "open") void page.load();
  else void page.events.run();
});
