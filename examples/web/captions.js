// The cleaning of a caption before the tokenizer sees it: what `galip.generation.prompts.clean_caption` does.
//
// Its tables (HTML's entities; the characters that ftfy writes otherwise; what ftfy takes for a broken encoding) come
// from Python when the page is built, so that both sides use the same. One thing is not done here: text in a broken
// encoding ("sÃ³" for "só") is not repaired, only noticed.

const BINARY = /[\x00-\x08\x0e-\x1f\x7f\ud800-\udfff]/u;
const BINARY_WHEN_CLEANED = /[\x00-\x1f\x7f-\x9f\ud800-\udfff]/u;
const SPACES = /[\t-\r\x1c-\x20\x85\xa0\u1680\u2000-\u200a\u2028\u2029\u202f\u205f\u3000]+/gu; // Python's \s
const ENTITY = /&(#[0-9]+;?|#[xX][0-9a-fA-F]+;?|[^\t\n\f <&#;]{1,32};?)/gu;
const WHOLE_ENTITY = /&#?[0-9A-Za-z]{1,24};/gu;
const ASCII = /^[\x00-\x7f]*$/;

/** A caption that cannot be drawn; its message is meant for whoever typed it. */
export class CaptionError extends Error {
  /**
   * @param {string} message
   * @param {boolean} broken whether galip in Python might have repaired the caption
   */
  constructor(message, broken = false) {
    super(message);
    this.broken = broken;
  }
}

export class CaptionCleaner {
  #entities;
  #capitals;
  #references;
  #characters;
  #broken;

  /**
   * @param {object} tables `text-tables.json`: `entities` (name, with its semicolon or without, to text), `capitals`
   *   (names that ftfy reads besides), `references` (numbers of characters that HTML reads as others), `characters`
   *   (what ftfy writes in a character's place), `broken` (a regular expression)
   */
  constructor(tables) {
    this.#entities = new Map(Object.entries(tables.entities));
    this.#capitals = new Map(Object.entries(tables.capitals));
    this.#references = new Map(Object.entries(tables.references).map(([code, text]) => [Number(code), text]));
    this.#characters = new Map(Object.entries(tables.characters));
    this.#broken = new RegExp(tables.broken, "u");
  }

  /**
   * @param {string} caption
   * @returns {{text: string, broken: boolean}} the cleaned caption, and whether it looks like text in a broken
   *   encoding, which galip in Python might have repaired
   * @throws {CaptionError} nothing is left, or it holds control characters and so is no text
   */
  clean(caption) {
    refuse(BINARY, caption);
    const fixed = this.#fix(caption);
    const text = this.#unescape(this.#unescape(fixed.text)).replace(SPACES, " ").replace(/^ | $/g, "");
    refuse(BINARY_WHEN_CLEANED, text, fixed.broken);
    if (text === "") throw new CaptionError("The caption is empty: say what to draw.");
    return { text, broken: fixed.broken };
  }

  /** ftfy.fix_text, line by line; entities are left alone from the first line on that holds a `<`. */
  #fix(caption) {
    let entities = true;
    let broken = false;
    const lines = caption.split(/(?<=\n)/u).map((line) => {
      if (line.includes("<")) entities = false;
      for (let before = null; before !== line; ) {
        before = line;
        if (entities) line = line.replace(WHOLE_ENTITY, (found) => this.#wholeEntity(found));
        if (!ASCII.test(line) && this.#broken.test(line)) broken = true;
        line = Array.from(line, (character) => this.#characters.get(character) ?? character).join("");
        line = line.normalize("NFC");
      }
      return line;
    });
    return { text: lines.join(""), broken };
  }

  #wholeEntity(found) {
    const name = found.slice(1);
    if (found.startsWith("&#")) {
      const text = this.#unescape(found);
      return text.includes(";") ? found : text;
    }
    return this.#capitals.get(name) ?? this.#entities.get(name) ?? found;
  }

  /** Python's html.unescape. */
  #unescape(text) {
    return text.replace(ENTITY, (found, name) => {
      if (name.startsWith("#")) return this.#reference(name.replace(/;$/, ""));
      for (let length = name.length; length > 1; length--) {
        const known = this.#entities.get(name.slice(0, length));
        if (known !== undefined) return known + name.slice(length);
      }
      return found;
    });
  }

  #reference(name) {
    const code = /^#[xX]/.test(name) ? parseInt(name.slice(2), 16) : parseInt(name.slice(1), 10);
    if (code > 0x10ffff || (code >= 0xd800 && code <= 0xdfff)) return "\ufffd";
    return this.#references.get(code) ?? String.fromCodePoint(code);
  }
}

function refuse(pattern, text, broken = false) {
  const found = pattern.exec(text);
  if (found === null) return;
  const code = found[0].codePointAt(0).toString(16).toUpperCase().padStart(4, "0");
  const why = broken ? " It looks like text in a broken encoding, which galip in Python may repair." : "";
  throw new CaptionError(`The caption holds the control character U+${code}: plain text is needed.${why}`, broken);
}
