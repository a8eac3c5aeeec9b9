"""The configuration of the bundled model's successor: its stages can be run, and grow from 32 to 128 pixels."""

from __future__ import annotations

from itertools import pairwise
from pathlib import Path

from galip.training.config_file import load_config
from galip.training.stages import stages_of

CONFIG = Path(__file__).parents[2] / "recipes" / "emoji" / "emoji-128.yaml"


def test_the_stages_grow_and_keep_what_was_learnt() -> None:
    stages = stages_of(load_config(str(CONFIG)))
    blocks = [
        (stage.config.generator.block_sizes or (), stage.config.generator.block_channels or ()) for stage in stages
    ]
    assert [sizes[-1] for sizes, _ in blocks] == [32, 64, 128]
    for (sizes, channels), (more_sizes, more_channels) in pairwise(blocks):
        assert more_sizes[: len(sizes)] == sizes and more_channels[: len(channels)] == channels
    assert {stage.config.loss.objective for stage in stages} == {"reconstruct"}
    assert all(stage.config.generator.image_channels == 4 and stage.config.data.weighted for stage in stages)
