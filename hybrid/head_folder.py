"""A wide head on disk: its matrix, with what its next steps depend on."""

# FOLDER/matrix/           see workers/matrix_io.py; replaced as a whole by every save
# FOLDER/matrix/draws.json what `Draws` holds

import json
from collections.abc import Collection
from dataclasses import asdict, dataclass, fields, replace
from operator import methodcaller
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from hybrid.whole_folder import where_whole, whole_folder
from workers.config import HeadConfig
from workers.disk import write_whole
from workers.errors import ConfigError, MatrixMismatch, RunError
from workers.extended_matrix import extend_matrix
from workers.matrix import TagMatrix
from workers.matrix_io import MEANING, load_matrix, open_rows, save_matrix
from workers.refused_write import refused_write
from workers.settings import from_plain

DEFAULT_POSITIVES = 256

_MATRIX, _DRAWS = "matrix", "draws.json"


@dataclass(frozen=True, slots=True, kw_only=True)
class Draws:
    """What decides, beside the configuration, which tags a head draws next, and how fast their rows learn."""

    positives: int = DEFAULT_POSITIVES
    seed: int = 0
    step: int = 0
    num_negatives: int | None = None
    """None: as the configuration says; so, too, where a folder is older than this field."""
    row_lr: float | None = None
    """As `num_negatives`."""

    def resume(self, head: Any, but: Collection[str]) -> None:
        """Have a head go on from here, but for settings that were given anew."""
        head.step = self.step
        if self.num_negatives is not None and "negatives" not in but:
            head.num_negatives = self.num_negatives
        if self.row_lr is not None and "row_lr" not in but:
            head.row_lr = self.row_lr

    @classmethod
    def of(cls, head: Any) -> "Draws":
        """What a head has under these names; where a `Trainer` has its `row_lr` just now is not kept."""
        return cls(**{field.name: getattr(head, field.name) for field in fields(cls)} | {"row_lr": head.peak_row_lr})


def save_head(folder: Path, matrix: TagMatrix, config: HeadConfig, draws: Draws) -> None:
    """Write a head; one that was saved there before is replaced at once, other files in the folder stay.

    Raises:
        RunError: it cannot be written (no space, no permission); what was there before is as it was.
    """
    try:
        with whole_folder(folder / _MATRIX) as fresh:
            save_matrix(matrix, fresh, config)
            of_numpy = methodcaller("item")  # a `row_lr` that somebody computed
            write_whole(fresh / _DRAWS, json.dumps(asdict(draws), default=of_numpy) + "\n")
    except OSError as e:
        raise RunError(f"cannot save the head in {folder}: {refused_write(e, folder)}.") from e


def matrix_folder(folder: Path) -> Path:
    """Where the matrix of a saved head lies; a folder that is a matrix itself, as in a checkpoint, will do too.

    Raises:
        MatrixMismatch: nothing of a matrix is there.
    """
    inner = where_whole(folder / _MATRIX)
    place = inner if inner.is_dir() else folder
    if not any(place.glob("*.npy")) and not (place / "meta.json").exists():
        why = "nothing was saved in this folder" if folder.is_dir() else "there is no such folder"
        raise MatrixMismatch(f"no saved head at {folder}: {why}.")
    return place


def restored_matrix(folder: Path, config: HeadConfig, counts: npt.NDArray[np.int64] | None, seed: int) -> TagMatrix:
    """The matrix of a saved head, ready for workers, under settings that may be others than the saved ones.

    Args:
        folder: of the matrix.
        config: of the head that goes on.
        counts: of all tags, if they are others now, or more; see `extend_matrix`.
        seed: of fresh rows.

    Raises:
        MatrixMismatch, UnreadableFile, DataError, MemoryError: as `load_matrix` and `extend_matrix`.
    """
    saved = open_rows(folder).config
    if counts is None and all(getattr(saved, name) == getattr(config, name) for name in MEANING):
        return load_matrix(folder, config)
    return extend_matrix(folder, config, counts, seed)


def read_draws(folder: Path, *, positives: int | None, seed: int | None) -> Draws:
    """What `save_head` wrote, but for what is given here; defaults for a matrix that was saved without.

    Raises:
        MatrixMismatch: the file is damaged.
    """
    path = matrix_folder(folder) / _DRAWS
    try:
        saved = from_plain(Draws, json.loads(path.read_text()), _DRAWS) if path.exists() else Draws()
    except (OSError, ValueError, TypeError, AttributeError, ConfigError) as e:
        raise MatrixMismatch(f"{path} cannot be read: {e}. Remove it to load the head with default draws.") from e
    given = {"positives": positives, "seed": seed}
    return replace(saved, **{name: value for name, value in given.items() if value is not None})
