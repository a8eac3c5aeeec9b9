"""The format of a model folder: which parts it has, of which classes, and in which files.

A model is a diffusers folder: `model_index.json` names the parts, each part has a folder of its own with its
configuration and its weights as safetensors. Nothing here reads a file.
"""

from __future__ import annotations

INDEX = "model_index.json"
CARD = "README.md"
TRAINING = "training.json"
PIPELINE_CLASS = "GALIPPipeline"

NETWORKS = ("generator", "vision_encoder", "text_encoder")
"""Parts with weights that generating needs."""

TOKENIZER = "tokenizer"
OPTIONAL = ("text_encoder", TOKENIZER)
"""Parts that may be absent, as null in the index: the model then takes sentence vectors only."""

DISCRIMINATOR = "discriminator"
"""The folder beside the parts from which training can go on."""

OPTIMIZERS = "optimizers.safetensors"
"""The moments of both optimisers, where a model has them."""

TRAINABLE = ("generator", DISCRIMINATOR)

CLASSES: dict[str, frozenset[tuple[str, str]]] = {
    "generator": frozenset({("galip.models.generator", "MateGenerator")}),
    "vision_encoder": frozenset({("transformers", "CLIPVisionModelWithProjection")}),
    "text_encoder": frozenset({("transformers", "CLIPTextModelWithProjection"), ("transformers", "T5EncoderModel")}),
    TOKENIZER: frozenset(
        ("transformers", name)
        for name in (
            "CLIPTokenizer",
            "CLIPTokenizerFast",
            "T5Tokenizer",
            "T5TokenizerFast",
            "PreTrainedTokenizerFast",
            "TokenizersBackend",
        )
    ),
}
"""Part -> the (library, class) pairs that an index may name for it. No other module is ever imported for a model."""

TOKENIZER_FILES = ("tokenizer.json", "vocab.json", "spiece.model", "tokenizer.model", "vocab.txt")
"""Any of these is a vocabulary."""

WEIGHTS = "*.safetensors"
WEIGHTS_INDEX = "*.safetensors.index.json"
PICKLES = (".bin", ".pt", ".pth", ".ckpt", ".pkl", ".pickle")

_TOKENIZER_SETTINGS = ("merges.txt", "tokenizer_config.json", "special_tokens_map.json", "added_tokens.json")
_GRAPHS = ("generator", "text_encoder", "image_encoder")

HUB_FILES = (
    INDEX,
    CARD,
    TRAINING,
    "LICENSE*",
    *(f"{part}/{name}" for part in NETWORKS for name in ("config.json", WEIGHTS, WEIGHTS_INDEX)),
    *(f"{TOKENIZER}/{name}" for name in (*TOKENIZER_FILES, *_TOKENIZER_SETTINGS)),
    # graphs, and an exported model
    "export.json",
    "graphs.json",
    "tokenizer.json",
    *(f"{name}.onnx{end}" for name in _GRAPHS for end in ("", ".data")),
    *(f"{name}.{end}" for name in _GRAPHS for end in ("xml", "bin")),
)
"""What is downloaded of a model on the hub to generate: known names only, no code, no pickles, no discriminator."""

TRAINING_FILES = (f"{DISCRIMINATOR}/config.json", f"{DISCRIMINATOR}/{WEIGHTS}", OPTIMIZERS, "*.png")
"""What is downloaded beside these to train on from it, or to save it again whole."""
