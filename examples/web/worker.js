// The pipeline in a thread of its own, so that the page stays alive while a picture is drawn.
//
// In:  {prompt, seeds: string[], order}: draw the caption with these seeds, in this order; it replaces what is not drawn yet.
// Out: {type: "progress", received, total}, {type: "ready", manifest, threads}, {type: "failed", message},
//      {type: "sentence", order, tokens, truncated, broken, ms}, {type: "picture", order, seed, picture, ms},
//      {type: "refused", order, message}, {type: "done", order}

import { CaptionError } from "./captions.js";
import { Pipeline } from "./pipeline.js";

let wanted = null;
let wake = () => {};

self.onmessage = ({ data }) => {
  wanted = data;
  wake();
};

/** Let messages in: what WebAssembly computes keeps the thread to itself. */
const breathe = () => new Promise((resolve) => setTimeout(resolve));

async function drawAll(pipeline, { prompt, seeds, order }) {
  const start = performance.now();
  const { vector, ...facts } = await pipeline.encode(prompt);
  self.postMessage({ type: "sentence", order, ...facts, ms: performance.now() - start });
  for (const seed of seeds) {
    await breathe();
    if (wanted !== null) return;
    const start = performance.now();
    const picture = await pipeline.draw(vector, BigInt(seed));
    self.postMessage({ type: "picture", order, seed, picture, ms: performance.now() - start });
  }
  self.postMessage({ type: "done", order });
}

async function run() {
  const pipeline = await Pipeline.load((received, total) => self.postMessage({ type: "progress", received, total }));
  self.postMessage({ type: "ready", manifest: pipeline.manifest, threads: pipeline.threads });
  for (;;) {
    if (wanted === null) await new Promise((resolve) => (wake = resolve));
    const job = wanted;
    wanted = null;
    try {
      await drawAll(pipeline, job);
    } catch (error) {
      if (!(error instanceof CaptionError)) throw error;
      self.postMessage({ type: "refused", order: job.order, message: error.message });
    }
  }
}

run().catch((error) => {
  console.warn(error);
  self.postMessage({ type: "failed", message: error.message });
});
