"""The committed configurations: the paper's values, and two steps of each at full size."""

from __future__ import annotations

import io
import json
import tarfile
from pathlib import Path

import numpy as np
import pytest
import torch
from models import tiny as parts
from PIL import Image
from training.toy import open_run
from transformers import CLIPTextConfig, CLIPTextModelWithProjection, CLIPVisionConfig, CLIPVisionModelWithProjection

from galip.models.presets import PRESETS
from galip.training.checkpoint import list_checkpoints, load_checkpoint
from galip.training.config_file import load_config

CONFIGS = Path(__file__).parents[2] / "configs"
PAPERS = ("cub", "coco", "cc3m", "cc12m")


@pytest.mark.parametrize("name", sorted(path.stem for path in CONFIGS.glob("*.yaml")))
def test_every_configuration_can_be_read(name: str) -> None:
    config = load_config(CONFIGS / f"{name}.yaml")
    assert config.name == {"emoji": "emoji-64"}.get(name, name)
    assert config.model.preset in PRESETS


@pytest.mark.parametrize("name", PAPERS)
def test_the_papers_configurations_have_the_papers_values(name: str) -> None:
    config = load_config(CONFIGS / f"{name}.yaml")
    loss, optimizer = config.loss, config.optimizer
    assert (loss.similarity, loss.penalty_k, loss.penalty_p, loss.penalty_form) == (4, 2, 6, "released")
    assert (optimizer.lr_generator, optimizer.lr_discriminator, optimizer.betas) == (1e-4, 4e-4, (0, 0.9))
    assert config.schedule.batch == 8 * 64 and config.model.preset == "b32-224" and config.data.flip
    augmentation, schedule = config.augmentation, config.schedule
    stabilisers = (loss.r1, loss.similarity_second, loss.paired, schedule.warmup)
    stabilisers += (augmentation.shift, augmentation.colour, augmentation.cutout)
    assert not any(stabilisers) and schedule.decay == "none" and config.ema.ramp is None
    assert config.evaluation.keep_best == "fid" and "fid" in config.evaluation.metrics


@pytest.fixture(scope="module")
def full_clip(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A CLIP of ViT-B/32's shape with random weights, and a tokenizer of a few words."""
    folder, shape = tmp_path_factory.mktemp("clip"), PRESETS["b32-224"].vision
    tokenizer = parts.tokenizer(model_max_length=77)
    text = {"hidden_size": 512, "intermediate_size": 2048, "num_hidden_layers": 12, "num_attention_heads": 8}
    text |= {"vocab_size": 49408, "projection_dim": 512, "eos_token_id": tokenizer.eos_token_id, "pad_token_id": 0}
    text |= {"bos_token_id": tokenizer.eos_token_id - 1}
    torch.manual_seed(0)
    for part, model in (
        ("text_encoder", CLIPTextModelWithProjection(CLIPTextConfig(**text))),
        ("vision_encoder", CLIPVisionModelWithProjection(CLIPVisionConfig(**shape))),
    ):
        model.save_pretrained(folder / part)
    tokenizer.save_pretrained(folder / "tokenizer")
    (folder / "model_index.json").write_text(json.dumps({"_class_name": "GALIPPipeline"}))
    return folder


def shards(folder: Path, layout: str) -> str:
    """Eight pictures as `galip data prepare` leaves them (txt beside jpg for img2dataset's), and their pattern."""
    folder.mkdir()
    rng = np.random.default_rng(0)
    for shard in range(2):
        with tarfile.open(folder / f"{shard:05d}.tar", "w") as tar:
            for place in range(4):
                content = io.BytesIO()
                pixels = rng.integers(0, 255, (300, 280, 3), dtype=np.uint8)
                Image.fromarray(pixels).save(content, format="JPEG")
                caption = f"two birds in the rain {shard} {place}"
                text = caption.encode() if layout == "txt" else json.dumps({"captions": [caption, "a cat"]}).encode()
                for suffix, data in (("jpg", content.getvalue()), (layout, text)):
                    member = tarfile.TarInfo(f"{shard}{place:04d}.{suffix}")
                    member.size = len(data)
                    tar.addfile(member, io.BytesIO(data))
    return str(folder / "{00000..00001}.tar")


@pytest.mark.slow
@pytest.mark.parametrize("name", PAPERS)
def test_two_full_size_steps_then_a_resume(name: str, full_clip: Path, tmp_path: Path) -> None:
    source = shards(tmp_path / "shards", "txt" if name.startswith("cc") else "json")
    changes = [
        f"data.source={source}",
        f"model.clip={full_clip}",
        "data.workers=0",
        "schedule.batch=2",
        "performance.micro_batch=2",
    ]
    changes += ["performance.precision=fp32", "performance.device=cpu", "logging.every=2", "evaluation.every=0"]
    changes += ["evaluation.keep_best=''", "logging.grid_every=1000"]
    config = CONFIGS / f"{name}.yaml"
    open_run(load_config(config, [*changes, "schedule.images=4"]), tmp_path / "run").fit()
    resumed = open_run(load_config(config, [*changes, "schedule.images=6"]), tmp_path / "run", resume="latest")
    assert resumed.state.seen == 4
    resumed.fit()
    rows = [json.loads(line) for line in (tmp_path / "run" / "log.jsonl").read_text().splitlines()]
    assert [row["images"] for row in rows] == [2, 4, 6]
    assert all(np.isfinite(row["loss_d"]) and np.isfinite(row["loss_g"]) for row in rows)
    info, _ = load_checkpoint(list_checkpoints(tmp_path / "run" / "checkpoints")[-1])
    assert info.images == 6
