"""A trained model is loaded, measured anew, and exported to where there is only torch."""

from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch

from tune_vae.api.models import images_of
from tune_vae.api.places import beside_checkpoints
from tune_vae.api.standing import results, trial_of
from tune_vae.data import Splits, scale
from tune_vae.errors import CheckpointError, DataError, ExportError
from tune_vae.science.vae import VAE
from tune_vae.service.rows import TrialRow
from tune_vae.spec import components
from tune_vae.spec.components import ComponentError
from tune_vae.spec.study import StudySpec
from tune_vae.spec.trial import TrialConfig
from tune_vae.training import checkpoint
from tune_vae.training.trainer import Trainer, restored_vae

if TYPE_CHECKING:
    from tune_vae.service.export import Exported
    from tune_vae.service.inception import InceptionDistances

__all__ = ["data_of", "export", "inception_scores", "load_vae", "vae_of", "validate"]


def load_vae(path: str | Path) -> VAE:
    """The model of a checkpoint or of an export, in evaluation mode on the CPU.

    Arguments:
        path: A checkpoint, from the checkpoint store (also by URL) or from MLflow, or the folder
            of an export.

    Raises:
        CheckpointError: The file is absent, torn or foreign.

    Example:
        vae = load_vae("mlruns/checkpoints/digits/00012/best.pt")
        images = vae.generate(16)
    """
    if Path(path).is_dir():
        from tune_vae.service.export import exported_vae

        return exported_vae(Path(path))
    state = checkpoint.load(path)
    return vae_of(config_of(state, path), state)


def validate(path: str | Path, data: Splits | None = None) -> dict[str, float]:
    """Validation scores of a checkpoint, measured anew with the noise of the search.

    Arguments:
        path: A checkpoint.
        data: Images to use instead of loading those of its study.

    Returns:
        `bits_per_dim`, `bits_per_dim_calibrated`, `rate_nats`, `distortion_nats`, `neg_elbo`,
        `mse`, as the checkpoint's own last report holds them.
    """
    state = checkpoint.load(path)
    config = config_of(state, path)
    trainer = Trainer([config.member()], data or data_of(config), resume={config.trial: state})
    return trainer.scores()[0]


def inception_scores(
    path: str | Path, data: Splits | None = None, *, images: int = 5000, device: str = "cpu"
) -> "InceptionDistances":
    """FID and KID of a checkpoint's samples against test images; see `service.inception`.

    Arguments:
        path: A checkpoint of a study of images.
        data: Images to use instead of loading those of its study.
        images: At most so many real and as many generated ones.
        device: Where the networks run.

    Raises:
        DataError: The data are no images.
        TuneVaeError: The library or its weights are absent; the message says how to get them.
    """
    from tune_vae.service.inception import inception_distances

    config = config_of(checkpoint.load(path), path)
    data = data or data_of(config)
    if data.levels is None or data.shape[0] not in (1, 3):
        raise DataError("FID and KID are of images with 1 or 3 channels, and these data are not")
    real = scale(data.test[:images], data.levels)
    vae = load_vae(path).to(device)
    known = data.told.test[: len(real)] if data.told and config.classes else None
    parts = [
        vae.generate(
            min(500, len(real) - start),
            seed=start,
            labels=None if known is None else known[start : start + 500],
        )
        for start in range(0, len(real), 500)
    ]
    pair = ((x.cpu().clamp(0, 1) * 255).round().byte() for x in (real, torch.cat(parts)))
    return inception_distances(*pair, device=device)


def export(spec: StudySpec, trial: int | None = None, *, to: Path | None = None) -> "Exported":
    """Write a trial's best model to a folder that works with torch alone; see `service.export`.

    Arguments:
        spec: The study.
        trial: Which of its trials; by default the winner.
        to: An absent or empty folder; by default `exports/<study>-<trial>` beside the checkpoints.

    Raises:
        StudyError: The study was never begun.
        TrialNotFoundError: There is no such trial.
        ExportError: The trial has not ended or has no best checkpoint, there is no winner, or
            the folder holds something.
        CheckpointError: The checkpoint cannot be read, or is of another training.
        DataError: The data cannot be loaded, or are others than the study's.
        StorageError: The ledger cannot be read, or the folder not be written.
    """
    from tune_vae.service.export import refuse_existing, write
    from tune_vae.service.ledger.looking import data_digest

    row = _winner(spec) if trial is None else trial_of(spec, trial)
    if not row.ended:
        raise ExportError(
            f"trial {row.trial} is {row.state}; it can be exported once it has ended"
        )
    folder = to or beside_checkpoints(spec) / "exports" / f"{spec.name}-{row.trial:05d}"
    refuse_existing(folder)
    store = checkpoint.CheckpointStore(spec.storage.checkpoints, spec.name)
    best, state = store.path(row.trial, "best.pt"), None
    if row.best:
        state = store.best(row.trial, row.best.epoch)
    if state is None:
        raise ExportError(
            f"trial {row.trial} has no best checkpoint at {best} that can be read; it ended as "
            f"{row.kind.replace('_', ' ')}: {row.reason}"
        )
    if config_of(state, best) != row.config:
        raise CheckpointError(f"{best} is of another training than trial {row.trial} of the study")
    data = images_of(spec)
    if data.digest(conditional=spec.conditional) != data_digest(spec):
        raise DataError(
            f"the data are not those that study `{spec.name}` was searched with; restore them"
        )
    again = f"tune-vae train {spec.operand} --trial {row.trial}"
    return write(folder, row, state, data, again=again)


def _winner(spec: StudySpec) -> TrialRow:
    found = results(spec)
    if found.winner:
        return found.winner
    if not found.front:
        raise ExportError(f"no trial of study `{spec.name}` has finished; name one with --trial")
    front = ", ".join(str(row.trial) for row in found.front)
    raise ExportError(
        f"study `{spec.name}` has {len(found.objective)} objectives and no single winner; name a "
        f"trial of its front with --trial: {front}"
    )


def config_of(state: dict[str, Any], path: str | Path) -> TrialConfig:
    try:
        config = TrialConfig.model_validate_json(state["config"])
    except (KeyError, ValueError) as error:
        raise CheckpointError(f"{path} does not say which model it holds") from error
    try:
        config.member()
    except ComponentError as error:
        raise CheckpointError(
            f"the model of {path} cannot be built here: {error}. If it is code of your own, call "
            "`StudySpec.load` of its study file first, or be in the folder of its modules"
        ) from None
    return config


def vae_of(config: TrialConfig, state: dict[str, Any]) -> VAE:
    return restored_vae(config.member(), config.shape, state)


def data_of(config: TrialConfig) -> Splits:
    data: Splits = components.build("dataset", config.data).load()
    return data
