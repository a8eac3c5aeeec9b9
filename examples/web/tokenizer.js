// CLIP's tokenizer, as its tokenizer.json describes it: special tokens are set aside, the rest is normalised, cut into
// words, written as bytes, and merged pair by pair. The tokens are those of the Python package `tokenizers`.

// What tokenizer.json means by \s, which is not quite what JavaScript does.
const SPACE = "\\t-\\r \\x85\\xa0\\u1680\\u2000-\\u200a\\u2028\\u2029\\u202f\\u205f\\u3000";

const BYTE_LEVEL_WORDS = pattern("'s|'t|'re|'ve|'m|'ll|'d| ?\\p{L}+| ?\\p{N}+| ?[^\\s\\p{L}\\p{N}]+|\\s+(?!\\S)|\\s+");

export class Tokenizer {
  #normalize;
  #cut;
  #special;
  #specialIds;
  #vocabulary;
  #ranks;
  #suffix;
  #unknown;
  #symbols = byteSymbols();
  #encoder = new TextEncoder();
  #start;
  #end;

  /**
   * @param {object} file the content of tokenizer.json
   * @throws {Error} it is a tokenizer of another kind
   */
  constructor(file) {
    const model = file.model;
    if (model.type !== "BPE" || model.byte_fallback || model.ignore_merges || model.continuing_subword_prefix) {
      throw unsupported("model", model.type);
    }
    if (file.post_processor?.type !== "RobertaProcessing") throw unsupported("post-processor", file.post_processor?.type);
    this.#vocabulary = new Map(Object.entries(model.vocab));
    this.#ranks = new Map(model.merges.map((pair, rank) => [Array.isArray(pair) ? pair.join(" ") : pair, rank]));
    this.#suffix = model.end_of_word_suffix ?? "";
    this.#normalize = normalizer(file.normalizer);
    this.#cut = preTokenizer(file.pre_tokenizer);
    this.#start = file.post_processor.cls[1];
    this.#end = file.post_processor.sep[1];
    this.#specialIds = new Map(file.added_tokens.map((token) => [token.content, token.id]));
    for (const token of file.added_tokens) {
      if (token.normalized || token.single_word || token.lstrip || token.rstrip) throw unsupported("token", token.content);
    }
    const names = [...this.#specialIds.keys()].sort((a, b) => b.length - a.length).map(escape);
    this.#special = new RegExp(`(${names.join("|")})`, "u");
    this.#unknown = this.#vocabulary.get(model.unk_token) ?? this.#specialIds.get(model.unk_token);
  }

  /**
   * @param {string} text a cleaned caption
   * @returns {number[]} its tokens between a start and an end token; never truncated
   */
  encode(text) {
    const ids = [this.#start];
    for (const part of text.split(this.#special)) {
      const id = this.#specialIds.get(part);
      if (id !== undefined) ids.push(id);
      else for (const word of this.#cut(this.#normalize(part))) ids.push(...this.#merge(word));
    }
    return [...ids, this.#end];
  }

  /** Byte-pair merges: of the pairs side by side, the one learned first is joined first. */
  #merge(word) {
    const parts = Array.from(this.#encoder.encode(word), (byte) => this.#symbols[byte]);
    parts[parts.length - 1] += this.#suffix;
    for (;;) {
      let best = Infinity;
      let place = -1;
      for (let i = 0; i + 1 < parts.length; i++) {
        const rank = this.#ranks.get(`${parts[i]} ${parts[i + 1]}`);
        if (rank < best) [best, place] = [rank, i];
      }
      if (place < 0) break;
      parts.splice(place, 2, parts[place] + parts[place + 1]);
    }
    return parts.map((part) => this.#vocabulary.get(part) ?? this.#unknown);
  }
}

function normalizer(step) {
  switch (step?.type) {
    case "Sequence": {
      const steps = step.normalizers.map(normalizer);
      return (text) => steps.reduce((result, each) => each(result), text);
    }
    case "NFC":
      return (text) => text.normalize("NFC");
    case "Replace": {
      const found = pattern(step.pattern.Regex);
      return (text) => text.replace(found, () => step.content);
    }
    case "Lowercase": // one character at a time: a sigma at the end of a word stays the common one
      return (text) => Array.from(text, (character) => character.toLowerCase()).join("");
  }
  throw unsupported("normalizer", step?.type);
}

function preTokenizer(step) {
  if (step?.type === "Sequence") {
    const steps = step.pretokenizers.map(preTokenizer);
    return (text) => steps.reduce((words, each) => words.flatMap(each), [text]);
  }
  if (step?.type === "Split" && step.behavior === "Removed" && step.invert) {
    const words = pattern(step.pattern.Regex);
    return (text) => text.match(words) ?? [];
  }
  if (step?.type === "ByteLevel" && step.use_regex && !step.add_prefix_space) {
    return (text) => text.match(BYTE_LEVEL_WORDS) ?? [];
  }
  throw unsupported("pre-tokenizer", step?.type);
}

/** A regular expression of tokenizer.json. */
function pattern(source) {
  let inClass = false;
  const translated = source.replace(/\\.|[[\]]/gsu, (found) => {
    if (found === "[" || found === "]") inClass = found === "[";
    return found === "\\s" ? (inClass ? SPACE : `[${SPACE}]`) : found === "\\S" ? `[^${SPACE}]` : found;
  });
  return new RegExp(translated, "gu");
}

/** The visible character that stands for each byte in the vocabulary: its own where it has one. */
function byteSymbols() {
  const symbols = [];
  let next = 256;
  for (let byte = 0; byte < 256; byte++) {
    const visible = (byte > 32 && byte < 127) || (byte > 160 && byte !== 173);
    symbols.push(String.fromCharCode(visible ? byte : next++));
  }
  return symbols;
}

function escape(text) {
  return text.replace(/[\\^$.*+?()[\]{}|/]/g, "\\$&");
}

function unsupported(part, kind) {
  return new Error(`tokenizer.json: the ${part} ${kind} is none of CLIP's; this page draws with models that use CLIP's tokenizer`);
}
