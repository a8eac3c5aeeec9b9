"""What can be checked by hand of a page's accessibility: names of controls, contrast of text."""

from __future__ import annotations

from playwright.sync_api import Page

_UNNAMED = """() => {
    const visible = element => element.checkVisibility({ visibilityProperty: true });
    const name = element => {
        const labelled = element.getAttribute("aria-labelledby");
        const parts = labelled ? labelled.split(" ").map(id => document.getElementById(id)?.textContent) : [];
        const labels = [...(element.labels ?? [])].map(label => label.textContent);
        const images = [...element.querySelectorAll("img")].map(image => image.alt);
        const own = element.matches("input, select, textarea") ? "" : element.textContent;
        return [element.getAttribute("aria-label"), ...parts, ...labels, ...images, own].join("").trim();
    };
    const controls = "button, a[href], input, select, textarea, summary, [tabindex='0'], [role=slider], [role=img]";
    const unnamed = [...document.querySelectorAll(controls)].filter(element => visible(element) && !name(element));
    const silent = [...document.querySelectorAll("img:not([alt])")];
    return [...unnamed, ...silent].map(element => element.outerHTML.slice(0, 120));
}"""

_CONTRASTS = """() => {
    const numbers = colour => {
        const canvas = document.createElement("canvas");
        canvas.width = canvas.height = 1;
        const context = canvas.getContext("2d");
        context.fillStyle = colour;
        context.fillRect(0, 0, 1, 1);
        return [...context.getImageData(0, 0, 1, 1).data];
    };
    const luminance = ([r, g, b]) => {
        const linear = [r, g, b].map(value => value / 255)
            .map(value => value <= 0.04045 ? value / 12.92 : ((value + 0.055) / 1.055) ** 2.4);
        return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2];
    };
    const behind = element => {
        for (let at = element; at; at = at.parentElement) {
            const colour = numbers(getComputedStyle(at).backgroundColor);
            if (colour[3] > 250) return colour;
        }
        return [255, 255, 255];
    };
    const ratios = {};
    for (const element of document.querySelectorAll("body *")) {
        const field = element.matches("input[type=text], input[type=number], select, textarea");
        const text = [...element.childNodes].filter(node => node.nodeType === 3).map(node => node.data.trim()).join("");
        if (!(text || field) || !element.checkVisibility({ visibilityProperty: true })) continue;
        if (element.matches(":disabled, .hidden, script, style, option, canvas, .skip")) continue;
        const [a, b] = [luminance(numbers(getComputedStyle(element).color)), luminance(behind(element))];
        const ratio = (Math.max(a, b) + 0.05) / (Math.min(a, b) + 0.05);
        const name = text.slice(0, 40) || element.id || element.className;
        ratios[name] = Math.min(ratios[name] ?? Infinity, ratio);
    }
    return ratios;
}"""


def unnamed_controls(page: Page) -> list[str]:
    """Visible controls without an accessible name, and pictures without a text in their place."""
    return page.evaluate(_UNNAMED)


def contrasts(page: Page) -> dict[str, float]:
    """The contrast ratio (WCAG 2) of every visible piece of text with what lies behind it."""
    return page.evaluate(_CONTRASTS)


_OVERFLOWING = """() => {
    const width = document.documentElement.clientWidth;
    const name = element => element.id || element.className || element.tagName;
    const found = document.documentElement.scrollWidth > width ? ["the page"] : [];
    for (const element of document.querySelectorAll("header *, main *, footer *")) {
        const box = element.getBoundingClientRect();
        if (!element.checkVisibility() || !box.width || element.closest(".chips, .table-frame, .hidden, svg")) continue;
        if (box.right > width + 1 || box.left < -1) found.push(`${name(element)} leaves the window`);
        const card = element.parentElement.closest(".point, .options, .card, .keyframe, .field, .explore-side");
        if (card && box.right > card.getBoundingClientRect().right + 1) found.push(`${name(element)} leaves its card`);
        if (element.matches("input[type=text]") && box.width < 90) found.push(`${name(element)} is ${box.width} wide`);
    }
    return found;
}"""

_BELOW = """selectors => {
    const tabs = document.querySelector("[role=tablist]");
    const covered = getComputedStyle(tabs).position === "fixed";
    const fold = covered ? tabs.getBoundingClientRect().top : innerHeight;
    return selectors.filter(each => document.querySelector(each).getBoundingClientRect().bottom > fold + 1);
}"""


def overflowing(page: Page) -> list[str]:
    """What is wider than the window or sticks out of its card, and fields for words with no room for any."""
    return page.evaluate(_OVERFLOWING)


def below_the_fold(page: Page, selectors: list[str]) -> list[str]:
    """Which of these elements cannot be seen whole without scrolling; tabs at the bottom of a phone cover the page."""
    return page.evaluate(_BELOW, selectors)
