"""Build the page that draws in the browser: the page's own files, ONNX Runtime, and a model exported to ONNX.

    python examples/web/build.py                        # the bundled model, into out/web-demo
    python examples/web/build.py --model MY/MODEL --out site

The folder can be put on any static host. It needs npm once, to fetch ONNX Runtime, and galip's extra `export`.
"""

from __future__ import annotations

import argparse
import base64
import hashlib
import html
import html.entities
import json
import os
import re
import shlex
import shutil
import subprocess
import sys
import tarfile
from pathlib import Path
from typing import Any

import ftfy
from ftfy.badness import BADNESS_RE

from galip.errors import GalipError, InputError
from galip.model_repo.export_folder import GENERATOR, SUFFIX, TEXT_ENCODER, TOKENIZER, read_manifest, written_whole

HERE = Path(__file__).parent
ROOT = HERE.parent.parent

PACKAGE, VERSION = "onnxruntime-web", "1.30.0"
INTEGRITY = "sha512-q0y+JrrtukXSzsBWEMccVfqX25LRmosXHF+CaRJmg8pZClzcV7svNc4rKY3jL02Vb7QmRMDs1SigqR4CXAfKYQ=="
# What the page needs of it. Not every server knows that .mjs is JavaScript, and browsers insist on the type.
WASM = "ort-wasm-simd-threaded.wasm"
RUNTIME = {
    "ort.wasm.min.mjs": "ort.wasm.min.js",
    "ort-wasm-simd-threaded.mjs": "ort-wasm-simd-threaded.js",
    WASM: WASM,
}
LICENSE = "onnxruntime-license.txt"

FACTS = "demo.json"
"""What the page reads first: the model's `export.json`, and size and version of every file to download."""

# Codes of npm's errors that say nothing of the package: what was asked could not be heard.
_UNREACHABLE = re.compile(
    "E(AI_AGAIN|CONNREFUSED|CONNRESET|HOSTUNREACH|NETUNREACH|NOTCACHED|NOTFOUND|PIPE|TIMEDOUT|5[0-9][0-9])"
    "|ERR_SOCKET_TIMEOUT|FETCH_ERROR"
)

_PYTHON_SPACE = r"\t-\r\x1c-\x20\x85\xa0\u1680\u2000-\u200a\u2028\u2029\u202f\u205f\u3000"
_PYTHON_WORD = r"\p{L}\p{N}_"


class UnreachableError(GalipError):
    """npm cannot reach the registry of packages."""


def build(model: str, precision: str, out: Path, cache: Path) -> None:
    """Write the page into a folder; an earlier page there is replaced when the new one is whole.

    Args:
        model: a bundled model's name, a folder, or a hub id; its text encoder must be CLIP's.
        precision: of the weights, "fp16" or "fp32".
        out: the folder to write.
        cache: where the package of ONNX Runtime is kept for the next time.

    Raises:
        InputError: there is something else than an earlier page in `out`.
        GalipError: the model cannot be exported or is not one for the page, or ONNX Runtime cannot be fetched.
    """
    if out.is_file() or (out.is_dir() and any(out.iterdir()) and not (out / FACTS).is_file()):
        raise InputError(f"{out}: this holds something else than an earlier page; name another folder")
    package = fetch_runtime(cache)
    with written_whole(out) as folder:
        for path in HERE.iterdir():
            if path.suffix in (".html", ".css", ".js"):
                shutil.copyfile(path, folder / path.name)
        unpack_runtime(package, folder / "ort")
        command = ["export", model, "-o", str(folder / "model"), "--format", "onnx", "--precision", precision]
        if subprocess.run([sys.executable, "-m", "galip", *command], stdout=subprocess.DEVNULL).returncode != 0:
            raise GalipError(f"{model}: it was not exported, so there is no page")
        manifest = read_manifest(folder / "model")
        if manifest.text_encoder != "clip":
            found = manifest.text_encoder or "none"
            raise GalipError(f"{model}: its text encoder is {found}; the page has CLIP's tokenizer alone")
        if any(name.endswith(".data") for name in manifest.files):
            raise GalipError(f"{model}: a file of weights is larger than 1.9 GB, which is too much for a browser")
        # As text, which browsers show; the mark at its beginning tells them that it is UTF-8.
        card = (folder / "model" / "README.md").read_text(encoding="utf-8")
        (folder / "model-card.txt").write_text(card, encoding="utf-8-sig")
        (folder / "text-tables.json").write_text(
            json.dumps(text_tables(), ensure_ascii=True, separators=(",", ":")), encoding="ascii"
        )
        needed = [f"ort/{WASM}", "text-tables.json", f"model/{TOKENIZER}"]
        needed += [f"model/{name}{SUFFIX['onnx']}" for name in (GENERATOR, TEXT_ENCODER)]
        facts = json.loads((folder / "model" / "export.json").read_text(encoding="utf-8"))
        demo = {"model": facts, "files": {name: _facts(folder / name) for name in needed}}
        (folder / FACTS).write_text(json.dumps(demo, indent=1) + "\n", encoding="utf-8")


def fetch_runtime(cache: Path) -> Path:
    """The package of ONNX Runtime for the web, fetched by npm if it is not in the cache.

    Raises:
        UnreachableError: npm cannot reach the registry.
        GalipError: npm is missing, cannot fetch it, or brought something else.
    """
    package = cache / f"{PACKAGE}-{VERSION}.tgz"
    if not package.is_file() or _integrity(package) != INTEGRITY:
        npm = shutil.which("npm")
        if npm is None:
            raise GalipError("npm is missing, which fetches ONNX Runtime for the web: install Node.js, which brings it")
        cache.mkdir(parents=True, exist_ok=True)
        command = [npm, "pack", f"{PACKAGE}@{VERSION}", "--json", "--ignore-scripts", "--pack-destination", str(cache)]
        found = subprocess.run(command, capture_output=True, text=True)
        if found.returncode != 0 or not package.is_file():
            raise _why_not(found.stdout, found.stderr)
    if _integrity(package) != INTEGRITY:
        raise GalipError(f"{package}: it is not the package {PACKAGE} {VERSION} that this page was made for; remove it")
    return package


def _why_not(answer: str, said: str) -> GalipError:
    """The error for what npm said: JSON on one stream, words on the other."""
    try:
        error = json.loads(answer)["error"]
        code, reason = str(error.get("code")), str(error.get("summary"))
    except (ValueError, KeyError, TypeError, AttributeError):
        lines = said.strip().splitlines() or ["it does not say why"]
        named = re.search(r"\bcode (\w+)", said)
        code, reason = named[1] if named else "", lines[-1]
    what = f"npm cannot fetch {PACKAGE} {VERSION} ({reason.strip()})"
    if _UNREACHABLE.fullmatch(code):
        return UnreachableError(f"{what}: check the connection, and npm's settings with `npm config list`")
    return GalipError(what)


def unpack_runtime(package: Path, folder: Path) -> None:
    """Take the files that the page needs out of the package, and put its licence beside them."""
    folder.mkdir()
    shutil.copyfile(HERE / LICENSE, folder / "LICENSE.txt")
    with tarfile.open(package) as archive:
        for original, name in RUNTIME.items():
            member = archive.extractfile(f"package/dist/{original}")
            assert member is not None
            (folder / name).write_bytes(member.read())


def text_tables() -> dict[str, Any]:
    """What the page needs to clean a caption as `galip.generation.prompts` does; `captions.js` says what is in it."""
    entities = html.entities.html5
    names = {name for known in entities if known.endswith(";") for name in (known, known[:-1].upper() + ";")}
    repaired = {name: ftfy.fixes.unescape_html(f"&{name}") for name in sorted(names)}
    capitals = {name: text for name, text in repaired.items() if text not in (f"&{name}", entities.get(name))}
    # Beyond 0x10ffff, and for halves of surrogate pairs, captions.js has HTML's rule.
    odd = [
        *range(0xA0),
        *range(0xFDD0, 0xFDF0),
        *(plane + last for plane in range(0, 0x110000, 0x10000) for last in (0xFFFE, 0xFFFF)),
    ]
    references = {code: html.unescape(f"&#{code};") for code in odd}
    return {
        "entities": entities,
        "capitals": capitals,
        "references": {code: text for code, text in references.items() if text != chr(code)},
        "characters": _characters(),
        "broken": javascript_pattern(BADNESS_RE),
    }


def _characters() -> dict[str, str]:
    """What ftfy writes in the place of single characters, by character."""

    def fixed(text: str) -> str:
        return ftfy.fix_text(text, unescape_html=False, fix_encoding=False, normalization=None)

    found = {}
    for start in range(0, 0x110000, 0x400):
        block = "".join(map(chr, range(start, start + 0x400)))
        if 0xD800 <= start < 0xE000 or fixed(block) == block:
            continue
        found.update({character: fixed(character) for character in block if fixed(character) != character})
    return found


def javascript_pattern(compiled: re.Pattern[str]) -> str:
    """A verbose regular expression of Python in JavaScript's language (flag u)."""
    out, in_class = [], False
    for token in re.findall(r"\\.|#[^\n]*|.", compiled.pattern, re.DOTALL):
        if not in_class and (token.isspace() or (token.startswith("#") and len(token) > 1)):
            continue
        if token in ("[", "]"):
            in_class = token == "["
        if token in (r"\s", r"\w"):
            inside = _PYTHON_SPACE if token == r"\s" else _PYTHON_WORD
            token = inside if in_class else f"[{inside}]"
        out.append(token)
    return "".join(out)


def _facts(path: Path) -> dict[str, Any]:
    content = path.read_bytes()
    return {"bytes": len(content), "version": hashlib.sha256(content).hexdigest()[:12]}


def _integrity(path: Path) -> str:
    return "sha512-" + base64.b64encode(hashlib.sha512(path.read_bytes()).digest()).decode()


def main() -> None:
    """Build the page, and say how large it is and how to look at it."""
    parser = argparse.ArgumentParser(description="Build a static page that draws with a galip model in the browser.")
    parser.add_argument("--model", default="emoji-64", help="a bundled model's name, a folder, or a hub id")
    parser.add_argument(
        "--precision", choices=("fp16", "fp32"), default="fp16", help="of the weights that are downloaded"
    )
    parser.add_argument(
        "--out", type=Path, default=ROOT / "out" / "web-demo", help="the folder to write, or to replace"
    )
    parser.add_argument("--cache", type=Path, default=ROOT / "out" / "npm", help="where ONNX Runtime's package is kept")
    arguments = parser.parse_args()
    try:
        build(arguments.model, arguments.precision, arguments.out, arguments.cache)
    except GalipError as error:
        sys.exit(f"Error: {error}")
    demo = json.loads((arguments.out / FACTS).read_text(encoding="utf-8"))
    size = sum(facts["bytes"] for facts in demo["files"].values())
    print(f"{arguments.out}: {size / 1e6:.1f} MB for the browser to download")
    print(f"look at it: {_short(sys.executable)} {_short(HERE / 'serve.py')} {_short(arguments.out)}")


def _short(path: str | Path) -> str:
    """A path as it is typed from here."""
    return shlex.quote(os.path.relpath(path) if Path(path).is_relative_to(Path.cwd()) else str(path))


if __name__ == "__main__":
    main()
