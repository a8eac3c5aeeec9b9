// Images that a person keeps: recipes, not files, on this device, for each model its own.

import { picture } from "./cache.js";
import { byId, fromTemplate, nameButton, press, showBlob } from "./elements.js";
import { inParallel } from "./queues.js";
import { caption, keyOf, seeds } from "./recipe.js";
import { remember, remembered } from "./remembered.js";
import { facts, wasAborted } from "./service.js";

const MOST = 60;

let kept = []; // { recipe, link }, the newest first
let loading = new AbortController();
let open = () => {};
const changed = new EventTarget();

const store = () => `kept.${facts.model}`;

export const isKept = (recipe) => kept.some((one) => keyOf(one.recipe) === keyOf(recipe));

export function toggleKept(recipe, link) {
  const here = isKept(recipe);
  if (here) kept = kept.filter((one) => keyOf(one.recipe) !== keyOf(recipe));
  else kept = [{ recipe, link }, ...kept].slice(0, MOST);
  remember(store(), kept.length ? kept : null);
  show();
  changed.dispatchEvent(new Event("change"));
}

/** A button that keeps what `current()` gives ({recipe, link}, or null) and shows whether it is kept. */
export function keepButton(button, current) {
  const update = () => {
    const here = current();
    const pressed = here !== null && isKept(here.recipe);
    press(button, pressed);
    nameButton(button, pressed ? "No longer keep this image" : "Keep this image");
  };
  button.addEventListener("click", () => {
    const here = current();
    if (here) toggleKept(here.recipe, here.link);
  });
  changed.addEventListener("change", update);
  update();
  return update;
}

/** `opener(recipe, link)` is called for an image that is chosen on the shelf. */
export function loadShelf(opener) {
  open = opener;
  kept = remembered(store(), []);
  show();
  changed.dispatchEvent(new Event("change"));
}

async function show() {
  loading.abort();
  loading = new AbortController();
  byId("shelf").hidden = kept.length === 0;
  const cards = kept.map(({ recipe, link }) => {
    const card = fromTemplate("kept-template");
    const words = `${caption(recipe)}, ${seeds(recipe)}`;
    card.querySelector("img").alt = words;
    nameButton(card.querySelector(".picture"), `Open: ${words}`);
    nameButton(card.querySelector(".remove"), `No longer keep: ${words}`);
    card.querySelector(".picture").addEventListener("click", () => open(recipe, link));
    card.querySelector(".remove").addEventListener("click", () => {
      toggleKept(recipe, link);
      byId("main").focus();
    });
    return card;
  });
  byId("shelf-pictures").replaceChildren(...cards);
  const { signal } = loading;
  const load = async ({ recipe }, at) => showBlob(cards[at].querySelector("img"), await picture(recipe, signal));
  try {
    await inParallel(kept, 2, load, signal);
  } catch (error) {
    // The shelf is an extra: it says nothing of its own, and comes again with the server.
    if (!wasAborted(error)) console.warn(error);
  }
}
