// Small things about elements that several parts of the page need.

export const byId = (id) => document.getElementById(id);

export function fromTemplate(id) {
  return byId(id).content.firstElementChild.cloneNode(true);
}

/** A button that shows an icon: its name for all who hear it, and as a tooltip. */
export function nameButton(button, name) {
  button.setAttribute("aria-label", name);
  button.title = name;
}

export function press(button, pressed) {
  button.setAttribute("aria-pressed", String(pressed));
}

export const isPressed = (button) => button.getAttribute("aria-pressed") === "true";

const SLOW = 300; // milliseconds after which a wait is noticed

/** Says that an element is waited for: at once to programs (`aria-busy`), to the eye only where it takes long. */
export class Busy {
  #element;
  #timer = null;

  constructor(element) {
    this.#element = element;
  }

  set(busy) {
    if (busy) {
      this.#element.setAttribute("aria-busy", "true");
      this.#timer ??= setTimeout(() => this.#element.classList.add("slow"), SLOW);
    } else {
      clearTimeout(this.#timer);
      this.#timer = null;
      this.#element.removeAttribute("aria-busy");
      this.#element.classList.remove("slow");
    }
  }
}

/** Show a blob in an <img>; the image before it stays until this one has been decoded. */
export function showBlob(image, blob) {
  const url = URL.createObjectURL(blob);
  const before = image.dataset.blob;
  image.dataset.blob = url;
  image.src = url;
  const release = () => before && URL.revokeObjectURL(before);
  image.addEventListener("load", release, { once: true });
}

export function dropBlob(image) {
  if (image.dataset.blob) URL.revokeObjectURL(image.dataset.blob);
  delete image.dataset.blob;
  image.removeAttribute("src");
}

export function save(blob, name) {
  const anchor = document.createElement("a");
  anchor.href = URL.createObjectURL(blob);
  anchor.download = name;
  anchor.click();
  setTimeout(() => URL.revokeObjectURL(anchor.href), 60000);
}

/** Fill a <select> with [value, text] pairs and choose one. */
export function fillSelect(select, options, chosen) {
  select.replaceChildren(...options.map(([value, text]) => new Option(text, value)));
  select.value = options.some(([value]) => String(value) === String(chosen)) ? chosen : options[0][0];
}

export const lessMotion = () => matchMedia("(prefers-reduced-motion: reduce)").matches;
