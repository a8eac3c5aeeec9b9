"""`galip generate`, run as a user runs it, with a tiny real model."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from io import BytesIO, TextIOWrapper
from itertools import islice
from pathlib import Path

import numpy as np
import pytest
import tiny
import torch
from cli.running import DrawingCommand
from PIL import Image

from galip import __version__
from galip.cli import generate as command
from galip.cli.rerank import RerankOptions
from galip.export.exporting import Source, export
from galip.generation.load import load
from galip.utils.contact_sheet import SHEET_NAME
from galip.utils.image_io import read_texts


class Command(DrawingCommand):
    """`galip generate --model TINY --engine torch --out OUT ...` and a look at what it left there."""

    def pictures(self) -> list[Path]:
        return sorted(path for path in self.out.iterdir() if path.name != SHEET_NAME)


@pytest.fixture
def generate(model: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> Command:
    return Command("generate", model, tmp_path / "out", capsys, ("--engine", "torch"))


def texts(path: Path) -> dict[str, str]:
    with Image.open(path) as image:
        return dict(image.text)


def test_captions_times_seeds(generate: Command) -> None:
    ended = generate("a red heart", "a sleepy cat", "-n", 4, "--seed", "0-3")
    assert ended.code == 0
    lines = ended.err.splitlines()
    assert lines[0] == f"8 images generated: {generate.out}"
    assert lines[1] == "seeds: 0-3"
    assert lines[2] == f"contact sheet: {generate.out / 'contact-sheet.png'}"
    assert lines[3].endswith(" seconds")
    names = [path.name.rsplit("-", 1)[0] for path in generate.pictures()]
    assert names == [f"{slug}-s{seed}" for slug in ("a-red-heart", "a-sleepy-cat") for seed in range(4)]
    with Image.open(generate.out / "contact-sheet.png") as sheet:
        assert sheet.size[0] == 4 * 136 + 8


def test_a_file_holds_the_pipelines_picture_and_says_how_it_was_made(generate: Command) -> None:
    assert generate("a red heart", "a  sleepy cat", "--seed", 5, "-n", 2, "--truncation", 0.7).code == 0
    pipe = load(generate.model, engine="torch", device="cpu")
    expected = pipe(["a red heart", "a sleepy cat"], 2, seed=5, truncation=0.7).images
    for path, image, (prompt, seed) in zip(
        generate.pictures(), expected, [(p, s) for p in ("a red heart", "a sleepy cat") for s in (5, 6)], strict=True
    ):
        with Image.open(path) as opened:
            assert opened.mode == "RGB"
            assert np.abs(np.asarray(opened).astype(int) - np.asarray(image)).max() <= 1
        told = texts(path)
        assert len(told.pop("weights")) == 16
        assert told == {
            "prompt": prompt,
            "seed": str(seed),
            "model": "tiny-32",
            "truncation": "0.7",
            "galip": __version__,
        }


def test_the_paths_are_printed_and_nothing_else_to_standard_output(generate: Command) -> None:
    ended = generate("a cat", "two birds", "--seed", 0)
    assert sorted(map(Path, ended.out.splitlines())) == generate.pictures()
    assert generate("a cat", "two birds", "--seed", 0).out == ""
    ended = generate("a heart", "--seed", 0, "--quiet")
    assert Path(ended.out.strip()) in generate.pictures()
    assert ended.err == ""


def test_json_is_an_object_for_each_image(generate: Command) -> None:
    assert generate("a cat", "--seed", 0).code == 0
    ended = generate("a cat", "猫", "--seed", 0, "--truncation", 1, "--json")
    first, second = map(json.loads, ended.out.splitlines())
    assert (first["prompt"], first["seed"], first["generated"]) == ("a cat", 0, False)
    assert (second["prompt"], second["seed"], second["generated"]) == ("猫", 0, True)
    for facts in (first, second):
        assert Path(facts["path"]) in generate.pictures()
        assert facts["model"] == "tiny-32" and len(facts["weights"]) == 16 and facts["truncation"] == 1.0
    (chosen,) = map(json.loads, generate("a cat", "--seed", 0, "--best-of", 3, "--json").out.splitlines())
    assert -1 <= chosen["clip_score"] <= 1


@pytest.mark.parametrize(("format", "suffix"), [("png", ".png"), ("webp", ".webp"), ("jpeg", ".jpg")])
def test_size_and_format(generate: Command, format: str, suffix: str) -> None:
    assert generate("a cat", "--seed", 0, "--no-sheet").code == 0
    own = Image.open(generate.pictures()[0])
    ended = generate("a cat", "--seed", 0, "--size", 96, "--format", format, "--no-sheet")
    path = Path(ended.out.strip())
    assert path.suffix == suffix and path in generate.pictures()
    with Image.open(path) as image:
        assert (image.format, image.size) == (format.upper(), (96, 96))
        expected = np.asarray(own.resize((96, 96), Image.Resampling.LANCZOS)).astype(int)
        assert np.abs(np.asarray(image).astype(int) - expected).mean() < (0.5 if format == "png" else 12)
    assert read_texts(path)["prompt"] == "a cat"
    assert len(generate.pictures()) == 2


def test_another_type_of_weights_is_another_file(generate: Command) -> None:
    assert generate("a cat", "--seed", 0).code == 0
    assert generate("a cat", "--seed", 0, "--dtype", "float32").err.startswith("0 images generated, 1 were there")
    assert generate("a cat", "--seed", 0, "--dtype", "bfloat16").err.startswith("1 image generated: ")
    ended = generate("a cat", "--seed", 0, "--dtype", "bfloat16", "--refine", 2)
    assert (ended.code, "gradients are taken in float32" in ended.err) == (2, True)


def test_any_caption_gives_a_safe_and_unique_name(generate: Command) -> None:
    captions = ["A cat", "a cat", "a cat!", "猫", "🙂", "../../up", 'x/y\\z:*?"<>|', "é", "e\u0301", "-n", "con"]
    assert generate("--seed", 0, "--no-sheet", "--", *captions).code == 0
    # e with an accent is one caption in both of its forms: cleaning makes them one
    names = [path.name for path in generate.pictures()]
    assert len(names) == len(captions) - 1
    assert all(name.isascii() and name == name.lower() and len(name) < 100 for name in names)
    assert {texts(path)["prompt"] for path in generate.pictures()} == set(captions) - {"e\u0301"}


def test_what_is_drawn_is_not_drawn_again(generate: Command) -> None:
    assert generate("a cat", "two birds", "--seed", 0, "-n", 2).code == 0
    before = {path: (path.stat().st_mtime_ns, path.read_bytes()) for path in generate.pictures()}
    gone = generate.pictures()[1]
    gone.unlink()
    ended = generate("a cat", "two birds", "a red heart", "--seed", 0, "-n", 2)
    assert ended.err.startswith("3 images generated, 3 were there already: ")
    for path, (time, content) in before.items():
        assert path.read_bytes() == content or path == gone
        assert path.stat().st_mtime_ns == time or path == gone
    assert (
        np.abs(np.asarray(Image.open(gone)).astype(int) - np.asarray(Image.open(BytesIO(before[gone][1])))).max() <= 1
    )
    assert generate("a cat", "--seed", 0).err.startswith("0 images generated, 1 were there already: ")
    assert generate("a cat", "--seed", 0, "--truncation", 0.5).err.startswith("1 image generated: ")


def test_other_weights_draw_anew(generate: Command, tmp_path: Path) -> None:
    assert generate("a cat", "--seed", 0).code == 0
    generate.model = tiny.save(tmp_path / "tiny-32", seed=1)
    assert generate("a cat", "--seed", 0).err.startswith("1 image generated: ")
    assert len(generate.pictures()) == 2


def test_without_a_seed_a_fresh_one_is_told(generate: Command) -> None:
    told = [generate("a cat", "two birds", "-n", 2).err.splitlines()[1] for _ in range(2)]
    assert told[0] != told[1]
    first, last = told[1].removeprefix("seeds: ").split("-")
    assert int(last) == int(first) + 1
    assert generate("a cat", "--seed", first).err.startswith("0 images generated, 1 were")


def test_seeds_are_one_list_for_every_caption(generate: Command) -> None:
    assert generate("a cat", "two birds", "--seed", "3,1,9").err.splitlines()[1] == "seeds: 3,1,9"
    assert len(generate.pictures()) == 6


# ---- many prompts


def test_a_prompts_file_is_drawn_line_by_line(generate: Command, tmp_path: Path) -> None:
    file = tmp_path / "prompts.txt"
    file.write_bytes("\ufeffa cat\r\n\r\n  two birds \na cat\n猫\n".encode())
    ended = generate("a red heart", "--prompts-file", file)
    assert ended.code == 0
    assert ended.err.splitlines()[0] == "1 prompt given more than once: generated once"
    assert ended.err.splitlines()[2] == "seeds: 0"
    assert {texts(path)["prompt"] for path in generate.pictures()} == {"a red heart", "a cat", "two birds", "猫"}
    assert "0 images generated, 3 were there already" in generate("--prompts-file", file).err


def test_prompts_come_from_standard_input(generate: Command, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "stdin", TextIOWrapper(BytesIO("a cat\n猫".encode()), encoding="ascii"))
    assert generate("--prompts-file", "-").code == 0
    assert len(generate.pictures()) == 2


def test_a_stopped_run_has_written_what_it_drew_and_goes_on(
    generate: Command, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = tmp_path / "prompts.txt"
    file.write_text("\n".join(f"cat number {i}" for i in range(40)))
    save, saved = command.save_image, []

    def stop_at_the_tenth(*args: object) -> None:
        if len(saved) == 10:
            raise KeyboardInterrupt
        save(*args)
        saved.append(args)

    with monkeypatch.context() as patch:
        patch.setattr(command, "save_image", stop_at_the_tenth)
        assert generate("--prompts-file", file, "--batch-size", 4).code == 130
    assert len(generate.pictures()) == 10
    assert all(path.suffix == ".png" for path in generate.pictures())
    ended = generate("--prompts-file", file, "--batch-size", 4)
    assert ended.err.startswith("30 images generated, 10 were there already: ")
    assert len(generate.pictures()) == 40


def test_the_sheet_says_when_it_shows_only_the_first(generate: Command, tmp_path: Path) -> None:
    ended = generate("a cat", "--seed", "0-109", "--batch-size", 64)
    assert ended.err.splitlines()[2].endswith("contact-sheet.png (the first 100 of 110)")
    assert len(generate.pictures()) == 110


def test_no_sheet(generate: Command) -> None:
    assert "contact sheet" not in generate("a cat", "--no-sheet").out
    assert not (generate.out / SHEET_NAME).exists()


def test_a_bar_is_shown_on_a_terminal_for_more_than_a_batch(generate: Command, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FORCE_COLOR", "1")
    assert "generating" not in generate("a cat", "-n", 4, "--batch-size", 4).err
    ended = generate("a cat", "-n", 9, "--batch-size", 4)
    assert "generating" in ended.err
    assert "9/9" in ended.err
    assert "generating" not in ended.out


# ---- engines


@pytest.mark.parametrize("engine", ["openvino", "onnxruntime", "auto"])
@pytest.mark.engines
def test_every_engine_draws_the_same_files(
    generate: Command, engine: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("GALIP_CACHE", str(tmp_path / "cache"))
    assert generate("a cat", "two birds", "--seed", 0).code == 0
    before = {path.name: np.asarray(Image.open(path)).astype(int) for path in generate.pictures()}
    for path in generate.pictures():
        path.unlink()
    ended = generate("a cat", "two birds", "--seed", 0, "--engine", engine, "--threads", 1, "--device", "cpu")
    assert ended.code == 0
    assert "converting" in ended.err and "this is done once" in ended.err
    assert {path.name for path in generate.pictures()} == set(before)
    for path in generate.pictures():
        assert np.abs(np.asarray(Image.open(path)).astype(int) - before[path.name]).max() <= 1
    assert generate("a red heart", "--engine", engine, "--device", "cpu").err == ""


@pytest.mark.engines
def test_an_exported_model_draws(generate: Command, tmp_path: Path) -> None:
    assert generate("a cat", "--seed", 0).code == 0
    generate.model = tmp_path / "exported"
    export(tiny.pipeline(), Source("tiny-32", tiny.save(tmp_path / "tiny-32")), generate.model, "onnx")
    # in fp32 its pictures are the original's, so they are there already
    assert generate("a cat", "--seed", 0, "--engine", "auto").err.startswith("0 images generated, 1 were there already")
    assert generate("two birds", "--seed", 0, "--engine", "auto").err.startswith("1 image generated")
    ended = generate("a red heart", "--engine", "torch")
    assert ended.code == 2
    assert "this model is exported, which torch cannot run" in ended.err


# ---- errors worth trying


@pytest.mark.parametrize(
    ("argv", "message"),
    [
        ([], 'nothing to generate: give prompts, as in galip generate "a red heart", or --prompts-file'),
        ([""], "it is empty; say what to generate"),
        (["a cat", "--seed", "3-1"], "runs backwards"),
        (["a cat", "--seed", "heart"], "'heart' is not a seed; write them like 7, 0-3 or 0-3,7"),
        (["a cat", "--seed", "-4"], "is not a seed"),
        (["a cat", "--seed", str(2**63)], "a seed must lie between"),
        (["a cat", "--seed", str(2**63 - 1), "-n", "2"], "the last seed would be 2**63 or more"),
        (["a cat", "--seed", "0-3", "-n", "3"], "-n 3, but --seed 0-3 names 4 seeds"),
        (["a cat", "--seed", "9" * 5000], "is not a seed; write them like 7"),
        (["a cat", "-n", "1000000000000"], "1,000,000,000,000 files take 4,096,000.0 GB or more"),
        (["a cat", "-n", "9" * 5000], "'-n'"),
        (["a cat", "--threads", "1000000"], "'--threads'"),
        (["a cat", "--truncation", "nan"], "--truncation nan: give a finite number"),
        (["a cat", "--truncation", "1e38"], "--truncation 1e+38: give about 0 to 1"),
        (["a cat", "--format", "gif"], "'--format'"),
        (["a cat", "--size", "100000"], "'--size'"),
        (["a cat", "--prompts-file", "no-such.txt"], "no-such.txt: No such file or directory"),
        (["a cat", "--prompts-file", "."], "Is a directory"),
        (["a cat", "--model", "no-such-model"], "'no-such-model': there is no such folder and no such bundled model"),
        (["a cat", "--model", "someone/no-model"], "no folder someone/no-model here"),
        (["a cat", "--engine", "warp"], "'--engine': Value error, 'warp' is not one of"),
        (["a cat", "--engine", "openvino", "--device", "cuda"], "device 'cuda': openvino runs on the CPU"),
        (["a cat", "--device", "gpu7"], "device 'gpu7': there is no such device"),
        (["a cat", "-n", "0"], "'-n'"),
        (["a cat", "--batch-size", "0"], "'--batch-size'"),
        (["a cat", "--colour", "red"], "No such option"),
    ],
)
def test_a_mistake_is_one_clean_line(generate: Command, argv: list[str], message: str) -> None:
    ended = generate(*argv)
    assert ended.code == 2
    assert message in ended.err
    assert "Traceback" not in ended.err
    assert ended.out == ""
    assert not generate.out.exists()


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "it holds no captions; one a line is needed"),
        (b"\n \r\n\t\n", "it holds no captions"),
        ("\ufeff\n".encode(), "it holds no captions"),
        (b"\x89PNG\r\n\x1a\n\x00\x00", "it is no UTF-8 text"),
        ("a cat\n".encode("utf-16"), "it is no UTF-8 text"),
        (b"a cat\nPK\x03\x04\x00\n", "prompts.txt, line 2: caption 'PK"),
    ],
)
def test_a_prompts_file_that_is_empty_or_binary(
    generate: Command, tmp_path: Path, content: bytes, message: str
) -> None:
    file = tmp_path / "prompts.txt"
    file.write_bytes(content)
    ended = generate("--prompts-file", file)
    assert ended.code == 2
    assert ended.err.startswith(f"Error: {file}")
    assert message in ended.err
    assert len(ended.err.splitlines()) == 1


def test_a_caption_of_ten_thousand_characters_is_drawn_with_one_warning(generate: Command) -> None:
    caption = ("a sleepy cat " * 800)[:10000].strip()
    ended = generate(caption, "--seed", "0-1")
    assert ended.code == 0
    assert sum(line.startswith("Warning") for line in ended.err.splitlines()) == 1
    assert ended.err.startswith("Warning: caption has more than 16 tokens and is truncated: 'a sleepy cat a")
    for path in generate.pictures():
        assert len(path.name) < 100
        assert texts(path)["prompt"] == caption


def test_an_output_folder_that_is_a_file(generate: Command) -> None:
    generate.out.write_text("not a folder")
    ended = generate("a cat")
    assert ended.code == 2
    assert ended.err == f"Error: -o {generate.out}: this is a file; give a folder\n"
    generate.out = generate.out / "below"
    ended = generate("a cat")
    assert ended.code == 2
    assert ended.err == (f"Error: -o {generate.out}: it cannot be made (Not a directory); give another folder\n")


@pytest.mark.skipif(os.name != "posix" or not hasattr(os, "geteuid") or os.geteuid() == 0, reason="root may write")
def test_an_output_folder_that_cannot_be_written(generate: Command) -> None:
    generate.out.mkdir()
    generate.out.chmod(0o500)
    ended = generate("a cat")
    assert ended.code == 2
    assert "nothing can be written there (Permission denied); give another folder" in ended.err


def test_the_folder_is_checked_before_the_model(generate: Command) -> None:
    generate.out.write_text("not a folder")
    generate.model = Path("no-such-model")
    assert "this is a file" in generate("a cat").err


def test_a_broken_model_is_named_with_the_seed(generate: Command, tmp_path: Path) -> None:
    pipe = tiny.pipeline()
    with torch.no_grad():
        pipe.generator.image_generator.to_rgb.bias[0] = torch.nan
    pipe.save_pretrained(tmp_path / "dead", graphs=False)
    generate.model = tmp_path / "dead"
    ended = generate("a cat", "--seed", 7)
    assert ended.code == 2
    assert "image 0 (seed 7) holds numbers that are not finite" in ended.err
    assert generate.pictures() == []


def test_a_model_that_cannot_be_loaded_leaves_no_folder(generate: Command, tmp_path: Path) -> None:
    generate.model = tiny.save(tmp_path / "cut")
    weights = next((generate.model / "generator").glob("*.safetensors"))
    os.truncate(weights, weights.stat().st_size // 2)
    assert generate("a cat").code == 2
    assert not generate.out.exists()


def test_images_without_end_are_planned_on_the_way(model: Path, tmp_path: Path) -> None:
    """As many as the disk might hold: a list of them would not fit into memory."""
    files = command.Files(tmp_path, {}, {}, None, "png", False)
    request = command.Request(["a cat"], range(10**12), 10**12, RerankOptions(), 1.0, 4)
    pipe = load(model, engine="torch", device="cpu")
    for result in islice(command._results(request, files, lambda: (pipe, None)), 5):
        files.save(result)
    assert len(list(tmp_path.iterdir())) == files.written == 5


def test_a_mistake_costs_no_heavy_import_and_the_command_runs_by_itself(model: Path, tmp_path: Path) -> None:
    code = (
        "import sys, json\nfrom galip.cli import main\n"
        "def run(*argv):\n"
        "    try: main(['generate', *argv])\n"
        "    except SystemExit as ended: return ended.code\n"
        f"wrong = run('a cat', '--model', 'no-such-model', '-o', {str(tmp_path)!r})\n"
        "heavy = 'torch' in sys.modules\n"
        f"options = ('--model', {str(model)!r}, '-o', {str(tmp_path)!r}, '--threads', '1', '--engine', 'torch')\n"
        "right = run('a cat', *options)\n"
        "import torch\n"
        "print(json.dumps([wrong, heavy, right, torch.get_num_threads()]))"
    )
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert json.loads(result.stdout.splitlines()[-1]) == [2, False, 0, 1]
    assert "1 image generated" in result.stderr
