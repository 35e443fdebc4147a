"""Your own table of counts, such as molecules of each gene in each cell."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch

from tune_vae.data import Dataset, Splits
from tune_vae.data.carving import Examples, check_arguments, divide, held_back
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
        labels: A class for each cell, such as its type: for an AnnData a column of its `obs`,
            else a file with one label a line or a `.npy`.
        covariate: Likewise the batch, donor or method by which the cell was measured. With
            `conditional: true` encoder and decoder are told it instead of the label, so that the
            latents need not hold it.
        genes: Keep this many genes, those with the most variable Pearson residuals (see
            `tune_vae.data.variable_genes`); all by default. They are chosen over all cells, so
            that every `split_seed` has the same ones.
        transform: See the table.
        validation_share, test_share: Of the cells, each above 0, together below 1.
        split_seed: Seed of the shuffle before the split.
        limit: Train on at most this many cells; all by default.

    References:
        | Deep generative modeling for single-cell transcriptomics (Lopez et al., 2018), for the
          covariate
        | https://doi.org/10.1038/s41592-018-0229-2
    """

    path: str = "data/counts.npz"
    layer: str | None = None
    labels: str | None = None
    covariate: str | None = None
    genes: int | None = None
    transform: Literal["none", "log1p"] = "none"
    validation_share: float = 0.1
    test_share: float = 0.1
    split_seed: int = 0
    limit: int | None = None

    def __post_init__(self) -> None:
        check_arguments(self)

    def load(self) -> Splits:
        file = absolute(self.path)
        if not file.is_file():
            raise DataError(
                f"the counts are expected at {file}, cells × genes: write `path: …` under "
                "`counts` in the study, with a .npz of scipy.sparse.save_npz, a .csv or a .h5ad"
            )
        counts = read_counts(file, self.layer)
        cells, genes = counts.shape
        labels, covariate = (
            _classes(file, cells, named) for named in (self.labels, self.covariate)
        )
        if self.genes is not None:
            if self.genes > genes:
                raise DataError(f"{file} has {genes:,} genes, fewer than `genes: {self.genes}`")
            counts = counts[:, most_variable(counts, self.genes)]
        validation, test = held_back(cells, self.validation_share, self.test_share)
        values = torch.from_numpy(self._transformed(counts).toarray())
        return divide(
            Examples(values[:, None, None, :], labels, covariate=covariate),
            levels=256 if self.transform == "log1p" else None,
            validation=validation,
            test=test,
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


def _classes(file: Path, cells: int, named: str | None) -> torch.Tensor | None:
    if named is None:
        return None
    if file.suffix == ".h5ad":
        return read_column(file, cells, named)
    return read_classes(absolute(named), cells)
