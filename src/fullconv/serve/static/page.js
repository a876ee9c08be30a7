// @ts-check
// The page of `fullconv serve`: photos go to POST /predict, one after the other; areas, overlay and downloads come back.

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

/** @typedef {{id: number, name: string, color: string, pixels: number, share: number, square_metres: number | null}} Area */
/** @typedef {{image: string, width: number, height: number, crs: string | null, note: string, unlabelled_pixels: number,
 *   classes: Area[], preview?: string}} Summary */

/** @type {string} */
let token = new URLSearchParams(location.hash.slice(1)).get("token") ?? "";

/** Photos that wait for their turn: one at a time, so that other people's photos get theirs. @type {(() => Promise<void>)[]} */
const waiting = [];
let busy = false;
let done = 0;
let failed = 0;

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

/** @param {unknown} error */
function words(error) {
  return error instanceof Error ? error.message : String(error);
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
  const bar = make("progress");
  bar.setAttribute("aria-label", `Labelling ${file.name}`);
  article.className = "";
  article.setAttribute("aria-busy", "true");
  article.replaceChildren(make("h2", file.name), make("p", "Waiting for its turn …", "soft"), bar);
  waiting.push(() => label(article, file));
  void work();
}

async function work() {
  if (busy) return;
  busy = true;
  for (let next = waiting.shift(); next; next = waiting.shift()) {
    report();
    await next();
  }
  busy = false;
  report();
}

function report() {
  const parts = [`${done} ${done === 1 ? "photo" : "photos"} labelled`];
  if (failed) parts.push(`${failed} failed`);
  if (busy) parts.push(`${waiting.length + 1} to go`);
  find("status").textContent = `${parts.join(", ")}.`;
}

/** @param {HTMLElement} article @param {File} file */
async function label(article, file) {
  const line = article.querySelector("p");
  if (line) line.textContent = "Labelling …";
  try {
    const answer = await ask(`/predict?as=json&preview=${PREVIEW}&name=${encodeURIComponent(file.name)}`, post(file));
    show(article, file, await answer.json());
    done++;
  } catch (error) {
    failed++;
    showFailure(article, file, words(error));
  }
  article.removeAttribute("aria-busy");
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
  side.append(table(summary), downloads(file));
  article.replaceChildren(title, figure, side);
  if (summary.note) side.append(make("p", summary.note, "soft"));
}

/** @param {Summary} summary */
function table(summary) {
  const metres = summary.classes.some((area) => area.square_metres !== null);
  const box = make("div", "", "scroll");
  const result = document.createElement("table");
  result.createCaption().textContent = `${summary.width} × ${summary.height} pixels`;
  const head = result.createTHead().insertRow();
  for (const name of ["Class", "Share", "Pixels", ...(metres ? ["m²"] : [])]) {
    const cell = make("th", name);
    cell.setAttribute("scope", "col");
    head.append(cell);
  }
  const body = result.createTBody();
  const present = summary.classes.filter((area) => area.pixels > 0).sort((a, b) => b.pixels - a.pixels);
  for (const area of present) {
    const row = body.insertRow();
    const name = make("th");
    name.setAttribute("scope", "row");
    name.append(patch(area.color), area.name);
    row.append(name, make("td", share(area.share)), make("td", area.pixels.toLocaleString("en")));
    if (metres) row.append(make("td", (area.square_metres ?? 0).toLocaleString("en", { maximumFractionDigits: 1 })));
  }
  box.append(result);
  const absent = summary.classes.length - present.length;
  if (absent) box.append(make("p", `${absent} of ${summary.classes.length} classes are not in this photo.`, "soft"));
  return box;
}

/** @param {number} value */
function share(value) {
  return value < 0.001 ? "< 0.1 %" : `${(100 * value).toFixed(1)} %`;
}

/** The colour of a class: SVG, because the policy of the page allows no style attribute. @param {string} color */
function patch(color) {
  const svg = document.createElementNS("http://www.w3.org/2000/svg", "svg");
  svg.setAttribute("class", "patch");
  svg.setAttribute("viewBox", "0 0 1 1");
  svg.setAttribute("aria-hidden", "true");
  const square = document.createElementNS("http://www.w3.org/2000/svg", "rect");
  square.setAttribute("width", "1");
  square.setAttribute("height", "1");
  square.setAttribute("fill", color);
  svg.append(square);
  return svg;
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
    const link = document.createElement("a");
    link.href = URL.createObjectURL(await answer.blob());
    link.download = file.name.replace(/\.[^.]*$/, "") + (kind === "overlay" ? "-overlay" : "") + (SUFFIXES.get(type) ?? "");
    link.click();
    setTimeout(() => URL.revokeObjectURL(link.href), 60_000);
    line.textContent = `${link.download} is ready.`;
  } catch (error) {
    line.textContent = words(error);
  }
  button.disabled = false;
  button.focus();
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
