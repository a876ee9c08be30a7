/** The list of classes, and the dialog that adds and changes them. */

/** @import {ClassChange, ClassEntry} from "./api.js" */

import { api } from "./api.js";
import { inkOn } from "./colors.js";
import { byId, icon, make, swatch } from "./dom.js";
import { classes, state } from "./state.js";
import { say } from "./notices.js";

/** Colours for new classes: far apart, also for most people who see colours differently (after Okabe and Ito). */
const PALETTE = ["#0072b2", "#e69f00", "#009e73", "#d55e00", "#cc79a7", "#56b4e9", "#f0e442", "#7f3c8d", "#8c564b", "#7fc97f"];

/** What the dialog shows when all of these are used: the server then chooses a colour. */
const ANY = "#808080";

/** Connect the list and the dialog. */
export function connectClasses() {
  state.project.watch(() => {
    keepChoice();
    showList();
  });
  state.class.watch(showChoice);
  byId("add-class", HTMLButtonElement).addEventListener("click", () => openDialog(null));
  const dialog = byId("class-dialog", HTMLDialogElement);
  byId("class-form", HTMLFormElement).addEventListener("submit", (event) => {
    event.preventDefault();
    void save();
  });
  byId("class-cancel", HTMLButtonElement).addEventListener("click", () => dialog.close());
  byId("class-merge", HTMLButtonElement).addEventListener("click", () => void merge());
  byId("class-delete", HTMLButtonElement).addEventListener("click", () => void remove());
  // The focus goes back to where it was; if that row is new or gone, it goes to the image.
  dialog.addEventListener("close", () => {
    if (document.activeElement === document.body) byId("canvas", HTMLElement).focus();
  });
}

/** The chosen class stays while it exists; otherwise it is the first one. */
function keepChoice() {
  const keys = classes().map((entry) => entry.key);
  if (state.class.value === null || !keys.includes(state.class.value)) state.class.value = keys[0] ?? null;
}

/**
 * Choose a class by its place in the list.
 * @param {number} index
 */
export function chooseByIndex(index) {
  const entry = classes()[index];
  if (!entry) return;
  choose(entry);
}

/**
 * Choose the next or the previous class.
 * @param {1 | -1} direction
 */
export function chooseNext(direction) {
  const all = classes();
  if (!all.length) return;
  const index = all.findIndex((entry) => entry.key === state.class.value);
  choose(all[(index + direction + all.length) % all.length]);
}

/** @param {ClassEntry} entry */
function choose(entry) {
  state.class.value = entry.key;
  if (state.tool.value === "eraser" || state.tool.value === "accept") state.tool.value = "brush";
  say(`Class: ${entry.name}`);
}

/**
 * Choose a class by its key, if there is such a class.
 * @param {number | null} key
 */
export function chooseByKey(key) {
  const entry = classes().find((other) => other.key === key);
  if (entry) choose(entry);
  else say("There is no class at this place.");
}

function showList() {
  const list = byId("class-list", HTMLElement);
  const focused = document.activeElement instanceof HTMLElement ? document.activeElement.id : "";
  list.replaceChildren(...classes().map(makeRow));
  byId("no-classes", HTMLElement).hidden = state.project.value === null || classes().length > 0;
  if (focused.startsWith("class-")) document.getElementById(focused)?.focus();
  showChoice();
}

/**
 * @param {ClassEntry} entry
 * @param {number} index
 */
function makeRow(entry, index) {
  const input = make("input", { type: "radio", name: "class", value: String(entry.key), id: `class-${entry.key}` });
  input.addEventListener("change", () => {
    state.class.value = entry.key;
    if (state.tool.value === "eraser") state.tool.value = "brush";
  });
  const patch = swatch(entry.color);
  if (index < 10) {
    patch.textContent = String((index + 1) % 10);
    patch.style.color = inkOn(entry.color);
  }
  const name = make("span", { class: "name", title: entry.name }, entry.name);
  const edit = make("button", { type: "button", class: "quiet", id: `class-edit-${entry.key}`, "aria-label":
    `Change the class ${entry.name}`, title: "Change" }, icon("more"));
  edit.addEventListener("click", () => openDialog(entry));
  return make("li", {}, make("label", { class: "class" }, input, patch, name), edit);
}

function showChoice() {
  for (const input of document.querySelectorAll("input[name=class]")) {
    if (input instanceof HTMLInputElement) input.checked = Number(input.value) === state.class.value;
  }
}

/** The class that the dialog changes; null for a new one. @type {ClassEntry | null} */
let edited = null;

/**
 * Open the dialog for a class, or for a new one.
 * @param {ClassEntry | null} entry
 */
export function openDialog(entry) {
  if (!state.project.value) return;
  edited = entry;
  const others = classes().filter((other) => other.key !== entry?.key);
  byId("class-title", HTMLElement).textContent = entry ? `Change the class “${entry.name}”` : "Add a class";
  byId("class-name", HTMLInputElement).value = entry?.name ?? "";
  byId("class-color", HTMLInputElement).value = entry?.color ?? freeColor() ?? ANY;
  byId("class-save", HTMLButtonElement).textContent = entry ? "Save" : "Add";
  byId("class-more", HTMLElement).hidden = entry === null;
  byId("class-into", HTMLSelectElement).replaceChildren(
    ...others.map((other) => make("option", { value: String(other.key) }, other.name)));
  byId("class-merge-row", HTMLElement).hidden = others.length === 0;
  confirmDeletion(false);
  showError("");
  byId("class-dialog", HTMLDialogElement).showModal();
  byId("class-name", HTMLInputElement).select();
}

function freeColor() {
  const used = classes().map((entry) => entry.color.toLowerCase());
  return PALETTE.find((color) => !used.includes(color));
}

/** @param {string} sentence */
function showError(sentence) {
  const error = byId("class-error", HTMLElement);
  error.textContent = sentence;
  error.hidden = !sentence;
}

/**
 * Send changes one after the other; close the dialog if all of them succeed.
 * @param {ClassChange[]} changes
 */
async function send(changes) {
  const form = byId("class-fields", HTMLFieldSetElement);
  form.disabled = true;
  showError("");
  try {
    for (const change of changes) state.project.value = await api.changeClasses(change);
    byId("class-dialog", HTMLDialogElement).close();
    return true;
  } catch (error) {
    showError(error instanceof Error ? error.message : String(error));
    return false;
  } finally {
    form.disabled = false;
  }
}

async function save() {
  const name = byId("class-name", HTMLInputElement).value.trim();
  const color = byId("class-color", HTMLInputElement).value;
  if (!name) {
    showError("A class needs a name.");
  } else if (!edited) {
    const chosen = color === ANY && !freeColor() ? undefined : color;
    if (await send([{ action: "add", name, color: chosen }])) state.class.value = classes().at(-1)?.key ?? null;
  } else {
    const { key } = edited;
    /** @type {ClassChange[]} */
    const changes = [];
    if (name !== edited.name) changes.push({ action: "rename", key, name });
    if (color.toLowerCase() !== edited.color.toLowerCase()) changes.push({ action: "recolour", key, color });
    await send(changes);
  }
}

async function merge() {
  if (!edited) return;
  const { key, name } = edited;
  const select = byId("class-into", HTMLSelectElement);
  const into = select.selectedOptions[0]?.textContent ?? "";
  if (await send([{ action: "merge", key, into: Number(select.value) }])) say(`${name} is now a part of ${into}.`);
}

/** The first click on "Delete" asks, the second one deletes. */
async function remove() {
  if (!edited) return;
  if (byId("class-warning", HTMLElement).hidden) {
    confirmDeletion(true);
    return;
  }
  const { key, name } = edited;
  if (await send([{ action: "delete", key }])) say(`The class ${name} is deleted.`);
}

/** @param {boolean} asked */
function confirmDeletion(asked) {
  byId("class-warning", HTMLElement).hidden = !asked;
  byId("class-delete", HTMLButtonElement).textContent = asked ? "Delete for good" : "Delete …";
}
