// What an image is made of: points (a caption, a seed, and its share of the blend) and the truncation of the noise.
// The same recipe always gives the same image, so a recipe is what gets shared, kept and cached.

export const LAST_SEED = Number.MAX_SAFE_INTEGER;

export function plain(prompt, seed, truncation = 1) {
  return { points: [{ prompt, seed, weight: 1 }], truncation };
}

/** A blend of points. Points without a share are left out, so that an end of a morph is exactly the plain image. */
export function blend(points, truncation = 1) {
  const merged = new Map();
  for (const { prompt, seed, weight } of points) {
    if (weight <= 0) continue;
    const key = `${seed} ${prompt}`;
    merged.set(key, { prompt, seed, weight: (merged.get(key)?.weight ?? 0) + weight });
  }
  const total = [...merged.values()].reduce((sum, point) => sum + point.weight, 0);
  const shares = [...merged.values()].map((point) => ({ ...point, weight: round(point.weight / total) }));
  return { points: shares, truncation };
}

/** A neighbour: the same captions, with a share `amount` of another seed's noise. */
export function neighbour(recipe, seed, amount) {
  const points = recipe.points.flatMap((point) => [
    { ...point, weight: point.weight * (1 - amount) },
    { ...point, seed, weight: point.weight * amount },
  ]);
  return blend(points, recipe.truncation);
}

export function keyOf(recipe) {
  return JSON.stringify([recipe.points.map(({ prompt, seed, weight }) => [prompt, seed, weight]), recipe.truncation]);
}

/** In words, for labels and file names: the captions, the largest share first. */
export function caption(recipe) {
  const shares = new Map();
  for (const { prompt, weight } of recipe.points) shares.set(prompt, (shares.get(prompt) ?? 0) + weight);
  const order = [...shares].sort((a, b) => b[1] - a[1]);
  if (order.length === 1) return order[0][0];
  return order.map(([prompt, share]) => `${Math.round(share * 100)}% ${prompt}`).join(", ");
}

export function seeds(recipe) {
  const all = [...new Set(recipe.points.map((point) => point.seed))];
  return all.length === 1 ? `seed ${all[0]}` : `seeds ${all.join(", ")}`;
}

export function fileName(recipe, ending) {
  const words = caption(recipe).normalize("NFKD").replace(/[^\p{Letter}\p{Number}]+/gu, "-").replace(/^-+|-+$/g, "");
  const parts = [words.slice(0, 60) || "picture", ...new Set(recipe.points.map((point) => point.seed))];
  return `${parts.slice(0, 4).join("-")}.${ending}`;
}

export function isSeed(value) {
  return Number.isInteger(value) && value >= 0 && value <= LAST_SEED;
}

export function randomSeed() {
  return crypto.getRandomValues(new Uint32Array(1))[0] % 100000;
}

function round(weight) {
  return Math.round(weight * 1e6) / 1e6;
}
