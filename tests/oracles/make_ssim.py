"""Makes ssim.json: structural similarity of pairs of images, by scikit-image.

scikit-image is no dependency of the project; it is needed to make the file, not to test with it.

    uv run --with scikit-image==0.26.0 python -m tests.oracles.make_ssim
"""

import json
from pathlib import Path

import numpy as np

FILE = Path(__file__).with_name("ssim.json")

SIZES = [(1, 11, 11), (1, 28, 20), (3, 16, 16)]
KINDS = ["noise", "inverse", "shift", "contrast", "other"]


def original(shape: tuple[int, int, int], seed: int) -> np.ndarray:
    """Shapes of few frequencies, in 8-bit levels as images are."""
    random = np.random.default_rng(seed)
    channels, height, width = shape
    rows, columns = np.mgrid[:height, :width]
    planes = []
    for _ in range(channels):
        a, b, c, d = random.uniform(0.1, 0.9, 4)
        planes.append(np.sin(a * rows + 6 * c) + np.sin(b * columns + 6 * d))
    return np.round(255 * (np.stack(planes) + 2) / 4).astype(np.uint8)


def damaged(image: np.ndarray, kind: str, seed: int) -> np.ndarray:
    if kind == "noise":
        noise = np.random.default_rng(seed).normal(0, 30, image.shape)
        return np.clip(np.round(image + noise), 0, 255).astype(np.uint8)
    if kind == "inverse":
        return 255 - image
    if kind == "shift":
        return np.roll(image, 2, axis=2)
    if kind == "contrast":
        return np.round(0.5 * image + 60).astype(np.uint8)
    return original(image.shape, seed + 1000)


def main() -> None:
    from skimage.metrics import structural_similarity

    pairs = []
    for seed, shape in enumerate(SIZES):
        image = original(shape, seed)
        for kind in KINDS:
            other = damaged(image, kind, seed)
            similarity = structural_similarity(
                image / 255,
                other / 255,
                data_range=1.0,
                channel_axis=0,
                gaussian_weights=True,
                sigma=1.5,
                use_sample_covariance=False,
            )
            pairs.append(
                {
                    "kind": kind,
                    "shape": shape,
                    "x": image.tobytes().hex(),
                    "y": other.tobytes().hex(),
                    "ssim": float(similarity),
                }
            )
    lines = ",\n".join(json.dumps(pair, separators=(",", ":")) for pair in pairs)
    FILE.write_text(f"[\n{lines}\n]\n")


if __name__ == "__main__":
    main()
