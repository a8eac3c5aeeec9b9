"""Nodes for ComfyUI: copy this folder to `ComfyUI/custom_nodes/galip`, with galip installed in ComfyUI's Python.

An image here is what it is everywhere in ComfyUI: a float tensor [N, H, W, 3] in [0, 1].
"""

from __future__ import annotations

from typing import Any, ClassVar

import torch

import galip
from galip.model_repo.resolve import bundled_models


class GALIPLoader:
    """Loads a model: a bundled name, a folder, or a hub id."""

    CATEGORY, FUNCTION = "galip", "load"
    RETURN_TYPES: ClassVar = ("GALIP_MODEL",)

    @classmethod
    def INPUT_TYPES(cls) -> dict[str, Any]:
        """The node's inputs."""
        first = next(iter(bundled_models()), "")
        return {"required": {"model": ("STRING", {"default": first}), "engine": (["auto", "onnxruntime", "torch"],)}}

    def load(self, model: str, engine: str) -> tuple[Any]:
        """The pipeline."""
        return (galip.load(model, engine=engine),)


class GALIPGenerate:
    """Generates images of a prompt, with the seeds seed, seed + 1, ..."""

    CATEGORY, FUNCTION = "galip", "generate"
    RETURN_TYPES: ClassVar = ("IMAGE",)

    @classmethod
    def INPUT_TYPES(cls) -> dict[str, Any]:
        """The node's inputs."""
        return {
            "required": {
                "model": ("GALIP_MODEL",),
                "prompt": ("STRING", {"multiline": True, "default": "3d emoji of red heart"}),
                "seed": ("INT", {"default": 0, "min": 0, "max": 2**53}),
                "images": ("INT", {"default": 1, "min": 1, "max": 64}),
                "truncation": ("FLOAT", {"default": 1.0, "min": 0.0, "max": 2.0, "step": 0.05}),
                "size": ("INT", {"default": 0, "min": 0, "max": 4096}),
            }
        }

    def generate(
        self, model: Any, prompt: str, seed: int, images: int, truncation: float, size: int
    ) -> tuple[torch.Tensor]:
        """The images; a size of 0 is the model's own."""
        made = model(prompt, images, seed=seed, truncation=truncation, output_type="np", height=size or None)
        return (torch.from_numpy(made.images),)


NODE_CLASS_MAPPINGS = {"GALIPLoader": GALIPLoader, "GALIPGenerate": GALIPGenerate}
NODE_DISPLAY_NAME_MAPPINGS = {"GALIPLoader": "GALIP: load model", "GALIPGenerate": "GALIP: generate"}
