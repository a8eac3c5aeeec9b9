// The tab Walk: images in a row, and the video that leads through them.

import { noteAddress } from "./address.js";
import { picture } from "./cache.js";
import { Busy, byId, dropBlob, fillSelect, fromTemplate, lessMotion, nameButton, showBlob } from "./elements.js";
import { announce, hideError, report, showError } from "./notices.js";
import { PointField, pointValues, pointsOf } from "./points.js";
import { debounced } from "./queues.js";
import { plain, randomSeed } from "./recipe.js";
import { facts, interpolate, sizesUpTo, wasAborted } from "./service.js";

const START = [
  { prompt: "a yellow smiling face", seed: 3 },
  { prompt: "an orange pumpkin", seed: 11 },
  { prompt: "a red apple", seed: 4 },
];
const EASINGS = [
  ["smooth", "Gentle"],
  ["linear", "Even"],
];
const TYPES = { "video/mp4": "mp4", "image/webp": "webp", "image/gif": "gif" };
const MOST = 24; // keyframes

export class WalkTab {
  #rows = []; // { element, field, requests }
  #busy = new Busy(byId("walk-screen"));
  #making = null; // AbortController of the video that is being made
  #file = null; // its address, once it is there

  constructor() {
    fillSelect(byId("walk-easing"), EASINGS, "smooth");
    const sizes = sizesUpTo(8);
    fillSelect(byId("walk-size"), sizes.map((side) => [side, `${side} px`]), sizes.findLast((side) => side <= 512));
    byId("walk-add").addEventListener("click", () => {
      const last = this.#rows.at(-1).field;
      const { caption } = this.add({ prompt: last.prompt, seed: randomSeed() });
      caption.focus();
      caption.select();
    });
    byId("walk-make").addEventListener("click", () => (this.#making ? this.#making.abort() : this.#make()));
    for (const name of ["seconds", "fps", "easing", "size", "format", "loop"]) {
      byId(`walk-${name}`).addEventListener("change", () => this.#changed());
    }
  }

  show(values) {
    const chosen = (name, otherwise) => {
      const select = byId(`walk-${name}`);
      const wanted = values.get(name) ?? otherwise;
      if ([...select.options].some((option) => option.value === wanted)) select.value = wanted;
    };
    while (this.#rows.length) this.#rows.pop().element.remove();
    for (const point of pointsOf(values, START).slice(0, MOST)) this.#append(point);
    while (this.#rows.length < 2) this.#append(START[this.#rows.length]);
    const seconds = Number(values.get("seconds"));
    byId("walk-seconds").value = seconds >= 0.2 && seconds <= 10 ? seconds : 1;
    chosen("fps", "24");
    chosen("easing", "smooth");
    chosen("size");
    chosen("format");
    byId("walk-loop").checked = values.get("loop") !== "0";
    this.refresh();
  }

  values() {
    const values = pointValues(this.#rows.map(({ field }) => field.point()));
    for (const name of ["seconds", "fps", "easing", "size", "format"]) values.push([name, byId(`walk-${name}`).value]);
    return [...values, ["loop", byId("walk-loop").checked ? 1 : 0]];
  }

  refresh() {
    this.#changed();
    this.#rows.forEach((row) => this.#thumb(row));
  }

  leave() {
    for (const row of this.#rows) row.requests.abort();
  }

  /** Add a keyframe at the end; gives its field. */
  add(point) {
    if (this.#rows.length >= MOST) return this.#rows.at(-1).field;
    const row = this.#append(point);
    this.#changed();
    this.#thumb(row);
    announce(`Image ${this.#rows.length} added`);
    return row.field;
  }

  #append(point) {
    const row = { element: fromTemplate("keyframe-template"), requests: new AbortController() };
    const soon = debounced(() => this.#thumb(row), 60);
    const changed = () => {
      this.#changed();
      soon();
    };
    row.field = new PointField({ name: "", ...point, changed });
    row.element.querySelector(".thumb").after(row.field.element);
    row.element.querySelector(".up").addEventListener("click", (event) => this.#move(row, -1, event.currentTarget));
    row.element.querySelector(".down").addEventListener("click", (event) => this.#move(row, 1, event.currentTarget));
    row.element.querySelector(".remove").addEventListener("click", () => this.#remove(row));
    this.#rows.push(row);
    byId("walk-keyframes").append(row.element);
    return row;
  }

  #move(row, by, button) {
    const from = this.#rows.indexOf(row);
    this.#rows.splice(from, 1);
    this.#rows.splice(from + by, 0, row);
    byId("walk-keyframes").insertBefore(row.element, this.#rows[from + by + 1]?.element ?? null);
    this.#changed();
    const other = row.element.querySelector(by < 0 ? ".down" : ".up");
    (button.disabled ? other : button).focus(); // moving in the page takes the focus away
    announce(`Now image ${from + by + 1} of ${this.#rows.length}`);
  }

  #remove(row) {
    const at = this.#rows.indexOf(row);
    row.requests.abort();
    dropBlob(row.element.querySelector("img"));
    row.element.remove();
    this.#rows.splice(at, 1);
    this.#changed();
    this.#rows[Math.min(at, this.#rows.length - 1)].field.caption.focus();
    announce(`Removed; ${this.#rows.length} images are left`);
  }

  #changed() {
    this.#rows.forEach(({ element, field }, at) => {
      const name = `Image ${at + 1}`;
      field.rename(name);
      const [up, down, remove] = [".up", ".down", ".remove"].map((find) => element.querySelector(find));
      nameButton(up, `${name}: earlier`);
      nameButton(down, `${name}: later`);
      nameButton(remove, `${name}: remove`);
      up.disabled = at === 0;
      down.disabled = at === this.#rows.length - 1;
      remove.disabled = this.#rows.length <= 2;
    });
    byId("walk-add").disabled = this.#rows.length >= MOST;
    const { fps } = this.#request();
    const length = this.#length();
    const fits = length <= facts.max_frames;
    byId("walk-length").textContent = fits
      ? `${(length / fps).toFixed(1)} s, ${length} images`
      : `${length} images; this server makes videos of at most ${facts.max_frames}. ` +
        "Take fewer images, seconds, or images a second.";
    byId("walk-length").classList.toggle("wrong", !fits);
    byId("walk-make").disabled = !fits && !this.#making;
    noteAddress("walk", this.values());
  }

  /** Images of the video. */
  #length() {
    const { keyframes, frames, loop } = this.#request();
    return loop ? keyframes.length * frames : (keyframes.length - 1) * frames + 1;
  }

  async #thumb(row) {
    row.requests.abort();
    row.requests = new AbortController();
    const { signal } = row.requests;
    if (!row.field.ready) return;
    try {
      const blob = await picture(plain(row.field.prompt, row.field.seed), signal);
      if (!signal.aborted) showBlob(row.element.querySelector("img"), blob);
    } catch (error) {
      report(error);
    }
  }

  #request() {
    const fps = Number(byId("walk-fps").value);
    const seconds = Math.min(Math.max(Number(byId("walk-seconds").value) || 1, 0.2), 10);
    return {
      keyframes: this.#rows.map(({ field }) => ({ prompt: field.prompt, seed: field.seed })),
      frames: Math.max(Math.round(seconds * fps), 1),
      fps,
      loop: byId("walk-loop").checked,
      easing: byId("walk-easing").value,
      size: Number(byId("walk-size").value),
      output_format: byId("walk-format").value,
    };
  }

  /** Say how long the video has been in the making; gives a function that ends it. */
  #countSeconds(length) {
    const begun = performance.now();
    const say = () => {
      const seconds = Math.round((performance.now() - begun) / 1000);
      byId("walk-wait").textContent = `${length} images are being generated: ${seconds} s so far.`;
    };
    const timer = setInterval(say, 1000);
    say();
    return () => {
      clearInterval(timer);
      byId("walk-wait").textContent = "";
    };
  }

  async #make() {
    const empty = this.#rows.find(({ field }) => !field.ready);
    if (empty) {
      empty.field.caption.focus();
      announce("This image has no caption yet");
      return;
    }
    hideError();
    this.#making = new AbortController();
    byId("walk-make-text").textContent = "Stop";
    this.#busy.set(true);
    const stopCounting = this.#countSeconds(this.#length());
    announce("The video is being made");
    try {
      this.#showFilm(await interpolate(this.#request(), this.#making.signal));
      announce("The video is ready");
    } catch (error) {
      if (wasAborted(error)) announce("Stopped");
      else report(error);
    } finally {
      this.#making = null;
      byId("walk-make-text").textContent = "Make the video";
      this.#busy.set(false);
      stopCounting();
      this.#changed(); // the video may have been stopped because it is too long by now
    }
  }

  #showFilm(blob) {
    if (this.#file) URL.revokeObjectURL(this.#file);
    this.#file = URL.createObjectURL(blob);
    const type = blob.type.split(";")[0];
    const video = type.startsWith("video/");
    const player = document.createElement(video ? "video" : "img");
    const words = this.#rows.map(({ field }) => field.prompt).join(", then ");
    if (video) {
      Object.assign(player, { controls: true, loop: true, muted: true, playsInline: true, autoplay: !lessMotion() });
      player.setAttribute("aria-label", `Video: ${words}`);
      player.addEventListener("error", () => {
        // Also what playing a video that has been replaced since ends with.
        if (player.isConnected) showError("This browser cannot play the video.", "Choose WebP as file, or download it.");
      });
    } else player.alt = `Video: ${words}`;
    player.src = this.#file;
    byId("walk-screen").replaceChildren(player);
    const download = byId("walk-download");
    download.href = this.#file;
    download.download = `walk.${TYPES[type] ?? byId("walk-format").value}`;
    download.hidden = false;
  }
}
