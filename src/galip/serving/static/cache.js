// Images that were generated before, by recipe: moving back over them asks nobody.

import { keyOf } from "./recipe.js";
import { draw } from "./service.js";

const MOST_BYTES = 48 * 2 ** 20;

const blobs = new Map(); // in the order of last use
let bytes = 0;

export function cached(recipe) {
  const key = keyOf(recipe);
  const blob = blobs.get(key);
  if (blob) {
    blobs.delete(key);
    blobs.set(key, blob);
  }
  return blob;
}

export async function picture(recipe, signal) {
  const known = cached(recipe);
  if (known) return known;
  const blob = await draw(recipe, { signal });
  const key = keyOf(recipe);
  if (!blobs.has(key)) {
    blobs.set(key, blob);
    bytes += blob.size;
  }
  for (const [oldest, old] of blobs) {
    if (bytes <= MOST_BYTES) break;
    blobs.delete(oldest);
    bytes -= old.size;
  }
  return blob;
}

/** Another model generates other images. */
export function forgetAll() {
  blobs.clear();
  bytes = 0;
}
