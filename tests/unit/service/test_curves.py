"""Curves read from logs of many forms, each of which states the same numbers."""

import math
from pathlib import Path

import pytest

from tune_vae.errors import DataError, StorageError
from tune_vae.science.curve import CurvePoint
from tune_vae.service.curves import parse, read

WHOLE = (
    CurvePoint(1, 0.9, 0.8, 0.1, 0.95),
    CurvePoint(2, 0.7, 0.5, 0.2, 0.75),
)


@pytest.mark.parametrize(
    "text",
    [
        """
        epoch 001 | train loss=0.9 recon=0.8 kl=0.1 | val loss=0.95
        epoch 002 | train loss=0.7 recon=0.5 kl=0.2 | val loss=0.75
        """,
        """
        12:30:01 Epoch: 1/50 train: loss: 0.9000, recon_loss: 0.8, kl_loss: 1e-1, val_loss: .95
        12:31:07 Epoch: 2/50 train: loss: 0.7000, recon_loss: 0.5, kl_loss: 2e-1, val_loss: .75
        """,
        """
        ====> Epoch: 1 Average loss: 0.9  BCE: 0.8  KLD: 0.1
        ====> Test set loss: 0.95
        ====> Epoch: 2 Average loss: 0.7  BCE: 0.5  KLD: 0.2
        ====> Test set loss: 0.75
        """,
        """
        Epoch 1/2
        20/20 - 1s - loss: 0.9 - reconstruction_loss: 0.8 - kl_loss: 0.1 - val_loss: 0.95
        Epoch 2/2
        20/20 - 1s - loss: 0.7 - reconstruction_loss: 0.5 - kl_loss: 0.2 - val_loss: 0.75
        """,
        """
        {"epoch": 1, "train/loss": 0.9, "train/recon": 0.8, "train/kl": 0.1, "val/loss": 0.95}
        {"epoch": 2, "train/loss": 0.7, "train/recon": 0.5, "train/kl": 0.2, "val/loss": 0.75}
        """,
        """
        [1/50] train elbo=-0.9 nll=0.8 rate=0.1 valid elbo=-0.95
        [2/50] train elbo=-0.7 nll=0.5 rate=0.2 valid elbo=-0.75
        """,
        """
        loss 0.9 rec 0.8 kl 0.1 | validation loss 0.95
        loss 0.7 rec 0.5 kl 0.2 | validation loss 0.75
        """,
        "epoch,loss,recon,kl,val_loss\n1,0.9,0.8,0.1,0.95\n2,0.7,0.5,0.2,0.75\n",
        "# a\nepoch;trainLoss;trainMse;trainKl;valLoss\n1;0.9;0.8;0.1;0.95\n2;0.7;0.5;0.2;0.75",
        (
            "epoch,step,train_loss,train_recon,train_kl,val_loss\n1,19,,,,0.95\n"
            "1,20,0.9,0.8,0.1,\n2,39,,,,0.75\n2,40,0.7,0.5,0.2,\n"
        ),
        "loss\trecon\tkl\tval loss\n0.9\t0.8\t0.1\t0.95\n0.7\t0.5\t0.2\t0.75\n",
        "epoch 1: loss 5\repoch 1: loss 0.9 recon 0.8 kl 0.1 val_loss 0.95\n"
        "epoch 2: loss 0.7 recon 0.5 kl 0.2 val_loss 0.75",
    ],
    ids=lambda text: text.strip().splitlines()[0][:30],
)
def test_every_usual_form_states_the_same(text: str) -> None:
    assert parse(text).points == WHOLE


@pytest.mark.parametrize("word", ["nan", "NaN", "inf", "-inf", "Infinity"])
def test_what_is_not_finite_is_kept(word: str) -> None:
    (point,) = parse(f"epoch 3 | loss={word} kl=0.1").points
    assert point.loss is not None
    assert not math.isfinite(point.loss)
    assert (point.epoch, point.rate) == (3, 0.1)


def test_stated_weight_and_rate_of_learning_are_read() -> None:
    curve = parse("epoch 1 loss=0.9 recon=0.8 kl=0.4 beta=0.25 lr=3e-4")
    assert curve.lr == 3e-4
    assert curve.points[0].beta == 0.25
    # A loss at another weight than the stated one, such as a neg_elbo, is made one at that.
    assert curve.points[0].loss == pytest.approx(0.8 + 0.25 * 0.4)


@pytest.mark.parametrize(
    "text",
    [
        "",
        "hello",
        "epoch 1 accuracy=0.9",
        "epoch 1 learning_rate=0.1 kl_weight=0.5",
        "a,b\n1,2\n",
        "score/loss=1 loss information nothing",
    ],
)
def test_text_without_a_loss_is_refused_with_what_is_expected(text: str) -> None:
    with pytest.raises(DataError, match="no loss was found in the text"):
        parse(text)


def test_file_is_read_and_one_that_is_absent_is_told(tmp_path: Path) -> None:
    file = tmp_path / "train.log"
    file.write_text("\ufeffepoch 1 loss=2\nepoch 2 loss=1\n", encoding="utf-8")
    assert [point.loss for point in read(str(file)).curve.points] == [2.0, 1.0]
    with pytest.raises(DataError, match=r"cannot read .*absent\.log: No such file"):
        read(str(tmp_path / "absent.log"))


def test_run_of_a_store_that_is_not_there_makes_none(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(StorageError, match="there is no MLflow store at sqlite:///mlruns"):
        read("0123456789abcdef" * 2)
    assert not list(tmp_path.iterdir())
