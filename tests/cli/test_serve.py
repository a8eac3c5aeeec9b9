"""`galip serve`: options that are wrong are named before anything is loaded."""

from __future__ import annotations

import pytest
from cli.running import run

from galip.cli.serve import _aliases


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--alias", "gpt-image-1"], "--alias gpt-image-1: give a name and the model"),
        (["--alias", "=emoji-64"], "--alias =emoji-64: give a name and the model"),
        (["--alias", "gpt-image-1=other"], "this service has the model emoji-64 alone"),
        (["--alias", "gpt-image-1=emoji-64", "--name", "mine"], "this service has the model mine alone"),
        (["--max-size", "100000"], "--max-size 100000"),
        (["--max-n", "100", "--max-queue", "8"], "max_queue is 8"),
        (["--log-level", "loud"], "loud"),
        (["--cluster", "slurm"], "slurm"),
        (["--model", "nowhere"], "nowhere"),
    ],
)
def test_wrong_options_are_named(capsys: pytest.CaptureFixture[str], options: list[str], message: str) -> None:
    ended = run(capsys, "serve", *options)
    assert ended.code == 2
    assert message in ended.err


def test_aliases_mean_the_served_model() -> None:
    assert _aliases(["gpt-image-1=emoji-64", " dall-e-3 = emoji-64 "], "emoji-64") == ("gpt-image-1", "dall-e-3")
