"""GALIP: a GAN that generates an image from a prompt in one forward pass, with CLIP in both of its networks.

    import galip

    pipe = galip.load()
    pipe("a red heart", seed=7).images[0].save("heart.png")

The public names are imported when they are first used, so that `import galip` itself is quick and brings no torch.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

from galip import _deprecated

if TYPE_CHECKING:
    from galip.generation.load import load
    from galip.generation.output import GALIPPipelineOutput
    from galip.torch_backend.pipeline import GALIPPipeline

__version__ = "0.1.0"

__all__ = ["GALIPPipeline", "GALIPPipelineOutput", "__version__", "load"]

_HOME_OF = {
    "GALIPPipeline": "galip.torch_backend.pipeline",
    "GALIPPipelineOutput": "galip.generation.output",
    "load": "galip.generation.load",
}


_deprecated.install()


def __getattr__(name: str) -> Any:
    """Import a public name from its home when it is first asked for (PEP 562)."""
    if name not in _HOME_OF:
        raise AttributeError(f"module 'galip' has no attribute {name!r}")
    value = getattr(importlib.import_module(_HOME_OF[name]), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
