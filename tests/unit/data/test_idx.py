"""The idx format against its description and against torchvision's reader."""

import gzip
import struct
from pathlib import Path

import pytest
import torch
from torchvision.datasets.mnist import read_sn3_pascalvincent_tensor

from tests.unit.data.datasets.samples import write_idx
from tune_vae.data.idx import read_idx
from tune_vae.errors import DataError


@pytest.mark.parametrize("end", ["", ".gz"])
@pytest.mark.parametrize("shape", [(5,), (3, 4), (2, 3, 5), (300, 2)])
def test_values_are_read_with_the_last_axis_fastest(
    shape: tuple[int, ...], end: str, tmp_path: Path
) -> None:
    values = torch.arange(torch.Size(shape).numel()).remainder(251).to(torch.uint8).view(shape)
    assert torch.equal(read_idx(write_idx(tmp_path / f"a{end}", values)), values)


def test_torchvision_reads_the_same(tmp_path: Path) -> None:
    generator = torch.Generator().manual_seed(0)
    values = torch.randint(256, (300, 28, 27), generator=generator, dtype=torch.uint8)
    file = write_idx(tmp_path / "images", values)
    assert torch.equal(read_idx(file), read_sn3_pascalvincent_tensor(str(file)))


def test_a_file_written_by_hand(tmp_path: Path) -> None:
    file = tmp_path / "hand"
    file.write_bytes(bytes.fromhex("00000802 00000002 00000003 010203 0405ff"))
    assert read_idx(file).tolist() == [[1, 2, 3], [4, 5, 255]]


@pytest.mark.parametrize(
    ("content", "says"),
    [
        (b"\x00\x00\x0d\x01" + struct.pack(">I", 1) + bytes(4), "does not begin like"),
        (b"\x00\x01\x08\x01" + struct.pack(">I", 4) + bytes(4), "does not begin like"),
        (b"\x00\x00\x08\x01" + struct.pack(">I", 5) + bytes(4), "states 5 values, but holds 4"),
        (b"\x00\x00\x08\x01" + struct.pack(">I", 4) + bytes(5), "states 4 values, but holds 5"),
        (b"\x00\x00\x08\x02" + struct.pack(">II", 2**31, 2**31) + bytes(4), "but holds 4"),
        (b"\x00\x00\x08\xff" + struct.pack(">I", 4) + bytes(4), "unpack"),
        (b"\x00\x00\x08\x01" + struct.pack(">I", 0), ""),
        (b"\x00\x00\x08\x01", "does not begin like"),
    ],
)
@pytest.mark.parametrize("end", ["", ".gz"])
def test_header_that_does_not_fit_is_refused(
    content: bytes, says: str, end: str, tmp_path: Path
) -> None:
    file = tmp_path / f"odd{end}"
    file.write_bytes(gzip.compress(content) if end else content)
    with pytest.raises(DataError, match=rf"/odd{end} is cut off, damaged or not .*{says}"):
        read_idx(file)
