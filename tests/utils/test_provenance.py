"""Versions and machine; a repository's revision, read without running what the repository configures."""

from __future__ import annotations

import json
import shutil
import subprocess
from pathlib import Path

import pytest

from galip.utils.provenance import git_revision, machine, versions

needs_git = pytest.mark.skipif(shutil.which("git") is None, reason="needs git, and this machine has none")


def git(folder: Path, *arguments: str) -> str:
    command = ["git", "-C", str(folder), "-c", "user.name=a", "-c", "user.email=a@b", *arguments]
    return subprocess.run(command, check=True, capture_output=True, text=True).stdout.strip()


@pytest.fixture
def repository(tmp_path: Path) -> Path:
    folder = tmp_path / "repository"
    folder.mkdir()
    git(folder, "init", "--quiet", "--initial-branch", "some/branch")
    git(folder, "commit", "--quiet", "--allow-empty", "--message", "first")
    return folder


@needs_git
def test_the_revision_is_what_git_says(repository: Path, tmp_path: Path) -> None:
    expected = git(repository, "rev-parse", "HEAD")
    below = repository / "a" / "b"
    below.mkdir(parents=True)
    assert git_revision(repository) == git_revision(below) == expected
    git(repository, "pack-refs", "--all")
    assert not (repository / ".git/refs/heads/some/branch").exists()
    assert git_revision(repository) == expected
    git(repository, "worktree", "add", "--quiet", "-b", "other", str(tmp_path / "worktree"))
    git(tmp_path / "worktree", "commit", "--quiet", "--allow-empty", "--message", "second")
    assert git_revision(tmp_path / "worktree") == git(tmp_path / "worktree", "rev-parse", "HEAD") != expected
    git(repository, "checkout", "--quiet", "--detach")
    assert git_revision(repository) == expected


@needs_git
def test_no_command_of_the_repository_is_run(repository: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    witness = tmp_path / "witness"
    git(repository, "config", "core.fsmonitor", f"touch {witness}; false")
    monkeypatch.chdir(repository)
    assert git_revision() is not None
    assert not witness.exists()
    git(repository, "status")
    assert witness.exists()  # the trap works


def test_where_there_is_no_repository_there_is_no_revision(tmp_path: Path) -> None:
    assert git_revision(tmp_path) is None


@pytest.mark.parametrize(
    "head",
    [
        "",
        "ref:",
        "ref: refs/heads/none",
        "ref: ../secret",
        "ref: refs/../../secret",
        "0" * 39,
        "x" * 40,
        "\0",
        "g" * 40,
    ],
)
def test_a_damaged_or_foreign_head_is_no_revision(tmp_path: Path, head: str) -> None:
    (tmp_path / ".git").mkdir()
    (tmp_path / "secret").write_text("0" * 40)
    (tmp_path / ".git/HEAD").write_text(head)
    assert git_revision(tmp_path) is None
    (tmp_path / ".git/HEAD").write_bytes(b"\xff\xfe" * 100)
    assert git_revision(tmp_path) is None


@pytest.mark.parametrize("text", ["", "gitdir:", "gitdir: nowhere", "gitdir: a\0b", "something else"])
def test_a_file_that_names_no_repository(tmp_path: Path, text: str) -> None:
    (tmp_path / ".git").write_text(text)
    assert git_revision(tmp_path) is None


def test_versions_and_machine_are_json_and_name_what_is_installed() -> None:
    assert set(versions(["numpy", "no-such-package"])) == {"numpy"}
    facts = json.loads(json.dumps(machine()))
    assert facts["cores"] >= facts["cores_for_us"] >= 1
    assert facts["processor"] and facts["system"] and facts["python"]
    assert {"galip", "numpy", "pillow"} <= set(facts["versions"])
