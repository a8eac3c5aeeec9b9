// In which order images are asked for.

/**
 * One piece of work at a time; of what is asked for meanwhile only the newest is done next. So images follow a hand
 * as fast as the server generates, in the order of the hand, and no request is wasted on where it was before.
 */
export class Newest {
  #work;
  #wanted = null;
  #running = false;

  constructor(work) {
    this.#work = work;
  }

  get running() {
    return this.#running;
  }

  async ask(what) {
    this.#wanted = { what };
    if (this.#running) return;
    this.#running = true;
    try {
      while (this.#wanted) {
        const { what: next } = this.#wanted;
        this.#wanted = null;
        await this.#work(next);
      }
    } finally {
      this.#running = false;
    }
  }
}

/** Work through `items`, at most `limit` at once, holding back while `busy()`; stops at `signal` or the first error. */
export async function inParallel(items, limit, work, signal, busy = () => false) {
  const queue = [...items.entries()];
  const worker = async () => {
    while (queue.length && !signal.aborted) {
      if (busy()) {
        await new Promise((resolve) => setTimeout(resolve, 50));
        continue;
      }
      const [index, item] = queue.shift();
      try {
        await work(item, index);
      } catch (error) {
        queue.length = 0;
        throw error;
      }
    }
  };
  await Promise.all(Array.from({ length: Math.min(limit, queue.length) }, worker));
}

/** Call `work` at once after a pause, and for what follows faster than that once it has been quiet again. */
export function promptly(work, pause) {
  const later = debounced(work, pause);
  let last = -Infinity;
  return () => {
    const now = performance.now();
    const waited = now - last;
    last = now;
    if (waited > pause) work();
    else later();
  };
}

/** Call `work` once it has been quiet for `pause` milliseconds. */
export function debounced(work, pause) {
  let timer = null;
  return (...given) => {
    clearTimeout(timer);
    timer = setTimeout(() => work(...given), pause);
  };
}
