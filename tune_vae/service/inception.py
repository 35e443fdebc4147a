r"""FID and KID in the feature space of Inception, by the library torch-fidelity.

They are what papers report for natural images. For small, grey or unusual ones the principal
space of `science.samples` says as much, and needs neither a library nor a download.
"""

import hashlib
import pickle
from pathlib import Path
from typing import NamedTuple

import torch
from torch import Tensor
from torch.utils.data import Dataset

from tune_vae.errors import TuneVaeError

__all__ = ["InceptionDistances", "inception_distances"]

SUBSET = 1000
"""Images of each of the subsets over which KID is averaged; fewer if there are fewer."""


class InceptionDistances(NamedTuple):
    """How far generated images are from real ones; smaller is better.

    Attributes:
        fid: Fréchet distance. Biased upwards, so it compares only with the same number of
            images; 10,000 and more are usual.
        kid: Squared maximum mean discrepancy with a cubic kernel; unbiased, so that it may be
            slightly negative.
        kid_spread: Standard deviation of `kid` over the subsets.
    """

    fid: float
    kid: float
    kid_spread: float


def inception_distances(
    real: Tensor,
    generated: Tensor,
    *,
    weights: Path | None = None,
    device: torch.device | str = "cpu",
    batch_size: int = 64,
) -> InceptionDistances:
    """FID and KID of generated images. Nothing is downloaded.

    References:
        | GANs Trained by a Two Time-Scale Update Rule (Heusel et al., 2017)
        | https://arxiv.org/abs/1706.08500
        | Demystifying MMD GANs (Bińkowski et al., 2018)
        | https://arxiv.org/abs/1801.01401

    Arguments:
        real, generated: uint8 images from 0 to 255, `[n, C, H, W]` with C = 1, which is
            repeated, or 3; as many of one as of the other, at least 2.
        weights: File with the network's weights; by default the one the library names, where
            torch keeps its downloads. Its checksum is then compared with the one in its name;
            numbers from other weights compare with no paper's.
        device: Where the network runs.
        batch_size: Images that it sees at once.

    Raises:
        TuneVaeError: The library or the weights are absent, or are not what they should be.
    """
    if len(real) != len(generated) or len(real) < 2:
        raise ValueError(
            "FID depends on the sizes of the sets, so they must be equal and at least 2; got "
            f"{len(real)} real and {len(generated)} generated images"
        )
    sets = [_Images(_colour(images)) for images in (real, generated)]
    try:
        from torch_fidelity import calculate_metrics
        from torch_fidelity.feature_extractor_inceptionv3 import URL_INCEPTION_V3
    except ImportError as error:
        raise TuneVaeError(
            "FID and KID need the library torch-fidelity. Install it: pip install 'tune-vae[fid]'"
        ) from error
    device = torch.device(device)
    with torch.cuda.device(device if device.type == "cuda" else -1):
        found = calculate_metrics(
            input1=sets[1],
            input2=sets[0],
            fid=True,
            kid=True,
            kid_subset_size=min(SUBSET, len(real)),
            feature_extractor_weights_path=str(_checked(weights, URL_INCEPTION_V3)),
            cuda=device.type == "cuda",
            batch_size=batch_size,
            save_cpu_ram=True,  # no worker processes
            verbose=False,
        )
    return InceptionDistances(
        fid=found["frechet_inception_distance"],
        kid=found["kernel_inception_distance_mean"],
        kid_spread=found["kernel_inception_distance_std"],
    )


class _Images(Dataset[Tensor]):
    def __init__(self, images: Tensor) -> None:
        self.images = images

    def __len__(self) -> int:
        return len(self.images)

    def __getitem__(self, index: int) -> Tensor:
        return self.images[index]


def _colour(images: Tensor) -> Tensor:
    if images.dtype != torch.uint8 or images.ndim != 4 or images.shape[1] not in (1, 3):
        raise ValueError(
            "images must be uint8, from 0 to 255, [n, C, H, W] with C = 1 or 3; got "
            f"{images.dtype} {list(images.shape)}"
        )
    return images.cpu().expand(-1, 3, -1, -1)


def _checked(weights: Path | None, url: str) -> Path:
    """The file to load, known to hold tensors and nothing that runs."""
    name = url.rsplit("/", 1)[-1]
    # As torch's own downloads, its name ends with the beginning of its SHA-256.
    prefix = Path(name).stem.rsplit("-", 1)[-1]
    file = weights or Path(torch.hub.get_dir()) / "checkpoints" / name
    if not file.is_file():
        wanted = f" Download {url} (96 MB, SHA-256 {prefix}…) and put it there."
        raise TuneVaeError(f"the weights of Inception are expected at {file}." + wanted)
    if weights is None:
        with file.open("rb") as stream:
            found = hashlib.file_digest(stream, "sha256").hexdigest()
        if not found.startswith(prefix):
            raise TuneVaeError(
                f"{file} is not the file it is named after: its SHA-256 begins with "
                f"{found[: len(prefix)]}, not {prefix}. Download it again from {url}."
            )
    try:
        # The library would also run code that is pickled in the file.
        torch.load(file, weights_only=True, mmap=True, map_location="cpu")
    except (pickle.UnpicklingError, RuntimeError, EOFError) as error:
        raise TuneVaeError(
            f"{file} holds no weights of a network, or more than that. Give a state dict saved "
            f"by torch.save, such as {url}."
        ) from error
    return file
