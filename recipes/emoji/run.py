"""The whole recipe, from registry packages to the bundled model: `make emoji-model`.

Every step that has left its result is skipped, and training goes on from its newest checkpoint, so the command can be
stopped and started at will. Remove `recipes/emoji/work` and `runs/emoji-64` to begin anew.
"""

from __future__ import annotations

import shutil
import subprocess
import sys
from pathlib import Path

from emoji_common import HERE, WORK
from export import ASSET, FIGURES, PICTURES
from tables import RESULT

RUN = Path("runs/emoji-64")
CONFIG = "configs/emoji.yaml"


def python(*arguments: str | Path) -> None:
    """Run this Python with `arguments`, from the repository's root; stop where it fails."""
    print("+ python", *arguments, flush=True)
    subprocess.run([sys.executable, *map(str, arguments)], check=True, cwd=HERE.parents[1])


def main() -> None:
    if not (WORK / "data" / "report.json").exists():
        python(HERE / "prepare.py")
        shutil.copy(WORK / "data" / "split.json", HERE / "split.json")
    if not (WORK / "clip" / "log.json").exists():
        python(HERE / "train_clip.py")
    if not (WORK / "judge" / "judge.json").exists():
        python(HERE / "train_judge.py")
    started = (HERE.parents[1] / RUN / "checkpoints").exists()
    python("-m", "galip", "train", CONFIG, "--out", RUN, *(["--resume", "latest"] if started else []))
    python(HERE / "bundle.py")
    python(HERE / "export.py", "--run", RUN)
    python(HERE / "evaluate.py", "--model", ASSET, "--out", FIGURES, "--pictures", PICTURES)
    python("-m", "galip", "evaluate", "emoji-64", "--protocol", "emoji64", "--out", RESULT)
    python(HERE / "tables.py")
    python(HERE / "curve.py", "--run", RUN)
    python(HERE / "pictures.py", "--run", RUN, "--out", PICTURES)
    python(HERE / "export.py", "--figures", FIGURES)


if __name__ == "__main__":
    main()
