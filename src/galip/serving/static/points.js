// A field for a point of the space: a caption and a seed.

import { fromTemplate, nameButton } from "./elements.js";
import { toast } from "./notices.js";
import { isSeed, randomSeed } from "./recipe.js";
import { facts } from "./service.js";

/** Read a seed field; what is no seed is marked and gives null. */
export function readSeed(input) {
  const seed = input.value.trim() === "" ? NaN : Number(input.value);
  input.setAttribute("aria-invalid", String(!isSeed(seed)));
  return isSeed(seed) ? seed : null;
}

/** Take no more than the server does, and say so: a pasted text would lose its end without a word. */
export function limitCaption(input) {
  input.maxLength = facts.max_prompt;
  input.addEventListener("input", () => {
    if (input.value.length >= facts.max_prompt) toast(`A caption has at most ${facts.max_prompt} characters`);
  });
}

export class PointField {
  /**
   * `name` is what the point is called ("Start", "Top left"); `changed` is called after every change, with true if the
   * seed was what changed.
   */
  constructor({ name, prompt, seed, changed }) {
    this.element = fromTemplate("point-template");
    this.caption = this.element.querySelector(".caption");
    this.seedInput = this.element.querySelector(".seed");
    limitCaption(this.caption);
    this.caption.value = prompt;
    this.seedInput.value = seed;
    this.#seed = seed;
    const shuffle = this.element.querySelector(".shuffle");
    this.rename(name);
    this.caption.addEventListener("input", () => changed(false));
    this.seedInput.addEventListener("input", () => {
      this.#seed = readSeed(this.seedInput) ?? this.#seed;
      changed(true);
    });
    shuffle.addEventListener("click", () => {
      this.seed = randomSeed();
      changed(true);
    });
  }

  #seed;

  rename(name) {
    this.element.querySelector("legend").textContent = name;
    this.caption.setAttribute("aria-label", `${name}: caption`);
    this.seedInput.setAttribute("aria-label", `${name}: seed`);
    nameButton(this.element.querySelector(".shuffle"), `${name}: another seed`);
  }

  get prompt() {
    return this.caption.value.trim();
  }

  set prompt(prompt) {
    this.caption.value = prompt;
  }

  get seed() {
    return this.#seed;
  }

  set seed(seed) {
    this.#seed = seed;
    this.seedInput.value = seed;
    this.seedInput.setAttribute("aria-invalid", "false");
  }

  get ready() {
    return this.prompt !== "";
  }

  point(weight = 1) {
    return { prompt: this.prompt, seed: this.seed, weight };
  }
}

/** Read repeated `p` (captions) and `s` (seeds) of an address; missing ones come from `otherwise`. */
export function pointsOf(values, otherwise, count = null) {
  const prompts = values.getAll("p");
  const seeds = values.getAll("s").map(Number);
  const length = count ?? (prompts.length || otherwise.length);
  return Array.from({ length }, (_, at) => ({
    prompt: prompts[at] ?? otherwise[at % otherwise.length].prompt,
    seed: isSeed(seeds[at]) ? seeds[at] : otherwise[at % otherwise.length].seed,
  }));
}

/** The same, for writing: pairs for URLSearchParams. */
export function pointValues(points) {
  return points.flatMap(({ prompt, seed }) => [
    ["p", prompt],
    ["s", String(seed)],
  ]);
}
