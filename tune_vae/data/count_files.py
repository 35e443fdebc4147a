"""Count matrices in the formats people keep them in."""

import gzip
import warnings
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
from torch import Tensor

from tune_vae.data.classes import numbered
from tune_vae.data.files import reading
from tune_vae.errors import DataError

__all__ = ["read_column", "read_counts"]


def read_counts(file: Path, layer: str | None = None) -> Any:
    """The matrix of a file as a `scipy.sparse.csr_matrix` of float64, cells × genes.

    | name ends in       | what it is                                                        |
    |--------------------|-------------------------------------------------------------------|
    | `.npz`             | written by `scipy.sparse.save_npz`                                |
    | `.csv`, `.csv.gz`  | one line a cell; a first line of gene names, not all of them      |
    |                    | numbers, and a first column of cell names may be there            |
    | `.h5ad`            | AnnData; needs the package `anndata`                              |

    Nothing is unpickled.

    Arguments:
        file: An existing file.
        layer: Of an AnnData, by the name it has in `layers`; None for its `X`.

    Raises:
        DataError: The file is broken, or holds anything but whole numbers from 0.
    """
    from scipy.sparse import csr_matrix

    kind = _kind(file)
    with reading(file):
        if kind == ".npz":
            matrix = _npz(file)
        elif kind == ".csv":
            matrix = _csv(file)
        else:
            held = _anndata(file)
            matrix = held.X if layer is None else _named(held.layers, layer, "layers", file)
        if matrix is None or matrix.ndim != 2 or not all(matrix.shape):
            raise ValueError("it holds no matrix of cells × genes")
        counts = csr_matrix(matrix, dtype=np.float64)
    _refuse_what_is_no_count(counts.data, file)
    return counts


def read_column(file: Path, cells: int, column: str) -> Tensor:
    """The class of each cell in a column of an AnnData's `obs`; see `classes.numbered`.

    Raises:
        DataError: The file is broken, or has no such column.
    """
    with reading(file):
        names = np.asarray(_named(_anndata(file).obs, column, "obs", file)).astype(str)
    return numbered(names, cells, file)


def _kind(file: Path) -> str:
    for end in (".npz", ".csv", ".h5ad"):
        if file.name.removesuffix(".gz").endswith(end):
            return end
    raise DataError(f"{file} must end in .npz, .csv, .csv.gz or .h5ad")


def _npz(file: Path) -> Any:
    from scipy.sparse import load_npz

    # Given its name, numpy would leave a torn file open.
    with file.open("rb") as stream:
        if not zipfile.is_zipfile(stream):
            raise ValueError("it is no .npz archive")
        stream.seek(0)
        matrix = load_npz(stream)
    if hasattr(matrix, "check_format"):
        # Of itself scipy trusts the positions, and would reach beyond the matrix in memory.
        matrix.check_format(full_check=True)
    return matrix


def _csv(file: Path) -> Any:
    with (gzip.open if file.suffix == ".gz" else open)(file, "rt", encoding="utf-8-sig") as stream:
        lines = [line.strip() for line in (stream.readline(), stream.readline())]
    head, second = ([field.strip(' "') for field in line.split(",")] for line in lines)
    if not lines[1]:
        raise ValueError("it has fewer than two lines")
    # Of a column of names, pandas leaves the heading empty, and R leaves it out.
    unheaded = head[0] == "" or len(second) == len(head) + 1
    named_genes = unheaded or not all(_is_number(field) for field in head[1:])
    named_cells = unheaded or not _is_number((second if named_genes else head)[0])
    table = np.loadtxt(
        file,
        delimiter=",",
        quotechar='"',
        comments=None,
        encoding="utf-8-sig",
        skiprows=int(named_genes),
        # Left out by `usecols`, a name would take the check of the lines' lengths with it.
        converters={0: lambda name: 0.0} if named_cells else None,
        ndmin=2,
    )
    return table[:, int(named_cells) :]


def _is_number(field: str) -> bool:
    try:
        float(field)
    except ValueError:
        return False
    return True


def _anndata(file: Path) -> Any:
    try:
        from anndata import read_h5ad
    except ImportError:
        raise DataError(
            f"{file} is an AnnData, which needs a package that is not installed: "
            "pip install anndata"
        ) from None
    with warnings.catch_warnings():
        # It finds fault with names that occur twice, of which we use none.
        warnings.simplefilter("ignore")
        return read_h5ad(file)


def _named(place: Any, name: str, of: str, file: Path) -> Any:
    if name not in place:
        raise DataError(f"{file} has no `{name}` in `{of}`, which holds: {', '.join(place)}")
    return place[name]


def _refuse_what_is_no_count(values: Any, file: Path) -> None:
    largest = np.iinfo(np.int32).max
    wrong = values[~((values >= 0) & (values <= largest) & (values == np.floor(values)))]
    if len(wrong):
        raise DataError(
            f"{file} holds {wrong[0]:g}, but counts are whole numbers from 0 to {largest:,}; give "
            "them as they were before any normalisation (an AnnData may keep them in a `layer`)"
        )
