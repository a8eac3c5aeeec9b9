// One image, large: its words and seed, downloads, and where to go from it.

import { cached, picture } from "./cache.js";
import { Busy, byId, dropBlob, fillSelect, save, showBlob } from "./elements.js";
import { report, toast } from "./notices.js";
import { caption, fileName, seeds } from "./recipe.js";
import { draw, facts, sizesUpTo } from "./service.js";
import { keepButton } from "./shelf.js";

let shown = null; // { recipe, link }
let updateKeep = () => {};
let drawing = null; // whether the image is being generated
let saving = null; // and whether a file is

/** `similar(recipe)` and `addToWalk(point)` lead to other tabs. */
export function wireViewer({ similar, addToWalk }) {
  const viewer = byId("viewer");
  drawing = new Busy(viewer.querySelector(".viewer-picture"));
  saving = new Busy(byId("viewer-download"));
  updateKeep = keepButton(byId("viewer-keep"), () => shown);
  byId("viewer-keep").addEventListener("click", sayKept);
  byId("viewer-download").addEventListener("click", () => download());
  byId("viewer-link").addEventListener("click", () => copy(shown.link));
  byId("viewer-similar").addEventListener("click", () => {
    viewer.close();
    similar(shown.recipe);
  });
  byId("viewer-walk").addEventListener("click", () => {
    viewer.close();
    addToWalk(shown.recipe.points[0]);
  });
  viewer.addEventListener("click", (event) => {
    if (event.target === viewer) viewer.close(); // outside of it
  });
}

export async function openViewer(recipe, link) {
  shown = { recipe, link };
  const words = caption(recipe);
  byId("viewer-caption").textContent = words;
  byId("viewer-image").alt = words;
  const variety = recipe.truncation === 1 ? "" : `, variety ${recipe.truncation}`;
  const enlarged = `Generated at ${facts.side} px; larger sizes are enlarged.`;
  byId("viewer-made").textContent = `${facts.model}, ${seeds(recipe)}${variety}. ${enlarged}`;
  fillSelect(
    byId("viewer-size"),
    sizesUpTo(16).map((side) => [side, `${side} px`]),
    byId("viewer-size").value,
  );
  byId("viewer-walk").hidden = recipe.points.length > 1;
  updateKeep();
  sayKept();
  byId("viewer").showModal();
  if (!cached(recipe)) dropBlob(byId("viewer-image")); // of the image before
  drawing.set(true);
  try {
    const blob = await picture(recipe);
    if (shown.recipe === recipe) showBlob(byId("viewer-image"), blob);
  } catch (error) {
    report(error);
    byId("viewer").close(); // what is wrong is said behind it
  } finally {
    if (shown.recipe === recipe) drawing.set(false);
  }
}

export async function copy(link) {
  try {
    await navigator.clipboard.writeText(link);
    toast("Link copied");
  } catch {
    toast("The browser does not let pages copy here: take the link from the address bar");
  }
}

function sayKept() {
  byId("viewer-keep-text").textContent = byId("viewer-keep").getAttribute("aria-pressed") === "true" ? "Kept" : "Keep";
}

async function download() {
  const { recipe } = shown;
  const [size, format] = [Number(byId("viewer-size").value), byId("viewer-format").value];
  saving.set(true);
  try {
    const blob = await draw(recipe, { size: size === facts.side ? null : size, format });
    save(blob, fileName(recipe, format === "jpeg" ? "jpg" : format));
  } catch (error) {
    byId("viewer").close();
    report(error);
  } finally {
    saving.set(false);
  }
}
