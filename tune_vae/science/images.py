r"""How like its original an image is.

Shapes: B batch, C H W image. Values lie in [0, 1].
"""

import torch
from torch import Tensor
from torch.nn.functional import conv2d

__all__ = ["psnr", "ssim"]

WINDOW = 11
SPREAD = 1.5
K1, K2 = 0.01, 0.03


def psnr(squared_error: Tensor) -> Tensor:
    r"""Peak signal-to-noise ratio of values in [0, 1], $-10 \log_{10} \mathrm{mse}$.

    The mean over images of it is not that of their mean squared error; the score of a data set
    is the former.

    Arguments:
        squared_error: Mean squared error per data value, of one or more images.

    Returns:
        Decibels, of the shape of `squared_error`; infinite for a perfect image.

    Example:
        >>> psnr(torch.tensor([1.0, 0.01]))
        tensor([-0., 20.])
    """
    return -10 * squared_error.log10()


def ssim(x_BCHW: Tensor, y_BCHW: Tensor) -> Tensor:
    r"""Structural similarity of two images, averaged over places and channels.

    $$ \frac{(2 \mu_x \mu_y + c_1)(2 \sigma_{xy} + c_2)}
            {(\mu_x^2 + \mu_y^2 + c_1)(\sigma_x^2 + \sigma_y^2 + c_2)},\quad
       c_1 = 0.01^2,\ c_2 = 0.03^2 $$

    with the means, variances and the covariance of each place under a Gaussian window of 11×11
    pixels and $\sigma$ = 1.5; only places where the whole window lies within the image count.
    For images that are smaller, the window is the largest odd square that fits, 7×7 for 8×8
    pixels. It then holds less than the paper's, so that numbers of small images compare with
    those of the same size only.

    References:
        | Image Quality Assessment: From Error Visibility to Structural Similarity
        | (Wang et al., 2004)
        | https://doi.org/10.1109/TIP.2003.819861

    Arguments:
        x_BCHW, y_BCHW: Images.

    Returns:
        Shape `B`, float64, at most 1, which only equal images reach.

    Example:
        >>> x = torch.rand(2, 1, 16, 16, generator=torch.Generator().manual_seed(0))
        >>> ssim(x, x)
        tensor([1., 1.], dtype=torch.float64)
        >>> ssim(x, 1 - x) < 0
        tensor([True, True])
    """
    smaller = min(x_BCHW.shape[-2:])
    size = min(WINDOW, smaller - 1 + smaller % 2)
    offsets = torch.arange(size, dtype=torch.float64, device=x_BCHW.device) - (size - 1) / 2
    weights = torch.softmax(-0.5 * (offsets / SPREAD).square(), dim=0)

    def windowed(image: Tensor) -> Tensor:
        planes = image.flatten(0, 1)[:, None]
        return conv2d(conv2d(planes, weights.view(1, 1, -1, 1)), weights.view(1, 1, 1, -1))

    # A variance as the difference of two squares needs float64's digits.
    x, y = x_BCHW.double(), y_BCHW.double()
    mean_x, mean_y = windowed(x), windowed(y)
    variance_x = windowed(x.square()) - mean_x.square()
    variance_y = windowed(y.square()) - mean_y.square()
    covariance = windowed(x * y) - mean_x * mean_y
    c1, c2 = K1**2, K2**2
    luminance = (2 * mean_x * mean_y + c1) / (mean_x.square() + mean_y.square() + c1)
    structure = (2 * covariance + c2) / (variance_x + variance_y + c2)
    return (luminance * structure).view(*x.shape[:2], -1).mean((1, 2))
