"""A trained model as a folder to take home.

| file                | holds                                                                |
|---------------------|----------------------------------------------------------------------|
| `model.py`          | what the model does, in torch alone; see `plain_torch`               |
| `model.safetensors` | weights and buffers                                                  |
| `config.json`       | the `TrialConfig`, enough to train or to build it again              |
| `metrics.json`      | verdict, values, scores of the exported epoch, appraisal, data       |
| `README.md`         | the model card                                                       |
| `samples.png`       | 64 samples, of images with 1 or 3 channels                           |
"""

import json
import math
import os
import shutil
from collections.abc import Mapping
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Any

import safetensors
import safetensors.torch
import torch

from tune_vae.data import Splits
from tune_vae.errors import CheckpointError, ExportError, StorageError
from tune_vae.science.history import EpochReport
from tune_vae.science.vae import VAE
from tune_vae.service import plain_torch
from tune_vae.service.model_card import model_card
from tune_vae.service.plain_torch import WEIGHTS_FILE, UntraceableError, pictured
from tune_vae.service.portable import save_png
from tune_vae.service.rows import TrialRow
from tune_vae.spec.trial import TrialConfig
from tune_vae.training.trainer import build_vae, restored_vae

__all__ = ["Exported", "exported_vae", "refuse_existing", "write"]

PICTURED = 64


@dataclass(frozen=True)
class Exported:
    """An export that was written.

    Arguments:
        folder: Where.
        trial: Of which trial.
        obstacle: Why it has no `model.py`; empty if it has one.
    """

    folder: Path
    trial: int
    obstacle: str = ""


def refuse_existing(folder: Path) -> None:
    """Refuse to write where something is already; an empty folder is nothing.

    Raises:
        ExportError: There is a file or a folder that is not empty.
    """
    if folder.is_file() or (folder.is_dir() and any(folder.iterdir())):
        raise ExportError(
            f"{folder} exists already and is left as it is; remove it, or name another folder "
            "with --to"
        )


def write(
    folder: Path, row: TrialRow, state: Mapping[str, Any], data: Splits, *, again: str
) -> Exported:
    """Write a trial's model to a temporary neighbour, and put it in place in one move.

    Arguments:
        folder: Where; absent or empty.
        row: The trial, which has ended.
        state: Its best checkpoint.
        data: What it was trained on.
        again: Command that trains it again.

    Raises:
        ExportError: See `refuse_existing`.
        StorageError: The disk is full, or the folder cannot be written.
    """
    refuse_existing(folder)
    vae = restored_vae(row.config.member(), row.config.shape, state)
    report = EpochReport.from_dict(state["reports"][-1])
    partial = folder.with_name(f".{folder.name}.{os.getpid()}.partial")
    try:
        partial.mkdir(parents=True)
        weights = {name: value.contiguous().clone() for name, value in vae.state_dict().items()}
        (partial / WEIGHTS_FILE).write_bytes(safetensors.torch.save(weights, {"format": "pt"}))
        obstacle = _write_module(partial / "model.py", vae, row.config)
        texts = {
            "config.json": row.config.model_dump_json(indent=2),
            "metrics.json": json.dumps(_metrics(row, report, data), indent=2, allow_nan=False),
            "README.md": model_card(row, report, data, again=again, obstacle=obstacle),
        }
        for name, text in texts.items():
            (partial / name).write_text(text, encoding="utf-8")
        if pictured(data.shape, data.levels):
            save_png(vae.generate(PICTURED), str(partial / "samples.png"))
        for file in partial.iterdir():
            with file.open("rb") as stream:
                os.fsync(stream.fileno())
        partial.rename(folder)
    except OSError as error:
        raise StorageError(f"cannot write the export {folder}: {error}") from error
    finally:
        shutil.rmtree(partial, ignore_errors=True)
    return Exported(folder, row.trial, obstacle)


def exported_vae(folder: Path) -> VAE:
    """The model of an export, in evaluation mode on the CPU.

    Raises:
        CheckpointError: The folder is no export, or its files do not belong together.
    """
    try:
        text = (folder / "config.json").read_text(encoding="utf-8")
        config = TrialConfig.model_validate_json(text)
        vae = build_vae(config.member(), config.shape)
        vae.load_state_dict(safetensors.torch.load_file(folder / WEIGHTS_FILE))
    except (OSError, ValueError, RuntimeError, safetensors.SafetensorError) as error:
        reason = str(error).splitlines()[0]
        raise CheckpointError(f"{folder} is not a readable export: {reason}") from error
    return vae.eval()


def _write_module(file: Path, vae: VAE, config: TrialConfig) -> str:
    """Write a module that does what the model does; if there can be none, answer why."""
    title = f"Trial {config.trial} of the study {config.study}: {config.decoder}."
    try:
        text = plain_torch.source_of(vae, title, levels=config.levels)
        file.write_text(text, encoding="utf-8")
        plain_torch.check(file, vae, levels=config.levels)
    except UntraceableError as error:
        file.unlink(missing_ok=True)
        return str(error)
    return ""


def _metrics(row: TrialRow, report: EpochReport, data: Splits) -> dict[str, Any]:
    splits = {name: len(getattr(data, name)) for name in ("train", "validation", "test")}
    metrics: dict[str, Any] = _finite(
        {
            "study": row.config.study,
            "trial": row.trial,
            "verdict": {"kind": row.kind, "reason": row.reason, "finished": row.finished},
            "values": dict(zip(row.config.objective, row.values, strict=False)),
            "epoch": report.epoch,
            "scores": report.to_dict(),
            "appraisal": dict(row.appraisal),
            "data": {"digest": data.digest(), "levels": data.levels, **splits},
            "written_with": {"tune_vae": version("tune-vae"), "torch": torch.__version__},
        }
    )
    return metrics


def _finite(value: Any) -> Any:
    """With None for numbers that JSON does not have."""
    if isinstance(value, Mapping):
        return {key: _finite(one) for key, one in value.items()}
    if isinstance(value, list | tuple):
        return [_finite(one) for one in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value
