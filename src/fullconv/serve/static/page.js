// @ts-check
// The page of `fullconv serve`: photos go to POST /predict, one after the other; areas, overlay and downloads come back.

import { Photos, find, make, save, stem, table, words } from "./photos.js";

const PREVIEW = 1600;
const TRIES = 5;
const DOWNLOADS = [
  ["mask", "Mask"],
  ["overlay", "Overlay"],
  ["probabilities", "Probabilities"],
  ["polygons", "Polygons"],
  ["areas", "Areas"],
];
const SUFFIXES = new Map([
  ["image/png", ".png"], ["image/tiff", ".tif"], ["image/jpeg", ".jpg"], ["application/octet-stream", ".npz"],
  ["application/geo+json", ".geojson"], ["text/csv", ".csv"],
]);

/** @typedef {import("./photos.js").Area} Area */
/** @typedef {{image: string, width: number, height: number, crs: string | null, note: string, unlabelled_pixels: number,
 *   classes: Area[], preview?: string}} Summary */

/** @type {string} */
let token = new URLSearchParams(location.hash.slice(1)).get("token") ?? "";

/** One at a time, so that other people's photos get their turn. */
const photos = new Photos(label, true);

class Refused extends Error {
  /** @param {number} status @param {string} message @param {number} wait */
  constructor(status, message, wait) {
    super(message);
    this.status = status;
    this.wait = wait;
  }
}

/** Send a request; wait and repeat it while the server is full or loading. @param {string} address @param {RequestInit} [options] */
async function ask(address, options = {}) {
  for (let attempt = 1; ; attempt++) {
    try {
      return await askOnce(address, options);
    } catch (error) {
      const full = error instanceof Refused && (error.status === 429 || error.status === 503);
      if (!full || attempt === TRIES) throw error;
      await new Promise((resolve) => setTimeout(resolve, 1000 * Math.min(30, error.wait)));
    }
  }
}

/** @param {string} address @param {RequestInit} options */
async function askOnce(address, options) {
  const headers = token ? { Authorization: `Bearer ${token}` } : undefined;
  let answer;
  try {
    answer = await fetch(address, { ...options, headers, cache: "no-store" });
  } catch {
    throw new Refused(0, "The server does not answer. Check that it runs, then try again.", 1);
  }
  if (answer.ok) return answer;
  const wait = Number(answer.headers.get("Retry-After")) || 1;
  const values = await answer.json().catch(() => ({}));
  throw new Refused(answer.status, String(values.message ?? `The server answered with status ${answer.status}.`), wait);
}

async function start() {
  try {
    const model = await (await ask("/model")).json();
    const names = model.classes.map((/** @type {Area} */ entry) => entry.name).join(", ");
    find("model").textContent = `Model ${model.name}: ${names}`;
    const megapixels = Math.floor(model.limits.max_pixels / 1e6);
    const megabytes = Math.floor(model.limits.max_bytes / 2 ** 20);
    const size = megapixels ? `${megapixels} megapixels` : `${model.limits.max_pixels} pixels`;
    find("limits").textContent = `Up to ${size} and ${megabytes} MiB each. Photos are not kept on the server.`;
    find("key").hidden = true;
    find("drop").hidden = false;
  } catch (error) {
    const closed = error instanceof Refused && error.status === 401;
    find("model").textContent = closed && !token ? "" : words(error);
    find("key").hidden = !closed;
    find("drop").hidden = closed;
    find("status").textContent = closed ? "" : "No photo yet.";
  }
}

/** @param {HTMLElement} article @param {File} file */
async function label(article, file) {
  const answer = await ask(`/predict?as=json&preview=${PREVIEW}&name=${encodeURIComponent(file.name)}`, post(file));
  show(article, file, await answer.json());
}

/** @param {File} file @returns {RequestInit} */
function post(file) {
  return { method: "POST", body: file };
}

/** @param {HTMLElement} article @param {File} file @param {Summary} summary */
function show(article, file, summary) {
  article.className = "done";
  const title = make("h2", file.name, "wide");
  const figure = make("figure");
  if (summary.preview) {
    const picture = document.createElement("img");
    picture.src = summary.preview;
    picture.alt = `${file.name} in the colours of its classes`;
    figure.append(picture);
  }
  const side = make("div");
  side.append(table(summary.width, summary.height, summary.classes), downloads(file));
  article.replaceChildren(title, figure, side);
  if (summary.note) side.append(make("p", summary.note, "soft"));
}

/** @param {File} file */
function downloads(file) {
  const row = make("p", "", "row");
  row.setAttribute("role", "group");
  row.setAttribute("aria-label", `Downloads for ${file.name}`);
  const line = make("p", "", "soft");
  line.setAttribute("role", "status");
  for (const [kind, name] of DOWNLOADS) {
    const button = /** @type {HTMLButtonElement} */ (make("button", name));
    button.type = "button";
    button.addEventListener("click", () => void download(file, kind, button, line));
    row.append(button);
  }
  const box = make("div");
  box.append(make("p", "Download:", "soft"), row, line);
  return box;
}

/** @param {File} file @param {string} kind @param {HTMLButtonElement} button @param {HTMLElement} line */
async function download(file, kind, button, line) {
  button.disabled = true;
  line.textContent = `Making ${button.textContent} …`;
  try {
    const answer = await ask(`/predict?as=${kind}&name=${encodeURIComponent(file.name)}`, post(file));
    const type = (answer.headers.get("Content-Type") ?? "").split(";")[0];
    save(await answer.blob(), stem(file.name) + (kind === "overlay" ? "-overlay" : "") + (SUFFIXES.get(type) ?? ""), line);
  } catch (error) {
    line.textContent = words(error);
  }
  button.disabled = false;
  button.focus();
}

function listen() {
  photos.listen();
  const field = /** @type {HTMLInputElement} */ (find("token"));
  find("key").addEventListener("submit", (event) => {
    event.preventDefault();
    token = field.value.trim();
    void start();
  });
  addEventListener("hashchange", () => location.reload());
}

listen();
void start();
