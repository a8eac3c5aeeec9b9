// The noise z of a picture, made from its seed alone: the same numbers as `galip.generation.noise`, whose docstring says how.

export const SEED_LIMIT = 2n ** 63n;

const WORD = 2n ** 64n - 1n;
const ROUNDS = 10;
const MULTIPLIER = [0xd2e7470ee14c6c93n, 0xca5a826395121157n];
const KEY_STEP = [0x9e3779b97f4a7c15n, 0xbb67ae8584caa73bn];

/**
 * A seed as it was typed.
 *
 * @param {string} text
 * @returns {bigint} in [0, 2**63)
 * @throws {RangeError} it is no such number
 */
export function parseSeed(text) {
  const digits = text.trim();
  const seed = /^[0-9]{1,19}$/.test(digits) ? BigInt(digits) : SEED_LIMIT;
  if (seed >= SEED_LIMIT) throw new RangeError(`A seed is a whole number from 0 to ${SEED_LIMIT - 1n}.`);
  return seed;
}

/**
 * Standard normal noise.
 *
 * @param {bigint} seed in [0, 2**63)
 * @param {number} dim length of the vector
 * @returns {Float32Array} [dim]
 */
export function noise(seed, dim) {
  const z = new Float32Array(dim);
  let words = [];
  for (let i = 0; i < dim; i += 2) {
    if (i % 4 === 0) words = philox(BigInt(i / 4 + 1), seed);
    const [word1, word2] = words.splice(0, 2);
    const u1 = (Number(word1 >> 11n) + 1) * 2 ** -53; // in (0, 1]: its logarithm is finite
    const u2 = Number(word2 >> 11n) * 2 ** -53;
    const radius = Math.sqrt(-2 * Math.log(u1));
    const angle = 2 * Math.PI * u2;
    z[i] = radius * Math.cos(angle);
    if (i + 1 < dim) z[i + 1] = radius * Math.sin(angle);
  }
  return z;
}

/**
 * One block of Philox4x64-10 (Salmon et al., SC 2011): the counter (block, 0, 0, 0) under the key (seed, 0).
 *
 * @param {bigint} block
 * @param {bigint} seed
 * @returns {bigint[]} four 64-bit words
 */
export function philox(block, seed) {
  let [c0, c1, c2, c3] = [block, 0n, 0n, 0n];
  let [key0, key1] = [seed, 0n];
  for (let round = 0; round < ROUNDS; round++) {
    const product0 = MULTIPLIER[0] * c0;
    const product1 = MULTIPLIER[1] * c2;
    c0 = (product1 >> 64n) ^ c1 ^ key0;
    c1 = product1 & WORD;
    c2 = (product0 >> 64n) ^ c3 ^ key1;
    c3 = product0 & WORD;
    key0 = (key0 + KEY_STEP[0]) & WORD;
    key1 = (key1 + KEY_STEP[1]) & WORD;
  }
  return [c0, c1, c2, c3];
}
