"""`galip evaluate`: a model and a protocol to a number that says what it is; results side by side; a report."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any, Literal

import typer

from galip.cli.options import EngineName
from galip.errors import InputError
from galip.evaluation.references import References
from galip.utils.extras import require
from galip.utils.terminal import Console, progress_bars, say

Resize = Literal["tensorflow", "pytorch", "clean"]


def evaluate(
    models: Annotated[
        list[str] | None,
        typer.Argument(
            help="A bundled name, a folder, a hub id; images generated earlier; two folders of images, generated and "
            "real; with --compare, result files."
        ),
    ] = None,
    protocol: Annotated[str, typer.Option(help="What is measured, and how; --list names them.")] = "custom",
    data: Annotated[str, typer.Option(help="Captioned real images: a folder or shards.")] = "",
    out: Annotated[Path | None, typer.Option("--out", "-o", help="Write the result here, a .json.")] = None,
    metrics: Annotated[str, typer.Option(help="Only these metrics, by commas; --list names them.")] = "",
    prompts: Annotated[
        list[str] | None, typer.Option(help="Also generate a prompt suite (general, emoji) or a file of prompts.")
    ] = None,
    reference: Annotated[Path | None, typer.Option(help="Statistics of real images: .npz with mu, sigma.")] = None,
    training: Annotated[str, typer.Option(help="The training images, to look for copies of them.")] = "",
    weights: Annotated[
        list[str] | None, typer.Option(help="NAME=FILE: weights of a feature network, e.g. inception=inception.pth.")
    ] = None,
    settings: Annotated[
        list[str] | None, typer.Option("--set", help="FIELD=VALUE of the protocol custom, e.g. images=5000.")
    ] = None,
    resize: Annotated[
        Resize | None,
        typer.Option(help="How images reach Inception's 299 px. [default: tensorflow; of two folders pytorch]"),
    ] = None,
    save_reference: Annotated[
        Path | None,
        typer.Option(help="Write statistics of --data here, an .npz for --reference; no model is evaluated."),
    ] = None,
    report: Annotated[Path | None, typer.Option(help="Write a page with plots and images here, an .html.")] = None,
    compare: Annotated[bool, typer.Option("--compare", help="Compare result files instead.")] = False,
    list_all: Annotated[bool, typer.Option("--list", help="List protocols, metrics and prompt suites.")] = False,
    batch_size: Annotated[int, typer.Option(min=1, help="Images generated at once; changes no number.")] = 16,
    engine: Annotated[
        EngineName | None,
        typer.Option(
            help="What generates. [default: torch, the same images on any hardware; an exported model's own engine]"
        ),
    ] = None,
    precision: Annotated[
        Literal["fp32", "bf16", "fp16", "int8"],
        typer.Option(help="What the generator computes in; in fp32 alone numbers are the same on any hardware."),
    ] = "fp32",
    device: Annotated[str, typer.Option(help="auto, cpu, cuda, cuda:1.")] = "auto",
    cache: Annotated[
        Path | None, typer.Option(help="Where features of real images are kept; default: the user's cache.")
    ] = None,
) -> None:
    """Evaluate a model by a named protocol, or compare two folders of images, or results.

    Exactly the protocol's images are generated, each from its own seed, so the numbers do not depend on batch size,
    processes or hardware. Interrupted, the same command goes on. Several processes: accelerate launch -m galip
    evaluate ..., or torchrun -m galip evaluate ...
    """
    if list_all:
        _list()
        return
    changes = _values(settings) | ({} if resize is None else {"inception_resize": resize})
    if save_reference is not None:
        if models or reference is not None or prompts or training or engine or out or report:
            raise InputError("--save-reference is of real images alone: give --data and, where needed, --protocol")
        references = References(data, weights=_pairs("--weights", weights), cache=cache)
        _save_reference(save_reference, protocol, references, changes, _names(metrics), device)
        return
    if not models:
        raise InputError("name a model, e.g. galip evaluate emoji-64 --protocol emoji64; --list shows the protocols")
    if report is not None and report.suffix != ".html":
        raise InputError(f"{report}: a report is an .html file; name it so")
    if compare:
        given = {"--data": data, "--out": out, "--metrics": metrics, "--prompts": prompts, "--set": settings}
        given |= {"--reference": reference, "--training": training, "--weights": weights, "--engine": engine}
        if extra := [name for name, value in given.items() if value]:
            raise InputError(f"{extra[0]} makes no sense with --compare, which reads results only")
        _show([Path(name) for name in models], report)
        return
    if report is not None and out is None:
        raise InputError("--report shows what lies beside a result: give --out RESULT.json too")

    require("galip evaluate", "eval")
    from galip.distributed import Distributed
    from galip.evaluation.protocols import get_protocol
    from galip.evaluation.runner import evaluate as run
    from galip.evaluation.runner import resolved

    if len(models) > 1:
        protocol, data, reference = _two_folders(models, protocol, data, reference)
    references = References(data, reference, training, tuple(prompts or ()), _pairs("--weights", weights), cache)
    rules = resolved(get_protocol(protocol), references, changes, _names(metrics))
    distributed = Distributed(device, "--device")
    with progress_bars(shown=distributed.is_main, transient=False) as progress:
        result = run(
            models[0],
            rules,
            references,
            out=out,
            batch_size=batch_size,
            engine=engine,
            precision=precision,
            distributed=distributed,
            progress=progress,
        )
    if result is None:
        return
    from galip.evaluation.report.comparison import compare as table

    Console().print(table([result]))
    if out is not None:
        say(f"{out}: {result.n_generated:,} images, {result.seconds:.0f} s")
    if report is not None and out is not None:
        _report([out], report)


def _save_reference(
    out: Path, protocol: str, references: References, changes: dict[str, Any], metrics: list[str], device: str
) -> None:
    """Statistics of real images as a protocol compares them."""
    require("galip evaluate", "eval")
    from galip.distributed import Distributed
    from galip.evaluation.protocols import get_protocol
    from galip.evaluation.reference_statistics import save_reference

    rules, distributed = get_protocol(protocol), Distributed(device, "--device")
    with progress_bars(shown=distributed.is_main, transient=False) as progress:
        made = save_reference(out, rules, references, changes, metrics, distributed=distributed, progress=progress)
    if made is not None:
        say(f"{out}: statistics of {made.count:,} images in the features of {made.about['features']}")
        if protocol.startswith("released_"):
            say(
                "The published numbers were measured with the authors' own file; for data sets other than COCO they "
                "say that real images were flipped and shifted to about 30,000. docs/published.md has what is known."
            )


def _names(text: str) -> list[str]:
    return [name.strip() for name in text.split(",") if name.strip()]


def _two_folders(models: list[str], protocol: str, data: str, reference: Path | None) -> tuple[str, str, Path | None]:
    """Protocol, data and statistics where a second name stands for real images, or for a file of their statistics."""
    from galip.evaluation.runner import is_image_set

    real = Path(models[1])
    if len(models) > 2 or not is_image_set(models[0]) or not (real.suffix == ".npz" or is_image_set(real)):
        raise InputError(
            f"{len(models)} models are given; evaluate one at a time, then use --compare on the results (or give two "
            "folders of images)"
        )
    if data or reference is not None:
        raise InputError(f"{models[1]} is what {models[0]} is compared with; leave --data and --reference out")
    if protocol not in ("custom", "images"):
        raise InputError(f"protocol {protocol} is of one model; two folders are compared by the protocol images")
    return ("images", "", real) if real.suffix == ".npz" else ("images", models[1], None)


def _show(paths: list[Path], report: Path | None) -> None:
    from galip.evaluation.report.comparison import compare as table
    from galip.evaluation.result import read_result

    Console().print(table([read_result(path) for path in paths]))
    if report is not None:
        _report(paths, report)


def _report(paths: list[Path], out: Path) -> None:
    from galip.evaluation.report.page import write_report

    write_report(paths, out)
    say(f"{out}: open it in a browser; it needs no network")


def _list() -> None:
    from rich.table import Table

    from galip.evaluation.metrics.registry import METRICS
    from galip.evaluation.protocols import PROTOCOLS
    from galip.evaluation.suites import read_suite, suite_names

    table = Table(box=None, padding=(0, 2, 1, 0), header_style="bold")
    for title in ("protocol", "what it is", "metrics"):
        table.add_column(title, overflow="fold")
    for name, rules in PROTOCOLS.items():
        table.add_row(name, rules.about + (f" Data: {rules.split}." if rules.split else ""), ", ".join(rules.metrics))
    console = Console()
    console.print(table)
    console.print(f"metrics: {', '.join(METRICS)}")
    suites = (f"{name} ({', '.join(read_suite(name).categories)})" for name in suite_names())
    console.print(f"prompt suites: {'; '.join(suites)}")


def _pairs(option: str, given: list[str] | None) -> dict[str, str]:
    pairs = {}
    for text in given or ():
        name, equals, value = text.partition("=")
        if not (equals and name and value):
            raise InputError(f"{option} {text}: write NAME=VALUE")
        pairs[name.strip()] = value.strip()
    return pairs


def _values(given: list[str] | None) -> dict[str, Any]:
    import yaml

    values: dict[str, Any] = {}
    for name, text in _pairs("--set", given).items():
        if name in ("name", "metrics"):
            raise InputError(f"--set {name}: use the option for it (--metrics), or Python")
        try:
            values[name] = yaml.safe_load(text)
        except yaml.YAMLError as error:
            raise InputError(f"--set {name}={text}: it cannot be read as a value") from error
    return values
