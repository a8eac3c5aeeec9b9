// What the page says: errors, waiting, a server that is gone, and a quiet voice for screen readers.

import { byId } from "./elements.js";
import { debounced } from "./queues.js";
import { ServiceError, Unreachable, findAgain, news, useKey, wasAborted } from "./service.js";

const SAID_AFTER = 700; // milliseconds: who types wants to hear the end of it, not every letter

/** Say something to screen readers when things have come to rest. */
export const announce = debounced((text) => {
  byId("announcer").textContent = text;
}, SAID_AFTER);

let toastTimer = null;

/** Say something in passing, to everybody. */
export function toast(text) {
  byId("announcer").textContent = text;
  const element = byId("toast");
  element.textContent = text;
  element.hidden = false;
  element.hidePopover?.();
  element.showPopover?.(); // above a dialog too
  clearTimeout(toastTimer);
  toastTimer = setTimeout(() => (element.hidden = true), 2500);
}

export function showError(message, remedy = "") {
  byId("error-text").textContent = message;
  byId("error-remedy").textContent = remedy;
  byId("error-key").hidden = true;
  byId("error").hidden = false;
}

export function hideError() {
  byId("error").hidden = true;
}

/** Show what went wrong with a request. What was given up for something newer did not. */
export function report(error) {
  if (wasAborted(error) || error instanceof Unreachable) return; // the latter has a notice of its own
  if (error.status === 401) {
    showError("This server asks for a key.");
    byId("error-key").hidden = false;
  } else if (error instanceof ServiceError) showError(error.message, error.remedy);
  else {
    showError("Something went wrong on this page.", "Reload it; the address keeps what you have made.");
    console.error(error);
  }
}

/** Follow the server's news; `refresh` is called when it is there again. */
export function watchServer(refresh) {
  let waiting = null;
  byId("error-close").addEventListener("click", hideError);
  news.addEventListener("waiting", ({ detail }) => {
    const why = detail.starting ? "The server is getting ready." : "Many images are being generated.";
    byId("waiting-text").textContent = `${why} Trying again in ${detail.seconds} s.`;
    byId("waiting").hidden = false;
    announce(`${why} Waiting.`);
    clearTimeout(waiting);
    // What was waited for may have been given up meanwhile.
    waiting = setTimeout(() => (byId("waiting").hidden = true), (detail.seconds + 5) * 1000);
  });
  news.addEventListener("answered", () => (byId("waiting").hidden = true));
  news.addEventListener("lost", ({ detail }) => {
    byId("waiting").hidden = true;
    const often = detail.seconds === 1 ? "second" : `${detail.seconds} seconds`;
    byId("unreachable-text").textContent = navigator.onLine
      ? `Is galip serve still running? Trying again every ${often}.`
      : "This device is offline. The page goes on by itself when it is back.";
    byId("unreachable").hidden = false;
  });
  news.addEventListener("back", () => {
    byId("unreachable").hidden = true;
    announce("The server answers again.");
    refresh();
  });
  const tryNow = () =>
    new Promise((resolve) => {
      byId("retry").addEventListener("click", resolve, { once: true });
      addEventListener("online", resolve, { once: true });
      news.addEventListener("answered", resolve, { once: true }); // another request got through
    });
  news.addEventListener("gone", () => findAgain(tryNow));
  const askForKey = () => byId("key-dialog").open || byId("key-dialog").showModal();
  news.addEventListener("locked", ({ detail }) => {
    byId("key-wrong").hidden = !detail.refused;
    byId("key").setAttribute("aria-invalid", String(detail.refused));
    askForKey();
  });
  byId("error-key").addEventListener("click", askForKey);
  byId("key-form").addEventListener("submit", () => {
    useKey(byId("key").value.trim());
    byId("key").value = "";
    hideError();
    refresh();
  });
}
