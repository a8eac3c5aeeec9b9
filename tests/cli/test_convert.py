"""`galip convert`, end to end on a tiny checkpoint."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import pytest
import tiny
import torch
from cli.running import Ended, run
from conversion.released_layout import TINY_PRESET, assert_same_bits, content
from models import tiny as parts

import galip
from galip.conversion import model_folder as command
from galip.conversion.checkpoint_file import read_checkpoint
from galip.conversion.openai_vit import to_openai
from galip.conversion.released import from_released
from galip.model_repo.describe import describe
from galip.model_repo.graphs import has_graphs
from galip.models import PRESETS, FrozenCLIPVision, MateDiscriminator


@pytest.fixture(scope="module")
def clip(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A tiny random CLIP, inside a model folder."""
    return tiny.save(tmp_path_factory.mktemp("clip") / "tiny")


@pytest.fixture(scope="module")
def what(clip: Path) -> dict[str, Any]:
    """A checkpoint whose ViT is that CLIP's, in mixed precision, under DataParallel's names."""
    found = content(dict.fromkeys(("netG", "netD", "netC"), "module."), half_vit=True)
    vision = galip.GALIPPipeline.from_pretrained(clip).vision_encoder
    net_g = found["model"]["netG"]
    for key, tensor in to_openai(vision.state_dict()).items():
        name = f"module.mapping.CLIP_ViT.{key}"
        net_g[name] = tensor.to(net_g[name].dtype)
    return found


@pytest.fixture
def checkpoint(tmp_path: Path, what: dict[str, Any], monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setitem(PRESETS, "tiny", TINY_PRESET)
    torch.save(what, tmp_path / "pre_tiny.pth")
    return tmp_path / "pre_tiny.pth"


def convert(capsys: pytest.CaptureFixture[str], checkpoint: Path, clip: Path, *more: object) -> Ended:
    out = checkpoint.parent / "model"
    return run(capsys, "convert", checkpoint, "-o", out, "--clip", clip, "--preset", "tiny", "--no-graphs", *more)


@pytest.mark.engines
def test_a_converted_model_runs_without_torch(
    checkpoint: Path, clip: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(capsys, "convert", checkpoint, "-o", tmp_path / "model", "--clip", clip, "--preset", "tiny").code == 0
    images, others = (
        galip.load(tmp_path / "model", engine=engine)(["a red heart"], seed=1, output_type="np").images
        for engine in ("onnxruntime", "torch")
    )
    assert abs(images - others).max() <= 1e-4
    assert has_graphs(tmp_path / "model")


def test_there_and_back(
    checkpoint: Path, what: dict[str, Any], clip: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    ended = convert(capsys, checkpoint, clip)
    assert ended.code == 0, ended.err
    assert ended.err.count("\n") == 1 and "4 prompts are saturated" in ended.err  # weights of no training
    assert "mixed precision, float16 and float32, equal to this CLIP's, epoch 7; preset tiny" in ended.out
    assert "academic research only" in ended.out
    model = tmp_path / "model"
    assert not list(tmp_path.glob(".*"))

    # It draws, and what it draws is the checkpoint's.
    pipe = galip.load(model, engine="torch")
    z, e = parts.noise_and_sentence()
    drawn = pipe(prompt_embeds=e, latents=z, output_type="pt").images
    direct = from_released(read_checkpoint(checkpoint), pipe.vision_encoder, TINY_PRESET)
    with torch.no_grad():
        vision = FrozenCLIPVision(direct.vision.float(), "released")
        expected = direct.generator(z, e, vision) * 0.5 + 0.5
    torch.testing.assert_close(drawn, expected.clamp(0, 1), rtol=0, atol=1e-5)
    assert pipe.generator.config.clip_input == "released"
    assert len(pipe("a red heart", seed=1).images) == 1
    assert MateDiscriminator.from_pretrained(model / "discriminator").config.dead_shortcuts

    facts = describe(model)
    assert facts.licence == "galip-academic-research-only"
    record = json.loads((model / "released.json").read_text())
    card = (model / "README.md").read_text()
    for words in ("pre_tiny.pth", record["sha256"], str(clip), "| epoch | 7 |", "Academic research only"):
        assert words in card

    back = tmp_path / "deeper" / "back.pth"
    ended = run(capsys, "convert", model, back, "--to-released")
    assert ended.code == 0, ended.err
    assert ended.err == "" and "optimizers, epoch, scalers" in ended.out
    assert_same_bits(what, torch.load(back, weights_only=True))


def test_another_vit_is_told(
    checkpoint: Path, what: dict[str, Any], clip: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    model = what["model"] | {"netG": dict(what["model"]["netG"])}
    model["netG"]["module.mapping.CLIP_ViT.ln_pre.bias"] = torch.full((32,), 9.0)
    torch.save({"model": model}, checkpoint)
    ended = convert(capsys, checkpoint, clip)
    assert ended.code == 0
    assert ended.err.startswith("Warning: ") and "1 of 53 tensors differ" in ended.err
    assert "The checkpoint's is kept" in ended.err
    assert "not equal to this CLIP's, no epoch recorded" in ended.out
    assert json.loads((tmp_path / "model/released.json").read_text())["difference"]["differing"] == 1
    assert run(capsys, "convert", tmp_path / "model", tmp_path / "back.pth", "--to-released").code == 0
    assert_same_bits({"model": model}, torch.load(tmp_path / "back.pth", weights_only=True))


def test_an_old_model_is_replaced_only_on_demand(
    checkpoint: Path, clip: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "model").mkdir()
    (tmp_path / "model" / "mine.txt").write_text("mine")
    ended = convert(capsys, checkpoint, clip)
    assert ended.code == 2 and "the folder is not empty" in ended.err and "--overwrite" in ended.err
    assert [path.name for path in (tmp_path / "model").iterdir()] == ["mine.txt"]
    assert convert(capsys, checkpoint, clip, "--overwrite").code == 0
    assert (tmp_path / "model" / "model_index.json").exists() and not (tmp_path / "model" / "mine.txt").exists()
    ended = run(capsys, "convert", tmp_path / "model", checkpoint, "--to-released")
    assert ended.code == 2 and "the file is there already" in ended.err


def test_nothing_half_written_is_left(
    checkpoint: Path,
    clip: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    def full(*args: Any, **kwargs: Any) -> None:
        raise OSError(28, "No space left on device", "discriminator")

    monkeypatch.setattr(MateDiscriminator, "save_pretrained", full)
    ended = convert(capsys, checkpoint, clip)
    assert ended.code == 2 and ended.err == "Error: discriminator: No space left on device\n"
    assert [path.name for path in tmp_path.iterdir()] == ["pre_tiny.pth"]


@pytest.mark.parametrize(
    ("argv", "words"),
    [
        (["{pth}", "{out}"], "--clip is missing"),
        (["{none}", "{out}", "--clip", "{clip}"], "none.pth: there is no such file"),
        (["{clip}", "{out}", "--clip", "{clip}"], "this is a folder; name a .pth file, or add --to-released"),
        (["{pth}", "{pth}", "--clip", "{clip}"], "this is a file; name the folder"),
        (["{pth}", "{out}", "--clip", "{clip}", "--preset", "huge"], "preset 'huge': there is no such preset"),
        (["{pth}", "{out}", "--clip", "{none}", "--preset", "tiny"], "none.pth"),
        (["{pth}", "{out}", "--clip", "{clip}"], "size released-b32-224"),
        (["{pth}", "{out}", "--to-released"], "pre_tiny.pth: this is a file, but a model is a folder"),
        (["{clip}", "{out}", "--to-released", "--clip", "{clip}"], "leave this out with --to-released"),
        (["{clip}", "{out}", "--to-released"], "there is no discriminator/"),
        (["{clip}", "{clip}", "--to-released"], "this is a folder; name the .pth file"),
        (["some/model", "{out}", "--to-released"], "download it first"),
    ],
)
def test_errors_are_one_clean_line(
    argv: list[str], words: str, checkpoint: Path, clip: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    names = {"pth": checkpoint, "out": tmp_path / "out", "none": tmp_path / "none.pth", "clip": clip}
    ended = run(capsys, "convert", *(arg.format(**names) for arg in argv))
    assert ended.code == 2
    assert ended.err.startswith("Error: ") and ended.err.count("\n") == 1 and "Traceback" not in ended.err
    assert words in ended.err
    assert not (tmp_path / "out").exists()


class Malicious:
    def __reduce__(self) -> tuple[Any, ...]:
        return os.mkdir, ("ran",)


@pytest.mark.parametrize("kind", ["truncated", "text", "malicious"])
def test_broken_files(
    kind: str,
    checkpoint: Path,
    clip: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.chdir(tmp_path)
    if kind == "truncated":
        checkpoint.write_bytes(checkpoint.read_bytes()[:5000])
    elif kind == "text":
        checkpoint.write_text("<html>quota exceeded</html>")
    else:
        torch.save({"model": Malicious()}, checkpoint)
    ended = convert(capsys, checkpoint, clip)
    assert ended.code == 2
    assert ended.err.startswith(f"Error: {checkpoint}: ") and ended.err.count("\n") == 1
    assert ("could run code" if kind == "malicious" else "fetch it again") in ended.err
    assert [path.name for path in tmp_path.iterdir()] == ["pre_tiny.pth"]


# ---- models that were trained here


def trained(folder: Path, **generator: Any) -> Path:
    pipe = tiny.pipeline()
    numbers = {"prompt_blocks": (1, 2, 3), "block_sizes": (16, 32, 64)} | generator
    pipe.register_modules(generator=parts.scatter(parts.generator(**numbers)))
    pipe.save_pretrained(folder, graphs=False)
    parts.discriminator(tap_blocks=(0, 1, 3)).save_pretrained(folder / "discriminator")
    return folder


def test_a_model_trained_here_is_written(
    clip: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setitem(PRESETS, "tiny", TINY_PRESET)
    model = trained(tmp_path / "trained")
    ended = run(capsys, "convert", model, tmp_path / "out.pth", "--to-released", "--preset", "tiny")
    assert ended.code == 0, ended.err
    assert "cannot tell that clip_input is 'standard'" in ended.err
    assert "no optimisers, no epoch" in ended.out
    options = ("--clip", model, "--preset", "tiny", "--no-graphs")
    ended = run(capsys, "convert", tmp_path / "out.pth", tmp_path / "back", *options)
    assert ended.code == 0 and ended.err == ""
    assert "four prompts were generated" in ended.out
    z, e = parts.noise_and_sentence()
    one, other = (
        galip.load(folder, engine="torch")(prompt_embeds=e, latents=z, output_type="pt").images
        for folder in (model, tmp_path / "back")
    )
    assert one.equal(other)


def test_a_model_that_the_layout_cannot_hold(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    model = trained(tmp_path / "trained")
    ended = run(capsys, "convert", model, tmp_path / "out.pth", "--to-released")
    assert ended.code == 2 and ended.err.count("\n") == 1
    assert ended.err.startswith(f"Error: {model}: the released layout cannot hold this model")
    assert "block_sizes is (16, 32, 64), not (8, 16, 32, 64, 128, 224)" in ended.err
    assert not (tmp_path / "out.pth").exists()


def test_a_damaged_record_is_named(
    checkpoint: Path, clip: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert convert(capsys, checkpoint, clip).code == 0
    (tmp_path / "model" / command.RECORD).write_text("{")
    ended = run(capsys, "convert", tmp_path / "model", tmp_path / "back.pth", "--to-released")
    assert (
        ended.code == 2
        and "released.json and released_rest.pt" in ended.err
        and "convert the checkpoint again" in ended.err
    )
