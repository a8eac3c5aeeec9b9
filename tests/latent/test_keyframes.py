"""Keyframes: paired, kept, read from files, and found in the space."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import tiny

from galip.errors import InputError
from galip.generation.noise import noise
from galip.latent import Keyframe, Point, mix, read_keyframes
from galip.latent.keyframes import kept, locate, pair_up


def test_pairs() -> None:
    assert pair_up(["a cat", "a heart"], [1, 2]) == [Keyframe("a cat", 1), Keyframe("a heart", 2)]
    assert pair_up([" a  cat ", "a heart"], [5]) == [Keyframe("a cat", 5), Keyframe("a heart", 5)]
    assert pair_up(["a cat"], [1, 2, 3]) == [Keyframe("a cat", seed) for seed in (1, 2, 3)]
    with pytest.raises(InputError, match="2 prompts and 3 seeds: give as many of both"):
        pair_up(["a cat", "a heart"], [1, 2, 3])


def test_what_is_kept() -> None:
    frames = [Keyframe("a cat", 1, "a heart"), Keyframe("two birds", 2)]
    assert kept(frames, None) == frames
    assert kept(frames, "style") == [Keyframe("a cat", 1, "a heart"), Keyframe("two birds", 1)]
    assert kept(frames, "caption") == [Keyframe("a cat", 1, "a heart"), Keyframe("a cat", 2, "a heart")]
    with pytest.raises(InputError, match="keep 'both': use one of style, caption"):
        kept(frames, "both")  # type: ignore[arg-type]


YAML = """
keyframes:
  - {prompt: a red  heart, seed: 7}
  - a cat
  - seed: 12
  - {prompt: two birds, fine: a cat}
  - {seed: 13, fine: null}
"""
FROM_YAML = [
    Keyframe("a red heart", 7),
    Keyframe("a cat", 7),
    Keyframe("a cat", 12),
    Keyframe("two birds", 12, "a cat"),
    Keyframe("two birds", 13),
]


def test_a_file_says_only_what_changes(tmp_path: Path) -> None:
    file = tmp_path / "walk.yaml"
    file.write_text(YAML)
    assert read_keyframes(file) == FROM_YAML
    file.write_text("[a cat, a heart]")
    assert read_keyframes(file, seed=5) == [Keyframe("a cat", 5), Keyframe("a heart", 5)]


def test_json(tmp_path: Path) -> None:
    file = tmp_path / "walk.json"
    file.write_text(json.dumps([{"prompt": "a cat", "seed": 2**62}, "猫"]), encoding="utf-8")
    assert read_keyframes(file) == [Keyframe("a cat", 2**62), Keyframe("猫", 2**62)]


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("walk.yaml", b"", "it does not hold a list of keyframes"),
        ("walk.yaml", b"keyframes: []", "it does not hold a list of keyframes"),
        ("walk.yaml", b"a cat", "it does not hold a list of keyframes"),
        ("walk.yaml", b"frames: 3\nkeyframes: [a cat]", "'frames' is not known"),
        ("walk.yaml", b"[a: b: c", "it is neither YAML nor JSON"),
        ("walk.yaml", b"\x89PNG\x00", "it is neither YAML nor JSON"),
        ("walk.json", b"[1,", "it is neither YAML nor JSON"),
        ("walk.json", b"\xff\xfe\x00\xd8\x00", "it is neither YAML nor JSON"),
        ("walk.yaml", b"- {seed: 3}", "keyframe 1: it has no prompt"),
        ("walk.yaml", b"[a cat, 7]", "keyframe 2: 7 is neither a prompt nor a mapping"),
        ("walk.yaml", b"[a cat, {sed: 7}]", "keyframe 2: 'sed' is not known"),
        ("walk.yaml", b"[a cat, {seed: -7}]", "keyframe 2: seed -7"),
        ("walk.yaml", b"[a cat, {seed: seven}]", "keyframe 2: seed 'seven'"),
        ("walk.yaml", b"[a cat, {prompt: 7}]", "keyframe 2: prompt is 7: a prompt is a string"),
        ("walk.yaml", b"[a cat, {prompt: null}]", "keyframe 2: prompt is None"),
        ("walk.yaml", b"[a cat, '']", "keyframe 2: caption '': it is empty"),
        ("walk.yaml", b"[a cat, {fine: [a]}]", "keyframe 2: fine is"),
    ],
)
def test_a_file_that_is_wrong_is_one_clean_line(tmp_path: Path, name: str, content: bytes, message: str) -> None:
    file = tmp_path / name
    file.write_bytes(content)
    with pytest.raises(InputError) as caught:
        read_keyframes(file)
    assert str(caught.value).startswith(str(file))
    assert message in str(caught.value)
    assert "\n" not in str(caught.value)


def test_yaml_cannot_run_code(tmp_path: Path) -> None:
    file = tmp_path / "walk.yaml"
    file.write_text(f"[!!python/object/apply:os.mkdir ['{tmp_path / 'made'}']]")
    with pytest.raises(InputError, match="neither YAML nor JSON"):
        read_keyframes(file)
    assert not (tmp_path / "made").exists()


def test_where_keyframes_lie() -> None:
    pipe = tiny.pipeline()
    places = locate(pipe, [Keyframe("a cat", 3), Keyframe("a heart", 4)])
    assert (places.z == noise([3, 4], tiny.Z_DIM)).all()
    assert np.allclose(places.e, pipe.embed(["a cat", "a heart"]), atol=1e-6)

    z, e = noise([9], tiny.Z_DIM)[0], pipe.embed("two birds")[0]
    places = locate(pipe, [Keyframe("a cat", 3), Keyframe("a cat", 4, fine="a heart"), Point(z, e)])
    assert places.e.shape == (3, 5, tiny.COND_DIM)
    assert np.allclose(places.e[0], pipe.embed("a cat"), atol=1e-6)
    assert np.allclose(places.e[1], mix(pipe, "a cat", "a heart"), atol=1e-6)
    assert (places.e[2] == e).all()
    assert (places.z[2] == z).all()


def test_points_that_do_not_fit() -> None:
    pipe = tiny.pipeline()
    z, e = noise([9], tiny.Z_DIM)[0], pipe.embed("two birds")[0]
    with pytest.raises(InputError, match=r"z of keyframe 0 has shape \[5\]: \[8\] is needed"):
        locate(pipe, [Point(z[:5], e)])
    with pytest.raises(InputError, match=r"e of keyframe 1 has shape \[5\]: \[24\] or \[5, 24\] is needed"):
        locate(pipe, [Point(z, e), Point(z, e[:5])])
    with pytest.raises(InputError, match="e of keyframe 0 must hold finite"):
        locate(pipe, [Point(z, e * np.nan)])
    with pytest.raises(InputError, match="keyframe 0 is str: give a Keyframe"):
        locate(pipe, ["a cat"])  # type: ignore[list-item]
