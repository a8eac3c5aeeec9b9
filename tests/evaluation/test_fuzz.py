"""Whatever a result or a file of statistics has become on its way: right, or one clear line.

Hypothesis changes files of ours at random, a few times here and many more under `slow`.
"""

from __future__ import annotations

import io
import json
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from evaluation.results import a_result, write_with_images
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from rich.console import Console

from galip.errors import GalipError, InputError
from galip.evaluation.metrics.fid import frechet_from
from galip.evaluation.report.comparison import compare
from galip.evaluation.report.page import write_report
from galip.evaluation.result import SAMPLES, files_of, read_result
from galip.evaluation.statistics import Moments, read_statistics, write_statistics
from galip.utils.terminal import printable

FEW, MANY = 60, 1000

Test = Callable[..., None]


def examples(count: int) -> Callable[[Test], Test]:
    unhealthy = [HealthCheck.too_slow, HealthCheck.function_scoped_fixture, HealthCheck.data_too_large]
    # Always the same few, so that a change of ours is to blame for a failure.
    return settings(max_examples=count, deadline=None, suppress_health_check=unhealthy, derandomize=count == FEW)


def one_line(error: GalipError) -> None:
    assert str(error) and printable(error) == str(error), str(error)


numbers = st.one_of(st.floats(), st.integers(), st.sampled_from([1e308, -1e308, 5e-324, 10**400, 0, -1, True]))
ODD = ["\0", "\x1b[31m", "[/red]", "\ud800", "<script>", "../../x.png"]
texts = st.one_of(st.text(max_size=20), st.sampled_from(ODD))
values = st.recursive(
    st.none() | st.booleans() | numbers | texts,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(texts, inner, max_size=3),
    max_leaves=5,
)


def places(tree: Any, here: tuple[Any, ...] = ()) -> list[tuple[Any, ...]]:
    """Where there is something in a tree of JSON values."""
    inside: list[tuple[Any, Any]] = []
    if isinstance(tree, dict):
        inside = list(tree.items())
    elif isinstance(tree, list):
        inside = list(enumerate(tree))
    return [here, *(place for key, value in inside for place in places(value, (*here, key)))]


def changed(tree: Any, place: tuple[Any, ...], value: Any) -> Any:
    if not place:
        return value
    copy = dict(tree) if isinstance(tree, dict) else list(tree)
    copy[place[0]] = changed(tree[place[0]], place[1:], value)
    return copy


def as_json(tree: Any) -> bytes:
    return json.dumps(tree).encode()


def with_changed_bytes(data: st.DataObject, content: bytes) -> bytes:
    """Some bytes replaced, the end cut off, or something put in."""
    raw = bytearray(content)
    for _ in range(data.draw(st.integers(1, 4))):
        place = data.draw(st.integers(0, max(len(raw) - 1, 0)))
        raw[place : place + data.draw(st.integers(0, 8))] = data.draw(st.binary(max_size=8))
    return bytes(raw[: data.draw(st.integers(0, len(raw)))] if data.draw(st.booleans()) else raw)


def results_are_right_or_refused(data: st.DataObject, folder: Path) -> None:
    path, other = folder / "result.json", folder / "other.json"
    write_with_images(path, a_result())
    write_with_images(other, a_result(model="other"))
    which = data.draw(st.sampled_from(["result", "bytes", "rows"]))
    changed_file = files_of(path) / SAMPLES if which == "rows" else path
    content = changed_file.read_bytes()
    if which == "bytes":
        changed_file.write_bytes(with_changed_bytes(data, content))
    elif which == "result":
        tree = json.loads(content)
        changed_file.write_bytes(as_json(changed(tree, data.draw(st.sampled_from(places(tree))), data.draw(values))))
    else:
        lines = content.splitlines()
        number = data.draw(st.integers(0, len(lines) - 1))
        row = json.loads(lines[number])
        lines[number] = as_json(changed(row, data.draw(st.sampled_from(places(row))), data.draw(values)))
        changed_file.write_bytes(b"\n".join(lines))
    for results in ([path], [path, other]):
        try:
            table = compare([read_result(each) for each in results])
            shown = io.StringIO()
            Console(file=shown, width=100, force_terminal=False).print(table)
            assert printable(shown.getvalue(), keep="\n") == shown.getvalue()
            write_report(results, folder / "report.html")
        except (GalipError, InputError) as error:
            one_line(error)


def statistics_are_right_or_refused(data: st.DataObject, folder: Path) -> None:
    path = folder / "statistics.npz"
    features = np.random.default_rng(0).normal(size=(20, 4)).astype(np.float32)
    whole = Moments.of(features).statistics()
    write_statistics(path, whole)
    if data.draw(st.booleans()):
        path.write_bytes(with_changed_bytes(data, path.read_bytes()))
    else:
        path.write_bytes(with_changed_array(data, path.read_bytes()))
    try:
        found = read_statistics(path)
        assert np.isfinite(frechet_from(found, whole) if len(found.mu) == 4 else 0.0)
    except GalipError as error:
        one_line(error)


def with_changed_array(data: st.DataObject, content: bytes) -> bytes:
    """The archive with an array that is another one, or whose header claims something else."""
    arrays = {name: np.asarray(value) for name, value in np.load(io.BytesIO(content)).items()}
    name = data.draw(st.sampled_from([*arrays, "features", "about"]))
    kind = data.draw(st.sampled_from(["f8", "f4", "f2", "c16", "i8", "u1", "?", "U3", "S2", "M8[s]", "O"]))
    shape = tuple(data.draw(st.lists(st.integers(0, 5), max_size=3)))
    filling = data.draw(st.sampled_from([0, 1, -1, 7]))
    arrays[name] = np.full(shape, filling).astype(kind) if kind != "M8[s]" else np.zeros(shape, kind)
    written = io.BytesIO()
    np.savez(written, **arrays)  # type: ignore[arg-type]
    claimed = data.draw(st.one_of(st.none(), st.integers(1, 10**15)))
    if claimed is None:
        return written.getvalue()
    lying = io.BytesIO()
    with zipfile.ZipFile(written) as old, zipfile.ZipFile(lying, "w") as new:
        for member in old.namelist():
            body = old.read(member)
            if member == f"{name}.npy":
                header = {"descr": "<f8", "fortran_order": False, "shape": (claimed, 4)}
                beginning = io.BytesIO()
                np.lib.format.write_array_header_1_0(beginning, header)
                body = beginning.getvalue() + body[-64:]
            new.writestr(member, body)
    return lying.getvalue()


@examples(FEW)
@given(st.data())
def test_results(tmp_path_factory: pytest.TempPathFactory, data: st.DataObject) -> None:
    results_are_right_or_refused(data, tmp_path_factory.mktemp("result"))


@examples(FEW)
@given(st.data())
def test_statistics(tmp_path_factory: pytest.TempPathFactory, data: st.DataObject) -> None:
    statistics_are_right_or_refused(data, tmp_path_factory.mktemp("statistics"))


@pytest.mark.slow
@pytest.mark.timeout(1800)
@examples(MANY)
@given(st.data())
def test_many_results(tmp_path_factory: pytest.TempPathFactory, data: st.DataObject) -> None:
    results_are_right_or_refused(data, tmp_path_factory.mktemp("result"))


@pytest.mark.slow
@pytest.mark.timeout(1800)
@examples(MANY)
@given(st.data())
def test_many_statistics(tmp_path_factory: pytest.TempPathFactory, data: st.DataObject) -> None:
    statistics_are_right_or_refused(data, tmp_path_factory.mktemp("statistics"))
