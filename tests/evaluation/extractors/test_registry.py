"""What every feature network promises, and the names that they are opened by."""

from __future__ import annotations

import subprocess
import sys

import pytest
import torch
from torch import Tensor, nn

from galip.errors import GalipError, InputError
from galip.evaluation.extractors import protocol
from galip.evaluation.extractors.protocol import FeatureExtractor, FrozenExtractor, full_precision, unit_range
from galip.evaluation.extractors.registry import OPENERS, open_extractor


class Means(FrozenExtractor):
    """Each channel's mean through a linear layer."""

    def __init__(self, takes: protocol.Takes = "uint8", weight: float = 0.5) -> None:
        network = nn.Linear(3, 2, dtype=torch.float64)
        nn.init.constant_(network.weight, weight)
        nn.init.zeros_(network.bias)
        super().__init__("means", "means.pth", network, 2, takes)

    def features(self, images: Tensor) -> Tensor:
        vectors: Tensor = self.network(unit_range(images).mean((2, 3)))
        return vectors


def uint8(*shape: int) -> Tensor:
    return torch.randint(0, 256, shape, dtype=torch.uint8)


def test_an_extractor_gives_frozen_fp32_rows_without_gradient() -> None:
    extractor = Means()
    assert isinstance(extractor, FeatureExtractor)
    vectors = extractor.to("cpu")(uint8(5, 3, 7, 7))
    assert vectors.shape == (5, extractor.dim) and vectors.dtype == torch.float32 and not vectors.requires_grad
    assert not any(p.requires_grad for p in extractor.network.parameters())
    assert len(extractor.digest) == 16 and extractor.digest != Means(weight=0.25).digest


@pytest.mark.parametrize("shape", [(3, 8, 8), (2, 1, 8, 8), (2, 3, 8, 9), (2, 8, 8, 3)])
def test_what_is_no_batch_of_square_rgb_images_is_refused(shape: tuple[int, ...]) -> None:
    with pytest.raises(InputError, match="means: images have shape"):
        Means()(uint8(*shape))


def test_unquantised_images_are_for_protocols_that_ask_for_them() -> None:
    images = torch.rand(2, 3, 8, 8)
    with pytest.raises(InputError, match="float32; give uint8$"):
        Means("uint8")(images)
    assert Means("float")(images).shape == (2, 2)
    assert Means("float")(uint8(2, 3, 8, 8)).shape == (2, 2)
    with pytest.raises(InputError, match="int64; give uint8 or floats"):
        Means("float")(images.long())


def test_the_unit_range_clamps_floats_and_divides_bytes() -> None:
    assert unit_range(torch.tensor([-0.5, 0.25, 1.5])).tolist() == [0, 0.25, 1]
    assert unit_range(torch.tensor([0, 51, 255], dtype=torch.uint8)).tolist() == pytest.approx([0, 0.2, 1])
    assert unit_range(torch.tensor([0.5], dtype=torch.float16)).dtype == torch.float32


def test_broken_weights_are_refused() -> None:
    with pytest.raises(GalipError, match="means.pth.*not finite"):
        Means(weight=float("nan"))


def test_autocast_around_an_extractor_does_not_reach_it() -> None:
    images, extractor = uint8(4, 3, 8, 8), Means()
    alone = extractor(images)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        assert torch.equal(extractor(images), alone)


def test_shortcuts_of_fp32_are_off_inside_and_as_before_outside() -> None:
    def state() -> list[object]:
        return [getattr(place, name) for place, name, _ in protocol._shortcuts()]

    place, name, off = protocol._shortcuts()[0]
    before = state()
    fast = "tf32" if isinstance(off, str) else True
    setattr(place, name, fast)
    try:
        chosen = state()
        with full_precision("cpu"):
            assert state() == [off for _, _, off in protocol._shortcuts()]
        assert state() == chosen
    finally:
        setattr(place, name, before[0])
    assert state() == before
    assert torch.get_float32_matmul_precision() == "highest"  # torch's older switches can still be read


def test_the_older_switches_survive() -> None:
    torch.set_float32_matmul_precision("high")
    try:
        with full_precision("cpu"):
            pass
        assert torch.get_float32_matmul_precision() == "high"
        assert torch.backends.cuda.matmul.allow_tf32
    finally:
        torch.set_float32_matmul_precision("highest")


def test_names() -> None:
    with pytest.raises(InputError, match="extractor 'vgg': there is no such.*inception, .*clip, .*dinov2"):
        open_extractor("vgg")
    with pytest.raises(InputError, match="extractor 'clip': its weights are given as ' '"):
        open_extractor("clip", " ")


def test_a_further_extractor_is_one_line(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(OPENERS, "means", lambda weights: Means(weight=float(weights or 1)))
    assert open_extractor("means", "0.5").digest == Means().digest


@pytest.mark.parametrize("name", OPENERS)
def test_offline_every_extractor_says_what_to_do(name: str, tmp_path: object, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TORCH_HOME", str(tmp_path))
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path))
    with pytest.raises(GalipError, match=f"--weights {name}=(FILE|FOLDER)") as raised:
        open_extractor(name)
    assert "\n" not in str(raised.value)


@pytest.mark.parametrize("name", ["inception", "inception-torchvision"])
def test_without_its_library_an_extractor_names_the_extra(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    for module in ("torch_fidelity.feature_extractor_inceptionv3", "torchvision.models"):
        monkeypatch.setitem(sys.modules, module, None)
    with pytest.raises(GalipError, match="pip install '..eval.'"):
        open_extractor(name)


def test_nothing_heavy_is_imported_before_an_extractor_is_opened() -> None:
    heavy = "{'torchvision', 'torch_fidelity', 'transformers'}"
    code = f"import sys, galip.evaluation.extractors.registry; print({heavy} & {{*sys.modules}})"
    shown = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout
    assert shown.strip() == "set()"
