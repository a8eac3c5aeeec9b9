// Prompts to images, as `galip.generation.pipeline.TextToImage` generates them, by ONNX Runtime in WebAssembly.

import * as ort from "./ort/ort.wasm.min.js";
import { CaptionCleaner } from "./captions.js";
import { download, fetchJson } from "./downloads.js";
import { noise } from "./noise.js";
import { Tokenizer } from "./tokenizer.js";

const MOST_THREADS = 4; // a network this small gains nothing from more
const WASM = "ort/ort-wasm-simd-threaded.wasm";
const TABLES = "text-tables.json";
const [GENERATOR, TEXT_ENCODER, TOKENIZER] = ["generator.onnx", "text_encoder.onnx", "tokenizer.json"].map(
  (name) => `model/${name}`,
);

/**
 * A sentence, ready to be drawn with any seed.
 *
 * @typedef {object} Sentence
 * @property {Float32Array} vector [cond_dim]
 * @property {number} tokens how many it has, start and end among them
 * @property {boolean} truncated whether there were more than the model reads
 * @property {boolean} broken whether it looks like text in a broken encoding
 */

export class Pipeline {
  #cleaner;
  #tokenizer;
  #text;
  #generator;

  /**
   * @param {object} manifest the model's `export.json`
   * @param {CaptionCleaner} cleaner
   * @param {Tokenizer} tokenizer
   * @param {ort.InferenceSession} text
   * @param {ort.InferenceSession} generator
   */
  constructor(manifest, cleaner, tokenizer, text, generator) {
    this.manifest = manifest;
    this.threads = ort.env.wasm.numThreads;
    this.#cleaner = cleaner;
    this.#tokenizer = tokenizer;
    this.#text = text;
    this.#generator = generator;
  }

  /**
   * Download everything and make it ready.
   *
   * @param {(received: number, total: number) => void} onProgress in bytes
   * @returns {Promise<Pipeline>}
   * @throws {Error} a file cannot be had or read
   */
  static async load(onProgress) {
    const here = (path) => new URL(path, import.meta.url);
    const demo = await fetchJson(here("demo.json"), "no-cache");
    const files = new Map(
      Object.entries(demo.files).map(([path, { bytes, version }]) => [path, { bytes, url: here(`${path}?v=${version}`) }]),
    );
    const contents = await download(files, onProgress);
    const json = (path) => JSON.parse(new TextDecoder().decode(contents.get(path)));

    ort.env.logLevel = "error";
    // Threads share memory, which browsers allow only to pages that a server has set apart from others.
    ort.env.wasm.numThreads = globalThis.crossOriginIsolated ? Math.min(MOST_THREADS, navigator.hardwareConcurrency) : 1;
    ort.env.wasm.wasmBinary = contents.get(WASM);
    ort.env.wasm.wasmPaths = { mjs: here("ort/ort-wasm-simd-threaded.js").href };
    const options = { executionProviders: ["wasm"], graphOptimizationLevel: "all" };
    const network = (name) => start(name, contents.get(name), options);
    const [text, generator] = [await network(TEXT_ENCODER), await network(GENERATOR)];
    const tokenizer = new Tokenizer(json(TOKENIZER));
    return new Pipeline(demo.model, new CaptionCleaner(json(TABLES)), tokenizer, text, generator);
  }

  /**
   * The tokens of a caption, at most `max_tokens`: of a longer one the first of them and the end token.
   *
   * @param {string} caption
   * @returns {{ids: number[], truncated: boolean, broken: boolean}}
   * @throws {CaptionError} it is empty or no text
   */
  tokenize(caption) {
    const { text, broken } = this.#cleaner.clean(caption);
    const ids = this.#tokenizer.encode(text);
    const limit = this.manifest.max_tokens;
    const truncated = ids.length > limit;
    return { ids: truncated ? [...ids.slice(0, limit - 1), ids.at(-1)] : ids, truncated, broken };
  }

  /**
   * @param {string} caption
   * @returns {Promise<Sentence>}
   * @throws {CaptionError} it is empty or no text
   */
  async encode(caption) {
    const { ids, truncated, broken } = this.tokenize(caption);
    const { vector } = await this.#text.run({
      input_ids: new ort.Tensor("int64", BigInt64Array.from(ids, BigInt), [1, ids.length]),
      // The vector is read at the first end token, which a caption may spell out.
      last: new ort.Tensor("int64", BigInt64Array.of(BigInt(ids.indexOf(ids.at(-1)))), [1]),
    });
    return { vector: Float32Array.from(vector.data), tokens: ids.length, truncated, broken };
  }

  /**
   * @param {Float32Array} vector of a sentence
   * @param {bigint} seed in [0, 2**63)
   * @returns {Promise<ImageData>}
   * @throws {Error} the weights are broken
   */
  async draw(vector, seed) {
    const { z_dim, cond_dim, num_stages, image_size: side } = this.manifest;
    const e = new Float32Array(num_stages * cond_dim);
    for (let stage = 0; stage < num_stages; stage++) e.set(vector, stage * cond_dim);
    const { image } = await this.#generator.run({
      z: new ort.Tensor("float32", noise(seed, z_dim), [1, z_dim]),
      e: new ort.Tensor("float32", e, [1, num_stages, cond_dim]),
    });
    return toImageData(image.data, side);
  }
}

/** A network from its ONNX file. */
async function start(name, content, options) {
  try {
    return await ort.InferenceSession.create(content, options);
  } catch (error) {
    const why = error?.message ?? error; // WebAssembly throws numbers too
    throw new Error(`${name}: it cannot be started (${why}). A newer browser, or fewer open pages, may help.`, { cause: error });
  }
}

/** Floats [3, side, side] in about [-1, 1] as 8-bit pixels, rounded as `galip.generation.output.to_uint8` does. */
function toImageData(image, side) {
  const plane = side * side;
  const picture = new ImageData(side, side);
  for (let i = 0; i < plane; i++) {
    for (let channel = 0; channel < 3; channel++) {
      const value = Math.fround(Math.fround(image[channel * plane + i] * 0.5) + 0.5);
      if (!Number.isFinite(value)) throw new Error("The picture holds numbers that are not finite: export the model again.");
      // A clamped array rounds to the nearest, a tie to the even.
      picture.data[4 * i + channel] = Math.fround(Math.min(Math.max(value, 0), 1) * 255);
    }
    picture.data[4 * i + 3] = 255;
  }
  return picture;
}
