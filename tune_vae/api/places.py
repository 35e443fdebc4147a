"""Where the files that a person looks at lie, and how a chart gets there."""

from pathlib import Path
from typing import TYPE_CHECKING

from tune_vae.errors import StorageError
from tune_vae.spec.study import StudySpec, is_url

if TYPE_CHECKING:
    from tune_vae.report.drawing import Picture

__all__ = ["beside_checkpoints", "reports_folder", "write_chart"]


def beside_checkpoints(spec: StudySpec) -> Path:
    """Where a study's files for people lie by default, also when its checkpoints are elsewhere."""
    checkpoints = spec.storage.checkpoints
    return Path("mlruns") if is_url(checkpoints) else Path(checkpoints).parent


def reports_folder(spec: StudySpec) -> Path:
    """Where a study's pages and charts lie by default."""
    return beside_checkpoints(spec) / "reports" / spec.name


def write_chart(picture: "Picture | None", folder: Path) -> Path | None:
    """Write a chart into a folder, if there is one.

    Raises:
        StorageError: The folder cannot be written.
    """
    from tune_vae.report.page import write_pictures

    try:
        files = write_pictures([picture] if picture else [], folder)
    except OSError as error:
        raise StorageError(f"cannot write the chart into {folder}: {error}") from error
    return files[0] if files else None
