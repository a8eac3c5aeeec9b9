// The page's address says what is shown: `#tab?name=value&...`. Behind the # it stays with the person: no log has it.

import { debounced } from "./queues.js";

const PAUSE = 300; // browsers refuse an address that changes with every movement

export function readAddress() {
  const [tab, query = ""] = location.hash.slice(1).split("?", 2);
  return { tab, values: new URLSearchParams(query) };
}

export function link(tab, values) {
  return new URL(`#${tab}?${new URLSearchParams(values)}`, location.href).href;
}

let newest = null;

const write = debounced(() => flushAddress(), PAUSE);

/** Say what is shown, soon. */
export function noteAddress(tab, values) {
  newest = link(tab, values);
  write();
}

/** Say it now: before a link is copied. */
export function flushAddress() {
  if (newest && newest !== location.href) history.replaceState(null, "", newest);
  newest = null;
}

/** A step that the Back button undoes: another tab. Flush before what is shown changes. */
export function stepTo(tab, values) {
  newest = null;
  const next = link(tab, values);
  if (next !== location.href) history.pushState(null, "", next);
}
