"""Frames to a file as they come: MP4, GIF, animated WebP, or a folder of images.

A frame is encoded and written when it is given, and forgotten: the length of a video is not bounded by memory. Pillow's
own writers of GIF and WebP keep all frames until the last one, so the files are put together here, frame by frame as
Pillow encodes them. The price is that nothing is saved where two frames are alike.
"""

from __future__ import annotations

import json
import os
import struct
from abc import ABC, abstractmethod
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from fractions import Fraction
from io import BytesIO
from pathlib import Path
from typing import IO, Any

import numpy as np
from PIL import GifImagePlugin, Image

from galip import _deprecated
from galip.errors import GalipError, InputError
from galip.utils.atomic import atomic_file, atomic_folder
from galip.utils.checks import check_file, check_folder
from galip.utils.extras import remedy
from galip.utils.image_io import save_image

SUFFIXES = (".mp4", ".gif", ".webp", "")
"""What a video may be named; without an ending it is a folder of frames."""

MAX_GIF_FPS = 50
"""Frames per second: players take a delay below 2/100 s for a mistake and play slowly."""

_MAX_RIFF = 2**32 - 10
_CRF = "18"  # H.264's quality: hardly to be told from the original


class FrameWriter(ABC):
    """Writes the frames of one video, all of one size.

    Args:
        path: the unfinished file or folder.
        fps: frames per second.
        texts: what made it.
    """

    def __init__(self, path: Path, fps: Fraction, texts: Mapping[str, str]) -> None:
        self.path, self.fps, self.texts = path, fps, texts
        self.count = 0
        self.size: tuple[int, int] | None = None

    def write(self, frame: Image.Image) -> None:
        """Add a frame.

        Raises:
            InputError: it is not of the first one's size, or of one that the format cannot hold.
            OSError: it cannot be written.
        """
        frame = frame.convert("RGB")
        if self.size is None:
            check_size(self.path, frame.size)
            self.size = frame.size
            self._begin(frame)
        elif frame.size != self.size:
            raise InputError(f"frame {self.count} is {_by(frame.size)} and the first {_by(self.size)}: give one size")
        self._add(frame)
        self.count += 1

    @abstractmethod
    def _begin(self, frame: Image.Image) -> None:
        """Write what stands before the first frame."""

    @abstractmethod
    def _add(self, frame: Image.Image) -> None:
        """Write a frame."""

    @abstractmethod
    def finish(self) -> None:
        """Write what stands after the last frame, and close."""

    @abstractmethod
    def abandon(self) -> None:
        """Close without finishing."""

    def _shown_for(self, per_second: int) -> int:
        """How long the frame that is being added is shown; rounding does not add up over the frames."""
        begin, end = (round(n * per_second / self.fps) for n in (self.count, self.count + 1))
        return end - begin


@contextmanager
def writing(
    path: str | os.PathLike[str], fps: float = 24.0, texts: Mapping[str, str] | None = None
) -> Iterator[FrameWriter]:
    """Write a video; `path` is there when the block ends, or not at all if it ends with an error.

        with writing("walk.mp4", fps=24, texts={"model": "emoji-64"}) as video:
            for frame in walk(pipe, keyframes):
                video.write(frame)

    Args:
        path: ends in .mp4, .gif or .webp, or has no ending: a folder of numbered PNG files with a
            `film.json`. A file there is replaced; a folder must be empty.
        fps: frames per second; whole hundredths are kept. Folders do not mind.
        texts: what is told of it in the file: PNG's texts, GIF's comment, WebP's EXIF description, MP4's comment.

    Raises:
        InputError: there can be no such video; found before anything is written.
        GalipError: no frame was written, or `av` is not installed, which MP4 needs.
        OSError: it cannot be written.
    """
    goal = Path(path)
    check_video(goal, fps)
    suffix = goal.suffix.lower()
    goal.absolute().parent.mkdir(parents=True, exist_ok=True)
    with atomic_file(goal, suffix=suffix) if suffix else atomic_folder(goal) as unfinished:
        writer = _WRITERS[suffix](unfinished, Fraction(fps).limit_denominator(100), dict(texts or {}))
        try:
            yield writer
            if writer.count == 0:
                raise GalipError(f"{goal}: no frame was given, so there is nothing to show")
            writer.finish()
        except BaseException:
            writer.abandon()
            raise


def check_video(path: Path, fps: float, size: int | None = None) -> None:
    """Make sure that a video can be written, before anything is generated. Nothing is made.

    Args:
        path: as for `writing`.
        fps: frames per second.
        size: side of the frames in pixels, where it is known.

    Raises:
        InputError: it cannot be; the message says why.
        GalipError: `av` is needed and not installed.
    """
    suffix = path.suffix.lower()
    if suffix not in SUFFIXES:
        raise InputError(f"{path}: {suffix} is not the ending of a video; name it .mp4, .gif or .webp, or a folder")
    if not 0.01 <= fps <= 1000:  # nan is caught too
        raise InputError(f"{fps} frames per second: give 0.01 to 1000")
    if suffix == ".gif" and fps > MAX_GIF_FPS:
        raise InputError(f"{path}: a GIF shows at most {MAX_GIF_FPS} frames per second, not {fps:g}")
    if size is not None:
        check_size(path, (size, size))
    if not suffix and path.exists() and (not path.is_dir() or any(path.iterdir())):
        raise InputError(f"{path}: it is there already and not an empty folder; give a new name, or one with .mp4, ...")
    if suffix:
        check_file(path)
    else:
        check_folder(path)
    if suffix == ".mp4":
        _h264()


def check_size(path: Path, size: tuple[int, int]) -> None:
    """Make sure that a format can hold frames of a size.

    Raises:
        InputError: it cannot.
    """
    suffix = path.suffix.lower()
    if suffix == ".mp4" and (size[0] % 2 or size[1] % 2):
        raise InputError(f"frames of {_by(size)}: an MP4 needs even sides; give another size")
    limit = {".gif": 2**16 - 1, ".webp": 2**14 - 1}.get(suffix)
    if limit is not None and max(size) > limit:
        raise InputError(f"frames of {_by(size)}: {suffix} holds at most {limit} a side; give another size")


class _Mp4(FrameWriter):
    """H.264 in yuv420p, which every player and browser reads, with its index in front."""

    _container: Any = None
    _stream: Any = None

    def _begin(self, frame: Image.Image) -> None:
        import av

        self._container = av.open(str(self.path), "w", format="mp4", options={"movflags": "+faststart"})
        self._container.metadata["comment"] = _as_line(self.texts)
        self._stream = self._container.add_stream(_h264(), rate=self.fps)
        self._stream.width, self._stream.height = frame.size
        self._stream.pix_fmt = "yuv420p"
        self._stream.options = {"crf": _CRF}

    def _add(self, frame: Image.Image) -> None:
        import av

        image = av.VideoFrame.from_ndarray(np.asarray(frame), format="rgb24")
        image.pts, image.time_base = self.count, 1 / self.fps
        self._container.mux(self._stream.encode(image))

    def finish(self) -> None:
        self._container.mux(self._stream.encode(None))
        self._container.close()

    def abandon(self) -> None:
        if self._container is not None:
            self._container.close()


class _OneFile(FrameWriter):
    _file: IO[bytes]

    def _begin(self, frame: Image.Image) -> None:
        self._file = self.path.open("wb")
        self._head()

    @abstractmethod
    def _head(self) -> None:
        """Write the file's head."""

    def finish(self) -> None:
        self._foot()
        self._file.close()

    @abstractmethod
    def _foot(self) -> None:
        """Write the file's foot, and correct its head."""

    def abandon(self) -> None:
        if hasattr(self, "_file"):  # no frame may have come
            self._file.close()


class _Gif(_OneFile):
    """GIF89a that plays for ever; every frame has 256 colours of its own."""

    def _head(self) -> None:
        assert self.size is not None
        self._file.write(b"GIF89a" + struct.pack("<HHBBB", *self.size, 0x70, 0, 0))
        self._file.write(b"!\xff\x0bNETSCAPE2.0\x03\x01\x00\x00\x00")  # again and again
        comment = _as_line(self.texts).encode("utf-8")
        blocks = [comment[start : start + 255] for start in range(0, len(comment), 255)]
        self._file.write(b"!\xfe" + b"".join(bytes([len(block)]) + block for block in blocks) + b"\x00")

    def _add(self, frame: Image.Image) -> None:
        few = frame.quantize(256, method=Image.Quantize.MEDIANCUT, dither=Image.Dither.FLOYDSTEINBERG)
        parts = GifImagePlugin.getdata(few, duration=10 * self._shown_for(100), include_color_table=True)
        self._file.write(b"".join(parts))

    def _foot(self) -> None:
        self._file.write(b";")


class _WebP(_OneFile):
    """Animated WebP that plays for ever: a RIFF of whole frames.

    Google, "WebP container specification": VP8X, ANIM, an ANMF for each frame, EXIF. The sizes in the head are known at
    the end.
    """

    def _head(self) -> None:
        assert self.size is not None
        animation, exif = 0x02, 0x08
        self._file.write(b"RIFF\0\0\0\0WEBP")
        self._file.write(_chunk(b"VP8X", bytes([animation | exif, 0, 0, 0]) + b"".join(_u24(n - 1) for n in self.size)))
        self._file.write(_chunk(b"ANIM", struct.pack("<IH", 0xFFFFFFFF, 0)))

    def _add(self, frame: Image.Image) -> None:
        still = BytesIO()
        frame.save(still, "WEBP", quality=90, method=4)
        data = still.getvalue()[12:]  # what is in the still's own RIFF: one chunk of pixels
        no_blending = 0x02
        place = b"".join(map(_u24, (0, 0, frame.width - 1, frame.height - 1, self._shown_for(1000))))
        if self._file.tell() + len(data) > _MAX_RIFF:
            raise GalipError(f"frame {self.count}: a WebP ends at 4 GiB; make an MP4, or smaller or fewer frames")
        self._file.write(_chunk(b"ANMF", place + bytes([no_blending]) + data))

    def _foot(self) -> None:
        exif = Image.Exif()
        exif[_IMAGE_DESCRIPTION] = _as_line(self.texts)
        self._file.write(_chunk(b"EXIF", exif.tobytes().removeprefix(b"Exif\0\0")))
        size = self._file.tell() - 8
        self._file.seek(4)
        self._file.write(struct.pack("<I", size))


class _Folder(FrameWriter):
    """Numbered PNG files, and `film.json` with what made them."""

    def _begin(self, frame: Image.Image) -> None:
        facts = {**self.texts, "fps": f"{float(self.fps):g}"}
        (self.path / _FACTS).write_text(json.dumps(facts, indent=1), encoding="utf-8")

    def _add(self, frame: Image.Image) -> None:
        # Each frame by itself tells everything but lists of keyframes that would outweigh the image.
        texts = {key: text for key, text in self.texts.items() if len(text) <= _MAX_TEXT}
        save_image(frame, self.path / f"frame-{self.count:06d}.png", texts | {"frame": str(self.count)})

    def finish(self) -> None:
        """Every file is whole already."""

    def abandon(self) -> None:
        """Every file is closed already."""


_WRITERS: dict[str, type[FrameWriter]] = {".mp4": _Mp4, ".gif": _Gif, ".webp": _WebP, "": _Folder}
_IMAGE_DESCRIPTION = 0x010E  # an EXIF tag
_FACTS, _MAX_TEXT = "film.json", 2000


def _h264() -> str:
    """An H.264 encoder that is there."""
    try:
        import av
    except ImportError as error:
        raise GalipError(f"an MP4 needs the package av: {remedy('video')}, or make a .webp or .gif") from error
    for name in ("libx264", "h264"):
        try:
            av.Codec(name, "w")
        except ValueError:  # av's UnknownCodecError is one
            continue
        return name
    raise GalipError("this av has no encoder for H.264; make a .webp or .gif, or install the av of PyPI")


def _as_line(texts: Mapping[str, str]) -> str:
    """Texts as JSON, in ASCII: neither a comment of GIF nor EXIF says how it is encoded."""
    return json.dumps(dict(texts), ensure_ascii=True)


def _chunk(name: bytes, content: bytes) -> bytes:
    """A chunk of a RIFF, padded to an even length."""
    return name + struct.pack("<I", len(content)) + content + b"\0" * (len(content) % 2)


def _u24(number: int) -> bytes:
    return struct.pack("<I", number)[:3]


def _by(size: tuple[int, int]) -> str:
    return f"{size[0]} x {size[1]} pixels"


def __getattr__(name: str) -> Any:
    return _deprecated.renamed(__name__, name)
