"""The command `galip`: one file per command, imported only when its command is called.

`galip --help` lists the commands from the table below and imports none of them.
"""

from __future__ import annotations

import importlib
import os
import re
import sys
from collections.abc import Sequence
from typing import Annotated, Any, NamedTuple

import typer
from typer.core import TyperCommand, TyperGroup

from galip.errors import GalipError
from galip.utils.extras import require


class Command(NamedTuple):
    """A command's line in `galip --help`, and the extra of the package without which it does nothing."""

    line: str
    extra: str | None = None


COMMANDS = {
    "generate": Command("Generate images from prompts."),
    "grid": Command("Generate images side by side, with labels."),
    "walk": Command("Walk from image to image, as a video."),
    "invert": Command("Find what generates an image, and edit it by prompts.", "torch"),
    "serve": Command("Serve a model: a web app, and an API like OpenAI's.", "serve"),
    "mcp": Command("Offer a model to an assistant, as tools.", "mcp"),
    "bulk": Command("Generate images for prompts by the million, into shards."),
    "info": Command("Say what a model is made of and trained on."),
    "models": Command("List the models that are on this machine."),
    "export": Command("Write a model for another engine, or in another precision.", "torch"),
    "convert": Command("Read and write the GALIP authors' checkpoints.", "torch"),
    "data": Command("Prepare captioned images for training, and look at them."),
    "train": Command("Train a model on captioned images.", "train"),
    "finetune": Command("Train a model on with your own captioned images.", "train"),
    "bench": Command("Measure how fast a model generates here."),
    "evaluate": Command("Measure a model by a named protocol; compare results."),
}
"""Each command, in the order of `galip --help`.

`galip.cli.NAME` holds a function NAME, the command itself, or a `typer.Typer` NAME, a group of commands.
"""


class LazyGroup(TyperGroup):
    """A group that knows its commands by name and line, and imports a command's module to run it."""

    def __init__(self, **attributes: Any) -> None:
        super().__init__(**attributes)
        for name, command in COMMANDS.items():
            self.add_command(TyperCommand(name, help=command.line))

    def resolve_command(self, ctx: Any, args: list[str]) -> tuple[str | None, Any, list[str]]:
        """The command that `args` begin with, imported now."""
        name, command, rest = super().resolve_command(ctx, args)
        if name is None or command is None:
            return name, command, rest
        extra = COMMANDS[name].extra
        if extra is not None and "--help" not in rest:
            require(f"galip {name}", extra)
        return name, _import_command(name), rest


def _import_command(name: str) -> Any:
    found = getattr(importlib.import_module(f"galip.cli.{name}"), name)
    if isinstance(found, typer.Typer):
        return typer.main.get_command(found)
    single = typer.Typer(add_completion=False, rich_markup_mode=None)
    single.command(name)(found)
    return typer.main.get_command(single)


def _print_version(wanted: bool) -> None:
    if wanted:
        from galip import __version__

        print(f"galip {__version__}")
        raise typer.Exit


app = typer.Typer(cls=LazyGroup, no_args_is_help=True, rich_markup_mode=None)


@app.callback(help="Text-to-image synthesis with GALIP: an image from a prompt in one forward pass.")
def _root(
    version: Annotated[
        bool, typer.Option("--version", help="Print the version.", is_eager=True, callback=_print_version)
    ] = False,
) -> None:
    """The options of `galip` itself."""


def main(argv: Sequence[str] | None = None) -> None:
    """Run the command line and exit: 0 when it worked, 2 with one clean line on stderr when the user can put it right.

    Args:
        argv: the arguments after the program's name; the process's own by default.

    Set GALIP_DEBUG=1 to see the traceback of such an error too. An interrupt exits with 130.
    """
    from galip.utils.terminal import note, session

    command = typer.main.get_command(app)
    with session():
        try:
            command.main(args=argv if argv is None else list(argv), prog_name="galip", standalone_mode=True)
        except KeyboardInterrupt:
            sys.exit(130)
        except BrokenPipeError:
            _hush_stdout()
            sys.exit(1)
        except (GalipError, OSError) as error:
            if os.environ.get("GALIP_DEBUG", "") not in ("", "0"):
                raise
            note(f"Error: {one_line(error)}")
            sys.exit(2)
        finally:
            try:
                sys.stdout.flush()
            except BrokenPipeError:  # `galip info MODEL | head -1`
                _hush_stdout()


def one_line(error: Exception) -> str:
    """An error's message without line breaks; an `OSError` as "file: what went wrong"."""
    if isinstance(error, OSError) and error.filename is not None and error.strerror:
        message = f"{error.filename}: {error.strerror}"
    else:
        message = str(error) or type(error).__name__
    return re.sub(r"\s*[\r\n]\s*", " ", message.strip())


def _hush_stdout() -> None:
    # Nobody reads any more; without this the interpreter would complain once again when it closes stdout.
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
