// @ts-check
// The network, in a thread of its own: pixels in, one class per pixel out.

import { cut } from "./tiles.js";

/** @typedef {import("./tiles.js").Window} Window */
/** @typedef {{channels: number, exact: boolean, windows: Window[], tile: number}} Network */

/** @param {string} name */
const near = (name) => new URL(name, import.meta.url).href;

/** @type {any} */
const thread = self;
const started = start();

/** Load ONNX Runtime and the network. */
async function start() {
  const [ort, description] = await Promise.all([import(near("ort.js")), read("model.json")]);
  /** @type {Network} */
  const network = await description.json();
  ort.env.wasm.numThreads = 1; // more threads need headers that plain web servers do not send
  ort.env.wasm.wasmPaths = { wasm: near("ort.wasm") };
  const content = new Uint8Array(await (await read("model.onnx")).arrayBuffer());
  const session = await ort.InferenceSession.create(content, { executionProviders: ["wasm"] });
  return { ort, session, network };
}

/** @param {string} name */
async function read(name) {
  const answer = await fetch(near(name));
  if (!answer.ok) throw new Error(`${name} cannot be read from the server (status ${answer.status}).`);
  return answer;
}

/** Drop what the network does not take. @param {Uint8ClampedArray} rgba @param {number} channels */
function pixels(rgba, channels) {
  const count = rgba.length / 4;
  const result = new Uint8Array(count * channels);
  for (let i = 0, from = 0, to = 0; i < count; i++, from += 4, to += channels) {
    result[to] = rgba[from];
    if (channels === 3) {
      result[to + 1] = rgba[from + 1];
      result[to + 2] = rgba[from + 2];
    } else if (rgba[from] !== rgba[from + 1] || rgba[from] !== rgba[from + 2]) {
      throw new Error("This network takes grey images, and this one has colours.");
    }
  }
  return result;
}

/** @param {number} id @param {number} width @param {number} height @param {Uint8ClampedArray} rgba */
async function label(id, width, height, rgba) {
  const { ort, session, network } = await started;
  const image = pixels(rgba, network.channels);
  const sides = [height, width].map((size, axis) => cut(network.windows[axis], size, network.exact ? network.tile : size));
  const labels = new Uint8Array(width * height);
  const total = sides[0].length * sides[1].length;
  let done = 0;
  for (const down of sides[0]) {
    for (const across of sides[1]) {
      const tile = crop(image, width, network.channels, down, across);
      const size = [1, down.length, across.length, network.channels];
      const input = new ort.Tensor("uint8", tile, size);
      const { label_map: map } = await session.run({ images: input }, ["label_map"]);
      for (let row = down.from; row < down.to; row++) {
        const at = (row - down.start) * across.length - across.start;
        labels.set(map.data.subarray(at + across.from, at + across.to), row * width + across.from);
      }
      map.dispose();
      thread.postMessage({ id, progress: ++done / total });
    }
  }
  for (let i = 0; i < labels.length; i++) if (rgba[4 * i + 3] === 0) labels[i] = 255; // transparent: no class
  thread.postMessage({ id, labels }, [labels.buffer]);
}

/** @param {Uint8Array} image @param {number} width @param {number} channels
 * @param {import("./tiles.js").Cut} down @param {import("./tiles.js").Cut} across */
function crop(image, width, channels, down, across) {
  const line = across.length * channels;
  const tile = new Uint8Array(down.length * line);
  for (let row = 0; row < down.length; row++) {
    const from = ((down.start + row) * width + across.start) * channels;
    tile.set(image.subarray(from, from + line), row * line);
  }
  return tile;
}

/** @param {unknown} error */
const words = (error) => (error instanceof Error ? error.message : String(error));

thread.onmessage = (/** @type {MessageEvent} */ { data }) =>
  label(data.id, data.width, data.height, data.rgba).catch((error) => thread.postMessage({ id: data.id, error: words(error) }));
started.then(
  () => thread.postMessage({ ready: true }),
  (error) => thread.postMessage({ ready: false, error: words(error) }),
);
