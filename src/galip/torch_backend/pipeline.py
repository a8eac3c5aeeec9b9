"""GALIPPipeline: `TextToImage` through torch, as a diffusers pipeline."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, ClassVar

import torch
from diffusers import DiffusionPipeline
from diffusers.utils.torch_utils import randn_tensor
from torch import Tensor
from transformers import (
    CLIPTextModelWithProjection,
    CLIPVisionModelWithProjection,
    PreTrainedTokenizerBase,
    T5EncoderModel,
)

from galip.errors import GalipError, InputError
from galip.generation.inputs import Batch, GenerationPlan
from galip.generation.output import Background, GALIPPipelineOutput, OutputType, on_background
from galip.generation.pipeline import Progress, TextToImage
from galip.model_repo.card import copy_papers, write_missing_card
from galip.model_repo.index import read_index
from galip.model_repo.resolve import fetch
from galip.models.clip import FrozenCLIPVision
from galip.models.generator import MateGenerator
from galip.models.text import SentenceEncoder
from galip.torch_backend.backend import GeneratorCall, TorchBackend
from galip.torch_backend.dtypes import as_dtype
from galip.torch_backend.pipeline_file import PIPELINE_FILE, pipeline_source
from galip.utils.arrays import FloatArray
from galip.utils.atomic import write_text

_HUB_ARGUMENTS = ("revision", "token", "cache_dir", "local_files_only", "force_download")
_PUSH_ARGUMENTS = ("repo_id", "private", "token", "commit_message", "create_pr")


class GALIPPipeline(TextToImage, DiffusionPipeline):
    """Generates images of prompts through torch, in one forward pass each; the call is that of `TextToImage`.

    Beside what every engine takes, it takes torch's generators, and tensors for `latents` and `prompt_embeds`, gives
    tensors for `output_type="pt"`, and shows a progress bar where the images do not fit into one batch. (A GPU keeps
    images independent of their batch only with `torch.backends.cudnn.allow_tf32 = False`.)

    It saves, loads, moves and is pushed to the hub like every diffusers pipeline. Because its class and its generator's
    live outside diffusers, load a saved folder with `GALIPPipeline.from_pretrained` or `galip.load`.

    Args:
        tokenizer: the text encoder's own tokenizer. None, with `text_encoder`, where only `prompt_embeds` are given.
        text_encoder: CLIP's text model with projection, or T5's encoder.
        vision_encoder: the frozen CLIP-ViT that the generator looks through.
        generator: Mate-G.
        text_scale: for T5, the constant that brings its vectors to the norm the generator was trained with (see
            `galip.models.text.measure_scale`); None for CLIP. It is saved with the pipeline.

    Raises:
        InputError: parts do not fit each other.
    """

    _optional_components = ["tokenizer", "text_encoder"]  # noqa: RUF012 (diffusers' own declaration)

    output_types: ClassVar[tuple[OutputType, ...]] = ("pil", "np", "pt")

    tokenizer: PreTrainedTokenizerBase | None
    text_encoder: CLIPTextModelWithProjection | T5EncoderModel | None
    vision_encoder: CLIPVisionModelWithProjection
    generator: MateGenerator

    def __init__(
        self,
        tokenizer: PreTrainedTokenizerBase | None,
        text_encoder: CLIPTextModelWithProjection | T5EncoderModel | None,
        vision_encoder: CLIPVisionModelWithProjection,
        generator: MateGenerator,
        text_scale: float | None = None,
    ) -> None:
        DiffusionPipeline.__init__(self)
        self.register_modules(
            tokenizer=tokenizer, text_encoder=text_encoder, vision_encoder=vision_encoder, generator=generator
        )
        self.register_to_config(text_scale=text_scale)
        generator.fold()
        self.generator_call: GeneratorCall | None = None
        self._folder: Path | None = None  # where it was loaded from
        self._made_of: tuple[Any, ...] = ()
        _ = self.backend  # parts that do not fit are found here rather than at the first image

    @classmethod
    def from_pretrained(cls, pretrained_model_name_or_path: Any, **kwargs: Any) -> GALIPPipeline:
        """Load a saved pipeline: a folder, a bundled model's name, or a hub id.

        Arguments are those of `DiffusionPipeline.from_pretrained`, but for code, which is never loaded: what the folder
        names is checked before diffusers sees it, and of a hub id only known files are downloaded. Unlike there, all
        parts come in one dtype, fp32 unless `dtype` says otherwise, and weights are read from safetensors files only.

        Raises:
            InputError: there is no such model, or an argument asks for code.
            GalipError: the model is not a GALIP model, names what no GALIP model has, or holds code.
        """
        for name in ("custom_pipeline", "trust_remote_code"):
            if kwargs.pop(name, None):
                raise InputError(f"{name} is given, but a GALIP model never brings code; leave it out")
        dtypes = [kwargs.pop(name, None) for name in ("dtype", "torch_dtype")]
        dtype = as_dtype(dtypes[0] or dtypes[1] or torch.float32)
        kwargs.setdefault("use_safetensors", True)
        hub = {name: kwargs.pop(name) for name in _HUB_ARGUMENTS if name in kwargs}
        folder = fetch(pretrained_model_name_or_path, **hub, discriminator=True)
        read_index(folder)
        pipeline: GALIPPipeline = super().from_pretrained(folder, dtype=dtype, **kwargs)
        pipeline._folder = folder
        return pipeline

    def save_pretrained(
        self,
        save_directory: str | os.PathLike[str],
        *args: Any,
        graphs: bool = True,
        discriminator: bool = True,
        **kwargs: Any,
    ) -> None:
        """Save the pipeline as a model folder; see `DiffusionPipeline.save_pretrained` for the other arguments.

        What lies beside the parts where the pipeline was loaded from goes along: card, licence, `training.json` and the
        discriminator. So does `pipeline.py`, with which diffusers loads the model where galip is not installed.

        Args:
            graphs: write the graphs too, from which the folder runs without torch. It takes about half a minute, and a
                moment where a pipeline of the same structure has been saved before. Folders of a `variant` get none.
            discriminator: False leaves out what only training goes on from.

        Raises:
            GalipError: the model cannot be exported.
        """
        push = kwargs.pop("push_to_hub", False)
        hub = {name: kwargs.pop(name) for name in _PUSH_ARGUMENTS if name in kwargs}
        super().save_pretrained(save_directory, *args, **kwargs)
        folder = Path(save_directory)
        if self._folder is not None and self._folder.resolve() != folder.resolve():
            copy_papers(self._folder, folder, discriminator)
        write_missing_card(folder)
        write_text(folder / PIPELINE_FILE, pipeline_source())
        if graphs and kwargs.get("variant") is None:
            from galip.export import write_graphs

            write_graphs(folder)
        if push:
            _upload(folder, hub.pop("repo_id", folder.resolve().name), **hub)

    def push_to_hub(self, repo_id: str, **kwargs: Any) -> str:
        """Save the pipeline with all that `save_pretrained` saves, and upload that to the hub.

        Args:
            repo_id: "owner/name"; the repository is made if it is not there.
            kwargs: `private`, `token`, `commit_message` and `create_pr` as diffusers has them; the rest is for
                `save_pretrained`.

        Returns:
            The address of the commit.

        Raises:
            GalipError: the hub cannot be reached or refuses.
        """
        hub = {name: kwargs.pop(name) for name in _PUSH_ARGUMENTS if name in kwargs}
        with TemporaryDirectory() as folder:
            self.save_pretrained(folder, **kwargs)
            return _upload(Path(folder), repo_id, **hub)

    def enable_model_cpu_offload(self, *_: Any, **__: Any) -> None:
        """Not there.

        Raises:
            InputError: always.
        """
        raise InputError(
            "GALIP calls its networks' layers and not the networks, so that nothing would move them to the GPU and "
            'back; they are small and stay there together: use pipe.to("cuda"), or engine="onnxruntime" on the CPU'
        )

    enable_sequential_cpu_offload = enable_model_cpu_offload
    to = DiffusionPipeline.to
    set_progress_bar_config = DiffusionPipeline.set_progress_bar_config

    # ---- the parts as GALIP uses them

    @property
    def backend(self) -> TorchBackend:
        """The networks; made anew when a part has been replaced.

        Raises:
            InputError: parts do not fit each other.
        """
        parts = (self.tokenizer, self.text_encoder, self.vision_encoder, self.generator, self.config.text_scale)
        made_of = (*parts, self.generator_call, self.generator.config.clip_input)
        if not self._made_of or any(a is not b for a, b in zip(made_of, self._made_of, strict=True)):
            self._torch_backend = TorchBackend(*parts, self.generator_call)
            self._made_of = made_of
        return self._torch_backend

    @property
    def vision(self) -> FrozenCLIPVision:
        """The frozen CLIP-ViT with the input mapping that the generator was trained with."""
        return self.backend.vision

    @property
    def sentence_encoder(self) -> SentenceEncoder:
        """The sentence encoder that the class of `text_encoder` asks for: CLIP's or T5's.

        Raises:
            InputError: the pipeline has no text encoder.
        """
        self._encode()
        assert self.backend.sentence_encoder is not None
        return self.backend.sentence_encoder

    def encode_prompt(self, prompt: str | Sequence[str]) -> Tensor:
        """Sentence vectors of prompts as a tensor [N, cond_dim] in fp32 on the generator's device; see `embed`."""
        return torch.from_numpy(self.embed(prompt)).to(self.generator.device)

    # ---- torch's kinds of arrays

    def _as_numpy(self, value: Any) -> Any:
        if not isinstance(value, Tensor):
            return value
        value = value.detach().cpu()
        return (value.float() if value.is_floating_point() else value).numpy()

    def _noise_from(self, generator: Any, total: int) -> FloatArray:
        generators = [generator] if isinstance(generator, torch.Generator) else generator
        if not isinstance(generators, Sequence) or not all(isinstance(g, torch.Generator) for g in generators):
            raise InputError(f"generator {generator!r}: give a torch.Generator or a list of them; a number is a `seed`")
        if generators is generator and len(generators) != total:
            raise InputError(f"generator is a list of {len(generators)}: give one for each of the {total} images")
        z: Tensor = randn_tensor(
            (total, self.generator.z_dim),
            generator=generator if isinstance(generator, torch.Generator) else list(generators),
            device=self.generator.device,
            dtype=torch.float32,
        )
        noise: FloatArray = z.cpu().numpy()
        return noise

    def _images(self, batch: Batch, output_type: OutputType, background: Background) -> Any:
        if output_type != "pt":
            return super()._images(batch, output_type, background)
        images = self.backend.generate_tensor(batch.z, batch.e) * 0.5 + 0.5
        self._check_finite(images.isfinite().flatten(1).all(dim=1).cpu().numpy(), batch)
        return on_background(images.clamp(0.0, 1.0), background)

    def _as_asked(self, images: Any, output_type: OutputType) -> Any:
        if output_type != "pt":
            return images
        return torch.from_numpy(images).permute(0, 3, 1, 2).contiguous().to(self.generator.device)

    def _join(self, parts: list[GALIPPipelineOutput]) -> GALIPPipelineOutput:
        if not isinstance(parts[0].images, Tensor):
            return super()._join(parts)
        seeds = None if parts[0].seeds is None else [seed for part in parts for seed in part.seeds or ()]
        return GALIPPipelineOutput(torch.cat([part.images for part in parts]), seeds)

    @contextmanager
    def _progress(self, plan: GenerationPlan, progress: Progress | None) -> Iterator[Callable[[int], None]]:
        if progress is not None or plan.total <= plan.batch_size:
            with super()._progress(plan, progress) as report:
                yield report
        else:
            with self.progress_bar(total=plan.total) as bar:
                yield bar.update


GALIPPipeline.__init__.__annotations__.clear()  # earlier releases of diffusers cannot read them where they are text


def _upload(
    folder: Path,
    repo_id: str,
    private: bool | None = None,
    token: str | None = None,
    commit_message: str | None = None,
    create_pr: bool = False,
) -> str:
    """Upload a model folder to the hub; returns the commit's address. (diffusers would write a card over ours.)"""
    from huggingface_hub import HfApi
    from huggingface_hub.errors import HfHubHTTPError

    hub = HfApi(token=token)
    try:
        name = hub.create_repo(repo_id, private=private, exist_ok=True).repo_id
        message = commit_message or "A GALIP model"
        done = hub.upload_folder(repo_id=name, folder_path=folder, commit_message=message, create_pr=create_pr)
    except (HfHubHTTPError, OSError, ValueError) as error:
        raise GalipError(f"{repo_id}: the model could not be uploaded to the hub: {error}") from error
    return str(done)
