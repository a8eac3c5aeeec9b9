"""Prompt suites: the bundled ones, and the forms of a user's own file."""

from __future__ import annotations

import json
from collections import Counter
from pathlib import Path

import pytest

from galip.errors import GalipError, InputError
from galip.evaluation.suites import Prompt, Suite, read_suite, suite_names
from galip.generation.prompts import clean_caption

CATEGORIES = ("objects", "colours", "counts", "positions", "styles", "imaginary")
OWN = (Prompt("a red cup", "colours"), Prompt("a blue cup", "colours"), Prompt("two cups", "counts"))


def written(path: Path, text: str) -> Path:
    path.write_text(text, encoding="utf-8")
    return path


def test_the_bundled_suites() -> None:
    assert suite_names() == ("emoji", "general")


@pytest.mark.parametrize(("name", "each"), [("emoji", 30), ("general", 40)])
def test_a_bundled_suite_is_balanced_distinct_and_clean(name: str, each: int) -> None:
    suite = read_suite(name)
    texts = [prompt.text for prompt in suite.prompts]
    assert suite.name == name
    assert suite.categories == CATEGORIES
    assert Counter(prompt.category for prompt in suite.prompts) == dict.fromkeys(CATEGORIES, each)
    assert len({text.lower() for text in texts}) == len(texts)  # tokenizers ignore case
    # As written in the file, too: reading cleans.
    lines = (Path(read_suite.__code__.co_filename).with_name("suites") / f"{name}.yaml").read_text("utf-8").splitlines()
    assert [line[2:] for line in lines if line.startswith("- ")] == texts
    assert [clean_caption(text) for text in texts] == texts


def test_the_emoji_suite_speaks_the_captions_language() -> None:
    for prompt in read_suite("emoji").prompts:
        style, emoji, of, *rest = prompt.text.split()
        assert style in ("3d", "google", "flat") and (emoji, of) == ("emoji", "of") and rest


# A change of prompts makes scores incomparable: it must raise the version and come with another digest here.
@pytest.mark.parametrize(
    ("name", "version", "digest"), [("emoji", 1, "c6de5aa2f3fa6b13"), ("general", 1, "18eb4d30d247ccf9")]
)
def test_a_bundled_suite_changes_with_its_version_only(name: str, version: int, digest: str) -> None:
    suite = read_suite(name)
    assert (suite.version, suite.digest) == (version, digest)


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("own.yaml", "colours:\n- a red cup\n- a  blue cup # as YAML has it\n\ncounts: [two cups]\n"),
        ("own.yml", "colours:\n  - 'a red cup'\n  - a blue cup\ncounts:\n  - two cups\n"),
        ("own.json", '{\n\t"colours": ["a red cup", "a blue cup"],\n\t"counts": ["two cups"]\n}'),
        (
            "own.jsonl",
            '{"prompt": "a red cup", "category": "colours", "id": 7}\n\n'
            '{"category": "colours", "prompt": "a blue cup"}\n'
            '{"prompt": " two cups ", "category": "counts"}\n',
        ),
        ("OWN.YAML", "\ufeffcolours: [a red cup, a blue cup]\ncounts: [two cups]\r\n"),
    ],
)
def test_every_form_gives_the_same_prompts(tmp_path: Path, name: str, text: str) -> None:
    suite = read_suite(written(tmp_path / name, text))
    assert suite == Suite(name, 1, OWN)
    assert suite.digest == Suite("another", 2, OWN).digest


def test_prompts_without_categories(tmp_path: Path) -> None:
    expected = (Prompt("a red cup", "prompts"), Prompt("caf\u00e9 & bar", "prompts"))
    plain = read_suite(str(written(tmp_path / "own.txt", "\ufeffa red cup\r\n\n  caf\u00e9 &amp; bar \r\n")))
    rows = read_suite(written(tmp_path / "own.jsonl", '{"prompt": "a red cup"}\n{"prompt": "caf\\u00e9 & bar"}'))
    assert plain.prompts == rows.prompts == expected
    assert plain.name == "own.txt"


def test_yaml_prompts_stay_text_and_the_version_is_read(tmp_path: Path) -> None:
    suite = read_suite(written(tmp_path / "own.yaml", "version: 12\nsigns:\n- no\n- 12\n- 2020-01-01\n"))
    assert suite.version == 12
    assert [prompt.text for prompt in suite.prompts] == ["no", "12", "2020-01-01"]
    assert read_suite(written(tmp_path / "own.json", '{"version": 3, "signs": ["no"]}')).version == 3


def test_the_digest_tells_text_category_and_order() -> None:
    suites = [
        OWN,
        OWN[::-1],
        OWN[:2],
        (*OWN[:2], Prompt("two cups", "objects")),
        (*OWN[:2], Prompt("two mugs", "counts")),
    ]
    digests = {Suite("own", 1, prompts).digest for prompts in suites}
    assert len(digests) == len(suites)
    assert all(len(digest) == 16 for digest in digests)


@pytest.mark.parametrize(
    ("name", "text", "where", "problem"),
    [
        ("own.txt", "a red cup\n\na blue cup\n a red  cup\n", "line 4", "'a red cup' is there already, line 1"),
        ("own.txt", "a red cup\n&nbsp;\n", "line 2", "empty"),
        ("own.txt", "a red cup\na \x00 cup\n", "line 2", "control character"),
        ("own.txt", "\n \n", "", "no prompts"),
        ("own.yaml", "", "", "no prompts"),
        ("own.yaml", "# nothing\n", "", "no prompts"),
        ("own.yaml", "- a red cup\n", "line 1", "not a mapping"),
        ("own.yaml", "a red cup\n", "line 1", "not a mapping"),
        ("own.yaml", "colours:\n- a red cup\ncounts:\n- two: cups\n", "line 4", "quotes"),
        ("own.yaml", "colours:\n- a red cup\ncounts: two cups\n", "line 3", "'counts' is not a list"),
        ("own.yaml", "colours: []\n", "line 1", "'colours' is not a list of prompts; give it some"),
        ("own.yaml", "version: one\ncolours: [a red cup]\n", "line 1", "'version' is not a list"),
        ("own.yaml", "a: [a red cup]\nb: [one]\na: [two]\n", "line 3", "'a' is there already, line 1"),
        ("own.yaml", "a: [a red cup]\nb:\n- one\n- a red cup\n", "line 4", "'a red cup' is there already, line 1"),
        ("own.yaml", "a:\n- one\n-\n", "line 3", "empty"),
        ("own.yaml", "a:\n- one\n b: [\n", "line 3", "not YAML"),
        ("own.yaml", "a: [\x01]\n", "", "not YAML"),
        ("own.yaml", "a: [one]\n---\nb: [two]\n", "line 2", "not YAML"),
        ("own.yaml", "a:\n- *cup\n", "line 2", "not YAML"),
        ("own.json", '{"a": ["one",\n}', "line 2", "not JSON"),
        ("own.json", '["one"]', "", "not a mapping"),
        ("own.json", '{"a": ["one"], "a": ["two"]}', "", "'a' is there twice"),
        ("own.json", '{"a": "one"}', "category 'a'", "not a list"),
        ("own.json", '{"a": ["one", 2]}', "category 'a', prompt 2", "no string"),
        ("own.json", '{"a": ["one"], "b": ["two", "one"]}', "category 'b', prompt 2", "is there already"),
        ("own.jsonl", '{"prompt": "one"}\nprompt\n', "line 2", "not JSON"),
        ("own.jsonl", '{"prompt": "one"}\n["two"]\n', "line 2", "not a row"),
        ("own.jsonl", '{"prompt": "one"}\n{"caption": "two"}\n', "line 2", "not a row"),
        ("own.jsonl", '{"prompt": "one"}\n{"prompt": 2}\n', "line 2", "must be a string"),
        ("own.jsonl", '{"prompt": "one", "category": null}\n', "line 1", "category is None"),
        ("own.jsonl", '{"prompt": "one", "category": " "}\n', "line 1", "empty"),
    ],
)
def test_a_broken_file_is_one_error_with_its_place(
    tmp_path: Path, name: str, text: str, where: str, problem: str
) -> None:
    path = written(tmp_path / name, text)
    with pytest.raises(GalipError) as caught:
        read_suite(path)
    message = str(caught.value)
    assert message.startswith(f"{path}, {where}: " if where else f"{path}: ")
    assert problem in message
    assert "\n" not in message


def test_a_file_that_is_no_text(tmp_path: Path) -> None:
    path = tmp_path / "own.txt"
    path.write_bytes(b"caf\xe9")
    with pytest.raises(GalipError, match="own.txt: not UTF-8"):
        read_suite(path)


def test_names_that_lead_nowhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(InputError, match=r"prompts 'genral': did you mean general\? .*\(emoji, general\).*\.jsonl"):
        read_suite("genral")
    with pytest.raises(GalipError, match="missing.txt: cannot be read"):
        read_suite("missing.txt")
    (tmp_path / "prompts.csv").write_text("prompt\na red cup\n")
    with pytest.raises(InputError, match=r"prompts.csv: .*\.txt, \.yaml"):
        read_suite("prompts.csv")
    (tmp_path / "prompts").write_text("a red cup\n")
    with pytest.raises(InputError, match="prompts: .*rename"):
        read_suite("prompts")
    (tmp_path / "folder.txt").mkdir()
    with pytest.raises(GalipError, match="folder.txt: cannot be read"):
        read_suite("folder.txt")


def test_a_bundled_name_wins_over_a_file_beside(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    Path("emoji").write_text(json.dumps({"a": ["one"]}))
    assert read_suite("emoji").categories == CATEGORIES
