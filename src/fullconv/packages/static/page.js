// @ts-check
// The page: photos go to the network's thread, one after the other; overlay, areas and the mask come back.

import { Photos, find, make, save, stem, table, words } from "./photos.js";
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
let numbers = 0;
const photos = new Photos(label, false);

async function start() {
  try {
    const answer = await fetch("model.json");
    if (!answer.ok) throw new Error(`model.json cannot be read from the server (status ${answer.status}).`);
    model = await answer.json();
    find("model").textContent = `Loading model ${model.name} …`;
    find("about").textContent = `Made by fullconv ${model.version}. It runs the network with ${model.runtime} (MIT licence, Microsoft).`;
    await open();
    find("model").textContent = `Model ${model.name}: ${model.classes.map((entry) => entry.name).join(", ")}`;
    photos.begin();
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

/** @param {HTMLElement} article @param {File} file @param {HTMLProgressElement} bar */
async function label(article, file, bar) {
  const picture = await decode(file);
  try {
    const { width, height } = picture;
    const labels = await ask(picture, (share) => (bar.value = share));
    show(article, file, picture, { width, height, labels });
  } finally {
    picture.close(); // its pixels lie outside the memory that the garbage collector counts
  }
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
    bitmap.close();
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
  side.append(table(labelled.width, labelled.height, measure(labelled)), download(file, labelled));
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

/** @param {Labelled} labelled @returns {import("./photos.js").Area[]} */
function measure({ labels }) {
  const counts = new Array(256).fill(0);
  for (const id of labels) counts[id]++;
  const total = Math.max(1, labels.length - counts[255]);
  return model.classes.map(({ name, color }, id) => ({
    name, color: `rgb(${color.join(" ")})`, pixels: counts[id], share: counts[id] / total,
  }));
}

/** @param {File} file @param {Labelled} labelled */
function download(file, { width, height, labels }) {
  const button = /** @type {HTMLButtonElement} */ (make("button", "Download the mask"));
  button.type = "button";
  const line = make("p", "", "soft");
  line.setAttribute("role", "status");
  button.addEventListener("click", async () => {
    save(await encode(labels, width, height, model.palette), `${stem(file.name)}.png`, line);
  });
  const row = make("p", "", "row");
  row.append(button);
  const box = make("div");
  box.append(row, line);
  return box;
}

photos.listen();
void start();
