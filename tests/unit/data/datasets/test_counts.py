"""Count matrices: each format by its own writer, the choice of genes, the two transforms."""

import gzip
import math
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import scipy.sparse
import torch

from tests.unit.data.datasets.samples import SAMPLES, Sample
from tune_vae.data import Splits
from tune_vae.data.datasets.counts import Counts
from tune_vae.data.variable_genes import most_variable
from tune_vae.errors import DataError

TABLE = np.array([[0, 7, 1], [300, 0, 2], [5, 5, 0], [0, 9, 9], [1, 2, 3]])


@pytest.fixture
def sample(tmp_path: Path) -> Sample:
    return SAMPLES["counts"](tmp_path)


def rows(data: Splits) -> list[list[int]]:
    whole = torch.cat([data.train, data.validation, data.test])
    assert whole.shape[1:3] == (1, 1)
    return sorted(whole[:, 0, 0].tolist())


def saved(folder: Path, matrix: Any) -> Counts:
    scipy.sparse.save_npz(folder / "counts.npz", matrix)
    return Counts(path=str(folder / "counts.npz"))


def test_counts_are_images_of_one_row_without_levels(sample: Sample) -> None:
    data = sample.dataset.load()
    assert (data.levels, data.shape) == (None, (1, 1, 12))
    assert (len(data.train), len(data.validation), len(data.test)) == (32, 4, 4)
    assert int(data.train.max()) > 255


def test_shares_are_of_all_cells(sample: Sample) -> None:
    data = replace(sample.dataset, validation_share=0.25, test_share=0.125).load()
    assert (len(data.train), len(data.validation), len(data.test)) == (25, 10, 5)
    with pytest.raises(ValueError, match=r"must leave examples to train on, got 0.5 and 0.5"):
        Counts(validation_share=0.5, test_share=0.5)


@pytest.mark.parametrize(
    "make",
    [
        scipy.sparse.csr_matrix,
        scipy.sparse.csc_matrix,
        scipy.sparse.coo_matrix,
        scipy.sparse.csr_array,
        lambda table: scipy.sparse.csr_matrix(table.astype(np.float32)),
        lambda table: scipy.sparse.bsr_matrix(table),
    ],
)
def test_every_sparse_format_is_read(make: Any, tmp_path: Path) -> None:
    assert rows(saved(tmp_path, make(TABLE)).load()) == sorted(TABLE.tolist())


def test_entries_of_one_place_add_up(tmp_path: Path) -> None:
    by_place = scipy.sparse.coo_matrix(([3, 4, 1], ([0, 0, 2], [1, 1, 0])), shape=(5, 3))
    by_row = scipy.sparse.csr_matrix(([3, 4, 1], [1, 1, 0], [0, 2, 2, 3, 3, 3]), shape=(5, 3))
    level = round(255 * math.log(2) / math.log(8))
    for twice in (by_place, by_row):
        data = saved(tmp_path, twice).load()
        assert rows(data) == [[0, 0, 0]] * 3 + [[0, 7, 0], [1, 0, 0]]
        logs = replace(saved(tmp_path, twice), transform="log1p").load()
        assert rows(logs) == [[0, 0, 0]] * 3 + [[0, 255, 0], [level, 0, 0]]


CELLS = "\n".join(",".join(map(str, row)) for row in TABLE.tolist())
NAMED = "\n".join(f'"c{i}",{line}' for i, line in enumerate(CELLS.splitlines()))
NUMBERED = "\n".join(f"{i},{line}" for i, line in enumerate(CELLS.splitlines()))


@pytest.mark.parametrize("end", [".csv", ".csv.gz"])
@pytest.mark.parametrize(
    "content",
    [
        CELLS + "\n",
        CELLS,
        CELLS.replace("\n", "\r\n"),
        f"a,b,c\n{CELLS}\n",
        f'"a","b","1"\n{CELLS}\n',
        f"\ufeffa,b,c\n{CELLS}\n",
        f"\ufeff{CELLS}\n",
        NAMED,
        f"cell,a,b,c\n{NAMED}\n",
        # As pandas writes it, with and without names, and R.
        f",a,b,c\n{NAMED}\n",
        f",0,1,2\n{NUMBERED}",
        f'"","a","b","c"\n{NAMED}\n',
        f'"a","b","c"\n{NAMED}\n',
        f"a,b,c\n{NUMBERED}",
        CELLS.replace("7", "7.0").replace("300", "3e2"),
    ],
)
def test_tables_are_read_with_and_without_names(content: str, end: str, tmp_path: Path) -> None:
    file = tmp_path / f"table{end}"
    raw = content.encode()
    file.write_bytes(gzip.compress(raw) if end.endswith("gz") else raw)
    assert rows(Counts(path=str(file)).load()) == sorted(TABLE.tolist())


@pytest.mark.parametrize(
    ("name", "content", "says"),
    [
        ("a.csv", "", "fewer than two lines"),
        ("a.csv", "a,b,c\n", "fewer than two lines"),
        ("a.csv", f"{CELLS},\n4,4,4", "columns"),
        ("a.csv", f"{NAMED},9\n", "columns"),
        ("a.csv", f",a,b,c\n{NAMED}\nc9,1,2\n", "columns"),
        ("a.csv", f"{CELLS}\n1,2", "cut off"),
        ("a.csv", f"{CELLS}\n1,2,x", "could not convert string 'x'"),
        ("a.csv", "<html>\n<body>\n404</body>", "cut off"),
        ("a.csv", f"{CELLS}\n1,2,-3", "holds -3, but counts are whole numbers from 0"),
        ("a.csv", f"{CELLS}\n1,2,0.6931", "holds 0.6931, but counts .* before any normal"),
        ("a.csv", f"{CELLS}\n1,2,nan", "holds nan"),
        ("a.csv", f"{CELLS}\n1,2,3e9", r"holds 3e\+09, .* to 2,147,483,647"),
        ("a.txt", CELLS, r"must end in \.npz, \.csv, \.csv\.gz or \.h5ad"),
    ],
)
def test_broken_table_is_named(name: str, content: str, says: str, tmp_path: Path) -> None:
    (tmp_path / name).write_text(content)
    with pytest.raises(DataError, match=f"{tmp_path}/{name} .*{says}"):
        Counts(path=str(tmp_path / name)).load()


def test_positions_beyond_the_matrix_are_refused(tmp_path: Path) -> None:
    matrix = scipy.sparse.csr_matrix(TABLE)
    beyond = matrix.indices.copy()
    beyond[2] = 10**6
    np.savez(
        tmp_path / "counts.npz",
        format=b"csr",
        shape=matrix.shape,
        data=matrix.data,
        indices=beyond,
        indptr=matrix.indptr,
    )
    with pytest.raises(DataError, match=r"counts\.npz is cut off.*indices"):
        Counts(path=str(tmp_path / "counts.npz")).load()


@pytest.mark.parametrize("content", [b"", b"not an archive", b"\x80\x04N."])
def test_file_that_is_no_archive_is_not_advised_to_be_unpickled(
    content: bytes, tmp_path: Path, sample: Sample
) -> None:
    (tmp_path / "bad.npz").write_bytes(content)
    with pytest.raises(DataError, match=r"bad\.npz is cut off.*it is no \.npz archive; get it"):
        Counts(path=str(tmp_path / "bad.npz")).load()
    (tmp_path / "bad.npy").write_bytes(content)
    with pytest.raises(DataError, match=r"bad\.npy is cut off.* magic string"):
        replace(sample.dataset, labels=str(tmp_path / "bad.npy")).load()


@pytest.mark.parametrize("ends", ["nothing", "half", "nearly all"])
@pytest.mark.parametrize("name", ["a.csv.gz", "a.h5ad", "packed.h5ad"])
def test_every_format_that_is_cut_off_is_named(name: str, ends: str, tmp_path: Path) -> None:
    file, matrix = tmp_path / name, scipy.sparse.csr_matrix(TABLE)
    if name.endswith("h5ad"):
        anndata = pytest.importorskip("anndata", reason="the package anndata is not installed")
        held = anndata.AnnData(matrix if name.startswith("packed") else TABLE.astype(float))
        held.write_h5ad(file, compression="gzip" if name.startswith("packed") else None)
    else:
        file.write_bytes(gzip.compress(CELLS.encode()))
    assert rows(Counts(path=str(file)).load()) == sorted(TABLE.tolist())
    whole = file.read_bytes()
    kept = {"nothing": 0, "half": len(whole) // 2, "nearly all": -9}[ends]
    file.write_bytes(whole[:kept])
    with pytest.raises(DataError, match=f"^{file} is cut off"):
        Counts(path=str(file)).load()


class Canary:
    def __init__(self, file: Path) -> None:
        self._file = file

    def __reduce__(self) -> tuple[Any, ...]:
        return Path.touch, (self._file,)


def test_nothing_is_unpickled(tmp_path: Path, sample: Sample) -> None:
    canary = tmp_path / "canary"
    pickled = np.array([Canary(canary)], dtype=object)
    np.savez(tmp_path / "bad.npz", format=b"csr", shape=(5, 3), data=pickled)
    with pytest.raises(DataError, match=r"bad\.npz is cut off"):
        Counts(path=str(tmp_path / "bad.npz")).load()
    np.save(tmp_path / "bad.npy", pickled)
    with pytest.raises(DataError, match=r"bad\.npy is cut off"):
        replace(sample.dataset, labels=str(tmp_path / "bad.npy")).load()
    assert not canary.exists()


@pytest.mark.parametrize(
    "names",
    [
        np.array(["T", "B", "T", "NK", "B"]),
        np.array([5, -1, 5, 3, -1]),
        np.array([b"T", b"B", b"T", b"NK", b"B"]),
    ],
)
def test_labels_are_numbered_in_the_order_of_their_names(names: Any, tmp_path: Path) -> None:
    dataset = saved(tmp_path, scipy.sparse.csr_matrix(TABLE))
    np.save(tmp_path / "labels.npy", names)
    (tmp_path / "labels.txt").write_text("\n".join(str(name) for name in names))
    classes = {name: i for i, name in enumerate(sorted(set(names.tolist())))}
    expected = {
        tuple(row): classes[name] for row, name in zip(TABLE.tolist(), names.tolist(), strict=True)
    }
    for file in ("labels.npy", "labels.txt"):
        if file == "labels.txt" and names.dtype.kind == "i":
            continue  # Text is sorted as text.
        data = replace(dataset, labels=str(tmp_path / file)).load()
        assert data.labels is not None
        whole = torch.cat([data.train, data.validation, data.test])[:, 0, 0].tolist()
        found = dict(zip(map(tuple, whole), torch.cat(data.labels).tolist(), strict=True))
        assert found == expected


@pytest.mark.parametrize("names", [np.zeros(4, int), np.zeros((5, 2), int), np.zeros(5)])
def test_labels_that_do_not_fit_are_refused(names: Any, tmp_path: Path) -> None:
    dataset = saved(tmp_path, scipy.sparse.csr_matrix(TABLE))
    np.save(tmp_path / "labels.npy", names)
    with pytest.raises(DataError, match=r"labels\.npy .* not one label for each of 5 examples"):
        replace(dataset, labels=str(tmp_path / "labels.npy")).load()


def test_covariate_stays_beside_its_cell_and_is_what_a_model_is_told(sample: Sample) -> None:
    data = sample.dataset.load()
    assert data.labels is not None
    assert data.covariate is not None
    assert data.told == data.covariate
    assert data.classes == 5
    for part, label, batch in zip(
        (data.train, data.validation, data.test), data.labels, data.covariate, strict=True
    ):
        # By its fourth gene each cell of the sample is known.
        cell = part[:, 0, 0, 3] // 100
        assert torch.equal(label, cell % 3)
        assert torch.equal(batch, cell % 5)
    without = replace(sample.dataset, covariate=None).load()
    assert (without.covariate, without.told, without.classes) == (None, without.labels, 3)
    assert without.digest() == data.digest()
    assert without.digest(conditional=True) != data.digest(conditional=True)


def test_covariate_that_does_not_fit_is_named(sample: Sample, tmp_path: Path) -> None:
    np.save(tmp_path / "few.npy", np.zeros(39, int))
    with pytest.raises(DataError, match=r"few\.npy .* not one label for each of 40 examples"):
        replace(sample.dataset, covariate=str(tmp_path / "few.npy")).load()


def test_genes_keeps_the_most_variable_ones_in_their_order(sample: Sample) -> None:
    table = sample.images[:, 0, 0]
    kept = most_variable(scipy.sparse.csr_matrix(table.numpy()), 4)
    data = replace(sample.dataset, genes=4).load()
    assert data.shape == (1, 1, 4)
    assert rows(data) == sorted(table[:, torch.from_numpy(kept)].tolist())
    other = replace(sample.dataset, genes=4, split_seed=7).load()
    assert rows(other) == rows(data)
    with pytest.raises(DataError, match=r"has 12 genes, fewer than `genes: 13`"):
        replace(sample.dataset, genes=13).load()


def test_log1p_spreads_the_logarithm_over_256_levels(tmp_path: Path) -> None:
    data = replace(saved(tmp_path, scipy.sparse.csr_matrix(TABLE)), transform="log1p").load()
    assert (data.levels, data.train.dtype) == (256, torch.uint8)
    level = {x: round(255 * math.log(1 + x) / math.log(301)) for x in range(301)}
    assert level[0] == 0
    assert level[300] == 255
    assert rows(data) == sorted([level[x] for x in row] for row in TABLE.tolist())


@pytest.mark.parametrize("largest", [0, 1, 24])
def test_log1p_of_small_counts(largest: int, tmp_path: Path) -> None:
    """Also where a level is a half: log(5) is one of log(25)."""
    table = np.zeros((5, 3), int)
    table[:, 1] = [0, largest, 0, min(largest, 4), 0]
    data = replace(saved(tmp_path, scipy.sparse.csr_matrix(table)), transform="log1p").load()
    expected = {0: [0, 0], 1: [255, 255], 24: [128, 255]}[largest]
    assert sorted(row[1] for row in rows(data)) == [0, 0, 0, *expected]


def test_absent_files_are_named(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=f"expected at {tmp_path}/none.npz, cells × genes"):
        Counts(path=str(tmp_path / "none.npz")).load()
    dataset = replace(saved(tmp_path, scipy.sparse.csr_matrix(TABLE)), labels="~/none.txt")
    with pytest.raises(DataError, match=r"labels are expected at /.*/none\.txt, one for each"):
        dataset.load()


def test_annotated_data_is_read_with_layer_and_labels(tmp_path: Path) -> None:
    anndata = pytest.importorskip("anndata", reason="the package anndata is not installed")
    held = anndata.AnnData(scipy.sparse.csr_matrix(TABLE).log1p())
    held.layers["counts"] = scipy.sparse.csr_matrix(TABLE)
    held.obs["kind"] = ["T", "B", "T", "NK", "B"]
    held.obs["donor"] = [7, 7, 12, 12, 7]
    # Names that occur twice are common, and anndata warns of them.
    held.var_names = ["Rp1", "Rp1", "Xkr4"]
    file = tmp_path / "cells.h5ad"
    held.write_h5ad(file)
    with pytest.raises(DataError, match=r"before any normalisation .* `layer`"):
        Counts(path=str(file)).load()
    with pytest.raises(DataError, match=r"cells\.h5ad has no `other` in `layers`.*: counts"):
        Counts(path=str(file), layer="other").load()
    with pytest.raises(DataError, match=r"cells\.h5ad has no `type` in `obs`.*: kind, donor"):
        Counts(path=str(file), layer="counts", labels="type").load()
    data = Counts(path=str(file), layer="counts", labels="kind", covariate="donor").load()
    assert rows(data) == sorted(TABLE.tolist())
    assert data.labels is not None
    whole = torch.cat([data.train, data.validation, data.test])[:, 0, 0].tolist()
    found = dict(zip(map(tuple, whole), torch.cat(data.labels).tolist(), strict=True))
    kinds = zip(map(tuple, TABLE.tolist()), [2, 0, 2, 1, 0], strict=True)
    assert found == dict(kinds)
    assert data.covariate is not None
    # Sorted as text, in which 12 is before 7.
    donors = dict(zip(map(tuple, TABLE.tolist()), [1, 1, 0, 0, 1], strict=True))
    assert torch.cat(data.covariate).tolist() == [donors[tuple(row)] for row in whole]
    file.write_bytes(file.read_bytes()[:-100])
    with pytest.raises(DataError, match=r"cells\.h5ad is cut off"):
        Counts(path=str(file), layer="counts").load()


def test_annotated_data_without_the_package_says_what_to_install(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "cells.h5ad").write_bytes(b"\x89HDF\r\n\x1a\n")
    monkeypatch.setitem(sys.modules, "anndata", None)
    with pytest.raises(DataError, match=r"cells\.h5ad is an AnnData.*pip install anndata"):
        Counts(path=str(tmp_path / "cells.h5ad")).load()
