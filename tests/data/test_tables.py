"""Tables of captions: what spreadsheets, scripts and the hub write, and rows that cannot be read."""

from __future__ import annotations

import codecs
import json
from pathlib import Path

import pytest

from galip.data.tables import read_table
from galip.errors import GalipError


def rows(tmp_path: Path, content: str | bytes, name: str = "captions.csv") -> list[tuple[int, str, list[str]]]:
    path = tmp_path / name
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    return [(row.line, row.file_name, row.captions) for row in read_table(path)]


@pytest.mark.parametrize(
    "content",
    [
        "file_name,caption\na.png,one\nb.png,two\n",
        "file_name,caption\r\na.png,one\r\nb.png,two",
        "file_name,caption\ra.png,one\rb.png,two\r",
        codecs.BOM_UTF8 + b"file_name,caption\na.png,one\nb.png,two\n",
        "file_name;text\na.png;one\nb.png;two\n",
        "file_name\tprompt\na.png\tone\nb.png\ttwo\n",
        '"file_name","caption"\n"a.png","one"\n"b.png","two"\n',
        "File_Name , Caption\na.png, one\nb.png, two\n",
        "id,text,file_name\n1,one,a.png\n2,two,b.png\n",
        'file_name, text\na.png, "one"\nb.png, "two"\n',
    ],
)
def test_one_table_in_many_hands(tmp_path: Path, content: str | bytes) -> None:
    assert rows(tmp_path, content) == [(2, "a.png", ["one"]), (3, "b.png", ["two"])]


def test_quotes_line_breaks_and_lines_that_are_empty(tmp_path: Path) -> None:
    content = (
        "\n"
        "file_name,caption\n"
        'a.png,"a red\nballoon 0, over\r\n  the sea"\n'
        "\n"
        " ,\t\n"
        'b.png,"a ""big"" one"\n'
        'c.png,a 5" disk\n'
        "d.png,\n"
        "e.png,a\u2028b\x85c\n"
    )
    assert rows(tmp_path, content) == [
        (3, "a.png", ["a red balloon 0, over the sea"]),
        (8, "b.png", ['a "big" one']),
        (9, "c.png", ['a 5" disk']),
        (10, "d.png", [""]),
        (11, "e.png", ["a\u2028b\x85c"]),
    ]


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("file_name,caption\na.png,a dog, a cat\n", "line 2: 3 fields instead of 2; put a caption with a ',' in it"),
        ("file_name,caption,style\na.png,one,x\nb.png,two\n", "line 3: 2 fields instead of 3"),
        ("file_name;text\na.png;one; two\n", "line 2: 3 fields instead of 2; put a caption with a ';' in it"),
        ('file_name,caption\na.png,"one\ntwo"\nb.png\n', "line 4: 1 fields instead of 2"),
        ("file_name,caption\na.png,one\n,two\n", "line 3: no file_name"),
        ('file_name,caption\na.png,one\nb.png,"two\nc.png,three\n', "line 3: .*is a quote not closed"),
        ('file_name,caption\na.png,"one\nb.png,"two"\n', "line 2: .*is a quote not closed"),
        ("name,caption\na.png,one\n", "the first line must name the columns file_name and caption"),
        ("a.png,one\nb.png,two\n", "the first line must name the columns"),
        ("file_name|caption\na.png|one\n", "the first line must name the columns"),
        ("", "the first line must name the columns"),
        ("file_name,caption,caption\na.png,one,two\n", "line 1: two columns are called caption"),
        (b"file_name,caption\na.png,caf\xe9\n", "not UTF-8 text .*at byte 27.*; save it as UTF-8"),
        ('file_name,caption\na.png,"' + "x" * 200_000 + '"\n', "line 2: field larger"),
    ],
)
def test_a_row_that_cannot_be_read_is_named(tmp_path: Path, content: str | bytes, message: str) -> None:
    with pytest.raises(GalipError, match=f"captions.csv(: |, ){message}"):
        rows(tmp_path, content)


def test_weights_of_a_csv(tmp_path: Path) -> None:
    (tmp_path / "a.csv").write_text("file_name,caption,weight,note\na.png,one,0.5,n\nb.png,two,often,n\n")
    assert [row.fields for row in read_table(tmp_path / "a.csv")] == [{"weight": 0.5}, {"weight": "often"}]


def test_json_lines(tmp_path: Path) -> None:
    lines = [
        json.dumps({"file_name": "a.png", "text": "one", "style": "flat", "caption": "first"}),
        '{"file_name": "b.png", "text": "a\u2028b\x85c"}\r',
        "",
        '{"file_name": "c.png", "captions": ["one", null, "two\\nlines"]}',
        '{"file_name": "d.png", "text": null}',
        '{"file_name": "e.png", "text": NaN}',
        '{"file_name": "f.png"}',
    ]
    content = codecs.BOM_UTF8 + "\n".join(lines).encode()
    assert rows(tmp_path, content, "metadata.jsonl") == [
        (1, "a.png", ["first"]),
        (2, "b.png", ["a\u2028b\x85c"]),
        (4, "c.png", ["one", "two lines"]),
        (5, "d.png", []),
        (6, "e.png", []),
        (7, "f.png", []),
    ]
    assert next(read_table(tmp_path / "metadata.jsonl")).fields == {"text": "one", "style": "flat"}


BAD_LINES = [
    '{"text": "x"}',
    '{"file_name": null, "text": "x"}',
    '{"file_name": " ", "text": "x"}',
    '{"file_name": ["a.png"], "text": "x"}',
    '{"file_name": "a.png", "text": {"en": "x"}}',
    '{"file_name": "a.png", "text": true}',
    "[1]",
    "not json",
    '{"file_name": "a.png", "text": ' + "1" * 5000 + "}",
    "[" * 100_000,
    "{} {}",
]


@pytest.mark.parametrize("line", BAD_LINES, ids=range(len(BAD_LINES)))
def test_a_json_line_that_cannot_be_read_is_named(tmp_path: Path, line: str) -> None:
    with pytest.raises(GalipError, match=r"metadata.jsonl, line 2: not a row"):
        rows(tmp_path, '{"file_name": "a.png", "text": "x"}\n' + line, "metadata.jsonl")
