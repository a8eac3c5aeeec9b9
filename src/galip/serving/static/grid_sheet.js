// A grid as one image with its labels.

import { sharpPixels } from "./appearance.js";
import { facts } from "./service.js";

const CELL = 128; // pixels that an image has at least, so that labels are readable beside it
const GAP = 8;
const LABEL = 220; // pixels for the captions, left of the images
const LINE = 18;
const FONT = "14px sans-serif";

/** `blobs[row][column]` are images, or null where none was generated. Gives a PNG. */
export async function sheet({ prompts, seeds, blobs }) {
  const side = facts.side * Math.max(Math.ceil(CELL / facts.side), 1);
  const canvas = document.createElement("canvas");
  canvas.width = LABEL + seeds.length * (side + GAP) + GAP;
  canvas.height = GAP + LINE + prompts.length * (side + GAP) + GAP;
  const context = canvas.getContext("2d");
  context.fillStyle = "white";
  context.fillRect(0, 0, canvas.width, canvas.height);
  context.imageSmoothingEnabled = !sharpPixels();
  context.imageSmoothingQuality = "high";
  context.font = FONT;
  context.fillStyle = "black";
  const left = (column) => LABEL + column * (side + GAP);
  const top = (row) => GAP + LINE + row * (side + GAP);
  context.textAlign = "center";
  seeds.forEach((seed, column) => context.fillText(`seed ${seed}`, left(column) + side / 2, GAP + LINE / 2, side));
  context.textAlign = "left";
  for (const [row, prompt] of prompts.entries()) {
    const lines = wrap(context, prompt, LABEL - 2 * GAP, Math.floor(side / LINE));
    const first = top(row) + side / 2 - ((lines.length - 1) * LINE) / 2;
    lines.forEach((line, at) => context.fillText(line, GAP, first + at * LINE + 5));
    for (const [column, blob] of blobs[row].entries()) {
      if (!blob) continue;
      const bitmap = await createImageBitmap(blob);
      context.drawImage(bitmap, left(column), top(row), side, side);
      bitmap.close();
    }
  }
  return await new Promise((resolve, reject) => {
    const done = (blob) => (blob ? resolve(blob) : reject(new Error("the sheet is too large for a canvas")));
    canvas.toBlob(done, "image/png");
  });
}

/** Break text into at most `most` lines of a width; what does not fit ends in an ellipsis. */
function wrap(context, text, width, most) {
  const lines = [];
  let line = "";
  const words = text.split(/\s+/);
  for (const [at, word] of words.entries()) {
    const longer = line ? `${line} ${word}` : word;
    if (context.measureText(longer).width <= width || !line) {
      line = longer;
    } else if (lines.length === most - 1) {
      return [...lines, fit(context, `${line} ${words.slice(at).join(" ")}`, width)];
    } else {
      lines.push(line);
      line = word;
    }
  }
  return [...lines, line].map((each) => fit(context, each, width));
}

function fit(context, text, width) {
  if (context.measureText(text).width <= width) return text;
  let end = text.length;
  while (end > 1 && context.measureText(`${text.slice(0, end)}…`).width > width) end--;
  return `${text.slice(0, end)}…`;
}
