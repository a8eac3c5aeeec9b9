// The tab Explore: a field between four captions, and a hand that moves over it.

import { link, noteAddress } from "./address.js";
import { cached, picture } from "./cache.js";
import { byId } from "./elements.js";
import { hideError, report } from "./notices.js";
import { PointField, pointValues, pointsOf } from "./points.js";
import { Newest, debounced, inParallel } from "./queues.js";
import { blend, randomSeed } from "./recipe.js";
import { Screen } from "./screen.js";

const START = [
  { prompt: "a yellow smiling face", seed: 3 },
  { prompt: "a red heart", seed: 8 },
  { prompt: "a blue square", seed: 5 },
  { prompt: "a green leaf", seed: 12 },
];
const CORNERS = ["Top left", "Top right", "Bottom left", "Bottom right"];
const MAP = 5; // images in a row and in a column of the map
const STEP = 0.02;
const FAST = 5; // times as far with Shift
const ARROWS = { ArrowLeft: [-1, 0], ArrowRight: [1, 0], ArrowUp: [0, -1], ArrowDown: [0, 1] };

export class ExploreTab {
  #screen = new Screen(byId("explore-screen"));
  #newest = new Newest((place) => this.#frame(place));
  #corners;
  #shares = [];
  #place = { x: 0.5, y: 0.5 };
  #mapRequests = new AbortController();
  #mapSoon = debounced(() => this.#drawMap(), 200);

  constructor() {
    this.#corners = START.map((start, at) => {
      const changed = (seedChanged) => this.#cornerChanged(at, seedChanged);
      return new PointField({ name: CORNERS[at], ...start, changed });
    });
    const field = byId("explore-field");
    this.#corners.forEach(({ element }, at) => {
      element.classList.add(`corner-${at}`);
      if (at < 2) byId("explore-pad").before(element);
      else field.append(element);
      const share = document.createElement("li");
      // No <output>: it would be read aloud with every movement.
      for (const className of ["name", "value"]) {
        share.append(Object.assign(document.createElement("span"), { className, dir: "auto" }));
      }
      this.#shares.push(share);
      byId("explore-shares").append(share);
    });
    this.#wirePad(byId("explore-pad"));
    byId("explore-linked").addEventListener("change", () => {
      if (byId("explore-linked").checked) this.#eachSeed(() => this.#corners[0].seed);
      this.refresh();
    });
    byId("explore-shuffle").addEventListener("click", () => {
      const one = randomSeed();
      this.#eachSeed(() => (byId("explore-linked").checked ? one : randomSeed()));
      this.refresh();
    });
  }

  show(values) {
    const points = pointsOf(values, START, 4);
    points.forEach(({ prompt, seed }, at) => {
      this.#corners[at].prompt = prompt;
      this.#corners[at].seed = seed;
    });
    byId("explore-linked").checked = points.every(({ seed }) => seed === points[0].seed);
    const within = (name) => {
      const value = values.has(name) ? Number(values.get(name)) : 0.5;
      return value >= 0 && value <= 1 ? value : 0.5;
    };
    this.#place = { x: within("x"), y: within("y") };
    this.refresh();
  }

  values({ x, y } = this.#place) {
    return [...pointValues(this.#corners.map((corner) => corner.point())), ["x", x], ["y", y]];
  }

  refresh() {
    this.#follow();
    this.#mapSoon();
  }

  leave() {
    this.#mapRequests.abort();
  }

  #eachSeed(seed) {
    for (const corner of this.#corners) corner.seed = seed();
  }

  #cornerChanged(at, seedChanged) {
    if (seedChanged && byId("explore-linked").checked) this.#eachSeed(() => this.#corners[at].seed);
    this.refresh();
  }

  #wirePad(pad) {
    const toHand = (event) => {
      const box = pad.getBoundingClientRect();
      this.#moveTo((event.clientX - box.left) / box.width, (event.clientY - box.top) / box.height);
    };
    pad.addEventListener("pointerdown", (event) => {
      if (event.button !== 0) return;
      pad.setPointerCapture(event.pointerId);
      pad.classList.add("held");
      toHand(event);
    });
    pad.addEventListener("pointermove", (event) => {
      if (pad.hasPointerCapture(event.pointerId)) toHand(event);
    });
    pad.addEventListener("lostpointercapture", () => pad.classList.remove("held"));
    pad.addEventListener("keydown", (event) => {
      const { x, y } = this.#place;
      const arrow = ARROWS[event.key];
      if (event.key === "Home") this.#moveTo(0.5, 0.5);
      else if (arrow) {
        const step = STEP * (event.shiftKey ? FAST : 1);
        this.#moveTo(x + arrow[0] * step, y + arrow[1] * step);
      } else return;
      event.preventDefault();
    });
  }

  #moveTo(x, y) {
    const onto = (value) => Math.round(Math.min(Math.max(value, 0), 1) * 200) / 200;
    this.#place = { x: onto(x), y: onto(y) };
    this.#follow();
  }

  #recipe({ x, y }) {
    const weights = [(1 - x) * (1 - y), x * (1 - y), (1 - x) * y, x * y];
    return blend(this.#corners.map((corner, at) => corner.point(weights[at])));
  }

  #follow() {
    const { x, y } = this.#place;
    const [across, down] = [Math.round(x * 100), Math.round(y * 100)];
    const pad = byId("explore-pad");
    pad.setAttribute("aria-valuenow", across);
    pad.setAttribute("aria-valuetext", `${across}% across, ${down}% down`);
    byId("explore-puck").style.left = `${x * 100}%`;
    byId("explore-puck").style.top = `${y * 100}%`;
    [(1 - x) * (1 - y), x * (1 - y), (1 - x) * y, x * y].forEach((share, at) => {
      const [name, value] = this.#shares[at].children;
      name.textContent = this.#corners[at].prompt;
      value.textContent = `${Math.round(share * 100)}%`;
      this.#shares[at].style.setProperty("--share", share);
    });
    noteAddress("explore", this.values());
    if (this.#corners.every((corner) => corner.ready)) this.#newest.ask(this.#place).catch(report);
  }

  async #frame(place) {
    const recipe = this.#recipe(place);
    this.#screen.busy = true;
    try {
      await this.#screen.show(cached(recipe) ?? (await picture(recipe)), recipe, link("explore", this.values(place)));
      hideError();
    } catch (error) {
      this.#screen.outdate();
      report(error);
    } finally {
      this.#screen.busy = false;
    }
  }

  async #drawMap() {
    this.#mapRequests.abort();
    this.#mapRequests = new AbortController();
    if (!this.#corners.every((corner) => corner.ready)) return;
    const { signal } = this.#mapRequests;
    const map = byId("explore-map");
    const cells = Array.from({ length: MAP * MAP }, (_, at) => ({ column: at % MAP, row: Math.floor(at / MAP) }));
    const load = async ({ column, row }) => {
      // Each image is that of its own middle, so that the puck lies where the map says.
      const blob = await picture(this.#recipe({ x: (column + 0.5) / MAP, y: (row + 0.5) / MAP }), signal);
      const bitmap = await createImageBitmap(blob);
      if (!signal.aborted) {
        const side = bitmap.width;
        if (map.width !== side * MAP) map.width = map.height = side * MAP;
        map.getContext("2d").drawImage(bitmap, column * side, row * side);
      }
      bitmap.close();
    };
    try {
      await inParallel(cells, 2, load, signal, () => this.#newest.running);
    } catch (error) {
      report(error);
    }
  }
}
