"""Films: every format read back by another program than wrote it, whole or not there, no frame kept."""

from __future__ import annotations

import json
import struct
import weakref
from pathlib import Path

import av
import numpy as np
import pytest
from PIL import Image, ImageSequence

from galip.errors import GalipError, InputError
from galip.utils.video import check_video, writing

TEXTS = {"model": "tiny-32", "walk": "a cat (seed 1)\n猫 (seed 2)"}
FILES = ["walk.mp4", "walk.gif", "walk.webp"]


def picture(number: int, side: int = 32) -> Image.Image:
    """A smooth picture whose red tells its number."""
    ramp = np.linspace(0, 255, side)
    red = np.full((side, side), 10.0 * number)
    return Image.fromarray(np.stack([red, *np.meshgrid(ramp, ramp)], axis=2).astype(np.uint8))


def write(path: Path, count: int = 8, fps: float = 24, side: int = 32) -> None:
    with writing(path, fps, TEXTS) as film:
        for number in range(count):
            film.write(picture(number, side))


def read(path: Path) -> list[np.ndarray]:
    if path.suffix == ".mp4":
        with av.open(str(path)) as container:
            return [frame.to_ndarray(format="rgb24") for frame in container.decode(video=0)]
    with Image.open(path) as image:
        return [np.asarray(frame.convert("RGB")) for frame in ImageSequence.Iterator(image)]


@pytest.mark.parametrize("name", FILES)
def test_the_frames_come_back(tmp_path: Path, name: str) -> None:
    write(tmp_path / name)
    frames = read(tmp_path / name)
    assert len(frames) == 8
    for number, frame in enumerate(frames):
        assert frame.shape == (32, 32, 3)
        assert np.abs(frame.astype(int) - np.asarray(picture(number)).astype(int)).mean() < 8
        assert frame[..., 0].mean() == pytest.approx(10 * number, abs=6)
    assert [path.name for path in tmp_path.iterdir()] == [name]


def test_mp4_is_for_every_player(tmp_path: Path) -> None:
    write(tmp_path / "walk.mp4", count=30, fps=12.5)
    with av.open(str(tmp_path / "walk.mp4")) as container:
        stream = container.streams.video[0]
        assert stream.codec_context.name == "h264"
        assert stream.codec_context.pix_fmt == "yuv420p"
        assert float(stream.average_rate) == 12.5
        assert float(stream.duration * stream.time_base) == pytest.approx(30 / 12.5)
        assert json.loads(container.metadata["comment"]) == TEXTS
    data = (tmp_path / "walk.mp4").read_bytes()
    assert data.index(b"moov") < data.index(b"mdat")  # a browser need not wait for the end


def test_gif(tmp_path: Path) -> None:
    write(tmp_path / "walk.gif", count=12, fps=24)
    with Image.open(tmp_path / "walk.gif") as image:
        assert image.n_frames == 12
        assert image.info["loop"] == 0
        assert json.loads(image.info["comment"]) == TEXTS
        delays = []
        for number in range(12):
            image.seek(number)
            delays.append(image.info["duration"])
    assert sum(delays) == 500  # 24 a second are 4.17 hundredths each, which do not add up to an error
    assert set(delays) == {40, 50}


def test_webp(tmp_path: Path) -> None:
    write(tmp_path / "walk.webp", count=12, fps=24)
    data = (tmp_path / "walk.webp").read_bytes()
    assert struct.unpack("<I", data[4:8])[0] == len(data) - 8
    with Image.open(tmp_path / "walk.webp") as image:
        assert image.n_frames == 12
        assert image.info["loop"] == 0
        assert json.loads(image.getexif()[0x010E]) == TEXTS
        durations = []
        for number in range(12):
            image.seek(number)
            image.load()
            durations.append(image.info["duration"])
    assert sum(durations) == 500


def test_a_folder(tmp_path: Path) -> None:
    (tmp_path / "walk").mkdir()
    write(tmp_path / "walk")
    files = sorted(path.name for path in (tmp_path / "walk").iterdir())
    assert files == ["film.json", *(f"frame-{number:06d}.png" for number in range(8))]
    with Image.open(tmp_path / "walk" / "frame-000003.png") as image:
        assert (np.asarray(image) == np.asarray(picture(3))).all()
        assert dict(image.text) == TEXTS | {"frame": "3"}
    assert json.loads((tmp_path / "walk" / "film.json").read_text()) == TEXTS | {"fps": "24"}
    assert [path.name for path in tmp_path.iterdir()] == ["walk"]


@pytest.mark.parametrize("name", FILES)
def test_a_single_frame_and_an_older_file(tmp_path: Path, name: str) -> None:
    (tmp_path / name).write_text("older")
    write(tmp_path / name, count=1)
    assert len(read(tmp_path / name)) == 1


@pytest.mark.parametrize("name", [*FILES, "walk"])
def test_a_film_that_is_not_finished_leaves_nothing(tmp_path: Path, name: str) -> None:
    if name != "walk":
        (tmp_path / name).write_text("older")
    with pytest.raises(KeyboardInterrupt), writing(tmp_path / name) as film:  # noqa: PT012
        film.write(picture(0))
        film.write(picture(1))
        raise KeyboardInterrupt
    left = {path.name: path.read_text() for path in tmp_path.iterdir()}
    assert left == ({} if name == "walk" else {name: "older"})


@pytest.mark.parametrize("name", [*FILES, "walk"])
def test_no_frame_is_kept(tmp_path: Path, name: str) -> None:
    alive: list[weakref.ref] = []
    with writing(tmp_path / name) as film:
        for number in range(30):
            frame = picture(number % 25)
            alive.append(weakref.ref(frame))
            film.write(frame)
            del frame
            assert sum(ref() is not None for ref in alive) == 0


@pytest.mark.parametrize("name", ["walk.gif", "walk.webp"])
def test_a_frame_is_on_disk_when_the_next_one_comes(tmp_path: Path, name: str) -> None:
    """Not in the memory of an encoder, which would grow with the film."""
    noisy = Image.fromarray(np.random.default_rng(0).integers(0, 256, (256, 256, 3), dtype=np.uint8))
    with writing(tmp_path / name) as film:
        sizes = []
        for _ in range(4):
            film.write(noisy)
            sizes.append(film.path.stat().st_size)
        assert (np.diff(sizes) > 20_000).all()


def test_no_frames_are_no_film(tmp_path: Path) -> None:
    for name in (*FILES, "walk"):
        with pytest.raises(GalipError, match="no frame was given"), writing(tmp_path / name):
            pass
    assert list(tmp_path.iterdir()) == []


def test_frames_of_another_size(tmp_path: Path) -> None:
    with writing(tmp_path / "walk.gif") as film:
        film.write(picture(0))
        with pytest.raises(InputError, match="frame 1 is 16 x 16 pixels and the first 32 x 32"):
            film.write(picture(1, side=16))
    (tmp_path / "walk.gif").unlink()
    with (
        pytest.raises(InputError, match="an MP4 needs even sides"),
        writing(tmp_path / "walk.mp4") as film,
    ):
        film.write(picture(0, side=33))
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("name", "fps", "size", "message"),
    [
        ("walk.avi", 24, None, ".avi is not the ending of a video; name it .mp4, .gif or .webp, or a folder"),
        ("walk.mp4", 24, 33, "an MP4 needs even sides"),
        ("walk.webp", 24, 20000, ".webp holds at most 16383 a side"),
        ("walk.gif", 60, None, "a GIF shows at most 50 frames per second, not 60"),
        ("walk.mp4", 0, None, "0 frames per second: give 0.01 to 1000"),
        ("walk.mp4", float("nan"), None, "nan frames per second"),
        ("folder.mp4", 24, None, "this is a folder"),
        ("full", 24, None, "it is there already and not an empty folder"),
        ("file", 24, None, "it is there already and not an empty folder"),
        ("file/walk.mp4", 24, None, "it cannot be written there"),
    ],
)
def test_what_cannot_be_written_is_found_first(
    tmp_path: Path, name: str, fps: float, size: int | None, message: str
) -> None:
    (tmp_path / "folder.mp4").mkdir()
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "picture.png").touch()
    (tmp_path / "file").touch()
    with pytest.raises(InputError) as caught:
        check_video(tmp_path / name, fps, size)
    assert message in str(caught.value)


def test_the_folder_of_a_film_is_made(tmp_path: Path) -> None:
    write(tmp_path / "deeper" / "still" / "walk.gif")
    assert (tmp_path / "deeper" / "still" / "walk.gif").is_file()
