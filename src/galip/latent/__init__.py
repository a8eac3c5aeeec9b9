"""What a smooth space is for: walks from image to image, directions, mixing, grids, reranking.

Noise z and sentence vectors e are numpy's here, so every function works on every engine; what follows gradients
(inversion, refinement) and what opens another CLIP needs torch and says so. The public names are imported when they are
first used.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

from galip._deprecated import renamed

if TYPE_CHECKING:
    from galip.latent.clip import Scorer, open_clip
    from galip.latent.directions import Direction, direction, shift
    from galip.latent.editing import edit, variations
    from galip.latent.grids import Grid, mixtures, prompts_by_seeds, square, strengths
    from galip.latent.interpolation import blend_noise, blend_sentences, lerp_norm, slerp
    from galip.latent.inversion import Inversion, invert
    from galip.latent.inversion_folder import read_inversion
    from galip.latent.keyframes import Keyframe, Point, read_keyframes
    from galip.latent.mixing import mix, stages
    from galip.latent.refinement import Refined, refine
    from galip.latent.reranking import Chosen, best_of, stream_best
    from galip.latent.smoothness import PathLength, path_length
    from galip.latent.walks import Walk, walk
    from galip.torch_backend.clip import CLIP
    from galip.utils.video import writing

__all__ = [
    "CLIP",
    "Chosen",
    "Direction",
    "Grid",
    "Inversion",
    "Keyframe",
    "PathLength",
    "Point",
    "Refined",
    "Scorer",
    "Walk",
    "best_of",
    "blend_noise",
    "blend_sentences",
    "direction",
    "edit",
    "invert",
    "lerp_norm",
    "mix",
    "mixtures",
    "open_clip",
    "path_length",
    "prompts_by_seeds",
    "read_inversion",
    "read_keyframes",
    "refine",
    "shift",
    "slerp",
    "square",
    "stages",
    "stream_best",
    "strengths",
    "variations",
    "walk",
    "writing",
]

_MODULES = {
    "clip": ("Scorer", "open_clip"),
    "directions": ("Direction", "direction", "shift"),
    "editing": ("edit", "variations"),
    "grids": ("Grid", "mixtures", "prompts_by_seeds", "square", "strengths"),
    "interpolation": ("blend_noise", "blend_sentences", "lerp_norm", "slerp"),
    "inversion": ("Inversion", "invert"),
    "inversion_folder": ("read_inversion",),
    "keyframes": ("Keyframe", "Point", "read_keyframes"),
    "mixing": ("mix", "stages"),
    "refinement": ("Refined", "refine"),
    "reranking": ("Chosen", "best_of", "stream_best"),
    "smoothness": ("PathLength", "path_length"),
    "walks": ("Walk", "walk"),
}
_HOME_OF = {name: f"galip.latent.{module}" for module, names in _MODULES.items() for name in names}
_HOME_OF["writing"] = "galip.utils.video"
_HOME_OF["CLIP"] = "galip.torch_backend.clip"


def __getattr__(name: str) -> Any:
    """Import a public name from its home when it is first asked for (PEP 562)."""
    if name not in _HOME_OF:
        return renamed(__name__, name)
    value = getattr(importlib.import_module(_HOME_OF[name]), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
