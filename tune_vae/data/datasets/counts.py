"""Your own table of counts, such as molecules of each gene in each cell."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch

from tune_vae.data import Dataset, Splits
from tune_vae.data.carving import Examples, check_seeds, check_shares, check_sizes, divide
from tune_vae.data.classes import read_classes
from tune_vae.data.count_files import read_column, read_counts
from tune_vae.data.files import absolute
from tune_vae.data.variable_genes import most_variable
from tune_vae.errors import DataError

__all__ = ["Counts"]


@dataclass(frozen=True)
class Counts(Dataset):
    r"""A matrix of counts, cells × genes; each cell is an "image" of one row, `[1, 1, genes]`.

    | `transform` | values                                                                      |
    |-------------|-----------------------------------------------------------------------------|
    | `none`      | the counts, for `poisson`, `negative_binomial` and its zero-inflated form   |
    | `log1p`     | 255 · log(1 + x) / log(1 + max), rounded: 256 levels, for image likelihoods |

    The maximum is that of the genes kept, over all cells. Bits per dimension of one transform
    cannot be compared with those of the other. `tune_vae.data.count_files` says what formats
    there are.

    Arguments:
        path: The file, `.npz`, `.csv`, `.csv.gz` or `.h5ad`; a relative one starts at the
            current folder.
        layer: Of an AnnData, when the counts are not in its `X`.
        labels: A class for each cell: for an AnnData a column of its `obs`, else a file with one
            label a line or a `.npy`.
        genes: Keep this many genes, those with the most variable Pearson residuals (see
            `tune_vae.data.variable_genes`); all by default. They are chosen over all cells, so
            that every `split_seed` has the same ones.
        transform: See the table.
        validation_share, test_share: Of the cells, each above 0, together below 1.
        split_seed: Seed of the shuffle before the split.
        limit: Train on at most this many cells; all by default.
    """

    path: str = "data/counts.npz"
    layer: str | None = None
    labels: str | None = None
    genes: int | None = None
    transform: Literal["none", "log1p"] = "none"
    validation_share: float = 0.1
    test_share: float = 0.1
    split_seed: int = 0
    limit: int | None = None

    def __post_init__(self) -> None:
        check_seeds(split_seed=self.split_seed)
        check_sizes(genes=self.genes, limit=self.limit)
        check_shares(validation_share=self.validation_share, test_share=self.test_share)

    def load(self) -> Splits:
        file = absolute(self.path)
        if not file.is_file():
            raise DataError(
                f"the counts are expected at {file}, cells × genes: write `path: …` under "
                "`counts` in the study, with a .npz of scipy.sparse.save_npz, a .csv or a .h5ad"
            )
        counts = read_counts(file, self.layer)
        cells, genes = counts.shape
        if self.genes is not None:
            if self.genes > genes:
                raise DataError(f"{file} has {genes:,} genes, fewer than `genes: {self.genes}`")
            counts = counts[:, most_variable(counts, self.genes)]
        values = torch.from_numpy(self._transformed(counts).toarray())
        return divide(
            Examples(values[:, None, None, :], self._classes(file, cells)),
            levels=256 if self.transform == "log1p" else None,
            validation=max(1, round(self.validation_share * cells)),
            test=max(1, round(self.test_share * cells)),
            split_seed=self.split_seed,
            limit=self.limit,
        )

    def _transformed(self, counts: Any) -> Any:
        if self.transform == "none":
            return counts.astype(np.int32)
        logs = counts.log1p()
        level = 255 * logs / (logs.max() or 1.0)
        # Where (1 + x)² = 1 + max the level is a half; a little more, lest a machine's last digit
        # decide.
        level.data = np.floor(level.data + 0.5 + 1e-9)
        return level.astype(np.uint8)

    def _classes(self, file: Path, cells: int) -> torch.Tensor | None:
        if self.labels is None:
            return None
        if file.suffix == ".h5ad":
            return read_column(file, cells, self.labels)
        labels = absolute(self.labels)
        if not labels.is_file():
            raise DataError(f"the labels are expected at {labels}, one for each cell")
        return read_classes(labels, cells)
