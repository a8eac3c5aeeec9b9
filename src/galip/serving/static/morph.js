// The tab Morph: from one caption to another under the hand.

import { link, noteAddress } from "./address.js";
import { cached, picture } from "./cache.js";
import { byId, isPressed, press, showBlob } from "./elements.js";
import { hideError, report } from "./notices.js";
import { PointField, pointValues, pointsOf } from "./points.js";
import { Newest, debounced, inParallel } from "./queues.js";
import { blend } from "./recipe.js";
import { Screen } from "./screen.js";

const START = [
  { prompt: "a yellow smiling face", seed: 3 },
  { prompt: "a green apple", seed: 3 },
];
const FRAMES = 9; // of the strip under the image
const SWEEP = 4000; // milliseconds from one end to the other when it plays

export class MorphTab {
  #screen = new Screen(byId("morph-screen"));
  #newest = new Newest((t) => this.#frame(t));
  #ends;
  #strip = [];
  #stripRequests = new AbortController();
  #stripSoon = debounced(() => this.#drawStrip(), 150);

  constructor() {
    this.#ends = START.map((start, at) => {
      const changed = (seedChanged) => this.#endChanged(at, seedChanged);
      return new PointField({ name: ["Start", "End"][at], ...start, changed });
    });
    byId("morph-ends").prepend(this.#ends[0].element);
    byId("morph-ends").append(this.#ends[1].element);
    for (let at = 0; at < FRAMES; at++) {
      const image = new Image();
      image.alt = "";
      image.addEventListener("click", () => {
        this.#stop();
        this.#t = at / (FRAMES - 1);
        this.#follow();
      });
      this.#strip.push(image);
      byId("morph-strip").append(image);
    }
    byId("morph-slider").addEventListener("input", () => {
      this.#stop();
      this.#follow();
    });
    byId("morph-play").addEventListener("click", () => (isPressed(byId("morph-play")) ? this.#stop() : this.#play()));
    byId("morph-swap").addEventListener("click", () => {
      const [first, second] = this.#ends.map((end) => end.point());
      this.#fill([second, first]);
      this.#t = 1 - this.#t; // the image stays
      this.refresh();
    });
    byId("morph-linked").addEventListener("change", () => {
      if (byId("morph-linked").checked) this.#ends[1].seed = this.#ends[0].seed;
      this.refresh();
    });
  }

  show(values) {
    const points = pointsOf(values, START, 2);
    this.#fill(points);
    byId("morph-linked").checked = points[0].seed === points[1].seed;
    const t = values.has("t") ? Number(values.get("t")) : 0.5;
    this.#t = t >= 0 && t <= 1 ? t : 0.5;
    this.refresh();
  }

  values(t = this.#t) {
    return [...pointValues(this.#ends.map((end) => end.point())), ["t", t]];
  }

  refresh() {
    this.#follow();
    this.#stripSoon();
  }

  leave() {
    this.#stop();
    this.#stripRequests.abort();
  }

  get #t() {
    return Number(byId("morph-slider").value) / 100;
  }

  set #t(t) {
    byId("morph-slider").value = t * 100;
  }

  #fill(points) {
    points.forEach(({ prompt, seed }, at) => {
      this.#ends[at].prompt = prompt;
      this.#ends[at].seed = seed;
    });
  }

  #endChanged(at, seedChanged) {
    if (seedChanged && byId("morph-linked").checked) this.#ends[1 - at].seed = this.#ends[at].seed;
    this.refresh();
  }

  #recipe(t) {
    const [start, end] = this.#ends;
    return blend([start.point(1 - t), end.point(t)]);
  }

  #follow() {
    const percent = Math.round(this.#t * 100);
    byId("morph-slider").setAttribute("aria-valuetext", `${percent}% of the way`);
    noteAddress("morph", this.values());
    if (this.#ends.every((end) => end.ready)) this.#newest.ask(this.#t).catch(report);
  }

  async #frame(t) {
    const recipe = this.#recipe(t);
    this.#screen.busy = true;
    try {
      await this.#screen.show(cached(recipe) ?? (await picture(recipe)), recipe, link("morph", this.values(t)));
      hideError();
    } catch (error) {
      this.#stop();
      this.#screen.outdate();
      report(error);
    } finally {
      this.#screen.busy = false;
    }
  }

  async #drawStrip() {
    this.#stripRequests.abort();
    this.#stripRequests = new AbortController();
    if (!this.#ends.every((end) => end.ready)) return;
    const { signal } = this.#stripRequests;
    const load = async (image, at) => {
      const blob = await picture(this.#recipe(at / (FRAMES - 1)), signal);
      if (!signal.aborted) showBlob(image, blob);
    };
    try {
      await inParallel(this.#strip, 2, load, signal, () => this.#newest.running);
    } catch (error) {
      report(error);
    }
  }

  #play() {
    press(byId("morph-play"), true);
    byId("morph-play-text").textContent = "Pause";
    const begun = performance.now() - this.#t * SWEEP;
    const step = () => {
      if (!isPressed(byId("morph-play"))) return;
      const turns = (performance.now() - begun) / SWEEP;
      const t = turns % 2 > 1 ? 2 - (turns % 2) : turns % 2; // to and fro
      this.#t = Math.round(t * 200) / 200; // the slider's own steps: the second time round all of them are known
      this.#follow();
      requestAnimationFrame(step);
    };
    requestAnimationFrame(step);
  }

  #stop() {
    press(byId("morph-play"), false);
    byId("morph-play-text").textContent = "Play";
  }
}
