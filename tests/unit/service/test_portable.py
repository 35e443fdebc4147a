"""What exported models carry along, against the libraries that they do without."""

from pathlib import Path

import pytest
import safetensors.torch
import torch
from PIL import Image

from tune_vae.data import scale
from tune_vae.service.portable import read_weights, save_png, to_levels

TENSORS = {
    "double": torch.randn(3, dtype=torch.float64),
    "single": torch.randn(2, 3, 1, 5),
    "half": torch.randn(3).half(),
    "brain": torch.randn(5).bfloat16(),
    "long": torch.tensor([-(2**62), 2**62]),
    "int": torch.tensor([[1], [-2]], dtype=torch.int32),
    "byte": torch.arange(7, dtype=torch.uint8),
    "truth": torch.tensor([True, False, True]),
    "scalar": torch.tensor(-6.25),
    "nothing": torch.empty(0, 4),
}


@pytest.mark.parametrize("metadata", [None, {"format": "pt"}])
def test_weights_are_read_as_safetensors_wrote_them(
    metadata: dict[str, str] | None, tmp_path: Path
) -> None:
    safetensors.torch.save_file(TENSORS, tmp_path / "some.safetensors", metadata)
    read = read_weights(tmp_path / "some.safetensors")
    assert set(read) == set(TENSORS)
    for name, tensor in TENSORS.items():
        assert read[name].dtype == tensor.dtype
        assert read[name].shape == tensor.shape
        assert torch.equal(read[name], tensor), name


@pytest.mark.parametrize("levels", [2, 17, 256])
def test_every_level_comes_back(levels: int) -> None:
    level = torch.arange(levels, dtype=torch.uint8)
    back = to_levels(scale(level, levels), levels)
    assert back.dtype == torch.uint8
    assert torch.equal(back, level)


def test_levels_of_what_lies_beyond_black_and_white_are_the_outer_ones() -> None:
    assert to_levels(torch.tensor([-0.3, 0.49, 0.51, 1.7]), 2).tolist() == [0, 0, 1, 1]


@pytest.mark.parametrize(("channels", "mode"), [(1, "L"), (3, "RGB")])
@pytest.mark.parametrize(("count", "rows", "columns"), [(16, 2, 8), (11, 2, 8), (3, 1, 3)])
def test_sheet_shows_each_image_at_its_place(
    channels: int, mode: str, count: int, rows: int, columns: int, tmp_path: Path
) -> None:
    images = torch.rand(count, channels, 5, 24)
    save_png(images, str(tmp_path / "sheet.png"))
    with Image.open(tmp_path / "sheet.png") as sheet:
        assert sheet.mode == mode
        # Twice as large, with a frame of two pixels.
        high, wide = 2 * 5 + 4, 2 * 24 + 4
        assert sheet.size == (columns * wide, rows * high)
        for place, image in enumerate(images):
            row, column = divmod(place, columns)
            corner = column * wide, row * high
            for y, x in ((0, 0), (4, 0), (2, 13), (4, 23)):
                pixel = sheet.getpixel((corner[0] + 2 + 2 * x, corner[1] + 2 + 2 * y))
                wanted = (255 * image[:, y, x]).round().int().tolist()
                assert pixel == (wanted[0] if mode == "L" else tuple(wanted))
            assert sheet.getpixel(corner) == (128 if mode == "L" else (128,) * 3)
