"""Pictures become bytes: against torchvision, and what is refused."""

from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from torchvision.transforms import CenterCrop, Compose, PILToTensor, Resize

from tests.unit.data.datasets.samples import smooth
from tune_vae.data.pictures import FORMATS, Frame, decoded, prepared_pictures
from tune_vae.errors import DataError


def levels(file: Path, frame: Frame) -> torch.Tensor:
    return torch.from_numpy(decoded(file, frame).copy())


@pytest.mark.parametrize("colour", [True, False])
@pytest.mark.parametrize(("crop", "size"), [(31, 16), (30, 30), (17, None), (20, 44)])
@pytest.mark.parametrize(("height", "width"), [(31, 40), (52, 33), (37, 38)])
def test_cut_and_size_are_those_of_torchvision(
    height: int, width: int, crop: int, size: int | None, colour: bool, tmp_path: Path
) -> None:
    smooth(height, width, 0).save(tmp_path / "a.png")
    official = Compose([CenterCrop(crop), Resize(size or crop), PILToTensor()])
    with Image.open(tmp_path / "a.png") as picture:
        expected = official(picture.convert("RGB" if colour else "L"))
    assert torch.equal(levels(tmp_path / "a.png", Frame(crop, size, colour)), expected)


@pytest.mark.parametrize(("height", "width"), [(31, 40), (52, 33)])
def test_without_a_crop_the_largest_square_is_taken(
    height: int, width: int, tmp_path: Path
) -> None:
    smooth(height, width, 0).save(tmp_path / "a.png")
    largest = levels(tmp_path / "a.png", Frame(crop=min(height, width), size=16))
    assert torch.equal(levels(tmp_path / "a.png", Frame(size=16)), largest)


def test_without_crop_and_size_all_pixels_stay(tmp_path: Path) -> None:
    picture = smooth(23, 31, 0)
    picture.save(tmp_path / "a.png")
    expected = torch.from_numpy(np.array(picture)).permute(2, 0, 1)
    assert torch.equal(levels(tmp_path / "a.png", Frame()), expected)


@pytest.mark.parametrize("end", FORMATS)
def test_every_format_is_read(end: str, tmp_path: Path) -> None:
    picture = smooth(32, 32, 0)
    if end == ".pgm":
        picture = picture.convert("L")
    picture.save(tmp_path / f"a{end}")
    expected = torch.from_numpy(np.array(picture.convert("L"))).double()
    found = levels(tmp_path / f"a{end}", Frame(colour=False))
    # Some formats lose a little.
    assert (found[0].double() - expected).abs().mean() < 8


def test_of_several_pictures_in_a_file_the_first_is_taken(tmp_path: Path) -> None:
    first, second = smooth(20, 20, 0), smooth(20, 20, 1)
    # Phones write such files as .jpg.
    first.save(tmp_path / "a.jpg", format="MPO", save_all=True, append_images=[second])
    expected = torch.from_numpy(np.array(first)).permute(2, 0, 1).double()
    assert (levels(tmp_path / "a.jpg", Frame()).double() - expected).abs().mean() < 8


@pytest.mark.parametrize("orientation", range(1, 9))
def test_photograph_is_turned_as_the_camera_says(orientation: int, tmp_path: Path) -> None:
    picture = smooth(24, 40, 0)
    # What a camera held in this way writes, by the definition of the EXIF tag 274.
    undone = {
        2: Image.Transpose.FLIP_LEFT_RIGHT,
        3: Image.Transpose.ROTATE_180,
        4: Image.Transpose.FLIP_TOP_BOTTOM,
        5: Image.Transpose.TRANSPOSE,
        6: Image.Transpose.ROTATE_90,
        7: Image.Transpose.TRANSVERSE,
        8: Image.Transpose.ROTATE_270,
    }
    held = picture.transpose(undone[orientation]) if orientation > 1 else picture
    exif = Image.Exif()
    exif[274] = orientation
    held.save(tmp_path / "a.png", exif=exif)
    expected = torch.from_numpy(np.array(picture)).permute(2, 0, 1)
    assert torch.equal(levels(tmp_path / "a.png", Frame()), expected)


@pytest.mark.parametrize("mode", ["1", "L", "LA"])
def test_grey_among_colour_is_refused_by_name(mode: str, tmp_path: Path) -> None:
    file = tmp_path / "grey.png"
    smooth(20, 20, 0).convert(mode).save(file)
    with pytest.raises(DataError, match=f"^{file} is grey, where colour is asked for$"):
        decoded(file, Frame())
    assert decoded(file, Frame(colour=False)).shape == (1, 20, 20)


@pytest.mark.parametrize("mode", ["P", "RGBA", "CMYK"])
def test_other_ways_to_write_colours_are_colour(mode: str, tmp_path: Path) -> None:
    file = tmp_path / ("a.tif" if mode == "CMYK" else "a.png")
    picture = smooth(20, 20, 0)
    picture.convert(mode).save(file)
    error = levels(file, Frame()).double() - torch.from_numpy(np.array(picture)).permute(2, 0, 1)
    assert error.abs().mean() < 20


@pytest.mark.parametrize("mode", ["I;16", "I", "F"])
def test_more_than_eight_bits_are_refused(mode: str, tmp_path: Path) -> None:
    file = tmp_path / "deep.tif"
    Image.fromarray(np.full((9, 9), 300, np.int32)).convert(mode).save(file)
    with pytest.raises(DataError, match=f"{file} has more than 8 bits a channel"):
        decoded(file, Frame(colour=False))


def test_picture_smaller_than_the_crop_is_refused(tmp_path: Path) -> None:
    file = tmp_path / "small.png"
    smooth(40, 24, 0).save(file)
    with pytest.raises(DataError, match=r"small.png is 40 pixels high and 24 wide, too small"):
        decoded(file, Frame(crop=25))


def test_picture_of_another_size_than_the_only_one_is_refused(tmp_path: Path) -> None:
    file = tmp_path / "odd.png"
    smooth(40, 24, 0).save(file)
    with pytest.raises(DataError, match=r"odd.png is 40 .* 24 wide, not 24 pixels high and 40"):
        decoded(file, Frame(only=(24, 40)))


def test_script_that_calls_itself_a_picture_is_not_run(tmp_path: Path) -> None:
    file = tmp_path / "a.png"
    file.write_bytes(b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n%%EndComments\n")
    with pytest.raises(DataError, match="cannot identify image file"):
        decoded(file, Frame())


def prepared_files(folder: Path, frame: Frame, **arguments: bool) -> torch.Tensor:
    files = sorted(file.name for file in folder.iterdir())
    skip = arguments.get("skip_broken", False)
    return prepared_pictures("test", folder, files, frame, skip_broken=skip).images


def test_pictures_as_they_are_must_be_of_one_size(tmp_path: Path) -> None:
    folder = tmp_path / "pictures"
    folder.mkdir()
    for number in range(3):
        smooth(20, 30, number).save(folder / f"{number}.png")
    (folder / "0.png").write_bytes(b"no picture")
    smooth(30, 20, 9).save(folder / "9.png")
    with pytest.raises(DataError, match=r"(0|9)\.png"):
        prepared_files(folder, Frame())
    found = prepared_files(folder, Frame(), skip_broken=True)
    assert torch.equal(found, torch.stack([levels(folder / f"{n}.png", Frame()) for n in (1, 2)]))
    (folder / "0.png").unlink()
    (folder / "9.png").unlink()
    assert len(prepared_files(folder, Frame())) == 2
    for file in folder.iterdir():
        file.write_bytes(b"no picture")
    with pytest.raises(DataError, match=r"1\.png is cut off"):
        prepared_files(folder, Frame(), skip_broken=True)


def test_pictures_are_decoded_again_when_one_has_changed_and_not_when_the_folder_moves(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TUNE_VAE_CACHE", str(tmp_path / "cache"))
    folder = tmp_path / "pictures"
    folder.mkdir()
    for number in range(3):
        smooth(20, 20, number).save(folder / f"{number}.bmp")

    def kept() -> int:
        return len(list((tmp_path / "cache").iterdir()))

    before = prepared_files(folder, Frame())
    assert torch.equal(prepared_files(folder.rename(tmp_path / "moved"), Frame()), before)
    assert kept() == 1
    folder = tmp_path / "moved"
    prepared_files(folder, Frame(size=8))
    prepared_files(folder, Frame(colour=False))
    assert kept() == 3
    # As many bytes as before.
    smooth(20, 20, 7).save(folder / "1.bmp")
    after = prepared_files(folder, Frame())
    assert kept() == 4
    assert [bool((a == b).all()) for a, b in zip(after, before, strict=True)] == [
        True,
        False,
        True,
    ]
