"""`pipeline.py` of a saved model: `standalone` and the networks that it uses, joined into one file that needs no galip.

It is text here: galip writes it and never runs it.
"""

from __future__ import annotations

import ast
from functools import lru_cache
from importlib.util import find_spec
from pathlib import Path

import galip

PIPELINE_FILE = "pipeline.py"

_MODULES = (
    *("galip.models.layers", "galip.models.blocks", "galip.models.clip", "galip.models.text"),
    *("galip.models.generator", "galip.generation.noise", "galip.torch_backend.standalone"),
)
"""In an order in which each uses only those before it."""

_HEAD = '''"""The pipeline of a GALIP model for diffusers alone, written by galip {version}; galip never runs it.

    from diffusers import DiffusionPipeline

    pipe = DiffusionPipeline.from_pretrained(FOLDER_OR_ID, custom_pipeline="pipeline", trust_remote_code=True)
    pipe("a red heart", seed=0).images[0].save("image.png")

It needs torch, transformers and diffusers. Under the MIT licence, like galip.
"""

from __future__ import annotations

'''

_ERRORS = '''

class InputError(ValueError):
    """An argument is wrong."""

'''


@lru_cache(maxsize=1)
def pipeline_source() -> str:
    """The text of `pipeline.py`."""
    imports: dict[str, None] = {}
    bodies = []
    for name in _MODULES:
        spec = find_spec(name)
        assert spec is not None and spec.origin is not None
        source = Path(spec.origin).read_text(encoding="utf-8")
        bodies.append(f"# ---- {name}\n\n\n{_without_imports(source, imports)}")
    return (
        _HEAD.format(version=galip.__version__) + "\n".join(imports) + "\n" + _ERRORS + "\n\n" + "\n\n\n".join(bodies)
    )


def _without_imports(source: str, imports: dict[str, None]) -> str:
    """A module without its docstring and imports; those that are not of galip are added to `imports`."""
    tree, lines = ast.parse(source), source.splitlines()
    for number, node in enumerate(tree.body):
        docstring = number == 0 and isinstance(node, ast.Expr)
        if isinstance(node, ast.Import | ast.ImportFrom):
            module = node.module if isinstance(node, ast.ImportFrom) else None
            if module != "__future__" and not (module or "").startswith("galip"):
                imports[ast.unparse(node)] = None
        elif isinstance(node, ast.If) and ast.unparse(node.test) == "TYPE_CHECKING":
            pass  # annotations are not evaluated
        elif not docstring:
            continue
        for line in range(node.lineno - 1, node.end_lineno or node.lineno):
            lines[line] = ""
    return "\n".join(lines).strip() + "\n"
