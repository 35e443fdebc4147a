"""What a trial drew, shown by step on the page of its run."""

import re
import tempfile
import uuid
from collections.abc import Collection
from pathlib import Path
from typing import TYPE_CHECKING

from tune_vae.training.checkpoint import CheckpointStore
from tune_vae.training.gallery import DRAWINGS, enlarged

if TYPE_CHECKING:
    from mlflow import MlflowClient

__all__ = ["show_drawings", "shown_drawings"]

SIDE = 300
"""Pixels that drawings at least have in MLflow, which blurs what it must enlarge."""
_THUMBNAIL = re.compile(r"drawn~(\w+)\+step\+(\d+)\+.*\+compressed\.webp")


def shown_drawings(client: "MlflowClient", run: str) -> set[tuple[str, int]]:
    """What a run shows of a trial's drawings: their names and epochs."""
    there = [Path(file.path).name for file in client.list_artifacts(run, "images")]
    found = filter(None, map(_THUMBNAIL.fullmatch, there))
    return {(match[1], int(match[2])) for match in found}


def show_drawings(
    client: "MlflowClient",
    run: str,
    store: CheckpointStore,
    trial: int,
    shown: Collection[tuple[str, int]],
) -> set[tuple[str, int]]:
    """Show what a trial drew and MLflow does not show yet.

    A file's name follows from what it shows: if a kill makes it come twice, it is there once.

    Arguments:
        shown: Names and epochs of what is there.

    Returns:
        The same, of all that is there now.
    """
    from mlflow import Image

    now = set(shown)
    with tempfile.TemporaryDirectory() as folder:
        for epoch in store.drawn(trial):
            if {(name, epoch) for name in DRAWINGS} <= now:
                continue
            drawn_at, drawings = store.drawings(trial, epoch)
            for name, pixels_HWC in drawings.items():
                image = Image(enlarged(pixels_HWC, SIDE).numpy()).to_pil()
                file = Path(folder) / _image_name(run, name, epoch, drawn_at)
                image.save(f"{file}.png", compress_level=1)
                image.save(f"{file}+compressed.webp", lossless=True, quality=0, method=0)
                now.add((name, epoch))
        if any(Path(folder).iterdir()):
            if not shown:
                # Before them: when they are there, nothing is left to do.
                client.set_tag(run, "mlflow.loggedImages", "True")
            client.log_artifacts(run, folder, "images")
    return now


def _image_name(run: str, name: str, epoch: int, drawn_at: float) -> str:
    """As MLflow's `log_image` names what its page then shows by step, but always the same."""
    same = uuid.uuid5(uuid.NAMESPACE_URL, f"{run}/{name}/{epoch}")
    return f"drawn~{name}+step+{epoch}+timestamp+{int(1000 * drawn_at)}+{same}"
