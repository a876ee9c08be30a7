/** Find and make elements. Texts are always text nodes, so names of files and classes are never read as markup. */

/**
 * Find an element of index.html. A missing one is a mistake of ours, so it is an error at once.
 * @template {Element} T
 * @param {string} id
 * @param {{new (): T, name: string}} type
 * @returns {T}
 */
export function byId(id, type) {
  const element = document.getElementById(id);
  if (!(element instanceof type)) throw new Error(`index.html has no ${type.name} #${id}`);
  return element;
}

/**
 * Make an element with attributes and children; strings become text.
 * @template {keyof HTMLElementTagNameMap} K
 * @param {K} tag
 * @param {Record<string, string | boolean>} attributes an attribute that is false is left out
 * @param {...(Node | string)} children
 * @returns {HTMLElementTagNameMap[K]}
 */
export function make(tag, attributes = {}, ...children) {
  const element = document.createElement(tag);
  for (const [name, value] of Object.entries(attributes)) {
    if (value !== false) element.setAttribute(name, value === true ? "" : value);
  }
  element.append(...children);
  return element;
}

/**
 * Make an icon from the symbols in index.html. Icons repeat a text or a label, so screen readers skip them.
 * @param {string} name
 */
export function icon(name) {
  const space = "http://www.w3.org/2000/svg";
  const picture = document.createElementNS(space, "svg");
  const use = document.createElementNS(space, "use");
  use.setAttribute("href", `#i-${name}`);
  picture.setAttribute("class", "icon");
  picture.setAttribute("aria-hidden", "true");
  picture.append(use);
  return picture;
}

/**
 * Make a small square in the colour of a class.
 * @param {string} color
 */
export function swatch(color) {
  const square = make("span", { class: "swatch", "aria-hidden": "true" });
  square.style.backgroundColor = color;
  return square;
}

/**
 * Say a share as a percentage. Little is not nothing, and nearly all is not all.
 * @param {number} share between 0 and 1
 */
export function percent(share) {
  if (share <= 0) return "0 %";
  if (share < 0.01) return "< 1 %";
  if (share >= 1) return "100 %";
  return `${Math.min(99, Math.round(share * 100))} %`;
}

/**
 * The error of an image, without the folders before its name.
 * @param {{name: string, error: string | null}} row
 */
export function problemOf({ name, error }) {
  if (error === null) return null;
  return error.slice(Math.max(0, error.indexOf(`${name}: `)));
}

/**
 * Say a number of things: "1 image", "2 images".
 * @param {number} number
 * @param {string} noun
 */
export function count(number, noun) {
  return `${number} ${noun}${number === 1 ? "" : "s"}`;
}
