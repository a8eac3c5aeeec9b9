// Puts the page together: facts of the model, tabs, the address, and the server's comings and goings.

import { flushAddress, readAddress, stepTo } from "./address.js";
import { wireAppearance } from "./appearance.js";
import { forgetAll } from "./cache.js";
import { DrawTab } from "./draw.js";
import { byId } from "./elements.js";
import { ExploreTab } from "./explore.js";
import { GridTab } from "./grid.js";
import { MorphTab } from "./morph.js";
import { report, watchServer } from "./notices.js";
import { facts, fetchFacts } from "./service.js";
import { loadShelf } from "./shelf.js";
import { Tabs } from "./tabs.js";
import { WalkTab } from "./walk.js";
import { copy, openViewer, wireViewer } from "./viewer.js";

const KINDS = { draw: DrawTab, morph: MorphTab, explore: ExploreTab, walk: WalkTab, grid: GridTab };

const made = {}; // tabs that have been opened, by name
let active = null;
let begun = false; // whether the server has said what it is
let drawnBy = ""; // the model that images of this page are from

const tabs = new Tabs(document.querySelector("[role=tablist]"), goTo);

/** Another tab, and a step that the Back button undoes. */
function goTo(name) {
  if (!begun) {
    location.hash = name; // where it begins, then
    return;
  }
  flushAddress();
  open(name);
  stepTo(name, made[name].values());
}

/** Show a tab; with `values` as an address has them, or else as it was left. */
function open(name, values = null) {
  if (active && active !== name) made[active].leave();
  const known = made[name];
  active = name;
  tabs.show(name);
  made[name] ??= new KINDS[name]();
  if (values) made[name].show(values);
  else if (known) known.refresh();
  else made[name].show(new URLSearchParams());
  document.title = `galip: ${name}`;
}

function openAddress() {
  const { tab, values } = readAddress();
  if (byId("viewer").open) byId("viewer").close();
  if (tab in KINDS) open(tab, values);
  else open("draw", new URLSearchParams());
}

function sayFacts() {
  byId("model").textContent = `${facts.model} · ${facts.side} px`;
  byId("model").title = `galip ${facts.version}, engine ${facts.engine}`;
  byId("model").hidden = false;
  byId("about").textContent = facts.about;
  byId("about").hidden = !facts.about;
  const now = JSON.stringify([facts.model, facts.weights ?? facts.version]);
  if (drawnBy && drawnBy !== now) forgetAll();
  drawnBy = now;
}

async function begin() {
  try {
    await fetchFacts();
  } catch (error) {
    report(error);
    return; // begun again when the server is there, or has its key
  }
  if (begun) return; // two attempts, both of which came through
  begun = true;
  sayFacts();
  loadShelf(openViewer);
  wireViewer({
    similar: (recipe) => {
      if (active !== "draw") goTo("draw");
      made.draw.similarTo(recipe);
    },
    addToWalk: (point) => {
      goTo("walk");
      made.walk.add(point);
    },
  });
  openAddress();
  addEventListener("hashchange", openAddress);
}

wireAppearance();
watchServer(() => {
  if (!begun) begin();
  else {
    sayFacts();
    made[active].refresh();
  }
});
byId("copy-link").addEventListener("click", () => {
  flushAddress();
  copy(location.href);
});
begin();
