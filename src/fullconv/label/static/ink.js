/** Strokes drawn on a canvas whose coordinates are those of the image, as the server will apply them. */

/** @import {Point, Stroke} from "./api.js" */
/** @import {Colors} from "./colors.js" */

import { NO_LABEL } from "./api.js";

/**
 * Draw a stroke in the colour of its class; the eraser takes away. Filling and accepting have no shape before the server
 * has answered.
 * @param {CanvasRenderingContext2D} context
 * @param {Stroke} stroke
 * @param {Colors} colors
 */
export function drawStroke(context, stroke, colors) {
  if (stroke.tool !== "brush" && stroke.tool !== "polygon") return;
  context.save();
  context.globalCompositeOperation = stroke.class === NO_LABEL ? "destination-out" : "source-over";
  context.fillStyle = context.strokeStyle = colors.css(stroke.class);
  if (stroke.tool === "polygon") {
    trace(context, stroke.points);
    context.fill("evenodd");
  } else drawBrush(context, stroke.points, stroke.radius);
  context.restore();
}

/**
 * @param {CanvasRenderingContext2D} context
 * @param {Point[]} points
 * @param {number} radius
 */
function drawBrush(context, points, radius) {
  if (points.length > 1) {
    context.lineWidth = radius * 2;
    context.lineCap = context.lineJoin = "round";
    trace(context, points);
    context.stroke();
  }
  const [x, y] = points[0];
  context.beginPath();
  context.arc(x, y, radius, 0, 2 * Math.PI);
  context.fill();
}

/**
 * @param {CanvasRenderingContext2D} context
 * @param {Point[]} points
 */
export function trace(context, points) {
  context.beginPath();
  for (const [x, y] of points) context.lineTo(x, y);
}
