// The one large image of Morph and Explore, generated to a canvas as fast as frames come.

import { Busy, nameButton } from "./elements.js";
import { announce } from "./notices.js";
import { caption } from "./recipe.js";
import { keepButton } from "./shelf.js";
import { openViewer } from "./viewer.js";

export class Screen {
  #holder;
  #canvas;
  #busy;
  #current = null;
  #updateKeep;

  /** `holder` gets the canvas and its buttons. */
  constructor(holder) {
    this.#holder = holder;
    this.#busy = new Busy(holder);
    const parts = document.getElementById("screen-template").content.cloneNode(true);
    this.#canvas = parts.querySelector("canvas");
    this.#canvas.width = this.#canvas.height = 1;
    const open = parts.querySelector(".open");
    nameButton(open, "Download this image");
    open.addEventListener("click", () => this.#current && openViewer(this.#current.recipe, this.#current.link));
    this.#updateKeep = keepButton(parts.querySelector(".keep"), () => this.#current);
    holder.append(parts);
  }

  /** Show an image; `link` leads back to it. Calls come one after the other, so frames never overtake each other. */
  async show(blob, recipe, link) {
    const bitmap = await createImageBitmap(blob);
    if (this.#canvas.width !== bitmap.width) this.#canvas.width = this.#canvas.height = bitmap.width;
    this.#canvas.getContext("2d").drawImage(bitmap, 0, 0);
    bitmap.close();
    this.#current = { recipe, link };
    this.#holder.classList.remove("stale");
    this.#canvas.setAttribute("aria-label", caption(recipe));
    this.#canvas.dataset.frames = Number(this.#canvas.dataset.frames ?? 0) + 1;
    this.#updateKeep();
    announce(caption(recipe));
  }

  set busy(busy) {
    this.#busy.set(busy);
  }

  /** Say that the image is not of what was asked for last, which could not be generated. */
  outdate() {
    this.#holder.classList.add("stale");
  }
}
