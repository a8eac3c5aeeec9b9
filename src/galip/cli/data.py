"""`galip data`: images and captions into shards, and a look at what is in them."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from galip.cli.options import OldOut, one_out
from galip.errors import InputError
from galip.utils.checks import check_file
from galip.utils.image_io import format_of
from galip.utils.terminal import note, progress_bars, say, say_json

if TYPE_CHECKING:
    from galip.data_prep.base import Listing, WritingOptions

data = typer.Typer(
    no_args_is_help=True,
    add_completion=False,
    rich_markup_mode=None,
    help="Prepare captioned images for training, and look at them.",
)
sources = typer.Typer(
    no_args_is_help=True,
    rich_markup_mode=None,
    help="Write captioned images of a source into shards. Interrupted, the same command goes on where it was.",
)
data.add_typer(sources, name="prepare")

Out = Annotated[Path | None, typer.Option("-o", "--out", help="Folder for the shards, OUT/train/ and others.")]
SHARDS = "a folder for the shards"
ShardMb = Annotated[float, typer.Option(help="No shard is larger than this many megabytes.")]
Workers = Annotated[
    int | None, typer.Option(min=1, help="Processes; the result is the same for any number. [default: one a core]")
]
Validation = Annotated[float, typer.Option(help="Share of the images that goes into OUT/validation/.")]
Seed = Annotated[int, typer.Option(help="Of the choice for validation.")]
ShorterSide = Annotated[
    int | None, typer.Option(help="Scale images down to this shorter side, in pixels. [default: as they are]")
]
MinSide = Annotated[int, typer.Option(help="Leave out images whose shorter side has fewer pixels.")]
Quality = Annotated[int, typer.Option(help="JPEG quality of images that must be encoded again.")]
KeepAlpha = Annotated[
    bool, typer.Option("--keep-alpha", help="Keep alpha channels, for models of RGBA. [default: laid on white]")
]


def _writing(
    shard_mb: float,
    shorter_side: int | None,
    min_side: int,
    quality: int,
    validation: float = 0.0,
    seed: int = 0,
    keep_alpha: bool = False,
) -> WritingOptions:
    from galip.data_prep.base import WritingOptions
    from galip.data_prep.encoding import ImageOptions

    return WritingOptions(shard_mb, validation, seed, ImageOptions(shorter_side, min_side, quality, keep_alpha))


def _prepare(listing: Callable[[], Listing], out: Path, writing: WritingOptions, workers: int | None) -> None:
    from galip.data_prep.parallel import usable_cores
    from galip.data_prep.report import summary
    from galip.data_prep.writing import prepare

    with progress_bars() as progress:
        progress("listing the images", 0, 0)
        report = prepare(listing(), out, writing, workers or usable_cores(), progress)
    for line in summary(report, out):
        say(line)


@sources.command("folder")
def folder_(
    root: Annotated[Path, typer.Argument(metavar="DIR", help="The folder of images with captions.")],
    old_out: OldOut = None,
    out: Out = None,
    shard_mb: ShardMb = 100,
    validation: Validation = 0,
    seed: Seed = 0,
    shorter_side: ShorterSide = None,
    min_side: MinSide = 1,
    quality: Quality = 95,
    keep_alpha: KeepAlpha = False,
    workers: Workers = None,
) -> None:
    """Your own images, with .txt, .jsonl or .csv.

    Either x.png beside x.txt (one caption a line), or metadata.jsonl (file_name, captions), or captions.csv (file_name,
    caption); sub-folders count.
    """
    from galip.data_prep.folder import folder

    writing = _writing(shard_mb, shorter_side, min_side, quality, validation, seed, keep_alpha)
    _prepare(lambda: folder(root, writing), one_out(out, old_out, SHARDS), writing, workers)


@sources.command("coco")
def coco_(
    images: Annotated[Path, typer.Option(help="Folder of the training images: train2014 or train2017.")],
    annotations: Annotated[Path, typer.Option(help="Their captions_train2014.json or captions_train2017.json.")],
    old_out: OldOut = None,
    out: Out = None,
    validation_images: Annotated[Path | None, typer.Option(help="COCO's validation part: val2014, val2017.")] = None,
    validation_annotations: Annotated[Path | None, typer.Option(help="captions_val2014.json or of 2017.")] = None,
    shard_mb: ShardMb = 100,
    validation: Validation = 0,
    seed: Seed = 0,
    shorter_side: ShorterSide = None,
    min_side: MinSide = 1,
    quality: Quality = 95,
    workers: Workers = None,
) -> None:
    """MS COCO of 2014 or 2017, all captions of each image."""
    from galip.data_prep.coco import coco

    writing = _writing(shard_mb, shorter_side, min_side, quality, validation, seed)
    _prepare(
        lambda: coco(images, annotations, writing, validation_images, validation_annotations),
        one_out(out, old_out, SHARDS),
        writing,
        workers,
    )


@sources.command("cub")
def cub_(
    root: Annotated[Path, typer.Argument(metavar="CUB_200_2011", help="The folder that holds images.txt.")],
    captions: Annotated[Path, typer.Option(help="Folder of the captions: CLASS/NAME.txt, one a line.")],
    old_out: OldOut = None,
    out: Out = None,
    split_lists: Annotated[
        Path | None,
        typer.Option(
            help="Folder of train/ and test/filenames.pickle, for their split by classes. [default: CUB's own split]"
        ),
    ] = None,
    shard_mb: ShardMb = 100,
    shorter_side: ShorterSide = None,
    min_side: MinSide = 1,
    quality: Quality = 95,
    workers: Workers = None,
) -> None:
    """CUB-200-2011's birds, cut out around their boxes.

    As in DF-GAN: a square around the centre of the bounding box, half a side 0.75 of its longer side, clipped at the
    image's borders. Ten captions each.
    """
    from galip.data_prep.cub import cub

    writing = _writing(shard_mb, shorter_side, min_side, quality)
    _prepare(lambda: cub(root, captions, writing, split_lists), one_out(out, old_out, SHARDS), writing, workers)


@sources.command("dfgan")
def dfgan_(
    root: Annotated[Path, typer.Argument(metavar="DIR", help="data/birds or data/coco of the code of DF-GAN, GALIP.")],
    old_out: OldOut = None,
    out: Out = None,
    shard_mb: ShardMb = 100,
    shorter_side: ShorterSide = None,
    min_side: MinSide = 1,
    quality: Quality = 95,
    workers: Workers = None,
) -> None:
    """The data folders of DF-GAN's and GALIP's code.

    {train,test}/filenames.pickle, text/, and CUB_200_2011/ or images/{train2014,val2014}/jpg/.
    """
    from galip.data_prep.dfgan import dfgan

    writing = _writing(shard_mb, shorter_side, min_side, quality)
    _prepare(lambda: dfgan(root, writing), one_out(out, old_out, SHARDS), writing, workers)


def _conceptual_captions(name: str) -> Callable[..., None]:
    def command(
        root: Annotated[Path, typer.Argument(metavar="DIR", help="img2dataset's output folder: 00000.tar, ...")],
        old_out: OldOut = None,
        out: Annotated[
            Path | None, typer.Option("-o", "--out", help="Folder for the shards; none with --in-place.")
        ] = None,
        in_place: Annotated[
            bool, typer.Option("--in-place", help="Leave the tars as they are and write an index beside them.")
        ] = False,
        validation_dir: Annotated[Path | None, typer.Option(help="Output folder of a list for validation.")] = None,
        shard_mb: ShardMb = 100,
        validation: Annotated[float, typer.Option(help="Share of the tars that goes into OUT/validation/.")] = 0,
        seed: Seed = 0,
        shorter_side: ShorterSide = None,
        min_side: MinSide = 1,
        quality: Quality = 95,
        workers: Workers = None,
    ) -> None:
        from galip.data_prep.tars import tars

        if in_place and (out or old_out) is not None:
            raise InputError(f"-o {out or old_out}: with --in-place the index goes into {root}; leave -o out")
        writing = _writing(shard_mb, shorter_side, min_side, quality, validation, seed)
        if in_place:
            _index(lambda: tars(name, root, writing, in_place, validation_dir), root, writing, workers)
        else:
            _prepare(
                lambda: tars(name, root, writing, False, validation_dir),
                one_out(out, old_out, SHARDS),
                writing,
                workers,
            )

    command.__doc__ = f"{name.upper()} as img2dataset downloaded it.\n\nPacked anew, or with --in-place used as it is."
    return command


for _name in ("cc3m", "cc12m"):
    sources.command(_name)(_conceptual_captions(_name))


def _index(listing: Callable[[], Listing], root: Path, writing: WritingOptions, workers: int | None) -> None:
    from galip.data_prep.indexing import index_in_place
    from galip.data_prep.parallel import usable_cores
    from galip.data_prep.report import summary

    with progress_bars() as progress:
        report = index_in_place(listing(), root, writing.images, workers or usable_cores(), progress)
    for line in summary(report, root):
        say(line)


@sources.command("hub")
def hub_(
    name: Annotated[str, typer.Argument(metavar="ID_OR_PARQUET", help="A hub data set, a .parquet file or a folder.")],
    old_out: OldOut = None,
    out: Out = None,
    image_column: Annotated[str, typer.Option(help="Column of the images.")] = "image",
    caption_column: Annotated[str, typer.Option(help="Column of the captions: a text or a list of them.")] = "caption",
    split: Annotated[list[str] | None, typer.Option(help="A split to take; repeatable. [default: all]")] = None,
    subset: Annotated[str | None, typer.Option(help="Of the data set, where it has several.")] = None,
    shard_mb: ShardMb = 100,
    validation: Validation = 0,
    seed: Seed = 0,
    shorter_side: ShorterSide = None,
    min_side: MinSide = 1,
    quality: Quality = 95,
    keep_alpha: KeepAlpha = False,
    workers: Workers = None,
) -> None:
    """A data set of the hub, streamed, or parquet files on disk."""
    from galip.data_prep.hub import hub

    writing = _writing(shard_mb, shorter_side, min_side, quality, validation, seed, keep_alpha)
    folder = one_out(out, old_out, SHARDS)
    _prepare(lambda: hub(name, writing, image_column, caption_column, split or (), subset), folder, writing, workers)


@sources.command("emoji")
def emoji_(
    old_out: OldOut = None,
    out: Out = None,
    packages: Annotated[
        Path | None, typer.Option(help="Folder of the packages' archives. [default: packages/ beside OUT]")
    ] = None,
    shard_mb: ShardMb = 100,
    shorter_side: ShorterSide = None,
    min_side: MinSide = 1,
    quality: Quality = 95,
    workers: Workers = None,
) -> None:
    """Emoji in eight styles, fetched with npm, rendered at 128 px with their alpha channel.

    What the bundled model learned from.
    """
    from galip.data_prep.emoji import emoji

    writing = _writing(shard_mb, shorter_side, min_side, quality, keep_alpha=True)
    folder = one_out(out, old_out, SHARDS)
    _prepare(lambda: emoji(packages or folder.parent / "packages", writing), folder, writing, workers)


@data.command("inspect")
def inspect_(
    path: Annotated[Path, typer.Argument(metavar="PATH", help="Shards, tars, or a plain folder of images.")],
    sheet: Annotated[
        Path | None, typer.Option(help="Write a contact sheet with captions here: .png, .webp or .jpg.")
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print everything that was found as JSON.")] = False,
    json_file: Annotated[Path | None, typer.Option(help="Write everything that was found here.")] = None,
    workers: Workers = None,
) -> None:
    """Count, measure and check images and captions.

    Every one is read, and shards are compared with the hashes in their index. Exits with 1 if something is broken.
    """
    from galip.data_prep.inspect import described, inspect, write_sheet
    from galip.data_prep.parallel import usable_cores
    from galip.utils.atomic import write_json

    if sheet:
        format_of(sheet)
        check_file(sheet, "--sheet")
    if json_file:
        check_file(json_file, "--json-file")
    with progress_bars() as progress:
        found = inspect(path, workers or usable_cores(), progress)
    everything = {name: facts.as_json() for name, facts in found.items()}
    if as_json:
        say_json(everything)
    else:
        for line in described(found):
            say(line)
    if json_file:
        write_json(json_file, everything)
        note(f"everything: {json_file}")
    if sheet:
        write_sheet(path, sheet)
        note(f"contact sheet: {sheet}")
    if any(facts.broken_count for facts in found.values()):
        raise typer.Exit(1)
