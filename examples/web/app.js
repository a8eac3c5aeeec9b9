// The page: what is typed goes to the worker, what it draws is shown.
//
// `body[data-state]` is loading, ready, drawing, done, refused (this caption or seed cannot be drawn) or failed.

import { SEED_LIMIT, parseSeed } from "./noise.js";

const EXAMPLES = ["a red heart", "a green apple", "3d emoji of sun", "flat emoji of blue car", "an orange pumpkin"];
const OTHERS = 8;
const REST = 500; // milliseconds without a new picture, after which it is told and its address shown
const SHORT_SEEDS = 2 ** 32; // those that are picked here can be copied by hand

const element = (id) => document.getElementById(id);
const [prompt, seed, message, picture, facts, others] = ["prompt", "seed", "message", "picture", "facts", "others"].map(element);

let worker;
let order = 0; // of the newest drawing that was asked for; what is older is not shown
let asked = null;
let sentence = null;
let resting;

function setState(state) {
  document.body.dataset.state = state;
  element("loading").hidden = state !== "loading";
  element("retry").hidden = state !== "failed";
}

function say(text, kind = "error") {
  message.textContent = text;
  message.className = kind;
}

function start() {
  setState("loading");
  say("");
  worker = new Worker(new URL("worker.js", import.meta.url), { type: "module" });
  worker.onmessage = ({ data }) => receive[data.type](data);
  worker.onerror = (event) => receive.failed({ message: event.message || "The worker of this page cannot be started." });
}

const megabytes = (bytes) => (bytes / 1e6).toFixed(1);

const receive = {
  progress({ received, total }) {
    element("progress").value = received / total;
    element("progress-label").textContent =
      received < total
        ? `Downloading the model: ${megabytes(received)} of ${megabytes(total)} MB. The browser keeps it for the next time.`
        : "Preparing the model";
  },
  ready({ manifest, threads }) {
    setState("ready");
    const [name, side] = [manifest.source.name, manifest.image_size];
    element("about").textContent =
      `Model ${name}, ${side} × ${side} pixels, ${manifest.precision} weights; ONNX Runtime in WebAssembly, ` +
      `${threads} ${threads === 1 ? "thread" : "threads"}. ` +
      `Caption and seed give the picture that galip generate --model ${name} draws.`;
    element("card").hidden = false;
    picture.width = picture.height = side;
    draw();
  },
  sentence(found) {
    if (found.order !== order) return;
    sentence = found;
    const notes = [];
    if (found.truncated) notes.push("The caption is longer than the model reads: its end does not count.");
    if (found.broken) notes.push("The caption looks like text in a broken encoding, which galip in Python may repair.");
    say(notes.join(" "), "note");
  },
  picture({ order: of, seed: drawn, picture: pixels, ms }) {
    if (of !== order) return;
    if (drawn === asked.seeds[0]) showPicture(pixels, ms);
    else showOther(asked.seeds.indexOf(drawn) - 1, drawn, pixels);
  },
  done({ order: of }) {
    if (of !== order) return;
    setState("done");
    resting = setTimeout(rest, REST);
  },
  refused({ order: of, message: why }) {
    if (of !== order) return;
    setState("refused");
    prompt.setAttribute("aria-invalid", "true");
    say(why);
  },
  failed({ message: why }) {
    worker.terminate();
    setState("failed");
    say(why);
  },
};

/** What would be too much at every letter: browsers limit changes of the address, and listeners their patience. */
function rest() {
  history.replaceState(null, "", link());
  element("told").textContent = `Drawn: ${asked.prompt}, seed ${asked.seeds[0]}`;
}

/** The address of the picture that is shown, which what was asked for since then may not become. */
function link() {
  const url = new URL(location.href);
  url.hash = new URLSearchParams({ prompt: picture.dataset.prompt, seed: picture.dataset.seed });
  return url.href;
}

function showPicture(pixels, ms) {
  element("result").hidden = false;
  picture.getContext("2d").putImageData(pixels, 0, 0);
  picture.setAttribute("aria-label", `Picture of: ${asked.prompt}`);
  Object.assign(picture.dataset, { prompt: asked.prompt, seed: asked.seeds[0] });
  facts.textContent = `${asked.prompt} · seed ${asked.seeds[0]} · ${Math.round(sentence.ms + ms)} ms`;
  facts.title = `Sentence ${sentence.ms.toFixed(1)} ms, picture ${ms.toFixed(1)} ms`;
  facts.dataset.sentenceMs = sentence.ms;
  facts.dataset.pictureMs = ms;
}

function showOther(place, drawn, pixels) {
  const button = others.children[place];
  button.firstElementChild.getContext("2d").putImageData(pixels, 0, 0);
  button.value = drawn;
  button.setAttribute("aria-label", `Seed ${drawn}`);
  button.title = `Seed ${drawn}`;
  button.disabled = false;
}

function prepareOthers() {
  if (others.childElementCount > 0) return;
  for (let i = 0; i < OTHERS; i++) {
    const button = document.createElement("button");
    const canvas = document.createElement("canvas");
    canvas.width = canvas.height = picture.width;
    button.type = "button";
    button.disabled = true;
    button.setAttribute("aria-label", "Not drawn yet");
    button.append(canvas);
    button.onclick = () => chooseSeed(BigInt(button.value));
    others.append(button);
  }
}

function draw() {
  const state = document.body.dataset.state;
  if (state === "loading" || state === "failed") return; // `ready` draws what stands there then
  prepareOthers();
  order += 1; // nothing that was asked for before is shown from here on
  clearTimeout(resting);
  prompt.removeAttribute("aria-invalid");
  seed.removeAttribute("aria-invalid");
  let first;
  try {
    first = parseSeed(seed.value);
  } catch (error) {
    setState("refused");
    seed.setAttribute("aria-invalid", "true");
    say(error.message);
    return;
  }
  const seeds = Array.from({ length: OTHERS + 1 }, (_, i) => String((first + BigInt(i)) % SEED_LIMIT));
  asked = { prompt: prompt.value, seeds, order };
  setState("drawing");
  worker.postMessage(asked);
}

function chooseSeed(value) {
  seed.value = String(value);
  draw();
}

function readLink() {
  const link = new URLSearchParams(location.hash.slice(1));
  if (link.has("prompt")) prompt.value = link.get("prompt");
  if (link.has("seed")) seed.value = link.get("seed");
}

function save() {
  picture.toBlob((blob) => {
    const anchor = document.createElement("a");
    anchor.href = URL.createObjectURL(blob);
    const words = picture.dataset.prompt.toLowerCase().match(/[\p{L}\p{N}]+/gu) ?? ["picture"];
    anchor.download = `${words.join("-").slice(0, 60)}-${picture.dataset.seed}.png`;
    anchor.click();
    setTimeout(() => URL.revokeObjectURL(anchor.href), 1000);
  }, "image/png");
}

async function copyLink() {
  try {
    await navigator.clipboard.writeText(link());
    say("The link is copied.", "note");
  } catch {
    history.replaceState(null, "", link());
    say("The browser does not let the page copy: take the link from the address bar.", "note");
  }
}

for (const text of EXAMPLES) {
  const button = document.createElement("button");
  button.type = "button";
  button.textContent = text;
  button.onclick = () => {
    prompt.value = text;
    draw();
  };
  element("examples").append(button);
}

prompt.oninput = seed.oninput = draw;
element("form").onsubmit = (event) => {
  event.preventDefault();
  draw();
};
element("another").onclick = () => chooseSeed(Math.floor(Math.random() * SHORT_SEEDS));
element("save").onclick = save;
element("link").onclick = copyLink;
element("retry").onclick = start;
window.onhashchange = () => {
  readLink();
  draw();
};

readLink();
start();
