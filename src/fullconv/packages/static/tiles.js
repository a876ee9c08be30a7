// @ts-check
// Tiles of an axis: the arithmetic of geometry/tiles.py, so that tiled labels are those of the whole image.

/** What one label depends on, along one axis. @typedef {{before: number, after: number, period: number}} Window */
/** A tile reads `length` pixels from `start`, and keeps those from `from` to `to`.
 * @typedef {{start: number, length: number, from: number, to: number}} Cut */

/** Cut an axis of `size` pixels into tiles of one length, about `tile`; a shorter axis is not cut.
 * @param {Window} window @param {number} size @param {number} tile @returns {Cut[]} */
export function cut(window, size, tile) {
  const { before, after, period } = window;
  const least = Math.max(tile, before + after + period);
  const length = least + ((((size - least) % period) + period) % period);
  if (size <= length) return [{ start: 0, length: size, from: 0, to: size }];
  const step = Math.floor((length - before - after) / period) * period;
  const count = 1 + Math.ceil((size - length) / step);
  const starts = Array.from({ length: count }, (_, index) => (index < count - 1 ? index * step : size - length));
  return starts.map((start, index) => ({
    start,
    length,
    from: index === 0 ? 0 : start + before,
    to: index === count - 1 ? size : starts[index + 1] + before,
  }));
}
