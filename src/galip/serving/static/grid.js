// The tab Grid: captions by seeds, and one image of them all.

import { link, noteAddress } from "./address.js";
import { picture } from "./cache.js";
import { byId, nameButton, save, showBlob } from "./elements.js";
import { sheet } from "./grid_sheet.js";
import { announce, hideError, report, showError } from "./notices.js";
import { inParallel } from "./queues.js";
import { isSeed, plain } from "./recipe.js";
import { facts } from "./service.js";
import { openViewer } from "./viewer.js";

const START = { prompts: ["a red heart", "a smiling face", "a green book", "a purple flower"], seeds: "0-5" };
const MOST = 200; // images
const AT_ONCE = 3;

export class GridTab {
  #requests = null;
  #grid = null; // { prompts, seeds, blobs } of what stands in the table

  constructor() {
    byId("grid-form").addEventListener("submit", (event) => {
      event.preventDefault();
      if (this.#requests) this.#requests.abort();
      else this.#draw();
    });
    for (const name of ["prompts", "seeds"]) {
      byId(`grid-${name}`).addEventListener("input", () => noteAddress("grid", this.values()));
    }
    byId("grid-download").addEventListener("click", () => this.#download());
  }

  show(values) {
    const prompts = values.getAll("p");
    byId("grid-prompts").value = (prompts.length ? prompts : START.prompts).join("\n");
    byId("grid-seeds").value = values.get("seeds") ?? START.seeds;
    this.refresh();
  }

  values() {
    return [...this.#prompts().map((prompt) => ["p", prompt]), ["seeds", byId("grid-seeds").value.trim()]];
  }

  refresh() {
    noteAddress("grid", this.values());
    if (!this.#requests) this.#draw();
  }

  leave() {
    this.#requests?.abort();
  }

  #prompts() {
    const lines = byId("grid-prompts").value.split("\n").map((line) => line.trim());
    return [...new Set(lines.filter(Boolean))];
  }

  async #draw() {
    const prompts = this.#prompts();
    const seeds = readSeeds(byId("grid-seeds").value);
    const problem = this.#problem(prompts, seeds);
    if (problem) return showError(problem, "Change it and generate again.");
    hideError();
    const blobs = prompts.map(() => seeds.map(() => null));
    const cells = this.#layOut(prompts, seeds);
    this.#grid = { prompts, seeds, blobs };
    this.#requests = new AbortController();
    const { signal } = this.#requests;
    byId("grid-make-text").textContent = "Stop";
    byId("grid-download").disabled = true;
    const total = cells.length;
    let done = 0;
    try {
      await inParallel(
        cells,
        AT_ONCE,
        async ({ row, column, button }) => {
          const recipe = plain(prompts[row], seeds[column]);
          const blob = await picture(recipe, signal);
          if (signal.aborted) return;
          blobs[row][column] = blob;
          showBlob(button.querySelector("img"), blob);
          button.disabled = false;
          done += 1;
          byId("grid-progress").textContent = `${done} of ${total} generated`;
        },
        signal,
      );
      announce(done === total ? `The grid is complete: ${total} images` : `Stopped after ${done} of ${total}`);
    } catch (error) {
      report(error);
    } finally {
      this.#requests = null;
      byId("grid-make-text").textContent = "Generate the grid";
      byId("grid-download").disabled = done === 0;
    }
    return undefined;
  }

  #problem(prompts, seeds) {
    if (!prompts.length) return "There is no prompt to generate.";
    const long = prompts.find((prompt) => prompt.length > facts.max_prompt);
    if (long) return `A caption has ${long.length} characters; ${facts.max_prompt} are allowed.`;
    if (!seeds) return `"${byId("grid-seeds").value}" are no seeds: write numbers and ranges, such as 0-5 or 3, 14.`;
    const total = prompts.length * seeds.length;
    if (total > MOST) return `That would be ${total} images; a grid has at most ${MOST}.`;
    return null;
  }

  #layOut(prompts, seeds) {
    const cells = [];
    const table = byId("grid-table");
    table.replaceChildren();
    const head = table.createTHead().insertRow();
    head.append(headCell("col", ""), ...seeds.map((seed) => headCell("col", seed)));
    head.firstChild.replaceWith(Object.assign(document.createElement("td"), { textContent: "Seed" }));
    const body = table.createTBody();
    prompts.forEach((prompt, row) => {
      const line = body.insertRow();
      line.append(headCell("row", prompt));
      seeds.forEach((seed, column) => {
        const button = document.createElement("button");
        button.type = "button";
        button.className = "picture";
        button.disabled = true;
        nameButton(button, `Open ${prompt}, seed ${seed}`);
        button.append(Object.assign(new Image(), { alt: `${prompt}, seed ${seed}` }));
        button.addEventListener("click", () => openViewer(plain(prompt, seed), linkTo(prompt, seed)));
        line.insertCell().append(button);
        cells.push({ row, column, button });
      });
    });
    return cells;
  }

  async #download() {
    try {
      save(await sheet(this.#grid), "grid.png");
    } catch (error) {
      report(error);
    }
  }
}

/** "0-3, 7" -> [0, 1, 2, 3, 7], each once; null for anything else. */
export function readSeeds(text) {
  const seeds = new Set();
  for (const part of text.split(/[\s,]+/).filter(Boolean)) {
    const [, first, last = first] = /^(\d+)(?:-(\d+))?$/.exec(part) ?? [];
    const [from, to] = [Number(first), Number(last)];
    if (!isSeed(from) || !isSeed(to) || to < from || to - from > MOST) return null;
    for (let seed = from; seed <= to; seed++) seeds.add(seed);
  }
  return seeds.size ? [...seeds] : null;
}

function headCell(scope, text) {
  const cell = document.createElement("th");
  cell.scope = scope;
  cell.title = text;
  cell.append(Object.assign(document.createElement("span"), { textContent: text, dir: "auto" }));
  return cell;
}

const linkTo = (prompt, seed) => link("draw", [["prompt", prompt], ["seed", seed], ["n", 1]]);
