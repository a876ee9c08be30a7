// @ts-check
// What the pages for photos share (`fullconv serve` and `fullconv export --web`): elements, the queue of photos, tables.

/** @typedef {{name: string, color: string, pixels: number, share: number, square_metres?: number | null}} Area */

/** @param {string} id @returns {HTMLElement} */
export function find(id) {
  const element = document.getElementById(id);
  if (element === null) throw new Error(`no element ${id}`);
  return element;
}

/** Make an element with text; data become text, never markup. @param {string} tag @param {string} [text] @param {string} [kind] */
export function make(tag, text = "", kind = "") {
  const element = document.createElement(tag);
  element.textContent = text;
  if (kind) element.className = kind;
  return element;
}

/** @param {unknown} error */
export const words = (error) => (error instanceof Error ? error.message : String(error));

/** Photos that are labelled one after the other, each in its article. `label` shows the result, or throws an error. */
export class Photos {
  /** @type {(() => Promise<void>)[]} */
  #waiting = [];
  #busy = false;
  #ready;
  #done = 0;
  #failed = 0;
  #label;

  /** @param {(article: HTMLElement, file: File, bar: HTMLProgressElement) => Promise<void>} label
   * @param {boolean} ready whether labelling can begin before `begin` */
  constructor(label, ready) {
    this.#label = label;
    this.#ready = ready;
  }

  /** Label the photos that wait, and all later ones. */
  begin() {
    this.#ready = true;
    void this.#work();
  }

  /** Take photos from the fields for files and camera, from drops and from the clipboard. */
  listen() {
    for (const id of ["files", "camera"]) {
      const input = /** @type {HTMLInputElement} */ (find(id));
      input.addEventListener("change", () => {
        this.#add([...(input.files ?? [])]);
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
    document.addEventListener("drop", (event) => this.#add(event.dataTransfer?.files ?? []));
    document.addEventListener("paste", (event) => this.#add(event.clipboardData?.files ?? []));
  }

  /** @param {Iterable<File>} files */
  #add(files) {
    for (const file of files) {
      const article = make("article");
      find("results").prepend(article);
      this.#schedule(article, file);
    }
  }

  /** @param {HTMLElement} article @param {File} file */
  #schedule(article, file) {
    const bar = /** @type {HTMLProgressElement} */ (make("progress"));
    bar.setAttribute("aria-label", `Labelling ${file.name}`);
    const line = make("p", this.#ready ? "Waiting for its turn …" : "Waiting for the model …", "soft");
    article.className = "";
    article.setAttribute("aria-busy", "true");
    article.replaceChildren(make("h2", file.name), line, bar);
    this.#waiting.push(async () => {
      line.textContent = "Labelling …";
      await this.#attempt(article, file, bar);
    });
    void this.#work();
  }

  async #work() {
    if (this.#busy || !this.#ready) return this.#report();
    this.#busy = true;
    for (let next = this.#waiting.shift(); next; next = this.#waiting.shift()) {
      this.#report();
      await next();
    }
    this.#busy = false;
    this.#report();
  }

  /** @param {HTMLElement} article @param {File} file @param {HTMLProgressElement} bar */
  async #attempt(article, file, bar) {
    try {
      await this.#label(article, file, bar);
      this.#done++;
    } catch (error) {
      this.#failed++;
      this.#showFailure(article, file, words(error));
    }
    article.removeAttribute("aria-busy");
  }

  #report() {
    const left = this.#waiting.length + Number(this.#busy);
    if (!this.#done && !this.#failed && !left) return;
    const parts = [`${this.#done} ${this.#done === 1 ? "photo" : "photos"} labelled`];
    if (this.#failed) parts.push(`${this.#failed} failed`);
    if (left) parts.push(`${left} to go`);
    find("status").textContent = `${parts.join(", ")}.`;
  }

  /** @param {HTMLElement} article @param {File} file @param {string} message */
  #showFailure(article, file, message) {
    article.className = "failed";
    const again = make("button", "Try again");
    again.addEventListener("click", () => {
      this.#failed--;
      this.#schedule(article, file);
    });
    const row = make("p", "", "row");
    row.append(again);
    article.replaceChildren(make("h2", file.name), make("p", message), row);
  }
}

/** The areas of the classes in a photo, the largest first. @param {number} width @param {number} height @param {Area[]} areas */
export function table(width, height, areas) {
  const metres = areas.some((area) => typeof area.square_metres === "number");
  const box = make("div", "", "scroll");
  const result = document.createElement("table");
  result.createCaption().textContent = `${width} × ${height} pixels`;
  const head = result.createTHead().insertRow();
  for (const name of ["Class", "Share", "Pixels", ...(metres ? ["m²"] : [])]) {
    const cell = make("th", name);
    cell.setAttribute("scope", "col");
    head.append(cell);
  }
  const body = result.createTBody();
  const present = areas.filter((area) => area.pixels > 0).sort((a, b) => b.pixels - a.pixels);
  for (const area of present) {
    const row = body.insertRow();
    const name = make("th");
    name.setAttribute("scope", "row");
    name.append(patch(area.color), area.name);
    row.append(name, make("td", share(area.share)), make("td", area.pixels.toLocaleString("en")));
    if (metres) row.append(make("td", (area.square_metres ?? 0).toLocaleString("en", { maximumFractionDigits: 1 })));
  }
  box.append(result);
  const absent = areas.length - present.length;
  if (absent) box.append(make("p", `${absent} of ${areas.length} classes are not in this photo.`, "soft"));
  return box;
}

/** Offer a file for download, and say so in a line. @param {Blob} content @param {string} name @param {HTMLElement} line */
export function save(content, name, line) {
  const link = document.createElement("a");
  link.href = URL.createObjectURL(content);
  link.download = name;
  link.click();
  setTimeout(() => URL.revokeObjectURL(link.href), 60_000);
  line.textContent = `${name} is ready.`;
}

/** @param {string} name the name of a file @returns {string} without its suffix */
export const stem = (name) => name.replace(/\.[^.]*$/, "");

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
