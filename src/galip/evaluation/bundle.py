"""What a protocol brings along, so that one command is enough: captions, a judge's features of real images.

A bundle is a folder:

* `captions.jsonl`: rows {"caption", "compared", "groups"}, the images that are generated;
* `features.safetensors`: `texts` [N, D], the captions in the judge's space; `real` [N, D], the real image of each
  caption, NaN where there is none; `suite_texts` [S, D], the prompts of the suites that the protocol generates as well;
  `facts` [M, 4], `PixelFacts` of the reference images;
* `suite_captions.json`: those prompts;
* `reference.npz`: `mu`, `sigma` and `features` of the reference set, readable by pytorch-fid;
* `judge/`: the network (`galip.evaluation.extractors.judge`).
"""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass
from importlib import resources
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from safetensors import SafetensorError
from safetensors.numpy import load_file

from galip.errors import GalipError
from galip.evaluation.plan import ListedCaption
from galip.evaluation.statistics import Statistics, read_statistics

CAPTIONS, FEATURES, SUITE_CAPTIONS, REFERENCE, JUDGE = (
    "captions.jsonl",
    "features.safetensors",
    "suite_captions.json",
    "reference.npz",
    "judge",
)


@dataclass(frozen=True)
class Bundle:
    """A bundle that was read.

    Attributes:
        folder: where it lies.
        listed: the captions.
        texts: every caption's vector [D] in the judge's space, the suites' too.
        real: float32 [N, D], the real image of each listed caption; NaN where there is none.
        reference: statistics and features of the reference set.
        facts: `PixelFacts` of its images, [M, 4].
        digest: of all its files.
    """

    folder: Path
    listed: tuple[ListedCaption, ...]
    texts: dict[str, NDArray[np.float32]]
    real: NDArray[np.float32]
    reference: Statistics
    facts: NDArray[np.float32]
    digest: str

    @property
    def judge(self) -> Path:
        """The judge's folder."""
        return self.folder / JUDGE


def bundle_of(protocol: str) -> Path:
    """The folder of a protocol's bundle in the package."""
    return Path(str(resources.files("galip"))) / "assets" / "protocols" / protocol


def read_bundle(folder: Path) -> Bundle:
    """Read a bundle.

    Raises:
        GalipError: a file is missing or damaged.
    """
    try:
        lines = (folder / CAPTIONS).read_text(encoding="utf-8").splitlines()
        rows = [json.loads(line) for line in lines]
        listed = tuple(ListedCaption(row["caption"], row["compared"], tuple(row["groups"])) for row in rows)
        more = json.loads((folder / SUITE_CAPTIONS).read_text(encoding="utf-8"))
        features = load_file(folder / FEATURES)
        texts = [*features["texts"].astype(np.float32), *features["suite_texts"].astype(np.float32)]
        captions = [*(entry.caption for entry in listed), *more]
        real, facts = features["real"].astype(np.float32), features["facts"]
    except (OSError, ValueError, KeyError, SafetensorError) as error:
        raise GalipError(
            f"{folder}: the protocol's own files are missing or damaged ({error}); install galip again"
        ) from error
    if len(texts) != len(captions) or len(real) != len(listed):
        raise GalipError(f"{folder}: its captions and its features are of different number; install galip again")
    digest = hashlib.sha256()
    for path in sorted(path for path in folder.rglob("*") if path.is_file()):
        digest.update(path.relative_to(folder).as_posix().encode() + path.read_bytes())
    table = dict(zip(captions, texts, strict=True))
    return Bundle(folder, listed, table, real, read_statistics(folder / REFERENCE), facts, digest.hexdigest()[:16])
