// An image of the gallery with what can be done with it.

import { cached, picture } from "./cache.js";
import { Busy, dropBlob, fromTemplate, nameButton, save, showBlob } from "./elements.js";
import { caption, fileName, keyOf } from "./recipe.js";
import { wasAborted } from "./service.js";
import { keepButton } from "./shelf.js";
import { openViewer } from "./viewer.js";

export class Card {
  #busy;
  #image;
  #shown = null; // { recipe, link, name }
  #wanted = null;
  #updateKeep;

  /** `similar(recipe)` is called for "more like this". */
  constructor(similar) {
    this.element = fromTemplate("card-template");
    this.#busy = new Busy(this.element);
    this.#image = this.element.querySelector("img");
    const find = (name) => this.element.querySelector(name);
    find(".picture").addEventListener("click", () => this.#shown && openViewer(this.#shown.recipe, this.#shown.link));
    find(".similar").addEventListener("click", () => this.#shown && similar(this.#shown.recipe));
    find(".download").addEventListener("click", () => this.#download());
    this.#updateKeep = keepButton(find(".keep"), () => this.#shown);
  }

  /** Generate a recipe into the card. What was asked for later is never replaced by what was asked for earlier. */
  async draw(recipe, link, name, signal) {
    const wanted = { recipe, link, name };
    this.#wanted = wanted;
    const known = cached(recipe);
    this.#busy.set(!known);
    try {
      const blob = known ?? (await picture(recipe, signal));
      if (this.#wanted !== wanted) return;
      if (!this.#shown || keyOf(this.#shown.recipe) !== keyOf(recipe)) showBlob(this.#image, blob);
      this.#shown = wanted;
      this.#label();
      this.#busy.set(false);
      this.element.classList.remove("stale");
    } catch (error) {
      if (!wasAborted(error) && this.#wanted === wanted) {
        this.#busy.set(false);
        this.element.classList.add("stale"); // it shows something else than what was asked for
      }
      throw error;
    }
  }

  remove() {
    this.#wanted = null;
    dropBlob(this.#image);
    this.element.remove();
  }

  #label() {
    const { recipe, name } = this.#shown;
    const words = caption(recipe);
    this.#image.alt = `${words}, ${name}`;
    this.element.querySelector(".card-name").textContent = name;
    nameButton(this.element.querySelector(".picture"), `Open ${words}, ${name}`);
    nameButton(this.element.querySelector(".similar"), `More like ${name}`);
    nameButton(this.element.querySelector(".download"), `Download ${name}`);
    this.#updateKeep();
  }

  #download() {
    const blob = this.#shown && cached(this.#shown.recipe);
    if (blob) save(blob, fileName(this.#shown.recipe, "png"));
    else if (this.#shown) openViewer(this.#shown.recipe, this.#shown.link); // long ago: it offers to generate it again
  }
}
