"""Functions whose source text becomes part of exported models.

Each stands by itself and needs torch and the standard library only.
"""

import json
import struct
import zlib
from pathlib import Path

import torch
from torch import Tensor

__all__ = ["known_labels", "read_weights", "save_png", "to_levels"]


def read_weights(path: Path) -> dict[str, Tensor]:
    """Tensors of a safetensors file: the length of its header, the header as JSON, the numbers."""
    raw = bytearray(path.read_bytes())
    begin = 8 + int.from_bytes(raw[:8], "little")
    header, numbers = json.loads(raw[8:begin]), torch.frombuffer(raw, dtype=torch.uint8)[begin:]
    header.pop("__metadata__", None)
    kinds = {"F64": torch.float64, "F32": torch.float32, "F16": torch.float16, "U8": torch.uint8}
    kinds |= {"I64": torch.int64, "I32": torch.int32, "BF16": torch.bfloat16, "BOOL": torch.bool}
    return {
        name: numbers[slice(*of["data_offsets"])].view(kinds[of["dtype"]]).reshape(of["shape"])
        for name, of in header.items()
    }


def known_labels(labels: Tensor | list[int], count: int, classes: int) -> Tensor:
    """The classes of so many examples, int64, from 0."""
    label = torch.as_tensor(labels, dtype=torch.int64)
    if label.shape != (count,) or bool(((label < 0) | (label >= classes)).any()):
        raise ValueError(f"give {count} labels, each from 0 to {classes - 1}; got {labels}")
    return label


def to_levels(x: Tensor, levels: int) -> Tensor:
    """The nearest of so many levels, uint8 from 0; `level / (levels - 1)` is an example."""
    return (x.clamp(0, 1) * (levels - 1)).round().byte()


def save_png(images: Tensor, path: str, columns: int = 8) -> None:
    """A sheet of images `[n, C, H, W]` in [0, 1], framed in grey; C is 1 or 3."""
    zoom, columns = max(1, 48 // images.shape[3]), min(columns, len(images))
    large = images.repeat_interleave(zoom, 2).repeat_interleave(zoom, 3)
    framed = torch.nn.functional.pad(large, (2, 2, 2, 2), value=0.5)
    blank = torch.full_like(framed[:1], 0.5).expand(-len(images) % columns, -1, -1, -1)
    levels = (torch.cat([framed, blank]).clamp(0, 1) * 255).round().byte()
    grid = levels.reshape(-1, columns, *framed.shape[1:]).permute(0, 3, 1, 4, 2)
    pixels = grid.flatten(2, 3).flatten(0, 1)
    height, width, channels = pixels.shape
    size = struct.pack(">IIBBBBB", width, height, 8, 2 if channels == 3 else 0, 0, 0, 0)
    lines = b"".join(b"\0" + bytes(line) for line in pixels.flatten(1).tolist())
    png = b"\x89PNG\r\n\x1a\n"
    for kind, body in ((b"IHDR", size), (b"IDAT", zlib.compress(lines)), (b"IEND", b"")):
        png += struct.pack(">I", len(body)) + kind + body
        png += struct.pack(">I", zlib.crc32(kind + body))
    Path(path).write_bytes(png)
