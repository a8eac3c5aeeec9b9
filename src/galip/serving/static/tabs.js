// Tabs as the ARIA pattern has them: one stop for Tab, arrows move and show at once.

const KEYS = { ArrowRight: 1, ArrowDown: 1, ArrowLeft: -1, ArrowUp: -1 };

export class Tabs {
  #tabs;
  #shown;

  /** `shown(name)` is called when another tab has been chosen by hand. */
  constructor(list, shown) {
    this.#tabs = [...list.querySelectorAll("[role=tab]")];
    this.#shown = shown;
    for (const tab of this.#tabs) tab.addEventListener("click", () => this.#choose(tab));
    list.addEventListener("keydown", (event) => {
      const at = this.#tabs.indexOf(event.target.closest("[role=tab]"));
      const ends = { Home: 0, End: this.#tabs.length - 1 };
      if (at < 0 || !(event.key in KEYS || event.key in ends)) return;
      event.preventDefault();
      const next = ends[event.key] ?? (at + KEYS[event.key] + this.#tabs.length) % this.#tabs.length;
      this.#tabs[next].focus();
      this.#choose(this.#tabs[next]);
    });
  }

  get names() {
    return this.#tabs.map(nameOf);
  }

  show(name) {
    for (const tab of this.#tabs) {
      const here = nameOf(tab) === name;
      tab.setAttribute("aria-selected", String(here));
      tab.tabIndex = here ? 0 : -1;
      document.getElementById(tab.getAttribute("aria-controls")).hidden = !here;
    }
  }

  #choose(tab) {
    if (tab.getAttribute("aria-selected") === "true") return;
    this.show(nameOf(tab));
    this.#shown(nameOf(tab));
  }
}

const nameOf = (tab) => tab.id.replace("tab-", "");
