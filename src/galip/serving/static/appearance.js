// How the page looks, as this person likes it: dark or light, pixels smooth or sharp.

import { byId, isPressed, press } from "./elements.js";
import { remember, remembered } from "./remembered.js";

export function wireAppearance() {
  const root = document.documentElement;
  const theme = byId("theme");
  press(theme, root.dataset.theme === "dark");
  new MutationObserver(() => press(theme, root.dataset.theme === "dark")).observe(root, {
    attributeFilter: ["data-theme"],
  });
  theme.addEventListener("click", () => {
    const wanted = root.dataset.theme === "dark" ? "light" : "dark";
    const system = matchMedia("(prefers-color-scheme: dark)").matches ? "dark" : "light";
    root.dataset.theme = wanted;
    // theme.js reads it as plain text, before modules run. Back at the system's choice, the page follows it again.
    try {
      if (wanted === system) localStorage.removeItem("galip.theme");
      else localStorage.setItem("galip.theme", wanted);
    } catch {
      // A browser that keeps nothing forgets it with the page.
    }
  });

  const pixels = byId("pixels");
  const sharpen = (sharp) => {
    press(pixels, sharp);
    root.dataset.pixels = sharp ? "sharp" : "smooth";
  };
  sharpen(remembered("pixels", false));
  pixels.addEventListener("click", () => {
    sharpen(!isPressed(pixels));
    remember("pixels", isPressed(pixels));
  });
}

export const sharpPixels = () => document.documentElement.dataset.pixels === "sharp";
