// The server behind the page: what to ask, how long to wait, and what its errors mean for a person.

import { remember, remembered } from "./remembered.js";

const PATIENCE = { 429: 8, 503: 60 }; // times that "busy" and "not ready" are waited out before they count as errors
const LONGEST = 45000; // milliseconds that a single image may take; the server's own limit is less
const PROXY_SAYS_GONE = [502, 504]; // and not the service itself, which would answer in its own words

/**
 * How the server is: "waiting" ({seconds, starting}), "answered", "gone", then "lost" ({seconds}) until "back", and
 * "locked" ({refused}: whether a key was given).
 */
export const news = new EventTarget();

/** What the server says of itself and its limits; it replaces all of this. */
export const facts = {
  model: "",
  side: 64,
  engine: "",
  version: "",
  max_size: 64,
  max_prompt: 500,
  max_n: 16,
  max_frames: 1200,
  about: "",
};

export class ServiceError extends Error {
  constructor(message, remedy, status) {
    super(message);
    this.remedy = remedy;
    this.status = status;
  }
}

export class Unreachable extends Error {}

export const wasAborted = (error) => error.name === "AbortError";

let notBefore = 0; // what "busy" taught all requests of this page, not only the one that was told
let lost = false;
let ownKey = remembered("key", null, () => sessionStorage);

/** The bytes of an image. `size` and `format` other than the defaults are for downloads. */
export async function draw(recipe, { signal, size = null, format = "png" } = {}) {
  const { points, truncation } = recipe;
  return await ask("app/draw", { body: { points, truncation, size, format }, signal, longest: LONGEST });
}

/** The bytes of a video through keyframes; `video` is the body of `/v1/images/interpolations`. */
export async function interpolate(video, signal) {
  return await ask("v1/images/interpolations", { body: video, signal });
}

export async function fetchFacts() {
  const blob = await ask("app/facts", { longest: LONGEST });
  Object.assign(facts, JSON.parse(await blob.text()));
  return facts;
}

/** Sides in pixels that can be asked for: the model's own and its doubles, `most` times as large at the most. */
export function sizesUpTo(most) {
  const sizes = [facts.side];
  for (let times = 2; times <= most && facts.side * times <= facts.max_size; times *= 2) sizes.push(facts.side * times);
  return sizes;
}

/** Give this key with every request from now on; the browser's tab remembers it until it is closed. */
export function useKey(key) {
  ownKey = key;
  remember("key", key, () => sessionStorage);
}

/** Ask again until the server answers; resolves when it does. Says "lost" before and "back" after. */
export async function findAgain(tryNow) {
  for (let pause = 1; ; pause = Math.min(pause * 2, 8)) {
    news.dispatchEvent(new CustomEvent("lost", { detail: { seconds: pause } }));
    await Promise.race([sleep(pause * 1000), tryNow()]);
    try {
      await fetchFacts();
      break;
    } catch (error) {
      if (!(error instanceof Unreachable)) break; // it answers, if only with an error, which the next request shows
    }
  }
  lost = false;
  news.dispatchEvent(new Event("back"));
}

async function ask(path, { body = null, signal = null, longest = 0 }) {
  for (let attempt = 1; ; attempt++) {
    await sleep(notBefore - performance.now(), signal);
    const response = await request(path, body, signal, longest);
    if (response.ok) {
      news.dispatchEvent(new Event("answered"));
      return response.blob;
    }
    if (attempt <= PATIENCE[response.status]) {
      const seconds = Math.min(Math.max(response.retryAfter || 2 ** (attempt - 1), 0.5), 60);
      // Pages that were turned away together should not come back together.
      notBefore = Math.max(notBefore, performance.now() + seconds * (1000 + 250 * Math.random()));
      const detail = { seconds: Math.ceil(seconds), starting: response.status === 503 };
      news.dispatchEvent(new CustomEvent("waiting", { detail }));
      continue;
    }
    if (response.status === 401) {
      news.dispatchEvent(new CustomEvent("locked", { detail: { refused: response.hadKey } }));
    }
    throw errorOf(response);
  }
}

async function request(path, body, signal, longest) {
  const stopper = new AbortController();
  const stop = () => stopper.abort();
  signal?.addEventListener("abort", stop);
  const timer = longest ? setTimeout(stop, longest) : null;
  const key = ownKey;
  try {
    signal?.throwIfAborted();
    const response = await fetch(new URL(path, document.baseURI), {
      method: body ? "POST" : "GET",
      headers: { ...(body && { "Content-Type": "application/json" }), ...(key && { Authorization: `Bearer ${key}` }) },
      body: body && JSON.stringify(body),
      signal: stopper.signal,
      cache: "no-store",
    });
    const { ok, status } = response;
    const retryAfter = Number(response.headers.get("Retry-After"));
    if (ok) return { ok, blob: await response.blob() };
    const text = await response.text();
    if (PROXY_SAYS_GONE.includes(status) && !ownError(text)) throw new Error(`a proxy answered with ${status}`);
    return { ok, status, retryAfter, text, hadKey: key !== null };
  } catch (error) {
    if (signal?.aborted) throw error;
    if (!lost) {
      lost = true;
      news.dispatchEvent(new Event("gone"));
    }
    throw new Unreachable(error.message);
  } finally {
    clearTimeout(timer);
    signal?.removeEventListener("abort", stop);
  }
}

const REMEDIES = {
  400: "Change it and try again.",
  403: "Ask whoever runs the server.",
  413: "Use fewer or shorter captions.",
  422: "Change it and try again.",
  429: "Too many people generate at once. Try again in a while.",
  503: "The server is not ready. Try again in a while.",
};

/** The error that the service speaks of; null where the answer is not its own but a proxy's page, say. */
function ownError(text) {
  try {
    return JSON.parse(text).error ?? null;
  } catch {
    return null;
  }
}

function errorOf({ status, text }) {
  const error = ownError(text);
  const message = sentence(plainWords(error?.message || `The server answered with error ${status}`));
  return new ServiceError(message, REMEDIES[status] ?? "Try again; if it stays, the server's log says more.", status);
}

/** Without the API's names of what a person calls a caption. */
function plainWords(text) {
  return text
    .replace(/^points\.\d+\.prompt:?/, "The caption")
    .replace(/^keyframes\.(\d+)\.prompt:?/, (_, number) => `The caption of image ${Number(number) + 1}`);
}

function sentence(text) {
  const trimmed = text.trim();
  return /[.!?]$/.test(trimmed) ? trimmed : `${trimmed}.`;
}

function sleep(milliseconds, signal = null) {
  if (milliseconds <= 0) return undefined;
  return new Promise((resolve, reject) => {
    const timer = setTimeout(resolve, milliseconds);
    signal?.addEventListener("abort", () => {
      clearTimeout(timer);
      reject(signal.reason);
    });
  });
}
