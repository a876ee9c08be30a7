/** The list of images, in the order in which labels help most. */

/** @import {ImageRow} from "./api.js" */

import { api } from "./api.js";
import { byId, count, make, percent, problemOf } from "./dom.js";
import { currentImage, state } from "./state.js";
import { say } from "./notices.js";
import { Thumbnails } from "./thumbnails.js";

/** @typedef {{item: HTMLLIElement, button: HTMLButtonElement, name: HTMLElement, note: HTMLElement, share: HTMLElement,
 *   bar: HTMLElement}} Entry */

export class ImageList {
  constructor() {
    this.list = byId("image-list", HTMLUListElement);
    this.search = byId("image-search", HTMLInputElement);
    /** @type {Map<string, Entry>} */
    this.entries = new Map();
    /** The images that were open before, the last one at the end. @type {string[]} */
    this.history = [];
    /** @type {Set<string>} */
    this.seen = new Set();
    this.thumbnails = new Thumbnails(this.list);
    this.search.addEventListener("input", () => this.show());
    this.list.addEventListener("keydown", (event) => this.walk(event));
    state.images.watch(() => this.show());
    state.image.watch((id) => this.mark(id));
  }

  /** Ask the server for the list. */
  async refresh() {
    state.images.value = await api.images();
  }

  /** The images that match the search. */
  get matching() {
    const wanted = this.search.value.trim().toLowerCase();
    return (state.images.value ?? []).filter((row) => row.name.toLowerCase().includes(wanted));
  }

  show() {
    const rows = this.matching;
    const all = state.images.value;
    const ids = new Set(all?.map((row) => row.id));
    for (const id of this.entries.keys()) if (!ids.has(id)) this.entries.delete(id);
    const focused = document.activeElement;
    const items = rows.map((row) => this.update(row).item);
    // Rows are moved only where the order has changed, so that the scroll position and the focus stay.
    items.forEach((item, index) => {
      if (this.list.children[index] !== item) this.list.insertBefore(item, this.list.children[index] ?? null);
    });
    while (this.list.children.length > items.length) this.list.lastElementChild?.remove();
    if (focused instanceof HTMLElement && this.list.contains(focused)) focused.focus({ preventScroll: true });
    byId("image-count", HTMLElement).textContent = all ? summary(all, rows.length) : "";
    byId("no-match", HTMLElement).hidden = !all?.length || rows.length > 0;
    this.search.hidden = (all?.length ?? 0) < 8;
    this.mark(state.image.value);
  }

  /** @param {ImageRow} row */
  update(row) {
    const entry = this.entries.get(row.id) ?? this.add(row);
    setText(entry.name, row.name);
    setText(entry.note, problemOf(row) ?? row.reason);
    setText(entry.share, row.error ? "" : percent(row.painted));
    entry.bar.style.inlineSize = `${Math.min(1, row.painted) * 100}%`;
    entry.item.classList.toggle("broken", row.error !== null);
    entry.button.title = [row.name, problemOf(row) ?? row.reason].filter(Boolean).join("\n");
    this.thumbnails.watch(entry.item, row);
    return entry;
  }

  /**
   * @param {ImageRow} row
   * @returns {Entry}
   */
  add(row) {
    const name = make("span", { class: "name" });
    const note = make("span", { class: "note" });
    const share = make("span", { class: "share" });
    const bar = make("span", {});
    const track = make("span", { class: "bar", "aria-hidden": "true" }, bar);
    const picture = make("canvas", { class: "thumb", width: "96", height: "72", "aria-hidden": "true" });
    const text = make("span", { class: "about" }, name, make("span", { class: "painted" }, track, share), note);
    const button = make("button", { type: "button", tabindex: "-1" }, picture, text);
    button.addEventListener("click", () => this.open(row.id));
    const entry = { item: make("li", {}, button), button, name, note, share, bar };
    this.entries.set(row.id, entry);
    return entry;
  }

  /**
   * Show which image is open. Only its row is in the order of the Tab key; arrow keys reach the others.
   * @param {string | null} id
   */
  mark(id) {
    const first = this.matching[0]?.id;
    const reached = this.matching.some((row) => row.id === id) ? id : first;
    for (const [key, { button }] of this.entries) {
      button.tabIndex = key === reached ? 0 : -1;
      if (key === id) button.setAttribute("aria-current", "true");
      else button.removeAttribute("aria-current");
    }
  }

  /** @param {KeyboardEvent} event */
  walk(event) {
    const buttons = [...this.list.querySelectorAll("button")];
    const index = buttons.findIndex((button) => button === document.activeElement);
    const targets = { ArrowDown: index + 1, ArrowUp: index - 1, Home: 0, End: buttons.length - 1 };
    const target = buttons[targets[/** @type {keyof typeof targets} */ (event.key)] ?? -1];
    if (!target) return;
    event.preventDefault();
    target.focus();
  }

  /**
   * @param {string} id
   * @param {boolean} back whether this is a step back
   */
  open(id, back = false) {
    const before = state.image.value;
    if (before && before !== id && !back) this.history.push(before);
    this.seen.add(id);
    state.image.value = id;
    this.entries.get(id)?.item.scrollIntoView({ block: "nearest" });
    document.body.classList.remove("images-open");
    const row = currentImage();
    if (row && before) say(row.name);
  }

  /** Open the image at the top of the list that was not open yet: the server puts those first that teach most. */
  openProposed() {
    const rows = (state.images.value ?? []).filter((row) => row.error === null && row.id !== state.image.value);
    const next = rows.find((row) => !this.seen.has(row.id)) ?? rows[0];
    if (next) this.open(next.id);
    else say("There is no other image.");
  }

  /** Open the image that was open before. */
  openPrevious() {
    const id = this.history.pop();
    if (id && this.entries.has(id)) this.open(id, true);
    else say("No image was open before this one.");
  }

  /**
   * Open the neighbour in the list.
   * @param {1 | -1} direction
   */
  openNeighbour(direction) {
    const rows = this.matching;
    const row = rows[rows.findIndex((other) => other.id === state.image.value) + direction];
    if (row) this.open(row.id);
    else say(direction > 0 ? "This is the last image of the list." : "This is the first image of the list.");
  }
}

/**
 * @param {HTMLElement} element
 * @param {string} text
 */
function setText(element, text) {
  if (element.textContent !== text) element.textContent = text;
}

/**
 * @param {ImageRow[]} rows
 * @param {number} shown
 */
function summary(rows, shown) {
  const started = rows.filter((row) => row.painted > 0).length;
  const found = shown < rows.length ? `${shown} of ` : "";
  return `${found}${count(rows.length, "image")}, ${started} started`;
}
