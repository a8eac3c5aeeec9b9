// The tab Generate: images that follow the words while they are typed.

import { link, noteAddress } from "./address.js";
import { Card } from "./card.js";
import { byId, isPressed, nameButton, press } from "./elements.js";
import { announce, hideError, report } from "./notices.js";
import { limitCaption, readSeed } from "./points.js";
import { promptly } from "./queues.js";
import { LAST_SEED, blend, caption, isSeed, neighbour, plain, randomSeed } from "./recipe.js";
import { facts } from "./service.js";

const TOGETHER = 25; // milliseconds; keys that are pressed faster than that, by machines or at once, are one change
const COUNTS = [1, 4, 9, 16];
const START = { prompt: "3d emoji of red heart", seed: 7, count: 4, truncation: 1, amount: 0.14 };

const EXAMPLES = {
  emoji: [
    "a smiling face",
    "3d emoji of owl",
    "a green book",
    "a slice of pizza",
    "google emoji of woman",
    "a purple flower",
  ],
  general: ["a red bird on a branch", "a bowl of fruit", "a boat on a lake", "a street at night", "a dog in the snow"],
};

const STYLES = ["3d", "google", "flat"]; // words that captions of emoji begin with
const STYLED = new RegExp(`^(${STYLES.join("|")}) emoji of `);

export class DrawTab {
  #cards = [];
  #requests = new AbortController();
  #near = null; // the recipe whose neighbours are shown
  #soon = promptly(() => this.#draw(), TOGETHER);
  #seed = START.seed;

  constructor() {
    limitCaption(byId("draw-prompt"));
    this.#offerExamples();
    this.#offerStyles();
    this.#offerCounts();
    byId("draw-prompt").addEventListener("input", () => {
      this.#followWords();
      this.#soon();
    });
    byId("draw-form").addEventListener("submit", (event) => {
      event.preventDefault();
      if (!isPressed(byId("draw-lock"))) this.#setSeed(randomSeed());
      this.#draw();
    });
    byId("draw-seed").addEventListener("input", () => {
      this.#seed = readSeed(byId("draw-seed")) ?? this.#seed;
      this.#soon();
    });
    byId("draw-shuffle").addEventListener("click", () => {
      this.#setSeed(randomSeed());
      this.#draw();
    });
    byId("draw-lock").addEventListener("click", () => this.#lock(!isPressed(byId("draw-lock"))));
    byId("draw-variety").addEventListener("input", () => this.#draw());
    byId("near-amount").addEventListener("input", () => this.#draw());
    byId("near-leave").addEventListener("click", () => {
      this.#near = null;
      this.#draw();
      byId("draw-prompt").focus();
    });
  }

  show(values) {
    const number = (name, otherwise, fits) => {
      const value = values.has(name) ? Number(values.get(name)) : NaN;
      return fits(value) ? value : otherwise;
    };
    // On a slow line somebody may have begun to type before this page could listen.
    byId("draw-prompt").value = values.get("prompt") ?? (byId("draw-prompt").value || START.prompt);
    this.#setSeed(number("seed", START.seed, isSeed));
    this.#count = number("n", START.count, (n) => COUNTS.includes(n));
    byId("draw-variety").value = number("variety", START.truncation, (value) => value >= 0);
    byId("near-amount").value = number("different", START.amount, (value) => value > 0 && value <= 0.5);
    this.#lock(values.get("lock") === "1");
    const near = values.getAll("near").map(readPoint).filter(Boolean);
    this.#near = near.length ? blend(near, this.#truncation) : null;
    this.refresh();
  }

  values() {
    const values = [
      ["prompt", byId("draw-prompt").value.trim()],
      ["seed", this.#seed],
      ["n", this.#count],
    ];
    if (this.#truncation !== 1) values.push(["variety", this.#truncation]);
    if (isPressed(byId("draw-lock"))) values.push(["lock", 1]);
    if (this.#near) {
      values.push(["different", this.#amount]);
      values.push(...this.#near.points.map((point) => ["near", writePoint(point)]));
    }
    return values;
  }

  refresh() {
    this.#draw();
  }

  /** Nothing of this tab runs on behind another one. */
  leave() {
    this.#requests.abort();
  }

  /** Show neighbours of an image: this one first, then the same captions a little way off. */
  similarTo(recipe) {
    this.#near = recipe;
    byId("draw-variety").value = recipe.truncation;
    byId("draw-prompt").value = mainCaption(recipe);
    this.#setSeed(randomSeed());
    if (this.#count === 1) this.#count = 4;
    this.#draw();
    byId("near-text").scrollIntoView({ block: "nearest" });
    announce(`Images like this one: ${caption(recipe)}`);
  }

  get #truncation() {
    return Number(byId("draw-variety").value);
  }

  get #amount() {
    return Number(byId("near-amount").value);
  }

  get #count() {
    return Number(byId("draw-count").querySelector(":checked").value);
  }

  set #count(count) {
    byId("draw-count").querySelector(`[value="${count}"]`).checked = true;
  }

  #setSeed(seed) {
    this.#seed = seed;
    byId("draw-seed").value = seed;
    byId("draw-seed").setAttribute("aria-invalid", "false");
  }

  #lock(locked) {
    press(byId("draw-lock"), locked);
    nameButton(byId("draw-lock"), locked ? "Seed is kept; let it change" : "Keep this seed");
    byId("draw-again-text").textContent = locked ? "Generate" : "New images";
  }

  /** With other words, neighbours stay neighbours of the same noise; a blend of captions has no words to change. */
  #followWords() {
    if (!this.#near) return;
    const prompts = new Set(this.#near.points.map((point) => point.prompt));
    const prompt = byId("draw-prompt").value.trim();
    this.#near =
      prompts.size === 1 && prompt
        ? blend(this.#near.points.map((point) => ({ ...point, prompt })), this.#near.truncation)
        : null;
  }

  #recipes() {
    const count = this.#count;
    const seedAt = (at) => Math.min(this.#seed + at, LAST_SEED);
    if (this.#near) {
      const centre = { ...this.#near, truncation: this.#truncation };
      const around = Array.from({ length: count - 1 }, (_, at) => ({
        recipe: neighbour(centre, seedAt(at), this.#amount),
        name: `near ${seedAt(at)}`,
      }));
      return [{ recipe: centre, name: "this one" }, ...around];
    }
    const prompt = byId("draw-prompt").value.trim();
    if (!prompt) return [];
    return Array.from({ length: count }, (_, at) => ({
      recipe: plain(prompt, seedAt(at), this.#truncation),
      name: `seed ${seedAt(at)}`,
    }));
  }

  async #draw() {
    this.#requests.abort();
    this.#requests = new AbortController();
    const { signal } = this.#requests;
    const wanted = this.#recipes();
    byId("draw-empty").hidden = wanted.length > 0;
    byId("near").hidden = !this.#near;
    byId("near-text").textContent = this.#near ? `Like ${caption(this.#near)}` : "";
    byId("draw-variety-value").textContent = this.#truncation.toFixed(2);
    this.#layOut(wanted.length);
    noteAddress("draw", this.values());
    try {
      await Promise.all(
        wanted.map(({ recipe, name }, at) => this.#cards[at].draw(recipe, linkTo(recipe), name, signal)),
      );
      hideError();
      const count = wanted.length === 1 ? "One image" : `${wanted.length} images`;
      if (wanted.length) announce(`${count} of ${caption(wanted[0].recipe)}`);
    } catch (error) {
      report(error);
    }
  }

  #layOut(count) {
    while (this.#cards.length > count) this.#cards.pop().remove();
    while (this.#cards.length < count) {
      const card = new Card((recipe) => this.similarTo(recipe));
      this.#cards.push(card);
      byId("draw-pictures").append(card.element);
    }
    byId("draw-pictures").dataset.count = count;
  }

  #offerExamples() {
    const examples = facts.model.includes("emoji") ? EXAMPLES.emoji : EXAMPLES.general;
    for (const example of examples) {
      const chip = document.createElement("button");
      chip.type = "button";
      chip.className = "chip";
      chip.textContent = example;
      chip.addEventListener("click", () => {
        byId("draw-prompt").value = example;
        this.#followWords();
        this.#draw();
      });
      byId("draw-examples").append(chip);
    }
  }

  /** Words for a style: the one that is named already is taken out again. */
  #offerStyles() {
    byId("draw-styles-option").hidden = !facts.model.includes("emoji");
    for (const style of STYLES) {
      const chip = document.createElement("button");
      chip.type = "button";
      chip.className = "chip";
      chip.textContent = style;
      chip.title = `Begin the caption with "${style} emoji of"`;
      chip.addEventListener("click", () => {
        const words = byId("draw-prompt").value.trim();
        const bare = words.replace(STYLED, "").replace(/^(an?|the) /, "");
        byId("draw-prompt").value = words.startsWith(`${style} `) ? bare : `${style} emoji of ${bare}`;
        this.#followWords();
        this.#draw();
      });
      byId("draw-styles").append(chip);
    }
  }

  #offerCounts() {
    const counts = COUNTS.filter((count) => count === 1 || count <= Math.max(facts.max_n, 4));
    for (const count of counts) {
      const label = document.createElement("label");
      const radio = Object.assign(document.createElement("input"), { type: "radio", name: "draw-count", value: count });
      radio.addEventListener("change", () => this.#draw());
      label.append(radio, Object.assign(document.createElement("span"), { textContent: count }));
      byId("draw-count").append(label);
    }
    this.#count = START.count;
  }
}

/** A link to one image by itself. */
function linkTo(recipe) {
  const [{ prompt, seed }] = recipe.points;
  const values = [
    ["prompt", mainCaption(recipe)],
    ["seed", seed],
    ["n", 1],
  ];
  if (recipe.truncation !== 1) values.push(["variety", recipe.truncation]);
  if (recipe.points.length > 1) values.push(...recipe.points.map((point) => ["near", writePoint(point)]));
  else values[0][1] = prompt;
  return link("draw", values);
}

const mainCaption = (recipe) => recipe.points.reduce((a, b) => (b.weight > a.weight ? b : a)).prompt;

const writePoint = ({ seed, weight, prompt }) => `${seed}*${weight}*${prompt}`;

function readPoint(text) {
  const [, seed, weight, prompt] = /^(\d+)\*([\d.e-]+)\*(.+)$/.exec(text) ?? [];
  const point = { prompt, seed: Number(seed), weight: Number(weight) };
  return prompt && isSeed(point.seed) && point.weight > 0 ? point : null;
}
