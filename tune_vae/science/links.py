"""How the decoder's output becomes the mean of a grey value."""

from typing import Literal

from torch import Tensor

__all__ = ["Link", "linked"]

Link = Literal["sigmoid", "identity"]


def linked(output: Tensor, link: Link) -> Tensor:
    """The mean: `sigmoid` keeps it in (0, 1), `identity` leaves the output as it is.

    Example:
        >>> import torch
        >>> linked(torch.tensor(0.0), "sigmoid")
        tensor(0.5000)
    """
    return output.sigmoid() if link == "sigmoid" else output
