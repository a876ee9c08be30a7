// @ts-check
// The page: photos go to the network's thread, one after the other; overlay, areas and the mask come back.

import { encode } from "./png.js";

const PREVIEW = 1600;

/** @typedef {{name: string, version: string, runtime: string, classes: {name: string, color: number[]}[], palette: number[][],
 *   max_pixels: number}} Model */
/** @typedef {{width: number, height: number, labels: Uint8Array}} Labelled */
/** @typedef {{resolve: (labels: Uint8Array) => void, reject: (error: Error) => void, progress: (share: number) => void}} Call */

/** @type {Model} */
let model;
/** @type {Worker} */
let network;
/** @type {Map<number, Call>} */
const calls = new Map();
/** @type {(() => Promise<void>)[]} */
const waiting = [];
let busy = false;
let ready = false;
let done = 0;
let failed = 0;
let numbers = 0;

/** @param {string} id @returns {HTMLElement} */
function find(id) {
  const element = document.getElementById(id);
  if (element === null) throw new Error(`no element ${id}`);
  return element;
}

/** Make an element with text; data become text, never markup. @param {string} tag @param {string} [text] @param {string} [kind] */
function make(tag, text = "", kind = "") {
  const element = document.createElement(tag);
  element.textContent = text;
  if (kind) element.className = kind;
  return element;
}

/** @param {unknown} error */
const words = (error) => (error instanceof Error ? error.message : String(error));

async function start() {
  try {
    const answer = await fetch("model.json");
    if (!answer.ok) throw new Error(`model.json cannot be read from the server (status ${answer.status}).`);
    model = await answer.json();
    find("model").textContent = `Loading model ${model.name} …`;
    find("about").textContent = `Made by fullconv ${model.version}. It runs the network with ${model.runtime} (MIT licence, Microsoft).`;
    await open();
    ready = true;
    find("model").textContent = `Model ${model.name}: ${model.classes.map((entry) => entry.name).join(", ")}`;
    void work();
  } catch (error) {
    find("model").textContent = `The model cannot be loaded: ${words(error)}`;
    find("drop").hidden = true;
    find("status").textContent = "";
    find("results").replaceChildren();
  }
}

/** Start the network's thread. It is made from a blob, because such a thread inherits the policy of this page: it can
 * reach no other server. @returns {Promise<void>} */
function open() {
  const code = `import ${JSON.stringify(new URL("worker.js", location.href).href)};`;
  network = new Worker(URL.createObjectURL(new Blob([code], { type: "text/javascript" })), { type: "module" });
  return new Promise((resolve, reject) => {
    network.onerror = (event) => reject(new Error(event.message || "its program cannot be read from the server."));
    network.onmessage = ({ data }) => {
      if (data.ready === true) resolve();
      else if (data.ready === false) reject(new Error(data.error));
      else receive(data);
    };
  });
}

/** @param {{id: number, progress?: number, labels?: Uint8Array, error?: string}} data */
function receive(data) {
  const call = calls.get(data.id);
  if (call === undefined) return;
  if (data.progress !== undefined) return call.progress(data.progress);
  calls.delete(data.id);
  if (data.labels) call.resolve(data.labels);
  else call.reject(new Error(data.error));
}

/** @param {Iterable<File>} files */
function add(files) {
  for (const file of files) {
    const article = make("article");
    find("results").prepend(article);
    schedule(article, file);
  }
}

/** @param {HTMLElement} article @param {File} file */
function schedule(article, file) {
  const bar = /** @type {HTMLProgressElement} */ (make("progress"));
  bar.setAttribute("aria-label", `Labelling ${file.name}`);
  article.className = "";
  article.setAttribute("aria-busy", "true");
  article.replaceChildren(make("h2", file.name), make("p", ready ? "Waiting for its turn …" : "Waiting for the model …", "soft"), bar);
  waiting.push(() => label(article, file, bar));
  void work();
}

async function work() {
  if (busy || !ready) return report();
  busy = true;
  for (let next = waiting.shift(); next; next = waiting.shift()) {
    report();
    await next();
  }
  busy = false;
  report();
}

function report() {
  if (!done && !failed && !busy && !waiting.length) return;
  const parts = [`${done} ${done === 1 ? "photo" : "photos"} labelled`];
  if (failed) parts.push(`${failed} failed`);
  if (busy || waiting.length) parts.push(`${waiting.length + Number(busy)} to go`);
  find("status").textContent = `${parts.join(", ")}.`;
}

/** @param {HTMLElement} article @param {File} file @param {HTMLProgressElement} bar */
async function label(article, file, bar) {
  const line = article.querySelector("p");
  if (line) line.textContent = "Labelling …";
  try {
    const picture = await decode(file);
    const { width, height } = picture;
    const labels = await ask(picture, (share) => (bar.value = share));
    show(article, file, picture, { width, height, labels });
    done++;
  } catch (error) {
    failed++;
    showFailure(article, file, words(error));
  }
  article.removeAttribute("aria-busy");
}

/** Decode a photo as it is stored, but upright. @param {File} file */
async function decode(file) {
  let bitmap;
  try {
    bitmap = await createImageBitmap(file, { colorSpaceConversion: "none", premultiplyAlpha: "none" });
  } catch {
    throw new Error(`${file.name}: is not an image that this browser can read; save it as PNG or JPEG`);
  }
  if (bitmap.width * bitmap.height > model.max_pixels) {
    const most = Math.floor(model.max_pixels / 1e6);
    throw new Error(`${file.name}: has more than ${most} megapixels; use fullconv predict, which has no such limit`);
  }
  return bitmap;
}

/** @param {ImageBitmap} picture @param {(share: number) => void} progress @returns {Promise<Uint8Array>} */
function ask(picture, progress) {
  const canvas = new OffscreenCanvas(picture.width, picture.height);
  const context = canvas.getContext("2d", { willReadFrequently: true });
  if (context === null) throw new Error("This browser has no memory for the photo.");
  context.drawImage(picture, 0, 0);
  const { data } = context.getImageData(0, 0, picture.width, picture.height);
  const id = numbers++;
  return new Promise((resolve, reject) => {
    calls.set(id, { resolve, reject, progress });
    network.postMessage({ id, width: picture.width, height: picture.height, rgba: data }, [data.buffer]);
  });
}

/** @param {HTMLElement} article @param {File} file @param {ImageBitmap} picture @param {Labelled} labelled */
function show(article, file, picture, labelled) {
  article.className = "done";
  const side = make("div");
  side.append(table(labelled), download(file, labelled));
  article.replaceChildren(make("h2", file.name, "wide"), overlay(file, picture, labelled), side);
}

/** The photo, its classes in their colours, and a slider for their strength.
 * @param {File} file @param {ImageBitmap} picture @param {Labelled} labelled */
function overlay(file, picture, labelled) {
  const scale = Math.min(1, PREVIEW / Math.max(picture.width, picture.height));
  const [width, height] = [picture.width, picture.height].map((side) => Math.max(1, Math.round(side * scale)));
  const [photo, colors] = [canvas(width, height), canvas(width, height)];
  photo.context.drawImage(picture, 0, 0, width, height);
  colors.context.putImageData(paint(labelled, width, height), 0, 0);
  const layers = make("div", "", "layers");
  layers.setAttribute("role", "img");
  layers.setAttribute("aria-label", `${file.name} in the colours of its classes`);
  layers.append(photo.element, colors.element);
  const slider = /** @type {HTMLInputElement} */ (make("input"));
  slider.type = "range";
  slider.max = "100";
  slider.value = "55";
  const draw = () => (colors.element.style.opacity = String(Number(slider.value) / 100));
  slider.addEventListener("input", draw);
  draw();
  const line = make("label", "Strength of the colours", "strength soft");
  line.append(slider);
  const figure = make("figure");
  figure.append(layers, line);
  return figure;
}

/** @param {number} width @param {number} height */
function canvas(width, height) {
  const element = document.createElement("canvas");
  element.width = width;
  element.height = height;
  const context = element.getContext("2d");
  if (context === null) throw new Error("This browser has no memory for the picture.");
  return { element, context };
}

/** @param {Labelled} labelled @param {number} width @param {number} height */
function paint(labelled, width, height) {
  const result = new ImageData(width, height);
  for (let row = 0, to = 0; row < height; row++) {
    const line = Math.floor(((row + 0.5) * labelled.height) / height) * labelled.width;
    for (let column = 0; column < width; column++, to += 4) {
      const id = labelled.labels[line + Math.floor(((column + 0.5) * labelled.width) / width)];
      if (id < model.classes.length) result.data.set([...model.classes[id].color, 255], to);
    }
  }
  return result;
}

/** @param {Labelled} labelled */
function table({ width, height, labels }) {
  const counts = new Array(256).fill(0);
  for (const id of labels) counts[id]++;
  const total = Math.max(1, labels.length - counts[255]);
  const box = make("div", "", "scroll");
  const result = document.createElement("table");
  result.createCaption().textContent = `${width} × ${height} pixels`;
  const head = result.createTHead().insertRow();
  for (const name of ["Class", "Share", "Pixels"]) {
    const cell = make("th", name);
    cell.setAttribute("scope", "col");
    head.append(cell);
  }
  const body = result.createTBody();
  const areas = model.classes.map((entry, id) => ({ ...entry, pixels: counts[id] })).filter((area) => area.pixels > 0);
  for (const area of areas.sort((a, b) => b.pixels - a.pixels)) {
    const row = body.insertRow();
    const name = make("th");
    name.setAttribute("scope", "row");
    name.append(patch(area.color), area.name);
    row.append(name, make("td", share(area.pixels / total)), make("td", area.pixels.toLocaleString("en")));
  }
  box.append(result);
  const absent = model.classes.length - areas.length;
  if (absent) box.append(make("p", `${absent} of ${model.classes.length} classes are not in this photo.`, "soft"));
  return box;
}

/** @param {number} value */
function share(value) {
  return value < 0.001 ? "< 0.1 %" : `${(100 * value).toFixed(1)} %`;
}

/** The colour of a class: SVG, because the policy of the page allows no style attribute. @param {number[]} color */
function patch(color) {
  const svg = document.createElementNS("http://www.w3.org/2000/svg", "svg");
  svg.setAttribute("class", "patch");
  svg.setAttribute("viewBox", "0 0 1 1");
  svg.setAttribute("aria-hidden", "true");
  const square = document.createElementNS("http://www.w3.org/2000/svg", "rect");
  square.setAttribute("width", "1");
  square.setAttribute("height", "1");
  square.setAttribute("fill", `rgb(${color.join(" ")})`);
  svg.append(square);
  return svg;
}

/** @param {File} file @param {Labelled} labelled */
function download(file, { width, height, labels }) {
  const button = /** @type {HTMLButtonElement} */ (make("button", "Download the mask"));
  button.type = "button";
  const line = make("p", "", "soft");
  line.setAttribute("role", "status");
  button.addEventListener("click", async () => {
    const link = document.createElement("a");
    link.href = URL.createObjectURL(await encode(labels, width, height, model.palette));
    link.download = `${file.name.replace(/\.[^.]*$/, "")}.png`;
    link.click();
    setTimeout(() => URL.revokeObjectURL(link.href), 60_000);
    line.textContent = `${link.download} is ready.`;
  });
  const row = make("p", "", "row");
  row.append(button);
  const box = make("div");
  box.append(row, line);
  return box;
}

/** @param {HTMLElement} article @param {File} file @param {string} message */
function showFailure(article, file, message) {
  article.className = "failed";
  const again = make("button", "Try again");
  again.addEventListener("click", () => {
    failed--;
    schedule(article, file);
  });
  const row = make("p", "", "row");
  row.append(again);
  article.replaceChildren(make("h2", file.name), make("p", message), row);
}

function listen() {
  for (const id of ["files", "camera"]) {
    const input = /** @type {HTMLInputElement} */ (find(id));
    input.addEventListener("change", () => {
      add([...(input.files ?? [])]);
      input.value = "";
    });
  }
  const drop = find("drop");
  for (const kind of ["dragenter", "dragover", "dragleave", "drop"]) {
    document.addEventListener(kind, (event) => {
      event.preventDefault();
      drop.classList.toggle("over", kind === "dragenter" || kind === "dragover");
    });
  }
  document.addEventListener("drop", (event) => add(event.dataTransfer?.files ?? []));
  document.addEventListener("paste", (event) => add(event.clipboardData?.files ?? []));
}

listen();
void start();
