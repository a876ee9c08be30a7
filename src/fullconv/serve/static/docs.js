// @ts-check
// Shows /openapi.json as text; nothing is loaded from other servers.

/** @param {string} tag @param {string} text */
function make(tag, text) {
  const element = document.createElement(tag);
  element.textContent = text;
  return element;
}

/** Return the section of one address. @param {string} method @param {string} path @param {any} operation */
function section(method, path, operation) {
  const article = document.createElement("article");
  article.append(make("h2", `${method.toUpperCase()} ${path}`), make("p", operation.summary ?? ""));
  if (operation.description) article.append(make("p", operation.description));
  const list = document.createElement("dl");
  for (const parameter of operation.parameters ?? []) {
    const schema = parameter.schema ?? {};
    const choices = schema.enum ? `One of ${schema.enum.join(", ")}.` : "";
    const normal = schema.default === undefined || schema.default === "" ? "" : `Default: ${schema.default}.`;
    list.append(make("dt", `${parameter.name} (${parameter.in})`));
    list.append(make("dd", [parameter.description ?? "", choices, normal].filter(Boolean).join(" ")));
  }
  const types = Object.keys(operation.requestBody?.content ?? {});
  if (types.length) list.append(make("dt", "Body"), make("dd", types.join(" or ")));
  for (const [status, answer] of Object.entries(operation.responses ?? {})) {
    list.append(make("dt", `Answer ${status}`), make("dd", answer.description ?? ""));
  }
  article.append(list);
  return article;
}

async function start() {
  const list = /** @type {HTMLElement} */ (document.getElementById("list"));
  try {
    const values = await (await fetch("/openapi.json")).json();
    const about = document.getElementById("about");
    if (about) about.textContent = values.info.description ?? "";
    const sections = [];
    for (const [path, methods] of Object.entries(values.paths)) {
      for (const [method, operation] of Object.entries(methods)) sections.push(section(method, path, operation));
    }
    list.replaceChildren(...sections);
  } catch {
    list.replaceChildren(make("p", "The list cannot be read. Check that the server runs, and load this page again."));
  }
  list.removeAttribute("aria-busy");
}

void start();
