"""Every ablation of the paper is one override, and trains."""

from __future__ import annotations

import importlib.util
import json
import sys
from itertools import islice
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pytest
import tiny
import torch
from models import tiny as parts
from training import toy
from training.toy import open_run
from transformers import CLIPTextConfig, CLIPTextModelWithProjection, CLIPVisionConfig, CLIPVisionModelWithProjection

import galip
from galip.models import PRESETS, MateDiscriminator, PlainDiscriminator
from galip.training.config import TrainConfig
from galip.training.config_file import apply_override, load_config, parse_config
from galip.training.export import export_model
from galip.training.losses import Views

BENCHMARKS = Path(__file__).parents[2] / "benchmarks"


def _script() -> ModuleType:
    sys.path.insert(0, str(BENCHMARKS))
    try:
        spec = importlib.util.spec_from_file_location("ablations", BENCHMARKS / "ablations.py")
        assert spec is not None and spec.loader is not None
        module = sys.modules["ablations"] = importlib.util.module_from_spec(spec)
        spec.loader.exec_module(module)
    finally:
        sys.path.remove(str(BENCHMARKS))
    return module


ABLATIONS = _script()
SMALL = [name for name, ablation in ABLATIONS.ABLATIONS.items() if ablation.of_small is not None]


def two_steps(config: TrainConfig, run: Path) -> list[dict[str, float]]:
    trainer = open_run(config, run)
    before = {name: weight.clone() for name, weight in trainer.state.networks.generator.state_dict().items()}
    vectors = toy.caption_vectors(trainer, cached=False)
    batches = islice(toy.batches(trainer), 2)
    rows = [trainer.state.advance(batch, vectors(batch.captions)).numbers() for batch in batches]
    assert len(rows) == 2 and all(np.isfinite(value) for row in rows for value in row.values())
    after = trainer.state.networks.generator.state_dict()
    assert any(not torch.equal(weight, after[name]) for name, weight in before.items())
    return rows


def test_every_ablation_is_one_override_of_the_papers_configuration() -> None:
    base = load_config("coco")
    for name, ablation in ABLATIONS.ABLATIONS.items():
        config = load_config("coco", [ablation.override] if ablation.override else [])
        assert (config == base) == (name == ABLATIONS.BASE), name


def test_the_page_has_the_table_of_overrides() -> None:
    page = ABLATIONS.DOCS.read_text(encoding="utf-8")
    for ablation in ABLATIONS.ABLATIONS.values():
        assert f"| {ablation.title} | " in page and f"`{ablation.override}`" in page + "``"
    assert ABLATIONS.BEGIN in page and ABLATIONS.END in page


def toy_run(name: str, data: Path, clip: Path) -> TrainConfig:
    tree = toy.config(data, clip, schedule={"images": 8}).model_dump(mode="json")
    if override := ABLATIONS.ABLATIONS[name].of_small:
        apply_override(tree, override)
    return parse_config(tree, name)


@pytest.mark.slow
@pytest.mark.parametrize("name", SMALL)
def test_two_steps(name: str, toy_data: Path, toy_clip: Path, tmp_path: Path) -> None:
    config = toy_run(name, toy_data, toy_clip)
    rows = two_steps(config, tmp_path / "run")
    if name == "no-mismatch":
        assert all(row["d_mismatch"] == 0 for row in rows)
    if name == "no-penalty":
        assert all(row["penalty"] == 0 for row in rows)


@pytest.mark.slow
@pytest.mark.engines
@pytest.mark.parametrize("name", ["no-prompts", "two-tokens"])
def test_engines_generate_what_torch_does(name: str, toy_data: Path, toy_clip: Path, tmp_path: Path) -> None:
    model = open_run(toy_run(name, toy_data, toy_clip), tmp_path / "run").fit()
    by_torch, by_engine = (
        galip.load(model, engine=engine)("red heart", seed=0, output_type="np").images
        for engine in ("torch", "onnxruntime")
    )
    assert by_torch.shape == (1, 32, 32, 3) and abs(by_torch - by_engine).max() < 1e-4


def test_without_prompts_the_transformer_sees_the_bridge_alone() -> None:
    torch.manual_seed(0)
    vision, (z, e) = parts.vision(), parts.noise_and_sentence()
    generator = parts.scatter(parts.generator(prompt_blocks=()))
    assert not any("prompt" in name for name, _ in generator.named_parameters())
    assert generator.prompts(torch.cat([z, e], dim=1)).shape == (2, 0, parts.WIDTH)
    bridge = generator.bridge(z, torch.cat([z, e], dim=1))
    concepts = vision.induce(bridge, bridge.new_zeros(2, 0, parts.WIDTH), ())
    expected = generator.image(bridge, concepts, torch.cat([z, e], dim=1))
    torch.testing.assert_close(generator(z, e, vision), expected)
    generator.truncate(0.5)


def test_two_tokens_a_block_are_both_looked_at() -> None:
    torch.manual_seed(0)
    vision = parts.vision()
    bridge, prompts = torch.randn(2, parts.WIDTH, parts.GRID, parts.GRID), torch.randn(2, 4, parts.WIDTH)
    whole = vision.induce(bridge, prompts, (1, 2))
    for token in range(4):
        changed = prompts.clone()
        changed[:, token] += torch.randn(parts.WIDTH)
        assert not torch.allclose(vision.induce(bridge, changed, (1, 2)), whole, atol=1e-4)
    # Twice the same token is one that is looked at twice as much, which is not the same as once.
    swapped = prompts[:, [1, 0, 3, 2]]
    torch.testing.assert_close(vision.induce(bridge, swapped, (1, 2)), whole)
    with pytest.raises(ValueError, match="or equally many"):
        vision.induce(bridge, prompts[:, :3], (1, 2))


@pytest.mark.parametrize("preset", ["released-b32-224", "l14-256", "mini-64"])
def test_the_plain_discriminator_is_of_mate_ds_size(preset: str) -> None:
    arguments = PRESETS[preset].discriminator | {"dead_shortcuts": False}
    shared = {name: arguments[name] for name in ("out_channels", "assessor_channels", "cond_dim")}
    with torch.device("meta"):
        mate = sum(weight.numel() for weight in MateDiscriminator(**arguments).parameters())
        plain = PlainDiscriminator.of_size(mate, PRESETS[preset].image_size, **shared)
    assert sum(weight.numel() for weight in plain.parameters()) == pytest.approx(mate, rel=0.05)


def test_the_plain_discriminator_sees_image_and_caption() -> None:
    torch.manual_seed(0)
    network = PlainDiscriminator(image_size=32, channels=4, out_channels=8, assessor_channels=4, cond_dim=5)
    parts.scatter(network)
    images, e = torch.randn(3, 3, 32, 32, requires_grad=True), torch.randn(3, 5, requires_grad=True)
    logits = network([images], e)
    assert logits.shape == (3,)
    (of_images, of_e) = torch.autograd.grad(logits.sum(), [images, e], create_graph=True)
    (of_images.square().sum() + of_e.square().sum()).backward()
    assert of_images.abs().sum() > 0 and of_e.abs().sum() > 0
    with pytest.raises(ValueError, match="this discriminator looks at images"):
        network([torch.randn(3, 32, 4, 4)], e)


def test_training_on_from_a_model_keeps_its_kind_of_discriminator(
    toy_data: Path, toy_clip: Path, tmp_path: Path
) -> None:
    config = toy_run("d-pixels", toy_data, toy_clip)
    state = open_run(config, tmp_path / "run").state
    model = export_model(state.networks, state.average, config, 0, tmp_path / "model", graphs=False)
    tuned = toy.trained_on_from(toy.config(toy_data, toy_clip, schedule={"images": 4}), model)
    trainer = open_run(tuned, tmp_path / "more")
    kept, first = trainer.state.networks.discriminator, state.networks.discriminator
    assert isinstance(kept, PlainDiscriminator)
    assert all(torch.equal(a, b) for a, b in zip(kept.parameters(), first.parameters(), strict=True))
    with pytest.raises(galip.errors.InputError, match="discriminator.looks_at is clip"):
        open_run(toy.change(tuned, discriminator={"looks_at": "clip"}), tmp_path / "other")


def test_a_penalty_on_pixels_is_one_on_pixels(toy_data: Path, toy_clip: Path, tmp_path: Path) -> None:
    """Against the gradients taken by hand, through the whole ViT."""
    trainer = open_run(toy_run("penalty-pixels", toy_data, toy_clip), tmp_path / "run")
    step, networks = trainer.state.step, trainer.state.networks
    parts.scatter(networks.discriminator)
    batch = next(iter(toy.batches(trainer)))
    (micro,) = step.micro_batches(batch, toy.caption_vectors(trainer)(batch.captions))
    real = step.real_views(micro)
    found = step.d_loss(micro, real, Views([tap.detach() for tap in real.taps], []))
    images = micro.random.augment_real(step.real_images(micro)).detach().requires_grad_()
    e = micro.text.e.detach().clone().requires_grad_()
    seen = networks.vision.taps(images, networks.discriminator.tap_blocks)
    gradients = torch.autograd.grad(networks.discriminator(seen, e).sum(), [images, e])
    squared = sum(gradient.flatten(1).square().sum(1) for gradient in gradients)
    torch.testing.assert_close(found.penalty, (2 * squared**3).mean(), rtol=1e-4, atol=1e-12)
    assert found.penalty > 0
    found.loss_d.backward()
    assert all(p.grad is not None for p in networks.discriminator.parameters())
    assert not any(p.grad is not None for p in networks.vision.parameters())


@pytest.mark.slow
def test_t5(toy_data: Path, toy_clip: Path, tmp_path: Path) -> None:
    """Its length of e comes from it: model.text is the only override."""
    t5 = tiny.save(tmp_path / "clip")
    tiny.pipeline(text="t5").save_pretrained(tmp_path / "t5", graphs=False)
    tree = toy.config(toy_data, t5, schedule={"images": 8}).model_dump(mode="json")
    for section in ("generator", "discriminator"):
        del tree[section]["cond_dim"]
    apply_override(tree, f"model.text={tmp_path / 't5'}")
    config = parse_config(tree, "t5")
    assert config.generator.cond_dim is None
    two_steps(config, tmp_path / "run")


@pytest.mark.slow
@pytest.mark.parametrize("name", ["paper", "b16", "l14"])
def test_vits_of_the_paper(name: str, toy_data: Path, tmp_path: Path) -> None:
    """The true widths, depths and grids; feed-forward layers and text tower are small, as they change no shape."""
    override = ABLATIONS.ABLATIONS[name].override
    shape = PRESETS[override.partition("=")[2] or "b32-224"].vision
    slim = {"intermediate_size": 64, "vocab_size": 64}
    tokenizer = parts.tokenizer(model_max_length=77)
    text = {"hidden_size": 32, "num_hidden_layers": 1, "num_attention_heads": 2, "max_position_embeddings": 77} | slim
    text |= {"projection_dim": shape["projection_dim"], "eos_token_id": tokenizer.eos_token_id, "pad_token_id": 0}
    text |= {"bos_token_id": tokenizer.eos_token_id - 1}
    CLIPTextModelWithProjection(CLIPTextConfig(**text)).save_pretrained(tmp_path / "clip" / "text_encoder")
    vision = CLIPVisionConfig(**(shape | {"intermediate_size": 64}))
    CLIPVisionModelWithProjection(vision).save_pretrained(tmp_path / "clip" / "vision_encoder")
    tokenizer.save_pretrained(tmp_path / "clip" / "tokenizer")
    (tmp_path / "clip" / "model_index.json").write_text(json.dumps({"_class_name": "GALIPPipeline"}))
    changes: list[Any] = [f"data.source={toy_data}", f"model.clip={tmp_path / 'clip'}", "data.workers=0"]
    # Few channels where CLIP has no part.
    channels = [8] * len(PRESETS[override.partition("=")[2] or "b32-224"].generator["block_sizes"])
    changes += ["generator.stem_channels=8", f"generator.block_channels={channels}", "discriminator.out_channels=8"]
    changes += ["schedule.batch=2", "schedule.images=4", "performance.micro_batch=2", "performance.precision=fp32"]
    changes += ["performance.device=cpu", "logging.every=4", "evaluation.every=0", "evaluation.keep_best=''"]
    changes += ["checkpoints.every=1000000", "logging.grid_every=1000000", "data.shorter_side=null"]
    two_steps(load_config("coco", [*changes, *([override] if override else [])]), tmp_path / "run")


def test_figures_and_intervals_over_seeds(tmp_path: Path) -> None:
    by_seed = {"paper": {"0": 10.0, "1": 12.0, "2": 14.0}, "no-prompts": {"0": 11.0, "1": 13.0, "2": 15.0}}
    found = {
        name: {seed: dict.fromkeys(ABLATIONS.METRICS, value) for seed, value in values.items()}
        for name, values in by_seed.items()
    }
    rows = ABLATIONS.summary(found)
    paper, other = rows["paper"]["fd_judge"], rows["no-prompts"]["fd_judge"]
    assert paper == {"mean": 12, "half_width": pytest.approx(4.30 * 2 / 3**0.5)}
    # The same seeds stand beside each other: what all seeds have in common does not blur the difference.
    assert other["change"] == 1 and other["change_half_width"] == 0
    page = tmp_path / "page.md"
    page.write_text(f"before\n{ABLATIONS.BEGIN}\nold\n{ABLATIONS.END}\nafter\n")
    ABLATIONS.write_docs(page, rows)
    text = page.read_text()
    assert text.startswith("before\n") and text.endswith("\nafter\n") and "old" not in text
    assert "12 ± 5" in text and "(+1 ± 0)" in text
