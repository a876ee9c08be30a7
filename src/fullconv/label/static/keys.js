/** All keys in one table: it runs them, and it is the help. */

import { byId, make } from "./dom.js";

/** @typedef {{group: string, keys: string[], text: string, run: () => void, canvas?: boolean}} Key a key with `canvas` works
 *   only where the focus is on the canvas or nowhere, because other elements use it, too */
/** @typedef {{keys: string[], text: string, group: string}} Note a line of the help alone */

const NAMES = { arrowup: "↑", arrowdown: "↓", arrowleft: "←", arrowright: "→", " ": "Space", pageup: "Page Up", pagedown: "Page Down",
  escape: "Esc", enter: "Enter", backspace: "Backspace", ctrl: "Ctrl", shift: "Shift", alt: "Alt" };

export class Keys {
  /**
   * @param {Key[]} keys
   * @param {Note[]} notes
   */
  constructor(keys, notes) {
    /** @type {Map<string, Key>} */
    this.table = new Map(keys.flatMap((key) => key.keys.map((name) => [name, key])));
    this.dialog = byId("help", HTMLDialogElement);
    fillHelp(byId("help-keys", HTMLElement), [...keys, ...notes]);
    byId("help-open", HTMLButtonElement).addEventListener("click", () => this.help());
    byId("help-close", HTMLButtonElement).addEventListener("click", () => this.dialog.close());
    addEventListener("keydown", (event) => this.press(event));
  }

  help() {
    this.dialog.showModal();
  }

  /** @param {KeyboardEvent} event */
  press(event) {
    if (event.defaultPrevented || event.isComposing || document.querySelector("dialog[open]") || isTyping(event.target)) return;
    const key = this.table.get(nameOf(event));
    if (!key || (key.canvas && !isFree(event))) return;
    event.preventDefault();
    key.run();
  }
}

/**
 * The name of a key in the table. Shift is a part of it for letters and named keys; signs such as "?" contain it already.
 * @param {KeyboardEvent} event
 */
function nameOf(event) {
  const key = signOf(event);
  const named = key.length > 1 || /^\p{L}| $/u.test(key);
  const control = (event.ctrlKey || event.metaKey) && !event.getModifierState("AltGraph");
  return [control && "ctrl", event.shiftKey && named && "shift", event.altKey && !event.getModifierState("AltGraph") && "alt", key]
    .filter(Boolean).join("+");
}

/**
 * What is printed on a key; letters and digits of other scripts count as the Latin ones at their place.
 * @param {KeyboardEvent} event
 */
function signOf({ key, code }) {
  const isForeign = /^[\p{L}\p{N}]$/u.test(key) && !/^[\p{Script=Latin}0-9]$/u.test(key);
  const [, place] = (isForeign && /^(?:Key|Digit)([A-Z0-9])$/.exec(code)) || [];
  return (place ?? key).toLowerCase();
}

/** @param {EventTarget | null} target */
function isTyping(target) {
  if (target instanceof HTMLInputElement) return !["radio", "range", "checkbox", "button"].includes(target.type);
  return target instanceof HTMLTextAreaElement || target instanceof HTMLSelectElement;
}

/** Whether the focused element has no use for a key; a radio button or a slider has none for the space bar. @param {KeyboardEvent} event */
function isFree({ target, key }) {
  if (target instanceof HTMLInputElement) return key === " ";
  return target === document.body || target === byId("canvas", HTMLElement);
}

/**
 * @param {HTMLElement} place
 * @param {Note[]} notes
 */
function fillHelp(place, notes) {
  const groups = [...new Set(notes.map((note) => note.group))];
  place.replaceChildren(...groups.map((group) => {
    const rows = notes.filter((note) => note.group === group && note.text).map(({ keys, text }) => {
      const shown = keys.flatMap((key, index) => (index ? [" or ", ...spell(key)] : spell(key)));
      return make("div", {}, make("dt", {}, ...shown), make("dd", {}, text));
    });
    return make("section", {}, make("h3", {}, group), make("dl", {}, ...rows));
  }));
}

/**
 * "ctrl+z" as it is printed on the keys.
 * @param {string} key
 * @returns {(Node | string)[]}
 */
function spell(key) {
  const parts = key === "+" ? ["+"] : key.split("+");
  return parts.flatMap((part, index) => {
    const name = NAMES[/** @type {keyof typeof NAMES} */ (part)] ?? (part.length === 1 ? part.toUpperCase() : part);
    return index ? [" ", make("kbd", {}, name)] : [make("kbd", {}, name)];
  });
}
