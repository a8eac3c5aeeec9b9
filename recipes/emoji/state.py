"""The bundled model with the noise that it was trained with: the model to train on from.

python recipes/emoji/state.py [--out recipes/emoji/work/state]
python recipes/emoji/state.py --difference FOLDER

The bundled model draws from noise of less spread (`export.py --truncation`), which is in its weights: half precision
keeps such a weight up to a few lost bits, and `state_difference.json` holds those. So the model before is rebuilt bit
for bit. `--difference` writes that file for a model that was exported with `--truncation 1`, beside its bundled one.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
from emoji_common import HERE, WORK
from export import ASSET
from numpy.typing import NDArray
from safetensors.numpy import load_file, save

from galip.utils.atomic import atomic_folder, write_json

DIFFERENCE = HERE / "state_difference.json"
GENERATOR = Path("generator") / "diffusion_pytorch_model.safetensors"
TRAINING = "training.json"
PARTS = ("discriminator", "generator", "text_encoder", "tokenizer", "vision_encoder")

Tensors = dict[str, NDArray[Any]]


def rebuild(out: Path, asset: Path = ASSET, difference: Path = DIFFERENCE) -> None:
    """Write the model before its noise was scaled.

    Args:
        out: the model folder to write; one that is there is replaced.
        asset: the bundled model.
        difference: what the scaled weights do not tell.

    Raises:
        SystemExit: the difference belongs to another bundled model.
    """
    known = json.loads(difference.read_text(encoding="utf-8"))
    if _sha256((asset / GENERATOR).read_bytes()) != known["asset_sha256"]:
        raise SystemExit(f"{difference}: it belongs to another model than {asset}; write it anew with --difference")
    training = json.loads((asset / TRAINING).read_text(encoding="utf-8"))
    tensors = _unscaled(asset, training["truncation"])
    for name, corrections in known["corrections"].items():
        places, values = zip(*corrections, strict=True)
        tensors[name].flat[list(places)] = np.array(values, tensors[name].dtype)
    content = save(tensors, metadata={"format": "pt"})
    if _sha256(content) != known["state_sha256"]:
        raise SystemExit(f"{out}: the rebuilt weights are not those that the difference was made for")
    with atomic_folder(out) as folder:
        for part in PARTS:
            shutil.copytree(asset / part, folder / part)
        shutil.copyfile(asset / "model_index.json", folder / "model_index.json")
        (folder / GENERATOR).write_bytes(content)
        write_json(folder / TRAINING, training | {"truncation": 1.0})


def write_difference(state: Path, asset: Path = ASSET, difference: Path = DIFFERENCE) -> None:
    """Write what the bundled model's weights do not tell of the model before.

    Args:
        state: the model before, with the noise that it was trained with.
        asset: the bundled model, made of the same checkpoint.
        difference: the file.
    """
    training = json.loads((asset / TRAINING).read_text(encoding="utf-8"))
    rebuilt, wanted = _unscaled(asset, training["truncation"]), load_file(state / GENERATOR)
    corrections = {}
    for name, tensor in wanted.items():
        places = np.flatnonzero(rebuilt[name] != tensor)
        if len(places):
            corrections[name] = [[int(place), float(tensor.flat[place])] for place in places]
    facts = {"asset_sha256": _sha256((asset / GENERATOR).read_bytes())}
    facts["state_sha256"] = _sha256((state / GENERATOR).read_bytes())
    write_json(difference, facts | {"corrections": corrections}, indent=None)


def _unscaled(asset: Path, truncation: float) -> Tensors:
    """The generator's weights as they were before `MateGenerator.truncate`, but for lost bits."""
    z_dim = json.loads((asset / "generator" / "config.json").read_text(encoding="utf-8"))["z_dim"]
    tensors = load_file(asset / GENERATOR)
    for name, tensor in tensors.items():
        if name.endswith(("gamma.0.weight", "beta.0.weight", "_predictor.linear.weight")):
            noise = tensor[:, :z_dim].astype(np.float32) / np.float32(truncation)
            tensor[:, :z_dim] = noise.astype(tensor.dtype)
    return tensors


def _sha256(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()


def main() -> None:
    """Rebuild the model, or write the difference."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, default=WORK / "state")
    parser.add_argument("--difference", type=Path, metavar="FOLDER", help="write the difference to this model instead")
    options = parser.parse_args()
    if options.difference is None:
        rebuild(options.out)
        print(options.out)
    else:
        write_difference(options.difference)
        print(DIFFERENCE)


if __name__ == "__main__":
    main()
