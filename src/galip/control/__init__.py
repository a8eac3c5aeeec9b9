"""What a smooth space is for: walks from picture to picture, directions, mixing, grids.

Noise z and sentence vectors e are numpy's here, so every function works with the pipelines of all engines; what follows
gradients needs torch's and says so. The public names are imported when they are first used.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from galip.control.clip import CLIP, open_clip
    from galip.control.directions import Direction, direction, shift
    from galip.control.editing import edit, variations
    from galip.control.grids import Grid, mixtures, prompts_by_seeds, square, strengths
    from galip.control.interpolation import blend_noise, blend_sentences, lerp_norm, slerp
    from galip.control.inversion import Inversion, invert
    from galip.control.inversion_folder import read_inversion
    from galip.control.keyframes import Keyframe, Point, read_keyframes
    from galip.control.mixing import mix, stages
    from galip.control.pipelines import draw, embed, sizes
    from galip.control.refinement import Refined, refine
    from galip.control.reranking import Chosen, best_of, stream_best
    from galip.control.smoothness import PathLength, path_length
    from galip.control.videos import writing
    from galip.control.walks import Walk, walk

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
    "Walk",
    "best_of",
    "blend_noise",
    "blend_sentences",
    "direction",
    "draw",
    "edit",
    "embed",
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
    "sizes",
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
    "clip": ("CLIP", "open_clip"),
    "directions": ("Direction", "direction", "shift"),
    "editing": ("edit", "variations"),
    "grids": ("Grid", "mixtures", "prompts_by_seeds", "square", "strengths"),
    "interpolation": ("blend_noise", "blend_sentences", "lerp_norm", "slerp"),
    "inversion": ("Inversion", "invert"),
    "inversion_folder": ("read_inversion",),
    "keyframes": ("Keyframe", "Point", "read_keyframes"),
    "mixing": ("mix", "stages"),
    "pipelines": ("draw", "embed", "sizes"),
    "refinement": ("Refined", "refine"),
    "reranking": ("Chosen", "best_of", "stream_best"),
    "smoothness": ("PathLength", "path_length"),
    "videos": ("writing",),
    "walks": ("Walk", "walk"),
}
_HOME_OF = {name: f"galip.control.{module}" for module, names in _MODULES.items() for name in names}


def __getattr__(name: str) -> Any:
    """Import a public name from its home when it is first asked for (PEP 562)."""
    if name not in _HOME_OF:
        raise AttributeError(f"module 'galip.control' has no attribute {name!r}")
    value = getattr(importlib.import_module(_HOME_OF[name]), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
